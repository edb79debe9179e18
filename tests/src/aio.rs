// SPDX-License-Identifier: GPL-2.0

//! Linux's own asynchronous I/O, `io_submit(2)`, which the C library does not wrap.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr;

use crate::Errno;
use crate::subject::last_error;

const IOCB_CMD_PREAD: u16 = 0;
const IOCB_CMD_PWRITE: u16 = 1;
const IOCB_CMD_POLL: u16 = 5;
const IOCB_FLAG_RESFD: u32 = 1;

/// `struct iocb` of linux/aio_abi.h, little-endian.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: i32,
    opcode: u16,
    reqprio: i16,
    fildes: u32,
    buf: u64,
    nbytes: u64,
    offset: i64,
    reserved2: u64,
    flags: u32,
    resfd: u32,
}

impl Iocb {
    fn signalling(eventfd: RawFd) -> Self {
        Self {
            flags: IOCB_FLAG_RESFD,
            resfd: eventfd as u32,
            ..Self::default()
        }
    }
}

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Default)]
struct IoEvent {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

/// A context that operations are submitted to, one at a time.
#[derive(Debug)]
pub struct Aio(u64);

impl Aio {
    /// A new context.
    ///
    /// # Panics
    ///
    /// If the kernel has none.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a system call")]
    pub fn new() -> Self {
        let mut context = 0;
        // SAFETY: It writes one word.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, 4, &mut context) };
        assert_eq!(result, 0, "io_setup: {}", last_error());
        Self(context)
    }

    /// Reads a counter.
    pub fn read(&self, fd: impl AsFd, rw_flags: i32) -> Result<u64, Errno> {
        self.read_with(
            fd,
            Iocb {
                rw_flags,
                ..Iocb::default()
            },
        )
    }

    /// Reads a counter, and has an eventfd signalled when that is done.
    pub fn read_and_signal(&self, fd: impl AsFd, eventfd: RawFd) -> Result<u64, Errno> {
        self.read_with(fd, Iocb::signalling(eventfd))
    }

    fn read_with(&self, fd: impl AsFd, iocb: Iocb) -> Result<u64, Errno> {
        let mut value = [0; 8];
        let buf = value.as_mut_ptr().expose_provenance() as u64;
        // A counter's read is over, one way or the other, when it is submitted.
        self.submit(fd, IOCB_CMD_PREAD, buf, 8, iocb)?;
        self.completion()?;
        Ok(u64::from_ne_bytes(value))
    }

    /// Writes to a counter.
    pub fn write(&self, fd: impl AsFd, value: u64) -> Result<i64, Errno> {
        let value = value.to_ne_bytes();
        let buf = value.as_ptr().expose_provenance() as u64;
        self.submit(fd, IOCB_CMD_PWRITE, buf, 8, Iocb::default())?;
        self.completion()
    }

    /// Begins to poll.
    pub fn poll(&self, fd: impl AsFd, events: u16) -> Result<(), Errno> {
        self.submit(fd, IOCB_CMD_POLL, events.into(), 0, Iocb::default())
    }

    /// Begins to poll, and has an eventfd signalled at the end.
    pub fn poll_and_signal(&self, fd: impl AsFd, events: u16, eventfd: RawFd) -> Result<(), Errno> {
        let iocb = Iocb::signalling(eventfd);
        self.submit(fd, IOCB_CMD_POLL, events.into(), 0, iocb)
    }

    fn submit(
        &self,
        fd: impl AsFd,
        opcode: u16,
        buf: u64,
        nbytes: u64,
        rest: Iocb,
    ) -> Result<(), Errno> {
        let mut iocb = Iocb {
            opcode,
            fildes: fd.as_fd().as_raw_fd() as u32,
            buf,
            nbytes,
            ..rest
        };
        let mut list = [&raw mut iocb];
        // SAFETY: The control block is copied in; what `buf` names outlives the
        // operation, by each caller's care.
        match unsafe { libc::syscall(libc::SYS_io_submit, self.0, 1, list.as_mut_ptr()) } {
            1 => Ok(()),
            _ => Err(last_error()),
        }
    }

    /// Waits for the operation's end.
    pub fn completion(&self) -> Result<i64, Errno> {
        let mut event = IoEvent::default();
        let forever = ptr::null::<libc::timespec>();
        // SAFETY: It writes one event.
        let got =
            unsafe { libc::syscall(libc::SYS_io_getevents, self.0, 1, 1, &mut event, forever) };
        assert_eq!(got, 1, "io_getevents: {}", last_error());
        if event.res < 0 {
            Err(Errno::from_raw_os_error(-event.res as i32))
        } else {
            Ok(event.res)
        }
    }

    /// Whether an operation has ended.
    #[must_use]
    pub fn has_completed(&self) -> bool {
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut event = IoEvent::default();
        // SAFETY: It writes one event at most.
        let got = unsafe { libc::syscall(libc::SYS_io_getevents, self.0, 0, 1, &mut event, &now) };
        got == 1
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: Nothing uses the context any more; it waits for what is under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}
