// SPDX-License-Identifier: GPL-2.0

//! A perfect hash: finds a key's place in a short list by one multiplication and one load.

const SLOTS_SHIFT: u32 = 8;
const SLOTS: usize = 1 << SLOTS_SHIFT;

/// The places of some keys. A key that is none of them has any place.
pub struct PerfectHash {
    factor: u32,
    places: [u8; SLOTS],
}

impl PerfectHash {
    /// The longest list that a factor is looked for.
    pub const KEYS_MAX: usize = 48;

    /// That of no keys.
    pub const fn empty() -> Self {
        Self {
            factor: 1,
            places: [0; SLOTS],
        }
    }

    /// Tries factors until one puts every key in a slot of its own. Returns `None` if there are too many keys, or two
    /// with the same lower half.
    pub fn of(keys: &[usize]) -> Option<Self> {
        if keys.len() > Self::KEYS_MAX {
            return None;
        }
        // Odd multiples of the golden ratio's; a try with 48 keys succeeds once in a hundred times.
        (0..10_000)
            .map(|n: u32| 0x9e37_79b9_u32.wrapping_mul(2 * n + 1))
            .find_map(|factor| Self::with_factor(keys, factor))
    }

    fn with_factor(keys: &[usize], factor: u32) -> Option<Self> {
        let mut taken = [false; SLOTS];
        let mut hash = Self {
            factor,
            ..Self::empty()
        };
        for (place, &key) in keys.iter().enumerate() {
            let slot = hash.slot(key);
            if core::mem::replace(&mut taken[slot], true) {
                return None;
            }
            hash.places[slot] = place as u8;
        }
        Some(hash)
    }

    /// Returns the key's place in the list.
    #[inline]
    pub fn place(&self, key: usize) -> usize {
        self.places[self.slot(key)].into()
    }

    #[inline]
    fn slot(&self, key: usize) -> usize {
        ((key as u32).wrapping_mul(self.factor) >> (u32::BITS - SLOTS_SHIFT)) as usize
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn every_key_has_its_place(
            offsets in prop::collection::hash_set(0_usize..0x100_0000, 0..=PerfectHash::KEYS_MAX),
        ) {
            // Functions of a kernel stand at multiples of 16.
            let keys: Vec<_> = offsets.iter().map(|offset| 0xffff_ffff_8100_0000 + 16 * offset).collect();
            let hash = PerfectHash::of(&keys).expect("no factor");
            for (place, &key) in keys.iter().enumerate() {
                prop_assert_eq!(hash.place(key), place);
            }
        }
    }

    #[test]
    fn a_key_has_one_place() {
        assert!(PerfectHash::of(&[4096, 8192, 4096]).is_none());
    }

    #[test]
    fn a_list_that_is_too_long_is_refused() {
        let keys: Vec<_> = (0..=PerfectHash::KEYS_MAX).collect();
        assert!(PerfectHash::of(&keys).is_none());
    }
}
