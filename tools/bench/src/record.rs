// SPDX-License-Identifier: GPL-2.0

//! What is measured, as it stands in `results.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::{Pair, mean, mean_ratio, median, median_ratio, ratio_interval, spread};

/// How it was measured.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Setting {
    /// One processor that counts its instructions as time.
    Instructions,
    /// Two processors and a clock.
    Wall,
    /// As [`Setting::Instructions`], in a memory cgroup, on a kernel that has them.
    Memcg,
}

impl Setting {
    /// Its name on the command line and in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Wall => "wall",
            Self::Memcg => "memcg",
        }
    }

    /// Whether instructions are counted, and not time.
    #[must_use]
    pub fn counts(self) -> bool {
        match self {
            Self::Instructions | Self::Memcg => true,
            Self::Wall => false,
        }
    }

    /// The unit of its figures.
    #[must_use]
    pub fn unit(self) -> &'static str {
        if self.counts() { "instructions" } else { "ns" }
    }
}

/// What is being measured.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The kernel's own.
    Native,
    /// The module's.
    Module,
    /// The module's null object, moving the same bytes.
    Floor,
    /// `/dev/null`, which copies nothing.
    DevNull,
}

impl Side {
    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Module => "module",
            Self::Floor => "floor",
            Self::DevNull => "/dev/null",
        }
    }
}

/// One operation in one setting.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// `family/operation`.
    pub name: String,
    /// How it was measured.
    pub setting: Setting,
    /// What the figures count.
    pub unit: String,
    /// Whether more is better, as of a throughput.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_is_better: bool,
    /// The kernel's own; nothing if there is no such thing.
    pub native: Option<f64>,
    /// The module's.
    pub module: Option<f64>,
    /// The null object's, moving the same bytes.
    pub floor: Option<f64>,
    /// `/dev/null`'s, written and read as often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev_null: Option<f64>,
    /// Module by native, round by round.
    pub ratio: Option<f64>,
    /// The same, with the floor taken from both.
    pub above_floor_ratio: Option<f64>,
    /// Where 95 of 100 such runs would find the ratio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_interval: Option<[f64; 2]>,
    /// How often the operation was done on each side.
    pub n: u64,
    /// How the rounds of each side were spread.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spread: BTreeMap<Side, Spread>,
    /// What of each side's instructions costs more than one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Side, Counts>,
    /// How long each call took: classes, by their middle, and how many there were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub latencies: BTreeMap<Side, Vec<(f64, u64)>>,
}

impl Record {
    /// Without figures.
    #[must_use]
    pub fn empty(name: &str, setting: Setting, unit: &str) -> Self {
        Self {
            name: name.into(),
            setting,
            unit: unit.into(),
            more_is_better: false,
            native: None,
            module: None,
            floor: None,
            dev_null: None,
            ratio: None,
            above_floor_ratio: None,
            ratio_interval: None,
            n: 0,
            spread: BTreeMap::new(),
            counts: BTreeMap::new(),
            latencies: BTreeMap::new(),
        }
    }

    /// Sets the figures by those of the rounds: their medians, or means of `long` rounds.
    pub fn set(&mut self, figures: &Figures, long: bool) {
        type Center = (fn(&[f64]) -> f64, fn(&[Pair]) -> f64);
        let (center, compare): Center = if long {
            (mean, mean_ratio)
        } else {
            (median, median_ratio)
        };
        let of = |side| figures.get(&side).map(|figures| center(figures));
        self.native = of(Side::Native);
        self.module = of(Side::Module);
        self.floor = of(Side::Floor);
        self.dev_null = of(Side::DevNull);
        let pairs = figures.get(&Side::Module).zip(figures.get(&Side::Native));
        let pairs = pairs.map(|(module, native)| -> Vec<Pair> {
            module.iter().copied().zip(native.iter().copied()).collect()
        });
        self.ratio = pairs.as_deref().map(compare);
        // Of less than nothing there is no ratio.
        self.above_floor_ratio = (self.native.zip(self.module))
            .zip(self.floor)
            .filter(|((native, _), floor)| native > floor)
            .map(|((native, module), floor)| (module - floor) / (native - floor));
        self.ratio_interval = pairs.map(|pairs| ratio_interval(&pairs, compare));
        self.spread = figures
            .iter()
            .map(|(side, figures)| (*side, spread(figures)))
            .collect();
    }

