// SPDX-License-Identifier: GPL-2.0

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
            -1 => panic!("fork: {}", std::io::Error::last_os_error()),
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
