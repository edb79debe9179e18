// SPDX-License-Identifier: GPL-2.0

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bitflags::bitflags;

use crate::raw;

bitflags! {
    /// How a null object is made.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct NullFlags: u32 {
        /// The descriptor does not survive `exec`.
        const CLOEXEC = raw::IPCDEMO_CLOEXEC;
        /// Shown by F_GETFL, and without effect: a null object never sleeps.
        const NONBLOCK = raw::IPCDEMO_NONBLOCK;
    }
}

/// The smallest object: it forgets what is written and reads as zeros.
#[derive(Debug)]
pub struct Null(File);

impl Null {
    /// Fills `buffer` with zeros.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Has the kernel copy `buffer` in, and forget it.
    pub fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        (&self.0).write(buffer)
    }
}

impl AsFd for Null {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Null {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<Null> for OwnedFd {
    fn from(null: Null) -> Self {
        null.0.into()
    }
}
