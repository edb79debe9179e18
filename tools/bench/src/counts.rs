// SPDX-License-Identifier: GPL-2.0

//! Locked instructions, fences and interrupt disables: what the emulator's plugin counted in each round.

use std::collections::BTreeMap;
use std::io;

use crate::record::{Counts, Round, Run, Side};
use crate::stats::{mean, median};

/// Puts beside a run's figures what the plugin wrote, a line for each round.
///
/// # Errors
///
/// If the lines are not those of this run.
pub fn merge(run: &mut Run, lines: &str) -> io::Result<()> {
    let counts: Vec<Counts> = lines.lines().map(parse).collect::<io::Result<_>>()?;
    if counts.len() != run.rounds.len() {
        return Err(wrong(&format!(
            "{} rounds were counted, and {} measured",
            counts.len(),
            run.rounds.len()
        )));
    }
    let mut rounds: BTreeMap<(&str, Side), Vec<(&Round, Counts)>> = BTreeMap::new();
    for (round, counts) in run.rounds.iter().zip(counts) {
        if round.turns > 0 {
            let key = (round.name.as_str(), round.side);
            rounds.entry(key).or_default().push((round, counts));
        }
    }
    for record in &mut run.results {
        for side in [Side::Native, Side::Module, Side::Floor, Side::DevNull] {
            if let Some(rounds) = rounds.get(&(record.name.as_str(), side)) {
                record.counts.insert(side, each(rounds));
            }
        }
    }
    run.rounds.clear();
    Ok(())
}

/// Of one operation, as its instructions are.
fn each(rounds: &[(&Round, Counts)]) -> Counts {
    let of = |count: fn(&Counts) -> f64| {
        let figures: Vec<_> = rounds
            .iter()
            .map(|(round, counts)| count(counts) / round.turns as f64)
            .collect();
        if rounds.iter().any(|(round, _)| round.long) {
            mean(&figures)
        } else {
            median(&figures)
        }
    };
    Counts {
        locked: of(|counts| counts.locked),
        fences: of(|counts| counts.fences),
        disables: of(|counts| counts.disables),
    }
}

fn parse(line: &str) -> io::Result<Counts> {
    let numbers: Result<Vec<f64>, _> = line.split(' ').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([locked, fences, disables]) => Ok(Counts {
            locked: *locked,
            fences: *fences,
            disables: *disables,
        }),
        _ => Err(wrong(&format!("not three counts: {line}"))),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Machine, Record, Setting};

    fn run(turns: &[u64], long: bool) -> Run {
        Run {
            setting: Setting::Instructions,
            machine: Machine::default(),
            results: vec![Record::empty("a/b", Setting::Instructions, "instructions")],
            rounds: turns
                .iter()
                .map(|turns| Round {
                    name: "a/b".into(),
                    side: Side::Native,
                    turns: *turns,
                    long,
                })
                .collect(),
            symbols: String::new(),
        }
    }

    #[test]
    fn trials_do_not_count() {
        let mut run = run(&[0, 10, 10, 10], false);
        merge(&mut run, "99 99 99\n20 0 10\n20 0 10\n90 9 90\n").unwrap();
        let counts = run.results[0].counts[&Side::Native];
        assert_eq!(
            (counts.locked, counts.fences, counts.disables),
            (2.0, 0.0, 1.0)
        );
        assert!(run.rounds.is_empty());
    }

    #[test]
    fn long_rounds_have_a_mean() {
        let mut run = run(&[10, 10, 10], true);
        merge(&mut run, "0 0 0\n0 0 0\n90 0 0\n").unwrap();
        assert_eq!(run.results[0].counts[&Side::Native].locked, 3.0);
    }

    #[test]
    fn lines_of_another_run_are_refused() {
        assert!(merge(&mut run(&[1, 1], false), "1 1 1\n").is_err());
        assert!(merge(&mut run(&[1], false), "1 1\n").is_err());
        assert!(merge(&mut run(&[1], false), "1 x 1\n").is_err());
    }
}
