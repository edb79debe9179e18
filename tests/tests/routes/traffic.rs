// SPDX-License-Identifier: GPL-2.0

//! Threads that make eventfds and pipes all the time, of a member and of others, and look at each.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipcdemo_tests::member::{become_member, route, start};
use ipcdemo_tests::{Child, count, read, schedule, until};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::ENTRIES;

/// What the processes share: pages that survive a fork as they are.
#[derive(Debug, Default)]
pub struct Shared {
    /// Calls begun, and calls ended with the right result. A thread adds one of each for each call.
    begun: AtomicU64,
    ended: AtomicU64,
    /// No thread begins another call.
    paused: AtomicBool,
    /// All threads end.
    over: AtomicBool,
}

impl Shared {
    /// Maps it, for good.
    pub fn new() -> &'static Self {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: It names no address, so nothing else is mapped over; zeros are a valid `Shared`, and the
        // mapping is never undone.
        unsafe {
            let page = mmap_anonymous(ptr::null_mut(), size_of::<Self>(), flags, MapFlags::SHARED);
            &*page.unwrap().cast::<Self>()
        }
    }

    /// How many calls were made.
    pub fn calls(&self) -> u64 {
        self.ended.load(Ordering::SeqCst)
    }

    /// Makes one call, unless there is a pause.
    fn call(&self) {
        // Begun before the look: one that sees none pauses after it, and waits for this call.
        self.begun.fetch_add(1, Ordering::SeqCst);
        if self.paused.load(Ordering::SeqCst) {
            self.begun.fetch_sub(1, Ordering::SeqCst);
            thread::yield_now();
            return;
        }
        check_one(self.begun.load(Ordering::Relaxed) as u32);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until so many more calls were made.
    pub fn go_on_for(&self, calls: u64) {
        let end = self.calls() + calls;
        until("the calls were made", || self.calls() >= end);
    }

    /// Runs `body` while no call is under way.
    fn pause<T>(&self, body: impl FnOnce() -> T) -> T {
        self.paused.store(true, Ordering::SeqCst);
        until("no call is under way", || {
            self.begun.load(Ordering::SeqCst) == self.ended.load(Ordering::SeqCst)
        });
        let result = body();
        self.paused.store(false, Ordering::SeqCst);
        result
    }

    /// How many calls the module has answered, from whomever, and how many were made here.
    pub fn look(&self) -> (u64, u64) {
        self.pause(|| {
            let answered = ENTRIES.map(|entry| route(entry).answered);
            (answered.iter().sum(), self.calls())
        })
    }

    /// Has so many calls come, and gives how many were answered, from whomever, and made here meanwhile.
    pub fn moved(&self, calls: u64) -> (u64, u64) {
        let before = self.look();
        self.go_on_for(calls);
        let after = self.look();
        (after.0 - before.0, after.1 - before.1)
    }

    /// Begins `threads` threads, in a member or in another process, that take turns on the processors.
    pub fn begin(&'static self, enrolled: bool, threads: usize) -> Child {
        self.begin_with(enrolled, threads, |thread| stay_on(thread % 2))
    }

    /// As [`Shared::begin`]: threads that run on the first processor when nobody else wants it.
    pub fn begin_idle(&'static self, enrolled: bool, threads: usize) -> Child {
        self.begin_with(enrolled, threads, |_| {
            stay_on(0);
            schedule(libc::SCHED_IDLE, 0);
        })
    }

    /// `settle` is called by each thread with its number, again and again.
    fn begin_with(&'static self, enrolled: bool, threads: usize, settle: fn(usize)) -> Child {
        start(move || {
            if enrolled {
                become_member();
            }
            let threads: Vec<_> = (0..threads)
                .map(|thread| {
                    thread::spawn(move || {
                        for call in 0.. {
                            if self.over.load(Ordering::Relaxed) {
                                break;
                            }
                            if call % 1000 == 0 {
                                settle(thread);
                            }
                            self.call();
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        })
    }

    /// Ends all threads, and their processes, which must not have found anything wrong.
    pub fn end<const N: usize>(&self, processes: [Child; N]) {
        self.over.store(true, Ordering::Relaxed);
        for process in processes {
            assert_eq!(process.wait(), 0);
        }
    }
}

/// A thread that comes first on the first processor, and wants it for a moment, again and again: whatever runs
/// there is preempted, wherever it stands.
pub struct Preempting {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Preempting {
    pub fn begin() -> Self {
        // No divisor of a tick, so that it comes at any moment of one.
        const PAUSE: Duration = Duration::from_micros(337);
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            stay_on(0);
            schedule(libc::SCHED_FIFO, 1);
            while !is_over.load(Ordering::Relaxed) {
                thread::sleep(PAUSE);
            }
        });
        Self {
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Preempting {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Makes an eventfd by either call, or at times a pipe, and looks whether it is one, with that value.
fn check_one(value: u32) {
    if value % 8 == 3 {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        assert_eq!(rustix::io::write(&writer, &value.to_ne_bytes()), Ok(4));
        let mut read = [0; 4];
        assert_eq!(rustix::io::read(&reader, &mut read), Ok(4));
        assert_eq!(u32::from_ne_bytes(read), value);
        return;
    }
    // SAFETY: Neither takes a pointer.
    let fd = unsafe {
        if value % 2 == 0 {
            libc::syscall(libc::SYS_eventfd, value)
        } else {
            libc::syscall(libc::SYS_eventfd2, value, libc::EFD_NONBLOCK)
        }
    };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: It is a new descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    if value % 64 == 0 {
        assert_eq!(count(&fd), value.into());
    } else if value != 0 {
        assert_eq!(read(&fd), Ok(value.into()));
    }
}

/// Binds this thread to a processor that may be offline at the moment: then it goes where it can.
fn stay_on(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    let _ = sched_setaffinity(None, &cpus);
}
