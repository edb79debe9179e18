// SPDX-License-Identifier: GPL-2.0

//! The word and what is computed of it, without concurrency.

extern crate std;

use super::{
    mergeable, slots_for, Atomic, Claim, Gone, Index, More, Side, State, Word, BUFFER_MAX, INDEX,
    SLOTS_MAX,
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

    /// Returns the rest of the first buffer that is not done with, and whether it is the last one.
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

    /// Takes up to `len` bytes. Returns how many buffers are done with.
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

    /// Publishes that the bytes were taken. Returns whether there were more than `known`.
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
