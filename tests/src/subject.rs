// SPDX-License-Identifier: GPL-2.0

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use ipcdemo_client::{CounterFlags, Factory, Object, raw};

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
    /// Ours.
    Module,
    /// Ours, as the kernel's own calls make them for a member. Only counters are routed.
    Routed,
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
    /// If the module is not loaded.
    pub fn create(self, initval: u32, flags: u32) -> Result<OwnedFd, Errno> {
        match self {
            Self::Native => match outsider::eventfd(initval, flags) {
                Some(fd) => Ok(fd),
                None => native(initval, flags),
            },
            Self::Routed => {
                let fd = native(initval, flags)?;
                let id = Object::id_of(&fd).unwrap();
                assert!(id.is_some(), "the module did not answer");
                Ok(fd)
            }
            Self::Module => {
                let mut args = raw::ipcdemo_counter_args {
                    fd: -1,
                    flags,
                    initval,
                    reserved: 0,
                };
                let pointer = (&raw mut args).cast();
                // SAFETY: `args` is what this request asks for.
                let result = unsafe { raw::ioctl(factory(), raw::IPCDEMO_IOC_COUNTER, pointer) };
                match result {
                    // SAFETY: As above.
                    Ok(_) => Ok(unsafe { OwnedFd::from_raw_fd(args.fd) }),
                    Err(error) => Err(Errno::from_io_error(&error).unwrap()),
                }
            }
        }
    }

    /// What `/proc/self/fd` calls such a counter.
    #[must_use]
    pub fn link(self) -> &'static str {
        match self {
            Self::Native | Self::Routed => "anon_inode:[eventfd]",
            Self::Module => "anon_inode:[ipcdemo-counter]",
        }
    }
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

/// One for all tests: each ioctl stands for itself.
pub(crate) fn factory() -> BorrowedFd<'static> {
    static FACTORY: OnceLock<Factory> = OnceLock::new();
    FACTORY
        .get_or_init(|| Factory::open().unwrap_or_else(|error| panic!("{error}")))
        .as_fd()
}

pub(crate) fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap()
}
