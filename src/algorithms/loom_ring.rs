// SPDX-License-Identifier: GPL-2.0

//! A model of `PageRing` (src/abstractions/memory/page_ring.rs), step by step, over the real word.
//!
//! A page has few bytes, each of which stands for many, and a batch is one buffer. Each is watched by itself, and so is each
//! field of a slot: loom reports a task that touches one while another may be using it.
//! The file is long, because it has the reader, the writer and both claims, which all share the watched cells.
//! Left out are sealed buffers, a mark in the slot like others, and what fails for want of memory.

use super::{loom_runs::seen, Fault, Head, Killed, Task, Visitor, Whom};
use ipcdemo_algorithms::{
    counter::Change,
    loom_atomic::AtomicU64,
    ring::{mergeable, Claim, Gone, Index, More, Side, State, Turns, Word, BUFFER_MAX},
};
use loom::{cell::UnsafeCell, sync::atomic::Ordering::Relaxed};
use std::{
    cell::{Cell, RefCell},
    mem::take,
    ops::Deref,
    rc::Rc,
};

/// The bytes of a page.
pub(crate) const PAGE: usize = 4;

/// How many of the word's bytes one of them stands for.
const SCALE: u32 = BUFFER_MAX / PAGE as u32;

/// Of so many buffers a reader or a writer that goes on tells the other side.
const BATCH: u32 = 1;

/// The slot whose memory readers leave there.
const KEEPER: Index = Index::SECOND;

/// The contents of a page that was freed.
const FREED: u8 = u8::MAX;

/// The complaint about a buffer without memory.
pub(crate) const NO_MEMORY: &str = "a buffer has no memory";

/// The complaint about more than two kept pages.
pub(crate) const TOO_MUCH_KEPT: &str = "more is kept than the original keeps";

/// The fault of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingFault {
    /// To be done with the last buffer, a reader does not ask whether it still ends there.
    DrainWithoutEnd,
    /// As before, whether there are buffers behind it.
    DrainWithoutHead,
    /// A reader frees the last buffer's memory.
    DrainAndFree,
    /// The count of bytes taken goes back to 0 after the buffer was published as done with.
    CursorAfterDrain,
    /// To merge, a writer does not ask whether the buffer is still in use.
    MergeWithoutUse,
    /// A writer takes the memory of a buffer that is in use.
    TakeWithoutEmpty,
    /// Where a buffer ends that was merged into is written down after that was published.
    EndAfterMerge,
    /// A writer publishes a buffer and does not look what readers have left meanwhile.
    PublishUnsettled,
    /// A writer that does look goes by a state that came without order.
    SettleWithoutOrder,
    /// A writer that finds memory in its slot leaves what readers left in the last one, too.
    LeftPilesUp,
    /// The state when the claim was taken is used as the state before a change.
    StateOfClaim,
    /// A task that lets go of a claim does not wake the tasks that wait for it.
    ClaimNotPassed,
    /// A task that is killed while it waits for a claim does not wake the next one.
    TurnNotPassed,
    /// A task that is killed while it waits for the second claim keeps the first one.
    FirstClaimKept,
    /// As before, it lets go of that, but does not wake the task that waits for it.
    FirstClaimNotPassed,
}

/// Memory that others may use, but not at the same time.
struct Plain<T> {
    watch: UnsafeCell<()>,
    value: RefCell<T>,
}

impl<T: Clone> Plain<T> {
    fn new(value: T) -> Self {
        Self {
            watch: UnsafeCell::new(()),
            value: RefCell::new(value),
        }
    }

    fn get(&self) -> T {
        self.watch.with(|_| ());
        self.value.borrow().clone()
    }

    fn set(&self, value: T) {
        self.replace(value);
    }

    fn replace(&self, value: T) -> T {
        self.watch.with_mut(|_| ());
        self.value.replace(value)
    }
}

#[derive(Clone)]
struct Page(Rc<[Plain<u8>; PAGE]>);

impl Page {
    fn fill(&self, start: usize, from: &[u8]) {
        for (byte, &value) in self.0[start..start + from.len()].iter().zip(from) {
            byte.set(value);
        }
    }
}

