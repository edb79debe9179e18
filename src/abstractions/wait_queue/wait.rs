// SPDX-License-Identifier: GPL-2.0

//! Waiting: a task's entry, its wake function, and how a wait is described.

use super::{
    events::PollEvents,
    wake::{Call, Report, Verdict, Wake, WakeFunction}, //
};
use crate::bindings;
use core::{
    ffi::c_void,
    ptr, //
};
use kernel::{
    bindings::{list_head, wait_queue_entry, wait_queue_head},
    prelude::*,
    processor::cpu_relax,
    sync::atomic::{Atomic, Relaxed},
    types::Opaque, //
};

/// A moment on `CLOCK_MONOTONIC`, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(i64);

impl Deadline {
    /// The present.
    pub(crate) fn now() -> Self {
        // SAFETY: It may be called in any context but NMI.
        Self(unsafe { kernel::bindings::ktime_get() })
    }

    /// In so many nanoseconds.
    pub(crate) fn after(nanoseconds: u64) -> Self {
        Self::now().plus(nanoseconds)
    }

    /// When the clock reads so many nanoseconds for the current task, whose time namespace may shift it.
    ///
    /// C: `timens_ktime_to_host` in `include/linux/time_namespace.h`.
    pub(crate) fn at(nanoseconds: u64) -> Self {
        let reading = i64::try_from(nanoseconds).unwrap_or(i64::MAX);
        Self(reading.saturating_sub(Self::offset()))
    }

    /// So many nanoseconds later.
    pub(crate) fn plus(self, nanoseconds: u64) -> Self {
        Self(self.0.saturating_add_unsigned(nanoseconds))
    }

    /// By how much the current task's time namespace shifts the clock. A task that has left its namespaces, late in
    /// its exit, has the clock as it is.
    fn offset() -> i64 {
        // SAFETY: No requirements.
        unsafe { bindings::timens_monotonic_offset() }
    }

    /// What the clock reads then for the current task.
    pub(crate) fn reading(self) -> u64 {
        self.0
            .saturating_add(Self::offset())
            .try_into()
            .unwrap_or(0)
    }

    /// The nanoseconds from `earlier` on; 0 if it is not earlier.
    pub(crate) fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0).try_into().unwrap_or(0)
    }
}

/// How to wait: what ends the sleep, where on the queue, and which wake-ups count.
///
/// Unless told otherwise a wait is not exclusive, and stands at the head of the queue, behind those
/// with priority.
#[derive(Clone, Copy)]
pub(crate) struct Wait<'a> {
    state: c_uint,
    flags: u32,
    at_tail: bool,
    mask: PollEvents,
    deadline: Option<Deadline>,
    function: Option<&'a WakeFunction<'a>>,
    stamped: bool,
    linger: u64,
}

impl<'a> Wait<'a> {
    const fn new(state: u32) -> Self {
        Self {
            state,
            flags: 0,
            at_tail: false,
            mask: PollEvents::empty(),
            deadline: None,
            function: None,
            stamped: false,
            linger: 0,
        }
    }

    /// Any signal ends the sleep.
    pub(crate) const fn interruptible() -> Self {
        Self::new(kernel::bindings::TASK_INTERRUPTIBLE)
    }

    /// Only a signal that ends the process does.
    pub(crate) const fn killable() -> Self {
        Self::new(kernel::bindings::TASK_KILLABLE)
    }

    /// No signal does.
    pub(crate) const fn uninterruptible() -> Self {
        Self::new(kernel::bindings::TASK_UNINTERRUPTIBLE)
    }

    /// Does not hinder the system from being suspended; whoever waits so holds no lock.
    pub(crate) const fn freezable(mut self) -> Self {
        self.state |= kernel::bindings::TASK_FREEZABLE;
        self
    }

    /// At the tail of the queue, as one of those that a wake-up counts. Without priority they are
    /// woken in order of arrival.
    pub(crate) const fn exclusive(mut self) -> Self {
        self.flags |= kernel::bindings::WQ_FLAG_EXCLUSIVE;
        self
    }

    /// At the head of the queue, behind those that came before with priority.
    pub(crate) const fn priority(mut self) -> Self {
        self.flags |= kernel::bindings::WQ_FLAG_PRIORITY;
        self
    }

    /// At the tail of the queue though not exclusive, as in `wait_event_interruptible_locked_irq`.
    pub(crate) const fn at_tail(mut self) -> Self {
        self.at_tail = true;
        self
    }

    /// Leaves out wake-ups whose key has nothing of `mask`; a wake-up without a key counts.
    pub(crate) const fn mask(mut self, mask: PollEvents) -> Self {
        self.mask = mask;
        self
    }

