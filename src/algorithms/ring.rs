// SPDX-License-Identifier: GPL-2.0

//! The ring of a pipe: where its two ends are, and how a reader and a writer on two processors share it
//! without standing in each other's way.
//!
//! The ring is an array of slots, each with room for a buffer. Writers add buffers at the head and readers
//! take them from the tail. Head and tail count slots ever begun and ever done with; they wrap, and the slot
//! that an index means is its remainder by the array's size. The ring is empty when they are equal, and
//! full when they are as far apart as it may have buffers.
//!
//! The original keeps all of it under one mutex. Here it is in one atomic word, [`Word`], which is two
//! locks as well: who holds the writers' *claim* owns the head and the slots that are free, who holds the
//! readers' owns the tail and the slots that are in use. Letting go of a claim and publishing what was done
//! under it is one atomic operation, and a full barrier; so after it one may look whether anybody waits to
//! hear of it. What the word was in that instant tells exactly whether the ring was empty, or full.
//!
//! Both sides meet in one slot only, the last. A writer may *merge* into it, adding bytes to its buffer,
//! while a reader takes those that are there already. So the word also has the last buffer's *end*. To take
//! its last byte and be done with it, a reader asks for the end that it knows; to merge, a writer asks for a
//! buffer that is still in use. One of them comes first, and the other is told:
//!
//! ```text
//!     who writes                          who reads
//!
//!     copy behind the end                 copy up to the end
//!     still in use? move the end          the end is where it was? done with it
//!     no: put it into a new slot          no: there is more to read
//! ```
//!
//! A writer that is told so has written behind the end of a buffer that is done with, so its memory has to
//! be left to writers.

use super::sync::{Acquire, Atomic, Full, Relaxed};

/// How many bits an index has. The largest ring, of 2 GiB, has 2^19 slots.
const INDEX_BITS: u32 = 23;
const INDEX: u32 = (1 << INDEX_BITS) - 1;

/// The most slots that a ring may have.
pub const SLOTS_MAX: u32 = 1 << 19;

/// The most bytes that a buffer may have.
pub const BUFFER_MAX: u32 = 4096;

/// A number in the word.
struct Field {
    shift: u32,
    bits: u32,
}

impl Field {
    const HEAD: Self = Self {
        shift: 0,
        bits: INDEX_BITS,
    };
    const TAIL: Self = Self::after(&Self::HEAD, INDEX_BITS);
    const END: Self = Self::after(&Self::TAIL, BUFFER_MAX.ilog2() + 1);

    const fn after(before: &Self, bits: u32) -> Self {
        let shift = before.shift + before.bits;
        Self { shift, bits }
    }

    const fn mask(&self) -> u64 {
        ((1 << self.bits) - 1) << self.shift
    }

    const fn get(&self, word: u64) -> u32 {
        ((word & self.mask()) >> self.shift) as u32
    }

    const fn set(&self, word: u64, value: u32) -> u64 {
        (word & !self.mask()) | ((value as u64) << self.shift)
    }
}

const _: () = {
    assert!(Field::END.shift + Field::END.bits <= Side::Write.reserved().ilog2());
    assert!(SLOTS_MAX < INDEX);
};

/// An end of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The tail.
    Read,
    /// The head.
    Write,
}

impl Side {
    /// The bit that says that it is taken.
    const fn claim(self) -> u64 {
        match self {
            Self::Read => 1 << 63,
            Self::Write => 1 << 61,
        }
    }

    /// The bit that says that it is reserved for those who have waited.
    const fn reserved(self) -> u64 {
        self.claim() >> 1
    }
}

/// The number of a slot, counted from the ring's beginning. It wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index(u32);

impl Index {
    /// That of the second slot.
    pub const SECOND: Self = Self(1);

    /// How many slots come before it from `other` on, going around in an array of `slots`, a power of two.
    pub const fn ahead_of(self, other: Self, slots: u32) -> u32 {
        self.since(other) & (slots - 1)
    }

    /// Where it is in an array of `slots`, a power of two.
    pub const fn slot(self, slots: u32) -> usize {
        (self.0 & (slots - 1)) as usize
    }

