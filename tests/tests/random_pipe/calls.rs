// SPDX-License-Identifier: GPL-2.0

//! The system calls, and what comes of them.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::fmt;
use std::fs;
use std::io::Error;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};
use std::ptr;
use std::sync::{LazyLock, Mutex, Once};

use ipcdemo_tests::pipe::agreement;
use ipcdemo_tests::pipe::{set_size, size};
use ipcdemo_tests::{Access, Errno, Memory, PAGE};

use crate::operations::Operation::{self, *};
use crate::operations::{ALL, ENDS, Events, Flags, Mode, OUT, Who};

/// What a call returned.
#[derive(Clone, Eq, PartialEq)]
pub struct Outcome {
    pub result: Transferred,
    /// Other things that it told: bytes as where each run of them starts and how long it is.
    told: Vec<i64>,
    /// How many SIGPIPEs came with it.
    broken: u32,
}

impl Outcome {
    /// Of a call that has just been made.
    fn new(result: i64) -> Self {
        Self::of(result_of(result))
    }

    fn of(result: Transferred) -> Self {
        Self {
            result,
            told: Vec::new(),
            broken: 0,
        }
    }

    fn with(self, told: Vec<i64>) -> Self {
        Self { told, ..self }
    }

    /// How many bytes came.
    fn length(&self) -> usize {
        self.result.unwrap_or(0) as usize
    }
}

/// What a system call returns, or its error.
type Transferred = Result<i64, i32>;

fn result_of(result: i64) -> Transferred {
    match result {
        -1 => Err(Error::last_os_error().raw_os_error().unwrap()),
        result => Ok(result),
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.result {
            Ok(value) => write!(f, "{value}")?,
            Err(error) => write!(f, "{}", Error::from_raw_os_error(error))?,
        }
        if !self.told.is_empty() {
            write!(f, " and {:?}", self.told)?;
        }
        if self.broken > 0 {
            write!(f, " and {} SIGPIPE", self.broken)?;
        }
        Ok(())
    }
}

/// What there is for one case.
#[derive(Clone, Copy)]
pub struct Stage {
    /// The number of the first of the descriptors. Each has a number of its own, so that
    /// epoll, which goes by it, finds the same at both subjects.
    pub first: RawFd,
    pub sets: [RawFd; 2],
    /// Pipes of the kernel's, to splice from and to splice to.
    pub inlet: [RawFd; 2],
    pub outlet: [RawFd; 2],
    /// The FIFO, if it is one.
    pub fifo: Option<&'static CStr>,
}

/// An operation, and the descriptors it is about. They stay open until it has begun.
#[derive(Clone, Copy)]
pub struct Call {
    pub operation: Operation,
    pub stage: Stage,
    /// A descriptor of the pipe, by whose name it can be opened.
    pub by: usize,
    /// That of who makes the call.
    pub scratch: &'static Mutex<Scratch>,
}

/// Memory for a call. To map some for the call, the address space would have to be locked,
/// and one might be seen to sleep for that.
pub struct Scratch {
    buffer: Vec<u8>,
    memory: Memory,
}

impl Scratch {
    /// Never freed: a worker that is given up may sleep with it for ever.
    pub fn leak() -> &'static Mutex<Self> {
        LazyLock::force(&PATTERN);
        let memory = Memory::new(Access::ReadWrite);
        memory.store(&[0; PAGE]);
        Box::leak(Box::new(Mutex::new(Self {
            buffer: vec![0xee; 20 * PAGE],
            memory,
        })))
    }
}

/// For calls that take nothing of their own to keep them from sleeping.
const NOW: c_int = 0;

/// Where a pipe's ends are opened anew.
const DESCRIPTORS: &str = "/proc/self/fd";

impl Call {
    /// Makes it.
    pub fn make(&self) -> Outcome {
        let before = BROKEN.get();
        let outcome = self.call();
        Outcome {
            broken: BROKEN.get() - before,
            ..outcome
        }
    }

