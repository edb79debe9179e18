// SPDX-License-Identifier: GPL-2.0

//! What `/proc` tells of descriptors and processes.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use ipcdemo_client::Kind;
use rustix::process::Pid;

/// A descriptor's lines in `/proc/PID/fdinfo`.
#[derive(Debug)]
pub struct FdInfo(String);

impl FdInfo {
    /// Of a descriptor of this process.
    pub fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::read(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
    }

    /// Of any.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        fs::read_to_string(path).map(Self)
    }

    /// A counter's count.
    pub fn count(&self) -> Option<u64> {
        u64::from_str_radix(self.field("eventfd-count")?, 16).ok()
    }

    /// Whether a read takes 1.
    pub fn is_semaphore(&self) -> bool {
        self.field("eventfd-semaphore") == Some("1")
    }

    /// An object's number among its kind.
    pub fn number(&self) -> Option<u32> {
        Kind::NUMBER_FIELDS
            .iter()
            .find_map(|name| self.field(name))?
            .parse()
            .ok()
    }

    /// The lines that are the object's own, not those that every file has.
    pub fn own_lines(&self) -> impl Iterator<Item = &str> {
        self.0
            .lines()
            .filter(|line| line.split(':').next().unwrap_or_default().contains('-'))
    }

    /// A line's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    }
}

/// A process that sleeps in a system call, as `/proc` shows it.
#[derive(Debug)]
pub struct Asleep {
    /// The kernel's function that put it to sleep.
    pub wchan: String,
    /// How often it has gone to sleep.
    pub sleeps: u64,
}

/// Looks at a process; none unless it is asleep in the system call `number`.
pub fn asleep_in(pid: Pid, number: i64) -> io::Result<Option<Asleep>> {
    let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}"));
    let blocked_in = |text: &str| {
        text.split(' ')
            .next()
            .and_then(|number| number.parse().ok())
    };
    if blocked_in(&file("syscall")?) != Some(number) {
        return Ok(None);
    }
    let status = file("status")?;
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
    if !field("State:").is_some_and(|state| state.trim().starts_with('S')) {
        return Ok(None);
    }
    let sleeps = field("voluntary_ctxt_switches:").and_then(|count| count.trim().parse().ok());
    Ok(Some(Asleep {
        wchan: file("wchan")?,
        sleeps: sleeps.unwrap_or_default(),
    }))
}

/// The entries of a directory that are numbers, in order.
pub fn numbers(directory: &str) -> Vec<u32> {
    let mut numbers: Vec<_> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// A process's name, if it is still there.
pub fn comm(pid: u32) -> Option<String> {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.trim_end().into())
}

/// The same as a word: a process may call itself anything.
pub fn printable(comm: &str) -> String {
    comm.replace(|c: char| c.is_control() || c == ' ', "_")
}
