// SPDX-License-Identifier: GPL-2.0

//! One counter, several descriptors and processes.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::process::Command;

use ipcdemo_client::CounterFlags;
use ipcdemo_tests::{
    Child, Errno, Sleeper, count, read, receive_descriptor, send_descriptor, until, write,
};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::dup;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;

use crate::differential;

differential! {
    /// A duplicate is the same counter, down to its mode.
    fn a_duplicate_is_the_same(s: Subject) {
        let counter = s.counter(0);
        let other = dup(&counter).unwrap();
        assert_eq!(write(&counter, 2), Ok(()));
        assert_eq!(write(&other, 3), Ok(()));
        assert_eq!(read(&other), Ok(5));
        fcntl_setfl(&other, OFlags::NONBLOCK).unwrap();
        assert_eq!(fcntl_getfl(&counter), Ok(OFlags::RDWR | OFlags::NONBLOCK));
        assert_eq!(read(&counter), Err(Errno::AGAIN));
    }

    /// 114: it lives as long as the last of its descriptors.
    fn it_lives_with_its_last_descriptor(s: Subject) {
        let counter = s.counter(4);
        let other = dup(&counter).unwrap();
        drop(counter);
        assert_eq!(read(&other), Ok(4));
    }

    /// Two counters have nothing to do with one another.
    fn two_counters_are_two(s: Subject) {
        let (one, other) = (s.counter(0), s.nonblocking(0));
        assert_eq!(write(&one, 1), Ok(()));
        assert_eq!(read(&other), Err(Errno::AGAIN));
        assert_eq!(count(&one), 1);
    }

    /// A forked child has the same counter.
    fn a_child_has_the_same(s: Subject) {
        let counter = s.counter(1);
        let child = Child::fork(|| u8::from(write(&counter, 41).is_err()));
        assert_eq!(child.wait(), 0);
        assert_eq!(read(&counter), Ok(42));
    }

    /// 230, 273: a child's write wakes the parent, and the other way round.
    fn processes_wake_each_other(s: Subject) {
        let (there, back) = (s.counter(0), s.counter(0));
        let child = Child::fork(|| match read(&there) {
            Ok(1) => u8::from(write(&back, 2).is_err()),
            _ => 2,
        });
        until("the child sleeps", || child.task().asleep_in(&[libc::SYS_read]));
        let reader = Sleeper::reading(&back);
        assert_eq!(write(&there, 1), Ok(()));
        assert_eq!(reader.join(), Ok(2));
        assert_eq!(child.wait(), 0);
    }

    /// A descriptor sent to a socket is the same counter when it arrives.
    fn a_sent_descriptor_is_the_same(s: Subject) {
        let counter = s.counter(0);
        let (here, there) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        send_descriptor(&here, &counter);
        let received = receive_descriptor(&there, true);
        assert_ne!(received.as_raw_fd(), counter.as_raw_fd());
        assert_eq!(write(&counter, 6), Ok(()));
        assert_eq!(read(&received), Ok(6));
    }

    /// 114: on its way it is alive, with no other descriptor left.
    fn a_descriptor_lives_in_a_socket(s: Subject) {
        let counter = s.counter(0);
        let (here, there) = socketpair(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        assert_eq!(write(&counter, 8), Ok(()));
        send_descriptor(&here, &counter);
        drop(counter);
        assert_eq!(read(receive_descriptor(&there, true)), Ok(8));
    }

    /// 230: closing a descriptor does not end the sleep of who reads by it.
    fn closing_does_not_wake_a_reader(s: Subject) {
        let counter = s.counter(0);
        let other = dup(&counter).unwrap();
        let number = other.as_raw_fd();
        let reader = Sleeper::new(&[libc::SYS_read], move || {
            // SAFETY: Open until the read has begun, and not used after.
            read(unsafe { BorrowedFd::borrow_raw(number) })
        });
        drop(other);
        assert!(reader.sleeps_on());
        assert_eq!(write(&counter, 3), Ok(()));
        assert_eq!(reader.join(), Ok(3));
    }

    /// 109: a counter whose last descriptor is closed under a sleeper lives until
    /// that has left: nothing to see but that it can still be interrupted.
    fn the_last_close_waits_for_the_sleeper(s: Subject) {
        let counter = s.counter(0);
        let number = counter.as_raw_fd();
        let reader = Sleeper::new(&[libc::SYS_read], move || {
            // SAFETY: Open until the read has begun, and not used after.
            read(unsafe { BorrowedFd::borrow_raw(number) })
        });
        drop(counter);
        assert!(reader.sleeps_on());
        reader.interrupt(&ipcdemo_tests::Signal::interrupting());
        assert_eq!(reader.join(), Err(Errno::INTR));
    }

    /// 230: a stopped process that is continued sleeps on, with no handler and no
    /// EINTR.
    fn stopping_a_reader_is_not_seen(s: Subject) {
        let counter = s.counter(0);
        let child = Child::fork(|| u8::from(read(&counter) != Ok(5)));
        let asleep = || child.task().asleep_in(&[libc::SYS_read]);
        until("the child sleeps", asleep);
        child.kill(Signal::STOP);
        until("the child is stopped", || child.task().stopped());
        child.kill(Signal::CONT);
        until("the child sleeps again", asleep);
        assert_eq!(write(&counter, 5), Ok(()));
        assert_eq!(child.wait(), 0);
    }

    /// 230, 232: a killed reader leaves the queue and takes nothing.
    fn a_killed_reader_takes_nothing(s: Subject) {
        let counter = s.counter(0);
        let child = Child::fork(|| u8::from(read(&counter).is_err()));
        until("the child sleeps", || child.task().asleep_in(&[libc::SYS_read]));
        child.kill(Signal::KILL);
        assert_eq!(child.wait(), -libc::SIGKILL);
        assert_eq!(write(&counter, 2), Ok(()));
        assert_eq!(count(&counter), 2);
    }

    /// 400: with O_CLOEXEC the descriptor is gone after exec, without it there.
    fn exec_closes_if_asked(s: Subject) {
        let cloexec = CounterFlags::CLOEXEC.bits();
        let stays = s.create(3, 0).unwrap();
        let goes = s.create(0, cloexec).unwrap();
        let script = format!(
            "test -e /proc/self/fd/{} && test ! -e /proc/self/fd/{}",
            stays.as_raw_fd(),
            goes.as_raw_fd(),
        );
        let status = Command::new("/bin/sh").args(["-c", &script]).status();
        assert_eq!(status.unwrap().code(), Some(0));
    }

    /// Another program can use what it inherits.
    fn a_program_uses_what_it_inherits(s: Subject) {
        let counter = s.create(0, 0).unwrap();
        let script = format!("printf '\\003\\0\\0\\0\\0\\0\\0\\0' >&{}", counter.as_raw_fd());
        let status = Command::new("/bin/sh").args(["-c", &script]).status();
        assert_eq!(status.unwrap().code(), Some(0));
        assert_eq!(read(&counter), Ok(3));
    }
}
