// SPDX-License-Identifier: GPL-2.0

//! Tables that give each live object an id, and find and list the objects by their ids.
//!
//! A table keeps objects in chunks, each with room for a number of successive ids. The current chunk, which new objects
//! go to, is a part of the table. When its ids are used up and objects are still in it, the objects move to a chunk in
//! a tree; an object knows its id and no address, so nothing else changes. Adding and removing an object takes a few
//! instructions while its chunk is the current one, and a walk down the tree otherwise. Listing takes references to the
//! objects of one chunk at a time, so listing `n` objects takes time in the order of `n`, and the lock is never held
//! for longer than one chunk takes.
//!
//! A table does not own its objects. [`Listed`] is a reference that removes its object before it goes. So there is a
//! reference to each object in a table, and the task that finds an object under the lock may take another one.
//!
//! An XArray with `xa_alloc_cyclic` would take about 1,050 instructions to add and remove an object that is alone in its
//! node. This takes about 115.
//!
//! The tables share a few locks; the address of a table tells its lock. So a table needs no initialization at run time,
//! be it a static or a part of something else.

use crate::bindings;
use core::{
    cell::UnsafeCell,
    iter,
    mem::{self, ManuallyDrop},
    ops::{Deref, DerefMut},
    ptr, //
};
use kernel::{
    prelude::*,
    rbtree::{self, RBTree, RBTreeNodeReservation},
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        ArcBorrow, //
    },
    types::ForeignOwnable, //
};

#[cfg(CONFIG_KUNIT = "y")]
mod kunit;

/// An object's id: a field of each type whose objects are in a table.
///
/// # Invariants
///
/// The id is 0, or the object is in its table under it. It changes with the table's lock held.
pub(crate) struct Id(Atomic<u32>);

impl Id {
    /// Returns the id of an object that is in no table.
    pub(crate) const fn new() -> Self {
        // INVARIANT: It is 0.
        Self(Atomic::new(0))
    }

    /// Returns the id under which the object is in its table, or 0 if it is not.
    ///
    /// Context: any.
    #[inline]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// An object that has a place in a table.
///
/// # Safety
///
/// `id` always returns the same field of the object. `table` always returns the same table. Neither does anything else:
/// they are called with a table's lock held, which may be that of any other table, too.
pub(crate) unsafe trait InTable: Send + Sync + Sized + 'static {
    /// Returns the object's id.
    fn id(&self) -> &Id;

    /// Returns the table that the object is for.
    fn table(&self) -> &IdTable<Self>;
}

/// A type whose objects are all for one table. [`impl_in_table!`] implements it.
pub(crate) trait InStaticTable: InTable {
    /// Returns the table.
    fn all() -> &'static IdTable<Self>;
}

/// Implements [`InStaticTable`] for a type that has its [`Id`] in the named field.
macro_rules! impl_in_table {
    ($object:ty, $id:ident) => {
        impl $crate::abstractions::tables::id_table::InStaticTable for $object {
            #[inline]
            fn all() -> &'static $crate::abstractions::tables::id_table::IdTable<Self> {
                static TABLE: $crate::abstractions::tables::id_table::IdTable<$object> =
                    $crate::abstractions::tables::id_table::IdTable::new();
                &TABLE
            }
        }

        // The name is that of a field of the object and not of something the object leads to, and the field is aligned.
        const _: usize = ::core::mem::offset_of!($object, $id);
        const _: fn(&$object) = |object| {
            let _ = &object.$id;
        };

        #[allow(unsafe_code, reason = "the field is what the trait asks for")]
        // SAFETY: The id is a field of the object, and the table a static.
        unsafe impl $crate::abstractions::tables::id_table::InTable for $object {
            #[inline]
            fn id(&self) -> &$crate::abstractions::tables::id_table::Id {
                let id: *const $crate::abstractions::tables::id_table::Id = &raw const self.$id;
                // SAFETY: It is a part of what `self` refers to: a raw pointer does not coerce from one to an id
                // elsewhere, as a reference would.
                unsafe { &*id }
            }

            #[inline]
            fn table(&self) -> &$crate::abstractions::tables::id_table::IdTable<Self> {
                <Self as $crate::abstractions::tables::id_table::InStaticTable>::all()
            }
        }
    };
}
pub(crate) use impl_in_table;

/// How many successive ids a chunk is for. With its place in the tree it takes 512 bytes then.
const CHUNK: u32 = 56;

/// The highest id that a table may have: that of the last whole chunk.
const HIGHEST: u32 = u32::MAX / CHUNK * CHUNK;

/// How many full chunks an insertion passes over before it lets go of the lock.
const PASSED_OVER: u32 = 16;

