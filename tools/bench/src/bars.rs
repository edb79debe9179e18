// SPDX-License-Identifier: GPL-2.0

//! What the module wants to reach, and whether it does.

use std::fmt::Write as _;

use crate::reasons;
use crate::record::{Record, Setting, Side};

/// The subject of a bar: a ratio, most often.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Of {
    /// With the floor taken from both.
    AboveFloor,
    /// Of all it costs, or of a throughput.
    Total,
    /// No ratio: by how much the module's is more than the original's.
    More,
}

/// On which side of the bar it is good to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Be {
    AtMost,
    AtLeast,
}

/// One bar: at which operation, and how high.
struct Bar {
    name: &'static str,
    setting: Setting,
    of: Of,
    be: Be,
    bar: f64,
    goal: f64,
}

const fn cost(name: &'static str, of: Of, bar: f64, goal: f64) -> Bar {
    Bar {
        name,
        setting: Setting::Instructions,
        of,
        be: Be::AtMost,
        bar,
        goal,
    }
}

const fn more(name: &'static str, bar: f64, goal: f64) -> Bar {
    cost(name, Of::More, bar, goal)
}

const fn wall(name: &'static str, be: Be, bar: f64, goal: f64) -> Bar {
    Bar {
        name,
        setting: Setting::Wall,
        of: Of::Total,
        be,
        bar,
        goal,
    }
}

const fn in_memcg(name: &'static str, bar: f64, goal: f64) -> Bar {
    Bar {
        setting: Setting::Memcg,
        ..cost(name, Of::Total, bar, goal)
    }
}

const BARS: &[Bar] = &[
    cost("counter/write+read", Of::AboveFloor, 0.50, 0.30),
    cost("counter/write, epoll set armed", Of::Total, 0.95, 0.85),
    cost("counter/create+close", Of::Total, 0.82, 0.75),
    cost("counter/poll, ready, timeout -1", Of::Total, 1.00, 0.95),
    cost("counter/ping-pong, same CPU", Of::Total, 1.00, 0.90),
    cost("pipe/write+read, 8 B", Of::AboveFloor, 0.60, 0.40),
    cost("pipe/write+read, 4 KiB", Of::AboveFloor, 0.60, 0.40),
    cost("pipe/write+read, 64 KiB", Of::AboveFloor, 0.55, 0.35),
    cost("pipe/create+close", Of::Total, 1.00, 0.90),
    cost("pipe/ping-pong, same CPU", Of::Total, 1.00, 0.90),
    wall("pipe/stream of 64 KiB writes", Be::AtLeast, 1.3, 2.0),
    wall("pipe/5 writers, 1 reader", Be::AtLeast, 1.3, 2.0),
    wall(
        "pipe/5 writers, 1 reader, p99 of a write",
        Be::AtMost,
        0.8,
        0.5,
    ),
    in_memcg("pipe/write+read, 64 KiB", 0.95, 0.85),
    more("routes/eventfd2+close, nobody enrolled", 0.0, 0.0),
    more("routes/pipe2+close, nobody enrolled", 0.0, 0.0),
    more("routes/getppid, nobody enrolled", 0.0, 0.0),
    more("routes/eventfd2+close, bystander", 65.0, 50.0),
    more("routes/pipe2+close, bystander", 65.0, 50.0),
    more("routes/getppid, bystander", 0.0, 0.0),
    cost("routes/eventfd2+close, member", Of::Total, 0.78, 0.75),
    cost("routes/pipe2+close, member", Of::Total, 1.03, 1.0),
    more("routes/getppid, member", 0.0, 0.0),
];

/// How much slower than the original anything may be.
const SLOWER_AT_MOST: f64 = 1.05;

/// A line for each bar that these records tell of, and one for each operation that is slower than the
/// original; with the reason, if it is known.
#[must_use]
pub fn render(records: &[Record]) -> String {
    let mut text = String::new();
    for bar in BARS {
        let Some(record) = records
            .iter()
            .find(|record| record.name == bar.name && record.setting == bar.setting)
        else {
            continue;
        };
        let (value, what, decimals) = match bar.of {
            Of::AboveFloor => (record.above_floor_ratio, "above the floor", 2),
            Of::Total => (record.ratio, "in all", 2),
            Of::More => (more_than_native(record), "more", 0),
        };
        let sign = if bar.be == Be::AtMost { "<=" } else { ">=" };
        let _ = writeln!(
            text,
            "{:12} {:42} {:15} {:>5} {sign} {:.decimals$}, goal {:.decimals$}: {}{}",
            bar.setting.name(),
            bar.name,
            what,
            value.map_or_else(|| "–".into(), |value| format!("{value:.decimals$}")),
            bar.bar,
            bar.goal,
            verdict(value, bar),
            because(verdict(value, bar), bar.name),
        );
    }
    for record in records {
        let (Some(ratio), "bytes") = (record.ratio, record.unit.as_str()) else {
            continue;
        };
        let what = if ratio > 1.0 { "not met" } else { "met" };
        let _ = writeln!(
            text,
            "{:12} {:42} no more bytes than the original's: {what}{}",
            "",
            record.name,
            because(what, &record.name),
        );
    }
    for record in records {
        if let Some(what) = counts(record) {
            let _ = writeln!(
                text,
                "{:12} {:42} no more locked instructions, fences, interrupt disables: {what}{}",
                record.setting.name(),
                record.name,
                because(&what, &record.name),
            );
        }
    }
    for record in records {
        if let Some(slower) = slower(record).filter(|slower| *slower > SLOWER_AT_MOST) {
            let _ = writeln!(
                text,
                "{:12} {:42} slower by {:.0} % at most: not met, {:.0} %{}",
                record.setting.name(),
                record.name,
                (SLOWER_AT_MOST - 1.0) * 100.0,
                (slower - 1.0) * 100.0,
                because("not met", &record.name),
            );
        }
    }
    text
}

