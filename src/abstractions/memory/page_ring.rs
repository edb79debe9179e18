// SPDX-License-Identifier: GPL-2.0

//! A ring of buffers, each a page, that a reader and a writer may use at the same time.
//!
//! `src/algorithms/ring.rs` tells how the two keep out of each other's way: each side is claimed, and what
//! a claim gives access to is disjoint. A [`Writer`] and a [`Reader`] are claims; they copy to and from user
//! memory, and allocate and free pages, while the other side goes on.
//!
//! C: `struct pipe_buffer` in [`include/linux/pipe_fs_i.h`](srctree/include/linux/pipe_fs_i.h).

mod both;
mod pages;
mod reader;
mod writer;

pub(crate) use self::{
    both::Both,
    reader::Reader,
    writer::{Published, Refused, Writer}, //
};

use self::pages::Pages;
use crate::{
    abstractions::wait_queue::{new_wait_queue, Wait, WaitQueue, Waited, Wake},
    algorithms::ring::{Index, Side, State, Turns, Word, BUFFER_MAX, SLOTS_MAX}, //
};
use core::{
    cell::UnsafeCell,
    hint::assert_unchecked,
    mem::replace,
    ptr,
    slice, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::atomic::{Atomic, Relaxed}, //
};

const _: () = assert!(PAGE_SIZE == BUFFER_MAX as usize);

/// Of so many buffers a reader or a writer that goes on tells the other side: often enough for both to be at
/// work at the same time, and seldom enough not to be felt.
const BATCH: u32 = 4;

/// The slot whose memory stays there when readers are done with its buffer, for the next one there. With the page
/// of the last buffer, which a writer may be about to merge into, that makes two pages in an idle ring, as many as
/// a pipe of the kernel's keeps in `tmp_page`. It is not the first slot: a write of all that an empty ring holds
/// often begins there, and would find both. A ring of one slot has none.
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
    /// Whether the buffer is sealed: [`Writer::merge`] adds nothing to it, and [`Reader::take_whole`] leaves it to the
    /// caller.
    sealed: bool,
    /// Whether the memory was shared: somebody else may refer to it, and read it.
    shared: bool,
}

impl Slot {
    const EMPTY: Self = Self {
        memory: ptr::null_mut(),
        start: 0,
        end: 0,
        sealed: false,
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
///   any, or else the ring's own. All three change only while one task has both claims.
/// - Slots in use, from the word's tail up to its head, have memory. They belong to the holder of the readers'
///   claim; but of the last one only the bytes up to the word's end do, and its memory stays where it is, so
///   that the holder of the writers' claim may write behind that.
/// - All other slots, with the memory that may be left in them, belong to the holder of the writers' claim.
/// - `cursor` belongs to the holder of the readers' claim. It is how many bytes were taken of the buffer at the
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
    /// The tasks that wait for the readers' claim. Its lock guards its entries, and nothing else.
    #[pin]
    read_turns: WaitQueue<()>,
    /// The tasks that wait for the writers' claim.
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

/// A task's wait for a claim.
struct Turn<'a> {
    queue: &'a WaitQueue<()>,
    patience: Patience,
}

/// The end of a wait for a claim, other than the claim.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// The task's end does.
    Killable,
    /// Nothing does.
    Endless,
}

/// Lets one waiting task look at the claim. Uncontended callers never reach this.
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
        // One look comes on the queue before each sleep, and one after it.
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

    /// Returns whether neither end is claimed, and there is nothing to read. The memory of two buffers may be left.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.state().is_idle()
    }

    /// Returns whether neither end is claimed, and nothing was ever inside: then the ring has no memory.
    #[inline]
    pub(crate) fn is_pristine(&self) -> bool {
        self.state().is_pristine()
    }

    /// Runs `f` with the tail claimed; waits while another reader has it. Then publishes the buffers that `f`
    /// consumed, which is a full barrier. Returns the state before as well, if that made room.
    ///
    /// Context: may sleep. Errors: `ERESTARTSYS` if the task is being killed.
    pub(crate) fn read<R>(
        &self,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> Result<(R, Option<State>)> {
        let known = self.claim(Side::Read, Patience::Killable)?;
        // SAFETY: The claim was just taken.
        Ok(unsafe { self.with_tail(known, f) })
    }

    /// As [`PageRing::read`], but if there is nothing to read, and no other reader at work, `f` is not run.
    ///
    /// The caller has to look before whether anything may come.
    #[inline(always)]
    pub(crate) fn read_filled<R>(
        &self,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> Result<Option<(R, Option<State>)>> {
        let turn = self.turn(Side::Read, Patience::Killable);
        let known = self.word.claim_filled(&turn)?;
        // SAFETY: The claim was just taken.
        Ok(known.map(|known| unsafe { self.with_tail(known, f) }))
    }

    /// As [`PageRing::read`], if no other reader has the tail.
    ///
    /// Context: as `f`.
    pub(crate) fn try_read<R>(
        &self,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> Option<(R, Option<State>)> {
        let known = self.word.try_claim(Side::Read)?;
        // SAFETY: The claim was just taken.
        Some(unsafe { self.with_tail(known, f) })
    }

    /// Runs `f` with the head claimed; waits while another writer has it. Then publishes the bytes that `f` added,
    /// which is a full barrier. Returns an account of that as well, if `f` began a buffer.
    ///
    /// Context: may sleep. Errors: `ERESTARTSYS` if the task is being killed.
    #[inline(always)]
    pub(crate) fn write<R>(
        &self,
        f: impl FnOnce(&mut Writer<'_>) -> R,
    ) -> Result<(R, Option<Published>)> {
        let known = self.claim(Side::Write, Patience::Killable)?;
        let mut pages = Pages::new();
        // SAFETY: The claim was just taken, and is the writer's from here on.
        let mut writer = unsafe { Writer::new(self, known, &mut pages) };
        let result = f(&mut writer);
        // SAFETY: It goes out of scope here.
        Ok((result, unsafe { writer.publish() }))
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

    /// As [`PageRing::both`], if nobody is at either end, or is to be next.
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
        // SAFETY: By the function's requirements.
        let mut both = unsafe { Both::new(self, &mut pages) };
        let result = f(&mut both);
        both.let_go();
        result
    }

    /// Runs `f` with the tail, and lets go of it.
    ///
    /// # Safety
    ///
    /// The caller has taken the readers' claim, when the word's state was `known`, and gives it up.
    #[inline(always)]
    unsafe fn with_tail<R>(
        &self,
        known: State,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> (R, Option<State>) {
        let mut pages = Pages::new();
        // SAFETY: By the function's requirements.
        let mut reader = unsafe { Reader::new(self, known, &mut pages) };
        let result = f(&mut reader);
        // SAFETY: It goes out of scope here.
        (result, unsafe { reader.publish() })
    }

    #[inline]
    fn claim(&self, side: Side, patience: Patience) -> Result<State> {
        self.word.claim(side, &self.turn(side, patience))
    }

    /// Lets the next task have a claim that was let go of.
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
