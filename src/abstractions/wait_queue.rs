// SPDX-License-Identifier: GPL-2.0

//! Wait queues: tasks that sleep until a condition holds, and pollers, on one queue.
//!
//! A [`WaitQueue`] owns the data that its waiters' conditions are about, and guards it with the
//! queue's own lock, as `fs/eventfd.c` does with `wqh.lock`. To change the data, or to wait, one
//! holds the lock; so nothing can happen between looking at a condition and going to sleep on it,
//! and no wake-up is lost.
//!
//! C headers: [`include/linux/wait.h`](srctree/include/linux/wait.h).

use crate::{
    abstractions::poll::PollEvents,
    bindings, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomPinned,
    ops::{Deref, DerefMut},
    pin::Pin,
    ptr, //
};
use kernel::{
    macros::kunit_tests,
    prelude::*,
    sync::LockClassKey,
    task::{MAX_SCHEDULE_TIMEOUT, TASK_INTERRUPTIBLE, TASK_NORMAL},
    time::Jiffies,
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
/// This is the kernel's own `struct wait_queue_head`, so entries of poll, epoll and io_uring stand
/// on it beside sleeping tasks. Its end is no event for them: it has to live as long as a file that
/// registers it with a poll table, and [`PollTable::register`] accepts no other.
///
/// [`PollTable::register`]: crate::abstractions::poll::PollTable::register
///
/// # Invariants
///
/// - `head` is an initialized `struct wait_queue_head`.
/// - `data` is accessed only while `head.lock` is held.
/// - Every entry on the queue is taken off before its memory goes, and before the queue does: one of
///   a task inside [`Guard::wait_event`] borrows the queue, one that came through a poll table is
///   gone when the file that keeps the queue alive is released.
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
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a wait may end without what was waited for"]
pub(crate) enum Waited<R> {
    /// The condition held; with what it gave, and what was left of the timeout.
    Condition(R, Jiffies),
    /// A signal is pending.
    Signal,
    /// The time was up.
    TimedOut,
}

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

impl<T> Guard<'_, T> {
    /// Whether anybody is on the queue: a sleeping task, a poller, an epoll item.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        // SAFETY: The head is valid, and with its lock held the list does not change.
        unsafe { bindings::waitqueue_active(self.queue.as_raw()) != 0 }
    }

    /// How many entries are on the queue.
    pub(crate) fn count_entries(&self) -> usize {
        // SAFETY: The head is valid.
        let list = unsafe { &raw mut (*self.queue.as_raw()).head };
        let mut entries = 0;
        // SAFETY: `list` is an initialized list head.
        let mut next = unsafe { (*list).next };
        while !ptr::eq(next, list) {
            entries += 1;
            // SAFETY: With the lock held, each element of the list is a valid entry until it is
            // taken off, which needs the lock.
            next = unsafe { (*next).next };
        }
        entries
    }

    /// Wakes those on the queue: every non-exclusive entry, and one exclusive one.
    ///
    /// `events` is what happened; an entry that waits for other events may ignore the call.
    ///
    /// C: `wake_up_locked_poll` in `include/linux/wait.h`.
    #[inline]
    pub(crate) fn wake(&mut self, events: impl Into<PollEvents>) {
        if !self.is_active() {
            return;
        }
        // The key travels as a pointer: `poll_to_key`.
        let key = ptr::without_provenance_mut(events.into().bits() as usize);
        // aio and io_uring may answer a wake-up by signalling an eventfd, which may wake others, and
        // so on until the stack is gone. `in_eventfd` tells them to put it off, as in fs/eventfd.c.
        //
        // SAFETY: The head is valid, its lock is held and interrupts are off. By the invariants of
        // `WaitQueue` each entry is valid, so its wake function may be called. None of them
        // accesses `data`. The current task may set its own flag.
        unsafe {
            bindings::set_in_eventfd(true);
            kernel::bindings::__wake_up_locked_key(self.queue.as_raw(), TASK_NORMAL, key);
            bindings::set_in_eventfd(false);
        }
    }

    /// Sleeps until `condition` gives something, or a signal is pending.
    ///
    /// `condition` runs with the lock held, first at once and then after each wake-up; the lock is
    /// dropped only to sleep. A condition that holds is preferred to a pending signal.
    ///
    /// Context: process context; the caller holds no other lock and may sleep.
    ///
    /// C: `wait_event_interruptible_locked_irq` in `include/linux/wait.h`.
    pub(crate) fn wait_interruptible<R>(
        &mut self,
        condition: impl FnMut(&mut T) -> Option<R>,
    ) -> Result<R> {
        match self.wait_event(MAX_SCHEDULE_TIMEOUT, condition) {
            Waited::Condition(result, _) => Ok(result),
            Waited::Signal | Waited::TimedOut => Err(ERESTARTSYS),
        }
    }

    /// As [`Guard::wait_interruptible`], for `timeout` jiffies at most. When the time is up and a
    /// signal is pending, it is the time that counts. What is left is at least 1 if the condition held.
    ///
    /// C: `wait_event_interruptible_timeout` in `include/linux/wait.h`.
    #[cfg_attr(
        not(CONFIG_KUNIT = "y"),
        expect(dead_code, reason = "no object waits for a time yet")
    )]
    pub(crate) fn wait_interruptible_timeout<R>(
        &mut self,
        timeout: Jiffies,
        condition: impl FnMut(&mut T) -> Option<R>,
    ) -> Waited<R> {
        let timeout = timeout.try_into().unwrap_or(MAX_SCHEDULE_TIMEOUT);
        self.wait_event(timeout, condition)
    }

    fn wait_event<R>(
        &mut self,
        mut left: c_long,
        mut condition: impl FnMut(&mut T) -> Option<R>,
    ) -> Waited<R> {
        if let Some(result) = condition(self) {
            return Waited::Condition(result, left.max(1) as Jiffies);
        }

        let entry = Opaque::<kernel::bindings::wait_queue_entry>::uninit();
        // SAFETY: `entry` is valid for writing. This makes it a non-exclusive entry of the current
        // task whose wake function takes it off the queue, and links it to itself.
        unsafe { kernel::bindings::init_wait_entry(entry.get(), 0) };

        let waited = loop {
            // SAFETY: `entry` and the head are valid and the lock is held. An entry linked to
            // itself is on no queue: it was never put on one, or its wake function took it off.
            unsafe {
                let links = &raw mut (*entry.get()).entry;
                if ptr::eq((*links).next, links) {
                    bindings::__add_wait_queue_entry_tail(self.queue.as_raw(), entry.get());
                }
            }
            // The state is set before the lock is dropped: a waker, who takes the lock after that,
            // finds the entry and makes the task runnable again, and `schedule` does not sleep.
            // Who sends a signal takes no lock of ours: the full barrier in `set_current_state`,
            // between the state and the look for signals, pairs with the one in `try_to_wake_up`
            // (kernel/sched/core.c), between the signal and its look at the state.
            //
            // SAFETY: The current task may set its own state.
            unsafe { bindings::set_current_state(TASK_INTERRUPTIBLE as c_uint) };
            if left == 0 {
                break Waited::TimedOut;
            }
            // SAFETY: No requirements.
            if unsafe { bindings::signal_pending_state(TASK_INTERRUPTIBLE as c_uint) } != 0 {
                break Waited::Signal;
            }

            // SAFETY: By the type invariants this thread holds the lock, and it does again afterwards.
            // The caller may sleep.
            left = unsafe { sleep(self.queue.lock_ptr(), left) };

            if let Some(result) = condition(self) {
                break Waited::Condition(result, left.max(1) as Jiffies);
            }
        };

        // The entry leaves the queue before its frame is gone.
        // SAFETY: The lock is held. The entry is on this queue or linked to itself; deleting it is
        // right in both cases. The task does not mean to sleep any more.
        unsafe {
            bindings::__remove_wait_queue(self.queue.as_raw(), entry.get());
            bindings::__set_current_state(kernel::bindings::TASK_RUNNING);
        }
        waited
    }
}

