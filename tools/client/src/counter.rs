// SPDX-License-Identifier: GPL-2.0

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bitflags::bitflags;

use crate::error::{OpenError, open_node};
use crate::raw;

bitflags! {
    /// How a counter is made: `EFD_*` of `eventfd(2)`, by value too.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct CounterFlags: u32 {
        /// The descriptor does not survive `exec`.
        const CLOEXEC = raw::IPCDEMO_CLOEXEC;
        /// What would sleep fails with EAGAIN.
        const NONBLOCK = raw::IPCDEMO_NONBLOCK;
        /// A read takes one instead of all.
        const SEMAPHORE = raw::IPCDEMO_COUNTER_SEMAPHORE;
    }
}

/// A 64-bit number that writes add to and reads take from, as an eventfd.
#[derive(Debug)]
pub struct Counter(File);

impl Counter {
    /// The node of the one counter that everybody shares.
    pub const SHARED_PATH: &str = "/dev/ipcdemo-counter";

    /// Opens the shared counter; its value is whatever its users left there.
    pub fn open_shared(nonblock: bool) -> Result<Self, OpenError> {
        let flags = if nonblock { libc::O_NONBLOCK } else { 0 };
        open_node(Self::SHARED_PATH, flags).map(Self)
    }

    /// Takes the whole count and leaves 0, or takes 1 from a semaphore. Sleeps
    /// while the count is 0.
    pub fn read(&self) -> io::Result<u64> {
        let mut value = [0; size_of::<u64>()];
        let length = (&self.0).read(&mut value)?;
        whole(length, value)
    }

    /// Adds to the count. Sleeps while the sum would exceed `u64::MAX - 1`.
    pub fn write(&self, value: u64) -> io::Result<()> {
        let value = value.to_ne_bytes();
        let length = (&self.0).write(&value)?;
        whole(length, value).map(drop)
    }
}

/// The value of a transfer, which is never partial on a counter; a descriptor of
/// something else may well do otherwise.
fn whole(length: usize, value: [u8; size_of::<u64>()]) -> io::Result<u64> {
    if length == value.len() {
        Ok(u64::from_ne_bytes(value))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes instead of 8: this is no counter"),
        ))
    }
}

impl AsFd for Counter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Counter {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<Counter> for OwnedFd {
    fn from(counter: Counter) -> Self {
        counter.0.into()
    }
}
