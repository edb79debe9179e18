// SPDX-License-Identifier: GPL-2.0

//! The counter: `eventfd_ctx.count`, what may be done to it, and how those who wait for it hear of it.
//!
//! The original changes the count and looks for waiters under the lock of its queue. Here the count is
//! one atomic word, and the lock is taken only if there is somebody to wake or something to wait for.
//! What makes that right is a full barrier on either side:
//!
//! ```text
//!     who changes                         who waits
//!
//!     change the word                     go on the queue
//!     full barrier                        full barrier
//!     anybody on the queue? wake          look at the word; sleep if it will not do
//! ```
//!
//! Whichever way the two interleave, one sees what the other did: the waiter the new word, or the other
//! the waiter. Without both barriers a processor may look before its own store is to be seen by others,
//! both may look in vain, and the waiter sleeps for ever. The left one is in `Word::change`, the right
//! one in `Wait::announce` (src/abstractions/wait_queue/wait.rs); `loom.rs` beside this file tries
//! all interleavings, and shows that it fails without either.

use super::sync::{Atomic, Full, Relaxed};

/// What a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All there is.
    Sum,
    /// One: `EFD_SEMAPHORE`.
    Semaphore,
}

/// A count of 0 to [`Count::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(u64);

impl Count {
    /// The most that user space can bring a counter to. One more, and a kernel-side signal would
    /// have overflown it: that is what `EPOLLERR` tells.
    pub const MAX: u64 = u64::MAX - 1;

    /// A count of `value`, which is below [`Count::MAX`] by its type.
    pub const fn new(value: u32) -> Self {
        Self(value as u64)
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Takes what a read takes, if there is anything.
    pub fn take(&mut self, mode: Mode) -> Option<u64> {
        let taken = match (self.0, mode) {
            (0, _) => return None,
            (all, Mode::Sum) => all,
            (_, Mode::Semaphore) => 1,
        };
        self.0 -= taken;
        Some(taken)
    }

    /// Adds what a write adds, if there is room for all of it.
    pub fn add(&mut self, value: u64) -> Option<()> {
        if value > Self::MAX - self.0 {
            return None;
        }
        self.0 += value;
        Some(())
    }

    /// Whether a read would find something.
    pub const fn is_readable(self) -> bool {
        self.0 > 0
    }

    /// Whether a write of 1 would find room.
    pub const fn is_writable(self) -> bool {
        self.0 < Self::MAX
    }
}

/// What happened to the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A read took something: there is room.
    Taken,
    /// A write added something.
    Added,
}

/// Those who wait for the count to change: readers and writers, on one queue.
pub trait Queue {
    /// Why a wait can end early.
    type Interrupted;

    /// Whether anybody is on the queue. It may look without a lock: see above.
    fn is_active(&self) -> bool;

    /// Wakes everybody on the queue.
    fn wake(&self, change: Change);

    /// Sleeps until `condition` holds. It is looked at after going on the queue, with a full barrier
    /// between the two, and again after each wake-up.
    fn wait_until(&self, condition: impl FnMut() -> bool) -> Result<(), Self::Interrupted>;
}

/// The word that holds the count.
pub struct Word(Atomic<u64>);

impl Word {
    /// A word that holds `count`.
    pub fn new(count: Count) -> Self {
        Self(Atomic::new(count.0))
    }

    /// The count at this moment.
    ///
    /// It takes no lock: a poller looks at it after a full barrier of its own, in `poll_wait` when it goes
    /// on the queue and before it sleeps again in `poll_schedule_timeout` (fs/select.c), which pairs with
    /// the one in `Word::change` as a waiter's does.
    #[inline]
    pub fn get(&self) -> Count {
        Count(self.0.load(Relaxed))
    }

    /// Takes what a read takes, and tells those who wait for room. Sleeps while there is nothing, or
    /// gives none if it is not to `block`.
    #[inline]
    pub fn read<Q: Queue>(
        &self,
        mode: Mode,
        queue: &Q,
        block: bool,
    ) -> Result<Option<u64>, Q::Interrupted> {
        self.transfer(queue, block, Change::Taken, move |count| count.take(mode))
    }

