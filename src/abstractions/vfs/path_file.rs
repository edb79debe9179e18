// SPDX-License-Identifier: GPL-2.0

//! One more file where there is one already.
//!
//! C header: [`include/linux/file.h`](srctree/include/linux/file.h).

use crate::{
    abstractions::vfs::file::{FileOperations, FileVtable},
    bindings, //
};
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    fs::file::flags,
    prelude::*, //
};

/// Makes an open file on `path`, which has `operations` whatever its inode says, and no `private_data`. Nobody
/// asks for permission, and nobody who watches is told.
///
/// The kernel has `alloc_file_clone` for this, and keeps it to itself. But it makes a file for `O_PATH` for
/// whoever asks: one that has the path, and a claim on nothing else. What that lacks is what `file_init_path`
/// in `fs/file_table.c` gives a file.
///
/// Context: may sleep. Errors: `ENFILE`, `ENOMEM`; `ENOENT` while the module is going.
///
/// # Safety
///
/// - `path` is valid.
/// - The caller counts a file for reading only in the inode's `i_readcount`, as the file's end takes it off
///   there. Nobody counts those that can write.
/// - `operations` are static, and those of `T`, but for `open` and `owner`. Without an owner, the path keeps the
///   module.
/// - Before anybody else comes to know of the file, or it is released, `private_data` is given what they expect.
#[inline]
pub(super) unsafe fn create<T: FileOperations>(
    path: *const kernel::bindings::path,
    open_flags: u32,
    operations: *const kernel::bindings::file_operations,
) -> Result<NonNull<kernel::bindings::file>> {
    // SAFETY: By the function's requirements, the operations are valid.
    let owner = unsafe { (*operations).owner };
    // The file's end gives the reference back.
    //
    // SAFETY: It is none, or this module, which is valid.
    if !unsafe { kernel::bindings::try_module_get(owner) } {
        return Err(ENOENT);
    }
    // SAFETY: The path is valid, by the function's requirements, and so are the task's own credentials.
    let file = from_err_ptr(unsafe {
        kernel::bindings::dentry_open(path, flags::O_PATH as c_int, bindings::current_cred())
    })
    .inspect_err(|_| {
        // SAFETY: It was taken, and there is no file that would give it back.
        unsafe { kernel::bindings::module_put(owner) };
    })?;
    // SAFETY: The file is valid, nobody else knows it, and it owns a reference to the module, if one with these
    // operations has to.
    unsafe {
        (*file).f_flags = open_flags;
        (*file).f_mode = FileVtable::<T>::mode(open_flags);
        (*file).f_op = operations;
    }
    NonNull::new(file).ok_or(ENOMEM)
}
