// SPDX-License-Identifier: GPL-2.0

//! Invariants that hold in every interleaving where a task is killed: it may leave with nothing, but nothing is
//! lost, and no other task sleeps beside what it waits for.

use super::{
    loom_cases::Shared,
    loom_counter::Counter,
    loom_pipe::{Current, PipeFault},
    loom_ring::{RingFault, PAGE},
    loom_runs::{Model, ASLEEP},
    Fault, Head, Killed, Task, Visitor, Whom,
};
use ipcdemo_algorithms::counter::{Change, Count, Mode};
use loom::thread::{self, JoinHandle};
use std::{cell::Cell, rc::Rc};

/// A task, and another one that kills it at some point.
pub(crate) struct Victim<R> {
    victim: JoinHandle<R>,
    killer: JoinHandle<()>,
}

impl<R: 'static> Victim<R> {
    pub(crate) fn spawn<C: 'static>(
        current: impl FnOnce(&Rc<Task>) -> C,
        run: impl FnOnce(&C) -> R + 'static,
    ) -> Self {
        let task = Rc::new(Task::mortal());
        let current = current(&task);
        Self {
            victim: thread::spawn(move || run(&current)),
            killer: thread::spawn(move || task.kill()),
        }
    }

    pub(crate) fn join(self) -> R {
        self.killer.join().unwrap();
        self.victim.join().unwrap()
    }
}

/// Ends a pipe that held `all` when `taken` had not been read yet.
fn end_without(pipe: &Shared, all: &[u8], taken: &[Vec<u8>]) {
    let mut left = all.to_vec();
    for byte in taken.concat() {
        let index = left.iter().position(|&other| other == byte);
        left.remove(index.expect("a byte is read twice"));
    }
    pipe.end(&left);
}

/// Nothing comes but the signal.
const ALONE: Model = Model::new("alone", 3, |fault| {
    let counter = Counter::new(fault, 0);
    let reader = Victim::spawn(
        |task| counter.current_as(task),
        |current| current.read_killably(Mode::Sum),
    );
    assert_eq!(reader.join(), Err(Killed));
    assert_eq!(counter.end(), 0);
});

/// Two sleep for nothing but a wake-up, and one of them is killed.
const SLEEPERS: Model = Model::new("killed_sleeper", 1, |fault| {
    let head = Rc::new(Head::new(fault));
    // How many wake-ups came before a sleeper; guarded by the queue's lock.
    let early = Rc::new(Cell::new(0));
    let sleep = {
        let early = early.clone();
        move |at: &Visitor| {
            let list = at.head.lock();
            match early.get() {
                0 => at.sleep(list),
                count => {
                    early.set(count - 1);
                    Ok(())
                }
            }
        }
    };
    let wake = move |at: &Visitor| {
        let mut list = at.head.lock();
        if !at.wake_locked(&mut list, Change::Added, Whom::First) {
            early.set(early.get() + 1);
        }
    };
    let [other, waker] = [(); 2].map(|()| Visitor::new(&head, &Rc::new(Task::new())));
    let victim = Victim::spawn(|task| Visitor::new(&head, task), sleep.clone());
    let other = thread::spawn(move || sleep(&other));
    let waker = thread::spawn(move || {
        wake(&waker);
        (waker, wake)
    });
    let (waker, wake) = waker.join().unwrap();
    match victim.join() {
        // The wake-up is gone: it was for the victim, or for nobody else at that moment.
        Ok(()) | Err(Some(false)) => wake(&waker),
        Err(None | Some(true)) => (),
    }
    assert_eq!(other.join().unwrap(), Ok(()));
    head.end();
});

/// One of a counter's two readers is killed.
const COUNTED: Model = Model::new("counted", 1, |fault| {
    let counter = Counter::new(fault, 0);
    let victim = Victim::spawn(
        |task| counter.current_as(task),
        |current| current.read_killably(Mode::Semaphore),
    );
    let other = counter.spawn(|current| current.read(Mode::Semaphore));
    let writer = counter.spawn(|current| current.write(2));
    let taken = other.join().unwrap() + victim.join().unwrap_or(0);
    writer.join().unwrap();
    assert_eq!(counter.end(), 2 - taken);
});

/// One of a full counter's two writers is killed.
const NOT_COUNTED: Model = Model::new("not_counted", 1, |fault| {
    let counter = Counter::new(fault, Count::MAX);
    let victim = Victim::spawn(
        |task| counter.current_as(task),
        |current| current.write_killably(1),
    );
    let other = counter.spawn(|current| current.write(1));
    let reader = counter.spawn(|current| [(); 2].map(|()| current.read(Mode::Semaphore)));
    assert_eq!(reader.join().unwrap(), [1, 1]);
    other.join().unwrap();
    let added = 1 + u64::from(victim.join().is_ok());
    assert_eq!(counter.end(), Count::MAX - 2 + added);
});

