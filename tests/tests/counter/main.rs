// SPDX-License-Identifier: GPL-2.0

//! The counter behaves as the kernel's eventfd does.
//!
//! Each case is one behavior, and names the lines of fs/eventfd.c (Linux 7.3)
//! that it exercises; a case that names none exercises what the kernel's core
//! makes of the file operations and modes that eventfd has, or has not (lines
//! 302 to 311 and 403 to 405).
//!
//! `make coverage` shows which lines the native sides reach: 155 of 177. The others
//! are
//! - 69: a warning about a signal inside a signal, which its users must not let happen;
//! - 198 to 211, eventfd_ctx_remove_wait_queue: KVM and VFIO end an irqfd or virqfd by it;
//! - 323 to 336, eventfd_fget: vhost takes its kick eventfd by it;
//! - 393: when memory is out; that takes fault injection, and ours has it in faults.rs.
//!
//! The users named there are in none of the guests: see kernel_users.rs. Two lines are
//! reached in part. The ida has always had an id to give, so 84 never found none. And
//! the wake-up with EPOLLHUP (113) finds nobody: whoever polls holds the file, and epoll
//! has left the queue by then.

mod asynchronous;
mod blocking;
mod creation;
mod epoll;
mod files;
mod kernel_users;
mod poll;
mod processes;
mod values;
mod vectored;

use ipcdemo_tests::{differential, differing, sides};

sides!();
