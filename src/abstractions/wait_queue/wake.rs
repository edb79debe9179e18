// SPDX-License-Identifier: GPL-2.0

//! Waking: the walk along a queue, and what a wake function is told.

use super::{
    events::PollEvents,
    wait::{self, TaskEntry}, //
};
use crate::bindings;
use core::{
    ffi::c_void,
    marker::PhantomData,
    ptr, //
};
use kernel::{
    container_of,
    prelude::*,
    task::{Pid, TASK_NORMAL}, //
};

/// The waker is about to sleep: the woken task need not preempt it, nor be moved to another CPU.
///
/// The scheduler keeps this value to itself (`WF_SYNC` in `kernel/sched/sched.h`) and takes it from
/// whoever calls a wake function. Kbuild compares it with the source, where there is one.
const WF_SYNC: c_int = 0x10;

/// A wake-up: what it is about, and whom it wants.
///
/// C: the arguments of `__wake_up` and its relatives in `kernel/sched/wait.c`.
#[derive(Clone, Copy)]
pub(crate) struct Wake {
    key: PollEvents,
    nr_exclusive: u32,
    exclusive_only: bool,
    flags: c_int,
}

impl Wake {
    /// Wakes every entry that is not exclusive, and one that is.
    pub(crate) const fn one() -> Self {
        Self::nr(1)
    }

    /// Wakes every entry that is not exclusive, and all that are.
    pub(crate) const fn all() -> Self {
        Self::nr(0)
    }

    /// Wakes every entry that is not exclusive, and `nr_exclusive` that are; 0 stands for all.
    pub(crate) const fn nr(nr_exclusive: u32) -> Self {
        Self {
            key: PollEvents::empty(),
            nr_exclusive,
            exclusive_only: false,
            flags: 0,
        }
    }

    /// Wakes one exclusive entry, in place of another that an earlier wake-up took in vain. The others
    /// were all called by that one. To be reported on: without that, all are called.
    pub(super) const fn one_more() -> Self {
        let mut wake = Self::one();
        wake.exclusive_only = true;
        wake
    }

    /// Whether it counts the exclusive entries that it wakes.
    pub(super) const fn counts(&self) -> bool {
        self.nr_exclusive != 0
    }

    /// Says what happened. Every entry is called all the same: its wake function judges the key.
    #[inline]
    pub(crate) fn key(self, key: impl Into<PollEvents>) -> Self {
        Self {
            key: key.into(),
            ..self
        }
    }

    /// Says that the waker is about to sleep.
    pub(crate) fn sync(self) -> Self {
        Self {
            flags: self.flags | WF_SYNC,
            ..self
        }
    }
}

/// What a wake-up did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The entries that the walk came to.
    pub(crate) walked: u32,
    /// The wake functions that it called: those of all of them, but for a wake-up that is passed on,
    /// which goes to exclusive entries only.
    pub(crate) called: u32,
    /// The functions that said they woke somebody.
    pub(crate) woken: u32,
    /// Of these, those of exclusive entries.
    pub(crate) exclusive: u32,
    /// Why the walk ended.
    pub(crate) stopped_by: StoppedBy,
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum StoppedBy {
    /// It came to the end of the queue.
    #[default]
    End,
    /// As many exclusive entries were woken as it wanted.
    Quota,
    /// A wake function said so.
    Entry,
}

/// One call of a task's wake function, as the function sees it.
///
/// # Invariants
///
/// `sleeper` is valid for `'a`.
pub(crate) struct Call<'a> {
    pub(super) key: PollEvents,
    progress: Option<Report>,
    /// The task whose entry it is. It sleeps, or is about to.
    sleeper: *mut kernel::bindings::task_struct,
    _call: PhantomData<&'a ()>,
}

/// What a wake function decides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on with the next entry; this one stays where it is.
    #[cfg_attr(
        not(CONFIG_KUNIT = "y"),
        expect(dead_code, reason = "no object refuses a wake-up yet")
    )]
    Ignore,
    /// Wake the task, and take its entry off the queue.
    Wake,
    /// End the walk; this entry stays where it is.
    #[cfg_attr(
        not(CONFIG_KUNIT = "y"),
        expect(dead_code, reason = "no object ends a walk yet")
    )]
    Stop,
}

/// A wake function of one's own, for a wait that decides itself which wake-ups it takes.
///
/// It runs on the waker's CPU with the queue's lock held and interrupts off: it may not sleep, nor
/// touch the queue.
pub(crate) type WakeFunction<'a> = dyn Fn(&Call<'_>) -> Verdict + Sync + 'a;

impl Call<'_> {
    /// The key of the wake-up; empty if it has none.
    pub(crate) fn key(&self) -> PollEvents {
        self.key
    }

    /// What the walk will have done if this call wakes its task, up to here; none if nobody asked for a
    /// report.
    pub(crate) fn progress(&self) -> Option<Report> {
        self.progress
    }

    /// Process and thread of the waker, numbered as the woken task sees them: 0 if it cannot see
    /// them, or if it is an interrupt that wakes.
    pub(crate) fn waker(&self) -> (Pid, Pid) {
        // SAFETY: No requirements.
        if !unsafe { bindings::in_task() } {
            return (0, 0);
        }
        // SAFETY: The current task is valid, and so is the sleeper, by the type invariants. It has not
        // returned from its wait, so that it has a PID namespace.
        unsafe {
            let waker = kernel::bindings::get_current();
            let ns = kernel::bindings::task_active_pid_ns(self.sleeper);
            (
                bindings::task_tgid_nr_ns(waker, ns),
                bindings::task_pid_nr_ns(waker, ns),
            )
        }
    }
}

