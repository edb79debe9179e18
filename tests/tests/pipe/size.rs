// SPDX-License-Identifier: GPL-2.0

//! The capacity: F_SETPIPE_SZ and F_GETPIPE_SZ.

use std::fs::File;

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{WRITABLE, bytes, fill, put, queued, set_size, size, take};
use ipcdemo_tests::{Errno, Fd, PAGE, Sleeper, differential, poll_now};
use rustix::event::PollFlags;

const ALL: PollFlags = PollFlags::all();
const BLOCK: PipeFlags = PipeFlags::empty();
const NONBLOCK: PipeFlags = PipeFlags::NONBLOCK;
const BYTES: u32 = PAGE as u32;

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:880, 1526: sixteen pages to begin with, asked at either end.
    fn it_begins_with_sixteen_pages(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(size(&reader), Ok(16 * BYTES));
        assert_eq!(size(&writer), Ok(16 * BYTES));
    }

    /// fs/pipe.c:1361: a page is the least.
    fn a_page_is_the_least(s: Subject) {
        let (reader, _writer) = s.pipe();
        for size in [0, 1, BYTES - 1, BYTES] {
            assert_eq!(set_size(&reader, size), Ok(BYTES), "{size}");
        }
    }

    /// fs/pipe.c:559: with one page, a byte that goes round and round has used it up in the end, and there is no other,
    /// though one byte is all there is.
    fn one_page_is_used_up(s: Subject) {
        let (reader, writer) = s.pipe_of(1, NONBLOCK);
        assert_eq!(put(&writer, b"aa"), Ok(2));
        let mut rounds = 0;
        while take(&reader, 1).unwrap() == b"a" && put(&writer, b"a") == Ok(1) {
            rounds += 1;
        }
        assert_eq!((rounds, queued(&reader)), (PAGE - 2, 1));
        assert_eq!(put(&writer, b"a"), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:1364: other sizes are rounded up to a power of two.
    fn sizes_are_rounded_up(s: Subject) {
        let (reader, writer) = s.pipe();
        let sizes = [(BYTES + 1, 2), (3 * BYTES, 4), (100_000, 32), (128 * BYTES + 1, 256)];
        for (asked, got) in sizes {
            assert_eq!(set_size(&writer, asked), Ok(got * BYTES), "{asked}");
            assert_eq!(size(&reader), Ok(got * BYTES));
        }
    }

    /// fs/pipe.c:1357: more than 2^31 cannot be rounded.
    fn too_large_a_size_is_invalid(s: Subject) {
        let (reader, _writer) = s.pipe();
        for size in [(1 << 31) + 1, u32::MAX] {
            assert_eq!(set_size(&reader, size), Err(Errno::INVAL), "{size}");
        }
        assert_eq!(size(&reader), Ok(16 * BYTES));
    }

    /// fs/pipe.c:1431: the size is how much there is room for, and no more.
    fn the_size_is_the_room(s: Subject) {
        for buffers in [1, 4, 32] {
            let (_reader, writer) = s.pipe_of(buffers, NONBLOCK);
            assert_eq!(put(&writer, &bytes(40 * PAGE)), Ok(buffers * PAGE));
            assert_eq!(put(&writer, b"x"), Err(Errno::AGAIN));
        }
    }

    /// fs/pipe.c:1393 to 1396: it cannot become smaller than what it holds, counted in
    /// buffers; then nothing changes.
    fn what_is_in_it_must_fit(s: Subject) {
        let (reader, writer) = s.pipe_with(PipeFlags::DIRECT | NONBLOCK);
        for packet in 0..3 {
            assert_eq!(put(&writer, &[packet]), Ok(1));
        }
        assert_eq!(set_size(&reader, 2 * BYTES), Err(Errno::BUSY));
        assert_eq!(size(&reader), Ok(16 * BYTES));
        assert_eq!(take(&reader, 10).unwrap(), [0]);
        assert_eq!(set_size(&reader, 2 * BYTES), Ok(2 * BYTES));
        assert_eq!(put(&writer, b"x"), Err(Errno::AGAIN));
        assert_eq!(take(&reader, 10).unwrap(), [1]);
        assert_eq!(take(&reader, 10).unwrap(), [2]);
    }

    /// fs/pipe.c:1406 to 1408: what it holds moves along, in one piece; it begins anew at the
    /// ring's start.
    fn the_content_moves_along(s: Subject) {
        let (reader, writer) = s.pipe_of(8, NONBLOCK);
        let content = turn(&reader, &writer, 2, 3);
        for size in [4 * BYTES, 16 * BYTES] {
            assert_eq!(set_size(&writer, size), Ok(size));
            assert_eq!(queued(&reader), content.len());
        }
        assert_eq!(take(&reader, 8 * PAGE).unwrap(), content);
    }

    /// fs/pipe.c:1410 to 1415: or in two, if it lies across the ring's end, be it made
    /// smaller or larger.
    fn wrapped_content_moves_along(s: Subject) {
        for size in [4 * BYTES, 16 * BYTES] {
            let (reader, writer) = s.pipe_of(8, NONBLOCK);
            let content = turn(&reader, &writer, 6, 4);
            assert_eq!(set_size(&writer, size), Ok(size));
            assert_eq!(take(&reader, 8 * PAGE).unwrap(), content);
        }
    }

    /// fs/pipe.c:1411: content that ends where the ring does is in one piece, though its head
    /// is at the start.
    fn content_up_to_the_end_moves_along(s: Subject) {
        let (reader, writer) = s.pipe_of(8, NONBLOCK);
        let content = turn(&reader, &writer, 5, 3);
        assert_eq!(set_size(&writer, 4 * BYTES), Ok(4 * BYTES));
        assert_eq!(take(&reader, 8 * PAGE).unwrap(), content);
    }

    /// fs/pipe.c:1409: a full ring, whose head and tail are at one place, is not taken for an
    /// empty one.
    fn a_full_ring_moves_along(s: Subject) {
        for turned in [0, 3] {
            let (reader, writer) = s.pipe_of(4, NONBLOCK);
            let content = turn(&reader, &writer, turned, 4);
            assert_eq!(set_size(&writer, 8 * BYTES), Ok(8 * BYTES));
            assert_eq!(put(&writer, &[1; 5 * PAGE]), Ok(4 * PAGE));
            assert_eq!(take(&reader, 4 * PAGE).unwrap(), content);
            assert_eq!(take(&reader, 8 * PAGE).unwrap(), [1; 4 * PAGE]);
        }
    }

    /// fs/pipe.c:1403: an empty ring becomes an empty ring, wherever its head was.
    fn an_empty_ring_stays_empty(s: Subject) {
        let (reader, writer) = s.pipe_of(4, NONBLOCK);
        let content = turn(&reader, &writer, 3, 0);
        assert!(content.is_empty());
        assert_eq!(set_size(&writer, 2 * BYTES), Ok(2 * BYTES));
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        assert_eq!(put(&writer, &bytes(3 * PAGE)), Ok(2 * PAGE));
        assert_eq!(take(&reader, 3 * PAGE).unwrap(), bytes(2 * PAGE));
    }

    /// fs/pipe.c:555, 1428: the last buffer is still the last, and can be added to.
    fn the_last_buffer_can_be_added_to(s: Subject) {
        let (reader, writer) = s.pipe_of(4, NONBLOCK);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(set_size(&writer, BYTES), Ok(BYTES));
        assert_eq!(put(&writer, b"def"), Ok(3));
        assert_eq!(take(&reader, PAGE).unwrap(), b"abcdef");
    }

    /// fs/pipe.c:1393: what fits exactly fits, and leaves a full pipe.
    fn an_exact_fit_is_full(s: Subject) {
        let (_reader, writer) = s.pipe();
        assert_eq!(put(&writer, &bytes(2 * PAGE)), Ok(2 * PAGE));
        assert_eq!(poll_now(&writer, ALL), WRITABLE);
        assert_eq!(set_size(&writer, 2 * BYTES), Ok(2 * BYTES));
        assert_eq!(poll_now(&writer, ALL), PollFlags::empty());
    }

    /// fs/pipe.c:1438: more room wakes a writer; it passes on what it leaves (674).
    fn more_room_wakes_writers(s: Subject) {
        let (_reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let writers = [(); 2].map(|()| Sleeper::putting(&writer, &bytes(PAGE)));
        assert_eq!(set_size(&writer, 4 * BYTES), Ok(4 * BYTES));
        for writer in writers {
            assert_eq!(writer.join(), Ok(PAGE));
        }
    }

    /// fs/pipe.c:1438: and who polls for room.
    fn more_room_wakes_a_poller(s: Subject) {
        let (_reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let poller = Sleeper::polling(&writer, PollFlags::OUT);
        assert_eq!(set_size(&writer, 2 * BYTES), Ok(2 * BYTES));
        assert_eq!(poller.join(), Ok(PollFlags::OUT));
    }

    /// fs/pipe.c:1438: a writer is woken by each change of the size, if there is room or
    /// not, and sleeps on if not.
    fn no_more_room_wakes_a_writer_in_vain(s: Subject) {
        let (reader, writer) = s.pipe_of(2, BLOCK);
        fill(&writer);
        let sleeper = Sleeper::putting(&writer, b"x");
        assert_eq!(set_size(&writer, 2 * BYTES), Ok(2 * BYTES));
        sleeper.wait_until_asleep_again();
        take(&reader, PAGE).unwrap();
        assert_eq!(sleeper.join(), Ok(1));
    }

    /// fs/pipe.c:1501, 1503, 1516: nothing else has a size.
    fn other_files_have_no_size(s: Subject) {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        assert_eq!(size(&null), Err(Errno::BADF));
        assert_eq!(set_size(s.counter(0), BYTES), Err(Errno::BADF));
    }

    /// fs/pipe.c:1385: a ring for which there is no memory is ENOMEM.
    fn the_largest_size_has_no_memory(s: Subject) {
        let (reader, _writer) = s.pipe();
        assert_eq!(set_size(&reader, 1 << 31), Err(Errno::NOMEM));
        assert_eq!(size(&reader), Ok(16 * BYTES));
    }
}

/// Turns a ring by some buffers, leaves some in it, and gives their content.
fn turn(reader: &Fd, writer: &Fd, turned: usize, left: usize) -> Vec<u8> {
    assert!(size(reader).unwrap() as usize >= left * PAGE);
    for _ in 0..turned {
        assert_eq!(put(writer, &bytes(PAGE)), Ok(PAGE));
        assert_eq!(take(reader, PAGE).unwrap(), bytes(PAGE));
    }
    let content = bytes(left * PAGE);
    assert_eq!(put(writer, &content), Ok(content.len()));
    content
}
