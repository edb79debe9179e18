// SPDX-License-Identifier: GPL-2.0

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::waitq::text;
use crate::{Enrolled, Kind, Kinds, Refusal, enroll, factory, raw};

/// Counts the objects that the members of a namespace make, and what goes through them.
#[derive(Debug)]
pub struct Tally(OwnedFd);

/// The sums of a [`Tally`], of one kind of objects and one name of the threads that made them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sums {
    /// What sort of objects they are.
    pub kind: Kind,
    /// Why the kernel made the objects; none if the module did.
    pub left: Option<Left>,
    /// The name of the threads that made them; empty for all those that no row was left for.
    pub comm: String,
    /// How many objects were made.
    pub objects: u64,
    /// How many bytes were read from them.
    pub read: u64,
    /// How many bytes were written to them.
    pub written: u64,
    /// How many sleepers, polls and epoll items reads and writes woke.
    pub woken: u64,
}

/// Why a call of a member was left to the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Left {
    /// The pipe was one for notifications (`O_NOTIFICATION_PIPE`).
    Notification,
    /// One that this library, older than the module, does not know.
    Unknown(u32),
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Notification => f.pad("it is a notification pipe"),
            Self::Unknown(left) => f.pad(&format!("reason {left}")),
        }
    }
}

impl From<&raw::ipcdemo_sums> for Sums {
    fn from(sums: &raw::ipcdemo_sums) -> Self {
        Self {
            kind: sums.kind.into(),
            left: match sums.left {
                raw::IPCDEMO_LEFT_NOT => None,
                raw::IPCDEMO_LEFT_NOTIFICATION => Some(Left::Notification),
                unknown => Some(Left::Unknown(unknown)),
            },
            comm: text(&sums.comm),
            objects: sums.objects,
            read: sums.read,
            written: sums.written,
            woken: sums.woken,
        }
    }
}

impl Tally {
    /// As [`Factory::arm`](crate::Factory::arm), for a namespace whose objects are counted here.
    pub fn arm(&self, kinds: Kinds) -> Result<Enrolled, Refusal> {
        enroll::step(self.as_fd(), raw::IPCDEMO_IOC_ARM, kinds, 0)
    }

    /// The sums so far, of objects that are still there and of others, in the order in which their
    /// makers came.
    pub fn sums(&self) -> io::Result<Vec<Sums>> {
        // Each kind has one row more, of the names that have none of their own.
        let mut sums = vec![raw::ipcdemo_sums::default(); raw::IPCDEMO_SUMS_MAX as usize + 16];
        let mut args = raw::ipcdemo_tallied_args {
            sums: sums.as_mut_ptr().addr() as u64,
            capacity: sums.len() as u32,
            sums_size: size_of::<raw::ipcdemo_sums>() as u32,
            count: 0,
            total: 0,
        };
        factory::call(self.as_fd(), raw::IPCDEMO_IOC_TALLIED, &mut args)?;
        sums.truncate(args.count as usize);
        Ok(sums.iter().map(Sums::from).collect())
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
