// SPDX-License-Identifier: GPL-2.0

//! Threads that take turns in an order that is the same every time.
//!
//! Which of several sleepers gets what a write brings is up to the scheduler. To
//! have no such choice, all workers of a subject are on one processor and under
//! SCHED_FIFO with one priority: they run in the order in which they are made
//! runnable, each until it sleeps or is done. So what they return can be compared
//! one by one, and with it the order of the queue.
//!
//! For that they must become runnable in the order in which they are woken, and wake-ups
//! from the other processor need not: see `wake_in_order`.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, Thread};

use ipcdemo_tests::{Signal, pin};
use rustix::process::Pid;
use rustix::thread::gettid;

use crate::calls::{Call, Outcome};

/// Below the workers: who gets to run at this priority knows that they do not.
pub const CONDUCTING: i32 = 1;
const WORKING: i32 = 2;

enum Slot {
    Idle,
    Told(Call),
    Busy,
    Done(Outcome),
}

/// A thread that makes calls which may sleep.
pub struct Worker {
    slot: Arc<Mutex<Slot>>,
    thread: Thread,
    tid: Pid,
    syscall: File,
    /// What it was last seen to sleep in.
    sleeps_in: Cell<Option<i64>>,
}

impl Worker {
    /// Starts it.
    pub fn new() -> Self {
        let slot = Arc::new(Mutex::new(Slot::Idle));
        let (send, receive) = mpsc::channel();
        let thread = thread::spawn({
            let slot = Arc::clone(&slot);
            move || {
                schedule(WORKING);
                send.send(gettid()).unwrap();
                work(&slot);
            }
        });
        let tid = receive.recv().unwrap();
        Self {
            slot,
            thread: thread.thread().clone(),
            tid,
            syscall: File::open(format!("/proc/self/task/{tid}/syscall")).unwrap(),
            sleeps_in: Cell::new(None),
        }
    }

    /// Has it make a call.
    pub fn tell(&self, call: Call) {
        self.sleeps_in.set(None);
        *self.slot.lock().unwrap() = Slot::Told(call);
        self.thread.unpark();
    }

    /// Whether it has a call to make.
    pub fn is_busy(&self) -> bool {
        !matches!(*self.slot.lock().unwrap(), Slot::Idle)
    }

    /// What its call returned, if it did.
    pub fn returned(&self) -> Option<Outcome> {
        let mut slot = self.slot.lock().unwrap();
        match std::mem::replace(&mut *slot, Slot::Idle) {
            Slot::Done(outcome) => Some(outcome),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// The system call that it sleeps in, by number; nothing if it has no call to make.
    ///
    /// # Panics
    ///
    /// If it is awake, as nobody is when this is asked: see above.
    pub fn sleeps_in(&self) -> Option<i64> {
        if !self.is_busy() {
            return None;
        }
        // Told once, it stays in the same call until that returns.
        if self.sleeps_in.get().is_none() {
            let mut text = [0; 8];
            let length = self.syscall.read_at(&mut text, 0).unwrap();
            let text = std::str::from_utf8(&text[..length]).unwrap();
            let number = text
                .split(' ')
                .next()
                .and_then(|number| number.parse().ok());
            assert!(number.is_some(), "it should sleep, but is {text}");
            self.sleeps_in.set(number);
        }
        self.sleeps_in.get()
    }

    /// Signals it.
    pub fn signal(&self, signal: &Signal) {
        signal.send(self.tid);
    }

    /// Puts it on a processor.
    pub fn place(&self, cpu: usize) {
        pin(Some(self.tid), cpu);
    }
}

fn work(slot: &Mutex<Slot>) {
    loop {
        let told = {
            let mut slot = slot.lock().unwrap();
            match std::mem::replace(&mut *slot, Slot::Busy) {
                Slot::Told(call) => Some(call),
                other => {
                    *slot = other;
                    None
                }
            }
        };
        match told {
            Some(call) => {
                let outcome = call.make();
                *slot.lock().unwrap() = Slot::Done(outcome);
            }
            None => thread::park(),
        }
    }
}

/// A thread that answers when the workers on its processor all sleep.
pub struct Fence {
    ask: mpsc::Sender<()>,
    answer: mpsc::Receiver<()>,
    tid: Pid,
}

impl Fence {
    /// Starts it.
    pub fn new() -> Self {
        let (ask, asked) = mpsc::channel();
        let (send, answer) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            schedule(CONDUCTING);
            tell.send(gettid()).unwrap();
            while asked.recv().is_ok() && send.send(()).is_ok() {}
        });
        Self {
            ask,
            answer,
            tid: told.recv().unwrap(),
        }
    }

    /// Waits until the workers sleep.
    pub fn wait(&self) {
        self.ask.send(()).unwrap();
        self.answer.recv().unwrap();
    }

    /// Puts it on the workers' processor.
    pub fn place(&self, cpu: usize) {
        pin(Some(self.tid), cpu);
    }
}

/// Has wake-ups from another processor take effect in their order, for all of the kernel.
///
/// A processor without a runnable task is sent what it is to wake (`ttwu_queue_cond` in
/// `kernel/sched/core.c`); one that has a task gets the next at once. If some kernel thread
/// becomes runnable there between the two, the second sleeper runs before the first.
pub fn wake_in_order() {
    let features = "/sys/kernel/debug/sched/features";
    fs::write(features, "NO_TTWU_QUEUE").unwrap_or_else(|error| panic!("{features}: {error}"));
}

/// Puts the calling thread under SCHED_FIFO.
pub fn schedule(priority: i32) {
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: It reads `param`.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    assert_eq!(result, 0, "SCHED_FIFO: {}", std::io::Error::last_os_error());
}
