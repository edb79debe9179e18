// SPDX-License-Identifier: GPL-2.0

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use rustix::process::Pid;

const COUNT: usize = 65;

/// How often each signal was handled.
static HANDLED: [AtomicUsize; COUNT] = [const { AtomicUsize::new(0) }; COUNT];

/// A real-time signal of the test's own, so that tests may run side by side.
#[derive(Debug)]
pub struct Signal(c_int);

impl Signal {
    /// With `SA_RESTART`: a system call that it interrupts goes on afterwards.
    #[must_use]
    pub fn restarting() -> Self {
        Self::new(libc::SA_RESTART)
    }

    /// Without: the system call ends with EINTR.
    #[must_use]
    pub fn interrupting() -> Self {
        Self::new(0)
    }

    fn new(flags: c_int) -> Self {
        static NEXT: AtomicI32 = AtomicI32::new(0);
        let number = libc::SIGRTMIN() + NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number <= libc::SIGRTMAX(), "more tests than signals");

        extern "C" fn handle(number: c_int) {
            HANDLED[number as usize].fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: An all-zero sigaction is a valid one.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handle as extern "C" fn(c_int) as usize;
        action.sa_flags = flags;
        // SAFETY: The handler does nothing but add to an atomic.
        let result = unsafe { libc::sigaction(number, &action, ptr::null_mut()) };
        assert_eq!(result, 0);
        Self(number)
    }

    /// Sends it to a thread of this process.
    pub fn send(&self, tid: Pid) {
        // SAFETY: Signals a thread of this process, which has a handler for it.
        let result = unsafe {
            libc::syscall(
                libc::SYS_tgkill,
                libc::getpid(),
                tid.as_raw_nonzero().get(),
                self.0,
            )
        };
        assert_eq!(result, 0);
    }

    /// How often the handler ran.
    #[must_use]
    pub fn handled(&self) -> usize {
        HANDLED[self.0 as usize].load(Ordering::Relaxed)
    }
}
