// SPDX-License-Identifier: GPL-2.0

//! Wait queues: tasks that sleep until somebody wakes them, and pollers, on one queue.
//!
//! A [`WaitQueue`] is the kernel's `struct wait_queue_head`, so C code and this share it: entries of
//! poll, epoll and io_uring stand on it beside sleeping tasks, the walk of a wake-up calls them all,
//! and a walk by C code finds our tasks. Entries, wake functions, the walk and the wait loops are
//! written here.
//!
//! There are three ways to wait, which differ in what keeps a wake-up from being lost:
//!
//! - [`Guard::wait_until`]: the condition is about data that the queue's lock guards, as in
//!   `fs/eventfd.c`. Who changes it and wakes holds the lock, so that nothing can happen between the
//!   look at the condition and going to sleep.
//! - [`WaitQueue::wait_until`]: the condition is about anything else, for instance an atomic. The
//!   waiter is put on the queue, executes a full barrier, and looks; the waker changes, executes a
//!   full barrier, and looks whether anybody is on the queue ([`WaitQueue::is_active`]). At least one
//!   of the two sees what the other has done.
//! - [`Guard::sleep`]: there is no condition but the wake-up itself.
//!
//! To wake there is [`WaitQueue::wake`], and [`Guard::wake`] or [`Locked::wake`] for who has the lock already: it is
//! held, and interrupts are off, for as long as the walk takes. The kernel's own walk does the same: it once
//! paused every 64 entries, which let the queue change under it and was taken out again. See
//! docs/wait-queues.md for what that costs.
//!
//! C headers: [`include/linux/wait.h`](srctree/include/linux/wait.h).

mod boxed;
mod events;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod kunit;
mod listing;
mod wait;
mod wake;

pub(crate) use self::{
    boxed::WaitQueueBox,
    events::{PollEvent, PollEvents},
    listing::{Kind, Kinds},
    wait::{Deadline, Wait},
    wake::{Call, Report, StoppedBy, Verdict, Wake}, //
};

use self::wait::{Over, TaskEntry};
use crate::bindings;
use core::{
    cell::UnsafeCell,
    marker::PhantomPinned,
    ops::{Deref, DerefMut},
    pin::Pin,
    ptr, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{atomic_load, Relaxed},
        LockClassKey, //
    },
    task::might_sleep,
    types::{NotThreadSafe, Opaque}, //
};

/// Creates an initializer of a [`WaitQueue`], with a lock class of its own.
macro_rules! new_wait_queue {
    ($data:expr, $name:literal) => {
        $crate::abstractions::wait_queue::WaitQueue::new(
            $data,
            ::kernel::optional_name!($name),
            ::kernel::static_lock_class!(),
        )
    };
}
pub(crate) use new_wait_queue;

/// A wait queue head, and the data that those on the queue wait for.
///
/// Its end is no event for those on it: it has to live as long as a file that registers it with a poll
/// table, and [`PollTable::register`] accepts no other. A [`WaitQueueBox`] can end earlier.
///
/// [`PollTable::register`]: crate::abstractions::vfs::poll::PollTable::register
///
/// # Invariants
///
/// - `head` is an initialized `struct wait_queue_head`.
/// - `data` is accessed only while `head.lock` is held.
/// - Every entry on the queue has a wake function, which takes no other entry off.
/// - Every entry on the queue is taken off before its memory goes, and before the queue does: a task
///   that waits borrows the queue, and an entry that came through a poll table is gone when the file
///   that keeps the queue alive is released: `__fput` calls `eventpoll_release` before `release`, and
///   whoever else polls holds the file. So it needs no `POLLFREE`.
#[pin_data]
pub(crate) struct WaitQueue<T> {
    #[pin]
    head: Opaque<kernel::bindings::wait_queue_head>,
    /// Guarded by `head.lock`.
    data: UnsafeCell<T>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: A wait queue head may be used from any thread; `data` moves along, hence `T: Send`.
unsafe impl<T: Send> Send for WaitQueue<T> {}
// SAFETY: Shared references give access to `data` only under `head.lock`, so to one thread at a
// time, hence `T: Send`.
unsafe impl<T: Send> Sync for WaitQueue<T> {}

impl<T> WaitQueue<T> {
    /// Creates an initializer of a queue with nobody on it.
    pub(crate) fn new(
        data: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        // INVARIANT: The head is initialized, and there is no entry on it.
        pin_init!(Self {
            // SAFETY: `slot` is valid for writing and pinned; `name` and `key` are static.
            head <- Opaque::ffi_init(|slot| unsafe {
                kernel::bindings::__init_waitqueue_head(slot, name.as_char_ptr(), key.as_ptr())
            }),
            data: UnsafeCell::new(data),
            _pin: PhantomPinned,
        })
    }

