// SPDX-License-Identifier: GPL-2.0

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::{Counter, CounterFlags, PipeFlags, PipeReader, PipeWriter, factory, raw};

/// What adds up what goes through the objects that are made by it.
#[derive(Debug)]
pub struct Tally(OwnedFd);

/// The sums of a [`Tally`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sums {
    /// How many objects were made.
    pub objects: u64,
    /// How many bytes were read from them.
    pub read: u64,
    /// How many bytes were written to them.
    pub written: u64,
    /// How many sleepers, polls and epoll items reads and writes woke.
    pub woken: u64,
}

impl Tally {
    /// As [`Factory::counter`](crate::Factory::counter).
    pub fn counter(&self, initval: u32, flags: CounterFlags) -> io::Result<Counter> {
        factory::counter(self.as_fd(), initval, flags)
    }

    /// As [`Factory::pipe`](crate::Factory::pipe).
    pub fn pipe(&self, size: u32, flags: PipeFlags) -> io::Result<(PipeReader, PipeWriter)> {
        factory::pipe(self.as_fd(), size, flags)
    }

    /// What went through the objects so far, whether they are still there or not.
    pub fn sums(&self) -> io::Result<Sums> {
        let mut args = raw::ipcdemo_tallied_args::default();
        factory::call(self.as_fd(), raw::IPCDEMO_IOC_TALLIED, &mut args)?;
        Ok(Sums {
            objects: args.objects,
            read: args.read,
            written: args.written,
            woken: args.woken,
        })
    }
}

impl AsFd for Tally {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Tally {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}
