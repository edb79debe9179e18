// SPDX-License-Identifier: GPL-2.0

use std::env;
use std::path::Path;
use std::time::Duration;

/// The percentage of its rounds that a test does if nobody asks for another: the kernel with
/// checkers does everything ten times slower.
fn usual() -> usize {
    if has_checkers() { 10 } else { 100 }
}

/// Whether this is the debug kernel.
#[must_use]
pub fn has_checkers() -> bool {
    Path::new("/sys/kernel/debug/kmemleak").exists()
}

/// `IPCDEMO_PERCENT`, or the usual percentage.
fn percent() -> usize {
    match env::var("IPCDEMO_PERCENT") {
        Ok(text) => text.parse().expect("IPCDEMO_PERCENT is a number"),
        Err(_) => usual(),
    }
}

/// How many times a test repeats what it repeats: `rounds`, a tenth of them where the kernel's
/// own checkers make everything ten times slower, or the percentage in `IPCDEMO_PERCENT`.
///
/// # Panics
///
/// If `IPCDEMO_PERCENT` is not a number.
#[must_use]
pub fn scaled(rounds: usize) -> usize {
    (rounds * percent() / 100).max(1)
}

/// As [`scaled`], unless the environment variable `name` gives the number itself, as the soak does.
///
/// # Panics
///
/// If a variable is not a number.
#[must_use]
pub fn rounds(name: &str, usual: usize) -> usize {
    match env::var(name) {
        Ok(text) => text.parse().expect("a number of rounds"),
        Err(_) => scaled(usual),
    }
}

/// The time limit of a test that takes at most `limit` for its usual rounds.
pub(crate) fn prolonged(limit: Duration) -> Duration {
    let times = percent().div_ceil(usual()).max(1);
    limit * u32::try_from(times).expect("IPCDEMO_PERCENT is sensible")
}
