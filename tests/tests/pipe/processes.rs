// SPDX-License-Identifier: GPL-2.0

//! One pipe, several descriptors and processes.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{bytes, fill, path, put, queued, take};
use ipcdemo_tests::{
    Child, Errno, Fd, PAGE, Signal, Sleeper, Subject, differential, killed, receive_descriptor,
    send_descriptor, until,
};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::dup;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{SpliceFlags, splice};

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/file_table.c: a duplicate is the same end, down to its mode.
    fn a_duplicate_is_the_same(s: Subject) {
        let (reader, writer) = s.pipe();
        let other = dup(&reader).unwrap();
        assert_eq!(put(&writer, b"ab"), Ok(2));
        assert_eq!(take(&other, 1).unwrap(), b"a");
        assert_eq!(take(&reader, 1).unwrap(), b"b");
        fcntl_setfl(&other, OFlags::NONBLOCK).unwrap();
        assert_eq!(fcntl_getfl(&reader), Ok(OFlags::RDONLY | OFlags::NONBLOCK));
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:813 to 819: an end lives as long as the last of its descriptors.
    fn an_end_lives_with_its_last_descriptor(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        let (other_reader, other_writer) = (dup(&reader).unwrap(), dup(&writer).unwrap());
        drop((reader, writer));
        assert_eq!(put(&other_writer, b"a"), Ok(1));
        assert_eq!(take(&other_reader, 2).unwrap(), b"a");
        assert_eq!(take(&other_reader, 2), Err(Errno::AGAIN));
        drop(other_writer);
        assert_eq!(take(&other_reader, 2).unwrap(), b"");
    }

    /// fs/pipe.c:463: closing a descriptor does not end the sleep of who reads by it.
    fn closing_does_not_wake_a_reader(s: Subject) {
        let (reader, writer) = s.pipe();
        let other = dup(&reader).unwrap();
        let number = other.as_raw_fd();
        let sleeper = Sleeper::new(&[libc::SYS_read], move || {
            // SAFETY: Open until the read has begun, and not used after.
            take(unsafe { BorrowedFd::borrow_raw(number) }, 10)
        });
        drop(other);
        assert!(sleeper.sleeps_on());
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"a");
    }

    /// fs/pipe.c:808: an end whose last descriptor is closed under a sleeper lives until that
    /// has left: a write is not EPIPE before.
    fn the_last_close_waits_for_the_sleeper(s: Subject) {
        let (reader, writer) = s.pipe();
        let number = reader.as_raw_fd();
        let sleeper = Sleeper::new(&[libc::SYS_read], move || {
            // SAFETY: Open until the read has begun, and not used after.
            take(unsafe { BorrowedFd::borrow_raw(number) }, 10)
        });
        drop(reader);
        assert!(sleeper.sleeps_on());
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"a");
        assert_eq!(put(&writer, b"b"), Err(Errno::PIPE));
    }

    /// fs/pipe.c:464, 808: a signal takes the sleeper away, and the end with it.
    fn an_interrupted_sleeper_was_the_last(s: Subject) {
        let (reader, writer) = s.pipe();
        let number = reader.as_raw_fd();
        let sleeper = Sleeper::new(&[libc::SYS_read], move || {
            // SAFETY: Open until the read has begun, and not used after.
            take(unsafe { BorrowedFd::borrow_raw(number) }, 10)
        });
        drop(reader);
        sleeper.interrupt(&Signal::interrupting());
        assert_eq!(sleeper.join(), Err(Errno::INTR));
        assert_eq!(put(&writer, b"b"), Err(Errno::PIPE));
    }

    /// net/unix/af_unix.c: an end sent to a socket is the same when it arrives, and on its
    /// way it is open, with no descriptor left.
    fn an_end_lives_in_a_socket(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        let (here, there) = sockets();
        send_descriptor(&here, &writer);
        drop(writer);
        assert_eq!(take(&reader, 2), Err(Errno::AGAIN));
        let writer = receive_descriptor(&there, true);
        assert_eq!(put(&writer, b"a"), Ok(1));
        drop(writer);
        assert_eq!(take(&reader, 2).unwrap(), b"a");
        assert_eq!(take(&reader, 2).unwrap(), b"");
    }

    /// net/unix/garbage.c and fs/pipe.c:820: one that was never received is closed with the
    /// socket.
    fn an_end_dies_in_a_socket(s: Subject) {
        let (reader, writer) = s.pipe();
        let (here, there) = sockets();
        send_descriptor(&here, &writer);
        drop(writer);
        let sleeper = Sleeper::taking(&reader, 2);
        drop((here, there));
        assert_eq!(sleeper.join().unwrap(), b"");
    }
}

