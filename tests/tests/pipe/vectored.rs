// SPDX-License-Identifier: GPL-2.0

//! Several segments in one call, and the flags of preadv2 and pwritev2.

use std::io::{IoSlice, IoSliceMut};

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{Blocked, bytes, fill, put, queued, take};
use ipcdemo_tests::{Errno, Fd, PAGE, differential};
use rustix::io::{ReadWriteFlags, preadv, preadv2, pwritev, pwritev2, readv, writev};

/// The offset that means the file's own position.
const CURRENT: u64 = u64::MAX;

const NOWAIT: ReadWriteFlags = ReadWriteFlags::NOWAIT;

/// RWF_NOSIGNAL of linux/fs.h.
const NOSIGNAL: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x100);

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:598, copy_page_from_iter: segments are put together, and empty ones are
    /// passed over. It is one write: one packet.
    fn a_write_gathers(s: Subject) {
        let (reader, writer) = s.pipe_with(PipeFlags::DIRECT);
        let parts = [&b""[..], b"ab", b"", b"c", b"def", b""];
        assert_eq!(writev(&writer, &parts.map(IoSlice::new)), Ok(6));
        assert_eq!(put(&writer, b"g"), Ok(1));
        assert_eq!(take(&reader, 100).unwrap(), b"abcdef");
    }

    /// fs/pipe.c:418, copy_page_to_iter: a read fills segment after segment.
    fn a_read_scatters(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"abcdef"), Ok(6));
        let (mut first, mut empty, mut second, mut third) = ([0; 2], [0; 0], [0; 3], [b'.'; 4]);
        let mut segments = [
            IoSliceMut::new(&mut first),
            IoSliceMut::new(&mut empty),
            IoSliceMut::new(&mut second),
            IoSliceMut::new(&mut third),
        ];
        assert_eq!(readv(&reader, &mut segments), Ok(6));
        assert_eq!((&first, &second, &third), (b"ab", b"cde", b"f..."));
    }

    /// fs/pipe.c:353, 531: segments that are all empty are nothing.
    fn empty_segments_are_nothing(s: Subject) {
        let (reader, writer) = s.pipe();
        let mut segments = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
        assert_eq!(readv(&reader, &mut segments), Ok(0));
        drop(reader);
        assert_eq!(writev(&writer, &[IoSlice::new(b""); 3]), Ok(0));
        assert_eq!(writev(&writer, &[]), Ok(0));
    }

    /// fs/pipe.c:598, 630: pages are filled across segments, and the count of a write that
    /// is cut ends inside of one.
    fn a_cut_ends_inside_a_segment(s: Subject) {
        let (reader, writer) = s.pipe_of(1, PipeFlags::NONBLOCK);
        let (first, second) = (bytes(3000), [7; 3000]);
        let segments = [IoSlice::new(&first), IoSlice::new(&second)];
        assert_eq!(writev(&writer, &segments), Ok(PAGE));
        assert_eq!(take(&reader, 3000).unwrap(), first);
        assert_eq!(take(&reader, 3000).unwrap(), vec![7; PAGE - 3000]);
    }

    /// fs/pipe.c:553, 564: what is beyond the whole pages may come from several segments.
    fn a_remainder_gathers(s: Subject) {
        let (reader, writer) = s.pipe_of(2, PipeFlags::NONBLOCK);
        let all = bytes(1 + 2000 + PAGE);
        assert_eq!(put(&writer, &all[..1]), Ok(1));
        let parts = [&all[1..500], &all[500..1500], &all[1500..]];
        assert_eq!(writev(&writer, &parts.map(IoSlice::new)), Ok(2000 + PAGE));
        assert_eq!(take(&reader, 2 * PAGE).unwrap(), all);
    }

    /// fs/pipe.c:1049, stream_open: a call with a position is refused before anything else.
    fn positions_are_refused(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(pwritev(&writer, &[IoSlice::new(b"x")], 0), Err(Errno::SPIPE));
        assert_eq!(preadv(&reader, &mut [IoSliceMut::new(&mut [0])], 0), Err(Errno::SPIPE));
        assert_eq!(write_with(&writer, b"x", 5, NOWAIT), Err(Errno::SPIPE));
    }

    /// fs/pipe.c:450: RWF_NOWAIT on an empty pipe that blocks is EAGAIN; what is there is read.
    fn a_read_may_decline_to_wait(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(read_with(&reader, NOWAIT), Err(Errno::AGAIN));
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(read_with(&reader, NOWAIT).unwrap(), b"abc");
        drop(writer);
        assert_eq!(read_with(&reader, NOWAIT).unwrap(), b"");
    }

    /// fs/pipe.c:628: so is a write to a full one; what fits is written.
    fn a_write_may_decline_to_wait(s: Subject) {
        let (reader, writer) = s.pipe_of(2, PipeFlags::empty());
        assert_eq!(write_with(&writer, &bytes(3 * PAGE), CURRENT, NOWAIT), Ok(2 * PAGE));
        assert_eq!(write_with(&writer, b"x", CURRENT, NOWAIT), Err(Errno::AGAIN));
        assert_eq!(queued(&reader), 2 * PAGE);
    }

    /// fs/pipe.c:537: RWF_NOSIGNAL spares the writer the signal, not the error.
    fn a_write_may_decline_the_signal(s: Subject) {
        let signal = Blocked::new(libc::SIGPIPE);
        let (reader, writer) = s.pipe();
        drop(reader);
        assert_eq!(write_with(&writer, b"x", CURRENT, NOSIGNAL), Err(Errno::PIPE));
        assert_eq!(signal.count(), 0);
        assert_eq!(write_with(&writer, b"x", CURRENT, ReadWriteFlags::empty()), Err(Errno::PIPE));
        assert_eq!(signal.count(), 1);
    }

    /// include/linux/fs.h, kiocb_set_rw_flags: flags that mean nothing here are taken.
    fn other_flags_are_taken(s: Subject) {
        let (reader, writer) = s.pipe();
        for flags in [ReadWriteFlags::HIPRI, ReadWriteFlags::DSYNC, ReadWriteFlags::APPEND] {
            assert_eq!(write_with(&writer, b"x", CURRENT, flags), Ok(1), "{flags:?}");
            assert_eq!(read_with(&reader, ReadWriteFlags::HIPRI).unwrap(), b"x");
        }
    }

    /// include/linux/fs.h, kiocb_set_rw_flags: those that promise what a pipe has not, and
    /// those that nobody knows, are refused.
    fn promises_are_not_made(s: Subject) {
        let (_reader, writer) = s.pipe();
        for bit in [0x40, 0x80, 0x200, 1 << 31] {
            let flags = ReadWriteFlags::from_bits_retain(bit);
            let result = write_with(&writer, b"x", CURRENT, flags);
            assert_eq!(result, Err(Errno::OPNOTSUPP), "{bit:#x}");
        }
        assert_eq!(queued(&writer), 0);
    }

    /// fs/pipe.c:418 to 442: a read to several segments crosses several buffers.
    fn segments_and_buffers_cross(s: Subject) {
        let (reader, writer) = s.pipe_of(4, PipeFlags::NONBLOCK);
        let all = fill(&writer);
        let mut parts = [vec![0; 5000], vec![0; 100], vec![0; 9000]];
        let mut segments = parts.each_mut().map(|part| IoSliceMut::new(part));
        assert_eq!(readv(&reader, &mut segments), Ok(14_100));
        assert_eq!(parts.concat(), all[..14_100]);
        assert_eq!(queued(&reader), all.len() - 14_100);
    }
}

fn read_with(reader: &Fd, flags: ReadWriteFlags) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 100];
    let length = preadv2(reader, &mut [IoSliceMut::new(&mut buffer)], CURRENT, flags)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn write_with(
    writer: &Fd,
    bytes: &[u8],
    offset: u64,
    flags: ReadWriteFlags,
) -> Result<usize, Errno> {
    pwritev2(writer, &[IoSlice::new(bytes)], offset, flags)
}
