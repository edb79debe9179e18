// SPDX-License-Identifier: GPL-2.0

//! Tasks that wait for a word and tasks that change it, in every interleaving and with every outdated value that
//! a load may give, up to a number of preemptions: in `loom_counter.rs` the counter, in `loom_cases.rs` the pipe, in
//! `loom_holders.rs` its holders.
//!
//! The queue is a model of `WaitQueue` (src/abstractions/wait_queue.rs), step by step: its lock,
//! the look at its head without the lock, the task's state, the sleep. A wake-up that gets lost
//! leaves a task asleep forever, which loom reports as a deadlock. The rest of the shared state is in an
//! `Rc`: all of a model's threads are coroutines on one of the host's.
//!
//! Each wait can be interrupted, as in the kernel. A model kills a task from another thread, so that the
//! signal lands at any point of what the task does (`loom_killed.rs`). After that the task may leave with
//! nothing, but it must not leave with what was for another: a wake-up, a turn, a claim, a byte.
//!
//! For each thing that keeps a wake-up from being lost there is a run without it, which has to
//! fail.

mod loom_cases;
mod loom_counter;
mod loom_holders;
mod loom_killed;
mod loom_pipe;
mod loom_ring;
mod loom_runs;

use ipcdemo_algorithms::{counter::Change, fault::Part, loom_atomic::AtomicBool};
use loom::{
    cell::{Cell, UnsafeCell},
    sync::{
        atomic::{
            fence,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
        Condvar, Mutex, MutexGuard,
    },
};
use loom_holders::HolderFault;
use loom_pipe::PipeFault;
use loom_ring::RingFault;
use loom_runs::seen;
use std::rc::Rc;

/// The fault of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The word's accesses lack a part of their order.
    Without(Part),
    /// No barrier between going on the queue and the look at the word.
    NoBarrierInAnnounce,
    /// As before, for a poller.
    NoBarrierInPollWait,
    /// The barrier comes before going on the queue.
    AnnounceBeforeQueueing,
    /// The last look at the word comes before going on the queue.
    LookBeforeQueueing,
    /// The last look at the word comes before the task says that it means to sleep.
    LookBeforeAnnouncing,
    /// A wake-up touches the entry after taking it off the queue.
    RemoveBeforeWaking,
    /// A task does not take its entry off the queue.
    StayOnQueue,
    /// The last look for a signal comes before the task says that it means to sleep.
    SignalBeforeAnnouncing,
    /// A killed task keeps the exclusive wake-up that took it.
    NotPassedOn,
    /// Something about the ring.
    Ring(RingFault),
    /// Something about the pipe.
    Pipe(PipeFault),
    /// Something about who has it open.
    Holder(HolderFault),
}

impl From<Part> for Fault {
    fn from(part: Part) -> Self {
        Self::Without(part)
    }
}

impl From<RingFault> for Fault {
    fn from(fault: RingFault) -> Self {
        Self::Ring(fault)
    }
}

impl From<PipeFault> for Fault {
    fn from(fault: PipeFault) -> Self {
        Self::Pipe(fault)
    }
}

impl From<HolderFault> for Fault {
    fn from(fault: HolderFault) -> Self {
        Self::Holder(fault)
    }
}

/// A task was killed before it got what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Killed;

/// The scheduler's view of a task.
struct Task {
    /// `p->pi_lock` and the run queue's lock.
    lock: Mutex<()>,
    runnable: Condvar,
    /// `p->__state`: changed by the task without the lock.
    sleeping: AtomicBool,
    /// `TIF_SIGPENDING`, with a signal that ends every wait. None if the model does not kill the task.
    killed: Option<AtomicBool>,
}

impl Task {
    fn new() -> Self {
        Self {
            lock: Mutex::new(()),
            runnable: Condvar::new(),
            sleeping: AtomicBool::new(false),
            killed: None,
        }
    }

    /// One that can be killed.
    fn mortal() -> Self {
        Self {
            killed: Some(AtomicBool::new(false)),
            ..Self::new()
        }
    }

