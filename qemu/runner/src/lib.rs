// SPDX-License-Identifier: GPL-2.0

//! The parts of `vm`, which runs a command in a virtual machine, and of `vm-guest`, its agent
//! inside.

pub mod accel;
pub mod cli;
pub mod guest;
pub mod initramfs;
pub mod ktap;
pub mod log;
pub mod protocol;
pub mod qemu;
pub mod run;
pub mod saved;
pub mod session;
pub mod signs;
pub mod terminal;
pub mod tree;
