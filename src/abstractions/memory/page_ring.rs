// SPDX-License-Identifier: GPL-2.0

//! A ring of buffers, each a page, that a reader and a writer may use at the same time.
//!
//! `src/algorithms/ring.rs` tells how the two keep out of each other's way: each side is claimed, and what
//! a claim gives access to is disjoint. A [`Writer`] and a [`Reader`] are claims; they copy to and from user
//! memory, and allocate and free pages, while the other side goes on.
//!
//! C: `struct pipe_buffer` in [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h).

use crate::{
    abstractions::{
        vfs::{
            splice::SharedBytes,
            stream::{Destination, Filled, Source},
        },
        wait_queue::{new_wait_queue, Wait, WaitQueue, Waited, Wake}, //
    },
    algorithms::ring::{
        mergeable, Claim, Gone, Index, More, Side, State, Turns, Word, BUFFER_MAX, SLOTS_MAX,
    },
    bindings, //
};
use core::{
    cell::UnsafeCell,
    hint::assert_unchecked,
    mem::{replace, MaybeUninit},
    ops::Range,
    ptr::{self, NonNull},
    slice, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{Atomic, Relaxed}, //
};

const _: () = assert!(PAGE_SIZE == BUFFER_MAX as usize);

/// Of so many buffers a reader or a writer that goes on tells the other side: often enough for both to be at
/// work at the same time, and seldom enough not to be felt.
const BATCH: u32 = 4;

/// The slot whose memory stays there when readers are done with its buffer, for the next one there. With the page
/// of the last buffer, which a writer may be about to merge into, that makes the two pages that the original
/// keeps. It is not the first slot: a write of all that an empty pipe holds often begins there, and would find
/// both. A ring of one slot has none.
const KEEPER: Index = Index::SECOND;

/// Whether so many buffers are one batch, or some.
#[inline]
const fn is_batch(buffers: u32) -> bool {
    buffers != 0 && buffers % BATCH == 0
}

/// A place for a buffer.
///
/// # Invariants
///
/// `memory` is null, or a page of which the slot owns a reference.
#[derive(Clone, Copy)]
struct Slot {
    memory: *mut u8,
    /// Where the buffer begins.
    start: u16,
    /// Where it ends. Readers look at it only once there is a buffer behind this one: until then a writer may
    /// move it, and the word tells it.
    end: u16,
    /// Whether the buffer is a packet: never merged into, and read whole or not at all.
    packet: bool,
    /// Whether the memory was shared: somebody else may refer to it, and read it.
    shared: bool,
}

impl Slot {
    const EMPTY: Self = Self {
        memory: ptr::null_mut(),
        start: 0,
        end: 0,
        packet: false,
        shared: false,
    };

    /// Takes the memory out.
    #[inline]
    fn take(&mut self) -> *mut u8 {
        replace(&mut self.memory, ptr::null_mut())
    }
}

/// The ring.
///
/// # Invariants
///
/// - `slots` points to `max_usage` slots, a power of two and not above `SLOTS_MAX`: those of `more`, if there are
///   any, or else the ring's own. All three are changed only by who has both claims.
/// - Slots in use, from the word's tail up to its head, have memory. They belong to who has the readers'
///   claim; but of the last one only the bytes up to the word's end do, and its memory stays where it is, so
///   that who has the writers' claim may write behind that.
/// - All other slots, with the memory that may be left in them, belong to who has the writers' claim.
/// - `cursor` belongs to who has the readers' claim. It is how many bytes were taken of the buffer at the
///   tail, and not more than that has: less, while nobody has the claim.
/// - A buffer's bytes are initialized.
/// - No slot has memory before the first buffer is published, nor after a [`Both::clear`] before the next one is:
///   the word's end is 0 then.
#[pin_data(PinnedDrop)]
pub(crate) struct PageRing {
    word: Word,
    slots: UnsafeCell<*mut Slot>,
    /// How many buffers there may be.
    max_usage: Atomic<u32>,
    cursor: UnsafeCell<u32>,
    more: UnsafeCell<Option<KVec<Slot>>>,
    /// Who waits for the readers' claim. Its lock guards who is on it, and nothing else.
    #[pin]
    read_turns: WaitQueue<()>,
    /// Who waits for the writers' claim.
    #[pin]
    write_turns: WaitQueue<()>,
    /// Slots enough for most rings, which so are one piece of memory.
    own: UnsafeCell<[Slot; OWN_SLOTS as usize]>,
}

