// SPDX-License-Identifier: GPL-2.0

//! The pipe and the FIFO.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use ipcdemo_client::{Factory, Fifo, Object, PipeFlags, PipeReader, PipeWriter};

use super::actor::{Actor, fork};
use super::stage::Stage;
use super::{entry, expect};

const PAGE: usize = 4096;

pub fn buffers(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("A pipe is a ring of buffers, each a page");
    stage.explain("What is written joins the last buffer if it fits; packets never do. So a");
    stage.explain("pipe is full when its buffers are, whatever is in them.");
    for (name, flags) in [
        ("a stream", PipeFlags::empty()),
        ("packets", PipeFlags::DIRECT),
    ] {
        let (mut reader, mut writer) = factory.pipe(0, flags | PipeFlags::CLOEXEC)?;
        for word in ["one ", "two ", "three"] {
            writer.write_all(word.as_bytes())?;
        }
        let used = listed(factory, &reader)?.value;
        let mut text = [0; 100];
        let length = reader.read(&mut text)?;
        stage.saw(format_args!(
            "{name:<8}  three writes: {used} of {} buffers; a read of 100: {:?}",
            reader.capacity()? as usize / PAGE,
            String::from_utf8_lossy(&text[..length]),
        ));
        let expected = if flags.is_empty() { (1, 13) } else { (3, 4) };
        stage.check("the buffers and the bytes", (used, length), expected);
    }
    Ok(())
}

pub fn full(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("Who writes to a full pipe sleeps, and who makes room wakes one");
    let (mut reader, mut writer) = factory.pipe(PAGE as u32, PipeFlags::CLOEXEC)?;
    writer.write_all(&[1; PAGE])?;
    let sleeper = fork(|| expect((&writer).write(b"!")?, 1))?;
    let asleep = sleeper.wait_until_asleep(libc::SYS_write)?;
    stage.saw(format_args!(
        "writer {sleeper}: asleep in write(), in the kernel's {}; waiters: {}",
        asleep.wchan,
        listed(factory, &reader)?.waiters
    ));
    let mut page = [0; PAGE];
    reader.read_exact(&mut page[..1])?;
    let now = sleeper.wait_until_asleep(libc::SYS_write)?;
    stage.saw("a read of 1 byte: the buffer is in use still, and nobody was woken");
    stage.check("how often the writer slept", now.sleeps, asleep.sleeps);
    reader.read_exact(&mut page[1..])?;
    stage.check("the writer's exit status", sleeper.wait()?, 0);
    let length = reader.read(&mut page)?;
    stage.saw("a read of the rest: the writer woke, and what it wrote is there");
    stage.check("what it wrote", &page[..length], b"!");
    Ok(())
}

pub fn turns(stage: &mut Stage, factory: &Factory) -> io::Result<()> {
    stage.title("A write wakes one of those who read");
    stage.explain("They are exclusive, unlike a counter's: the others sleep on, undisturbed.");
    stage.explain("When the last writer leaves there is nothing to wait for, and all wake.");
    let (reader, mut writer) = factory.pipe(0, PipeFlags::CLOEXEC)?;
    let mut sleepers = Vec::new();
    for wanted in ["a", "b", ""] {
        let sleeper = reading(&reader, &writer, wanted)?;
        let sleeps = sleeper.wait_until_asleep(libc::SYS_read)?.sleeps;
        sleepers.push((sleeper, sleeps));
    }
    for byte in [b"a", b"b"] {
        writer.write_all(byte)?;
        let (winner, _) = sleepers.remove(0);
        stage.check("the reader's exit status", winner.wait()?, 0);
        let slept_on = sleepers
            .iter()
            .map(|(sleeper, sleeps)| {
                Ok(sleeper.wait_until_asleep(libc::SYS_read)?.sleeps == *sleeps)
            })
            .collect::<io::Result<Vec<_>>>()?;
        stage.saw(format_args!(
            "a write of 1 byte: {winner} took it; {} sleep on",
            sleepers.len()
        ));
        stage.check("they slept on", slept_on.iter().all(|&slept| slept), true);
    }
    drop(writer);
    let (last, _) = sleepers.remove(0);
    stage.check("the last one's exit status", last.wait()?, 0);
    stage.saw(format_args!(
        "the writer left: {last} read 0 bytes, the end"
    ));
    Ok(())
}

/// A process that reads what it is to get, and then ends. It closes its writer first: as long as there is
/// one, there is no end.
fn reading(reader: &PipeReader, writer: &PipeWriter, wanted: &str) -> io::Result<Actor> {
    fork(|| {
        // SAFETY: The process is a copy of the tour's, and ends without using the writer again.
        unsafe { libc::close(writer.as_fd().as_raw_fd()) };
        let mut text = [0; 10];
        let length = { reader }.read(&mut text)?;
        expect(&text[..length], wanted.as_bytes())
    })
}

pub fn fifo(stage: &mut Stage, _factory: &Factory) -> io::Result<()> {
    stage.title("A FIFO is a pipe with a name, and opening it is meeting somebody");
    let reader = fork(|| {
        let mut fifo = File::open(Fifo::PATH)?;
        let mut text = [0; 10];
        fifo.read_exact(&mut text[..5])?;
        expect(&text[..5], b"hello")?;
        expect(fifo.read(&mut text)?, 0)
    })?;
    let asleep = reader.wait_until_asleep(libc::SYS_openat)?;
    stage.saw(format_args!(
        "reader {reader}: asleep in open({}), in the kernel's {}",
        Fifo::PATH,
        asleep.wchan
    ));
    let mut writer = File::options().write(true).open(Fifo::PATH)?;
    writer.write_all(b"hello")?;
    drop(writer);
    stage.check("the reader's exit status", reader.wait()?, 0);
    stage.saw(format_args!(
        "writer {}: opened it, wrote, and left; the reader read \"hello\", and then the end",
        std::process::id()
    ));
    Ok(())
}

/// Returns a pipe of this process as the factory lists it.
fn listed(factory: &Factory, reader: &PipeReader) -> io::Result<Object> {
    entry(factory, reader.as_fd())
}
