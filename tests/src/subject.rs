// SPDX-License-Identifier: GPL-2.0

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use ipcdemo_client::{CounterFlags, Object};

use crate::{Errno, outsider};

/// The largest count.
pub const MAX: u64 = u64::MAX - 1;

/// A descriptor that threads share.
pub type Fd = Arc<OwnedFd>;

/// Whose counters and pipes a test tries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Subject {
    /// The kernel's.
    Native,
    /// Ours, as the kernel's own calls make them for a member.
    Module,
}

impl Subject {
    /// A counter that blocks.
    #[must_use]
    pub fn counter(self, initval: u32) -> Fd {
        self.with(initval, CounterFlags::empty())
    }

    /// A counter that fails instead of blocking.
    #[must_use]
    pub fn nonblocking(self, initval: u32) -> Fd {
        self.with(initval, CounterFlags::NONBLOCK)
    }

    /// A counter whose reads take one.
    #[must_use]
    pub fn semaphore(self, initval: u32) -> Fd {
        self.with(initval, CounterFlags::SEMAPHORE)
    }

    /// A counter that is full.
    #[must_use]
    pub fn full(self, flags: CounterFlags) -> Fd {
        let counter = self.with(0, flags);
        crate::write(&counter, MAX).unwrap();
        counter
    }

    /// A counter with these flags, and closed on exec besides: a child that
    /// another test starts must not keep it open.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    #[must_use]
    pub fn with(self, initval: u32, flags: CounterFlags) -> Fd {
        match self.create(initval, (flags | CounterFlags::CLOEXEC).bits()) {
            Ok(fd) => Arc::new(fd),
            Err(error) => panic!("{self:?}: cannot make a counter: {error}"),
        }
    }

    /// Asks for a counter with any bits as flags.
    ///
    /// # Panics
    ///
    /// If the kernel makes it where the module should, as for a program without [`sides!`](crate::sides!).
    pub fn create(self, initval: u32, flags: u32) -> Result<OwnedFd, Errno> {
        match self {
            Self::Native => match outsider::eventfd(initval, flags) {
                Some(fd) => Ok(fd),
                None => native(initval, flags),
            },
            Self::Module => {
                let fd = native(initval, flags)?;
                assert!(is_ours(&fd), "the module did not answer");
                Ok(fd)
            }
        }
    }
}

/// Whether the module made it.
pub(crate) fn is_ours(fd: impl AsFd) -> bool {
    Object::id_of(fd).unwrap().is_some()
}

/// eventfd2(2), whoever answers it.
pub(crate) fn native(initval: u32, flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: It takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_eventfd2, initval, flags) };
    if fd < 0 {
        return Err(last_error());
    }
    // SAFETY: The call succeeded, so this is a new descriptor, and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

pub(crate) fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap()
}
