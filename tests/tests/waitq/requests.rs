// SPDX-License-Identifier: GPL-2.0

//! Requests that make no sense, or come from where they cannot be answered.

use std::mem::offset_of;
use std::sync::Arc;
use std::time::Duration;

use ipcdemo_client::{Keys, Reason, WaitOptions, Waitq, WakeOptions, monotonic, raw};
use ipcdemo_tests::{
    Access, Address, Errno, Memory, Sleeper, Waiting, compat, listed, serial, until, waitq,
};

/// Every request, with the size of its struct's first version.
const REQUESTS: [(u32, u32); 3] = [
    (raw::IPCDEMO_IOC_WAIT, raw::IPCDEMO_WAIT_SIZE_VER0),
    (raw::IPCDEMO_IOC_WAKE, raw::IPCDEMO_WAKE_SIZE_VER0),
    (raw::IPCDEMO_IOC_WAITERS, raw::IPCDEMO_WAITERS_SIZE_VER0),
];

/// The size of a waiter as this version knows it.
const SIZE: usize = size_of::<raw::ipcdemo_waiter>();

serial! {
    /// A number that stands for nothing is ENOTTY, and so is a request to make things:
    /// on a queue of one's own and on the shared one.
    fn unknown_requests_are_refused() {
        for queue in [waitq(), Arc::new(Waitq::open_shared(false).unwrap())] {
            let known = REQUESTS.map(|(request, _)| request & 0xff);
            for number in (0..=0xff).filter(|number| !known.contains(number)) {
                let request = (raw::IPCDEMO_IOC_WAIT & !0xff) | number;
                let result = ioctl(&queue, request, Address::NULL);
                assert_eq!(result, Err(Errno::NOTTY), "request {request:#x}");
            }
            for (request, _) in REQUESTS {
                for other in [request ^ 0x100, request & !(1 << 30), request & !(3 << 30)] {
                    let result = ioctl(&queue, other, Address::NULL);
                    assert_eq!(result, Err(Errno::NOTTY), "request {other:#x}");
                }
            }
        }
    }

    /// A WAIT that contradicts itself, or asks for what there is not, is EINVAL, and
    /// nobody sleeps.
    fn senseless_waits_are_refused() {
        const SECOND: Duration = Duration::from_secs(1);
        let queue = waitq();
        let plain = WaitOptions::new();
        let of = |options: WaitOptions| options.args();
        let flagged = |flags| raw::ipcdemo_wait_args { flags, ..of(plain) };
        let mut senseless = vec![
            of(plain.timeout(SECOND).deadline(SECOND)),
            of(plain.killable().uninterruptible().timeout(SECOND)),
            of(plain.uninterruptible()),
            of(plain.uninterruptible().timeout(10 * SECOND + Duration::from_nanos(1))),
            of(plain.uninterruptible().timeout(Duration::MAX)),
            of(plain.uninterruptible().deadline(monotonic() + 11 * SECOND)),
            of(plain.uninterruptible().deadline(Duration::MAX)),
            of(plain.linger_us(raw::IPCDEMO_LINGER_MAX_US + 1)),
            of(plain.linger_us(u32::MAX)),
            raw::ipcdemo_wait_args { reserved: 1, ..of(plain) },
            raw::ipcdemo_wait_args { reserved: 1 << 31, ..of(plain) },
        ];
        senseless.extend((7..32).map(|bit| flagged(1 << bit)));
        senseless.extend((14..32).map(|bit| of(plain.mask(Keys::from_bits_retain(1 << bit)))));
        for args in senseless {
            let (result, left) = send(&queue, raw::IPCDEMO_IOC_WAIT, &wait_bytes(&args));
            assert_eq!(result, Err(Errno::INVAL), "{args:?}");
            assert_eq!(left, wait_bytes(&args), "nothing is told");
        }
        // The most of each is no mistake.
        let most = plain
            .uninterruptible()
            .timeout(10 * SECOND)
            .linger_us(raw::IPCDEMO_LINGER_MAX_US)
            .mask(Keys::from_bits_retain(raw::IPCDEMO_KEY_ALL));
        let sleeper = Waiting::new(&queue, most);
        queue.wake(&WakeOptions::new()).unwrap();
        assert_eq!(sleeper.join().reason, Reason::Woken);
    }

    /// Nor is a WAKE of that kind a wake, and it sets nothing.
    fn senseless_wakes_are_refused() {
        let queue = waitq();
        let sleeper = Waiting::new(&queue, WaitOptions::new());
        let good = WakeOptions::new().set(9).args();
        let mut senseless = vec![
            raw::ipcdemo_wake_args { reserved: 1, ..good },
            raw::ipcdemo_wake_args { reserved: 1 << 31, ..good },
        ];
        senseless.extend((2..32).map(|bit| raw::ipcdemo_wake_args {
            flags: good.flags | (1 << bit),
            ..good
        }));
        senseless.extend((14..32).map(|bit| raw::ipcdemo_wake_args { key: 1 << bit, ..good }));
        for args in senseless {
            let (result, left) = send(&queue, raw::IPCDEMO_IOC_WAKE, &wake_bytes(&args));
            assert_eq!(result, Err(Errno::INVAL), "{args:?}");
            assert_eq!(left, wake_bytes(&args), "nothing is told");
        }
        assert!(sleeper.sleeps_on());
        assert_eq!(queue.waiters().unwrap().word, 0);
        queue.wake(&WakeOptions::new()).unwrap();
        sleeper.join();
    }

    /// What is an output only may hold anything, and is overwritten.
    fn outputs_are_not_inputs() {
        // A field is of four bytes or more. One byte may be what it was: that of a process number, say.
        let all_overwritten = |outputs: &[u8]| outputs.chunks(4).all(|field| field != [0xee; 4]);

        let queue = waitq();
        let mut args = wait_bytes(&WaitOptions::new().expect(1).args());
        let outputs = offset_of!(raw::ipcdemo_wait_args, word)..offset_of!(raw::ipcdemo_wait_args, reserved2);
        args[outputs.clone()].fill(0xee);
        let (result, left) = send(&queue, raw::IPCDEMO_IOC_WAIT, &args);
        assert_eq!(result, Err(Errno::AGAIN));
        assert_eq!(left[..outputs.start], args[..outputs.start], "inputs are left alone");
        assert!(all_overwritten(&left[outputs]), "{left:?}");

        let mut args = wake_bytes(&WakeOptions::new().args());
        let outputs = offset_of!(raw::ipcdemo_wake_args, walked)..offset_of!(raw::ipcdemo_wake_args, reserved2);
        args[outputs.clone()].fill(0xee);
        let (result, left) = send(&queue, raw::IPCDEMO_IOC_WAKE, &args);
        assert_eq!(result, Ok(0));
        assert!(all_overwritten(&left[outputs]), "{left:?}");
    }

    /// The receipt is what the outcome is, and the error says the same.
    fn receipts_are_written_with_errors() {
        let queue = waitq();
        let timeout = WaitOptions::new().timeout(Duration::from_millis(1));
        for (options, error, reason) in [
            (WaitOptions::new().expect(1), Errno::AGAIN, raw::IPCDEMO_CHANGED),
            (timeout, Errno::TIMEDOUT, raw::IPCDEMO_TIMED_OUT),
        ] {
            let (result, left) = send(&queue, raw::IPCDEMO_IOC_WAIT, &wait_bytes(&options.args()));
            assert_eq!(result, Err(error));
            let at = offset_of!(raw::ipcdemo_wait_args, reason);
            assert_eq!(left[at..at + 4], reason.to_ne_bytes());
        }
    }

    /// No struct is shorter than its first version, and nobody looks at one.
    fn short_structs_are_refused() {
        let queue = waitq();
        let memory = Memory::new(Access::ReadWrite);
        for (request, size) in REQUESTS {
            for short in 0..size as usize {
                let request = raw::with_size(request, short);
                for address in [memory.before_end(short), Address::NULL] {
                    let result = ioctl(&queue, request, address);
                    assert_eq!(result, Err(Errno::INVAL), "request {request:#x}");
                }
            }
        }
        assert_eq!(queue.count().unwrap(), 0);
    }

    /// A longer one is taken if what is unknown is zero, and refused with E2BIG
    /// otherwise, or with EFAULT if it cannot be read.
    fn long_structs() {
        let queue = waitq();
        for extra in [1, 8, 100] {
            for (request, args, result) in [
                (raw::IPCDEMO_IOC_WAIT, wait_bytes(&WaitOptions::new().expect(1).args()), Err(Errno::AGAIN)),
                (raw::IPCDEMO_IOC_WAKE, wake_bytes(&WakeOptions::new().args()), Ok(0)),
                (raw::IPCDEMO_IOC_WAITERS, waiters_bytes(Address::NULL, 0, SIZE as u32), Ok(0)),
            ] {
                let size = args.len();
                let mut long = args.clone();
                long.resize(size + extra, 0);
                let request = raw::with_size(request, long.len());
                let (got, left) = send(&queue, request, &long);
                assert_eq!(got, result, "request {request:#x}");
                assert!(left[size..].iter().all(|&byte| byte == 0));
                *long.last_mut().unwrap() = 1;
                assert_eq!(send(&queue, request, &long).0, Err(Errno::TOOBIG));

                let memory = Memory::new(Access::ReadWrite);
                let address = memory.store(&args);
                assert_eq!(ioctl(&queue, request, address), Err(Errno::FAULT));
            }
        }
        assert_eq!(queue.count().unwrap(), 0);
    }

    /// A struct that cannot be read is EFAULT: nobody sleeps, nobody is woken.
    fn structs_out_of_reach_fault() {
        let queue = waitq();
        let sleeper = Waiting::new(&queue, WaitOptions::new());
        let (none, some) = (Memory::new(Access::None), Memory::new(Access::ReadWrite));
        for (request, size) in REQUESTS {
            for address in [
                Address::NULL,
                Address::KERNEL,
                none.before_end(size as usize),
                some.before_end(size as usize - 1),
                some.before_end(0),
            ] {
                let result = ioctl(&queue, request, address);
                assert_eq!(result, Err(Errno::FAULT), "request {request:#x}, {address:?}");
            }
        }
        assert!(sleeper.sleeps_on());
        assert_eq!(queue.count().unwrap(), 1);
        queue.wake(&WakeOptions::new()).unwrap();
        sleeper.join();
    }

    /// A receipt that cannot be written is EFAULT before anything else: nobody sleeps,
    /// nobody is woken, and the word is what it was.
    fn receipts_that_cannot_be_written_fault() {
        let queue = waitq();
        let sleeper = Waiting::new(&queue, WaitOptions::new());
        for (request, args) in [
            (raw::IPCDEMO_IOC_WAIT, wait_bytes(&WaitOptions::new().args())),
            (raw::IPCDEMO_IOC_WAIT, wait_bytes(&WaitOptions::new().expect(1).args())),
            (raw::IPCDEMO_IOC_WAKE, wake_bytes(&WakeOptions::new().set(6).args())),
        ] {
            let memory = Memory::new(Access::ReadWrite);
            memory.store(&args);
            memory.protect(Access::ReadOnly);
            let address = memory.before_end(args.len());
            assert_eq!(ioctl(&queue, request, address), Err(Errno::FAULT));
            assert_eq!(memory.load(args.len()), args);
            let listing = queue.waiters().unwrap();
            assert_eq!((listing.word, listing.waiters.len()), (0, 1));
        }
        assert!(sleeper.sleeps_on());
        queue.wake(&WakeOptions::new()).unwrap();
        sleeper.join();
    }

    /// As many are told as fit, from the first on. If there are more, one more is counted.
    fn a_listing_may_be_short() {
        let queue = waitq();
        let sleepers = [(); 3].map(|()| Waiting::new(&queue, WaitOptions::new().exclusive()));
        let memory = Memory::new(Access::ReadWrite);
        for capacity in 0..5 {
            let room = capacity as usize * SIZE;
            let array = memory.store(&vec![0xee; room]);
            let args = waiters_bytes(array, capacity, SIZE as u32);
            let (result, left) = send(&queue, raw::IPCDEMO_IOC_WAITERS, &args);
            assert_eq!(result, Ok(0));
            let told = capacity.min(3);
            assert_eq!(counts(&left), (told, 3.min(capacity + 1)));
            let array = memory.load(room);
            let (waiters, rest) = array.split_at(told as usize * SIZE);
            for (position, waiter) in waiters.chunks(SIZE).enumerate() {
                let at = offset_of!(raw::ipcdemo_waiter, position);
                assert_eq!(waiter[at..at + 4], (position as u32).to_ne_bytes());
                let at = offset_of!(raw::ipcdemo_waiter, tid);
                let tid = sleepers[position].tid().as_raw_nonzero().get();
                assert_eq!(waiter[at..at + 4], tid.to_ne_bytes());
            }
            assert!(rest.iter().all(|&byte| byte == 0xee), "the rest is left alone");
        }
        queue.wake(&WakeOptions::new().all()).unwrap();
        sleepers.map(Waiting::join);
    }

    /// Who knows less of a waiter is told less of it, who knows more is told zeros.
    fn waiters_can_be_cut_and_extended() {
        let queue = waitq();
        let sleeper = Waiting::new(&queue, WaitOptions::new());
        let memory = Memory::new(Access::ReadWrite);
        let told = |size: usize| {
            let array = memory.store(&vec![0xee; size]);
            let args = waiters_bytes(array, 1, size as u32);
            let (result, left) = send(&queue, raw::IPCDEMO_IOC_WAITERS, &args);
            assert_eq!((result, counts(&left)), (Ok(0), (1, 1)));
            memory.load(size)
        };
        let whole = told(SIZE);
        for size in [1, 8, 20, SIZE - 1] {
            assert_eq!(told(size), whole[..size]);
        }
        for size in [SIZE + 1, SIZE + 8, raw::IPCDEMO_WAITER_SIZE_MAX as usize] {
            let waiter = told(size);
            assert_eq!(waiter[..SIZE], whole);
            assert!(waiter[SIZE..].iter().all(|&byte| byte == 0));
        }
        queue.wake(&WakeOptions::new()).unwrap();
        sleeper.join();
    }

    /// A waiter of no size, or of more than a page, makes no sense.
    fn senseless_sizes_are_refused() {
        let queue = waitq();
        for size in [0, raw::IPCDEMO_WAITER_SIZE_MAX + 1, u32::MAX] {
            let args = waiters_bytes(Address::NULL, 1, size);
            let (result, _) = send(&queue, raw::IPCDEMO_IOC_WAITERS, &args);
            assert_eq!(result, Err(Errno::INVAL), "waiters of {size} bytes");
        }
    }

    /// An array that cannot be written is EFAULT, if there is something to write; any
    /// capacity is fine.
    fn an_array_out_of_reach_faults() {
        let queue = waitq();
        let args = waiters_bytes(Address::NULL, u32::MAX, SIZE as u32);
        let (result, left) = send(&queue, raw::IPCDEMO_IOC_WAITERS, &args);
        assert_eq!((result, counts(&left)), (Ok(0), (0, 0)), "there is nothing to write");

        let sleepers = [(); 2].map(|()| Waiting::new(&queue, WaitOptions::new()));
        let (only, one) = (Memory::new(Access::ReadOnly), Memory::new(Access::ReadWrite));
        for array in [
            Address::NULL,
            Address::KERNEL,
            only.before_end(2 * SIZE),
            one.before_end(SIZE),
        ] {
            let args = waiters_bytes(array, 2, SIZE as u32);
            let (result, _) = send(&queue, raw::IPCDEMO_IOC_WAITERS, &args);
            assert_eq!(result, Err(Errno::FAULT), "{array:?}");
        }
        queue.wake(&WakeOptions::new()).unwrap();
        sleepers.map(Waiting::join);
    }

    /// A 32-bit caller sleeps, wakes and is told the same.
    fn compat_callers_get_the_same() {
        let queue = waitq();
        let sleeper = {
            let queue = Arc::clone(&queue);
            Sleeper::new(&[COMPAT_IOCTL, libc::SYS_ioctl], move || {
                compat_send(&queue, raw::IPCDEMO_IOC_WAIT, &wait_bytes(&WaitOptions::new().args()))
            })
        };
        until("it is listed", || listed(&queue, sleeper.tid()).is_some());

        let array = Memory::low(Access::ReadWrite);
        let args = waiters_bytes(array.before_end(2 * SIZE), 2, SIZE as u32);
        let (result, left) = compat_send(&queue, raw::IPCDEMO_IOC_WAITERS, &args);
        assert_eq!((result, counts(&left)), (Ok(0), (1, 1)));
        let at = offset_of!(raw::ipcdemo_waiter, tid);
        let tid = sleeper.tid().as_raw_nonzero().get();
        assert_eq!(array.load(2 * SIZE)[at..at + 4], tid.to_ne_bytes());

        let args = wake_bytes(&WakeOptions::new().set(0x1_0000_0002).args());
        let (result, left) = compat_send(&queue, raw::IPCDEMO_IOC_WAKE, &args);
        assert_eq!(result, Ok(0));
        let at = offset_of!(raw::ipcdemo_wake_args, woken);
        assert_eq!(left[at..at + 4], 1u32.to_ne_bytes());
        let (result, left) = sleeper.join();
        assert_eq!(result, Ok(0));
        let at = offset_of!(raw::ipcdemo_wait_args, word);
        assert_eq!(left[at..at + 8], 0x1_0000_0002u64.to_ne_bytes());

        for (request, args, error) in [
            (raw::IPCDEMO_IOC_WAIT, wait_bytes(&WaitOptions::new().expect(0).args()), Errno::AGAIN),
            (raw::IPCDEMO_IOC_WAIT, wait_bytes(&WaitOptions::new().uninterruptible().args()), Errno::INVAL),
            (raw::IPCDEMO_IOC_WAKE + 0x40, wake_bytes(&WakeOptions::new().args()), Errno::NOTTY),
            (raw::IPCDEMO_IOC_WAITERS, waiters_bytes(Address::NULL, 1, 0), Errno::INVAL),
        ] {
            assert_eq!(compat_send(&queue, request, &args).0, Err(error), "request {request:#x}");
        }
    }
}

