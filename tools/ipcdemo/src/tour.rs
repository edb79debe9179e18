// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo tour`: the story that `make run` prints.
//!
//! Each step says what the kernel does, does it, and compares what it saw with
//! what it said. The tour is one process with one thread, and what runs beside it
//! is forked: so each sleeper has a number in `/proc` that can be shown, and under
//! strace(1) no call fails but those that a step means to fail.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use ipcdemo_client::{Counter, CounterFlags, Factory, Object};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, waitpid};

use crate::failure::Failure;
use crate::list::Name;
use crate::proc::FdInfo;

mod actor;
mod pipe;
mod stage;
mod waitq;

use actor::{Actor, fork};
use stage::Stage;

/// The largest count.
const FULL: u64 = u64::MAX - 1;

pub fn run(plain: bool) -> Result<(), Failure> {
    let factory = Factory::open()?;
    let mut stage = Stage::new(plain);
    opening(&mut stage)?;
    for scene in [
        sums,
        semaphore,
        sleeping_reader,
        sleeping_writer,
        readiness,
        edges,
        herd,
        sharing,
        files,
        listing,
        pipe::buffers,
        pipe::full,
        pipe::turns,
        pipe::fifo,
        waitq::walks,
        waitq::word,
    ] {
        scene(&mut stage, &factory)?;
    }
    stage.close()
}

/// The kernel and the module that all of it happens in.
fn opening(stage: &mut Stage) -> io::Result<()> {
    let uname = rustix::system::uname();
    let modules = fs::read_to_string("/proc/modules")?;
    let size = modules
        .lines()
        .find_map(|line| line.strip_prefix("ipcdemo ")?.split(' ').next())
        .unwrap_or("?");
    stage.title("Linux's IPC primitives, rewritten in Rust, in one kernel module");
    stage.saw(format_args!(
        "kernel  {} {} ({})",
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
        uname.machine().to_string_lossy(),
    ));
    stage.saw(format_args!(
        "module  ipcdemo, {size} bytes; its factory is {}",
        Factory::PATH
    ));
    Ok(())
}

fn sums(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("A counter is a 64-bit number behind a descriptor");
    stage.explain("A write adds to it. A read takes all there is, and leaves 0.");
    let counter = factory.counter(0, CounterFlags::CLOEXEC)?;
    let producer = fork(|| (1..=4).try_for_each(|value| counter.write(value)))?;
    let producer_did = producer.wait()?;
    stage.saw(format_args!("producer {producer}: wrote 1, 2, 3, 4"));
    stage.check("the producer's exit status", producer_did, 0);
    let sum = counter.read()?;
    stage.saw(format_args!("consumer {}: read {sum}", std::process::id()));
    stage.check("the sum", sum, 10);
    Ok(())
}

fn semaphore(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("A semaphore is a counter whose reads take 1");
    stage.explain("With O_NONBLOCK, what would sleep fails with EAGAIN.");
    let flags = CounterFlags::CLOEXEC | CounterFlags::SEMAPHORE | CounterFlags::NONBLOCK;
    let counter = factory.counter(3, flags)?;
    let reads: Vec<_> = (0..4).map(|_| outcome(counter.read())).collect();
    stage.saw(format_args!(
        "made with 3; four reads gave {}",
        reads.join(", ")
    ));
    stage.check(
        "the reads",
        reads,
        ["1", "1", "1", "EAGAIN"].map(String::from).to_vec(),
    );
    Ok(())
}

fn sleeping_reader(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("A reader of an empty counter sleeps");
    stage.explain("The kernel takes the reader off the CPU and puts an entry on the counter's");
    stage.explain("wait queue. A write walks the queue and makes runnable whom it finds.");
    let counter = factory.counter(0, CounterFlags::CLOEXEC)?;
    let reader = fork(|| expect(counter.read()?, 42))?;
    let asleep = reader.wait_until_asleep(libc::SYS_read)?;
    let waiters = entry(factory, counter.as_fd())?.waiters;
    stage.saw(format_args!(
        "reader {reader}: asleep in read(), in the kernel's {}; entries on the queue: {waiters}",
        asleep.wchan
    ));
    stage.check("the entries on the queue", waiters, 1);
    let start = Instant::now();
    counter.write(42)?;
    let reader_did = reader.wait()?;
    stage.saw(format_args!(
        "writer {}: wrote 42; the reader woke, took it, and was gone after {:.1} ms",
        std::process::id(),
        start.elapsed().as_secs_f64() * 1e3,
    ));
    stage.check("the reader's exit status", reader_did, 0);
    stage.check(
        "the entries left",
        entry(factory, counter.as_fd())?.waiters,
        0,
    );
    Ok(())
}

