// SPDX-License-Identifier: GPL-2.0

//! The calls that make objects, and what is done in their place.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ipcdemo_client::{CounterFlags, Factory, Kind, OpenError, PipeFlags, PipeReader};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

use super::caller::{self, Caller};
use super::filter::Stop;
use super::listener::{Answer, Call, Listener};

/// A system call that is done here.
pub struct Intercept {
    /// The objects that it is about.
    pub kind: Kind,
    pub stop: Stop,
    act: fn(&Request<'_>) -> Outcome,
}

/// What has come of a call.
pub enum Outcome {
    /// The caller has an object of ours.
    Made(Answer),
    /// It has asked something of one, or of another's that is left alone.
    Asked(Answer),
    /// It gets the error that the original would have given.
    Refused(Errno),
    /// The kernel makes an object of its own, because of this.
    Left(&'static str),
    /// The caller does not wait any more, or cannot be found.
    Gone,
}

impl From<Errno> for Outcome {
    fn from(error: Errno) -> Self {
        match error {
            // Of a notification, or of a thread.
            Errno::NOENT | Errno::SRCH => Self::Gone,
            error => Self::Refused(error),
        }
    }
}

const ANY: &[u32] = &[];
const SIZES: &[u32] = &[SET_PIPE_SIZE, libc::F_GETPIPE_SZ as u32];
const SET_PIPE_SIZE: u32 = libc::F_SETPIPE_SZ as u32;

/// All of them: the kind, the numbers for x86-64 and i386, the commands, what is done. Another
/// kind of object is a line here for each call that makes one, and a function below.
const INTERCEPTS: &[Intercept] = &[
    Intercept::new(Kind::Counter, 284, &[323], ANY, eventfd),
    Intercept::new(Kind::Counter, 290, &[328], ANY, eventfd2),
    Intercept::new(Kind::Pipe, 22, &[42], ANY, pipe),
    Intercept::new(Kind::Pipe, 293, &[331], ANY, pipe2),
    Intercept::new(Kind::Pipe, 72, &[55, 221], SIZES, fcntl),
];

impl Intercept {
    const fn new(
        kind: Kind,
        x86_64: u32,
        i386: &'static [u32],
        commands: &'static [u32],
        act: fn(&Request<'_>) -> Outcome,
    ) -> Self {
        let stop = Stop {
            x86_64,
            i386,
            commands,
        };
        Self { kind, stop, act }
    }

    /// What is to be done about a call that has stopped.
    pub fn of(call: &Call) -> Option<&'static Self> {
        INTERCEPTS
            .iter()
            .find(|intercept| intercept.stop.is(call.arch, call.number))
    }

    /// Does it.
    pub fn act(&self, listener: &Listener, call: &Call) -> Outcome {
        (self.act)(&Request { listener, call })
    }
}

/// The calls that are about some kinds of objects.
pub fn stops(kinds: &[Kind]) -> impl Iterator<Item = &'static Stop> + Clone {
    INTERCEPTS
        .iter()
        .filter(|intercept| kinds.contains(&intercept.kind))
        .map(|intercept| &intercept.stop)
}

/// A call, and where it came from.
struct Request<'a> {
    listener: &'a Listener,
    call: &'a Call,
}

/// eventfd(2).
fn eventfd(request: &Request<'_>) -> Outcome {
    request.counter(CounterFlags::empty())
}

/// eventfd2(2).
fn eventfd2(request: &Request<'_>) -> Outcome {
    request.counter(CounterFlags::from_bits_retain(request.call.args[1] as u32))
}

/// pipe(2).
fn pipe(request: &Request<'_>) -> Outcome {
    request.pipe(PipeFlags::empty())
}

/// pipe2(2).
fn pipe2(request: &Request<'_>) -> Outcome {
    let flags = request.call.args[1] as u32;
    if flags & libc::O_EXCL as u32 != 0 {
        return Outcome::Left("notification pipes are the kernel's");
    }
    request.pipe(PipeFlags::from_bits_retain(flags))
}

