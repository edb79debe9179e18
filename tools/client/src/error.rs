// SPDX-License-Identifier: GPL-2.0

use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

/// Why one of the module's nodes under `/dev` could not be opened, and what to
/// do about it.
#[derive(Debug)]
pub enum OpenError {
    /// No such node, or nothing behind it: the module is not loaded.
    NotLoaded {
        /// The node.
        path: &'static str,
        /// ENOENT, ENXIO or ENODEV.
        source: io::Error,
    },
    /// The node is there, but not for this user.
    Denied {
        /// The node.
        path: &'static str,
        /// EACCES or EPERM.
        source: io::Error,
    },
    /// Anything else, such as too many open files.
    Other {
        /// The node.
        path: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl OpenError {
    fn new(path: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => Self::NotLoaded { path, source },
            Some(libc::EACCES | libc::EPERM) => Self::Denied { path, source },
            _ => Self::Other { path, source },
        }
    }

    fn cause(&self) -> &io::Error {
        match self {
            Self::NotLoaded { source, .. }
            | Self::Denied { source, .. }
            | Self::Other { source, .. } => source,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded { path, .. } => write!(
                f,
                "{path} is missing: the module is not loaded; \
                 load it with `insmod ipcdemo.ko`, or enter a VM that has it with `make shell`"
            ),
            Self::Denied { path, .. } => write!(
                f,
                "{path} is not open to you: its mode is 0600; become root, \
                 or let root say `chmod 0666 {path}` (until the module is loaded anew)"
            ),
            Self::Other { path, source } => write!(f, "cannot open {path}: {source}"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.cause())
    }
}

impl From<OpenError> for io::Error {
    fn from(error: OpenError) -> Self {
        Self::new(error.cause().kind(), error)
    }
}

/// Opens a node of the module's, close-on-exec, for reading and writing.
pub(crate) fn open_node(path: &'static str, custom_flags: i32) -> Result<File, OpenError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(custom_flags)
        .open(path)
        .map_err(|source| OpenError::new(path, source))
}
