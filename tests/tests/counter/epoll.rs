// SPDX-License-Identifier: GPL-2.0

//! epoll(7): level, edge, and who is woken.

use std::sync::Arc;

use ipcdemo_client::CounterFlags;
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::{Errno, MAX, Sleeper, count, read, until, write};
use rustix::io::dup;

use crate::differential;

const NOTHING: EventFlags = EventFlags::empty();
const IN: EventFlags = EventFlags::IN;
const OUT: EventFlags = EventFlags::OUT;
const EDGE: EventFlags = EventFlags::ET;

differential! {
    /// 166: level-triggered, a count is reported again and again until it is taken.
    fn level_reports_until_it_is_taken(s: Subject) {
        let counter = s.counter(0);
        let set = Epoll::of(&counter, IN);
        assert_eq!(set.now(), NOTHING);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(set.now(), IN);
        assert_eq!(set.now(), IN);
        assert_eq!(read(&counter), Ok(1));
        assert_eq!(set.now(), NOTHING);
    }

    /// 273, 274: edge-triggered, each write is an edge, taken or not.
    fn each_write_is_an_edge(s: Subject) {
        let counter = s.counter(0);
        let set = Epoll::of(&counter, IN | EDGE);
        for _ in 0..3 {
            assert_eq!(write(&counter, 1), Ok(()));
            assert_eq!(set.now(), IN);
            assert_eq!(set.now(), NOTHING);
        }
        assert_eq!(read(&counter), Ok(3));
    }

    /// 270: so is a write of nothing, if there is a count to report.
    fn a_write_of_zero_is_an_edge(s: Subject) {
        let counter = s.counter(2);
        let set = Epoll::of(&counter, IN | EDGE);
        assert_eq!(set.now(), IN);
        assert_eq!(set.now(), NOTHING);
        assert_eq!(write(&counter, 0), Ok(()));
        assert_eq!(set.now(), IN);
    }

    /// 166: a wake-up whose reason is gone by the time somebody looks is none.
    fn a_count_already_taken_is_not_reported(s: Subject) {
        let counter = s.counter(0);
        let set = Epoll::of(&counter, IN | EDGE);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(read(&counter), Ok(1));
        assert_eq!(set.now(), NOTHING);
    }

    /// 270: a refused write is no edge.
    fn a_refused_write_is_no_edge(s: Subject) {
        let counter = s.full(CounterFlags::NONBLOCK);
        let set = Epoll::of(&counter, IN | EDGE);
        assert_eq!(set.now(), IN);
        assert_eq!(write(&counter, 1), Err(Errno::AGAIN));
        assert_eq!(set.now(), NOTHING);
    }

    /// 237, 238: each read is an edge for who waits to write.
    fn each_read_is_an_edge_for_writers(s: Subject) {
        let counter = s.semaphore(5);
        let set = Epoll::of(&counter, OUT | EDGE);
        assert_eq!(set.now(), OUT);
        for _ in 0..2 {
            assert_eq!(read(&counter), Ok(1));
            assert_eq!(set.now(), OUT);
            assert_eq!(set.now(), NOTHING);
        }
    }

    /// 238: a read's key is POLLOUT; that is no edge for who waits to read, though
    /// there is a count left.
    fn a_read_is_no_edge_for_readers(s: Subject) {
        let counter = s.semaphore(5);
        let set = Epoll::of(&counter, IN | EDGE);
        assert_eq!(set.now(), IN);
        assert_eq!(read(&counter), Ok(1));
        assert_eq!(set.now(), NOTHING);
    }

    /// 274: a write's key is POLLIN; that is no edge for who waits to write.
    fn a_write_is_no_edge_for_writers(s: Subject) {
        let counter = s.counter(0);
        let set = Epoll::of(&counter, OUT | EDGE);
        assert_eq!(set.now(), OUT);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(set.now(), NOTHING);
    }

    /// 166 to 171: one edge reports all that is true, the other direction included.
    fn an_edge_reports_both_directions(s: Subject) {
        let counter = s.counter(0);
        let set = Epoll::of(&counter, IN | OUT | EDGE);
        assert_eq!(set.now(), OUT);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(set.now(), IN | OUT);
    }

    /// 124, 166: adding a counter anew reports a count that was reported before
    /// (asio wakes its reactor so).
    fn adding_anew_reports_again(s: Subject) {
        let counter = s.counter(1);
        let set = Epoll::of(&counter, IN | EDGE);
        assert_eq!(set.now(), IN);
        assert_eq!(set.now(), NOTHING);
        set.delete(&counter);
        set.add(&counter, IN | EDGE);
        assert_eq!(set.now(), IN);
    }

    /// 166: so does changing what is wanted.
    fn modifying_reports_again(s: Subject) {
        let counter = s.counter(1);
        let set = Epoll::of(&counter, IN | EDGE);
        assert_eq!(set.now(), IN);
        set.modify(&counter, IN | EDGE);
        assert_eq!(set.now(), IN);
        assert_eq!(set.now(), NOTHING);
    }

    /// EPOLLONESHOT: once, until it is armed again.
    fn one_shot_reports_once(s: Subject) {
        let counter = s.counter(1);
        let set = Epoll::of(&counter, IN | EventFlags::ONESHOT);
        assert_eq!(set.now(), IN);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(set.now(), NOTHING);
        set.modify(&counter, IN | EventFlags::ONESHOT);
        assert_eq!(set.now(), IN);
    }

    /// 167, 171: neither the normal-data bits nor hang-up or error are reported.
    fn nothing_else_is_reported(s: Subject) {
        let counter = s.counter(1);
        let rest = EventFlags::RDNORM | EventFlags::WRNORM | EventFlags::PRI;
        let set = Epoll::of(&counter, rest | EventFlags::RDHUP);
        assert_eq!(set.now(), NOTHING);
    }

    /// 274: a write wakes who sleeps in epoll_wait.
    fn a_write_wakes_epoll_wait(s: Subject) {
        let counter = s.counter(0);
        let waiter = waiting(&Arc::new(Epoll::of(&counter, IN)));
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(waiter.join(), Ok(IN));
    }

    /// 238: and a read who waits to write.
    fn a_read_wakes_epoll_wait(s: Subject) {
        let counter = s.full(CounterFlags::empty());
        let waiter = waiting(&Arc::new(Epoll::of(&counter, OUT)));
        assert_eq!(read(&counter), Ok(MAX));
        assert_eq!(waiter.join(), Ok(OUT));
    }

    /// 274: a set within a set is woken through both.
    fn a_nested_set_is_woken(s: Subject) {
        let counter = s.counter(0);
        let inner = Epoll::of(&counter, IN | EDGE);
        let outer = Arc::new(Epoll::of(&inner, IN));
        let waiter = waiting(&outer);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(waiter.join(), Ok(IN));
        assert_eq!(inner.now(), IN);
        assert_eq!(outer.now(), NOTHING);
    }

    /// 274: of several sets that watch without EPOLLEXCLUSIVE, each is woken.
    fn a_write_wakes_every_set(s: Subject) {
        let counter = s.counter(0);
        let waiters = [(); 2].map(|()| waiting(&Arc::new(Epoll::of(&counter, IN))));
        assert_eq!(write(&counter, 1), Ok(()));
        for waiter in waiters {
            assert_eq!(waiter.join(), Ok(IN));
        }
    }

    /// 274: with EPOLLEXCLUSIVE a write wakes one, and the other is not even woken
    /// in vain; the next write finds it.
    fn a_write_wakes_one_exclusive_set(s: Subject) {
        let counter = s.counter(0);
        let exclusive = IN | EventFlags::EXCLUSIVE;
        let sets = [(); 2].map(|()| Arc::new(Epoll::of(&counter, exclusive)));
        let [first, second] = sets.each_ref().map(waiting);
        assert_eq!(write(&counter, 1), Ok(()));
        // Which of them comes first on the queue is epoll's affair.
        let (woken, other) = match (first.sleeps_on(), second.sleeps_on()) {
            (false, true) => (first, second),
            (true, false) => (second, first),
            (both, _) => panic!("{} of them", if both { "none" } else { "both" }),
        };
        assert_eq!(woken.join(), Ok(IN));
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(other.join(), Ok(IN));
    }

    /// 230, 274: a wake-up ends at the first exclusive entry that takes it. Readers
    /// join at the tail: one behind an exclusive watcher sleeps on beside a count
    /// that it could have.
    fn an_exclusive_watcher_hides_the_reader_behind_it(s: Subject) {
        let counter = s.counter(0);
        let watcher = waiting(&Arc::new(Epoll::of(&counter, IN | EventFlags::EXCLUSIVE)));
        let reader = Sleeper::reading(&counter);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(watcher.join(), Ok(IN));
        assert!(reader.sleeps_on());
        assert_eq!(count(&counter), 1);
        // Nobody waits for the set any more, so this one gets past it.
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(reader.join(), Ok(2));
    }

    /// 230, 274: a sleeping reader is not exclusive itself, and takes no wake-up
    /// from a watcher behind it.
    fn a_reader_spares_the_exclusive_watcher(s: Subject) {
        let counter = s.semaphore(0);
        let reader = Sleeper::reading(&counter);
        let watcher = waiting(&Arc::new(Epoll::of(&counter, IN | EventFlags::EXCLUSIVE)));
        assert_eq!(write(&counter, 2), Ok(()));
        assert_eq!(reader.join(), Ok(1));
        assert_eq!(watcher.join(), Ok(IN));
        assert_eq!(count(&counter), 1);
    }

    /// 109: the set forgets a counter when its last descriptor is closed, not the
    /// one that was added.
    fn the_last_close_leaves_the_set(s: Subject) {
        let counter = s.counter(1);
        let other = dup(&counter).unwrap();
        let set = Epoll::of(&counter, IN);
        drop(counter);
        assert_eq!(set.now(), IN);
        drop(other);
        // A child that another test has just forked may hold it for a moment.
        until("the set has forgotten the counter", || set.now() == NOTHING);
    }

    /// 109: a set that goes away leaves the queue; the counter works on.
    fn a_closed_set_leaves_the_queue(s: Subject) {
        let counter = s.counter(0);
        drop(Epoll::of(&counter, IN | EDGE));
        let reader = Sleeper::reading(&counter);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(reader.join(), Ok(1));
    }
}

/// A thread that sleeps in epoll_wait(2).
fn waiting(set: &Arc<Epoll>) -> Sleeper<Result<EventFlags, Errno>> {
    let set = Arc::clone(set);
    Sleeper::new(&[libc::SYS_epoll_pwait], move || set.wait())
}
