// SPDX-License-Identifier: GPL-2.0

//! The counter, against eventfd.

use std::io;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFlags, Timespec};

use crate::measure::case::{BOTH, Case, Round, WITH_FLOOR, WITH_FLOORS};
use crate::measure::kit::{Kit, Maker, add, close, epoll, epoll_add, epoll_wait, poll, take};
use crate::measure::tasks::{EAGER, Helpers, MEASURING};
use crate::record::{Setting, Side};

/// All its operations.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("counter/write+read", WITH_FLOORS, write_read),
        Case::new("counter/read, semaphore", BOTH, semaphore),
        Case::new("counter/poll, ready, timeout -1", BOTH, poll_ready),
        Case::new("counter/create+close", WITH_FLOOR, create).long(),
        Case::new("counter/open+create+close", BOTH, open_and_create)
            .long()
            .opening(),
        Case::new("counter/write, epoll set armed", BOTH, epoll_armed),
        Case::new("counter/write, epoll waiter woken", BOTH, epoll_waiter),
        Case::new("counter/write, poller woken", BOTH, poller),
    ];
    for readers in [1, 8, 64, 1000] {
        let name = format!("counter/write, {readers} sleeping readers woken");
        cases.push(Case::new(name, BOTH, move |kit, side| {
            sleeping_readers(kit, side, readers)
        }));
    }
    cases.extend([
        Case::new("counter/ping-pong, same CPU", BOTH, |kit, side| {
            ping_pong(kit, side, 0)
        }),
        Case::new("counter/ping-pong, two CPUs", BOTH, |kit, side| {
            ping_pong(kit, side, 1)
        })
        .only(Setting::Wall),
        Case::new("counter/4 writers, 1 reader, a write", BOTH, many_writers).only(Setting::Wall),
    ]);
    cases
}

fn write_read(kit: &Kit, side: Side) -> io::Result<Round> {
    let counter = kit.counter(side)?;
    Ok(kit.clock.batch(move || {
        add(&counter, 1)?;
        take(&counter)?;
        Ok(())
    }))
}

fn semaphore(kit: &Kit, side: Side) -> io::Result<Round> {
    let counter = kit.maker(side).counter(u32::MAX, true)?;
    Ok(kit.clock.batch(move || take(&counter).map(drop)))
}

fn poll_ready(kit: &Kit, side: Side) -> io::Result<Round> {
    let counter = kit.counter(side)?;
    add(&counter, 1)?;
    Ok(kit.clock.batch(move || poll(&counter, PollFlags::IN)))
}

/// Makes one, and closes it.
pub fn create(kit: &Kit, side: Side) -> io::Result<Round> {
    let maker = kit.maker(side);
    Ok(kit.clock.batch(move || maker.counter(0, false).map(close)))
}

/// As a program does that makes one.
fn open_and_create(kit: &Kit, side: Side) -> io::Result<Round> {
    let side = kit.whose(side);
    Ok(kit.clock.batch(move || {
        let maker = Maker::open(side)?;
        let counter = maker.counter(0, false)?;
        maker.close();
        close(counter);
        Ok(())
    }))
}

const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The write alone, which puts the item on the set's list; it is taken off between.
fn epoll_armed(kit: &Kit, side: Side) -> io::Result<Round> {
    let (counter, set) = (kit.counter(side)?, epoll()?);
    epoll_add(&set, &counter, EventFlags::IN | EventFlags::ET)?;
    Ok(kit.clock.timed(
        || Ok(()),
        move || add(&counter, 1),
        move || match epoll_wait(&set, Some(&NOW))? {
            1 => Ok(()),
            _ => Err(io::Error::other("the set was not armed")),
        },
    ))
}

/// The write, and all that the woken task does until it waits again.
fn epoll_waiter(kit: &Kit, side: Side) -> io::Result<Round> {
    let (counter, set) = (kit.counter(side)?, epoll()?);
    epoll_add(&set, &counter, EventFlags::IN)?;
    let woken = Arc::clone(&counter);
    let helpers = Helpers::start(1, &[0], EAGER, move || {
        epoll_wait(&set, None)?;
        take(&woken).map(drop)
    })?;
    Ok(kit.clock.batch(move || {
        let _alive = &helpers;
        add(&counter, 1)
    }))
}

fn poller(kit: &Kit, side: Side) -> io::Result<Round> {
    let counter = kit.counter(side)?;
    let woken = Arc::clone(&counter);
    let helpers = Helpers::start(1, &[0], EAGER, move || {
        poll(&woken, PollFlags::IN)?;
        take(&woken).map(drop)
    })?;
    Ok(kit.clock.batch(move || {
        let _alive = &helpers;
        add(&counter, 1)
    }))
}

/// All are woken, one finds something, and all sleep again.
fn sleeping_readers(kit: &Kit, side: Side, readers: usize) -> io::Result<Round> {
    let counter = kit.counter(side)?;
    let woken = Arc::clone(&counter);
    let helpers = Helpers::start(readers, &[0], EAGER, move || take(&woken).map(drop))?;
    Ok(kit.clock.batch(move || {
        let _alive = &helpers;
        add(&counter, 1)
    }))
}

/// There and back again.
fn ping_pong(kit: &Kit, side: Side, cpu: usize) -> io::Result<Round> {
    let (there, back) = (kit.counter(side)?, kit.counter(side)?);
    let ends = (Arc::clone(&there), Arc::clone(&back));
    let helpers = Helpers::start(1, &[cpu], MEASURING, move || {
        take(&ends.0)?;
        add(&ends.1, 1)
    })?;
    Ok(kit.clock.batch(move || {
        let _alive = &helpers;
        add(&there, 1)?;
        take(&back).map(drop)
    }))
}

/// The writers are given leave by another eventfd, so that they rest while the other side is measured.
fn many_writers(kit: &Kit, side: Side) -> io::Result<Round> {
    const AT_ONCE: u64 = 64;
    let leave = kit.maker(Side::Native).counter(0, true).map(Arc::new)?;
    let counter = kit.counter(side)?;
    let ends = (Arc::clone(&leave), Arc::clone(&counter));
    let helpers = Helpers::start(4, &[1, 0], 0, move || {
        take(&ends.0)?;
        (0..AT_ONCE).try_for_each(|_| add(&ends.1, 1))
    })?;
    Ok(kit.clock.whole(move |turns| {
        let _alive = &helpers;
        let writes = turns.next_multiple_of(AT_ONCE);
        add(&leave, writes / AT_ONCE)?;
        let mut seen = 0;
        while seen < writes {
            seen += take(&counter)?;
        }
        Ok(())
    }))
}
