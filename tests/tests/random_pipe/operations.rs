// SPDX-License-Identifier: GPL-2.0

//! What may be done to a pipe or a FIFO, how it is drawn at random, and how it is
//! printed: as Rust that can be pasted into `found.rs`.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::search;
pub use crate::words::*;

use Who::{A, B, C, Main};

/// So many descriptors there are at most. A pipe begins with an end to read from as the
/// first one, and an end to write to as the second. What is to be done with one that is
/// not there is left out.
pub const ENDS: usize = 4;

/// How an end is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    Reading,
    Writing,
    Both,
}

/// What is on, of an open file's modes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flags {
    pub nonblock: bool,
    pub direct: bool,
}

/// One step. Descriptors are numbered, and a write's bytes count up from a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// read(2), or readv(2) unless there is one buffer.
    Read(Who, usize, Lengths),
    /// read(2) into memory that is there for so many bytes only.
    ReadFault(Who, usize, usize),
    /// write(2), or writev(2) unless there is one buffer.
    Write(Who, usize, Lengths, u8),
    /// write(2) from memory that is there for so many bytes only.
    WriteFault(Who, usize, usize, u8),
    /// preadv2(2) with RWF_NOWAIT.
    ReadNow(usize, Lengths),
    /// pwritev2(2) with RWF_NOWAIT.
    WriteNow(usize, Lengths, u8),
    /// open(2) of a FIFO, or of a pipe by a name in `/proc/self/fd`.
    Open(Who, usize, Mode, Flags),
    /// close(2).
    Close(usize),
    /// dup(2).
    Duplicate(usize, usize),
    /// fcntl(2) F_SETFL.
    SetFlags(usize, Flags),
    /// fcntl(2) F_GETFL.
    GetFlags(usize),
    /// F_SETPIPE_SZ.
    SetSize(usize, u32),
    /// F_GETPIPE_SZ.
    GetSize(usize),
    /// A signal to a worker that sleeps, with a handler that has SA_RESTART or not.
    Signal(Who, bool),
    /// splice(2) to a pipe of the kernel's.
    SpliceOut(Who, usize, usize),
    /// read(2) of that.
    TakeOutlet(usize),
    /// splice(2) of so many pages from another pipe of the kernel's.
    SpliceIn(Who, usize, usize),
    /// write(2) of a page to that.
    PutInlet(u8),
    /// epoll_wait(2) for one event of one of the sets; Main's timeout is 0.
    Wait(Who, usize),
    /// EPOLL_CTL_ADD to one of the sets.
    Add(usize, usize, Events),
    /// EPOLL_CTL_MOD.
    Modify(usize, usize, Events),
    /// EPOLL_CTL_DEL.
    Delete(usize, usize),
    /// poll(2) with timeout 0.
    Poll(usize, Events),
    /// lseek(2).
    Seek(usize, i64, i32),
    /// pread(2) at 0.
    ReadAt(usize),
    /// pwrite(2) at 0.
    WriteAt(usize),
    /// ftruncate(2) to 0.
    Truncate(usize),
    /// fsync(2).
    Sync(usize),
}

use Operation::*;

impl Operation {
    /// Whose call it is.
    pub fn by(self) -> Who {
        match self {
            Read(who, ..) | ReadFault(who, ..) | Write(who, ..) | WriteFault(who, ..) => who,
            Open(who, ..) | SpliceOut(who, ..) | SpliceIn(who, ..) | Wait(who, _) => who,
            _ => Main,
        }
    }

    /// Whether it sets O_NONBLOCK for its time if it is Main's.
    pub fn is_transfer(self) -> bool {
        matches!(self, Read(..) | ReadFault(..) | Write(..) | WriteFault(..))
    }

    /// Whether it is about two pipes.
    pub fn is_splice(self) -> bool {
        matches!(self, SpliceOut(..) | SpliceIn(..))
    }

