// SPDX-License-Identifier: GPL-2.0

//! This module, as the loader sees it.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h).

use crate::LocalModule;
use core::ptr;
use kernel::module::this_module;

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
    let module = as_ptr();
    // The loader changes it while others look. This is meant as C's `READ_ONCE`.
    //
    // SAFETY: The module is valid while its code runs.
    let state = unsafe { ptr::addr_of!((*module).state).read_volatile() };
    state == kernel::bindings::module_state_MODULE_STATE_LIVE
}

/// Returns how many references there are to the module; -1 while it is being removed.
///
/// Context: any.
pub(super) fn references() -> core::ffi::c_int {
    // SAFETY: The module is valid.
    unsafe { kernel::bindings::module_refcount(as_ptr()) }
}