    /// The C head, for code that puts entries on it.
    pub(super) fn as_raw(&self) -> *mut kernel::bindings::wait_queue_head {
        self.head.get()
    }

    fn lock_ptr(&self) -> *mut kernel::bindings::spinlock_t {
        // SAFETY: `head` is valid, and only the field's address is taken.
        unsafe { &raw mut (*self.head.get()).lock }
    }

    /// Whether anybody is on the queue.
    ///
    /// The lock is not needed. Without it a full barrier has to stand between the change that the
    /// waiters wait for and this: it pairs with the one in `Wait::announce` (wait.rs), and with the one
    /// in `poll_wait` (include/linux/poll.h).
    ///
    /// C: `waitqueue_active`.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        // SAFETY: The head is valid, and only the fields' addresses are taken.
        let (list, next) = unsafe {
            let list = &raw mut (*self.as_raw()).head;
            (list, &raw mut (*list).next)
        };
        // SAFETY: `next` is valid. Every store to it is a `WRITE_ONCE`, in `__list_add` and `__list_del`
        // (include/linux/list.h).
        let first = unsafe { atomic_load(next, Relaxed) };
        !ptr::eq(first, list)
    }

    /// Takes the queue's lock, with interrupts off until the guard is dropped.
    ///
    /// Context: any but NMI; while the guard lives the caller may not sleep, other than in the
    /// guard's own waiting methods.
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        // SAFETY: By the type invariants, the lock is initialized.
        unsafe { kernel::bindings::spin_lock_irq_disable(self.lock_ptr()) };
        // INVARIANT: The lock was just taken.
        Guard {
            queue: self,
            _not_send: NotThreadSafe,
        }
    }

    /// Runs `f` with the queue's lock held and interrupts off.
    ///
    /// It takes less than a [`Guard`]: whether interrupts were on is kept here, and not with a count of
    /// the processor's.
    ///
    /// Context: any but NMI; `f` may not sleep.
    #[inline(always)]
    pub(crate) fn locked<R: Send>(&self, f: impl FnOnce(&mut Locked<'_, T>) -> R + Send) -> R {
        // SAFETY: A guard is not `Send`, so that `f` neither brings one along nor returns one. One that it forgets leaves
        // that queue locked for good, and interrupts counted as off when they are not: a deadlock, as with any lock whose
        // guard is forgotten.
        unsafe { self.locked_unchecked(f) }
    }

    /// The same, for any `f`.
    ///
    /// # Safety
    ///
    /// `f` drops no [`Guard`] that it has not taken, and keeps none.
    #[inline(always)]
    unsafe fn locked_unchecked<R>(&self, f: impl FnOnce(&mut Locked<'_, T>) -> R) -> R {
        // SAFETY: By the type invariants, the lock is initialized.
        let flags = unsafe { bindings::spin_lock_irqsave(self.lock_ptr()) };
        // INVARIANT: The lock was just taken, and `f` has this only as long as it runs.
        let result = f(&mut Locked {
            queue: self,
            _not_send: NotThreadSafe,
        });
        // SAFETY: This thread took the lock the same way, and interrupts were as `flags` tells. As to the count of
        // those who have them off, it is what it was then, by the function's requirements.
        unsafe { bindings::spin_unlock_irqrestore(self.lock_ptr(), flags) };
        result
    }
}

/// The queue's lock, held for as long as a function runs: [`WaitQueue::locked`].
///
/// # Invariants
///
/// The lock of `queue` is held by this thread, with interrupts off.
pub(crate) struct Locked<'a, T> {
    queue: &'a WaitQueue<T>,
    _not_send: NotThreadSafe,
}

