// SPDX-License-Identifier: GPL-2.0

//! A table of objects of one kind, each under a small number.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h).

use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    error::to_result,
    macros::kunit_tests,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed, Release},
        Arc, //
    },
    types::{ForeignOwnable, Opaque}, //
};

/// [`Registry::init`] was not called yet.
const RAW: u32 = 0;
/// [`Registry::init`] is at work.
const BUSY: u32 = 1;
/// The table can be used.
const READY: u32 = 2;

/// A table of objects, meant to be a static. It holds a reference to each object in it.
///
/// # Invariants
///
/// - Once `state` is `READY`, `xa` is an initialized `struct xarray` that allocates from 1 on.
/// - Each entry of it is `XA_ZERO_ENTRY` (a number that a [`Slot`] holds) or came from
///   `Arc::<T>::into_foreign`.
pub(crate) struct Registry<T: 'static> {
    xa: Opaque<kernel::bindings::xarray>,
    state: Atomic<u32>,
    _objects: PhantomData<Arc<T>>,
}

// SAFETY: The xarray serializes access by its lock, and hands out `&T` and `Arc<T>` from any thread
// to any other, hence the bounds.
unsafe impl<T: Send + Sync> Sync for Registry<T> {}

impl<T: Send + Sync> Registry<T> {
    /// An empty table, to be made usable by [`Registry::init`].
    pub(crate) const fn new() -> Self {
        Self {
            xa: Opaque::uninit(),
            state: Atomic::new(RAW),
            _objects: PhantomData,
        }
    }

    /// Makes the table usable. To be called before anything is put in; later calls do nothing.
    pub(crate) fn init(&'static self) {
        if self.state.cmpxchg(RAW, BUSY, Relaxed).is_err() {
            return;
        }
        // From number 1 on; its nodes are charged to who makes the object.
        let flags = kernel::bindings::XA_FLAGS_ALLOC1 | bindings::XA_FLAGS_ACCOUNT;
        // SAFETY: `xa` is valid for writing, and this thread alone got past `RAW`.
        unsafe { kernel::bindings::xa_init_flags(self.xa.get(), flags) };
        // INVARIANT: `xa` is initialized, and empty.
        //
        // Pairs with the acquire in `ready`: who sees `READY` sees an initialized `xa`.
        self.state.store(READY, Release);
    }

    /// The C table, if it is initialized.
    fn ready(&self) -> Result<*mut kernel::bindings::xarray> {
        // Pairs with the release in `init`.
        if self.state.load(Acquire) == READY {
            Ok(self.xa.get())
        } else {
            Err(ENODEV)
        }
    }

    /// Takes the lowest free number for an object to be.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `ENOMEM`, `EBUSY` if no number is free, `ENODEV` before [`Registry::init`].
    pub(crate) fn reserve(&'static self) -> Result<Slot<T>> {
        let xa = self.ready()?;
        let mut id = 0;
        let limit = kernel::bindings::xa_limit {
            min: 1,
            max: i32::MAX as u32,
        };
        // SAFETY: `xa` is initialized. `__xa_alloc` wants the lock held; it may drop it to allocate
        // memory. For a null pointer it stores `XA_ZERO_ENTRY`.
        let ret = unsafe {
            kernel::bindings::xa_lock(xa);
            let ret = kernel::bindings::__xa_alloc(
                xa,
                &mut id,
                core::ptr::null_mut(),
                limit,
                kernel::bindings::GFP_KERNEL_ACCOUNT,
            );
            kernel::bindings::xa_unlock(xa);
            ret
        };
        to_result(ret)?;
        // INVARIANT: The number was allocated just now.
        Ok(Slot { registry: self, id })
    }