    fn fd(&self, end: usize) -> RawFd {
        self.stage.first + end as RawFd
    }

    fn borrow(&self, end: usize) -> BorrowedFd<'static> {
        // SAFETY: It is open: the conductor has seen to it.
        unsafe { BorrowedFd::borrow_raw(self.fd(end)) }
    }

    fn call(&self) -> Outcome {
        let stage = &self.stage;
        let Scratch { buffer, memory } = &mut *self.scratch.lock().unwrap();
        match self.operation {
            Read(who, end, lengths) => read(who, self.fd(end), lengths.0, buffer),
            ReadFault(who, end, there) => {
                let segment = segment(memory.before_end(there).pointer(), there + PAGE);
                let outcome = Outcome::of(transfer(Reading, who, self.fd(end), &[segment]));
                let bytes = memory.load(there);
                let runs = runs(&bytes[..outcome.length()]);
                outcome.with(runs)
            }
            Write(who, end, lengths, mark) => {
                let segments = cut(pattern(mark).as_ptr().cast_mut(), lengths.0);
                Outcome::of(transfer(Writing, who, self.fd(end), &segments))
            }
            WriteFault(who, end, there, mark) => {
                let address = memory.store(&pattern(mark)[..there]);
                let segment = segment(address.pointer(), there + PAGE);
                Outcome::of(transfer(Writing, who, self.fd(end), &[segment]))
            }
            Open(who, end, mode, flags) => self.open(who, end, mode, flags),
            // SAFETY: It is nobody else's.
            Close(end) => Outcome::new(unsafe { libc::close(self.fd(end)) }.into()),
            Duplicate(end, other) => {
                // SAFETY: The second one is not open, so that nothing is closed.
                let result = unsafe { libc::dup3(self.fd(end), self.fd(other), libc::O_CLOEXEC) };
                Outcome::new(i64::from(result).min(0))
            }
            SetFlags(end, flags) => Outcome::new(fcntl(self.fd(end), libc::F_SETFL, bits(flags))),
            GetFlags(end) => Outcome::new(fcntl(self.fd(end), libc::F_GETFL, 0)),
            SetSize(end, size) => sized(set_size(self.borrow(end), size)),
            GetSize(end) => sized(size(self.borrow(end))),
            SpliceOut(who, end, length) => splice(who, self.fd(end), stage.outlet[1], length),
            TakeOutlet(length) => read_now(stage.outlet[0], &[length], buffer),
            ReadNow(end, lengths) => read_now(self.fd(end), lengths.0, buffer),
            WriteNow(end, lengths, mark) => {
                let segments = cut(pattern(mark).as_ptr().cast_mut(), lengths.0);
                Outcome::of(transfer_now(Writing, self.fd(end), &segments))
            }
            SpliceIn(who, end, pages) => splice(who, stage.inlet[0], self.fd(end), pages * PAGE),
            PutInlet(mark) => {
                let segment = segment(pattern(mark).as_ptr().cast_mut(), PAGE);
                Outcome::of(transfer_now(Writing, stage.inlet[1], &[segment]))
            }
            Wait(who, set) => {
                let mut event = libc::epoll_event { events: 0, u64: 0 };
                let timeout = if who == Who::Main { NOW } else { -1 };
                // SAFETY: It writes one event.
                let result =
                    unsafe { libc::epoll_wait(stage.sets[set], &raw mut event, 1, timeout) };
                let (events, end) = (event.events, event.u64);
                Outcome::new(result.into()).with(vec![events.into(), end as i64])
            }
            Add(set, end, events) => self.control(libc::EPOLL_CTL_ADD, set, end, events),
            Modify(set, end, events) => self.control(libc::EPOLL_CTL_MOD, set, end, events),
            Delete(set, end) => self.control(libc::EPOLL_CTL_DEL, set, end, Events(0)),
            Poll(end, events) => poll(self.fd(end), events),
            Seek(end, offset, whence) => {
                // SAFETY: It takes no pointer.
                Outcome::new(unsafe { libc::lseek(self.fd(end), offset, whence) })
            }
            ReadAt(end) => {
                let mut byte = 0_u8;
                // SAFETY: It writes one byte.
                let result = unsafe { libc::pread(self.fd(end), (&raw mut byte).cast(), 1, 0) };
                Outcome::new(result as i64)
            }
            WriteAt(end) => {
                // SAFETY: It reads one byte.
                let result = unsafe { libc::pwrite(self.fd(end), [0_u8].as_ptr().cast(), 1, 0) };
                Outcome::new(result as i64)
            }
            // SAFETY: It takes no pointer.
            Truncate(end) => Outcome::new(unsafe { libc::ftruncate(self.fd(end), 0) }.into()),
            // SAFETY: It takes no pointer.
            Sync(end) => Outcome::new(unsafe { libc::fsync(self.fd(end)) }.into()),
            Signal(..) => unreachable!("it is no call"),
        }
    }

    fn open(&self, who: Who, end: usize, mode: Mode, flags: Flags) -> Outcome {
        let mut flags = bits(flags) | libc::O_CLOEXEC;
        flags |= match mode {
            Mode::Reading => libc::O_RDONLY,
            Mode::Writing => libc::O_WRONLY,
            Mode::Both => libc::O_RDWR,
        };
        if who == Who::Main {
            flags |= libc::O_NONBLOCK;
        }
        let name;
        let path = match self.stage.fifo {
            Some(path) => path,
            None => {
                name = format!("{DESCRIPTORS}/{}\0", self.fd(self.by));
                CStr::from_bytes_with_nul(name.as_bytes()).unwrap()
            }
        };
        // SAFETY: The path is a C string.
        let fd = unsafe { libc::open(path.as_ptr(), flags) };
        if fd < 0 {
            return Outcome::new(-1);
        }
        // SAFETY: The number is that of a descriptor that is not there yet, and the other one
        // is nobody else's.
        let result = unsafe {
            let result = libc::dup3(fd, self.fd(end), libc::O_CLOEXEC);
            libc::close(fd);
            result
        };
        Outcome::new(i64::from(result).min(0))
    }

    fn control(&self, operation: c_int, set: usize, end: usize, events: Events) -> Outcome {
        let mut event = libc::epoll_event {
            events: events.0,
            u64: end as u64,
        };
        let (set, fd) = (self.stage.sets[set], self.fd(end));
        // SAFETY: It reads `event`.
        Outcome::new(unsafe { libc::epoll_ctl(set, operation, fd, &raw mut event) }.into())
    }
}

