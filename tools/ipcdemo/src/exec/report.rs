// SPDX-License-Identifier: GPL-2.0

//! What `ipcdemo exec --report` tells.

use std::fmt;

use ipcdemo_client::{Kinds, Sums};

/// How many objects were made, by whom, what went through them, and what the kernel made instead.
#[derive(Debug)]
pub struct Report {
    pub sums: Vec<Sums>,
    /// The kinds that were enrolled.
    pub kinds: Kinds,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sums: Vec<_> = self.sums.iter().collect();
        sums.sort_by_key(|sums| (sums.kind.to_string(), &sums.comm));
        let (left, made): (Vec<_>, Vec<_>) = sums.into_iter().partition(|sums| sums.left.is_some());
        if made.is_empty() {
            writeln!(f, "ipcdemo exec: nothing was made by the module")?;
        } else {
            writeln!(f, "ipcdemo exec: made by the module")?;
            writeln!(
                f,
                "{:>8}  {:<8} {:>14} {:>14} {:>10}  BY",
                "NUMBER", "KIND", "BYTES READ", "BYTES WRITTEN", "WOKEN"
            )?;
        }
        for sums in made {
            let Sums {
                kind,
                objects,
                read,
                written,
                woken,
                ..
            } = sums;
            let by = by(sums);
            writeln!(
                f,
                "{objects:>8}  {kind:<8} {read:>14} {written:>14} {woken:>10}  {by}"
            )?;
        }
        let mut total = 0;
        for sums in left {
            total += sums.objects;
            if let Some(why) = sums.left {
                let (number, kind, by) = (sums.objects, sums.kind, by(sums));
                writeln!(f, "{number:>8}  {kind:<8} left to the kernel: {why} ({by})")?;
            }
        }
        write!(f, "left to the kernel: {total}")?;
        let others = Kinds::all().difference(self.kinds);
        if others.is_empty() {
            writeln!(f)
        } else {
            writeln!(f, ", and all calls for {others}, not enrolled")
        }
    }
}

/// The name of the threads that made them.
fn by(sums: &Sums) -> &str {
    if sums.comm.is_empty() {
        "others"
    } else {
        &sums.comm
    }
}

#[cfg(test)]
mod tests {
    use ipcdemo_client::{Kind, Left};

    use super::*;

    fn sums(kind: Kind, comm: &str, left: Option<Left>) -> Sums {
        Sums {
            kind,
            left,
            comm: comm.into(),
            objects: 2,
            read: 30,
            written: 40,
            woken: 5,
        }
    }

    /// The words of each line.
    fn words(report: &Report) -> Vec<String> {
        let text = report.to_string();
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect()
    }

    #[test]
    fn each_maker_has_a_line() {
        let report = Report {
            sums: vec![
                sums(Kind::Pipe, "sh", None),
                sums(Kind::Pipe, "", None),
                sums(Kind::Counter, "python3", None),
            ],
            kinds: Kinds::all(),
        };
        assert_eq!(
            words(&report),
            [
                "ipcdemo exec: made by the module",
                "NUMBER KIND BYTES READ BYTES WRITTEN WOKEN BY",
                "2 counter 30 40 5 python3",
                "2 pipe 30 40 5 others",
                "2 pipe 30 40 5 sh",
                "left to the kernel: 0",
            ]
        );
    }

    #[test]
    fn it_tells_what_was_left_to_the_kernel() {
        let mut report = Report {
            sums: vec![sums(Kind::Pipe, "watch", Some(Left::Notification))],
            kinds: Kinds::all(),
        };
        let nothing = "ipcdemo exec: nothing was made by the module";
        let left = "2 pipe left to the kernel: it is a notification pipe (watch)";
        assert_eq!(words(&report), [nothing, left, "left to the kernel: 2"]);
        report.kinds = Kinds::COUNTER;
        let others = "left to the kernel: 2, and all calls for pipe, not enrolled";
        assert_eq!(words(&report), [nothing, left, others]);
    }
}
