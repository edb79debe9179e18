// SPDX-License-Identifier: GPL-2.0

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use crate::{factory, raw};

/// Makes [`Kind`] of the kinds, each with its number in the interface, its name, and the field of
/// `/proc/PID/fdinfo` that tells an object's number among its kind, if there is one.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $number:ident, $name:literal $(, $field:literal)?;)*) => {
        /// What sort of object it is.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
            /// One that this library, older than the module, does not know.
            Unknown(u32),
        }

        impl Kind {
            /// The fields of `/proc/PID/fdinfo` that tell an [`Object::number`], by kind.
            pub const NUMBER_FIELDS: &[&str] = &[$($($field,)?)*];
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$kind => f.pad($name),)*
                    Self::Unknown(kind) => f.pad(&format!("unknown-{kind}")),
                }
            }
        }

        impl From<u32> for Kind {
            fn from(kind: u32) -> Self {
                match kind {
                    $(raw::$number => Self::$kind,)*
                    unknown => Self::Unknown(unknown),
                }
            }
        }
    };
}

kinds! {
    /// A null object.
    Null = IPCDEMO_KIND_NULL, "null", "null-id";
    /// A counter.
    Counter = IPCDEMO_KIND_COUNTER, "counter", "eventfd-id";
    /// A wait queue.
    Waitq = IPCDEMO_KIND_WAITQ, "waitq", "waitq-id";
    /// A pipe.
    Pipe = IPCDEMO_KIND_PIPE, "pipe";
}

/// A live object, as the factory tells of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Object {
    /// Unique among live objects: see [`Object::number`].
    pub id: u64,
    /// What sort of object it is.
    pub kind: Kind,
    /// A counter's count, a wait queue's word, how many buffers of a pipe hold
    /// something; 0 for a null object.
    pub value: u64,
    /// The kind's own flags, such as `CounterFlags::SEMAPHORE`'s bit.
    pub flags: u32,
    /// How many entries are on its wait queues: sleepers, pollers, epoll items. The module counts no
    /// further than [`Object::WAITERS_COUNTED`].
    pub waiters: u32,
    /// The number that `/proc/PID/fd` shows of a pipe, as `pipe:[NUMBER]`; 0 for others.
    pub inode: u32,
}

impl Object {
    /// So many [`waiters`](Object::waiters) stand for as many or more.
    pub const WAITERS_COUNTED: u32 = raw::IPCDEMO_WAITERS_COUNTED;

    /// The id of the counter or pipe behind a descriptor; none if that is none of the module's. Their
    /// names under `/proc` do not tell: one that was made for a member has the kernel's.
    pub fn id_of(fd: impl AsFd) -> io::Result<Option<u64>> {
        let mut id = 0;
        match factory::call(fd.as_fd(), raw::IPCDEMO_IOC_ID, &mut id) {
            Ok(()) => Ok(Some(id)),
            Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its number among its kind, which `/proc/PID/fdinfo` shows in one of
    /// [`Kind::NUMBER_FIELDS`], unless it is a pipe's.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.id as u32
    }
}

impl From<&raw::ipcdemo_object> for Object {
    fn from(object: &raw::ipcdemo_object) -> Self {
        Self {
            id: object.id,
            kind: object.kind.into(),
            value: object.value,
            flags: object.flags,
            waiters: object.waiters,
            inode: object.inode,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{FromRawFd, OwnedFd};

    use super::*;

    /// The kernel's own have no id of ours.
    #[test]
    fn a_native_eventfd_has_no_id() {
        // SAFETY: It takes no pointer, and the descriptor is new.
        let native = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        assert_eq!(Object::id_of(&native).unwrap(), None);
    }
}