fn sleeping_writer(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("A writer of more than fits sleeps too");
    stage.explain("The count ends at 2^64 - 2. A write that would pass it waits for a read.");
    let counter = factory.counter(0, CounterFlags::CLOEXEC)?;
    counter.write(FULL)?;
    let writer = fork(|| counter.write(5))?;
    writer.wait_until_asleep(libc::SYS_write)?;
    stage.saw(format_args!(
        "writer {writer}: asleep in write(5), for the count is {FULL}"
    ));
    let taken = counter.read()?;
    let writer_did = writer.wait()?;
    let left = counter.read()?;
    stage.saw(format_args!(
        "a read took {taken}; the writer woke; the next read gave {left}"
    ));
    stage.check("what was taken", taken, FULL);
    stage.check("the writer's exit status", writer_did, 0);
    stage.check("what the writer left", left, 5);
    Ok(())
}

fn readiness(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("poll(2) tells what would not sleep");
    let counter = factory.counter(0, CounterFlags::CLOEXEC | CounterFlags::NONBLOCK)?;
    let both = PollFlags::IN | PollFlags::OUT;
    for (add, expected) in [(0, PollFlags::OUT), (1, both), (FULL - 1, PollFlags::IN)] {
        counter.write(add)?;
        let ready = ready(&counter)?;
        let count = FdInfo::of(counter.as_fd())?.count().unwrap_or_default();
        stage.saw(format_args!("{count:>20}: {}", words(ready)));
        stage.check("the readiness", ready, expected);
    }
    let overflow = outcome(counter.write(1));
    stage.saw(format_args!("one more, with O_NONBLOCK: {overflow}"));
    stage.check("the overflow", overflow, "EAGAIN".into());
    Ok(())
}

fn edges(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("epoll(7) has two ways to tell it");
    stage.explain("Level: so long as there is something. Edge: once for each write.");
    let counter = factory.counter(0, CounterFlags::CLOEXEC)?;
    let level = watch(&counter, EventFlags::IN)?;
    let edge = watch(&counter, EventFlags::IN | EventFlags::ET)?;
    for (event, expected) in [
        ("nothing yet", [0, 0]),
        ("a write", [1, 1]),
        ("looked again", [1, 0]),
        ("another write", [1, 1]),
        ("a read", [0, 0]),
    ] {
        if event.ends_with("write") {
            counter.write(1)?;
        } else if event == "a read" {
            counter.read()?;
        }
        let seen = [reports(&level)?, reports(&edge)?];
        stage.saw(format_args!(
            "{event:<13}  level: {}  edge: {}",
            ["-    ", "ready"][seen[0]],
            ["-", "ready"][seen[1]],
        ));
        stage.check("the reports", seen, expected);
    }
    Ok(())
}

fn herd(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("A write wakes all who sleep; one of them gets the count");
    stage.explain("Sleepers of an eventfd are not exclusive. Each one looks for itself, and");
    stage.explain("sleeps again if another was there before it.");
    let counter = factory.counter(0, CounterFlags::CLOEXEC)?;
    let mut sleepers = Vec::new();
    for _ in 0..3 {
        let reader = fork(|| expect(counter.read()?, 1))?;
        let sleeps = reader.wait_until_asleep(libc::SYS_read)?.sleeps;
        sleepers.push((reader, sleeps));
    }
    let names: Vec<_> = sleepers
        .iter()
        .map(|(reader, _)| reader.to_string())
        .collect();
    let waiters = entry(factory, counter.as_fd())?.waiters;
    stage.saw(format_args!(
        "readers {}: asleep; entries: {waiters}",
        names.join(", ")
    ));
    stage.check("the entries on the queue", waiters, 3);

    counter.write(1)?;
    let mut woken = 1;
    let winner = first_to_exit(stage, &mut sleepers)?;
    for (reader, sleeps) in &sleepers {
        // One more time asleep than before: it was woken in between.
        reader.wait_until_asleep_after(libc::SYS_read, *sleeps)?;
        woken += 1;
    }
    let losers: Vec<_> = sleepers
        .iter()
        .map(|(reader, _)| reader.to_string())
        .collect();
    stage.saw(format_args!(
        "a write of 1 woke {woken}: {winner} took it; {} looked, and sleep again",
        losers.join(" and ")
    ));
    while !sleepers.is_empty() {
        counter.write(1)?;
        let winner = first_to_exit(stage, &mut sleepers)?;
        stage.saw(format_args!("another write of 1: {winner} took it"));
    }
    Ok(())
}

fn sharing(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("Descriptors are shared as any others");
    stage.explain("dup(2) and fork(2) give new descriptors of the same counter. It lives as");
    stage.explain("long as the last of them.");
    let counter = factory.counter(1, CounterFlags::CLOEXEC)?;
    let duplicate = Counter::from(counter.as_fd().try_clone_to_owned()?);
    duplicate.write(10)?;
    let child_did = fork(|| duplicate.write(100))?.wait()?;
    drop(counter);
    let sum = duplicate.read()?;
    stage.saw(format_args!(
        "made with 1, 10 by the duplicate, 100 by a child: {sum}"
    ));
    stage.check("the child's exit status", child_did, 0);
    stage.check("the sum", sum, 111);
    Ok(())
}

