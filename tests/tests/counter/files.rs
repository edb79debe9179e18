// SPDX-License-Identifier: GPL-2.0

//! What the counter is as a file: what `/proc` shows of it, and what the kernel's
//! core says to calls for which eventfd has no operation.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use ipcdemo_client::{CounterFlags, raw};
use ipcdemo_tests::{Errno, Fd, Subject, as_a_socket, count, read};
use rustix::fs::{
    self as rfs, FallocateFlags, Mode, OFlags, SeekFrom, fallocate, fcntl_getfl, fcntl_setfl,
    fdatasync, fstat, fsync, ftruncate, seek, sendfile,
};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::pipe::{SpliceFlags, pipe, splice};

use crate::differential;

differential! {
    /// 310: noop_llseek: any seek succeeds and the position stays 0.
    fn seeking_does_nothing(s: Subject) {
        let counter = s.counter(1);
        for position in [SeekFrom::Start(8), SeekFrom::Current(1), SeekFrom::End(-1)] {
            assert_eq!(seek(&counter, position), Ok(0), "{position:?}");
        }
        assert_eq!(read(&counter), Ok(1));
    }

    /// net/netlink/af_netlink.c, netlink_getsockbyfd: a socket's inode is a part of something larger.
    fn it_is_no_socket(s: Subject) {
        assert_eq!(as_a_socket(s.counter(0)), Errno::NOTSOCK);
    }

    /// 404: the name in `/proc/self/fd`.
    fn it_has_a_name(s: Subject) {
        let counter = s.counter(0);
        let link = fs::read_link(format!("/proc/self/fd/{}", counter.as_raw_fd()));
        assert_eq!(link.unwrap().to_str(), Some("anon_inode:[eventfd]"));
    }

    /// 404: an anonymous inode cannot be opened a second time.
    fn it_cannot_be_opened_again(s: Subject) {
        let counter = s.counter(0);
        let path = format!("/proc/self/fd/{}", counter.as_raw_fd());
        let result = rfs::open(path, OFlags::RDWR, Mode::empty());
        assert_eq!(result.err(), Some(Errno::NXIO));
    }

    /// 404: it has no file type, belongs to nobody in particular, and shares one
    /// inode with all its kind.
    fn it_is_an_anonymous_inode(s: Subject) {
        let [stat, native] = [s, Subject::Native].map(|s| fstat(s.counter(0)).unwrap());
        assert_eq!(stat.st_mode, 0o600);
        assert_eq!(stat.st_size, 0);
        let identity = |stat: &rfs::Stat| (stat.st_dev, stat.st_ino, stat.st_nlink, stat.st_uid);
        assert_eq!(identity(&stat), identity(&native));
    }

    /// 292 to 298: three lines, the count in hexadecimal, padded.
    fn fdinfo_has_three_lines(s: Subject) {
        let counter = s.counter(0x2a);
        let [count, id, semaphore] = fdinfo(&counter);
        assert_eq!(count, "eventfd-count:               2a");
        let id = id.strip_prefix("eventfd-id: ").unwrap();
        assert!(id.parse::<u32>().is_ok(), "{id}");
        assert_eq!(semaphore, "eventfd-semaphore: 0");
    }

    /// 298: the mode is shown, and nothing else of the flags.
    fn fdinfo_tells_a_semaphore(s: Subject) {
        let counter = s.full(CounterFlags::SEMAPHORE | CounterFlags::NONBLOCK);
        let [count, _, semaphore] = fdinfo(&counter);
        assert_eq!(count, "eventfd-count: fffffffffffffffe");
        assert_eq!(semaphore, "eventfd-semaphore: 1");
    }

    /// 409: each has an id of its own; a duplicate has the same.
    fn ids_are_unique(s: Subject) {
        let (one, other) = (s.counter(0), s.counter(0));
        let duplicate = Fd::new(rustix::io::dup(&one).unwrap());
        let id = |counter: &Fd| fdinfo(counter)[1].clone();
        assert_ne!(id(&one), id(&other));
        assert_eq!(id(&one), id(&duplicate));
    }

    /// F_SETFL takes what it takes of any file, and O_ASYNC is not among it:
    /// there is no `fasync`.
    fn its_flags_can_be_set(s: Subject) {
        let counter = s.counter(0);
        fcntl_setfl(&counter, OFlags::APPEND | OFlags::from_bits_retain(libc::O_ASYNC as u32))
            .unwrap();
        assert_eq!(fcntl_getfl(&counter), Ok(OFlags::RDWR | OFlags::APPEND));
        assert_eq!(fcntl_setfl(&counter, OFlags::DIRECT), Err(Errno::INVAL));
    }

    /// It cannot be mapped.
    fn it_cannot_be_mapped(s: Subject) {
        let (counter, protection) = (s.counter(0), ProtFlags::READ);
        // SAFETY: It names no address, so nothing is mapped over.
        let result = unsafe {
            mmap(ptr::null_mut(), 4096, protection, MapFlags::SHARED, &counter, 0)
        };
        assert_eq!(result.err(), Some(Errno::NODEV));
    }

    /// It has no size to change, and nothing to write back.
    fn it_has_no_storage(s: Subject) {
        let counter = s.counter(0);
        assert_eq!(ftruncate(&counter, 0), Err(Errno::INVAL));
        let allocated = fallocate(&counter, FallocateFlags::empty(), 0, 8);
        assert_eq!(allocated, Err(Errno::NODEV));
        assert_eq!(fsync(&counter), Err(Errno::INVAL));
        assert_eq!(fdatasync(&counter), Err(Errno::INVAL));
    }

    /// It cannot be spliced, in either direction, nor sent as a file.
    fn it_cannot_be_spliced(s: Subject) {
        let counter = s.counter(1);
        let (out, into) = pipe().unwrap();
        assert_eq!(rustix::io::write(&into, &1_u64.to_ne_bytes()), Ok(8));
        let none = SpliceFlags::empty();
        assert_eq!(splice(&counter, None, &into, None, 8, none), Err(Errno::INVAL));
        assert_eq!(splice(&out, None, &counter, None, 8, none), Err(Errno::INVAL));
        assert_eq!(sendfile(&into, &counter, None, 8), Err(Errno::INVAL));
        let file = rfs::open("/proc/self/exe", OFlags::RDONLY, Mode::empty()).unwrap();
        assert_eq!(sendfile(&counter, &file, None, 8), Err(Errno::INVAL));
        assert_eq!(count(&counter), 1);
    }

    /// It knows no ioctl of its own, while those of every file work.
    fn it_has_no_ioctl(s: Subject) {
        let counter = s.counter(0);
        assert_eq!(rustix::io::ioctl_fionread(&counter), Err(Errno::NOTTY));
        for request in [0, 0x5401, 0xc010_bc02] {
            // SAFETY: The pointer leads nowhere.
            let result = unsafe {
                raw::ioctl(counter.as_fd(), request, ptr::null_mut())
            };
            let error = result.unwrap_err().raw_os_error();
            assert_eq!(error, Some(libc::ENOTTY), "request {request:#x}");
        }
        assert_eq!(rustix::io::ioctl_fionbio(&counter, true), Ok(()));
        assert_eq!(read(&counter), Err(Errno::AGAIN));
    }

    /// It is no directory, and has no owner to change.
    fn it_is_nothing_else(s: Subject) {
        let counter = s.counter(0);
        let mut buffer = Vec::with_capacity(256);
        let mut directory = rfs::RawDir::new(&counter, buffer.spare_capacity_mut());
        assert_eq!(directory.next().unwrap().err(), Some(Errno::NOTDIR));
        assert_eq!(rfs::fchmod(&counter, Mode::RWXU), Err(Errno::OPNOTSUPP));
    }
}

/// The lines of `/proc/self/fdinfo` that are the counter's own.
fn fdinfo(counter: &Fd) -> [String; 3] {
    let path = format!("/proc/self/fdinfo/{}", counter.as_raw_fd());
    let lines: Vec<_> = fs::read_to_string(path)
        .unwrap()
        .lines()
        .filter(|line| line.starts_with("eventfd-"))
        .map(String::from)
        .collect();
    lines.try_into().unwrap()
}
