// SPDX-License-Identifier: GPL-2.0

//! Pipes and FIFOs: what had been accepted before something failed is there still, in
//! order, and nothing else.

use std::os::fd::{AsFd, AsRawFd};

use ipcdemo_client::{PipeFlags, PipeLimitsChange, fifo_path};
use ipcdemo_tests::pipe::{bytes, from_factory, put, queued, set_size, size, take};
use ipcdemo_tests::{Access, Errno, Fd, Memory, PAGE, Subject, serial};
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{SpliceFlags, splice};

use crate::injection::{errno, every_fault, every_fault_with, factory};

const NONBLOCK: PipeFlags = PipeFlags::NONBLOCK;

/// As the kernel's own: without an inode it says that there are too many files
/// (fs/pipe.c, create_pipe_files).
pub const CREATION: &[Errno] = &[Errno::NOMEM, Errno::FAULT, Errno::NFILE];

serial! {
    /// The pipe, its slots, its place in the list, its inode and both files; and the mount,
    /// if there was no pipe before.
    fn making_a_pipe() {
        let factory = factory();
        for size in [0, 4096, 1 << 20] {
            let make = || factory.pipe(size, PipeFlags::CLOEXEC).map_err(errno);
            every_fault_with(CREATION, &factory, 10, make, drop);
            let _another = make().unwrap();
            every_fault_with(CREATION, &factory, 8, make, drop);
        }
    }

    /// Slots, at the most; with what is inside, and the size, left as they were.
    fn resizing() {
        let factory = factory();
        let (reader, writer) = from_factory(0, NONBLOCK);
        let all = bytes(3 * PAGE + 10);
        assert_eq!(put(&writer, &all), Ok(all.len()));
        let before = 16 * PAGE as u32;
        let resize = || set_size(&writer, 256 * PAGE as u32);
        every_fault(&factory, 1, resize, |now| {
            let now = now.unwrap_or(before);
            assert_eq!(size(&writer), Ok(now));
            assert_eq!(queued(&reader), all.len());
            assert_eq!(set_size(&writer, before), Ok(before));
        });
        assert_eq!(take(&reader, PAGE * 4).unwrap(), all);
    }

    /// A page each, and the copies into them: those that were filled before are in.
    fn writing() {
        let factory = factory();
        for (length, before) in [(1, 0), (3 * PAGE + 10, 0), (17 * PAGE, 0), (100, 50), (PAGE, 50)] {
            let pipe = from_factory(0, NONBLOCK);
            let all = bytes(before + length);
            let prepare = || assert_eq!(put(&pipe.1, &all[..before]), Ok(before));
            prepare();
            every_fault(&factory, 1, || put(&pipe.1, &all[before..]), |written| {
                let expected = before + written.unwrap_or(0);
                check(&pipe, &all[..expected]);
                prepare();
            });
        }
    }

    /// A packet is in as a whole or not at all.
    fn writing_packets() {
        let factory = factory();
        let pipe = from_factory(0, NONBLOCK | PipeFlags::DIRECT);
        let all = bytes(2 * PAGE + 10);
        every_fault(&factory, 1, || put(&pipe.1, &all), |written| {
            let mut rest = &all[..written.unwrap_or(0)];
            while !rest.is_empty() {
                let packet = take(&pipe.0, 2 * PAGE).unwrap();
                assert_eq!(packet, rest[..PAGE.min(rest.len())]);
                rest = &rest[packet.len()..];
            }
            assert_eq!(take(&pipe.0, 1), Err(Errno::AGAIN));
        });
    }

    /// The copies: what could not be copied is there still.
    fn reading() {
        let factory = factory();
        for length in [1, 3 * PAGE + 10, 16 * PAGE] {
            let pipe = from_factory(0, NONBLOCK);
            let all = bytes(length);
            let prepare = || assert_eq!(put(&pipe.1, &all), Ok(length));
            prepare();
            every_fault(&factory, 1, || take(&pipe.0, length), |got| {
                let got = got.unwrap_or_default();
                assert!(got == all[..got.len()], "it is not what was written");
                check(&pipe, &all[got.len()..]);
                prepare();
            });
        }
    }

    /// Being watched needs memory; where there is none, no entry is left behind.
    fn watching() {
        let factory = factory();
        let (reader, writer) = from_factory(0, PipeFlags::empty());
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        for end in [&reader, &writer] {
            let data = epoll::EventData::new_u64(0);
            let add = || epoll::add(&set, end, data, epoll::EventFlags::IN);
            every_fault(&factory, 2, add, |added| {
                if added.is_some() {
                    epoll::delete(&set, end).unwrap();
                }
            });
        }
    }

    /// From ours to one of the kernel's, and back: each byte is in one or the other.
    fn splicing() {
        let factory = factory();
        let (ours, theirs) = (from_factory(0, NONBLOCK), Subject::Native.pipe_with(NONBLOCK));
        let all = bytes(3 * PAGE + 10);
        for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
            let prepare = || assert_eq!(put(&from.1, &all), Ok(all.len()));
            let (reader, writer, now) = (&from.0, &to.1, SpliceFlags::NONBLOCK);
            let transfer = || splice(reader, None, writer, None, all.len(), now);
            prepare();
            every_fault(&factory, 0, transfer, |moved| {
                let moved = moved.unwrap_or(0);
                check(to, &all[..moved]);
                check(from, &all[moved..]);
                prepare();
            });
            check(from, &all);
        }
    }

    /// The FIFO that is always there: the first one to open it has its size made new.
    fn opening_a_fifo() {
        let factory = factory();
        let (flags, none) = (OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        for access in [OFlags::RDWR, OFlags::RDONLY] {
            let open = || open(ipcdemo_client::Fifo::PATH, access | flags, none);
            every_fault(&factory, 2, open, |end| {
                if let (Some(end), OFlags::RDWR) = (&end, access) {
                    assert_eq!(put(end, b"abc"), Ok(3));
                    assert_eq!(size(end), Ok(16 * PAGE as u32));
                }
            });
            // Whoever was refused has left no trace.
            let alone = || rustix::fs::open(ipcdemo_client::Fifo::PATH, OFlags::WRONLY | flags, none);
            assert_eq!(alone().err(), Some(Errno::NXIO));
        }
    }

    /// There is a node that works, or none.
    fn making_a_fifo() {
        let factory = factory();
        let make = || factory.mkfifo("fault", 0o600).map_err(errno);
        every_fault(&factory, 3, make, |made| {
            assert_eq!(fifo_path("fault").exists(), made.is_some());
            if made.is_some() {
                drop(open(fifo_path("fault"), OFlags::RDWR, Mode::empty()).unwrap());
                factory.rmfifo("fault").unwrap();
            }
            let gone = factory.rmfifo("fault").map_err(errno);
            assert_eq!(gone, Err(Errno::NOENT));
        });
    }

    /// It is gone, or there.
    fn removing_a_fifo() {
        let factory = factory();
        let make = || {
            let _ = factory.rmfifo("fault");
            factory.mkfifo("fault", 0o600).unwrap();
        };
        make();
        every_fault(&factory, 1, || factory.rmfifo("fault").map_err(errno), |removed| {
            assert_eq!(fifo_path("fault").exists(), removed.is_none());
            make();
        });
        factory.rmfifo("fault").unwrap();
    }

    /// A limit is changed, or not.
    fn changing_a_limit() {
        let factory = factory();
        let before = factory.pipe_limits().unwrap();
        let hard = |pages| PipeLimitsChange {
            user_pages_hard: Some(pages),
            ..PipeLimitsChange::default()
        };
        let change = || factory.change_pipe_limits(hard(1 << 30)).map_err(errno);
        every_fault(&factory, 2, change, |changed| {
            let now = factory.pipe_limits().unwrap();
            assert_eq!(now.user_pages_hard == 1 << 30, changed.is_some());
            let back = factory.change_pipe_limits(hard(before.user_pages_hard)).unwrap();
            assert_eq!(back, before);
        });
    }

    /// Memory that ends after so many pages: what came from there before is in, or what went
    /// there is out, and the rest is not.
    fn memory_that_ends() {
        let factory = factory();
        for pages in 0..4 {
            for packets in [PipeFlags::empty(), PipeFlags::DIRECT] {
                let pipe = from_factory(0, NONBLOCK | packets);
                let all = bytes(PAGE);
                let segments = Segments::new(&all, pages);
                let expected = match pages * PAGE {
                    0 => Err(Errno::FAULT),
                    some => Ok(some),
                };
                assert_eq!(segments.written_to(&pipe.1), expected);
                assert_eq!(queued(&pipe.0), pages * PAGE);
                for _ in 0..pages {
                    assert_eq!(take(&pipe.0, PAGE).unwrap(), all);
                }
            }
            let pipe = from_factory(0, NONBLOCK);
            let all = bytes(5 * PAGE);
            assert_eq!(put(&pipe.1, &all), Ok(all.len()));
            let segments = Segments::new(&[0; PAGE], pages);
            let expected = match pages * PAGE {
                0 => Err(Errno::FAULT),
                some => Ok(some),
            };
            assert_eq!(segments.read_from(&pipe.0), expected);
            for (page, memory) in segments.good.iter().enumerate() {
                assert_eq!(memory.load(PAGE), all[page * PAGE..][..PAGE]);
            }
            check(&pipe, &all[pages * PAGE..]);
        }
        drop(factory);
    }
}

