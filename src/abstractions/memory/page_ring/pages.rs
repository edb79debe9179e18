// SPDX-License-Identifier: GPL-2.0

//! The pages that a claim allocates or is done with.

use super::Slot;
use crate::bindings;
use core::{hint::assert_unchecked, mem::MaybeUninit};
use kernel::prelude::*;

/// Memory on its way, a page each: allocated in bulk and not used yet, or not used any more.
///
/// # Invariants
///
/// The first `len` of `pages` are the addresses of pages of which this owns a reference.
pub(super) struct Pages {
    pages: [MaybeUninit<*mut u8>; Self::MAX],
    len: usize,
}

impl Pages {
    const MAX: usize = 16;

    #[inline]
    pub(super) const fn new() -> Self {
        // INVARIANT: There are none.
        Self {
            pages: [const { MaybeUninit::uninit() }; Self::MAX],
            len: 0,
        }
    }

    /// Takes over a slot's memory.
    ///
    /// # Safety
    ///
    /// It is a page, to which the slot owned a reference.
    #[inline]
    pub(super) unsafe fn put(&mut self, memory: *mut u8) {
        if self.len == Self::MAX {
            self.free();
        }
        // INVARIANT: The reference that the slot owned is this one's.
        self.pages[self.len] = MaybeUninit::new(memory);
        self.len += 1;
    }

    /// Takes over what is left in a slot that is not in use, if there is something.
    pub(super) fn put_left(&mut self, slot: &mut Slot) {
        let memory = slot.take();
        if !memory.is_null() {
            // SAFETY: By the invariants of `Slot`.
            unsafe { self.put(memory) };
        }
    }

    /// As [`Pages::put_left`], if it may be used again. If it was shared it is given back at once.
    #[inline(never)]
    pub(super) fn put_unshared(&mut self, slot: &mut Slot) {
        if slot.shared {
            // SAFETY: It was the slot's.
            unsafe { free(slot.take()) };
        } else {
            self.put_left(slot);
        }
    }

    /// Memory for a buffer. If there is none, some is allocated for as many as `wanted` tells.
    #[inline]
    pub(super) fn take(&mut self, wanted: impl FnOnce() -> usize) -> Option<*mut u8> {
        if self.len == 0 {
            self.allocate(wanted());
        }
        // SAFETY: By the type invariants.
        unsafe { assert_unchecked(self.len <= Self::MAX) };
        self.len = self.len.checked_sub(1)?;
        // SAFETY: By the type invariants, it is initialized.
        Some(unsafe { self.pages[self.len].assume_init() })
    }

    /// Allocates so many pages, or as many as there are to be had and fit.
    #[inline(never)]
    fn allocate(&mut self, wanted: usize) {
        // All of them, as storing so many is cheaper than a call.
        self.pages = [const { MaybeUninit::zeroed() }; Self::MAX];
        let wanted = wanted.clamp(1, Self::MAX) as c_uint;
        // SAFETY: There is room for so many pointers. They are null, and filled in from the first on.
        // INVARIANT: So many are pages' addresses.
        self.len = unsafe { bindings::get_user_pages_bulk(wanted, self.pages.as_mut_ptr().cast()) }
            as usize;
    }

    #[inline(never)]
    fn free(&mut self) {
        // SAFETY: By the type invariants, so many are pages that this owns.
        unsafe { bindings::free_user_pages(self.pages.as_mut_ptr().cast(), self.len as c_uint) };
        self.len = 0;
    }
}

impl Drop for Pages {
    #[inline]
    fn drop(&mut self) {
        if self.len > 0 {
            self.free();
        }
    }
}

/// Gives back a slot's memory, if there is some.
///
/// # Safety
///
/// It was a slot's, and is not any more.
#[cold]
pub(super) unsafe fn free(memory: *mut u8) {
    // SAFETY: A slot owns a reference to the page.
    unsafe { bindings::free_user_pages(&mut memory.cast(), u32::from(!memory.is_null())) };
}
