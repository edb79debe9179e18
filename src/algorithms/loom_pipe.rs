// SPDX-License-Identifier: GPL-2.0

//! A model of `Pipe` (src/objects/pipe/transfer.rs), step by step, over that of its ring.

use super::{
    loom_ring::{Full, PageRing, Published, Writer},
    loom_runs::seen,
    Fault, Head, Killed, Task, Visitor, Whom,
};
use ipcdemo_algorithms::{
    counter::Change::{Added, Taken},
    loom_atomic::AtomicU64,
    ring::State,
};
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::rc::Rc;

/// The fault of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PipeFault {
    /// Whether there are writers is looked at after the ring.
    WritersAfterRing,
    /// To see that there are no writers is no acquire.
    WritersWithoutAcquire,
    /// A reader that slept does not wake the next.
    NextReaderAsleep,
    /// A writer that slept does not wake the next.
    NextWriterAsleep,
    /// A reader that goes on does not wake who waits for the room it made.
    HandBackWithoutWake,
    /// A writer that goes on does not wake who waits for what it wrote.
    HandOverWithoutWake,
    /// The last one to leave wakes one only on the other side.
    LeaveWakesOne,
    /// A new capacity is not told to who waits for room.
    ResizeWithoutWake,
    /// A writer does not ask whether somebody polls for edges.
    EdgesIgnored,
    /// A write is short though the ring was never full with it.
    ShortThoughNotFilled,
    /// A reader that is killed at the claim does not wake the next, though it slept.
    KilledReaderLeaves,
    /// A writer that is killed does not wake the next, though it slept.
    KilledWriterLeaves,
}

pub(crate) struct Pipe {
    ring: PageRing,
    rd_wait: Rc<Head>,
    wr_wait: Rc<Head>,
    readers: AtomicU64,
    writers: AtomicU64,
    edge_polled: AtomicU64,
    fault: Option<Fault>,
}

impl Pipe {
    /// One with a reader and a writer.
    pub(crate) fn new(fault: Option<Fault>, max_usage: u32) -> Rc<Self> {
        Rc::new(Self {
            ring: PageRing::new(fault, max_usage),
            rd_wait: Rc::new(Head::new(fault)),
            wr_wait: Rc::new(Head::new(fault)),
            readers: AtomicU64::new(1),
            writers: AtomicU64::new(1),
            edge_polled: AtomicU64::new(0),
            fault,
        })
    }

    /// Nobody is left, and nothing.
    pub(crate) fn end(&self) {
        self.rd_wait.end();
        self.wr_wait.end();
        self.ring.end();
    }

    fn has(&self, fault: PipeFault) -> bool {
        self.fault == Some(Fault::Pipe(fault))
    }

    fn has_readers(&self) -> bool {
        self.readers.load(Relaxed) != 0
    }

    fn has_writers(&self) -> bool {
        let order = if self.has(PipeFault::WritersWithoutAcquire) {
            Relaxed
        } else {
            Acquire
        };
        self.writers.load(order) != 0
    }

    fn is_readable(&self) -> bool {
        !self.ring.state().is_empty() || !self.has_writers()
    }

    fn is_writable(&self) -> bool {
        self.ring.has_room() || !self.has_readers()
    }
}

/// The events that poll reports to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Events {
    pub(crate) readable: bool,
    pub(crate) hung_up: bool,
}

/// Why not all was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// There is no room for the rest.
    Full,
    /// Nobody will read it.
    Broken,
    /// The task was killed.
    Killed,
}

/// A task, at the pipe.
pub(crate) struct Current {
    pipe: Rc<Pipe>,
    task: Rc<Task>,
}

impl Current {
    pub(crate) fn new(pipe: &Rc<Pipe>) -> Self {
        Self::with_task(pipe, &Rc::new(Task::new()))
    }

    pub(crate) fn with_task(pipe: &Rc<Pipe>, task: &Rc<Task>) -> Self {
        Self {
            pipe: pipe.clone(),
            task: task.clone(),
        }
    }

    fn at(&self, queue: &Rc<Head>) -> Visitor {
        Visitor::new(queue, &self.task)
    }

    fn rd_wait(&self) -> Visitor {
        self.at(&self.pipe.rd_wait)
    }

    fn wr_wait(&self) -> Visitor {
        self.at(&self.pipe.wr_wait)
    }

    fn wake_reader(&self) {
        self.rd_wait().wake(Added, Whom::First);
    }

    fn wake_writer(&self) {
        self.wr_wait().wake(Taken, Whom::First);
    }

    /// Returns nothing at the end of file.
    pub(crate) fn read(&self, limit: usize) -> Vec<u8> {
        self.read_killably(limit).unwrap()
    }

