// SPDX-License-Identifier: GPL-2.0

//! The holders of a FIFO, in every interleaving: the real `holders.rs`, over a model of the ring with the real word.
//!
//! Each task opens the FIFO, may write its byte and read one, and leaves. Beside the code that it tries the model
//! remembers how many tasks have the FIFO open, in which life each byte was written, and which task pays. By that
//! it sees that no life ends while a task has the FIFO open; that between two lives the ring is cleared once, and
//! no byte comes too late or gets lost; that each life is charged once, for the capacity that the ring has; and that
//! a task that is killed is no holder, and no obstacle to others.

use super::{
    loom_killed::Victim,
    loom_ring::{Both, PageRing},
    loom_runs::{seen, Model},
    Fault, Head, Killed, List, Task,
};
use ipcdemo_algorithms::holders::{clear_in_turn, join, try_leave, Held, Holders, Left};
use loom::thread::{self, JoinHandle};
use std::{
    cell::{Cell, RefCell, RefMut},
    collections::BTreeMap,
    mem::{replace, take},
    ops::{Deref, DerefMut},
    rc::Rc,
};

/// The number of the task that comes when all others have left.
const LAST: u8 = 9;

/// The slots that a FIFO has between two lives, at most.
const USUAL: u32 = 2;

/// The fault of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HolderFault {
    /// A ring that somebody has the claims of is taken for pristine.
    PristineThoughClaimed,
    /// The ring is not cleared.
    NotCleared,
    /// Nobody gives the charge back.
    ChargeKept,
    /// A signal ends the last holder's wait.
    LastInterrupted,
}

const OPEN: &str = "a life ends while somebody has it open";
const CLEARED: &str = "the ring is cleared while somebody has it open";
const CLEARED_TWICE: &str = "the ring is cleared twice after one life";
const EARLIER: &str = "there is something of an earlier life inside";
const LOST: &str = "a byte is lost";
const CAPACITY: &str = "another capacity is charged than there is";
const PAYER: &str = "another task pays than the one that began the life";
const TWICE: &str = "a charge is given back twice";
const LEFT: &str = "somebody is charged, and nobody has it open";

/// The pages that all tasks are charged for.
#[derive(Default)]
struct Ledger {
    slots: Cell<u32>,
    charges: Cell<u32>,
}

impl Ledger {
    /// How many charges there are, and for how many slots.
    fn charges(&self) -> (u32, u32) {
        (self.charges.get(), self.slots.get())
    }
}

struct Charge {
    ledger: Rc<Ledger>,
    /// The number of the task that pays.
    payer: u8,
    slots: u32,
}

impl Charge {
    fn new(ledger: &Rc<Ledger>, payer: u8, slots: u32) -> Self {
        ledger.slots.set(ledger.slots.get() + slots);
        let charges = u32::from(slots != 0);
        ledger.charges.set(ledger.charges.get() + charges);
        Self {
            ledger: ledger.clone(),
            payer,
            slots,
        }
    }

    /// `Charge::change`.
    fn change(&mut self, slots: u32) {
        let all = &self.ledger.slots;
        all.set(all.get() - replace(&mut self.slots, slots) + slots);
    }

    fn give_back(&mut self) {
        let Ledger { slots, charges } = &*self.ledger;
        slots.set(slots.get() - take(&mut self.slots));
        charges.set(charges.get() - 1);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.slots != 0 {
            self.give_back();
        }
    }
}

struct Fifo {
    ring: PageRing,
    /// The queue whose lock guards the holders.
    rd_wait: Head,
    holders: RefCell<Holders<Charge>>,
    ledger: Rc<Ledger>,
    /// How many tasks have it open for sure: have opened it, and not begun to leave.
    open: Cell<u32>,
    /// How many lives have ended.
    ended: Cell<u32>,
    /// How many had ended when the ring was cleared last.
    cleared: Cell<u32>,
    /// In which life each task's byte was written.
    written: RefCell<BTreeMap<u8, u32>>,
    /// The latest life that somebody has looked at, and who paid.
    paid: Cell<(u32, u8)>,
    /// Whether some task has changed the capacity, which others may not see yet.
    enlarged: Cell<bool>,
    fault: Option<Fault>,
}

impl Fifo {
    /// One that nobody has open.
    fn new(fault: Option<Fault>) -> Rc<Self> {
        Self::with_files(fault, 0, 0)
    }

