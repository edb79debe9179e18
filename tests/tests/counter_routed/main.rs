// SPDX-License-Identifier: GPL-2.0

//! The counter's cases once more, in a program that is a member: its eventfd2(2) makes the module's
//! counters, which behave as the factory's do and as the kernel's do.
//!
//! Only the name and the entry differ from the factory's. What in the kernel signals eventfds refuses
//! these, too: see kernel_users.rs.

#[path = "../counter/asynchronous.rs"]
mod asynchronous;
#[path = "../counter/blocking.rs"]
mod blocking;
#[path = "../counter/creation.rs"]
mod creation;
#[path = "../counter/epoll.rs"]
mod epoll;
#[path = "../counter/files.rs"]
mod files;
#[path = "../counter/kernel_users.rs"]
mod kernel_users;
#[path = "../counter/poll.rs"]
mod poll;
#[path = "../counter/processes.rs"]
mod processes;
#[path = "../counter/values.rs"]
mod values;
#[path = "../counter/vectored.rs"]
mod vectored;

use ipcdemo_tests::{member_program, routed as differential, routed_differing as differing};

member_program!();
