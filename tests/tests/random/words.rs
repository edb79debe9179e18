// SPDX-License-Identifier: GPL-2.0

//! What operations are made of, on whatever object, and how that is printed.

use std::fmt;
use std::ops::BitOr;

/// Who makes a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Who {
    /// The thread that conducts, with O_NONBLOCK set for the time of the call, or a flag to
    /// the same effect, so that it never sleeps.
    Main,
    /// The workers, who may sleep. What a worker that sleeps is told to do is left out.
    A,
    B,
    C,
}

/// The workers.
pub const WORKERS: [Who; 3] = [Who::A, Who::B, Who::C];

impl Who {
    /// A worker's place among the workers.
    pub fn worker(self) -> Option<usize> {
        WORKERS.iter().position(|&worker| worker == self)
    }
}

/// Event bits of poll(2) and epoll(7).
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Events(pub u32);

macro_rules! events {
    ($($name:ident = $value:expr,)*) => {
        $(pub const $name: Events = Events($value as u32);)*
        const NAMES: &[(&str, Events)] = &[$((stringify!($name), $name)),*];
    };
}

events! {
    IN = libc::EPOLLIN,
    PRI = libc::EPOLLPRI,
    OUT = libc::EPOLLOUT,
    ERR = libc::EPOLLERR,
    HUP = libc::EPOLLHUP,
    RDNORM = libc::EPOLLRDNORM,
    RDBAND = libc::EPOLLRDBAND,
    WRNORM = libc::EPOLLWRNORM,
    WRBAND = libc::EPOLLWRBAND,
    MSG = libc::EPOLLMSG,
    RDHUP = libc::EPOLLRDHUP,
    EXCLUSIVE = libc::EPOLLEXCLUSIVE,
    ONESHOT = libc::EPOLLONESHOT,
    ET = libc::EPOLLET,
}

/// All that poll(2) can tell.
pub const ALL: Events = Events(0x27df);

impl BitOr for Events {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut separator) = (self.0, "");
        for (name, bit) in NAMES.iter().filter(|(_, bit)| self.0 & bit.0 != 0) {
            write!(f, "{separator}{name}")?;
            (rest, separator) = (rest & !bit.0, " | ");
        }
        if rest != 0 || separator.is_empty() {
            write!(f, "{separator}Events({rest})")?;
        }
        Ok(())
    }
}

/// The lengths of a call's buffers.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Lengths(pub &'static [usize]);

impl fmt::Debug for Lengths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lengths(&{:?})", self.0)
    }
}