/// A place for a buffer. Positions are the word's.
struct Slot {
    memory: Plain<Option<Page>>,
    start: Plain<u32>,
    end: Plain<u32>,
}

impl Slot {
    fn empty() -> Self {
        Self {
            memory: Plain::new(None),
            start: Plain::new(0),
            end: Plain::new(0),
        }
    }

    fn take(&self) -> Option<Page> {
        self.memory.replace(None)
    }
}

fn new_slots(slots: u32) -> Rc<[Slot]> {
    (0..slots).map(|_| Slot::empty()).collect()
}

pub(crate) struct PageRing {
    word: Word,
    slots: Plain<Rc<[Slot]>>,
    max_usage: AtomicU64,
    cursor: Plain<u32>,
    read_turns: Rc<Head>,
    write_turns: Rc<Head>,
    /// How many pages are allocated.
    pages: Cell<usize>,
    fault: Option<Fault>,
}

/// The tasks that wait for a claim.
struct Turn {
    at: Visitor,
    /// Whether it has left, and keeps that to itself.
    silent: Cell<bool>,
}

impl Turns for Turn {
    type Interrupted = Killed;

    const LATE: u32 = 1;

    fn is_active(&self) -> bool {
        !self.silent.get() && self.at.is_active()
    }

    fn wake_one(&self) {
        self.at.wake(Change::Added, Whom::First);
    }

    fn wait_until<R>(&self, mut condition: impl FnMut(u32) -> Option<R>) -> Result<R, Killed> {
        seen("turn");
        // As in the kernel: the second look is the first after a sleep.
        let mut looks = 0;
        let result = self.at.wait_until(true, || {
            looks += 1;
            let result = condition(looks / 2);
            if result.is_none() && looks > 1 {
                seen("late");
            }
            result
        });
        let fault = Fault::Ring(RingFault::TurnNotPassed);
        self.silent.set(result.is_err() && self.at.head.has(fault));
        result
    }
}

impl PageRing {
    pub(crate) fn new(fault: Option<Fault>, max_usage: u32) -> Self {
        Self {
            word: Word::new(),
            slots: Plain::new(new_slots(max_usage)),
            max_usage: AtomicU64::new(max_usage.into()),
            cursor: Plain::new(0),
            read_turns: Rc::new(Head::new(fault)),
            write_turns: Rc::new(Head::new(fault)),
            pages: Cell::new(0),
            fault,
        }
    }

    fn has(&self, fault: RingFault) -> bool {
        self.fault == Some(Fault::Ring(fault))
    }

    pub(crate) fn state(&self) -> State {
        self.word.get()
    }

    pub(crate) fn max_usage(&self) -> u32 {
        self.max_usage.load(Relaxed) as u32
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.state().is_full(self.max_usage())
    }

