// SPDX-License-Identifier: GPL-2.0

//! poll(2) and epoll(7) as others come and go; and what a read says meanwhile.

use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::pipe::{READABLE, WRITABLE, bytes, fill, put, take};
use ipcdemo_tests::{Errno, Fd, Sleeper, fifos, poll_now};
use rustix::event::PollFlags;
use rustix::fs::OFlags;

const NOTHING: PollFlags = PollFlags::empty();

fifos! {
    /// 774, 1257: who opened with O_NONBLOCK and has never seen a writer hears of no
    /// hang-up, though a read says that this is the end.
    fn no_writer_yet_is_no_hangup(fifo: &Fifo) {
        let reader = fifo.reader();
        assert_eq!(all(&reader), NOTHING);
        assert_eq!(take(&reader, 1), Ok(vec![]));
        assert_eq!(all(&reader), NOTHING);
    }

    /// 774: it does once one has been there and left.
    fn a_writer_that_left_is_a_hangup(fifo: &Fifo) {
        let reader = fifo.reader();
        let writer = fifo.writer();
        assert_eq!(all(&reader), NOTHING);
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        drop(writer);
        assert_eq!(all(&reader), PollFlags::HUP);
        assert_eq!(take(&reader, 1), Ok(vec![]));
        assert_eq!(all(&reader), PollFlags::HUP);
    }

    /// 774: the next writer ends the hang-up, and is the next to cause one.
    fn a_new_writer_ends_the_hangup(fifo: &Fifo) {
        let reader = fifo.reader();
        for _ in 0..3 {
            let writer = fifo.writer();
            assert_eq!(all(&reader), NOTHING);
            assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
            drop(writer);
            assert_eq!(all(&reader), PollFlags::HUP);
            assert_eq!(take(&reader, 1), Ok(vec![]));
        }
    }

    /// 1257: it is each file's own affair what it has seen.
    fn a_hangup_is_for_who_saw_the_writer(fifo: &Fifo) {
        let early = fifo.reader();
        let writer = fifo.writer();
        let beside = fifo.reader();
        drop(writer);
        let late = fifo.reader();
        assert_eq!([&early, &beside, &late].map(all), [PollFlags::HUP, PollFlags::HUP, NOTHING]);
        drop(fifo.writer());
        assert_eq!(all(&late), PollFlags::HUP);
    }

    /// 1210: who waited for a writer has seen one.
    fn who_waited_has_seen_a_writer(fifo: &Fifo) {
        let reader = fifo.opening(OFlags::RDONLY);
        drop(fifo.writer());
        assert_eq!(all(&reader.join().unwrap()), PollFlags::HUP);
    }

    /// 1257: a writer that comes to wait has been seen as well.
    fn a_waiting_writer_has_been_seen(fifo: &Fifo) {
        let writer = fifo.opening(OFlags::WRONLY);
        let reader = fifo.reader();
        assert_eq!(all(&reader), NOTHING);
        drop(writer.join());
        assert_eq!(all(&reader), PollFlags::HUP);
    }

    /// 772, 775: what is left can be read, and there will be no more.
    fn a_hangup_hides_no_data(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        assert_eq!(put(&writer, b"xy"), Ok(2));
        assert_eq!(all(&reader), READABLE);
        drop(writer);
        assert_eq!(all(&reader), READABLE | PollFlags::HUP);
        assert_eq!(take(&reader, 1), Ok(b"x".into()));
        assert_eq!(all(&reader), READABLE | PollFlags::HUP);
        assert_eq!(take(&reader, 1), Ok(b"y".into()));
        assert_eq!(all(&reader), PollFlags::HUP);
    }

    /// 772, 774: without a writer, a reader that has seen none can have something to
    /// read and no hang-up.
    fn left_data_is_no_hangup(fifo: &Fifo) {
        let (_there, writer) = fifo.blocking_ends();
        assert_eq!(put(&writer, b"x"), Ok(1));
        drop(writer);
        assert_eq!(all(&fifo.reader()), READABLE);
    }

    /// 779, 786: there is room to write until it is full, and an error once nobody
    /// will read.
    fn a_writer_hears_of_room_and_of_readers(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        assert_eq!(all(&writer), WRITABLE);
        fill(&writer);
        assert_eq!(all(&writer), NOTHING);
        drop(reader);
        assert_eq!(all(&writer), PollFlags::ERR);
        let reader = fifo.reader();
        assert_eq!(all(&writer), NOTHING);
        assert!(take(&reader, 1 << 20).is_ok());
        assert_eq!(all(&writer), WRITABLE);
        drop(reader);
        assert_eq!(all(&writer), WRITABLE | PollFlags::ERR);
    }

    /// 771, 778: who opened for both hears of both, and has a reader and a writer.
    fn for_both_there_is_no_end(fifo: &Fifo) {
        let both = fifo.both();
        assert_eq!(all(&both), WRITABLE);
        assert_eq!(put(&both, b"x"), Ok(1));
        assert_eq!(all(&both), READABLE | WRITABLE);
        drop(fifo.writer());
        drop(fifo.reader());
        assert_eq!(all(&both), READABLE | WRITABLE);
        assert!(put(&both, &bytes(1 << 20)).is_ok());
        assert_eq!(all(&both), READABLE);
    }

    /// 1277: the first writer's coming wakes who polls for reading, for nothing; its
    /// going is what was waited for.
    fn a_poller_hears_of_the_end(fifo: &Fifo) {
        let reader = fifo.reader();
        let poller = Sleeper::polling(&reader, PollFlags::IN);
        let writer = fifo.writer();
        poller.wait_until_asleep_again();
        let second = fifo.writer();
        assert!(poller.sleeps_on(), "a second writer is nothing new");
        drop(second);
        assert!(poller.sleeps_on(), "nor is its going");
        drop(writer);
        assert_eq!(poller.join(), Ok(PollFlags::HUP));
    }

    /// 821: who polls for room is told that there are no readers.
    fn a_poller_hears_of_the_last_reader(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        fill(&writer);
        let poller = Sleeper::polling(&writer, PollFlags::OUT);
        drop(fifo.reader());
        assert!(poller.sleeps_on());
        drop(reader);
        assert_eq!(poller.join(), Ok(PollFlags::ERR));
    }

    /// 1276, 1277: edge-triggered, the first writer's coming is an edge for a reader,
    /// who is told again of what there was. The second's is none.
    fn a_first_writer_is_an_edge(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        assert_eq!(put(&writer, b"x"), Ok(1));
        drop(writer);
        let set = Epoll::of(&reader, EventFlags::IN | EventFlags::ET);
        assert_eq!(set.now(), EventFlags::IN | EventFlags::HUP);
        assert_eq!(set.now(), EventFlags::empty());
        let _first = fifo.writer();
        assert_eq!(set.now(), EventFlags::IN);
        let _second = fifo.writer();
        assert_eq!(set.now(), EventFlags::empty());
    }

    /// 1297: so it is with one that opens for both.
    fn a_first_opener_for_both_is_an_edge(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        assert_eq!(put(&writer, b"x"), Ok(1));
        drop(writer);
        let set = Epoll::of(&reader, EventFlags::IN | EventFlags::ET);
        assert_eq!(set.now(), EventFlags::IN | EventFlags::HUP);
        let _first = fifo.both();
        assert_eq!(set.now(), EventFlags::IN);
        let _second = fifo.both();
        assert_eq!(set.now(), EventFlags::empty());
    }

    /// 1250: a reader's coming is none, unless it is the first.
    fn a_second_reader_is_no_edge(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        assert_eq!(put(&writer, b"x"), Ok(1));
        let set = Epoll::of(&reader, EventFlags::IN | EventFlags::ET);
        assert_eq!(set.now(), EventFlags::IN);
        let _second = fifo.reader();
        assert_eq!(set.now(), EventFlags::empty());
    }

    /// 819, 820: the last writer's going is an edge, another's is none.
    fn the_last_writer_is_an_edge(fifo: &Fifo) {
        let reader = fifo.reader();
        let [first, second] = [(); 2].map(|()| fifo.writer());
        assert_eq!(put(&first, b"x"), Ok(1));
        let set = Epoll::of(&reader, EventFlags::IN | EventFlags::ET);
        assert_eq!(set.now(), EventFlags::IN);
        drop(first);
        assert_eq!(set.now(), EventFlags::empty());
        drop(second);
        assert_eq!(set.now(), EventFlags::IN | EventFlags::HUP);
        assert_eq!(set.now(), EventFlags::empty());
    }

    /// 821, 1201: the last reader's going is an edge for a writer. The next one's coming
    /// is none: it is told to who waits to read or to open.
    fn the_last_reader_is_an_edge(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        let set = Epoll::of(&writer, EventFlags::OUT | EventFlags::ET);
        assert_eq!(set.now(), EventFlags::OUT);
        drop(reader);
        assert_eq!(set.now(), EventFlags::OUT | EventFlags::ERR);
        let _reader = fifo.reader();
        assert_eq!(set.now(), EventFlags::empty());
        set.modify(&writer, EventFlags::OUT | EventFlags::ET);
        assert_eq!(set.now(), EventFlags::OUT);
    }

    /// 819, 820: without a writer each reader's going is an edge for the others: that there
    /// is nobody to write is told anew.
    fn without_writers_each_going_is_an_edge(fifo: &Fifo) {
        let [first, second, third] = [(); 3].map(|()| fifo.reader());
        drop(fifo.writer());
        let set = Epoll::of(&third, EventFlags::IN | EventFlags::ET);
        assert_eq!(set.now(), EventFlags::HUP);
        for other in [first, second] {
            assert_eq!(set.now(), EventFlags::empty());
            drop(other);
            assert_eq!(set.now(), EventFlags::HUP);
        }
    }

    /// 819, 821: so it is with writers without a reader.
    fn without_readers_each_going_is_an_edge(fifo: &Fifo) {
        let reader = fifo.reader();
        let [first, second] = [(); 2].map(|()| fifo.writer());
        drop(reader);
        let set = Epoll::of(&second, EventFlags::OUT | EventFlags::ET);
        assert_eq!(set.now(), EventFlags::OUT | EventFlags::ERR);
        assert_eq!(set.now(), EventFlags::empty());
        drop(first);
        assert_eq!(set.now(), EventFlags::OUT | EventFlags::ERR);
    }
}

/// What poll(2) says of a descriptor if asked for everything.
fn all(fd: &Fd) -> PollFlags {
    poll_now(fd, PollFlags::all())
}
