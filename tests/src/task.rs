// SPDX-License-Identifier: GPL-2.0

use std::ffi::{c_int, c_long};
use std::fmt;
use std::fs;
use std::path::PathBuf;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// A thread or process, seen through `/proc`.
#[derive(Debug)]
pub struct Task(PathBuf);

impl Task {
    /// The calling thread.
    #[must_use]
    pub fn current() -> Self {
        Self("/proc/thread-self".into())
    }

    /// A thread of this process.
    #[must_use]
    pub fn thread(tid: Pid) -> Self {
        Self(format!("/proc/self/task/{tid}").into())
    }

    /// Another process.
    #[must_use]
    pub fn process(pid: Pid) -> Self {
        Self(format!("/proc/{pid}").into())
    }

    pub(crate) fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Whether it is off the CPU, in interruptible sleep inside one of `syscalls`.
    #[must_use]
    pub fn asleep_in(&self, syscalls: &[c_long]) -> bool {
        self.state() == Some('S')
            && self
                .syscall()
                .is_some_and(|syscall| syscalls.contains(&syscall))
    }

    /// Whether it is off the CPU inside one of `syscalls`, in a sleep of any kind.
    #[must_use]
    pub fn blocked_in(&self, syscalls: &[c_long]) -> bool {
        matches!(self.state(), Some('S' | 'D'))
            && self
                .syscall()
                .is_some_and(|syscall| syscalls.contains(&syscall))
    }

    /// Whether nothing is left of it but its exit status.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state(), Some('Z') | None)
    }

    /// Whether job control has stopped it.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.state() == Some('T')
    }

    /// How often it has gone to sleep.
    ///
    /// # Panics
    ///
    /// If the task is gone.
    #[must_use]
    pub fn sleeps(&self) -> u64 {
        let status = self.file("status").expect("the task is alive");
        let (_, rest) = status
            .split_once("\nvoluntary_ctxt_switches:")
            .expect("the kernel counts context switches");
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn state(&self) -> Option<char> {
        // The name before it, in brackets, may contain anything.
        let stat = self.file("stat")?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// The system call it is blocked in; none while it runs.
    fn syscall(&self) -> Option<c_long> {
        self.file("syscall")?.split(' ').next()?.parse().ok()
    }

    fn file(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name)).ok()
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |name| self.file(name).unwrap_or_default();
        write!(
            f,
            "{}: {}, state {}, wchan {}, syscall {}",
            self.0.display(),
            text("comm").trim_end(),
            self.state().unwrap_or('?'),
            text("wchan"),
            text("syscall").trim_end(),
        )
    }
}

/// Puts a thread, or the calling one and those that it will make, on one processor.
///
/// # Panics
///
/// If there is no such processor.
pub fn pin(tid: Option<Pid>, cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(tid, &cpus).expect("there are two processors");
}

/// Puts the calling thread into a class of the scheduler.
///
/// # Panics
///
/// If the caller is not root.
pub fn schedule(policy: c_int, priority: c_int) {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: It is about the calling thread, and reads the parameters only.
    let result = unsafe { libc::sched_setscheduler(0, policy, &parameters) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