impl<T> Locked<'_, T> {
    /// As [`Guard::wake`]. Tells whether anybody was on the queue.
    #[inline]
    pub(crate) fn wake(&mut self, wake: &Wake) -> bool {
        // SAFETY: By the type invariants the lock is held, and interrupts are off.
        unsafe { self.queue.walk::<false>(wake) }.is_some()
    }

    /// As [`Guard::wake_and_report`].
    pub(crate) fn wake_and_report(&mut self, wake: &Wake) -> Report {
        // SAFETY: As in `wake`.
        unsafe { self.queue.walk::<true>(wake) }.unwrap_or_default()
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a wait may end without what was waited for"]
pub(crate) enum Waited<R> {
    /// The condition held, with what it gave; or the wake-up came.
    Done(R, TimeLeft),
    /// A signal is pending.
    Signal(PassedOn),
    /// The time was up.
    TimedOut(PassedOn),
}

/// The nanoseconds that were left of the time, if it was limited.
pub(crate) type TimeLeft = Option<u64>;

/// What passing on did: an exclusive wake-up took the task that left for another reason, and was
/// passed on to another one.
pub(crate) type PassedOn = Option<Report>;

/// The queue's lock, held: access to the data, and to those who wait.
///
/// # Invariants
///
/// The lock of `queue` is held by this thread, taken by `spin_lock_irq_disable`.
#[must_use = "the lock is released as soon as the guard is dropped"]
pub(crate) struct Guard<'a, T> {
    queue: &'a WaitQueue<T>,
    _not_send: NotThreadSafe,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants the lock is held, and `&self` keeps `&mut` away.
        unsafe { &*self.queue.data.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariants the lock is held, and `&mut self` is exclusive.
        unsafe { &mut *self.queue.data.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants, this thread holds the lock and took it the same way.
        unsafe { kernel::bindings::spin_unlock_irq_enable(self.queue.lock_ptr()) };
    }
}

impl<T> WaitQueue<T> {
    /// Sleeps until `condition` gives something, the time is up, or a signal is pending.
    ///
    /// `condition` is called around each sleep, without the lock, but sometimes with the task announced as
    /// sleeping: it may not sleep. A condition that holds is preferred to a signal. Even where it holds at
    /// once the task goes on the queue, so that the caller has a look of its own before.
    ///
    /// Whoever makes the condition true executes a full barrier after that and wakes if
    /// [`WaitQueue::is_active`].
    ///
    /// An exclusive wake-up that takes the task while it leaves for another reason is passed on.
    ///
    /// Context: process context; may sleep.
    ///
    /// C: `___wait_event` in `include/linux/wait.h`.
    #[inline]
    pub(crate) fn wait_until<R>(
        &self,
        wait: &Wait<'_>,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Waited<R> {
        might_sleep();
        let entry = TaskEntry::new(wait);
        let mut slept = false;
        let ended = loop {
            // Whether a wake-up that counts ended the last sleep. If the condition does not hold all the
            // same and the task leaves, that wake-up was for somebody else.
            let queue = |_: &mut Locked<'_, T>| {
                // SAFETY: The lock is held. The entry stays where it is, and `leave` takes it off.
                let off = unsafe {
                    let off = !slept || entry.is_off();
                    if off {
                        entry.enqueue(wait, self.as_raw());
                    }
                    off
                };
                // Queued, announced, and only then looked: a waker that changes and then looks finds
                // the entry, or has changed what is looked at here.
                wait.announce();
                slept && off && wait.is_exclusive()
            };
            // SAFETY: It has no guard.
            let taken = unsafe { self.locked_unchecked(queue) };
            if let Some(result) = condition() {
                wait.renounce();
                break Ok(result);
            }
            if let Some(over) = wait.over() {
                wait.renounce();
                break Err((over, taken));
            }
            wait.sleep();
            slept = true;
            // A task that was woken and finds what it waited for needs no lock, which the waker may
            // hold for some time yet. Nor does it go on the queue again before it has looked, where it
            // would take a second wake-up for one thing to be had.
            if let Some(result) = condition() {
                break Ok(result);
            }
        };
        // SAFETY: The entry was put on this queue.
        let off = unsafe { self.leave(&entry) };
        match ended {
            Ok(result) => Waited::Done(result, wait.left()),
            // The lock was free between the last look at the condition and leaving, and the task was
            // announced as sleeping: a wake-up may have taken it for a sleeper then, too.
            Err((over, taken)) if taken || off => self.lock().pass_on(over, wait, &entry),
            Err((over, _)) => over.into_waited(None),
        }
    }

    /// Takes the entry off the queue, so that its frame can go. Tells whether a wake-up had done so.
    ///
    /// C: `finish_wait`.
    ///
    /// # Safety
    ///
    /// The entry was put on this queue.
    unsafe fn leave(&self, entry: &TaskEntry<'_>) -> bool {
        // SAFETY: The lock is held, and the entry was put on this queue. There is no guard.
        entry.is_off_careful() || unsafe { self.locked_unchecked(|_| entry.dequeue()) }
    }

    /// Wakes those on the queue: see [`Guard::wake`].
    ///
    /// Context: any but NMI.
    ///
    /// C: `wake_up_poll` and its relatives in `include/linux/wait.h`.
    #[inline]
    pub(crate) fn wake(&self, wake: &Wake) {
        self.locked(|queue| {
            queue.wake(wake);
        });
    }

    /// Walks the queue for a wake-up. Gives nothing if nobody is on it.
    ///
    /// # Safety
    ///
    /// This thread holds the lock, with interrupts off.
    #[inline(always)]
    unsafe fn walk<const TELL: bool>(&self, wake: &Wake) -> Option<Report> {
        // SAFETY: The head is valid, its lock is held and interrupts are off. By the type invariants
        // each entry is valid, so its wake function may be called. None of them accesses `data`.
        unsafe { wake::walk::<TELL>(self.as_raw(), wake) }
    }
}

