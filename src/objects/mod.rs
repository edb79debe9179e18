// SPDX-License-Identifier: GPL-2.0

//! The objects, one file for each kind, ordered as it is used.

#![deny(unsafe_code)]

use crate::abstractions::tables::live;

pub(crate) mod counter;
pub(crate) mod fifo;
pub(crate) mod null;
pub(crate) mod pipe;
pub(crate) mod pipe_limits;
pub(crate) mod tally;
pub(crate) mod waitq;

/// The lists of the objects' kinds, whose memory is freed when the module goes.
pub(crate) struct Objects;

impl Drop for Objects {
    fn drop(&mut self) {
        live::trim::<null::Null>();
        live::trim::<counter::Counter>();
        live::trim::<waitq::Waitq>();
        live::trim::<pipe::Pipe>();
    }
}
