// SPDX-License-Identifier: GPL-2.0

//! Pipes: the requests that make and limit them, and what can be seen of them.

use std::os::fd::OwnedFd;

use ipcdemo_client::{
    Factory, Fifo, Kind, Object, PipeFlags, PipeLimits, PipeLimitsChange, PipeReader, PipeWriter,
    raw,
};
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::pipe::{Limit, as_user, bytes, fill, from_factory, put, take};
use ipcdemo_tests::{Access, Address, Errno, Fd, Memory, PAGE, Sleeper, Subject, serial, until};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fstat, open as open_file};
use rustix::io::fcntl_getfd;

use crate::{ioctl, open, send};

const BYTES: u32 = PAGE as u32;

serial! {
    /// Each end has the flags that pipe2(2) would give it.
    fn its_flags_are_those_of_pipe2() {
        let factory = open();
        let told = |ends: [OwnedFd; 2]| {
            ends.map(|end| (fcntl_getfl(&end).unwrap(), fcntl_getfd(&end).unwrap()))
        };
        let none = PipeFlags::empty();
        for flags in PipeFlags::all().iter().chain([none, PipeFlags::all()]) {
            let (reader, writer) = factory.pipe(0, flags).unwrap();
            let theirs = Subject::Native.create_pipe(flags.bits()).unwrap();
            assert_eq!(told([reader.into(), writer.into()]), told(theirs.into()), "{flags:?}");
        }
    }

    /// The capacity that is asked for when it is made is rounded as one that is set is.
    fn it_is_made_as_large_as_asked() {
        let factory = open();
        for (asked, got) in [
            (0, 16),
            (1, 1),
            (BYTES + 1, 2),
            (1 << 20, 256),
            (1 << 21, 512),
        ] {
            let (reader, writer) = factory.pipe(asked, PipeFlags::CLOEXEC).unwrap();
            assert_eq!(reader.capacity().unwrap(), got * BYTES, "{asked}");
            assert_eq!(writer.capacity().unwrap(), got * BYTES, "{asked}");
        }
    }

    /// And refused as one that is set is.
    fn too_large_a_pipe_is_not_made() {
        let result = open().pipe((1 << 31) + 1, PipeFlags::CLOEXEC);
        assert_eq!(errno(result), Errno::INVAL);
    }

    /// A user may have no larger one than by setting it.
    fn a_user_may_not_have_a_larger_one_made() {
        let factory = open();
        let code = as_user(40_030, || {
            let (reader, _writer) = factory.pipe(1 << 20, PipeFlags::CLOEXEC).unwrap();
            assert_eq!(reader.capacity().unwrap(), 1 << 20);
            let result = factory.pipe((1 << 20) + 1, PipeFlags::CLOEXEC);
            assert_eq!(errno(result), Errno::PERM);
        });
        assert_eq!(code, 0);
    }

    /// The pages of one that is made larger count as those do that grew, and those of one that
    /// is not made do not.
    fn pages_asked_for_are_counted() {
        let factory = open();
        let _limited = Subject::Module.set_limit(Limit::UserPagesHard, 60).unwrap();
        let code = as_user(40_031, || {
            let pages = || factory.pipe_limits().unwrap().user_pages;
            assert_eq!(pages(), 0);
            let large = factory.pipe(32 * BYTES, PipeFlags::CLOEXEC).unwrap();
            assert_eq!(pages(), 32);
            let result = factory.pipe(32 * BYTES, PipeFlags::CLOEXEC);
            assert_eq!(errno(result), Errno::PERM);
            assert_eq!(pages(), 32);
            let _small = factory.pipe(8 * BYTES, PipeFlags::CLOEXEC).unwrap();
            assert_eq!(pages(), 40);
            drop(large);
            assert_eq!(pages(), 8);
        });
        assert_eq!(code, 0);
    }

    /// The typed face of it works: what goes in comes out, and sizes can be changed.
    fn the_client_reads_and_writes() {
        use std::io::{Read, Write};
        let (mut reader, mut writer) = open().pipe(0, PipeFlags::NONBLOCK).unwrap();
        assert_eq!(writer.set_capacity(5000).unwrap(), 2 * BYTES);
        assert_eq!(reader.capacity().unwrap(), 2 * BYTES);
        assert_eq!(writer.write(&bytes(3 * PAGE)).unwrap(), 2 * PAGE);
        assert_eq!(errno(reader.set_capacity(BYTES)), Errno::BUSY);
        let mut all = vec![0; 2 * PAGE];
        reader.read_exact(&mut all).unwrap();
        assert_eq!(all, bytes(2 * PAGE));
        let ends = [OwnedFd::from(reader), OwnedFd::from(writer)];
        let [reader, writer] = ends;
        let (mut reader, writer) = (PipeReader::from(reader), PipeWriter::from(writer));
        drop(writer);
        assert_eq!(reader.read(&mut all).unwrap(), 0);
    }

    /// The list tells how many buffers are in use.
    fn buffers_in_use_are_listed() {
        let factory = open();
        let (reader, writer) = made(4 * BYTES);
        let used = || listed(&factory, &writer).unwrap().value;
        assert_eq!(used(), 0);
        assert_eq!(put(&writer, &bytes(2 * PAGE + 1)), Ok(2 * PAGE + 1));
        assert_eq!(used(), 3);
        take(&reader, 1).unwrap();
        assert_eq!(used(), 3);
        take(&reader, PAGE).unwrap();
        assert_eq!(used(), 2);
        take(&reader, 2 * PAGE).unwrap();
        assert_eq!(used(), 0);
    }

    /// And how many wait, on both queues.
    fn waiters_are_listed() {
        let factory = open();
        let (reader, writer) = made(BYTES);
        let waiters = || listed(&factory, &writer).unwrap().waiters;
        let sleeper = Sleeper::taking(&reader, PAGE);
        assert_eq!(waiters(), 1);
        let _set = Epoll::of(&reader, EventFlags::IN);
        let _other = Epoll::of(&writer, EventFlags::OUT);
        assert_eq!(waiters(), 3);
        fill(&writer);
        assert_eq!(sleeper.join().unwrap().len(), PAGE);
        assert_eq!(waiters(), 2);
        fill(&writer);
        let sleepers = [(); 2].map(|()| Sleeper::putting(&writer, b"a"));
        assert_eq!(waiters(), 4);
        drop(reader);
        for sleeper in sleepers {
            assert_eq!(sleeper.join(), Err(Errno::PIPE));
        }
    }

    /// Waiters are counted up to a limit, which both queues share.
    fn a_count_of_waiters_has_an_end() {
        let limit = raw::IPCDEMO_WAITERS_COUNTED;
        let factory = open();
        let (reader, writer) = made(0);
        let waiters = || listed(&factory, &writer).unwrap().waiters;
        let mut sets: Vec<_> = (1..limit)
            .map(|_| Epoll::of(&writer, EventFlags::OUT))
            .collect();
        assert_eq!(waiters(), limit - 1);
        for more in 0..3 {
            sets.push(Epoll::of(&reader, EventFlags::IN));
            assert_eq!(waiters(), limit, "{more} more");
        }
        sets.extend((0..limit).map(|_| Epoll::of(&reader, EventFlags::IN)));
        assert_eq!(waiters(), limit);
    }

    /// A FIFO has no number, and its fdinfo is the kernel's.
    fn a_fifo_has_no_id() {
        let fifo = open_file(Fifo::PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert_eq!(Object::id_of(fifo).unwrap(), None);
    }

    /// Each pipe has an id of its own, by which the factory lists it.
    fn it_is_listed() {
        let factory = open();
        let ((reader, writer), (other, _other_writer)) = (made(0), made(0));
        assert_ne!(
            Object::id_of(&reader).unwrap(),
            Object::id_of(&other).unwrap()
        );
        let object = listed(&factory, &reader).unwrap();
        assert_eq!(Some(object), listed(&factory, &writer));
        assert_eq!(
            (object.kind, object.value, object.waiters),
            (Kind::Pipe, 0, 0)
        );
        assert_eq!(put(&writer, &bytes(PAGE + 1)), Ok(PAGE + 1));
        assert_eq!(put(&writer, &bytes(1)), Ok(1));
        let _set = Epoll::of(&reader, EventFlags::IN);
        let poller = Sleeper::polling(&writer, PollFlags::PRI);
        let object = listed(&factory, &reader).unwrap();
        assert_eq!((object.value, object.waiters), (2, 2));
        drop(reader);
        assert_eq!(poller.join(), Ok(PollFlags::ERR));
    }

    /// It is listed as long as an end is open.
    fn a_closed_pipe_is_gone() {
        let factory = open();
        let (reader, writer) = made(0);
        let object = listed(&factory, &reader).unwrap();
        drop(reader);
        assert_eq!(listed(&factory, &writer), Some(object));
        drop(writer);
        assert!(
            !factory
                .list()
                .unwrap()
                .iter()
                .any(|other| other.id == object.id)
        );
    }

    /// The limits are told to everybody.
    fn everybody_is_told_the_limits() {
        let factory = open();
        let limits = factory.pipe_limits().unwrap();
        let expected = PipeLimits {
            max_size: 1 << 20,
            user_pages_soft: 16 * 1024,
            user_pages_hard: 0,
            user_pages: limits.user_pages,
        };
        assert_eq!(limits, expected);
        let code = as_user(40_032, || {
            let theirs = factory.pipe_limits().unwrap();
            assert_eq!(
                theirs,
                PipeLimits {
                    user_pages: 0,
                    ..limits
                }
            );
            let _pipe = factory.pipe(0, PipeFlags::CLOEXEC).unwrap();
            assert_eq!(factory.pipe_limits().unwrap().user_pages, 16);
        });
        assert_eq!(code, 0);
    }

    /// To change one takes CAP_SYS_RESOURCE; what is not named stays.
    fn limits_are_changed_one_by_one() {
        let factory = open();
        let before = factory.pipe_limits().unwrap();
        let soft = PipeLimitsChange {
            user_pages_soft: Some(7),
            ..PipeLimitsChange::default()
        };
        let hard = PipeLimitsChange {
            user_pages_hard: Some(1 << 40),
            ..PipeLimitsChange::default()
        };
        let size = PipeLimitsChange {
            max_size: Some(5000),
            ..PipeLimitsChange::default()
        };
        let code = as_user(40_033, || {
            for change in [soft, hard, size] {
                assert_eq!(errno(factory.change_pipe_limits(change)), Errno::PERM);
            }
        });
        assert_eq!(code, 0);
        assert_eq!(factory.pipe_limits().unwrap(), before);
        let expected = PipeLimits {
            user_pages_soft: 7,
            ..before
        };
        assert_eq!(factory.change_pipe_limits(soft).unwrap(), expected);
        let expected = PipeLimits {
            user_pages_hard: 1 << 40,
            ..expected
        };
        assert_eq!(factory.change_pipe_limits(hard).unwrap(), expected);
        let expected = PipeLimits {
            max_size: 2 * BYTES,
            ..expected
        };
        assert_eq!(factory.change_pipe_limits(size).unwrap(), expected);
        let all = PipeLimitsChange {
            max_size: Some(before.max_size),
            user_pages_soft: Some(before.user_pages_soft),
            user_pages_hard: Some(before.user_pages_hard),
        };
        assert_eq!(factory.change_pipe_limits(all).unwrap(), before);
    }

    /// One that cannot be is refused together with those that could.
    fn limits_are_changed_together_or_not() {
        let factory = open();
        let before = factory.pipe_limits().unwrap();
        let change = PipeLimitsChange {
            max_size: Some((1 << 31) + 1),
            user_pages_soft: Some(7),
            user_pages_hard: Some(8),
        };
        assert_eq!(errno(factory.change_pipe_limits(change)), Errno::INVAL);
        assert_eq!(factory.pipe_limits().unwrap(), before);
    }

    /// A limit that nobody knows cannot be set.
    fn unknown_limits_are_refused() {
        let factory = open();
        for bit in (3..u32::BITS).map(|bit| 1_u32 << bit) {
            let mut args = vec![0; raw::IPCDEMO_PIPE_LIMITS_SIZE_VER0 as usize];
            args[..4].copy_from_slice(&bit.to_ne_bytes());
            let (result, _) = send(&factory, raw::IPCDEMO_IOC_PIPE_LIMITS, &args);
            assert_eq!(result, Err(Errno::INVAL), "{bit:#x}");
        }
    }

    /// A limit is not changed if what holds then cannot be told.
    fn an_untold_limit_is_not_changed() {
        let factory = open();
        let before = factory.pipe_limits().unwrap();
        // So that a failure here is none elsewhere.
        let _restored = Subject::Module.set_limit(Limit::UserPagesSoft, before.user_pages_soft);
        let mut args = vec![0; raw::IPCDEMO_PIPE_LIMITS_SIZE_VER0 as usize];
        args[..4].copy_from_slice(&raw::IPCDEMO_LIMIT_USER_PAGES_SOFT.to_ne_bytes());
        args[8..16].copy_from_slice(&7_u64.to_ne_bytes());
        let memory = Memory::new(Access::ReadWrite);
        let address = memory.store(&args);
        memory.protect(Access::ReadOnly);
        let result = ioctl(&factory, raw::IPCDEMO_IOC_PIPE_LIMITS, address);
        assert_eq!(result, Err(Errno::FAULT));
        assert_eq!(factory.pipe_limits().unwrap(), before);
    }

    /// The requests for the size are those of a pipe's descriptors: the factory, and the
    /// kernel's pipes, know none of them.
    fn only_ours_know_the_requests() {
        let (reader, _writer) = Subject::Native.pipe();
        let request = raw::IPCDEMO_IOC_PIPE_GET_SIZE;
        assert_eq!(ioctl(open(), request, Address::NULL), Err(Errno::NOTTY));
        assert_eq!(ioctl(reader, request, Address::NULL), Err(Errno::NOTTY));
    }

    /// Its file system is not the kernel's: no two pipes are taken for one.
    fn it_is_on_a_file_system_of_its_own() {
        let [ours, theirs] =
            [made(0), Subject::Native.pipe()].map(|pipe| fstat(pipe.0).unwrap().st_dev);
        assert_ne!(ours, theirs);
    }

    /// A pipe that many threads close at once is gone once.
    fn ends_may_be_closed_at_once() {
        let factory = open();
        for _ in 0..50 {
            let (reader, writer) = made(0);
            let object = listed(&factory, &reader).unwrap();
            let threads = [reader, writer].map(|end| std::thread::spawn(move || drop(end)));
            for thread in threads {
                thread.join().unwrap();
            }
            until("the pipe is gone", || {
                !factory
                    .list()
                    .unwrap()
                    .iter()
                    .any(|other| other.id == object.id)
            });
        }
    }
}

/// A pipe with room for so many bytes.
fn made(size: u32) -> (Fd, Fd) {
    from_factory(size, PipeFlags::empty())
}

fn errno<T>(result: std::io::Result<T>) -> Errno {
    Errno::from_io_error(&result.err().expect("it is refused")).unwrap()
}

/// What the factory tells of a pipe.
fn listed(factory: &Factory, end: &Fd) -> Option<Object> {
    let id = Object::id_of(end).unwrap();
    let objects = factory.list().unwrap();
    objects.into_iter().find(|object| Some(object.id) == id)
}
