// SPDX-License-Identifier: GPL-2.0

//! Lists of the live objects of a kind, each under a number, in the order of these.
//!
//! A list is a tree of chunks, and a chunk has room for the objects with so many successive numbers. Adding and
//! removing an object takes a few instructions, which are part of what making an object costs: the chunk that new
//! objects go to is at hand, and an object knows the chunk that it is in. Whoever lists the objects finds the chunk with
//! a number in the tree, and takes references to the objects of one chunk at a time: so listing `n` of them takes time
//! in the order of `n`, and the lock is never held for longer than one chunk takes.

use crate::{
    abstractions::vfs::file::{FileOperations, Holder},
    bindings, //
};
use core::{
    cell::{Cell, UnsafeCell},
    iter,
    mem::ManuallyDrop,
    ops::Deref,
    ptr, //
};
use kernel::{
    macros::kunit_tests,
    prelude::*,
    rbtree::{self, RBTree, RBTreeNodeReservation},
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
        $crate::abstractions::tables::live::impl_live!($object, $entry, ());
    };
    ($object:ty, $entry:ident, $beside:ty) => {
        // It is a field, and not one of what the object leads to; and it is aligned.
        const _: usize = ::core::mem::offset_of!($object, $entry);
        const _: fn(&$object) = |object| {
            let _ = &object.$entry;
        };

        #[allow(unsafe_code, reason = "the field is what the trait asks for")]
        // SAFETY: The entry is a field of the object, and the list a static.
        unsafe impl $crate::abstractions::tables::live::Live for $object {
            type Beside = $beside;

            #[inline]
            fn entry(&self) -> &$crate::abstractions::tables::live::Entry<Self, $beside> {
                let entry: *const $crate::abstractions::tables::live::Entry<Self, $beside> =
                    &raw const self.$entry;
                // SAFETY: It is a part of what `self` refers to: a raw pointer does not coerce from one to
                // an entry elsewhere, as a reference would.
                unsafe { &*entry }
            }

            #[inline]
            fn list() -> &'static $crate::abstractions::tables::live::List<Self> {
                static LIST: $crate::abstractions::tables::live::List<$object> =
                    $crate::abstractions::tables::live::List::new();
                &LIST
            }
        }
    };
}
pub(crate) use impl_live;

/// How many successive numbers a chunk is for. With its place in the tree it takes 512 bytes then.
const CHUNK: u32 = 56;

/// The objects with the numbers from `first` on.
///
/// # Invariants
///
/// - All but `first` is used with the lock held only.
/// - Each of `objects` is null, or came from [`Arc::as_ptr`] of an object to which a [`Listed`] has a reference, and
///   which that takes out before it gives the reference up. `len` of them are not null.
struct Chunk<T> {
    first: u32,
    len: Cell<u32>,
    objects: [Cell<*const T>; CHUNK as usize],
}

impl<T> Chunk<T> {
    fn new(first: u32) -> Self {
        // INVARIANT: There are no objects.
        Self {
            first,
            len: Cell::new(0),
            objects: [const { Cell::new(ptr::null()) }; CHUNK as usize],
        }
    }

    /// Returns the place of the object with this number, which is one of the chunk's.
    #[inline]
    fn place(&self, number: u32) -> &Cell<*const T> {
        &self.objects[(number - self.first) as usize]
    }
}

/// An object's place in the list of its kind.
///
/// # Invariants
///
/// `number` and `chunk` change with the lock held. While `number` is not 0, the object is on its kind's list, in `chunk`,
/// which is there for as long.
pub(crate) struct Entry<T, D = ()> {
    number: Atomic<u32>,
    beside: D,
    chunk: Cell<*const Chunk<T>>,
}

// SAFETY: The chunk is used with the lock held only, and leads to what may be used from any thread.
unsafe impl<T: Send + Sync, D: Send> Send for Entry<T, D> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync, D: Sync> Sync for Entry<T, D> {}

impl<T> Entry<T> {
    /// Returns the entry of an object that is not on a list.
    pub(crate) const fn new() -> Self {
        Self::with(())
    }
}

