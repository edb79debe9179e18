// SPDX-License-Identifier: GPL-2.0

//! The module's logic, with no kernel in it: the same files as `src/algorithms/mod.rs` lists for the
//! module.

#![no_std]

pub mod counter;
