// SPDX-License-Identifier: GPL-2.0

//! The counter: `eventfd_ctx.count`, the changes that it takes, and how the tasks that wait for it learn of them.
//!
//! The original changes the count and looks for waiters under the lock of its queue. Here the count is
//! one atomic word, and while nobody waits the lock is not taken at all. A full barrier on either side makes
//! that right:
//!
//! ```text
//!     a task that changes it              a task that waits
//!
//!     change the word                     go on the queue
//!     full barrier                        full barrier
//!     anybody on the queue? wake          look at the word; sleep if it will not do
//! ```
//!
//! However the two interleave, one sees the other's step: the waiter sees the new word, or the other task sees
//! the waiter. Without both barriers a processor may look before others see its own store; both may look in
//! vain, and the waiter sleeps forever. The left one is in `change_unlocked`, the right
//! one in `Wait::announce` (src/abstractions/wait_queue/wait.rs); `loom.rs` beside this file tries
//! all interleavings, and shows that it fails without either.
//!
//! A task that has to wake somebody takes the lock anyway, and then an atomic change is one too many. So a
//! write that woke a task sets a bit in the word, `LOCKED`, because that task will likely wait again: from
//! then on the count changes with the lock held, by plain stores, as in the original. A write that finds
//! nobody there clears it. The bit leaves the word room for the lower half of the counts;
//! [`Upper`] stands for the other half, which no counter gets to that is used as one.

use super::sync::{Atomic, Full, Relaxed, Release, Send, Sync};

/// How much a read takes.
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
    /// have overflown it: `EPOLLERR` stands for that.
    pub const MAX: u64 = u64::MAX - 1;

    /// A count of `value`, which is below [`Count::MAX`] by its type.
    pub const fn new(value: u32) -> Self {
        Self(value as u64)
    }

    /// Returns the value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Takes as much as a read takes. Returns that, unless there is nothing.
    pub fn take(&mut self, mode: Mode) -> Option<u64> {
        let taken = match (self.0, mode) {
            (0, _) => return None,
            (all, Mode::Sum) => all,
            (_, Mode::Semaphore) => 1,
        };
        self.0 -= taken;
        Some(taken)
    }

    /// Adds `value`, if the sum is no more than `limit`; the count was not more before.
    pub fn add(&mut self, value: u64, limit: u64) -> Option<()> {
        if value > limit - self.0 {
            return None;
        }
        self.0 += value;
        Some(())
    }

    /// Whether a write of 1 would find room.
    pub const fn is_writable(self) -> bool {
        self.0 < Self::MAX
    }
}

/// A change of the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A read took something: there is room.
    Taken,
    /// A write added something.
    Added,
}

/// The word that holds the count.
///
/// Its upper bit is `LOCKED`, the others are the count, but for what [`Upper`] adds to it. While the bit is
/// set, the word changes with the queue's lock held only.
pub struct Word(Atomic<u64>);

/// The bit of the word that says that it is changed with the queue's lock held.
const LOCKED: u64 = 1 << 63;

/// The largest count in the word without that bit: half of [`Count::MAX`].
const HALF: u64 = Count::MAX / 2;

/// Whether the count is `HALF` more than the word says, which then is `LOCKED` and not 0. Guarded by the
/// queue's lock.
pub struct Upper(Atomic<bool>);

impl Word {
    /// A word that holds `count`.
    pub fn new(count: Count) -> Self {
        Self(Atomic::new(count.0))
    }

    /// Whether there is something to read.
    #[inline]
    fn is_readable(&self) -> bool {
        self.0.load(Relaxed) & !LOCKED != 0
    }
}

impl Default for Upper {
    /// That of a counter that is new.
    fn default() -> Self {
        Self(Atomic::new(false))
    }
}

/// A counter's operations: on the word, and on the one queue of the readers and writers that wait for it to change.
pub trait CounterOps: Sync {
    /// Why a wait can end early, or not begin.
    type Error;

    /// The queue's lock, held.
    type Locked<'a>;

    /// Its count.
    fn word(&self) -> &Word;

    /// Whether the count is of the upper half.
    fn upper(&self) -> &Upper;

    /// Whether anybody is on the queue. The lock is not needed: see above.
    fn is_active(&self) -> bool;

