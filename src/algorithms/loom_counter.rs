// SPDX-License-Identifier: GPL-2.0

//! Tasks at a counter.

use super::{
    loom_runs::{seen, Model, ASLEEP, SHARED},
    Fault, Head, Killed, List, Task, Visitor, Whom,
};
use ipcdemo_algorithms::{
    counter::{self, Change, Count, Mode, Upper, Word},
    fault::Part,
};
use loom::{cell::UnsafeCell, thread};
use std::rc::Rc;

/// The state that the tasks at a counter share.
struct Shared {
    word: Word,
    upper: Upper,
    /// The data that the value of a write stands for: written before it, and used by the task that read the value.
    parcels: [UnsafeCell<()>; 3],
}

/// A task, at the counter.
pub(crate) struct Current {
    shared: Rc<Shared>,
    at: Visitor,
}

impl counter::CounterOps for Current {
    type Error = Killed;
    type Locked<'a> = List<'a>;

    fn word(&self) -> &Word {
        &self.shared.word
    }

    fn upper(&self) -> &Upper {
        &self.shared.upper
    }

    fn is_active(&self) -> bool {
        self.at.is_active()
    }

    fn locked<R>(&self, f: impl FnOnce(&mut List<'_>) -> R) -> R {
        f(&mut self.at.head.lock())
    }

    fn wake(&self, queue: &mut List<'_>, change: Change) -> bool {
        let anybody = !queue.is_empty();
        self.at.wake_locked(queue, change, Whom::All);
        seen(if anybody { "somebody" } else { "nobody" });
        anybody
    }

    fn wait_until(&self, mut condition: impl FnMut() -> bool) -> Result<(), Killed> {
        self.at.wait_until(false, || condition().then_some(()))
    }
}

impl Current {
    pub(crate) fn read(&self, mode: Mode) -> u64 {
        self.read_killably(mode).unwrap()
    }

    pub(crate) fn read_killably(&self, mode: Mode) -> Result<u64, Killed> {
        counter::read(self, mode, || Ok(()))
    }

    pub(crate) fn write(&self, value: u64) {
        self.write_killably(value).unwrap();
    }

    pub(crate) fn write_killably(&self, value: u64) -> Result<(), Killed> {
        counter::write(self, value, |_| Ok(()))
    }

    /// Waits by poll for something to read.
    pub(crate) fn poll_in(&self) {
        self.at
            .poll(Change::Added, || counter::readiness(self).0.then_some(()));
    }
}

/// A counter for one run.
pub(crate) struct Counter {
    shared: Rc<Shared>,
    head: Rc<Head>,
}

impl Counter {
    pub(crate) fn new(fault: Option<Fault>, count: u64) -> Self {
        let shared = Shared {
            word: Word::new(Count::new(0)),
            upper: Upper::default(),
            parcels: Default::default(),
        };
        let counter = Self {
            shared: Rc::new(shared),
            head: Rc::new(Head::new(fault)),
        };
        if count > 0 {
            counter.current().write(count);
        }
        counter
    }

    pub(crate) fn current(&self) -> Current {
        self.current_as(&Rc::new(Task::new()))
    }

    pub(crate) fn current_as(&self, task: &Rc<Task>) -> Current {
        Current {
            shared: self.shared.clone(),
            at: Visitor::new(&self.head, task),
        }
    }

    pub(crate) fn spawn<R: 'static>(
        &self,
        f: impl FnOnce(&Current) -> R + 'static,
    ) -> thread::JoinHandle<R> {
        let current = self.current();
        thread::spawn(move || f(&current))
    }

    /// Checks what all tasks have left behind.
    pub(crate) fn end(&self) -> u64 {
        self.head.end();
        counter::get(&self.current()).get()
    }
}

/// One writes 1 twice, one reads it twice.
fn pair(fault: Option<Fault>) {
    let counter = Counter::new(fault, 0);
    let writer = counter.spawn(|current| [1, 1].map(|value| current.write(value)));
    let reader = counter.current();
    assert_eq!([(); 2].map(|()| reader.read(Mode::Semaphore)), [1, 1]);
    writer.join().unwrap();
    assert_eq!(counter.end(), 0);
}

/// One does something and says so, three times, and one uses it.
fn parcels(fault: Option<Fault>) {
    let counter = Counter::new(fault, 0);
    let writer = counter.spawn(|current| {
        for (value, parcel) in [1, 2, 4].into_iter().zip(&current.shared.parcels) {
            parcel.with_mut(|_| ());
            current.write(value);
        }
    });
    let reader = counter.current();
    let mut all = 0;
    while all < 7 {
        let taken = reader.read(Mode::Sum);
        for (value, parcel) in [1, 2, 4].into_iter().zip(&reader.shared.parcels) {
            if taken & value != 0 {
                parcel.with(|_| ());
            }
        }
        all += taken;
    }
    writer.join().unwrap();
    assert_eq!(counter.end(), 0);
}

