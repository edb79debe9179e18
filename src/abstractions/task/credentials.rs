// SPDX-License-Identifier: GPL-2.0

//! What the running task is allowed, and on whose account it acts.
//!
//! C headers: [`include/linux/cred.h`](srctree/include/linux/cred.h),
//! [`include/linux/capability.h`](srctree/include/linux/capability.h).

use crate::bindings;
use kernel::prelude::*;

/// A privilege: capabilities(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    /// `CAP_SYS_ADMIN`.
    SysAdmin,
    /// `CAP_SYS_RESOURCE`.
    SysResource,
}

/// Whether the running task has a privilege in the initial user namespace. Having asked counts as
/// having used it, and is audited: to be asked only if all depends on it.
///
/// Context: process context, with no lock held that a security module may need.
///
/// C: `capable` in `kernel/capability.c`.
pub(crate) fn capable(capability: Capability) -> bool {
    let capability = match capability {
        Capability::SysAdmin => kernel::bindings::CAP_SYS_ADMIN,
        Capability::SysResource => kernel::bindings::CAP_SYS_RESOURCE,
    };
    // SAFETY: It is a valid capability.
    unsafe { kernel::bindings::capable(capability as c_int) }
}

/// The real user id of the running task as the kernel counts them, outside of any user namespace:
/// the user who is charged for what the task makes, `current_user()->uid`.
///
/// Context: process context.
///
/// C: `current_uid` in `include/linux/cred.h`.
pub(crate) fn current_uid() -> u32 {
    // SAFETY: No requirements.
    unsafe { bindings::current_uid() }.val
}
