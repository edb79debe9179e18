// SPDX-License-Identifier: GPL-2.0

//! Who is on the queue: each sort of entry decoded, and a thousand at once.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use ipcdemo_client::{
    Keys, Listing, Reason, WaitOptions, Waiter, WaiterKind, Waitq, WakeOptions, monotonic,
};
use ipcdemo_tests::aio::Aio;
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::{Child, Ring, Sleeper, Waiting, listed, scaled, serial, until, waitq};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

serial! {
    /// A thousand tasks of every sort come and go, woken by two others: each listing
    /// is one moment of the queue, in the order of a walk.
    fn a_thousand_sleepers() {
        const SLEEPERS: usize = 1000;
        let queue = waitq();
        let stop = Arc::new(AtomicBool::new(false));
        let alive = Arc::new(AtomicUsize::new(SLEEPERS));
        for number in 0..SLEEPERS {
            let (queue, stop, alive) = (Arc::clone(&queue), Arc::clone(&stop), Arc::clone(&alive));
            let options = sort(number);
            let builder = thread::Builder::new().stack_size(64 << 10);
            let spawned = builder.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(queue.wait(&options).unwrap().reason, Reason::Woken);
                }
                alive.fetch_sub(1, Ordering::Relaxed);
            });
            spawned.unwrap();
        }
        until("all of them sleep", || queue.count().unwrap() as usize == SLEEPERS);
        let mut last = queue.waiters().unwrap();
        check(&last);
        assert_eq!(last.waiters.len(), SLEEPERS);

        let wakers = [1, 2].map(|seed| {
            let (queue, stop) = (Arc::clone(&queue), Arc::clone(&stop));
            thread::spawn(move || {
                let mut random: u32 = seed;
                while !stop.load(Ordering::Relaxed) {
                    // Not so many at once that nobody else gets to run.
                    if (queue.count().unwrap() as usize) < SLEEPERS * 9 / 10 {
                        thread::yield_now();
                        continue;
                    }
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let keys = [Keys::IN, Keys::IN, Keys::PRI, Keys::empty()];
                    let key = keys[(random >> 30) as usize];
                    let nr = (random >> 20) % 8 + 1;
                    queue.wake(&WakeOptions::new().nr(nr).key(key)).unwrap();
                }
            })
        });
        // Of the CPUs' time the one that looks gets a fair share, not a thousandth.
        // SAFETY: It takes no pointer; 0 is the calling thread.
        assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) }, 0);
        let snapshots = scaled(100);
        let (mut changes, mut smallest, mut largest) = (0, SLEEPERS, 0);
        for _ in 0..snapshots {
            let listing = queue.waiters().unwrap();
            check(&listing);
            smallest = smallest.min(listing.waiters.len());
            largest = largest.max(listing.waiters.len());
            changes += usize::from(listing.waiters != last.waiters);
            last = listing;
        }
        println!("{snapshots} listings of {smallest} to {largest} entries, {changes} changes");
        assert!(changes > snapshots / 2, "this proves nothing");

        stop.store(true, Ordering::Relaxed);
        wakers.map(|waker| waker.join().unwrap());
        until("all of them have gone", || {
            queue.wake(&WakeOptions::new().all()).unwrap();
            alive.load(Ordering::Relaxed) == 0
        });
        assert_eq!(queue.count().unwrap(), 0);
    }

    /// A task of this module's: what it waits for and how, since when, and who it is.
    fn a_task() {
        let queue = waitq();
        let before = monotonic();
        let keys = Keys::IN | Keys::HUP;
        let options = WaitOptions::new().mask(keys).exclusive().priority();
        let sleeper = named("a task's name", &queue, options);
        let waiter = only(&queue);
        let after = monotonic();
        assert_eq!(waiter.position, 0);
        assert_eq!(waiter.kind, WaiterKind::Task);
        assert_eq!((waiter.exclusive, waiter.priority), (true, true));
        assert_eq!(waiter.key, keys);
        assert_eq!(waiter.pid, Some(std::process::id() as i32));
        assert_eq!(waiter.tid, Some(sleeper.as_raw_nonzero().get()));
        assert_eq!(waiter.comm, "a task's name");
        assert!(waiter.function.contains("ipcdemo"), "{waiter:?}");
        let since = waiter.since.unwrap();
        assert!(before <= since && since <= after, "{before:?} {waiter:?} {after:?}");
        assert_eq!(only(&queue).since, Some(since), "it has not moved");
        queue.wake(&WakeOptions::new()).unwrap();
    }

    /// A read(2) is a task that waits for anything, and is not exclusive.
    fn a_reader() {
        let queue = waitq();
        let reader = {
            let queue = Arc::clone(&queue);
            Sleeper::new(&[libc::SYS_read], move || queue.read())
        };
        let waiter = only(&queue);
        assert_eq!(waiter.kind, WaiterKind::Task);
        assert_eq!((waiter.exclusive, waiter.priority), (false, false));
        assert_eq!(waiter.key, Keys::empty());
        assert_eq!(waiter.tid, Some(reader.tid().as_raw_nonzero().get()));
        queue.wake(&WakeOptions::new()).unwrap();
        assert_eq!(reader.join().unwrap(), 0);
    }

    /// poll(2): the events, with those that are always reported, and the thread.
    fn a_poller() {
        let queue = waitq();
        let poller = polling(&queue, PollFlags::IN | PollFlags::RDHUP);
        let waiter = only(&queue);
        assert_eq!(waiter.kind, WaiterKind::Poll);
        assert_eq!((waiter.exclusive, waiter.priority), (false, false));
        assert_eq!(waiter.key, Keys::IN | Keys::RDHUP | Keys::ERR | Keys::HUP);
        assert_eq!(waiter.pid, Some(std::process::id() as i32));
        assert_eq!(waiter.tid, Some(poller.tid().as_raw_nonzero().get()));
        assert!(!waiter.comm.is_empty());
        assert_eq!(waiter.function, "pollwake");
        assert_eq!(waiter.since, None);
        queue.wake(&WakeOptions::new().set(1)).unwrap();
        assert_eq!(poller.join(), PollFlags::IN);
    }

    /// select(2) is the same by another name.
    fn a_selecter() {
        let queue = waitq();
        let selecter = {
            let queue = Arc::clone(&queue);
            Sleeper::new(&[libc::SYS_select, libc::SYS_pselect6], move || select(&queue))
        };
        let waiter = only(&queue);
        assert_eq!(waiter.kind, WaiterKind::Poll);
        assert!(waiter.key.contains(Keys::IN | Keys::RDNORM), "{waiter:?}");
        assert!(!waiter.key.contains(Keys::OUT), "{waiter:?}");
        assert_eq!(waiter.tid, Some(selecter.tid().as_raw_nonzero().get()));
        assert_eq!(waiter.function, "pollwake");
        queue.wake(&WakeOptions::new().set(1)).unwrap();
        assert_eq!(selecter.join(), 1);
    }

    /// An item of an epoll set is there as long as the set is; whose it is cannot be
    /// told.
    fn an_epoll_item() {
        for exclusive in [false, true] {
            let queue = waitq();
            let mut events = EventFlags::IN;
            events.set(EventFlags::EXCLUSIVE, exclusive);
            let set = Epoll::of(&queue, events);
            let waiter = only(&queue);
            assert_eq!(waiter.kind, WaiterKind::Epoll);
            assert_eq!((waiter.exclusive, waiter.priority), (exclusive, false));
            assert_eq!(waiter.function, "ep_poll_callback");
            check_anonymous(&waiter);
            drop(set);
            assert_eq!(queue.count().unwrap(), 0);
        }
    }

    /// A poll by io_uring.
    fn a_ring() {
        let queue = waitq();
        let mut ring = Ring::new();
        ring.poll(&queue, PollFlags::IN, false);
        let waiter = only(&queue);
        assert_eq!(waiter.kind, WaiterKind::IoUring);
        assert_eq!(waiter.function, "io_poll_wake");
        check_anonymous(&waiter);
        queue.wake(&WakeOptions::new().set(1).key(Keys::IN)).unwrap();
        assert_eq!(ring.completion(), Ok(libc::POLLIN.into()));
        assert_eq!(queue.count().unwrap(), 0);
    }

    /// Linux's own asynchronous I/O: one that there is no kind for.
    fn an_aio_poll() {
        let queue = waitq();
        let aio = Aio::new();
        aio.poll(&queue, libc::POLLIN as u16).unwrap();
        let waiter = only(&queue);
        assert_eq!(waiter.kind, WaiterKind::Other);
        assert_eq!(waiter.function, "aio_poll_wake");
        check_anonymous(&waiter);
        queue.wake(&WakeOptions::new().set(1).key(Keys::IN)).unwrap();
        assert_eq!(aio.completion(), Ok(libc::POLLIN.into()));
        assert_eq!(queue.count().unwrap(), 0);
    }

    /// Another process has its own numbers and name.
    fn another_process() {
        let queue = waitq();
        let child = Child::fork(|| u8::from(queue.wait(&WaitOptions::new()).is_err()));
        until("the child sleeps", || queue.count().unwrap() == 1);
        let waiter = only(&queue);
        let pid = child.pid().as_raw_nonzero().get();
        assert_eq!((waiter.pid, waiter.tid), (Some(pid), Some(pid)));
        queue.wake(&WakeOptions::new()).unwrap();
        assert_eq!(child.wait(), 0);
    }

    /// Who is outside of one's PID namespace is on the queue without a number or name.
    fn one_that_cannot_be_seen() {
        let queue = waitq();
        let sleeper = Waiting::new(&queue, WaitOptions::new());
        let poller = polling(&queue, PollFlags::IN);
        let child = Child::fork(|| {
            // SAFETY: It takes no pointer.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
            let inside = Child::fork(|| {
                let seen = queue.waiters().unwrap().waiters;
                assert_eq!(seen.len(), 2);
                for waiter in seen {
                    assert_eq!((waiter.pid, waiter.tid), (None, None), "{waiter:?}");
                    assert_eq!(waiter.comm, "", "{waiter:?}");
                }
                0
            });
            inside.wait() as u8
        });
        assert_eq!(child.wait(), 0);
        assert!(sleeper.sleeps_on() && poller.sleeps_on());
        queue.wake(&WakeOptions::new().set(1)).unwrap();
    }

    /// Times tell the order of arrival.
    fn times_are_in_order() {
        let queue = waitq();
        let times = [(); 10].map(|()| {
            let sleeper = Waiting::new(&queue, WaitOptions::new().exclusive());
            let since = sleeper.entry().since.unwrap();
            assert!(since <= monotonic());
            since
        });
        assert!(times.is_sorted(), "{times:?}");
        queue.wake(&WakeOptions::new().all()).unwrap();
    }

    /// Of more than IPCDEMO_WAITERS_MAX it is told that there are more, and not how many.
    fn more_than_are_told() {
        const MAX: usize = Listing::MAX;
        const EXTRA: usize = 10;
        let enough = Rlimit {
            current: Some(MAX as u64 + 200),
            maximum: Some(MAX as u64 + 200).max(getrlimit(Resource::Nofile).maximum),
        };
        setrlimit(Resource::Nofile, enough).unwrap();
        let queue = waitq();
        let set = Epoll::new();
        let copies: Vec<_> = (0..MAX + EXTRA)
            .map(|_| {
                let copy = fcntl_dupfd_cloexec(&queue, 0).unwrap();
                set.add(&copy, EventFlags::IN);
                copy
            })
            .collect();
        let listing = queue.waiters().unwrap();
        check(&listing);
        assert_eq!(listing.waiters.len(), MAX);
        assert!(listing.is_cut);
        assert_eq!(queue.count().unwrap() as usize, MAX + 1);
        let receipt = queue.wake(&WakeOptions::new()).unwrap();
        assert_eq!(receipt.walked as usize, copies.len());
    }
}

