// SPDX-License-Identifier: GPL-2.0

//! Kernel facilities that the kernel crate has no safe wrapper for yet.
//!
//! The only room of the module where `unsafe` is written; `impl_in_table!` and `fasync_fields!` expand to some in
//! an object's file. Each file is one facility, written as a patch for the kernel crate would be, and knows nothing of IPC.

pub(crate) mod memory;
pub(crate) mod module;
pub(crate) mod redirect;
pub(crate) mod tables;
pub(crate) mod task;
pub(crate) mod vfs;
pub(crate) mod wait_queue;
