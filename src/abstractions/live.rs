// SPDX-License-Identifier: GPL-2.0

//! Lists of the live objects of a kind, each under a number, in the order of these.
//!
//! An object has its place in the list in itself, so that adding and removing one takes no memory and only a
//! few instructions: that is part of what making an object costs.

use crate::bindings;
use core::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ops::{ControlFlow, Deref},
    ptr::{self, NonNull}, //
};
use kernel::{
    macros::kunit_tests,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        ArcBorrow, //
    },
    types::ForeignOwnable, //
};

/// A kind of objects that are listed. [`impl_live!`] implements it.
///
/// # Safety
///
/// `entry` always gives the same entry of an object, which is a part of it, and `list` always the same list.
pub(crate) unsafe trait Live: Send + Sync + Sized + 'static {
    /// What the object keeps in its entry, beside the number: four bytes are there for nothing otherwise.
    type Beside: Send + Sync;

    /// The object's place in the list.
    fn entry(&self) -> &Entry<Self, Self::Beside>;

    /// The list.
    fn list() -> &'static List<Self>;
}

/// Implements [`Live`] for a type that has its [`Entry`] in the field with this name, and something beside the
/// number if so it is told.
macro_rules! impl_live {
    ($object:ty, $entry:ident) => {
        $crate::abstractions::live::impl_live!($object, $entry, ());
    };
    ($object:ty, $entry:ident, $beside:ty) => {
        // It is a field, and not one of what the object leads to; and it is aligned.
        const _: usize = ::core::mem::offset_of!($object, $entry);
        const _: fn(&$object) = |object| {
            let _ = &object.$entry;
        };

        #[allow(unsafe_code, reason = "the field is what the trait asks for")]
        // SAFETY: The entry is a field of the object, and the list a static.
        unsafe impl $crate::abstractions::live::Live for $object {
            type Beside = $beside;

            #[inline]
            fn entry(&self) -> &$crate::abstractions::live::Entry<Self, $beside> {
                let entry: *const $crate::abstractions::live::Entry<Self, $beside> =
                    &raw const self.$entry;
                // SAFETY: It is a part of what `self` refers to: a raw pointer does not coerce from one to
                // an entry elsewhere, as a reference would.
                unsafe { &*entry }
            }

            #[inline]
            fn list() -> &'static $crate::abstractions::live::List<Self> {
                static LIST: $crate::abstractions::live::List<$object> =
                    $crate::abstractions::live::List::new();
                &LIST
            }
        }
    };
}
pub(crate) use impl_live;

/// An object on a list.
type Link<T> = Option<NonNull<T>>;

/// An object's place in the list of its kind.
///
/// # Invariants
///
/// `number` changes with the lock held. It is not 0 if, and only if, the object is on its kind's list.
pub(crate) struct Entry<T, D = ()> {
    number: Atomic<u32>,
    beside: D,
    /// The neighbors. Guarded by the lock.
    previous: UnsafeCell<Link<T>>,
    next: UnsafeCell<Link<T>>,
}

// SAFETY: The links are used with the lock held only, and lead to what may be used from any thread.
unsafe impl<T: Send + Sync, D: Send> Send for Entry<T, D> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync, D: Sync> Sync for Entry<T, D> {}

impl<T> Entry<T> {
    /// That of an object that is not on a list.
    pub(crate) const fn new() -> Self {
        Self::with(())
    }
}

impl<T, D> Entry<T, D> {
    /// The same, with something beside the number.
    pub(crate) const fn with(beside: D) -> Self {
        // INVARIANT: There is neither a number nor a list.
        Self {
            number: Atomic::new(0),
            beside,
            previous: UnsafeCell::new(None),
            next: UnsafeCell::new(None),
        }
    }

    /// What is beside the number.
    #[inline]
    pub(crate) fn beside(&self) -> &D {
        &self.beside
    }

    /// The number under which the object is listed, 0 if it is not.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Relaxed)
    }
}

/// The list of the live objects of a kind.
///
/// # Invariants
///
/// - From `first` on, along `next`, and from `last` on, along `previous`, are the same objects. Their numbers ascend.
/// - For each of them there is a [`Listed`], which takes it off before it gives up its reference.
/// - All links are used with the lock held only.
pub(crate) struct List<T> {
    first: UnsafeCell<Link<T>>,
    last: UnsafeCell<Link<T>>,
}

// SAFETY: The lock serializes access, and objects may be used and dropped on any thread.
unsafe impl<T: Send + Sync> Sync for List<T> {}