/// Calls the wake functions along a queue, from its head on.
///
/// Non-exclusive entries are all called. The walk ends when as many exclusive ones as it wanted say
/// they were woken, or when a function says so by a negative value. A task that was made runnable by
/// somebody else in the meantime says it was not woken, and the walk goes on to the next.
///
/// Gives nothing if nobody is on the queue. Without `TELL` the report says nothing else.
///
/// C: `__wake_up_common` in `kernel/sched/wait.c`.
///
/// # Safety
///
/// - `head` is a valid, initialized wait queue head, whose lock this thread holds, interrupts off.
/// - Each entry on it is valid and has a wake function, which may be called and takes no other entry off
///   the queue.
#[inline(always)]
pub(super) unsafe fn walk<const TELL: bool>(
    head: *mut kernel::bindings::wait_queue_head,
    wake: &Wake,
) -> Option<Report> {
    let mut report = Report::default();
    let mut left = wake.nr_exclusive;
    // The key travels as a pointer: `poll_to_key`.
    let key: *mut c_void = ptr::without_provenance_mut(wake.key.bits() as usize);
    // SAFETY: `head` is valid.
    let list = unsafe { &raw mut (*head).head };
    // SAFETY: The list is initialized.
    let mut next = unsafe { (*list).next };
    if ptr::eq(next, list) {
        return None;
    }
    // aio and io_uring may answer a wake-up by signaling an eventfd, which may wake others, and so on until the
    // stack is gone. `in_eventfd` tells them to put it off, as in fs/eventfd.c. It is cleared
    // in the end, so `TaskEntry::ask` sets it anew for the walk that a wake function was called by.
    //
    // SAFETY: The current task may set its own mark.
    unsafe { bindings::set_in_eventfd(true) };
    while !ptr::eq(next, list) {
        // SAFETY: `next` is not the head, so that it is the link of a valid entry.
        let entry = unsafe { container_of!(next, kernel::bindings::wait_queue_entry, entry) };
        // What is needed of the entry is read first: its function may take it off the queue, and
        // its owner, on another CPU, free it at once.
        //
        // SAFETY: As above. By the function's requirements, it has a wake function.
        let (flags, function) = unsafe {
            next = (*next).next;
            ((*entry).flags, (*entry).func.unwrap_unchecked())
        };
        let exclusive = flags & kernel::bindings::WQ_FLAG_EXCLUSIVE != 0;
        if TELL {
            report.walked += 1;
            if wake.exclusive_only && !exclusive {
                continue;
            }
            report.called += 1;
        }

        // A wake-up that counts, and has nothing to tell, is to our entries what one by C code is.
        let ret = if (TELL || !wake.counts()) && wait::is_ours(function) {
            let progress = || TELL.then(|| report.after_waking(exclusive, wake));
            // SAFETY: This function is that of `TaskEntry`s only. The lock is held.
            unsafe {
                TaskEntry::wake(
                    entry,
                    TASK_NORMAL,
                    wake.flags,
                    wake.key,
                    wake.counts(),
                    progress,
                )
            }
        } else {
            // SAFETY: By the function's requirements, the wake function may be called; these are
            // the arguments that the C walk would pass.
            unsafe { function(entry, TASK_NORMAL, wake.flags, key) }
        };

        if ret < 0 {
            report.stopped_by = StoppedBy::Entry;
            break;
        }
        if TELL && ret > 0 {
            report = report.after_waking(exclusive, wake);
        }
        if exclusive && ret > 0 {
            // 0, which stands for all, is never reached.
            left = left.wrapping_sub(1);
            if left == 0 {
                break;
            }
        }
    }
    // SAFETY: As above.
    unsafe { bindings::set_in_eventfd(false) };
    Some(report)
}

impl Report {
    /// The report, once one more was woken.
    #[inline]
    fn after_waking(mut self, exclusive: bool, wake: &Wake) -> Self {
        self.woken += 1;
        if exclusive {
            self.exclusive += 1;
            if self.exclusive == wake.nr_exclusive {
                self.stopped_by = StoppedBy::Quota;
            }
        }
        self
    }
}

impl<'a> Call<'a> {
    /// The call that a walk makes.
    ///
    /// # Safety
    ///
    /// `sleeper` is a task that cannot end for `'a`.
    pub(super) unsafe fn new(
        key: PollEvents,
        progress: Option<Report>,
        sleeper: *mut kernel::bindings::task_struct,
    ) -> Self {
        // INVARIANT: By the function's requirements.
        Self {
            key,
            progress,
            sleeper,
            _call: PhantomData,
        }
    }
}
