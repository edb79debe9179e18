// SPDX-License-Identifier: GPL-2.0

//! What pipe2(2) makes, and what it refuses and leaves behind when it does: nothing.

use std::fs;
use std::os::fd::AsRawFd;

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{as_user, create_untold, put, take};
use ipcdemo_tests::{Child, Errno, differential};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, dup, fcntl_getfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// O_NOTIFICATION_PIPE, which makes a watch queue of the kernel's pipe.
const NOTIFICATION: u32 = OFlags::EXCL.bits();

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:1145: pipe(2) asks for nothing special: both ends block, and survive an
    /// exec.
    fn a_pipe_without_flags(s: Subject) {
        let (reader, writer) = s.create_pipe(0).unwrap();
        for (end, mode) in [(&reader, OFlags::RDONLY), (&writer, OFlags::WRONLY)] {
            assert_eq!(fcntl_getfl(end), Ok(mode));
            assert_eq!(fcntl_getfd(end), Ok(FdFlags::empty()));
        }
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(take(&reader, 100).unwrap(), b"abc");
    }

    /// fs/pipe.c:1070: a flag that pipe2 does not know is refused.
    fn unknown_flags_are_refused(s: Subject) {
        let known = PipeFlags::all().bits() | NOTIFICATION;
        for bit in (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| bit & known == 0) {
            assert_eq!(s.create_pipe(bit).err(), Some(Errno::INVAL), "flag {bit:#x}");
        }
    }

    /// fs/pipe.c:1077, 1082: close-on-exec is set at both ends.
    fn both_ends_are_closed_on_exec(s: Subject) {
        let (reader, writer) = s.create_pipe(PipeFlags::CLOEXEC.bits()).unwrap();
        assert_eq!(fcntl_getfd(reader), Ok(FdFlags::CLOEXEC));
        assert_eq!(fcntl_getfd(writer), Ok(FdFlags::CLOEXEC));
    }

    /// fs/pipe.c:1028, 1039: so is O_NONBLOCK.
    fn both_ends_are_nonblocking(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        assert_eq!(fcntl_getfl(&reader), Ok(OFlags::RDONLY | OFlags::NONBLOCK));
        assert_eq!(fcntl_getfl(&writer), Ok(OFlags::WRONLY | OFlags::NONBLOCK));
    }

    /// fs/pipe.c:1028, 1039: O_DIRECT is the write end's alone.
    fn only_the_write_end_is_direct(s: Subject) {
        let (reader, writer) = s.pipe_with(PipeFlags::DIRECT);
        assert_eq!(fcntl_getfl(&reader), Ok(OFlags::RDONLY));
        assert_eq!(fcntl_getfl(&writer), Ok(OFlags::WRONLY | OFlags::DIRECT));
    }

    /// fs/pipe.c:979: two pipes have nothing to do with one another.
    fn two_pipes_are_two(s: Subject) {
        let ((reader, writer), (other, _other_writer)) = (s.pipe(), s.nonblocking_pipe());
        assert_eq!(put(&writer, b"x"), Ok(1));
        assert_eq!(take(&other, 1), Err(Errno::AGAIN));
        assert_eq!(take(&reader, 1).unwrap(), b"x");
    }
}

differential! {
    by ipcdemo_tests::pipe::alone;

    /// fs/pipe.c:1077 to 1085: the lowest free numbers, the end to read from first.
    fn the_read_end_comes_first(s: Subject) {
        let child = Child::fork(|| {
            let lowest = lowest_two();
            let (reader, writer) = s.create_pipe(0).unwrap();
            assert_eq!([reader.as_raw_fd(), writer.as_raw_fd()], lowest);
            0
        });
        assert_eq!(child.wait(), 0);
    }

    /// fs/pipe.c:1078, 1095: with no number free it is EMFILE.
    fn no_descriptor_is_free(s: Subject) {
        let child = Child::fork(|| {
            limit_descriptors(0);
            assert_eq!(s.create_pipe(0).err(), Some(Errno::MFILE));
            0
        });
        assert_eq!(child.wait(), 0);
    }

    /// fs/pipe.c:1083, 1093: with one free as well, and that is free again.
    fn one_descriptor_is_free(s: Subject) {
        let child = Child::fork(|| {
            let lowest = lowest_two();
            limit_descriptors(lowest[0] as u64 + 1);
            for flags in [0, PipeFlags::CLOEXEC.bits()] {
                assert_eq!(s.create_pipe(flags).err(), Some(Errno::MFILE));
                assert_eq!(dup(std::io::stdin()).unwrap().as_raw_fd(), lowest[0]);
            }
            0
        });
        assert_eq!(child.wait(), 0);
    }

    /// fs/pipe.c:1123 to 1128: if the numbers cannot be told, or not both, no descriptor
    /// appears.
    fn numbers_that_cannot_be_told(_s: Subject) {
        let child = Child::fork(|| {
            let lowest = lowest_two();
            for told in [0, 4] {
                assert_eq!(create_untold(told), Errno::FAULT);
                assert_eq!(lowest_two(), lowest);
            }
            // Not one beyond those either.
            let open = fs::read_dir("/proc/self/fd").unwrap().count();
            assert_eq!(create_untold(0), Errno::FAULT);
            assert_eq!(fs::read_dir("/proc/self/fd").unwrap().count(), open);
            0
        });
        assert_eq!(child.wait(), 0);
    }

    /// fs/pipe.c:1030 to 1033: with no file left in the system it is ENFILE.
    fn no_file_is_left(s: Subject) {
        let _none = FilesOfTheSystem::none();
        // Root is not held to the limit.
        let code = as_user(40_001, || {
            assert_eq!(s.create_pipe(0).err(), Some(Errno::NFILE));
        });
        assert_eq!(code, 0);
    }

    /// fs/pipe.c:996, 997: the inode belongs to who made the pipe.
    fn it_belongs_to_its_maker(s: Subject) {
        let code = as_user(40_002, || {
            let (reader, writer) = s.create_pipe(0).unwrap();
            for end in [reader, writer] {
                let stat = rustix::fs::fstat(&end).unwrap();
                assert_eq!((stat.st_uid, stat.st_gid), (40_002, 40_002));
            }
        });
        assert_eq!(code, 0);
    }
}

/// How many files there may be, until this is dropped.
struct FilesOfTheSystem(Vec<u8>);

impl FilesOfTheSystem {
    const LIMIT: &str = "/proc/sys/fs/file-max";

    fn none() -> Self {
        let before = fs::read(Self::LIMIT).unwrap();
        // The kernel's quick count of files is off by dozens: only 0 is sure.
        fs::write(Self::LIMIT, "0").unwrap();
        Self(before)
    }
}

impl Drop for FilesOfTheSystem {
    fn drop(&mut self) {
        fs::write(Self::LIMIT, &self.0).unwrap();
    }
}

/// The two lowest numbers that are free.
fn lowest_two() -> [i32; 2] {
    let duplicates = [(); 2].map(|()| dup(std::io::stdin()).unwrap());
    duplicates.map(|fd| fd.as_raw_fd())
}

fn limit_descriptors(count: u64) {
    let limit = Rlimit {
        current: Some(count),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}
