// SPDX-License-Identifier: GPL-2.0

//! Signals of the running task.
//!
//! C header: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h).

use kernel::prelude::*;

/// Sends the running task SIGPIPE: it wrote to what nobody will read.
///
/// Context: process context.
///
/// C: `send_sig(SIGPIPE, current, 0)`.
pub(crate) fn send_sigpipe() {
    // SAFETY: `current` is valid. A signal that cannot be queued is delivered without its details.
    unsafe {
        kernel::bindings::send_sig(
            kernel::bindings::SIGPIPE as c_int,
            kernel::bindings::get_current(),
            0,
        )
    };
}

/// Whether a signal wants the running task to come back to user space.
///
/// Context: process context.
pub(crate) fn signal_pending() -> bool {
    current!().signal_pending()
}
