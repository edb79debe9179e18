// SPDX-License-Identifier: GPL-2.0

//! What goes in, what comes out, and what is refused.

use ipcdemo_client::CounterFlags;
use ipcdemo_tests::{Access, Address, Errno, MAX, Memory, count, read, read_to, write, write_from};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};

use crate::differential;

differential! {
    /// 397: the initial value is the first count.
    fn it_begins_at_the_initial_value(s: Subject) {
        assert_eq!(read(s.counter(7)), Ok(7));
    }

    /// 379: the initial value has 32 bits, all of them usable.
    fn the_initial_value_is_unsigned(s: Subject) {
        assert_eq!(read(s.counter(u32::MAX)), Ok(u32::MAX.into()));
    }

    /// 388, 389: a flag that eventfd2 does not know is refused.
    fn unknown_flags_are_refused(s: Subject) {
        let known = CounterFlags::all().bits();
        for bit in (0..u32::BITS).map(|bit| 1 << bit).filter(|bit| bit & known == 0) {
            assert_eq!(s.create(0, bit).err(), Some(Errno::INVAL), "flag {bit:#x}");
        }
    }

    /// 400, 401: the descriptor is open for both directions, and nothing else.
    fn it_is_open_for_reading_and_writing(s: Subject) {
        assert_eq!(fcntl_getfl(s.counter(0)), Ok(OFlags::RDWR));
        assert_eq!(fcntl_getfl(s.nonblocking(0)), Ok(OFlags::RDWR | OFlags::NONBLOCK));
    }

    /// 403: close-on-exec is the descriptor's flag, set only if asked for.
    fn it_is_closed_on_exec_only_if_asked(s: Subject) {
        let cloexec = CounterFlags::CLOEXEC.bits();
        assert_eq!(fcntl_getfd(s.create(0, cloexec).unwrap()), Ok(FdFlags::CLOEXEC));
        assert_eq!(fcntl_getfd(s.create(0, 0).unwrap()), Ok(FdFlags::empty()));
    }

    /// 180, 181: a read takes everything.
    fn a_read_resets(s: Subject) {
        let counter = s.nonblocking(3);
        assert_eq!(read(&counter), Ok(3));
        assert_eq!(read(&counter), Err(Errno::AGAIN));
    }

    /// 180, 181: a semaphore's read takes one.
    fn a_semaphore_read_takes_one(s: Subject) {
        let counter = s.with(2, CounterFlags::SEMAPHORE | CounterFlags::NONBLOCK);
        assert_eq!(read(&counter), Ok(1));
        assert_eq!(count(&counter), 1);
        assert_eq!(read(&counter), Ok(1));
        assert_eq!(read(&counter), Err(Errno::AGAIN));
    }

    /// 271: writes add up.
    fn writes_add_up(s: Subject) {
        let counter = s.counter(1);
        for value in [2, 3, 1 << 40] {
            assert_eq!(write(&counter, value), Ok(()));
        }
        assert_eq!(read(&counter), Ok(6 + (1 << 40)));
    }

    /// 262: zero may be written, and adds nothing.
    fn zero_may_be_written(s: Subject) {
        let counter = s.nonblocking(0);
        assert_eq!(write(&counter, 0), Ok(()));
        assert_eq!(read(&counter), Err(Errno::AGAIN));
    }

    /// 262: the count may become ULLONG_MAX - 1 at once.
    fn the_largest_count_fits(s: Subject) {
        let counter = s.nonblocking(0);
        assert_eq!(write(&counter, MAX), Ok(()));
        assert_eq!(read(&counter), Ok(MAX));
    }

    /// 261, 264: one more than that would block, and changes nothing.
    fn an_overflow_would_block(s: Subject) {
        let counter = s.nonblocking(2);
        assert_eq!(write(&counter, MAX - 1), Err(Errno::AGAIN));
        assert_eq!(count(&counter), 2);
        assert_eq!(write(&counter, MAX - 2), Ok(()));
        assert_eq!(write(&counter, 1), Err(Errno::AGAIN));
        assert_eq!(read(&counter), Ok(MAX));
    }

    /// 262: adding nothing to a full counter fits.
    fn zero_fits_a_full_counter(s: Subject) {
        let counter = s.full(CounterFlags::NONBLOCK);
        assert_eq!(write(&counter, 0), Ok(()));
        assert_eq!(read(&counter), Ok(MAX));
    }

    /// 258, 259: ULLONG_MAX itself is no number to add.
    fn the_largest_number_is_invalid(s: Subject) {
        let counter = s.counter(0);
        assert_eq!(write(&counter, u64::MAX), Err(Errno::INVAL));
        assert_eq!(count(&counter), 0);
    }

    /// 258 before 262: that is said even where it would block.
    fn an_invalid_number_never_blocks(s: Subject) {
        let counter = s.full(CounterFlags::empty());
        assert_eq!(write(&counter, u64::MAX), Err(Errno::INVAL));
    }

    /// 223, 227: nothing to read would block.
    fn an_empty_read_would_block(s: Subject) {
        assert_eq!(read(s.nonblocking(0)), Err(Errno::AGAIN));
    }

    /// 220, 221: a buffer that is too short is invalid, and nothing is taken.
    fn short_reads_are_invalid(s: Subject) {
        let counter = s.counter(5);
        let memory = Memory::new(Access::ReadWrite);
        for length in 0..8 {
            let result = read_to(&counter, memory.before_end(8), length);
            assert_eq!(result, Err(Errno::INVAL), "{length} bytes");
        }
        assert_eq!(read(&counter), Ok(5));
    }

    /// 220 before 223: also where nothing is to be had.
    fn a_short_read_never_blocks(s: Subject) {
        let memory = Memory::new(Access::ReadWrite);
        for counter in [s.counter(0), s.nonblocking(0)] {
            let result = read_to(&counter, memory.before_end(8), 4);
            assert_eq!(result, Err(Errno::INVAL));
        }
    }

    /// 241, 244: a long buffer gets eight bytes, and keeps the rest as it was.
    fn long_reads_give_eight_bytes(s: Subject) {
        let memory = Memory::new(Access::ReadWrite);
        let address = memory.store(&[0xee; 24]);
        assert_eq!(read_to(s.counter(9), address, 24), Ok(8));
        let mut expected = [0xee; 24];
        expected[..8].copy_from_slice(&9_u64.to_ne_bytes());
        assert_eq!(memory.load(24), expected);
    }

    /// 254, 255: a write is eight bytes; neither fewer nor more.
    fn a_write_is_eight_bytes(s: Subject) {
        let counter = s.counter(0);
        let memory = Memory::new(Access::ReadWrite);
        let address = memory.store(&[1; 32]);
        for length in (0..=32).filter(|&length| length != 8) {
            let result = write_from(&counter, address, length);
            assert_eq!(result, Err(Errno::INVAL), "{length} bytes");
        }
        assert_eq!(count(&counter), 0);
    }

    /// 254 before 256: the length is judged before the buffer is touched.
    fn the_length_is_judged_first(s: Subject) {
        let counter = s.counter(0);
        let memory = Memory::new(Access::None);
        for length in [4, 9] {
            let result = write_from(&counter, memory.before_end(16), length);
            assert_eq!(result, Err(Errno::INVAL), "{length} bytes");
        }
    }

    /// 256, 257: a write from where nothing is faults, and changes nothing.
    fn a_write_from_nowhere_faults(s: Subject) {
        let counter = s.counter(1);
        let memory = Memory::new(Access::None);
        for address in [memory.before_end(8), Address::NULL] {
            assert_eq!(write_from(&counter, address, 8), Err(Errno::FAULT));
        }
        assert_eq!(count(&counter), 1);
    }

    /// 256: half a number is none.
    fn a_write_from_the_edge_faults(s: Subject) {
        let counter = s.counter(1);
        let memory = Memory::new(Access::ReadWrite);
        assert_eq!(write_from(&counter, memory.before_end(4), 8), Err(Errno::FAULT));
        assert_eq!(count(&counter), 1);
    }

    /// 256 before 262: a fault is told even where the write would block.
    fn a_faulting_write_never_blocks(s: Subject) {
        let counter = s.full(CounterFlags::empty());
        let memory = Memory::new(Access::None);
        assert_eq!(write_from(&counter, memory.before_end(8), 8), Err(Errno::FAULT));
    }

    /// 235, 241, 242: a read to where nothing is faults when the count is already
    /// taken: it is lost.
    fn a_read_to_nowhere_loses_the_count(s: Subject) {
        let counter = s.counter(6);
        let memory = Memory::new(Access::None);
        assert_eq!(read_to(&counter, memory.before_end(8), 8), Err(Errno::FAULT));
        assert_eq!(count(&counter), 0);
    }

    /// 241, 242: to a page that may only be read, just so; a semaphore loses one.
    fn a_read_to_a_read_only_page_loses_one(s: Subject) {
        let counter = s.semaphore(6);
        let memory = Memory::new(Access::ReadOnly);
        assert_eq!(read_to(&counter, memory.before_end(8), 8), Err(Errno::FAULT));
        assert_eq!(count(&counter), 5);
    }

    /// 241: four bytes of eight copied are a fault too.
    fn a_read_to_the_edge_loses_the_count(s: Subject) {
        let counter = s.counter(6);
        let memory = Memory::new(Access::ReadWrite);
        assert_eq!(read_to(&counter, memory.before_end(4), 8), Err(Errno::FAULT));
        assert_eq!(count(&counter), 0);
    }

    /// The kernel's core looks at the address range before it asks the file, so
    /// here the count stays, and EFAULT comes before EINVAL.
    fn an_address_out_of_range_is_refused_first(s: Subject) {
        let counter = s.counter(6);
        for length in [4, 8] {
            assert_eq!(read_to(&counter, Address::KERNEL, length), Err(Errno::FAULT));
            assert_eq!(write_from(&counter, Address::KERNEL, length), Err(Errno::FAULT));
        }
        assert_eq!(count(&counter), 6);
    }
}
