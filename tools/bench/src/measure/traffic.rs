// SPDX-License-Identifier: GPL-2.0

//! Writers and readers of a pipe that work at the same time, on two processors.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::measure::case::{BOTH, Case, Round};
use crate::measure::histogram::Histogram;
use crate::measure::kit::{Fd, Kit, add, read_some, take, write};
use crate::measure::tasks::Helpers;
use crate::record::{Setting, Side};

/// All of it, by the clock.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (bytes, name) in [(4 << 10, "4 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB")] {
        cases.push(
            Case::new(
                format!("pipe/stream of {name} writes"),
                BOTH,
                move |kit, side| stream(kit, side, bytes),
            )
            .moving(bytes as u64),
        );
    }
    for writers in [1, 2, 5] {
        for readers in [1, 5] {
            let crowd = Crowd { writers, readers };
            cases.push(
                Case::new(crowd.name(), BOTH, move |kit, side| {
                    Ok(crowd.gather(kit, side)?.throughput(kit))
                })
                .moving(BYTES as u64),
            );
            for (share, name) in [(0.5, "p50"), (0.99, "p99")] {
                let case = Case::new(
                    format!("{}, {name} of a write", crowd.name()),
                    BOTH,
                    move |kit, side| Ok(crowd.gather(kit, side)?.latency(kit, side, share)),
                );
                // Of a hundred one is not in the share, of a thousand ten: what these are is no chance any more.
                cases.push(case.at_least(10 * (1.0 / (1.0 - share)).round() as u64));
            }
        }
    }
    cases
        .into_iter()
        .map(|case| case.long().only(Setting::Wall))
        .collect()
}

/// One writes and one reads. The writer rests when the pipe is full, while the other side is measured.
fn stream(kit: &Kit, side: Side, bytes: usize) -> io::Result<Round> {
    let (reader, writer) = kit.pipe(side)?;
    let from = vec![1; bytes];
    let helpers = Helpers::start(1, &[1], 0, move || write(&writer, &from))?;
    let mut to = vec![0; bytes];
    Ok(kit.clock.whole(move |turns| {
        let _alive = &helpers;
        let mut left = turns as usize * bytes;
        while left > 0 {
            let room = left.min(to.len());
            left -= read_some(&reader, &mut to[..room])?;
        }
        Ok(())
    }))
}

/// What each of a crowd writes at once.
const BYTES: usize = 64 << 10;

/// What the pipe between them holds.
const CAPACITY: usize = 1 << 20;

/// So many writers and readers of one pipe.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    writers: usize,
    readers: usize,
}

impl Crowd {
    fn name(self) -> String {
        let plural = |count| if count == 1 { "" } else { "s" };
        format!(
            "pipe/{} writer{}, {} reader{}",
            self.writers,
            plural(self.writers),
            self.readers,
            plural(self.readers)
        )
    }

    /// Starts them. They rest until they are told how much to write.
    fn gather(self, kit: &Kit, side: Side) -> io::Result<Gathered> {
        let (reader, writer) = kit.pipe(side)?;
        kit.maker(side).set_capacity(&writer, CAPACITY)?;
        let shared = Arc::new(Shared {
            leave: kit.maker(Side::Native).counter(0, true)?,
            done: kit.maker(Side::Native).counter(0, false)?,
            left: AtomicU64::new(0),
            latencies: Histogram::default(),
        });
        let its = Arc::clone(&shared);
        let writers = Helpers::start(self.writers, &[0, 1], 0, move || its.write(&writer))?;
        let its = Arc::clone(&shared);
        let mut to = vec![0; BYTES];
        let readers = Helpers::start(self.readers, &[1, 0], 0, move || its.read(&reader, &mut to))?;
        Ok(Gathered {
            shared,
            _helpers: [writers, readers],
        })
    }
}

/// What the threads of a crowd have in common.
struct Shared {
    /// Each 1 is leave for one write.
    leave: OwnedFd,
    /// Told when all has been read.
    done: OwnedFd,
    /// The bytes that have not been read yet.
    left: AtomicU64,
    latencies: Histogram,
}

impl Shared {
    fn write(&self, writer: &Fd) -> io::Result<()> {
        static FROM: [u8; BYTES] = [1; BYTES];
        take(&self.leave)?;
        let start = Instant::now();
        write(writer, &FROM)?;
        self.latencies.count(start.elapsed().as_nanos() as u64);
        Ok(())
    }

    fn read(&self, reader: &Fd, to: &mut [u8]) -> io::Result<()> {
        let read = read_some(reader, to)? as u64;
        if self.left.fetch_sub(read, Ordering::Relaxed) == read {
            add(&self.done, 1)?;
        }
        Ok(())
    }

    /// Has so many writes done, and all of it read.
    fn run(&self, writes: u64) -> io::Result<()> {
        self.left.store(writes * BYTES as u64, Ordering::Relaxed);
        add(&self.leave, writes)?;
        take(&self.done).map(drop)
    }
}

/// A crowd at rest.
struct Gathered {
    shared: Arc<Shared>,
    _helpers: [Helpers; 2],
}

impl Gathered {
    fn throughput(self, kit: &Kit) -> Round {
        kit.clock.whole(move |turns| {
            let gathered = &self;
            gathered.shared.run(turns)
        })
    }

    /// The latency that a share of `share` of a round's writes stay below.
    fn latency(self, kit: &Kit, side: Side, share: f64) -> Round {
        let all = Rc::clone(&kit.latencies);
        Box::new(move |turns| {
            let gathered = &self;
            gathered.shared.run(turns)?;
            let counted = gathered.shared.latencies.take();
            all.borrow_mut().entry(side).or_default().add(&counted);
            Ok(counted.quantile(share) * turns as f64)
        })
    }
}
