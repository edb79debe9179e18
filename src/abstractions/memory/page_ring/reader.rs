// SPDX-License-Identifier: GPL-2.0

//! The readers' end: whole buffers and parts of them are copied out, or shared.

use super::{is_batch, PageRing, Pages, Slot, BATCH, KEEPER};
use crate::{
    abstractions::vfs::{splice::SharedBytes, stream::Destination},
    algorithms::ring::{Claim, More, Side, State, SLOTS_MAX},
    bindings, //
};
use core::{
    mem::replace,
    ptr::{self, NonNull},
    slice, //
};
use kernel::prelude::*;

impl PageRing {
    /// Publishes buffers that a reader is done with, and keeps the claim. Out of line, as is
    /// [`PageRing::push_and_keep`]: the loops that call these have few enough registers.
    #[inline(never)]
    fn pop_and_keep(&self, buffers: u32) -> State {
        self.word.pop(buffers, Claim::Kept)
    }

    /// Whether it is the slot that [`KEEPER`] tells.
    ///
    /// # Safety
    ///
    /// The caller has a claim.
    #[inline]
    unsafe fn is_keeper(&self, slot: *mut Slot) -> bool {
        // SAFETY: It does not change while the caller has a claim.
        let first = unsafe { *self.slots.get() };
        ptr::eq(slot, first.wrapping_add(KEEPER.slot(SLOTS_MAX)))
    }
}

/// The readers' claim. At its end the consumed buffers are published, and their memory is freed.
///
/// # Invariants
///
/// - The claim on the tail is held.
/// - `known` has the word's tail, and the head and the end that the word had at one moment since it was taken.
///   `done` slots from its tail on, none of them the last, were emptied of their memory, of `limit` that are
///   known.
/// - Of the first slot that is not done with something is left, unless there is none, or `drained` is set: then
///   it is the last one, and all of it was taken.
pub(crate) struct Reader<'a> {
    ring: &'a PageRing,
    known: State,
    done: u32,
    limit: u32,
    drained: bool,
    handed_back: bool,
    /// The memory that it is done with. It is not a part of this, so that the compiler may keep the rest in registers.
    pages: &'a mut Pages,
}

/// The first buffer that has something to read: as much of it as was not read, and not nothing.
///
/// # Invariants
///
/// The reader's first slot that is not done with is `slot`, it is in use, and `len` bytes of its buffer are
/// behind the cursor. `last` tells whether it is the last that is known.
pub(crate) struct Front<'r, 'a> {
    reader: &'r mut Reader<'a>,
    slot: *mut Slot,
    len: usize,
    last: bool,
}

impl<'a> Reader<'a> {
    /// Returns the access that the readers' claim gives.
    ///
    /// # Safety
    ///
    /// The caller has taken the claim, when the word's state was `known`, and gives it up to this.
    #[inline]
    pub(super) unsafe fn new(ring: &'a PageRing, known: State, pages: &'a mut Pages) -> Self {
        // INVARIANT: By the function's requirements.
        Self {
            ring,
            known,
            done: 0,
            limit: known.occupancy(),
            drained: false,
            handed_back: false,
            pages,
        }
    }

    #[inline]
    fn cursor(&self) -> *mut u32 {
        self.ring.cursor.get()
    }

    /// The first slot that is not done with.
    #[inline]
    fn slot(&self) -> *mut Slot {
        // SAFETY: By the type invariants, the claim is held.
        unsafe { self.ring.slot(self.known.tail().plus(self.done)) }
    }

    /// How much was not read of the buffer in `slot`, the first one that is not done with, and whether it is
    /// the last one.
    ///
    /// # Safety
    ///
    /// The slot is in use.
    #[inline]
    unsafe fn rest(&self, slot: *mut Slot) -> (u32, bool) {
        let last = self.done + 1 == self.limit;
        // SAFETY: The slot is in use, so that it and the cursor are ours, but for the last one's end.
        unsafe {
            let end = if last {
                self.known.end()
            } else {
                (*slot).end.into()
            };
            (end - u32::from((*slot).start) - *self.cursor(), last)
        }
    }

    /// The first buffer that has something to read.
    #[inline(always)]
    pub(crate) fn front(&mut self) -> Option<Front<'_, 'a>> {
        if self.drained || self.done == self.limit {
            if self.handed_back {
                return None;
            }
            self.refresh();
            if self.drained || self.done == self.limit {
                return None;
            }
        }
        let slot = self.slot();
        // SAFETY: There is a slot that is not done with, so it is in use.
        let (len, last) = unsafe { self.rest(slot) };
        // INVARIANT: By the type invariants, something is left of it.
        Some(Front {
            slot,
            len: len as usize,
            last,
            reader: self,
        })
    }

