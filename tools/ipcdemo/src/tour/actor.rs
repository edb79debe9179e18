// SPDX-License-Identifier: GPL-2.0

use std::fmt;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::proc::{Asleep, asleep_in};

/// A forked process that plays a part.
#[derive(Debug)]
pub struct Actor(Pid);

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Runs `part` in a process of its own, which ends with status 0 if all went well.
pub fn fork(part: impl FnOnce() -> io::Result<()>) -> io::Result<Actor> {
    // SAFETY: This process has one thread, so the child may do as it likes.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = match part() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("process {}: {error}", std::process::id());
                    1
                }
            };
            // SAFETY: It returns to nobody; what the parent has to clean up is
            // the parent's.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(Actor(Pid::from_raw(pid).expect("a child has a number"))),
    }
}

impl Actor {
    /// Its number.
    pub fn pid(&self) -> Pid {
        self.0
    }

    /// Its exit status.
    pub fn wait(&self) -> io::Result<i32> {
        let (_, status) = waitpid(Some(self.0), WaitOptions::empty())?.expect("it was waited for");
        Ok(status.exit_status().unwrap_or(-1))
    }

    /// Waits until it sleeps in a system call.
    pub fn wait_until_asleep(&self, syscall: i64) -> io::Result<Asleep> {
        self.wait_until(|| asleep_in(self.0, syscall))
    }

    /// Waits until it sleeps again, having been awake since its sleep number `sleeps`.
    pub fn wait_until_asleep_after(&self, syscall: i64, sleeps: u64) -> io::Result<Asleep> {
        self.wait_until(|| Ok(asleep_in(self.0, syscall)?.filter(|asleep| asleep.sleeps > sleeps)))
    }

    /// Waits until there is something to see that tells that it sleeps.
    pub fn wait_until<T>(&self, mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let start = Instant::now();
        loop {
            if let Some(seen) = look()? {
                return Ok(seen);
            }
            if start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!(
                    "process {self} does not go to sleep"
                )));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