    /// The one so many behind it.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count) & INDEX)
    }

    /// The one before it.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.wrapping_sub(1) & INDEX)
    }

    /// How many there are from `earlier` on to this one.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0) & INDEX
    }
}

/// Where both ends are, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u64);

impl State {
    /// A ring with so many buffers in its first slots, the last of which ends there.
    pub const fn new(buffers: u32, end: u32) -> Self {
        Self(Field::END.set(Field::HEAD.set(0, buffers), end))
    }

    /// The next slot to be begun.
    pub const fn head(self) -> Index {
        Index(Field::HEAD.get(self.0))
    }

    /// The first slot in use, if any is.
    pub const fn tail(self) -> Index {
        Index(Field::TAIL.get(self.0))
    }

    /// Where the last buffer ends.
    pub const fn end(self) -> u32 {
        Field::END.get(self.0)
    }

    /// How many slots are in use.
    ///
    /// C: `pipe_occupancy`.
    pub const fn occupancy(self) -> u32 {
        self.head().since(self.tail())
    }

    /// Whether there is nothing to read.
    ///
    /// C: `pipe_empty`.
    pub const fn is_empty(self) -> bool {
        self.occupancy() == 0
    }

    /// Whether there is no slot to be begun in a ring that may have so many buffers.
    ///
    /// C: `pipe_full`.
    pub const fn is_full(self, max_usage: u32) -> bool {
        self.occupancy() >= max_usage
    }

    /// As it is with so many buffers at the tail done with.
    #[must_use]
    pub fn popped(self, buffers: u32) -> Self {
        self.with_tail(self.tail().plus(buffers))
    }

    fn with_head(self, head: Index, end: u32) -> Self {
        Self(Field::END.set(Field::HEAD.set(self.0, head.0), end))
    }

    fn with_tail(self, tail: Index) -> Self {
        Self(Field::TAIL.set(self.0, tail.0))
    }

    /// Who is at work at both sides.
    const BOTH: u64 = Side::Read.claim() | Side::Write.claim();

    /// Who is at work, and who waits for that.
    const CLAIMS: u64 =
        Side::Read.claim() | Side::Read.reserved() | Side::Write.claim() | Side::Write.reserved();

    /// Returns whether nobody is at work at either side, nor waits, and there is nothing to read.
    pub const fn is_idle(self) -> bool {
        self.0 & Self::CLAIMS == 0 && self.is_empty()
    }

    /// Whether nobody is at work at either side, nor waits, and no buffer was ever there: each has an end.
    pub const fn is_pristine(self) -> bool {
        self.0 & (Field::END.mask() | Self::CLAIMS) == 0
    }

    /// Whether somebody is at work at that side.
    pub const fn is_claimed(self, side: Side) -> bool {
        self.0 & side.claim() != 0
    }

    /// Whether somebody who waited for that side, and came too late, is to have it before those who come new.
    const fn is_reserved(self, side: Side) -> bool {
        self.0 & side.reserved() != 0
    }

    /// Whether who comes new has to wait for that side.
    const fn is_taken(self, side: Side) -> bool {
        self.0 & (side.claim() | side.reserved()) != 0
    }
}

/// Those who wait for a claim.
pub trait Turns {
    /// Why a wait can end early.
    type Interrupted;

    /// Who was woken so often, and came too late each time, has the next turn.
    const LATE: u32;

    /// Whether anybody waits. It may look without a lock: a full barrier stands before it.
    fn is_active(&self) -> bool;

    /// Wakes one of them.
    fn wake_one(&self);

    /// Sleeps until `condition` gives something. It is looked at after going on the queue, with a full
    /// barrier between the two, and again after each wake-up; and is told how many there were.
    fn wait_until<R>(
        &self,
        condition: impl FnMut(u32) -> Option<R>,
    ) -> Result<R, Self::Interrupted>;
}

/// The buffer that was to be merged into is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// The buffer that was to be done with has got more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct More;

/// What becomes of a claim when something is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is kept.
    Kept,
    /// It is let go of; [`Word::pass`] has to follow.
    LetGo,
}

