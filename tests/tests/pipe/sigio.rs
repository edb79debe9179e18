// SPDX-License-Identifier: GPL-2.0

//! O_ASYNC: a signal for each transfer.

use std::os::fd::AsRawFd;

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{Blocked, bytes, fill, path, put, take};
use ipcdemo_tests::{Errno, Fd, PAGE, Sleeper, Subject, differential};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::dup;
use rustix::pipe::{SpliceFlags, splice};

const ASYNC: OFlags = OFlags::from_bits_retain(libc::O_ASYNC as u32);

/// F_SETSIG and F_SETOWN_EX of asm-generic/fcntl.h.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// POLL_IN and POLL_OUT of asm-generic/siginfo.h.
const POLL_IN: i32 = 1;
const POLL_OUT: i32 = 2;

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:672: a write sends the read end's owner SIGIO.
    fn a_write_signals(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = Blocked::new(libc::SIGIO);
        own(&reader);
        fcntl_setfl(&reader, ASYNC).unwrap();
        assert_eq!(fcntl_getfl(&reader), Ok(OFlags::RDONLY | ASYNC));
        assert_eq!(signal.count(), 0);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(signal.count(), 1);
    }

    /// fs/pipe.c:672: each write does, be the pipe empty or not; a read does not.
    fn each_write_signals(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = signalled(&reader);
        for count in 1..=3 {
            for _ in 0..count {
                assert_eq!(put(&writer, b"a"), Ok(1));
            }
            assert_eq!(signal.count(), count);
        }
        assert_eq!(take(&reader, 100).unwrap().len(), 6);
        assert_eq!(signal.count(), 0);
    }

    /// fs/pipe.c:478: each read the write end's owner, be the pipe full or not; a write does
    /// not.
    fn each_read_signals(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = signalled(&writer);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(signal.count(), 0);
        for byte in b"abc" {
            assert_eq!(take(&reader, 1).unwrap(), [*byte]);
            assert_eq!(signal.count(), 1);
        }
    }

    /// fs/pipe.c:478, 672, fs/fcntl.c, send_sigio_to_task: with F_SETSIG the signal tells
    /// which descriptor it was, and for what.
    fn the_signal_tells_what_happened(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = signalled(&reader);
        assert_eq!(put(&writer, b"a"), Ok(1));
        let band = i64::from(libc::POLLIN | libc::POLLRDNORM);
        assert_eq!(told(&signal), Some((POLL_IN, band, reader.as_raw_fd())));
        fcntl_setfl(&reader, OFlags::empty()).unwrap();
        let signal = signalled(&writer);
        assert_eq!(take(&reader, 1).unwrap(), b"a");
        let band = i64::from(libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND);
        assert_eq!(told(&signal), Some((POLL_OUT, band, writer.as_raw_fd())));
    }

    /// fs/pipe.c:478, 672: those that could not be done count as well; what is nothing (353,
    /// 531) does not.
    fn refused_transfers_signal(s: Subject) {
        let (reader, writer) = s.pipe_of(1, PipeFlags::NONBLOCK);
        let signal = signalled(&writer);
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        assert_eq!(signal.count(), 1);
        assert_eq!(take(&reader, 0).unwrap(), b"");
        assert_eq!(signal.count(), 0);
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        fill(&writer);
        let signal = signalled(&reader);
        assert_eq!(put(&writer, b"a"), Err(Errno::AGAIN));
        assert_eq!(signal.count(), 1);
        assert_eq!(put(&writer, b""), Ok(0));
        assert_eq!(signal.count(), 0);
    }

    /// fs/pipe.c:648: a write that is about to sleep signals first, and at its end again.
    fn a_write_signals_before_it_sleeps(s: Subject) {
        let (reader, writer) = s.pipe_of(1, PipeFlags::empty());
        let signal = signalled(&reader);
        let sleeper = Sleeper::putting(&writer, &bytes(2 * PAGE));
        assert_eq!(signal.count(), 1);
        assert_eq!(take(&reader, PAGE).unwrap().len(), PAGE);
        assert_eq!(sleeper.join(), Ok(2 * PAGE));
        assert_eq!(signal.count(), 1);
    }

    /// fs/pipe.c:464: a read does so when it has something to tell: one that sleeps says
    /// nothing.
    fn a_read_does_not_signal_before_it_sleeps(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = signalled(&writer);
        let sleeper = Sleeper::taking(&reader, 1);
        assert_eq!(signal.count(), 0);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"a");
        assert_eq!(signal.count(), 1);
    }

    /// fs/splice.c:1798, 1841: a splice signals when it has taken the last of a buffer.
    fn a_splice_that_makes_room_signals(s: Subject) {
        let ((reader, writer), (_theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        assert_eq!(put(&writer, b"abc"), Ok(3));
        let signal = signalled(&writer);
        for (length, count) in [(1, 0), (1, 0), (1, 1)] {
            let spliced = splice(&reader, None, &to_theirs, None, length, SpliceFlags::empty());
            assert_eq!(spliced, Ok(length));
            assert_eq!(signal.count(), count);
        }
    }

    /// fs/pipe.c:822: the last writer's end signals the reader as data would.
    fn the_end_signals_the_reader(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = signalled(&reader);
        drop(writer);
        let band = i64::from(libc::POLLIN | libc::POLLRDNORM);
        assert_eq!(told(&signal), Some((POLL_IN, band, reader.as_raw_fd())));
        assert_eq!(signal.count(), 0);
    }

    /// fs/pipe.c:823: the last reader's end the writer as room would.
    fn the_end_signals_the_writer(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = signalled(&writer);
        drop(reader);
        let band = i64::from(libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND);
        assert_eq!(told(&signal), Some((POLL_OUT, band, writer.as_raw_fd())));
        assert_eq!(signal.count(), 0);
    }

    /// fs/pipe.c:819: an end that is not the last of its side's does not signal.
    fn another_end_does_not_signal(s: Subject) {
        let (reader, writer) = s.pipe();
        let other = open(path(&writer), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let signal = signalled(&reader);
        drop(other);
        assert_eq!(signal.count(), 0);
        drop(writer);
        assert_eq!(signal.count(), 1);
    }

    /// fs/pipe.c:839: without O_ASYNC there are no signals any more.
    fn no_signals_after_it_was_cleared(s: Subject) {
        let (reader, writer) = s.pipe();
        let signals = [signalled(&reader), signalled(&writer)];
        for end in [&reader, &writer] {
            fcntl_setfl(end, OFlags::empty()).unwrap();
        }
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(take(&reader, 1).unwrap(), b"a");
        assert_eq!(signals.map(|signal| signal.count()), [0, 0]);
    }

    /// fs/file_table.c, __fput, and fs/pipe.c:839: nor after the last close.
    fn no_signals_after_the_close(s: Subject) {
        let (reader, writer) = s.pipe();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let other = Fd::new(open(path(&reader), flags, Mode::empty()).unwrap());
        let signal = signalled(&other);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(signal.count(), 1);
        drop(other);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(signal.count(), 0);
    }

    /// fs/fcntl.c, fasync_insert_entry: the signal names the descriptor by which O_ASYNC was set, closed or not, until
    /// it is set anew.
    fn a_duplicate_is_told_by_the_first_number(s: Subject) {
        let (reader, writer) = s.create_pipe(libc::O_CLOEXEC as u32).unwrap();
        let other = Fd::new(dup(&reader).unwrap());
        let reader = Fd::new(reader);
        let signal = signalled(&reader);
        let first = reader.as_raw_fd();
        drop(reader);
        fcntl_setfl(&other, ASYNC).unwrap();
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(told(&signal).map(|told| told.2), Some(first));
        fcntl_setfl(&other, OFlags::empty()).unwrap();
        fcntl_setfl(&other, ASYNC).unwrap();
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(told(&signal).map(|told| told.2), Some(other.as_raw_fd()));
    }

    /// fs/pipe.c:838 to 843: a descriptor that is open for both hears of both.
    fn both_directions_signal(s: Subject) {
        let (reader, _writer) = s.pipe();
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let both = Fd::new(open(path(&reader), flags, Mode::empty()).unwrap());
        let signal = signalled(&both);
        assert_eq!(put(&both, b"a"), Ok(1));
        assert_eq!(told(&signal).map(|told| told.0), Some(POLL_IN));
        assert_eq!(take(&both, 1).unwrap(), b"a");
        assert_eq!(told(&signal).map(|told| told.0), Some(POLL_OUT));
        fcntl_setfl(&both, OFlags::empty()).unwrap();
        assert_eq!(put(&both, b"a"), Ok(1));
        assert_eq!(take(&both, 1).unwrap(), b"a");
        assert_eq!(signal.count(), 0);
    }

    /// fs/ioctl.c, ioctl_fioasync: FIOASYNC does as O_ASYNC by F_SETFL does.
    fn a_request_turns_it_on_and_off(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = Blocked::new(libc::SIGIO);
        own(&reader);
        for (on, count) in [(1, 1), (0, 0)] {
            // SAFETY: It reads one number.
            let result = unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIOASYNC, &raw const on) };
            assert_eq!(result, 0);
            assert_eq!(fcntl_getfl(&reader).unwrap().contains(ASYNC), on == 1);
            assert_eq!(put(&writer, b"a"), Ok(1));
            assert_eq!(signal.count(), count);
        }
    }

    /// fs/pipe.c:839, fasync_insert_entry: two openers of one end are two on the list.
    fn every_opener_is_signalled(s: Subject) {
        let (reader, writer) = s.pipe();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let other = Fd::new(open(path(&reader), flags, Mode::empty()).unwrap());
        let signal = signalled(&reader);
        let _same = signalled(&other);
        assert_eq!(put(&writer, b"a"), Ok(1));
        let mut fds = [(); 2].map(|()| told(&signal).unwrap().2);
        fds.sort_unstable();
        let mut expected = [reader.as_raw_fd(), other.as_raw_fd()];
        expected.sort_unstable();
        assert_eq!(fds, expected);
    }
}

