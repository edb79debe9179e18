// SPDX-License-Identifier: GPL-2.0

//! Locked instructions, fences, interrupt disables, and NOPs of the function tracer: what the emulator's plugins
//! counted in each round.

use std::collections::{BTreeMap, HashSet};
use std::io;

use crate::profile;
use crate::record::{Counts, Figures, Round, Run, Side};
use crate::stats::{mean, median};

/// Puts beside a run's figures what the plugins wrote: `lines` has one for each round, `nops` the NOPs of five
/// bytes that were executed in it, by address. Those of the function tracer are taken off the figures.
///
/// # Errors
///
/// If the lines are not those of this run.
pub fn merge(run: &mut Run, lines: &str, nops: &str) -> io::Result<()> {
    let mut counts: Vec<Counts> = lines.lines().map(parse).collect::<io::Result<_>>()?;
    if counts.len() != run.rounds.len() {
        return Err(wrong(&format!(
            "{} rounds were counted, and {} measured",
            counts.len(),
            run.rounds.len()
        )));
    }
    let places: HashSet<u64> = std::mem::take(&mut run.nops).into_iter().collect();
    for (counts, nops) in counts.iter_mut().zip(profile::by_round(run, nops)?) {
        let of_tracer = nops.iter().filter(|(place, _)| places.contains(place));
        counts.nops = of_tracer.map(|(_, number)| number).sum();
    }
    let mut rounds: BTreeMap<(&str, Side), Vec<(&Round, Counts)>> = BTreeMap::new();
    for (round, counts) in run.rounds.iter().zip(counts) {
        if round.turns > 0 {
            let key = (round.name.as_str(), round.side);
            rounds.entry(key).or_default().push((round, counts));
        }
    }
    for record in &mut run.results {
        let mut figures = Figures::new();
        let mut long = false;
        for side in [Side::Native, Side::Module, Side::Floor, Side::DevNull] {
            if let Some(rounds) = rounds.get(&(record.name.as_str(), side)) {
                record.counts.insert(side, each(rounds));
                figures.insert(side, rounds.iter().map(without_nops).collect());
                long |= rounds.iter().any(|(round, _)| round.long);
            }
        }
        if !figures.is_empty() {
            record.set(&figures, long);
        }
    }
    run.rounds.clear();
    Ok(())
}

fn without_nops((round, counts): &(&Round, Counts)) -> f64 {
    round.figure - counts.nops / round.turns as f64
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
        nops: of(|counts| counts.nops),
    }
}

fn parse(line: &str) -> io::Result<Counts> {
    let numbers: Result<Vec<f64>, _> = line.split(' ').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([locked, fences, disables]) => Ok(Counts {
            locked: *locked,
            fences: *fences,
            disables: *disables,
            nops: 0.0,
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
                    figure: 100.0,
                })
                .collect(),
            nops: vec![0x10, 0x20],
            symbols: String::new(),
        }
    }

    #[test]
    fn trials_do_not_count() {
        let mut run = run(&[0, 10, 10, 10], false);
        merge(
            &mut run,
            "99 99 99\n20 0 10\n20 0 10\n90 9 90\n",
            "\n\n\n\n",
        )
        .unwrap();
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
        merge(&mut run, "0 0 0\n0 0 0\n90 0 0\n", "\n\n10 60\n\n").unwrap();
        assert_eq!(run.results[0].counts[&Side::Native].locked, 3.0);
        assert_eq!(run.results[0].counts[&Side::Native].nops, 2.0);
        assert_eq!(run.results[0].native, Some(98.0));
    }

    #[test]
    fn the_tracers_nops_are_taken_off() {
        let mut run = run(&[10, 10], false);
        // One at 30 is another's.
        let nops = "10 20\n20 10\n30 50\n\n10 20\n20 10\n\n";
        merge(&mut run, "0 0 0\n0 0 0\n", nops).unwrap();
        assert_eq!(run.results[0].counts[&Side::Native].nops, 3.0);
        assert_eq!(run.results[0].native, Some(97.0));
        assert!(run.nops.is_empty());
    }

    #[test]
    fn lines_of_another_run_are_refused() {
        assert!(merge(&mut run(&[1, 1], false), "1 1 1\n", "\n\n").is_err());
        assert!(merge(&mut run(&[1, 1], false), "1 1 1\n1 1 1\n", "\n").is_err());
        assert!(merge(&mut run(&[1], false), "1 1\n", "\n").is_err());
        assert!(merge(&mut run(&[1], false), "1 x 1\n", "\n").is_err());
    }
}
