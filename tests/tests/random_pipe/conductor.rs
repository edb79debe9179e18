// SPDX-License-Identifier: GPL-2.0

//! Takes one subject through a case, and notes all that can be seen of it.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::fifo::Fifo;
use ipcdemo_tests::pipe::set_size;
use ipcdemo_tests::{PAGE, Signal, Subject, pin};
use rustix::event::epoll;

use crate::calls::{self, Call, Outcome, Scratch, Stage};
use crate::crew::{Fence, Worker, schedule};
use crate::operations::{Case, ENDS, ET, EXCLUSIVE, Events, Flags, Mode, Operation, WORKERS, Who};
use crate::search;

/// What came of an operation at once.
#[derive(Debug, Eq, PartialEq)]
pub enum Did {
    /// It is left out: see [`Who`], and [`ENDS`].
    Nothing,
    /// A worker was told.
    Told,
    /// It returned.
    Got(Outcome),
    /// The case is over, and this is what was inside.
    Left(Vec<Outcome>),
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
    /// What poll(2) says of each descriptor that is there.
    polled: [Option<Events>; ENDS],
    /// What FIONREAD says of the first one.
    queued: Option<i32>,
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
        write!(f, "{} signals handled", self.handled)?;
        for (number, polled) in self.polled.iter().enumerate() {
            if let Some(events) = polled {
                write!(f, "; end {number}: {events:?}")?;
            }
        }
        if let Some(queued) = self.queued {
            write!(f, "; {queued} bytes inside")?;
        }
        Ok(())
    }
}

/// Above the workers: what Main's call has woken runs when it is over. The kernel's pipe, too,
/// lets nobody in before, where it wakes with its lock held, as when its size changes.
const AHEAD: i32 = 3;

/// Longer than a signal takes to be handled on the slowest kernel.
const PATIENCE: Duration = Duration::from_secs(5);

/// A descriptor's place.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    Closed,
    /// A worker is about to open it.
    Opening,
    /// It leads to the open file with this number.
    Open(usize),
}

/// What a worker is at.
#[derive(Clone, Copy)]
struct Task {
    operation: Operation,
    /// The open file that it uses.
    file: Option<usize>,
}

/// Who takes a subject through cases.
pub struct Conductor {
    subject: Subject,
    /// The processor it runs on, and another.
    cpus: [usize; 2],
    crew: [Worker; WORKERS.len()],
    at: [Option<Task>; WORKERS.len()],
    ends: [End; ENDS],
    /// Which of the case's open files have been spliced from or to.
    spliced: Vec<bool>,
    /// Whether there may be such an entry as [`hears_any`] tells of.
    hears_any: bool,
    /// Main's, and theirs.
    scratches: [&'static Mutex<Scratch>; 1 + WORKERS.len()],
    fence: Fence,
    fifo: Fifo,
    apart: Option<bool>,
    /// Interrupting and restarting.
    signals: [Signal; 2],
    handled_before: usize,
}

impl search::Conduct for Conductor {
    type Case = Case;
    type Step = Step;

    fn new(subject: Subject, cpus: [usize; 2]) -> Self {
        calls::count_sigpipe();
        calls::prepare();
        pin(None, cpus[0]);
        schedule(AHEAD);
        Self {
            subject,
            cpus,
            crew: [(); WORKERS.len()].map(|()| Worker::new()),
            at: [None; WORKERS.len()],
            ends: [End::Closed; ENDS],
            spliced: Vec::new(),
            hears_any: false,
            scratches: [(); 1 + WORKERS.len()].map(|()| Scratch::leak()),
            fence: Fence::new(),
            fifo: Fifo::new(subject),
            apart: None,
            signals: [Signal::interrupting(), Signal::restarting()],
            handled_before: 0,
        }
    }

