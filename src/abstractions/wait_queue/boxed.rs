// SPDX-License-Identifier: GPL-2.0

//! A wait queue that can end while somebody is on it.

use super::WaitQueue;
use core::{
    mem::ManuallyDrop,
    ops::Deref,
    pin::Pin,
    ptr, //
};
use kernel::{
    prelude::*,
    sync::LockClassKey,
    types::Opaque, //
};

/// A wait queue in memory of its own, which can end before a file that registered it with a poll
/// table does: see [`PollTable::register_boxed`].
///
/// When it ends, those on it are told by `POLLFREE` to forget it. One that is about to leave just
/// then, on another CPU, may still take the queue's lock: it does so under RCU, so the memory stays
/// for a grace period. The end itself does not wait for that.
///
/// [`PollTable::register_boxed`]: crate::abstractions::vfs::poll::PollTable::register_boxed
///
/// C: `signalfd_cleanup` in `fs/signalfd.c`; the handshake at the top of `fs/eventpoll.c`.
pub(crate) struct WaitQueueBox<T>(ManuallyDrop<Pin<KBox<Inner<T>>>>);

/// The RCU head comes first: `kvfree_call_rcu` wants it in the first page of the allocation.
#[pin_data]
#[repr(C)]
struct Inner<T> {
    rcu: Opaque<kernel::bindings::kvfree_rcu_head>,
    #[pin]
    queue: WaitQueue<T>,
}

// SAFETY: The RCU head is used by the last owner only; the rest is as `WaitQueue`.
unsafe impl<T: Send> Send for WaitQueueBox<T> {}
// SAFETY: As above: shared references give access to the queue only.
unsafe impl<T: Send> Sync for WaitQueueBox<T> {}

#[cfg_attr(
    not(CONFIG_KUNIT = "y"),
    expect(dead_code, reason = "every object's queue lives as long as its files")
)]
impl<T> WaitQueueBox<T> {
    /// Makes a queue with nobody on it.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn new(
        data: T,
        name: &'static CStr,
        key: Pin<&'static LockClassKey>,
    ) -> Result<Self> {
        let inner = KBox::pin_init(
            pin_init!(Inner {
                rcu: Opaque::uninit(),
                queue <- WaitQueue::new(data, name, key),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self(ManuallyDrop::new(inner)))
    }
}

impl<T> Deref for WaitQueueBox<T> {
    type Target = WaitQueue<T>;

    fn deref(&self) -> &WaitQueue<T> {
        &self.0.queue
    }
}

impl<T> Drop for WaitQueueBox<T> {
    fn drop(&mut self) {
        // SAFETY: It is not used again. What is pinned stays where it is until it is freed.
        let inner = unsafe { Pin::into_inner_unchecked(ManuallyDrop::take(&mut self.0)) };
        let inner: *mut Inner<T> = KBox::into_raw(inner);
        // SAFETY: The head is valid. After this call the queue is empty: a task that waits borrows
        // the box, and whoever came by a poll table heeds `POLLFREE`.
        unsafe { kernel::bindings::__wake_up_pollfree((*inner).queue.as_raw()) };
        // SAFETY: Nobody else has access to the data: who still takes the lock, under RCU, does so
        // only to leave the queue.
        unsafe { ptr::drop_in_place((*inner).queue.data.get()) };
        // SAFETY: The memory came from `KBox`, so it can be freed by `kvfree`; the RCU head is at its
        // start. The rest of it needs no destructor.
        unsafe { kernel::bindings::kvfree_call_rcu((*inner).rcu.get(), inner.cast()) };
    }
}