differential! {
    by ipcdemo_tests::pipe::alone;

    /// kernel/fork.c: a child has the same pipe, and its ends are no other ends: that the
    /// parent closes one is not seen until the child does.
    fn a_child_has_the_same_ends(s: Subject) {
        let (reader, writer) = s.pipe();
        let (gate, release) = s.pipe();
        let child = Child::fork(|| {
            assert_eq!(put(&writer, b"a"), Ok(1));
            assert_eq!(take(&gate, 1).unwrap(), b"x");
            0
        });
        drop(writer);
        assert_eq!(take(&reader, 2).unwrap(), b"a");
        let sleeper = Sleeper::taking(&reader, 2);
        assert_eq!(put(&release, b"x"), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"");
        assert_eq!(child.wait(), 0);
    }

    /// fs/pipe.c:463, 671: a child's write wakes the parent, and the other way round.
    fn processes_wake_each_other(s: Subject) {
        let ((there, to_there), (back, to_back)) = (s.pipe(), s.pipe());
        let child = Child::fork(|| {
            assert_eq!(take(&there, 10).unwrap(), b"ab");
            assert_eq!(put(&to_back, b"cde"), Ok(3));
            0
        });
        until("the child sleeps", || child.task().asleep_in(&[libc::SYS_read]));
        let sleeper = Sleeper::taking(&back, 10);
        assert_eq!(put(&to_there, b"ab"), Ok(2));
        assert_eq!(sleeper.join().unwrap(), b"cde");
        assert_eq!(child.wait(), 0);
    }

    /// fs/pipe.c:807, kernel/exit.c: a killed process leaves its ends.
    fn a_killed_process_ends_the_pipe(s: Subject) {
        let (reader, writer) = s.pipe();
        let child = Child::fork(|| {
            // It reads what only itself could write.
            let _ = take(&reader, 10);
            0
        });
        drop(writer);
        until("the child sleeps", || child.task().asleep_in(&[libc::SYS_read]));
        let sleeper = Sleeper::taking(&reader, 10);
        child.kill(rustix::process::Signal::KILL);
        assert_eq!(child.wait(), -libc::SIGKILL);
        assert_eq!(sleeper.join().unwrap(), b"");
    }

    /// fs/pipe.c:356, 463, 470 to 477: a reader that is woken and killed before its turn leaves
    /// what it was woken for to the next, even if one that never slept was in between.
    fn a_killed_reader_strands_nobody(s: Subject) {
        let (reader, writer) = s.pipe();
        killed::a_reader_is(&reader, &writer);
    }

    /// fs/pipe.c:533, 649, 655, 674: so does a writer.
    fn a_killed_writer_strands_nobody(s: Subject) {
        let (reader, writer) = s.pipe_of(2, PipeFlags::empty());
        killed::a_writer_is(&reader, &writer);
    }

    /// fs/pipe.c:798: nor does a process that is killed in the middle of a write, as the last that had the pipe open,
    /// leave anything to whoever opens the inode next.
    fn a_killed_writer_leaves_nothing(s: Subject) {
        let (reader, writer) = s.pipe();
        let both = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let place = open(path(&reader), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        fill(&writer);
        let child = Child::fork(|| {
            // The pipe is full, and it has the other end itself.
            let _ = put(&writer, &bytes(3 * PAGE));
            0
        });
        until("the child sleeps", || child.task().asleep_in(&[libc::SYS_write]));
        drop((reader, writer));
        child.kill(rustix::process::Signal::KILL);
        assert_eq!(child.wait(), -libc::SIGKILL);
        let both = open(path(&place), both, Mode::empty()).unwrap();
        assert_eq!(take(&both, 1), Err(Errno::AGAIN));
    }

    /// fs/splice.c, ipipe_prep and opipe_prep: one that is killed in a splice, for want of data or of room,
    /// has moved nothing, and holds nobody up: not at the other pipe while it waits, nor at this one afterwards.
    fn a_killed_splice_holds_nobody_up(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        let splicing = |from: &Fd, to: &Fd| {
            let child = Child::fork(|| u8::from(splice(from, None, to, None, 3, SpliceFlags::empty()).is_err()));
            until("the child sleeps", || child.task().asleep_in(&[libc::SYS_splice]));
            child
        };
        let child = splicing(&reader, &to_theirs);
        assert_eq!(put(&to_theirs, b"abc"), Ok(3));
        let sleeper = Sleeper::taking(&reader, 1);
        child.kill(rustix::process::Signal::KILL);
        assert_eq!(child.wait(), -libc::SIGKILL);
        assert_eq!(put(&writer, b"xy"), Ok(2));
        assert_eq!(sleeper.join().unwrap(), b"x");
        assert_eq!((queued(&theirs), take(&reader, 10).unwrap()), (3, b"y".to_vec()));

        fill(&writer);
        let child = splicing(&theirs, &writer);
        let sleeper = Sleeper::putting(&writer, b"z");
        child.kill(rustix::process::Signal::KILL);
        assert_eq!(child.wait(), -libc::SIGKILL);
        assert_eq!(take(&reader, PAGE).map(|taken| taken.len()), Ok(PAGE));
        assert_eq!(sleeper.join(), Ok(1));
        assert_eq!(take(&theirs, 10).unwrap(), b"abc");
    }

    /// fs/pipe.c:1077, 1082: with O_CLOEXEC both descriptors are gone after exec, without it
    /// there.
    fn exec_closes_if_asked(s: Subject) {
        let stay = s.create_pipe(0).unwrap();
        let go = s.create_pipe(PipeFlags::CLOEXEC.bits()).unwrap();
        let test = |not: &str, end: &OwnedFd| {
            format!("test {not} -e /proc/self/fd/{} && ", end.as_raw_fd())
        };
        let script = test("", &stay.0) + &test("", &stay.1) + &test("!", &go.0) + &test("!", &go.1);
        let status = Command::new("/bin/sh").args(["-c", &(script + "true")]).status();
        assert_eq!(status.unwrap().code(), Some(0));
    }

    /// fs/pipe.c:1340: other programs can use what they inherit: a pipeline of the shell's.
    fn programs_use_what_they_inherit(s: Subject) {
        let (reader, writer) = s.create_pipe(0).unwrap();
        let script = format!("printf 'a\\nb\\n' >&{}", writer.as_raw_fd());
        assert!(Command::new("/bin/sh").args(["-c", &script]).status().unwrap().success());
        drop(writer);
        let script = "while read line; do printf \"<$line>\"; done";
        let output = Command::new("/bin/sh").args(["-c", script]).stdin(reader).output();
        assert_eq!(output.unwrap().stdout, b"<a><b>");
    }
}

fn sockets() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
}
