// SPDX-License-Identifier: GPL-2.0

//! One operation, measured on all its sides in turn.

use std::io;

use crate::measure::kit::Kit;
use crate::measure::marker;
use crate::measure::tasks::rest;
use crate::record::{self, Figures, Record, Setting, Side};

/// Does an operation so many times, and gives the time that took.
pub type Round = Box<dyn FnMut(u64) -> io::Result<f64>>;

type Make = Box<dyn Fn(&Kit, Side) -> io::Result<Round>>;

/// The two that are compared.
pub const BOTH: &[Side] = &[Side::Native, Side::Module];

/// And what they are compared with.
pub const WITH_FLOOR: &[Side] = &[Side::Native, Side::Module, Side::Floor];

/// And what a system call costs that does nothing.
pub const WITH_FLOORS: &[Side] = &[Side::Native, Side::Module, Side::Floor, Side::DevNull];

/// What only the module has.
pub const MODULE_ONLY: &[Side] = &[Side::Module];

/// One operation.
pub struct Case {
    /// `family/operation`.
    pub name: String,
    sides: &'static [Side],
    setting: Option<Setting>,
    long: bool,
    opens: bool,
    least: u64,
    bytes: Option<u64>,
    make: Make,
}

impl Case {
    /// `make` sets a side up, and gives what does the operation there.
    pub fn new(
        name: impl Into<String>,
        sides: &'static [Side],
        make: impl Fn(&Kit, Side) -> io::Result<Round> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            sides,
            setting: None,
            long: false,
            opens: false,
            least: 1,
            bytes: None,
            make: Box::new(make),
        }
    }

    /// Only for that setting.
    pub fn only(self, setting: Setting) -> Self {
        Self {
            setting: Some(setting),
            ..self
        }
    }

    /// With long rounds, and their mean instead of their median: what the kernel puts off, such as freeing
    /// after a grace period, is a part of the cost, and does not come in each round.
    pub fn long(self) -> Self {
        Self { long: true, ..self }
    }

    /// With the factory closed, but for what the operation itself opens: as in a program that makes an object, and
    /// no other does.
    pub fn opening(self) -> Self {
        Self {
            opens: true,
            ..self
        }
    }

    /// With so many operations in each round at least.
    pub fn at_least(self, least: u64) -> Self {
        Self { least, ..self }
    }

    /// As a throughput: the operation moves so many bytes.
    pub fn moving(self, bytes: u64) -> Self {
        Self {
            bytes: Some(bytes),
            ..self
        }
    }

    /// Whether it is for that setting.
    pub fn is_for(&self, setting: Setting) -> bool {
        self.setting.is_none_or(|only| only == setting)
    }

    /// Measures it: each side a round, then each the next one, in turn; with things made anew now and then,
    /// as where they lie in memory may matter more than what they are.
    pub fn run(&self, kit: &Kit) -> io::Result<Record> {
        if !self.opens {
            return self.run_with(kit);
        }
        kit.close_factory();
        let record = self.run_with(kit);
        kit.open_factory()?;
        record
    }

    fn run_with(&self, kit: &Kit) -> io::Result<Record> {
        let mut figures = Figures::new();
        let mut n = 0;
        let budget = kit.budget.of_case(self.long);
        for _ in 0..budget.setups {
            n += self.measure(kit, budget, &mut figures)?;
        }
        let mut record = self.record(kit.setting, &figures, n);
        record.latencies = kit
            .latencies
            .take()
            .into_iter()
            .map(|(side, counted)| (side, counted.classes()))
            .collect();
        Ok(record)
    }

    fn measure(&self, kit: &Kit, budget: Rounds, figures: &mut Figures) -> io::Result<u64> {
        let mut rounds: Vec<_> = self
            .sides
            .iter()
            .map(|side| Ok((*side, (self.make)(kit, *side)?)))
            .collect::<io::Result<_>>()?;
        // Caches and slabs fill, and one sees how long it takes.
        let mut longest = 0.0_f64;
        for _ in 0..2 {
            longest = 0.0;
            for (_, round) in &mut rounds {
                longest = longest.max(round(TRIAL)? / TRIAL as f64);
                self.mark(kit, Side::Native, 0, 0.0);
            }
        }
        let turns = budget.turns(longest).max(self.least);
        for number in 0..budget.rounds {
            let mut measure = |(side, round): &mut (Side, Round)| -> io::Result<()> {
                if kit.setting.counts() {
                    rest();
                }
                let figure = round(turns)? / turns as f64;
                self.mark(kit, *side, turns, figure);
                figures.entry(*side).or_default().push(self.figure(figure));
                Ok(())
            };
            // Now from the one end, now from the other: who comes first has no advantage.
            if number % 2 == 0 {
                rounds.iter_mut().try_for_each(&mut measure)?;
            } else {
                rounds.iter_mut().rev().try_for_each(&mut measure)?;
            }
        }
        Ok(budget.rounds * turns)
    }

    /// Tells the emulator's plugin, which may be there, of a round's end.
    fn mark(&self, kit: &Kit, side: Side, turns: u64, figure: f64) {
        if kit.setting.counts() {
            marker::take();
            kit.rounds.borrow_mut().push(record::Round {
                name: self.name.clone(),
                side,
                turns,
                long: self.long,
                figure,
            });
        }
    }

    /// Nanoseconds for so many bytes as megabytes in a second.
    fn figure(&self, time: f64) -> f64 {
        self.bytes.map_or(time, |bytes| bytes as f64 * 1e3 / time)
    }

    fn record(&self, setting: Setting, figures: &Figures, n: u64) -> Record {
        let unit = self.bytes.map_or(setting.unit(), |_| "MB/s");
        let mut record = Record {
            more_is_better: self.bytes.is_some(),
            n,
            ..Record::empty(&self.name, setting, unit)
        };
        record.set(figures, self.long);
        record
    }
}

/// How often an operation is done to see how long it takes.
const TRIAL: u64 = 8;

/// How long a setting measures.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    short: Rounds,
    long: Rounds,
}

/// How often things are made anew, how many rounds each side then has, and how long one takes about, in the
/// setting's own unit.
#[derive(Clone, Copy, Debug)]
struct Rounds {
    setups: u64,
    rounds: u64,
    time: u64,
}

impl Budget {
    /// That of `setting`.
    pub fn of(setting: Setting) -> Self {
        let rounds = |setups, rounds, time| Rounds {
            setups,
            rounds,
            time,
        };
        match setting {
            // The kernel's tick comes every four million. A short round begins after one and ends before the next;
            // in a long one there are many: what is put off is done there, but for the last part.
            Setting::Instructions | Setting::Memcg => Self {
                short: rounds(1, 15, 300_000),
                long: rounds(1, 5, 120_000_000),
            },
            Setting::Wall => Self {
                short: rounds(15, 5, 2_000_000),
                long: rounds(5, 3, 20_000_000),
            },
        }
    }

    fn of_case(&self, long: bool) -> Rounds {
        if long { self.long } else { self.short }
    }
}

impl Rounds {
    /// How often in each an operation fits that takes `each`: a power of two, so that it is the same in two runs
    /// though `each` is not quite.
    fn turns(self, each: f64) -> u64 {
        ((self.time as f64 / each.max(1.0)).ceil() as u64).next_power_of_two()
    }
}