/// Drops `lock`, sleeps until the task is made runnable or `timeout` jiffies are over, and takes the
/// lock again. Gives what is left of the time.
///
/// This is where every waiting task is found, so its name is one that people can read in
/// `/proc/PID/wchan` and in the output of ps.
///
/// # Safety
///
/// - `lock` is held by this thread, taken by `spin_lock_irq_disable`, and nothing relies on what it
///   guards during the call.
/// - The task may sleep, other than for `lock`.
#[export_name = "ipcdemo_wait_event"]
#[inline(never)]
unsafe fn sleep(lock: *mut kernel::bindings::spinlock_t, timeout: c_long) -> c_long {
    // SAFETY: By the function's requirements: the lock is held and taken the same way, the task may
    // sleep after that, and the lock is not held when it is taken again.
    unsafe {
        kernel::bindings::spin_unlock_irq_enable(lock);
        let left = kernel::bindings::schedule_timeout(timeout);
        kernel::bindings::spin_lock_irq_disable(lock);
        left
    }
}

#[kunit_tests(ipcdemo_wait_queue)]
mod tests {
    use super::*;
    use crate::abstractions::poll::PollEvent;
    use core::ffi::{c_int, c_void};
    use kernel::{
        impl_has_hr_timer,
        sync::{
            atomic::{Atomic, Relaxed},
            Arc,
            ArcBorrow, //
        },
        time::{
            hrtimer::{
                HrTimer,
                HrTimerCallback,
                HrTimerCallbackContext,
                HrTimerPointer,
                HrTimerRestart,
                RelativeMode, //
            },
            msecs_to_jiffies,
            Delta,
            Monotonic, //
        },
    };