impl Over {
    fn into_waited<R>(self, passed_on: PassedOn) -> Waited<R> {
        match self {
            Self::Signal => Waited::Signal(passed_on),
            Self::TimedOut => Waited::TimedOut(passed_on),
        }
    }
}

impl<'a, T> Guard<'a, T> {
    /// Wakes those on the queue: every entry that is not exclusive, and as many exclusive ones as
    /// `wake` says.
    ///
    /// Context: any that the lock could be taken in.
    ///
    /// C: `wake_up_locked_poll` and its relatives in `include/linux/wait.h`.
    #[inline]
    pub(crate) fn wake(&mut self, wake: &Wake) {
        // SAFETY: By the type invariants the lock is held, and interrupts are off.
        unsafe { self.queue.walk::<false>(wake) };
    }

    /// As [`Guard::wake`], and tells what came of it.
    pub(crate) fn wake_and_report(&mut self, wake: &Wake) -> Report {
        // SAFETY: As in `wake`.
        unsafe { self.queue.walk::<true>(wake) }.unwrap_or_default()
    }

    /// Sleeps until `condition` gives something, the time is up, or a signal is pending.
    ///
    /// `condition` runs with the lock held, first at once and then after each wake-up; the lock is
    /// dropped only to sleep. A condition that holds is preferred to a pending signal.
    ///
    /// An exclusive wake-up that took the task without the condition being met is passed on if the
    /// task leaves then.
    ///
    /// Context: process context; the caller holds no other lock and may sleep.
    ///
    /// C: `wait_event_interruptible_locked_irq` in `include/linux/wait.h`.
    pub(crate) fn wait_until<R>(
        &mut self,
        wait: &Wait<'_>,
        mut condition: impl FnMut(&mut T) -> Option<R>,
    ) -> Waited<R> {
        if let Some(result) = condition(self) {
            return Waited::Done(result, wait.left());
        }
        let entry = TaskEntry::new(wait);
        let mut slept = false;
        // As in `WaitQueue::wait_until`.
        let mut taken = false;
        let ended = loop {
            // SAFETY: The lock is held. The entry stays where it is, and is taken off below.
            unsafe {
                if !slept || entry.is_off() {
                    entry.enqueue(wait, self.queue.as_raw());
                }
            }
            // Before the lock is dropped: a waker, who takes the lock after that, finds the entry and
            // makes the task runnable again, and `sleep` does not sleep.
            wait.announce();
            if let Some(over) = wait.over() {
                wait.renounce();
                break Err(over);
            }
            self.unlocked(|| wait.sleep());
            slept = true;
            // SAFETY: The lock is held.
            taken = unsafe { entry.is_off() };
            if let Some(result) = condition(self) {
                break Ok(result);
            }
        };
        // SAFETY: The lock is held, and the entry was put on this queue.
        unsafe { entry.dequeue() };
        match ended {
            Ok(result) => Waited::Done(result, wait.left()),
            Err(over) if taken => self.pass_on(over, wait, &entry),
            Err(over) => over.into_waited(None),
        }
    }

