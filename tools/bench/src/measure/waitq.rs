// SPDX-License-Identifier: GPL-2.0

//! Wait queues: with entries that others put there, against the kernel's own; and the bare one, which only
//! the module has.

use std::io;
use std::sync::Arc;

use rustix::event::epoll::{self, EventFlags};

use crate::measure::case::{BOTH, Case, MODULE_ONLY, Round};
use crate::measure::kit::{Fd, Kit, add, epoll, epoll_add, sleep, wake};
use crate::measure::tasks::{EAGER, Helpers};
use crate::record::Side;

/// All their operations.
pub fn cases() -> Vec<Case> {
    let add_remove = Case::new("waitq/entry of an epoll set, add+remove", BOTH, add_remove);
    let mut cases = vec![add_remove.long()];
    for entries in [1, 100, 10_000] {
        let name = format!("waitq/write, {entries} entries, none for it");
        cases.push(Case::new(name, BOTH, move |kit, side| {
            entries_of_a_set(kit, side, entries, false)
        }));
    }
    cases.push(Case::new(
        "waitq/write, 100 entries, the last for it",
        BOTH,
        |kit, side| entries_of_a_set(kit, side, 100, true),
    ));
    for sleepers in [1, 10, 100, 1000] {
        let name = format!("waitq/wake 1 of {sleepers} sleepers");
        cases.push(Case::new(name, MODULE_ONLY, move |kit, _| {
            sleeping(kit, sleepers, 1)
        }));
    }
    cases.push(Case::new(
        "waitq/wake all of 100 sleepers",
        MODULE_ONLY,
        |kit, _| sleeping(kit, 100, 0),
    ));
    cases.push(Case::new(
        "waitq/wake keyed, matches one of 100",
        MODULE_ONLY,
        |kit, _| matching_one(kit, 100),
    ));
    cases.push(Case::new(
        "waitq/wake 1 of 1 sleepers, behind 10000 entries",
        MODULE_ONLY,
        |kit, _| behind_entries(kit, 10_000),
    ));
    cases.push(Case::new(
        "waitq/wake, nobody there",
        MODULE_ONLY,
        |kit, _| {
            let queue = kit.waitq()?;
            Ok(kit.clock.batch(move || wake(&queue, 1, 0).map(drop)))
        },
    ));
    cases
}

fn add_remove(kit: &Kit, side: Side) -> io::Result<Round> {
    let (counter, set) = (kit.counter(side)?, epoll()?);
    Ok(kit.clock.batch(move || {
        epoll_add(&set, &counter, EventFlags::IN)?;
        Ok(epoll::delete(&set, &counter)?)
    }))
}

/// A write to a counter that an epoll set watches by many descriptors: the walk comes to each entry.
fn entries_of_a_set(kit: &Kit, side: Side, entries: usize, last: bool) -> io::Result<Round> {
    let counter = kit.counter(side)?;
    let watched = watched(&counter, entries, last)?;
    Ok(kit.clock.batch(move || {
        let _alive = &watched;
        add(&counter, 1)
    }))
}

/// An epoll set that watches something by many descriptors, and these. It waits for something else; what the
/// walk comes to last, which was added first, may be for it.
fn watched(fd: &Fd, entries: usize, last: bool) -> io::Result<(Fd, Vec<Fd>)> {
    let set = epoll()?;
    let descriptors: Vec<Fd> = (0..entries)
        .map(|_| Ok(Arc::new(fd.try_clone()?)))
        .collect::<io::Result<_>>()?;
    for (number, descriptor) in descriptors.iter().enumerate() {
        let events = if last && number == 0 {
            EventFlags::IN
        } else {
            EventFlags::PRI
        };
        epoll_add(&set, descriptor, events | EventFlags::ET)?;
    }
    Ok((set, descriptors))
}

/// Those that are woken sleep again before the call returns.
fn sleeping(kit: &Kit, sleepers: usize, nr: u32) -> io::Result<Round> {
    let queue = kit.waitq()?;
    let helpers = [sleepers_for(&queue, sleepers, 0)?];
    let expected = if nr == 0 { sleepers as u32 } else { nr };
    waking(kit, queue, helpers, nr, 0, expected)
}

/// The others wait for something else, and stand before the one that is woken: the walk comes to all.
fn matching_one(kit: &Kit, sleepers: usize) -> io::Result<Round> {
    let queue = kit.waitq()?;
    let helpers = [
        sleepers_for(&queue, sleepers - 1, PRI)?,
        sleepers_for(&queue, 1, IN)?,
    ];
    waking(kit, queue, helpers, 1, IN, 1)
}

/// Entries of an epoll set, none for it, stand before the one that is woken.
fn behind_entries(kit: &Kit, entries: usize) -> io::Result<Round> {
    let queue = kit.waitq()?;
    let watched = watched(&queue, entries, false)?;
    let helpers = sleepers_for(&queue, 1, IN)?;
    waking(kit, queue, (helpers, watched), 1, IN, 1)
}

const IN: u32 = EventFlags::IN.bits();
const PRI: u32 = EventFlags::PRI.bits();

fn sleepers_for(queue: &Fd, count: usize, mask: u32) -> io::Result<Helpers> {
    let queue = Arc::clone(queue);
    Helpers::start(count, &[0], EAGER, move || sleep(&queue, mask))
}

/// The wake-up, once it is known that it wakes as many as the name says.
fn waking<T: 'static>(
    kit: &Kit,
    queue: Fd,
    sleepers: T,
    nr: u32,
    key: u32,
    expected: u32,
) -> io::Result<Round> {
    let woken = wake(&queue, nr, key)?;
    if woken != expected {
        return Err(io::Error::other(format!(
            "{woken} instead of {expected} were woken"
        )));
    }
    Ok(kit.clock.batch(move || {
        let _alive = &sleepers;
        wake(&queue, nr, key).map(drop)
    }))
}
