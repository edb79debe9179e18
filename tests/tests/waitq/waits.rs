// SPDX-License-Identifier: GPL-2.0

//! Sleeping and being woken, one property at a time.

use std::fs;
use std::hint::spin_loop;
use std::io::{ErrorKind, IoSliceMut};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ipcdemo_client::{
    Factory, Keys, PassedOn, Reason, Receipt, StoppedBy, WaitOptions, Waitq, WaitqFlags,
    WakeOptions, WakeReceipt, monotonic, raw,
};
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::{
    Address, Child, Errno, Signal, Sleeper, Waiting, poll_now, scaled, serial, until, waitq,
    write_from,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{FdFlags, ReadWriteFlags, fcntl_dupfd_cloexec, fcntl_getfd, preadv2};
use rustix::process;
use rustix::thread::gettid;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(10);

serial! {
    /// With EXPECT one sleeps only if the word is the expected one: otherwise EAGAIN,
    /// and the word.
    fn another_word_is_no_sleep() {
        let queue = made(7, WaitqFlags::empty());
        let told = wait(&queue, WaitOptions::new().expect(8));
        assert_eq!((told.reason, told.word), (Reason::Changed, 7));
        assert_eq!((told.remaining, told.passed_on), (Duration::ZERO, PassedOn::No));
        check_nobody(&told);
        let sleeper = Waiting::new(&queue, WaitOptions::new().expect(7));
        wake(&queue, WakeOptions::new());
        assert_eq!(sleeper.join().reason, Reason::Woken);
    }

    /// What is set before one comes is seen, what is set afterwards wakes: there is
    /// no moment in between. Each time both come at once.
    fn the_word_and_the_queue_are_one() {
        const TURNS: u64 = 20_000;
        // A busy machine has both come at once less often, and needs longer to see it.
        const BUDGET: Duration = Duration::from_secs(20);
        const LIMIT: Duration = Duration::from_secs(40);
        let wanted = scaled(100);
        // The way into the kernel is about the same for both.
        let dawdle = |word: u64, factor: u64| (0..word * factor % 500).for_each(|_| spin_loop());
        let queue = waitq();
        let turn = Arc::new(AtomicU64::new(0));
        // How often the sleeper came too late, and how often it was woken.
        let counts = Arc::new([const { AtomicUsize::new(0) }; 2]);
        let (its_queue, its_turn, its_counts) = (Arc::clone(&queue), Arc::clone(&turn), Arc::clone(&counts));
        let sleeper = thread::spawn(move || {
            for word in 0..TURNS {
                its_turn.store(word + 1, Ordering::Release);
                dawdle(word, 7);
                let options = WaitOptions::new().expect(word).timeout(LONG);
                let told = wait(&its_queue, options);
                let count = match told.reason {
                    Reason::Changed => &its_counts[0],
                    Reason::Woken => &its_counts[1],
                    _ => panic!("turn {word}: {told:?}"),
                };
                count.fetch_add(1, Ordering::Relaxed);
                if told.word == u64::MAX {
                    break;
                }
                assert_eq!(told.word, word + 1);
            }
        });
        let start = Instant::now();
        let seen = || counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        for word in 1..=TURNS {
            let mut looks = 0;
            while turn.load(Ordering::Acquire) != word {
                looks += 1;
                if looks % 1000 == 0 {
                    assert!(!sleeper.is_finished(), "a wake was lost");
                    thread::yield_now();
                }
                spin_loop();
            }
            dawdle(word, 11);
            let enough = seen().iter().all(|&seen| seen >= wanted);
            let over = word == TURNS || start.elapsed() > if enough { BUDGET } else { LIMIT };
            wake(&queue, WakeOptions::new().set(if over { u64::MAX } else { word }));
            if over {
                break;
            }
        }
        until("the other one has ended", || sleeper.is_finished());
        sleeper.join().unwrap();
        let [changed, woken] = seen();
        println!("{changed} came too late to sleep, {woken} were woken");
        assert!(changed.min(woken) >= wanted, "this proves nothing");
    }

    /// A timeout ends the sleep, and not before its time.
    fn a_timeout_ends_a_sleep() {
        let queue = waitq();
        for timeout in [Duration::ZERO, Duration::from_nanos(1), MS, 20 * MS] {
            let before = monotonic();
            let told = wait(&queue, WaitOptions::new().timeout(timeout));
            let after = monotonic();
            assert_eq!((told.reason, told.remaining), (Reason::TimedOut, Duration::ZERO));
            assert!(timeout <= told.slept && told.slept <= after - before, "{timeout:?} {told:?}");
            check_nobody(&told);
        }
        assert_eq!(queue.count().unwrap(), 0);
    }

    /// So does a time on the clock.
    fn a_deadline_ends_a_sleep() {
        let queue = waitq();
        for time in [MS, 20 * MS] {
            let deadline = monotonic() + time;
            let told = wait(&queue, WaitOptions::new().deadline(deadline));
            assert_eq!((told.reason, told.remaining), (Reason::TimedOut, Duration::ZERO));
            assert!(monotonic() >= deadline);
        }
        assert_eq!(queue.count().unwrap(), 0);
    }

    /// One that is past ends it at once, however far it is.
    fn a_deadline_in_the_past() {
        let queue = waitq();
        for deadline in [Duration::ZERO, Duration::from_nanos(1), monotonic() - MS] {
            for options in [WaitOptions::new(), WaitOptions::new().uninterruptible()] {
                let told = wait(&queue, options.deadline(deadline));
                assert_eq!(told.reason, Reason::TimedOut);
            }
        }
        assert_eq!(queue.count().unwrap(), 0);
    }

    /// One that never comes does not overflow.
    fn a_deadline_at_the_end_of_time() {
        let queue = waitq();
        let never = Duration::MAX;
        for options in [WaitOptions::new().timeout(never), WaitOptions::new().deadline(never)] {
            let sleeper = Waiting::new(&queue, options);
            wake(&queue, WakeOptions::new());
            let told = sleeper.join();
            assert_eq!(told.reason, Reason::Woken);
            assert!(told.remaining > Duration::from_secs(1 << 30), "{told:?}");
        }
    }

    /// What was left of the time is told.
    fn the_remaining_time_is_told() {
        let queue = waitq();
        for absolute in [false, true] {
            let options = match absolute {
                false => WaitOptions::new().timeout(LONG),
                true => WaitOptions::new().deadline(monotonic() + LONG),
            };
            let sleeper = Waiting::new(&queue, options);
            wake(&queue, WakeOptions::new());
            let told = sleeper.join();
            assert_eq!(told.reason, Reason::Woken);
            assert!(Duration::ZERO < told.remaining && told.remaining < LONG, "{told:?}");
            assert!(told.remaining + told.slept <= LONG + LONG / 10, "{told:?}");
            assert!(told.remaining + told.slept >= LONG / 2, "{told:?}");
        }
    }

    /// A signal ends the sleep with EINTR, though its handler is one of those after
    /// which other calls go on.
    fn a_signal_ends_a_sleep() {
        let queue = waitq();
        for signal in [Signal::interrupting(), Signal::restarting()] {
            for options in [WaitOptions::new(), WaitOptions::new().exclusive().timeout(LONG)] {
                let handled = signal.handled();
                let sleeper = Waiting::new(&queue, options);
                sleeper.interrupt(&signal);
                let told = sleeper.join();
                assert_eq!((told.reason, told.passed_on), (Reason::Signaled, PassedOn::No));
                assert_eq!(told.remaining, Duration::ZERO);
                check_nobody(&told);
                assert_eq!(signal.handled(), handled + 1);
                assert_eq!(queue.count().unwrap(), 0);
            }
        }
    }

    /// A killable sleep goes on though a signal is pending that has a handler.
    fn a_killable_sleep_ignores_handlers() {
        sleeps_through_a_signal(&waitq(), WaitOptions::new().killable());
    }

    /// SIGKILL ends it, and the task.
    fn a_killable_sleep_can_be_killed() {
        for options in [WaitOptions::new(), WaitOptions::new().killable().exclusive()] {
            let queue = waitq();
            let child = Child::fork(|| u8::from(queue.wait(&options).is_err()));
            until("the child sleeps", || queue.count().unwrap() == 1);
            child.kill(process::Signal::KILL);
            assert_eq!(child.wait(), -libc::SIGKILL);
            assert_eq!(queue.count().unwrap(), 0);
        }
    }

    /// An uninterruptible one is ended by neither, but by its time or a wake.
    fn an_uninterruptible_sleep_has_an_end() {
        let queue = waitq();
        sleeps_through_a_signal(&queue, WaitOptions::new().uninterruptible().timeout(LONG));

        let time = 50 * MS;
        let child = Child::fork(|| {
            let told = queue.wait(&WaitOptions::new().uninterruptible().timeout(time));
            u8::from(told.is_err())
        });
        let start = monotonic();
        until("the child sleeps", || queue.count().unwrap() == 1);
        child.kill(process::Signal::KILL);
        assert_eq!(child.wait(), -libc::SIGKILL);
        assert!(monotonic() - start > time / 2, "it was not ended early");
    }

    /// What a wake is about decides who hears it: a mask and a key that have nothing
    /// in common are the only combination that does not.
    fn masks_and_keys() {
        let queue = waitq();
        let some = Keys::IN | Keys::RDHUP;
        for (mask, key, heard) in [
            (Keys::empty(), Keys::empty(), true),
            (Keys::empty(), Keys::MSG, true),
            (some, Keys::empty(), true),
            (some, Keys::IN, true),
            (some, Keys::RDHUP | Keys::OUT, true),
            (some, Keys::OUT, false),
            (some, some.complement(), false),
        ] {
            for options in [WaitOptions::new(), WaitOptions::new().exclusive()] {
                let sleeper = Waiting::new(&queue, options.mask(mask));
                let told = wake(&queue, WakeOptions::new().key(key));
                assert_eq!(told.woken, u32::from(heard), "{mask} and {key}");
                assert_eq!(sleeper.sleeps_on(), !heard, "{mask} and {key}");
                if !heard {
                    assert_eq!((told.walked, told.called), (1, 1), "it was asked");
                    wake(&queue, WakeOptions::new());
                }
                let told = sleeper.join();
                assert_eq!(told.key, if heard { key } else { Keys::empty() });
            }
        }
    }

    /// A wake that finds nobody is not remembered, and says so.
    fn a_wake_of_nobody_is_forgotten() {
        let queue = waitq();
        for options in [WakeOptions::new(), WakeOptions::new().all().sync().key(Keys::IN)] {
            let expected = WakeReceipt {
                word: 0,
                walked: 0,
                called: 0,
                woken: 0,
                exclusive: 0,
                stopped_by: StoppedBy::End,
            };
            assert_eq!(wake(&queue, options), expected);
            let told = wait(&queue, WaitOptions::new().timeout(MS));
            assert_eq!(told.reason, Reason::TimedOut);
        }
    }

    /// A waker that means to sleep wakes all the same.
    fn a_sync_wake_wakes() {
        let queue = waitq();
        let sleepers = [(); 3].map(|()| Waiting::new(&queue, WaitOptions::new().exclusive()));
        let told = wake(&queue, WakeOptions::new().sync().nr(2));
        assert_eq!((told.woken, told.exclusive), (2, 2));
        assert_eq!(sleepers.each_ref().map(Waiting::sleeps_on), [false, false, true]);
        wake(&queue, WakeOptions::new().sync());
        for sleeper in sleepers {
            assert_eq!(sleeper.join().reason, Reason::Woken);
        }
    }

    /// A wake that sets the word shows it to whoever it wakes, and to whoever looks.
    fn a_wake_sets_the_word() {
        let queue = waitq();
        let sleeper = Waiting::new(&queue, WaitOptions::new().expect(0));
        let poller = polling(&queue);
        let set = Arc::new(Epoll::of(&queue, EventFlags::IN | EventFlags::ET));
        let watcher = {
            let set = Arc::clone(&set);
            Sleeper::new(&[libc::SYS_epoll_pwait], move || set.wait())
        };
        let told = wake(&queue, WakeOptions::new().set(u64::MAX).key(Keys::IN));
        assert_eq!((told.word, told.woken), (u64::MAX, 3));
        assert_eq!(sleeper.join().word, u64::MAX);
        assert_eq!(poller.join(), PollFlags::IN);
        assert_eq!(watcher.join(), Ok(EventFlags::IN));
        assert_eq!(wait(&queue, WaitOptions::new().expect(0)).word, u64::MAX);
        // Without being told to, no wake changes it.
        let told = wake(&queue, WakeOptions::new());
        assert_eq!((told.word, queue.waiters().unwrap().word), (u64::MAX, u64::MAX));
    }

    /// poll(2): there is something to read while the word is not 0, and always room.
    fn readiness_is_the_word() {
        let queue = waitq();
        let level = Epoll::of(&queue, EventFlags::IN);
        assert_eq!(poll_now(&queue, PollFlags::all()), PollFlags::OUT);
        assert_eq!(level.now(), EventFlags::empty());
        wake(&queue, WakeOptions::new().set(1 << 63));
        assert_eq!(poll_now(&queue, PollFlags::all()), PollFlags::IN | PollFlags::OUT);
        assert_eq!(level.now(), EventFlags::IN);
        wake(&queue, WakeOptions::new().set(0));
        assert_eq!(poll_now(&queue, PollFlags::all()), PollFlags::OUT);
        assert_eq!(level.now(), EventFlags::empty());
    }

    /// Each wake that is about it is an edge, if the word is not 0 when one looks.
    fn each_wake_is_an_edge() {
        let queue = made(1, WaitqFlags::empty());
        let set = Epoll::of(&queue, EventFlags::IN | EventFlags::ET);
        assert_eq!(set.now(), EventFlags::IN);
        for (options, edge) in [
            (WakeOptions::new(), true),
            (WakeOptions::new().key(Keys::IN), true),
            (WakeOptions::new().key(Keys::OUT), false),
            (WakeOptions::new().set(0), false),
            (WakeOptions::new().set(2), true),
        ] {
            assert_eq!(set.now(), EventFlags::empty());
            wake(&queue, options);
            assert_eq!(!set.now().is_empty(), edge, "{options:?}");
        }
    }

    /// A read sleeps until a wake comes and gives nothing; a write is a wake, whatever
    /// is written.
    fn read_and_write() {
        let queue = waitq();
        for length in [1, 8, 1 << 20] {
            let readers = [(); 2].map(|()| reading(&queue));
            assert_eq!(queue.write(&vec![0; length]).unwrap(), length);
            for reader in readers {
                assert_eq!(reader.join().unwrap(), 0);
            }
        }
        // Not even that there is anything.
        assert_eq!(write_from(&queue, Address::NULL, 5), Ok(5));
        assert_eq!(queue.count().unwrap(), 0);
    }

    /// A write wakes one exclusive sleeper, and says that it is about POLLIN.
    fn a_write_wakes_one() {
        let queue = waitq();
        let exclusive = WaitOptions::new().exclusive();
        let other = Waiting::new(&queue, exclusive.mask(Keys::OUT | Keys::HUP));
        let [first, second] = [(); 2].map(|()| Waiting::new(&queue, exclusive.mask(Keys::IN)));
        let plain = Waiting::new(&queue, WaitOptions::new());
        queue.write(b"x").unwrap();
        for (sleeper, walked) in [(plain, 1), (first, 3)] {
            let told = sleeper.join();
            assert_eq!((told.reason, told.key), (Reason::Woken, Keys::IN));
            assert_eq!((told.walked, told.called), (walked, walked), "{told:?}");
        }
        assert!(second.sleeps_on() && other.sleeps_on());
        wake(&queue, WakeOptions::new().all());
        assert_eq!(second.join().reason, Reason::Woken);
        assert_eq!(other.join().reason, Reason::Woken);
    }

    /// A read is interrupted by a signal as other reads are.
    fn a_read_can_be_interrupted() {
        let queue = waitq();
        let signal = Signal::interrupting();
        let reader = reading(&queue);
        reader.interrupt(&signal);
        assert_eq!(reader.join().unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(queue.count().unwrap(), 0);

        let signal = Signal::restarting();
        let reader = reading(&queue);
        reader.interrupt(&signal);
        until("the signal was handled", || signal.handled() == 1);
        reader.wait_until_asleep_again();
        queue.write(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), 0);
    }

    /// With O_NONBLOCK a read that would sleep fails, be the word what it may; a WAIT,
    /// which was made for nothing else, sleeps.
    fn nonblocking_is_for_reads() {
        let queue = made(1, WaitqFlags::NONBLOCK);
        assert_eq!(queue.read().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(queue.write(b"x").unwrap(), 1);
        assert_eq!(wait(&queue, WaitOptions::new().timeout(MS)).reason, Reason::TimedOut);
        assert_eq!(queue.count().unwrap(), 0);

        // So does one that is told for this once.
        fcntl_setfl(&queue, OFlags::empty()).unwrap();
        let mut byte = [0];
        let mut segments = [IoSliceMut::new(&mut byte)];
        let result = preadv2(&queue, &mut segments, u64::MAX, ReadWriteFlags::NOWAIT);
        assert_eq!(result, Err(Errno::AGAIN));
        let reader = reading(&queue);
        queue.write(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), 0);
    }

    /// Flags, and what /proc knows.
    fn it_is_a_file() {
        let queue = made(0xabc, WaitqFlags::empty());
        assert_eq!(fcntl_getfd(&queue), Ok(FdFlags::CLOEXEC));
        assert_eq!(fcntl_getfl(&queue), Ok(OFlags::RDWR));
        let kept = Factory::open().unwrap().waitq(0, WaitqFlags::NONBLOCK).unwrap();
        assert_eq!(fcntl_getfd(&kept), Ok(FdFlags::empty()));
        assert_eq!(fcntl_getfl(&kept), Ok(OFlags::RDWR | OFlags::NONBLOCK));
        drop(kept);

        let fd = queue.as_fd().as_raw_fd();
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        assert_eq!(link.to_str(), Some("anon_inode:[ipcdemo-waitq]"));
        let sleeper = Waiting::new(&queue, WaitOptions::new());
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let own: Vec<_> = info.lines().filter(|line| line.starts_with("waitq-")).collect();
        assert!(own[0].strip_prefix("waitq-id: ").unwrap().parse::<u32>().unwrap() > 0);
        assert_eq!(own[1..], ["waitq-word:              abc", "waitq-waiters: 1"]);
        wake(&queue, WakeOptions::new());
        sleeper.join();
        // Waiters are counted up to a limit here.
        let limit = raw::IPCDEMO_WAITERS_COUNTED;
        let _sets: Vec<_> = (0..limit + 2).map(|_| Epoll::of(&queue, EventFlags::IN)).collect();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        assert!(info.contains(&format!("\nwaitq-waiters: {limit}\n")), "{info}");
    }

    /// A sleeper is seen in /proc as one that waits here.
    fn a_sleeper_is_seen_in_proc() {
        let queue = waitq();
        for (options, state) in [
            (WaitOptions::new(), 'S'),
            (WaitOptions::new().killable(), 'D'),
            (WaitOptions::new().uninterruptible().timeout(LONG), 'D'),
        ] {
            let sleeper = Waiting::new(&queue, options);
            let task = format!("/proc/self/task/{}", sleeper.tid());
            let read = |name| fs::read_to_string(format!("{task}/{name}")).unwrap();
            until("it is off the CPU", || {
                read("wchan") == "ipcdemo_wait_event" && read("stat").contains(&format!(") {state} "))
            });
            wake(&queue, WakeOptions::new());
            assert_eq!(sleeper.join().reason, Reason::Woken);
        }
    }

    /// The receipt names the waker: the process, and the thread.
    fn the_waker_is_told() {
        let queue = waitq();
        let told = |waker: &dyn Fn()| {
            let sleeper = Waiting::new(&queue, WaitOptions::new().exclusive());
            waker();
            let told = sleeper.join();
            assert_eq!((told.walked, told.called, told.woken), (1, 1, 1));
            assert_eq!(told.stopped_by, StoppedBy::Quota);
            (told.waker_pid, told.waker_tid)
        };
        let pid = std::process::id() as i32;
        let here = gettid().as_raw_nonzero().get();
        assert_eq!(told(&|| assert_eq!(wake(&queue, WakeOptions::new()).woken, 1)), (pid, here));
        assert_eq!(told(&|| assert_eq!(queue.write(b"x").unwrap(), 1)), (pid, here));

        let (queue, its_queue) = (Arc::clone(&queue), Arc::clone(&queue));
        let sleeper = Waiting::new(&queue, WaitOptions::new());
        let waker = thread::spawn(move || {
            wake(&its_queue, WakeOptions::new());
            gettid().as_raw_nonzero().get()
        });
        let told = sleeper.join();
        assert_eq!((told.waker_pid, told.waker_tid), (pid, waker.join().unwrap()));

        let sleeper = Waiting::new(&queue, WaitOptions::new());
        let child = Child::fork(|| u8::from(queue.wake(&WakeOptions::new()).is_err()));
        let (told, child_pid) = (sleeper.join(), child.pid().as_raw_nonzero().get());
        assert_eq!((told.waker_pid, told.waker_tid), (child_pid, child_pid));
        assert_eq!(child.wait(), 0);
    }

    /// A waker outside of the sleeper's PID namespace has no number there.
    fn a_waker_that_cannot_be_seen() {
        let queue = waitq();
        let child = Child::fork(|| {
            // SAFETY: It takes no pointer.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
            let inside = Child::fork(|| {
                let told = queue.wait(&WaitOptions::new()).unwrap();
                assert_eq!((told.waker_pid, told.waker_tid, told.walked), (0, 0, 1));
                0
            });
            inside.wait() as u8
        });
        until("it sleeps", || queue.count().unwrap() == 1);
        wake(&queue, WakeOptions::new());
        assert_eq!(child.wait(), 0);
    }

    /// All descriptors are of one queue, whoever has them.
    fn descriptors_are_shared() {
        let queue = waitq();
        let copy = Waitq::from(fcntl_dupfd_cloexec(&queue, 0).unwrap());
        let sleeper = Waiting::new(&queue, WaitOptions::new());
        wake(&copy, WakeOptions::new().set(3));
        assert_eq!(sleeper.join().word, 3);

        let child = Child::fork(|| match queue.wait(&WaitOptions::new()) {
            Ok(told) if told.reason == Reason::Woken => told.word as u8,
            _ => 0,
        });
        until("the child sleeps", || copy.count().unwrap() == 1);
        wake(&copy, WakeOptions::new().set(4));
        assert_eq!(child.wait(), 4);
    }

    /// Closing the descriptor on which somebody sleeps does not disturb it: the queue
    /// lives as long as the call.
    fn closing_does_not_disturb() {
        let signal = Signal::interrupting();
        let factory = Factory::open().unwrap();
        let queue = waitq();
        let copy = Waitq::from(fcntl_dupfd_cloexec(&queue, 0).unwrap());
        let (sleeper, fd) = sleeping_on_a_number(&queue);
        drop(fd);
        assert_eq!(copy.count().unwrap(), 1);
        wake(&copy, WakeOptions::new());
        assert_eq!(sleeper.join().reason, Reason::Woken);

        let (sleeper, fd) = sleeping_on_a_number(&queue);
        drop((fd, queue, copy));
        assert!(sleeper.sleeps_on());
        let list = factory.list().unwrap();
        assert_eq!((list.len(), list[0].waiters), (1, 1));
        sleeper.interrupt(&signal);
        assert_eq!(sleeper.join().reason, Reason::Signaled);
        until("it is gone", || factory.list().unwrap().is_empty());
    }

    /// An epoll set forgets a queue that is closed.
    fn a_set_forgets_a_closed_queue() {
        let queue = made(1, WaitqFlags::empty());
        let set = Epoll::of(&queue, EventFlags::IN);
        assert_eq!(set.now(), EventFlags::IN);
        drop(queue);
        assert_eq!(set.now(), EventFlags::empty());
    }

    /// The shared queue is one, and keeps its word.
    fn the_shared_queue_is_one() {
        let [one, other] = [(); 2].map(|()| Arc::new(Waitq::open_shared(false).unwrap()));
        let sleeper = Waiting::new(&one, WaitOptions::new());
        wake(&other, WakeOptions::new().set(5));
        assert_eq!(sleeper.join().reason, Reason::Woken);
        assert_eq!(poll_now(&one, PollFlags::all()), PollFlags::IN | PollFlags::OUT);
        drop((one, other));
        let queue = Arc::new(Waitq::open_shared(true).unwrap());
        assert_eq!(wake(&queue, WakeOptions::new()).word, 5);
        assert_eq!(queue.read().unwrap_err().kind(), ErrorKind::WouldBlock);
        wake(&queue, WakeOptions::new().set(0));
        let poller = polling(&queue);
        let reader = reading(&Arc::new(Waitq::open_shared(false).unwrap()));
        wake(&queue, WakeOptions::new().set(1));
        assert_eq!(poller.join(), PollFlags::IN);
        assert_eq!(reader.join().unwrap(), 0);
        wake(&queue, WakeOptions::new().set(0));
    }

    /// Closing one's file on it is nothing to the others.
    fn the_shared_queue_does_not_hang_up() {
        let queue = Arc::new(Waitq::open_shared(false).unwrap());
        let sleeper = Waiting::new(&queue, WaitOptions::new().mask(Keys::HUP));
        let poller = polling(&queue);
        drop(Waitq::open_shared(false).unwrap());
        assert!(sleeper.sleeps_on() && poller.sleeps_on());
        wake(&queue, WakeOptions::new().set(1));
        sleeper.join();
        poller.join();
        wake(&queue, WakeOptions::new().set(0));
    }
}

fn made(word: u64, flags: WaitqFlags) -> Arc<Waitq> {
    let factory = Factory::open().unwrap();
    Arc::new(factory.waitq(word, flags | WaitqFlags::CLOEXEC).unwrap())
}

fn wait(queue: &Waitq, options: WaitOptions) -> Receipt {
    queue.wait(&options).unwrap()
}

fn wake(queue: &Waitq, options: WakeOptions) -> WakeReceipt {
    queue.wake(&options).unwrap()
}

/// Checks that a receipt tells of no wake.
fn check_nobody(told: &Receipt) {
    let wake = (told.key, told.waker_pid, told.waker_tid);
    assert_eq!(wake, (Keys::empty(), 0, 0), "{told:?}");
    let walk = (told.walked, told.called, told.woken, told.stopped_by);
    assert_eq!(walk, (0, 0, 0, StoppedBy::End), "{told:?}");
}

/// A signal that has a handler does not end this sleep; a wake does, and then it is handled.
fn sleeps_through_a_signal(queue: &Arc<Waitq>, options: WaitOptions) {
    let signal = Signal::interrupting();
    let sleeper = Waiting::new(queue, options);
    sleeper.interrupt(&signal);
    assert!(sleeper.sleeps_on());
    assert_eq!(signal.handled(), 0);
    wake(queue, WakeOptions::new());
    assert_eq!(sleeper.join().reason, Reason::Woken);
    until("the signal was handled", || signal.handled() == 1);
}

/// A thread that sleeps in read(2).
fn reading(queue: &Arc<Waitq>) -> Sleeper<std::io::Result<usize>> {
    let queue = Arc::clone(queue);
    Sleeper::new(&[libc::SYS_read], move || queue.read())
}

/// A thread that sleeps in poll(2).
fn polling(queue: &Arc<Waitq>) -> Sleeper<PollFlags> {
    let queue = Arc::clone(queue);
    Sleeper::new(&[libc::SYS_ppoll], move || {
        let mut fds = [PollFd::new(&queue, PollFlags::IN)];
        poll(&mut fds, None).unwrap();
        fds[0].revents()
    })
}

/// A thread that sleeps on a descriptor which it does not keep open; and that
/// descriptor.
fn sleeping_on_a_number(queue: &Waitq) -> (Sleeper<Receipt>, OwnedFd) {
    let fd = fcntl_dupfd_cloexec(queue, 0).unwrap();
    let number = fd.as_raw_fd();
    let sleeper = Sleeper::new(&[libc::SYS_ioctl], move || {
        // SAFETY: It is open until the thread is seen asleep, and not closed by this.
        let queue = ManuallyDrop::new(Waitq::from(unsafe { OwnedFd::from_raw_fd(number) }));
        queue.wait(&WaitOptions::new()).unwrap()
    });
    (sleeper, fd)
}
