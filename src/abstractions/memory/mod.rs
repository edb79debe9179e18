// SPDX-License-Identifier: GPL-2.0

//! Memory in pages.

pub(crate) mod page_ring;
