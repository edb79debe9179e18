// SPDX-License-Identifier: GPL-2.0

//! The null object: it takes everything and gives zeros.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};

use ipcdemo_client::{Factory, Null, NullFlags};
use ipcdemo_tests::{Access, Errno, Memory, PAGE, Ring, guarded, poll_now, read_to, write_from};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, SeekFrom, fcntl_getfl, fstat, seek};
use rustix::io::{
    FdFlags, ReadWriteFlags, fcntl_getfd, preadv2, pwritev2, read, readv, write, writev,
};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

fn make(flags: NullFlags) -> Null {
    let factory = Factory::open().unwrap_or_else(|error| panic!("{error}"));
    factory.null(flags | NullFlags::CLOEXEC).unwrap()
}

macro_rules! tests {
    ($($(#[$attribute:meta])* fn $name:ident($null:ident: Null) $body:block)*) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            guarded(|| {
                let $null = make(NullFlags::empty());
                $body
            });
        }
    )*};
}

tests! {
    /// A read fills the buffer with zeros, whatever its size.
    fn a_read_gives_zeros(null: Null) {
        for length in [0, 1, 8, 255, 256, 257, 4096, 1 << 20] {
            let mut buffer = vec![0xee; length + 1];
            assert_eq!(null.read(&mut buffer[..length]).unwrap(), length);
            assert!(buffer[..length].iter().all(|&byte| byte == 0));
            assert_eq!(buffer[length], 0xee);
        }
    }

    /// A write takes the buffer, whatever its size.
    fn a_write_takes_all(null: Null) {
        for length in [0, 1, 8, 255, 256, 257, 4096, 1 << 20] {
            assert_eq!(null.write(&vec![1; length]).unwrap(), length);
        }
    }

    /// It is always ready, in all of poll's words.
    fn it_is_always_ready(null: Null) {
        let ready = PollFlags::IN | PollFlags::OUT | PollFlags::RDNORM | PollFlags::WRNORM;
        assert_eq!(poll_now(&null, PollFlags::all()), ready);
    }

    /// What is spliced out of it is zeros, and it takes what is spliced into it.
    fn it_can_be_spliced(null: Null) {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let moved = splice(&null, None, &write_end, None, 100, SpliceFlags::empty());
        assert_eq!(moved, Ok(100));
        let mut buffer = [0xee; 101];
        assert_eq!(read(&read_end, &mut buffer), Ok(100));
        assert!(buffer[..100].iter().all(|&byte| byte == 0) && buffer[100] == 0xee);

        assert_eq!(write(&write_end, &[1; 5000]), Ok(5000));
        let moved = splice(&read_end, None, &null, None, 5000, SpliceFlags::empty());
        assert_eq!(moved, Ok(5000));
        drop(write_end);
        assert_eq!(read(&read_end, &mut buffer), Ok(0));
    }

    /// Segments are as good as one buffer.
    fn segments_are_filled(null: Null) {
        let (mut first, mut second) = ([1; 3], [1; 300]);
        let mut segments = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(readv(&null, &mut segments), Ok(303));
        assert_eq!((first, second), ([0; 3], [0; 300]));
        let segments = [IoSlice::new(&[1; 3]), IoSlice::new(&[1; 300])];
        assert_eq!(writev(&null, &segments), Ok(303));
    }

    /// What can be copied is, up to the first byte that cannot.
    fn a_fault_ends_the_copy(null: Null) {
        let memory = Memory::new(Access::ReadWrite);
        for length in [8, 256, 1000] {
            let start = memory.before_end(length);
            assert_eq!(read_to(&null, start, length + 8), Ok(length));
            assert_eq!(write_from(&null, start, length + 8), Ok(length));
        }
    }

    /// If not one byte can, that is EFAULT.
    fn a_fault_at_once_is_an_error(null: Null) {
        let memory = Memory::new(Access::None);
        let start = memory.before_end(PAGE);
        assert_eq!(read_to(&null, start, 8), Err(Errno::FAULT));
        assert_eq!(write_from(&null, start, 8), Err(Errno::FAULT));
        memory.protect(Access::ReadOnly);
        assert_eq!(read_to(&null, start, 8), Err(Errno::FAULT));
        assert_eq!(write_from(&null, start, 8), Ok(8));
    }

    /// It never blocks, so it can be told not to.
    fn it_can_be_told_not_to_wait(null: Null) {
        let mut buffer = [1; 8];
        let current = u64::MAX;
        let mut segments = [IoSliceMut::new(&mut buffer)];
        assert_eq!(preadv2(&null, &mut segments, current, ReadWriteFlags::NOWAIT), Ok(8));
        let segments = [IoSlice::new(&[1; 8])];
        assert_eq!(pwritev2(&null, &segments, current, ReadWriteFlags::NOWAIT), Ok(8));
    }

    /// A ring reads and writes it.
    fn a_ring_uses_it(null: Null) {
        let mut ring = Ring::new();
        ring.write(&null, u64::MAX);
        assert_eq!(ring.completion(), Ok(8));
        ring.read(&null);
        assert_eq!(ring.completion(), Ok(8));
        assert_eq!(ring.value(), 0);
    }

    /// A seek succeeds and does nothing.
    fn seeking_does_nothing(null: Null) {
        assert_eq!(seek(&null, SeekFrom::End(5)), Ok(0));
    }

    /// It is an anonymous inode with a name and a number.
    fn it_has_a_name(null: Null) {
        let fd = null.as_fd().as_raw_fd();
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        assert_eq!(link.to_str(), Some("anon_inode:[ipcdemo-null]"));
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        assert!(info.lines().any(|line| line.starts_with("null-id: ")), "{info}");
        assert_eq!(fstat(&null).unwrap().st_mode, 0o600);
    }

    /// It is open both ways, and O_NONBLOCK is a flag without a meaning.
    fn flags_are_shown(null: Null) {
        assert_eq!(fcntl_getfl(&null), Ok(OFlags::RDWR));
        let null = make(NullFlags::NONBLOCK);
        assert_eq!(fcntl_getfl(&null), Ok(OFlags::RDWR | OFlags::NONBLOCK));
        assert_eq!(null.read(&mut [1; 4]).unwrap(), 4);
    }

    /// It is closed on exec only if asked for.
    fn close_on_exec_is_a_choice(null: Null) {
        assert_eq!(fcntl_getfd(&null), Ok(FdFlags::CLOEXEC));
        let kept = Factory::open().unwrap().null(NullFlags::empty()).unwrap();
        assert_eq!(fcntl_getfd(&kept), Ok(FdFlags::empty()));
    }
}