    /// The descriptor that it uses.
    pub fn uses(self) -> Option<usize> {
        match self {
            Read(_, end, _) | ReadFault(_, end, _) | Write(_, end, ..) => Some(end),
            ReadNow(end, _) | WriteNow(end, ..) => Some(end),
            WriteFault(_, end, ..) | Close(end) | Duplicate(end, _) => Some(end),
            SetFlags(end, _) | GetFlags(end) | SetSize(end, _) | GetSize(end) => Some(end),
            SpliceOut(_, end, _) | SpliceIn(_, end, _) => Some(end),
            Add(_, end, _) | Modify(_, end, _) | Delete(_, end) | Poll(end, _) => Some(end),
            Seek(end, ..) | ReadAt(end) | WriteAt(end) | Truncate(end) | Sync(end) => Some(end),
            Open(..) | Signal(..) | TakeOutlet(_) | PutInlet(_) | Wait(..) => None,
        }
    }

    /// The descriptor that there is afterwards.
    pub fn makes(self) -> Option<usize> {
        match self {
            Open(_, end, ..) | Duplicate(_, end) => Some(end),
            _ => None,
        }
    }
}

/// A new pipe, or a FIFO that nobody has open, and what is done to it.
#[derive(Clone)]
pub struct Case {
    pub fifo: bool,
    /// What the ends of a pipe begin with.
    pub flags: Flags,
    /// How many buffers a pipe has.
    pub buffers: usize,
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
        writeln!(f, "        fifo: {:?},", self.fifo)?;
        writeln!(f, "        flags: {:?},", self.flags)?;
        writeln!(f, "        buffers: {:?},", self.buffers)?;
        writeln!(f, "        apart: {:?},", self.apart)?;
        writeln!(f, "        operations: vec![")?;
        for operation in &self.operations {
            writeln!(f, "            {operation:?},")?;
        }
        write!(f, "        ],\n    }}")
    }
}

/// Any case. What comes first in a list is what a failure is shrunk to.
///
/// An operation is made of a few numbers, each shrunk by itself: a tree of strategies,
/// one for each kind, costs more to build in the guest than the operation to do.
pub fn case() -> impl Strategy<Value = Case> {
    let operation = (0..100_u8, 0..5_u8, any::<[u8; 4]>())
        .prop_map(|(kind, who, numbers)| operation(kind, Draw { who, numbers }));
    let settings = (0..4_u8, 0..10_u8, 0..10_u8, 0..10_u8, 0..8_u8);
    (settings, vec(operation, 1..120)).prop_map(|(settings, operations)| {
        let (fifo, nonblock, direct, buffers, apart) = settings;
        Case {
            fifo: fifo == 3,
            flags: Flags {
                nonblock: nonblock == 9,
                direct: direct > 7,
            },
            buffers: pick(&[1, 2, 1, 2, 4, 16], buffers),
            apart: apart == 7,
            operations,
        }
    })
}

/// Numbers to choose by.
#[derive(Clone, Copy)]
struct Draw {
    who: u8,
    numbers: [u8; 4],
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

    /// One that is likely to be read from.
    fn reader(self) -> usize {
        pick(&[0, 0, 0, 0, 2, 3, 1], self.numbers[0])
    }

    /// One that is likely to be written to.
    fn writer(self) -> usize {
        pick(&[1, 1, 1, 1, 3, 2, 0], self.numbers[0])
    }

    fn end(self) -> usize {
        usize::from(self.numbers[0]) % ENDS
    }

    fn another(self) -> usize {
        usize::from(self.numbers[1]) % ENDS
    }

    fn lengths(self) -> Lengths {
        const LENGTHS: [&[usize]; 20] = [
            &[1],
            &[4096],
            &[100],
            &[8192],
            &[4095],
            &[4097],
            &[2],
            &[513],
            &[0],
            &[12_289],
            &[4096],
            &[65_536],
            &[2000],
            &[69_633],
            &[3, 5],
            &[],
            &[4000, 200],
            &[0, 7, 0],
            &[4096, 4096],
            &[1, 4095, 4096, 10],
        ];
        Lengths(pick(&LENGTHS, self.numbers[1]))
    }

