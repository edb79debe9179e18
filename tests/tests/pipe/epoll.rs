// SPDX-License-Identifier: GPL-2.0

//! epoll(7): level, edge, and who is woken.

use std::sync::Arc;

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::pipe::{fill, put, take};
use ipcdemo_tests::{Errno, PAGE, Sleeper, differential};
use rustix::io::dup;

const NOTHING: EventFlags = EventFlags::empty();
const IN: EventFlags = EventFlags::IN;
const OUT: EventFlags = EventFlags::OUT;
const EDGE: EventFlags = EventFlags::ET;
const BLOCK: PipeFlags = PipeFlags::empty();

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:772: level-triggered, data is reported again and again until it is taken.
    fn level_reports_until_it_is_taken(s: Subject) {
        let (reader, writer) = s.pipe();
        let set = Epoll::of(&reader, IN);
        assert_eq!(set.now(), NOTHING);
        assert_eq!(put(&writer, b"ab"), Ok(2));
        assert_eq!(take(&reader, 1).unwrap(), b"a");
        assert_eq!(set.now(), IN);
        assert_eq!(set.now(), IN);
        assert_eq!(take(&reader, 1).unwrap(), b"b");
        assert_eq!(set.now(), NOTHING);
    }

    /// fs/pipe.c:748, 670: for an edge-triggered watcher of the read end each write is an
    /// edge, though the pipe was not empty: programs have come to rely on it.
    fn each_write_is_an_edge(s: Subject) {
        let (reader, writer) = s.pipe();
        let set = Epoll::of(&reader, IN | EDGE);
        for _ in 0..3 {
            assert_eq!(put(&writer, b"a"), Ok(1));
            assert_eq!(set.now(), IN);
            assert_eq!(set.now(), NOTHING);
        }
        assert_eq!(take(&reader, 10).unwrap(), b"aaa");
    }

    /// fs/pipe.c:670: so is one that wrote nothing because the pipe is full, if there is
    /// something to report.
    fn a_refused_write_is_an_edge(s: Subject) {
        let (reader, writer) = s.pipe_of(1, PipeFlags::NONBLOCK);
        fill(&writer);
        let set = Epoll::of(&reader, IN | EDGE);
        assert_eq!(set.now(), IN);
        assert_eq!(put(&writer, b"a"), Err(Errno::AGAIN));
        assert_eq!(set.now(), IN);
        assert_eq!(put(&writer, b""), Ok(0));
        assert_eq!(set.now(), NOTHING, "nothing is nothing (531)");
    }

    /// fs/pipe.c:670: without such a watcher a write to a pipe that is not empty wakes nobody.
    /// A set that watches the set sees it.
    fn only_the_first_write_wakes(s: Subject) {
        let (reader, writer) = s.pipe();
        let inner = Epoll::of(&reader, IN);
        let outer = Epoll::of(&inner, IN | EDGE);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(outer.now(), IN);
        assert_eq!(put(&writer, b"b"), Ok(1));
        assert_eq!(outer.now(), NOTHING);
        assert_eq!(take(&reader, 10).unwrap(), b"ab");
        assert_eq!(put(&writer, b"c"), Ok(1));
        assert_eq!(outer.now(), IN);
    }

    /// fs/pipe.c:750: once there has been one, each write wakes everybody, and when it is
    /// gone still.
    fn an_edge_is_remembered(s: Subject) {
        let (reader, writer) = s.pipe();
        let inner = Epoll::of(&reader, IN);
        let outer = Epoll::of(&inner, IN | EDGE);
        let set = Epoll::of(&reader, IN | EDGE);
        assert_eq!(set.now(), NOTHING);
        drop(set);
        for _ in 0..3 {
            assert_eq!(put(&writer, b"a"), Ok(1));
            assert_eq!(outer.now(), IN);
        }
    }

    /// fs/pipe.c:747: the read end's watcher, that is: one of the write end counts for nothing.
    fn an_edge_at_the_write_end_is_none(s: Subject) {
        let (reader, writer) = s.pipe();
        let inner = Epoll::of(&reader, IN);
        let outer = Epoll::of(&inner, IN | EDGE);
        let _set = Epoll::of(&writer, OUT | EDGE);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(outer.now(), IN);
        assert_eq!(put(&writer, b"b"), Ok(1));
        assert_eq!(outer.now(), NOTHING);
    }

    /// fs/pipe.c:435: for who waits to write there is no such kindness: an edge is a full
    /// pipe that gets room.
    fn room_is_an_edge_once(s: Subject) {
        let (reader, writer) = s.pipe_of(4, BLOCK);
        let set = Epoll::of(&writer, OUT | EDGE);
        assert_eq!(set.now(), OUT);
        fill(&writer);
        assert_eq!(set.now(), NOTHING);
        for report in [OUT, NOTHING, NOTHING] {
            assert_eq!(take(&reader, PAGE).unwrap().len(), PAGE);
            assert_eq!(set.now(), report);
        }
    }

    /// fs/pipe.c:476: a read that leaves something is no edge for readers.
    fn a_read_is_no_edge_for_readers(s: Subject) {
        let (reader, writer) = s.pipe();
        let set = Epoll::of(&reader, IN | EDGE);
        assert_eq!(put(&writer, b"ab"), Ok(2));
        assert_eq!(set.now(), IN);
        assert_eq!(take(&reader, 1).unwrap(), b"a");
        assert_eq!(set.now(), NOTHING);
    }

    /// fs/pipe.c:673: a write that leaves room is none for writers.
    fn a_write_is_no_edge_for_writers(s: Subject) {
        let (_reader, writer) = s.pipe();
        let set = Epoll::of(&writer, OUT | EDGE);
        assert_eq!(set.now(), OUT);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(set.now(), NOTHING);
    }

    /// fs/pipe.c:768: a wake-up whose reason is gone by the time somebody looks is none.
    fn what_was_taken_is_not_reported(s: Subject) {
        let (reader, writer) = s.pipe();
        let set = Epoll::of(&reader, IN | EDGE);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(take(&reader, 1).unwrap(), b"a");
        assert_eq!(set.now(), NOTHING);
    }

    /// fs/pipe.c:820, 775: the end is an edge, reported with what is left, asked for or not.
    fn the_end_is_an_edge(s: Subject) {
        let (reader, writer) = s.pipe();
        let set = Epoll::of(&reader, IN | EDGE);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(set.now(), IN);
        drop(writer);
        assert_eq!(set.now(), IN | EventFlags::HUP);
        assert_eq!(set.now(), NOTHING);
        let (reader, writer) = s.pipe();
        let set = Epoll::of(&writer, EDGE);
        drop(reader);
        assert_eq!(set.now(), EventFlags::ERR);
        assert_eq!(set.now(), NOTHING);
    }

    /// fs/pipe.c:445: reading at the end makes no new edge.
    fn reading_the_end_is_no_edge(s: Subject) {
        let (reader, writer) = s.pipe();
        let set = Epoll::of(&reader, IN | EDGE);
        drop(writer);
        assert_eq!(set.now(), EventFlags::HUP);
        for _ in 0..3 {
            assert_eq!(take(&reader, 1).unwrap(), b"");
            assert_eq!(set.now(), NOTHING);
        }
    }

    /// fs/pipe.c:773, 780: POLLRDNORM and POLLWRNORM are reported beside, if asked for.
    fn normal_data_is_reported(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"a"), Ok(1));
        let all = EventFlags::RDNORM | EventFlags::WRNORM | EventFlags::PRI | EventFlags::RDHUP;
        assert_eq!(Epoll::of(&reader, IN | OUT | all).now(), IN | EventFlags::RDNORM);
        assert_eq!(Epoll::of(&writer, IN | OUT | all).now(), OUT | EventFlags::WRNORM);
    }

    /// fs/pipe.c:759: adding an end anew, or changing what is wanted, reports what was
    /// reported before.
    fn adding_anew_reports_again(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"a"), Ok(1));
        let set = Epoll::of(&reader, IN | EDGE);
        assert_eq!(set.now(), IN);
        set.delete(&reader);
        set.add(&reader, IN | EDGE);
        assert_eq!(set.now(), IN);
        set.modify(&reader, IN | EDGE);
        assert_eq!(set.now(), IN);
        assert_eq!(set.now(), NOTHING);
    }

    /// fs/eventpoll.c, EPOLLONESHOT: once, until it is armed again.
    fn one_shot_reports_once(s: Subject) {
        let (reader, writer) = s.pipe();
        let set = Epoll::of(&reader, IN | EventFlags::ONESHOT);
        for _ in 0..2 {
            assert_eq!(put(&writer, b"a"), Ok(1));
            assert_eq!(set.now(), IN);
            assert_eq!(take(&reader, 1).unwrap(), b"a");
            assert_eq!(put(&writer, b"b"), Ok(1));
            assert_eq!(set.now(), NOTHING);
            assert_eq!(take(&reader, 1).unwrap(), b"b");
            set.modify(&reader, IN | EventFlags::ONESHOT);
            assert_eq!(set.now(), NOTHING);
        }
    }

    /// fs/pipe.c:671, 475: a transfer wakes who sleeps in epoll_wait.
    fn transfers_wake_epoll_wait(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let waiter = waiting(&Arc::new(Epoll::of(&reader, IN)));
        fill(&writer);
        assert_eq!(waiter.join(), Ok(IN));
        let waiter = waiting(&Arc::new(Epoll::of(&writer, OUT)));
        take(&reader, PAGE).unwrap();
        assert_eq!(waiter.join(), Ok(OUT));
    }

    /// fs/pipe.c:671: of several sets that watch without EPOLLEXCLUSIVE, each is woken.
    fn a_write_wakes_every_set(s: Subject) {
        let (reader, writer) = s.pipe();
        let waiters = [(); 2].map(|()| waiting(&Arc::new(Epoll::of(&reader, IN))));
        assert_eq!(put(&writer, b"a"), Ok(1));
        for waiter in waiters {
            assert_eq!(waiter.join(), Ok(IN));
        }
    }

    /// fs/pipe.c:671: with EPOLLEXCLUSIVE a write wakes one, and the other is not even woken
    /// in vain; the next write to an empty pipe finds it.
    fn a_write_wakes_one_exclusive_set(s: Subject) {
        let (reader, writer) = s.pipe();
        let exclusive = IN | EventFlags::EXCLUSIVE;
        let sets = [(); 2].map(|()| Arc::new(Epoll::of(&reader, exclusive)));
        let [first, second] = sets.each_ref().map(waiting);
        assert_eq!(put(&writer, b"a"), Ok(1));
        // Which of them comes first on the queue is epoll's affair.
        let (woken, other) = match (first.sleeps_on(), second.sleeps_on()) {
            (false, true) => (first, second),
            (true, false) => (second, first),
            (both, _) => panic!("{} of them", if both { "none" } else { "both" }),
        };
        assert_eq!(woken.join(), Ok(IN));
        assert_eq!(take(&reader, 1).unwrap(), b"a");
        assert_eq!(put(&writer, b"b"), Ok(1));
        assert_eq!(other.join(), Ok(IN));
    }

    /// fs/pipe.c:820: the end wakes them all.
    fn the_end_wakes_every_exclusive_set(s: Subject) {
        let (reader, writer) = s.pipe();
        let exclusive = IN | EventFlags::EXCLUSIVE;
        let waiters = [(); 2].map(|()| waiting(&Arc::new(Epoll::of(&reader, exclusive))));
        drop(writer);
        for waiter in waiters {
            assert_eq!(waiter.join(), Ok(EventFlags::HUP));
        }
    }

    /// fs/pipe.c:463, 671: a wake-up ends at the first exclusive entry that takes it. A
    /// reader joins at the tail: behind an exclusive watcher it sleeps on beside data that it
    /// could have, until there is a write to an empty pipe again.
    fn an_exclusive_watcher_hides_the_reader_behind_it(s: Subject) {
        let (reader, writer) = s.pipe();
        let watcher = waiting(&Arc::new(Epoll::of(&reader, IN | EventFlags::EXCLUSIVE)));
        let sleeper = Sleeper::taking(&reader, 10);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(watcher.join(), Ok(IN));
        assert_eq!(put(&writer, b"b"), Ok(1));
        assert!(sleeper.sleeps_on());
        assert_eq!(take(&reader, 10).unwrap(), b"ab");
        // Nobody waits for the set any more, so this one gets past it.
        assert_eq!(put(&writer, b"c"), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"c");
    }

    /// fs/pipe.c:463, 477: so does a reader ahead of the watcher, being exclusive itself; but
    /// what it leaves it passes on.
    fn a_reader_passes_the_rest_on_to_a_watcher(s: Subject) {
        let (reader, writer) = s.pipe();
        let sleeper = Sleeper::taking(&reader, 1);
        let set = Arc::new(Epoll::new());
        // An exclusive entry too joins at the tail.
        set.add(&reader, IN | EventFlags::EXCLUSIVE);
        let watcher = waiting(&set);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"a");
        assert!(watcher.sleeps_on());
        set.delete(&reader);
        let sleeper = Sleeper::taking(&reader, 1);
        set.add(&reader, IN | EventFlags::EXCLUSIVE);
        assert_eq!(put(&writer, b"bc"), Ok(2));
        assert_eq!(sleeper.join().unwrap(), b"b");
        assert_eq!(watcher.join(), Ok(IN));
    }

    /// fs/eventpoll.c: the set forgets an end when its last descriptor is closed, not the one
    /// that was added.
    fn the_last_close_leaves_the_set(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"a"), Ok(1));
        let other = dup(&reader).unwrap();
        let set = Epoll::of(&reader, IN);
        drop(reader);
        assert_eq!(set.now(), IN);
        drop(other);
        assert_eq!(set.now(), NOTHING);
    }

    /// fs/pipe.c:759: a set that goes away leaves the queue; the pipe works on.
    fn a_closed_set_leaves_the_queue(s: Subject) {
        let (reader, writer) = s.pipe();
        drop(Epoll::of(&reader, IN | EDGE));
        drop(Epoll::of(&writer, OUT | EDGE));
        let sleeper = Sleeper::taking(&reader, 10);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"a");
    }
}

/// A thread that sleeps in epoll_wait(2).
fn waiting(set: &Arc<Epoll>) -> Sleeper<Result<EventFlags, Errno>> {
    let set = Arc::clone(set);
    Sleeper::new(&[libc::SYS_epoll_pwait], move || set.wait())
}
