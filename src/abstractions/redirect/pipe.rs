// SPDX-License-Identifier: GPL-2.0

//! The functions of `fs/pipe.c` that make a pipe and change its size, and answers to them.

use super::{
    hook::{Decide, Entry},
    routes::NamespaceState,
};
use crate::bindings;
use kernel::{
    bindings::{file, F_GETPIPE_SZ, F_SETPIPE_SZ},
    ffi::{c_int, c_long, c_uint},
    fs::File,
    prelude::*,
    sync::aref::ARef, //
};

/// Makes the pipes of members of namespaces with `S`.
pub(crate) trait MakePipe<S> {
    /// Makes the files on a new pipe in the kernel's place: the one to read from, and the one to write to. Returns `None` to have
    /// the kernel make them. The flags are those that pipe2(2) and io_uring let pass.
    ///
    /// Context: as the original's; may sleep.
    fn make(namespace: &S, flags: u32) -> Option<Result<(ARef<File>, ARef<File>)>>;
}

impl Entry {
    /// Redirects `create_pipe_files` for members: pipe(2), pipe2(2), `IORING_OP_PIPE`.
    pub(crate) const fn create_pipe_files<S: NamespaceState, M: MakePipe<S>>() -> Self {
        // SAFETY: The answer has the original's signature. It leaves what the original does: two open files or an error.
        unsafe {
            Self::new(
                c"create_pipe_files",
                Decide::Member,
                create_pipe_files::<S, M> as *const _,
                bindings::resolve_create_pipe_files,
            )
        }
    }

    /// Redirects `pipe_fcntl` for this module's files, whoever calls: fcntl(2) with `F_SETPIPE_SZ` or `F_GETPIPE_SZ`. They get it
    /// as the requests `SET` and `GET` of ioctl(2), the first with the size itself as its argument. A file that does not
    /// know these is no pipe.
    pub(crate) const fn pipe_fcntl<const SET: u32, const GET: u32>() -> Self {
        // SAFETY: The answer has the original's signature, and the first argument is an open file. The kernel relies on nothing
        // that the original does.
        unsafe {
            Self::new(
                c"pipe_fcntl",
                Decide::FileIsOurs,
                pipe_fcntl::<SET, GET> as *const _,
                bindings::resolve_pipe_fcntl,
            )
        }
    }
}

/// Answers `create_pipe_files(res, flags)`.
///
/// # Safety
///
/// As the original's: `res` has to have place for two files.
unsafe extern "C" fn create_pipe_files<S: NamespaceState, M: MakePipe<S>>(
    res: *mut *mut file,
    flags: c_int,
) -> c_int {
    let made = S::routes().with_current(|state| M::make(state, flags as u32));
    match made.flatten() {
        Some(Ok((read, write))) => {
            let raw = |file| ARef::<File>::into_raw(file).cast::<file>().as_ptr();
            // SAFETY: By the function's own requirement there is place for both. The caller gets the references.
            unsafe {
                *res = raw(read);
                *res.add(1) = raw(write);
            }
            0
        }
        Some(Err(error)) => error.to_errno(),
        // SAFETY: They are the arguments of the call.
        None => unsafe { bindings::original_create_pipe_files(res, flags) },
    }
}

/// Answers `pipe_fcntl(file, cmd, arg)`.
///
/// # Safety
///
/// As the original's: `file` has to be open. It has to have operations of this module.
unsafe extern "C" fn pipe_fcntl<const SET: u32, const GET: u32>(
    file: *mut file,
    cmd: c_uint,
    arg: c_uint,
) -> c_long {
    let request = match cmd {
        F_SETPIPE_SZ => SET,
        F_GETPIPE_SZ => GET,
        _ => return EINVAL.to_errno() as c_long,
    };
    // SAFETY: By the function's own requirement the file is open, which keeps its operations.
    let ioctl = unsafe { (*(*file).f_op).unlocked_ioctl };
    // SAFETY: The file is open, and these are its own operations. Requests with numbers for arguments touch no memory of the caller's.
    let result = ioctl.map(|ioctl| unsafe { ioctl(file, request, arg as usize) });
    match result {
        Some(result) if result != ENOTTY.to_errno() as c_long => result,
        _ => EBADF.to_errno() as c_long,
    }
}
