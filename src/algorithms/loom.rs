// SPDX-License-Identifier: GPL-2.0

//! The counter and those who wait for it, in every interleaving and with every outdated value that
//! a load may give, up to a number of preemptions.
//!
//! The queue is a model of `WaitQueue` (src/abstractions/wait_queue.rs), step by step: its lock,
//! the look at its head without the lock, the task's state, the sleep. A wake-up that gets lost
//! leaves a task asleep for ever, which loom reports as a deadlock. What else is shared is in an
//! `Rc`: all of a model's threads are coroutines on one of the host's.
//!
//! For each thing that keeps a wake-up from being lost there is a run without it, which has to
//! fail.

use ipcdemo_algorithms::{
    counter::{Change, Count, Mode, Queue, Word},
    fault,
};
use loom::{
    cell::UnsafeCell,
    model::Builder,
    sync::{
        atomic::{
            fence, AtomicBool,
            Ordering::{Acquire, Relaxed, Release, SeqCst},
        },
        Condvar, Mutex, MutexGuard,
    },
    thread,
};
use std::{
    convert::Infallible,
    panic,
    rc::Rc,
    sync::{atomic::AtomicUsize, Arc, Once},
};

/// What is broken in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// No barrier between the change of the word and the look at the queue.
    NoBarrierAfterChange,
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
}

/// What the scheduler knows of a task.
struct Task {
    /// `p->pi_lock` and the run queue's lock.
    lock: Mutex<()>,
    runnable: Condvar,
    /// `p->__state`: changed by the task without the lock.
    sleeping: AtomicBool,
}

impl Task {
    fn new() -> Self {
        Self {
            lock: Mutex::new(()),
            runnable: Condvar::new(),
            sleeping: AtomicBool::new(false),
        }
    }

    /// C: `__set_current_state(TASK_RUNNING)`.
    fn run(&self) {
        self.sleeping.store(false, Relaxed);
    }

    /// C: `schedule`.
    fn schedule(&self) {
        let mut lock = self.lock.lock().unwrap();
        // smp_mb__after_spinlock
        fence(SeqCst);
        while self.sleeping.load(Relaxed) {
            lock = self.runnable.wait(lock).unwrap();
        }
    }

    /// Tells whether the task was asleep, or about to be.
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
    /// Whether `entry.next` is another than itself. Changed under the queue's lock.
    on: AtomicBool,
    /// Stands for the entry's memory: loom reports who touches it after it is gone.
    frame: UnsafeCell<()>,
}

/// `struct poll_wqueues`, with its one `poll_table_entry`.
struct Poller {
    key: Change,
    triggered: AtomicBool,
}

impl Entry {
    fn new(task: &Rc<Task>, poller: Option<Poller>) -> Rc<Self> {
        Rc::new(Self {
            task: task.clone(),
            poller,
            on: AtomicBool::new(false),
            frame: UnsafeCell::new(()),
        })
    }

    /// The wake function. Tells whether the entry has to go off the queue.
    ///
    /// C: `autoremove_wake_function`, `pollwake`.
    fn wake(&self, change: Change) -> bool {
        let remove = match &self.poller {
            None => self.task.wake(),
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
        remove
    }
}

/// `struct wait_queue_head`.
struct Head {
    list: Mutex<Vec<Rc<Entry>>>,
    /// Whether `head.next` is another than the head. Changed under the lock.
    active: AtomicBool,
    fault: Option<Fault>,
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

    /// C: `list_add_tail`.
    fn enqueue(&self, list: &mut List<'_>, entry: &Rc<Entry>) {
        entry.on.store(true, Relaxed);
        list.push(entry.clone());
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

    /// C: `finish_wait`.
    fn leave(&self, entry: &Rc<Entry>) {
        entry.task.run();
        if entry.on.load(Acquire) && !self.has(Fault::StayOnQueue) {
            let mut list = self.lock();
            if let Some(index) = list.iter().position(|other| Rc::ptr_eq(other, entry)) {
                self.remove(&mut list, index);
            }
        }
        entry.frame.with_mut(|_| ());
    }
}

/// A task, at the counter.
struct Current {
    word: Rc<Word>,
    head: Rc<Head>,
    task: Rc<Task>,
}

impl Queue for Current {
    type Interrupted = Infallible;