/// fcntl(2) with F_SETPIPE_SZ or F_GETPIPE_SZ, which know the kernel's own pipes only.
fn fcntl(request: &Request<'_>) -> Outcome {
    let [fd, command, size, ..] = request.call.args;
    // A wrong number the kernel refuses, and one that may not be reached it knows best.
    let descriptor = match fd as i32 {
        0.. => caller::descriptor(request.listener, request.call, fd as i32).ok(),
        _ => None,
    };
    let Some(fd) = descriptor else {
        return Outcome::Asked(Answer::GoesOn);
    };
    let ours = is_like_a_pipe(&fd).then(|| PipeReader::from(fd));
    match ours.map(|pipe| (pipe.capacity(), pipe)) {
        Some((Ok(capacity), pipe)) => {
            let result = match command as u32 {
                SET_PIPE_SIZE => pipe.set_capacity(size as u32),
                _ => Ok(capacity),
            };
            Outcome::Asked(Answer::Returns(
                result.map(i64::from).map_err(|error| errno(&error)),
            ))
        }
        _ => Outcome::Asked(Answer::GoesOn),
    }
}

/// Whether it may be a pipe of ours, or a FIFO, which is a device: others might take the
/// request for one of their own.
fn is_like_a_pipe(fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|stat| {
        let kind = FileType::from_raw_mode(stat.st_mode);
        matches!(kind, FileType::Fifo | FileType::CharacterDevice)
    })
}

impl Request<'_> {
    /// Gives the caller a new counter, and its number is what the call returns.
    fn counter(&self, flags: CounterFlags) -> Outcome {
        let initval = self.call.args[0] as u32;
        let kept = flags | CounterFlags::CLOEXEC;
        let made = factory().and_then(|factory| factory.counter(initval, kept));
        match made {
            Ok(counter) => {
                let cloexec = flags.contains(CounterFlags::CLOEXEC);
                match self
                    .listener
                    .add_and_return(self.call, counter.as_fd(), cloexec)
                {
                    Ok(()) => Outcome::Made(Answer::Done),
                    Err(error) => error.into(),
                }
            }
            Err(error) => Outcome::Refused(errno(&error)),
        }
    }

    /// Gives the caller both ends of a new pipe.
    fn pipe(&self, flags: PipeFlags) -> Outcome {
        self.try_pipe(flags).unwrap_or_else(|outcome| outcome)
    }

    /// Errors come in the order in which the original finds them (`do_pipe2` in `fs/pipe.c`).
    ///
    /// What was given cannot be taken back. So all that can fail is looked at before: only
    /// another thread of the caller's, if it takes the last number or the memory away just
    /// then, could leave it with an end of a pipe that it does not know of. Nor can a number
    /// be reserved from outside: to write them first and to place the ends there afterwards
    /// would replace what another thread opens in between.
    fn try_pipe(&self, flags: PipeFlags) -> Result<Outcome, Outcome> {
        const LEN: u64 = size_of::<[i32; 2]>() as u64;
        let address = self.call.args[0];
        let kept = flags | PipeFlags::CLOEXEC;
        let made = factory().and_then(|factory| factory.pipe(0, kept));
        let (reader, writer) = made.map_err(|error| Outcome::Refused(errno(&error)))?;
        let caller = Caller::of(self.listener, self.call).map_err(|error| unreached(&error))?;
        if !caller.has_room_for(2).map_err(|error| unreached(&error))? {
            return Err(Outcome::Refused(Errno::MFILE));
        }
        if !caller
            .could_write(address, LEN)
            .map_err(|error| unreached(&error))?
        {
            // The kernel finds so, too; or it extends the stack as far as there.
            return Err(Outcome::Asked(Answer::GoesOn));
        }
        let cloexec = flags.contains(PipeFlags::CLOEXEC);
        let mut numbers = Vec::with_capacity(LEN as usize);
        for end in [reader.as_fd(), writer.as_fd()] {
            let number = self.listener.add(self.call, end, cloexec)?;
            numbers.extend(number.to_ne_bytes());
        }
        caller
            .write(address, &numbers)
            .map_err(|_| Outcome::Refused(Errno::FAULT))?;
        Ok(Outcome::Made(Answer::Returns(Ok(0))))
    }
}

/// Opened for each object: so a supervisor that is about to end does not keep the module
/// from being unloaded.
pub fn factory() -> io::Result<Factory> {
    Factory::open().map_err(|error| match error {
        OpenError::NotLoaded { .. } => Errno::NODEV.into(),
        OpenError::Denied { source, .. } | OpenError::Other { source, .. } => source,
    })
}

/// What becomes of a call whose caller's memory or limits cannot be looked at.
fn unreached(error: &io::Error) -> Outcome {
    match errno(error) {
        Errno::ACCESS | Errno::PERM => Outcome::Left("the program may not be looked into"),
        _ => Outcome::Gone,
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
