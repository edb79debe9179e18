// SPDX-License-Identifier: GPL-2.0

//! How often a redirected function was called, added up for each processor by itself.

use crate::bindings;

/// The largest number of redirected functions.
pub(super) const MAX: usize = bindings::REDIRECT_COUNTS_MAX as usize;

/// The number of a redirected function, below [`MAX`].
///
/// # Invariants
///
/// It is below [`MAX`].
#[derive(Clone, Copy)]
pub(super) struct Index(u32);

/// The calls of a function so far. Each sum is exact once no call is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) passed: u64,
}

impl Index {
    /// The number `index`, which is below [`MAX`]: of a larger one, its lower bits.
    #[inline]
    pub(super) const fn new(index: usize) -> Self {
        const { assert!(MAX.is_power_of_two()) };
        debug_assert!(index < MAX);
        // INVARIANT: The mask has the bits below `MAX` only.
        Self(index as u32 & (MAX as u32 - 1))
    }

    /// Its bit in a set of functions.
    pub(super) const fn bit(self) -> u64 {
        1 << self.0
    }

    /// Counts a call that an answer gets.
    #[inline]
    pub(super) fn count_answered(self) {
        // SAFETY: By the type invariant there is such an element.
        unsafe { bindings::count_answered(self.0) };
    }

    /// Counts a call that the original gets.
    #[inline]
    pub(super) fn count_passed(self) {
        // SAFETY: By the type invariant there is such an element.
        unsafe { bindings::count_passed(self.0) };
    }

    pub(super) fn sum(self) -> Counts {
        // SAFETY: By the type invariant there is such an element.
        let sum = unsafe { bindings::sum_counts(self.0) };
        Counts {
            answered: sum.answered as u64,
            passed: sum.passed as u64,
        }
    }
}