    fn conduct(&mut self, case: &Case) -> Vec<Step> {
        self.place(case.apart);
        let props = Props::new();
        let stage = self.set(case, &props);
        self.handled_before = self.handled();

        let mut steps = Vec::with_capacity(case.operations.len() + 2);
        for &operation in &case.operations {
            let did = self.apply(operation, &stage, case.apart);
            steps.push(self.look(did, &stage));
        }
        for worker in &self.crew {
            // One that makes room after all lets others go.
            if worker.is_busy() {
                self.interrupt(worker, &self.signals[0]);
                self.fence.wait();
            }
        }
        steps.push(self.look(Did::Told, &stage));
        let left = self.empty(&stage);
        steps.push(self.look(Did::Left(left), &stage));
        self.clear(&stage);
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

    fn set(&mut self, case: &Case, props: &Props) -> Stage {
        // Beyond what anything else in the process gets.
        let first = match self.subject {
            Subject::Native => 500,
            Subject::Module => 600,
        };
        if !case.fifo {
            let mut flags = PipeFlags::empty();
            flags.set(PipeFlags::NONBLOCK, case.flags.nonblock);
            flags.set(PipeFlags::DIRECT, case.flags.direct);
            let (reader, writer) = self.subject.create_pipe(flags.bits()).unwrap();
            let size = (case.buffers * PAGE) as u32;
            assert_eq!(set_size(&reader, size), Ok(size));
            for (number, end) in [reader, writer].into_iter().enumerate() {
                move_to(end, first + number as RawFd);
                self.ends[number] = self.new_file();
            }
        }
        Stage {
            first,
            sets: props.sets.each_ref().map(AsRawFd::as_raw_fd),
            inlet: props.inlet.each_ref().map(AsRawFd::as_raw_fd),
            outlet: props.outlet.each_ref().map(AsRawFd::as_raw_fd),
            fifo: case.fifo.then(|| self.fifo_path()),
        }
    }

    fn fifo_path(&self) -> &'static CStr {
        let path = CString::new(self.fifo.path().as_os_str().as_bytes());
        // A few bytes for a case.
        Box::leak(path.unwrap().into_boxed_c_str())
    }

    /// The first descriptor that is open.
    fn any_end(&self) -> Option<usize> {
        self.ends.iter().position(|end| matches!(end, End::Open(_)))
    }

    fn new_file(&mut self) -> End {
        self.spliced.push(false);
        End::Open(self.spliced.len() - 1)
    }

