// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo counter`.

use std::io::Write;
use std::os::fd::AsFd;

use ipcdemo_client::{Counter, CounterFlags, Factory};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::cli::{self, Mode, Readiness};
use crate::command;
use crate::failure::Failure;
use crate::proc::FdInfo;
use crate::target::open;

pub fn run(out: &mut impl Write, command: cli::Counter) -> Result<(), Failure> {
    match command {
        cli::Counter::Read { target, mode } => {
            let counter = open(&target)?;
            let value = in_mode(&counter, &mode, Counter::read)?;
            writeln!(out, "{value}")?;
        }
        cli::Counter::Write {
            value,
            target,
            mode,
        } => {
            let counter = open(&target)?;
            in_mode(&counter, &mode, |counter| counter.write(value))?;
        }
        cli::Counter::Poll {
            target,
            until,
            timeout,
        } => {
            let ready = ready(&open(&target)?, until, timeout)?;
            writeln!(out, "{ready}")?;
        }
        cli::Counter::Info { target } => {
            let info = FdInfo::of(open::<Counter>(&target)?.as_fd())?;
            let count = info
                .count()
                .ok_or_else(|| Failure::new("this is no counter"))?;
            writeln!(out, "count: {count}")?;
            writeln!(
                out,
                "semaphore: {}",
                if info.is_semaphore() { "yes" } else { "no" }
            )?;
        }
        cli::Counter::With {
            initval,
            semaphore,
            nonblock,
            command,
        } => {
            let mut flags = CounterFlags::CLOEXEC;
            flags.set(CounterFlags::SEMAPHORE, semaphore);
            flags.set(CounterFlags::NONBLOCK, nonblock);
            let counter = Factory::open()?
                .counter(initval, flags)
                .map_err(Failure::because("cannot make a counter"))?;
            command::with_object(counter, &command)?;
        }
    }
    Ok(())
}

/// Does something that must not sleep, if the mode says so.
fn in_mode<T>(
    counter: &Counter,
    mode: &Mode,
    operation: impl FnOnce(&Counter) -> std::io::Result<T>,
) -> Result<T, Failure> {
    if !mode.nonblock {
        return Ok(operation(counter)?);
    }
    // The flag belongs to all who share the counter's file, so it is put back.
    let flags = fcntl_getfl(counter).map_err(std::io::Error::from)?;
    fcntl_setfl(counter, flags | OFlags::NONBLOCK).map_err(std::io::Error::from)?;
    let result = operation(counter);
    fcntl_setfl(counter, flags).map_err(std::io::Error::from)?;
    Ok(result?)
}

/// Waits if asked to, and says in words what the counter is ready for.
fn ready(
    counter: &Counter,
    until: Option<Readiness>,
    timeout: Option<u32>,
) -> Result<String, Failure> {
    let timespec = |ms: u32| Timespec {
        tv_sec: (ms / 1000).into(),
        tv_nsec: (ms % 1000 * 1_000_000).into(),
    };
    if let Some(until) = until {
        let events = match until {
            Readiness::Read => PollFlags::IN,
            Readiness::Write => PollFlags::OUT,
        };
        let timeout = timeout.map(timespec);
        let mut fds = [PollFd::new(counter, events)];
        if poll(&mut fds, timeout.as_ref()).map_err(std::io::Error::from)? == 0 {
            return Err(Failure::with_code(3, "it was not ready in time"));
        }
    }
    let mut fds = [PollFd::new(counter, PollFlags::IN | PollFlags::OUT)];
    poll(&mut fds, Some(&timespec(0))).map_err(std::io::Error::from)?;
    let words: Vec<_> = [
        (PollFlags::IN, "read"),
        (PollFlags::OUT, "write"),
        (PollFlags::ERR, "error"),
        (PollFlags::HUP, "hangup"),
    ]
    .into_iter()
    .filter_map(|(flag, word)| fds[0].revents().contains(flag).then_some(word))
    .collect();
    Ok(words.join(" "))
}
