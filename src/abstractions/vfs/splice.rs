// SPDX-License-Identifier: GPL-2.0

//! The kernel's own pipes, as splice(2) hands them to a file that is to fill them.
//!
//! C headers: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h),
//! [`include/linux/splice.h`](srctree/include/linux/splice.h).

use crate::bindings;
use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};
use kernel::{error::to_result, prelude::*, types::NotThreadSafe};

/// Bytes of a page, and a reference to that.
///
/// # Invariants
///
/// - Owns one count of the page's references.
/// - The bytes are in the page, and initialized; nobody writes to them as long as there are other references
///   to the page than the writer's.
pub(crate) struct SharedBytes {
    page: NonNull<kernel::bindings::page>,
    offset: u32,
    len: u32,
}

// SAFETY: A page's references are counted atomically, and any thread may give one back.
unsafe impl Send for SharedBytes {}

impl SharedBytes {
    /// Takes another reference to a page, for `len` bytes of it from `offset` on.
    ///
    /// # Safety
    ///
    /// - Somebody holds a reference to `page` during the call.
    /// - The bytes are as the type invariants say.
    pub(in crate::abstractions) unsafe fn get(
        page: NonNull<kernel::bindings::page>,
        offset: u32,
        len: u32,
    ) -> Self {
        // SAFETY: By the function's requirements, the page is there.
        unsafe { bindings::get_page(page.as_ptr()) };
        // INVARIANT: The count is one higher, and this is whose it is; the rest is required.
        Self { page, offset, len }
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the reference is ours to give back.
        unsafe { bindings::put_page(self.page.as_ptr()) };
    }
}

/// A pipe of the kernel's that is being filled: `struct pipe_inode_info`.
///
/// # Invariants
///
/// Points at a valid pipe that this thread has locked, or that nobody else knows.
pub(crate) struct SplicePipe<'a> {
    pipe: NonNull<kernel::bindings::pipe_inode_info>,
    _pipe: PhantomData<&'a mut ()>,
    // A mutex is unlocked by who locked it.
    _not_send: NotThreadSafe,
}

impl SplicePipe<'_> {
    /// Wraps the argument of `file_operations.splice_read`.
    ///
    /// # Safety
    ///
    /// `pipe` points at a pipe that is valid while the returned value exists. This thread holds
    /// its lock, or is the only one that knows it.
    pub(super) unsafe fn from_raw(pipe: NonNull<kernel::bindings::pipe_inode_info>) -> Self {
        // INVARIANT: By the function's requirements.
        Self {
            pipe,
            _pipe: PhantomData,
            _not_send: NotThreadSafe,
        }
    }

    /// Runs `f` without the pipe's lock. After it the pipe may be full, or its readers gone.
    ///
    /// Context: may sleep.
    pub(crate) fn unlocked<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type invariants, the pipe is locked by this thread. Of a pipe that has no
        // files and is this thread's alone the lock is not touched.
        unsafe { bindings::pipe_unlock(self.pipe.as_ptr()) };
        let result = f();
        // SAFETY: The pipe is valid, and not locked by this thread.
        unsafe { bindings::pipe_lock(self.pipe.as_ptr()) };
        result
    }

    /// Sleeps, without the pipe's lock, until there is room in it or nobody who would read it.
    ///
    /// Context: may sleep. Errors: `ERESTARTSYS` if a signal is pending.
    ///
    /// C: `pipe_wait_writable` in `fs/pipe.c`.
    pub(crate) fn wait_for_room(&mut self) -> Result {
        let pipe = self.pipe.as_ptr();
        // SAFETY: By the type invariants, the pipe is valid, and stays so without its lock.
        self.unlocked(|| to_result(unsafe { bindings::pipe_wait_writable(pipe) }))
    }

    /// Puts bytes in, as a packet or not. The reference to their page is the pipe's from then on, and given up
    /// if this fails.
    ///
    /// Errors: `EAGAIN` if there is no room; `EPIPE` if the pipe has no reader, in which case the
    /// task was sent SIGPIPE; `EINVAL` if there are no bytes.
    ///
    /// C: `add_to_pipe` in `fs/splice.c`.
    pub(crate) fn push(&mut self, bytes: SharedBytes, packet: bool) -> Result {
        if bytes.len == 0 {
            return Err(EINVAL);
        }
        let bytes = ManuallyDrop::new(bytes);
        let mut buf = bindings::pipe_buffer {
            page: bytes.page.as_ptr(),
            offset: bytes.offset,
            len: bytes.len,
            // A buffer outlives the module: its operations are the kernel's own. And the page may be
            // shared, so that it is not stolen.
            ops: &raw const bindings::nosteal_pipe_buf_ops,
            flags: if packet {
                bindings::PIPE_BUF_FLAG_PACKET
            } else {
                0
            },
            ..bindings::pipe_buffer::default()
        };
        // SAFETY: By the type invariants, the pipe is valid and locked. The buffer owns the reference
        // to its page, and `add_to_pipe` gives it back if the pipe does not take it.
        let ret = unsafe { bindings::add_to_pipe(self.pipe.as_ptr(), &mut buf) };
        to_result(ret as c_int)
    }
}
