// SPDX-License-Identifier: GPL-2.0

//! io_uring(7) and io_submit(2).

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::aio::Aio;
use ipcdemo_tests::pipe::{Blocked, READABLE, WRITABLE, fill, put, queued, take};
use ipcdemo_tests::{Errno, PAGE, Ring, differential};
use rustix::event::PollFlags;

const BLOCK: PipeFlags = PipeFlags::empty();
const POLLIN: u16 = libc::POLLIN as u16;
const VALUE: u64 = 0x0102_0304_0506_0708;

/// RWF_NOSIGNAL of linux/fs.h.
const RWF_NOSIGNAL: i32 = 0x100;

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:1340: a read that finds something is over at once, and so is a write that
    /// finds room.
    fn a_ring_transfers(s: Subject) {
        let (reader, writer) = s.pipe();
        let mut ring = Ring::new();
        ring.write(&writer, VALUE);
        assert_eq!(ring.completion_now(), Some(Ok(8)));
        ring.write(&writer, 0);
        assert_eq!(ring.completion_now(), Some(Ok(8)));
        ring.read(&reader);
        assert_eq!(ring.completion_now(), Some(Ok(8)));
        assert_eq!(ring.value(), VALUE);
    }

    /// fs/pipe.c:450, 1053: one that finds nothing is told EAGAIN, for the ring says
    /// IOCB_NOWAIT; it polls, and reads when a write has come, O_NONBLOCK or not.
    fn a_ring_read_waits(s: Subject) {
        for (reader, writer) in [s.pipe(), s.nonblocking_pipe()] {
            let mut ring = Ring::new();
            ring.read(&reader);
            assert_eq!(ring.completion_now(), None);
            assert_eq!(put(&writer, &VALUE.to_ne_bytes()), Ok(8));
            assert_eq!(ring.completion(), Ok(8));
            assert_eq!(ring.value(), VALUE);
        }
    }

    /// fs/pipe.c:450: RWF_NOWAIT ends it.
    fn a_ring_read_may_decline_to_wait(s: Subject) {
        let (reader, _writer) = s.pipe();
        let mut ring = Ring::new();
        ring.read_with(&reader, libc::RWF_NOWAIT);
        assert_eq!(ring.completion(), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:447: what there is is enough.
    fn a_ring_read_may_be_short(s: Subject) {
        let (reader, writer) = s.pipe();
        let mut ring = Ring::new();
        ring.read(&reader);
        assert_eq!(put(&writer, &VALUE.to_ne_bytes()[..3]), Ok(3));
        assert_eq!(ring.completion(), Ok(3));
    }

    /// fs/pipe.c:820, 445: and it is over when there is no writer any more.
    fn the_end_ends_a_ring_read(s: Subject) {
        let (reader, writer) = s.pipe();
        let mut ring = Ring::new();
        ring.read(&reader);
        assert_eq!(ring.completion_now(), None);
        drop(writer);
        assert_eq!(ring.completion(), Ok(0));
    }

    /// fs/pipe.c:628, 1054: a write to a full pipe waits for a buffer, O_NONBLOCK or not.
    fn a_ring_write_waits(s: Subject) {
        for flags in [BLOCK, PipeFlags::NONBLOCK] {
            let (reader, writer) = s.pipe_of(1, flags);
            fill(&writer);
            let mut ring = Ring::new();
            ring.write(&writer, VALUE);
            assert_eq!(ring.completion_now(), None);
            assert_eq!(take(&reader, PAGE).unwrap().len(), PAGE);
            assert_eq!(ring.completion(), Ok(8));
            assert_eq!(take(&reader, PAGE).unwrap(), VALUE.to_ne_bytes());
        }
    }

    /// fs/pipe.c:628: unless it has RWF_NOWAIT.
    fn a_ring_write_may_decline_to_wait(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let mut ring = Ring::new();
        ring.write_with(&writer, VALUE, libc::RWF_NOWAIT);
        assert_eq!(ring.completion(), Ok(8));
        assert_eq!(take(&reader, PAGE).unwrap(), VALUE.to_ne_bytes());
        fill(&writer);
        ring.write_with(&writer, VALUE, libc::RWF_NOWAIT);
        assert_eq!(ring.completion(), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:536 to 539: with nobody to read it a ring's write is EPIPE, and SIGPIPE
    /// unless it has RWF_NOSIGNAL.
    fn a_ring_write_may_break_the_pipe(s: Subject) {
        let signal = Blocked::new(libc::SIGPIPE);
        let (reader, writer) = s.pipe();
        drop(reader);
        let mut ring = Ring::new();
        ring.write_with(&writer, VALUE, RWF_NOSIGNAL);
        assert_eq!(ring.completion(), Err(Errno::PIPE));
        assert_eq!(signal.count(), 0);
        ring.write(&writer, VALUE);
        assert_eq!(ring.completion(), Err(Errno::PIPE));
        assert_eq!(signal.count(), 1);
    }

    /// fs/pipe.c:759, 671: a ring's poll is an entry on the queue as any other.
    fn a_ring_polls(s: Subject) {
        let (reader, writer) = s.pipe();
        let mut ring = Ring::new();
        ring.poll(&reader, READABLE, false);
        assert_eq!(ring.completion_now(), None);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(ring.completion(), Ok(READABLE.bits().into()));
    }

    /// fs/pipe.c:761, 475: at either end.
    fn a_ring_polls_for_room(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let mut ring = Ring::new();
        ring.poll(&writer, WRITABLE, false);
        assert_eq!(ring.completion_now(), None);
        assert_eq!(take(&reader, PAGE).unwrap().len(), PAGE);
        assert_eq!(ring.completion(), Ok(WRITABLE.bits().into()));
    }

    /// fs/pipe.c:745, 748, 670: one that goes on polling says EPOLLET: it hears of each
    /// write, though nobody reads.
    fn a_ring_goes_on_polling(s: Subject) {
        let (reader, writer) = s.pipe();
        let mut ring = Ring::new();
        ring.poll(&reader, PollFlags::IN, true);
        for count in 1..=3 {
            assert_eq!(put(&writer, b"a"), Ok(1));
            assert_eq!(ring.completion(), Ok(PollFlags::IN.bits().into()));
            assert_eq!(ring.completion_now(), None);
            assert_eq!(queued(&reader), count);
        }
    }

    /// fs/pipe.c:820: and of the end.
    fn a_ring_hears_of_the_end(s: Subject) {
        let (reader, writer) = s.pipe();
        let mut ring = Ring::new();
        ring.poll(&reader, PollFlags::IN, false);
        drop(writer);
        assert_eq!(ring.completion(), Ok(PollFlags::HUP.bits().into()));
    }

    /// fs/pipe.c:1341, 1342: io_submit reads and writes.
    fn aio_transfers(s: Subject) {
        let (reader, writer) = s.pipe();
        let aio = Aio::new();
        assert_eq!(aio.write(&writer, VALUE), Ok(8));
        assert_eq!(queued(&reader), 8);
        assert_eq!(aio.read(&reader, 0), Ok(VALUE));
    }

    /// fs/pipe.c:449, 450: it may be told not to wait, by the file or by the operation.
    fn aio_may_not_wait(s: Subject) {
        let aio = Aio::new();
        let ((reader, _writer), (other, _other_writer)) = (s.pipe(), s.nonblocking_pipe());
        assert_eq!(aio.read(&reader, libc::RWF_NOWAIT), Err(Errno::AGAIN));
        assert_eq!(aio.read(&other, 0), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:759, 671: it polls, with a wake function of its own, and tells the wake-up's
    /// key, whatever it asked for.
    fn aio_polls(s: Subject) {
        let (reader, writer) = s.pipe();
        let aio = Aio::new();
        assert_eq!(aio.poll(&reader, POLLIN), Ok(()));
        assert!(!aio.has_completed());
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(aio.completion(), Ok(READABLE.bits().into()));
    }

    /// fs/pipe.c:759: a context that is destroyed with a poll under way leaves the queue.
    fn a_destroyed_context_leaves_the_queue(s: Subject) {
        let (reader, writer) = s.pipe();
        let aio = Aio::new();
        assert_eq!(aio.poll(&reader, POLLIN), Ok(()));
        drop(aio);
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(take(&reader, 10).unwrap(), b"a");
    }
}
