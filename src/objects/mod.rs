// SPDX-License-Identifier: GPL-2.0

//! The objects, one file for each kind, ordered as it is used.

#![deny(unsafe_code)]

pub(crate) mod counter;
pub(crate) mod null;

/// Makes ready what the objects share. To be called before the first one is made.
pub(crate) fn init() {
    counter::LIVE.init();
    null::LIVE.init();
}