    /// Adds `value`, and tells those who wait for something to read. Sleeps while there is no room for
    /// all of it, or gives none if it is not to `block`.
    #[inline]
    pub fn write<Q: Queue>(
        &self,
        value: u64,
        queue: &Q,
        block: bool,
    ) -> Result<Option<()>, Q::Interrupted> {
        self.transfer(queue, block, Change::Added, move |count| count.add(value))
    }

    #[inline]
    fn transfer<Q: Queue, R>(
        &self,
        queue: &Q,
        block: bool,
        change: Change,
        step: impl Fn(&mut Count) -> Option<R>,
    ) -> Result<Option<R>, Q::Interrupted> {
        let result = match self.change(&step) {
            Some(result) => result,
            None if !block => return Ok(None),
            None => self.wait_to_change(queue, step)?,
        };
        if queue.is_active() {
            queue.wake(change);
        }
        Ok(Some(result))
    }

    /// As [`Word::change`], and sleeps until it succeeds.
    #[inline(never)]
    fn wait_to_change<Q: Queue, R>(
        &self,
        queue: &Q,
        step: impl Fn(&mut Count) -> Option<R>,
    ) -> Result<R, Q::Interrupted> {
        loop {
            queue.wait_until(|| step(&mut self.get()).is_some())?;
            // Another one may have been faster.
            if let Some(result) = self.change(&step) {
                return Ok(result);
            }
        }
    }

    /// Replaces the count by what `step` makes of it, if that succeeds.
    ///
    /// A success is a full barrier. What comes after it, the look at the queue, comes after the change:
    /// it pairs with the barrier in `Wait::announce`, and with the one in `poll_wait`
    /// (include/linux/poll.h).
    #[inline]
    fn change<R>(&self, step: impl Fn(&mut Count) -> Option<R>) -> Option<R> {
        let mut old = self.0.load(Relaxed);
        loop {
            let mut count = Count(old);
            let result = step(&mut count)?;
            match self.0.cmpxchg(old, count.0, Full) {
                Ok(_) => return Some(result),
                Err(now) => old = now,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, Mode};
    use proptest::prelude::*;

    /// Values around the boundaries, and any other.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0),
            Just(1),
            Just(Count::MAX - 1),
            Just(Count::MAX),
            Just(u64::MAX),
            any::<u64>(),
        ]
    }

    proptest! {
        /// Against a model that counts with more bits than can overflow.
        #[test]
        fn behaves_as_a_wide_sum(
            first in any::<u32>(),
            semaphore in any::<bool>(),
            steps in prop::collection::vec(prop::option::of(value()), 0..64),
        ) {
            let mode = if semaphore { Mode::Semaphore } else { Mode::Sum };
            let mut count = Count::new(first);
            let mut model = u128::from(first);
            for step in steps {
                match step {
                    Some(value) => {
                        let fits = model + u128::from(value) <= u128::from(Count::MAX);
                        prop_assert_eq!(count.add(value).is_some(), fits);
                        if fits {
                            model += u128::from(value);
                        }
                    }
                    None => {
                        let expected = match model {
                            0 => None,
                            _ if semaphore => Some(1),
                            all => Some(all),
                        };
                        prop_assert_eq!(count.take(mode).map(u128::from), expected);
                        model -= expected.unwrap_or(0);
                    }
                }
                prop_assert_eq!(u128::from(count.get()), model);
                prop_assert_eq!(count.is_readable(), model > 0);
                prop_assert_eq!(count.is_writable(), model < u128::from(Count::MAX));
            }
        }
    }

    #[test]
    fn a_write_that_does_not_fit_changes_nothing() {
        let mut count = Count::new(1);
        assert_eq!(count.add(Count::MAX), None);
        assert_eq!(count.get(), 1);
        assert_eq!(count.add(Count::MAX - 1), Some(()));
        assert!(!count.is_writable());
    }
}
