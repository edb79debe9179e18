// SPDX-License-Identifier: GPL-2.0

//! Packet mode: O_DIRECT at the write end.

use std::io::IoSliceMut;

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{WRITABLE, bytes, fill, put, queued, take};
use ipcdemo_tests::{Access, Errno, Memory, PAGE, Sleeper, differential, poll_now, read_to};
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::readv;

const DIRECT: PipeFlags = PipeFlags::DIRECT;
const NONBLOCK: PipeFlags = PipeFlags::NONBLOCK;

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:429, 613: each write is a packet, and each read takes one.
    fn a_read_takes_one_packet(s: Subject) {
        let (reader, writer) = s.pipe_with(DIRECT);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(put(&writer, b"de"), Ok(2));
        assert_eq!(take(&reader, 100).unwrap(), b"abc");
        assert_eq!(take(&reader, 100).unwrap(), b"de");
    }

    /// fs/pipe.c:430, 431: of a packet that is longer than the read, the rest is dropped.
    fn a_short_read_drops_the_rest(s: Subject) {
        let (reader, writer) = s.pipe_with(DIRECT);
        assert_eq!(put(&writer, b"abcdef"), Ok(6));
        assert_eq!(put(&writer, b"gh"), Ok(2));
        assert_eq!(take(&reader, 2).unwrap(), b"ab");
        assert_eq!(queued(&reader), 2);
        assert_eq!(take(&reader, 2).unwrap(), b"gh");
    }

    /// fs/pipe.c:353 before that: a read of nothing drops nothing.
    fn a_read_of_nothing_drops_nothing(s: Subject) {
        let (reader, writer) = s.pipe_with(DIRECT);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(take(&reader, 0).unwrap(), b"");
        assert_eq!(take(&reader, 3).unwrap(), b"abc");
    }

    /// fs/pipe.c:558, 613: packets are not put together: each has a buffer, be it for a byte.
    fn a_packet_has_a_buffer(s: Subject) {
        let (reader, writer) = s.pipe_with(DIRECT | NONBLOCK);
        for packet in 0..16 {
            assert_eq!(put(&writer, &[packet]), Ok(1));
        }
        assert_eq!(put(&writer, b"x"), Err(Errno::AGAIN));
        assert_eq!(queued(&reader), 16);
        for packet in 0..16 {
            assert_eq!(take(&reader, 100).unwrap(), [packet]);
        }
    }

    /// fs/pipe.c:598, 612: a write of more than a page is several packets, of a page each.
    fn a_long_write_is_several_packets(s: Subject) {
        let (reader, writer) = s.pipe_with(DIRECT);
        let all = bytes(2 * PAGE + 10);
        assert_eq!(put(&writer, &all), Ok(all.len()));
        assert_eq!(take(&reader, all.len()).unwrap(), all[..PAGE]);
        assert_eq!(take(&reader, all.len()).unwrap(), all[PAGE..2 * PAGE]);
        assert_eq!(take(&reader, all.len()).unwrap(), all[2 * PAGE..]);
    }

    /// fs/pipe.c:531: a write of nothing is no packet.
    fn nothing_is_no_packet(s: Subject) {
        let (reader, writer) = s.pipe_with(DIRECT | NONBLOCK);
        assert_eq!(put(&writer, b""), Ok(0));
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
    }

    /// fs/pipe.c:430: a packet is scattered to several segments, and the next one not.
    fn a_packet_is_scattered(s: Subject) {
        let (reader, writer) = s.pipe_with(DIRECT);
        assert_eq!(put(&writer, b"abcde"), Ok(5));
        assert_eq!(put(&writer, b"fg"), Ok(2));
        let (mut first, mut second) = ([0; 3], [b'.'; 4]);
        let mut segments = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(readv(&reader, &mut segments), Ok(5));
        assert_eq!((&first, &second), (b"abc", b"de.."));
    }

    /// fs/pipe.c:612: what F_SETFL makes of O_DIRECT holds for the writes that follow.
    fn packet_mode_can_be_turned_on_and_off(s: Subject) {
        let (reader, writer) = s.pipe();
        fcntl_setfl(&writer, OFlags::DIRECT).unwrap();
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(put(&writer, b"b"), Ok(1));
        fcntl_setfl(&writer, OFlags::empty()).unwrap();
        assert_eq!(put(&writer, b"c"), Ok(1));
        assert_eq!(put(&writer, b"d"), Ok(1));
        assert_eq!(take(&reader, 100).unwrap(), b"a");
        assert_eq!(take(&reader, 100).unwrap(), b"b");
        assert_eq!(take(&reader, 100).unwrap(), b"cd");
    }

    /// fs/pipe.c:558: it is the buffer that says whether something may be added, not the
    /// writer: the first packet after a stream joins the stream.
    fn a_packet_may_join_a_stream(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"a"), Ok(1));
        fcntl_setfl(&writer, OFlags::DIRECT).unwrap();
        assert_eq!(put(&writer, b"b"), Ok(1));
        assert_eq!(put(&writer, &bytes(PAGE)), Ok(PAGE));
        assert_eq!(put(&writer, b"c"), Ok(1));
        assert_eq!(take(&reader, 2 + PAGE + 1).unwrap(), [&b"ab"[..], &bytes(PAGE)].concat());
        assert_eq!(take(&reader, 100).unwrap(), b"c");
    }

    /// fs/pipe.c:430, 439: a read goes on from a stream to a packet, and ends there, whether
    /// the packet fits or is cut.
    fn a_packet_ends_a_read(s: Subject) {
        let packet = bytes(PAGE);
        for length in [PAGE + 100, 12] {
            let (reader, writer) = s.pipe();
            assert_eq!(put(&writer, b"ab"), Ok(2));
            fcntl_setfl(&writer, OFlags::DIRECT).unwrap();
            // A shorter one would join the stream.
            assert_eq!(put(&writer, &packet), Ok(PAGE));
            assert_eq!(put(&writer, b"cd"), Ok(2));
            let got = take(&reader, length).unwrap();
            assert_eq!(got[..2], *b"ab");
            assert_eq!(got[2..], packet[..PAGE.min(length - 2)]);
            assert_eq!(take(&reader, length).unwrap(), b"cd");
        }
    }

    /// fs/pipe.c:612: the flag at the read end means nothing.
    fn the_read_end_has_no_mode(s: Subject) {
        let (reader, writer) = s.pipe();
        fcntl_setfl(&reader, OFlags::DIRECT).unwrap();
        assert_eq!(put(&writer, b"ab"), Ok(2));
        assert_eq!(put(&writer, b"c"), Ok(1));
        assert_eq!(take(&reader, 1).unwrap(), b"a");
        assert_eq!(take(&reader, 100).unwrap(), b"bc");
    }

    /// fs/pipe.c:419 before 429: a packet that could not be read is there still, all of it.
    fn a_fault_keeps_the_packet(s: Subject) {
        let (reader, writer) = s.pipe_with(DIRECT);
        let memory = Memory::new(Access::ReadWrite);
        assert_eq!(put(&writer, b"abcdef"), Ok(6));
        assert_eq!(read_to(&reader, memory.before_end(2), 4), Err(Errno::FAULT));
        assert_eq!(take(&reader, 100).unwrap(), b"abcdef");
    }

    /// fs/pipe.c:431, 435: a packet's buffer is free once something of it was read: that
    /// wakes who waits for room.
    fn a_cut_packet_makes_room(s: Subject) {
        let (reader, writer) = s.pipe_of(1, DIRECT);
        fill(&writer);
        let poller = Sleeper::polling(&writer, PollFlags::OUT);
        assert_eq!(take(&reader, 1).unwrap().len(), 1);
        assert_eq!(poller.join(), Ok(PollFlags::OUT));
        assert_eq!(poll_now(&writer, PollFlags::all()), WRITABLE);
    }

    /// fs/pipe.c:627: a packet that does not fit waits as a whole.
    fn a_writer_waits_for_its_packet(s: Subject) {
        let (reader, writer) = s.pipe_of(1, DIRECT);
        assert_eq!(put(&writer, b"a"), Ok(1));
        let sleeper = Sleeper::putting(&writer, b"bc");
        assert_eq!(take(&reader, 100).unwrap(), b"a");
        assert_eq!(sleeper.join(), Ok(2));
        assert_eq!(take(&reader, 100).unwrap(), b"bc");
    }
}
