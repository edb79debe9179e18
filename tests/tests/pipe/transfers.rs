// SPDX-License-Identifier: GPL-2.0

//! What is written can be read; how it lies in the buffers between, and what is left of
//! it when something goes wrong.

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{Blocked, bytes, fill, put, queued, take};
use ipcdemo_tests::{
    Access, Address, Child, Errno, Memory, PAGE, differential, read_to, write_from,
};

const NONBLOCK: PipeFlags = PipeFlags::NONBLOCK;

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:418, 598: bytes come out in the order that they went in, with nothing
    /// between two writes.
    fn bytes_come_in_order(s: Subject) {
        let (reader, writer) = s.pipe();
        for part in [&b"ab"[..], b"c", b"def"] {
            assert_eq!(put(&writer, part), Ok(part.len()));
        }
        assert_eq!(take(&reader, 100).unwrap(), b"abcdef");
    }

    /// fs/pipe.c:403 to 408, 425: a short read leaves the rest.
    fn a_short_read_leaves_the_rest(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"abcdef"), Ok(6));
        assert_eq!(take(&reader, 2).unwrap(), b"ab");
        assert_eq!(take(&reader, 1).unwrap(), b"c");
        assert_eq!(take(&reader, 3).unwrap(), b"def");
    }

    /// fs/pipe.c:447: a long read does not wait for more.
    fn a_long_read_takes_what_there_is(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(take(&reader, 1000).unwrap(), b"abc");
    }

    /// fs/pipe.c:441: it goes on to the next buffer, and to a part of the one after.
    fn a_read_crosses_buffers(s: Subject) {
        let (reader, writer) = s.pipe();
        let all = fill(&writer);
        assert_eq!(take(&reader, 2 * PAGE + 10).unwrap(), all[..2 * PAGE + 10]);
        assert_eq!(take(&reader, 2 * PAGE).unwrap(), all[2 * PAGE + 10..][..2 * PAGE]);
        assert_eq!(take(&reader, all.len()).unwrap(), all[4 * PAGE + 10..]);
    }

    /// fs/pipe.c:353: nothing can be read at once, from an empty pipe and to nowhere.
    fn nothing_is_read_at_once(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(read_to(&reader, Address::NULL, 0), Ok(0));
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(take(&reader, 0).unwrap(), b"");
        assert_eq!(queued(&reader), 1);
    }

    /// fs/pipe.c:531: nothing can be written at once, to a full pipe and from nowhere; it
    /// is no buffer, and nothing to read.
    fn nothing_is_written_at_once(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        assert_eq!(put(&writer, b""), Ok(0));
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        fill(&writer);
        assert_eq!(write_from(&writer, Address::NULL, 0), Ok(0));
    }

    /// fs/pipe.c:531 before 536: even with nobody to read it.
    fn nothing_breaks_no_pipe(s: Subject) {
        let (reader, writer) = s.pipe();
        drop(reader);
        assert_eq!(put(&writer, b""), Ok(0));
    }

    /// fs/pipe.c:451: an empty pipe that may not block says EAGAIN.
    fn an_empty_pipe_would_block(s: Subject) {
        let (reader, _writer) = s.nonblocking_pipe();
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:586, 630: a buffer holds a page, and a pipe has sixteen; a full one that
    /// may not block says EAGAIN.
    fn a_full_pipe_would_block(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        for page in 0..16 {
            assert_eq!(put(&writer, &[page; PAGE]), Ok(PAGE), "page {page}");
        }
        assert_eq!(put(&writer, b"x"), Err(Errno::AGAIN));
        assert_eq!(queued(&reader), 16 * PAGE);
    }

    /// fs/pipe.c:558 to 570: single bytes are put together until the page is full.
    fn small_writes_merge(s: Subject) {
        let (reader, writer) = s.pipe_of(1, NONBLOCK);
        let all = bytes(PAGE);
        for byte in &all {
            assert_eq!(put(&writer, &[*byte]), Ok(1));
        }
        assert_eq!(put(&writer, b"x"), Err(Errno::AGAIN));
        assert_eq!(take(&reader, PAGE).unwrap(), all);
    }

    /// fs/pipe.c:559: what fits exactly is put there, and what does not, by a byte, begins a
    /// buffer of its own. The room that is left is lost.
    fn what_does_not_fit_begins_a_buffer(s: Subject) {
        let (_reader, writer) = s.pipe_of(2, NONBLOCK);
        assert_eq!(put(&writer, &bytes(4000)), Ok(4000));
        assert_eq!(put(&writer, &bytes(97)), Ok(97));
        assert_eq!(put(&writer, &bytes(PAGE - 96)), Err(Errno::AGAIN));
        assert_eq!(put(&writer, &bytes(PAGE - 97)), Ok(PAGE - 97));
        assert_eq!(put(&writer, b"x"), Err(Errno::AGAIN));
        assert_eq!(queued(&writer), 4000 + PAGE);
    }

    /// fs/pipe.c:553, 554: whole pages are never put together with anything: a byte, and a
    /// page after it, fill two buffers.
    fn whole_pages_do_not_merge(s: Subject) {
        let (reader, writer) = s.pipe_of(2, NONBLOCK);
        assert_eq!(put(&writer, b"x"), Ok(1));
        assert_eq!(put(&writer, &bytes(PAGE)), Ok(PAGE));
        assert_eq!(put(&writer, b"y"), Err(Errno::AGAIN));
        assert_eq!(take(&reader, 1).unwrap(), b"x");
        assert_eq!(take(&reader, PAGE).unwrap(), bytes(PAGE));
    }

    /// fs/pipe.c:553 to 571: of a long write, what is beyond its whole pages goes first, and
    /// into the last buffer: these need two, not three. The order is kept.
    fn a_long_write_fills_up_the_last_buffer(s: Subject) {
        let (reader, writer) = s.pipe_of(2, NONBLOCK);
        let all = bytes(100 + PAGE + 96);
        assert_eq!(put(&writer, &all[..100]), Ok(100));
        assert_eq!(put(&writer, &all[100..]), Ok(PAGE + 96));
        assert_eq!(put(&writer, b"y"), Err(Errno::AGAIN), "the last is full");
        assert_eq!(take(&reader, 2 * PAGE).unwrap(), all);
    }

    /// fs/pipe.c:564, 630: so a long write may begin where it cannot go on: it has written
    /// its remainder, and no page.
    fn a_remainder_goes_ahead(s: Subject) {
        let (reader, writer) = s.pipe_of(1, NONBLOCK);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(put(&writer, &bytes(PAGE + 50)), Ok(50));
        assert_eq!(take(&reader, 3).unwrap(), b"abc");
        assert_eq!(take(&reader, PAGE).unwrap(), bytes(50));
    }

    /// fs/pipe.c:556: what was read from the front of a buffer makes no room at its back.
    fn what_was_read_makes_no_room(s: Subject) {
        let (reader, writer) = s.pipe_of(1, NONBLOCK);
        assert_eq!(put(&writer, &bytes(4000)), Ok(4000));
        assert_eq!(take(&reader, 3000).unwrap(), bytes(3000));
        assert_eq!(put(&writer, &bytes(97)), Err(Errno::AGAIN));
        assert_eq!(put(&writer, &bytes(96)), Ok(96));
        assert_eq!(put(&writer, b"x"), Err(Errno::AGAIN));
        assert_eq!(queued(&reader), 1096);
    }

    /// fs/pipe.c:434 to 436: a buffer that was read to its end is free.
    fn a_drained_buffer_is_free(s: Subject) {
        let (reader, writer) = s.pipe_of(1, NONBLOCK);
        for length in [1, 4000, PAGE, 5] {
            assert_eq!(put(&writer, &bytes(length)), Ok(length));
            assert_eq!(take(&reader, length).unwrap(), bytes(length));
        }
    }

    /// fs/pipe.c:552: nothing is put into a buffer of which nothing is left, though its
    /// page may be the next one's.
    fn an_empty_pipe_merges_nothing(s: Subject) {
        let (reader, writer) = s.pipe_of(2, NONBLOCK);
        assert_eq!(put(&writer, &bytes(100)), Ok(100));
        assert_eq!(take(&reader, 100).unwrap(), bytes(100));
        assert_eq!(put(&writer, &bytes(PAGE)), Ok(PAGE));
        assert_eq!(put(&writer, &bytes(PAGE)), Ok(PAGE));
        assert_eq!(queued(&reader), 2 * PAGE);
    }

    /// fs/pipe.c:606, 608: head and tail go round and round the ring.
    fn the_ring_wraps(s: Subject) {
        let (reader, writer) = s.pipe_of(4, NONBLOCK);
        let all = bytes(4 * PAGE);
        let (mut written, mut read) = (Vec::new(), Vec::new());
        for round in 0..50 {
            let part = &all[round..][..1 + (round * 1237) % (3 * PAGE)];
            // What does not fit is not written.
            let length = put(&writer, part).unwrap_or(0);
            written.extend_from_slice(&part[..length]);
            read.extend(take(&reader, 1 + (round * 2741) % (2 * PAGE)).unwrap());
        }
        assert!(read.len() > 30 * PAGE);
        read.extend(take(&reader, 4 * PAGE).unwrap_or_default());
        assert!(read == written);
    }

    /// fs/pipe.c:620 to 631: a write of more than fits that may not block writes whole
    /// pages of it.
    fn a_long_write_is_cut(s: Subject) {
        let (reader, writer) = s.pipe_of(2, NONBLOCK);
        assert_eq!(put(&writer, &bytes(3 * PAGE)), Ok(2 * PAGE));
        assert_eq!(take(&reader, 3 * PAGE).unwrap(), bytes(2 * PAGE));
    }

    /// fs/pipe.c:554 to 559, 627: one of PIPE_BUF bytes or less is written as a whole or not
    /// at all, though there is room for a part of it.
    fn a_short_write_is_not_cut(s: Subject) {
        let (reader, writer) = s.pipe_of(1, NONBLOCK);
        assert_eq!(put(&writer, &bytes(4000)), Ok(4000));
        assert_eq!(put(&writer, &bytes(97)), Err(Errno::AGAIN));
        assert_eq!(put(&writer, &bytes(PAGE)), Err(Errno::AGAIN));
        assert_eq!(queued(&reader), 4000);
    }

    /// fs/pipe.c:599 to 604: a write from where nothing is faults, and puts nothing there,
    /// nor what could be read before the fault.
    fn a_write_from_nowhere_faults(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        let (none, some) = (Memory::new(Access::None), Memory::new(Access::ReadWrite));
        for address in [none.before_end(200), some.before_end(100), Address::NULL] {
            assert_eq!(write_from(&writer, address, 200), Err(Errno::FAULT));
        }
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:602: but whole pages before it count.
    fn pages_before_a_fault_count(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        let memory = Memory::new(Access::ReadWrite);
        let address = memory.store(&bytes(PAGE));
        assert_eq!(write_from(&writer, address, 2 * PAGE), Ok(PAGE));
        assert_eq!(take(&reader, 2 * PAGE).unwrap(), bytes(PAGE));
    }

    /// fs/pipe.c:565, 566: a fault on the way into the last buffer leaves that as it was.
    fn a_merge_that_faults_adds_nothing(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        let memory = Memory::new(Access::ReadWrite);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        let address = memory.store(&[1; 50]);
        assert_eq!(write_from(&writer, address, 100), Err(Errno::FAULT));
        assert_eq!(queued(&reader), 3);
        assert_eq!(put(&writer, b"def"), Ok(3));
        assert_eq!(take(&reader, 100).unwrap(), b"abcdef");
    }

    /// fs/pipe.c:570, 602: if it was in the pages after the merge, the remainder counts.
    fn a_remainder_before_a_fault_counts(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        let memory = Memory::new(Access::ReadWrite);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        let address = memory.store(&bytes(PAGE));
        assert_eq!(write_from(&writer, address, PAGE + 100), Ok(100));
        assert_eq!(take(&reader, 3).unwrap(), b"abc");
        assert_eq!(take(&reader, PAGE).unwrap(), bytes(100));
    }

    /// fs/pipe.c:419 to 422: a read to where nothing is faults, and takes nothing, nor what
    /// could be put there before the fault.
    fn a_read_to_nowhere_takes_nothing(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        let (none, some) = (Memory::new(Access::ReadOnly), Memory::new(Access::ReadWrite));
        assert_eq!(put(&writer, &bytes(200)), Ok(200));
        for address in [none.before_end(200), some.before_end(100), Address::NULL] {
            assert_eq!(read_to(&reader, address, 200), Err(Errno::FAULT));
            assert_eq!(queued(&reader), 200);
        }
        assert_eq!(take(&reader, 200).unwrap(), bytes(200));
    }

    /// fs/pipe.c:420: but buffers before it count; of the one where it happened nothing is
    /// taken.
    fn buffers_before_a_fault_count(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        let memory = Memory::new(Access::ReadWrite);
        assert_eq!(put(&writer, &bytes(4000)), Ok(4000));
        assert_eq!(put(&writer, &[7; 200]), Ok(200));
        assert_eq!(read_to(&reader, memory.before_end(4050), PAGE), Ok(4000));
        assert_eq!(memory.load(4050)[..4000], bytes(4000));
        assert_eq!(take(&reader, 1000).unwrap(), [7; 200]);
    }

    /// fs/pipe.c:449, 627 before any fault: where nothing can be done the address is not
    /// looked at.
    fn what_would_block_does_not_fault(s: Subject) {
        let (reader, writer) = s.pipe_of(1, NONBLOCK);
        let memory = Memory::new(Access::None);
        assert_eq!(read_to(&reader, memory.before_end(8), 8), Err(Errno::AGAIN));
        fill(&writer);
        assert_eq!(write_from(&writer, memory.before_end(8), 8), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:445: with no writer left there is an end, after what was written; and it is
    /// there however often one reads.
    fn the_end_comes_after_the_data(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        drop(writer);
        assert_eq!(take(&reader, 2).unwrap(), b"ab");
        assert_eq!(take(&reader, 2).unwrap(), b"c");
        for _ in 0..2 {
            assert_eq!(take(&reader, 2).unwrap(), b"");
        }
    }

    /// fs/pipe.c:445 before 449: the end is no reason to try again.
    fn the_end_does_not_block(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        drop(writer);
        assert_eq!(take(&reader, 1).unwrap(), b"");
    }

    /// fs/pipe.c:536 to 540: with nobody to read it a write is EPIPE, and SIGPIPE to the
    /// thread that tried.
    fn a_broken_pipe_signals_the_writer(s: Subject) {
        let signal = Blocked::new(libc::SIGPIPE);
        let (reader, writer) = s.pipe();
        drop(reader);
        for _ in 0..2 {
            assert_eq!(put(&writer, b"x"), Err(Errno::PIPE));
            assert_eq!(signal.count(), 1);
        }
        // In a full pipe, or one that may not block, just so.
        let (reader, writer) = s.nonblocking_pipe();
        fill(&writer);
        drop(reader);
        assert_eq!(put(&writer, b"x"), Err(Errno::PIPE));
        assert_eq!(signal.count(), 1);
    }

    /// fs/pipe.c:536 before any copy: the address is not looked at.
    fn a_broken_pipe_does_not_fault(s: Subject) {
        let _signal = Blocked::new(libc::SIGPIPE);
        let (reader, writer) = s.pipe();
        drop(reader);
        let memory = Memory::new(Access::None);
        assert_eq!(write_from(&writer, memory.before_end(8), 8), Err(Errno::PIPE));
    }

    /// fs/pipe.c:538: whose SIGPIPE is ignored, as this program's is, is told by EPIPE alone.
    fn an_ignored_signal_leaves_the_error(s: Subject) {
        let (reader, writer) = s.pipe();
        drop(reader);
        assert_eq!(put(&writer, b"x"), Err(Errno::PIPE));
    }
}

differential! {
    by ipcdemo_tests::pipe::alone;

    /// fs/pipe.c:538: who leaves SIGPIPE as it is dies of it.
    fn a_broken_pipe_kills(s: Subject) {
        let (reader, writer) = s.pipe();
        drop(reader);
        let child = Child::fork(|| {
            // SAFETY: It installs no handler.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            u8::from(put(&writer, b"x").is_ok())
        });
        assert_eq!(child.wait(), -libc::SIGPIPE);
    }
}
