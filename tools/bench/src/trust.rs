// SPDX-License-Identifier: GPL-2.0

//! Whether the benchmark can be trusted: what it says of things whose figures are known.

use std::fmt::Write as _;

use crate::record::{Record, Results, Setting};

/// Judges runs in which both sides were the kernel's own: a line for each operation, and whether each
/// ratio is 1, as far as its interval allows.
#[must_use]
pub fn twins(results: &Results) -> (String, bool) {
    let (mut text, mut all) = (String::new(), true);
    for record in &results.results {
        let (Some(ratio), Some(interval)) = (record.ratio, record.ratio_interval) else {
            continue;
        };
        let ok = is_one(record.setting, interval);
        all &= ok;
        let [low, high] = interval;
        let _ = writeln!(
            text,
            "{} {:12} {:40} {ratio:.4}, {low:.4} to {high:.4}",
            verdict(ok),
            record.setting.name(),
            record.name,
        );
    }
    (text, all && !results.results.is_empty())
}

/// Of many intervals one in twenty leaves 1 out by chance. One that is twice as wide does not, nor one that
/// misses it by what two runs differ by.
fn is_one(setting: Setting, [low, high]: [f64; 2]) -> bool {
    let slack = match setting {
        Setting::Instructions | Setting::Memcg => 0.005,
        Setting::Wall => ((high - low) / 2.0).max(0.005),
    };
    low - slack <= 1.0 && 1.0 <= high + slack
}

/// Judges two runs, the second of a module with a floor that was made slower by `by` instructions: what
/// it says of each operation's floor, and whether they all moved by that, and the original not.
#[must_use]
pub fn delay(before: &Results, after: &Results, by: f64) -> (String, bool) {
    let (mut text, mut all, mut any) = (String::new(), true, false);
    for record in &after.results {
        let same = |other: &&Record| other.name == record.name && other.setting == record.setting;
        let Some(old) = before.results.iter().find(same) else {
            continue;
        };
        let (Some(floor), Some(native)) = (
            moved(old.floor, record.floor),
            moved(old.native, record.native),
        ) else {
            continue;
        };
        let ok = (floor - by).abs() <= 2.0 && native.abs() <= 2.0;
        all &= ok;
        any = true;
        let _ = writeln!(
            text,
            "{} {:40} floor {floor:+.1}, native {native:+.1}; {by:+.0} and 0 are right",
            verdict(ok),
            record.name,
        );
    }
    (text, all && any)
}

fn moved(before: Option<f64>, after: Option<f64>) -> Option<f64> {
    Some(after? - before?)
}

fn verdict(ok: bool) -> &'static str {
    if ok { "ok    " } else { "not ok" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_may_be_missed_by_little() {
        assert!(is_one(Setting::Instructions, [1.0, 1.0]));
        assert!(!is_one(Setting::Instructions, [1.02, 1.02]));
        assert!(is_one(Setting::Wall, [1.01, 1.05]));
        assert!(!is_one(Setting::Wall, [1.10, 1.14]));
    }
}