impl<T: Live> List<T> {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        // INVARIANT: There are no objects.
        Self {
            first: UnsafeCell::new(None),
            last: UnsafeCell::new(None),
        }
    }

    /// Where the link to the object behind `previous` is, and the one to the object before `next`.
    ///
    /// # Safety
    ///
    /// Both are on this list, if they are any, and the lock is held.
    #[inline]
    unsafe fn links(&self, previous: Link<T>, next: Link<T>) -> (*mut Link<T>, *mut Link<T>) {
        // SAFETY: By the type invariants, they are alive.
        unsafe {
            (
                previous.map_or(self.first.get(), |it| it.as_ref().entry().next.get()),
                next.map_or(self.last.get(), |it| it.as_ref().entry().previous.get()),
            )
        }
    }

    /// Where there is a number for one more object: behind the last one, so that the list is in order; in the
    /// first gap only once the numbers went up to the highest. Gives the neighbors, and the number.
    ///
    /// # Safety
    ///
    /// The lock is held.
    #[inline]
    unsafe fn place(&self) -> Option<(Link<T>, Link<T>, u32)> {
        // SAFETY: By the function's requirements; the objects on the list are alive.
        unsafe {
            let last = *self.last.get();
            let number = last.map_or(0, |last| last.as_ref().entry().number());
            match number.checked_add(1) {
                Some(number) => Some((last, None, number)),
                None => self.first_gap(),
            }
        }
    }

    /// The first place where a number is free.
    ///
    /// # Safety
    ///
    /// The lock is held.
    #[cold]
    unsafe fn first_gap(&self) -> Option<(Link<T>, Link<T>, u32)> {
        let (mut previous, mut number) = (None, 1);
        loop {
            // SAFETY: As in `place`.
            unsafe {
                let next = *self.links(previous, None).0;
                if next?.as_ref().entry().number() != number {
                    return Some((previous, next, number));
                }
                previous = next;
                number = number.checked_add(1)?;
            }
        }
    }
}

/// The lock of all lists, held.
struct Lock;

impl Lock {
    #[inline]
    fn take() -> Self {
        // SAFETY: Process context, by the contexts of the functions below: no interrupt takes it.
        unsafe { bindings::live_lock() };
        Self
    }
}

impl Drop for Lock {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: This thread took it.
        unsafe { bindings::live_unlock() };
    }
}

/// A reference to an object that was put on the list of its kind. It is taken off with that at the latest.
pub(crate) struct Listed<T: Live>(Arc<T>);

impl<T: Live> Deref for Listed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Live> Drop for Listed<T> {
    #[inline]
    fn drop(&mut self) {
        remove(&*self.0);
    }
}

// SAFETY: It is `Arc`'s.
unsafe impl<T: Live> ForeignOwnable for Listed<T> {
    const FOREIGN_ALIGN: usize = Arc::<T>::FOREIGN_ALIGN;

    type Borrowed<'a> = ArcBorrow<'a, T>;
    type BorrowedMut<'a> = ArcBorrow<'a, T>;

    fn into_foreign(self) -> *mut c_void {
        let this = ManuallyDrop::new(self);
        // SAFETY: It is not used any more, and not dropped.
        unsafe { ptr::read(&this.0) }.into_foreign()
    }

    unsafe fn from_foreign(ptr: *mut c_void) -> Self {
        // SAFETY: By the function's requirements.
        Self(unsafe { Arc::from_foreign(ptr) })
    }

    unsafe fn borrow<'a>(ptr: *mut c_void) -> ArcBorrow<'a, T> {
        // SAFETY: By the function's requirements.
        unsafe { Arc::borrow(ptr) }
    }

    unsafe fn borrow_mut<'a>(ptr: *mut c_void) -> ArcBorrow<'a, T> {
        // SAFETY: By the function's requirements.
        unsafe { Arc::borrow_mut(ptr) }
    }
}

/// Puts an object on the list of its kind.
///
/// Context: process context.
///
/// Errors: `EBUSY` if it is on the list already, or no number is free.
pub(crate) fn add<T: Live>(object: Arc<T>) -> Result<Listed<T>> {
    let list = T::list();
    let lock = Lock::take();
    let entry = object.entry();
    if entry.number() != 0 {
        return Err(EBUSY);
    }
    // SAFETY: The lock is held.
    let (previous, next, number) = unsafe { list.place() }.ok_or(EBUSY)?;
    let link = NonNull::new(Arc::as_ptr(&object).cast_mut());
    // SAFETY: The lock is held.
    // INVARIANT: The object is linked between its neighbors, and the number is between theirs. What is returned takes
    // it off.
    unsafe {
        *entry.previous.get() = previous;
        *entry.next.get() = next;
        let (behind, before) = list.links(previous, next);
        *behind = link;
        *before = link;
    }
    entry.number.store(number, Relaxed);
    drop(lock);
    Ok(Listed(object))
}

/// Takes an object off the list of its kind, if it is on it. Who calls this during an [`add`] of the object
/// may find it to be on the list or not.
///
/// Context: process context.
#[inline]
pub(crate) fn remove<T: Live>(object: &T) {
    if object.entry().number() != 0 {
        remove_listed(object);
    }
}

fn remove_listed<T: Live>(object: &T) {
    let entry = object.entry();
    let _lock = Lock::take();
    if entry.number() == 0 {
        return;
    }
    // SAFETY: The lock is held, and the object is on the list, so that its neighbors are.
    // INVARIANT: The neighbors are linked with each other; the object is on no list.
    unsafe {
        let (previous, next) = (*entry.previous.get(), *entry.next.get());
        let (behind, before) = T::list().links(previous, next);
        *behind = next;
        *before = previous;
    }
    entry.number.store(0, Relaxed);
}

