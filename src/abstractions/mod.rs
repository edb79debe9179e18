// SPDX-License-Identifier: GPL-2.0

//! Kernel facilities that the kernel crate has no safe wrapper for yet.
//!
//! The only room of the module with `unsafe`. Each file is one facility,
//! written as a patch for the kernel crate would be, and knows nothing of IPC.

pub(crate) mod anon_file;
pub(crate) mod char_nodes;
pub(crate) mod credentials;
pub(crate) mod fasync;
pub(crate) mod file;
pub(crate) mod live;
pub(crate) mod misc_node;
pub(crate) mod module;
pub(crate) mod open;
pub(crate) mod page_ring;
mod path_file;
pub(crate) mod pipe_fs;
pub(crate) mod poll;
pub(crate) mod registry;
pub(crate) mod signal;
pub(crate) mod splice;
pub(crate) mod stream;
pub(crate) mod user_struct;
pub(crate) mod wait_queue;