    /// C: `signal_wake_up`.
    fn kill(&self) {
        let killed = self.killed.as_ref().expect("an immortal task");
        killed.store(true, Relaxed);
        self.wake();
    }

    /// `Wait::over`.
    ///
    /// C: `signal_pending_state`.
    fn is_killed(&self) -> bool {
        (self.killed.as_ref()).is_some_and(|killed| killed.load(Relaxed))
    }

    /// C: `__set_current_state(TASK_RUNNING)`.
    fn run(&self) {
        self.sleeping.store(false, Relaxed);
    }

    /// The kernel's looks for a signal once more. That is left out: the wait's own look has to do.
    ///
    /// C: `schedule`.
    fn schedule(&self) {
        let mut lock = self.lock.lock().unwrap();
        // smp_mb__after_spinlock
        fence(SeqCst);
        while self.sleeping.load(Relaxed) {
            lock = self.runnable.wait(lock).unwrap();
        }
    }

    /// Returns whether the task was asleep, or about to be.
    ///
    /// C: `try_to_wake_up`.
    fn wake(&self) -> bool {
        let _lock = self.lock.lock().unwrap();
        // smp_mb__after_spinlock
        fence(SeqCst);
        if !self.sleeping.load(Relaxed) {
            return false;
        }
        self.sleeping.store(false, Relaxed);
        self.runnable.notify_one();
        true
    }
}

/// `struct wait_queue_entry`, of a task that waits or of a poller.
struct Entry {
    task: Rc<Task>,
    poller: Option<Poller>,
    exclusive: bool,
    /// Whether `entry.next` is another than itself. Changed under the queue's lock.
    on: AtomicBool,
    /// The key of the last wake-up that found it, if that counts exclusive entries.
    owed: Cell<Option<Change>>,
    /// Stands for the entry's memory: loom reports who touches it after it is gone.
    frame: UnsafeCell<()>,
}

/// `struct poll_wqueues`, with its one `poll_table_entry`.
struct Poller {
    key: Change,
    triggered: AtomicBool,
}

impl Entry {
    fn new(task: &Rc<Task>, poller: Option<Poller>, exclusive: bool) -> Rc<Self> {
        Rc::new(Self {
            task: task.clone(),
            poller,
            exclusive,
            on: AtomicBool::new(false),
            owed: Cell::new(None),
            frame: UnsafeCell::new(()),
        })
    }

    /// The wake function. Returns whether a task was woken that waits, and has to go off the queue.
    ///
    /// C: `autoremove_wake_function`, `pollwake`.
    fn wake(&self, change: Change, whom: Whom) -> bool {
        let woken = match &self.poller {
            None => {
                self.owed.set((whom != Whom::All).then_some(change));
                self.task.wake()
            }
            Some(poller) => {
                if poller.key == change {
                    // smp_wmb
                    fence(Release);
                    poller.triggered.store(true, Relaxed);
                    self.task.wake();
                }
                false
            }
        };
        self.frame.with(|_| ());
        woken
    }
}

/// `struct wait_queue_head`.
struct Head {
    list: Mutex<Vec<Rc<Entry>>>,
    /// Whether `head.next` is another than the head. Changed under the lock.
    active: AtomicBool,
    fault: Option<Fault>,
}

/// Which exclusive entries a wake-up is for. The other entries are called each time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whom {
    First,
    All,
    /// The first, and no other entry: `Wake::one_more`.
    OneMore,
}

type List<'a> = MutexGuard<'a, Vec<Rc<Entry>>>;

