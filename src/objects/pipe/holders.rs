// SPDX-License-Identifier: GPL-2.0

//! Who has a pipe open, and pays for it.
//!
//! Each open file is one of the pipe's *holders*, whichever ends it opened. The first holder of a FIFO begins
//! a life of it: the ring is empty, and has the capacity that this holder's user is charged for. The last one
//! ends that life: what is inside goes, and nobody is charged any more. A pipe without a name has one life only.
//!
//! Beside that there is a count of files for each end, which tells those at the other end whether to wait.
//!
//! Original: `fifo_open`, `pipe_release` and `put_pipe_info` in `fs/pipe.c`, fifo(7).

use super::{
    limits::{Account, Charge, Idle, Limits, DEFAULT_PAGES},
    Pipe, //
};
use crate::abstractions::{
    memory::page_ring::{Both, Patience},
    tables::id_table,
    vfs::{
        fasync::Band,
        file::{Access, InodeOfReleased},
        open::{Openable, Opening}, //
    },
    wait_queue::{Guard, Wait, Waited, Wake}, //
};
use core::mem::swap;
use kernel::{
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        Arc, //
    },
};

/// Who has a pipe open, and pays for it.
pub(super) struct Holders {
    /// How many files there are. With none nobody pays for it, and nothing is in it.
    pub(super) files: u32,
    /// What the pipe's capacity counts for, against the limits of who made it, or opened it first.
    pub(super) charge: Charge,
}

/// What is left when a file is taken away.
enum Left {
    /// Others have it open, too.
    Others,
    /// Nobody has, nor is anything inside.
    Nobody(Option<Idle>),
    /// It was not taken away: it is the last one, and there may be something inside.
    ToClear,
}

impl Openable for Pipe {
    const DIRECT: bool = true;

    fn open(&self, opening: &Opening<'_>) -> Result {
        self.join()?;
        self.open_ends(opening).inspect_err(|_| self.leave())
    }
}

/// The count of holders.
impl Pipe {
    /// Adds a file. The first one of a FIFO starts it anew: with nothing inside, and a capacity that counts
    /// for the user who opens it.
    ///
    /// C: the beginning of `fifo_open`.
    fn join(&self) -> Result {
        {
            let mut holders = self.rd_wait.lock();
            if holders.files > 0 {
                holders.files += 1;
                return Ok(());
            }
        }
        let account = Account::open(&self.limits())?;
        // Both the task that clears the ring and the task that starts it anew hold both claims, so neither can interrupt
        // the other.
        self.ring.both(Patience::Killable, |both| {
            let mut charge = account.charge()?;
            if self.rd_wait.lock().files == 0 && charge.pages() != self.ring.max_usage() {
                both.resize(charge.pages())?;
            }
            let mut holders = self.rd_wait.lock();
            holders.files += 1;
            if holders.files == 1 {
                swap(&mut holders.charge, &mut charge);
            }
            drop(holders);
            Ok(())
        })?
    }

    /// Takes a file away; with the last one goes what is inside.
    ///
    /// C: `put_pipe_info`.
    fn leave(&self) {
        let left = self.try_leave(self.rd_wait.lock(), InodeOfReleased::SHARED);
        self.finish_leaving(left);
    }

    /// Takes a file away, unless that is the last one and somebody is at the ring.
    #[inline]
    fn try_leave(&self, mut holders: Guard<'_, Holders>, inode: InodeOfReleased<'_>) -> Left {
        if holders.files > 1 {
            holders.files -= 1;
            return Left::Others;
        }
        // Nobody else has it open. A task that is just opening it either has the claims already, or finds that there is
        // no file.
        if self.ring.is_pristine() && self.ring.max_usage() <= DEFAULT_PAGES {
            return Left::Nobody(self.end(&mut holders));
        }
        self.try_clear(holders, inode)
    }

    #[inline(never)]
    fn try_clear(&self, mut holders: Guard<'_, Holders>, inode: InodeOfReleased<'_>) -> Left {
        // Without an inode nobody can open it, and an empty ring's memory is freed with the ring.
        if self.ring.is_idle() && self.ring.max_usage() <= DEFAULT_PAGES && inode.goes() {
            return Left::Nobody(self.end(&mut holders));
        }
        let left = self.ring.try_both(|both| self.clear(both, holders));
        left.unwrap_or(Left::ToClear)
    }

