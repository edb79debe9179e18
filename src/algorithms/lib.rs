// SPDX-License-Identifier: GPL-2.0

//! The module's logic, with no kernel in it: the same files as `src/algorithms/mod.rs` lists for the
//! module.

#![no_std]

pub mod counter;

/// The kernel's atomics, as far as they are used here.
mod sync {
    use core::sync::atomic::{fence, AtomicU64, Ordering};

    /// No order at all.
    pub struct Relaxed;
    /// A full barrier before and after.
    pub struct Full;

    /// `kernel::sync::atomic::Atomic`.
    pub struct Atomic<T>(AtomicU64, core::marker::PhantomData<T>);

    impl Atomic<u64> {
        pub fn new(value: u64) -> Self {
            Self(AtomicU64::new(value), core::marker::PhantomData)
        }

        pub fn load(&self, _: Relaxed) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        /// Gives the value found: as an error, and without being a barrier, if that was not `old`.
        pub fn cmpxchg(&self, old: u64, new: u64, _: Full) -> Result<u64, u64> {
            fence(Ordering::SeqCst);
            self.0
                .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
                .inspect(|_| fence(Ordering::SeqCst))
        }
    }
}