    /// Whether an operation is to be done, as far as the descriptors are concerned.
    fn is_possible(&self, operation: Operation, stage: &Stage, apart: bool) -> bool {
        // Of two who sleep on one set the second is woken by the first, while Main goes on to wake others:
        // on two processors they run in any order.
        if let Operation::Wait(_, set) = operation {
            let mut tasks = self.at.iter().flatten().map(|task| task.operation);
            if apart && tasks.any(|it| matches!(it, Operation::Wait(_, other) if other == set)) {
                return false;
            }
        }
        let makes = operation.makes();
        if makes.is_some_and(|end| self.ends[end] != End::Closed) {
            return false;
        }
        // That the other pipe is full is none of the file's mode (fs/splice.c, splice_file_to_pipe). A splice that a
        // signal interrupts begins anew, with what its descriptor is by then.
        let is_spliced_out = |end| {
            let spliced = |task: &Task| {
                let is_out = matches!(task.operation, Operation::SpliceOut(..));
                is_out
                    && (task.operation.uses() == Some(end)
                        || matches!(self.ends[end], End::Open(file) if task.file == Some(file)))
            };
            self.at.iter().flatten().any(spliced)
        };
        let stops_waiting = match operation {
            Operation::SetFlags(end, flags) => flags.nonblock && is_spliced_out(end),
            Operation::Duplicate(end, new) => {
                is_spliced_out(new) && calls::is_nonblocking(stage, end)
            }
            // Main opens without waiting.
            Operation::Open(_, end, ..) => is_spliced_out(end),
            _ => false,
        };
        if stops_waiting {
            return false;
        }
        let Some(end) = operation.uses() else {
            let opens = matches!(operation, Operation::Open(..));
            return !opens || stage.fifo.is_some() || self.any_end().is_some();
        };
        let End::Open(file) = self.ends[end] else {
            return false;
        };
        // From anybody else's file the kernel copies then (fs/splice.c, vfs_splice_read), and
        // to it it writes, which makes packets.
        // A splice that a signal interrupts begins anew, with what its descriptor is by then.
        let is_spliced = |end| {
            let uses = |task: &Task| task.file == Some(file) || task.operation.uses() == Some(end);
            let mut tasks = self.at.iter().flatten();
            tasks.any(|task| task.operation.is_splice() && uses(task))
        };
        let makes_packets = match operation {
            Operation::SetFlags(_, flags) => flags.direct && is_spliced(end),
            Operation::Duplicate(_, new) => is_spliced(new) && calls::is_direct(stage, end),
            _ => operation.is_splice() && calls::is_direct(stage, end),
        };
        if makes_packets {
            return false;
        }
        let outlet_waits = matches!(operation, Operation::SpliceOut(..)) && !calls::has_room(stage);
        if outlet_waits && calls::is_nonblocking(stage, end) {
            return false;
        }
        // Where nothing is inside, the kernel wakes a reader though nothing comes of the write
        // (fs/pipe.c, anon_pipe_write), who goes behind the others then.
        let is_vain = matches!(operation, Operation::WriteFault(_, _, there, _) if there < PAGE);
        if is_vain && calls::queued(stage, end) == 0 {
            return false;
        }
        // splice(2) on the kernel's own wakes without a key (fs/splice.c, wakeup_pipe_readers and
        // wakeup_pipe_writers). What is in an epoll set hears of it whatever it wants: an exclusive
        // entry takes it for itself, and edges come from the queue of the other direction.
        let mut tasks = self.at.iter().flatten();
        if operation.is_splice() && self.hears_any
            || hears_any(operation, stage) && tasks.any(|task| task.operation.is_splice())
        {
            return false;
        }
        // Of two pipes it waits for another one first, so that two who do so come about in
        // another order.
        let mut tasks = self.at.iter().flatten();
        if operation.is_splice() && tasks.any(|task| task.operation.is_splice()) {
            return false;
        }
        // What wakes many would let them run in any order.
        let wakes = matches!(operation, Operation::SetSize(..) | Operation::Close(..));
        if apart && wakes && self.at.iter().flatten().count() > 1 {
            return false;
        }
        // Another who sleeps there would see O_NONBLOCK if he woke in time.
        let is_shared = self.at.iter().flatten().any(|task| task.file == Some(file));
        if apart && is_shared && operation.by() == Who::Main && operation.is_transfer() {
            return false;
        }
        // The kernel's own ends do not know RWF_NOWAIT any more once they were spliced
        // (fs/splice.c, pipe_clear_nowait).
        let is_now = matches!(operation, Operation::ReadNow(..) | Operation::WriteNow(..));
        !(is_now && self.spliced[file])
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
        let worker = operation.by().worker();
        let is_busy = |worker: usize| self.crew[worker].is_busy();
        if worker.is_some_and(is_busy) || !self.is_possible(operation, stage, apart) {
            return Did::Nothing;
        }
        let file = operation.uses().and_then(|end| match self.ends[end] {
            End::Open(file) => Some(file),
            _ => None,
        });
        if let Some(file) = file {
            self.spliced[file] |= operation.is_splice();
        }
        let call = Call {
            operation,
            stage: *stage,
            by: self.any_end().unwrap_or(0),
            scratch: self.scratches[worker.map_or(0, |worker| worker + 1)],
        };
        let Some(worker) = worker else {
            let outcome = call.make();
            self.note(operation, &outcome, stage);
            return Did::Got(outcome);
        };
        if let Some(end) = operation.makes() {
            self.ends[end] = End::Opening;
        }
        self.at[worker] = Some(Task { operation, file });
        self.crew[worker].tell(call);
        Did::Told
    }

    /// What a call that is over means for the descriptors.
    fn note(&mut self, operation: Operation, outcome: &Outcome, stage: &Stage) {
        match operation {
            Operation::Close(end) => self.ends[end] = End::Closed,
            Operation::Duplicate(end, other) => self.ends[other] = self.ends[end],
            Operation::Open(_, end, ..) if outcome.result.is_ok() => {
                self.ends[end] = self.new_file();
            }
            Operation::Open(_, end, ..) => self.ends[end] = End::Closed,
            _ => self.hears_any |= hears_any(operation, stage),
        }
        // A splice that a signal interrupts begins anew, with the file that its descriptor leads to by then.
        let mut tasks = self.at.iter().flatten().map(|task| task.operation);
        let Some(made) = operation.makes() else {
            return;
        };
        if let End::Open(file) = self.ends[made] {
            self.spliced[file] |= tasks.any(|it| it.is_splice() && it.uses() == Some(made));
        }
    }

