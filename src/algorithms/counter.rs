// SPDX-License-Identifier: GPL-2.0

//! The counter's arithmetic: `eventfd_ctx.count` and what may be done to it.

/// What a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All there is.
    Sum,
    /// One: `EFD_SEMAPHORE`.
    Semaphore,
}

/// A count of 0 to [`Count::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(u64);

impl Count {
    /// The most that user space can bring a counter to. One more, and a kernel-side signal would
    /// have overflown it: that is what `EPOLLERR` tells.
    pub const MAX: u64 = u64::MAX - 1;

    /// A count of `value`, which is below [`Count::MAX`] by its type.
    pub const fn new(value: u32) -> Self {
        Self(value as u64)
    }

    /// The value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Takes what a read takes, if there is anything.
    pub fn take(&mut self, mode: Mode) -> Option<u64> {
        let taken = match (self.0, mode) {
            (0, _) => return None,
            (all, Mode::Sum) => all,
            (_, Mode::Semaphore) => 1,
        };
        self.0 -= taken;
        Some(taken)
    }

    /// Adds what a write adds, if there is room for all of it.
    pub fn add(&mut self, value: u64) -> Option<()> {
        self.0 = self.0.checked_add(value).filter(|&sum| sum <= Self::MAX)?;
        Some(())
    }

    /// Whether a read would find something.
    pub const fn is_readable(self) -> bool {
        self.0 > 0
    }

    /// Whether a write of 1 would find room.
    pub const fn is_writable(self) -> bool {
        self.0 < Self::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::{Count, Mode};
    use proptest::prelude::*;

    /// Values around the boundaries, and any other.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(0),
            Just(1),
            Just(Count::MAX - 1),
            Just(Count::MAX),
            Just(u64::MAX),
            any::<u64>(),
        ]
    }

    proptest! {
        /// Against a model that counts with more bits than can overflow.
        #[test]
        fn behaves_as_a_wide_sum(
            first in any::<u32>(),
            semaphore in any::<bool>(),
            steps in prop::collection::vec(prop::option::of(value()), 0..64),
        ) {
            let mode = if semaphore { Mode::Semaphore } else { Mode::Sum };
            let mut count = Count::new(first);
            let mut model = u128::from(first);
            for step in steps {
                match step {
                    Some(value) => {
                        let fits = model + u128::from(value) <= u128::from(Count::MAX);
                        prop_assert_eq!(count.add(value).is_some(), fits);
                        if fits {
                            model += u128::from(value);
                        }
                    }
                    None => {
                        let expected = match model {
                            0 => None,
                            _ if semaphore => Some(1),
                            all => Some(all),
                        };
                        prop_assert_eq!(count.take(mode).map(u128::from), expected);
                        model -= expected.unwrap_or(0);
                    }
                }
                prop_assert_eq!(u128::from(count.get()), model);
                prop_assert_eq!(count.is_readable(), model > 0);
                prop_assert_eq!(count.is_writable(), model < u128::from(Count::MAX));
            }
        }
    }

    #[test]
    fn a_write_that_does_not_fit_changes_nothing() {
        let mut count = Count::new(1);
        assert_eq!(count.add(Count::MAX), None);
        assert_eq!(count.get(), 1);
        assert_eq!(count.add(Count::MAX - 1), Some(()));
        assert!(!count.is_writable());
    }
}