    /// Until `deadline`; without one for as long as it takes.
    pub(crate) const fn until(mut self, deadline: Option<Deadline>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Lets `function` decide which wake-ups to take.
    pub(crate) const fn function(mut self, function: &'a WakeFunction<'a>) -> Self {
        self.function = Some(function);
        self
    }

    /// Notes the time, for who lists the queue.
    pub(crate) const fn stamped(mut self) -> Self {
        self.stamped = true;
        self
    }

    /// To study a race in [`Guard::sleep`](super::Guard::sleep): stay on the queue for so many
    /// nanoseconds once the time is up or a signal has come, where a wake-up still takes the task for a
    /// sleeper.
    pub(crate) const fn linger(mut self, nanoseconds: u64) -> Self {
        self.linger = nanoseconds;
        self
    }

    pub(super) fn is_exclusive(&self) -> bool {
        self.flags & kernel::bindings::WQ_FLAG_EXCLUSIVE != 0
    }

    fn is_at_head(&self) -> bool {
        let priority = self.flags & kernel::bindings::WQ_FLAG_PRIORITY != 0;
        !self.at_tail && (priority || !self.is_exclusive())
    }

    pub(super) fn lingers(&self) -> bool {
        self.linger != 0
    }

    /// What is left of the time.
    pub(super) fn left(&self) -> Option<u64> {
        Some(self.deadline?.since(Deadline::now()))
    }

    /// Whether the sleep is over, wake-up or not. When the time is up and a signal is pending, it is
    /// the time that counts.
    pub(super) fn over(&self) -> Option<Over> {
        if self.deadline.is_some_and(|at| at <= Deadline::now()) {
            return Some(Over::TimedOut);
        }
        // SAFETY: No requirements.
        let signal = unsafe { bindings::signal_pending_state(self.state) } != 0;
        signal.then_some(Over::Signal)
    }

    pub(super) fn linger_now(&self) {
        let end = Deadline::after(self.linger);
        while Deadline::now() < end {
            cpu_relax();
        }
    }

    /// Announces that the current task means to sleep. What is looked at afterwards is looked at
    /// after that, and after whatever was put on a queue: a full barrier.
    ///
    /// It pairs with the full barrier between a waker's change and its look at the queue (if there is no lock, the one
    /// in `change_unlocked`, src/algorithms/counter.rs, or in `Word::update`, src/algorithms/ring.rs), and with the one in
    /// `try_to_wake_up` (kernel/sched/core.c) between a signal and its look at the state.
    pub(super) fn announce(&self) {
        // SAFETY: The current task may set its own state.
        unsafe { bindings::set_current_state(self.state) };
    }

    /// Takes that back: the current task does not mean to sleep. Who has slept need not say so.
    pub(super) fn renounce(&self) {
        // SAFETY: The current task may set its own state.
        unsafe { bindings::__set_current_state(kernel::bindings::TASK_RUNNING) };
    }

    /// Sleeps, unless the task was made runnable since it announced that.
    ///
    /// Context: may sleep.
    pub(super) fn sleep(&self) {
        sleep(self.deadline, self.state);
    }
}

/// Why a sleep is over though nobody woke the task.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Signal,
    TimedOut,
}

/// Sleeps until the task is made runnable, or the deadline has passed; tells whether it has.
///
/// This is where every waiting task is found, so its name is one that people can read in
/// `/proc/PID/wchan` and in the output of ps. What it gives keeps it on the stack meanwhile: without that,
/// `schedule` would be called in its place.
#[export_name = "ipcdemo_wait_event"]
#[inline(never)]
fn sleep(deadline: Option<Deadline>, state: u32) -> bool {
    let Some(Deadline(mut expires)) = deadline else {
        // SAFETY: It asks for nothing but that sleeping is allowed; where it is not, the scheduler says so.
        unsafe { kernel::bindings::schedule() };
        return false;
    };
    // Whoever can be interrupted may also choose by prctl(2) how late its timers may be, but what
    // only a deadline ends has to end then.
    const SIGNALS: u32 = kernel::bindings::TASK_INTERRUPTIBLE | kernel::bindings::TASK_WAKEKILL;
    let slack = if state & SIGNALS != 0 {
        // SAFETY: The current task is valid, and only it changes its slack.
        unsafe { (*kernel::bindings::get_current()).timer_slack_ns }
    } else {
        0
    };
    // SAFETY: `expires` is valid for the call. The rest as above.
    let ret = unsafe {
        kernel::bindings::schedule_hrtimeout_range(
            &mut expires,
            slack,
            kernel::bindings::hrtimer_mode_HRTIMER_MODE_ABS,
        )
    };
    ret == 0
}