    /// What stands before the slash.
    #[must_use]
    pub fn family(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// Of the kernel's instructions, for one operation.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Counts {
    /// With a lock prefix, or an exchange with memory, but those that are [`Counts::fences`].
    pub locked: f64,
    /// There for the fence alone: `mfence`, and `lock addl $0` or `lock orl $0` of the stack.
    pub fences: f64,
    /// `cli`.
    pub disables: f64,
    /// The NOPs with which C functions begin for the function tracer's sake: the figures are without them.
    #[serde(default)]
    pub nops: f64,
}

/// One round, as it was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Round {
    /// The operation.
    pub name: String,
    /// Whose.
    pub side: Side,
    /// How often it was done; 0 of a trial, which does not count.
    pub turns: u64,
    /// Whether such rounds have a mean, and not a median.
    pub long: bool,
    /// What one operation took.
    #[serde(default)]
    pub figure: f64,
}

/// What one operation took in each round.
pub type Figures = BTreeMap<Side, Vec<f64>>;

/// Quantiles.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// A quarter is less.
    pub p25: f64,
    /// The median.
    pub p50: f64,
    /// A quarter is more.
    pub p75: f64,
    /// One in a hundred is more.
    pub p99: f64,
    /// The most.
    pub max: f64,
}

/// What it was measured on.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Machine {
    /// `uname -srv`.
    pub kernel: String,
    /// The kernel's command line.
    pub options: String,
    /// The processor's name.
    pub cpu: String,
    /// How many there are.
    pub cpus: usize,
    /// What the kernel takes for a hypervisor, or nothing.
    pub hypervisor: Option<String>,
    /// What the one who started it says: the commit, the emulator and its options.
    pub told: BTreeMap<String, String>,
}

/// All that one setting gave.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Run {
    /// How it was measured.
    pub setting: Setting,
    /// On what.
    pub machine: Machine,
    /// What came out.
    pub results: Vec<Record>,
    /// Each round, in order, for what counts beside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<Round>,
    /// The addresses of the function tracer's NOPs, for what takes them off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nops: Vec<u64>,
    /// The kernel's symbols, as `/proc/kallsyms` has them, for what tells by function.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub symbols: String,
}

/// `results.json`: several runs.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Results {
    /// What each setting was measured on.
    pub machines: BTreeMap<Setting, Machine>,
    /// What came out, of all settings.
    pub results: Vec<Record>,
}

impl FromIterator<Run> for Results {
    fn from_iter<T: IntoIterator<Item = Run>>(runs: T) -> Self {
        let mut all = Self::default();
        for run in runs {
            all.machines.insert(run.setting, run.machine);
            all.results.extend(run.results);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_file_is_read() {
        let text = r#"{"machines": {}, "results": [{"name": "a/b", "setting": "wall", "unit": "ns", "native": 2.0,
            "module": 1.0, "floor": null, "ratio": 0.5, "above_floor_ratio": null, "n": 3}]}"#;
        let results: Results = serde_json::from_str(text).unwrap();
        assert!(results.results[0].latencies.is_empty());
    }

    #[test]
    fn latencies_stay_as_they_are_and_none_take_no_room() {
        let mut record = Record::empty("a/b", Setting::Wall, "ns");
        let text = serde_json::to_string(&record).unwrap();
        assert!(!text.contains("latencies"), "{text}");
        record.latencies.insert(Side::Native, vec![(100.0, 7)]);
        let text = serde_json::to_string(&record).unwrap();
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(read.latencies, record.latencies);
    }
}