/// The word that holds both ends, and who has them.
///
/// What is written to a slot before it is published is seen by who finds it published: each change is a
/// full barrier, and taking a claim or a look is an acquire.
pub struct Word(Atomic<u64>);

impl Word {
    /// The word of a ring with nothing in it.
    pub fn new() -> Self {
        Self(Atomic::new(State::new(0, 0).0))
    }

    /// Where the ends are at this moment.
    #[inline]
    pub fn get(&self) -> State {
        // Pairs with `update`: what was put into the slots is seen.
        State(self.0.load(Acquire))
    }

    /// Takes a side, if nobody has it or is to have it first.
    #[inline]
    pub fn try_claim(&self, side: Side) -> Option<State> {
        let mut old = State(self.0.load(Relaxed));
        while !old.is_taken(side) {
            // Pairs with `update` by who had it before: what was done under the claim is seen.
            match self.0.cmpxchg(old.0, old.0 | side.claim(), Acquire) {
                Ok(_) => return Some(old),
                Err(now) => old = State(now),
            }
        }
        None
    }

    /// Takes a side; waits while somebody has it.
    #[inline]
    pub fn claim<T: Turns>(&self, side: Side, turns: &T) -> Result<State, T::Interrupted> {
        match self.try_claim(side) {
            Some(state) => Ok(state),
            None => self.wait(side, turns),
        }
    }

    /// Waits for a side, and takes it.
    ///
    /// Who was woken and finds that somebody else was faster reserves the side, so that nobody who comes new takes
    /// it before one of those who wait has had it: the queue would be for the unlucky only. The reservation is
    /// nobody's own: whoever was woken may make use of it, and it is gone with that. As long as there is one,
    /// somebody who was woken is awake, or is woken when the side is let go of.
    #[cold]
    #[inline(never)]
    fn wait<T: Turns>(&self, side: Side, turns: &T) -> Result<State, T::Interrupted> {
        let result = turns.wait_until(|woken| match woken {
            0 => self.try_claim(side),
            _ => self.claim_or_reserve(side, woken >= T::LATE),
        });
        if result.is_err() {
            // It may have been this one's, who does not wait any more: those who came new do, and others reserve it
            // again if they have to.
            let _ = self.update(side, Claim::Kept, |state| {
                Some(State(state.0 & !side.reserved()))
            });
            self.pass(turns);
        }
        result
    }

    /// Takes a side if nobody has it, and reserves it if somebody does.
    fn claim_or_reserve(&self, side: Side, reserve: bool) -> Option<State> {
        let mut old = State(self.0.load(Relaxed));
        loop {
            let claimed = old.is_claimed(side);
            if claimed && (old.is_reserved(side) || !reserve) {
                return None;
            }
            let new = if claimed {
                old.0 | side.reserved()
            } else {
                (old.0 | side.claim()) & !side.reserved()
            };
            // As in `try_claim`.
            match self.0.cmpxchg(old.0, new, Acquire) {
                Ok(_) => return (!claimed).then_some(old),
                Err(now) => old = State(now),
            }
        }
    }

    /// Takes the readers' side, unless nobody has it and there is nothing to read: then it gives none. Waits
    /// while somebody has it, and takes it then, whatever is there: who waits for a turn and leaves without one
    /// would have to wake the next.
    #[inline]
    pub fn claim_filled<T: Turns>(&self, turns: &T) -> Result<Option<State>, T::Interrupted> {
        let mut old = State(self.0.load(Relaxed));
        while !old.is_taken(Side::Read) {
            if old.is_empty() {
                return Ok(None);
            }
            // As in `try_claim`.
            match self.0.cmpxchg(old.0, old.0 | Side::Read.claim(), Acquire) {
                Ok(_) => return Ok(Some(old)),
                Err(now) => old = State(now),
            }
        }
        self.wait(Side::Read, turns).map(Some)
    }

