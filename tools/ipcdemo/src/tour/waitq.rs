// SPDX-License-Identifier: GPL-2.0

//! The wait queue, on its own: what all of the above is made with.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use ipcdemo_client::{
    Factory, Keys, StoppedBy, WaitOptions, Waitq, WaitqFlags, WakeOptions, WakeReceipt, monotonic,
};

use super::actor::{Actor, fork};
use super::stage::Stage;
use crate::waitq::{table, told_to_sleeper, told_to_waker};

pub fn walks(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("A wait queue is a list of those who sleep");
    stage
        .explain("Who is exclusive goes to its tail, who is not to its head, and who has priority");
    stage.explain("before them all. A wake walks it from the head on.");
    let queue = factory.waitq(0, WaitqFlags::CLOEXEC)?;
    let plain = WaitOptions::new();
    let mut sleepers = Vec::new();
    for (name, options) in [
        ("plain", plain),
        ("plain, for POLLOUT", plain.mask(Keys::OUT)),
        ("exclusive, for POLLIN", plain.exclusive().mask(Keys::IN)),
        ("exclusive", plain.exclusive()),
        ("with priority", plain.priority()),
    ] {
        let sleeper = Sleeper::new(&queue, name, options)?;
        stage.saw(format_args!("{}: {name}", sleeper.actor));
        sleepers.push(sleeper);
    }
    let listing = queue.waiters()?;
    for line in table(&listing, monotonic()) {
        stage.saw(line);
    }
    let order: Vec<_> = listing.waiters.iter().map(|waiter| waiter.pid).collect();
    let expected = [4, 1, 0, 2, 3].map(|index: usize| Some(sleepers[index].pid()));
    stage.check("the order", order, expected.to_vec());

    stage.title("A wake calls one after the other until it has enough");
    stage.explain("This one is about POLLIN, and wants one exclusive sleeper. Each judges for");
    stage.explain("itself whether that is for it. Both sides get a receipt.");
    let receipt = |walked, woken, exclusive, stopped_by| WakeReceipt {
        word: 0,
        walked,
        called: walked,
        woken,
        exclusive,
        stopped_by,
    };
    let expected = receipt(4, 3, 1, StoppedBy::Quota);
    wake(
        stage,
        &queue,
        WakeOptions::new().key(Keys::IN),
        expected,
        &mut sleepers,
    )?;
    let left: Vec<_> = sleepers.iter().map(|sleeper| sleeper.name).collect();
    stage.check("who is left", left, vec!["plain, for POLLOUT", "exclusive"]);
    stage.explain("One for all, about nothing in particular; and another one.");
    let expected = receipt(2, 2, 1, StoppedBy::End);
    wake(
        stage,
        &queue,
        WakeOptions::new().all(),
        expected,
        &mut sleepers,
    )?;
    stage.check("who is left", sleepers.len(), 0);
    let expected = receipt(0, 0, 0, StoppedBy::End);
    wake(
        stage,
        &queue,
        WakeOptions::new().all(),
        expected,
        &mut sleepers,
    )
}

pub fn word(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("No wake is remembered: that is what the condition is for");
    stage.explain("Who waits looks first, and sleeps only if the word is still what it saw. Who");
    stage.explain("wakes sets the word in the same step. So none is lost, as with futex(2).");
    let queue = factory.waitq(0, WaitqFlags::CLOEXEC)?;
    let options = WaitOptions::new().expect(0);
    let early = Sleeper::new(&queue, "early", options)?;
    stage.saw(format_args!("{}: sleeps while the word is 0", early.actor));
    let receipt = queue.wake(&WakeOptions::new().set(7))?;
    for line in told_to_waker(&receipt) {
        stage.saw(line);
    }
    stage.check("the word", receipt.word, 7);
    early.tell(stage)?;
    let late = queue.wait(&options)?;
    stage.saw(format_args!(
        "{}: comes too late to sleep",
        std::process::id()
    ));
    for line in told_to_sleeper(&late) {
        stage.saw(format_args!("  {line}"));
    }
    stage.check("the late one's errno", late.reason.errno(), libc::EAGAIN);
    Ok(())
}

/// Wakes, and shows what all who had to do with it are told.
fn wake(
    stage: &mut Stage,
    queue: &Waitq,
    options: WakeOptions,
    expected: WakeReceipt,
    sleepers: &mut Vec<Sleeper>,
) -> io::Result<()> {
    let receipt = queue.wake(&options)?;
    for line in told_to_waker(&receipt) {
        stage.saw(line);
    }
    stage.check("the waker's receipt", receipt, expected);
    // A wake takes off the queue whom it wakes.
    let waiters = queue.waiters()?.waiters;
    let sleeps_on = |sleeper: &Sleeper| {
        let pid = Some(sleeper.pid());
        waiters.iter().any(|waiter| waiter.pid == pid)
    };
    let (left, woken): (Vec<_>, _) = sleepers.drain(..).partition(sleeps_on);
    *sleepers = left;
    woken
        .into_iter()
        .try_for_each(|sleeper| sleeper.tell(stage))
}

/// A process that sleeps on the queue.
struct Sleeper {
    actor: Actor,
    name: &'static str,
    receipt: UnixStream,
}

impl Sleeper {
    /// Forks it, and looks until it is on the queue.
    fn new(queue: &Waitq, name: &'static str, options: WaitOptions) -> io::Result<Self> {
        let (receipt, mut its_end) = UnixStream::pair()?;
        let actor = fork(|| {
            let told = queue.wait(&options)?;
            its_end.write_all(told_to_sleeper(&told).join("\n").as_bytes())
        })?;
        let sleeper = Self {
            actor,
            name,
            receipt,
        };
        let pid = Some(sleeper.pid());
        sleeper.actor.wait_until(|| {
            let waiters = queue.waiters()?.waiters;
            Ok(waiters.into_iter().find(|waiter| waiter.pid == pid))
        })?;
        Ok(sleeper)
    }

    fn pid(&self) -> i32 {
        self.actor.pid().as_raw_nonzero().get()
    }

    /// Waits for its end, and shows its receipt.
    fn tell(mut self, stage: &mut Stage) -> io::Result<()> {
        let status = self.actor.wait()?;
        stage.check("the sleeper's exit status", status, 0);
        let mut receipt = String::new();
        self.receipt.read_to_string(&mut receipt)?;
        stage.saw(format_args!("{}: {}", self.actor, self.name));
        for line in receipt.lines() {
            stage.saw(format_args!("  {line}"));
        }
        Ok(())
    }
}