impl<T, D> Entry<T, D> {
    /// As [`Entry::new`], with something beside the number.
    pub(crate) const fn with(beside: D) -> Self {
        // INVARIANT: There is no number.
        Self {
            number: Atomic::new(0),
            beside,
            chunk: Cell::new(ptr::null()),
        }
    }

    /// Returns what is beside the number.
    #[inline]
    pub(crate) fn beside(&self) -> &D {
        &self.beside
    }

    /// Returns the number under which the object is listed, or 0 if it is not.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Relaxed)
    }
}

/// The list of the live objects of a kind.
///
/// A number is not given to another object before the numbers have gone up to the highest once.
pub(crate) struct List<T>(UnsafeCell<Option<Chunks<T>>>);

// SAFETY: The lock serializes access, and objects may be used and dropped on any thread.
unsafe impl<T: Send + Sync> Sync for List<T> {}

impl<T: Live> List<T> {
    /// Returns an empty list.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }

    /// Returns what is on the list, once something was.
    #[inline]
    fn chunks<'a>(&'static self, _lock: &'a mut Lock) -> &'a mut Option<Chunks<T>> {
        // SAFETY: The lock is held for `'a`, and borrowed so that there is one such reference at a time.
        unsafe { &mut *self.0.get() }
    }
}

/// The content of a list.
///
/// # Invariants
///
/// - The key of a chunk in the tree is its first number, and all of these are [`CHUNK`] apart.
/// - `last` is null, with `used` being [`CHUNK`]; or it is a chunk in the tree, of whose numbers the first `used` were
///   given out.
/// - Each other chunk in the tree has an object.
struct Chunks<T> {
    tree: RBTree<u32, Chunk<T>>,
    /// Where new objects go.
    last: *const Chunk<T>,
    used: u32,
    /// The first number of the chunk that is to be `last` next, if there is none yet.
    next: u32,
}

impl<T: Live> Chunks<T> {
    fn new() -> Self {
        // INVARIANT: There are no chunks.
        Self {
            tree: RBTree::new(),
            last: ptr::null(),
            used: CHUNK,
            next: 1,
        }
    }

    /// Puts an object on the list. Returns whether it could: without numbers left it needs a chunk first.
    ///
    /// # Safety
    ///
    /// `object` came from [`Arc::as_ptr`], its entry has no number, and a [`Listed`] is about to refer to it.
    #[inline]
    unsafe fn put(&mut self, object: *const T) -> bool {
        if self.used == CHUNK {
            return false;
        }
        // SAFETY: By the type invariants there is a last chunk. The object is valid by the function's requirements.
        let (chunk, entry) = unsafe { (&*self.last, (*object).entry()) };
        let number = chunk.first + self.used;
        // INVARIANT: The object is in the chunk, under a number that was not given out.
        chunk.place(number).set(object);
        chunk.len.set(chunk.len.get() + 1);
        self.used += 1;
        entry.chunk.set(chunk);
        entry.number.store(number, Relaxed);
        true
    }

    /// Takes the object of an entry with a number off the list.
    #[inline]
    fn take_off(&mut self, entry: &Entry<T, T::Beside>) {
        // SAFETY: By the invariants of `Entry`, the chunk is there.
        let chunk = unsafe { &*entry.chunk.get() };
        // INVARIANT: The object is in no chunk, and has no number.
        chunk.place(entry.number()).set(ptr::null());
        chunk.len.set(chunk.len.get() - 1);
        entry.number.store(0, Relaxed);
        if chunk.len.get() == 0 && !ptr::eq(chunk, self.last) {
            self.tree.remove_node(&chunk.first);
        }
    }

    /// Has new objects go to no chunk, and frees the last one if nothing is in it.
    fn retire_last(&mut self) {
        // SAFETY: By the type invariants, it is null or in the tree.
        let last = unsafe { self.last.as_ref() };
        // INVARIANT: The chunk is as others are: it has an object or goes.
        (self.last, self.used) = (ptr::null(), CHUNK);
        if let Some(empty) = last.filter(|last| last.len.get() == 0) {
            self.tree.remove_node(&empty.first);
        }
    }

