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
    let mut cases = vec![Case::new(
        "waitq/entry of an epoll set, add+remove",
        BOTH,
        add_remove,
    )];
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
        "waitq/wake, nobody there",
        MODULE_ONLY,
        |kit, _| {
            let queue = kit.waitq()?;
            Ok(kit.clock.batch(move || wake(&queue, 1, 0)))
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

/// A write to a counter that an epoll set watches by many descriptors, for something else: the walk comes
/// to each entry. The last one, which stands at the head, may be for it.
fn entries_of_a_set(kit: &Kit, side: Side, entries: usize, last: bool) -> io::Result<Round> {
    let (counter, set) = (kit.counter(side)?, epoll()?);
    let descriptors: Vec<Fd> = (0..entries)
        .map(|_| Ok(Arc::new(counter.try_clone()?)))
        .collect::<io::Result<_>>()?;
    for (number, descriptor) in descriptors.iter().enumerate() {
        let events = if last && number == 0 {
            EventFlags::IN
        } else {
            EventFlags::PRI
        };
        epoll_add(&set, descriptor, events | EventFlags::ET)?;
    }
    Ok(kit.clock.batch(move || {
        let _alive = (&set, &descriptors);
        add(&counter, 1)
    }))
}

/// Those that are woken sleep again before the call returns.
fn sleeping(kit: &Kit, sleepers: usize, nr: u32) -> io::Result<Round> {
    let queue = kit.waitq()?;
    let woken = Arc::clone(&queue);
    let helpers = Helpers::start(sleepers, &[0], EAGER, move || sleep(&woken, 0))?;
    Ok(kit.clock.batch(move || {
        let _alive = &helpers;
        wake(&queue, nr, 0)
    }))
}
