// SPDX-License-Identifier: GPL-2.0

//! Commands that are run with an object of their own.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::failure::Failure;

/// Where a command finds its object's descriptor.
pub const FD_VARIABLE: &str = "IPCDEMO_FD";

/// The first descriptor after the standard ones.
const FIRST: i32 = 3;

/// Becomes `command`, with `object` as descriptor 3, or the next one that is free.
pub fn with_object(object: impl AsFd, command: &[OsString]) -> Result<(), Failure> {
    // The object itself is closed on exec; its duplicate is not.
    let passed = fcntl_dupfd_cloexec(object, FIRST)
        .and_then(|fd| fcntl_setfd(&fd, FdFlags::empty()).map(|()| fd))
        .map_err(Failure::because("cannot pass the descriptor on"))?;
    let name = command[0].to_string_lossy();
    let error = Command::new(&command[0])
        .args(&command[1..])
        .env(FD_VARIABLE, passed.into_raw_fd().to_string())
        .exec();
    // As a shell says it.
    let code = match error.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    };
    Err(Failure::with_code(
        code,
        format!("cannot run {name}: {error}"),
    ))
}