    pub(crate) fn read_killably(&self, limit: usize) -> Result<Vec<u8>, Killed> {
        let pipe = &self.pipe;
        let mut slept = false;
        let (result, before) = loop {
            let mut may_come = pipe.has_writers();
            let awaited = || self.wr_wait().is_active();
            let read = pipe.ring.read_filled(&self.task, |reader| {
                reader.take(limit, awaited, |before| self.made_room(before))
            });
            if pipe.has(PipeFault::WritersAfterRing) {
                may_come = pipe.has_writers();
            }
            match read {
                Err(Killed) if pipe.has(PipeFault::KilledReaderLeaves) => return Err(Killed),
                Err(Killed) => {
                    seen(if slept {
                        "killed at the claim"
                    } else {
                        "killed at once"
                    });
                    break (Err(Killed), None);
                }
                Ok(Some((taken, before))) if !taken.is_empty() => break (Ok(taken), before),
                _ if !may_come => break (Ok(Vec::new()), None),
                _ => seen("empty"),
            }
            self.wait_readable()?;
            slept = true;
        };
        self.after_read(before, slept);
        result
    }

    pub(crate) fn wait_readable(&self) -> Result<(), Killed> {
        let readable = || self.pipe.is_readable().then_some(());
        self.rd_wait().wait_until(true, readable)
    }

    /// `FIONREAD`.
    pub(crate) fn count(&self) -> usize {
        let ring = &self.pipe.ring;
        ring.read(&self.task, |reader| reader.count()).unwrap()
    }

    fn made_room(&self, before: State) {
        let pipe = &self.pipe;
        if before.is_full(pipe.ring.max_usage())
            && !pipe.has(PipeFault::HandBackWithoutWake)
            && self.wr_wait().is_active()
        {
            self.wake_writer();
        }
    }

    fn after_read(&self, before: Option<State>, slept: bool) {
        let pipe = &self.pipe;
        let wake_writer = before.is_some_and(|state| state.is_full(pipe.ring.max_usage()));
        let wake_next_reader = slept && !pipe.ring.state().is_empty();

        if wake_writer && self.wr_wait().is_active() {
            self.wake_writer();
        }
        if wake_next_reader && !pipe.has(PipeFault::NextReaderAsleep) && self.rd_wait().is_active()
        {
            self.wake_reader();
        }
    }

    fn add_to(&self, writer: &mut Writer<'_>, from: &mut &[u8], first: bool) -> Result<(), Full> {
        if first {
            writer.merge(from);
        }
        while !from.is_empty() {
            if let Some(published) = writer.hand_over() {
                if published.was_empty()
                    && !self.pipe.has(PipeFault::HandOverWithoutWake)
                    && self.rd_wait().is_active()
                {
                    self.wake_reader();
                }
            }
            writer.push(from)?;
        }
        Ok(())
    }

    pub(crate) fn write(&self, mut from: &[u8]) -> Result<(), Ended> {
        self.write_some(&mut from, false)
    }

    /// A write whose bytes are not to be had: `EFAULT`.
    pub(crate) fn write_nothing(&self) {
        let wrote = self.pipe.ring.write(&self.task, |_| ());
        assert!(wrote.is_ok_and(|((), published)| published.is_none()));
        self.after_write(false, false);
    }

    /// Takes from `from` what was written.
    fn write_some(&self, from: &mut &[u8], nonblock: bool) -> Result<(), Ended> {
        let (mut ended, mut published) = self.write_once(from, true);
        let mut slept = false;
        if ended == Err(Ended::Full) {
            (ended, published, slept) = self.write_rest(from, published, nonblock);
        }
        self.after_write(published.is_some_and(Published::was_empty), slept);
        ended
    }

    /// Goes on with a write that found no room. Returns how much was written.
    pub(crate) fn write_later(&self, mut from: &[u8]) -> usize {
        let all = from.len();
        let (ended, published, slept) = self.write_rest(&mut from, None, false);
        if !self.pipe.has(PipeFault::KilledWriterLeaves) || ended != Err(Ended::Killed) {
            self.after_write(published.is_some_and(Published::was_empty), slept);
        }
        all - from.len()
    }

    fn write_once(&self, from: &mut &[u8], first: bool) -> (Result<(), Ended>, Option<Published>) {
        let pipe = &self.pipe;
        let wrote = pipe.ring.write(&self.task, |writer| {
            if pipe.has_readers() {
                self.add_to(writer, from, first).map_err(|Full| Ended::Full)
            } else {
                Err(Ended::Broken)
            }
        });
        wrote.unwrap_or_else(|Killed| {
            seen("killed at the claim");
            (Err(Ended::Killed), None)
        })
    }