/// `ioctl`'s number in the 32-bit table, as /proc shows it.
const COMPAT_IOCTL: i64 = 54;

/// Sends a request with an address, whatever is there.
fn ioctl(queue: &Waitq, request: u32, address: Address<'_>) -> Result<i32, Errno> {
    // SAFETY: The one struct with a pointer in it is that of the waiters, and these
    // tests lead that into a `Memory` or nowhere.
    unsafe { ipcdemo_tests::ioctl(queue, request, address) }
}

/// Sends a request with these bytes, which end where the mapped memory does, and
/// gives what is there afterwards.
fn send(queue: &Waitq, request: u32, bytes: &[u8]) -> (Result<i32, Errno>, Vec<u8>) {
    let memory = Memory::new(Access::ReadWrite);
    let result = ioctl(queue, request, memory.store(bytes));
    (result, memory.load(bytes.len()))
}

/// The same from a 32-bit caller.
fn compat_send(queue: &Waitq, request: u32, bytes: &[u8]) -> (Result<i32, Errno>, Vec<u8>) {
    let memory = Memory::low(Access::ReadWrite);
    // SAFETY: As in `ioctl`.
    let result = unsafe { compat::ioctl(queue, request, memory.store(bytes)) };
    (result, memory.load(bytes.len()))
}

