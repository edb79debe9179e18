// SPDX-License-Identifier: GPL-2.0

//! The object that a command is about.

use std::env;
use std::fs::OpenOptions;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use ipcdemo_client::{Counter, OpenError, Waitq};
use rustix::io::fcntl_dupfd_cloexec;

use crate::cli::Target;
use crate::command;
use crate::failure::Failure;

/// A kind of object of which there is one that everybody shares.
pub trait Shared: From<OwnedFd> {
    /// Opens the shared one.
    fn open_shared() -> Result<Self, OpenError>;
}

impl Shared for Counter {
    fn open_shared() -> Result<Self, OpenError> {
        Self::open_shared(false)
    }
}

impl Shared for Waitq {
    fn open_shared() -> Result<Self, OpenError> {
        Self::open_shared(false)
    }
}

/// Opens what the command line names, or else what a `with` passed on, or else the
/// shared one.
pub fn open<T: Shared>(target: &Target) -> Result<T, Failure> {
    if let Some(fd) = target.fd {
        return inherited(fd);
    }
    if let Some(path) = &target.on {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(Failure::because(format_args!(
                "cannot open {}",
                path.display()
            )))?;
        return Ok(OwnedFd::from(file).into());
    }
    match env::var(command::FD_VARIABLE) {
        Ok(fd) => inherited(
            fd.parse()
                .map_err(|_| Failure::new(format!("${} is no number", command::FD_VARIABLE)))?,
        ),
        Err(_) => Ok(T::open_shared()?),
    }
}

fn inherited<T: Shared>(fd: RawFd) -> Result<T, Failure> {
    let what = format!("cannot use descriptor {fd}");
    if fd < 0 {
        return Err(Failure::new(what));
    }
    // SAFETY: It is not -1, and duplicating is all that is done with it: should
    // it not be open, the kernel says so.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let fd = fcntl_dupfd_cloexec(borrowed, 0).map_err(Failure::because(what))?;
    Ok(fd.into())
}
