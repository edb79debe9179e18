// SPDX-License-Identifier: GPL-2.0

//! The holders of a pipe, and the charge for its capacity.
//!
//! Each open file is one of the pipe's *holders*, whichever ends it opened. How a life of a FIFO begins with its
//! first holder, and ends with the last one, is in `algorithms/holders.rs`; here is what that stands on: the lock of
//! `rd_wait`, the claims of the ring, and the charge.
//!
//! Beside that there is a count of files for each end, which tells those at the other end whether to wait.
//!
//! Original: `fifo_open`, `pipe_release` and `put_pipe_info` in `fs/pipe.c`, fifo(7).

use super::{
    limits::{Account, Charge, Idle, Limits, DEFAULT_PAGES},
    Pipe, //
};
use crate::{
    abstractions::{
        memory::page_ring::{Both, Patience},
        tables::id_table,
        vfs::{
            fasync::Band,
            file::{Access, InodeOfReleased},
            open::{Openable, Opening}, //
        },
        wait_queue::{Guard, Wait, Waited, Wake}, //
    },
    algorithms::holders::{self, Held, Left},
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, //
    },
};

/// The number of a pipe's files, and the charge for its capacity.
pub(super) type Holders = holders::Holders<Charge>;

impl Openable for Pipe {
    const DIRECT: bool = true;

    #[inline]
    fn placed(&self, inode: u32) {
        self.inode.store(inode, Relaxed);
    }

    /// C: `fifo_open`.
    fn open(&self, opening: &Opening<'_>) -> Result {
        holders::join(self)?;
        self.open_ends(opening).inspect_err(|_| self.leave())
    }
}

impl Held for Pipe {
    type Charge = Charge;
    type Account = Account;
    type Idle = Idle;
    type Locked<'a> = Guard<'a, Holders>;
    type Both<'a> = Both<'a>;
    type Error = Error;

    const USUAL_SLOTS: u32 = DEFAULT_PAGES;

