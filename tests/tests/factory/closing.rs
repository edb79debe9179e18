// SPDX-License-Identifier: GPL-2.0

//! A program that makes objects and closes them in a loop never waits in a close, least of all for an
//! RCU grace period.

use std::fs::File;
use std::os::fd::OwnedFd;

use ipcdemo_client::{Counter, CounterFlags, Fifo, NullFlags, PipeFlags, WaitqFlags};
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::{Task, scaled, serial};

use crate::open;

serial! {
    /// Neither the last close of the factory puts the closing thread to sleep, nor that of an
    /// object which outlives the factory's file.
    fn nothing_is_waited_for_in_a_close() {
        check("the factory", || drop(open()));
        check("a null object", || drop(open().null(NullFlags::CLOEXEC)));
        check("a counter", || drop(open().counter(0, CounterFlags::CLOEXEC)));
        check("a wait queue", || drop(open().waitq(0, WaitqFlags::CLOEXEC)));
        check("a tally", || drop(open().tally()));
        check("a pipe", || {
            let ends = open().pipe(0, PipeFlags::CLOEXEC).unwrap();
            drop(ends);
        });
        check("a FIFO", || drop(both_ends()));
        check("the shared counter", || drop(Counter::open_shared(false)));
    }

    /// Nor does the close of an object that an epoll set has watched.
    fn nothing_is_waited_for_in_a_close_of_what_was_watched() {
        let watched = |fd: OwnedFd| {
            drop(Epoll::of(&fd, EventFlags::IN));
            drop(fd);
        };
        check("a counter", || watched(open().counter(0, CounterFlags::CLOEXEC).unwrap().into()));
        check("a wait queue", || watched(open().waitq(0, WaitqFlags::CLOEXEC).unwrap().into()));
        check("a pipe", || {
            let (reader, _writer) = open().pipe(0, PipeFlags::CLOEXEC).unwrap();
            watched(reader.into());
        });
        check("a FIFO", || watched(both_ends().into()));
    }
}

fn both_ends() -> File {
    File::options()
        .read(true)
        .write(true)
        .open(Fifo::PATH)
        .unwrap()
}

/// Does `act` again and again, and looks how often that puts the calling thread to sleep.
fn check(what: &str, act: impl Fn()) {
    let rounds = scaled(200);
    let task = Task::current();
    act();
    let before = task.sleeps();
    (0..rounds).for_each(|_| act());
    let sleeps = task.sleeps() - before;
    println!("{what}: {sleeps} sleeps in {rounds} rounds");
    assert!(
        sleeps < rounds as u64 / 10,
        "{what}: {sleeps} sleeps in {rounds} rounds"
    );
}