    /// One that has so many files, for which somebody is charged.
    fn with_files(fault: Option<Fault>, files: u32, slots: u32) -> Rc<Self> {
        let ledger = Rc::new(Ledger::default());
        let charge = Charge::new(&ledger, 0, slots);
        Rc::new(Self {
            ring: PageRing::new(fault, slots.max(1)),
            rd_wait: Head::new(fault),
            holders: RefCell::new(Holders::new(files, charge)),
            ledger,
            open: Cell::new(files),
            ended: Cell::new(0),
            cleared: Cell::new(0),
            written: RefCell::default(),
            paid: Cell::new((0, 0)),
            enlarged: Cell::new(false),
            fault,
        })
    }

    fn current(self: &Rc<Self>, number: u8, slots: u32) -> Current {
        self.current_as(&Rc::new(Task::new()), number, slots)
    }

    fn current_as(self: &Rc<Self>, task: &Rc<Task>, number: u8, slots: u32) -> Current {
        Current {
            fifo: self.clone(),
            task: task.clone(),
            number,
            slots,
        }
    }

    /// Has task `number`, which is charged for so many slots, run `f`.
    fn spawn(
        self: &Rc<Self>,
        number: u8,
        slots: u32,
        f: impl FnOnce(&Current) + 'static,
    ) -> JoinHandle<()> {
        let current = self.current(number, slots);
        thread::spawn(move || f(&current))
    }

    fn has(&self, fault: HolderFault) -> bool {
        self.fault == Some(Fault::Holder(fault))
    }

    /// All have left. Nobody pays, nothing is inside, and another life is as any other.
    fn end(self: &Rc<Self>) {
        seen(["no life", "one life", "two lives", "three lives"][self.ended.get() as usize]);
        assert_eq!(self.ledger.charges(), (0, 0), "{LEFT}");
        self.enlarged.set(false);
        let last = self.current(LAST, 1);
        last.open().unwrap();
        last.write();
        last.read();
        assert_eq!(self.ledger.charges(), (1, 1), "{LEFT}");
        last.leave();
        self.end_for_good();
    }

    /// Nobody opens it again.
    fn end_for_good(&self) {
        assert_eq!(self.ledger.charges(), (0, 0), "{LEFT}");
        assert!(self.ring.max_usage() <= USUAL, "{CAPACITY}");
        self.ring.end();
    }
}

/// The lock, held.
struct Locked<'a> {
    holders: RefMut<'a, Holders<Charge>>,
    _list: List<'a>,
}

impl Deref for Locked<'_> {
    type Target = Holders<Charge>;

    fn deref(&self) -> &Self::Target {
        &self.holders
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.holders
    }
}

/// A task, at the FIFO.
struct Current {
    fifo: Rc<Fifo>,
    task: Rc<Task>,
    /// The name of the task, and the bytes that it writes.
    number: u8,
    /// The capacity that it is charged for.
    slots: u32,
}

impl Held for Current {
    type Charge = Charge;
    type Account = ();
    type Idle = ();
    type Locked<'a> = Locked<'a>;
    type Both<'a> = Both<'a>;
    type Error = Killed;

    const USUAL_SLOTS: u32 = USUAL;

