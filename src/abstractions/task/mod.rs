// SPDX-License-Identifier: GPL-2.0

//! A task's credentials, and the signals that it is sent.

pub(crate) mod credentials;
pub(crate) mod signal;