/// Takes what is inside, which must be this.
fn check(pipe: &(Fd, Fd), expected: &[u8]) {
    assert_eq!(queued(&pipe.0), expected.len());
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.extend(take(&pipe.0, expected.len()).unwrap());
    }
    assert!(got == expected, "it is not what was written");
}

/// Some pages that are there, and one that is not.
struct Segments {
    good: Vec<Memory>,
    bad: Memory,
}

impl Segments {
    fn new(content: &[u8], pages: usize) -> Self {
        let good = (0..pages).map(|_| Memory::new(Access::ReadWrite));
        let good: Vec<_> = good.collect();
        for memory in &good {
            memory.store(content);
        }
        Self {
            good,
            bad: Memory::new(Access::None),
        }
    }

    fn iovecs(&self) -> Vec<libc::iovec> {
        let all = self.good.iter().chain([&self.bad]);
        all.map(|memory| libc::iovec {
            iov_base: memory.before_end(PAGE).pointer(),
            iov_len: PAGE,
        })
        .collect()
    }

    fn written_to(&self, fd: impl AsFd) -> Result<usize, Errno> {
        let iovecs = self.iovecs();
        let (fd, count) = (fd.as_fd().as_raw_fd(), iovecs.len() as i32);
        // SAFETY: The kernel only reads, and faults where it may not.
        result(unsafe { libc::writev(fd, iovecs.as_ptr(), count) })
    }

    fn read_from(&self, fd: impl AsFd) -> Result<usize, Errno> {
        let iovecs = self.iovecs();
        let (fd, count) = (fd.as_fd().as_raw_fd(), iovecs.len() as i32);
        // SAFETY: The kernel writes within the memories, or faults.
        result(unsafe { libc::readv(fd, iovecs.as_ptr(), count) })
    }
}

fn result(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| errno(std::io::Error::last_os_error()))
}