    /// For how much of a buffer there is memory.
    fn there(self) -> usize {
        pick(&[0, 1, 4096, 100, 4095], self.numbers[1])
    }

    fn mode(self) -> Mode {
        pick(&[Mode::Reading, Mode::Writing, Mode::Both], self.numbers[1])
    }

    fn flags(self) -> Flags {
        Flags {
            nonblock: self.numbers[2] % 4 == 3,
            direct: self.numbers[3] % 8 == 7,
        }
    }

    fn size(self) -> u32 {
        const SIZES: [u32; 12] = [
            4096,
            8192,
            1,
            16_384,
            4097,
            65_536,
            0,
            1 << 20,
            12_288,
            1 << 31,
            (1 << 31) + 1,
            u32::MAX,
        ];
        pick(&SIZES, self.numbers[1])
    }

    fn set(self) -> usize {
        usize::from(self.numbers[1] % 2)
    }

    /// What poll(2) may be asked.
    fn polled(self) -> Events {
        let [_, first, second, third] = self.numbers;
        match first % 8 {
            0..5 => pick(&[IN, OUT, IN | OUT, RDNORM, WRNORM], first % 8),
            _ => Events(u32::from_le_bytes([second, third, 0, 0])),
        }
    }

    /// What an epoll set may want.
    fn wanted(self) -> Events {
        let how = [
            Events(0),
            ET,
            ONESHOT,
            EXCLUSIVE,
            ET | EXCLUSIVE,
            ET | ONESHOT,
            // This one is refused.
            EXCLUSIVE | ONESHOT,
        ];
        pick(&[IN, OUT, IN | OUT], self.numbers[2]) | pick(&how, self.numbers[3])
    }
}

/// `kind` is in percent.
fn operation(kind: u8, draw: Draw) -> Operation {
    let [_, first, second, third] = draw.numbers;
    let who = draw.who();
    match kind {
        0..19 => Write(who, draw.writer(), draw.lengths(), third),
        19..38 => Read(who, draw.reader(), draw.lengths()),
        38..39 => ReadNow(draw.reader(), draw.lengths()),
        39..40 => WriteNow(draw.writer(), draw.lengths(), third),
        40..46 => Open(who, draw.end(), draw.mode(), draw.flags()),
        46..51 => Close(draw.end()),
        51..53 => Duplicate(draw.end(), draw.another()),
        53..57 => SetFlags(draw.end(), draw.flags()),
        57..61 => SetSize(draw.end(), draw.size()),
        61..68 => Signal(draw.worker(), first % 2 == 1),
        68..72 => SpliceOut(
            who,
            draw.reader(),
            pick(&[1, 4096, 100, 5000, 65_536], second),
        ),
        72..74 => TakeOutlet(pick(&[4096, 1, 65_536], second)),
        74..76 => SpliceIn(who, draw.writer(), pick(&[1, 2, 16], second)),
        76..78 => PutInlet(third),
        78..84 => Wait(who, draw.set()),
        84..88 => Add(draw.set(), draw.end(), draw.wanted()),
        88..90 => Modify(draw.set(), draw.end(), draw.wanted()),
        90..91 => Delete(draw.set(), draw.end()),
        91..93 => ReadFault(who, draw.reader(), draw.there()),
        93..95 => WriteFault(who, draw.writer(), draw.there(), third),
        95..97 => Poll(draw.end(), draw.polled()),
        _ => match second % 7 {
            0 => GetSize(draw.end()),
            1 => GetFlags(draw.end()),
            2 => Seek(draw.end(), third.into(), (first % 6).into()),
            3 => ReadAt(draw.end()),
            4 => WriteAt(draw.end()),
            5 => Truncate(draw.end()),
            _ => Sync(draw.end()),
        },
    }
}
