// SPDX-License-Identifier: GPL-2.0

//! Who sleeps, and what ends the sleep.

use std::io::IoSlice;
use std::thread;

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{Blocked, bytes, fill, put, queued, take};
use ipcdemo_tests::{Child, Errno, Fd, PAGE, Signal, Sleeper, Task, differential, scaled, until};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{ReadWriteFlags, pwritev2};

const BLOCK: PipeFlags = PipeFlags::empty();

/// RWF_NOSIGNAL of linux/fs.h.
const NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:463, 671: a reader of an empty pipe sleeps until somebody writes.
    fn a_write_wakes_a_reader(s: Subject) {
        let (reader, writer) = s.pipe();
        let sleeper = Sleeper::taking(&reader, 100);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(sleeper.join().unwrap(), b"abc");
    }

    /// fs/pipe.c:310, 820: or until no writer is left.
    fn the_end_wakes_a_reader(s: Subject) {
        let (reader, writer) = s.pipe();
        let sleeper = Sleeper::taking(&reader, 100);
        drop(writer);
        assert_eq!(sleeper.join().unwrap(), b"");
    }

    /// fs/pipe.c:649, 475: a writer to a full pipe sleeps until a buffer is free.
    fn a_read_wakes_a_writer(s: Subject) {
        let (reader, writer) = s.pipe_of(2, BLOCK);
        let all = fill(&writer);
        let sleeper = Sleeper::putting(&writer, b"abc");
        assert_eq!(take(&reader, PAGE).unwrap(), all[..PAGE]);
        assert_eq!(sleeper.join(), Ok(3));
        assert_eq!(take(&reader, PAGE).unwrap(), all[PAGE..]);
        assert_eq!(take(&reader, PAGE).unwrap(), b"abc");
    }

    /// fs/pipe.c:434, 435: reading a part of a buffer makes no room, and wakes nobody.
    fn half_a_buffer_wakes_no_writer(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let sleeper = Sleeper::putting(&writer, b"abc");
        assert_eq!(take(&reader, PAGE - 1).unwrap().len(), PAGE - 1);
        assert!(sleeper.sleeps_on());
        assert_eq!(take(&reader, 1).unwrap().len(), 1);
        assert_eq!(sleeper.join(), Ok(3));
    }

    /// fs/pipe.c:576 to 653: a write of more than fits sleeps again and again, until all of
    /// it is written.
    fn a_long_write_sleeps_often(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let all = bytes(3 * PAGE + 10);
        let sleeper = Sleeper::putting(&writer, &all);
        assert_eq!(queued(&reader), PAGE);
        assert_eq!(take(&reader, PAGE).unwrap(), all[..PAGE]);
        sleeper.wait_until_asleep_again();
        assert_eq!(take(&reader, PAGE).unwrap(), all[PAGE..2 * PAGE]);
        sleeper.wait_until_asleep_again();
        assert_eq!(take(&reader, PAGE).unwrap(), all[2 * PAGE..3 * PAGE]);
        assert_eq!(sleeper.join(), Ok(all.len()));
        assert_eq!(take(&reader, PAGE).unwrap(), all[3 * PAGE..]);
    }

    /// fs/pipe.c:646, 647: before it sleeps, it wakes who waits for its beginning.
    fn a_long_write_wakes_a_reader(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let sleeper = Sleeper::taking(&reader, PAGE);
        assert_eq!(put(&writer, &bytes(2 * PAGE)), Ok(2 * PAGE));
        assert_eq!(sleeper.join().unwrap(), bytes(2 * PAGE)[..PAGE]);
        assert_eq!(take(&reader, PAGE).unwrap(), bytes(2 * PAGE)[PAGE..]);
    }

    /// fs/pipe.c:651, 670: and again at its end, if the pipe was drained meanwhile: was_empty
    /// is looked at after each sleep.
    fn a_long_write_wakes_a_reader_twice(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let sleeper = Sleeper::putting(&writer, &bytes(2 * PAGE));
        let mut got = Vec::new();
        while got.len() < 2 * PAGE {
            // It finds a page, or sleeps until there is one.
            got.extend(take(&reader, PAGE).unwrap());
        }
        assert_eq!(got, bytes(2 * PAGE));
        assert_eq!(sleeper.join(), Ok(2 * PAGE));
    }

    /// fs/pipe.c:463, 464: a signal ends a reader's sleep, and takes nothing.
    fn a_signal_interrupts_a_reader(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = Signal::interrupting();
        let sleeper = Sleeper::taking(&reader, 100);
        sleeper.interrupt(&signal);
        assert_eq!(sleeper.join(), Err(Errno::INTR));
        assert_eq!(signal.handled(), 1);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(take(&reader, 100).unwrap(), b"abc");
    }

    /// fs/pipe.c:464: ERESTARTSYS: with SA_RESTART the reader sleeps on after the handler,
    /// and so does the writer (635).
    fn a_restarted_sleeper_sleeps_on(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let signal = Signal::restarting();
        let sleeper = Sleeper::taking(&reader, 100);
        sleeper.interrupt(&signal);
        until("the signal was handled", || signal.handled() == 1);
        sleeper.wait_until_asleep_again();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(sleeper.join().unwrap(), b"abc");

        fill(&writer);
        let sleeper = Sleeper::putting(&writer, b"abc");
        sleeper.interrupt(&signal);
        until("the signal was handled", || signal.handled() == 2);
        sleeper.wait_until_asleep_again();
        assert_eq!(take(&reader, PAGE).unwrap().len(), PAGE);
        assert_eq!(sleeper.join(), Ok(3));
        assert_eq!(take(&reader, PAGE).unwrap(), b"abc");
    }

    /// fs/pipe.c:633 to 636: a signal ends a writer's sleep, and nothing was written.
    fn a_signal_interrupts_a_writer(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let signal = Signal::interrupting();
        let sleeper = Sleeper::putting(&writer, b"abc");
        sleeper.interrupt(&signal);
        assert_eq!(sleeper.join(), Err(Errno::INTR));
        assert_eq!(queued(&reader), PAGE);
    }

    /// fs/pipe.c:634: of what was written before the signal the count is told, be the
    /// handler a restarting one or not.
    fn a_signal_cuts_a_write(s: Subject) {
        for signal in [Signal::interrupting(), Signal::restarting()] {
            let (reader, writer) = s.pipe_of(2, BLOCK);
            let sleeper = Sleeper::putting(&writer, &bytes(3 * PAGE));
            sleeper.interrupt(&signal);
            assert_eq!(sleeper.join(), Ok(2 * PAGE));
            assert_eq!(take(&reader, 3 * PAGE).unwrap(), bytes(2 * PAGE));
        }
    }

    /// fs/pipe.c:577 to 582: with the last reader gone a sleeping writer is told EPIPE, and
    /// by SIGPIPE.
    fn a_writer_is_left_alone(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let sleeper = putting_with_signals(&writer, b"abc".to_vec());
        drop(reader);
        assert_eq!(sleeper.join(), (Err(Errno::PIPE), 1));
    }

    /// fs/pipe.c:578, 580: if a part was written that is its result, and the signal is sent
    /// all the same.
    fn a_writer_is_left_half_way(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let sleeper = putting_with_signals(&writer, bytes(2 * PAGE));
        drop(reader);
        assert_eq!(sleeper.join(), (Ok(PAGE), 1));
    }

    /// fs/pipe.c:578: unless it declined the signal when it began.
    fn a_writer_that_declined_is_left_alone(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let sleeper = Sleeper::new(&[libc::SYS_pwritev2], move || {
            let signal = Blocked::new(libc::SIGPIPE);
            let segments = [IoSlice::new(b"abc")];
            (pwritev2(&writer, &segments, u64::MAX, NOSIGNAL), signal.count())
        });
        drop(reader);
        assert_eq!(sleeper.join(), (Err(Errno::PIPE), 0));
    }

    /// fs/pipe.c:449: whether it may sleep is asked anew after each sleep: of a reader only
    /// if it was woken for nothing.
    fn nonblocking_mode_spares_a_sleeping_reader(s: Subject) {
        let (reader, writer) = s.pipe();
        let sleeper = Sleeper::taking(&reader, 100);
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        assert!(sleeper.sleeps_on());
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(sleeper.join().unwrap(), b"abc");
    }

    /// fs/pipe.c:627: and of a writer whenever the pipe is full again.
    fn nonblocking_mode_cuts_a_long_write(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let sleeper = Sleeper::putting(&writer, &bytes(4 * PAGE));
        fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
        assert!(sleeper.sleeps_on());
        assert_eq!(take(&reader, PAGE).unwrap(), bytes(PAGE));
        assert_eq!(sleeper.join(), Ok(2 * PAGE));
    }

    /// fs/pipe.c:449, 627: the mode can be taken back, at each end for itself.
    fn nonblocking_mode_can_be_taken_back(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        fcntl_setfl(&reader, OFlags::empty()).unwrap();
        let sleeper = Sleeper::taking(&reader, 1);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"a");
        fill(&writer);
        assert_eq!(put(&writer, b"b"), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:357, 534: writes of up to PIPE_BUF bytes are not torn, whoever else writes
    /// or reads, and each arrives once, in its writer's order.
    fn records_are_whole(s: Subject) {
        const WRITERS: usize = 3;
        const RECORD: usize = 512;
        let records = scaled(2000);
        let (reader, writer) = s.pipe_of(2, BLOCK);
        let writers: [_; WRITERS] = std::array::from_fn(|number| {
            let writer = Fd::clone(&writer);
            thread::spawn(move || {
                let task = Task::current();
                let before = task.sleeps();
                for count in 0..records {
                    let mut record = [number as u8; RECORD];
                    record[1..9].copy_from_slice(&(count as u64).to_ne_bytes());
                    assert_eq!(put(&writer, &record), Ok(RECORD));
                }
                task.sleeps() - before
            })
        });
        drop(writer);
        let mut next = [0_u64; WRITERS];
        let mut read = 0;
        loop {
            let record = take(&reader, RECORD).unwrap();
            if record.is_empty() {
                break;
            }
            assert_eq!(record.len(), RECORD);
            let number = record[0];
            assert!(record[9..].iter().all(|byte| *byte == number), "a record is torn");
            let count = u64::from_ne_bytes(record[1..9].try_into().unwrap());
            assert_eq!(count, next[usize::from(number)]);
            next[usize::from(number)] += 1;
            read += 1;
        }
        assert_eq!(read, WRITERS * records);
        let sleeps: u64 = writers.map(|writer| writer.join().unwrap()).into_iter().sum();
        assert!(sleeps >= 20, "the writers slept {sleeps} times: no race to speak of");
    }
}

