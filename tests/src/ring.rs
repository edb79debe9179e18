// SPDX-License-Identifier: GPL-2.0

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use io_uring::{IoUring, opcode, squeue, types};
use rustix::event::PollFlags;

use crate::Errno;

/// An io_uring with the buffer that its operations use.
pub struct Ring {
    ring: IoUring,
    // Never freed: an operation that is still under way when the ring is closed
    // may end later.
    value: &'static AtomicU64,
}

impl Ring {
    /// A ring for a few operations.
    ///
    /// # Panics
    ///
    /// If the kernel has none.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a system call")]
    pub fn new() -> Self {
        Self {
            ring: IoUring::new(8).expect("io_uring_setup"),
            value: Box::leak(Box::default()),
        }
    }

    /// Begins to read a counter.
    pub fn read(&mut self, fd: impl AsFd) {
        self.read_with(fd, 0);
    }

    /// Begins to read a counter, with `RWF_*`.
    pub fn read_with(&mut self, fd: impl AsFd, flags: i32) {
        let buffer = self.value.as_ptr().cast();
        let operation = opcode::Read::new(types::Fd(fd.as_fd().as_raw_fd()), buffer, 8);
        self.submit(&operation.rw_flags(flags).build());
    }

    /// Begins to write to a counter.
    pub fn write(&mut self, fd: impl AsFd, value: u64) {
        self.write_with(fd, value, 0);
    }

    /// Begins to write to a counter, with `RWF_*`.
    pub fn write_with(&mut self, fd: impl AsFd, value: u64, flags: i32) {
        self.value.store(value, Ordering::Relaxed);
        let buffer = self.value.as_ptr().cast();
        let operation = opcode::Write::new(types::Fd(fd.as_fd().as_raw_fd()), buffer, 8);
        self.submit(&operation.rw_flags(flags).build());
    }

    /// Begins to poll, once or until something fails.
    pub fn poll(&mut self, fd: impl AsFd, events: PollFlags, multi: bool) {
        let fd = types::Fd(fd.as_fd().as_raw_fd());
        let operation = opcode::PollAdd::new(fd, events.bits().into()).multi(multi);
        self.submit(&operation.build());
    }

    /// Begins to do nothing, and ends at once; in a worker thread if asked.
    pub fn nop(&mut self, in_worker: bool) {
        let flags = if in_worker {
            squeue::Flags::ASYNC
        } else {
            squeue::Flags::empty()
        };
        self.submit(&opcode::Nop::new().build().flags(flags));
    }

    /// Has an eventfd signalled for each completion, or only for those of worker
    /// threads.
    pub fn register_eventfd(&self, eventfd: RawFd, workers_only: bool) -> Result<(), Errno> {
        let submitter = self.ring.submitter();
        errno(if workers_only {
            submitter.register_eventfd_async(eventfd)
        } else {
            submitter.register_eventfd(eventfd)
        })
    }

    /// Has it signalled no more.
    pub fn unregister_eventfd(&self) -> Result<(), Errno> {
        errno(self.ring.submitter().unregister_eventfd())
    }

    fn submit(&mut self, operation: &squeue::Entry) {
        // SAFETY: Its buffer, if it has one, is `self.value`, which lives for ever.
        unsafe { self.ring.submission().push(operation) }.unwrap();
        self.ring.submit().unwrap();
    }

    /// Waits for a completion.
    ///
    /// # Panics
    ///
    /// If the ring does not work.
    pub fn completion(&mut self) -> Result<i32, Errno> {
        loop {
            if let Some(result) = self.completion_now() {
                return result;
            }
            self.ring.submit_and_wait(1).unwrap();
        }
    }

    /// The completion that is there already, if any.
    pub fn completion_now(&mut self) -> Option<Result<i32, Errno>> {
        let result = self.ring.completion().next()?.result();
        Some(if result < 0 {
            Err(Errno::from_raw_os_error(-result))
        } else {
            Ok(result)
        })
    }

    /// What the last read gave.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

fn errno(result: io::Result<()>) -> Result<(), Errno> {
    result.map_err(|error| Errno::from_io_error(&error).unwrap())
}