    /// Has new objects go to a new chunk. Fails, and returns the memory for it, if each of the next [`CHUNK`] places has
    /// a chunk: then one has to try again from there.
    fn extend(&mut self, memory: Memory<T>) -> Result<(), Memory<T>> {
        self.retire_last();
        for _ in 0..CHUNK {
            let first = self.next;
            // The last few numbers are not enough for a chunk.
            self.next = match first.checked_add(2 * CHUNK) {
                Some(_) => first + CHUNK,
                None => 1,
            };
            if let rbtree::Entry::Vacant(place) = self.tree.entry(first) {
                // INVARIANT: The chunk is in the tree under its first number, and none of them was given out.
                self.last = place.insert(Chunk::new(first), memory);
                self.used = 0;
                return Ok(());
            }
        }
        Err(memory)
    }
}

/// Memory for a chunk and its place in the tree.
type Memory<T> = RBTreeNodeReservation<u32, Chunk<T>>;

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

/// A reference to an object that was put on the list of its kind. The object is taken off when this is dropped, at the
/// latest.
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

// SAFETY: It does as `Arc` does.
unsafe impl<T: FileOperations + Live> Holder for Listed<T> {
    type Object = T;
}

/// Puts an object on the list of its kind.
///
/// Context: may sleep.
///
/// Errors: `EBUSY` if the object is on the list already; `ENOMEM`.
pub(crate) fn add<T: Live>(object: Arc<T>) -> Result<Listed<T>> {
    let mut memory = None;
    loop {
        {
            let mut lock = Lock::take();
            if object.entry().number() != 0 {
                return Err(EBUSY);
            }
            let chunks = T::list().chunks(&mut lock).get_or_insert_with(Chunks::new);
            // Another task may have been faster.
            if let Some(new) = memory.take_if(|_| chunks.used == CHUNK) {
                memory = chunks.extend(new).err();
            }
            // SAFETY: The pointer is the `Arc`'s, and what is returned refers to the object.
            if unsafe { chunks.put(Arc::as_ptr(&object)) } {
                break;
            }
        }
        if memory.is_none() {
            memory = Some(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?);
        }
    }
    Ok(Listed(object))
}

/// Takes an object off the list of its kind, if it is on it. A caller that races with an [`add`] of the object may find
/// it on the list or not.
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
    let mut lock = Lock::take();
    if entry.number() == 0 {
        return;
    }
    if let Some(chunks) = T::list().chunks(&mut lock) {
        chunks.take_off(entry);
    }
}

/// Frees the memory that a kind's list has while nothing is on it.
///
/// Context: process context.
pub(crate) fn trim<T: Live>() {
    let mut lock = Lock::take();
    if let Some(chunks) = T::list().chunks(&mut lock) {
        chunks.retire_last();
    }
}

/// Returns the objects on the list of their kind whose numbers are above `after`, in order: those that are there all the
/// time, and of those that come or go meanwhile some.
///
/// Context: process context. An object may end with the reference that is returned.
pub(crate) fn after<T: Live>(after: u32) -> impl Iterator<Item = (u32, Arc<T>)> {
    let mut batch = Batch::<T>::new(after);
    iter::from_fn(move || loop {
        if let Some(object) = batch.next() {
            return Some(object);
        }
        batch.fetch()?;
    })
}

/// References to the objects of one chunk.
struct Batch<T> {
    first: u32,
    objects: [Option<Arc<T>>; CHUNK as usize],
    /// How many of them were given out.
    done: u32,
    /// The highest number that was looked for.
    after: u32,
}

impl<T: Live> Batch<T> {
    fn new(after: u32) -> Self {
        Self {
            first: 0,
            objects: [const { None }; CHUNK as usize],
            done: CHUNK,
            after,
        }
    }

    fn next(&mut self) -> Option<(u32, Arc<T>)> {
        while self.done < CHUNK {
            let index = self.done;
            self.done += 1;
            if let Some(object) = self.objects[index as usize].take() {
                return Some((self.first + index, object));
            }
        }
        None
    }

