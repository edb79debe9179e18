// SPDX-License-Identifier: GPL-2.0

//! Takes one subject through a case, and notes all that can be seen of it.

use std::fmt;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use ipcdemo_client::CounterFlags;
use ipcdemo_tests::{Signal, Subject, pin, poll_now};
use rustix::event::{PollFlags, epoll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::calls::{Call, Outcome};
use crate::crew::{CONDUCTING, Fence, Worker, schedule};
use crate::operations::{ALL, Case, Events, Operation, WORKERS};
use crate::search;

/// What came of an operation at once.
#[derive(Debug, Eq, PartialEq)]
pub enum Did {
    /// It is left out: see `Who`.
    Nothing,
    /// A worker was told.
    Told,
    /// It returned.
    Got(Outcome),
    /// The text was read.
    Text(String),
}

/// What there is to see after an operation, when everybody sleeps.
#[derive(Eq, PartialEq)]
pub struct Step {
    did: Did,
    /// The workers whose calls are over now.
    returned: [Option<Outcome>; WORKERS.len()],
    /// The others who have a call to make, and the system call they sleep in.
    asleep: [Option<i64>; WORKERS.len()],
    /// How many signals were handled, of those of this case.
    handled: usize,
    poll: Events,
}

impl search::Step for Step {
    fn was_left_out(&self) -> bool {
        self.did == Did::Nothing
    }

    fn asleep(&self) -> usize {
        self.asleep.iter().flatten().count()
    }

    fn returned(&self) -> usize {
        self.returned.iter().flatten().count()
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}; ", self.did)?;
        for ((who, returned), asleep) in WORKERS.iter().zip(&self.returned).zip(&self.asleep) {
            if let Some(outcome) = returned {
                write!(f, "{who:?} got {outcome:?}; ")?;
            }
            if let Some(number) = asleep {
                write!(f, "{who:?} sleeps in call {number}; ")?;
            }
        }
        write!(f, "{} signals handled; {:?}", self.handled, self.poll)
    }
}

/// Longer than a signal takes to be handled on the slowest kernel.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who takes a subject through cases.
pub struct Conductor {
    subject: Subject,
    /// The processor it runs on, and another.
    cpus: [usize; 2],
    crew: [Worker; WORKERS.len()],
    /// What each of them was told last.
    at: [Option<Operation>; WORKERS.len()],
    fence: Fence,
    apart: Option<bool>,
    /// Interrupting and restarting.
    signals: [Signal; 2],
    handled_before: usize,
}

impl search::Conduct for Conductor {
    type Case = Case;
    type Step = Step;

    fn new(subject: Subject, cpus: [usize; 2]) -> Self {
        pin(None, cpus[0]);
        schedule(CONDUCTING);
        Self {
            subject,
            cpus,
            crew: [(); WORKERS.len()].map(|()| Worker::new()),
            fence: Fence::new(),
            at: [None; WORKERS.len()],
            apart: None,
            signals: [Signal::interrupting(), Signal::restarting()],
            handled_before: 0,
        }
    }

    fn conduct(&mut self, case: &Case) -> Vec<Step> {
        self.place(case.apart);
        let mut flags = CounterFlags::empty();
        flags.set(CounterFlags::SEMAPHORE, case.semaphore);
        flags.set(CounterFlags::NONBLOCK, case.nonblocking);
        let stage = Stage::new(self.subject, case.initval, flags);
        self.handled_before = self.handled();

        let mut steps = Vec::with_capacity(case.operations.len() + 2);
        for &operation in &case.operations {
            let did = self.apply(operation, &stage, case.apart);
            steps.push(self.look(did, &stage, case.apart));
        }
        for worker in &self.crew {
            // One that takes a count after all lets others go.
            if worker.is_busy() {
                self.interrupt(worker, &self.signals[0]);
                self.settle(case.apart);
            }
        }
        steps.push(self.look(Did::Told, &stage, case.apart));
        steps.push(self.look(Did::Text(stage.fdinfo()), &stage, case.apart));
        for worker in &mut self.crew {
            // The difference is on record; this worker can take no part in another case.
            if worker.is_busy() {
                *worker = Worker::new();
                self.apart = None;
            }
        }
        steps
    }
}

impl Conductor {
    fn place(&mut self, apart: bool) {
        if self.apart != Some(apart) {
            let cpu = self.cpus[usize::from(apart)];
            self.crew.iter().for_each(|worker| worker.place(cpu));
            self.fence.place(cpu);
            self.apart = Some(apart);
        }
    }

