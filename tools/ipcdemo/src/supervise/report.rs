// SPDX-License-Identifier: GPL-2.0

//! What `ipcdemo exec --report` tells.

use std::collections::BTreeMap;
use std::fmt;

use ipcdemo_client::Kind;

use super::intercepts::Outcome;

/// How many objects were made, by whom, and what went through them.
#[derive(Debug, Default)]
pub struct Report {
    made: BTreeMap<(String, String), Made>,
    /// How often a program got the kernel's own, and why.
    left: BTreeMap<(String, &'static str), u64>,
}

/// Objects of one kind, made by threads of one name.
#[derive(Debug, Default)]
struct Made {
    number: u64,
}

impl Report {
    /// Adds what came of a call by a thread of this name.
    pub fn note(&mut self, kind: Kind, name: String, outcome: &Outcome) {
        match outcome {
            Outcome::Made(_) => {
                let by = (kind.to_string(), name);
                self.made.entry(by).or_default().number += 1;
            }
            Outcome::Left(why) => *self.left.entry((kind.to_string(), why)).or_default() += 1,
            Outcome::Asked(_) | Outcome::Refused(_) | Outcome::Gone => {}
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made = || self.made.iter().filter(|(_, made)| made.number > 0);
        if made().next().is_none() && self.left.is_empty() {
            return writeln!(f, "ipcdemo exec: nothing was made");
        }
        writeln!(f, "ipcdemo exec: made by the module")?;
        writeln!(
            f,
            "{:>8}  {:<8} {:>14} {:>14} {:>10}  BY",
            "NUMBER", "KIND", "BYTES READ", "BYTES WRITTEN", "WOKEN"
        )?;
        for ((kind, by), made) in made() {
            let number = made.number;
            writeln!(
                f,
                "{number:>8}  {kind:<8} {0:>14} {0:>14} {0:>10}  {by}",
                "?"
            )?;
        }
        for ((kind, why), number) in &self.left {
            writeln!(f, "{number:>8}  {kind:<8} left to the kernel: {why}")?;
        }
        Ok(())
    }
}