fn sized(result: Result<u32, Errno>) -> Outcome {
    Outcome::of(result.map(i64::from).map_err(Errno::raw_os_error))
}

fn bits(flags: Flags) -> c_int {
    let nonblock = if flags.nonblock { libc::O_NONBLOCK } else { 0 };
    let direct = if flags.direct { libc::O_DIRECT } else { 0 };
    nonblock | direct
}

/// poll(2) at once.
fn poll(fd: RawFd, events: Events) -> Outcome {
    let mut poll = libc::pollfd {
        fd,
        events: events.0 as i16,
        revents: 0,
    };
    // SAFETY: There is one to poll.
    let result = unsafe { libc::poll(&raw mut poll, 1, NOW) };
    Outcome::new(result.into()).with(vec![poll.revents.into()])
}

/// What poll(2) says at once of each descriptor that is open.
pub fn poll_all(stage: &Stage, is_open: [bool; ENDS]) -> [Option<Events>; ENDS] {
    let mut polls = [libc::pollfd {
        // One that is not open is passed over.
        fd: -1,
        events: ALL.0 as i16,
        revents: 0,
    }; ENDS];
    for (number, poll) in polls.iter_mut().enumerate() {
        if is_open[number] {
            poll.fd = stage.first + number as RawFd;
        }
    }
    // SAFETY: There are so many to poll.
    let result = unsafe { libc::poll(polls.as_mut_ptr(), ENDS as libc::nfds_t, NOW) };
    assert!(result >= 0, "poll: {}", Error::last_os_error());
    polls.map(|poll| (poll.fd >= 0).then_some(Events(poll.revents as u32)))
}

