// SPDX-License-Identifier: GPL-2.0

//! Polling of files.
//!
//! C header: [`include/linux/poll.h`](srctree/include/linux/poll.h).

use crate::{
    abstractions::wait_queue::{WaitQueue, WaitQueueBox},
    bindings, //
};
use core::marker::PhantomData;

/// The kernel's `poll_table`, for one call of a file's `poll`.
///
/// The lifetime `'file` is that of the file being polled, up to its `release`. It is invariant and
/// comes from the caller, so an implementation of `poll` can only obtain a `&'file` reference from
/// the file's own data: a queue registered here cannot go away under the poller.
///
/// # Invariants
///
/// - `table` is null or points at a `poll_table` that is valid while this value exists, and `file`
///   at the file being polled, or what else the table's function expects.
/// - Entries that were put on a queue through `table` are taken off it before `'file` ends.
pub(crate) struct PollTable<'file> {
    file: *mut kernel::bindings::file,
    table: *mut kernel::bindings::poll_table,
    _file: PhantomData<fn(&'file ()) -> &'file ()>,
}

impl<'file> PollTable<'file> {
    /// Wraps the arguments of `file_operations.poll`.
    ///
    /// # Safety
    ///
    /// - `table` is null or points at a valid `poll_table`, and `file` at what its function expects of a
    ///   file, for as long as the returned value exists.
    /// - `'file` does not end before `release` of that file is called.
    pub(crate) unsafe fn from_raw(
        file: *mut kernel::bindings::file,
        table: *mut kernel::bindings::poll_table,
    ) -> Self {
        // INVARIANT: The first part is the caller's promise. As to the second: whoever puts an entry
        // on a queue through a table (poll, select, io_uring, aio, …) holds a reference to the file
        // meanwhile. Epoll alone does not, but `__fput` calls `eventpoll_release` before `release`.
        Self {
            file,
            table,
            _file: PhantomData,
        }
    }

    /// Lets the caller of poll wait on `queue` as well, if it means to wait at all.
    ///
    /// What is looked at after this call is looked at after the poller was queued: a full barrier
    /// in `poll_wait` sees to it, so a change made before a wake-up that missed the poller is seen.
    ///
    /// Context: process context, may sleep (epoll allocates its entry).
    ///
    /// C: `poll_wait` in `include/linux/poll.h`.
    #[inline]
    pub(crate) fn register<T>(&self, queue: &'file WaitQueue<T>) {
        // SAFETY:
        // - By the type invariants, `table` is null or valid, and `file` what its function expects.
        // - `queue` is an initialized wait queue head that stays valid for `'file`, and by the type
        //   invariants no entry stays on it for longer.
        unsafe { kernel::bindings::poll_wait(self.file, queue.as_raw(), self.table) }
    }

    /// Whether the caller wants to hear of each event anew, not of a state that lasts: `EPOLLET`.
    /// epoll says so, and io_uring for polls that go on.
    pub(crate) fn wants_edges(&self) -> bool {
        // SAFETY: By the type invariants, `table` is valid if it is not null.
        !self.table.is_null() && unsafe { (*self.table)._key } & bindings::EPOLLET != 0
    }

    /// As [`PollTable::register`], for a queue that may end before the file does.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Safety
    ///
    /// A poller that does not heed `POLLFREE` (epoll, aio and io_uring do; poll and select do not) has
    /// left `queue` before that is dropped. For instance, because whoever polls holds what owns the
    /// queue.
    #[cfg_attr(
        not(CONFIG_KUNIT = "y"),
        expect(dead_code, reason = "every object's queue lives as long as its files")
    )]
    pub(crate) unsafe fn register_boxed<T>(&self, queue: &WaitQueueBox<T>) {
        // SAFETY:
        // - As in `register`.
        // - By the function's requirements, who is on the queue when that is dropped heeds the wake-up
        //   with `POLLFREE`: it leaves the queue then, or is about to under RCU, for whose readers the
        //   memory stays.
        unsafe { kernel::bindings::poll_wait(self.file, queue.as_raw(), self.table) }
    }
}
