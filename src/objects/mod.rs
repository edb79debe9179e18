// SPDX-License-Identifier: GPL-2.0

//! The objects, one file for each kind, ordered as it is used.

#![deny(unsafe_code)]

pub(crate) mod counter;
pub(crate) mod fifo;
pub(crate) mod null;
pub(crate) mod pipe;
pub(crate) mod pipe_limits;
pub(crate) mod tally;
pub(crate) mod waitq;

/// What the objects share: the tables of live ones. They can be made while this exists.
pub(crate) struct Objects(());

impl Objects {
    /// Makes the tables ready.
    pub(crate) fn new() -> Self {
        null::LIVE.init();
        Self(())
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        null::LIVE.clear();
    }
}
