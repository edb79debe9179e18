// SPDX-License-Identifier: GPL-2.0

//! Rules that user space cannot see, and races that a test must bring about to the instruction. All tests are in one suite, and so
//! in one file.

mod foreign;

pub(crate) use self::foreign::while_polled;

use self::foreign::{
    beside, is_in_eventfd, with_foreign, Foreign,
    Place::{ExclusiveTail, Head, Priority},
    Table,
};
use crate::bindings;
use kernel::{
    macros::kunit_tests,
    prelude::*,
    sync::atomic::{Atomic, Relaxed}, //
};

#[kunit_tests(ipcdemo_wait_queue)]
mod tests {
    use super::*;
    use crate::abstractions::wait_queue::{new_wait_queue, *};
    use kernel::{
        cpu::nr_cpu_ids,
        impl_has_hr_timer,
        processor::cpu_relax,
        sync::{
            Arc,
            ArcBorrow, //
        },
        time::{
            delay::fsleep,
            hrtimer::{
                HrTimer,
                HrTimerCallback,
                HrTimerCallbackContext,
                HrTimerPointer,
                HrTimerRestart,
                RelativeMode, //
            },
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
            if !this.queue.is_active() {
                context.forward_now(TICK);
                return HrTimerRestart::Restart;
            }
            *guard = 7;
            guard.wake(&Wake::one().key(PollEvent::In));
            HrTimerRestart::NoRestart
        }
    }

    impl_has_hr_timer! {
        impl HasHrTimer<Self> for Waker {
            mode: RelativeMode<Monotonic>, field: self.timer
        }
    }

    fn soon() -> Option<Deadline> {
        Some(Deadline::after(2_000_000))
    }

    /// The flags of the entries on a queue, in order.
    fn flags<T>(queue: &WaitQueue<T>) -> [Option<u32>; 4] {
        let mut flags = [None; 4];
        for (flag, entry) in flags.iter_mut().zip(queue.lock().entries()) {
            *flag = Some(entry.flags());
        }
        flags
    }

    #[test]
    fn a_condition_that_holds_is_not_waited_for() -> Result {
        let queue = queue()?;
        let locked = queue.lock().wait_until(&Wait::interruptible(), |_| Some(7));
        let free = queue.wait_until(&Wait::interruptible(), || Some(8));
        let left = queue.lock().count_entries(4);
        assert!(locked == Waited::Done(7, None));
        assert!(free == Waited::Done(8, None));
        assert_eq!(left, 0);
        Ok(())
    }

    #[test]
    fn the_time_is_up_and_the_entry_is_gone() -> Result {
        let queue = queue()?;
        let start = Deadline::now();
        let wait = Wait::interruptible().until(soon());
        // An entry that is left on the queue is not to be looked at: its frame is gone.
        let locked = queue.lock().wait_until(&wait, |_| None::<()>);
        assert!(!queue.is_active());
        let free = queue.wait_until(&Wait::killable().until(soon()), || None::<()>);
        assert!(!queue.is_active());
        let bare = queue.lock().sleep(&Wait::uninterruptible().until(soon()));
        assert!(!queue.is_active());
        assert!(locked == Waited::TimedOut(None));
        assert!(free == Waited::TimedOut(None));
        assert!(bare == Waited::TimedOut(None));
        assert!(Deadline::now().since(start) >= 3 * 2_000_000);
        Ok(())
    }

    #[test]
    fn a_time_in_the_past_is_not_a_long_time() -> Result {
        let queue = queue()?;
        let wait = Wait::uninterruptible().until(Some(Deadline::at(0)));
        assert!(queue.lock().wait_until(&wait, |_| None::<()>) == Waited::TimedOut(None));
        assert!(queue.wait_until(&wait, || None::<()>) == Waited::TimedOut(None));
        assert!(queue.lock().sleep(&wait) == Waited::TimedOut(None));
        Ok(())
    }

    /// Runs `wait` while a timer wakes whoever comes on the queue, and puts 7 there.
    fn with_waker<R>(queue: &Arc<WaitQueue<u32>>, wait: impl FnOnce() -> R) -> Result<R> {
        let its_queue = queue.clone();
        let waker = pin_init!(Waker {
            queue: its_queue,
            timer <- HrTimer::new(),
        });
        let timer = Arc::pin_init(waker, GFP_KERNEL)?.start(TICK);
        let result = wait();
        // Waits for the callback, if it runs.
        drop(timer);
        Ok(result)
    }