/// Two readers wait, one of them is killed, and a write is enough for both.
const READERS: Model = Model::new("killed_reader", 1, |fault| {
    let pipe = Shared::new(fault, 1, &[]);
    let victim = Victim::spawn(
        |task| pipe.current_as(task),
        |current| current.read_killably(1).unwrap_or_default(),
    );
    let other = pipe.spawn(|current| current.read(1));
    let writer = pipe.spawn(|current| current.write(&[1, 2]));
    let taken = [other.join().unwrap(), victim.join()];
    writer.join().unwrap().unwrap();
    end_without(&pipe, &[1, 2], &taken);
});

/// Two readers wait, one of them is killed, and a third reader, which did not sleep, has the claim.
const READERS_CLAIM: Model = Model::new("killed_at_readers_claim", 1, |fault| {
    let pipe = Shared::new(fault, 1, &[]);
    let victim = Victim::spawn(
        |task| pipe.current_as(task),
        |current| current.read_killably(1).unwrap_or_default(),
    );
    let other = pipe.spawn(Current::wait_readable);
    let third = pipe.spawn(|current| {
        current.write(&[1, 2]).unwrap();
        current.count();
    });
    other.join().unwrap().unwrap();
    third.join().unwrap();
    end_without(&pipe, &[1, 2], &[victim.join()]);
});

/// Two writers wait, one of them is killed, and a third writer, which did not sleep, has the claim.
const WRITERS_CLAIM: Model = Model::new("killed_at_writers_claim", 1, |fault| {
    let pipe = Shared::new(fault, 1, &[1; PAGE]);
    let victim = Victim::spawn(
        |task| pipe.current_as(task),
        |current| current.write_later(&[2; PAGE]),
    );
    let other = pipe.spawn(Current::wait_writable);
    let third = pipe.spawn(|current| {
        current.resize(2).unwrap();
        current.write_nothing();
    });
    third.join().unwrap();
    let written = victim.join();
    if written > 0 {
        // There is no room for the other.
        assert_eq!(pipe.read(PAGE, PAGE), [1; PAGE]);
    }
    other.join().unwrap().unwrap();
    pipe.end(&[[1; PAGE], [2; PAGE]].concat()[written..][..PAGE]);
});

/// A reader waits for its turn and is killed, and another comes again before the reservation is gone.
const TURN: Model = Model::new("killed_for_a_turn", 2, |fault| {
    let pipe = Shared::new(fault, 1, &[1, 2, 3]);
    let victim = Victim::spawn(
        |task| pipe.current_as(task),
        |current| current.read_killably(1).unwrap_or_default(),
    );
    let mine = pipe.read(2, 1);
    let taken = [mine, victim.join()];
    end_without(&pipe, &[1, 2, 3], &taken);
});

/// A task has the writers' claim and waits for the readers', and is killed.
const BOTH: Model = Model::new("killed_for_both", 2, |fault| {
    let pipe = Shared::new(fault, 2, &[1]);
    let resizer = Victim::spawn(
        |task| pipe.current_as(task),
        |current| current.resize(4).is_ok(),
    );
    assert_eq!(pipe.read(1, 1), [1]);
    pipe.write(&[2]);
    resizer.join();
    pipe.end(&[2]);
});

#[test]
fn a_signal_ends_a_wait() {
    ALONE.passes(&["killed"]);
    ALONE.fails(Fault::NoBarrierInAnnounce, ASLEEP);
    ALONE.fails(Fault::SignalBeforeAnnouncing, ASLEEP);
    ALONE.fails(Fault::StayOnQueue, "an entry is left on the queue");
}

#[test]
fn a_killed_task_leaves_the_count() {
    COUNTED.passes(&["killed"]);
    NOT_COUNTED.passes(&["killed"]);
}

#[test]
fn a_killed_task_passes_its_wake_up_on() {
    READERS.passes(&["killed", "passed on", "passed on to nobody"]);
    READERS.fails(Fault::NotPassedOn, ASLEEP);
    SLEEPERS.passes(&["killed", "passed on", "passed on to nobody"]);
    SLEEPERS.fails(Fault::NotPassedOn, ASLEEP);
}

#[test]
fn a_killed_writer_wakes_the_next() {
    WRITERS_CLAIM.passes(&["killed at the claim", "passed on"]);
    WRITERS_CLAIM.fails(PipeFault::KilledWriterLeaves, ASLEEP);
}

#[test]
fn a_killed_reader_wakes_the_next() {
    READERS_CLAIM.passes(&["killed at the claim", "passed on"]);
    READERS_CLAIM.fails(PipeFault::KilledReaderLeaves, ASLEEP);
}

#[test]
fn a_killed_task_leaves_its_turn() {
    TURN.passes(&["killed", "late"]);
    TURN.fails(RingFault::TurnNotPassed, ASLEEP);
}

#[test]
fn a_killed_task_leaves_its_first_claim() {
    BOTH.passes(&["killed for both", "turn"]);
    BOTH.fails(RingFault::FirstClaimKept, ASLEEP);
    BOTH.fails(RingFault::FirstClaimNotPassed, ASLEEP);
}
