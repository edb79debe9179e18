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
//! locks as well: the holder of the writers' *claim* owns the head and the free slots, the holder of the
//! readers' claim owns the tail and the slots in use. One atomic operation lets go of a claim and publishes the
//! changes made under it. It is a full barrier, so that its caller may then look whether anybody waits for them.
//! The word in that instant says exactly whether the ring was empty, or full.
//!
//! Both sides meet in one slot only, the last. A writer may *merge* into it, adding bytes to its buffer,
//! while a reader takes those that are there already. So the word also has the last buffer's *end*. To take
//! its last byte and be done with it, a reader asks for the end that it knows; to merge, a writer asks for a
//! buffer that is still in use. One of them comes first, and the other is told:
//!
//! ```text
//!     a writer                            a reader
//!
//!     copy behind the end                 copy up to the end
//!     still in use? move the end          the end is where it was? done with it
//!     no: put it into a new slot          no: there is more to read
//! ```
//!
//! A writer that comes second has written behind the end of a buffer that is done with, so its memory has to
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

    /// The bit that says that it is reserved for tasks that have waited.
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

    /// The bits of both claims.
    const BOTH: u64 = Side::Read.claim() | Side::Write.claim();

    /// The bits of both claims, and of both reservations.
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

    /// Whether a task that waited for that side, and came too late, is to have it before newcomers.
    const fn is_reserved(self, side: Side) -> bool {
        self.0 & side.reserved() != 0
    }

    /// Whether a newcomer has to wait for that side.
    const fn is_taken(self, side: Side) -> bool {
        self.0 & (side.claim() | side.reserved()) != 0
    }
}

/// The tasks that wait for a claim.
pub trait Turns {
    /// Why a wait can end early.
    type Interrupted;

    /// A task that was woken so often, and came too late each time, has the next turn.
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

/// The end of a claim when something is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is kept.
    Kept,
    /// It is let go of; [`Word::pass`] has to follow.
    LetGo,
}

/// The word that holds both ends, and their claims.
///
/// A task that finds a slot published sees everything that was written to it before: each change of the word is a
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
        // Pairs with `update`: the contents of the slots are seen.
        State(self.0.load(Acquire))
    }

    /// Takes a side, if nobody has it or is to have it first.
    #[inline]
    pub fn try_claim(&self, side: Side) -> Option<State> {
        let mut old = State(self.0.load(Relaxed));
        while !old.is_taken(side) {
            // Pairs with `update` by the holder before: the changes made under the claim are seen.
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
    /// A task that was woken and finds that another was faster reserves the side, so that no newcomer takes it before
    /// one of the waiting tasks has had it: the queue would be for the unlucky only. The reservation is nobody's own:
    /// any task that was woken may make use of it, and it is gone with that. As long as there is one, a task that was
    /// woken is awake, or is woken when the side is let go of.
    #[cold]
    #[inline(never)]
    fn wait<T: Turns>(&self, side: Side, turns: &T) -> Result<State, T::Interrupted> {
        let result = turns.wait_until(|woken| match woken {
            0 => self.try_claim(side),
            _ => self.claim_or_reserve(side, woken >= T::LATE),
        });
        if result.is_err() {
            // The reservation may have been for this task, which does not wait any more. Newcomers may go ahead; other
            // tasks reserve the side again if they have to.
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

    /// Takes the readers' side. Returns `None` if nobody has it and there is nothing to read. Waits while somebody has
    /// it, and takes it then, even if there is nothing: a task that waits for a turn and leaves without one would have
    /// to wake the next.
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

    /// Publishes so many buffers at the head, the last of which ends there. Returns the state before.
    ///
    /// The caller has the writers' claim, and filled the slots. `prepare` is called for each state that this is
    /// tried from, the one that it succeeds from the last. The state is looked at without order: a caller that goes by
    /// it to the slots takes another look first, [`Word::get`].
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
    /// kept. Returns the state before.
    ///
    /// The caller has the writers' claim, and wrote behind the end there was.
    #[inline]
    pub fn merge(&self, end: u32, claim: Claim) -> Result<State, Gone> {
        self.update(Side::Write, claim, |state| {
            (!state.is_empty()).then(|| state.with_head(state.head(), end))
        })
        .map_err(|_| Gone)
    }

    /// Publishes that so many buffers at the tail are done with, the last buffer not among them. Returns the
    /// state before.
    ///
    /// The caller has the readers' claim.
    #[inline]
    pub fn pop(&self, buffers: u32, claim: Claim) -> State {
        self.update(Side::Read, claim, |state| Some(state.popped(buffers)))
            .unwrap_or_else(|state| state)
    }

    /// Publishes that everything is done with, if `known` is still all there is; otherwise the claim is kept.
    /// Returns the state before.
    ///
    /// The caller has the readers' claim.
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
    /// The caller has both claims.
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

    /// Replaces the state by the one that `step` makes of it. The other side may change it meanwhile, hence the
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

/// Returns the capacity of a pipe that was asked to hold `bytes`, in buffers: a power of two of them, at least one.
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
mod tests;