    pub(crate) fn read<R>(
        &self,
        task: &Rc<Task>,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> Result<R, Killed> {
        let turn = self.turn(Side::Read, task);
        let known = self.word.claim(Side::Read, &turn)?;
        Ok(self.with_tail(task, known, f).0)
    }

    pub(crate) fn read_filled<R>(
        &self,
        task: &Rc<Task>,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> Result<Option<(R, Option<State>)>, Killed> {
        let known = self.word.claim_filled(&self.turn(Side::Read, task))?;
        Ok(known.map(|known| self.with_tail(task, known, f)))
    }

    fn with_tail<R>(
        &self,
        task: &Rc<Task>,
        known: State,
        f: impl FnOnce(&mut Reader<'_>) -> R,
    ) -> (R, Option<State>) {
        let mut reader = Reader::new(self, known);
        let result = f(&mut reader);
        let before = reader.publish(task);
        (result, before.map(|before| self.before(before, known)))
    }

    pub(crate) fn write<R>(
        &self,
        task: &Rc<Task>,
        f: impl FnOnce(&mut Writer<'_>) -> R,
    ) -> Result<(R, Option<Published>), Killed> {
        let turn = self.turn(Side::Write, task);
        let known = self.word.claim(Side::Write, &turn)?;
        let mut writer = Writer::new(self, known);
        let result = f(&mut writer);
        let mut published = writer.publish(task);
        if let Some(published) = &mut published {
            published.before = self.before(published.before, known);
        }
        Ok((result, published))
    }

    fn before(&self, before: State, known: State) -> State {
        if self.has(RingFault::StateOfClaim) {
            known
        } else {
            before
        }
    }

    pub(crate) fn both<R>(
        &self,
        task: &Rc<Task>,
        f: impl FnOnce(&mut Both<'_>) -> R,
    ) -> Result<R, Killed> {
        let [read, write] = [Side::Read, Side::Write].map(|side| self.turn(side, task));
        self.claim_both(&write, &read)?;
        Ok(self.with_both(task, f))
    }

    pub(crate) fn try_both<R>(
        &self,
        task: &Rc<Task>,
        f: impl FnOnce(&mut Both<'_>) -> R,
    ) -> Option<R> {
        self.word.try_claim_both()?;
        Some(self.with_both(task, f))
    }

    fn with_both<R>(&self, task: &Rc<Task>, f: impl FnOnce(&mut Both<'_>) -> R) -> R {
        let mut both = Both {
            ring: self,
            anew: None,
            freed: Vec::new(),
        };
        let result = f(&mut both);
        self.word.let_go_both(both.anew);
        self.pass(Side::Read, task);
        self.pass(Side::Write, task);
        for page in both.freed {
            self.free(page);
        }
        result
    }

    /// `PageRing::both`, `Both::resize`. The contents have to fit.
    pub(crate) fn resize(&self, task: &Rc<Task>, max_usage: u32) -> Result<(), Killed> {
        self.both(task, |both| both.resize(max_usage))
    }

    fn claim_both(&self, write: &Turn, read: &Turn) -> Result<State, Killed> {
        let keeps = self.has(RingFault::FirstClaimKept);
        if !keeps && !self.has(RingFault::FirstClaimNotPassed) {
            return self
                .word
                .claim_both(write, read)
                .inspect_err(|_| seen("killed for both"));
        }
        self.word.claim(Side::Write, write)?;
        self.word.claim(Side::Read, read).inspect_err(|_| {
            if !keeps {
                self.word.let_go(Side::Write);
            }
        })
    }

    fn pass(&self, side: Side, task: &Rc<Task>) {
        if !self.has(RingFault::ClaimNotPassed) {
            self.word.pass(&self.turn(side, task));
        }
    }

    fn turn(&self, side: Side, task: &Rc<Task>) -> Turn {
        let queue = match side {
            Side::Read => &self.read_turns,
            Side::Write => &self.write_turns,
        };
        Turn {
            at: Visitor::new(queue, task),
            silent: Cell::new(false),
        }
    }

    fn slot(&self, index: Index) -> SlotRef {
        let slots = self.slots.get();
        let index = index.slot(slots.len() as u32);
        SlotRef { slots, index }
    }

    fn allocate(&self) -> Page {
        self.pages.set(self.pages.get() + 1);
        Page(Rc::new([(); PAGE].map(|()| Plain::new(FREED))))
    }

    /// The memory is somebody else's, who writes there.
    fn free(&self, page: Page) {
        for byte in page.0.iter() {
            byte.set(FREED);
        }
        self.pages.set(self.pages.get() - 1);
    }

    /// Nobody has a claim or waits for one, nothing is inside, and each page is in a slot.
    pub(crate) fn end(&self) {
        assert!(self.state().is_empty(), "too much is inside");
        for side in [Side::Read, Side::Write] {
            assert!(self.word.try_claim(side).is_some(), "a claim is left");
        }
        self.read_turns.end();
        self.write_turns.end();
        let in_slots = self.slots.get().iter().filter_map(Slot::take).count();
        assert_eq!(in_slots, self.pages.get(), "a page is lost");
        assert!(in_slots <= 2, "{TOO_MUCH_KEPT}");
    }
}

/// Both claims.
pub(crate) struct Both<'a> {
    ring: &'a PageRing,
    anew: Option<State>,
    freed: Vec<Page>,
}

impl Both<'_> {
    /// The contents have to fit.
    pub(crate) fn resize(&mut self, max_usage: u32) {
        let ring = self.ring;
        let slots = new_slots(max_usage);
        let known = self.anew.unwrap_or_else(|| ring.state());
        for (slot, n) in slots.iter().zip(0..known.occupancy()) {
            let old = ring.slot(known.tail().plus(n));
            slot.memory.set(old.take());
            slot.start.set(old.start.get());
            slot.end.set(old.end.get());
        }
        self.take_all(&ring.slots.replace(slots));
        ring.max_usage.store(max_usage.into(), Relaxed);
        self.anew = Some(State::new(known.occupancy(), known.end()));
    }

    pub(crate) fn clear(&mut self) {
        self.take_all(&self.ring.slots.get());
        self.ring.cursor.set(0);
        self.anew = Some(State::new(0, 0));
    }

    fn take_all(&mut self, slots: &[Slot]) {
        self.freed.extend(slots.iter().filter_map(Slot::take));
    }
}

/// A slot of the array that the ring had when it was looked at.
struct SlotRef {
    slots: Rc<[Slot]>,
    index: usize,
}

impl SlotRef {
    /// Whether it is the slot with this number.
    fn is(&self, index: Index) -> bool {
        self.index == index.slot(self.slots.len() as u32)
    }
}

impl Deref for SlotRef {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.slots[self.index]
    }
}

/// The readers' claim.
pub(crate) struct Reader<'a> {
    ring: &'a PageRing,
    known: State,
    done: u32,
    limit: u32,
    drained: bool,
    handed_back: bool,
    freed: Vec<Page>,
}

impl<'a> Reader<'a> {
    fn new(ring: &'a PageRing, known: State) -> Self {
        Self {
            ring,
            known,
            done: 0,
            limit: known.occupancy(),
            drained: false,
            handed_back: false,
            freed: Vec::new(),
        }
    }

    fn slot(&self) -> SlotRef {
        self.ring.slot(self.known.tail().plus(self.done))
    }

    fn rest(&self, slot: &Slot) -> (u32, bool) {
        let last = self.done + 1 == self.limit;
        let end = if last {
            self.known.end()
        } else {
            slot.end.get()
        };
        (end - slot.start.get() - self.ring.cursor.get(), last)
    }

    fn refresh(&mut self) {
        self.known = self.ring.state();
        self.limit = self.known.occupancy();
        if !self.drained {
            return;
        }
        let slot = self.slot();
        self.drained = match self.rest(&slot) {
            (0, true) => true,
            (0, false) => {
                self.retire(&slot);
                false
            }
            _ => false,
        };
    }

    fn retire(&mut self, slot: &SlotRef) {
        if !slot.is(KEEPER) {
            self.freed.extend(slot.take());
        }
        self.ring.cursor.set(0);
        self.done += 1;
    }

    fn front(&mut self) -> Option<(SlotRef, u32, bool)> {
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
        let (len, last) = self.rest(&slot);
        assert_ne!(len, 0, "nothing is left of the first buffer");
        Some((slot, len, last))
    }

    fn hand_back(&mut self, awaited: impl FnOnce() -> bool) -> Option<State> {
        if self.done < BATCH || !(self.ring.state().is_claimed(Side::Write) || awaited()) {
            return None;
        }
        let done = take(&mut self.done);
        let before = self.ring.word.pop(done, Claim::Kept);
        self.known = self.known.popped(done);
        self.limit -= done;
        self.handed_back = true;
        Some(before)
    }

    /// `Pipe::take`: takes the bytes that are there, up to `limit`. Calls `made_room` for each publication
    /// meanwhile.
    pub(crate) fn take(
        &mut self,
        limit: usize,
        awaited: impl Fn() -> bool,
        made_room: impl Fn(State),
    ) -> Vec<u8> {
        let mut taken = Vec::new();
        while let Some((slot, all, last)) = self.front() {
            let len = (limit - taken.len()).min((all / SCALE) as usize);
            let cursor = self.ring.cursor.get();
            let offset = ((slot.start.get() + cursor) / SCALE) as usize;
            let page = slot.memory.get().expect(NO_MEMORY);
            taken.extend(page.0[offset..offset + len].iter().map(Plain::get));
            let consumed = len as u32 * SCALE;
            if consumed < all || last {
                self.drained = consumed == all;
                self.ring.cursor.set(cursor + consumed);
            } else {
                self.retire(&slot);
            }
            if taken.len() == limit {
                break;
            }
            if let Some(before) = self.hand_back(&awaited) {
                seen("handed back");
                made_room(before);
            }
        }
        taken
    }

    /// How many bytes there are.
    pub(crate) fn count(&self) -> usize {
        let end = |left, slot: &Slot| match left {
            1 => self.known.end(),
            _ => slot.end.get(),
        };
        let mut sum = 0;
        let mut index = self.known.tail().plus(self.done);
        for left in (1..=self.limit - self.done).rev() {
            let slot = self.ring.slot(index);
            sum += end(left, &slot) - slot.start.get();
            index = index.plus(1);
        }
        ((sum - self.ring.cursor.get()) / SCALE) as usize
    }

    fn publish(&mut self, task: &Rc<Task>) -> Option<State> {
        let before = loop {
            if !self.drained {
                break self.pop();
            }
            match self.drain() {
                Ok(before) => break Some(before),
                Err(More) => {
                    seen("more");
                    self.refresh();
                }
            }
        };
        self.ring.pass(Side::Read, task);
        for page in self.freed.drain(..) {
            self.ring.free(page);
        }
        before
    }

    fn drain(&mut self) -> Result<State, More> {
        let ring = self.ring;
        let slot = self.slot();
        let freed = ring
            .has(RingFault::DrainAndFree)
            .then(|| slot.take())
            .flatten();
        let taken = ring.cursor.get();
        if !ring.has(RingFault::CursorAfterDrain) {
            ring.cursor.set(0);
        }
        let mut known = self.known;
        if ring.has(RingFault::DrainWithoutHead) && ring.state().end() == known.end() {
            known = ring.state();
        }
        let result = if ring.has(RingFault::DrainWithoutEnd) {
            Ok(ring.word.pop(known.occupancy(), Claim::LetGo))
        } else {
            ring.word.drain(known, Claim::LetGo)
        };
        if result.is_err() {
            ring.cursor.set(taken);
        } else if ring.has(RingFault::CursorAfterDrain) {
            ring.cursor.set(0);
        }
        self.freed.extend(freed);
        result
    }

    fn pop(&mut self) -> Option<State> {
        if self.done > 0 {
            Some(self.ring.word.pop(self.done, Claim::LetGo))
        } else {
            self.ring.word.let_go(Side::Read);
            None
        }
    }
}

/// There is no slot.
pub(crate) struct Full;

/// A writer's publication.
#[derive(Clone, Copy)]
pub(crate) struct Published {
    before: State,
    begun: u32,
}

impl Published {
    pub(crate) fn was_empty(self) -> bool {
        self.before.is_empty()
    }

    pub(crate) fn filled(self, max_usage: u32) -> bool {
        self.before.occupancy() + self.begun >= max_usage
    }
}

/// The writers' claim.
pub(crate) struct Writer<'a> {
    ring: &'a PageRing,
    known: State,
    begun: u32,
    end: u32,
    over: bool,
    settled: bool,
}

impl<'a> Writer<'a> {
    fn new(ring: &'a PageRing, known: State) -> Self {
        Self {
            ring,
            known,
            begun: 0,
            end: 0,
            over: false,
            settled: false,
        }
    }

    fn refresh(&mut self) {
        self.known = self.ring.state();
    }

    pub(crate) fn merge(&mut self, from: &mut &[u8]) {
        if self.known.is_empty() || self.begun != 0 || self.over {
            return;
        }
        let end = self.known.end();
        let Some(len) = mergeable(from.len() * SCALE as usize, end) else {
            return;
        };
        let slot = self.ring.slot(self.known.head().before());
        let page = slot.memory.get().expect(NO_MEMORY);
        let (now, later) = from.split_at(len / SCALE as usize);
        page.fill((end / SCALE) as usize, now);
        *from = later;
        let claim = if from.is_empty() {
            Claim::LetGo
        } else {
            Claim::Kept
        };
        let end_now = end + len as u32;
        if !self.ring.has(RingFault::EndAfterMerge) {
            slot.end.set(end_now);
        }
        let result = if self.ring.has(RingFault::MergeWithoutUse) {
            Ok(self.ring.word.push(0, end_now, claim, |_| ()))
        } else {
            self.ring.word.merge(end_now, claim)
        };
        if self.ring.has(RingFault::EndAfterMerge) {
            slot.end.set(end_now);
        }
        match result {
            Ok(_) if claim == Claim::LetGo => self.over = true,
            Ok(_) => self.refresh(),
            Err(Gone) => {
                seen("gone");
                self.move_on(end, end_now);
            }
        }
    }

    fn move_on(&mut self, start: u32, end: u32) {
        self.refresh();
        let left = self.ring.slot(self.known.head().before()).take();
        let slot = self.ring.slot(self.known.head());
        if let Some(page) = slot.take() {
            self.ring.free(page);
        }
        slot.memory.set(left);
        slot.start.set(start);
        slot.end.set(end);
        (self.begun, self.settled) = (1, true);
        self.end = end;
    }

    fn settle(&mut self, state: State, begun: u32) {
        if self.settled || !state.is_empty() || self.ring.has(RingFault::PublishUnsettled) {
            return;
        }
        self.settled = true;
        if !self.ring.has(RingFault::SettleWithoutOrder) {
            self.ring.state();
        }
        if (begun as usize) < self.ring.slots.get().len() {
            if let Some(page) = self.ring.slot(state.head().before()).take() {
                seen("settled");
                self.ring.free(page);
            }
        }
    }

    pub(crate) fn hand_over(&mut self) -> Option<Published> {
        if self.begun < BATCH || !self.ring.state().is_claimed(Side::Read) {
            return None;
        }
        let begun = take(&mut self.begun);
        let (ring, end) = (self.ring, self.end);
        let before = ring
            .word
            .push(begun, end, Claim::Kept, |state| self.settle(state, begun));
        self.settled = false;
        self.refresh();
        seen("handed over");
        Some(Published { before, begun })
    }

    fn is_full(&mut self) -> bool {
        let max_usage = self.ring.max_usage();
        if self.known.occupancy() + self.begun < max_usage {
            return false;
        }
        self.refresh();
        self.known.occupancy() + self.begun >= max_usage
    }

    pub(crate) fn push(&mut self, from: &mut &[u8]) -> Result<(), Full> {
        assert!(!self.over);
        if self.is_full() {
            return Err(Full);
        }
        let slot = self.ring.slot(self.known.head().plus(self.begun));
        let page = self.memory(&slot).unwrap_or_else(|| self.ring.allocate());
        let (now, later) = from.split_at(from.len().min(PAGE));
        page.fill(0, now);
        *from = later;
        self.end = now.len() as u32 * SCALE;
        slot.memory.set(Some(page));
        slot.start.set(0);
        slot.end.set(self.end);
        self.begun += 1;
        Ok(())
    }

    fn memory(&mut self, slot: &SlotRef) -> Option<Page> {
        if self.begun != 0 {
            return slot.take();
        }
        self.refresh();
        if !self.known.is_empty() && !self.ring.has(RingFault::TakeWithoutEmpty) {
            return slot.take();
        }
        self.settled = true;
        let last = self.known.head().before();
        let own = slot.take();
        if own.is_some() && self.ring.has(RingFault::LeftPilesUp) {
            return own;
        }
        let left = self.ring.slot(last).take();
        if left.is_some() {
            seen("left");
        }
        match (own, left) {
            (Some(own), Some(left)) => {
                seen("both left");
                self.ring.free(left);
                Some(own)
            }
            (own, left) => own.or(left),
        }
    }

    fn publish(&mut self, task: &Rc<Task>) -> Option<Published> {
        let begun = self.begun;
        let mut published = None;
        if begun > 0 {
            let (ring, end) = (self.ring, self.end);
            let before = ring
                .word
                .push(begun, end, Claim::LetGo, |state| self.settle(state, begun));
            published = Some(Published { before, begun });
        } else if !self.over {
            self.ring.word.let_go(Side::Write);
        }
        self.ring.pass(Side::Write, task);
        published
    }
}