/// How many bytes there are to read.
pub fn queued(stage: &Stage, end: usize) -> c_int {
    let mut count = 0;
    // SAFETY: FIONREAD writes an int.
    let result = unsafe { libc::ioctl(stage.first + end as RawFd, libc::FIONREAD, &raw mut count) };
    assert_eq!(result, 0, "FIONREAD: {}", Error::last_os_error());
    count
}

/// Reads what is inside.
pub fn read_on(fd: RawFd, scratch: &Mutex<Scratch>) -> Outcome {
    let Scratch { buffer, .. } = &mut *scratch.lock().unwrap();
    read(Who::Main, fd, &[16 * PAGE], buffer)
}

/// read(2), or readv(2) unless there is one buffer.
fn read(who: Who, fd: RawFd, lengths: &[usize], buffer: &mut [u8]) -> Outcome {
    let segments = cut(buffer.as_mut_ptr(), lengths);
    tell_runs(transfer(Reading, who, fd, &segments), buffer)
}

/// As [`read`], told by the call not to wait.
fn read_now(fd: RawFd, lengths: &[usize], buffer: &mut [u8]) -> Outcome {
    let segments = cut(buffer.as_mut_ptr(), lengths);
    tell_runs(transfer_now(Reading, fd, &segments), buffer)
}

fn tell_runs(result: Transferred, buffer: &[u8]) -> Outcome {
    let outcome = Outcome::of(result);
    let runs = runs(&buffer[..outcome.length()]);
    outcome.with(runs)
}

#[derive(Clone, Copy)]
enum Direction {
    Reading,
    Writing,
}

use Direction::{Reading, Writing};

/// A transfer from or to memory that is the caller's, or not there. Main does not wait.
fn transfer(direction: Direction, who: Who, fd: RawFd, segments: &[libc::iovec]) -> Transferred {
    let flags = (who == Who::Main).then(|| fcntl(fd, libc::F_GETFL, 0));
    if let Some(flags) = flags {
        fcntl(fd, libc::F_SETFL, flags as c_int | libc::O_NONBLOCK);
    }
    let (parts, count) = (segments.as_ptr(), segments.len() as c_int);
    // SAFETY: See above.
    let result = unsafe {
        match (direction, segments) {
            (Reading, [one]) => libc::read(fd, one.iov_base, one.iov_len),
            (Writing, [one]) => libc::write(fd, one.iov_base, one.iov_len),
            (Reading, _) => libc::readv(fd, parts, count),
            (Writing, _) => libc::writev(fd, parts, count),
        }
    };
    let error = Error::last_os_error();
    if let Some(flags) = flags {
        fcntl(fd, libc::F_SETFL, flags as c_int);
    }
    match result {
        -1 => Err(error.raw_os_error().unwrap()),
        result => Ok(result as i64),
    }
}

/// A transfer that is told by the call not to wait.
fn transfer_now(direction: Direction, fd: RawFd, segments: &[libc::iovec]) -> Transferred {
    let (parts, count) = (segments.as_ptr(), segments.len() as c_int);
    // SAFETY: As above.
    let result = unsafe {
        match direction {
            Reading => libc::preadv2(fd, parts, count, -1, libc::RWF_NOWAIT),
            Writing => libc::pwritev2(fd, parts, count, -1, libc::RWF_NOWAIT),
        }
    };
    result_of(result as i64)
}