/// The objects with the ids from `first` on.
///
/// # Invariants
///
/// Each of `objects` is null, or came from [`Arc::as_ptr`] of an object to which a [`Listed`] has a reference. `len` of
/// them are not null.
struct Chunk<T> {
    first: u32,
    len: u32,
    objects: [*const T; CHUNK as usize],
}

impl<T> Chunk<T> {
    const fn new(first: u32) -> Self {
        // INVARIANT: There are no objects.
        Self {
            first,
            len: 0,
            objects: [ptr::null(); CHUNK as usize],
        }
    }

    /// Returns the first id of the chunk that an id belongs to.
    const fn first_of(id: u32) -> u32 {
        (id - 1) / CHUNK * CHUNK + 1
    }

    /// Returns the place of an id, if that belongs to this chunk.
    #[inline]
    fn place(&mut self, id: u32) -> Option<&mut *const T> {
        self.objects.get_mut(id.wrapping_sub(self.first) as usize)
    }
}

/// Memory for a chunk and its place in the tree.
type Memory<T> = RBTreeNodeReservation<u32, Chunk<T>>;

/// The content of a table.
///
/// # Invariants
///
/// The key of a chunk in `kept` is its first id, which is not that of `current`. Each chunk in `kept` has an object.
struct State<T> {
    /// The chunk that new objects go to.
    current: Chunk<T>,
    /// How many of the places in `current` were used or passed over since it became the current chunk.
    used: u32,
    /// How many places `current` has: the last chunk of a table may have fewer than others.
    room: u32,
    /// The other chunks.
    kept: Option<RBTree<u32, Chunk<T>>>,
}

/// How far an insertion has come in its search for a chunk that is not full. It starts anew if another task makes a
/// chunk the current one.
struct Search {
    /// The first id of the chunk that was the current one.
    current: u32,
    /// The first id of the last chunk that was seen.
    first: u32,
    /// How many chunks are to be seen yet.
    left: u32,
}

impl<T: InTable> State<T> {
    /// Puts an object into the current chunk at the next place. Returns whether that is free.
    ///
    /// # Safety
    ///
    /// The object is in no table, this is its table's state, and a [`Listed`] is about to refer to the object.
    #[inline]
    unsafe fn put(&mut self, object: &Arc<T>) -> bool {
        if self.used >= self.room {
            return false;
        }
        let id = self.current.first + self.used;
        match self.current.objects.get_mut(self.used as usize) {
            Some(place) if place.is_null() => {
                // INVARIANT: By the function's requirements. The object is in the table under its id.
                *place = Arc::as_ptr(object);
                self.current.len += 1;
                self.used += 1;
                object.id().0.store(id, Relaxed);
                true
            }
            _ => false,
        }
    }

    /// Passes over the places of the current chunk that are in use.
    fn pass_over(&mut self) {
        let rest = self.current.objects.iter().skip(self.used as usize);
        self.used += rest.take_while(|place| !place.is_null()).count() as u32;
    }

    /// Removes the object with this id, if it is in the table.
    #[inline]
    fn take_off(&mut self, id: &Id) {
        let number = id.get();
        if number == 0 {
            return;
        }
        // INVARIANT: The object is in no chunk any more, and has no id.
        id.0.store(0, Relaxed);
        match self.current.place(number) {
            Some(place) => {
                *place = ptr::null();
                self.current.len -= 1;
            }
            None => self.take_off_kept(number),
        }
    }

    #[inline(never)]
    fn take_off_kept(&mut self, id: u32) {
        let first = Chunk::<T>::first_of(id);
        let Some(mut entry) = self.kept.as_mut().and_then(|kept| kept.find_mut(&first)) else {
            return;
        };
        let chunk = entry.get_mut();
        if let Some(place) = chunk.place(id) {
            *place = ptr::null();
            chunk.len -= 1;
        }
        if chunk.len == 0 {
            drop(entry.remove_node());
        }
    }

    /// Returns the chunk that begins with this id.
    fn chunk(&self, first: u32) -> Option<&Chunk<T>> {
        if self.current.first == first {
            return Some(&self.current);
        }
        self.kept.as_ref()?.get(&first)
    }

    /// Returns the first chunk with ids above `after`, in order.
    fn chunk_after(&self, after: u32) -> Option<&Chunk<T>> {
        let first = Chunk::<T>::first_of(after.checked_add(1)?);
        let current = (self.current.first >= first).then_some(self.current.first);
        let kept = self
            .kept
            .as_ref()
            .and_then(|kept| kept.cursor_lower_bound(&first))
            .map(|cursor| *cursor.current().0);
        self.chunk([current, kept].into_iter().flatten().min()?)
    }

