// SPDX-License-Identifier: GPL-2.0

use std::path::Path;

/// How many times a test repeats what it repeats: a tenth of `rounds` where the
/// kernel's own checkers make everything ten times slower.
#[must_use]
pub fn scaled(rounds: usize) -> usize {
    if Path::new("/sys/kernel/debug/kmemleak").exists() {
        rounds / 10
    } else {
        rounds
    }
}
