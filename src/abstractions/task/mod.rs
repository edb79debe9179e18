// SPDX-License-Identifier: GPL-2.0

//! What a task may do, and what it is sent.

pub(crate) mod credentials;
pub(crate) mod signal;
