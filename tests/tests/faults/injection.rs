// SPDX-License-Identifier: GPL-2.0

//! Making a system call fail at each point where it may.

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::ptr;
use std::sync::Once;

use ipcdemo_client::Factory;
use ipcdemo_tests::{Census, Errno};
use rustix::fs::{Mode, OFlags};
use rustix::io::{pread, pwrite};

const DEBUGFS: &CStr = c"/sys/kernel/debug";

/// What an operation says where there is no memory, or a copy fails.
const HONEST: &[Errno] = &[Errno::NOMEM, Errno::FAULT];

/// Repeats an operation, making it fail at its first, second, third such point, and
/// so on, until none is left to fail. There must be `points` at least.
///
/// `after` gets what the operation gave, if it succeeded, and must undo it.
pub fn every_fault<T>(
    factory: &Factory,
    points: u32,
    operation: impl FnMut() -> Result<T, Errno>,
    after: impl FnMut(Option<T>),
) {
    every_fault_with(HONEST, factory, points, operation, after);
}

/// As [`every_fault`], of an operation that may say something else.
pub fn every_fault_with<T>(
    errors: &[Errno],
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
            Err(error) if injected && errors.contains(error) => {}
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

/// The factory, once faults can be made.
pub fn factory() -> Factory {
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

/// The error's number.
pub fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap()
}