/// Makes the calling thread the one to be signalled.
fn own(fd: &Fd) {
    #[repr(C)]
    struct Owner {
        kind: i32,
        pid: i32,
    }
    const F_OWNER_TID: i32 = 0;
    let owner = Owner {
        kind: F_OWNER_TID,
        pid: rustix::thread::gettid().as_raw_nonzero().get(),
    };
    // SAFETY: It reads the struct.
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), F_SETOWN_EX, &raw const owner) };
    assert_eq!(result, 0);
}

/// Has the calling thread signalled of each event, by a signal that is queued.
fn signalled(fd: &Fd) -> Blocked {
    let number = libc::SIGRTMAX();
    let signal = Blocked::new(number);
    own(fd);
    // SAFETY: It takes a number.
    assert_eq!(unsafe { libc::fcntl(fd.as_raw_fd(), F_SETSIG, number) }, 0);
    let flags = fcntl_getfl(fd).unwrap();
    fcntl_setfl(fd, flags | ASYNC).unwrap();
    signal
}

/// What the next signal says: the reason, the events, the descriptor.
fn told(signal: &Blocked) -> Option<(i32, i64, i32)> {
    /// The part of a siginfo_t that SIGPOLL has.
    #[repr(C)]
    struct Poll {
        signal: i32,
        error: i32,
        code: i32,
        padding: i32,
        band: i64,
        fd: i32,
    }
    let info = signal.next()?;
    // SAFETY: A siginfo_t is larger, as aligned, and initialized as a whole by the kernel.
    let poll = unsafe { (&raw const info).cast::<Poll>().read() };
    Some((poll.code, poll.band, poll.fd))
}
