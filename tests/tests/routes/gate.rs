// SPDX-License-Identifier: GPL-2.0

//! The gate: routes are disarmed and armed under the calls that they redirect, while the callers are preempted wherever they stand,
//! and none is missed.

use std::time::Duration;

use ipcdemo_tests::{rounds, serially_for};

use crate::switch;
use crate::traffic::{Preempting, Shared};

/// For a round, on the slowest kernel.
const LIMIT: Duration = Duration::from_secs(15);

/// How many calls of the member have to come between two switches.
const CALLS: u64 = 500;

#[test]
fn it_opens_and_closes_under_traffic() {
    let rounds = rounds("IPCDEMO_GATES", 20);
    serially_for(LIMIT * u32::try_from(rounds + 10).unwrap(), move || {
        let (members, others) = (Shared::new(), Shared::new());
        let preempting = Preempting::begin();
        let processes = [members.begin(true, 2), others.begin(false, 2)];
        members.go_on_for(CALLS);
        others.go_on_for(CALLS);
        for round in 0..rounds {
            let (answered, made) = members.moved(CALLS);
            assert_eq!(answered, made, "round {round}: while they are armed");
            // The others go on, and those of the member too, from one side to the other.
            switch(false);
            let (answered, made) = members.moved(CALLS);
            assert_eq!(
                answered, 0,
                "round {round}: of {made}, while they are disarmed"
            );
            others.go_on_for(1);
            switch(true);
        }
        drop(preempting);
        // What a member made while they were off was harmless, and it ends as any other.
        members.end([]);
        others.end(processes);
    });
}