    /// Sleeps until a wake-up takes the task, the time is up, or a signal is pending. Drops the lock.
    ///
    /// What the caller has looked at under the lock is as it was when the task was put on the queue.
    ///
    /// Context: process context; the caller holds no other lock and may sleep.
    ///
    /// C: `prepare_to_wait_event`, `schedule`, `finish_wait`.
    pub(crate) fn sleep(mut self, wait: &Wait<'_>) -> Waited<()> {
        let entry = TaskEntry::new(wait);
        // SAFETY: The lock is held. The entry stays where it is, and is taken off below.
        unsafe { entry.enqueue(wait, self.queue.as_raw()) };
        let queue = self.queue;
        let over = loop {
            // As in `wait_until`.
            wait.announce();
            if let Some(over) = wait.over() {
                break over;
            }
            drop(self);
            wait.sleep();
            // A task that was woken needs no lock, which the waker may hold for some time yet.
            if entry.is_off_careful() {
                return Waited::Done((), wait.left());
            }
            self = queue.lock();
            // SAFETY: The lock is held.
            if unsafe { entry.is_off() } {
                return Waited::Done((), wait.left());
            }
        };
        // With the lock held nothing can come between the decision and leaving, unless that is what
        // one wants to study.
        if wait.lingers() {
            self.unlocked(|| wait.linger_now());
        }
        wait.renounce();
        // SAFETY: The lock is held, and the entry was put on this queue.
        if unsafe { entry.dequeue() } {
            self.pass_on(over, wait, &entry)
        } else {
            over.into_waited(None)
        }
    }

    /// The task leaves though a wake-up took it. One that counts exclusive sleepers has woken one less
    /// than it meant to, so that it is passed on; from another, nobody has lost anything.
    fn pass_on<R>(&mut self, over: Over, wait: &Wait<'_>, entry: &TaskEntry<'_>) -> Waited<R> {
        let owed = entry.owed().filter(|_| wait.is_exclusive());
        over.into_waited(owed.map(|wake| self.wake_and_report(&wake)))
    }

    /// Runs `f` with the lock dropped.
    fn unlocked(&mut self, f: impl FnOnce()) {
        // SAFETY: By the type invariants this thread holds the lock and took it the same way. It is
        // not held when it is taken again, and the guard is not used meanwhile.
        unsafe {
            kernel::bindings::spin_unlock_irq_enable(self.queue.lock_ptr());
            f();
            kernel::bindings::spin_lock_irq_disable(self.queue.lock_ptr());
        }
    }
}