    fn lock(&self) -> Locked<'_> {
        let list = self.fifo.rd_wait.lock();
        Locked {
            holders: self.fifo.holders.borrow_mut(),
            _list: list,
        }
    }

    fn is_pristine(&self) -> bool {
        let state = self.fifo.ring.state();
        if self.fifo.has(HolderFault::PristineThoughClaimed) {
            return state.end() == 0;
        }
        state.is_pristine()
    }

    fn is_idle(&self) -> bool {
        self.fifo.ring.state().is_idle()
    }

    fn max_usage(&self) -> u32 {
        self.fifo.ring.max_usage()
    }

    fn both<R>(&self, f: impl FnOnce(&mut Both<'_>) -> R) -> Result<R, Killed> {
        self.fifo.ring.both(&self.task, f)
    }

    fn both_endlessly<R>(&self, f: impl FnOnce(&mut Both<'_>) -> R) -> Result<R, Killed> {
        if self.fifo.has(HolderFault::LastInterrupted) {
            return self.fifo.ring.both(&self.task, f);
        }
        // No signal wakes a task that sleeps so.
        self.fifo.ring.both(&Rc::new(Task::new()), f)
    }

    fn try_both<R>(&self, f: impl FnOnce(&mut Both<'_>) -> R) -> Option<R> {
        self.fifo.ring.try_both(&self.task, f)
    }

    fn resize(&self, both: &mut Both<'_>, slots: u32) -> Result<(), Killed> {
        seen("resized");
        both.resize(slots);
        Ok(())
    }

    fn clear(&self, both: &mut Both<'_>) {
        assert_eq!(self.fifo.open.get(), 0, "{CLEARED}");
        let ended = self.fifo.ended.get();
        assert_ne!(self.fifo.cleared.replace(ended), ended, "{CLEARED_TWICE}");
        if !self.fifo.has(HolderFault::NotCleared) {
            both.clear();
        }
    }

    fn account(&self) -> Result<(), Killed> {
        Ok(())
    }

    fn charge(&self, (): &()) -> Result<Charge, Killed> {
        Ok(Charge::new(&self.fifo.ledger, self.number, self.slots))
    }

    fn slots(charge: &Charge) -> u32 {
        charge.slots
    }

    fn end(&self, charge: &mut Charge) -> Option<()> {
        assert_eq!(self.fifo.open.get(), 0, "{OPEN}");
        assert_ne!(charge.slots, 0, "{TWICE}");
        self.fifo.ended.set(self.fifo.ended.get() + 1);
        if !self.fifo.has(HolderFault::ChargeKept) {
            charge.give_back();
        }
        None
    }
}

impl Current {
    fn open(&self) -> Result<(), Killed> {
        join(self)?;
        self.fifo.open.set(self.fifo.open.get() + 1);
        self.look();
        Ok(())
    }

    fn leave(&self) {
        self.look();
        let fifo = &self.fifo;
        fifo.open.set(fifo.open.get() - 1);
        let left = try_leave(self, self.lock(), || false);
        self.finish_leaving(left);
    }

    /// `InodeOfReleased::goes`: nothing leads to the pipe but its files.
    fn leave_pipe(&self) {
        let fifo = &self.fifo;
        fifo.open.set(fifo.open.get() - 1);
        let goes = || {
            seen("goes");
            true
        };
        let left = try_leave(self, self.lock(), goes);
        self.finish_leaving(left);
    }

    fn finish_leaving(&self, left: Left<()>) {
        if let Left::ToClear = left {
            seen("waits to leave");
            let left = clear_in_turn(self);
            assert!(!matches!(left, Left::ToClear));
        }
    }

    /// While this task has it open, one task pays for what there is.
    fn look(&self) {
        let fifo = &self.fifo;
        let holders = self.lock();
        let charge = &holders.charge;
        let (life, payer) = fifo.paid.replace((fifo.ended.get(), charge.payer));
        if life == fifo.ended.get() && payer != 0 {
            assert_eq!(payer, charge.payer, "{PAYER}");
        }
        if !fifo.enlarged.get() {
            assert_eq!(charge.slots, fifo.ring.max_usage(), "{CAPACITY}");
        }
    }

    fn write(&self) {
        let fifo = &self.fifo;
        let wrote = fifo.ring.write(&self.task, |writer| {
            let life = fifo.ended.get();
            fifo.written.borrow_mut().insert(self.number, life);
            let mut from = &[self.number][..];
            writer.merge(&mut from);
            from.is_empty() || writer.push(&mut from).is_ok()
        });
        assert!(wrote.is_ok_and(|(written, _)| written), "there is no room");
    }

    fn read(&self) {
        let fifo = &self.fifo;
        let read = fifo
            .ring
            .read(&self.task, |reader| reader.take(1, || false, |_| ()));
        let Ok(&[byte]) = read.as_deref() else {
            panic!("{LOST}");
        };
        let life = fifo.written.borrow_mut().remove(&byte);
        assert_eq!(life, Some(fifo.ended.get()), "{EARLIER}");
    }

    fn come_and_go(&self) {
        self.open().unwrap();
        self.leave();
    }

    fn leave_a_byte(&self) {
        self.open().unwrap();
        self.write();
        self.leave();
    }

    fn talk_to_itself(&self) {
        self.open().unwrap();
        self.write();
        self.read();
        self.leave();
    }

    /// `Pipe::set_size`.
    fn set_size(&self, slots: u32) {
        let fifo = &self.fifo;
        let resized = fifo.ring.both(&self.task, |both| {
            fifo.enlarged.set(true);
            self.lock().charge.change(slots);
            both.resize(slots);
        });
        resized.unwrap();
    }
}

/// Runs what tasks 1 and 2 do, which are charged for different capacities.
fn run_two(
    fifo: &Rc<Fifo>,
    one: impl FnOnce(&Current) + 'static,
    two: impl FnOnce(&Current) + 'static,
) {
    let one = fifo.spawn(1, USUAL, one);
    let two = fifo.spawn(2, 1, two);
    one.join().unwrap();
    two.join().unwrap();
    fifo.end();
}

/// Two come and go, and write nothing.
const IN_PASSING: Model = Model::new("in_passing", 3, |fault| {
    run_two(
        &Fifo::new(fault),
        Current::come_and_go,
        Current::come_and_go,
    );
});

/// One comes and goes, while another one writes and reads.
const WRITTEN: Model = Model::new("written", 2, |fault| {
    run_two(
        &Fifo::new(fault),
        Current::come_and_go,
        Current::talk_to_itself,
    );
});

/// One leaves something behind when it goes, while another one writes and reads.
const REOPENED: Model = Model::new("reopened", 2, |fault| {
    run_two(
        &Fifo::new(fault),
        Current::leave_a_byte,
        Current::talk_to_itself,
    );
});

/// One has it open while two others come and go: it is one life.
const HELD: Model = Model::new("held", 2, |fault| {
    let fifo = Fifo::new(fault);
    let current = fifo.current(1, USUAL);
    current.open().unwrap();
    let others = [2, 3].map(|number| fifo.spawn(number, 1, Current::come_and_go));
    current.write();
    current.read();
    others.map(|other| other.join().unwrap());
    assert_eq!(fifo.ended.get(), 0, "{OPEN}");
    current.leave();
    fifo.end();
});

/// Three come and go, two of which leave something behind.
const THREE: Model = Model::new("three", 1, |fault| {
    let fifo = Fifo::new(fault);
    let others = [1, 2].map(|number| fifo.spawn(number, USUAL, Current::leave_a_byte));
    fifo.current(3, 1).talk_to_itself();
    others.map(|other| other.join().unwrap());
    fifo.end();
});

/// The first one makes it larger, while another one comes and goes.
const ENLARGED: Model = Model::new("enlarged", 2, |fault| {
    let fifo = Fifo::new(fault);
    let current = fifo.current(1, USUAL);
    current.open().unwrap();
    let other = fifo.spawn(2, 1, Current::leave_a_byte);
    current.set_size(2 * USUAL);
    current.leave();
    other.join().unwrap();
    fifo.end();
});

/// A task is killed while it opens the FIFO, as another one comes and goes.
const KILLED: Model = Model::new("killed_holder", 2, |fault| {
    let fifo = Fifo::new(fault);
    let victim = Victim::spawn(
        |task| fifo.current_as(task, 1, USUAL),
        |current| current.open().map(|()| current.leave()),
    );
    fifo.current(2, 1).talk_to_itself();
    let _ = victim.join();
    fifo.end();
});

/// A task opens and leaves the FIFO after it was killed, as another one comes and goes.
const LEAVES_KILLED: Model = Model::new("leaves_killed", 3, |fault| {
    let fifo = Fifo::new(fault);
    let task = Rc::new(Task::mortal());
    task.kill();
    let victim = fifo.current_as(&task, 1, USUAL);
    let victim = thread::spawn(move || victim.open().map(|()| victim.leave()));
    fifo.current(2, 1).come_and_go();
    let _ = victim.join().unwrap();
    fifo.end();
});

/// A pipe without a name: both ends leave, and nobody comes again.
const PIPE: Model = Model::new("pipe", 2, |fault| {
    let pipe = Fifo::with_files(fault, 2, USUAL);
    let other = pipe.spawn(1, USUAL, |current| {
        current.write();
        current.read();
        current.leave_pipe();
    });
    pipe.current(2, USUAL).leave_pipe();
    other.join().unwrap();
    pipe.end_for_good();
});

#[test]
fn lives_pass() {
    IN_PASSING.passes(&["one life", "two lives", "waits to leave", "resized"]);
    REOPENED.passes(&["one life", "two lives", "waits to leave", "resized"]);
    WRITTEN.passes(&["one life", "two lives", "waits to leave", "resized"]);
    HELD.passes(&["one life"]);
    THREE.passes(&["one life", "two lives", "three lives"]);
    ENLARGED.passes(&["one life", "two lives"]);
    PIPE.passes(&["goes"]);
}

#[test]
fn a_killed_task_is_no_holder() {
    KILLED.passes(&["killed for both", "waits to leave"]);
    LEAVES_KILLED.passes(&["killed for both", "waits to leave"]);
}

#[test]
fn all_that_the_holders_stand_on_is_needed() {
    IN_PASSING.fails(HolderFault::PristineThoughClaimed, CAPACITY);
    REOPENED.fails(HolderFault::NotCleared, EARLIER);
    IN_PASSING.fails(HolderFault::ChargeKept, LEFT);
    LEAVES_KILLED.fails(HolderFault::LastInterrupted, LEFT);
}