    /// Takes whole buffers as long as they fit into `to`, up to a sealed one or the last one, which a writer may
    /// be about to add to. `taken` grows by their bytes. After each batch `hand_back` is called.
    ///
    /// Errors: `EFAULT` if the memory that they go to is bad. Nothing was taken then of the buffer that it
    /// happened with.
    #[inline(always)]
    pub(crate) fn take_whole<D: Destination + ?Sized>(
        &mut self,
        to: &mut D,
        taken: &mut usize,
        hand_back: impl FnMut(&mut Self),
    ) -> Result {
        if self.done + 1 < self.limit {
            self.take_some_whole(to, taken, hand_back)
        } else {
            Ok(())
        }
    }

    /// [`Front`] could do this, with more ado: this loop has nothing to keep in mind but where it is, and registers
    /// enough for that.
    #[inline(never)]
    fn take_some_whole<D: Destination + ?Sized>(
        &mut self,
        to: &mut D,
        taken: &mut usize,
        mut hand_back: impl FnMut(&mut Self),
    ) -> Result {
        let (mut done, mut sum) = (self.done, 0);
        // SAFETY: The cursor is ours.
        let mut cursor = unsafe { replace(&mut *self.cursor(), 0) };
        let mut result = Ok(());
        while done + 1 < self.limit {
            // SAFETY: The claim is held. The slot is in use and not the last one, so that it is ours.
            let slot = unsafe { &mut *self.ring.slot(self.known.tail().plus(done)) };
            let start = u32::from(slot.start) + cursor;
            let len = (u32::from(slot.end) - start) as usize;
            if slot.sealed || len > to.len() {
                break;
            }
            // SAFETY: The slot has memory. The bytes before the buffer's end are initialized, and ours.
            let bytes = unsafe { slice::from_raw_parts(slot.memory.add(start as usize), len) };
            if to.copy(bytes) < len {
                result = Err(EFAULT);
                break;
            }
            sum += len;
            cursor = 0;
            // SAFETY: The claim is held.
            if !unsafe { self.ring.is_keeper(slot) } {
                // SAFETY: The slot owned it.
                unsafe { self.pages.put(slot.take()) };
            }
            done += 1;
            if done % BATCH == 0 {
                self.done = done;
                hand_back(self);
                done = self.done;
            }
        }
        self.done = done;
        *taken += sum;
        // SAFETY: As above.
        // INVARIANT: That much was taken of the first buffer that is not done with, and less than all of it.
        unsafe { *self.cursor() = cursor };
        result
    }

    /// Publishes the buffers that are done with so far, and goes on, if that is a batch and somebody can use
    /// the room: a writer that is at work, or waits for it as `awaited` tells. Returns the state before, if so.
    ///
    /// This reader leaves the bytes that come into that room to the next one, as if writers had to wait until it is
    /// over.
    #[inline]
    pub(crate) fn hand_back(&mut self, awaited: impl FnOnce() -> bool) -> Option<State> {
        if !is_batch(self.done) || !(self.ring.state().is_claimed(Side::Write) || awaited()) {
            return None;
        }
        let done = replace(&mut self.done, 0);
        let before = self.ring.pop_and_keep(done);
        // INVARIANT: The tail moved along.
        self.known = self.known.popped(done);
        self.limit -= done;
        self.handed_back = true;
        Some(before)
    }

    /// Looks anew at what there is. The tail is as it was.
    fn refresh(&mut self) {
        self.known = self.ring.state();
        self.limit = self.known.occupancy();
        if !self.drained {
            return;
        }
        let slot = self.slot();
        // SAFETY: The slot was not done with, so it is in use.
        self.drained = match unsafe { self.rest(slot) } {
            (0, true) => true,
            (0, false) => {
                // SAFETY: It is the first that is not done with, and not the last one any more.
                unsafe { self.retire(slot) };
                false
            }
            _ => false,
        };
    }

    /// Is done with a buffer.
    ///
    /// # Safety
    ///
    /// It is the first that is not done with, and not the last one.
    #[inline]
    unsafe fn retire(&mut self, slot: *mut Slot) {
        // SAFETY: The slot is in use and not the last one, so that it and its memory are ours, as is the
        // cursor.
        unsafe {
            if !self.ring.is_keeper(slot) {
                self.pages.put((*slot).take());
            }
            *self.cursor() = 0;
        }
        self.done += 1;
    }