/// Whether an open descriptor's file has O_DIRECT.
pub fn is_direct(stage: &Stage, end: usize) -> bool {
    has_flag(stage, end, libc::O_DIRECT)
}

/// Whether an open descriptor's file has O_NONBLOCK.
pub fn is_nonblocking(stage: &Stage, end: usize) -> bool {
    has_flag(stage, end, libc::O_NONBLOCK)
}

/// Whether an open descriptor can be read from and written to.
pub fn is_both(stage: &Stage, end: usize) -> bool {
    has_flag(stage, end, libc::O_RDWR)
}

fn has_flag(stage: &Stage, end: usize, flag: c_int) -> bool {
    fcntl(stage.first + end as RawFd, libc::F_GETFL, 0) as c_int & flag != 0
}

/// Whether the pipe that is spliced to has room.
pub fn has_room(stage: &Stage) -> bool {
    poll(stage.outlet[1], OUT).result == Ok(1)
}

/// fcntl(2) with a number.
fn fcntl(fd: RawFd, command: c_int, argument: c_int) -> i64 {
    // SAFETY: Those that are used here take no pointer.
    unsafe { libc::fcntl(fd, command, argument) }.into()
}

fn splice(who: Who, from: RawFd, to: RawFd, length: usize) -> Outcome {
    let flags = if who == Who::Main {
        libc::SPLICE_F_NONBLOCK
    } else {
        0
    };
    let none = ptr::null_mut();
    // SAFETY: It is given no position.
    Outcome::new(unsafe { libc::splice(from, none, to, none, length, flags) } as i64)
}

fn segment(start: *mut u8, length: usize) -> libc::iovec {
    libc::iovec {
        iov_base: start.cast(),
        iov_len: length,
    }
}

/// Cuts a buffer into pieces.
fn cut(mut start: *mut u8, lengths: &[usize]) -> Vec<libc::iovec> {
    let mut segments = Vec::with_capacity(lengths.len());
    for &length in lengths {
        segments.push(segment(start, length));
        start = start.wrapping_add(length);
    }
    segments
}

/// After so many bytes they repeat themselves: no power of two, so that none are taken
/// for others.
const PERIOD: usize = 251;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let longest = 20 * PAGE;
    (0..longest + PERIOD)
        .map(|at| (at % PERIOD) as u8)
        .collect()
});

/// Bytes that count up.
fn pattern(mark: u8) -> &'static [u8] {
    &PATTERN[usize::from(mark) % PERIOD..]
}

/// Of bytes that count up in runs, where each run starts and how long it is.
fn runs(bytes: &[u8]) -> Vec<i64> {
    let (mut runs, mut rest) = (Vec::new(), bytes);
    while let [first, ..] = rest {
        let length = agreement(rest, pattern(*first)).max(1);
        runs.extend([i64::from(*first), length as i64]);
        rest = &rest[length..];
    }
    runs
}

thread_local! {
    /// How many SIGPIPEs a thread was sent.
    static BROKEN: Cell<u32> = const { Cell::new(0) };
}

/// Has done what is done once by whoever is the first, while others wait for it: a worker among
/// them would be taken for one that sleeps in its call. The kernel, too, looks a path up once.
pub fn prepare() {
    LazyLock::force(&PATTERN);
    fs::metadata(DESCRIPTORS).unwrap();
}

/// Counts SIGPIPEs instead of ignoring them.
pub fn count_sigpipe() {
    static ONCE: Once = Once::new();

    extern "C" fn handle(_: c_int) {
        BROKEN.set(BROKEN.get() + 1);
    }
    ONCE.call_once(|| {
        // SAFETY: An all-zero sigaction is a valid one.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = handle as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: The handler adds to a number of the thread's own, that needs no allocation.
        let result = unsafe { libc::sigaction(libc::SIGPIPE, &action, ptr::null_mut()) };
        assert_eq!(result, 0);
    });
}
