// SPDX-License-Identifier: GPL-2.0

//! The table for people.

use std::fmt::Write as _;

use crate::record::{Counts, Record, Setting, Side};

/// All records of a setting, a line each.
#[must_use]
pub fn render(records: &[Record], setting: Setting) -> String {
    let records: Vec<_> = records
        .iter()
        .filter(|record| record.setting == setting)
        .collect();
    let wide = records
        .iter()
        .map(|record| record.name.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = format!(
        "{:wide$}  {:>9} {:>9} {:>9}  {:>6} {:>6}  {}\n",
        setting.name(),
        "native",
        "module",
        "floor",
        "ratio",
        "above",
        "(in MB/s more is better)",
    );
    for record in &records {
        let merit = record.above_floor_ratio.or(record.ratio);
        let _ = writeln!(
            text,
            "{:wide$}  {:>9} {:>9} {:>9}  {:>6} {:>6}  {}",
            record.name,
            figure(record.native),
            figure(record.module),
            figure(record.floor),
            ratio(record.ratio),
            ratio(record.above_floor_ratio),
            [bar(merit), unit(record)].concat(),
        );
    }
    text += &counts(&records, wide);
    text
}

/// What of the instructions costs more than one: of the original, of the module.
fn counts(records: &[&Record], wide: usize) -> String {
    let mut text = String::new();
    for record in records {
        if !record.counts.contains_key(&Side::Module) {
            continue;
        }
        if text.is_empty() {
            let _ = writeln!(
                text,
                "\n{:wide$}  {:>17} {:>17} {:>17} {:>17}",
                "native / module", "locked", "fences", "disables", "NOPs taken off"
            );
        }
        let [locked, fences, disables, nops] = counted(record, &[Side::Native, Side::Module]);
        let _ = writeln!(
            text,
            "{:wide$}  {locked:>17} {fences:>17} {disables:>17} {nops:>17}",
            record.name,
        );
    }
    text
}

/// Locked instructions, fences, interrupt disables and the function tracer's NOPs, each with the figures of these sides.
#[must_use]
pub fn counted(record: &Record, sides: &[Side]) -> [String; 4] {
    let kinds: [fn(&Counts) -> f64; 4] = [
        |counts| counts.locked,
        |counts| counts.fences,
        |counts| counts.disables,
        |counts| counts.nops,
    ];
    kinds.map(|kind| {
        let figures = sides
            .iter()
            .map(|side| figure(record.counts.get(side).map(kind)));
        figures.collect::<Vec<_>>().join(" / ")
    })
}

/// Four digits or more.
#[must_use]
pub fn figure(value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(value) if value < 1_000.0 => format!("{value:.1}"),
        Some(value) => thousands(value.round() as i64),
    }
}

/// Two decimals.
#[must_use]
pub fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.2}"))
}

fn unit(record: &Record) -> String {
    if record.more_is_better || record.unit == "bytes" {
        format!(" {}", record.unit)
    } else {
        String::new()
    }
}

fn thousands(value: i64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digit.is_ascii_digit() && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As long as the ratio is large; a mark stands where it would be 1.
fn bar(ratio: Option<f64>) -> String {
    const ONE: usize = 16;
    const LONGEST: usize = 2 * ONE;
    let Some(ratio) = ratio else {
        return String::new();
    };
    let filled = ((ratio * ONE as f64).round().max(0.0) as usize).min(LONGEST);
    (0..LONGEST.min(filled.max(ONE)))
        .map(|at| match (at < filled, at + 1 == ONE) {
            (true, true) => '▉',
            (true, false) => '█',
            (false, true) => '|',
            (false, false) => ' ',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_grouped() {
        assert_eq!(figure(Some(12.345)), "12.3");
        assert_eq!(figure(Some(1_234_567.8)), "1,234,568");
        assert_eq!(figure(Some(-1_234.0)), "-1234.0");
        assert_eq!(figure(None), "–");
    }

    #[test]
    fn a_bar_shows_where_one_is() {
        assert_eq!(bar(Some(0.5)), "████████       |");
        assert_eq!(bar(Some(1.0)).chars().count(), 16);
        assert_eq!(bar(Some(9.0)).chars().count(), 32);
    }
}