    /// The last file is gone. Gives the user to be forgotten, if it is one.
    #[inline]
    fn end(&self, holders: &mut Guard<'_, Holders>) -> Option<Idle> {
        holders.files = 0;
        self.edge_polled.store(0, Relaxed);
        holders.charge.uncharge()
    }

    #[inline]
    fn finish_leaving(&self, left: Left) {
        let left = match left {
            Left::ToClear => self.wait_to_clear(),
            left => left,
        };
        if let Left::Nobody(idle) = left {
            id_table::remove(self);
            drop(idle);
        }
    }

    #[cold]
    fn wait_to_clear(&self) -> Left {
        let left = self.ring.both(Patience::Endless, |both| {
            self.clear(both, self.rd_wait.lock())
        });
        // Nothing ends that wait.
        left.unwrap_or(Left::Others)
    }

    /// Takes a file away, with what is inside if it is the last one.
    fn clear(&self, both: &mut Both<'_>, mut holders: Guard<'_, Holders>) -> Left {
        if holders.files > 1 {
            holders.files -= 1;
            return Left::Others;
        }
        let idle = self.end(&mut holders);
        drop(holders);
        both.clear();
        if self.ring.max_usage() > DEFAULT_PAGES {
            // What it was enlarged to nobody pays for any more. It does no harm if this fails.
            let _ = both.resize(DEFAULT_PAGES);
        }
        Left::Nobody(idle)
    }

    /// The limits that it is measured by.
    pub(super) fn limits(&self) -> Arc<Limits> {
        self.rd_wait.lock().charge.limits().clone()
    }

    /// Charges the user who pays for the pipe for so many pages. While both ends of the ring are claimed that user
    /// stays the same. Returns whether the user exceeds a limit then.
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

    /// Whether somebody may write. If not, who looks at the ring after this sees all that was written.
    ///
    /// The other way around a last write, and the end of its writer, could come between the two looks, and
    /// a reader would take what it has not seen for the end.
    #[inline]
    pub(super) fn has_writers(&self) -> bool {
        // Pairs with the release in `sub`.
        self.writers.load(Acquire) != 0
    }

    /// Adds to one of the counts that `rd_wait`'s lock guards. Gives the sum.
    fn add(_lock: &mut Guard<'_, Holders>, count: &Atomic<u32>) -> u32 {
        let sum = count.load(Relaxed).wrapping_add(1);
        count.store(sum, Relaxed);
        sum
    }

    /// Takes one from one of the counts that `rd_wait`'s lock guards. Gives what is left.
    fn sub(lock: &mut Guard<'_, Holders>, count: &Atomic<u32>) -> u32 {
        let left = count.load(Relaxed).wrapping_sub(1);
        Self::set(lock, count, left, false);
        left
    }

    /// Sets one of the counts that `rd_wait`'s lock guards. Who then looks without `wr_wait`'s lock whether
    /// anybody is on that queue has to say so.
    #[inline]
    fn set(_lock: &mut Guard<'_, Holders>, count: &Atomic<u32>, left: u32, looks: bool) {
        // Pairs with the acquire in `has_writers`: who sees it sees what was written before. Full, it pairs with the
        // barrier in `Wait::announce` (src/abstractions/wait_queue/wait.rs), too: who is put on the queue after
        // the look sees it.
        if looks {
            count.xchg(left, Full);
        } else {
            count.store(left, Release);
        }
    }

    /// Sleeps until somebody has opened the other end since, whether they are still there or not.
    ///
    /// Nothing is lost between the look at the count and going to sleep: both are under the lock that who
    /// opens holds to change the count and to wake.
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

    /// Opens an end, or both. What is refused or interrupted leaves no count behind, but that somebody came.
    ///
    /// C: `fifo_open`.
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
                // This never blocks: whoever has both ends can at least talk to itself.
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

    /// Closes an end, or both, and takes the file away. Tells those on the other side if nobody is left on this
    /// one.
    ///
    /// C: `pipe_release`.
    #[inline(always)]
    pub(super) fn close_ends(&self, access: Access, inode: InodeOfReleased<'_>) {
        let mut holders = self.rd_wait.lock();
        let readers = self.readers.load(Relaxed) - u32::from(access.read);
        let writers = self.writers.load(Relaxed) - u32::from(access.write);
        // Who is at the other end, and alone now, has to hear of it.
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