impl Head {
    fn new(fault: Option<Fault>) -> Self {
        Self {
            list: Mutex::new(Vec::new()),
            active: AtomicBool::new(false),
            fault,
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn lock(&self) -> List<'_> {
        self.list.lock().unwrap()
    }

    /// C: `__add_wait_queue`, `__add_wait_queue_entry_tail`.
    fn enqueue(&self, list: &mut List<'_>, entry: &Rc<Entry>) {
        entry.on.store(true, Relaxed);
        let index = if entry.exclusive { list.len() } else { 0 };
        list.insert(index, entry.clone());
        // For what is read of it, a store of the same value is none.
        if list.len() == 1 {
            self.active.store(true, Relaxed);
        }
    }

    /// C: `list_del_init_careful`.
    fn remove(&self, list: &mut List<'_>, index: usize) {
        let entry = list.remove(index);
        if list.is_empty() {
            self.active.store(false, Relaxed);
        }
        entry.on.store(false, Release);
    }

    /// Returns whether a wake-up had taken the entry off.
    ///
    /// C: `finish_wait`.
    fn leave(&self, entry: &Rc<Entry>) -> bool {
        entry.task.run();
        let off = !entry.on.load(Acquire)
            || !self.has(Fault::StayOnQueue) && self.dequeue(&mut self.lock(), entry);
        entry.frame.with_mut(|_| ());
        off
    }

    /// `TaskEntry::dequeue`.
    fn dequeue(&self, list: &mut List<'_>, entry: &Rc<Entry>) -> bool {
        let index = list.iter().position(|other| Rc::ptr_eq(other, entry));
        if let Some(index) = index {
            self.remove(list, index);
        }
        index.is_none()
    }

    fn end(&self) {
        assert!(self.lock().is_empty(), "an entry is left on the queue");
    }
}

/// A task at a queue, to wait or to wake.
struct Visitor {
    head: Rc<Head>,
    task: Rc<Task>,
}

impl Visitor {
    fn new(head: &Rc<Head>, task: &Rc<Task>) -> Self {
        Self {
            head: head.clone(),
            task: task.clone(),
        }
    }

    /// C: `waitqueue_active`.
    fn is_active(&self) -> bool {
        self.head.active.load(Relaxed)
    }

    fn wake(&self, change: Change, whom: Whom) {
        self.wake_locked(&mut self.head.lock(), change, whom);
    }

    /// `Guard::wake`. Returns whether it woke a task that waits exclusively.
    fn wake_locked(&self, list: &mut List<'_>, change: Change, whom: Whom) -> bool {
        let mut woken = false;
        let mut index = 0;
        while let Some(entry) = list.get(index).cloned() {
            if whom == Whom::OneMore && !entry.exclusive {
                index += 1;
            } else if self.head.has(Fault::RemoveBeforeWaking) {
                self.head.remove(list, index);
                entry.wake(change, whom);
            } else if entry.wake(change, whom) {
                self.head.remove(list, index);
                woken |= entry.exclusive;
                if entry.exclusive && whom != Whom::All {
                    break;
                }
            } else {
                index += 1;
            }
        }
        woken
    }

    /// `Guard::pass_on`. Returns whether another task was woken, if one was owed that.
    fn pass_on(&self, list: &mut List<'_>, entry: &Entry) -> Option<bool> {
        let owed = entry.owed.get().filter(|_| entry.exclusive)?;
        if self.head.has(Fault::NotPassedOn) {
            return None;
        }
        let woken = self.wake_locked(list, owed, Whom::OneMore);
        seen(if woken {
            "passed on"
        } else {
            "passed on to nobody"
        });
        Some(woken)
    }

