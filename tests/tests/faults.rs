// SPDX-License-Identifier: GPL-2.0

//! Every allocation and user copy of a system call fails once, in turn. For the
//! debug kernel, which has fault injection: elsewhere these tests fail.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr;
use std::sync::Once;

use ipcdemo_client::{Counter, CounterFlags, Factory, NullFlags, raw};
use ipcdemo_tests::{Census, Errno, count, poll_now, read, serial, write};
use rustix::event::PollFlags;
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::io::{pread, pwrite};

const DEBUGFS: &CStr = c"/sys/kernel/debug";

serial! {
    /// What may fail: the object, its number's place, the file; the copies.
    fn making_a_null_object() {
        let factory = factory();
        let make = || factory.null(NullFlags::CLOEXEC).map_err(errno);
        every_fault(&factory, 5, make, drop);
    }

    fn making_a_counter() {
        let factory = factory();
        let make = || factory.counter(1, CounterFlags::CLOEXEC).map_err(errno);
        every_fault(&factory, 5, make, drop);
    }

    /// What may fail: the array; the copies of the arguments and of each object.
    fn listing() {
        let factory = factory();
        let _counters = [(); 3].map(|()| factory.counter(0, CounterFlags::CLOEXEC).unwrap());
        let mut page = [raw::ipcdemo_object::default(); 8];
        let list = || factory.list_page(0, &mut page).map(<[_]>::len).map_err(errno);
        every_fault(&factory, 6, list, |told| assert!(told.is_none_or(|told| told >= 3)));
    }

    fn opening_a_node() {
        let factory = factory();
        for path in [Factory::PATH, Counter::SHARED_PATH] {
            let open = || rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
            every_fault(&factory, 2, open, drop);
        }
    }

    /// A write whose copy fails adds nothing.
    fn writing_to_a_counter() {
        let factory = factory();
        let counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
        every_fault(&factory, 1, || write(&counter, 5), |written| {
            let expected = if written.is_some() { 5 } else { 0 };
            assert_eq!(count(&counter), expected);
            if written.is_some() {
                assert_eq!(read(&counter), Ok(5));
            }
        });
    }

    /// A read whose copy fails has taken the count, as eventfd's has.
    fn reading_a_counter() {
        let factory = factory();
        let counter = factory.counter(5, CounterFlags::CLOEXEC).unwrap();
        every_fault(&factory, 1, || read(&counter), |taken| {
            assert!(taken.is_none_or(|value| value == 5));
            assert_eq!(count(&counter), 0);
            assert_eq!(write(&counter, 5), Ok(()));
        });
    }

    /// Being watched needs memory; where there is none, no entry is left behind.
    fn watching_a_counter() {
        let factory = factory();
        let counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let data = epoll::EventData::new_u64(0);
        let add = || epoll::add(&set, &counter, data, epoll::EventFlags::IN);
        every_fault(&factory, 2, add, |added| {
            if added.is_some() {
                epoll::delete(&set, &counter).unwrap();
            }
        });
        assert_eq!(poll_now(&counter, PollFlags::OUT), PollFlags::OUT);
    }
}

/// Repeats an operation, making it fail at its first, second, third such point, and
/// so on, until none is left to fail. There must be `points` at least.
///
/// `after` gets what the operation gave, if it succeeded, and must undo it.
fn every_fault<T>(
    factory: &Factory,
    points: u32,
    mut operation: impl FnMut() -> Result<T, Errno>,
    mut after: impl FnMut(Option<T>),
) {
    let fault = Fault::of_this_thread();
    // Once without, for whatever is made on first use.
    after(Some(operation().unwrap()));
    let census = Census::take(factory);
    for point in 1.. {
        fault.set(point);
        let result = operation();
        let injected = fault.was_injected();
        match &result {
            Ok(_) => {}
            Err(Errno::NOMEM | Errno::FAULT) if injected => {}
            Err(error) => panic!("point {point}: {error}"),
        }
        after(result.ok());
        census.check(factory, format_args!("a fault at point {point}"));
        if !injected {
            assert!(point > points, "only {} points", point - 1);
            return;
        }
    }
}

/// Fault injection for one thread: `/proc/thread-self/fail-nth`.
struct Fault(OwnedFd);

impl Fault {
    fn of_this_thread() -> Self {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open("/proc/thread-self/fail-nth", flags, Mode::empty());
        Self(file.expect("a kernel with fault injection"))
    }

    /// Lets this thread's `point`th allocation or copy from now on fail.
    fn set(&self, point: u32) {
        let text = point.to_string();
        assert_eq!(pwrite(self.0.as_fd(), text.as_bytes(), 0), Ok(text.len()));
    }

    /// Whether it did. No more will.
    fn was_injected(&self) -> bool {
        // The copy out of the answer is such a point itself, so it may fail.
        let mut text = [0; 16];
        let injected = pread(self.0.as_fd(), &mut text, 0).is_ok_and(|_| text[0] == b'0');
        while pwrite(self.0.as_fd(), b"0", 0) != Ok(1) {}
        injected
    }
}

fn factory() -> Factory {
    static SETUP: Once = Once::new();
    SETUP.call_once(|| {
        let directory = Path::new(DEBUGFS.to_str().unwrap());
        if !directory.join("failslab").exists() {
            let (name, none) = (c"debugfs".as_ptr(), ptr::null());
            // SAFETY: These are C strings, and debugfs takes no data.
            let result = unsafe { libc::mount(name, DEBUGFS.as_ptr(), name, 0, none) };
            assert_eq!(result, 0, "mount: {}", std::io::Error::last_os_error());
        }
        for (file, value) in [
            // What may sleep may fail as well.
            ("failslab/ignore-gfp-wait", "N"),
            ("fail_page_alloc/ignore-gfp-wait", "N"),
            ("fail_page_alloc/min-order", "0"),
            // Without a stack trace for each fault.
            ("failslab/verbose", "0"),
            ("fail_page_alloc/verbose", "0"),
            ("fail_usercopy/verbose", "0"),
        ] {
            let path = directory.join(file);
            fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    });
    Factory::open().unwrap_or_else(|error| panic!("{error}"))
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap()
}