/// How many waiters a listing told, and how many there are.
fn counts(left: &[u8]) -> (u32, u32) {
    let number = |at| u32::from_ne_bytes(left[at..at + 4].try_into().unwrap());
    (
        number(offset_of!(raw::ipcdemo_waiters_args, count)),
        number(offset_of!(raw::ipcdemo_waiters_args, total)),
    )
}

/// The structs as bytes: none of them has padding.
fn wait_bytes(args: &raw::ipcdemo_wait_args) -> Vec<u8> {
    const SIZE: usize = size_of::<raw::ipcdemo_wait_args>();
    // SAFETY: It consists of integers, without padding.
    unsafe { std::mem::transmute::<raw::ipcdemo_wait_args, [u8; SIZE]>(*args) }.into()
}

fn wake_bytes(args: &raw::ipcdemo_wake_args) -> Vec<u8> {
    const SIZE: usize = size_of::<raw::ipcdemo_wake_args>();
    // SAFETY: As above.
    unsafe { std::mem::transmute::<raw::ipcdemo_wake_args, [u8; SIZE]>(*args) }.into()
}

fn waiters_bytes(waiters: Address<'_>, capacity: u32, waiter_size: u32) -> Vec<u8> {
    const SIZE: usize = size_of::<raw::ipcdemo_waiters_args>();
    let args = raw::ipcdemo_waiters_args {
        waiters: waiters.get() as u64,
        capacity,
        waiter_size,
        ..Default::default()
    };
    // SAFETY: As above.
    unsafe { std::mem::transmute::<raw::ipcdemo_waiters_args, [u8; SIZE]>(args) }.into()
}
