// SPDX-License-Identifier: GPL-2.0

use std::cell::Cell;
use std::ffi::c_long;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use rustix::process::Pid;
use rustix::thread::gettid;

use crate::{Errno, Fd, Signal, Task, until};

/// A thread that is blocked in a system call.
///
/// It is not joined on drop: a test that fails must not wait for a thread that
/// nobody will wake any more.
#[derive(Debug)]
pub struct Sleeper<T> {
    thread: JoinHandle<T>,
    tid: Pid,
    task: Task,
    syscalls: &'static [c_long],
    // How often it had gone to sleep when it was last seen asleep.
    sleeps: Cell<u64>,
}

impl<T: Send + 'static> Sleeper<T> {
    /// Runs `body` in a thread of its own, and waits until that sleeps in one of
    /// `syscalls`.
    ///
    /// # Panics
    ///
    /// If the body ends, or nothing of the kind happens.
    #[must_use]
    pub fn new(syscalls: &'static [c_long], body: impl FnOnce() -> T + Send + 'static) -> Self {
        let (send, receive) = channel();
        let thread = thread::spawn(move || {
            send.send(gettid()).unwrap();
            body()
        });
        let tid = receive.recv().unwrap();
        let sleeper = Self {
            thread,
            tid,
            task: Task::thread(tid),
            syscalls,
            sleeps: Cell::new(0),
        };
        sleeper.wait_until_asleep_again();
        sleeper
    }

    /// Its thread.
    #[must_use]
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// Waits until it has been awake and sleeps again, as it does if what woke it was
    /// not enough.
    ///
    /// # Panics
    ///
    /// If it ends instead.
    pub fn wait_until_asleep_again(&self) {
        until("the thread sleeps again", || {
            assert!(!self.has_returned(), "it returned instead of sleeping");
            self.task.asleep_in(self.syscalls) && self.task.sleeps() > self.sleeps.get()
        });
        self.sleeps.set(self.task.sleeps());
    }

    /// Whether it sleeps at this moment, and has not even been woken in vain. A waker
    /// makes its sleepers runnable before it returns, so this can be asked at once.
    #[must_use]
    pub fn sleeps_on(&self) -> bool {
        !self.has_returned()
            && self.task.asleep_in(self.syscalls)
            && self.task.sleeps() == self.sleeps.get()
    }

    /// Whether it is done.
    #[must_use]
    pub fn has_returned(&self) -> bool {
        self.thread.is_finished()
    }

    /// Sends it a signal.
    pub fn interrupt(&self, signal: &Signal) {
        signal.send(self.tid);
    }

    /// Waits for it to be woken, and gives what it returned.
    ///
    /// # Panics
    ///
    /// If the body did.
    pub fn join(self) -> T {
        until("the thread was woken", || self.has_returned());
        self.thread
            .join()
            .expect("the thread's body does not panic")
    }
}

impl Sleeper<Result<u64, Errno>> {
    /// A thread that sleeps in read(2).
    #[must_use]
    pub fn reading(fd: &Fd) -> Self {
        let fd = Fd::clone(fd);
        Self::new(&[libc::SYS_read], move || crate::read(&fd))
    }
}

impl Sleeper<Result<(), Errno>> {
    /// A thread that sleeps in write(2).
    #[must_use]
    pub fn writing(fd: &Fd, value: u64) -> Self {
        let fd = Fd::clone(fd);
        Self::new(&[libc::SYS_write], move || crate::write(&fd, value))
    }
}