    const MINUTE: u64 = 60_000_000_000;

    #[test]
    fn a_wake_up_from_an_interrupt_ends_the_wait() -> Result {
        let queue = queue()?;
        let wait = Wait::uninterruptible().until(Some(Deadline::after(MINUTE)));
        let locked = with_waker(&queue, || {
            queue
                .lock()
                .wait_until(&wait, |value| (*value != 0).then_some(*value))
        })?;
        let bare = with_waker(&queue, || queue.lock().sleep(&wait.exclusive()))?;
        let left = queue.lock().count_entries(4);
        assert!(matches!(locked, Waited::Done(7, Some(1..=MINUTE))));
        assert!(matches!(bare, Waited::Done((), Some(1..=MINUTE))));
        assert_eq!(left, 0);
        Ok(())
    }

    #[test]
    fn a_wake_up_calls_every_entry_with_its_key() -> Result {
        let queue = queue()?;
        let (mut entries, mut second) = ([0; 3], (0, 0));
        let mut report = Report::default();
        let first = with_foreign(&queue, Head, 0, || {
            second = with_foreign(&queue, Head, 1, || {
                let mut guard = queue.lock();
                entries = [1, 2, 4].map(|limit| guard.count_entries(limit));
                report = guard.wake_and_report(&Wake::one().key(PollEvent::Out));
            });
        });
        let key = PollEvents::from(PollEvent::Out).bits() as usize;
        assert!(entries == [1, 2, 2]);
        assert_eq!(first, (1, key));
        assert_eq!(second, (1, key));
        assert_eq!(
            report,
            Report {
                walked: 2,
                called: 2,
                woken: 1,
                exclusive: 0,
                stopped_by: StoppedBy::End,
            }
        );
        Ok(())
    }

    #[test]
    fn a_wake_up_reaches_as_many_exclusive_entries_as_it_wants() -> Result {
        let queue = queue()?;
        for (wake, calls) in [
            (Wake::one(), [1, 0, 0]),
            (Wake::nr(2), [1, 1, 0]),
            (Wake::nr(3), [1, 1, 1]),
            (Wake::all(), [1, 1, 1]),
        ] {
            let (mut second, mut third, mut shared) = ((0, 0), (0, 0), (0, 0));
            let mut report = Report::default();
            let first = with_foreign(&queue, ExclusiveTail, 1, || {
                second = with_foreign(&queue, ExclusiveTail, 1, || {
                    third = with_foreign(&queue, ExclusiveTail, 1, || {
                        shared = with_foreign(&queue, Head, 1, || {
                            report = queue.lock().wake_and_report(&wake);
                        });
                    });
                });
            });
            let woken = calls.iter().sum::<u32>();
            assert!([first.0, second.0, third.0] == calls);
            assert_eq!(shared.0, 1);
            assert_eq!((report.exclusive, report.woken), (woken, woken + 1));
        }
        Ok(())
    }

    #[test]
    fn an_entry_that_was_not_woken_does_not_count() -> Result {
        let queue = queue()?;
        let mut second = (0, 0);
        let first = with_foreign(&queue, ExclusiveTail, 0, || {
            second = with_foreign(&queue, ExclusiveTail, 1, || {
                queue.lock().wake(&Wake::one());
            });
        });
        assert_eq!((first.0, second.0), (1, 1));
        Ok(())
    }

    #[test]
    fn a_negative_return_ends_the_walk() -> Result {
        let queue = queue()?;
        let mut report = Report::default();
        let mut second = (0, 0);
        let first = with_foreign(&queue, Head, 1, || {
            second = with_foreign(&queue, Head, -1, || {
                report = queue.lock().wake_and_report(&Wake::all());
            });
        });
        assert_eq!((first.0, second.0), (0, 1));
        assert!(report.stopped_by == StoppedBy::Entry && report.walked == 1 && report.woken == 0);
        Ok(())
    }