/// The entry of a task that waits, on its stack.
///
/// # Invariants
///
/// - `raw` is the first field of this `repr(C)` struct, its function is [`wake_function`] and its
///   `private` the task that waits.
/// - Once [`TaskEntry::enqueue`] was called, `raw.entry` is on the queue that was passed to it or linked
///   to itself, and changes under that queue's lock only.
/// - While it is on a queue, it stays where it is and the task does not return from its wait.
#[repr(C)]
pub(super) struct TaskEntry<'a> {
    /// Reached by [`TaskEntry::as_raw`] only.
    raw: Opaque<wait_queue_entry>,
    mask: PollEvents,
    since: Option<Deadline>,
    function: Option<&'a WakeFunction<'a>>,
    /// The key of the last wake-up that found it, and whether that counts exclusive entries. Written
    /// with the queue's lock held; read after a wake-up took the entry, which orders the two.
    key: Atomic<u32>,
    counted: Atomic<bool>,
}

impl<'a> TaskEntry<'a> {
    /// The current task's entry, on no queue yet.
    pub(super) fn new(wait: &Wait<'a>) -> Self {
        // INVARIANT: `enqueue` was not called.
        Self {
            raw: Opaque::new(wait_queue_entry {
                flags: wait.flags,
                // SAFETY: No requirements.
                private: unsafe { kernel::bindings::get_current() }.cast(),
                func: Some(wake_function),
                entry: list_head {
                    next: ptr::null_mut(),
                    prev: ptr::null_mut(),
                },
            }),
            mask: wait.mask,
            since: wait.stamped.then(Deadline::now),
            function: wait.function,
            key: Atomic::new(0),
            counted: Atomic::new(false),
        }
    }

    /// The part that C code sees, with the right to the whole.
    fn as_raw(&self) -> *mut wait_queue_entry {
        ptr::from_ref(self).cast_mut().cast()
    }

    fn links(&self) -> *mut kernel::bindings::list_head {
        // SAFETY: `raw` is valid, and only the field's address is taken.
        unsafe { &raw mut (*self.as_raw()).entry }
    }

    /// Puts it on the queue: with priority or without being exclusive at the head, behind all that
    /// have priority; otherwise at the tail.
    ///
    /// C: `__add_wait_queue`, `__add_wait_queue_entry_tail`.
    ///
    /// # Safety
    ///
    /// It is on no queue, `head` is valid and its lock is held. From here on it is not moved, and is taken
    /// off before its frame goes.
    pub(super) unsafe fn enqueue(&self, wait: &Wait<'_>, head: *mut wait_queue_head) {
        // SAFETY: By the function's requirements; every element is a valid entry, as the lock is
        // held, and `after` is an element or the head.
        unsafe {
            let list = &raw mut (*head).head;
            if !wait.is_at_head() {
                kernel::bindings::list_add_tail(self.links(), list);
                return;
            }
            let mut after = list;
            while !ptr::eq((*after).next, list) {
                let next = kernel::container_of!((*after).next, wait_queue_entry, entry);
                if (*next).flags & kernel::bindings::WQ_FLAG_PRIORITY == 0 {
                    break;
                }
                after = (*after).next;
            }
            bindings::list_add(self.links(), after);
        }
    }

    /// Whether it is on the queue no more: a wake-up took it off.
    ///
    /// # Safety
    ///
    /// It was put on a queue, whose lock is held.
    pub(super) unsafe fn is_off(&self) -> bool {
        let links = self.links();
        // SAFETY: By the type invariants, the links are initialized; they do not change meanwhile.
        unsafe { ptr::eq((*links).next, links) }
    }

    /// As [`TaskEntry::is_off`], without the lock; it was put on a queue. If it is off, whoever took it
    /// off does not touch it any more, and what it did before is seen.
    pub(super) fn is_off_careful(&self) -> bool {
        // Pairs with the release in `list_del_init_careful`, called by `TaskEntry::wake`.
        //
        // SAFETY: By the type invariants, the links are initialized; the function is made for links
        // that change meanwhile.
        unsafe { bindings::list_empty_careful(self.links()) }
    }

    /// Takes it off the queue, so that its frame can go. Tells whether a wake-up had done that.
    ///
    /// # Safety
    ///
    /// It was put on a queue, whose lock is held.
    pub(super) unsafe fn dequeue(&self) -> bool {
        // SAFETY: By the function's requirements. So the links are on the queue or linked to themselves.
        unsafe {
            let off = self.is_off();
            bindings::list_del_init(self.links());
            off
        }
    }

    /// The wake-up that makes good for the one that took it: that counted one exclusive entry too many.
    pub(super) fn owed(&self) -> Option<Wake> {
        self.counted
            .load(Relaxed)
            .then(|| Wake::one_more().key(PollEvents::from_bits(self.key.load(Relaxed))))
    }

    pub(super) fn mask(&self) -> PollEvents {
        self.mask
    }