    /// Goes on to the next chunk, if there is one.
    fn fetch(&mut self) -> Option<()> {
        // The chunk that the next number would be in.
        let key = (self.after - self.after % CHUNK).checked_add(1)?;
        let mut lock = Lock::take();
        let chunks = T::list().chunks(&mut lock).as_ref()?;
        let cursor = chunks.tree.cursor_lower_bound(&key)?;
        let (_, chunk) = cursor.current();
        for ((index, place), object) in (0..).zip(&chunk.objects).zip(&mut self.objects) {
            let found = place.get();
            if chunk.first + index > self.after && !found.is_null() {
                // SAFETY: By the invariants of `Chunk`, it is the pointer of an `Arc`, and there is a reference, which
                // is not given up before the lock.
                *object = Some(unsafe { ArcBorrow::from_raw(found) }.into());
            }
        }
        (self.first, self.done) = (chunk.first, 0);
        self.after = chunk.first + (CHUNK - 1);
        Some(())
    }
}

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

    /// Returns what is on the list above a number: numbers and values.
    fn listed(number: u32) -> Result<KVec<(u32, u32)>> {
        let mut all = KVec::new();
        for (number, probe) in after::<Probe>(number) {
            all.push((number, probe.value), GFP_KERNEL)?;
        }
        Ok(all)
    }

    /// Returns how many chunks there are.
    fn chunks() -> usize {
        let mut lock = Lock::take();
        let chunks = Probe::list().chunks(&mut lock);
        chunks
            .as_ref()
            .map_or(0, |chunks| chunks.tree.iter().count())
    }

    /// Has the next chunk begin with this number.
    fn go_to(first: u32) {
        let mut lock = Lock::take();
        if let Some(chunks) = Probe::list().chunks(&mut lock) {
            chunks.retire_last();
            chunks.next = first;
        }
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

        // A number is not given out again at once.
        listed_probes.push(add(probes[1].clone())?, GFP_KERNEL)?;
        assert!(listed(0)?[..] == [(1, 10), (3, 12), (4, 13), (5, 11)]);

        // Any task may remove an object; a listing has references of its own.
        let mut listing = after::<Probe>(0);
        assert!(listing
            .next()
            .is_some_and(|(number, probe)| (number, probe.value) == (1, 10)));
        drop(listed_probes);
        drop(probes);
        assert!(listed(0)?.is_empty());
        assert!(listing.map(|(_, probe)| probe.value).eq([12, 13, 11]));

        // Chunks come and go with what is in them; the last one stays until it is asked to go.
        let per_chunk = CHUNK as usize;
        let mut many = KVec::new();
        for value in 0..3 * CHUNK {
            many.push(add(probe(value)?)?, GFP_KERNEL)?;
        }
        assert_eq!(chunks(), 4);
        assert!(listed(0)?.iter().map(|&(_, value)| value).eq(0..3 * CHUNK));
        let middle = many[per_chunk].entry.number();
        let above = listed(middle)?;
        assert!(above[0] == (middle + 1, CHUNK + 1) && above.len() == 2 * per_chunk - 1);
        for one in &many[..2 * per_chunk] {
            remove(&**one);
        }
        assert!(listed(0)?
            .iter()
            .map(|&(_, value)| value)
            .eq(2 * CHUNK..3 * CHUNK));
        assert_eq!(chunks(), 2);
        drop(many);
        assert_eq!(chunks(), 1);
        trim::<Probe>();
        assert_eq!(chunks(), 0);

        // From the highest number on to the first ones that are free.
        go_to(1);
        let low = add(probe(1)?)?;
        let highest = (u32::MAX / CHUNK - 1) * CHUNK + 1;
        go_to(highest);
        let high = add(probe(2)?)?;
        assert!(listed(0)?[..] == [(1, 1), (highest, 2)]);
        assert!(listed(highest)?.is_empty() && listed(u32::MAX)?.is_empty());
        {
            let mut lock = Lock::take();
            let chunks = Probe::list().chunks(&mut lock).as_mut().ok_or(EINVAL)?;
            chunks.retire_last();
        }
        let next = add(probe(3)?)?;
        assert!(listed(0)?[..] == [(1, 1), (1 + CHUNK, 3), (highest, 2)]);
        drop((low, high, next));
        trim::<Probe>();
        assert_eq!(chunks(), 0);
        Ok(())
    }
}