    /// `WaitQueue::wait_until`.
    fn wait_until<R>(
        &self,
        exclusive: bool,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Result<R, Killed> {
        use Step::{Announce, Look, LookForSignal, Queue};
        let order = match self.head.fault {
            Some(Fault::AnnounceBeforeQueueing) => [Announce, Queue, Look, LookForSignal],
            Some(Fault::LookBeforeQueueing) => [Look, Queue, Announce, LookForSignal],
            Some(Fault::LookBeforeAnnouncing) => [Queue, Look, Announce, LookForSignal],
            Some(Fault::SignalBeforeAnnouncing) => [LookForSignal, Queue, Announce, Look],
            _ => [Queue, Announce, Look, LookForSignal],
        };
        let entry = Entry::new(&self.task, None, exclusive);
        let mut slept = false;
        let mut taken = false;
        let ended = 'wait: loop {
            // The lock, from going on the queue to the look.
            let mut locked = None;
            for step in order {
                match step {
                    Queue => {
                        let list = locked.insert(self.head.lock());
                        let off = !list.iter().any(|other| Rc::ptr_eq(other, &entry));
                        if off {
                            self.head.enqueue(list, &entry);
                        }
                        taken = slept && off && exclusive;
                    }
                    Announce => self.announce(),
                    Look => {
                        locked = None;
                        if let Some(result) = condition() {
                            break 'wait Ok(result);
                        }
                    }
                    LookForSignal => {
                        locked = None;
                        if self.task.is_killed() {
                            break 'wait Err(Killed);
                        }
                    }
                }
            }
            drop(locked);
            self.task.schedule();
            slept = true;
            if let Some(result) = condition() {
                break Ok(result);
            }
        };
        let off = self.head.leave(&entry);
        if ended.is_err() {
            seen("killed");
            if taken || off {
                self.pass_on(&mut self.head.lock(), &entry);
            }
        }
        ended
    }

    /// `Guard::sleep`, exclusively; a task that is killed lingers. Fails with what passing on did.
    fn sleep<'a>(&'a self, mut list: List<'a>) -> Result<(), Option<bool>> {
        let entry = Entry::new(&self.task, None, true);
        self.head.enqueue(&mut list, &entry);
        loop {
            self.announce();
            if self.task.is_killed() {
                break;
            }
            drop(list);
            self.task.schedule();
            if !entry.on.load(Acquire) {
                entry.frame.with_mut(|_| ());
                return Ok(());
            }
            list = self.head.lock();
            if !entry.on.load(Relaxed) {
                entry.frame.with_mut(|_| ());
                return Ok(());
            }
        }
        // While it lingers a wake-up can still take it.
        drop(list);
        list = self.head.lock();
        self.task.run();
        let off = self.head.dequeue(&mut list, &entry);
        entry.frame.with_mut(|_| ());
        seen("killed");
        Err(if off {
            self.pass_on(&mut list, &entry)
        } else {
            None
        })
    }

    /// `Wait::announce`.
    fn announce(&self) {
        self.task.sleeping.store(true, Relaxed);
        if !self.head.has(Fault::NoBarrierInAnnounce) {
            fence(SeqCst);
        }
    }

    /// Waits by poll until `look` gives something.
    ///
    /// C: `do_poll` in `fs/select.c`, with one file.
    fn poll<R>(&self, key: Change, mut look: impl FnMut() -> Option<R>) -> R {
        let entry = self.register(key);
        let result = loop {
            match look() {
                Some(result) => break result,
                None => self.poll_schedule(&entry),
            }
        };
        // poll_freewait
        self.head.leave(&entry);
        result
    }

    fn register(&self, key: Change) -> Rc<Entry> {
        let poller = Poller {
            key,
            triggered: AtomicBool::new(false),
        };
        let entry = Entry::new(&self.task, Some(poller), false);
        // poll_wait
        self.head.enqueue(&mut self.head.lock(), &entry);
        if !self.head.has(Fault::NoBarrierInPollWait) {
            fence(SeqCst);
        }
        entry
    }

    /// C: `poll_schedule_timeout`.
    fn poll_schedule(&self, entry: &Entry) {
        let poller = entry.poller.as_ref().unwrap();
        self.task.sleeping.store(true, Relaxed);
        fence(SeqCst);
        if !poller.triggered.load(Relaxed) {
            self.task.schedule();
        }
        self.task.run();
        poller.triggered.store(false, Relaxed);
        fence(SeqCst);
    }
}

/// A step of somebody who waits.
#[derive(Clone, Copy)]
enum Step {
    Queue,
    Announce,
    Look,
    LookForSignal,
}
