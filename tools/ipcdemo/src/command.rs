// SPDX-License-Identifier: GPL-2.0

//! Commands that are run, with objects of their own or without.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use crate::failure::Failure;

/// Where a command finds its object's descriptor.
pub const FD_VARIABLE: &str = "IPCDEMO_FD";

/// Where a command finds the end of its pipe that it can read from.
pub const READ_FD_VARIABLE: &str = "IPCDEMO_READ_FD";

/// And the one that it can write to.
pub const WRITE_FD_VARIABLE: &str = "IPCDEMO_WRITE_FD";

/// The first descriptor after the standard ones.
const FIRST: i32 = 3;

/// Becomes `command`, with `object` as descriptor 3, or the next one that is free.
pub fn with_object(object: impl Into<OwnedFd>, command: &[OsString]) -> Result<(), Failure> {
    with_objects([(FD_VARIABLE, object.into())], command)
}

/// As [`with_object`], for objects that are found by different variables.
pub fn with_objects<const N: usize>(
    objects: [(&str, OwnedFd); N],
    command: &[OsString],
) -> Result<(), Failure> {
    let mut program = self::command(command);
    for (variable, object) in objects {
        // Its own descriptor is closed on exec, and already here, for the next one's sake.
        let passed = fcntl_dupfd_cloexec(&object, FIRST)
            .and_then(|fd| fcntl_setfd(&fd, FdFlags::empty()).map(|()| fd))
            .map_err(Failure::because("cannot pass the descriptor on"))?;
        program.env(variable, passed.into_raw_fd().to_string());
    }
    Err(cannot_run(command, &program.exec()))
}

/// A command line, whose first word is there.
pub fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Has this process become a command, with its environment, its signals' mask and their dispositions as
/// they are, some of which [`Command`] sets anew; else gives the error.
pub fn replace_process(words: &[OsString]) -> io::Error {
    let words: Result<Vec<_>, _> = words
        .iter()
        .map(|word| CString::new(word.as_bytes()))
        .collect();
    let words = match words {
        Ok(words) => words,
        Err(error) => return error.into(),
    };
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(ptr::null());
    // SAFETY: There is a word, each ends with a NUL, and a null pointer follows the last.
    unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// What is said, and with what status, of a command that does not come to run: what a
/// shell does.
pub fn cannot_run(words: &[OsString], error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound => 127,
        _ => 126,
    };
    let name = words[0].to_string_lossy();
    Failure::with_code(code, format!("cannot run {name}: {error}"))
}
