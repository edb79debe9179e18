// SPDX-License-Identifier: GPL-2.0

//! What a pipe is as a file: its inode, what `/proc` shows of it, and what the kernel's
//! core says to calls for which a pipe has no operation.

use std::os::fd::{AsFd, AsRawFd};
use std::{fs, io, mem, ptr};

use ipcdemo_client::raw;
use ipcdemo_tests::inotify::{ReadFlags, Watch};
use ipcdemo_tests::pipe::{bytes, path, put, take};
use ipcdemo_tests::{Errno, Fd, Subject, as_a_socket, differential, until};
use rustix::fs::{
    Advice, FallocateFlags, FlockOperation, Gid, MemfdFlags, Mode, OFlags, SeekFrom, Timespec,
    Timestamps, Uid, XattrFlags, copy_file_range, fadvise, fallocate, fchmod, fchown, fcntl_getfl,
    fcntl_setfl, fdatasync, fgetxattr, flock, fsetxattr, fstat, fstatfs, fsync, ftruncate,
    futimens, memfd_create, open, openat, readlink, seek, sendfile,
};
use rustix::io::{pread, pwrite};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::pipe::{SpliceFlags, splice};

/// PIPEFS_MAGIC of linux/magic.h.
const PIPEFS_MAGIC: u64 = 0x5049_5045;

