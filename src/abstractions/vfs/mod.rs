// SPDX-License-Identifier: GPL-2.0

//! Files, and the inodes and devices that they are opened by.

pub(crate) mod anon_file;
pub(crate) mod char_nodes;
pub(crate) mod fasync;
pub(crate) mod file;
pub(crate) mod misc_node;
pub(crate) mod open;
mod path_file;
pub(crate) mod poll;
pub(crate) mod pseudo_fs;
pub(crate) mod splice;
mod splice_guess;
pub(crate) mod stream;
pub(crate) mod user_struct;
