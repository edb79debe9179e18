// SPDX-License-Identifier: GPL-2.0

//! Several buffers in one call, positions, and the flags of preadv2 and pwritev2.
//!
//! eventfd has `read_iter` and `write` (308, 309): a gathering read is one read,
//! but each segment of a write is a write of its own.

use std::io::{IoSlice, IoSliceMut};

use ipcdemo_client::CounterFlags;
use ipcdemo_tests::{Errno, Fd, MAX, count, read, write};
use rustix::io::{ReadWriteFlags, pread, preadv, preadv2, pwrite, pwritev2, readv, writev};

use crate::differential;

/// The offset that means the file's own position.
const CURRENT: u64 = u64::MAX;

differential! {
    /// 241: a read fills segment after segment.
    fn a_read_scatters(s: Subject) {
        let value = 0x0102_0304_0506_0708;
        let counter = s.counter(0);
        assert_eq!(write(&counter, value), Ok(()));
        let (mut first, mut second, mut third) = ([0; 3], [0; 4], [0xee; 4]);
        let mut segments = [
            IoSliceMut::new(&mut first),
            IoSliceMut::new(&mut second),
            IoSliceMut::new(&mut third),
        ];
        assert_eq!(readv(&counter, &mut segments), Ok(8));
        let bytes = value.to_ne_bytes();
        assert_eq!(first, bytes[..3]);
        assert_eq!(second, bytes[3..7]);
        assert_eq!(third, [bytes[7], 0xee, 0xee, 0xee]);
    }

    /// 220: what counts is the sum of the segments.
    fn a_scattered_read_needs_eight_bytes(s: Subject) {
        let counter = s.counter(1);
        let (mut first, mut second) = ([0; 4], [0; 3]);
        let mut segments = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(readv(&counter, &mut segments), Err(Errno::INVAL));
        assert_eq!(count(&counter), 1);
    }

    /// 220, 244: two whole buffers get one count, not two.
    fn a_scattered_read_is_one_read(s: Subject) {
        let counter = s.semaphore(2);
        let (mut first, mut second) = ([0; 8], [0xee; 8]);
        let mut segments = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(readv(&counter, &mut segments), Ok(8));
        assert_eq!((u64::from_ne_bytes(first), second), (1, [0xee; 8]));
        assert_eq!(count(&counter), 1);
    }

    /// 254, 271: two segments of eight bytes are two writes.
    fn a_gathered_write_is_several(s: Subject) {
        let counter = s.counter(0);
        assert_eq!(write_values(&counter, &[3, 4]), Ok(16));
        assert_eq!(read(&counter), Ok(7));
    }

    /// 254: two halves are not a whole.
    fn halves_do_not_add_up(s: Subject) {
        let counter = s.counter(0);
        let half = [0; 4];
        let segments = [IoSlice::new(&half), IoSlice::new(&half)];
        assert_eq!(writev(&counter, &segments), Err(Errno::INVAL));
        assert_eq!(count(&counter), 0);
    }

    /// 254: a bad segment after a good one: the good one counts.
    fn a_bad_segment_ends_the_write(s: Subject) {
        let counter = s.counter(0);
        let (good, bad) = (5_u64.to_ne_bytes(), [0; 4]);
        let segments = [IoSlice::new(&good), IoSlice::new(&bad), IoSlice::new(&good)];
        assert_eq!(writev(&counter, &segments), Ok(8));
        assert_eq!(read(&counter), Ok(5));
    }

    /// 261: so it is with one that would block.
    fn a_full_counter_ends_the_write(s: Subject) {
        let counter = s.nonblocking(1);
        assert_eq!(write_values(&counter, &[2, MAX, 4]), Ok(8));
        assert_eq!(read(&counter), Ok(3));
    }

    /// No segments, no write: the file is not even asked.
    fn no_segments_no_write(s: Subject) {
        let counter = s.full(CounterFlags::NONBLOCK);
        assert_eq!(writev(&counter, &[]), Ok(0));
        assert_eq!(readv(&counter, &mut []), Ok(0));
        assert_eq!(count(&counter), MAX);
    }

    /// 403, 405: without FMODE_PREAD and FMODE_PWRITE there are no positions.
    fn there_are_no_positions(s: Subject) {
        let counter = s.counter(1);
        let mut buffer = [0; 8];
        assert_eq!(pread(&counter, &mut buffer, 0), Err(Errno::SPIPE));
        assert_eq!(pwrite(&counter, &buffer, 0), Err(Errno::SPIPE));
        let mut segments = [IoSliceMut::new(&mut buffer)];
        assert_eq!(preadv(&counter, &mut segments, 0), Err(Errno::SPIPE));
        assert_eq!(count(&counter), 1);
    }

    /// 225, 405: RWF_NOWAIT on a counter that blocks.
    fn a_read_may_decline_to_wait(s: Subject) {
        let counter = s.counter(0);
        assert_eq!(read_with(&counter, ReadWriteFlags::NOWAIT), Err(Errno::AGAIN));
        assert_eq!(write(&counter, 6), Ok(()));
        assert_eq!(read_with(&counter, ReadWriteFlags::NOWAIT), Ok(6));
    }

    /// 308: with `read_iter`, flags that mean nothing here are taken.
    fn a_read_takes_other_flags(s: Subject) {
        let counter = s.counter(6);
        assert_eq!(read_with(&counter, ReadWriteFlags::HIPRI), Ok(6));
    }

    /// 309: with `write` alone, no flag can be honored.
    fn a_write_takes_no_flags(s: Subject) {
        let counter = s.counter(0);
        for flags in [ReadWriteFlags::NOWAIT, ReadWriteFlags::DSYNC] {
            assert_eq!(write_with(&counter, flags), Err(Errno::OPNOTSUPP), "{flags:?}");
        }
        assert_eq!(count(&counter), 0);
        assert_eq!(write_with(&counter, ReadWriteFlags::empty()), Ok(8));
        assert_eq!(count(&counter), 1);
    }
}

fn write_values(counter: &Fd, values: &[u64]) -> Result<usize, Errno> {
    let bytes: Vec<_> = values.iter().map(|value| value.to_ne_bytes()).collect();
    let segments: Vec<_> = bytes.iter().map(|bytes| IoSlice::new(bytes)).collect();
    writev(counter, &segments)
}

fn read_with(counter: &Fd, flags: ReadWriteFlags) -> Result<u64, Errno> {
    let mut value = [0; 8];
    let length = preadv2(counter, &mut [IoSliceMut::new(&mut value)], CURRENT, flags)?;
    assert_eq!(length, 8);
    Ok(u64::from_ne_bytes(value))
}

fn write_with(counter: &Fd, flags: ReadWriteFlags) -> Result<usize, Errno> {
    pwritev2(
        counter,
        &[IoSlice::new(&1_u64.to_ne_bytes())],
        CURRENT,
        flags,
    )
}