    /// Lets the next have the side that was let go of.
    ///
    /// The barrier between letting go and the look is that of `update`; it pairs with the one between going
    /// on the queue and the look at the claim, `Wait::announce` (src/abstractions/wait_queue/wait.rs).
    #[inline]
    pub fn pass<T: Turns>(&self, turns: &T) {
        if turns.is_active() {
            turns.wake_one();
        }
    }

    /// Lets go of a side, with nothing to publish.
    #[inline]
    pub fn let_go(&self, side: Side) -> State {
        self.update(side, Claim::LetGo, Some)
            .unwrap_or_else(|state| state)
    }

    /// Publishes so many buffers at the head, the last of which ends there. Gives the state before.
    ///
    /// For who has the writers' claim, and filled the slots. `prepare` is called for each state that this is
    /// tried from, the one that it succeeds from the last. The state is looked at without order: who goes by it
    /// to the slots takes another look first, [`Word::get`].
    #[inline]
    pub fn push(
        &self,
        buffers: u32,
        end: u32,
        claim: Claim,
        mut prepare: impl FnMut(State),
    ) -> State {
        self.update(Side::Write, claim, |state| {
            prepare(state);
            Some(state.with_head(state.head().plus(buffers), end))
        })
        .unwrap_or_else(|state| state)
    }

    /// Publishes that the last buffer ends there now, unless readers are done with it; then the claim is
    /// kept. Gives the state before.
    ///
    /// For who has the writers' claim, and wrote behind the end there was.
    #[inline]
    pub fn merge(&self, end: u32, claim: Claim) -> Result<State, Gone> {
        self.update(Side::Write, claim, |state| {
            (!state.is_empty()).then(|| state.with_head(state.head(), end))
        })
        .map_err(|_| Gone)
    }

    /// Publishes that so many buffers at the tail are done with, the last buffer not among them. Gives the
    /// state before.
    ///
    /// For who has the readers' claim.
    #[inline]
    pub fn pop(&self, buffers: u32, claim: Claim) -> State {
        self.update(Side::Read, claim, |state| Some(state.popped(buffers)))
            .unwrap_or_else(|state| state)
    }

    /// Publishes that everything is done with, if `known` is still all there is; otherwise the claim is kept.
    /// Gives the state before.
    ///
    /// For who has the readers' claim.
    #[inline]
    pub fn drain(&self, known: State, claim: Claim) -> Result<State, More> {
        self.update(Side::Read, claim, |state| {
            (state.head() == known.head() && state.end() == known.end())
                .then(|| state.with_tail(state.head()))
        })
        .map_err(|_| More)
    }

    /// Takes both sides, if nobody has either or is to have it first.
    #[inline]
    pub fn try_claim_both(&self) -> Option<State> {
        let mut old = State(self.0.load(Relaxed));
        while !old.is_taken(Side::Read) && !old.is_taken(Side::Write) {
            // As in `try_claim`.
            match self.0.cmpxchg(old.0, old.0 | State::BOTH, Acquire) {
                Ok(_) => return Some(old),
                Err(now) => old = State(now),
            }
        }
        None
    }

    /// Takes both sides; waits while somebody has one.
    pub fn claim_both<T: Turns>(&self, write: &T, read: &T) -> Result<State, T::Interrupted> {
        if let Some(state) = self.try_claim_both() {
            return Ok(state);
        }
        self.claim(Side::Write, write)?;
        self.claim(Side::Read, read).inspect_err(|_| {
            self.let_go(Side::Write);
            self.pass(write);
        })
    }