    #[test]
    fn a_c_walk_wakes_and_counts_a_task_of_ours() -> Result {
        let queue = queue()?;
        let wait = Wait::uninterruptible().exclusive().priority();
        let wait = wait.until(Some(Deadline::after(MINUTE)));
        let mut waited = Waited::TimedOut(None);
        let mut looks = 0;
        let behind = with_foreign(&queue, ExclusiveTail, 1, || {
            waited = queue.wait_until(&wait, || {
                looks += 1;
                if looks == 1 {
                    // The task is announced as sleeping, on the queue.
                    //
                    // SAFETY: The head is valid.
                    unsafe {
                        kernel::bindings::__wake_up(
                            queue.as_raw(),
                            kernel::task::TASK_NORMAL,
                            1,
                            core::ptr::null_mut(),
                        )
                    };
                }
                (looks == 2).then_some(())
            });
        });
        assert!(matches!(waited, Waited::Done((), Some(1..=MINUTE))));
        assert_eq!(behind.0, 0);
        assert_eq!(queue.lock().count_entries(4), 0);
        Ok(())
    }

    #[test]
    fn a_wake_up_tells_entries_of_c_about_its_waker() -> Result {
        let queue = queue()?;
        for (wake, sync) in [(Wake::one(), false), (Wake::one().sync(), true)] {
            let foreign = Foreign::new(1);
            // SAFETY: The entry is valid, and off the queue before its frame is gone.
            unsafe {
                kernel::bindings::add_wait_queue(queue.as_raw(), foreign.entry.get());
                queue.lock().wake(&wake);
                kernel::bindings::remove_wait_queue(queue.as_raw(), foreign.entry.get());
            }
            assert!((foreign.flags.load(Relaxed) != 0) == sync);
            assert!(foreign.in_eventfd.load(Relaxed));
            assert!(!is_in_eventfd());
        }
        Ok(())
    }

