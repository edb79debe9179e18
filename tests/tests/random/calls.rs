// SPDX-License-Identifier: GPL-2.0

//! The system calls, and what comes of them.

use std::fmt;
use std::io::Error;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::operations::Operation::{self, *};
use crate::operations::{Events, Lengths};

/// What a call returned.
#[derive(Clone, Eq, PartialEq)]
pub struct Outcome {
    result: Result<i64, i32>,
    /// What is in its buffer afterwards, or other things that it told.
    data: Vec<u8>,
}

impl Outcome {
    fn new(result: i64) -> Self {
        Self {
            result: match result {
                -1 => Err(Error::last_os_error().raw_os_error().unwrap()),
                result => Ok(result),
            },
            data: Vec::new(),
        }
    }

    fn with(self, data: &[u8]) -> Self {
        Self {
            data: data.to_vec(),
            ..self
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.result {
            Ok(value) => write!(f, "{value}")?,
            Err(error) => write!(f, "{}", Error::from_raw_os_error(error))?,
        }
        if !self.data.is_empty() {
            write!(f, " and")?;
        }
        self.data
            .iter()
            .try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

/// An operation, and the descriptors it is about. They stay open until it is done.
#[derive(Clone, Copy)]
pub struct Call {
    pub operation: Operation,
    pub counter: RawFd,
    pub sets: [RawFd; 2],
    /// For epoll_wait.
    pub timeout: i32,
}

/// Nothing is mapped there.
const NOWHERE: usize = 8;

/// Enough for the longest of the buffers.
const ROOM: usize = 24;

impl Call {
    /// Makes it.
    pub fn make(&self) -> Outcome {
        let fd = self.counter;
        match self.operation {
            Read(_, lengths) => read(lengths, |parts, count| match (parts, count) {
                // SAFETY: The segments are parts of the caller's buffer.
                (&[one], _) => unsafe { libc::read(fd, one.iov_base, one.iov_len) },
                // SAFETY: As above.
                _ => unsafe { libc::readv(fd, parts.as_ptr(), count) },
            }),
            ReadFlags(_, flags) => read(Lengths(&[8]), |parts, count| {
                // SAFETY: As above.
                unsafe { libc::preadv2(fd, parts.as_ptr(), count, -1, flags) }
            }),
            ReadFault(_) => {
                let nowhere = ptr::without_provenance_mut(NOWHERE);
                // SAFETY: The kernel finds no memory there, so it writes none.
                Outcome::new(unsafe { libc::read(fd, nowhere, 8) } as i64)
            }
            Write(_, value) => {
                let bytes = value.to_ne_bytes();
                // SAFETY: It reads `bytes`.
                Outcome::new(unsafe { libc::write(fd, bytes.as_ptr().cast(), 8) } as i64)
            }
            WriteTwo(_, one, two) => {
                let values = [one.to_ne_bytes(), two.to_ne_bytes()];
                write(values.as_flattened(), &[8, 8], |parts, count| {
                    // SAFETY: It reads the segments, which are parts of `values`.
                    unsafe { libc::writev(fd, parts.as_ptr(), count) }
                })
            }
            WriteLengths(_, Lengths(lengths)) => {
                let mut bytes = [0; ROOM];
                let mut start = 0;
                for length in lengths {
                    bytes[start] = 1;
                    start += length;
                }
                write(&bytes, lengths, |parts, count| match (parts, count) {
                    // SAFETY: It reads a part of `bytes`.
                    (&[one], _) => unsafe { libc::write(fd, one.iov_base, one.iov_len) },
                    // SAFETY: It reads parts of `bytes`.
                    _ => unsafe { libc::writev(fd, parts.as_ptr(), count) },
                })
            }
            WriteFlags(_, flags) => write(&1_u64.to_ne_bytes(), &[8], |parts, count| {
                // SAFETY: It reads the segment.
                unsafe { libc::pwritev2(fd, parts.as_ptr(), count, -1, flags) }
            }),
            WriteFault(_) => {
                let nowhere = ptr::without_provenance(NOWHERE);
                // SAFETY: The kernel finds no memory there.
                Outcome::new(unsafe { libc::write(fd, nowhere, 8) } as i64)
            }
            Wait(_, set) => {
                let mut event = libc::epoll_event { events: 0, u64: 0 };
                // SAFETY: It writes one event.
                let result =
                    unsafe { libc::epoll_wait(self.sets[set], &raw mut event, 1, self.timeout) };
                let events = event.events;
                Outcome::new(result.into()).with(&events.to_be_bytes())
            }
            Add(set, events) => self.control(libc::EPOLL_CTL_ADD, set, events),
            Modify(set, events) => self.control(libc::EPOLL_CTL_MOD, set, events),
            Delete(set) => self.control(libc::EPOLL_CTL_DEL, set, Events(0)),
            Nonblocking(on) => {
                let flags = if on { libc::O_NONBLOCK } else { 0 };
                // SAFETY: It takes no pointer.
                Outcome::new(unsafe { libc::fcntl(fd, libc::F_SETFL, flags) }.into())
            }
            Poll(events) => {
                let mut poll = libc::pollfd {
                    fd,
                    events: events.0 as i16,
                    revents: 0,
                };
                // SAFETY: There is one to poll.
                let result = unsafe { libc::poll(&raw mut poll, 1, 0) };
                Outcome::new(result.into()).with(&poll.revents.to_be_bytes())
            }
            Duplicate => {
                // SAFETY: It takes no pointer.
                let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
                assert!(copy >= 0, "dup: {}", Error::last_os_error());
                // SAFETY: It is a new descriptor, and nobody else's.
                Outcome::new(unsafe { libc::close(copy) }.into())
            }
            // SAFETY: It takes no pointer.
            Seek(offset, whence) => Outcome::new(unsafe { libc::lseek(fd, offset, whence) }),
            ReadAt => read(Lengths(&[8]), |parts, _| {
                // SAFETY: The segment is a part of the caller's buffer.
                unsafe { libc::pread(fd, parts[0].iov_base, parts[0].iov_len, 0) }
            }),
            WriteAt => {
                // SAFETY: It reads eight bytes.
                let result = unsafe { libc::pwrite(fd, [0_u8; 8].as_ptr().cast(), 8, 0) };
                Outcome::new(result as i64)
            }
            SpliceOut => with_pipe(|_, to| splice(fd, to.as_raw_fd())),
            SpliceIn => with_pipe(|from, to| {
                rustix::io::write(to, &1_u64.to_ne_bytes()).unwrap();
                splice(from.as_raw_fd(), fd)
            }),
            Ioctl => {
                let mut value = 0;
                // SAFETY: FIONREAD writes an int.
                let result = unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut value) };
                Outcome::new(result.into()).with(&i32::to_be_bytes(value))
            }
            // SAFETY: It takes no pointer.
            Truncate => Outcome::new(unsafe { libc::ftruncate(fd, 0) }.into()),
            // SAFETY: It takes no pointer.
            Sync => Outcome::new(unsafe { libc::fsync(fd) }.into()),
            Signal(..) | Fdinfo => unreachable!("it is no call on the counter"),
        }
    }

    fn control(&self, operation: i32, set: usize, events: Events) -> Outcome {
        let mut event = libc::epoll_event {
            events: events.0,
            u64: 0,
        };
        // SAFETY: It reads `event`.
        let result =
            unsafe { libc::epoll_ctl(self.sets[set], operation, self.counter, &raw mut event) };
        Outcome::new(result.into())
    }
}

/// A pipe of its own for each call, as one call might leave something in it.
fn with_pipe(call: impl FnOnce(&OwnedFd, &OwnedFd) -> Outcome) -> Outcome {
    let (from, to) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    call(&from, &to)
}

fn splice(from: RawFd, to: RawFd) -> Outcome {
    let (null, flags) = (ptr::null_mut(), libc::SPLICE_F_NONBLOCK);
    // SAFETY: It is given no position.
    Outcome::new(unsafe { libc::splice(from, null, to, null, 8, flags) } as i64)
}

fn read(Lengths(lengths): Lengths, call: impl FnOnce(&[libc::iovec], i32) -> isize) -> Outcome {
    let mut buffer = [0xee_u8; ROOM];
    let segments = segments(buffer.as_mut_ptr(), lengths);
    let result = call(&segments[..lengths.len()], lengths.len() as i32);
    let outcome = Outcome::new(result as i64);
    // SAFETY: It is initialized, whatever the kernel wrote.
    let buffer = unsafe { ptr::read_volatile(&raw const buffer) };
    outcome.with(&buffer[..lengths.iter().sum()])
}

fn write(
    bytes: &[u8],
    lengths: &[usize],
    call: impl FnOnce(&[libc::iovec], i32) -> isize,
) -> Outcome {
    let segments = segments(bytes.as_ptr().cast_mut(), lengths);
    Outcome::new(call(&segments[..lengths.len()], lengths.len() as i32) as i64)
}

/// Cuts a buffer into pieces.
fn segments(mut start: *mut u8, lengths: &[usize]) -> [libc::iovec; 4] {
    let mut segments = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; 4];
    for (segment, &length) in segments.iter_mut().zip(lengths) {
        segment.iov_base = start.cast();
        segment.iov_len = length;
        start = start.wrapping_add(length);
    }
    segments
}