    // A failing assertion ends the thread as it is. So nothing is asserted while a lock is held, or
    // while an entry of this frame is on a queue.

    fn queue() -> Result<Arc<WaitQueue<u32>>> {
        Arc::pin_init(new_wait_queue!(0, "ipcdemo_wait_queue"), GFP_KERNEL)
    }

    /// Sets a queue's data and wakes, in interrupt context, once somebody sleeps there.
    #[pin_data]
    struct Waker {
        queue: Arc<WaitQueue<u32>>,
        #[pin]
        timer: HrTimer<Self>,
    }

    const TICK: Delta = Delta::from_micros(100);

    impl HrTimerCallback for Waker {
        type Pointer<'a> = Arc<Self>;

        fn run(
            this: ArcBorrow<'_, Self>,
            mut context: HrTimerCallbackContext<'_, Self>,
        ) -> HrTimerRestart {
            let mut guard = this.queue.lock();
            if !guard.is_active() {
                context.forward_now(TICK);
                return HrTimerRestart::Restart;
            }
            *guard = 7;
            guard.wake(PollEvent::In);
            HrTimerRestart::NoRestart
        }
    }

    impl_has_hr_timer! {
        impl HasHrTimer<Self> for Waker {
            mode: RelativeMode<Monotonic>, field: self.timer
        }
    }

    /// An entry of somebody else's, which counts its calls and keeps the last key.
    #[repr(C)]
    struct Foreign {
        entry: Opaque<kernel::bindings::wait_queue_entry>,
        calls: Atomic<u32>,
        key: Atomic<usize>,
    }

    /// # Safety
    ///
    /// To be called as the wake function of the entry of a `Foreign`.
    unsafe extern "C" fn called(
        entry: *mut kernel::bindings::wait_queue_entry,
        _mode: c_uint,
        _flags: c_int,
        key: *mut c_void,
    ) -> c_int {
        // SAFETY: By the function's requirements, this is the first field of a `repr(C)` struct.
        let foreign = unsafe { &*entry.cast::<Foreign>() };
        foreign.calls.fetch_add(1, Relaxed);
        foreign.key.store(key.addr(), Relaxed);
        1
    }