/// Calls `f` with the objects whose numbers are above `after`, in order, until it breaks off.
///
/// `f` may neither sleep, nor add or remove an object. Every now and then others get the lock, which is a spinlock.
/// Each time it begins anew and passes over what is before, so that to list `n` of them is in the order of `n * n`.
///
/// Context: process context.
pub(crate) fn for_each_after<T: Live>(
    mut after: u32,
    f: &mut dyn FnMut(u32, &T) -> ControlFlow<()>,
) {
    let list = T::list();
    let mut left = 0;
    while left == 0 {
        left = AT_ONCE;
        let _lock = Lock::take();
        let mut previous = None;
        // SAFETY: The lock is held, so that what is on the list stays there, and by the type invariants alive.
        while let Some(object) = unsafe { *list.links(previous, None).0 } {
            previous = Some(object);
            // SAFETY: As above.
            let object = unsafe { object.as_ref() };
            let number = object.entry().number();
            if number <= after {
                continue;
            }
            if left == 0 {
                break;
            }
            if f(number, object).is_break() {
                return;
            }
            after = number;
            left -= 1;
        }
    }
}

/// How many objects are looked at before others get the lock.
const AT_ONCE: u32 = 64;

#[kunit_tests(ipcdemo_live)]
mod tests {
    use super::*;

    struct Probe {
        value: u32,
        entry: Entry<Self>,
    }

    impl_live!(Probe, entry);

    fn probe(value: u32) -> Result<Arc<Probe>> {
        let entry = Entry::new();
        Ok(Arc::new(Probe { value, entry }, GFP_KERNEL)?)
    }

    /// What is on the list behind a number: numbers and values.
    fn listed(after: u32) -> Result<KVec<(u32, u32)>> {
        let mut all = KVec::with_capacity(8, GFP_KERNEL)?;
        for_each_after::<Probe>(after, &mut |number, probe| match all
            .push_within_capacity((number, probe.value))
        {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        Ok(all)
    }

    /// How many are on the list, which are the first ones in the order of their values.
    fn count_listed() -> u32 {
        let mut count = 0;
        for_each_after::<Probe>(0, &mut |_, probe| {
            assert_eq!(probe.value, count);
            count += 1;
            ControlFlow::Continue(())
        });
        count
    }

    /// One test, as there is one list.
    #[test]
    fn objects_are_told_in_order_while_they_are_on_the_list() -> Result {
        let probes = [probe(10)?, probe(11)?, probe(12)?, probe(13)?];
        let mut listed_probes = KVec::new();
        for probe in &probes {
            remove(&**probe);
            listed_probes.push(add(probe.clone())?, GFP_KERNEL)?;
            assert_eq!(add(probe.clone()).err(), Some(EBUSY));
        }
        assert!(listed(0)?[..] == [(1, 10), (2, 11), (3, 12), (4, 13)]);
        assert!(listed(2)?[..] == [(3, 12), (4, 13)]);

        remove(&*probes[1]);
        assert_eq!(probes[1].entry.number(), 0);
        remove(&*probes[1]);
        assert!(listed(0)?[..] == [(1, 10), (3, 12), (4, 13)]);
        assert!(listed(1)?[..] == [(3, 12), (4, 13)]);

        // As if the numbers had gone up to the highest: the first gap is next, and then the ones behind.
        probes[3].entry.number.store(u32::MAX, Relaxed);
        listed_probes.push(add(probes[1].clone())?, GFP_KERNEL)?;
        assert!(listed(0)?[..] == [(1, 10), (2, 11), (3, 12), (u32::MAX, 13)]);
        let more = [add(probe(14)?)?, add(probe(15)?)?];
        let behind = listed(2)?;
        assert!(behind[..] == [(3, 12), (4, 14), (5, 15), (u32::MAX, 13)]);
        remove(&*probes[0]);
        listed_probes.push(add(probes[0].clone())?, GFP_KERNEL)?;
        assert!(listed(0)?[..2] == [(1, 10), (2, 11)]);

        // At either end, in between, and the last one; by who has them, or by anybody.
        drop(listed_probes);
        assert!(listed(0)?[..] == [(4, 14), (5, 15)]);
        remove(&*more[1]);
        remove(&*more[0]);
        assert!(listed(0)?.is_empty());
        drop(more);
        assert!(probes.iter().all(|probe| probe.entry.number() == 0));
        let last = add(probes[2].clone())?;
        assert!(listed(0)?[..] == [(1, 12)]);
        drop(last);

        let mut many = KVec::new();
        for count in [AT_ONCE - 1, 1, AT_ONCE, 1] {
            let before = count_listed();
            for value in before..before + count {
                many.push(add(probe(value)?)?, GFP_KERNEL)?;
            }
            assert_eq!(count_listed(), before + count);
        }
        Ok(())
    }
}
