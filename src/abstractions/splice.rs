// SPDX-License-Identifier: GPL-2.0

//! The kernel's own pipes, as splice(2) hands them to a file that is to fill them.
//!
//! C headers: [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h),
//! [`include/linux/splice.h`](srctree/include/linux/splice.h).

use crate::bindings;
use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};
use kernel::{error::to_result, page::PAGE_SIZE, prelude::*, types::NotThreadSafe};

/// A reference to a page.
///
/// # Invariants
///
/// Owns one count of the page's references.
pub(crate) struct PageRef(NonNull<kernel::bindings::page>);

// SAFETY: A page's references are counted atomically, and any thread may give one back.
unsafe impl Send for PageRef {}

impl PageRef {
    /// Takes another reference to a page.
    ///
    /// # Safety
    ///
    /// Somebody holds a reference to `page` during the call.
    pub(crate) unsafe fn get(page: NonNull<kernel::bindings::page>) -> Self {
        // SAFETY: By the function's requirements, the page is there.
        unsafe { bindings::get_page(page.as_ptr()) };
        // INVARIANT: The count is one higher, and this is whose it is.
        Self(page)
    }
}

impl Drop for PageRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the reference is ours to give back.
        unsafe { bindings::put_page(self.0.as_ptr()) };
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

    /// Puts the `len` bytes from `offset` on of a page in, as a packet or not. The page is the pipe's
    /// from then on, and given up if this fails. Nobody may write to these bytes before the pipe is
    /// done with them.
    ///
    /// Errors: `EAGAIN` if there is no room; `EPIPE` if the pipe has no reader, in which case the
    /// task was sent SIGPIPE; `EINVAL` if no such bytes are in a page.
    ///
    /// C: `add_to_pipe` in `fs/splice.c`.
    pub(crate) fn push(&mut self, page: PageRef, offset: u32, len: u32, packet: bool) -> Result {
        if offset
            .checked_add(len)
            .is_none_or(|end| end as usize > PAGE_SIZE)
            || len == 0
        {
            return Err(EINVAL);
        }
        let page = ManuallyDrop::new(page);
        let mut buf = bindings::pipe_buffer {
            page: page.0.as_ptr(),
            offset,
            len,
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
