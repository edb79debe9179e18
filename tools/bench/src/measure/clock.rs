// SPDX-License-Identifier: GPL-2.0

//! The clock of each setting, and what looking at it costs.

use std::arch::x86_64::_rdtsc;
use std::hint::black_box;
use std::io;
use std::time::Instant;

use crate::measure::case::Round;
use crate::measure::marker;
use crate::record::Setting;
use crate::stats::median;

/// Counts instructions, or nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    setting: Setting,
    start: Instant,
    look: f64,
    turn: f64,
}

impl Clock {
    /// Sets it up, by measuring what it costs itself.
    pub fn new(setting: Setting) -> io::Result<Self> {
        const TURNS: u64 = 1_000;
        let mut clock = Self {
            setting,
            start: Instant::now(),
            look: 0.0,
            turn: 0.0,
        };
        let cost = |clock: &Self, turns| -> io::Result<f64> {
            let mut empty = clock.batch(|| {
                black_box(());
                Ok(())
            });
            let rounds: io::Result<Vec<_>> = (0..99).map(|_| empty(turns)).collect();
            Ok(median(&rounds?))
        };
        clock.look = cost(&clock, 0)?;
        clock.turn = cost(&clock, TURNS)? / TURNS as f64;
        Ok(clock)
    }

    /// In instructions the time stamp counter is the counter: one step for each. Else it is the
    /// clock that knows nanoseconds.
    #[inline]
    fn now(&self) -> u64 {
        if self.setting.counts() {
            // SAFETY: Every x86-64 has it.
            unsafe { _rdtsc() }
        } else {
            self.start.elapsed().as_nanos() as u64
        }
    }

    /// Where the plugin begins to count, if it counts.
    #[inline]
    fn start(&self) -> u64 {
        let now = self.now();
        if self.setting.counts() {
            marker::on();
        }
        now
    }

    /// And where it ends.
    #[inline]
    fn stop(&self) -> u64 {
        if self.setting.counts() {
            marker::off();
        }
        self.now()
    }

    /// A round of one operation after the other, timed as a whole.
    pub fn batch(self, mut operation: impl FnMut() -> io::Result<()> + 'static) -> Round {
        Box::new(move |turns| {
            let start = self.start();
            for _ in 0..turns {
                operation()?;
            }
            let time = (self.stop() - start) as f64;
            Ok(time - self.look - self.turn * turns as f64)
        })
    }

    /// A round that is timed as a whole, however it comes to its number of operations.
    pub fn whole(self, mut round: impl FnMut(u64) -> io::Result<()> + 'static) -> Round {
        Box::new(move |turns| {
            let start = self.start();
            round(turns)?;
            Ok((self.stop() - start) as f64 - self.look)
        })
    }

    /// A round in which of each turn only the operation is timed, not what goes before and after it.
    pub fn timed(
        self,
        mut before: impl FnMut() -> io::Result<()> + 'static,
        mut operation: impl FnMut() -> io::Result<()> + 'static,
        mut after: impl FnMut() -> io::Result<()> + 'static,
    ) -> Round {
        Box::new(move |turns| {
            let mut time = 0.0;
            for _ in 0..turns {
                before()?;
                let start = self.start();
                operation()?;
                time += (self.stop() - start) as f64 - self.look;
                after()?;
            }
            Ok(time)
        })
    }
}
