// SPDX-License-Identifier: GPL-2.0

//! What `ipcdemo exec --report` tells.

use std::collections::BTreeMap;
use std::fmt;

use ipcdemo_client::Kind;

use super::intercepts::Outcome;

/// How many objects were made, and by whom.
#[derive(Debug, Default)]
pub struct Report {
    made: BTreeMap<(String, String), u64>,
    /// How often a program got the kernel's own, and why.
    left: BTreeMap<(String, &'static str), u64>,
}

impl Report {
    /// Adds what came of a call by a thread of this name.
    pub fn note(&mut self, kind: Kind, name: String, outcome: &Outcome) {
        match outcome {
            Outcome::Made(_) => {
                let by = (kind.to_string(), name);
                *self.made.entry(by).or_default() += 1;
            }
            Outcome::Left(why) => *self.left.entry((kind.to_string(), why)).or_default() += 1,
            Outcome::Asked(_) | Outcome::Refused(_) | Outcome::Gone => {}
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.made.is_empty() && self.left.is_empty() {
            return writeln!(f, "ipcdemo exec: nothing was made");
        }
        writeln!(f, "ipcdemo exec: made by the module")?;
        writeln!(f, "{:>8}  {:<8} BY", "NUMBER", "KIND")?;
        for ((kind, by), number) in &self.made {
            writeln!(f, "{number:>8}  {kind:<8} {by}")?;
        }
        for ((kind, why), number) in &self.left {
            writeln!(f, "{number:>8}  {kind:<8} left to the kernel: {why}")?;
        }
        Ok(())
    }
}
