// SPDX-License-Identifier: GPL-2.0

//! A pipe or FIFO has two sleepers. One is woken, and killed before it has its turn. The other must
//! not sleep on beside what that wake-up was about.
//!
//! The cast: a process that is killed, and a sleeper behind it on the queue; and a third task, which
//! never slept, gets ahead of both by its priority, and holds the pipe as long as its page is
//! missing. Natively a turn is a mutex, which even a killed task waits for: it takes its turn, and
//! ends then.

use std::ffi::c_long;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustix::event::PollFlags;
use rustix::process::Signal;

use crate::fifo::ahead_of;
use crate::pipe::{fill, put, queued, take};
use crate::{Child, Errno, Fd, MissingPage, PAGE, Sleeper, poll_now, read_to, until, write_from};

/// Kills the reader that is woken for the first of two bytes. The other one has to be woken for the
/// second.
///
/// # Panics
///
/// If it is not, or anything else is amiss.
pub fn a_reader_is(reader: &Fd, writer: &Fd) {
    let child = Child::fork(|| {
        let _ = take(reader, 1);
        0
    });
    until("the child sleeps", || {
        child.task().asleep_in(&[libc::SYS_read])
    });
    let other = Sleeper::taking(reader, 1);
    let (its_reader, its_writer) = (Fd::clone(reader), Fd::clone(writer));
    kill_before_its_turn(child, libc::SYS_read, move |page| {
        assert_eq!(put(&its_writer, b"ab"), Ok(2));
        read_to(&its_reader, page.address(), 1)
    });
    until("nobody sleeps beside a byte", || {
        other.has_returned() || queued(reader) == 0
    });
    if !other.has_returned() {
        assert_eq!(put(writer, b"c"), Ok(1));
    }
    assert_eq!(other.join().unwrap().len(), 1);
}

/// Kills the writer that is woken for the first of two free buffers. The other one has to be woken
/// for the second. The pipe has two buffers.
///
/// # Panics
///
/// As [`a_reader_is`].
pub fn a_writer_is(reader: &Fd, writer: &Fd) {
    let all = fill(writer);
    assert_eq!(all.len(), 2 * PAGE);
    let child = Child::fork(|| {
        let _ = put(writer, &[1; PAGE]);
        0
    });
    until("the child sleeps", || {
        child.task().asleep_in(&[libc::SYS_write])
    });
    let other = Sleeper::putting(writer, &[2; PAGE]);
    let (its_reader, its_writer) = (Fd::clone(reader), Fd::clone(writer));
    kill_before_its_turn(child, libc::SYS_write, move |page| {
        assert_eq!(take(&its_reader, 2 * PAGE).unwrap().len(), 2 * PAGE);
        write_from(&its_writer, page.address(), 1)
    });
    until("nobody sleeps beside a free buffer", || {
        other.has_returned() || poll_now(writer, PollFlags::OUT).is_empty()
    });
    if !other.has_returned() {
        take(reader, 2 * PAGE).unwrap();
    }
    assert_eq!(other.join(), Ok(PAGE));
    // The caller of a FIFO's test looks whether it is empty again.
    while queued(reader) > 0 {
        take(reader, 2 * PAGE).unwrap();
    }
}

/// Has `act` wake the child, and then use the pipe before the child can. Kills the child when it waits
/// for its turn, and lets `act` end after that.
fn kill_before_its_turn(
    child: Child,
    syscall: c_long,
    act: impl FnOnce(&MissingPage) -> Result<usize, Errno> + Send + 'static,
) {
    let syscalls = [syscall];
    let page = Arc::new(MissingPage::new());
    let (pid, sleeps) = (child.pid(), child.task().sleeps());
    let never_slept: JoinHandle<_> = {
        let page = Arc::clone(&page);
        thread::spawn(move || ahead_of(pid, || act(&page)))
    };
    until("the page is missed", || {
        assert!(!never_slept.is_finished(), "it did without the page");
        page.is_missed()
    });
    until("the child waits for its turn", || {
        child.task().blocked_in(&syscalls) && child.task().sleeps() > sleeps
    });
    child.kill(Signal::KILL);
    // SIGKILL makes the child runnable at once, if its sleep can be ended at all.
    until("the child has ended, or waits on", || {
        child.task().has_ended() || child.task().blocked_in(&syscalls)
    });
    page.give();
    assert_eq!(never_slept.join().unwrap(), Ok(1));
    assert_eq!(child.wait(), -libc::SIGKILL);
}
