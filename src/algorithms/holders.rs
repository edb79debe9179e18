// SPDX-License-Identifier: GPL-2.0

//! The holders of a pipe: how a life of it begins with the first one, and ends with the last one.
//!
//! Each open file is one *holder*. A FIFO outlives its holders: the last one ends a life of it, and the next
//! one begins another, with nothing inside, and with a capacity that this holder is charged for. Between two
//! lives the ring is cleared and resized. That may sleep, and the lock of [`Holders`] is a spin lock; so both claims of
//! the ring are taken for it, and the lock is taken inside them.
//!
//! ```text
//!     begins a life                       ends a life
//!
//!     lock: a holder? count it, done      lock: another holder? uncount this one, done
//!     take both claims                    take both claims
//!     charge this task                    lock: another holder by now? uncount this one, done
//!     lock: no holder? resize the ring          no holder is left; give the charge back
//!     lock: count it, and if it is the    clear the ring, resize it
//!           first one, it pays            let go of both claims
//!     let go of both claims
//! ```
//!
//! So the task that begins a life and the task that ends one exclude each other: the count of holders leaves 0
//! under both claims only. Between other numbers it changes under the lock alone.
//!
//! Most pipes end without a claim. If the last holder sees under the lock that nobody has a claim, and that nothing
//! was written since the ring was cleared, there is nothing to clear, and it ends the life then and there. A task
//! that begins a life meanwhile either takes the lock later, and finds no holder; or it took the lock before, with
//! the claims already its own, and then the lock has made them visible to the last holder.
//!
//! `loom_holders.rs` beside this file tries all interleavings.

use core::{mem::swap, ops::DerefMut};

/// The number of a pipe's files, and the charge for its capacity. Guarded by a lock: [`Held::lock`].
pub struct Holders<C> {
    /// With none, nobody pays for the pipe, and nothing is in it.
    files: u32,
    /// The charge for the capacity, to the user that made the pipe, or opened it first.
    pub charge: C,
}

impl<C> Holders<C> {
    /// Returns the holders of a new pipe with so many files.
    #[inline]
    pub fn new(files: u32, charge: C) -> Self {
        Self { files, charge }
    }
}

/// The holders that are left when a file is taken away.
#[must_use]
pub enum Left<I> {
    /// Others have the pipe open, too.
    Others,
    /// Nobody has it open, and it is empty.
    Nobody(Option<I>),
    /// It was not taken away: it is the last one, and there may be something inside. [`clear_in_turn`] has to
    /// follow.
    ToClear,
}

/// A pipe, as its holders need it.
pub trait Held {
    /// A charge for a capacity.
    type Charge;

    /// Where charges come from.
    type Account;

    /// Work that is left to do after a life, without the lock: dropping this does it.
    type Idle;

    /// The lock, held.
    type Locked<'a>: DerefMut<Target = Holders<Self::Charge>>
    where
        Self: 'a;

    /// Both claims of the ring, held.
    type Both<'a>;

    /// Why a pipe cannot be opened.
    type Error;

    /// A ring with more slots than these does not keep them between two lives.
    const USUAL_SLOTS: u32;

    /// Takes the lock.
    fn lock(&self) -> Self::Locked<'_>;

    /// Whether nobody has a claim, nor waits for one, and nothing was written since the ring was cleared.
    fn is_pristine(&self) -> bool;

    /// Whether nobody has a claim, nor waits for one, and there is nothing to read.
    fn is_idle(&self) -> bool;

    /// How many slots the ring has.
    fn max_usage(&self) -> u32;