    pub(super) fn since(&self) -> Option<Deadline> {
        self.since
    }

    /// What the wake function does: judges the key, asks the wait's own function, wakes the task,
    /// and takes the entry off the queue if that succeeded.
    ///
    /// `counted` tells whether the wake-up counts exclusive entries, `progress` what a wait's own function may
    /// be told. Gives a positive value if it woke the task, a negative one to end the walk.
    ///
    /// C: `autoremove_wake_function`.
    ///
    /// # Safety
    ///
    /// `entry` is the `raw` of a [`TaskEntry`] on a queue, whose lock this thread holds with
    /// interrupts off.
    #[inline]
    pub(super) unsafe fn wake(
        entry: *mut wait_queue_entry,
        mode: c_uint,
        flags: c_int,
        key: PollEvents,
        counted: bool,
        progress: impl FnOnce() -> Option<Report>,
    ) -> c_int {
        // Its frame may be gone as soon as the entry is off the queue, so that no reference to it
        // reaches beyond that.
        let this: *mut TaskEntry<'_> = entry.cast();
        // SAFETY: By the type invariants, `entry` is the first field of a `TaskEntry`. That is on a
        // queue, so it is valid, as are what it refers to, and its task does not end.
        unsafe {
            if !(*this).wants(key) {
                return 0;
            }
            match (*this).function {
                None => Self::wake_task(entry, mode, flags, key, counted),
                Some(judge) => Self::ask(judge, entry, mode, flags, key, counted, progress),
            }
        }
    }

    /// Wakes the task, and takes the entry off the queue if that succeeded.
    ///
    /// # Safety
    ///
    /// As [`TaskEntry::wake`].
    #[inline]
    unsafe fn wake_task(
        entry: *mut wait_queue_entry,
        mode: c_uint,
        flags: c_int,
        key: PollEvents,
        counted: bool,
    ) -> c_int {
        let this: *mut TaskEntry<'_> = entry.cast();
        // SAFETY: By the function's requirements.
        unsafe {
            (*this).key.store(key.bits(), Relaxed);
            (*this).counted.store(counted, Relaxed);
            // A full barrier in `try_to_wake_up`, before it looks at the task's state, pairs with
            // the one in `Wait::announce`.
            let woken =
                kernel::bindings::default_wake_function(entry, mode, flags, ptr::null_mut());
            if woken != 0 {
                // The last access: pairs with `is_off_careful`.
                bindings::list_del_init_careful(&raw mut (*entry).entry);
            }
            woken
        }
    }

    /// The same if a wait's own function says so. Apart, as most waits have none.
    ///
    /// # Safety
    ///
    /// As [`TaskEntry::wake`].
    #[cold]
    #[inline(never)]
    unsafe fn ask(
        judge: &WakeFunction<'_>,
        entry: *mut wait_queue_entry,
        mode: c_uint,
        flags: c_int,
        key: PollEvents,
        counted: bool,
        progress: impl FnOnce() -> Option<Report>,
    ) -> c_int {
        // SAFETY: By the function's requirements. The entry's task does not end. The current task may set its own mark.
        unsafe {
            let marked = !bindings::eventfd_signal_allowed();
            let verdict = judge(&Call::new(key, progress(), (*entry).private.cast()));
            // It may have woken others, and that walk cleared the mark of the one it is called by.
            bindings::set_in_eventfd(marked);
            match verdict {
                Verdict::Ignore => 0,
                Verdict::Stop => ECANCELED.to_errno(),
                Verdict::Wake => Self::wake_task(entry, mode, flags, key, counted),
            }
        }
    }

    fn wants(&self, key: PollEvents) -> bool {
        key.bits() == 0 || self.mask.bits() == 0 || key.contains_any(self.mask)
    }
}

/// The wake function of [`TaskEntry`], for C code that walks the queue.
///
/// # Safety
///
/// To be called as the wake function of an entry on a queue, whose lock is held.
#[export_name = "ipcdemo_wake_function"]
unsafe extern "C" fn wake_function(
    entry: *mut wait_queue_entry,
    mode: c_uint,
    flags: c_int,
    key: *mut c_void,
) -> c_int {
    // It may be one that counts.
    //
    // SAFETY: By the function's requirements; only `TaskEntry` has this function.
    unsafe { TaskEntry::wake(entry, mode, flags, PollEvents::of_key(key), true, || None) }
}

type Function = unsafe extern "C" fn(*mut wait_queue_entry, c_uint, c_int, *mut c_void) -> c_int;

/// Whether an entry with this wake function is a [`TaskEntry`].
#[inline]
pub(super) fn is_ours(function: Function) -> bool {
    ptr::fn_addr_eq(function, wake_function as Function)
}
