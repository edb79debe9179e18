// SPDX-License-Identifier: GPL-2.0

//! What may be done to a counter, how it is drawn at random, and how it is printed:
//! as Rust that can be pasted into `found.rs`.

use std::fmt;

use ipcdemo_tests::MAX;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::search;
pub use crate::words::*;

use Who::{A, B, C, Main};

/// One step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// read(2), or readv(2) unless there is one buffer.
    Read(Who, Lengths),
    /// read(2) into memory that is not there.
    ReadFault(Who),
    /// preadv2(2) at the current position, with these flags.
    ReadFlags(Who, i32),
    /// write(2).
    Write(Who, u64),
    /// writev(2), two times eight bytes.
    WriteTwo(Who, u64, u64),
    /// write(2), or writev(2) unless there is one buffer, of buffers that begin with a 1.
    WriteLengths(Who, Lengths),
    /// write(2) from memory that is not there.
    WriteFault(Who),
    /// pwritev2(2) at the current position, with these flags.
    WriteFlags(Who, i32),
    /// epoll_wait(2) for one event of one of the sets; Main's timeout is 0.
    Wait(Who, usize),
    /// EPOLL_CTL_ADD of the counter to one of the sets.
    Add(usize, Events),
    /// EPOLL_CTL_MOD.
    Modify(usize, Events),
    /// EPOLL_CTL_DEL.
    Delete(usize),
    /// A signal to a worker that sleeps, with a handler that has SA_RESTART or not.
    Signal(Who, bool),
    /// O_NONBLOCK on or off.
    Nonblocking(bool),
    /// What `/proc` tells of the counter, and so the count.
    Fdinfo,
    /// poll(2) with timeout 0.
    Poll(Events),
    /// dup(2) and close(2).
    Duplicate,
    /// lseek(2).
    Seek(i64, i32),
    /// pread(2) at 0.
    ReadAt,
    /// pwrite(2) at 0.
    WriteAt,
    /// splice(2) to a pipe.
    SpliceOut,
    /// splice(2) from a pipe with eight bytes in it.
    SpliceIn,
    /// ioctl(2) FIONREAD.
    Ioctl,
    /// ftruncate(2) to 0.
    Truncate,
    /// fsync(2).
    Sync,
}

use Operation::*;

impl Operation {
    /// Whose call it is.
    pub fn by(self) -> Who {
        match self {
            Read(who, _) | ReadFault(who) | ReadFlags(who, _) | Write(who, _) => who,
            WriteTwo(who, ..) | WriteLengths(who, _) | WriteFault(who) => who,
            WriteFlags(who, _) | Wait(who, _) => who,
            _ => Main,
        }
    }

    /// Whether it is one of those that a worker may be told.
    pub fn may_sleep(self) -> bool {
        matches!(
            self,
            Read(..)
                | ReadFault(_)
                | ReadFlags(..)
                | Write(..)
                | WriteTwo(..)
                | WriteLengths(..)
                | WriteFault(_)
                | WriteFlags(..)
        )
    }

    /// Whether it may add twice.
    pub fn writes_twice(self) -> bool {
        matches!(self, WriteTwo(..) | WriteLengths(..))
    }
}

/// Values that are easier to read by name.
const NAMED: [(u64, &str); 6] = [
    (u64::MAX, "u64::MAX"),
    (MAX, "MAX"),
    (MAX - 1, "MAX - 1"),
    (MAX - 2, "MAX - 2"),
    (1 << 63, "1 << 63"),
    (1 << 32, "1 << 32"),
];

/// A new counter, and what is done to it.
#[derive(Clone)]
pub struct Case {
    pub semaphore: bool,
    pub nonblocking: bool,
    pub initval: u32,
    /// The workers are on another processor than Main, so that they run while the
    /// call that woke them is still at work.
    pub apart: bool,
    pub operations: Vec<Operation>,
}

impl search::Case for Case {
    type Operation = Operation;

    fn operations(&self) -> &[Operation] {
        &self.operations
    }