// SAFETY: Pages may be used and freed on any thread; the rest is no more than memory.
unsafe impl Send for PageRing {}
// SAFETY: By the type invariants, what is not atomic is accessed by one thread at a time: a claim is handed
// over by the word with release and acquire.
unsafe impl Sync for PageRing {}

/// Who waits for a claim, and how.
struct Turn<'a> {
    queue: &'a WaitQueue<()>,
    patience: Patience,
}

/// What ends a wait for a claim.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// The task's end does.
    Killable,
    /// Nothing does.
    Endless,
}

/// Lets one who waits have a look at the claim. It is on nobody's way who does not meet others.
#[cold]
#[inline(never)]
fn wake_turn(queue: &WaitQueue<()>) {
    queue.wake(&Wake::one());
}

impl Turns for Turn<'_> {
    type Interrupted = Error;

    // The latency of most against that of a few: with 1 those at work have to stop so often that half of five
    // writers' writes take as long as with the kernel's mutex; with 3 one in a hundred waits a little longer.
    const LATE: u32 = 2;

    #[inline]
    fn is_active(&self) -> bool {
        self.queue.is_active()
    }

    #[inline]
    fn wake_one(&self) {
        wake_turn(self.queue);
    }

    #[cold]
    #[inline(never)]
    fn wait_until<R>(&self, mut condition: impl FnMut(u32) -> Option<R>) -> Result<R> {
        // One comes on the queue before each sleep, and one after it.
        let mut looks = 0_u32;
        let condition = || {
            looks = looks.saturating_add(1);
            condition(looks / 2)
        };
        let wait = match self.patience {
            Patience::Killable => Wait::killable(),
            Patience::Endless => Wait::uninterruptible(),
        };
        match self.queue.wait_until(&wait.exclusive(), condition) {
            Waited::Done(result, _) => Ok(result),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }
}

/// The slots that a ring has in itself.
pub(crate) const OWN_SLOTS: u32 = 16;

/// As in core, which is at a loss for an instruction that the kernel does not use.
#[inline]
const fn is_power_of_two(number: u32) -> bool {
    number != 0 && number & (number - 1) == 0
}

impl PageRing {
    /// An initializer of a ring that may have so many buffers, a power of two, and [`OWN_SLOTS`] at most. Pages
    /// come when something is written.
    ///
    /// Context: any. Errors: `EINVAL` if there is no such ring.
    pub(crate) fn new(max_usage: u32) -> impl PinInit<Self, Error> {
        // INVARIANT: No slot is in use, none has memory. The ring's own are as many, and stay where they are.
        try_pin_init!(&this in Self {
            word: Word::new(),
            // SAFETY: Only the field's address is taken.
            slots: UnsafeCell::new(unsafe { &raw mut (*this.as_ptr()).own }.cast()),
            max_usage: {
                if max_usage > OWN_SLOTS || !is_power_of_two(max_usage) {
                    return Err(EINVAL);
                }
                Atomic::new(max_usage)
            },
            cursor: UnsafeCell::new(0),
            more: UnsafeCell::new(None),
            read_turns <- new_wait_queue!((), "PageRing::read_turns"),
            write_turns <- new_wait_queue!((), "PageRing::write_turns"),
            own: UnsafeCell::new([Slot::EMPTY; OWN_SLOTS as usize]),
        })
    }

    /// Where both ends are at this moment.
    #[inline]
    pub(crate) fn state(&self) -> State {
        self.word.get()
    }

    /// How many buffers there may be.
    #[inline]
    pub(crate) fn max_usage(&self) -> u32 {
        self.max_usage.load(Relaxed)
    }

