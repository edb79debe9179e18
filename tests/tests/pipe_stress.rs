// SPDX-License-Identifier: GPL-2.0

//! Many threads at once do to pipes and FIFOs whatever may be done, and are interrupted all
//! the time; and what pipes cost.
//!
//! The kernel's checkers, and the module's removal afterwards, tell what went wrong inside.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use ipcdemo_client::{Factory, PipeFlags};
use ipcdemo_tests::fifo::Fifo;
use ipcdemo_tests::pipe::{bytes, path, put, queued, set_size, take};
use ipcdemo_tests::{
    Access, Census, Errno, Fd, Memory, PAGE, Signal, Subject, differential, ours, pin, read_to,
    scaled, serially_for, sides, until, write_from,
};
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::pipe::{SpliceFlags, splice};
use rustix::process::{Pid, Resource, Rlimit, setrlimit};
use rustix::thread::gettid;

sides!();

/// What either test may take where everything else is busy as well.
const LIMIT: Duration = Duration::from_secs(300);

fn run(body: impl FnOnce() + Send + 'static) {
    serially_for(LIMIT, body);
}

differential! {
    by crate::run;

    /// Everything at once, on a few descriptors that come and go. That nobody waits for ever
    /// is a signal's doing; the rest has to see to itself.
    fn a_melee(s: Subject) {
        const THREADS: usize = 6;
        let operations = scaled(20_000);
        let signal = Signal::interrupting();
        // Once, for what stays open from the first one on.
        drop(s.pipe());
        let census = Factory::open().ok().map(|factory| (Census::take(&factory), factory));
        let melee = Arc::new(Melee::new(s));
        let (send, receive) = channel();
        let (leave, left) = (Arc::new(Barrier::new(THREADS + 1)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (melee, send) = (Arc::clone(&melee), send.clone());
                let (leave, left) = (Arc::clone(&leave), Arc::clone(&left));
                thread::spawn(move || {
                    pin(None, number % 2);
                    send.send(gettid()).unwrap();
                    let mut random = Random(number as u32);
                    loop {
                        let done = melee.done.fetch_add(1, Ordering::Relaxed);
                        // What is rare may take some more.
                        let is_enough = done >= operations && melee.unseen().is_none();
                        if is_enough || done >= 20 * operations {
                            break;
                        }
                        melee.anything(&mut random);
                    }
                    left.fetch_add(1, Ordering::Relaxed);
                    leave.wait();
                })
            })
            .collect();
        let tids: Vec<Pid> = receive.iter().take(THREADS).collect();
        // Each may be asleep, and is there to be sent a signal until all are done.
        while left.load(Ordering::Relaxed) < THREADS {
            let before = signal.handled();
            tids.iter().for_each(|tid| signal.send(*tid));
            until("the signals are handled", || signal.handled() >= before + THREADS);
        }
        leave.wait();
        for thread in threads {
            thread.join().unwrap();
        }
        println!("{s:?}:");
        for ((what, outcome), count) in &*melee.outcomes.lock().unwrap() {
            println!("  {what}: {outcome} {count} times");
        }
        assert_eq!(melee.unseen(), None, "without it the rest proves little");
        drop(melee);
        if let Some((census, factory)) = census {
            census.check(&factory, "the melee");
        }
    }

    /// A writer that ends at any moment, while the pipe's size changes and signals come: its
    /// reader gets all that it has written, and then the end; and a reader that ends leaves a
    /// writer that is told so.
    fn an_end_is_an_end(s: Subject) {
        let rounds = scaled(1_000);
        let signal = Signal::interrupting();
        let (jobs, job) = channel::<(Fd, usize)>();
        let (results, result) = channel();
        let writing = thread::spawn(move || {
            pin(None, 1);
            results.send((usize::try_from(gettid().as_raw_nonzero().get()).unwrap(), None)).unwrap();
            for (writer, length) in job {
                let all = &SOME[..length];
                let (mut written, mut error) = (0, None);
                while written < length && error.is_none() {
                    match put(&writer, &all[written..]) {
                        Ok(length) => written += length,
                        Err(Errno::INTR) => {}
                        Err(other) => error = Some(other),
                    }
                }
                drop(writer);
                results.send((written, error)).unwrap();
            }
        });
        pin(None, 0);
        let (tid, _) = result.recv().unwrap();
        let tid = Pid::from_raw(tid as i32).unwrap();
        let (mut random, mut ends, mut broken) = (Random(1), 0, 0);
        for _ in 0..rounds {
            let (reader, writer) = s.pipe_of(1 << random.below(4), PipeFlags::empty());
            let length = 1 + random.below(20 * PAGE);
            // This one leaves before the end, unless that comes first.
            let enough = if random.below(4) == 0 { random.below(length) } else { usize::MAX };
            jobs.send((writer, length)).unwrap();
            let mut got = Vec::new();
            let ended = loop {
                if got.len() > enough {
                    break false;
                }
                match random.below(8) {
                    0 => signal.send(tid),
                    1 => {
                        let size = (PAGE << random.below(5)) as u32;
                        let result = set_size(&reader, size);
                        assert!(matches!(result, Ok(_) | Err(Errno::BUSY)), "{result:?}");
                    }
                    _ => {}
                }
                match take(&reader, 1 + random.below(6 * PAGE)).unwrap() {
                    some if some.is_empty() => break true,
                    some => got.extend(some),
                }
            };
            let left = if ended { 0 } else { queued(&reader) };
            drop(reader);
            let (written, error) = result.recv().unwrap();
            assert!(got == SOME[..got.len()], "it is not what was written");
            if ended {
                assert_eq!((got.len(), error), (written, None));
                assert_eq!(written, length);
                ends += 1;
            } else {
                assert!(written >= got.len() + left, "{written} and {} and {left}", got.len());
                assert!(matches!(error, None | Some(Errno::PIPE)), "{error:?}");
                broken += usize::from(error.is_some());
            }
        }
        drop(jobs);
        writing.join().unwrap();
        println!("{s:?}: {ends} ends, {broken} broken, {} signals", signal.handled());
        assert!(ends > 0 && broken > 0);
    }

    /// Two who open a FIFO for each other, over and over, and leave at once: whoever came is
    /// noticed, though gone by then. Some are interrupted, and leave no trace.
    fn they_meet(s: Subject) {
        let rounds = scaled(5_000);
        let fifo = Arc::new(Fifo::new(s));
        let signal = Signal::interrupting();
        let (send, receive) = channel();
        let interrupted = Arc::new(AtomicUsize::new(0));
        let opening = [OFlags::RDONLY, OFlags::WRONLY].map(|flags| {
            let (fifo, send) = (Arc::clone(&fifo), send.clone());
            let interrupted = Arc::clone(&interrupted);
            thread::spawn(move || {
                pin(None, usize::from(flags == OFlags::WRONLY));
                send.send(gettid()).unwrap();
                let mut met = 0;
                // That a signal comes in time is rare: it may take some more.
                let is_rare = || interrupted.load(Ordering::Relaxed) < 3;
                while met < rounds || is_rare() && met < 20 * rounds {
                    match fifo.open(flags) {
                        Ok(end) => {
                            drop(end);
                            met += 1;
                        }
                        Err(error) => {
                            assert_eq!(error, Errno::INTR);
                            interrupted.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            })
        });
        let tids: Vec<_> = receive.iter().take(2).collect();
        let mut random = Random(3);
        let mut handled = 0;
        while !opening.iter().any(thread::JoinHandle::is_finished) {
            if random.below(20) == 0 && signal.handled() == handled {
                signal.send(tids[random.below(2)]);
                handled += 1;
            }
            thread::yield_now();
        }
        // One may be ahead, and the other alone.
        until("both are done", || {
            drop(fifo.both());
            opening.iter().all(thread::JoinHandle::is_finished)
        });
        for thread in opening {
            thread.join().unwrap();
        }
        let interrupted = interrupted.load(Ordering::Relaxed);
        println!("{s:?}: {interrupted} interrupted");
        // With nobody there, nobody is there.
        assert_eq!(fifo.open(OFlags::WRONLY | OFlags::NONBLOCK).err(), Some(Errno::NXIO));
        assert!(interrupted > 0);
    }
}

/// Longer than any write.
static SOME: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(21 * PAGE));

/// What the threads of a melee share.
struct Melee {
    subject: Subject,
    /// Ends, of any pipe or FIFO.
    ends: [Mutex<Option<Fd>>; 8],
    fifos: [Mutex<Option<Arc<Fifo>>>; 2],
    /// One of the kernel's own, with something inside, or full.
    theirs: (Fd, Fd),
    set: OwnedFd,
    done: AtomicUsize,
    /// How often what ended how.
    outcomes: Mutex<BTreeMap<(&'static str, &'static str), usize>>,
}

impl Melee {
    fn new(subject: Subject) -> Self {
        Self {
            subject,
            ends: Default::default(),
            fifos: Default::default(),
            theirs: Subject::Native.pipe(),
            set: epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
            done: AtomicUsize::new(0),
            outcomes: Mutex::default(),
        }
    }

    fn place(&self, end: impl Into<Arc<OwnedFd>>, random: &mut Random) {
        let mut place = self.ends[random.below(self.ends.len())].lock().unwrap();
        let before = place.replace(end.into());
        drop(place);
        // To close it may wake others, and they might be after the place.
        drop(before);
    }

    fn end(&self, random: &mut Random) -> Option<Fd> {
        self.ends[random.below(self.ends.len())]
            .lock()
            .unwrap()
            .clone()
    }

    fn note<T>(&self, what: &'static str, result: Result<T, Errno>) -> Option<T> {
        let (outcome, value) = match result {
            Ok(value) => ("done", Some(value)),
            Err(error) => (name(error), None),
        };
        self.count(what, outcome);
        value
    }

    fn count(&self, what: &'static str, outcome: &'static str) {
        let mut outcomes = self.outcomes.lock().unwrap();
        *outcomes.entry((what, outcome)).or_default() += 1;
    }

    /// What has to be seen, and was not yet.
    fn unseen(&self) -> Option<(&'static str, &'static str)> {
        const EXPECTED: [(&str, &str); 15] = [
            ("read", "INTR"),
            ("read", "end"),
            ("read", "done"),
            ("write", "INTR"),
            ("write", "PIPE"),
            ("write", "done"),
            ("poll", "INTR"),
            ("poll", "done"),
            ("open FIFO", "INTR"),
            ("open FIFO", "done"),
            ("splice out", "done"),
            ("splice in", "done"),
            ("reopen", "done"),
            ("resize", "done"),
            ("close", "done"),
        ];
        let outcomes = self.outcomes.lock().unwrap();
        let mut expected = EXPECTED.into_iter();
        expected.find(|outcome| !outcomes.contains_key(outcome))
    }

    fn anything(&self, random: &mut Random) {
        let length = [1, 100, PAGE, 3 * PAGE + 7][random.below(4)];
        let choice = random.below(100);
        if choice < 8 {
            let flags = [PipeFlags::empty(), PipeFlags::empty(), PipeFlags::DIRECT];
            let (reader, writer) = self.subject.pipe_with(flags[random.below(3)]);
            self.place(reader, random);
            self.place(writer, random);
            return;
        }
        if choice < 20 {
            return self.anything_of_a_fifo(random);
        }
        if choice < 24 {
            self.count("close", "done");
            drop(
                self.ends[random.below(self.ends.len())]
                    .lock()
                    .unwrap()
                    .take(),
            );
            return;
        }
        let Some(end) = self.end(random) else { return };
        match choice {
            24..40 => match self.note("read", take(&end, length)) {
                Some(got) if got.is_empty() => self.count("read", "end"),
                _ => {}
            },
            40..56 => {
                self.note("write", put(&end, &SOME[..length]));
            }
            56..62 => {
                let events = [PollFlags::IN, PollFlags::OUT, PollFlags::PRI][random.below(3)];
                let mut fds = [PollFd::new(&end, events)];
                self.note("poll", poll(&mut fds, None));
            }
            62..66 => {
                let size = (PAGE << random.below(6)) as u32;
                self.note("resize", set_size(&end, size));
            }
            66..74 => {
                let flags = [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR][random.below(3)];
                let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
                if let Some(other) = self.note("reopen", open(path(&end), flags, Mode::empty())) {
                    fcntl_setfl(&other, OFlags::empty()).unwrap();
                    self.place(other, random);
                }
            }
            74..80 => {
                let result = splice(
                    &end,
                    None,
                    &self.theirs.1,
                    None,
                    length,
                    SpliceFlags::empty(),
                );
                self.note("splice out", result);
            }
            80..86 => {
                let result = splice(
                    &self.theirs.0,
                    None,
                    &end,
                    None,
                    length,
                    SpliceFlags::empty(),
                );
                self.note("splice in", result);
            }
            86..89 => {
                let flags = [OFlags::empty(), OFlags::NONBLOCK, OFlags::DIRECT];
                self.note("flags", fcntl_setfl(&end, flags[random.below(3)]));
            }
            89..92 => {
                let how = [epoll::EventFlags::empty(), epoll::EventFlags::ET][random.below(2)];
                let (events, data) = (epoll::EventFlags::IN | how, epoll::EventData::new_u64(0));
                self.note("add", epoll::add(&self.set, &end, data, events));
            }
            92..94 => {
                self.note("delete", epoll::delete(&self.set, &end));
            }
            94..97 => {
                let mut events = Vec::with_capacity(4);
                let space = rustix::buffer::spare_capacity(&mut events);
                self.note("epoll_wait", epoll::wait(&self.set, space, None));
            }
            97 => self.place(end, random),
            _ => {
                queued(&end);
            }
        }
    }

    fn anything_of_a_fifo(&self, random: &mut Random) {
        let place = &self.fifos[random.below(self.fifos.len())];
        let fifo = place.lock().unwrap().clone();
        match (fifo, random.below(6)) {
            (None, _) => {
                let before = place
                    .lock()
                    .unwrap()
                    .replace(Arc::new(Fifo::new(self.subject)));
                drop(before);
            }
            (Some(fifo), 0) => {
                drop(place.lock().unwrap().take());
                // The last one who has it removes the node.
                drop(fifo);
            }
            (Some(fifo), choice) => {
                let flags = [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR][random.below(3)];
                let mode = if choice == 1 {
                    OFlags::NONBLOCK
                } else {
                    OFlags::empty()
                };
                if let Some(end) = self.note("open FIFO", fifo.open(flags | mode)) {
                    self.place(end, random);
                }
            }
        }
    }
}

fn name(error: Errno) -> &'static str {
    const NAMES: [(Errno, &str); 12] = [
        (Errno::INTR, "INTR"),
        (Errno::PIPE, "PIPE"),
        (Errno::AGAIN, "AGAIN"),
        (Errno::BADF, "BADF"),
        (Errno::BUSY, "BUSY"),
        (Errno::NXIO, "NXIO"),
        (Errno::EXIST, "EXIST"),
        (Errno::NOENT, "NOENT"),
        (Errno::INVAL, "INVAL"),
        (Errno::NODEV, "NODEV"),
        (Errno::NOTTY, "NOTTY"),
        (Errno::ACCESS, "ACCES"),
    ];
    let known = NAMES.iter().find(|(known, _)| *known == error);
    known.unwrap_or_else(|| panic!("{error}")).1
}

ours! {
    by crate::run;

    /// Ten thousand pipes, made, used and closed, leave no memory behind.
    fn pipes_leave_nothing(s: Subject) {
        const MOST: usize = 256 << 10;
        if keeps_what_is_freed() {
            return;
        }
        let use_some = |times| {
            for _ in 0..times {
                let (reader, writer) = s.pipe();
                assert_eq!(put(&writer, &SOME[..100]), Ok(100));
                assert_eq!(take(&reader, 10).unwrap().len(), 10);
            }
        };
        // Once, for whatever is made on first use.
        use_some(1_000);
        let before = Usage::now();
        use_some(10_000);
        let mut grown = 0;
        // What is freed after a grace period comes back by and by.
        until("the slabs are as they were", || {
            grown = Usage::now().slab.saturating_sub(before.slab);
            grown < MOST
        });
        println!("10,000 pipes: the slabs have grown by {grown} bytes");
    }

    /// Nor do writes and reads that end where memory does.
    fn refusals_leave_nothing(s: Subject) {
        const MOST: usize = 4 << 20;
        let memory = Memory::new(Access::ReadWrite);
        let refuse = |times| {
            let (reader, writer) = s.nonblocking_pipe();
            for _ in 0..times {
                let nowhere = memory.before_end(0);
                assert_eq!(write_from(&writer, nowhere, 1), Err(Errno::FAULT));
                // The page that was filled before is in.
                let page = memory.before_end(PAGE);
                assert_eq!(write_from(&writer, page, 3 * PAGE), Ok(PAGE));
                assert_eq!(read_to(&reader, nowhere, 1), Err(Errno::FAULT));
                assert_eq!(read_to(&reader, page, PAGE), Ok(PAGE));
            }
        };
        refuse(100);
        let before = Usage::now();
        refuse(5_000);
        let grown = Usage::now().pages.saturating_sub(before.pages);
        assert!(grown < MOST, "{grown} bytes");
    }

    /// What a pipe holds, beside the kernel's own: nothing more in any state.
    fn pipes_cost_no_more_than_the_kernels(s: Subject) {
        if keeps_what_is_freed() {
            return;
        }
        let many = Rlimit {
            current: Some(8192),
            maximum: Some(8192),
        };
        setrlimit(Resource::Nofile, many).unwrap();
        let states: [(&str, Make); 4] = [
            ("idle", |_| {}),
            ("half full", |(_, writer)| {
                assert_eq!(put(writer, &SOME[..8 * PAGE]), Ok(8 * PAGE));
            }),
            ("full", |(_, writer)| {
                assert_eq!(put(writer, &SOME[..16 * PAGE]), Ok(16 * PAGE));
            }),
            ("drained", |(reader, writer)| {
                assert_eq!(put(writer, &SOME[..16 * PAGE]), Ok(16 * PAGE));
                assert_eq!(take(reader, 16 * PAGE).unwrap().len(), 16 * PAGE);
            }),
        ];
        for (name, bring_about) in states {
            let costs = [Subject::Native, s].map(|subject| {
                // Once before, for the table of descriptors and whatever else grows. Then three times: memory
                // that others give back meanwhile, as a process may that ended before, counts for one of them.
                cost(subject, bring_about);
                let costs = [(); 3].map(|()| cost(subject, bring_about));
                Usage {
                    slab: middle(costs.each_ref().map(|cost| cost.slab)),
                    pages: middle(costs.each_ref().map(|cost| cost.pages)),
                }
            });
            let [native, module] = costs;
            println!("{name}: native {native:?}, module {module:?}");
            assert!(module.slab <= native.slab, "{name}: {native:?}, {module:?}");
            // In tenths of a page: what other tasks do shows as some.
            let tenth = PAGE / 10;
            assert!(
                module.pages <= native.pages + tenth,
                "{name}: {native:?}, {module:?}"
            );
            if name == "idle" {
                assert!(module.pages < tenth, "an idle one has no pages: {module:?}");
            }
        }
    }
}

/// Brings a new pipe to a state.
type Make = fn(&(Fd, Fd));

/// The one between the two others.
fn middle(mut numbers: [usize; 3]) -> usize {
    numbers.sort_unstable();
    numbers[1]
}

/// Bytes for each of a thousand pipes in a state.
fn cost(subject: Subject, bring_about: Make) -> Usage {
    const PIPES: usize = 1_000;
    let mut pipes = Vec::with_capacity(PIPES);
    let before = Usage::now();
    for _ in 0..PIPES {
        let pipe = subject.pipe();
        bring_about(&pipe);
        pipes.push(pipe);
    }
    let after = Usage::now();
    Usage {
        slab: after.slab.saturating_sub(before.slab) / PIPES,
        pages: after.pages.saturating_sub(before.pages) / PIPES,
    }
}

/// Whether the kernel is one whose checkers hold freed memory back, and pad what is in use.
fn keeps_what_is_freed() -> bool {
    fs::exists("/sys/kernel/debug/kmemleak").unwrap()
}

/// Memory in use, in bytes.
#[derive(Debug)]
struct Usage {
    /// By objects.
    slab: usize,
    /// By whole pages that are no slabs.
    pages: usize,
}

impl Usage {
    fn now() -> Self {
        // So that no processor keeps a part of the counts to itself.
        let _ = fs::read("/proc/sys/vm/stat_refresh");
        let text = fs::read_to_string("/proc/slabinfo").expect("a kernel that tells of its slabs");
        let slab = text.lines().skip(2).map(|line| {
            // The name, how many objects are in use, how many there are, the size of each.
            let mut words = line.split_whitespace().skip(1);
            let mut number = || words.next().unwrap().parse::<usize>().unwrap();
            let (used, _, size) = (number(), number(), number());
            used * size
        });
        let text = fs::read_to_string("/proc/meminfo").unwrap();
        let kilobytes = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let number = line.split_whitespace().nth(1).unwrap();
            number.parse::<usize>().unwrap()
        };
        let used = kilobytes("MemTotal:") - kilobytes("MemFree:") - kilobytes("Slab:");
        Self {
            slab: slab.sum(),
            pages: (used << 10) - kept_by_processors() * PAGE,
        }
    }
}

/// How many pages each processor has in store, together: they count as in use.
fn kept_by_processors() -> usize {
    let text = fs::read_to_string("/proc/zoneinfo").unwrap();
    let counts = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("count:"));
    counts
        .map(|count| count.trim().parse::<usize>().unwrap())
        .sum()
}

/// A linear congruential generator.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % limit
    }
}
