// SPDX-License-Identifier: GPL-2.0

//! The objects, one file for each kind, ordered as it is used.

#![deny(unsafe_code)]

pub(crate) mod counter;
pub(crate) mod fifo;
pub(crate) mod null;
pub(crate) mod pipe;
pub(crate) mod pipe_limits;
pub(crate) mod product;
pub(crate) mod tally;
pub(crate) mod waitq;