    /// Whether a write would find a slot.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        !self.state().is_full(self.max_usage())
    }

    /// Returns whether neither end is claimed, and there is nothing to read. Of what was there, the memory of two buffers
    /// may be left.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.state().is_idle()
    }

    /// Whether it is at neither end claimed, and nothing was ever in it: then it has no memory.
    #[inline]
    pub(crate) fn is_pristine(&self) -> bool {
        self.state().is_pristine()
    }

    /// How many slots may be begun, for who has a claim: `max_usage` may change otherwise.
    #[inline]
    fn room(&self, state: State) -> u32 {
        self.max_usage() - state.occupancy()
    }

    /// Frees what readers have left in the slot before those that a writer began, if the ring is empty in
    /// `state` and that is not done.
    ///
    /// Who publishes does this, in the very state that it publishes from, so that in the slots that are free
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
        // Pairs with `update` by the reader who left it (src/algorithms/ring.rs): `state` came without order.
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

    /// Runs `f` with the tail claimed; waits while another reader has it. What `f` consumed is published
    /// then, which is a full barrier. Gives the state before as well, if that made room.
    ///
    /// Context: may sleep. Errors: `ERESTARTSYS` if the task is being killed.
    pub(crate) fn read<R>(
        &self,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> Result<(R, Option<State>)> {
        let known = self.claim(Side::Read, Patience::Killable)?;
        Ok(self.with_tail(known, f))
    }

    /// As [`PageRing::read`], but for who is there to read: if nothing is, and nobody else at it, `f` is not run.
    ///
    /// A look whether anything may come has to come before it.
    #[inline(always)]
    pub(crate) fn read_filled<R>(
        &self,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> Result<Option<(R, Option<State>)>> {
        let turn = self.turn(Side::Read, Patience::Killable);
        let known = self.word.claim_filled(&turn)?;
        Ok(known.map(|known| self.with_tail(known, f)))
    }

    /// As [`PageRing::read`], if no other reader has the tail.
    ///
    /// Context: as `f`.
    pub(crate) fn try_read<R>(
        &self,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> Option<(R, Option<State>)> {
        let known = self.word.try_claim(Side::Read)?;
        Some(self.with_tail(known, f))
    }

    /// Runs `f` with the head claimed; waits while another writer has it. What `f` added is published then,
    /// which is a full barrier. Tells about that as well, if `f` began a buffer.
    ///
    /// Context: may sleep. Errors: `ERESTARTSYS` if the task is being killed.
    #[inline(always)]
    pub(crate) fn write<R>(
        &self,
        f: impl FnOnce(&mut Writer<'_>) -> R,
    ) -> Result<(R, Option<Published>)> {
        let known = self.claim(Side::Write, Patience::Killable)?;
        let mut pages = Pages::new();
        // INVARIANT: The claim was just taken.
        let mut writer = Writer::new(self, known, &mut pages);
        let result = f(&mut writer);
        Ok((result, writer.publish()))
    }

    /// Runs `f` with both ends claimed, and nobody else at either.
    ///
    /// Context: may sleep. Errors: `ERESTARTSYS` if the task is being killed, unless it is patient.
    pub(crate) fn both<R>(
        &self,
        patience: Patience,
        f: impl FnOnce(&mut Both<'_>) -> R,
    ) -> Result<R> {
        let [read, write] = [Side::Read, Side::Write].map(|side| self.turn(side, patience));
        self.word.claim_both(&write, &read)?;
        // SAFETY: The claims were just taken.
        Ok(unsafe { self.with_both(f) })
    }

    /// The same, if nobody is at either end, or is to be next.
    ///
    /// Context: may sleep if `f` does.
    pub(crate) fn try_both<R>(&self, f: impl FnOnce(&mut Both<'_>) -> R) -> Option<R> {
        self.word.try_claim_both()?;
        // SAFETY: As above.
        Some(unsafe { self.with_both(f) })
    }

    /// Runs `f` with both ends, and lets go of them.
    ///
    /// # Safety
    ///
    /// Both claims were taken by the caller, who gives them up.
    unsafe fn with_both<R>(&self, f: impl FnOnce(&mut Both<'_>) -> R) -> R {
        let mut pages = Pages::new();
        // INVARIANT: By the function's requirements.
        let mut both = Both {
            ring: self,
            pages: &mut pages,
            anew: None,
        };
        let result = f(&mut both);
        self.word.let_go_both(both.anew);
        self.pass(Side::Read);
        self.pass(Side::Write);
        result
    }

    #[inline(always)]
    fn with_tail<R>(
        &self,
        known: State,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> (R, Option<State>) {
        let mut pages = Pages::new();
        // INVARIANT: The claim was just taken.
        let mut reader = Reader::new(self, known, &mut pages);
        let result = f(&mut reader);
        (result, reader.publish())
    }

    #[inline]
    fn claim(&self, side: Side, patience: Patience) -> Result<State> {
        self.word.claim(side, &self.turn(side, patience))
    }

    /// Publishes buffers that a reader is done with, who goes on. Out of line, as is the other: the loops that
    /// these are called from have few enough registers.
    #[inline(never)]
    fn pop_and_keep(&self, buffers: u32) -> State {
        self.word.pop(buffers, Claim::Kept)
    }

    /// Publishes buffers of a writer who goes on.
    #[inline(never)]
    fn push_and_keep(&self, buffers: u32, end: u32, prepare: impl FnMut(State)) -> State {
        self.word.push(buffers, end, Claim::Kept, prepare)
    }

    /// Lets the next have a claim that was let go of.
    #[inline]
    fn pass(&self, side: Side) {
        self.word.pass(&self.turn(side, Patience::Killable));
    }

    #[inline]
    fn turn(&self, side: Side, patience: Patience) -> Turn<'_> {
        let queue = match side {
            Side::Read => &self.read_turns,
            Side::Write => &self.write_turns,
        };
        Turn { queue, patience }
    }

    /// The slot with this number.
    ///
    /// # Safety
    ///
    /// The caller has a claim.
    #[inline]
    unsafe fn slot(&self, index: Index) -> *mut Slot {
        let slots = self.max_usage();
        // SAFETY: Neither changes while the caller has a claim, and the number is brought down to how many slots
        // there are. That has these bounds by the type invariants, which spares the compiler to bring it down
        // twice.
        unsafe {
            assert_unchecked(slots != 0 && slots <= SLOTS_MAX);
            (*self.slots.get()).add(index.slot(slots))
        }
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

    /// Frees what memory there is.
    ///
    /// # Safety
    ///
    /// The caller has the ring to itself.
    #[inline(never)]
    unsafe fn free_all(&self) {
        // SAFETY: By the function's requirements.
        unsafe { self.take_all(&mut Pages::new()) };
    }

    /// Takes the memory out of all slots.
    ///
    /// # Safety
    ///
    /// The caller has both claims, or the ring to itself, and no reference to a slot.
    unsafe fn take_all(&self, pages: &mut Pages) {
        // SAFETY: By the type invariants, there are so many. They are the caller's, by the function's requirements.
        let slots =
            unsafe { slice::from_raw_parts_mut(*self.slots.get(), self.max_usage() as usize) };
        for slot in slots {
            pages.put_left(slot);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for PageRing {
    #[inline]
    fn drop(self: Pin<&mut Self>) {
        if !self.is_pristine() {
            // SAFETY: Nobody else uses the ring any more.
            unsafe { self.free_all() };
        }
    }
}

/// The readers' claim. What was consumed is published, and its memory freed, at the end.
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
    /// What it is done with. It is not a part of this, so that the compiler may keep the rest in registers.
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
    /// What the readers' claim gives, taken when the word's state was `known`.
    #[inline]
    fn new(ring: &'a PageRing, known: State, pages: &'a mut Pages) -> Self {
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

    /// Takes whole buffers as long as they fit into `to`, but for packets and the last one, which a writer may
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

    /// What is done here [`Front`] could do, with more ado: this loop has nothing to keep in mind but where it
    /// is, and registers enough for that.
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
            if slot.packet || len > to.len() {
                break;
            }
            // SAFETY: The slot has memory. What lies before the buffer's end is initialized, and ours.
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
    /// the room: a writer who is at work, or waits for it as `awaited` tells. Gives the state before, if so.
    ///
    /// What is written into that room is left to the next read, as it would be if writers had to wait until
    /// this one is over.
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

    /// Publishes what was consumed, and lets go of the tail. Gives the state before if that made room.
    #[inline(always)]
    fn publish(&mut self) -> Option<State> {
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

    /// Whether it is a packet, to be read whole or not at all.
    #[inline]
    pub(crate) fn is_packet(&self) -> bool {
        // SAFETY: By the type invariants, the slot is in use, and so ours.
        unsafe { (*self.slot).packet }
    }

    /// Where in its memory it begins.
    #[inline]
    fn offset(&self) -> u32 {
        // SAFETY: By the type invariants, the slot is in use, so that it and the cursor are ours.
        unsafe { u32::from((*self.slot).start) + *self.reader.cursor() }
    }

    /// Copies its first bytes, `len` or as many as there are, and does not consume them. Gives how many were
    /// copied: fewer if the memory that they go to is bad.
    #[inline]
    pub(crate) fn copy(&self, len: usize, to: &mut (impl Destination + ?Sized)) -> usize {
        // SAFETY: The slot is in use, so that it has memory. What is copied lies before the buffer's end: it
        // is initialized, and ours; nobody writes there.
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

/// What a writer published: the state before, and how many buffers it began.
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

/// The writers' claim. What was added is published at the end.
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
    /// What it allocated, as in [`Reader`].
    pages: &'a mut Pages,
}

impl<'a> Writer<'a> {
    /// What the writers' claim gives, taken when the word's state was `known`.
    #[inline]
    fn new(ring: &'a PageRing, known: State, pages: &'a mut Pages) -> Self {
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

    /// Adds to the last buffer what goes there by [`mergeable`]. Gives how much that was.
    ///
    /// It is published at once, and if it was all there is the head is let go of: nothing more can be added.
    ///
    /// If readers are done with the buffer meanwhile, the bytes make one of their own, a packet or not.
    ///
    /// Errors: `EFAULT`, with nothing added.
    #[inline(always)]
    pub(crate) fn merge(
        &mut self,
        from: &mut (impl Source + ?Sized),
        packet: bool,
    ) -> Result<usize> {
        if self.known.is_empty() || self.begun != 0 || self.over {
            return Ok(0);
        }
        let end = self.known.end();
        let Some(len) = mergeable(from.len(), end) else {
            return Ok(0);
        };
        // SAFETY: The claim is held. The slot was in use when that was taken, so that it has memory which
        // stays while the claim is held. That it is no packet does not change either.
        let (slot, memory, into_packet) = unsafe {
            let slot = self.ring.slot(self.known.head().before());
            (slot, (*slot).memory, (*slot).packet)
        };
        if into_packet {
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
                // SAFETY: The claim is held, and what the last buffer was in is done with.
                let known = unsafe { Self::move_on(self.ring, end..new_end, packet) };
                (self.begun, self.settled) = (1, true);
                self.know(known);
                self.end = new_end;
            }
        }
        Ok(len)
    }

    /// Begins a buffer with the bytes that were written behind the end of one that readers are done with, where
    /// they are. Gives the state.
    ///
    /// # Safety
    ///
    /// The claim is held, and no slot is in use.
    #[cold]
    unsafe fn move_on(ring: &PageRing, bytes: Range<u32>, packet: bool) -> State {
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
                packet,
                shared,
            };
        }
        known
    }

    /// Publishes the buffers that were begun so far, and goes on, if that is a batch and a reader is at work.
    /// Tells about it, if so.
    ///
    /// Without one, who sleeps until there is something to read is left alone: what is written at once comes
    /// at once.
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

    /// Adds a buffer with the next bytes, a page of them at most.
    ///
    /// # Panics
    ///
    /// After a [`Writer::merge`] that left nothing.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        from: Filled<'_, impl Source + ?Sized>,
        packet: bool,
    ) -> Result<usize, Refused> {
        let from = from.into_inner();
        if self.begun == self.limit {
            assert!(!self.over);
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
                packet,
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

    /// Memory for the next of so many bytes, in the next `slot`: what readers left, unless somebody else may still
    /// read it, or a new page.
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
        // splice(2) shared it, with a pipe of the kernel's.
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

    /// Publishes what was added, unless that is done, and lets go of the head. Tells about it if a buffer was
    /// begun.
    #[inline(always)]
    fn publish(&mut self) -> Option<Published> {
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

/// Both claims.
///
/// # Invariants
///
/// Both claims are held. What is in the slots goes with `anew`, if that is something, and with the word's state
/// otherwise.
pub(crate) struct Both<'a> {
    ring: &'a PageRing,
    /// Memory that is not used any more: freed once the claims are let go of.
    pages: &'a mut Pages,
    /// The state that the word is given then.
    anew: Option<State>,
}

impl Both<'_> {
    /// Lets there be so many buffers, a power of two. What is inside stays.
    ///
    /// Context: may sleep. Errors: `ENOMEM`; `EBUSY` if there are more; `EINVAL` if there is no such ring.
    ///
    /// C: `pipe_resize_ring`.
    pub(crate) fn resize(&mut self, max_usage: u32) -> Result {
        if max_usage > SLOTS_MAX || !is_power_of_two(max_usage) {
            return Err(EINVAL);
        }
        let (mut few, mut more) = ([Slot::EMPTY; OWN_SLOTS as usize], None);
        let slots = if max_usage <= OWN_SLOTS {
            &mut few[..]
        } else {
            let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
            more.insert(KVec::from_elem(Slot::EMPTY, max_usage as usize, flags)?)
        };
        let ring = self.ring;
        let known = self.anew.unwrap_or_else(|| ring.state());
        let used = known.occupancy();
        if used > max_usage {
            return Err(EBUSY);
        }
        for (slot, n) in slots.iter_mut().zip(0..used) {
            // SAFETY: The claims are held.
            // INVARIANT: The memory moves along.
            *slot = unsafe { ptr::replace(ring.slot(known.tail().plus(n)), Slot::EMPTY) };
        }
        // What readers left.
        //
        // SAFETY: The claims are held.
        unsafe { ring.take_all(self.pages) };
        // SAFETY: With both claims held nobody else looks at the slots, wherever they are.
        // INVARIANT: There are as many slots as there may be buffers.
        unsafe {
            *ring.slots.get() = match &mut more {
                None => {
                    *ring.own.get() = few;
                    ring.own.get().cast()
                }
                Some(more) => more.as_mut_ptr(),
            };
            *ring.more.get() = more;
        }
        ring.max_usage.store(max_usage, Relaxed);
        // INVARIANT: They are in the first slots now.
        self.anew = Some(State::new(used, known.end()));
        Ok(())
    }

    /// Throws away what is inside.
    pub(crate) fn clear(&mut self) {
        let ring = self.ring;
        // SAFETY: With both claims held nobody else looks at the slots, nor at the cursor.
        unsafe {
            ring.take_all(self.pages);
            *ring.cursor.get() = 0;
        }
        // INVARIANT: Nothing is in the slots.
        self.anew = Some(State::new(0, 0));
    }
}

/// Memory on its way, a page each: allocated in bulk and not used yet, or not used any more.
///
/// # Invariants
///
/// The first `len` of `pages` are the addresses of pages of which this owns a reference.
struct Pages {
    pages: [MaybeUninit<*mut u8>; Self::MAX],
    len: usize,
}

impl Pages {
    const MAX: usize = 16;

    #[inline]
    const fn new() -> Self {
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
    unsafe fn put(&mut self, memory: *mut u8) {
        if self.len == Self::MAX {
            self.free();
        }
        // INVARIANT: The reference that the slot owned is this one's.
        self.pages[self.len] = MaybeUninit::new(memory);
        self.len += 1;
    }

    /// Takes over what is left in a slot that is not in use, if there is something.
    fn put_left(&mut self, slot: &mut Slot) {
        let memory = slot.take();
        if !memory.is_null() {
            // SAFETY: By the invariants of `Slot`.
            unsafe { self.put(memory) };
        }
    }

    /// As [`Pages::put_left`], if it may be used again. If it was shared it is given back at once.
    #[inline(never)]
    fn put_unshared(&mut self, slot: &mut Slot) {
        if slot.shared {
            // SAFETY: It was the slot's.
            unsafe { free(slot.take()) };
        } else {
            self.put_left(slot);
        }
    }

    /// Memory for a buffer. If there is none, some is allocated for as many as `wanted` tells.
    #[inline]
    fn take(&mut self, wanted: impl FnOnce() -> usize) -> Option<*mut u8> {
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
unsafe fn free(memory: *mut u8) {
    // SAFETY: A slot owns a reference to the page.
    unsafe { bindings::free_user_pages(&mut memory.cast(), u32::from(!memory.is_null())) };
}