    /// C: `waitqueue_active`.
    fn is_active(&self) -> bool {
        self.head.active.load(Relaxed)
    }

    /// `Guard::wake`.
    fn wake(&self, change: Change) {
        let mut list = self.head.lock();
        let mut index = 0;
        while let Some(entry) = list.get(index).cloned() {
            if self.head.has(Fault::RemoveBeforeWaking) {
                self.head.remove(&mut list, index);
                entry.wake(change);
            } else if entry.wake(change) {
                self.head.remove(&mut list, index);
            } else {
                index += 1;
            }
        }
    }

    /// `WaitQueue::wait_until`.
    fn wait_until<R>(&self, mut condition: impl FnMut() -> Option<R>) -> Result<R, Infallible> {
        if let Some(result) = condition() {
            return Ok(result);
        }
        let order = match self.head.fault {
            Some(Fault::AnnounceBeforeQueueing) => [Step::Announce, Step::Queue, Step::Look],
            Some(Fault::LookBeforeQueueing) => [Step::Look, Step::Queue, Step::Announce],
            Some(Fault::LookBeforeAnnouncing) => [Step::Queue, Step::Look, Step::Announce],
            _ => [Step::Queue, Step::Announce, Step::Look],
        };
        let entry = Entry::new(&self.task, None);
        let result = 'wait: loop {
            // The lock, from going on the queue to the look.
            let mut locked = None;
            for step in order {
                match step {
                    Step::Queue => {
                        let list = locked.insert(self.head.lock());
                        if !list.iter().any(|other| Rc::ptr_eq(other, &entry)) {
                            self.head.enqueue(list, &entry);
                        }
                    }
                    Step::Announce => self.announce(),
                    Step::Look => {
                        locked = None;
                        if let Some(result) = condition() {
                            break 'wait result;
                        }
                    }
                }
            }
            drop(locked);
            self.task.schedule();
            if let Some(result) = condition() {
                break result;
            }
        };
        self.head.leave(&entry);
        Ok(result)
    }
}

/// A step of somebody who waits.
#[derive(Clone, Copy)]
enum Step {
    Queue,
    Announce,
    Look,
}

impl Current {
    fn new(word: &Rc<Word>, head: &Rc<Head>) -> Self {
        Self {
            word: word.clone(),
            head: head.clone(),
            task: Rc::new(Task::new()),
        }
    }

    /// `Wait::announce`.
    fn announce(&self) {
        self.task.sleeping.store(true, Relaxed);
        if !self.head.has(Fault::NoBarrierInAnnounce) {
            fence(SeqCst);
        }
    }

    fn read(&self, mode: Mode) -> u64 {
        let Ok(taken) = self.word.read(mode, self, true);
        taken.unwrap()
    }

    fn write(&self, value: u64) {
        let Ok(written) = self.word.write(value, self, true);
        written.unwrap();
    }

    /// Waits by poll for something to read.
    ///
    /// C: `do_poll` in `fs/select.c`, with one file.
    fn poll_in(&self) {
        let entry = Entry::new(
            &self.task,
            Some(Poller {
                key: Change::Added,
                triggered: AtomicBool::new(false),
            }),
        );
        // poll_wait
        self.head.enqueue(&mut self.head.lock(), &entry);
        if !self.head.has(Fault::NoBarrierInPollWait) {
            fence(SeqCst);
        }
        while !self.word.get().is_readable() {
            self.poll_schedule(entry.poller.as_ref().unwrap());
        }
        // poll_freewait
        self.head.leave(&entry);
    }