fn files(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("/proc knows it as it knows an eventfd");
    let counter = factory.counter(7, CounterFlags::CLOEXEC | CounterFlags::SEMAPHORE)?;
    let fd = counter.as_fd().as_raw_fd();
    let link = fs::read_link(format!("/proc/self/fd/{fd}"))?;
    stage.saw(format_args!("/proc/self/fd/{fd} -> {}", link.display()));
    stage.check(
        "the link",
        link.to_str(),
        Some("anon_inode:[ipcdemo-counter]"),
    );
    let info = FdInfo::of(counter.as_fd())?;
    for line in info.own_lines() {
        stage.saw(format_args!("/proc/self/fdinfo/{fd}: {line}"));
    }
    stage.check("the count", info.count(), Some(7));
    stage.check("the mode", info.is_semaphore(), true);
    Ok(())
}

fn listing(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("The factory lists what is alive");
    stage.explain("`ipcdemo ls` shows it, with the processes that hold each object.");
    let counters = [3, 4]
        .map(|initval| factory.counter(initval, CounterFlags::CLOEXEC))
        .into_iter()
        .collect::<io::Result<Vec<_>>>()?;
    let mut listed = Vec::new();
    for counter in &counters {
        let object = entry(factory, counter.as_fd())?;
        stage.saw(format_args!(
            "{}: value {}",
            Name::of(&object),
            object.value
        ));
        listed.push(object);
    }
    let values: Vec<_> = listed.iter().map(|object| object.value).collect();
    stage.check("the values", values, vec![3, 4]);
    drop(counters);
    let left = factory.list()?;
    let left = listed.iter().filter(|object| left.contains(object)).count();
    stage.saw(format_args!("closed; of them still alive: {left}"));
    stage.check("the objects left", left, 0);
    Ok(())
}

/// A result in words: the value, or the error's name.
fn outcome<T: Into<Shown>>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => value.into().0,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => "EAGAIN".into(),
        Err(error) => error.to_string(),
    }
}

/// What a call that succeeded gave.
struct Shown(String);

impl From<u64> for Shown {
    fn from(value: u64) -> Self {
        Self(value.to_string())
    }
}

impl From<()> for Shown {
    fn from((): ()) -> Self {
        Self("done".into())
    }
}

fn expect<T: Debug + PartialEq>(got: T, wanted: T) -> io::Result<()> {
    if got == wanted {
        Ok(())
    } else {
        Err(io::Error::other(format!("{got:?} instead of {wanted:?}")))
    }
}

/// Returns an object of this process as the factory lists it.
fn entry(factory: &Factory, fd: BorrowedFd<'_>) -> io::Result<Object> {
    let id = Object::id_of(fd)?;
    factory
        .list()?
        .into_iter()
        .find(|object| Some(object.id) == id)
        .ok_or_else(|| io::Error::other("a live object is not listed"))
}

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

fn ready(counter: &Counter) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(counter, PollFlags::IN | PollFlags::OUT)];
    poll(&mut fds, Some(&NOW))?;
    Ok(fds[0].revents())
}

fn words(ready: PollFlags) -> String {
    let words: Vec<_> = [(PollFlags::IN, "POLLIN"), (PollFlags::OUT, "POLLOUT")]
        .into_iter()
        .filter_map(|(flag, word)| ready.contains(flag).then_some(word))
        .collect();
    words.join(" ")
}

/// An epoll set of one counter.
fn watch(counter: &Counter, events: EventFlags) -> io::Result<OwnedFd> {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&set, counter, EventData::new_u64(0), events)?;
    Ok(set)
}

/// How many events a set has to report now.
fn reports(set: &OwnedFd) -> io::Result<usize> {
    let mut events = Vec::with_capacity(2);
    let spare = rustix::buffer::spare_capacity(&mut events);
    epoll::wait(set, spare, Some(&NOW))?;
    Ok(events.len())
}

/// Waits for one of the sleepers to end, and takes it out.
fn first_to_exit(stage: &mut Stage, sleepers: &mut Vec<(Actor, u64)>) -> io::Result<Actor> {
    let (pid, status) = waitpid(None, WaitOptions::empty())?.expect("it was waited for");
    stage.check("the reader's exit status", status.exit_status(), Some(0));
    let index = sleepers
        .iter()
        .position(|(reader, _)| reader.pid() == pid)
        .ok_or_else(|| io::Error::other("a process ended that was not meant to"))?;
    Ok(sleepers.remove(index).0)
}