    /// Runs `f` with both claims; waits for them. Fails if the task is being killed.
    fn both<R>(&self, f: impl FnOnce(&mut Self::Both<'_>) -> R) -> Result<R, Self::Error>;

    /// The same, but nothing ends the wait.
    fn both_endlessly<R>(&self, f: impl FnOnce(&mut Self::Both<'_>) -> R)
        -> Result<R, Self::Error>;

    /// Runs `f` with both claims, if nobody has one, or waits for one.
    fn try_both<R>(&self, f: impl FnOnce(&mut Self::Both<'_>) -> R) -> Option<R>;

    /// Lets the ring have so many slots.
    fn resize(&self, both: &mut Self::Both<'_>, slots: u32) -> Result<(), Self::Error>;

    /// Throws the contents of the ring away.
    fn clear(&self, both: &mut Self::Both<'_>);

    /// Returns the calling task's account.
    fn account(&self) -> Result<Self::Account, Self::Error>;

    /// Charges the account for a capacity. To drop a charge gives it back; the lock is not held then.
    fn charge(&self, account: &Self::Account) -> Result<Self::Charge, Self::Error>;

    /// Returns how many slots that is.
    fn slots(charge: &Self::Charge) -> u32;

    /// Ends a life, under the lock: gives the charge back, and forgets the state of this life.
    fn end(&self, charge: &mut Self::Charge) -> Option<Self::Idle>;
}

/// Adds a file. The first one begins a life: with nothing inside, and a capacity that the calling task is charged
/// for.
pub fn join<P: Held>(pipe: &P) -> Result<(), P::Error> {
    {
        let mut holders = pipe.lock();
        if holders.files > 0 {
            holders.files += 1;
            return Ok(());
        }
    }
    let account = pipe.account()?;
    pipe.both(|both| {
        let mut charge = pipe.charge(&account)?;
        // Another task may have begun a life while this one waited. With the claims held nobody else begins one,
        // nor ends the present one.
        if pipe.lock().files == 0 && P::slots(&charge) != pipe.max_usage() {
            pipe.resize(both, P::slots(&charge))?;
        }
        let mut holders = pipe.lock();
        holders.files += 1;
        if holders.files == 1 {
            swap(&mut holders.charge, &mut charge);
        }
        drop(holders);
        Ok(())
    })?
}

/// Takes a file away, unless that is the last one and somebody is at the ring. `goes` tells whether nothing leads
/// to the pipe but this file.
#[inline]
pub fn try_leave<P: Held>(
    pipe: &P,
    mut holders: P::Locked<'_>,
    goes: impl FnOnce() -> bool,
) -> Left<P::Idle> {
    if holders.files > 1 {
        holders.files -= 1;
        return Left::Others;
    }
    if pipe.is_pristine() && pipe.max_usage() <= P::USUAL_SLOTS {
        return Left::Nobody(end(pipe, &mut holders));
    }
    try_clear(pipe, holders, goes)
}

#[inline(never)]
fn try_clear<P: Held>(
    pipe: &P,
    mut holders: P::Locked<'_>,
    goes: impl FnOnce() -> bool,
) -> Left<P::Idle> {
    // Nobody can open it any more, and an empty ring's memory is freed with the ring.
    if pipe.is_idle() && pipe.max_usage() <= P::USUAL_SLOTS && goes() {
        return Left::Nobody(end(pipe, &mut holders));
    }
    let left = pipe.try_both(|both| clear(pipe, both, holders));
    left.unwrap_or(Left::ToClear)
}

/// Takes a file away that [`try_leave`] did not: waits until nobody is at the ring.
#[cold]
pub fn clear_in_turn<P: Held>(pipe: &P) -> Left<P::Idle> {
    let left = pipe.both_endlessly(|both| clear(pipe, both, pipe.lock()));
    // Nothing ends that wait.
    left.unwrap_or(Left::Others)
}

/// Takes a file away, and clears the ring if it is the last one.
fn clear<P: Held>(pipe: &P, both: &mut P::Both<'_>, mut holders: P::Locked<'_>) -> Left<P::Idle> {
    // Others may have come while this task waited for the claims.
    if holders.files > 1 {
        holders.files -= 1;
        return Left::Others;
    }
    let idle = end(pipe, &mut holders);
    drop(holders);
    pipe.clear(both);
    if pipe.max_usage() > P::USUAL_SLOTS {
        // Nobody pays any more for what it was enlarged to. It does no harm if this fails.
        let _ = pipe.resize(both, P::USUAL_SLOTS);
    }
    Left::Nobody(idle)
}

/// The last file is gone.
#[inline]
fn end<P: Held>(pipe: &P, holders: &mut P::Locked<'_>) -> Option<P::Idle> {
    holders.files = 0;
    pipe.end(&mut holders.charge)
}
