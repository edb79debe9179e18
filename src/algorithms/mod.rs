// SPDX-License-Identifier: GPL-2.0

//! Logic with no kernel in it. `src/algorithms/` is a crate of its own on the host, where unit and
//! property tests try the very code that the module runs.

#![allow(
    unreachable_pub,
    reason = "the host crate exports what the module keeps to itself"
)]

pub(crate) mod counter;
pub(crate) mod holders;
pub(crate) mod perfect_hash;
pub(crate) mod ring;

/// The kernel's atomics. The host has its own under this name, with the same names in it.
mod sync {
    pub(crate) use core::marker::{Send, Sync};
    pub(crate) use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
}
