// SPDX-License-Identifier: GPL-2.0

//! This module, as the loader sees it.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h).

use crate::LocalModule;
use core::ptr;
use kernel::{
    module::this_module,
    time::{delay::fsleep, Delta}, //
};

/// The `struct module`.
pub(super) fn as_ptr() -> *mut kernel::bindings::module {
    this_module::<LocalModule>().as_ptr()
}

/// Returns whether the module is loaded: its init has succeeded, and nobody removes it.
///
/// A module whose init fails is freed, whatever files were opened on it meanwhile. So nothing may be opened before.
///
/// Context: any.
pub(super) fn is_live() -> bool {
    state() == kernel::bindings::module_state_MODULE_STATE_LIVE
}

/// Returns whether the module is being removed.
///
/// Context: any.
pub(super) fn is_going() -> bool {
    state() == kernel::bindings::module_state_MODULE_STATE_GOING
}

fn state() -> kernel::bindings::module_state {
    let module = as_ptr();
    // The loader changes it while others look. This is meant as C's `READ_ONCE`.
    //
    // SAFETY: The module is valid while its code runs.
    unsafe { ptr::addr_of!((*module).state).read_volatile() }
}

/// Held while the module's init is at work: to be made first, so that it goes last if init fails.
///
/// The loader frees a module whose init fails without regard to references. A task that opened a node meanwhile was
/// refused, but it may still be in the module's text, or look at its operations, with the reference that it took.
pub(crate) struct Init(());

impl Init {
    pub(crate) fn begin() -> Self {
        Self(())
    }
}

impl Drop for Init {
    /// Context: may sleep. Waits, if init failed, until only the loader has a reference to the module.
    fn drop(&mut self) {
        while state() == kernel::bindings::module_state_MODULE_STATE_COMING && references() > 1 {
            fsleep(Delta::from_millis(1));
        }
    }
}

/// Returns how many references there are to the module; -1 while it is being removed.
///
/// Context: any.
pub(super) fn references() -> core::ffi::c_int {
    // SAFETY: The module is valid.
    unsafe { kernel::bindings::module_refcount(as_ptr()) }
}