    /// Runs `act` with an entry on the queue. Tells how often it was called, and its last key.
    fn with_foreign<T>(queue: &WaitQueue<T>, exclusive: bool, act: impl FnOnce()) -> (u32, usize) {
        let foreign = Foreign {
            entry: Opaque::zeroed(),
            calls: Atomic::new(0),
            key: Atomic::new(0),
        };
        // SAFETY: The entry is valid, and off the queue before its frame is gone.
        unsafe {
            (*foreign.entry.get()).func = Some(called);
            if exclusive {
                kernel::bindings::add_wait_queue_exclusive(queue.as_raw(), foreign.entry.get());
            } else {
                kernel::bindings::add_wait_queue(queue.as_raw(), foreign.entry.get());
            }
            act();
            kernel::bindings::remove_wait_queue(queue.as_raw(), foreign.entry.get());
        }
        (foreign.calls.load(Relaxed), foreign.key.load(Relaxed))
    }

    #[test]
    fn a_condition_that_holds_is_not_waited_for() -> Result {
        let queue = queue()?;
        let waited = queue.lock().wait_interruptible(|_| Some(7));
        let left = queue.lock().count_entries();
        assert!(waited == Ok(7));
        assert_eq!(left, 0);
        Ok(())
    }

    #[test]
    fn the_time_is_up_and_the_entry_is_gone() -> Result {
        let queue = queue()?;
        let waited = queue.lock().wait_interruptible_timeout(2, |_| None::<()>);
        let left = queue.lock().count_entries();
        assert!(waited == Waited::TimedOut);
        assert_eq!(left, 0);
        Ok(())
    }

    #[test]
    fn no_time_is_not_a_long_time() -> Result {
        let queue = queue()?;
        let waited = queue.lock().wait_interruptible_timeout(0, |_| None::<()>);
        assert!(waited == Waited::TimedOut);
        Ok(())
    }

    #[test]
    fn a_wake_up_from_an_interrupt_ends_the_wait() -> Result {
        let queue = queue()?;
        let its_queue = queue.clone();
        let waker = pin_init!(Waker {
            queue: its_queue,
            timer <- HrTimer::new(),
        });
        let timer = Arc::pin_init(waker, GFP_KERNEL)?.start(TICK);
        let minute = msecs_to_jiffies(60_000);
        let waited = queue
            .lock()
            .wait_interruptible_timeout(minute, |value| (*value != 0).then_some(*value));
        // Waits for the callback, if it runs.
        drop(timer);
        let left = queue.lock().count_entries();
        assert!(matches!(waited, Waited::Condition(7, left) if 0 < left && left <= minute));
        assert_eq!(left, 0);
        Ok(())
    }

    #[test]
    fn a_wake_up_calls_every_entry_with_its_key() -> Result {
        let queue = queue()?;
        let (mut entries, mut second) = (0, (0, 0));
        let first = with_foreign(&queue, false, || {
            second = with_foreign(&queue, false, || {
                let mut guard = queue.lock();
                entries = guard.count_entries();
                guard.wake(PollEvent::Out);
            });
        });
        let key = PollEvents::from(PollEvent::Out).bits() as usize;
        assert_eq!(entries, 2);
        assert_eq!(first, (1, key));
        assert_eq!(second, (1, key));
        Ok(())
    }

    #[test]
    fn a_wake_up_reaches_one_exclusive_entry() -> Result {
        let queue = queue()?;
        let (mut second, mut shared) = ((0, 0), (0, 0));
        let first = with_foreign(&queue, true, || {
            second = with_foreign(&queue, true, || {
                shared = with_foreign(&queue, false, || queue.lock().wake(PollEvent::In));
            });
        });
        assert_eq!((first.0, second.0, shared.0), (1, 0, 1));
        Ok(())
    }
}