/// Whether none of the three is more than the original's, by more than what a tick may add.
fn counts(record: &Record) -> Option<String> {
    const CHANCE: f64 = 0.05;
    let (native, module) = (
        record.counts.get(&Side::Native)?,
        record.counts.get(&Side::Module)?,
    );
    let more: Vec<_> = [
        ("locked", native.locked, module.locked),
        ("fences", native.fences, module.fences),
        ("disables", native.disables, module.disables),
    ]
    .into_iter()
    .filter(|(_, native, module)| *module > *native * 1.005 + CHANCE)
    .map(|(name, native, module)| format!("{name} {module:.1}, not {native:.1}"))
    .collect();
    Some(if more.is_empty() {
        "met".into()
    } else {
        format!("not met, {}", more.join("; "))
    })
}

/// In whole instructions, as means are not exact.
fn more_than_native(record: &Record) -> Option<f64> {
    let more = (record.module? - record.native?).round();
    // Not -0.
    Some(more + 0.0)
}

fn verdict(value: Option<f64>, bar: &Bar) -> &'static str {
    let reaches = |value: f64, mark: f64| match bar.be {
        Be::AtMost => value <= mark,
        Be::AtLeast => value >= mark,
    };
    match value {
        None => "not measured",
        Some(value) if reaches(value, bar.goal) => "met, and the goal",
        Some(value) if reaches(value, bar.bar) => "met",
        Some(_) => "not met",
    }
}

/// The reason, if something is not met.
fn because(verdict: &str, name: &str) -> String {
    if !verdict.starts_with("not met") {
        return String::new();
    }
    match reasons::of(name) {
        Some(reason) => format!("\n{:12} ({reason})", ""),
        None => ", and no reason is given".into(),
    }
}

/// Only where chance cannot explain it.
fn slower(record: &Record) -> Option<f64> {
    let ([low, high], ratio) = (record.ratio_interval?, record.ratio?);
    let (certain, ratio) = if record.more_is_better {
        (1.0 / high, 1.0 / ratio)
    } else {
        (low, ratio)
    };
    (certain > 1.0).then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Counts;

    fn counted(native: [f64; 3], module: [f64; 3]) -> Record {
        let mut record = Record::empty("a/b", Setting::Instructions, "instructions");
        for (side, [locked, fences, disables]) in [(Side::Native, native), (Side::Module, module)] {
            let counts = Counts {
                locked,
                fences,
                disables,
                nops: 0.0,
            };
            record.counts.insert(side, counts);
        }
        record
    }

    fn timed(name: &str, setting: Setting, ratio: f64) -> Record {
        Record {
            ratio: Some(ratio),
            ratio_interval: Some([ratio - 0.01, ratio + 0.01]),
            ..Record::empty(name, setting, "ns")
        }
    }

    #[test]
    fn who_is_slower_is_told_with_the_reason() {
        let told = |name, setting, ratio| render(&[timed(name, setting, ratio)]);
        assert_eq!(told("pipe/poll", Setting::Wall, 1.04), "");
        let name = "counter/write, 64 sleeping readers woken";
        let text = told(name, Setting::Wall, 1.08);
        assert!(text.contains("not met, 8 %\n"), "{text}");
        assert!(text.contains(reasons::of(name).unwrap()), "{text}");
        let text = told("pipe/poll", Setting::Instructions, 1.08);
        assert!(
            text.ends_with("not met, 8 %, and no reason is given\n"),
            "{text}"
        );
    }

    #[test]
    fn a_lower_throughput_is_slower() {
        let mut record = timed("pipe/stream", Setting::Wall, 0.9);
        record.more_is_better = true;
        assert!(render(&[record.clone()]).contains("not met, 11 %"));
        record.more_is_better = false;
        assert_eq!(render(&[record]), "");
    }

    #[test]
    fn one_instruction_more_is_more_than_none() {
        let told = |native, module| {
            let name = "routes/getppid, bystander";
            render(&[Record {
                native: Some(native),
                module: Some(module),
                ..Record::empty(name, Setting::Instructions, "instructions")
            }])
        };
        let text = told(100.2, 100.0);
        assert!(text.contains(" 0 <= 0, goal 0: met"), "{text}");
        let text = told(100.0, 101.0);
        assert!(text.contains(" 1 <= 0, goal 0: not met"), "{text}");
    }

    #[test]
    fn one_more_of_any_kind_is_told() {
        let native = [2.0, 1.0, 3.0];
        assert_eq!(counts(&counted(native, native)).unwrap(), "met");
        assert_eq!(counts(&counted(native, [2.01, 0.0, 1.0])).unwrap(), "met");
        let more = counts(&counted(native, [2.0, 2.0, 3.0])).unwrap();
        assert_eq!(more, "not met, fences 2.0, not 1.0");
        let none = Record::empty("a/b", Setting::Wall, "ns");
        assert!(counts(&none).is_none());
    }
}
