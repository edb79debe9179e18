// SPDX-License-Identifier: GPL-2.0

//! Pipes, against the kernel's own.

use std::io;
use std::rc::Rc;

use rustix::pipe::{SpliceFlags, splice};

use crate::measure::case::{BOTH, Case, Round, WITH_FLOORS};
use crate::measure::kit::{Kit, Maker, close, read, write};
use crate::measure::tasks::{EAGER, Helpers, MEASURING};
use crate::record::{Setting, Side};

/// All their operations.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (bytes, name) in [
        (1, "1 B"),
        (8, "8 B"),
        (512, "512 B"),
        (4 << 10, "4 KiB"),
        (64 << 10, "64 KiB"),
    ] {
        let name = format!("pipe/write+read, {name}");
        cases.push(Case::new(name, WITH_FLOORS, move |kit, side| {
            write_read(kit, side, bytes)
        }));
    }
    cases.extend([
        Case::new("pipe/write+splice+read, 4 KiB", BOTH, spliced),
        Case::new("pipe/create+close", BOTH, create).long(),
        Case::new("pipe/open+create+close", BOTH, open_and_create)
            .long()
            .opening(),
        Case::new("pipe/create+write+read+close", BOTH, create_and_use).long(),
        Case::new("pipe/ping-pong, same CPU", BOTH, |kit, side| {
            ping_pong(kit, side, 0)
        }),
        Case::new("pipe/ping-pong, two CPUs", BOTH, |kit, side| {
            ping_pong(kit, side, 1)
        })
        .only(Setting::Wall),
    ]);
    for readers in [1, 10, 100] {
        let name = format!("pipe/write, 1 of {readers} sleeping readers woken");
        cases.push(Case::new(name, BOTH, move |kit, side| {
            sleeping_readers(kit, side, readers)
        }));
    }
    cases
}

fn write_read(kit: &Kit, side: Side, bytes: usize) -> io::Result<Round> {
    let (reader, writer) = kit.pipe(side)?;
    // The same memory for all sides.
    let buffers = Rc::clone(&kit.buffers);
    Ok(kit.clock.batch(move || {
        let (from, to) = &mut *buffers.borrow_mut();
        write(&writer, &from[..bytes])?;
        read(&reader, &mut to[..bytes])
    }))
}

/// By way of a pipe of the kernel's, whichever the first one is.
fn spliced(kit: &Kit, side: Side) -> io::Result<Round> {
    const BYTES: usize = 4 << 10;
    let (from, to) = (kit.pipe(side)?, kit.pipe(Side::Native)?);
    let mut bytes = [1; BYTES];
    Ok(kit.clock.batch(move || {
        write(&from.1, &bytes)?;
        if splice(&from.0, None, &to.1, None, BYTES, SpliceFlags::empty())? != BYTES {
            return Err(io::Error::other("not all was spliced"));
        }
        read(&to.0, &mut bytes)
    }))
}

pub(super) fn create(kit: &Kit, side: Side) -> io::Result<Round> {
    let maker = kit.maker(side);
    Ok(kit.clock.batch(move || {
        let (reader, writer) = maker.pipe()?;
        close(reader);
        close(writer);
        Ok(())
    }))
}

/// As a program does that makes one.
fn open_and_create(kit: &Kit, side: Side) -> io::Result<Round> {
    let side = kit.whose(side);
    Ok(kit.clock.batch(move || {
        let maker = Maker::open(side)?;
        let (reader, writer) = maker.pipe()?;
        maker.close();
        close(reader);
        close(writer);
        Ok(())
    }))
}

fn create_and_use(kit: &Kit, side: Side) -> io::Result<Round> {
    let maker = kit.maker(side);
    Ok(kit.clock.batch(move || {
        let (reader, writer) = maker.pipe()?;
        write(&writer, &[1; 8])?;
        read(&reader, &mut [0; 8])?;
        close(reader);
        close(writer);
        Ok(())
    }))
}

/// There and back again, a byte.
fn ping_pong(kit: &Kit, side: Side, cpu: usize) -> io::Result<Round> {
    let (there, back) = (kit.pipe(side)?, kit.pipe(side)?);
    let (reader, writer) = (there.0, back.1);
    let helpers = Helpers::start(1, &[cpu], MEASURING, move || {
        read(&reader, &mut [0])?;
        write(&writer, &[1])
    })?;
    let (reader, writer) = (back.0, there.1);
    Ok(kit.clock.batch(move || {
        let _alive = &helpers;
        write(&writer, &[1])?;
        read(&reader, &mut [0])
    }))
}

/// One is woken, finds something, and sleeps again, behind the others.
fn sleeping_readers(kit: &Kit, side: Side, readers: usize) -> io::Result<Round> {
    let (reader, writer) = kit.pipe(side)?;
    let helpers = Helpers::start(readers, &[0], EAGER, move || read(&reader, &mut [0]))?;
    Ok(kit.clock.batch(move || {
        let _alive = &helpers;
        write(&writer, &[1])
    }))
}
