// SPDX-License-Identifier: GPL-2.0

//! Objects behind an inode, whose files come from open(2).
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use crate::{
    abstractions::vfs::file::{mode, Access, FileOperations},
    bindings, //
};
use core::marker::PhantomData;
use kernel::{
    fs::{file::flags, LocalFile},
    prelude::*, //
};

/// An object behind an inode that open(2) may open again.
///
/// Its files are streams: they have no position, and seeking in them or reading at an offset fails. Nor
/// may reads and writes ask not to block, whatever [`FileOperations::NOWAIT`] says, as with the kernel's own
/// FIFOs.
pub(crate) trait Openable: FileOperations {
    /// Whether `F_SETFL` may set `O_DIRECT` on a file whose inode is no FIFO; on one whose inode is,
    /// it always may. open(2) with that flag fails with `EINVAL` either way, after `open` here and
    /// with a `release`.
    const DIRECT: bool = false;

    /// Called once, before any file is there, with the number of the inode that was made for the object.
    fn placed(&self, _inode: u32) {}

    /// Called for each open(2), on the object that is behind the inode. May sleep for as long as it
    /// takes. An error refuses the open, and `release` is not called then.
    fn open(&self, opening: &Opening<'_>) -> Result;
}

/// A file while it is being opened.
///
/// # Invariants
///
/// Points at a valid file that is being opened by this thread and that nobody else knows. It has
/// been through `stream_open`.
pub(crate) struct Opening<'a>(*mut kernel::bindings::file, PhantomData<&'a ()>);

impl Opening<'_> {
    /// What the file is opened for. Neither, if open(2) was asked for both access modes in one.
    pub(crate) fn access(&self) -> Access {
        // SAFETY: By the type invariants, the file is valid, and not being changed.
        Access::from_mode(unsafe { (*self.0).f_mode })
    }

    /// Whether the open must not block: `O_NONBLOCK`.
    pub(crate) fn is_nonblocking(&self) -> bool {
        // SAFETY: By the type invariants, the file is valid, and not being changed.
        unsafe { (*self.0).f_flags & flags::O_NONBLOCK != 0 }
    }

    /// Leaves a number with the file, which [`mark`] returns from then on.
    pub(crate) fn set_mark(&self, mark: u64) {
        // SAFETY: By the type invariants, the file is valid, and this thread alone uses it. The mark, which is
        // `f_pipe` to the kernel's own, shares its place with `f_pos_lock`, the lock of the position of files
        // that have `FMODE_ATOMIC_POS`. `stream_open` took that mode away, so that nobody takes the lock.
        unsafe { (*self.0).__bindgen_anon_2.f_pipe = mark };
    }
}

/// Returns the number that [`Opening::set_mark`] left with the file, or 0.
pub(crate) fn mark(file: &LocalFile) -> u64 {
    if mode(file) & bindings::FMODE_STREAM == 0 {
        return 0;
    }
    // SAFETY: The file is valid. It has been through `stream_open`, which leaves it without a locked
    // position: of the union, `f_pos_lock` was initialized and is not used after. Nor does the mark
    // change once the file is open.
    unsafe { (*file.as_ptr()).__bindgen_anon_2.f_pipe }
}

/// Turns a file that is being opened into a stream, without a mark.
///
/// # Safety
///
/// `file` points at a valid file on `inode` that nobody else uses yet.
pub(super) unsafe fn begin<'a>(
    inode: *mut kernel::bindings::inode,
    file: *mut kernel::bindings::file,
) -> Opening<'a> {
    // SAFETY: By the function's requirements.
    unsafe {
        kernel::bindings::stream_open(inode, file);
        // open(2) takes `O_ASYNC` and does nothing about it: the file is on no list.
        (*file).f_flags &= !kernel::bindings::FASYNC;
    }
    // INVARIANT: The file is a stream now; the rest is up to the caller.
    let opening = Opening(file, PhantomData);
    opening.set_mark(0);
    opening
}

/// Gives a file the object that its operations work on.
///
/// # Safety
///
/// - `file` points at a valid file with operations out of [`FileVtable<T>`], that nobody else uses yet and that
///   has no object so far.
/// - `object` is what those operations expect.
///
/// [`FileVtable<T>`]: crate::abstractions::vfs::file::FileVtable
pub(super) unsafe fn finish<T: Openable>(file: *mut kernel::bindings::file, object: *mut c_void) {
    // SAFETY: By the function's requirements.
    unsafe {
        (*file).private_data = object;
        if T::DIRECT && (*file).f_flags & flags::O_DIRECT == 0 {
            (*file).f_mode |= bindings::FMODE_CAN_ODIRECT;
        }
    }
}

/// Opens a file on `object`, which [`finish`] has to give it if that went well.
///
/// # Safety
///
/// To be called with the arguments of `file_operations.open`, for operations that are those of
/// [`FileVtable<T>`] but for `open`.
///
/// [`FileVtable<T>`]: crate::abstractions::vfs::file::FileVtable
pub(super) unsafe fn open<T: Openable>(
    inode: *mut kernel::bindings::inode,
    file: *mut kernel::bindings::file,
    object: &T,
) -> Result {
    // SAFETY: By the function's requirements the file is valid; it is in no table yet.
    let opening = unsafe { begin(inode, file) };
    object.open(&opening)
}