    /// Whether two would sleep on one set. The second is woken by the first, while Main goes on to wake
    /// others: on two processors they run in any order.
    fn shares_a_set(&self, operation: Operation) -> bool {
        let Operation::Wait(_, set) = operation else {
            return false;
        };
        let mut others = self.at.iter().zip(&self.crew);
        others.any(|(at, worker)| {
            matches!(at, Some(Operation::Wait(_, other)) if *other == set) && worker.is_busy()
        })
    }

    fn apply(&mut self, operation: Operation, stage: &Stage, apart: bool) -> Did {
        if let Operation::Signal(who, restart) = operation {
            let worker = &self.crew[who.worker().expect("Main never sleeps")];
            if !worker.is_busy() {
                return Did::Nothing;
            }
            self.interrupt(worker, &self.signals[usize::from(restart)]);
            return Did::Told;
        }
        if operation == Operation::Fdinfo {
            return Did::Text(stage.fdinfo());
        }
        let call = |timeout| Call {
            operation,
            counter: stage.counter.as_raw_fd(),
            sets: stage.sets.each_ref().map(AsRawFd::as_raw_fd),
            timeout,
        };
        match operation.by().worker() {
            // Between the two others may run, or not.
            _ if apart && operation.writes_twice() => Did::Nothing,
            _ if apart && self.shares_a_set(operation) => Did::Nothing,
            Some(worker) if self.crew[worker].is_busy() => Did::Nothing,
            Some(worker) => {
                self.at[worker] = Some(operation);
                self.crew[worker].tell(call(-1));
                Did::Told
            }
            None => Did::Got(stage.without_sleeping(operation, &call(0))),
        }
    }

    /// Signals a worker, and gives it time to handle that: its first frame for a signal may fault
    /// a page in, and the other subject's threads be busy with the same address space. One that
    /// does not handle it is a difference like any other.
    fn interrupt(&self, worker: &Worker, signal: &Signal) {
        let (before, start) = (signal.handled(), Instant::now());
        worker.signal(signal);
        while signal.handled() == before && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn handled(&self) -> usize {
        self.signals.iter().map(Signal::handled).sum()
    }

    /// Lets the workers run until they sleep.
    fn settle(&self, apart: bool) {
        // On one processor with them, their priority sees to it.
        if apart {
            self.fence.wait();
        }
    }

    fn look(&self, did: Did, stage: &Stage, apart: bool) -> Step {
        self.settle(apart);
        let returned = self.crew.each_ref().map(Worker::returned);
        Step {
            did,
            returned,
            asleep: self.crew.each_ref().map(Worker::sleeps_in),
            handled: self.handled() - self.handled_before,
            poll: stage.poll(),
        }
    }
}

/// What there is for one case only.
struct Stage {
    counter: OwnedFd,
    sets: [OwnedFd; 2],
    fdinfo: File,
}

impl Stage {
    fn new(subject: Subject, initval: u32, flags: CounterFlags) -> Self {
        let flags = flags | CounterFlags::CLOEXEC;
        let counter = subject.create(initval, flags.bits()).unwrap();
        let fdinfo = File::open(format!("/proc/self/fdinfo/{}", counter.as_raw_fd())).unwrap();
        Self {
            counter,
            sets: [(); 2].map(|()| epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()),
            fdinfo,
        }
    }

    fn without_sleeping(&self, operation: Operation, call: &Call) -> Outcome {
        if !operation.may_sleep() {
            return call.make();
        }
        let flags = fcntl_getfl(&self.counter).unwrap();
        fcntl_setfl(&self.counter, flags | OFlags::NONBLOCK).unwrap();
        let outcome = call.make();
        fcntl_setfl(&self.counter, flags).unwrap();
        outcome
    }

    fn poll(&self) -> Events {
        let wanted = PollFlags::from_bits_retain(ALL.0 as u16);
        Events(poll_now(&self.counter, wanted).bits().into())
    }

    /// What `/proc` tells of it, but for the names that differ from one to the other.
    fn fdinfo(&self) -> String {
        let mut text = [0; 512];
        let length = self.fdinfo.read_at(&mut text, 0).unwrap();
        let text = std::str::from_utf8(&text[..length]).unwrap();
        text.lines()
            .filter(|line| {
                !["mnt_id:", "ino:", "eventfd-id:"]
                    .iter()
                    .any(|name| line.starts_with(name))
            })
            .flat_map(|line| [line, "; "])
            .collect()
    }
}