    /// Returns what the last turn did, and whether the task slept.
    fn write_rest(
        &self,
        from: &mut &[u8],
        mut published: Option<Published>,
        nonblock: bool,
    ) -> (Result<(), Ended>, Option<Published>, bool) {
        let pipe = &self.pipe;
        let mut slept = false;
        loop {
            let filled = pipe.has(PipeFault::ShortThoughNotFilled)
                || published.is_none_or(|it| it.filled(pipe.ring.max_usage()));
            seen(if filled { "full" } else { "not filled" });
            if filled && nonblock {
                return (Err(Ended::Full), published, slept);
            }
            if filled && self.task.is_killed() {
                return (Err(Ended::Killed), published, slept);
            }
            if published.is_some_and(Published::was_empty) && self.rd_wait().is_active() {
                self.wake_reader();
            }
            if filled {
                // A signal is looked for once there is no room again.
                let _ = self.wait_writable();
                slept = true;
            }
            let ended;
            (ended, published) = self.write_once(from, false);
            if ended != Err(Ended::Full) {
                return (ended, published, slept);
            }
        }
    }

    pub(crate) fn wait_writable(&self) -> Result<(), Killed> {
        let writable = || self.pipe.is_writable().then_some(());
        self.wr_wait().wait_until(true, writable)
    }

    fn after_write(&self, was_empty: bool, slept: bool) {
        let pipe = &self.pipe;
        let edges = !pipe.has(PipeFault::EdgesIgnored) && pipe.edge_polled.load(Relaxed) != 0;
        let wake_reader = was_empty || edges;
        let wake_next_writer = slept && pipe.ring.has_room();

        if wake_reader && self.rd_wait().is_active() {
            self.wake_reader();
        }
        if wake_next_writer && !pipe.has(PipeFault::NextWriterAsleep) && self.wr_wait().is_active()
        {
            self.wake_writer();
        }
    }

    /// `Pipe::set_size`, with room for what is inside.
    pub(crate) fn resize(&self, max_usage: u32) -> Result<(), Killed> {
        self.pipe.ring.resize(&self.task, max_usage)?;
        if !self.pipe.has(PipeFault::ResizeWithoutWake) {
            self.wake_writer();
        }
        Ok(())
    }

    /// `Pipe::release` of one of the `count`.
    fn leave(&self, count: &AtomicU64) {
        let pipe = &self.pipe;
        let mut holders = pipe.rd_wait.lock();
        count.store(count.load(Relaxed) - 1, Release);
        let whom = if pipe.has(PipeFault::LeaveWakesOne) {
            Whom::First
        } else {
            Whom::All
        };
        if pipe.has_readers() != pipe.has_writers() {
            self.rd_wait().wake_locked(&mut holders, Added, whom);
            drop(holders);
            self.wr_wait().wake(Taken, whom);
        }
    }

    pub(crate) fn leave_writers(&self) {
        self.leave(&self.pipe.writers);
    }

    pub(crate) fn leave_readers(&self) {
        self.leave(&self.pipe.readers);
    }

    /// `Pipe::poll`, after it has registered.
    fn events(&self) -> Events {
        let pipe = &self.pipe;
        let mut has_writers = pipe.has_writers();
        let state = pipe.ring.state();
        if pipe.has(PipeFault::WritersAfterRing) {
            has_writers = pipe.has_writers();
        }
        Events {
            readable: !state.is_empty(),
            hung_up: !has_writers,
        }
    }

    /// Waits by poll for something to read, or for a hang-up.
    pub(crate) fn poll_in(&self) -> Events {
        self.rd_wait().poll(Added, || {
            let events = self.events();
            (events.readable || events.hung_up).then_some(events)
        })
    }

    /// Waits by poll for room.
    pub(crate) fn poll_out(&self) {
        self.wr_wait()
            .poll(Taken, || self.pipe.is_writable().then_some(()));
    }

    /// Polls for edges until the last buffer ends there.
    pub(crate) fn poll_edges(&self, end: u32) {
        self.pipe.edge_polled.store(1, Relaxed);
        let is_there = || self.pipe.ring.state().end() == end;
        self.rd_wait().poll(Added, || is_there().then_some(()));
    }

    /// Writes what there is room for, and polls for the edge to more.
    pub(crate) fn write_by_edges(&self, mut from: &[u8]) {
        let at = self.wr_wait();
        let entry = at.register(Taken);
        while self.write_some(&mut from, true).is_err() {
            at.poll_schedule(&entry);
        }
        at.head.leave(&entry);
    }
}