/// F_OFD_SETLK of asm-generic/fcntl.h.
const F_OFD_SETLK: i32 = 37;

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:995: a FIFO without a name, for its owner's eyes.
    fn it_is_a_fifo(s: Subject) {
        let (reader, writer) = s.pipe();
        for end in [reader, writer] {
            let stat = fstat(&end).unwrap();
            assert_eq!(stat.st_mode, libc::S_IFIFO | 0o600);
            assert_eq!((stat.st_nlink, stat.st_size, stat.st_blocks), (1, 0, 0));
            assert_eq!((stat.st_uid, stat.st_gid, stat.st_rdev), (0, 0, 0));
            assert_eq!(stat.st_blksize, 4096);
        }
    }

    /// net/netlink/af_netlink.c, netlink_getsockbyfd: a socket's inode is a part of something larger.
    fn it_is_no_socket(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!([as_a_socket(reader), as_a_socket(writer)], [Errno::NOTSOCK; 2]);
    }

    /// fs/pipe.c:977, 1039: both ends are one inode, and each pipe has its own, all on
    /// one file system.
    fn each_pipe_is_an_inode(s: Subject) {
        let ((reader, writer), (other, _writer)) = (s.pipe(), s.pipe());
        let [reader, writer, other] = [reader, writer, other].map(|end| fstat(end).unwrap());
        assert_eq!(reader.st_ino, writer.st_ino);
        assert_ne!(reader.st_ino, other.st_ino);
        assert_eq!(reader.st_dev, other.st_dev);
    }

    /// fs/pipe.c:957, pipefs_dname: its name in `/proc/self/fd` is its number.
    fn it_has_a_name(s: Subject) {
        let (reader, writer) = s.pipe();
        let name = format!("pipe:[{}]", fstat(&reader).unwrap().st_ino);
        for end in [reader, writer] {
            assert_eq!(fs::read_link(path(&end)).unwrap().to_str(), Some(&*name));
        }
    }

    /// fs/pipe.c:1539, simple_statfs: its file system says little.
    fn its_file_system_is_pipefs(s: Subject) {
        let (reader, _writer) = s.pipe();
        let stat = fstatfs(&reader).unwrap();
        assert_eq!(stat.f_type as u64, PIPEFS_MAGIC);
        assert_eq!((stat.f_bsize, stat.f_namelen), (4096, 255));
        assert_eq!((stat.f_blocks, stat.f_files), (0, 0));
    }

    /// fs/pipe.c:998: the times are those of its making, and, other than a FIFO's, stay so
    /// when something is written or read.
    fn transfers_leave_the_times_alone(s: Subject) {
        let (reader, writer) = s.pipe();
        let made = times(&reader);
        assert_eq!(made, [made[0]; 3]);
        until("the clock has moved on", || times(s.pipe().0)[0] > made[0]);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(take(&reader, 3).unwrap(), b"abc");
        assert_eq!(times(&reader), made);
    }

    /// fs/attr.c, simple_setattr: the mode and the owner can be changed, at either end.
    fn its_mode_and_owner_can_be_changed(s: Subject) {
        let (reader, writer) = s.pipe();
        fchmod(&writer, Mode::from_raw_mode(0o640)).unwrap();
        assert_eq!(fstat(&reader).unwrap().st_mode, libc::S_IFIFO | 0o640);
        fchown(&reader, Some(Uid::from_raw(7)), Some(Gid::from_raw(8))).unwrap();
        let stat = fstat(&writer).unwrap();
        assert_eq!((stat.st_uid, stat.st_gid), (7, 8));
    }

    /// fs/attr.c, simple_setattr: so can the times.
    fn its_times_can_be_changed(s: Subject) {
        let (reader, writer) = s.pipe();
        let time = |seconds| Timespec { tv_sec: seconds, tv_nsec: 0 };
        let both = Timestamps { last_access: time(1000), last_modification: time(2000) };
        futimens(&reader, &both).unwrap();
        assert_eq!(times(&writer)[..2], [(1000, 0), (2000, 0)]);
    }

    /// fs/pipe.c:1049, stream_open: there is no position to seek to.
    fn it_cannot_be_sought(s: Subject) {
        let (reader, writer) = s.pipe();
        for position in [SeekFrom::Start(0), SeekFrom::Current(0), SeekFrom::End(0)] {
            assert_eq!(seek(&reader, position), Err(Errno::SPIPE), "{position:?}");
            assert_eq!(seek(&writer, position), Err(Errno::SPIPE), "{position:?}");
        }
    }

    /// fs/pipe.c:1049, stream_open: nor to read or write at.
    fn there_are_no_positions(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(pread(&reader, &mut [0; 3], 0).err(), Some(Errno::SPIPE));
        assert_eq!(pwrite(&writer, b"def", 0), Err(Errno::SPIPE));
        assert_eq!(take(&reader, 100).unwrap(), b"abc");
    }

    /// fs/pipe.c:1028, 1039: an end is open for one direction.
    fn an_end_has_one_direction(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(take(&writer, 1), Err(Errno::BADF));
        assert_eq!(put(&reader, b"x"), Err(Errno::BADF));
        assert_eq!(take(&writer, 0), Err(Errno::BADF), "not even nothing");
    }

    /// fs/pipe.c:1340, pipeanon_fops: it cannot be mapped.
    fn it_cannot_be_mapped(s: Subject) {
        let (reader, writer) = s.pipe();
        for (end, error) in [(reader, Errno::NODEV), (writer, Errno::ACCESS)] {
            let protection = ProtFlags::READ;
            // SAFETY: It names no address, so nothing is mapped over.
            let result =
                unsafe { mmap(ptr::null_mut(), 4096, protection, MapFlags::SHARED, &end, 0) };
            assert_eq!(result.err(), Some(error));
        }
    }

    /// fs/open.c: it has no size to change, and no blocks to allocate.
    fn it_has_no_storage(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(ftruncate(&writer, 0), Err(Errno::INVAL));
        assert_eq!(ftruncate(&reader, 0), Err(Errno::INVAL));
        let allocate = |end| fallocate(end, FallocateFlags::empty(), 0, 8);
        assert_eq!(allocate(&writer), Err(Errno::SPIPE));
        assert_eq!(allocate(&reader), Err(Errno::BADF));
    }

    /// fs/pipe.c:1340, pipeanon_fops: nothing to write back.
    fn it_cannot_be_synced(s: Subject) {
        let (reader, writer) = s.pipe();
        for end in [reader, writer] {
            assert_eq!(fsync(&end), Err(Errno::INVAL));
            assert_eq!(fdatasync(&end), Err(Errno::INVAL));
        }
    }

    /// mm/fadvise.c: no advice to take.
    fn it_takes_no_advice(s: Subject) {
        let (reader, _writer) = s.pipe();
        assert_eq!(fadvise(&reader, 0, None, Advice::Sequential), Err(Errno::SPIPE));
    }

    /// fs/read_write.c, generic_copy_file_checks: no range to copy.
    fn no_range_of_it_can_be_copied(s: Subject) {
        let ((reader, writer), (_reader, target)) = (s.pipe(), s.pipe());
        assert_eq!(put(&writer, b"abc"), Ok(3));
        let result = copy_file_range(&reader, None, &target, None, 3);
        assert_eq!(result, Err(Errno::INVAL));
    }

    /// It is no directory.
    fn it_is_no_directory(s: Subject) {
        let (reader, _writer) = s.pipe();
        let result = openat(&reader, "x", OFlags::RDONLY, Mode::empty());
        assert_eq!(result.err(), Some(Errno::NOTDIR));
        assert_eq!(readlink(path(&reader) + "/x", Vec::new()).err(), Some(Errno::NOTDIR));
    }

    /// fs/locks.c: both ends are locked as one inode by two openers.
    fn its_ends_share_a_lock(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(flock(&reader, FlockOperation::NonBlockingLockExclusive), Ok(()));
        let result = flock(&writer, FlockOperation::NonBlockingLockShared);
        assert_eq!(result, Err(Errno::WOULDBLOCK));
        assert_eq!(flock(&reader, FlockOperation::Unlock), Ok(()));
        assert_eq!(flock(&writer, FlockOperation::NonBlockingLockShared), Ok(()));
    }

    /// fs/locks.c, check_fmode_for_setlk: records are locked as those of a file: by the direction of the end, and
    /// against the other end, which is the same inode.
    fn its_records_can_be_locked(s: Subject) {
        let (reader, writer) = s.pipe();
        let lock = |end: &Fd, kind: i32| {
            // SAFETY: All zeros is a value of the struct: the whole file.
            let mut lock: libc::flock = unsafe { mem::zeroed() };
            lock.l_type = kind as i16;
            // SAFETY: It reads the struct.
            let result = unsafe { libc::fcntl(end.as_raw_fd(), F_OFD_SETLK, &raw const lock) };
            if result == 0 { None } else { io::Error::last_os_error().raw_os_error() }
        };
        assert_eq!(lock(&reader, libc::F_WRLCK), Some(libc::EBADF));
        assert_eq!(lock(&writer, libc::F_RDLCK), Some(libc::EBADF));
        assert_eq!(lock(&writer, libc::F_WRLCK), None);
        assert_eq!(lock(&reader, libc::F_RDLCK), Some(libc::EAGAIN));
        drop(writer);
        assert_eq!(lock(&reader, libc::F_RDLCK), None);
    }

    /// fs/xattr.c, xattr_permission: it has no attributes of users, which only files and folders have, and none of
    /// the system's.
    fn it_has_no_attributes(s: Subject) {
        let (reader, _writer) = s.pipe();
        let mut value = [0; 10];
        assert_eq!(fgetxattr(&reader, "user.a", &mut value), Err(Errno::NODATA));
        assert_eq!(fsetxattr(&reader, "user.a", b"x", XattrFlags::empty()), Err(Errno::PERM));
        for name in ["trusted.a", "security.a"] {
            assert_eq!(fgetxattr(&reader, name, &mut value), Err(Errno::OPNOTSUPP));
            let set = fsetxattr(&reader, name, b"x", XattrFlags::empty());
            assert_eq!(set, Err(Errno::OPNOTSUPP));
        }
    }

    /// fs/fcntl.c, setfl: what can be set of any file's flags can be set here, O_DIRECT at
    /// either end too, and each end has its own.
    fn its_flags_can_be_set(s: Subject) {
        let (reader, writer) = s.pipe();
        let flags = OFlags::APPEND | OFlags::DIRECT | OFlags::NONBLOCK;
        fcntl_setfl(&reader, flags).unwrap();
        assert_eq!(fcntl_getfl(&reader), Ok(OFlags::RDONLY | flags));
        assert_eq!(fcntl_getfl(&writer), Ok(OFlags::WRONLY));
        fcntl_setfl(&writer, flags).unwrap();
        assert_eq!(fcntl_getfl(&writer), Ok(OFlags::WRONLY | flags));
        fcntl_setfl(&writer, OFlags::empty()).unwrap();
        assert_eq!(fcntl_getfl(&writer), Ok(OFlags::WRONLY));
    }

    /// fs/proc/fd.c: fdinfo tells its flags and its inode, a position that stays 0, and nothing of its own.
    fn fdinfo_tells_the_inode(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(take(&reader, 3).unwrap(), b"abc");
        for (end, flags) in [(&reader, 0o2_004_000), (&writer, 0o2_004_001)] {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", end.as_raw_fd()));
            let info = info.unwrap();
            let line = |name: &str| {
                let line = info.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap().trim().to_owned()
            };
            let names = info.lines().filter_map(|line| line.split(':').next());
            assert!(names.eq(["pos", "flags", "mnt_id", "ino"]), "{info}");
            assert_eq!(line("pos:"), "0");
            assert_eq!(u32::from_str_radix(&line("flags:"), 8), Ok(flags));
            assert_eq!(line("ino:"), fstat(end).unwrap().st_ino.to_string());
        }
    }

    /// include/linux/fsnotify.h, fs/pipe.c:1060: a watch hears of each read, write and close.
    fn it_can_be_watched(s: Subject) {
        let (reader, writer) = s.pipe();
        // None of the kernels but stock can watch.
        let Some(watch) = Watch::of(&path(&reader)) else { return };
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(watch.events(), [ReadFlags::MODIFY]);
        assert_eq!(take(&reader, 3).unwrap(), b"abc");
        assert_eq!(watch.events(), [ReadFlags::ACCESS]);
        drop(reader);
        assert_eq!(watch.events(), [ReadFlags::CLOSE_NOWRITE]);
        drop(writer);
        assert_eq!(watch.events(), [ReadFlags::CLOSE_WRITE]);
    }

    /// fs/splice.c:1390, fs/read_write.c:1384: it also hears of what is spliced or sent, and of an end that is opened by
    /// way of `/proc`.
    fn splices_and_openings_are_watched(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        let Some(watch) = Watch::of(&path(&reader)) else { return };
        assert_eq!(put(&to_theirs, b"abc"), Ok(3));
        let splice = |from: &Fd, to: &Fd| splice(from, None, to, None, 3, SpliceFlags::empty());
        assert_eq!(splice(&theirs, &writer), Ok(3));
        assert_eq!(watch.events(), [ReadFlags::MODIFY]);
        assert_eq!(splice(&reader, &to_theirs), Ok(3));
        assert_eq!(watch.events(), [ReadFlags::ACCESS]);
        let file = memfd_create("content", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(put(&file, b"abc"), Ok(3));
        assert_eq!(sendfile(&writer, &file, Some(&mut 0), 3), Ok(3));
        assert_eq!(watch.events(), [ReadFlags::MODIFY]);
        drop(open(path(&reader), OFlags::RDWR, Mode::empty()).unwrap());
        assert_eq!(watch.events(), [ReadFlags::OPEN, ReadFlags::CLOSE_WRITE]);
        drop(open(path(&reader), OFlags::PATH, Mode::empty()).unwrap());
        assert_eq!(watch.events(), []);
    }

    /// fs/pipe.c:700 to 712: FIONREAD counts what is there, at either end.
    fn both_ends_tell_how_much_there_is(s: Subject) {
        let (reader, writer) = s.pipe();
        let told = || [&reader, &writer].map(|end| rustix::io::ioctl_fionread(end).unwrap());
        assert_eq!(told(), [0, 0]);
        assert_eq!(put(&writer, &bytes(5000)), Ok(5000));
        assert_eq!(told(), [5000, 5000]);
        assert_eq!(put(&writer, &bytes(4096)), Ok(4096));
        assert_eq!(take(&reader, 4999).unwrap(), bytes(4999));
        assert_eq!(told(), [4097, 4097]);
    }

    /// fs/pipe.c:712: to where the count cannot be put it is EFAULT.
    fn the_count_needs_a_place(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        for end in [reader, writer] {
            // SAFETY: The pointer leads nowhere.
            let result = unsafe { raw::ioctl(end.as_fd(), libc::FIONREAD as u32, ptr::null_mut()) };
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EFAULT));
        }
    }

    /// fs/pipe.c:729: another request is ENOTTY, while those of every file work.
    fn other_requests_are_refused(s: Subject) {
        let (reader, writer) = s.pipe();
        for end in [&reader, &writer] {
            for request in [0, libc::TCGETS as u32, 0xc010_bc02] {
                // SAFETY: The pointer leads nowhere.
                let result = unsafe { raw::ioctl(end.as_fd(), request, ptr::null_mut()) };
                let error = result.unwrap_err().raw_os_error();
                assert_eq!(error, Some(libc::ENOTTY), "request {request:#x}");
            }
            assert_eq!(rustix::io::ioctl_fionbio(end, true), Ok(()));
        }
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
    }
}

/// When it was last read, written to and changed, as the inode says.
fn times(end: impl AsFd) -> [(i64, i64); 3] {
    let stat = fstat(end).unwrap();
    [
        (stat.st_atime, stat.st_atime_nsec as i64),
        (stat.st_mtime, stat.st_mtime_nsec as i64),
        (stat.st_ctime, stat.st_ctime_nsec as i64),
    ]
}