    /// How many bytes there are to read.
    pub(crate) fn count(&self) -> usize {
        let mut sum = 0;
        let mut index = self.known.tail().plus(self.done);
        for left in (1..=self.limit - self.done).rev() {
            // SAFETY: The slot is in use, and ours, but for the last one's end.
            sum += unsafe {
                let slot = self.ring.slot(index);
                let end = match left {
                    1 => self.known.end(),
                    _ => (*slot).end.into(),
                };
                (end - u32::from((*slot).start)) as usize
            };
            index = index.plus(1);
        }
        // SAFETY: The cursor is ours.
        sum - unsafe { *self.cursor() } as usize
    }

    /// Publishes the consumed buffers, and lets go of the tail. Returns the state before if that made room.
    ///
    /// # Safety
    ///
    /// The reader is not used after. (To take it by value would cost a copy of it.)
    #[inline(always)]
    pub(super) unsafe fn publish(&mut self) -> Option<State> {
        let before = loop {
            if !self.drained {
                break self.pop();
            }
            // The last memory is left where it is: a writer may be about to merge into it, or else takes it for
            // its next buffer.
            match self.drain() {
                Ok(before) => break Some(before),
                Err(More) => self.refresh(),
            }
        };
        self.ring.pass(Side::Read);
        before
    }

    /// Publishes that everything was consumed.
    #[inline]
    fn drain(&mut self) -> Result<State, More> {
        let cursor = self.cursor();
        // SAFETY: The cursor is ours, and not any more once this is published.
        // INVARIANT: Of the next buffer nothing was taken.
        let taken = unsafe { ptr::replace(cursor, 0) };
        self.ring
            .word
            .drain(self.known, Claim::LetGo)
            // SAFETY: The claim is still held, and so the cursor ours.
            .inspect_err(|_| unsafe { *cursor = taken })
    }

    /// Publishes the buffers that are done with.
    #[inline]
    fn pop(&mut self) -> Option<State> {
        if self.done > 0 {
            Some(self.ring.word.pop(self.done, Claim::LetGo))
        } else {
            self.ring.word.let_go(Side::Read);
            None
        }
    }
}

impl Front<'_, '_> {
    /// How many bytes there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether the writer sealed it.
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        // SAFETY: By the type invariants, the slot is in use, and so ours.
        unsafe { (*self.slot).sealed }
    }

    /// Where in its memory it begins.
    #[inline]
    fn offset(&self) -> u32 {
        // SAFETY: By the type invariants, the slot is in use, so that it and the cursor are ours.
        unsafe { u32::from((*self.slot).start) + *self.reader.cursor() }
    }

    /// Copies its first bytes, `len` or as many as there are, and does not consume them. Returns how many were
    /// copied: fewer if the memory that they go to is bad.
    #[inline]
    pub(crate) fn copy(&self, len: usize, to: &mut (impl Destination + ?Sized)) -> usize {
        // SAFETY: The slot is in use, so that it has memory. The bytes lie before the buffer's end: they are
        // initialized, and ours; nobody writes there.
        let bytes = unsafe {
            let start = (*self.slot).memory.add(self.offset() as usize);
            slice::from_raw_parts(start, len.min(self.len))
        };
        to.copy(bytes)
    }

    /// Shares its first bytes, `len` or as many as there are, and does not consume them.
    pub(crate) fn share(&self, len: usize) -> SharedBytes {
        // SAFETY: The slot is in use, so that it has memory, and owns a reference to the page. The bytes lie
        // before the buffer's end: they are initialized, and nobody writes there before the page is free.
        unsafe {
            (*self.slot).shared = true;
            let page = bindings::virt_to_page((*self.slot).memory.cast());
            let len = len.min(self.len) as u32;
            SharedBytes::get(NonNull::new_unchecked(page), self.offset(), len)
        }
    }

    /// Consumes its first bytes, `len` or as many as there are.
    #[inline]
    pub(crate) fn consume(self, len: usize) {
        if len < self.len || self.last {
            self.reader.drained = len >= self.len;
            // SAFETY: The cursor is ours.
            // INVARIANT: It is not beyond the end, and at it only if so it is written down.
            unsafe { *self.reader.cursor() += len.min(self.len) as u32 };
        } else {
            // SAFETY: It is the first that is not done with, and not the last one.
            unsafe { self.reader.retire(self.slot) };
        }
    }
}
