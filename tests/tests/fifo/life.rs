// SPDX-License-Identifier: GPL-2.0

//! What is behind the node, and for how long.

use std::fs;

use ipcdemo_tests::fifo::Fifo;
use ipcdemo_tests::pipe::{BUFFERS, bytes, fill, put, queued, set_size, size, take};
use ipcdemo_tests::{Child, Errno, PAGE, Signal, Sleeper, fifos, until};
use rustix::fs::OFlags;
use rustix::io::dup;
use rustix::process;

/// What one gets who says nothing.
const DEFAULT: u32 = (BUFFERS * PAGE) as u32;

fifos! {
    /// 797: what was written outlives its writer, while there is a reader.
    fn data_outlives_its_writer(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        assert_eq!(put(&writer, b"legacy"), Ok(6));
        drop(writer);
        assert_eq!(take(&reader, 10), Ok(b"legacy".into()));
        assert_eq!(take(&reader, 10), Ok(vec![]));
    }

    /// 797: and the reader that it was written for, while there is a writer.
    fn data_outlives_its_reader(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        assert_eq!(put(&writer, b"legacy"), Ok(6));
        drop(reader);
        let reader = fifo.reader();
        assert_eq!(take(&reader, 10), Ok(b"legacy".into()));
        assert_eq!(take(&reader, 10), Err(Errno::AGAIN));
    }

    /// 798, 803: once all have left, it is gone.
    fn data_goes_with_the_last(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        assert_eq!(put(&writer, b"lost"), Ok(4));
        drop(reader);
        drop(writer);
        let both = fifo.both();
        assert_eq!(queued(&both), 0);
        assert_eq!(take(&both, 10), Err(Errno::AGAIN));
    }

    /// 798: who fills it and leaves, leaves nothing, though nobody else was there.
    fn nobody_keeps_what_nobody_holds(fifo: &Fifo) {
        for _ in 0..3 {
            assert_eq!(fill(&fifo.both()).len(), BUFFERS * PAGE);
        }
        assert_eq!(take(fifo.reader(), 1), Ok(vec![]));
    }

    /// 1523, 1526: the capacity is one for all ends, whoever changes it.
    fn ends_share_the_capacity(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        assert_eq!(size(&reader), Ok(DEFAULT));
        assert_eq!(set_size(&reader, 8192), Ok(8192));
        assert_eq!(size(&writer), Ok(8192));
        let much = bytes(BUFFERS * PAGE);
        assert_eq!(put(&writer, &much), Ok(8192));
        assert_eq!(set_size(&writer, 8193), Ok(16384));
        assert_eq!(put(&writer, &much), Ok(8192));
        assert_eq!(size(fifo.both()), Ok(16384));
    }

    /// 909, 1219: it lasts as long as what it is the capacity of.
    fn the_capacity_goes_with_the_last(fifo: &Fifo) {
        let reader = fifo.reader();
        assert_eq!(set_size(&reader, 4096), Ok(4096));
        let both = fifo.both();
        drop(reader);
        assert_eq!(size(&both), Ok(4096));
        drop(both);
        assert_eq!(size(fifo.both()), Ok(DEFAULT));
    }

    /// 813: a duplicate is the same end: not one more, nor one less when it goes.
    fn a_duplicate_is_the_same_end(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        let other = dup(&writer).unwrap();
        let sleeper = Sleeper::taking(&reader, 1);
        drop(writer);
        assert!(sleeper.sleeps_on());
        assert_eq!(put(&other, b"x"), Ok(1));
        assert_eq!(sleeper.join(), Ok(b"x".into()));
        drop(other);
        assert_eq!(take(&reader, 1), Ok(vec![]));
    }

    /// 813: so is what a forked child has: it is open until the child has closed it, too.
    fn a_child_has_the_same_end(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        let (wait, go) = rustix::pipe::pipe().unwrap();
        let child = Child::fork(|| {
            u8::from(take(&wait, 1).is_err() || put(&writer, b"x") != Ok(1))
        });
        drop(writer);
        let sleeper = Sleeper::taking(&reader, 10);
        assert_eq!(put(&go, b"!"), Ok(1));
        assert_eq!(sleeper.join(), Ok(b"x".into()));
        assert_eq!(child.wait(), 0);
        assert_eq!(take(&reader, 10), Ok(vec![]));
    }

    /// 815, 820: who is killed has closed what it had.
    fn a_killed_writer_is_an_end(fifo: &Fifo) {
        let reader = fifo.opening(OFlags::RDONLY);
        let child = Child::fork(|| {
            let writer = fifo.open(OFlags::WRONLY).unwrap();
            let _never = take(fifo.open(OFlags::RDWR).unwrap(), 1);
            u8::from(put(&writer, b"x").is_ok())
        });
        let sleeper = Sleeper::taking(&reader.join().unwrap(), 1);
        until("the child sleeps", || child.task().asleep_in(&[libc::SYS_read]));
        child.kill(process::Signal::KILL);
        assert_eq!(child.wait(), -libc::SIGKILL);
        assert_eq!(sleeper.join(), Ok(vec![]));
    }

    /// Two nodes are two FIFOs.
    fn two_are_two(fifo: &Fifo) {
        let other = Fifo::new(fifo.subject());
        let (one, another) = (fifo.both(), other.both());
        assert_eq!(put(&one, b"one"), Ok(3));
        assert_eq!(take(&another, 10), Err(Errno::AGAIN));
        assert_eq!(take(&one, 10), Ok(b"one".into()));
    }

    /// 1213: two names of one node are one FIFO.
    fn two_names_are_one(fifo: &Fifo) {
        let (path, mut link) = (fifo.path(), fifo.path().into_os_string());
        link.push(".link");
        fs::hard_link(path, &link).unwrap();
        let reader = fifo.reader();
        let writer = rustix::fs::open(&link, OFlags::WRONLY | OFlags::NONBLOCK, 0.into());
        fs::remove_file(link).unwrap();
        assert_eq!(put(writer.unwrap(), b"x"), Ok(1));
        assert_eq!(take(&reader, 1), Ok(b"x".into()));
    }

    /// 1214: a node's removal is nothing to who has it open, and who makes the name
    /// anew makes another FIFO.
    fn a_removed_one_lives_on(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        assert_eq!(put(&writer, b"old"), Ok(3));
        fifo.remove();
        assert_eq!(fifo.open(OFlags::RDWR).err(), Some(Errno::NOENT));
        assert_eq!(put(&writer, b" and more"), Ok(9));
        fifo.make();
        let refused = fifo.open(OFlags::WRONLY | OFlags::NONBLOCK);
        assert_eq!(refused.err(), Some(Errno::NXIO));
        let both = fifo.both();
        assert_eq!(take(&both, 20), Err(Errno::AGAIN));
        assert_eq!(put(&both, b"new"), Ok(3));
        assert_eq!(take(&reader, 20), Ok(b"old and more".into()));
        drop(writer);
        assert_eq!(take(&reader, 20), Ok(vec![]));
        assert_eq!(take(&both, 20), Ok(b"new".into()));
    }

    /// 1213: who waits at a removed one waits on: who comes by the name goes elsewhere.
    fn a_removed_one_can_be_waited_at(fifo: &Fifo) {
        let signal = Signal::interrupting();
        let reader = fifo.opening(OFlags::RDONLY);
        fifo.remove();
        assert!(reader.sleeps_on());
        fifo.make();
        let _other = fifo.both();
        assert!(reader.sleeps_on());
        reader.interrupt(&signal);
        assert_eq!(reader.join().err(), Some(Errno::INTR));
    }
}