    /// The entries behind one whose function wakes others are still told that this is a wake-up.
    #[test]
    fn a_wake_up_within_a_wake_up_leaves_the_mark() -> Result {
        let queue = queue()?;
        let others = Arc::pin_init(
            new_wait_queue!(0u32, "ipcdemo_wait_queue_others"),
            GFP_KERNEL,
        )?;
        let behind = Foreign::new(0);
        let judge = |_: &Call<'_>| {
            others.lock().wake(&Wake::one());
            Verdict::Ignore
        };
        let wait = Wait::uninterruptible().priority().function(&judge);
        let mut looks = 0;
        let inner = with_foreign(&others, Head, 0, || {
            // SAFETY: The entry is valid, and off the queue before its frame is gone.
            unsafe {
                kernel::bindings::add_wait_queue(queue.as_raw(), behind.entry.get());
                let _ = queue.wait_until(&wait.until(Some(Deadline::at(0))), || {
                    looks += 1;
                    if looks == 1 {
                        queue.wake(&Wake::one());
                    }
                    None::<()>
                });
                kernel::bindings::remove_wait_queue(queue.as_raw(), behind.entry.get());
            }
        });
        assert_eq!((inner.0, behind.seen().0), (1, 1));
        assert!(behind.in_eventfd.load(Relaxed));
        assert!(!is_in_eventfd());
        Ok(())
    }

    /// Late in a task's exit there are no namespaces: the clock is as it is outside of any.
    #[test]
    fn a_task_without_namespaces_has_the_clock_as_it_is() {
        // SAFETY: The current task may put away its namespaces, as `do_exit` does, and take them back. Nobody looks at
        // them meanwhile without the lock.
        let (now, moment, reading) = unsafe {
            let task = kernel::bindings::get_current();
            bindings::task_lock(task);
            let nsproxy = core::mem::replace(&mut (*task).nsproxy, ptr::null_mut());
            let seen = (Deadline::now(), Deadline::at(7), Deadline::at(7).reading());
            (*task).nsproxy = nsproxy;
            bindings::task_unlock(task);
            seen
        };
        assert!(moment < now);
        assert_eq!(reading, 7);
    }

    #[test]
    fn priority_is_at_the_head_and_exclusive_at_the_tail() -> Result {
        const EXCLUSIVE: Option<u32> = Some(kernel::bindings::WQ_FLAG_EXCLUSIVE);
        const PRIORITY: Option<u32> = Some(kernel::bindings::WQ_FLAG_PRIORITY);
        const BOTH: Option<u32> =
            Some(kernel::bindings::WQ_FLAG_EXCLUSIVE | kernel::bindings::WQ_FLAG_PRIORITY);
        let queue = queue()?;
        let mut seen = [[None; 4]; 5];
        with_foreign(&queue, Head, 1, || {
            with_foreign(&queue, Priority, 1, || {
                with_foreign(&queue, ExclusiveTail, 1, || {
                    for (seen, wait) in seen.iter_mut().zip([
                        Wait::uninterruptible(),
                        Wait::uninterruptible().exclusive(),
                        Wait::uninterruptible().priority(),
                        Wait::uninterruptible().priority().exclusive(),
                        Wait::uninterruptible().at_tail(),
                    ]) {
                        let wait = wait.until(Some(Deadline::at(0)));
                        let _ = queue.wait_until(&wait, || {
                            *seen = flags(&queue);
                            None::<()>
                        });
                    }
                });
            });
        });
        assert!(seen[0] == [PRIORITY, Some(0), Some(0), EXCLUSIVE]);
        assert!(seen[1] == [PRIORITY, Some(0), EXCLUSIVE, EXCLUSIVE]);
        assert!(seen[2] == [PRIORITY, PRIORITY, Some(0), EXCLUSIVE]);
        assert!(seen[3] == [PRIORITY, BOTH, Some(0), EXCLUSIVE]);
        assert!(seen[4] == [PRIORITY, Some(0), EXCLUSIVE, Some(0)]);
        Ok(())
    }

    /// Whether a task that sleeps on another CPU is gone, once woken, while its waker still has the lock.
    fn goes_before_its_waker(queue: &WaitQueue<u32>, conditional: bool) -> Result<bool> {
        let wait = Wait::uninterruptible().until(Some(Deadline::after(MINUTE)));
        let (go, gone) = (Atomic::new(false), Atomic::new(false));
        let sleeper = || {
            if conditional {
                let _ = queue.wait_until(&wait, || go.load(Relaxed).then_some(()));
            } else {
                let _ = queue.lock().sleep(&wait);
            }
            gone.store(true, Relaxed);
        };
        beside(&sleeper, || {
            while !queue.is_active() {
                fsleep(TICK);
            }
            // Let it fall asleep.
            fsleep(TICK * 10);
            let mut guard = queue.lock();
            go.store(true, Relaxed);
            guard.wake(&Wake::one());
            let end = Deadline::after(10_000_000);
            while !gone.load(Relaxed) && Deadline::now() < end {
                cpu_relax();
            }
            gone.load(Relaxed)
        })
    }

    #[test]
    fn a_woken_task_needs_no_lock_of_the_wakers() -> Result {
        let queue = queue()?;
        for conditional in [false, true] {
            // One that is so fast that it comes before its entry is off the queue does need it.
            let mut gone = nr_cpu_ids() < 2;
            for _ in 0..50 {
                gone = gone || goes_before_its_waker(&queue, conditional)?;
            }
            assert!(gone);
        }
        Ok(())
    }

    #[test]
    fn a_task_does_not_take_two_wake_ups_for_one_thing() -> Result {
        let queue = queue()?;
        let wait = Wait::uninterruptible().exclusive().priority();
        let mut looks = 0;
        let foreign = with_foreign(&queue, ExclusiveTail, 1, || {
            let _ = queue.wait_until(&wait, || {
                looks += 1;
                // Once asleep, and once awake again, before it has looked what there is for it.
                queue.wake(&Wake::one());
                (looks == 2).then_some(())
            });
        });
        assert_eq!(foreign.0, 1);
        Ok(())
    }

    #[test]
    fn a_wake_up_of_all_is_not_passed_on() -> Result {
        let queue = queue()?;
        let wait = Wait::interruptible().exclusive().priority();
        // It was called by the walk itself.
        let (waited, calls) = leaving(&queue, &wait, Wake::all());
        assert!(waited == Waited::TimedOut(None));
        assert_eq!(calls, 1);
        Ok(())
    }

    #[test]
    fn what_is_passed_on_goes_to_exclusive_entries_only() -> Result {
        let queue = queue()?;
        let wait = Wait::interruptible().exclusive().priority();
        let mut waited = (Waited::Done((), None), 0);
        let shared = with_foreign(&queue, Head, 1, || {
            waited = leaving(&queue, &wait, Wake::one());
        });
        let report = Report {
            walked: 2,
            called: 1,
            woken: 1,
            exclusive: 1,
            stopped_by: StoppedBy::Quota,
        };
        assert!(waited == (Waited::TimedOut(Some(report)), 1));
        assert_eq!(shared.0, 0);
        Ok(())
    }

    /// Waits without success while `wake` is called once, with the task announced as sleeping and its
    /// time up; behind it is a foreign exclusive entry. Tells how the wait ended and how often the
    /// foreign entry was called.
    fn leaving(queue: &WaitQueue<u32>, wait: &Wait<'_>, wake: Wake) -> (Waited<()>, u32) {
        let wait = wait.until(Some(Deadline::at(0)));
        let mut looks = 0;
        let mut waited = Waited::Done((), None);
        let foreign = with_foreign(queue, ExclusiveTail, 1, || {
            waited = queue.wait_until(&wait, || {
                looks += 1;
                if looks == 1 {
                    queue.wake(&wake);
                }
                None
            });
        });
        (waited, foreign.0)
    }

    #[test]
    fn an_exclusive_wake_up_taken_by_one_who_leaves_is_passed_on() -> Result {
        let queue = queue()?;
        // With priority, so that it stands before the foreign entry.
        let wait = Wait::interruptible().exclusive().priority();
        let (waited, calls) = leaving(&queue, &wait, Wake::one().key(PollEvent::In));
        assert!(matches!(
            waited,
            Waited::TimedOut(Some(Report { exclusive: 1, .. }))
        ));
        assert_eq!(calls, 1);

        // One that is not exclusive took nothing from the other, which was woken beside it.
        let (waited, calls) = leaving(&queue, &Wait::interruptible(), Wake::one());
        assert!(waited == Waited::TimedOut(None));
        assert_eq!(calls, 1);

        // A wake-up that does not take it is none of its business.
        let wait = wait.mask(PollEvent::Out.into());
        let (waited, calls) = leaving(&queue, &wait, Wake::one().key(PollEvent::In));
        assert!(waited == Waited::TimedOut(None));
        assert_eq!(calls, 1);
        Ok(())
    }

    #[test]
    fn a_wake_up_that_did_not_meet_the_condition_is_passed_on_by_one_who_leaves() -> Result {
        let queue = queue()?;
        for locked in [false, true] {
            // On a busy machine the time may be up before there was a wake-up.
            let mut passed_on = false;
            for _ in 0..10 {
                passed_on = passed_on || taken_in_vain(&queue, locked)? != Waited::TimedOut(None);
            }
            assert!(passed_on);
        }
        Ok(())
    }

    /// Waits without success while a timer wakes, and looks in vain, after that wake-up, until the time
    /// is up.
    fn taken_in_vain(queue: &Arc<WaitQueue<u32>>, locked: bool) -> Result<Waited<()>> {
        let deadline = Deadline::after(20_000_000);
        let wait = Wait::uninterruptible().exclusive().until(Some(deadline));
        let mut looks = 0;
        let mut look = || {
            looks += 1;
            while looks == 2 && Deadline::now() <= deadline {}
            None
        };
        with_waker(queue, || match locked {
            true => queue.lock().wait_until(&wait, |_| look()),
            false => queue.wait_until(&wait, look),
        })
    }

    #[test]
    fn a_mask_leaves_out_what_is_about_other_events() -> Result {
        let queue = queue()?;
        let read = PollEvents::from(PollEvent::In);
        let wait = Wait::uninterruptible().until(Some(Deadline::at(0)));
        for (mask, key, taken) in [
            (read, PollEvents::empty(), true),
            (read, read, true),
            (read, PollEvent::Out.into(), false),
            (read, read | PollEvent::Out, true),
            (PollEvents::empty(), PollEvent::Out.into(), true),
        ] {
            let mut report = Report::default();
            let mut looks = 0;
            let _ = queue.wait_until(&wait.mask(mask), || {
                looks += 1;
                if looks == 1 {
                    report = queue.lock().wake_and_report(&Wake::one().key(key));
                }
                None::<()>
            });
            assert_eq!(report.called, 1);
            assert_eq!(report.woken, u32::from(taken));
        }
        Ok(())
    }

    #[test]
    fn a_wake_function_of_ones_own_decides() -> Result {
        let queue = queue()?;
        let wait = Wait::uninterruptible().until(Some(Deadline::at(0)));
        for (verdict, taken, stopped_by) in [
            (Verdict::Ignore, 0, StoppedBy::End),
            (Verdict::Wake, 1, StoppedBy::End),
            (Verdict::Stop, 0, StoppedBy::Entry),
        ] {
            let (key, position) = (Atomic::new(0u32), Atomic::new(0u32));
            let judge = |call: &Call<'_>| {
                key.store(call.key().bits(), Relaxed);
                let walked = call.progress().map_or(0, |progress| progress.walked);
                position.store(walked, Relaxed);
                verdict
            };
            let mut report = Report::default();
            let mut looks = 0;
            with_foreign(&queue, Priority, 0, || {
                let _ = queue.wait_until(&wait.function(&judge), || {
                    looks += 1;
                    if looks == 1 {
                        report = queue
                            .lock()
                            .wake_and_report(&Wake::one().key(PollEvent::Hup));
                    }
                    None::<()>
                });
            });
            assert_eq!(key.load(Relaxed), PollEvents::from(PollEvent::Hup).bits());
            assert_eq!(position.load(Relaxed), 2);
            assert_eq!((report.walked, report.woken), (2, taken));
            assert!(report.stopped_by == stopped_by);
        }
        Ok(())
    }

    #[test]
    fn who_wakes_is_told_as_the_woken_sees_it() -> Result {
        let queue = queue()?;
        let (pid, tid) = (Atomic::new(-1i32), Atomic::new(-1i32));
        let judge = |call: &Call<'_>| {
            let waker = call.waker();
            pid.store(waker.0, Relaxed);
            tid.store(waker.1, Relaxed);
            Verdict::Wake
        };
        let wait = Wait::uninterruptible().function(&judge);
        let mut looks = 0;
        let _ = queue.wait_until(&wait.until(Some(Deadline::at(0))), || {
            looks += 1;
            if looks == 1 {
                queue.wake(&Wake::one());
            }
            None::<()>
        });
        assert_eq!(tid.load(Relaxed), kernel::current!().pid());
        // An interrupt is no task.
        let _ = with_waker(&queue, || queue.lock().sleep(&wait))?;
        assert_eq!((pid.load(Relaxed), tid.load(Relaxed)), (0, 0));
        Ok(())
    }

    /// What is dropped, and when.
    struct Dropped<'a>(&'a Atomic<u32>);

    impl Drop for Dropped<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_queue_that_ends_tells_its_pollers_and_stays_for_those_under_rcu() -> Result {
        const POLLFREE: usize = bindings::POLLFREE as usize;
        let drops = Atomic::new(0u32);
        let queue = WaitQueueBox::new(
            Dropped(&drops),
            c"WaitQueueBox",
            kernel::static_lock_class!(),
        )?;
        let poller = Foreign::new(1);
        let (head, entry) = (queue.as_raw(), poller.entry.get());
        // SAFETY: The entry is valid, and heeds `POLLFREE`.
        unsafe { kernel::bindings::add_wait_queue(head, entry) };
        let rcu = kernel::sync::rcu::read_lock();
        drop(queue);
        // As epoll does when it leaves just then: it takes the lock, and finds its entry off the queue.
        // The look before that is for KASAN: with a lock that is gone it may not get round to a report.
        //
        // SAFETY: By what this tests, the head is there until the grace period ends.
        let empty = unsafe {
            let empty = bindings::list_empty_careful(&raw mut (*head).head);
            kernel::bindings::remove_wait_queue(head, entry);
            empty
        };
        drop(rcu);
        let hup = PollEvents::from(PollEvent::Hup).bits() as usize;
        assert!(empty);
        assert_eq!(poller.key.load(Relaxed), POLLFREE | hup);
        assert_eq!(drops.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn a_poll_table_registers_a_queue_that_can_end() -> Result {
        let queue = WaitQueueBox::new(0, c"WaitQueueBox", kernel::static_lock_class!())?;
        let poller = Foreign::new(1);
        let mut entries = 0;
        // SAFETY: The poller heeds `POLLFREE`.
        unsafe {
            Table::new(&poller).with(|table| {
                table.register_boxed(&queue);
                entries = queue.lock().count_entries(4);
            });
        }
        drop(queue);
        assert_eq!(entries, 1);
        assert!(poller.key.load(Relaxed) != 0);
        Ok(())
    }
}
