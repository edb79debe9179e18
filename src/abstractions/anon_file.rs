// SPDX-License-Identifier: GPL-2.0

//! Files on the kernel's anonymous inode, and their descriptors.
//!
//! C headers: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h).

use crate::{
    abstractions::file::{FileOperations, FileVtable},
    bindings, //
};
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    fs::{file::flags, File},
    prelude::*,
    sync::{aref::ARef, Arc},
    types::ForeignOwnable, //
};

/// Makes an open file on `object`, readable and writable, that no directory holds.
///
/// `/proc/PID/fd` shows it as `anon_inode:` and `name`. Of `open_flags`, `O_NONBLOCK` counts.
///
/// Context: may sleep.
///
/// Errors: `ENOMEM`, `ENFILE`, `ENOENT` while the module is going.
///
/// C: `anon_inode_getfile_fmode` in `fs/anon_inodes.c`.
pub(crate) fn create<T: FileOperations>(
    name: &'static CStr,
    object: Arc<T>,
    open_flags: u32,
) -> Result<ARef<File>> {
    let private = object.into_foreign();
    // SAFETY:
    // - `name` is NUL-terminated and static, and so are the operations.
    // - `private` is what the operations expect, and the file owns it if there is one.
    let file = from_err_ptr(unsafe {
        bindings::anon_inode_getfile_fmode(
            name.as_char_ptr(),
            FileVtable::<T>::fops(),
            private,
            ((open_flags & flags::O_NONBLOCK) | flags::O_RDWR) as c_int,
            FileVtable::<T>::EXTRA_MODE,
        )
    })
    .inspect_err(|_| {
        // SAFETY: No file was made, so that nobody owns what `into_foreign` gave.
        drop(unsafe { Arc::<T>::from_foreign(private) });
    })?;
    let file = NonNull::new(file).ok_or(ENOMEM)?;
    // SAFETY: The file is valid, new, and its one reference is ours. No descriptor leads to it, so
    // that nobody is in the middle of using its position.
    Ok(unsafe { ARef::from_raw(file.cast()) })
}