    /// Makes the next chunk that is not full the current one. Returns whether it did. If not, the caller provides memory
    /// and tries again; another task may use the table before.
    ///
    /// Errors: `ENOSPC` if all chunks are full.
    fn advance(
        &mut self,
        max: u32,
        search: &mut Search,
        memory: &mut Option<Memory<T>>,
    ) -> Result<bool> {
        for _ in 0..PASSED_OVER {
            let first = match search.first.checked_add(CHUNK) {
                Some(first) if first <= max => first,
                _ => 1,
            };
            let room = (max - first + 1).min(CHUNK);
            if self.chunk(first).is_some_and(|chunk| chunk.len == room) {
                search.first = first;
                search.left = search.left.checked_sub(1).ok_or(ENOSPC)?;
            } else {
                return Ok(self.exchange(first, room, memory));
            }
        }
        Ok(false)
    }

    /// Makes the chunk that begins with this id the current one, unless memory for the one before is missing.
    fn exchange(&mut self, first: u32, room: u32, memory: &mut Option<Memory<T>>) -> bool {
        if self.current.len == 0 {
            // INVARIANT: There are no objects, and the chunk is not in the tree.
            match self.kept.as_mut().and_then(|kept| kept.remove(&first)) {
                Some(next) => self.current = next,
                None => self.current.first = first,
            }
        } else if self.current.first != first {
            let Some(memory) = memory.take() else {
                return false;
            };
            let kept = self.kept.get_or_insert_with(RBTree::new);
            let next = kept.remove(&first).unwrap_or_else(|| Chunk::new(first));
            let before = mem::replace(&mut self.current, next);
            // INVARIANT: The chunk has an object, and is not the current one any more.
            if let rbtree::Entry::Vacant(place) = kept.entry(before.first) {
                place.insert(before, memory);
            }
        }
        (self.used, self.room) = (0, room);
        self.pass_over();
        true
    }
}

/// A table of objects, each under an id: a number from 1 to a highest one.
///
/// An id is not given to another object before the ids have gone up to the highest once.
pub(crate) struct IdTable<T> {
    max: u32,
    state: UnsafeCell<State<T>>,
}

// SAFETY: Objects may be used and dropped on any thread.
unsafe impl<T: Send + Sync> Send for IdTable<T> {}
// SAFETY: As above, and the lock serializes access to the state.
unsafe impl<T: Send + Sync> Sync for IdTable<T> {}

impl<T: InTable> IdTable<T> {
    /// Returns an empty table with ids up to [`HIGHEST`].
    pub(crate) const fn new() -> Self {
        Self::with_max(HIGHEST)
    }

    /// Returns an empty table with ids up to `max`, which is from 1 to [`HIGHEST`]. Panics for another `max`:
    /// call it in a const context.
    pub(crate) const fn with_max(max: u32) -> Self {
        assert!(max > 0 && max <= HIGHEST);
        // INVARIANT: There are no objects.
        let state = State {
            current: Chunk::new(1),
            used: 0,
            room: if max < CHUNK { max } else { CHUNK },
            kept: None,
        };
        Self {
            max,
            state: UnsafeCell::new(state),
        }
    }

    /// Returns the highest id.
    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    /// Returns the object with this id, if it is in the table.
    ///
    /// Context: process context. The object may end with the reference that is returned.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<T>> {
        let first = Chunk::<T>::first_of(id.max(1));
        let state = self.lock();
        let chunk = state.chunk(first)?;
        let found = *chunk.objects.get(id.wrapping_sub(first) as usize)?;
        // SAFETY: With the lock held.
        unsafe { reference(found, &state) }
    }

    /// Returns the objects with ids above `after`, in order: those that are in the table all the time, and some of those
    /// that are added or removed meanwhile.
    ///
    /// Context: process context. The lock is held for one chunk at a time. An object may end with the reference that is
    /// returned.
    pub(crate) fn after(&self, after: u32) -> impl Iterator<Item = (u32, Arc<T>)> + '_ {
        let mut batch = Batch::<T>::new(after);
        iter::from_fn(move || loop {
            if let Some(object) = batch.next() {
                return Some(object);
            }
            batch.fetch(self)?;
        })
    }

    /// Context: process context; the caller may not sleep before it drops the guard.
    #[inline]
    fn lock(&self) -> Held<'_, T> {
        // SAFETY: Process context, by the contexts of all callers: no interrupt takes the lock.
        let lock = unsafe { bindings::id_table_lock(ptr::from_ref(self).cast()) };
        // INVARIANT: It is locked.
        Held { table: self, lock }
    }
}

/// A table's state, with the lock held.
///
/// The table is borrowed, so that it stays at the address that its lock is found by.
///
/// # Invariants
///
/// `lock` is the lock of the table, and this thread took it.
struct Held<'a, T> {
    table: &'a IdTable<T>,
    lock: *mut kernel::bindings::spinlock_t,
}

