// SPDX-License-Identifier: GPL-2.0

//! The objects, one file for each kind, ordered as it is used; a long one has a folder beside it for its parts.

#![deny(unsafe_code)]

pub(crate) mod counter;
pub(crate) mod null;
pub(crate) mod pipe;
pub(crate) mod product;
pub(crate) mod tally;
pub(crate) mod waitq;
