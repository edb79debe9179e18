// SPDX-License-Identifier: GPL-2.0

//! The writers' end: bytes are merged into the last buffer, or put into new ones.

use super::{is_batch, pages::free, PageRing, Pages, Slot, KEEPER};
use crate::{
    abstractions::vfs::stream::{Filled, Source},
    algorithms::ring::{mergeable, Claim, Gone, Index, Side, State},
    bindings, //
};
use core::{
    mem::{replace, MaybeUninit},
    ops::Range,
    ptr,
    slice, //
};
use kernel::{page::PAGE_SIZE, prelude::*};

/// An account of a writer's publishing: the state before, and how many buffers it began.
#[derive(Clone, Copy)]
pub(crate) struct Published {
    before: State,
    begun: u32,
}

impl Published {
    /// Whether the ring was empty.
    #[inline]
    pub(crate) fn was_empty(self) -> bool {
        self.before.is_empty()
    }

    /// Whether the ring is full with it, if it may have so many buffers. If not, readers did not see it full
    /// when they made room.
    #[inline]
    pub(crate) fn filled(self, max_usage: u32) -> bool {
        self.before.occupancy() + self.begun >= max_usage
    }
}

/// Why nothing was added.
pub(crate) enum Refused {
    /// There is no slot.
    Full,
    /// There is no memory.
    NoMemory,
    /// The memory that the bytes come from is bad.
    Fault,
}

impl PageRing {
    /// How many slots may be begun. The caller has a claim: `max_usage` may change otherwise.
    #[inline]
    fn room(&self, state: State) -> u32 {
        self.max_usage() - state.occupancy()
    }

    /// Publishes buffers of a writer, and keeps the claim.
    #[inline(never)]
    fn push_and_keep(&self, buffers: u32, end: u32, prepare: impl FnMut(State)) -> State {
        self.word.push(buffers, end, Claim::Kept, prepare)
    }

    /// Frees what readers have left in the slot before those that a writer began, if the ring is empty in
    /// `state` and that is not done.
    ///
    /// A writer does this in the very state that it publishes from, so that in the slots that are free
    /// no more than one page is left from the times when the ring was empty; and one in [`KEEPER`].
    ///
    /// # Safety
    ///
    /// The writers' claim is held, `state` is the word's state since, and so many slots were begun from its head
    /// on.
    #[inline]
    unsafe fn settle(&self, state: State, begun: u32, settled: &mut bool, pages: &mut Pages) {
        if *settled || !state.is_empty() {
            return;
        }
        *settled = true;
        // Pairs with `update` by the reader that left it (src/algorithms/ring.rs): `state` came without order.
        self.state();
        if begun < self.max_usage() {
            // SAFETY: The claim is held. No slot is in use, and this one was not begun either, so that it is ours.
            unsafe { pages.put_unshared(&mut *self.slot(state.head().before())) };
        }
    }

    /// How many pages it takes to put so many bytes into the slots from `next` on, `free` of them.
    ///
    /// # Safety
    ///
    /// The writers' claim is held, and those slots are free.
    unsafe fn lacking(&self, next: Index, free: u32, bytes: usize) -> usize {
        let wanted = bytes.div_ceil(PAGE_SIZE).min(free as usize);
        if KEEPER.ahead_of(next, self.max_usage()) as usize >= wanted {
            return wanted;
        }
        // SAFETY: By the function's requirements, the slot is free.
        let kept = unsafe { !(*self.slot(KEEPER)).memory.is_null() };
        wanted - usize::from(kept)
    }
}

/// The writers' claim. At its end the added bytes are published.
///
/// # Invariants
///
/// - The claim on the head is held, unless `over` is set; then nothing was begun, nor may be.
/// - `known` was the word's state since it was taken, and `begun` slots from its head on have memory and a
///   buffer in it; the last of them ends at `end`. By that state `limit` slots may be begun.
/// - If `settled` is set, the slot before those is free, and has no memory.
pub(crate) struct Writer<'a> {
    ring: &'a PageRing,
    known: State,
    begun: u32,
    end: u32,
    limit: u32,
    over: bool,
    /// Whether there is no memory left in the slot before those that were begun.
    settled: bool,
    /// The memory that it allocated. It is not a part of this for the reason told in [`Reader`](super::Reader).
    pages: &'a mut Pages,
}

