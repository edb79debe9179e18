// SPDX-License-Identifier: GPL-2.0

//! Times counted by their length.

use std::sync::atomic::{AtomicU64, Ordering};

/// Each power of two has so many classes: a class is an eighth wide.
const CLASSES: usize = 8;

/// How many times of each class there were, from several threads.
pub struct Histogram(Vec<AtomicU64>);

impl Default for Histogram {
    fn default() -> Self {
        Self((0..64 * CLASSES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    /// Counts one.
    pub fn count(&self, time: u64) {
        self.0[class(time)].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted; it is forgotten.
    pub fn take(&self) -> Counted {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Counted(self.0.iter().map(take).collect())
    }
}

/// What a histogram counted.
#[derive(Clone, Debug)]
pub struct Counted(Vec<u64>);

impl Default for Counted {
    fn default() -> Self {
        Self(vec![0; 64 * CLASSES])
    }
}

impl Counted {
    /// The time that a share of `share` is below, as the middle of its class.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = share * self.0.iter().sum::<u64>() as f64;
        let mut below = 0;
        for (class, count) in self.0.iter().enumerate() {
            below += count;
            if below as f64 >= wanted {
                return middle(class);
            }
        }
        0.0
    }

    /// Adds what another one counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(&other.0) {
            *sum += count;
        }
    }

    /// The classes that there were any of, by their middle.
    pub fn classes(&self) -> Vec<(f64, u64)> {
        let classes = self.0.iter().enumerate().filter(|(_, count)| **count > 0);
        classes
            .map(|(class, count)| (middle(class), *count))
            .collect()
    }
}

fn class(time: u64) -> usize {
    let time = time.max(1);
    let power = time.ilog2();
    // The bits after the first, as many as there are classes for.
    let within = (time << (63 - power) << 1) >> (64 - CLASSES.ilog2());
    power as usize * CLASSES + within as usize
}

fn middle(class: usize) -> f64 {
    let (power, within) = (class / CLASSES, class % CLASSES);
    (1u64 << power) as f64 * (1.0 + (within as f64 + 0.5) / CLASSES as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_its_middle() {
        for time in [1, 2, 3, 100, 12_345, 1 << 40] {
            let near = middle(class(time)) / time as f64;
            assert!((0.9..1.6).contains(&near), "{time}: {near}");
        }
        assert_eq!(class(u64::MAX), 64 * CLASSES - 1);
    }

    #[test]
    fn what_is_counted_is_taken_once() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|time| histogram.count(time));
        let counted = histogram.take();
        let p99 = counted.quantile(0.99);
        assert!((900.0..1100.0).contains(&p99), "{p99}");
        histogram.count(7);
        assert!(histogram.take().quantile(0.01) > 6.0);
    }

    #[test]
    fn classes_add_up() {
        let histogram = Histogram::default();
        let mut sum = Counted::default();
        for times in [[5, 5, 900], [5, 70, 900]] {
            times.iter().for_each(|time| histogram.count(*time));
            sum.add(&histogram.take());
        }
        let counts: Vec<_> = sum.classes().iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [3, 1, 2]);
    }
}
