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
        splice::SharedBytes,
        stream::{Destination, Source},
        wait_queue::{new_wait_queue, Wait, WaitQueue, Waited, Wake}, //
    },
    algorithms::ring::{
        mergeable, Claim, Gone, Index, More, Side, State, Turns, Word, BUFFER_MAX, SLOTS_MAX,
    },
    bindings, //
};
use core::{
    cell::UnsafeCell,
    mem::{replace, MaybeUninit},
    ptr::{self, NonNull},
    slice, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    bindings::page,
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{Atomic, Relaxed}, //
};

const _: () = assert!(PAGE_SIZE == BUFFER_MAX as usize);

/// Of so many buffers a reader or a writer that goes on tells the other side: often enough for both to be at
/// work at the same time, and seldom enough not to be felt.
const BATCH: u32 = 4;

/// A place for a buffer.
#[derive(Clone, Copy)]
struct Slot {
    /// Null, or a page of which the slot owns a reference.
    memory: *mut u8,
    /// Where the buffer begins.
    start: u16,
    /// Where it ends. Of the last one the word tells that, and this is not up to date.
    end: u16,
    /// Whether the buffer is a packet: never merged into, and read whole or not at all.
    packet: bool,
}

impl Slot {
    const EMPTY: Self = Self {
        memory: ptr::null_mut(),
        start: 0,
        end: 0,
        packet: false,
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
/// - `slots` has a length that is a power of two and not below `max_usage`. It is replaced only by who has
///   both claims.
/// - Slots in use, from the word's tail up to its head, have memory. They belong to who has the readers'
///   claim; but of the last one only the bytes up to the word's end do, and its memory stays where it is, so
///   that who has the writers' claim may write behind that.
/// - All other slots, with the memory that may be left in them, belong to who has the writers' claim.
/// - `cursor` belongs to who has the readers' claim. It is how many bytes were taken of the buffer at the
///   tail, and not more than that has.
/// - A buffer's bytes are initialized.
#[pin_data(PinnedDrop)]
pub(crate) struct PageRing {
    word: Word,
    slots: UnsafeCell<KVec<Slot>>,
    /// How many buffers there may be. Changes with both claims held.
    max_usage: Atomic<u32>,
    cursor: UnsafeCell<u32>,
    /// Who waits for the readers' claim. Its lock guards who is on it, and nothing else.
    #[pin]
    read_turns: WaitQueue<()>,
    /// Who waits for the writers' claim.
    #[pin]
    write_turns: WaitQueue<()>,
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

impl Turns for Turn<'_> {
    type Interrupted = Error;

    #[inline]
    fn is_active(&self) -> bool {
        self.queue.is_active()
    }

    #[inline(never)]
    fn wake_one(&self) {
        self.queue.lock().wake(&Wake::one());
    }

    fn wait_until<R>(&self, condition: impl FnMut() -> Option<R>) -> Result<R> {
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

/// The slots of a ring, all empty: a power of two of them, no more than there may be.
fn new_slots(slots: u32) -> Result<KVec<Slot>> {
    if !slots.is_power_of_two() || slots > SLOTS_MAX {
        return Err(EINVAL);
    }
    Ok(KVec::from_elem(
        Slot::EMPTY,
        slots as usize,
        GFP_KERNEL_ACCOUNT | __GFP_NOWARN,
    )?)
}

impl PageRing {
    /// An initializer of a ring that may have so many buffers, a power of two.
    ///
    /// Context: may sleep. Errors: `ENOMEM`; `EINVAL` if there is no such ring. Pages come when something is
    /// written.
    pub(crate) fn new(max_usage: u32) -> impl PinInit<Self, Error> {
        // INVARIANT: No slot is in use, none has memory.
        try_pin_init!(Self {
            word: Word::new(),
            slots: UnsafeCell::new(new_slots(max_usage)?),
            max_usage: Atomic::new(max_usage),
            cursor: UnsafeCell::new(0),
            read_turns <- new_wait_queue!((), "PageRing::read_turns"),
            write_turns <- new_wait_queue!((), "PageRing::write_turns"),
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

    /// Runs `f` with the tail claimed; waits while another reader has it. What `f` consumed is published
    /// then, which is a full barrier. Gives the state before as well, if that made room.
    ///
    /// Context: may sleep. Errors: `ERESTARTSYS` if the task is being killed.
    #[inline]
    pub(crate) fn read<R>(
        &self,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> Result<(R, Option<State>)> {
        let known = self.claim(Side::Read, Patience::Killable)?;
        Ok(self.with_tail(known, f))
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
    #[inline]
    pub(crate) fn write<R>(
        &self,
        f: impl FnOnce(&mut Writer<'_>) -> R,
    ) -> Result<(R, Option<Published>)> {
        let known = self.claim(Side::Write, Patience::Killable)?;
        // INVARIANT: The claim was just taken.
        let mut writer = Writer::new(self, known);
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
        // INVARIANT: The claims were just taken.
        let mut head = Writer::new(self, self.claim(Side::Write, patience)?);
        let known = self.claim(Side::Read, patience).inspect_err(|_| {
            head.publish();
        })?;
        let mut both = Both {
            tail: Reader::new(self, known),
            head,
        };
        let result = f(&mut both);
        both.tail.publish();
        both.head.publish();
        Ok(result)
    }

    #[inline]
    fn with_tail<R>(
        &self,
        known: State,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> (R, Option<State>) {
        // INVARIANT: The claim was just taken.
        let mut reader = Reader::new(self, known);
        let result = f(&mut reader);
        (result, reader.publish())
    }

    #[inline]
    fn claim(&self, side: Side, patience: Patience) -> Result<State> {
        self.word.claim(side, &self.turn(side, patience))
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
        // SAFETY: The slots are not replaced while the caller has a claim, so that nobody has a mutable
        // reference to the vector, and the number is brought down to its length.
        unsafe {
            let slots = &*self.slots.get();
            slots
                .as_ptr()
                .cast_mut()
                .add(index.slot(slots.len() as u32))
        }
    }
}

#[pinned_drop]
impl PinnedDrop for PageRing {
    fn drop(self: Pin<&mut Self>) {
        let mut pages = Pages::new();
        // SAFETY: Nobody else uses the ring any more.
        for slot in unsafe { &mut *self.slots.get() }.as_mut_slice() {
            pages.put(slot.take());
        }
    }
}

/// The readers' claim. What was consumed is published, and its memory freed, at the end.
///
/// # Invariants
///
/// - The claim on the tail is held.
/// - `known` has the word's tail, and the head and the end that the word had at one moment since it was taken.
///   `done` slots from its tail on, none of them the last, were emptied of their memory.
pub(crate) struct Reader<'a> {
    ring: &'a PageRing,
    known: State,
    done: u32,
    handed_back: bool,
    pages: Pages,
}

/// The first buffer that has something to read: as much of it as was not read, and not nothing.
///
/// # Invariants
///
/// The reader's first slot that is not done with is `slot`, it is in use, and `len` bytes of its buffer are
/// behind the cursor.
pub(crate) struct Front<'r, 'a> {
    reader: &'r mut Reader<'a>,
    slot: *mut Slot,
    len: usize,
}

impl<'a> Reader<'a> {
    /// What the readers' claim gives, taken when the word's state was `known`.
    #[inline]
    fn new(ring: &'a PageRing, known: State) -> Self {
        Self {
            ring,
            known,
            done: 0,
            handed_back: false,
            pages: Pages::new(),
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

    /// How many slots are known that are not done with.
    #[inline]
    fn remaining(&self) -> u32 {
        self.known.occupancy() - self.done
    }

    /// How much was not read of the buffer in `slot`, the first one that is not done with, and whether it is
    /// the last one.
    ///
    /// # Safety
    ///
    /// The slot is in use.
    #[inline]
    unsafe fn rest(&self, slot: *mut Slot) -> (u32, bool) {
        let last = self.remaining() == 1;
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
        let mut refreshed = false;
        loop {
            if self.remaining() != 0 {
                let slot = self.slot();
                // SAFETY: There is a slot that is not done with, so it is in use.
                match unsafe { self.rest(slot) } {
                    // SAFETY: It is in use and not the last one.
                    (0, false) => unsafe {
                        self.retire(slot);
                        continue;
                    },
                    (0, true) => {}
                    (len, _) => {
                        let len = len as usize;
                        // INVARIANT: As just found.
                        return Some(Front {
                            reader: self,
                            slot,
                            len,
                        });
                    }
                }
            }
            if self.handed_back || replace(&mut refreshed, true) {
                return None;
            }
            self.refresh();
        }
    }

    /// Publishes the buffers that are done with so far, and goes on, if that is a batch and somebody can use
    /// the room: a writer who is at work, or waits for it as `awaited` tells. Gives the state before, if so.
    ///
    /// What is written into that room is left to the next read, as it would be if writers had to wait until
    /// this one is over.
    #[inline]
    pub(crate) fn hand_back(&mut self, awaited: impl FnOnce() -> bool) -> Option<State> {
        if self.done < BATCH || !(self.ring.state().is_claimed(Side::Write) || awaited()) {
            return None;
        }
        let done = replace(&mut self.done, 0);
        let before = self.ring.word.pop(done, Claim::Kept);
        // INVARIANT: The tail moved along.
        self.known = self.known.popped(done);
        self.handed_back = true;
        Some(before)
    }

    /// Looks anew at what there is. The tail is as it was.
    fn refresh(&mut self) {
        self.known = self.ring.state();
    }

    /// Is done with a buffer.
    ///
    /// # Safety
    ///
    /// It is the first that is not done with, and not the last one.
    unsafe fn retire(&mut self, slot: *mut Slot) {
        // SAFETY: The slot is in use and not the last one, so that it and its memory are ours, as is the
        // cursor.
        unsafe {
            self.pages.put((*slot).take());
            *self.cursor() = 0;
        }
        self.done += 1;
    }

    /// How many bytes there are to read.
    pub(crate) fn count(&self) -> usize {
        let mut sum = 0;
        let mut index = self.known.tail().plus(self.done);
        for left in (1..=self.remaining()).rev() {
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
            if self.remaining() == 0 {
                break self.pop();
            }
            let slot = self.slot();
            // SAFETY: There is a slot that is not done with, so it is in use.
            match unsafe { self.rest(slot) } {
                // SAFETY: It is in use and not the last one.
                (0, false) => unsafe { self.retire(slot) },
                (0, true) => match self.drain() {
                    // The last memory is left where it is: a writer may be about to merge into it, or else
                    // takes it for its next buffer.
                    Ok(before) => break Some(before),
                    Err(More) => self.refresh(),
                },
                _ => break self.pop(),
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
    pub(crate) fn copy(&self, len: usize, to: &mut impl Destination) -> usize {
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
            let page = bindings::virt_to_page((*self.slot).memory.cast());
            let len = len.min(self.len) as u32;
            SharedBytes::get(NonNull::new_unchecked(page), self.offset(), len)
        }
    }

    /// Consumes its first bytes, `len` or as many as there are.
    #[inline]
    pub(crate) fn consume(self, len: usize) {
        // SAFETY: The cursor is ours.
        // INVARIANT: It is not beyond the end.
        unsafe { *self.reader.cursor() += len.min(self.len) as u32 };
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
/// - The claim on the head is held, unless `over` is set.
/// - `known` was the word's state since it was taken, and `begun` slots from its head on have memory and a
///   buffer in it; the last of them ends at `end`.
pub(crate) struct Writer<'a> {
    ring: &'a PageRing,
    known: State,
    begun: u32,
    end: u32,
    over: bool,
    pages: Pages,
}

impl<'a> Writer<'a> {
    /// What the writers' claim gives, taken when the word's state was `known`.
    #[inline]
    fn new(ring: &'a PageRing, known: State) -> Self {
        Self {
            ring,
            known,
            begun: 0,
            end: 0,
            over: false,
            pages: Pages::new(),
        }
    }

    /// Looks anew at what there is. The head is as it was, and so is what was begun.
    fn refresh(&mut self) {
        self.known = self.ring.state();
    }

    /// Adds to the last buffer what goes there by [`mergeable`]. Gives how much that was.
    ///
    /// It is published at once, and if it was all there is the head is let go of: nothing more can be added.
    ///
    /// If readers are done with the buffer meanwhile, the bytes make one of their own, a packet or not.
    ///
    /// Errors: `EFAULT`, with nothing added.
    #[inline]
    pub(crate) fn merge(&mut self, from: &mut impl Source, packet: bool) -> Result<usize> {
        if self.known.is_empty() || self.begun != 0 || self.over {
            return Ok(0);
        }
        let end = self.known.end();
        let Some(len) = mergeable(from.len(), end) else {
            return Ok(0);
        };
        // SAFETY: The claim is held. The slot was in use when that was taken, so that it has memory which
        // stays while the claim is held. That it is no packet does not change either.
        let (memory, into_packet) = unsafe {
            let slot = self.ring.slot(self.known.head().before());
            ((*slot).memory, (*slot).packet)
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
        // INVARIANT: The bytes up to the new end are initialized.
        match self.ring.word.merge(end + len as u32, claim) {
            Ok(_) if claim == Claim::LetGo => self.over = true,
            Ok(_) => self.refresh(),
            Err(Gone) => self.move_on(end, len, packet),
        }
        Ok(len)
    }

    /// Begins a buffer with the `len` bytes that were written behind the end of one that readers are done
    /// with, where they are.
    #[cold]
    fn move_on(&mut self, start: u32, len: usize, packet: bool) {
        self.refresh();
        // SAFETY: The claim is held, and no slot is in use, so that both are ours.
        unsafe {
            let left = (*self.ring.slot(self.known.head().before())).take();
            let slot = &mut *self.ring.slot(self.known.head());
            drop(Pages::of(slot.take()));
            *slot = Slot {
                memory: left,
                start: start as u16,
                packet,
                ..Slot::EMPTY
            };
        }
        // INVARIANT: The slot has memory and a buffer in it, which ends here.
        self.begun = 1;
        self.end = start + len as u32;
    }

    /// Publishes the buffers that were begun so far, and goes on, if that is a batch and a reader is at work.
    /// Tells about it, if so.
    ///
    /// Without one, who sleeps until there is something to read is left alone: what is written at once comes
    /// at once.
    #[inline]
    pub(crate) fn hand_over(&mut self) -> Option<Published> {
        if self.begun < BATCH || !self.ring.state().is_claimed(Side::Read) {
            return None;
        }
        let begun = replace(&mut self.begun, 0);
        let before = self.ring.word.push(begun, self.end, Claim::Kept);
        // INVARIANT: The head moved along.
        self.refresh();
        Some(Published { before, begun })
    }

    /// Whether there is no slot.
    #[inline]
    fn is_full(&mut self) -> bool {
        let max_usage = self.ring.max_usage();
        if self.known.occupancy() + self.begun < max_usage {
            return false;
        }
        self.refresh();
        self.known.occupancy() + self.begun >= max_usage
    }

    /// Adds a buffer with the next bytes, a page of them at most.
    ///
    /// # Panics
    ///
    /// After a [`Writer::merge`] that left nothing.
    #[inline]
    pub(crate) fn push(
        &mut self,
        from: &mut impl Source,
        packet: bool,
    ) -> Result<usize, Refused> {
        assert!(!self.over);
        if self.is_full() {
            return Err(Refused::Full);
        }
        // SAFETY: The claim is held, and there is room, so that the slot is not in use, but ours.
        let mut memory = unsafe { (*self.slot()).take() };
        if memory.is_null() && self.begun == 0 {
            memory = self.take_left();
        }
        // Who else refers to it, as a pipe of the kernel's does that something was spliced into, may still
        // read it.
        //
        // SAFETY: It was a slot's memory, if there is some.
        if !memory.is_null() && unsafe { bindings::virt_page_count(memory.cast()) } != 1 {
            drop(Pages::of(replace(&mut memory, ptr::null_mut())));
        }
        if memory.is_null() {
            memory = self.pages.take(from.len()).ok_or(Refused::NoMemory)?;
        }
        // SAFETY: The memory is a page, and ours alone.
        let room =
            unsafe { slice::from_raw_parts_mut(memory.cast::<MaybeUninit<u8>>(), PAGE_SIZE) };
        let copied = from.copy(room);
        if copied < PAGE_SIZE && !from.is_empty() {
            self.pages.put(memory);
            return Err(Refused::Fault);
        }
        // SAFETY: As above.
        unsafe {
            *self.slot() = Slot {
                memory,
                packet,
                ..Slot::EMPTY
            };
        }
        self.seal();
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

    /// Takes the memory that readers left when they were done with everything, if they did.
    #[inline]
    fn take_left(&mut self) -> *mut u8 {
        self.refresh();
        if !self.known.is_empty() {
            return ptr::null_mut();
        }
        // SAFETY: The claim is held and no slot is in use, so that this one is ours.
        unsafe { (*self.ring.slot(self.known.head().before())).take() }
    }

    /// Writes down where the buffer ends that is the last one so far.
    #[inline]
    fn seal(&mut self) {
        let (index, end) = match self.begun {
            0 if self.known.is_empty() => return,
            0 => (self.known.head().before(), self.known.end()),
            begun => (self.known.head().plus(begun - 1), self.end),
        };
        // SAFETY: The claim is held. Whether the slot is still in use or not, its end is ours to write until
        // there is a slot behind it: readers do not look there before.
        unsafe { (*self.ring.slot(index)).end = end as u16 };
    }

    /// Publishes what was added, unless that is done, and lets go of the head. Tells about it if a buffer was
    /// begun.
    #[inline]
    fn publish(&mut self) -> Option<Published> {
        let begun = self.begun;
        let mut published = None;
        if begun > 0 {
            let before = self.ring.word.push(begun, self.end, Claim::LetGo);
            published = Some(Published { before, begun });
        } else if !self.over {
            self.ring.word.let_go(Side::Write);
        }
        self.ring.pass(Side::Write);
        published
    }
}

/// Both claims.
pub(crate) struct Both<'a> {
    tail: Reader<'a>,
    head: Writer<'a>,
}

impl Both<'_> {
    /// Lets there be so many buffers, a power of two. What is inside stays.
    ///
    /// Context: may sleep. Errors: `ENOMEM`; `EBUSY` if there are more; `EINVAL` if there is no such ring.
    ///
    /// C: `pipe_resize_ring`.
    pub(crate) fn resize(&mut self, max_usage: u32) -> Result {
        let mut slots = new_slots(max_usage)?;
        let ring = self.head.ring;
        let known = ring.state();
        let used = known.occupancy();
        if used > max_usage {
            return Err(EBUSY);
        }
        for (slot, n) in slots.iter_mut().zip(0..used) {
            // SAFETY: The claims are held.
            // INVARIANT: The memory moves along.
            *slot = unsafe { ptr::replace(ring.slot(known.tail().plus(n)), Slot::EMPTY) };
        }
        // SAFETY: With both claims held nobody else looks at the slots.
        let old = replace(unsafe { &mut *ring.slots.get() }, slots);
        for mut slot in old {
            // Left by readers.
            self.tail.pages.put(slot.take());
        }
        ring.max_usage.store(max_usage, Relaxed);
        self.renew(used, known.end());
        Ok(())
    }

    /// Throws away what is inside.
    pub(crate) fn clear(&mut self) {
        let ring = self.head.ring;
        // SAFETY: With both claims held nobody else looks at the slots, nor at the cursor.
        unsafe {
            for slot in (*ring.slots.get()).as_mut_slice() {
                self.tail.pages.put(slot.take());
            }
            *ring.cursor.get() = 0;
        }
        self.renew(0, 0);
    }

    /// Starts anew with so many buffers in the first slots.
    fn renew(&mut self, buffers: u32, end: u32) {
        self.head.ring.word.renew(buffers, end);
        // INVARIANT: Nothing was done under the claims since.
        self.tail.refresh();
        self.head.refresh();
    }
}

/// Pages on their way: allocated and not used yet, or not used any more. They go in bulk.
///
/// # Invariants
///
/// The first `len` of `pages` are pages of which this owns a reference.
struct Pages {
    pages: [MaybeUninit<*mut page>; Self::MAX],
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

    /// Takes over a slot's memory, if there is some, and nothing else.
    fn of(memory: *mut u8) -> Self {
        let mut pages = Self::new();
        pages.put(memory);
        pages
    }

    /// Takes over a slot's memory, if there is some.
    #[inline]
    fn put(&mut self, memory: *mut u8) {
        if memory.is_null() {
            return;
        }
        if self.len == Self::MAX {
            self.free();
        }
        // SAFETY: It is a page's address.
        // INVARIANT: The reference to it that the slot owned is this one's.
        let page = unsafe { bindings::virt_to_page(memory.cast()) };
        self.pages[self.len] = MaybeUninit::new(page);
        self.len += 1;
    }

    /// Memory for the next of so many bytes.
    #[inline]
    fn take(&mut self, bytes: usize) -> Option<*mut u8> {
        if self.len == 0 {
            self.allocate(bytes.div_ceil(PAGE_SIZE));
        }
        self.len = self.len.checked_sub(1)?;
        // SAFETY: By the type invariants, it is initialized, and a page. It is not in high memory, so it has
        // an address.
        Some(unsafe { bindings::page_address(self.pages[self.len].assume_init()).cast() })
    }

    /// Allocates so many pages, or as many as there are to be had and fit.
    #[inline(never)]
    fn allocate(&mut self, wanted: usize) {
        let wanted = wanted.min(Self::MAX);
        let pages: *mut *mut page = self.pages.as_mut_ptr().cast();
        // SAFETY: There is room for `wanted` pointers. Those that are null are filled in, from the first on.
        // INVARIANT: So many are pages.
        unsafe {
            ptr::write_bytes(pages, 0, wanted);
            self.len = bindings::alloc_user_pages(wanted as c_uint, pages) as usize;
        }
    }

    #[inline(never)]
    fn free(&mut self) {
        // SAFETY: By the type invariants, so many are pages that this owns.
        unsafe { bindings::release_user_pages(self.pages.as_mut_ptr().cast(), self.len as c_int) };
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
