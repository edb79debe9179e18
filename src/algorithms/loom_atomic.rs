// SPDX-License-Identifier: GPL-2.0

//! Atomics of which loom leaves no interleaving out.
//!
//! Where one thread loads and another changes, loom tries either first. But it remembers only the last
//! access to an object: if the other loads as well before it changes, as who compares and exchanges
//! does, the first load is forgotten, and never tried after the change
//! (<https://github.com/tokio-rs/loom/issues/166>). So each access is preceded by one of a kind that
//! loom takes for a change, to an object in which nothing is ever stored, so that it orders nothing.

use loom::sync::atomic::{self, Ordering};

/// `core::sync::atomic::AtomicU64`.
pub struct AtomicU64 {
    value: atomic::AtomicU64,
    turn: atomic::AtomicBool,
}

impl AtomicU64 {
    /// One that holds `value`.
    pub fn new(value: u64) -> Self {
        Self {
            value: atomic::AtomicU64::new(value),
            turn: atomic::AtomicBool::new(false),
        }
    }

    /// Returns the value, or an earlier one where that may be.
    pub fn load(&self, order: Ordering) -> u64 {
        self.take_turn();
        self.value.load(order)
    }

    /// Replaces the value.
    pub fn store(&self, value: u64, order: Ordering) {
        self.change(|this| this.store(value, order));
    }

    /// Replaces the value by `new` if it is `old`. Returns the value found.
    pub fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.change(|this| this.compare_exchange(old, new, success, failure))
    }

    /// Runs `f`, which does not decide by what it may find, so that its turn is all there is to try.
    fn change<R>(&self, f: impl FnOnce(&atomic::AtomicU64) -> R) -> R {
        self.take_turn();
        loom::stop_exploring();
        let result = f(&self.value);
        loom::explore();
        result
    }

    fn take_turn(&self) {
        let order = Ordering::Relaxed;
        let _ = self.turn.compare_exchange(true, true, order, order);
    }
}

/// `core::sync::atomic::AtomicBool`.
pub struct AtomicBool(AtomicU64);

impl AtomicBool {
    /// One that holds `value`.
    pub fn new(value: bool) -> Self {
        Self(AtomicU64::new(value.into()))
    }

    /// Returns the value, or an earlier one where that may be.
    pub fn load(&self, order: Ordering) -> bool {
        self.0.load(order) != 0
    }

    /// Replaces the value.
    pub fn store(&self, value: bool, order: Ordering) {
        self.0.store(value.into(), order);
    }
}