impl<'a> Writer<'a> {
    /// Returns the access that the writers' claim gives.
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
            begun: 0,
            end: 0,
            limit: ring.room(known),
            over: false,
            settled: false,
            pages,
        }
    }

    /// Looks anew at what there is. The head is as it was, and so is what was begun.
    fn refresh(&mut self) {
        self.know(self.ring.state());
    }

    #[inline]
    fn know(&mut self, state: State) {
        self.known = state;
        self.limit = self.ring.room(state);
    }

    /// Adds to the last buffer as many bytes as go there by [`mergeable`], unless it is sealed. Returns how many.
    ///
    /// They are published at once, and if they were all there are the head is let go of: nothing more can be added.
    ///
    /// If readers are done with the buffer meanwhile, the bytes make one of their own, `sealed` or not.
    ///
    /// Errors: `EFAULT`, with nothing added.
    #[inline(always)]
    pub(crate) fn merge(
        &mut self,
        from: &mut (impl Source + ?Sized),
        sealed: bool,
    ) -> Result<usize> {
        if self.known.is_empty() || self.begun != 0 || self.over {
            return Ok(0);
        }
        let end = self.known.end();
        let Some(len) = mergeable(from.len(), end) else {
            return Ok(0);
        };
        // SAFETY: The claim is held. The slot was in use when that was taken, so that it has memory which
        // stays while the claim is held. Nor does it change whether it is sealed.
        let (slot, memory, is_sealed) = unsafe {
            let slot = self.ring.slot(self.known.head().before());
            (slot, (*slot).memory, (*slot).sealed)
        };
        if is_sealed {
            return Ok(0);
        }
        // SAFETY: By the type invariants of the ring, what lies behind the end is ours; if readers are done
        // with the buffer meanwhile, all of the memory is. By `mergeable` it fits.
        let room = unsafe {
            let start = memory.add(end as usize);
            slice::from_raw_parts_mut(start.cast::<MaybeUninit<u8>>(), len)
        };
        if from.copy(room) < len {
            return Err(EFAULT);
        }
        let claim = if from.is_empty() {
            Claim::LetGo
        } else {
            Claim::Kept
        };
        let new_end = end + len as u32;
        // SAFETY: The claim is held. In use or not, the slot's end is ours to write.
        unsafe { (*slot).end = new_end as u16 };
        // INVARIANT: The bytes up to the new end are initialized.
        match self.ring.word.merge(new_end, claim) {
            Ok(_) if claim == Claim::LetGo => (self.over, self.limit) = (true, 0),
            Ok(_) => self.refresh(),
            Err(Gone) => {
                // INVARIANT: The slot has memory and a buffer in it, which ends there.
                // SAFETY: The claim is held, and readers are done with the last buffer.
                let known = unsafe { Self::move_on(self.ring, end..new_end, sealed) };
                (self.begun, self.settled) = (1, true);
                self.know(known);
                self.end = new_end;
            }
        }
        Ok(len)
    }

    /// Begins a buffer with the bytes that were written behind the end of one that readers are done with, where
    /// they are. Returns the state.
    ///
    /// # Safety
    ///
    /// The claim is held, and no slot is in use.
    #[cold]
    unsafe fn move_on(ring: &PageRing, bytes: Range<u32>, sealed: bool) -> State {
        let known = ring.state();
        // SAFETY: By the function's requirements, both slots are ours.
        unsafe {
            let left = &mut *ring.slot(known.head().before());
            let (memory, shared) = (left.take(), left.shared);
            let slot = &mut *ring.slot(known.head());
            free(slot.take());
            *slot = Slot {
                memory,
                start: bytes.start as u16,
                end: bytes.end as u16,
                sealed,
                shared,
            };
        }
        known
    }

    /// Publishes the buffers that were begun so far, and goes on, if that is a batch and a reader is at work.
    /// Returns an account of it, if so.
    ///
    /// Without one, tasks that sleep until there is something to read sleep on: one write comes to them at once.
    #[inline]
    pub(crate) fn hand_over(&mut self) -> Option<Published> {
        if !is_batch(self.begun) || !self.ring.state().is_claimed(Side::Read) {
            return None;
        }
        let begun = replace(&mut self.begun, 0);
        let before = self.ring.push_and_keep(begun, self.end, |state| {
            // SAFETY: The claim is held, and so many slots were begun.
            unsafe {
                self.ring
                    .settle(state, begun, &mut self.settled, self.pages)
            }
        });
        self.settled = false;
        // INVARIANT: The head moved along.
        self.refresh();
        Some(Published { before, begun })
    }

    /// Adds a buffer with the next bytes, a page of them at most, `sealed` or not. After a [`Writer::merge`] that left
    /// nothing there is no room.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        from: Filled<'_, impl Source + ?Sized>,
        sealed: bool,
    ) -> Result<usize, Refused> {
        let from = from.into_inner();
        if self.begun == self.limit {
            if self.over {
                return Err(Refused::Full);
            }
            self.refresh();
            if self.begun == self.limit {
                return Err(Refused::Full);
            }
        }
        let slot = self.slot();
        let memory = self.memory(slot, from.len()).ok_or(Refused::NoMemory)?;
        // SAFETY: The memory is a page, and ours alone.
        let room =
            unsafe { slice::from_raw_parts_mut(memory.cast::<MaybeUninit<u8>>(), PAGE_SIZE) };
        let copied = from.copy(room);
        if copied < PAGE_SIZE && !from.is_empty() {
            // SAFETY: It is a page that this owns.
            unsafe { self.pages.put(memory) };
            return Err(Refused::Fault);
        }
        // SAFETY: As above. By the requirements of `Source`, so many bytes are initialized.
        unsafe {
            *slot = Slot {
                memory,
                end: copied as u16,
                sealed,
                ..Slot::EMPTY
            };
        }
        // INVARIANT: The slot has memory and a buffer in it, which ends here.
        self.end = copied as u32;
        self.begun += 1;
        Ok(copied)
    }

    /// The next slot to be begun.
    #[inline]
    fn slot(&self) -> *mut Slot {
        // SAFETY: By the type invariants, the claim is held.
        unsafe { self.ring.slot(self.known.head().plus(self.begun)) }
    }

    /// Memory for the next of so many bytes, in the next `slot`: a page that readers left, unless somebody else may
    /// still read it, or a new one.
    #[inline(always)]
    fn memory(&mut self, mut slot: *mut Slot, bytes: usize) -> Option<*mut u8> {
        // SAFETY: The claim is held and there is room, so that the slot is not in use, but ours. If no slot is
        // in use the one before is ours, too.
        let (memory, shared) = unsafe {
            if self.begun == 0 && self.is_empty() {
                self.settled = true;
                let left = self.ring.slot(self.known.head().before());
                if (*slot).memory.is_null() {
                    slot = left;
                } else if !ptr::eq(slot, left) {
                    // One is enough.
                    self.pages.put_unshared(&mut *left);
                }
            }
            ((*slot).take(), (*slot).shared)
        };
        if memory.is_null() {
            let (ring, next) = (self.ring, self.known.head().plus(self.begun));
            let room = self.limit - self.begun;
            return self.pages.take(|| {
                // SAFETY: The claim is held, and so many slots are free.
                unsafe { ring.lacking(next, room, bytes) }
            });
        }
        // A reader shared it, and it may still be in use.
        //
        // SAFETY: It was a slot's memory.
        if shared && unsafe { bindings::virt_page_count(memory.cast()) } != 1 {
            // SAFETY: As above.
            unsafe { free(memory) };
            return self.pages.take(|| 1);
        }
        Some(memory)
    }

    /// Whether readers are done with everything that was published.
    #[inline]
    fn is_empty(&mut self) -> bool {
        if !self.known.is_empty() {
            self.refresh();
        }
        self.known.is_empty()
    }

    /// Publishes the added bytes, unless that is done, and lets go of the head. Returns an account of it if a buffer
    /// was begun.
    ///
    /// # Safety
    ///
    /// The writer is not used after. (To take it by value would cost a copy of it.)
    #[inline(always)]
    pub(super) unsafe fn publish(&mut self) -> Option<Published> {
        let begun = self.begun;
        let mut published = None;
        if begun > 0 {
            let before = self.ring.word.push(begun, self.end, Claim::LetGo, |state| {
                // SAFETY: As in `hand_over`: the claim is held until this succeeds.
                unsafe {
                    self.ring
                        .settle(state, begun, &mut self.settled, self.pages)
                }
            });
            published = Some(Published { before, begun });
        } else if !self.over {
            self.ring.word.let_go(Side::Write);
        }
        self.ring.pass(Side::Write);
        published
    }
}
