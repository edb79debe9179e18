// SPDX-License-Identifier: GPL-2.0

//! Objects by number.

pub(crate) mod live;
pub(crate) mod registry;