    /// Lets go of both sides; [`Word::pass`] for either has to follow. It is `anew` then, if that is something.
    ///
    /// For who has both claims.
    #[inline]
    pub fn let_go_both(&self, anew: Option<State>) {
        let mut old = self.0.load(Relaxed);
        loop {
            let state = anew.map_or(old, |state| state.0 | old & State::CLAIMS);
            match self.0.cmpxchg(old, state & !State::BOTH, Full) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    /// Replaces the state by what `step` makes of it. The other side may change it meanwhile, hence the
    /// loop. A success is a full barrier.
    #[inline]
    fn update(
        &self,
        side: Side,
        claim: Claim,
        mut step: impl FnMut(State) -> Option<State>,
    ) -> Result<State, State> {
        let keep = match claim {
            Claim::Kept => u64::MAX,
            Claim::LetGo => !side.claim(),
        };
        let mut old = State(self.0.load(Relaxed));
        loop {
            let new = step(old).ok_or(old)?;
            match self.0.cmpxchg(old.0, new.0 & keep, Full) {
                Ok(_) => return Ok(old),
                Err(now) => old = State(now),
            }
        }
    }
}

impl Default for Word {
    fn default() -> Self {
        Self::new()
    }
}

/// How many bytes of a write of `len` may go into the last buffer, which ends at `end`: those beyond whole
/// buffers, so that the rest is in whole ones. None if there is no room for all of them.
///
/// C: `anon_pipe_write`.
pub const fn mergeable(len: usize, end: u32) -> Option<usize> {
    let odd = len % BUFFER_MAX as usize;
    if odd != 0 && odd + end as usize <= BUFFER_MAX as usize {
        Some(odd)
    } else {
        None
    }
}

/// The capacity that a pipe gets who asks for `bytes`, in buffers: a power of two of them, at least one.
/// None if it is more than there can be.
///
/// C: `round_pipe_size`.
pub fn slots_for(bytes: u32) -> Option<u32> {
    if bytes > SLOTS_MAX * BUFFER_MAX {
        return None;
    }
    Some(bytes.div_ceil(BUFFER_MAX).max(1).next_power_of_two())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::{
        mergeable, slots_for, Atomic, Claim, Gone, Index, More, Side, State, Word, BUFFER_MAX,
        INDEX, SLOTS_MAX,
    };
    use core::mem::take;
    use proptest::prelude::*;
    use std::{collections::VecDeque, vec::Vec};

    const PAGE: usize = BUFFER_MAX as usize;

    /// Indices, those around the wrap as often as any other.
    fn index() -> impl Strategy<Value = u32> {
        prop_oneof![0..=4u32, INDEX - 4..=INDEX, 0..=INDEX]
    }

    /// Sizes of arrays.
    fn slots() -> impl Strategy<Value = u32> {
        (0..=SLOTS_MAX.ilog2()).prop_map(|exponent| 1 << exponent)
    }

    /// Lengths, those around whole buffers as often as any other.
    fn len() -> impl Strategy<Value = usize> {
        let around = |pages: usize| pages * PAGE - 2..=pages * PAGE + 2;
        prop_oneof![1..64usize, (1..4usize).prop_flat_map(around), 1..5 * PAGE]
    }

    #[test]
    fn a_capacity_has_bounds() {
        assert_eq!(slots_for(0), Some(1));
        assert_eq!(slots_for(1 << 31), Some(SLOTS_MAX));
        assert_eq!(slots_for((1 << 31) + 1), None);
    }

    proptest! {
        /// Against numbers that do not wrap.
        #[test]
        fn an_index_counts_on(first in index(), count in 0..=SLOTS_MAX, slots in slots()) {
            let modulus = u64::from(INDEX) + 1;
            let later = Index(first).plus(count);
            let model = u64::from(first) + u64::from(count);
            prop_assert_eq!(u64::from(later.0), model % modulus);
            prop_assert_eq!(later.since(Index(first)), count);
            let before = (u64::from(first) + modulus - 1) % modulus;
            prop_assert_eq!(u64::from(Index(first).before().0), before);
            prop_assert_eq!(later.slot(slots) as u64, model % u64::from(slots));
            let ahead = later.ahead_of(Index(first), slots);
            prop_assert_eq!(ahead, count % slots);
            prop_assert_eq!(Index(first).plus(ahead).slot(slots), later.slot(slots));
        }

        /// Each number in the word is apart from the others, and from the claims.
        #[test]
        fn a_state_is_what_was_put_into_it(
            tail in index(),
            buffers in 0..=SLOTS_MAX,
            end in 0..=BUFFER_MAX,
            claims in any::<[bool; 2]>(),
            max_usage in slots(),
        ) {
            let head = Index(tail).plus(buffers);
            let mut state = State(!State::CLAIMS).with_tail(Index(tail)).with_head(head, end);
            for (side, claimed) in [Side::Read, Side::Write].into_iter().zip(claims) {
                prop_assert!(!state.is_claimed(side));
                if claimed {
                    state.0 |= side.claim();
                }
                prop_assert_eq!(state.is_claimed(side), claimed);
            }
            prop_assert_eq!((state.tail(), state.head(), state.end()), (Index(tail), head, end));
            prop_assert_eq!(state.occupancy(), buffers);
            prop_assert_eq!(state.is_empty(), buffers == 0);
            prop_assert_eq!(state.is_full(max_usage), buffers >= max_usage);
        }

        /// Against the original's words for it.
        #[test]
        fn what_is_merged_leaves_whole_buffers(len in len(), end in 0..=BUFFER_MAX) {
            let chars = len & (PAGE - 1);
            let merges = chars != 0 && end as usize + chars <= PAGE;
            prop_assert_eq!(mergeable(len, end), merges.then_some(chars));
        }

        /// Against the original's `round_pipe_size`, with numbers that do not overflow.
        #[test]
        fn a_capacity_is_a_power_of_two(
            bytes in prop_oneof![
                any::<u32>(),
                (0..32u32, 0..=2u32).prop_map(|(bit, off)| (1u32 << bit).wrapping_add(off).wrapping_sub(1)),
            ],
        ) {
            let rounded = u64::from(bytes.max(BUFFER_MAX)).next_power_of_two();
            let expected = (bytes <= 1 << 31).then_some(rounded >> BUFFER_MAX.ilog2());
            prop_assert_eq!(slots_for(bytes).map(u64::from), expected);
        }
    }

    /// A buffer of the original's: it begins there in its page.
    struct Buffer {
        offset: usize,
        bytes: Vec<u8>,
    }

    /// The original's rules: `anon_pipe_write`, `anon_pipe_read`, `pipe_resize_ring`.
    struct Original {
        buffers: VecDeque<Buffer>,
        max_usage: usize,
    }

    impl Original {
        fn write(&mut self, mut from: &[u8]) -> usize {
            let len = from.len();
            let chars = len % PAGE;
            if let Some(last) = self.buffers.back_mut() {
                if chars != 0 && last.offset + last.bytes.len() + chars <= PAGE {
                    last.bytes.extend(&from[..chars]);
                    from = &from[chars..];
                }
            }
            while !from.is_empty() && self.buffers.len() < self.max_usage {
                let (now, later) = from.split_at(from.len().min(PAGE));
                self.buffers.push_back(Buffer {
                    offset: 0,
                    bytes: now.into(),
                });
                from = later;
            }
            len - from.len()
        }

        fn read(&mut self, len: usize) -> Vec<u8> {
            let mut to = Vec::new();
            while let Some(first) = self.buffers.front_mut() {
                let chars = first.bytes.len().min(len - to.len());
                to.extend(first.bytes.drain(..chars));
                first.offset += chars;
                if first.bytes.is_empty() {
                    self.buffers.pop_front();
                }
                if to.len() == len {
                    break;
                }
            }
            to
        }

        fn resize(&mut self, slots: usize) -> bool {
            let fits = self.buffers.len() <= slots;
            if fits {
                self.max_usage = slots;
            }
            fits
        }

        fn count(&self) -> usize {
            self.buffers.iter().map(|buffer| buffer.bytes.len()).sum()
        }

        fn end(&self) -> Option<usize> {
            self.buffers
                .back()
                .map(|last| last.offset + last.bytes.len())
        }
    }

    /// A place for a buffer: a page, as far as it is written, and where in it the buffer begins.
    #[derive(Clone, Default)]
    struct Slot {
        start: usize,
        page: Vec<u8>,
    }

    /// A ring over the word, as those at its ends use it.
    struct Ring {
        word: Word,
        slots: Vec<Slot>,
        cursor: usize,
    }

    impl Ring {
        fn new(first: u32, slots: usize) -> Self {
            let first = Index(first);
            let state = State(0).with_tail(first).with_head(first, 0);
            Self {
                word: Word(Atomic::new(state.0)),
                slots: std::vec![Slot::default(); slots],
                cursor: 0,
            }
        }

        fn slot(&mut self, index: Index) -> &mut Slot {
            let slots = self.slots.len() as u32;
            &mut self.slots[index.slot(slots)]
        }

        /// What was not taken of the first buffer that is not done with, and whether it is the last one.
        fn rest(&mut self, known: State, done: u32) -> (&[u8], bool) {
            let last = done + 1 == known.occupancy();
            let cursor = self.cursor;
            let slot = self.slot(known.tail().plus(done));
            let end = if last {
                known.end() as usize
            } else {
                slot.page.len()
            };
            (&slot.page[slot.start + cursor..end], last)
        }

        /// Takes up to `len` bytes. Gives how many buffers are done with.
        fn take(&mut self, known: State, len: usize, to: &mut Vec<u8>) -> u32 {
            let mut done = 0;
            while done < known.occupancy() && to.len() < len {
                let (rest, last) = self.rest(known, done);
                let (now, later) = rest.split_at(rest.len().min(len - to.len()));
                let finished = later.is_empty();
                to.extend(now);
                self.cursor += now.len();
                if last {
                    break;
                }
                if finished {
                    (done, self.cursor) = (done + 1, 0);
                }
            }
            done
        }

        /// Publishes what was taken. Tells whether there was more than what was known.
        fn finish(&mut self, mut known: State, mut done: u32) -> bool {
            let mut more = false;
            while done < known.occupancy() {
                match self.rest(known, done) {
                    ([], false) => (done, self.cursor) = (done + 1, 0),
                    ([], true) => match self.word.drain(known, Claim::LetGo) {
                        Ok(before) => {
                            assert_eq!(before.tail(), known.tail());
                            self.cursor = 0;
                            return more;
                        }
                        Err(More) => (known, more) = (self.word.get(), true),
                    },
                    _ => break,
                }
            }
            self.word.pop(done, Claim::LetGo);
            more
        }

        fn read(&mut self, len: usize) -> Vec<u8> {
            let known = self.word.try_claim(Side::Read).unwrap();
            let mut to = Vec::new();
            let done = self.take(known, len, &mut to);
            assert!(!self.finish(known, done));
            to
        }

        /// Merges into the buffer that was the last one when the claim was taken.
        fn merge(&mut self, known: State, from: &mut &[u8]) -> Result<(), Gone> {
            let end = known.end();
            let odd = match mergeable(from.len(), end) {
                Some(odd) if !known.is_empty() => odd,
                _ => return Ok(()),
            };
            let (now, later) = from.split_at(odd);
            self.slot(known.head().before()).page.extend(now);
            *from = later;
            self.word.merge(end + odd as u32, Claim::Kept).map(drop)
        }

        fn write(&mut self, mut from: &[u8]) -> usize {
            let len = from.len();
            let known = self.word.try_claim(Side::Write).unwrap();
            self.merge(known, &mut from).unwrap();
            let (mut begun, mut end) = (0, 0);
            while !from.is_empty() && known.occupancy() + begun < self.slots.len() as u32 {
                let (now, later) = from.split_at(from.len().min(PAGE));
                *self.slot(known.head().plus(begun)) = Slot {
                    start: 0,
                    page: now.into(),
                };
                (begun, end) = (begun + 1, now.len() as u32);
                from = later;
            }
            if begun > 0 {
                self.word.push(begun, end, Claim::LetGo, |_| ());
            } else {
                self.word.let_go(Side::Write);
            }
            len - from.len()
        }

        /// A reader takes all there is, and before it says so something is written.
        fn write_into_read(&mut self, from: &[u8]) -> (usize, Vec<u8>) {
            let known = self.word.try_claim(Side::Read).unwrap();
            let mut to = Vec::new();
            let done = self.take(known, usize::MAX, &mut to);
            let len = self.write(from);
            assert!(self.word.try_claim(Side::Read).is_none());
            let more = self.finish(known, done);
            assert_eq!(more, !known.is_empty() && len > 0);
            (len, to)
        }

        /// A writer merges, and before it says so all there is is read.
        fn read_into_merge(&mut self, mut from: &[u8]) -> (usize, Vec<u8>) {
            let len = from.len();
            let known = self.word.try_claim(Side::Write).unwrap();
            let to = self.read(usize::MAX);
            assert!(self.word.try_claim(Side::Write).is_none());
            let result = self.merge(known, &mut from);
            let merged = len - from.len();
            assert_eq!(result, if merged > 0 { Err(Gone) } else { Ok(()) });
            if merged > 0 {
                let page = take(&mut self.slot(known.head().before()).page);
                let end = page.len() as u32;
                let start = known.end() as usize;
                *self.slot(known.head()) = Slot { start, page };
                self.word.push(1, end, Claim::LetGo, |_| ());
            } else {
                self.word.let_go(Side::Write);
            }
            (merged, to)
        }

        fn resize(&mut self, slots: usize) -> bool {
            let known = self.word.try_claim_both().unwrap();
            assert!(self.word.try_claim_both().is_none());
            let fits = known.occupancy() as usize <= slots;
            if fits {
                let mut new = std::vec![Slot::default(); slots];
                for (slot, n) in new.iter_mut().zip(0..known.occupancy()) {
                    *slot = take(self.slot(known.tail().plus(n)));
                }
                self.slots = new;
            }
            let anew = State::new(known.occupancy(), known.end());
            self.word.let_go_both(fits.then_some(anew));
            fits
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(usize),
        Read(usize),
        WriteIntoRead(usize),
        ReadIntoMerge(usize),
        Resize(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => len().prop_map(Step::Write),
            4 => len().prop_map(Step::Read),
            1 => len().prop_map(Step::WriteIntoRead),
            1 => (1..PAGE).prop_map(Step::ReadIntoMerge),
            1 => (0..4u32).prop_map(|exponent| Step::Resize(1 << exponent)),
        ]
    }

    /// Tries the steps on a ring whose indices begin at `first`, and on the original.
    fn try_steps(first: u32, steps: &[Step]) {
        let slots = 4;
        let mut ring = Ring::new(first, slots);
        let mut original = Original {
            buffers: VecDeque::new(),
            max_usage: slots,
        };
        let mut bytes = (0..=u8::MAX).cycle();
        let mut some = |len| bytes.by_ref().take(len).collect::<Vec<_>>();
        for step in steps {
            match *step {
                Step::Write(len) => {
                    let from = some(len);
                    assert_eq!(ring.write(&from), original.write(&from));
                }
                Step::Read(len) => assert_eq!(ring.read(len), original.read(len)),
                Step::WriteIntoRead(len) => {
                    let from = some(len);
                    let count = original.count();
                    let wrote = original.write(&from);
                    let read = original.read(count);
                    assert_eq!(ring.write_into_read(&from), (wrote, read));
                }
                Step::ReadIntoMerge(len) => {
                    let from = some(len);
                    let count = original.count();
                    let (merged, to) = ring.read_into_merge(&from);
                    assert_eq!(original.write(&from[..merged]), merged);
                    assert_eq!(to, original.read(count));
                }
                Step::Resize(slots) => assert_eq!(ring.resize(slots), original.resize(slots)),
            }
            let state = ring.word.get();
            assert_eq!(state.occupancy() as usize, original.buffers.len());
            assert_eq!(state.is_empty(), original.buffers.is_empty());
            let full = original.buffers.len() >= original.max_usage;
            assert_eq!(state.is_full(ring.slots.len() as u32), full);
            if let Some(end) = original.end() {
                assert_eq!(state.end() as usize, end);
            }
        }
        assert_eq!(ring.read(usize::MAX), original.read(usize::MAX));
    }

    proptest! {
        /// Byte for byte against the original, across the wrap of the indices.
        #[test]
        fn a_ring_is_the_original_s(
            first in INDEX - 16..=INDEX,
            steps in prop::collection::vec(step(), 0..64),
        ) {
            try_steps(first, &steps);
        }
    }
}
