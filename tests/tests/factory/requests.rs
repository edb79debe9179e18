// SPDX-License-Identifier: GPL-2.0

//! Requests, good and bad.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use ipcdemo_client::{CounterFlags, NullFlags, PipeFlags, WaitqFlags, raw};
use ipcdemo_tests::{
    Access, Address, Census, Child, Errno, Memory, PAGE, Subject, compat, count, read, serial,
};
use rustix::fs::fcntl_getfl;
use rustix::io::fcntl_getfd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{CLOEXEC, REQUESTS, counter_args, ioctl, open, send, words};

serial! {
    /// What it makes is what was asked for.
    fn it_makes_objects() {
        let factory = open();
        let counter = factory.counter(5, CounterFlags::SEMAPHORE).unwrap();
        assert_eq!(count(&counter), 5);
        assert_eq!(counter.read().unwrap(), 1);
        let null = factory.null(NullFlags::empty()).unwrap();
        assert_eq!(null.write(&[1; 100]).unwrap(), 100);
        let queue = factory.waitq(1 << 40, WaitqFlags::empty()).unwrap();
        assert_eq!(queue.waiters().unwrap().word, 1 << 40);
    }

    /// A counter has the flags that eventfd2(2) would give it, and the initial value is unsigned.
    fn a_counter_is_made_as_eventfd2_makes_it() {
        let factory = open();
        for flags in [CounterFlags::empty(), CounterFlags::NONBLOCK, CounterFlags::CLOEXEC] {
            let told = |fd: OwnedFd| (fcntl_getfl(&fd).unwrap(), fcntl_getfd(&fd).unwrap(), count(&fd));
            let theirs = Subject::Native.create(u32::MAX, flags.bits()).unwrap();
            let ours = factory.counter(u32::MAX, flags).unwrap();
            assert_eq!(told(ours.into()), told(theirs), "{flags:?}");
        }
    }

    /// A number that stands for nothing is ENOTTY, whatever is at the address.
    fn unknown_numbers_are_refused() {
        let factory = open();
        let census = Census::take(&factory);
        let known = REQUESTS.map(|(request, _)| request & 0xff);
        for number in (0..=0xff).filter(|number| !known.contains(number)) {
            let request = (raw::IPCDEMO_IOC_COUNTER & !0xff) | number;
            let result = ioctl(&factory, request, Address::NULL);
            assert_eq!(
                result,
                Err(Errno::NOTTY),
                "request {request:#x}: does REQUESTS in tests/tests/factory/main.rs lack a row for it?"
            );
        }
        census.check(&factory, "unknown requests");
    }

    /// So is another driver's magic.
    fn another_magic_is_refused() {
        let factory = open();
        for (request, _) in REQUESTS {
            for magic in [0x00, b'T'.into(), 0xbb, 0xbd, 0xff] {
                let request = (request & !0xff00) | (magic << 8);
                let result = ioctl(&factory, request, Address::NULL);
                assert_eq!(result, Err(Errno::NOTTY), "request {request:#x}");
            }
        }
    }

    /// So is another direction: it is part of the number.
    fn another_direction_is_refused() {
        let factory = open();
        for (request, _) in REQUESTS {
            for direction in (0..4).filter(|direction| request >> 30 != *direction) {
                let request = (request & !(3 << 30)) | (direction << 30);
                let result = ioctl(&factory, request, Address::NULL);
                assert_eq!(result, Err(Errno::NOTTY), "request {request:#x}");
            }
        }
    }

    /// Every flag that means nothing is EINVAL.
    fn unknown_flags_are_refused() {
        let factory = open();
        let census = Census::take(&factory);
        for bit in (0..u32::BITS).map(|bit| 1 << bit) {
            if CounterFlags::from_bits(bit).is_none() {
                let args = counter_args(bit | CLOEXEC, 0, 0);
                let (result, left) = send(&factory, raw::IPCDEMO_IOC_COUNTER, &args);
                assert_eq!(result, Err(Errno::INVAL), "counter, flag {bit:#x}");
                assert_eq!(left, args);
            }
            if NullFlags::from_bits(bit).is_none() {
                let args = words(&[0, bit]);
                let (result, _) = send(&factory, raw::IPCDEMO_IOC_NULL, &args);
                assert_eq!(result, Err(Errno::INVAL), "null, flag {bit:#x}");
            }
            if WaitqFlags::from_bits(bit).is_none() {
                let args = words(&[0, bit, 0, 0]);
                let (result, _) = send(&factory, raw::IPCDEMO_IOC_WAITQ, &args);
                assert_eq!(result, Err(Errno::INVAL), "waitq, flag {bit:#x}");
            }
            // That of a watch queue among them.
            if PipeFlags::from_bits(bit).is_none() {
                let args = words(&[0, 0, bit, 0]);
                let (result, _) = send(&factory, raw::IPCDEMO_IOC_PIPE, &args);
                assert_eq!(result, Err(Errno::INVAL), "pipe, flag {bit:#x}");
            }
        }
        census.check(&factory, "unknown flags");
    }

    /// What is reserved must be zero.
    fn reserved_fields_are_checked() {
        let factory = open();
        let census = Census::take(&factory);
        for bit in [0, 31] {
            let args = counter_args(CLOEXEC, 0, 1 << bit);
            let (result, _) = send(&factory, raw::IPCDEMO_IOC_COUNTER, &args);
            assert_eq!(result, Err(Errno::INVAL));
            for request in [
                raw::IPCDEMO_IOC_LIST,
                raw::IPCDEMO_IOC_NAMESPACES,
                raw::IPCDEMO_IOC_ROUTES,
            ] {
                // Each with room for one, if that is where they look for it.
                let args = words(&[0, 0, 1, 24, 1, 24, 0, 1 << bit]);
                let (result, _) = send(&factory, request, &args);
                assert_eq!(result, Err(Errno::INVAL), "request {request:#x}");
            }
            let mut args = words(&[0; 20]);
            args[12..16].copy_from_slice(&u32::to_ne_bytes(1 << bit));
            for request in [raw::IPCDEMO_IOC_ARM, raw::IPCDEMO_IOC_SEAL] {
                let (result, left) = send(&factory, request, &args);
                assert_eq!((result, left), (Err(Errno::INVAL), args.clone()));
            }
        }
        census.check(&factory, "reserved fields");
    }

    /// What is an output only may hold anything.
    fn outputs_are_not_inputs() {
        let factory = open();
        let args = words(&[0xdead_beef, CLOEXEC]);
        let (result, left) = send(&factory, raw::IPCDEMO_IOC_NULL, &args);
        assert_eq!(result, Ok(0));
        assert_eq!(ipcdemo_tests::write(adopt(&left), 1), Ok(()));
    }

    /// No struct is shorter than its first version, and nobody looks at one.
    fn short_structs_are_refused() {
        let factory = open();
        let census = Census::take(&factory);
        let memory = Memory::new(Access::ReadWrite);
        for (request, size) in REQUESTS {
            for short in 0..size as usize {
                let request = raw::with_size(request, short);
                for address in [memory.before_end(short), Address::NULL] {
                    let result = ioctl(&factory, request, address);
                    assert_eq!(result, Err(Errno::INVAL), "request {request:#x}");
                }
            }
        }
        census.check(&factory, "short structs");
    }

    /// A longer one is taken if what is unknown is zero, and stays so.
    fn long_structs_are_taken() {
        let factory = open();
        for extra in [1, 4, 8, 63, 64, 65, 1000, PAGE - 16] {
            let mut args = counter_args(CLOEXEC, 9, 0);
            args.resize(args.len() + extra, 0);
            let request = raw::with_size(raw::IPCDEMO_IOC_COUNTER, args.len());
            let (result, left) = send(&factory, request, &args);
            assert_eq!(result, Ok(0), "{extra} more");
            assert!(left[4..] == args[4..], "{extra} more: only the number is told");
            assert_eq!(read(adopt(&left)), Ok(9));
        }
    }

    /// If any byte of it is not, that is E2BIG.
    fn a_tail_that_says_something_is_refused() {
        let factory = open();
        let census = Census::take(&factory);
        for (request, size) in REQUESTS {
            let size = size as usize;
            for (length, byte) in [(1, 0), (8, 0), (8, 7), (100, 63), (100, 64), (100, 99)] {
                let mut args = vec![0; size + length];
                args[size + byte] = 1;
                let request = raw::with_size(request, args.len());
                let (result, _) = send(&factory, request, &args);
                assert_eq!(result, Err(Errno::TOOBIG), "request {request:#x}, byte {byte}");
            }
        }
        census.check(&factory, "tails");
    }

    /// A tail that cannot be read is EFAULT.
    fn a_tail_out_of_reach_faults() {
        let factory = open();
        let census = Census::take(&factory);
        for (request, size) in REQUESTS {
            let memory = Memory::new(Access::ReadWrite);
            let address = memory.store(&vec![0; size as usize + 4]);
            let request = raw::with_size(request, size as usize + 8);
            assert_eq!(ioctl(&factory, request, address), Err(Errno::FAULT));
        }
        census.check(&factory, "tails");
    }

    /// A struct that cannot be read, wholly or in part, is EFAULT.
    fn structs_out_of_reach_fault() {
        let factory = open();
        let census = Census::take(&factory);
        let (none, some) = (Memory::new(Access::None), Memory::new(Access::ReadWrite));
        for (request, size) in REQUESTS {
            let places = [
                Address::NULL,
                Address::KERNEL,
                none.before_end(size as usize),
                some.before_end(size as usize - 1),
                some.before_end(1),
                some.before_end(0),
            ];
            for address in places {
                let result = ioctl(&factory, request, address);
                assert_eq!(result, Err(Errno::FAULT), "request {request:#x}, {address:?}");
            }
        }
        census.check(&factory, "bad addresses");
    }

    /// One that can be read and not written is EFAULT too: no descriptor appears
    /// whose number could not be told.
    fn structs_that_cannot_be_written_fault() {
        let factory = open();
        let census = Census::take(&factory);
        let memory = Memory::new(Access::ReadWrite);
        let past_the_end = words(&[u32::MAX, u32::MAX, 0, 0, 1, 24, 0, 0]);
        let places = [
            (raw::IPCDEMO_IOC_NULL, words(&[0, CLOEXEC])),
            (raw::IPCDEMO_IOC_COUNTER, counter_args(CLOEXEC, 1, 0)),
            (raw::IPCDEMO_IOC_WAITQ, words(&[0, CLOEXEC, 1, 0])),
            (raw::IPCDEMO_IOC_PIPE, words(&[0, 0, CLOEXEC, 0])),
            (raw::IPCDEMO_IOC_LIST, past_the_end),
            // Told before anything is enrolled.
            (raw::IPCDEMO_IOC_ARM, words(&[0; 20])),
            (raw::IPCDEMO_IOC_SEAL, words(&[0; 20])),
        ];
        for (request, args) in places {
            memory.protect(Access::ReadWrite);
            let address = memory.store(&args);
            memory.protect(Access::ReadOnly);
            assert_eq!(ioctl(&factory, request, address), Err(Errno::FAULT));
            assert_eq!(memory.load(args.len()), args);
        }
        census.check(&factory, "failed copies out");
    }

    /// With no descriptor free it is EMFILE, and the object is gone again.
    fn too_many_descriptors() {
        let factory = open();
        let census = Census::take(&factory);
        let child = Child::fork(|| {
            let nothing = Rlimit { current: Some(0), maximum: getrlimit(Resource::Nofile).maximum };
            setrlimit(Resource::Nofile, nothing).unwrap();
            let before = factory.list().unwrap();
            let made = [
                factory.counter(0, CounterFlags::empty()).err(),
                factory.null(NullFlags::empty()).err(),
                factory.waitq(0, WaitqFlags::empty()).err(),
                factory.pipe(0, PipeFlags::empty()).err(),
            ];
            let made = made.map(|error| error.and_then(|error| error.raw_os_error()));
            u8::from(made != [Some(libc::EMFILE); 4]) + 2 * u8::from(factory.list().unwrap() != before)
        });
        assert_eq!(child.wait(), 0);
        census.check(&factory, "EMFILE");
    }

    /// With no file left in the system it is ENFILE: the same.
    fn too_many_files() {
        const LIMIT: &str = "/proc/sys/fs/file-max";
        let factory = open();
        let census = Census::take(&factory);
        let gate = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
        let child = Child::fork(|| {
            // SAFETY: The child has one thread. Root is not held to the limit.
            assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
            assert_eq!(gate.read().unwrap(), 1);
            let made = [
                factory.counter(0, CounterFlags::empty()).err(),
                factory.null(NullFlags::empty()).err(),
                factory.waitq(0, WaitqFlags::empty()).err(),
                factory.pipe(0, PipeFlags::empty()).err(),
            ];
            let made = made.map(|error| error.and_then(|error| error.raw_os_error()));
            u8::from(made != [Some(libc::ENFILE); 4])
        });
        let limit = std::fs::read(LIMIT).unwrap();
        // The kernel's quick count of files is off by dozens: only 0 is sure.
        std::fs::write(LIMIT, "0").unwrap();
        gate.write(1).unwrap();
        let code = child.wait();
        std::fs::write(LIMIT, limit).unwrap();
        assert_eq!(code, 0);
        drop(gate);
        census.check(&factory, "ENFILE");
    }

    /// A 32-bit caller's requests are the same, and so are the answers.
    fn compat_callers_get_the_same() {
        let factory = open();
        let memory = Memory::low(Access::ReadWrite);
        let address = memory.store(&counter_args(CLOEXEC, 11, 0));
        // SAFETY: There is no pointer in the struct.
        let result = unsafe { compat::ioctl(&factory, raw::IPCDEMO_IOC_COUNTER, address) };
        assert_eq!(result, Ok(0));
        let counter = adopt(&memory.load(16));
        assert_eq!(count(&counter), 11);

        let objects = Memory::low(Access::ReadWrite);
        let array = u32::try_from(objects.before_end(24 * 4).get()).unwrap();
        let address = memory.store(&words(&[0, 0, array, 0, 4, 24, 0, 0]));
        // SAFETY: The pointer in the struct leads into a `Memory`.
        let result = unsafe { compat::ioctl(&factory, raw::IPCDEMO_IOC_LIST, address) };
        assert_eq!(result, Ok(0));
        let told = factory.list().unwrap();
        assert_eq!(memory.load(8)[..4], (told.len().min(4) as u32).to_ne_bytes());
        assert_eq!(objects.load(24 * 4)[..8], told[0].id.to_ne_bytes());
    }

    /// So are the errors.
    fn compat_callers_get_the_same_errors() {
        let factory = open();
        let (flagged, tailed) = (Memory::low(Access::ReadWrite), Memory::low(Access::ReadWrite));
        let address = flagged.store(&counter_args(1 << 5, 0, 0));
        let long = raw::with_size(raw::IPCDEMO_IOC_NULL, 16);
        for (request, address, error) in [
            (raw::IPCDEMO_IOC_COUNTER, address, Errno::INVAL),
            (raw::IPCDEMO_IOC_COUNTER, Address::NULL, Errno::FAULT),
            (raw::IPCDEMO_IOC_COUNTER + 0x40, address, Errno::NOTTY),
            (long, tailed.store(&words(&[0, 0, 0, 1])), Errno::TOOBIG),
        ] {
            // SAFETY: There is no pointer in these structs.
            let result = unsafe { compat::ioctl(&factory, request, address) };
            assert_eq!(result, Err(error), "request {request:#x}");
        }
    }

    /// Other calls find nothing on the factory.
    fn it_is_nothing_to_read() {
        let factory = open();
        assert_eq!(read(&factory), Err(Errno::INVAL));
        assert_eq!(ipcdemo_tests::write(factory.as_fd(), 1), Err(Errno::INVAL));
    }
}

/// The descriptor whose number a request that succeeded told, at the beginning of
/// its struct.
fn adopt(left: &[u8]) -> OwnedFd {
    let number = i32::from_ne_bytes(left[..4].try_into().unwrap());
    // SAFETY: It is new, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(number) }
}
