// SPDX-License-Identifier: GPL-2.0

//! What moved since an earlier run.

use std::fmt::Write as _;

use crate::record::{Record, Results};
use crate::table::figure;

/// A line for each of the module's figures that moved by more than chance, and for each operation
/// that is in one of the two only. A setting that was not measured now has not moved.
#[must_use]
pub fn render(base: &Results, now: &Results) -> String {
    let mut text = String::new();
    for record in &now.results {
        let Some(before) = find(base, record) else {
            let _ = writeln!(text, "{} is new", title(record));
            continue;
        };
        let (Some(old), Some(new)) = (before.module, record.module) else {
            continue;
        };
        let change = new / old - 1.0;
        if change.abs() <= tolerance(record, before) {
            continue;
        }
        let better = (change < 0.0) != record.more_is_better;
        let _ = writeln!(
            text,
            "{} {:>9} -> {:>9} {}, {:+.1} %: {}{}",
            title(record),
            figure(Some(old)),
            figure(Some(new)),
            record.unit,
            change * 100.0,
            if better { "better" } else { "worse" },
            by_native(before, record),
        );
    }
    for before in &base.results {
        if now.machines.contains_key(&before.setting) && find(now, before).is_none() {
            let _ = writeln!(text, "{} is not measured any more", title(before));
        }
    }
    if text.is_empty() {
        text.push_str("nothing moved\n");
    }
    text
}

/// What is measured in both settings is told apart.
fn title(record: &Record) -> String {
    format!("{:12} {:46}", record.setting.name(), record.name)
}

fn find<'a>(results: &'a Results, like: &Record) -> Option<&'a Record> {
    results
        .results
        .iter()
        .find(|record| record.name == like.name && record.setting == like.setting)
}

/// Instructions repeat. By the clock, what the original's own figure moved by says how much the machine
/// did, and the width of the ratio's interval what chance may do.
fn tolerance(now: &Record, before: &Record) -> f64 {
    if now.setting.counts() {
        return 0.005;
    }
    let width = |record: &Record| {
        record
            .ratio_interval
            .map_or(0.1, |[low, high]| (high - low) / low)
    };
    let machine = match (before.native, now.native) {
        (Some(old), Some(new)) => (new / old - 1.0).abs(),
        _ => 0.0,
    };
    machine + width(now).max(width(before))
}

/// Which says more than the figure, if the machine was another.
fn by_native(before: &Record, now: &Record) -> String {
    match (before.ratio, now.ratio) {
        (Some(old), Some(new)) => format!("; by the original's {old:.2} -> {new:.2}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Machine, Setting};

    fn results(module: f64) -> Results {
        let record = Record {
            native: Some(100.0),
            module: Some(module),
            ratio: Some(module / 100.0),
            ..Record::empty("counter/read", Setting::Instructions, "instructions")
        };
        measured(vec![record])
    }

    fn measured(results: Vec<Record>) -> Results {
        Results {
            machines: [(Setting::Instructions, Machine::default())].into(),
            results,
        }
    }

    #[test]
    fn half_a_percent_is_nothing() {
        assert_eq!(render(&results(100.0), &results(100.4)), "nothing moved\n");
        assert!(render(&results(100.0), &results(90.0)).contains("-10.0 %: better"));
        assert!(render(&results(100.0), &results(101.0)).contains("+1.0 %: worse"));
    }

    #[test]
    fn what_is_missing_is_told() {
        let none = measured(Vec::new());
        assert!(render(&none, &results(1.0)).contains("is new"));
        assert!(render(&results(1.0), &none).contains("not measured any more"));
    }

    #[test]
    fn a_setting_may_be_left_out() {
        assert_eq!(
            render(&results(1.0), &Results::default()),
            "nothing moved\n"
        );
    }

    #[test]
    fn what_has_no_original_moves_too() {
        let load = |module| Record {
            module: Some(module),
            ..Record::empty("module/load", Setting::Wall, "ns")
        };
        let moved = render(&measured(vec![load(100.0)]), &measured(vec![load(130.0)]));
        assert!(moved.starts_with("wall "), "{moved}");
        assert!(moved.ends_with("+30.0 %: worse\n"), "{moved}");
    }
}