    #[inline]
    fn lock(&self) -> Guard<'_, Holders> {
        self.rd_wait.lock()
    }

    #[inline]
    fn is_pristine(&self) -> bool {
        self.ring.is_pristine()
    }

    #[inline]
    fn is_idle(&self) -> bool {
        self.ring.is_idle()
    }

    #[inline]
    fn max_usage(&self) -> u32 {
        self.ring.max_usage()
    }

    fn both<R>(&self, f: impl FnOnce(&mut Both<'_>) -> R) -> Result<R> {
        self.ring.both(Patience::Killable, f)
    }

    fn both_endlessly<R>(&self, f: impl FnOnce(&mut Both<'_>) -> R) -> Result<R> {
        self.ring.both(Patience::Endless, f)
    }

    fn try_both<R>(&self, f: impl FnOnce(&mut Both<'_>) -> R) -> Option<R> {
        self.ring.try_both(f)
    }

    fn resize(&self, both: &mut Both<'_>, slots: u32) -> Result {
        both.resize(slots)
    }

    fn clear(&self, both: &mut Both<'_>) {
        both.clear();
    }

    fn account(&self) -> Result<Account> {
        Account::open(&self.limits())
    }

    fn charge(&self, account: &Account) -> Result<Charge> {
        account.charge()
    }

    #[inline]
    fn slots(charge: &Charge) -> u32 {
        charge.pages()
    }

    #[inline]
    fn end(&self, charge: &mut Charge) -> Option<Idle> {
        self.edge_polled.store(0, Relaxed);
        charge.uncharge()
    }
}

/// Leaving, and paying.
impl Pipe {
    /// Takes a file away; with the last one goes what is inside.
    ///
    /// C: `put_pipe_info`.
    fn leave(&self) {
        let left = self.try_leave(self.rd_wait.lock(), InodeOfReleased::SHARED);
        self.finish_leaving(left);
    }

    #[inline]
    fn try_leave(&self, holders: Guard<'_, Holders>, inode: InodeOfReleased<'_>) -> Left<Idle> {
        holders::try_leave(self, holders, move || inode.goes())
    }

    #[inline]
    fn finish_leaving(&self, left: Left<Idle>) {
        let left = match left {
            Left::ToClear => holders::clear_in_turn(self),
            left => left,
        };
        if let Left::Nobody(idle) = left {
            id_table::remove(self);
            drop(idle);
        }
    }

    /// The limits that it is measured by.
    pub(super) fn limits(&self) -> Arc<Limits> {
        self.rd_wait.lock().charge.limits().clone()
    }

    /// Charges the user who pays for the pipe for so many pages. While both ends of the ring are claimed that user
    /// stays the same. Returns whether the user now exceeds a limit.
    pub(super) fn recharge(&self, pages: u32) -> bool {
        self.rd_wait.lock().charge.change(pages)
    }
}

/// The counts of files at either end.
impl Pipe {
    /// Whether somebody may read what is written.
    #[inline]
    pub(super) fn has_readers(&self) -> bool {
        self.readers.load(Relaxed) != 0
    }

    /// Whether somebody may write. If this returns false, a later look at the ring sees all that was written.
    ///
    /// So a reader asks this before it looks at the ring. If it looked at the ring first, a writer could write and
    /// close between the two: the reader would then report the end of file, and miss those bytes.
    #[inline]
    pub(super) fn has_writers(&self) -> bool {
        // Pairs with the release in `sub`.
        self.writers.load(Acquire) != 0
    }

    /// Increments a count that `rd_wait`'s lock guards. Returns the sum.
    fn add(_lock: &mut Guard<'_, Holders>, count: &Atomic<u32>) -> u32 {
        let sum = count.load(Relaxed).wrapping_add(1);
        count.store(sum, Relaxed);
        sum
    }

    /// Decrements a count that `rd_wait`'s lock guards. Returns the remaining count.
    fn sub(lock: &mut Guard<'_, Holders>, count: &Atomic<u32>) -> u32 {
        let left = count.load(Relaxed).wrapping_sub(1);
        Self::set(lock, count, left, false);
        left
    }

    /// Sets a count that `rd_wait`'s lock guards. `looks` must be true if the caller then tests `wr_wait` without its
    /// lock.
    #[inline]
    fn set(_lock: &mut Guard<'_, Holders>, count: &Atomic<u32>, left: u32, looks: bool) {
        // Pairs with the acquire in `has_writers`: a reader that sees the new count also sees all earlier writes.
        // `Full` pairs with the barrier in `Wait::announce` (src/abstractions/wait_queue/wait.rs), too: a writer that
        // queues itself after our test of the queue sees the new count.
        if looks {
            count.xchg(left, Full);
        } else {
            count.store(left, Release);
        }
    }

    /// Sleeps until somebody has opened the other end since, whether they are still there or not.
    ///
    /// No wake-up is lost between the look at the count and going to sleep: both happen under the lock, and a task that
    /// opens the other end holds it to change the count and to wake.
    ///
    /// C: `wait_for_partner`.
    fn wait_for_partner(holders: &mut Guard<'_, Holders>, counter: &Atomic<u32>) -> Result {
        let before = counter.load(Relaxed);
        let came = |_: &mut Holders| (counter.load(Relaxed) != before).then_some(());
        match holders.wait_until(&Wait::interruptible(), came) {
            Waited::Done(..) => Ok(()),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }

    /// Opens an end, or both. A refused or interrupted open undoes its counts, except `r_counter` and `w_counter`.
    fn open_ends(&self, opening: &Opening<'_>) -> Result {
        let mut holders = self.rd_wait.lock();
        match opening.access() {
            Access {
                read: true,
                write: false,
            } => {
                Self::add(&mut holders, &self.r_counter);
                if Self::add(&mut holders, &self.readers) == 1 {
                    holders.wake(&Wake::all());
                }
                if !self.is_fifo || self.has_writers() {
                    return Ok(());
                }
                if opening.is_nonblocking() {
                    // It is no hang-up as long as there never was a writer.
                    opening.set_mark(self.w_counter.load(Relaxed).into());
                    return Ok(());
                }
                Self::wait_for_partner(&mut holders, &self.w_counter).inspect_err(|_| {
                    if Self::sub(&mut holders, &self.readers) == 0 {
                        self.wr_wait.wake(&Wake::one());
                    }
                })
            }
            Access {
                read: false,
                write: true,
            } => {
                if self.is_fifo && opening.is_nonblocking() && !self.has_readers() {
                    return Err(ENXIO);
                }
                Self::add(&mut holders, &self.w_counter);
                if Self::add(&mut holders, &self.writers) == 1 {
                    holders.wake(&Wake::all());
                }
                if !self.is_fifo || self.has_readers() {
                    return Ok(());
                }
                Self::wait_for_partner(&mut holders, &self.r_counter).inspect_err(|_| {
                    if Self::sub(&mut holders, &self.writers) == 0 {
                        holders.wake(&Wake::all());
                    }
                })
            }
            Access {
                read: true,
                write: true,
            } => {
                // This never blocks: a task that has both ends can at least talk to itself.
                Self::add(&mut holders, &self.r_counter);
                Self::add(&mut holders, &self.w_counter);
                let first_reader = Self::add(&mut holders, &self.readers) == 1;
                let first_writer = Self::add(&mut holders, &self.writers) == 1;
                if first_reader || first_writer {
                    holders.wake(&Wake::all());
                }
                Ok(())
            }
            Access {
                read: false,
                write: false,
            } => Err(EINVAL),
        }
    }

    /// Closes an end, or both, and takes the file away. Wakes the tasks at the other end if nobody is left at this one.
    ///
    /// C: `pipe_release`.
    #[inline(always)]
    pub(super) fn close_ends(&self, access: Access, inode: InodeOfReleased<'_>) {
        let mut holders = self.rd_wait.lock();
        let readers = self.readers.load(Relaxed) - u32::from(access.read);
        let writers = self.writers.load(Relaxed) - u32::from(access.write);
        // Tasks at the other end must learn that nobody is left at this one.
        let alone = (readers == 0) != (writers == 0);
        if access.read {
            Self::set(&mut holders, &self.readers, readers, alone);
        }
        if access.write {
            Self::set(&mut holders, &self.writers, writers, alone);
        }
        if alone && self.rd_wait.is_active() {
            holders.wake(&Wake::all());
        }
        let left = self.try_leave(holders, inode);
        if alone {
            if self.wr_wait.is_active() {
                self.wr_wait.wake(&Wake::all());
            }
            self.fasync_readers.notify(Band::In);
            self.fasync_writers.notify(Band::Out);
        }
        self.finish_leaving(left);
    }
}