differential! {
    by ipcdemo_tests::pipe::alone;

    /// fs/pipe.c:463: a stopped process that is continued sleeps on, with no handler and no
    /// EINTR.
    fn stopping_a_reader_is_not_seen(s: Subject) {
        use rustix::process::Signal;
        let (reader, writer) = s.pipe();
        let child = Child::fork(|| u8::from(take(&reader, 10) != Ok(b"abc".to_vec())));
        let asleep = || child.task().asleep_in(&[libc::SYS_read]);
        until("the child sleeps", asleep);
        child.kill(Signal::STOP);
        until("the child is stopped", || child.task().stopped());
        child.kill(Signal::CONT);
        until("the child sleeps again", asleep);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(child.wait(), 0);
    }

    /// fs/pipe.c:464: a killed reader leaves the queue and takes nothing.
    fn a_killed_reader_takes_nothing(s: Subject) {
        let (reader, writer) = s.pipe();
        let child = Child::fork(|| u8::from(take(&reader, 10).is_err()));
        until("the child sleeps", || child.task().asleep_in(&[libc::SYS_read]));
        child.kill(rustix::process::Signal::KILL);
        assert_eq!(child.wait(), -libc::SIGKILL);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(take(&reader, 10).unwrap(), b"abc");
    }
}

/// A thread that sleeps in write(2), and tells how many SIGPIPE it has got by the end.
fn putting_with_signals(writer: &Fd, bytes: Vec<u8>) -> Sleeper<(Result<usize, Errno>, usize)> {
    let writer = Fd::clone(writer);
    Sleeper::new(&[libc::SYS_write], move || {
        let signal = Blocked::new(libc::SIGPIPE);
        (put(&writer, &bytes), signal.count())
    })
}
