// SPDX-License-Identifier: GPL-2.0

//! This module, as the loader sees it.
//!
//! C header: [`include/linux/module.h`](srctree/include/linux/module.h).

use crate::LocalModule;
use core::{mem, ptr};
use kernel::{
    module::this_module,
    time::{delay::fsleep, Delta}, //
};

/// The `struct module`.
pub(super) fn as_ptr() -> *mut kernel::bindings::module {
    this_module::<LocalModule>().as_ptr()
}

/// Returns whether an object is one of the module's statics.
///
/// Context: any.
///
/// C: `within_module_core`.
pub(super) fn owns<T>(object: *const T) -> bool {
    // SAFETY: The module is valid while its code runs. The address is only looked at.
    unsafe { crate::bindings::within_module(object.cast(), as_ptr()) }
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

/// References that keep the module loaded.
pub(super) struct References(usize);

impl References {
    pub(super) const fn none() -> Self {
        Self(0)
    }

    /// Takes one. Returns `None` while the module is being removed, or is not loaded yet.
    ///
    /// Context: any.
    pub(super) fn take() -> Option<Self> {
        // SAFETY: The module is valid while its code runs.
        let taken = unsafe { kernel::bindings::try_module_get(as_ptr()) };
        taken.then_some(Self(1))
    }

    pub(super) fn add(&mut self, other: Self) {
        self.0 += other.0;
        mem::forget(other);
    }

    /// Keeps the module for good.
    pub(super) fn leak(self) {
        mem::forget(self);
    }
}

impl Drop for References {
    /// Context: what the module's exit waits for: this task runs in its text behind the last one, too.
    fn drop(&mut self) {
        for _ in 0..self.0 {
            // SAFETY: Each is a reference that `take` got.
            unsafe { kernel::bindings::module_put(as_ptr()) };
        }
    }
}