    /// C: `poll_schedule_timeout`.
    fn poll_schedule(&self, poller: &Poller) {
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

/// A counter for one run.
struct Counter {
    word: Rc<Word>,
    head: Rc<Head>,
}

impl Counter {
    fn new(fault: Option<Fault>, count: u64) -> Self {
        let counter = Self {
            word: Rc::new(Word::new(Count::new(0))),
            head: Rc::new(Head::new(fault)),
        };
        if count > 0 {
            counter.current().write(count);
        }
        counter
    }

    fn current(&self) -> Current {
        Current::new(&self.word, &self.head)
    }

    fn spawn<R: 'static>(&self, f: impl FnOnce(&Current) -> R + 'static) -> thread::JoinHandle<R> {
        let current = self.current();
        thread::spawn(move || f(&current))
    }

    /// What everybody has left behind.
    fn end(&self) -> u64 {
        assert!(self.head.lock().is_empty(), "an entry is left on the queue");
        self.word.get().get()
    }
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

fn semaphore(fault: Option<Fault>) {
    empty(fault, Mode::Semaphore);
}

fn sum(fault: Option<Fault>) {
    empty(fault, Mode::Sum);
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

/// How often at most loom takes the processor from a thread that could go on, in one interleaving.
/// `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS: usize = 2;

/// Runs `model` in all interleavings, and counts them.
fn try_all(count: &Arc<AtomicUsize>, model: impl Fn() + Send + Sync + 'static) {
    let count = count.clone();
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
}

/// Runs `model`, which has to pass.
fn passes(name: &str, model: impl Fn(Option<Fault>) + Send + Sync + 'static) {
    let count = Arc::default();
    try_all(&count, move || model(None));
    println!("model {name}: {} interleavings", count.load(Relaxed));
}

/// Runs `model` with a fault, which has to fail with a message that has `symptom` in it.
fn fails(
    name: &str,
    fault: Fault,
    symptom: &str,
    model: impl Fn(Option<Fault>) + Send + Sync + 'static,
) {
    const THREAD: &str = "broken";
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() != Some(THREAD) {
                others(info);
            }
        }));
    });

    let count = Arc::default();
    let run = std::thread::Builder::new().name(THREAD.into()).spawn({
        let count = Arc::clone(&count);
        move || {
            fault::NO_BARRIER_AFTER_CHANGE.set(fault == Fault::NoBarrierAfterChange);
            try_all(&count, move || model(Some(fault)));
        }
    });
    let result = run.unwrap().join();
    let count = count.load(Relaxed);
    let Err(panic) = result else {
        panic!("model {name} passes with {fault:?}, in {count} interleavings");
    };
    let message = match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => panic.downcast_ref::<&str>().unwrap().to_string(),
    };
    assert!(message.contains(symptom), "{message}");
    println!("model {name}: {fault:?} fails in number {count}");
}

/// The symptom of a wake-up that got lost.
const ASLEEP: &str = "deadlock";

#[test]
fn semaphore_passes() {
    passes("semaphore", semaphore);
}

#[test]
fn sum_passes() {
    passes("sum", sum);
}

#[test]
fn full_passes() {
    passes("full", full);
}

#[test]
fn poller_passes() {
    passes("poller", poller);
}

#[test]
fn barrier_after_change_is_needed() {
    fails("semaphore", Fault::NoBarrierAfterChange, ASLEEP, semaphore);
    fails("sum", Fault::NoBarrierAfterChange, ASLEEP, sum);
    fails("full", Fault::NoBarrierAfterChange, ASLEEP, full);
    fails("poller", Fault::NoBarrierAfterChange, ASLEEP, poller);
}

#[test]
fn barrier_in_announce_is_needed() {
    fails("semaphore", Fault::NoBarrierInAnnounce, ASLEEP, semaphore);
    fails("sum", Fault::NoBarrierInAnnounce, ASLEEP, sum);
    fails("full", Fault::NoBarrierInAnnounce, ASLEEP, full);
}

#[test]
fn barrier_in_poll_wait_is_needed() {
    fails("poller", Fault::NoBarrierInPollWait, ASLEEP, poller);
}

#[test]
fn order_is_needed() {
    for (fault, symptom) in [
        (Fault::AnnounceBeforeQueueing, ASLEEP),
        (Fault::LookBeforeQueueing, ASLEEP),
        (Fault::LookBeforeAnnouncing, ASLEEP),
        (Fault::RemoveBeforeWaking, "Causality violation"),
        (Fault::StayOnQueue, "Causality violation"),
    ] {
        fails("semaphore", fault, symptom, semaphore);
    }
}