/// The sorts of the thousand: most are exclusive, so that a wake takes a few.
fn sort(number: usize) -> WaitOptions {
    let options = WaitOptions::new().mask([Keys::empty(), Keys::IN, Keys::PRI][number % 3]);
    match number % 20 {
        0 => options.priority(),
        1 => options.priority().exclusive(),
        2 | 3 => options,
        _ => options.exclusive(),
    }
}

/// Checks what is true of every listing of a queue at one moment.
fn check(listing: &Listing) {
    let waiters = &listing.waiters;
    assert!(!listing.is_cut || waiters.len() == Listing::MAX);
    assert!(
        (0..)
            .zip(waiters)
            .all(|(position, waiter)| waiter.position == position)
    );

    let mut tids: Vec<_> = waiters.iter().filter_map(|waiter| waiter.tid).collect();
    let tasks = tids.len();
    tids.sort_unstable();
    tids.dedup();
    assert_eq!(tids.len(), tasks, "a task sleeps once");

    // Those with priority, then the non-exclusive ones, then the exclusive ones; each
    // in order of arrival, but the second in that of departure.
    let block = |waiter: &Waiter| match (waiter.priority, waiter.exclusive) {
        (true, _) => 0,
        (false, false) => 1,
        (false, true) => 2,
    };
    assert!(waiters.is_sorted_by_key(block), "{waiters:#?}");
    let now = monotonic();
    for chunk in waiters.chunk_by(|one, next| block(one) == block(next)) {
        let times: Vec<_> = chunk.iter().filter_map(|waiter| waiter.since).collect();
        if block(&chunk[0]) == 1 {
            assert!(times.is_sorted_by(|one, next| one >= next), "{chunk:#?}");
        } else {
            assert!(times.is_sorted(), "{chunk:#?}");
        }
        assert!(times.iter().all(|&since| since <= now));
    }
}

