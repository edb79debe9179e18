// SPDX-License-Identifier: GPL-2.0

//! Random sequences of operations, on a pipe of the kernel's and on one that a member's pipe2(2)
//! made, or on a FIFO of either: after each, all that can be seen of the two is the same.
//!
//! There is no model: the kernel is one. 30,000 operations are done, on the debug
//! kernel 3,000. A million:
//!
//! ```sh
//! qemu/vm --kernel small --module "$(scripts/module small)" --timeout 3600 \
//!     --env IPCDEMO_OPERATIONS=1000000 --tests $(scripts/user tests random_pipe)
//! ```
//!
//! A difference is shrunk to a short sequence and printed as a test for `found.rs`,
//! with what each of the two did. `--env IPCDEMO_SEED=…` with the seed that is
//! printed begins with the case that failed.

mod calls;
mod conductor;
#[path = "../random/crew.rs"]
mod crew;
mod found;
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
    LazyLock::new(|| Mutex::new(Pair::new([Subject::Native, Subject::Module])));

#[test]
fn random_operations() {
    search::search(&PAIR, 30_000, &case());
}

/// Does a case that was printed before.
fn replay(case: &Case) {
    search::replay(&PAIR, case);
}
