// SPDX-License-Identifier: GPL-2.0

//! The module's logic, with no kernel in it: the same files as `src/algorithms/mod.rs` lists for
//! the module.

#![cfg_attr(not(feature = "loom"), no_std)]

pub mod counter;
pub mod holders;
#[cfg(feature = "loom")]
pub mod loom_atomic;
pub mod perfect_hash;
pub mod ring;

/// The kernel's atomics, as far as they are used here, on the host's or on loom's.
mod sync {
    use crate::fault::{lacks, Part};
    #[cfg(not(feature = "loom"))]
    use core::sync::atomic::{fence, AtomicU64, Ordering};
    #[cfg(feature = "loom")]
    use {
        crate::loom_atomic::AtomicU64,
        loom::sync::atomic::{fence, Ordering},
    };

    /// `core::marker::Send`, in name only: all of a model's threads are one of the host's.
    pub trait Send {}

    impl<T: ?Sized> Send for T {}

    /// `core::marker::Sync`, as above.
    pub trait Sync {}

    impl<T: ?Sized> Sync for T {}

    /// No order at all.
    pub struct Relaxed;
    /// Later accesses stay behind it.
    pub struct Acquire;
    /// Earlier accesses stay ahead of it.
    pub struct Release;
    /// A full barrier before and after.
    pub struct Full;

    /// How a load is ordered.
    pub trait LoadOrder {
        const ORDER: Ordering;
    }

    impl LoadOrder for Relaxed {
        const ORDER: Ordering = Ordering::Relaxed;
    }

    impl LoadOrder for Acquire {
        const ORDER: Ordering = Ordering::Acquire;
    }

    /// How a store is ordered.
    pub trait StoreOrder {
        const ORDER: Ordering;
    }

    impl StoreOrder for Relaxed {
        const ORDER: Ordering = Ordering::Relaxed;
    }

    impl StoreOrder for Release {
        const ORDER: Ordering = Ordering::Release;
    }

    /// How an exchange that succeeds is ordered.
    pub trait ExchangeOrder {
        const IS_BARRIER: bool;
    }

    impl ExchangeOrder for Acquire {
        const IS_BARRIER: bool = false;
    }

    impl ExchangeOrder for Full {
        const IS_BARRIER: bool = true;
    }

    /// A type that can be in an [`Atomic`].
    pub trait Value: Copy {
        /// Returns the form that is kept.
        fn into_u64(self) -> u64;

        /// Returns the value that was kept.
        fn from_u64(value: u64) -> Self;
    }

    impl Value for u64 {
        fn into_u64(self) -> u64 {
            self
        }

        fn from_u64(value: u64) -> Self {
            value
        }
    }

    impl Value for bool {
        fn into_u64(self) -> u64 {
            self.into()
        }

        fn from_u64(value: u64) -> Self {
            value != 0
        }
    }

    /// `kernel::sync::atomic::Atomic`.
    pub struct Atomic<T>(AtomicU64, core::marker::PhantomData<T>);

    impl<T: Value> Atomic<T> {
        pub fn new(value: T) -> Self {
            Self(AtomicU64::new(value.into_u64()), core::marker::PhantomData)
        }

        pub fn load<O: LoadOrder>(&self, _: O) -> T {
            T::from_u64(self.0.load(ordering(O::ORDER, Part::LoadAcquire)))
        }

        pub fn store<O: StoreOrder>(&self, value: T, _: O) {
            self.0
                .store(value.into_u64(), ordering(O::ORDER, Part::StoreRelease));
        }

        /// Returns the value found: as an error, and without any order, if that was not `old`.
        pub fn cmpxchg<O: ExchangeOrder>(&self, old: T, new: T, _: O) -> Result<T, T> {
            let (old, new) = (old.into_u64(), new.into_u64());
            let result = if O::IS_BARRIER {
                self.exchange(old, new)
            } else {
                let success = ordering(Ordering::Acquire, Part::ExchangeAcquire);
                self.0
                    .compare_exchange(old, new, success, Ordering::Relaxed)
            };
            result.map(T::from_u64).map_err(T::from_u64)
        }

        /// A barrier is a fence of its own: loom takes an access that is `SeqCst` for less than the
        /// kernel's full barrier.
        fn exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
            full_barrier(Part::BarrierBeforeChange);
            let result = self
                .0
                .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
            if result.is_ok() {
                full_barrier(Part::BarrierAfterChange);
            }
            result
        }
    }

    fn ordering(ordering: Ordering, part: Part) -> Ordering {
        if lacks(part) {
            Ordering::Relaxed
        } else {
            ordering
        }
    }

    fn full_barrier(part: Part) {
        if !lacks(part) {
            fence(Ordering::SeqCst);
        }
    }
}

/// The parts that a test breaks, to see that it would notice.
pub mod fault {
    /// A part of what orders accesses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Part {
        /// The acquire of a load that is one.
        LoadAcquire,
        /// The release of a store that is one.
        StoreRelease,
        /// The acquire of an exchange that is one, and no barrier.
        ExchangeAcquire,
        /// The barrier before a change, which is a release as well.
        BarrierBeforeChange,
        /// The barrier after a change.
        BarrierAfterChange,
    }

    #[cfg(feature = "loom")]
    std::thread_local! {
        /// The part that is left out. All threads of a loom model are coroutines on one of the host's, so
        /// that others are not concerned.
        pub static LACKING: std::cell::Cell<Option<Part>> = const { std::cell::Cell::new(None) };
    }

    /// Whether a test has taken it away.
    pub(crate) fn lacks(part: Part) -> bool {
        #[cfg(feature = "loom")]
        let lacking = LACKING.get();
        #[cfg(not(feature = "loom"))]
        let lacking = None;
        lacking == Some(part)
    }
}
