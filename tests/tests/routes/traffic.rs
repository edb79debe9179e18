// SPDX-License-Identifier: GPL-2.0

//! Threads that make eventfds all the time, of a member and of others, and look at each.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ipcdemo_tests::member::{become_member, route, start};
use ipcdemo_tests::{Child, count, read, until};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
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

    /// Begins `threads` threads, in a member or in another process, that take turns on the processors.
    pub fn begin(&'static self, enrolled: bool, threads: usize) -> Child {
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
                                stay_on(thread % 2);
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

/// Makes an eventfd by either call and looks whether it is one, with that value.
fn check_one(value: u32) {
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
