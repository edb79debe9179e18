// SPDX-License-Identifier: GPL-2.0

//! In which of the kernel's functions the instructions are: what the emulator's other plugin counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;

use crate::record::{Run, Side};

/// What an operation takes in each function, by side.
type Functions<'a> = BTreeMap<&'a str, BTreeMap<Side, f64>>;

/// A table for each operation of a run: what the plugin wrote, by function.
///
/// # Errors
///
/// If the run has no symbols, or what was written is not about this run.
pub fn render(run: &Run, written: &str) -> io::Result<String> {
    let symbols = Symbols::of(&run.symbols)?;
    let counted = by_round(run, written)?;
    let mut turns: BTreeMap<(&str, Side), f64> = BTreeMap::new();
    let mut operations: BTreeMap<&str, Functions<'_>> = BTreeMap::new();
    for (round, counted) in run.rounds.iter().zip(counted) {
        *turns.entry((&round.name, round.side)).or_default() += round.turns as f64;
        let functions = operations.entry(&round.name).or_default();
        // Trials do not count.
        for (address, number) in counted.into_iter().filter(|_| round.turns > 0) {
            let sides = functions.entry(symbols.find(address)).or_default();
            *sides.entry(round.side).or_default() += number;
        }
    }
    let mut text = String::new();
    for record in &run.results {
        if let Some(functions) = operations.get(record.name.as_str()) {
            let each = |side, sum: f64| sum / turns[&(record.name.as_str(), side)];
            text += &table(&record.name, functions, each);
        }
    }
    Ok(text)
}

/// How often each address was executed, for each round of the run.
///
/// # Errors
///
/// If what was written is not about this run.
pub fn by_round(run: &Run, written: &str) -> io::Result<Vec<Vec<(u64, f64)>>> {
    let lines: Vec<_> = written.lines().collect();
    // After each round there is an empty line.
    let rounds: Vec<_> = lines
        .split_inclusive(|line| line.is_empty())
        .map(|lines| {
            lines
                .iter()
                .filter(|line| !line.is_empty())
                .map(|line| parse(line))
                .collect()
        })
        .collect::<io::Result<_>>()?;
    if rounds.len() == run.rounds.len() {
        return Ok(rounds);
    }
    Err(wrong(&format!(
        "{} rounds were counted, and {} measured",
        rounds.len(),
        run.rounds.len()
    )))
}

/// Those that take half an instruction or more, the most costly first.
fn table(name: &str, functions: &Functions<'_>, each: impl Fn(Side, f64) -> f64) -> String {
    let sides: BTreeSet<Side> = functions
        .values()
        .flat_map(|it| it.keys().copied())
        .collect();
    let mut total: BTreeMap<Side, f64> = BTreeMap::new();
    let mut rows = Vec::new();
    for (function, sums) in functions {
        let mut row = BTreeMap::new();
        for (&side, &sum) in sums {
            row.insert(side, each(side, sum));
            *total.entry(side).or_default() += each(side, sum);
        }
        let most = row.values().copied().fold(0.0, f64::max);
        if most >= 0.5 {
            rows.push((most, *function, row));
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    rows.push((0.0, "in all", total));

    let mut text = format!("{name}\n");
    for side in &sides {
        let _ = write!(text, "{:>10}", side.name());
    }
    text.push('\n');
    for (_, function, row) in rows {
        for side in &sides {
            let figure = row.get(side).map_or("–".into(), |it| format!("{it:.1}"));
            let _ = write!(text, "{figure:>10}");
        }
        let _ = writeln!(text, "  {function}");
    }
    text.push('\n');
    text
}

/// The functions, in the order of their addresses.
struct Symbols<'a>(Vec<(u64, &'a str)>);

impl<'a> Symbols<'a> {
    /// `ffffffff81000000 T _text`, and behind that the module, if it is one's.
    fn of(text: &'a str) -> io::Result<Self> {
        let mut functions = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if let (Some(address), Some("t" | "T"), Some(name)) =
                (words.next(), words.next(), words.next())
            {
                let address = u64::from_str_radix(address, 16)
                    .map_err(|_| wrong(&format!("not a symbol: {line}")))?;
                functions.push((address, name));
            }
        }
        functions.sort_unstable();
        if functions.iter().all(|(address, _)| *address == 0) {
            return Err(wrong("the run has no symbols"));
        }
        Ok(Self(functions))
    }

    fn find(&self, address: u64) -> &'a str {
        let behind = self.0.partition_point(|(start, _)| *start <= address);
        behind.checked_sub(1).map_or("?", |index| self.0[index].1)
    }
}

fn parse(line: &str) -> io::Result<(u64, f64)> {
    line.split_once(' ')
        .and_then(|(address, number)| {
            let address = u64::from_str_radix(address, 16).ok()?;
            Some((address, number.parse().ok()?))
        })
        .ok_or_else(|| wrong(&format!("not an address and a number: {line}")))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Machine, Record, Round, Setting};

    const SYMBOLS: &str = "ffffffff81000000 T first\nffffffff81000010 t second\nffffffff81000018 d data\n\
                           ffffffffc0000000 t third\t[ipcdemo]\n";

    fn run(rounds: &[(Side, u64)]) -> Run {
        Run {
            setting: Setting::Instructions,
            machine: Machine::default(),
            results: vec![Record::empty("a/b", Setting::Instructions, "instructions")],
            rounds: rounds
                .iter()
                .map(|&(side, turns)| Round {
                    name: "a/b".into(),
                    side,
                    turns,
                    long: false,
                    figure: 0.0,
                })
                .collect(),
            nops: Vec::new(),
            symbols: SYMBOLS.into(),
        }
    }

    #[test]
    fn what_was_counted_is_told_by_function() {
        let run = run(&[(Side::Native, 0), (Side::Native, 10), (Side::Module, 20)]);
        let written = "ffffffff81000000 99\n\n\
                       ffffffff81000004 20\nffffffff81000008 10\nffffffff81000019 5\n\n\
                       ffffffff81000000 20\nffffffffc0000123 100\nffffffff81000010 2\n\n";
        let text = render(&run, written).unwrap();
        let words: Vec<Vec<_>> = (text.lines())
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words[1..6],
            [
                vec!["native", "module"],
                vec!["–", "5.0", "third"],
                vec!["3.0", "1.0", "first"],
                vec!["0.5", "0.1", "second"],
                vec!["3.5", "6.1", "in", "all"],
            ]
        );
    }

    #[test]
    fn what_is_about_another_run_is_refused() {
        assert!(render(&run(&[(Side::Native, 1)]), "").is_err());
        assert!(render(&run(&[(Side::Native, 1)]), "x\n\n").is_err());
        let without = Run {
            symbols: String::new(),
            ..run(&[])
        };
        assert!(render(&without, "").is_err());
    }
}
