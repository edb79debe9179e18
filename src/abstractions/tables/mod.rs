// SPDX-License-Identifier: GPL-2.0

//! Objects by number.

pub(crate) mod id_table;
