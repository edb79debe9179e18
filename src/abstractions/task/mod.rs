// SPDX-License-Identifier: GPL-2.0

//! A task's name and credentials, and the signals that it is sent.

pub(crate) mod credentials;
pub(crate) mod signal;

use crate::bindings;
use kernel::prelude::*;

/// The name of the running thread, padded with zeros: `/proc/thread-self/comm`.
///
/// Context: process context.
///
/// C: `get_task_comm` in `include/linux/sched.h`.
pub(crate) fn current_name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: The running task is valid, and the array as long as a name is.
    unsafe { bindings::get_task_comm(name.as_mut_ptr().cast(), current!().as_ptr()) };
    name
}
