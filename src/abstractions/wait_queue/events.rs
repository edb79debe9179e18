// SPDX-License-Identifier: GPL-2.0

//! Poll events: what a poll reports, and what a wake-up is about.
//!
//! C headers: [`include/uapi/linux/eventpoll.h`](srctree/include/uapi/linux/eventpoll.h),
//! [`include/linux/poll.h`](srctree/include/linux/poll.h).

use crate::bindings;
use kernel::{impl_flags, prelude::*};

impl_flags!(
    /// A set of poll events, a `__poll_t`: what a poll reports, what a wake-up is about.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct PollEvents(u32);

    /// One poll event.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum PollEvent {
        /// There is something to read.
        In = bindings::EPOLLIN,
        /// There is room to write.
        Out = bindings::EPOLLOUT,
        /// Something went wrong.
        Err = bindings::EPOLLERR,
        /// The other end is gone.
        Hup = bindings::EPOLLHUP,
        /// Normal data can be read; some callers wait for this alone.
        RdNorm = bindings::EPOLLRDNORM,
        /// Normal data can be written; some callers wait for this alone.
        WrNorm = bindings::EPOLLWRNORM,
    }
);

impl PollEvents {
    /// The set that a `__poll_t` stands for. `POLLFREE` is no event, and left out.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits & !bindings::POLLFREE)
    }

    /// The set that a wake-up's key stands for: `key_to_poll`.
    pub(crate) fn of_key(key: *mut c_void) -> Self {
        Self::from_bits(key.addr() as u32)
    }

    /// The `__poll_t` that C code expects.
    pub(crate) fn bits(self) -> u32 {
        self.into()
    }
}