/// The one entry of a queue.
fn only(queue: &Waitq) -> Waiter {
    let mut waiters = queue.waiters().unwrap().waiters;
    assert_eq!(waiters.len(), 1, "{waiters:?}");
    waiters.pop().unwrap()
}

/// What is told of an entry that nothing is known of.
fn check_anonymous(waiter: &Waiter) {
    assert_eq!((waiter.pid, waiter.tid, waiter.since), (None, None, None));
    assert_eq!((waiter.comm.as_str(), waiter.key), ("", Keys::empty()));
}

/// A thread with a name that sleeps on the queue; its number.
fn named(name: &str, queue: &Arc<Waitq>, options: WaitOptions) -> Pid {
    let its_queue = Arc::clone(queue);
    let (send, receive) = std::sync::mpsc::channel();
    let builder = thread::Builder::new().name(name.into());
    let spawned = builder.spawn(move || {
        send.send(rustix::thread::gettid()).unwrap();
        its_queue.wait(&options)
    });
    spawned.unwrap();
    let tid = receive.recv().unwrap();
    until("it sleeps", || listed(queue, tid).is_some());
    tid
}

/// A thread that sleeps in poll(2).
fn polling(queue: &Arc<Waitq>, events: PollFlags) -> Sleeper<PollFlags> {
    let queue = Arc::clone(queue);
    Sleeper::new(&[libc::SYS_ppoll], move || {
        let mut fds = [PollFd::new(&queue, events)];
        poll(&mut fds, None).unwrap();
        fds[0].revents()
    })
}

/// Sleeps in select(2) until there is something to read.
fn select(fd: impl AsFd) -> i32 {
    let fd = fd.as_fd().as_raw_fd();
    assert!((fd as usize) < libc::FD_SETSIZE);
    // SAFETY: An all-zero set is an empty one, `fd` is within it, and select writes
    // nothing else.
    unsafe {
        let mut readable: libc::fd_set = MaybeUninit::zeroed().assume_init();
        libc::FD_SET(fd, &mut readable);
        libc::select(
            fd + 1,
            &mut readable,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
        )
    }
}
