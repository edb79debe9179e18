// SPDX-License-Identifier: GPL-2.0

//! io_uring(7) and io_submit(2).

use ipcdemo_client::CounterFlags;
use ipcdemo_tests::aio::Aio;
use ipcdemo_tests::{Errno, MAX, Ring, count, read, write};
use rustix::event::PollFlags;

use crate::differential;

const POLLIN: u16 = libc::POLLIN as u16;
const POLLOUT: u16 = libc::POLLOUT as u16;

differential! {
    /// 235: a read that finds something is over at once.
    fn a_ring_reads(s: Subject) {
        let mut ring = Ring::new();
        ring.read(s.counter(7));
        assert_eq!(ring.completion(), Ok(8));
        assert_eq!(ring.value(), 7);
    }

    /// 225, 405: one that finds nothing is told EAGAIN, for the ring says
    /// IOCB_NOWAIT; it polls, and reads when a write has come.
    fn a_ring_read_waits(s: Subject) {
        let counter = s.counter(0);
        let mut ring = Ring::new();
        ring.read(&counter);
        assert_eq!(ring.completion_now(), None);
        assert_eq!(write(&counter, 9), Ok(()));
        assert_eq!(ring.completion(), Ok(8));
        assert_eq!(ring.value(), 9);
        assert_eq!(count(&counter), 0);
    }

    /// 405: O_NONBLOCK is not for the ring: a file that can be told IOCB_NOWAIT is
    /// polled and tried again.
    fn a_ring_read_waits_though_nonblocking(s: Subject) {
        let counter = s.nonblocking(0);
        let mut ring = Ring::new();
        ring.read(&counter);
        assert_eq!(ring.completion_now(), None);
        assert_eq!(write(&counter, 9), Ok(()));
        assert_eq!(ring.completion(), Ok(8));
        assert_eq!(ring.value(), 9);
    }

    /// 225: RWF_NOWAIT is.
    fn a_ring_read_may_decline_to_wait(s: Subject) {
        let mut ring = Ring::new();
        ring.read_with(s.counter(0), libc::RWF_NOWAIT);
        assert_eq!(ring.completion(), Err(Errno::AGAIN));
    }

    /// 309: the ring writes by way of `write`.
    fn a_ring_writes(s: Subject) {
        let counter = s.counter(1);
        let mut ring = Ring::new();
        ring.write(&counter, 4);
        assert_eq!(ring.completion(), Ok(8));
        assert_eq!(read(&counter), Ok(5));
    }

    /// 261, 265: to a full counter it waits, O_NONBLOCK or not.
    fn a_ring_write_waits(s: Subject) {
        let mut ring = Ring::new();
        for flags in [CounterFlags::empty(), CounterFlags::NONBLOCK] {
            let counter = s.full(flags);
            ring.write(&counter, 1);
            assert_eq!(ring.completion_now(), None);
            assert_eq!(read(&counter), Ok(MAX));
            assert_eq!(ring.completion(), Ok(8));
            assert_eq!(read(&counter), Ok(1));
        }
    }

    /// 309: `write` cannot be told not to wait, so RWF_NOWAIT fails even where
    /// there is room.
    fn a_ring_write_may_not_decline_to_wait(s: Subject) {
        let counter = s.counter(0);
        let mut ring = Ring::new();
        ring.write_with(&counter, 1, libc::RWF_NOWAIT);
        assert_eq!(ring.completion(), Err(Errno::AGAIN));
        assert_eq!(count(&counter), 0);
    }

    /// 258: and what is invalid is invalid here.
    fn a_ring_write_may_be_invalid(s: Subject) {
        let mut ring = Ring::new();
        ring.write(s.counter(0), u64::MAX);
        assert_eq!(ring.completion(), Err(Errno::INVAL));
    }

    /// 124, 274: a ring's poll is an entry on the queue as any other.
    fn a_ring_polls(s: Subject) {
        let counter = s.counter(0);
        let mut ring = Ring::new();
        ring.poll(&counter, PollFlags::IN, false);
        assert_eq!(ring.completion_now(), None);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(ring.completion(), Ok(PollFlags::IN.bits().into()));
    }

    /// 274: one that goes on polling hears of each write.
    fn a_ring_goes_on_polling(s: Subject) {
        let counter = s.counter(0);
        let mut ring = Ring::new();
        ring.poll(&counter, PollFlags::IN, true);
        for _ in 0..3 {
            assert_eq!(write(&counter, 1), Ok(()));
            assert_eq!(ring.completion(), Ok(PollFlags::IN.bits().into()));
            assert_eq!(ring.completion_now(), None);
        }
    }

    /// 238: and of a read, if it polls for room.
    fn a_ring_polls_for_room(s: Subject) {
        let counter = s.full(CounterFlags::empty());
        let mut ring = Ring::new();
        ring.poll(&counter, PollFlags::OUT, false);
        assert_eq!(ring.completion_now(), None);
        assert_eq!(read(&counter), Ok(MAX));
        assert_eq!(ring.completion(), Ok(PollFlags::OUT.bits().into()));
    }

    /// 109: a ring that is closed with a poll under way lets go of the counter.
    fn a_closed_ring_leaves_the_queue(s: Subject) {
        let counter = s.counter(0);
        let mut ring = Ring::new();
        ring.poll(&counter, PollFlags::IN, false);
        drop(ring);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(read(&counter), Ok(1));
    }

    /// 308: `read_iter` serves io_submit.
    fn aio_reads(s: Subject) {
        let counter = s.counter(3);
        assert_eq!(Aio::new().read(&counter, 0), Ok(3));
        assert_eq!(count(&counter), 0);
    }

    /// 224, 225: which may be told not to wait, by the file or by the operation.
    fn aio_may_not_wait(s: Subject) {
        let aio = Aio::new();
        assert_eq!(aio.read(s.nonblocking(0), 0), Err(Errno::AGAIN));
        assert_eq!(aio.read(s.counter(0), libc::RWF_NOWAIT), Err(Errno::AGAIN));
    }

    /// 309: there is no `write_iter`, so io_submit cannot write.
    fn aio_does_not_write(s: Subject) {
        let counter = s.counter(0);
        assert_eq!(Aio::new().write(&counter, 1), Err(Errno::INVAL));
        assert_eq!(count(&counter), 0);
    }

    /// 124, 274: it polls, with a wake function of its own.
    fn aio_polls(s: Subject) {
        let counter = s.counter(0);
        let aio = Aio::new();
        assert_eq!(aio.poll(&counter, POLLIN), Ok(()));
        assert!(!aio.has_completed());
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(aio.completion(), Ok(POLLIN.into()));
    }

    /// 166, 170: and what is ready already is told at once.
    fn aio_polls_what_is_ready(s: Subject) {
        let aio = Aio::new();
        assert_eq!(aio.poll(s.counter(1), POLLIN | POLLOUT), Ok(()));
        assert_eq!(aio.completion(), Ok((POLLIN | POLLOUT).into()));
    }

    /// 109: a context that is destroyed with a poll under way leaves the queue.
    fn a_destroyed_context_leaves_the_queue(s: Subject) {
        let counter = s.counter(0);
        let aio = Aio::new();
        assert_eq!(aio.poll(&counter, POLLIN), Ok(()));
        drop(aio);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(read(&counter), Ok(1));
    }
}
