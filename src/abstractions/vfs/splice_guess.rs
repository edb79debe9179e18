// SPDX-License-Identifier: GPL-2.0

//! Guesses about splice(2) and sendfile(2).
//!
//! The kernel takes a file of ours for no pipe, and asks it to read or write without saying for which system call. Two
//! things that a file must know it has to guess:
//!
//! | the guess | rests on | which holds in `fs/splice.c` because |
//! |---|---|---|
//! | a read or write is for splice(2), which has the pipe at the other end locked, so that it must not sleep: [`nowait_if_spliced`] | it is synchronous, from or to kernel pages: no `ki_complete`, and `ITER_BVEC` | `iter_file_splice_write` writes so, and so does `copy_splice_read` read, which `do_splice_read` prefers to a file's own `splice_read` once the file has `O_DIRECT` |
//! | a write is not the first of its sendfile(2), so that it has to end where the room does: [`write()`] | the pipe that the bytes come from has no `files`, and its `tail` is not 0 | `splice_direct_to_actor` uses a pipe of the task's own, `splice_pipe`, which no file leads to; each call leaves it with a `tail` of 0, and within one each round of `iter_file_splice_write` moves the `tail` |
//!
//! Where the first guess is wrong, another part of the kernel reads or writes synchronously from or to its own pages, and
//! has to expect `EAGAIN`. Where the second is wrong, a sendfile(2) that has moved something already sleeps for room, or a
//! first write fails with `EAGAIN`.
//!
//! This file goes once the module answers splice(2) and sendfile(2) itself.

use crate::{
    abstractions::vfs::file::{is_nonblocking, FileOperations},
    bindings, //
};
use kernel::{
    error::to_result,
    fs::{file::Offset, LocalFile},
    prelude::*, //
};

/// Asks a read or write not to block if it seems to be for splice(2).
///
/// # Safety
///
/// Both are valid, and nobody else uses the flags of the kiocb.
pub(super) unsafe fn nowait_if_spliced(
    kiocb: *mut kernel::bindings::kiocb,
    iter: *const kernel::bindings::iov_iter,
) {
    // SAFETY: By the function's requirements.
    unsafe {
        if (*kiocb).ki_complete.is_none()
            && u32::from((*iter).iter_type) == kernel::bindings::iter_type_ITER_BVEC
        {
            (*kiocb).ki_flags |= bindings::IOCB_NOWAIT;
        }
    }
}

/// Writes the content of a pipe of the kernel's to a file on `object`, and does all waiting before the pipe is locked.
///
/// # Safety
///
/// To be called as `file_operations.splice_write` of a file on `object`, with its arguments, if the file's operations are
/// those of [`FileVtable<T>`](super::file::FileVtable).
pub(super) unsafe fn write<T: FileOperations>(
    object: &T,
    pipe: *mut kernel::bindings::pipe_inode_info,
    file: *mut kernel::bindings::file,
    pos: *mut Offset,
    len: usize,
    flags: c_uint,
) -> isize {
    // SAFETY: The file is valid for the call. Its position may be in use, but not through this.
    let local = unsafe { LocalFile::from_raw_file(file) };
    let mut nonblock = flags & bindings::SPLICE_F_NONBLOCK != 0 || is_nonblocking(local);
    // sendfile(2) comes again with what is left, and is to end where the room does.
    //
    // SAFETY: The pipe is valid. If it has no files, it is this thread's own.
    nonblock |= unsafe { bindings::pipe_is_another_round(pipe) };
    // A caller that will not wait for room does not wait for input, either.
    let flags = if nonblock {
        flags | bindings::SPLICE_F_NONBLOCK
    } else {
        flags
    };
    loop {
        // From another pipe there has to be something first. sendfile(2) has put it into its own.
        //
        // SAFETY: The pipe is valid, and its lock is not held.
        let input = to_result(unsafe { bindings::pipe_wait_for_input(pipe, nonblock) });
        if let Err(error) = input.and_then(|()| object.splice_wait(local, nonblock)) {
            return error.to_errno() as isize;
        }
        // SAFETY: The arguments are those of this operation.
        let ret = unsafe { kernel::bindings::iter_file_splice_write(pipe, file, pos, len, flags) };
        // Another writer was faster.
        if nonblock || ret != EAGAIN.to_errno() as isize {
            return ret;
        }
    }
}