/// Two write 1 each, two read 1 each: who reads more puts the rest back.
fn empty(fault: Option<Fault>, mode: Mode) {
    let counter = Counter::new(fault, 0);
    let readers = [(); 2].map(|()| {
        counter.spawn(move |current| {
            let taken = current.read(mode);
            if taken > 1 {
                current.write(taken - 1);
            }
        })
    });
    let writer = counter.spawn(|current| current.write(1));
    counter.current().write(1);
    writer.join().unwrap();
    readers.map(|reader| reader.join().unwrap());
    assert_eq!(counter.end(), 0);
}

/// Two have to wait for room, two make it.
fn full(fault: Option<Fault>) {
    let counter = Counter::new(fault, Count::MAX);
    let writers = [(); 2].map(|()| counter.spawn(|current| current.write(1)));
    let reader = counter.spawn(|current| current.read(Mode::Semaphore));
    assert_eq!(counter.current().read(Mode::Semaphore), 1);
    assert_eq!(reader.join().unwrap(), 1);
    writers.map(|writer| writer.join().unwrap());
    assert_eq!(counter.end(), Count::MAX);
}

/// One has to wait for all the room there is, in a counter that is not full.
fn large(fault: Option<Fault>) {
    let counter = Counter::new(fault, 1);
    let writers = [Count::MAX, 1].map(|value| counter.spawn(move |current| current.write(value)));
    let reader = counter.current();
    let mut left = u128::from(Count::MAX) + 2;
    while left > 0 {
        left -= u128::from(reader.read(Mode::Sum));
    }
    writers.map(|writer| writer.join().unwrap());
    assert_eq!(counter.end(), 0);
}

/// One polls, one sleeps, and what is written is enough for both.
fn poller(fault: Option<Fault>) {
    let counter = Counter::new(fault, 0);
    let poller = counter.spawn(Current::poll_in);
    let reader = counter.spawn(|current| current.read(Mode::Semaphore));
    counter.current().write(2);
    poller.join().unwrap();
    assert_eq!(reader.join().unwrap(), 1);
    assert_eq!(counter.end(), 1);
}

const PAIR: Model = Model::new("pair", 4, pair);
const PARCELS: Model = Model::new("parcels", 3, parcels);
const SEMAPHORE: Model = Model::new("semaphore", 1, |fault| empty(fault, Mode::Semaphore));
const SUM: Model = Model::new("sum", 1, |fault| empty(fault, Mode::Sum));
const FULL: Model = Model::new("full", 1, full);
const LARGE: Model = Model::new("large", 1, large);
const POLLER: Model = Model::new("poller", 2, poller);

#[test]
fn pair_passes() {
    PAIR.passes(&["somebody", "nobody"]);
}

#[test]
fn parcels_passes() {
    PARCELS.passes(&["somebody", "nobody"]);
}

#[test]
fn semaphore_passes() {
    SEMAPHORE.passes(&["somebody", "nobody"]);
}

#[test]
fn sum_passes() {
    SUM.passes(&["somebody", "nobody"]);
}

#[test]
fn full_passes() {
    FULL.passes(&["somebody", "nobody"]);
}

#[test]
fn large_passes() {
    LARGE.passes(&["somebody", "nobody"]);
}

#[test]
fn poller_passes() {
    POLLER.passes(&[]);
}

#[test]
fn barrier_after_change_is_needed() {
    for model in [PAIR, SEMAPHORE, SUM, LARGE, POLLER] {
        model.fails(Part::BarrierAfterChange, ASLEEP);
    }
}

#[test]
fn barrier_in_announce_is_needed() {
    for model in [PAIR, SEMAPHORE, SUM, LARGE] {
        model.fails(Fault::NoBarrierInAnnounce, ASLEEP);
    }
}

#[test]
fn barrier_in_poll_wait_is_needed() {
    POLLER.fails(Fault::NoBarrierInPollWait, ASLEEP);
}

#[test]
fn release_is_needed() {
    PARCELS.fails(Part::StoreRelease, SHARED);
}

#[test]
fn order_is_needed() {
    for (fault, symptom) in [
        (Fault::AnnounceBeforeQueueing, ASLEEP),
        (Fault::LookBeforeQueueing, ASLEEP),
        (Fault::LookBeforeAnnouncing, ASLEEP),
        (Fault::RemoveBeforeWaking, SHARED),
        (Fault::StayOnQueue, SHARED),
    ] {
        SEMAPHORE.fails(fault, symptom);
    }
}
