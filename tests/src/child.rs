// SPDX-License-Identifier: GPL-2.0

use std::ffi::{c_int, c_void};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use crate::{Task, until};

/// A forked process. It is killed on drop, should it still run.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    status: Option<WaitStatus>,
}

impl Child {
    /// Forks, runs `body` in the child, and lets that exit with what it returns.
    ///
    /// The body should make system calls and little else: a lock that another
    /// thread holds at this moment is never released in the child.
    #[must_use]
    pub fn fork(body: impl FnOnce() -> u8) -> Self {
        // SAFETY: The child runs `body` and leaves at once, by `_exit`; the C
        // library keeps its own allocator usable there.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", io::Error::last_os_error()),
            0 => {
                let code = catch_unwind(AssertUnwindSafe(body)).unwrap_or(101);
                // SAFETY: It returns to nobody.
                unsafe { libc::_exit(code.into()) }
            }
            pid => Self {
                pid: Pid::from_raw(pid).unwrap(),
                status: None,
            },
        }
    }

    /// clone(2) of a child on a stack of its own, that runs `body` and ends with 0, or 1 if `body` panics. It may
    /// run on this process's memory, with `CLONE_VM`: then the other threads of this process have to leave
    /// alone what `body` uses.
    ///
    /// # Panics
    ///
    /// If it cannot be made.
    #[must_use]
    pub fn clone<F: FnOnce()>(flags: c_int, body: F) -> Self {
        extern "C" fn run<F: FnOnce()>(body: *mut c_void) -> c_int {
            // SAFETY: It is the box that `clone` made, and only the child takes it.
            let body: Box<F> = unsafe { Box::from_raw(body.cast()) };
            i32::from(catch_unwind(AssertUnwindSafe(body)).is_err())
        }
        const STACK: usize = 256 << 10;
        // Both are the child's, who may run on this process's memory; neither is freed here.
        let stack: &mut [u8] = Box::leak(vec![0; STACK].into_boxed_slice());
        let body: *mut F = Box::into_raw(Box::new(body));
        // SAFETY: The stack is aligned enough: the C library aligns it.
        let pid = unsafe {
            let top = stack.as_mut_ptr().add(STACK).cast();
            libc::clone(run::<F>, top, flags, body.cast())
        };
        assert!(pid > 0, "{}", io::Error::last_os_error());
        Self {
            pid: Pid::from_raw(pid).unwrap(),
            status: None,
        }
    }

    /// The process, as `/proc` shows it.
    #[must_use]
    pub fn task(&self) -> Task {
        Task::process(self.pid)
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Signals it.
    pub fn kill(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for its end, and gives its exit code, or the negative number of the
    /// signal that ended it.
    pub fn wait(mut self) -> i32 {
        until("the child has ended", || {
            self.status = waitpid(Some(self.pid), WaitOptions::NOHANG)
                .unwrap()
                .map(|(_, status)| status);
            self.status.is_some()
        });
        let status = self.status.unwrap();
        status
            .exit_status()
            .unwrap_or_else(|| -status.terminating_signal().unwrap())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() && kill_process(self.pid, Signal::KILL).is_ok() {
            // Nothing can be done about a failure, and the panic that led here
            // has its own story to tell.
            let _ = waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}
