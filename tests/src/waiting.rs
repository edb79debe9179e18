// SPDX-License-Identifier: GPL-2.0

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use ipcdemo_client::{Factory, Receipt, WaitOptions, Waiter, Waitq, WaitqFlags};
use rustix::process::Pid;
use rustix::thread::gettid;

use crate::{Signal, until};

/// A wait queue of the test's own, whose word is 0.
///
/// # Panics
///
/// If there is none to be had.
#[must_use]
pub fn waitq() -> Arc<Waitq> {
    let factory = Factory::open().unwrap_or_else(|error| panic!("{error}"));
    Arc::new(factory.waitq(0, WaitqFlags::CLOEXEC).unwrap())
}

/// A thread's entry on a queue, if it has one at this moment.
///
/// # Panics
///
/// If the queue does not tell, or tells of it twice.
#[must_use]
pub fn listed(queue: &Waitq, tid: Pid) -> Option<Waiter> {
    let tid = Some(tid.as_raw_nonzero().get());
    let mut waiters = queue.waiters().unwrap().waiters;
    waiters.retain(|waiter| waiter.tid == tid);
    assert!(waiters.len() <= 1, "a task sleeps once: {waiters:?}");
    waiters.pop()
}

/// A thread that is asleep on a wait queue.
///
/// It is not joined on drop: a test that fails must not wait for a thread that
/// nobody will wake any more.
#[derive(Debug)]
pub struct Waiting {
    thread: JoinHandle<Receipt>,
    queue: Arc<Waitq>,
    entry: Waiter,
    tid: Pid,
}

impl Waiting {
    /// Begins to wait in a thread of its own, and looks until that is on the queue.
    ///
    /// # Panics
    ///
    /// If the thread returns, or does not get there.
    #[must_use]
    pub fn new(queue: &Arc<Waitq>, options: WaitOptions) -> Self {
        let (send, receive) = channel();
        let its_queue = Arc::clone(queue);
        let thread = thread::spawn(move || {
            send.send(gettid()).unwrap();
            its_queue.wait(&options).unwrap()
        });
        let tid = receive.recv().unwrap();
        let mut entry = None;
        until("the thread is on the queue", || {
            entry = listed(queue, tid);
            assert!(
                entry.is_some() || !thread.is_finished(),
                "it returned instead of sleeping"
            );
            entry.is_some()
        });
        Self {
            thread,
            queue: Arc::clone(queue),
            entry: entry.unwrap(),
            tid,
        }
    }

    /// Its thread.
    #[must_use]
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// Its entry, as it was when it had just been put there.
    #[must_use]
    pub fn entry(&self) -> &Waiter {
        &self.entry
    }

    /// Whether it is on the queue still, and has not been woken since it was put
    /// there. A wake takes those off that it wakes, so this can be asked at once.
    #[must_use]
    pub fn sleeps_on(&self) -> bool {
        listed(&self.queue, self.tid).is_some_and(|entry| entry.since == self.entry.since)
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

    /// Waits for the sleep's end, and gives the receipt.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn join(self) -> Receipt {
        until("the sleep has ended", || self.has_returned());
        self.thread.join().expect("the kernel took the request")
    }
}
