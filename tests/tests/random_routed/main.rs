// SPDX-License-Identifier: GPL-2.0

//! Random sequences of operations as in the program random, on an eventfd of the kernel's and on one that
//! a member's eventfd2(2) made: after each, all that can be seen of the two is the same.
//!
//! The factory's counters have been through 30,000. These are 10,000, on stock and the debug kernel 1,000.

#[path = "../random/calls.rs"]
mod calls;
#[path = "../random/conductor.rs"]
mod conductor;
#[path = "../random/crew.rs"]
mod crew;
#[path = "../random/found.rs"]
mod found;
#[path = "../random/operations.rs"]
mod operations;
#[path = "../random/search.rs"]
mod search;
#[path = "../random/words.rs"]
mod words;

use std::sync::{LazyLock, Mutex};

use conductor::Conductor;
use ipcdemo_tests::{Subject, member_program};
use operations::{Case, case};
use search::Pair;

member_program!();

static PAIR: LazyLock<Mutex<Pair<Conductor>>> =
    LazyLock::new(|| Mutex::new(Pair::new([Subject::Native, Subject::Routed])));

#[test]
fn random_operations() {
    search::search(&PAIR, 10_000, &case());
}

/// Does a case that was printed before.
fn replay(case: &Case) {
    search::replay(&PAIR, case);
}
