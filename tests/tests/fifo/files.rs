// SPDX-License-Identifier: GPL-2.0

//! What a FIFO is as a file: who may open it, what stat(2) tells of its use, and what
//! the kernel's core says to calls for which it has no operation.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::ptr;

use ipcdemo_client::raw;
use ipcdemo_tests::fifo::Fifo;
use ipcdemo_tests::pipe::{as_user, put, queued, take};
use ipcdemo_tests::{Errno, Fd, fifos};
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, SeekFrom, Timespec, Timestamps, Uid, chmod, chown, fdatasync,
    fsync, ftruncate, seek, utimensat,
};
use rustix::io::{ReadWriteFlags, ioctl_fionbio, pread, preadv2, pwrite, pwritev2};
use rustix::mm::{MapFlags, ProtFlags, mmap};

const USER: u32 = 65534;

fifos! {
    /// Another user is refused if the mode says so, and was not there.
    fn another_user_is_refused(fifo: &Fifo) {
        let reader = fifo.opening(OFlags::RDONLY);
        let code = as_user(USER, || {
            for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
                let refused = fifo.open(flags | OFlags::NONBLOCK);
                assert_eq!(refused.err(), Some(Errno::ACCESS), "{flags:?}");
            }
        });
        assert_eq!(code, 0);
        assert!(reader.sleeps_on());
        let _writer = fifo.writer();
        assert!(reader.join().is_ok());
    }

    /// Each direction has its bit.
    fn the_mode_is_looked_at(fifo: &Fifo) {
        let _both = fifo.both();
        for (mode, allowed) in [
            (0o622, &[OFlags::WRONLY][..]),
            (0o644, &[OFlags::RDONLY]),
            (0o666, &[OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR]),
            (0o600, &[]),
        ] {
            chmod(fifo.path(), Mode::from_raw_mode(mode)).unwrap();
            let code = as_user(USER, || {
                for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
                    let result = fifo.open(flags | OFlags::NONBLOCK);
                    let expected = (!allowed.contains(&flags)).then_some(Errno::ACCESS);
                    assert_eq!(result.err(), expected, "mode {mode:o}, {flags:?}");
                }
            });
            assert_eq!(code, 0);
        }
    }

    /// The node can be given away, and has the mode that it was made with.
    fn the_owner_may(fifo: &Fifo) {
        let given = Fifo::with_mode(fifo.subject(), 0o420);
        assert_eq!(given.path().metadata().unwrap().mode() & 0o7777, 0o420);
        chown(given.path(), Some(Uid::from_raw(USER)), Some(Gid::from_raw(USER))).unwrap();
        let code = as_user(USER, || {
            assert!(given.open(OFlags::RDONLY | OFlags::NONBLOCK).is_ok());
            assert_eq!(given.open(OFlags::WRONLY).err(), Some(Errno::ACCESS));
        });
        assert_eq!(code, 0);
    }

    /// 487: a read that gets something is an access. One that gets nothing is none.
    fn reading_is_an_access(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        age(fifo);
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        assert_eq!(times(fifo), [OLD, OLD]);
        assert_eq!(put(&writer, b"x"), Ok(1));
        age(fifo);
        assert_eq!(take(&reader, 1), Ok(b"x".into()));
        let [accessed, modified] = times(fifo);
        assert!(accessed > OLD && modified == OLD, "{accessed}, {modified}");
        drop(writer);
        age(fifo);
        assert_eq!(take(&reader, 1), Ok(vec![]));
        assert_eq!(times(fifo), [OLD, OLD]);
    }

    /// 685: a write that puts something there is a change. One that does not is none.
    fn writing_is_a_change(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        age(fifo);
        assert_eq!(put(&writer, b"x"), Ok(1));
        let [accessed, modified] = times(fifo);
        assert!(accessed == OLD && modified > OLD, "{accessed}, {modified}");
        age(fifo);
        assert_eq!(put(&writer, b""), Ok(0));
        drop(reader);
        assert_eq!(put(&writer, b"x"), Err(Errno::PIPE));
        assert_eq!(times(fifo), [OLD, OLD]);
    }

    /// Opening and closing are neither.
    fn opening_is_no_access(fifo: &Fifo) {
        age(fifo);
        drop((fifo.reader(), fifo.both()));
        assert_eq!(times(fifo), [OLD, OLD]);
    }

    /// 1240: a stream has no positions.
    fn there_are_no_positions(fifo: &Fifo) {
        let both = fifo.both();
        assert_eq!(put(&both, b"x"), Ok(1));
        for position in [SeekFrom::Start(0), SeekFrom::Current(0), SeekFrom::End(0)] {
            assert_eq!(seek(&both, position), Err(Errno::SPIPE), "{position:?}");
        }
        assert_eq!(pread(&both, &mut [0], 0), Err(Errno::SPIPE));
        assert_eq!(pwrite(&both, b"y", 0), Err(Errno::SPIPE));
        assert_eq!(take(&both, 10), Ok(b"x".into()));
    }

    /// 1053: unlike a pipe's, its ends cannot be told RWF_NOWAIT: only create_pipe_files
    /// says that they can.
    fn one_call_cannot_be_told_not_to_wait(fifo: &Fifo) {
        let both = fifo.both();
        assert_eq!(put(&both, b"x"), Ok(1));
        let (mut byte, nowait) = ([0], ReadWriteFlags::NOWAIT);
        let mut segments = [IoSliceMut::new(&mut byte)];
        let result = preadv2(&both, &mut segments, u64::MAX, nowait);
        assert_eq!(result, Err(Errno::OPNOTSUPP));
        let result = pwritev2(&both, &[IoSlice::new(b"y")], u64::MAX, nowait);
        assert_eq!(result, Err(Errno::OPNOTSUPP));
        assert_eq!(take(&both, 10), Ok(b"x".into()));
    }

    /// 700: each end tells how much there is, and all the same.
    fn ends_tell_what_there_is(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        assert_eq!([&reader, &writer].map(queued), [0, 0]);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!([&reader, &writer].map(queued), [3, 3]);
        drop(writer);
        assert_eq!(queued(&reader), 3);
        assert_eq!(queued(fifo.both()), 3);
    }

    /// 729: other requests it does not know, while those of every file work.
    fn there_are_no_other_requests(fifo: &Fifo) {
        let (_reader, writer) = fifo.blocking_ends();
        let unknown = |fd: &Fd, request| {
            // SAFETY: The pointer leads nowhere.
            let result = unsafe { raw::ioctl(fd.as_fd(), request, ptr::null_mut()) };
            result.unwrap_err().raw_os_error()
        };
        for request in [0, 0x5401, 0xc010_bc02] {
            assert_eq!(unknown(&writer, request), Some(libc::ENOTTY), "request {request:#x}");
        }
        let reader = fifo.open(OFlags::RDONLY).unwrap();
        assert_eq!(ioctl_fionbio(&reader, true), Ok(()));
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
    }

    /// It has no storage: no size to change, nothing to write back, nothing to map.
    fn there_is_no_storage(fifo: &Fifo) {
        let both = fifo.both();
        assert_eq!(ftruncate(&both, 0), Err(Errno::INVAL));
        assert_eq!(fsync(&both), Err(Errno::INVAL));
        assert_eq!(fdatasync(&both), Err(Errno::INVAL));
        // SAFETY: It names no address, so nothing is mapped over.
        let mapped = unsafe {
            mmap(ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::SHARED, &both, 0)
        };
        assert_eq!(mapped.err(), Some(Errno::NODEV));
    }
}

/// A second that is long past.
const OLD: i64 = 1_000_000;

/// Sets the node's times to that.
fn age(fifo: &Fifo) {
    let old = Timespec {
        tv_sec: OLD,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: old,
        last_modification: old,
    };
    utimensat(CWD, fifo.path(), &times, AtFlags::empty()).unwrap();
}

/// When the node was accessed and modified.
fn times(fifo: &Fifo) -> [i64; 2] {
    let node = fifo.path().metadata().unwrap();
    [node.atime(), node.mtime()]
}
