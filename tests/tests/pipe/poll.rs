// SPDX-License-Identifier: GPL-2.0

//! poll(2) and select(2).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{READABLE, WRITABLE, fill, put, take};
use ipcdemo_tests::{Errno, Fd, PAGE, Signal, Sleeper, differential, poll_now};
use rustix::event::{PollFd, PollFlags, poll};

const ALL: PollFlags = PollFlags::all();
const NOTHING: PollFlags = PollFlags::empty();
const BLOCK: PipeFlags = PipeFlags::empty();

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:772, 779: an empty pipe can be written to, and that is all.
    fn an_empty_pipe(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(poll_now(&reader, ALL), NOTHING);
        assert_eq!(poll_now(&writer, ALL), WRITABLE);
    }

    /// fs/pipe.c:773, 780: one with something in it is ready at both ends.
    fn a_pipe_with_something_in_it(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(poll_now(&reader, ALL), READABLE);
        assert_eq!(poll_now(&writer, ALL), WRITABLE);
    }

    /// fs/pipe.c:779: a full one can only be read from.
    fn a_full_pipe(s: Subject) {
        let (reader, writer) = s.pipe();
        fill(&writer);
        assert_eq!(poll_now(&reader, ALL), READABLE);
        assert_eq!(poll_now(&writer, ALL), NOTHING);
    }

    /// fs/pipe.c:779: room is a free buffer, not the bytes that a write could still add to
    /// the last one.
    fn room_is_a_buffer(s: Subject) {
        let (_reader, writer) = s.pipe_of(1, PipeFlags::NONBLOCK);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(poll_now(&writer, ALL), NOTHING);
        assert_eq!(put(&writer, b"b"), Ok(1));
    }

    /// fs/pipe.c:779: nor the room for what was read of a buffer.
    fn half_a_buffer_is_no_room(s: Subject) {
        let (reader, writer) = s.pipe_of(2, BLOCK);
        fill(&writer);
        assert_eq!(take(&reader, PAGE - 1).unwrap().len(), PAGE - 1);
        assert_eq!(poll_now(&writer, ALL), NOTHING);
        assert_eq!(take(&reader, 1).unwrap().len(), 1);
        assert_eq!(poll_now(&writer, ALL), WRITABLE);
    }

    /// fs/pipe.c:774, 775: without a writer there is POLLHUP, beside what is left to read.
    fn the_writer_is_gone(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"a"), Ok(1));
        drop(writer);
        assert_eq!(poll_now(&reader, ALL), READABLE | PollFlags::HUP);
        assert_eq!(take(&reader, 10).unwrap(), b"a");
        assert_eq!(poll_now(&reader, ALL), PollFlags::HUP);
        assert_eq!(poll_now(&reader, NOTHING), PollFlags::HUP, "asked for or not");
    }

    /// fs/pipe.c:785, 786: without a reader there is POLLERR, beside the room, if any.
    fn the_reader_is_gone(s: Subject) {
        let (reader, writer) = s.pipe();
        drop(reader);
        assert_eq!(poll_now(&writer, ALL), WRITABLE | PollFlags::ERR);
        let (reader, writer) = s.pipe();
        fill(&writer);
        drop(reader);
        assert_eq!(poll_now(&writer, ALL), PollFlags::ERR);
        assert_eq!(poll_now(&writer, NOTHING), PollFlags::ERR, "asked for or not");
    }

    /// fs/pipe.c:771, 778: only what was asked for is told, and of one end nothing that is
    /// the other's.
    fn only_what_was_asked_is_told(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(poll_now(&reader, PollFlags::RDNORM), PollFlags::RDNORM);
        assert_eq!(poll_now(&reader, WRITABLE), NOTHING);
        assert_eq!(poll_now(&writer, PollFlags::OUT), PollFlags::OUT);
        assert_eq!(poll_now(&writer, READABLE), NOTHING);
    }

    /// fs/pipe.c:759, 671: a write wakes who polls the read end.
    fn a_write_wakes_a_poller(s: Subject) {
        let (reader, writer) = s.pipe();
        let poller = Sleeper::polling(&reader, READABLE);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(poller.join(), Ok(READABLE));
        assert_eq!(take(&reader, 10).unwrap(), b"a", "polling takes nothing");
    }

    /// fs/pipe.c:761, 475: a read that frees a buffer of a full pipe who polls the write end.
    fn a_read_wakes_a_poller(s: Subject) {
        let (reader, writer) = s.pipe_of(2, BLOCK);
        fill(&writer);
        let poller = Sleeper::polling(&writer, WRITABLE);
        assert_eq!(take(&reader, PAGE).unwrap().len(), PAGE);
        assert_eq!(poller.join(), Ok(WRITABLE));
    }

    /// fs/pipe.c:434, 474: one that frees none does not.
    fn half_a_buffer_wakes_no_poller(s: Subject) {
        let (reader, writer) = s.pipe_of(2, BLOCK);
        fill(&writer);
        let poller = Sleeper::polling(&writer, WRITABLE);
        assert_eq!(take(&reader, PAGE / 2).unwrap().len(), PAGE / 2);
        assert!(poller.sleeps_on());
        assert_eq!(take(&reader, PAGE / 2).unwrap().len(), PAGE / 2);
        assert_eq!(poller.join(), Ok(WRITABLE));
    }

    /// fs/pipe.c:820, 821: the other side's end wakes who polls, for anything.
    fn the_end_wakes_pollers(s: Subject) {
        let (reader, writer) = s.pipe();
        let pollers = [PollFlags::IN, NOTHING].map(|events| Sleeper::polling(&reader, events));
        drop(writer);
        for poller in pollers {
            assert_eq!(poller.join(), Ok(PollFlags::HUP));
        }
        let (reader, writer) = s.pipe();
        fill(&writer);
        let pollers = [PollFlags::OUT, NOTHING].map(|events| Sleeper::polling(&writer, events));
        drop(reader);
        for poller in pollers {
            assert_eq!(poller.join(), Ok(PollFlags::ERR));
        }
    }

    /// fs/pipe.c:671: the wake-up's key says what it is about: it does not even wake a poller
    /// that waits for something else.
    fn the_key_spares_other_pollers(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = Signal::interrupting();
        let poller = Sleeper::polling(&reader, PollFlags::PRI);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert!(poller.sleeps_on());
        poller.interrupt(&signal);
        assert_eq!(poller.join(), Err(Errno::INTR));
    }

    /// fs/pipe.c:671: POLLRDNORM is part of it.
    fn normal_data_is_data(s: Subject) {
        let (reader, writer) = s.pipe();
        let poller = Sleeper::polling(&reader, PollFlags::RDNORM);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(poller.join(), Ok(PollFlags::RDNORM));
    }

    /// fs/pipe.c:758 to 761: a call may wait for both ends, on both queues: it tells of each
    /// what is true when either wakes it.
    fn both_ends_in_one_call(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let wait = |events: [PollFlags; 2]| {
            let ends = [Fd::clone(&reader), Fd::clone(&writer)];
            Sleeper::new(&[libc::SYS_ppoll], move || {
                let mut fds = [
                    PollFd::new(&ends[0], events[0]),
                    PollFd::new(&ends[1], events[1]),
                ];
                poll(&mut fds, None).map(|count| (count, fds.map(|fd| fd.revents())))
            })
        };
        let sleeper = wait([READABLE, PollFlags::PRI]);
        fill(&writer);
        assert_eq!(sleeper.join(), Ok((1, [READABLE, NOTHING])));
        let sleeper = wait([PollFlags::PRI, WRITABLE]);
        assert_eq!(take(&reader, PAGE).unwrap().len(), PAGE);
        assert_eq!(sleeper.join(), Ok((1, [NOTHING, WRITABLE])));
    }

    /// fs/pipe.c:768 to 789, by way of select(2): its sets are made of the same bits, so a
    /// hang-up can be read and an error both.
    fn select_agrees(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(select(&reader), (false, false, false));
        assert_eq!(select(&writer), (false, true, false));
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(select(&reader), (true, false, false));
        drop(writer);
        assert_eq!(take(&reader, 10).unwrap(), b"a");
        assert_eq!(select(&reader), (true, false, false));
        let (reader, writer) = s.pipe();
        fill(&writer);
        assert_eq!(select(&writer), (false, false, false));
        drop(reader);
        assert_eq!(select(&writer), (true, true, false));
    }
}

/// What select(2) says of reading, writing and exceptions at this moment.
fn select(fd: impl AsFd) -> (bool, bool, bool) {
    let fd = fd.as_fd().as_raw_fd();
    assert!((fd as usize) < libc::FD_SETSIZE);
    // SAFETY: All-zero sets are empty ones, `fd` is within them, and select writes
    // nothing else.
    unsafe {
        let mut sets: [libc::fd_set; 3] = MaybeUninit::zeroed().assume_init();
        for set in &mut sets {
            libc::FD_SET(fd, set);
        }
        let [readable, writable, exceptional] = &mut sets;
        let mut none = libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        };
        let result = libc::select(fd + 1, readable, writable, exceptional, &mut none);
        assert!(result >= 0);
        let [readable, writable, exceptional] = sets.map(|set| libc::FD_ISSET(fd, &set));
        (readable, writable, exceptional)
    }
}