    /// Signals a worker, and gives it time to handle that: its first frame for a signal may fault
    /// a page in, and the other subject's threads be busy with the same address space. One that
    /// does not handle it is a difference like any other.
    fn interrupt(&self, worker: &Worker, signal: &Signal) {
        let (before, start) = (signal.handled(), Instant::now());
        worker.signal(signal);
        self.fence.wait();
        while signal.handled() == before && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn handled(&self) -> usize {
        self.signals.iter().map(Signal::handled).sum()
    }

    /// Lets the workers run until they sleep, and looks.
    fn look(&mut self, did: Did, stage: &Stage) -> Step {
        if did == Did::Nothing {
            return self.step(did);
        }
        // Who was idle is so still.
        if self.at.iter().any(Option::is_some) {
            self.fence.wait();
        }
        let returned = self.crew.each_ref().map(Worker::returned);
        for (worker, outcome) in returned.iter().enumerate() {
            if let (Some(outcome), Some(task)) = (outcome, self.at[worker]) {
                self.note(task.operation, outcome, stage);
                self.at[worker] = None;
            }
        }
        let is_open = self.ends.map(|end| matches!(end, End::Open(_)));
        Step {
            returned,
            polled: calls::poll_all(stage, is_open),
            queued: self.any_end().map(|end| calls::queued(stage, end)),
            ..self.step(did)
        }
    }

    /// What is known without a look.
    fn step(&self, did: Did) -> Step {
        Step {
            did,
            returned: [const { None }; WORKERS.len()],
            asleep: self.crew.each_ref().map(Worker::sleeps_in),
            handled: self.handled() - self.handled_before,
            polled: [None; ENDS],
            queued: None,
        }
    }

    /// Reads what is inside, by an end of its own, so that everything can be compared.
    fn empty(&mut self, stage: &Stage) -> Vec<Outcome> {
        let mut got = Vec::new();
        let Some(by) = self.any_end() else {
            return got;
        };
        let Some(end) = self.ends.iter().position(|&end| end == End::Closed) else {
            return got;
        };
        let flags = Flags {
            nonblock: false,
            direct: false,
        };
        let operation = Operation::Open(Who::Main, end, Mode::Reading, flags);
        let call = Call {
            operation,
            stage: *stage,
            by,
            scratch: self.scratches[0],
        };
        let outcome = call.make();
        self.note(operation, &outcome, stage);
        got.push(outcome);
        loop {
            let outcome = calls::read_on(stage.first + end as RawFd, self.scratches[0]);
            let is_over = !outcome.result.is_ok_and(|length| length > 0);
            got.push(outcome);
            if is_over {
                return got;
            }
        }
    }

    /// Leaves nothing to the next case.
    fn clear(&mut self, stage: &Stage) {
        for (number, end) in self.ends.iter_mut().enumerate() {
            if matches!(end, End::Open(_)) {
                // SAFETY: It is nobody else's.
                let result = unsafe { libc::close(stage.first + number as RawFd) };
                assert_eq!(result, 0);
            }
            *end = End::Closed;
        }
        for (worker, scratch) in self.crew.iter_mut().zip(&mut self.scratches[1..]) {
            // The difference is on record; this worker can take no part in another case, nor can
            // the FIFO that it may have open.
            if worker.is_busy() {
                (*worker, *scratch) = (Worker::new(), Scratch::leak());
                self.apart = None;
                self.fifo = Fifo::new(self.subject);
            }
        }
        self.at = [None; WORKERS.len()];
        self.spliced.clear();
        self.hears_any = false;
    }
}

/// Whether an operation makes an entry in an epoll set for which it matters that a wake has a
/// key.
fn hears_any(operation: Operation, stage: &Stage) -> bool {
    match operation {
        Operation::Add(_, end, events) | Operation::Modify(_, end, events) => {
            has(events, EXCLUSIVE) || has(events, ET) && calls::is_both(stage, end)
        }
        _ => false,
    }
}

/// What there is of the kernel's own for one case only.
struct Props {
    sets: [OwnedFd; 2],
    inlet: [OwnedFd; 2],
    outlet: [OwnedFd; 2],
}

impl Props {
    fn new() -> Self {
        let pipe = || {
            let flags = PipeFlags::CLOEXEC.bits();
            let (reader, writer) = Subject::Native.create_pipe(flags).unwrap();
            [reader, writer]
        };
        Self {
            sets: [(); 2].map(|()| epoll::create(epoll::CreateFlags::CLOEXEC).unwrap()),
            inlet: pipe(),
            outlet: pipe(),
        }
    }
}

/// Gives a descriptor another number.
fn move_to(fd: OwnedFd, number: RawFd) {
    let fd = fd.into_raw_fd();
    // SAFETY: The number is that of a descriptor that is not there, and the other one is ours.
    let result = unsafe {
        let result = libc::dup3(fd, number, libc::O_CLOEXEC);
        libc::close(fd);
        result
    };
    assert_eq!(result, number);
}

/// Whether an event is among these.
fn has(events: Events, event: Events) -> bool {
    events.0 & event.0 != 0
}