    fn leave_out(&mut self, at: usize) {
        self.operations.remove(at);
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Case {{")?;
        writeln!(f, "        semaphore: {:?},", self.semaphore)?;
        writeln!(f, "        nonblocking: {:?},", self.nonblocking)?;
        writeln!(f, "        initval: {:?},", self.initval)?;
        writeln!(f, "        apart: {:?},", self.apart)?;
        writeln!(f, "        operations: vec![")?;
        for operation in &self.operations {
            let mut line = format!("{operation:?}");
            for (value, name) in NAMED {
                line = line.replace(&value.to_string(), name);
            }
            writeln!(f, "            {line},")?;
        }
        write!(f, "        ],\n    }}")
    }
}

/// Any case. What comes first in a list is what a failure is shrunk to.
///
/// An operation is made of a few numbers, each shrunk by itself: a tree of strategies,
/// one for each kind, costs more to build in the guest than the operation to do.
pub fn case() -> impl Strategy<Value = Case> {
    let operation = (0..100_u8, 0..5_u8, any::<[u8; 2]>(), any::<u64>()).prop_map(
        |(kind, who, [first, second], number)| {
            operation(
                kind,
                Draw {
                    who,
                    first,
                    second,
                    number,
                },
            )
        },
    );
    let settings = (any::<bool>(), 0..10_u8, 0..10_u8, 0..8_u8, any::<u32>());
    (settings, vec(operation, 1..120)).prop_map(|(settings, operations)| {
        let (semaphore, initval, nonblocking, apart, number) = settings;
        Case {
            semaphore,
            nonblocking: nonblocking == 9,
            initval: match initval {
                0..8 => u32::from(initval / 2),
                8 => u32::MAX,
                _ => number,
            },
            apart: apart == 7,
            operations,
        }
    })
}

/// Numbers to choose by.
#[derive(Clone, Copy)]
struct Draw {
    who: u8,
    first: u8,
    second: u8,
    number: u64,
}

/// The choice is often to be among few.
fn pick<T: Copy>(from: &[T], by: u8) -> T {
    from[usize::from(by) % from.len()]
}

impl Draw {
    fn who(self) -> Who {
        pick(&[Main, Main, A, B, C], self.who)
    }

    fn worker(self) -> Who {
        pick(&WORKERS, self.who)
    }

    /// A value around the boundaries, or any other.
    fn value(self, by: u8) -> u64 {
        const VALUES: [u64; 12] = [
            1,
            0,
            2,
            3,
            MAX,
            MAX,
            MAX - 1,
            MAX - 1,
            MAX - 2,
            u64::MAX,
            1 << 63,
            1 << 32,
        ];
        match usize::from(by) % (VALUES.len() + 1) {
            12 => self.number,
            index => VALUES[index],
        }
    }

    fn lengths(self) -> Lengths {
        const LENGTHS: [&[usize]; 14] = [
            &[8],
            &[0],
            &[4],
            &[7],
            &[9],
            &[16],
            &[],
            &[3, 5],
            &[4, 3],
            &[8, 8],
            &[8, 4],
            &[8, 0, 8],
            &[0, 8],
            &[1, 2, 3, 4],
        ];
        Lengths(pick(&LENGTHS, self.first))
    }

    fn set(self) -> usize {
        usize::from(self.second % 2)
    }

    /// What poll(2) may be asked.
    fn polled(self) -> Events {
        match self.first % 8 {
            0..5 => pick(&[IN, OUT, IN | OUT, RDNORM, WRNORM], self.first % 8),
            _ => Events((self.number & 0xffff) as u32),
        }
    }

    /// What an epoll set may want; the last is refused.
    fn wanted(self) -> Events {
        let how = [
            Events(0),
            ET,
            ONESHOT,
            EXCLUSIVE,
            ET | EXCLUSIVE,
            ET | ONESHOT,
            EXCLUSIVE | ONESHOT,
        ];
        let events = match self.first % 10 {
            9 => Events((self.number & 0xffff) as u32),
            index => pick(&[IN, OUT, IN | OUT], index),
        };
        events | pick(&how, self.second / 2)
    }

    /// RWF_*, and one that is not.
    fn flags(self) -> i32 {
        const UNKNOWN: i32 = 1 << 30;
        pick(
            &[
                libc::RWF_NOWAIT,
                libc::RWF_NOWAIT,
                libc::RWF_HIPRI,
                libc::RWF_DSYNC,
                UNKNOWN,
            ],
            self.first,
        )
    }
}

/// `kind` is in percent.
fn operation(kind: u8, draw: Draw) -> Operation {
    let who = draw.who();
    match kind {
        0..22 => Write(who, draw.value(draw.first)),
        22..40 => Read(who, Lengths(&[8])),
        40..44 => Fdinfo,
        44..48 => Read(who, draw.lengths()),
        48..52 => WriteTwo(who, draw.value(draw.first), draw.value(draw.second)),
        52..55 => WriteLengths(who, draw.lengths()),
        55..67 => Wait(who, draw.set()),
        67..75 => Add(draw.set(), draw.wanted()),
        75..79 => Modify(draw.set(), draw.wanted()),
        79..81 => Delete(draw.set()),
        81..88 => Signal(draw.worker(), draw.first % 2 == 1),
        88..91 => ReadFlags(who, draw.flags()),
        91..94 => Poll(draw.polled()),
        94..97 => Nonblocking(draw.first % 4 == 3),
        _ => match draw.second % 12 {
            0 => ReadFault(who),
            1 => WriteFault(who),
            2 => WriteFlags(who, draw.flags()),
            3 => Seek(draw.number as i64, (draw.first % 6).into()),
            4 => Duplicate,
            5 => ReadAt,
            6 => WriteAt,
            7 => SpliceOut,
            8 => SpliceIn,
            9 => Ioctl,
            10 => Truncate,
            _ => Sync,
        },
    }
}
