// SPDX-License-Identifier: GPL-2.0

//! Times counted by their length, from several threads.

use std::sync::atomic::{AtomicU64, Ordering};

/// Each power of two has so many classes: a class is an eighth wide.
const CLASSES: usize = 8;

/// How many times of each class there were.
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

    /// The time that a share of `share` is below, as the middle of its class, and forgets all that was
    /// counted.
    pub fn take_quantile(&self, share: f64) -> f64 {
        let counts: Vec<_> = self
            .0
            .iter()
            .map(|count| count.swap(0, Ordering::Relaxed))
            .collect();
        let wanted = share * counts.iter().sum::<u64>() as f64;
        let mut below = 0;
        for (class, count) in counts.iter().enumerate() {
            below += count;
            if below as f64 >= wanted {
                return middle(class);
            }
        }
        0.0
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
    fn a_quantile_is_taken_once() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|time| histogram.count(time));
        let p99 = histogram.take_quantile(0.99);
        assert!((900.0..1100.0).contains(&p99), "{p99}");
        histogram.count(7);
        assert!(histogram.take_quantile(0.01) > 6.0);
    }
}