    /// Runs `f` with the queue's lock held.
    fn locked<R: Send>(&self, f: impl FnOnce(&mut Self::Locked<'_>) -> R + Send) -> R;

    /// Wakes everybody on the queue. Returns whether there was anybody.
    fn wake(&self, queue: &mut Self::Locked<'_>, change: Change) -> bool;

    /// Sleeps until `condition` holds. It is looked at after going on the queue, with a full barrier
    /// between the two, and again after each wake-up.
    fn wait_until(&self, condition: impl FnMut() -> bool) -> Result<(), Self::Error>;
}

/// The step of a read or a write on the count.
trait Step: Copy + Send {
    /// Its result.
    type Result: Send;

    /// The change that the entries on the queue are woken for.
    const CHANGE: Change;

    /// Does it, if it can be done, and the count is no more than `limit` then.
    fn apply(self, count: &mut Count, limit: u64) -> Option<Self::Result>;
}

#[derive(Clone, Copy)]
struct Take(Mode);

impl Step for Take {
    type Result = u64;
    const CHANGE: Change = Change::Taken;

    #[inline]
    fn apply(self, count: &mut Count, _limit: u64) -> Option<u64> {
        count.take(self.0)
    }
}

#[derive(Clone, Copy)]
struct Add(u64);

impl Step for Add {
    type Result = ();
    const CHANGE: Change = Change::Added;

    #[inline]
    fn apply(self, count: &mut Count, limit: u64) -> Option<()> {
        count.add(self.0, limit)
    }
}

/// Takes as much as a read takes, and wakes the tasks that wait for room. Returns how much. Sleeps while there is
/// nothing, if `may_wait` allows it.
#[inline]
pub fn read<C: CounterOps>(
    counter: &C,
    mode: Mode,
    may_wait: impl Fn() -> Result<(), C::Error>,
) -> Result<u64, C::Error> {
    match change_unlocked(counter, Take(mode)) {
        Some(taken) => Ok(taken),
        None => read_or_wait(counter, mode, may_wait),
    }
}

/// Out of line, as most reads and writes need neither the lock nor to wait.
#[inline(never)]
fn read_or_wait<C: CounterOps>(
    counter: &C,
    mode: Mode,
    may_wait: impl Fn() -> Result<(), C::Error>,
) -> Result<u64, C::Error> {
    loop {
        // With the lock and without it, nothing is nothing.
        if counter.word().is_readable() {
            if let Some(taken) = change_locked(counter, Take(mode)) {
                return Ok(taken);
            }
        }
        may_wait()?;
        wait_for_count(counter)?;
        // Another one may have been faster.
        if let Some(taken) = change_unlocked(counter, Take(mode)) {
            return Ok(taken);
        }
    }
}

#[inline(never)]
fn wait_for_count<C: CounterOps>(counter: &C) -> Result<(), C::Error> {
    counter.wait_until(|| counter.word().is_readable())
}

/// Adds `value`, and wakes the tasks that wait for something to read. Sleeps while there is no room for all of it, if
/// `may_wait` allows it, which gets `value`: it has to be one that there can be room for.
#[inline]
pub fn write<C: CounterOps>(
    counter: &C,
    value: u64,
    may_wait: impl Fn(u64) -> Result<(), C::Error>,
) -> Result<(), C::Error> {
    match change_unlocked(counter, Add(value)) {
        Some(()) => Ok(()),
        None => write_or_wait(counter, value, may_wait),
    }
}

#[inline(never)]
fn write_or_wait<C: CounterOps>(
    counter: &C,
    value: u64,
    may_wait: impl Fn(u64) -> Result<(), C::Error>,
) -> Result<(), C::Error> {
    loop {
        if let Some(()) = change_locked(counter, Add(value)) {
            return Ok(());
        }
        may_wait(value)?;
        wait_for_room(counter, value)?;
        if let Some(()) = change_unlocked(counter, Add(value)) {
            return Ok(());
        }
    }
}

#[inline(never)]
fn wait_for_room<C: CounterOps>(counter: &C, value: u64) -> Result<(), C::Error> {
    counter.wait_until(|| get(counter).add(value, Count::MAX).is_some())
}

/// Whether a read would find something at this moment, and a write of 1 room.
///
/// It takes no lock where it does not have to: a poller looks at this after a full barrier of its own, in `poll_wait`
/// when it goes on the queue and before it sleeps again in `poll_schedule_timeout` (fs/select.c), which pairs with
/// the one in `change_unlocked` as a waiter's does. A task that changes a locked word finds the poller on the queue, or
/// has had the queue's lock before it.
#[inline]
pub fn readiness<C: CounterOps>(counter: &C) -> (bool, bool) {
    let word = counter.word().0.load(Relaxed);
    if word == LOCKED | HALF {
        return (true, get(counter).is_writable());
    }
    (word & !LOCKED != 0, true)
}

/// Returns the count at this moment.
#[inline(never)]
pub fn get<C: CounterOps>(counter: &C) -> Count {
    let word = counter.word().0.load(Relaxed);
    if word & LOCKED == 0 {
        return Count(word);
    }
    counter.locked(|_| count_of(counter, counter.word().0.load(Relaxed)))
}

/// Returns the count that goes with a word. The caller holds the queue's lock.
fn count_of<C: CounterOps>(counter: &C, word: u64) -> Count {
    let upper = counter.upper().0.load(Relaxed);
    Count((word & !LOCKED) + if upper { HALF } else { 0 })
}

/// Does a step, if it can be done without the lock, and wakes the tasks that wait for it.
///
/// A success is a full barrier, so that the look at the queue comes after the change:
/// it pairs with the barrier in `Wait::announce`, and with the one in `poll_wait`
/// (include/linux/poll.h).
#[inline]
fn change_unlocked<C: CounterOps, S: Step>(counter: &C, step: S) -> Option<S::Result> {
    let word = &counter.word().0;
    let mut old = word.load(Relaxed);
    loop {
        if old & LOCKED != 0 {
            return seldom();
        }
        let mut count = Count(old);
        let result = step.apply(&mut count, HALF)?;
        match word.cmpxchg(old, count.0, Full) {
            Ok(_) => {
                if counter.is_active() {
                    wake::<C, S>(counter);
                }
                return Some(result);
            }
            Err(now) => old = now,
        }
    }
}

/// For the compiler, which would otherwise make one condition of two that are seldom met.
#[cold]
fn seldom<R>() -> Option<R> {
    None
}

/// Wakes the tasks that wait for a change, which was made without the lock. After a write that found one the next
/// change is made with it.
#[inline(never)]
fn wake<C: CounterOps, S: Step>(counter: &C) {
    counter.locked(|queue| {
        if counter.wake(queue, S::CHANGE) && S::CHANGE == Change::Added {
            lock(counter);
        }
    });
}

/// Does a step, if it can be done, with the lock held, and wakes the tasks that wait for it. After a write that found
/// none the next change is made without it.
#[inline]
fn change_locked<C: CounterOps, S: Step>(counter: &C, step: S) -> Option<S::Result> {
    counter.locked(move |queue| {
        let word = lock(counter);
        let result = match change_lower(counter, word, step) {
            Some(result) => result,
            None => change_upper(counter, word, step)?,
        };
        if !counter.wake(queue, S::CHANGE) && S::CHANGE == Change::Added {
            unlock(counter);
        }
        Some(result)
    })
}

/// Does a step, if the count is of the lower half and stays there.
#[inline]
fn change_lower<C: CounterOps, S: Step>(counter: &C, word: u64, step: S) -> Option<S::Result> {
    if counter.upper().0.load(Relaxed) {
        return seldom();
    }
    let mut count = Count(word & !LOCKED);
    let result = step.apply(&mut count, HALF)?;
    counter.word().0.store(count.0 | LOCKED, Relaxed);
    Some(result)
}

/// Does a step, if it can be done at all.
#[cold]
#[inline(never)]
fn change_upper<C: CounterOps, S: Step>(counter: &C, word: u64, step: S) -> Option<S::Result> {
    let mut count = count_of(counter, word);
    let result = step.apply(&mut count, Count::MAX)?;
    let upper = count.0 > HALF;
    let lower = count.0 - if upper { HALF } else { 0 };
    counter.upper().0.store(upper, Relaxed);
    counter.word().0.store(lower | LOCKED, Relaxed);
    Some(result)
}

/// Locks the word, if it is not yet. Returns the word.
///
/// The caller holds the queue's lock.
#[inline]
fn lock<C: CounterOps>(counter: &C) -> u64 {
    let word = &counter.word().0;
    let mut old = word.load(Relaxed);
    while old & LOCKED == 0 {
        match word.cmpxchg(old, old | LOCKED, Full) {
            Ok(_) => break,
            Err(now) => old = now,
        }
    }
    old
}

/// Unlocks the word, if it can say the count by itself.
///
/// The caller holds the queue's lock, and the word is locked.
#[inline]
fn unlock<C: CounterOps>(counter: &C) {
    let word = &counter.word().0;
    if !counter.upper().0.load(Relaxed) {
        // A release: a writer's earlier stores come before the count of its write. Pairs with the exchange in
        // `change_unlocked`; for the next holder of the lock, the lock orders them.
        word.store(word.load(Relaxed) & !LOCKED, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Count, CounterOps, Mode, Upper, Word, HALF};
    use core::cell::Cell;
    use proptest::prelude::*;

    /// A counter of one task, which says whether others wait.
    struct Alone {
        word: Word,
        upper: Upper,
        others: Cell<bool>,
        woken: Cell<Option<Change>>,
    }

    impl Alone {
        fn new(count: u32) -> Self {
            Self {
                word: Word::new(Count::new(count)),
                upper: Upper::default(),
                others: Cell::new(false),
                woken: Cell::new(None),
            }
        }

        fn write(&self, value: u64) -> bool {
            super::write(self, value, |_| Err(())).is_ok()
        }

        fn read(&self, mode: Mode) -> Option<u64> {
            super::read(self, mode, || Err(())).ok()
        }
    }

    impl CounterOps for Alone {
        type Error = ();
        type Locked<'a> = ();

        fn word(&self) -> &Word {
            &self.word
        }

        fn upper(&self) -> &Upper {
            &self.upper
        }

        fn is_active(&self) -> bool {
            self.others.get()
        }

        fn locked<R>(&self, f: impl FnOnce(&mut ()) -> R) -> R {
            f(&mut ())
        }

        fn wake(&self, (): &mut (), change: Change) -> bool {
            if self.others.get() {
                self.woken.set(Some(change));
            }
            self.others.get()
        }

        fn wait_until(&self, _: impl FnMut() -> bool) -> Result<(), ()> {
            unreachable!("it may not wait")
        }
    }

    /// Values around the boundaries, and any other.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0),
            Just(1),
            HALF - 1..=HALF + 1,
            Count::MAX - 1..=u64::MAX,
            any::<u64>(),
        ]
    }

    proptest! {
        /// Against a model that counts with more bits than can overflow, and knows of no lock.
        #[test]
        fn behaves_as_a_wide_sum(
            first in any::<u32>(),
            semaphore in any::<bool>(),
            steps in prop::collection::vec((prop::option::of(value()), any::<bool>()), 0..64),
        ) {
            let mode = if semaphore { Mode::Semaphore } else { Mode::Sum };
            let counter = Alone::new(first);
            let mut model = u128::from(first);
            for (step, others) in steps {
                counter.others.set(others);
                counter.woken.set(None);
                let change = match step {
                    Some(value) => {
                        let fits = model + u128::from(value) <= u128::from(Count::MAX);
                        prop_assert_eq!(counter.write(value), fits);
                        if fits {
                            model += u128::from(value);
                        }
                        fits.then_some(Change::Added)
                    }
                    None => {
                        let expected = match model {
                            0 => None,
                            _ if semaphore => Some(1),
                            all => Some(all),
                        };
                        prop_assert_eq!(counter.read(mode).map(u128::from), expected);
                        model -= expected.unwrap_or(0);
                        expected.map(|_| Change::Taken)
                    }
                };
                prop_assert_eq!(counter.woken.get(), change.filter(|_| others));
                prop_assert_eq!(u128::from(super::get(&counter).get()), model);
                let readiness = (model > 0, model < u128::from(Count::MAX));
                prop_assert_eq!(super::readiness(&counter), readiness);
            }
        }
    }

    #[test]
    fn a_write_that_does_not_fit_changes_nothing() {
        let counter = Alone::new(1);
        assert!(!counter.write(Count::MAX));
        assert_eq!(super::get(&counter).get(), 1);
        assert!(counter.write(Count::MAX - 1));
        assert_eq!(super::readiness(&counter), (true, false));
    }
}