impl<T> Deref for Held<'_, T> {
    type Target = State<T>;

    #[inline]
    fn deref(&self) -> &State<T> {
        // SAFETY: By the type invariants, nobody else uses it.
        unsafe { &*self.table.state.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State<T> {
        // SAFETY: By the type invariants, nobody else uses it.
        unsafe { &mut *self.table.state.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::id_table_unlock(self.lock) };
    }
}

/// Returns a reference to an object, for a pointer in a chunk.
///
/// # Safety
///
/// `found` is in a chunk of the table whose lock is held.
unsafe fn reference<T>(found: *const T, _lock: &Held<'_, T>) -> Option<Arc<T>> {
    if found.is_null() {
        return None;
    }
    // SAFETY: By the invariants of `Chunk`, it is the pointer of an `Arc`, and a `Listed` has a reference. Before that is
    // dropped, the object is removed from its chunk. The `Listed` does so under the lock, unless it reads an id of 0. Then
    // another task is removing the object: it has a reference of its own, and keeps the lock until the chunk has no
    // pointer any more. The id was 0 before `add`, too, but `add` was called earlier by the owner of the `Listed`.
    Some(unsafe { ArcBorrow::from_raw(found) }.into())
}

/// A reference to an object that was put into its table. Dropping it removes the object, if that has not happened yet.
///
/// Context: [`remove`]'s, and that of the object's destructor.
pub(crate) struct Listed<T: InTable>(Arc<T>);

impl<T: InTable> Deref for Listed<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: InTable> Drop for Listed<T> {
    #[inline]
    fn drop(&mut self) {
        remove(&*self.0);
    }
}

// SAFETY: It is `Arc`'s.
unsafe impl<T: InTable> ForeignOwnable for Listed<T> {
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

/// Puts an object into its table.
///
/// Context: may sleep.
///
/// Errors: `EBUSY` if the object is in the table already; `ENOSPC` if each id is in use; `ENOMEM`.
#[inline(always)]
pub(crate) fn add<T: InTable>(object: Arc<T>) -> Result<Listed<T>> {
    {
        let mut state = object.table().lock();
        if object.id().get() != 0 {
            return Err(EBUSY);
        }
        // SAFETY: The object is in no table, and what is returned refers to it.
        if unsafe { state.put(&object) } {
            drop(state);
            return Ok(Listed(object));
        }
    }
    add_to_another_chunk(object)
}

#[cold]
#[inline(never)]
fn add_to_another_chunk<T: InTable>(object: Arc<T>) -> Result<Listed<T>> {
    let table = object.table();
    let mut memory = None;
    // No chunk begins with 0.
    let mut search = Search {
        current: 0,
        first: 0,
        left: 0,
    };
    loop {
        {
            let mut state = table.lock();
            if object.id().get() != 0 {
                return Err(EBUSY);
            }
            state.pass_over();
            // SAFETY: The object is in no table, and what is returned refers to it.
            if unsafe { state.put(&object) } {
                break;
            }
            let current = state.current.first;
            if search.current != current {
                search = Search {
                    current,
                    first: current,
                    left: (table.max - 1) / CHUNK,
                };
            }
            let advanced = state.advance(table.max, &mut search, &mut memory)?;
            // SAFETY: As above.
            if advanced && unsafe { state.put(&object) } {
                break;
            }
        }
        if memory.is_none() {
            memory = Some(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?);
        }
    }
    Ok(Listed(object))
}

/// Removes an object from its table, if it is there. A caller that races with an [`add`] of the object may find it in
/// the table or not.
///
/// Context: process context. A file's `release` and the object's destructor may call it, as may any other task.
#[inline]
pub(crate) fn remove<T: InTable>(object: &T) {
    if object.id().get() != 0 {
        object.table().lock().take_off(object.id());
    }
}

/// References to the objects of one chunk.
struct Batch<T> {
    first: u32,
    objects: [Option<Arc<T>>; CHUNK as usize],
    /// How many of them were given out.
    done: u32,
    /// The highest id that was looked for.
    after: u32,
}

impl<T: InTable> Batch<T> {
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
    fn fetch(&mut self, table: &IdTable<T>) -> Option<()> {
        let state = table.lock();
        let chunk = state.chunk_after(self.after)?;
        for ((index, &found), object) in (0..).zip(&chunk.objects).zip(&mut self.objects) {
            if chunk.first + index > self.after {
                // SAFETY: With the lock held.
                *object = unsafe { reference(found, &state) };
            }
        }
        (self.first, self.done) = (chunk.first, 0);
        self.after = chunk.first + (CHUNK - 1);
        Some(())
    }
}