    /// The object with this number.
    ///
    /// Context: process context.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<T>> {
        let xa = self.ready().ok()?;
        // SAFETY: `xa` is initialized. A reserved number loads as null. With the lock held no entry
        // leaves the table, so that the reference which the table owns keeps the object alive until
        // there is another.
        unsafe {
            kernel::bindings::xa_lock(xa);
            let entry = kernel::bindings::xa_load(xa, id as usize);
            let object = (!entry.is_null()).then(|| Arc::<T>::borrow(entry).into());
            kernel::bindings::xa_unlock(xa);
            object
        }
    }

    /// Takes the object with this number out of the table.
    ///
    /// Context: process context.
    pub(crate) fn remove(&self, id: u32) -> Option<Arc<T>> {
        let xa = self.ready().ok()?;
        // SAFETY: `xa` is initialized, and its lock is held for `__xa_erase`.
        let entry = unsafe {
            kernel::bindings::xa_lock(xa);
            // A reserved number is left to its `Slot`: it loads as null.
            let entry = kernel::bindings::xa_load(xa, id as usize);
            if !entry.is_null() {
                kernel::bindings::__xa_erase(xa, id as usize);
            }
            kernel::bindings::xa_unlock(xa);
            entry
        };
        // SAFETY: By the type invariants the entry is null or came from `into_foreign`; it is out
        // of the table now, so this is its only owner.
        unsafe { Arc::try_from_foreign(entry) }
    }
}

/// A number of a [`Registry`], taken and not used yet. It is given back when this is dropped.
///
/// # Invariants
///
/// `registry` is initialized and holds `XA_ZERO_ENTRY` under `id`.
pub(crate) struct Slot<T: Send + Sync + 'static> {
    registry: &'static Registry<T>,
    id: u32,
}

impl<T: Send + Sync> Slot<T> {
    /// The number.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Puts the object in.
    ///
    /// Context: process context.
    pub(crate) fn fill(self, object: Arc<T>) {
        let xa = self.registry.xa.get();
        let entry = object.into_foreign();
        // SAFETY: By the type invariants, `xa` is initialized and the number is taken, so that
        // storing needs no memory and cannot fail. The entry came from `into_foreign`.
        unsafe { kernel::bindings::xa_store(xa, self.id as usize, entry, 0) };
        core::mem::forget(self);
    }
}

impl<T: Send + Sync> Drop for Slot<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, `xa` is initialized, and what is under the number is no
        // object.
        unsafe { kernel::bindings::xa_erase(self.registry.xa.get(), self.id as usize) };
    }
}

#[kunit_tests(ipcdemo_registry)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_not_made_ready_refuses() -> Result {
        static TABLE: Registry<u32> = Registry::new();
        assert!(TABLE.reserve().err() == Some(ENODEV));
        assert!(TABLE.get(1).is_none());
        assert!(TABLE.remove(1).is_none());
        Ok(())
    }

    #[test]
    fn numbers_are_the_lowest_free_ones() -> Result {
        static TABLE: Registry<u32> = Registry::new();
        TABLE.init();
        let first = TABLE.reserve()?;
        let second = TABLE.reserve()?;
        assert_eq!((first.id(), second.id()), (1, 2));
        drop(first);
        let again = TABLE.reserve()?;
        assert_eq!(again.id(), 1);
        // A reserved number is no object.
        assert!(TABLE.get(1).is_none());
        assert!(TABLE.remove(1).is_none());
        Ok(())
    }

    #[test]
    fn an_object_is_found_until_it_is_removed() -> Result {
        static TABLE: Registry<u32> = Registry::new();
        TABLE.init();
        for value in 10..13 {
            TABLE.reserve()?.fill(Arc::new(value, GFP_KERNEL)?);
        }
        assert!(TABLE.get(2).is_some_and(|object| *object == 11));
        assert!(TABLE.remove(2).is_some_and(|object| *object == 11));
        assert!(TABLE.remove(2).is_none());
        assert!(TABLE.get(2).is_none());
        assert!(TABLE.get(3).is_some_and(|object| *object == 12));
        assert!(TABLE.remove(1).is_some() && TABLE.remove(3).is_some());
        Ok(())
    }
}
