// SPDX-License-Identifier: GPL-2.0

//! Medians, and how far to trust a ratio of two.

use crate::record::Spread;

/// The value that a share of `share` lies below, between two if need be.
///
/// # Panics
///
/// If there is none at all.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// The median.
///
/// # Panics
///
/// If there is no value.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The mean.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// How the values are spread.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn spread(values: &[f64]) -> Spread {
    let [min, p25, p50, p75, p99, max] =
        [0.0, 0.25, 0.5, 0.75, 0.99, 1.0].map(|share| quantile(values, share));
    Spread {
        min,
        p25,
        p50,
        p75,
        p99,
        max,
    }
}

/// A round on each side, one right after the other: what is compared, and with what.
pub type Pair = (f64, f64);

/// The median of the pairs' ratios: a machine that is faster for a while, or slower, is so for both of a pair.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn median_ratio(pairs: &[Pair]) -> f64 {
    let ratios: Vec<_> = pairs.iter().map(|(above, below)| above / below).collect();
    median(&ratios)
}

/// The ratio of the means: for rounds one of which may pay what another left behind.
#[must_use]
pub fn mean_ratio(pairs: &[Pair]) -> f64 {
    let (above, below): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
    mean(&above) / mean(&below)
}

/// Where a ratio would be found in 95 of 100 runs, by bootstrap of the pairs.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn ratio_interval(pairs: &[Pair], ratio: fn(&[Pair]) -> f64) -> [f64; 2] {
    const DRAWS: usize = 1_000;
    // The same draws each time: a run's figures do not depend on chance that nobody needs.
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let ratios: Vec<_> = (0..DRAWS)
        .map(|_| {
            let drawn: Vec<_> = pairs
                .iter()
                .map(|_| pairs[random.below(pairs.len())])
                .collect();
            ratio(&drawn)
        })
        .collect();
    [0.025, 0.975].map(|share| quantile(&ratios, share))
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_may_lie_between_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn equal_sides_have_a_ratio_of_one() {
        let noisy: Vec<_> = (0..40).map(|n| 100.0 + f64::from(n * 7 % 11)).collect();
        let shifted: Vec<_> = (0..40).map(|n| 100.0 + f64::from(n * 5 % 11)).collect();
        for ratio in [median_ratio, mean_ratio] {
            let pairs: Vec<_> = noisy.iter().copied().zip(shifted.clone()).collect();
            let [low, high] = ratio_interval(&pairs, ratio);
            assert!(low <= 1.0 && 1.0 <= high, "{low} to {high}");
            let slower: Vec<_> = pairs.iter().map(|(a, b)| (a * 1.2, *b)).collect();
            let [low, high] = ratio_interval(&slower, ratio);
            assert!(low > 1.1 && high < 1.3, "{low} to {high}");
        }
    }

    #[test]
    fn a_machine_that_slows_down_amid_a_run_does_not_count() {
        let speeds = [1.0, 1.0, 1.0, 2.0, 2.0, 2.0];
        let pairs = speeds.map(|speed| (90.0 * speed, 100.0 * speed));
        assert_eq!(median_ratio(&pairs), 0.9);
        // One round that was disturbed, on the one side.
        let mut pairs = pairs;
        pairs[3].0 *= 5.0;
        assert_eq!(median_ratio(&pairs), 0.9);
    }

    #[test]
    fn what_is_put_off_counts_in_whichever_round_it_comes() {
        let pairs = [(10.0, 70.0), (130.0, 10.0), (10.0, 70.0)];
        assert_eq!(mean_ratio(&pairs), 1.0);
    }
}
