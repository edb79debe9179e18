// SPDX-License-Identifier: GPL-2.0

use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bitflags::bitflags;

use crate::error::{OpenError, open_node};
use crate::raw;

bitflags! {
    /// How a wait queue is made.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct WaitqFlags: u32 {
        /// The descriptor does not survive `exec`.
        const CLOEXEC = raw::IPCDEMO_CLOEXEC;
        /// A read fails with EAGAIN instead of sleeping; [`Waitq::wait`] sleeps all the same.
        const NONBLOCK = raw::IPCDEMO_NONBLOCK;
    }
}

bitflags! {
    /// What a wake is about, or what a sleeper wants to hear of: poll events, by
    /// value too.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct Keys: u32 {
        /// POLLIN.
        const IN = libc::POLLIN as u32;
        /// POLLPRI.
        const PRI = libc::POLLPRI as u32;
        /// POLLOUT.
        const OUT = libc::POLLOUT as u32;
        /// POLLERR.
        const ERR = libc::POLLERR as u32;
        /// POLLHUP.
        const HUP = libc::POLLHUP as u32;
        /// POLLNVAL.
        const NVAL = libc::POLLNVAL as u32;
        /// POLLRDNORM.
        const RDNORM = libc::POLLRDNORM as u32;
        /// POLLRDBAND.
        const RDBAND = libc::POLLRDBAND as u32;
        /// POLLWRNORM.
        const WRNORM = libc::POLLWRNORM as u32;
        /// POLLWRBAND.
        const WRBAND = libc::POLLWRBAND as u32;
        /// POLLMSG, which the C library does not name.
        const MSG = 0x400;
        /// POLLRDHUP.
        const RDHUP = libc::POLLRDHUP as u32;
    }
}

/// The names as `poll(2)` has them, joined by `|`; `any` if there is none.
impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("any");
        }
        let mut names: Vec<_> = self
            .iter_names()
            .map(|(name, _)| format!("POLL{name}"))
            .collect();
        let unnamed = self.difference(Self::all());
        if !unnamed.is_empty() {
            names.push(format!("{:#x}", unnamed.bits()));
        }
        f.pad(&names.join("|"))
    }
}

/// How to sleep: plainly, until a wake or a signal comes, unless told otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaitOptions {
    flags: u32,
    mask: Keys,
    timeout_ns: u64,
    expected: u64,
    linger_us: u32,
}

impl WaitOptions {
    /// A plain sleep.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            flags: 0,
            mask: Keys::empty(),
            timeout_ns: 0,
            expected: 0,
            linger_us: 0,
        }
    }

    const fn with(mut self, flag: u32) -> Self {
        self.flags |= flag;
        self
    }

    /// At the queue's tail, and one of those that a wake counts.
    #[must_use]
    pub const fn exclusive(self) -> Self {
        self.with(raw::IPCDEMO_WAIT_EXCLUSIVE)
    }

    /// Ahead of all who are not, in order of arrival.
    #[must_use]
    pub const fn priority(self) -> Self {
        self.with(raw::IPCDEMO_WAIT_PRIORITY)
    }

    /// Only a fatal signal ends the sleep.
    #[must_use]
    pub const fn killable(self) -> Self {
        self.with(raw::IPCDEMO_WAIT_KILLABLE)
    }

    /// No signal ends the sleep; it needs a timeout, of ten seconds at most.
    #[must_use]
    pub const fn uninterruptible(self) -> Self {
        self.with(raw::IPCDEMO_WAIT_UNINTERRUPTIBLE)
    }

    /// Only for these keys, or for a wake without any.
    #[must_use]
    pub const fn mask(mut self, mask: Keys) -> Self {
        self.mask = mask;
        self
    }

    /// For so long at most.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ns = nanoseconds(timeout);
        self.with(raw::IPCDEMO_WAIT_TIMEOUT)
    }

    /// Until this time at most, as [`monotonic`] tells it.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.timeout_ns = nanoseconds(deadline);
        self.with(raw::IPCDEMO_WAIT_ABSTIME)
    }

    /// Only if the word is this one, as it is looked at when the caller is put on
    /// the queue.
    #[must_use]
    pub const fn expect(mut self, word: u64) -> Self {
        self.expected = word;
        self.with(raw::IPCDEMO_WAIT_EXPECT)
    }

    /// To study a race: once time or a signal has ended the sleep, stay on the
    /// queue for so many microseconds more.
    #[must_use]
    pub const fn linger_us(mut self, linger_us: u32) -> Self {
        self.linger_us = linger_us;
        self
    }

    /// The struct that the kernel gets.
    #[must_use]
    pub fn args(&self) -> raw::ipcdemo_wait_args {
        raw::ipcdemo_wait_args {
            expected: self.expected,
            timeout_ns: self.timeout_ns,
            flags: self.flags,
            mask: self.mask.bits(),
            linger_us: self.linger_us,
            ..Default::default()
        }
    }
}

/// What ended a sleep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// A wake.
    Woken,
    /// There was none: the word was not the expected one.
    Changed,
    /// The time was up.
    TimedOut,
    /// A signal.
    Signaled,
}

impl Reason {
    /// What the call says when it ends so; 0 is success.
    #[must_use]
    pub fn errno(self) -> i32 {
        match self {
            Self::Woken => 0,
            Self::Changed => libc::EAGAIN,
            Self::TimedOut => libc::ETIMEDOUT,
            Self::Signaled => libc::EINTR,
        }
    }

    fn new(reason: u32) -> Option<Self> {
        match reason {
            raw::IPCDEMO_WOKEN => Some(Self::Woken),
            raw::IPCDEMO_CHANGED => Some(Self::Changed),
            raw::IPCDEMO_TIMED_OUT => Some(Self::TimedOut),
            raw::IPCDEMO_SIGNALED => Some(Self::Signaled),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Woken => "woken",
            Self::Changed => "the word was another",
            Self::TimedOut => "timed out",
            Self::Signaled => "interrupted by a signal",
        })
    }
}

/// What became of a wake that took a sleeper whom time or a signal had ended
/// already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PassedOn {
    /// There was none.
    No,
    /// It went to another sleeper.
    ToAnother,
    /// Nobody was there to take it.
    ToNobody,
}

/// What a sleeper is told afterwards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Receipt {
    /// What ended the sleep.
    pub reason: Reason,
    /// The word at the end.
    pub word: u64,
    /// How long it took.
    pub slept: Duration,
    /// What was left of the timeout.
    pub remaining: Duration,
    /// What the wake was about.
    pub key: Keys,
    /// The process that woke; 0 if it cannot be seen from here.
    pub waker_pid: i32,
    /// Its thread.
    pub waker_tid: i32,
    /// How many entries the waker's walk had come to, this one included.
    pub walked: u32,
    /// How many wake functions it had called, this one's included.
    pub called: u32,
    /// How many of them had woken somebody, this one included.
    pub woken: u32,
    /// What ended the waker's walk here: nothing, or its quota.
    pub stopped_by: StoppedBy,
    /// What became of a wake that came too late.
    pub passed_on: PassedOn,
}

impl Receipt {
    fn new(args: &raw::ipcdemo_wait_args) -> Option<Self> {
        Some(Self {
            reason: Reason::new(args.reason)?,
            word: args.word,
            slept: Duration::from_nanos(args.slept_ns),
            remaining: Duration::from_nanos(args.remaining_ns),
            key: Keys::from_bits_retain(args.key),
            waker_pid: args.waker_pid,
            waker_tid: args.waker_tid,
            walked: args.walked,
            called: args.called,
            woken: args.woken,
            stopped_by: args.stopped_by.into(),
            passed_on: match args.passed_on {
                0 => PassedOn::No,
                1 => PassedOn::ToAnother,
                2 => PassedOn::ToNobody,
                _ => return None,
            },
        })
    }
}

/// Whom to wake: one exclusive sleeper and all who are not, unless told otherwise.
#[derive(Clone, Copy, Debug)]
pub struct WakeOptions {
    flags: u32,
    nr: u32,
    key: Keys,
    word: u64,
}

impl Default for WakeOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl WakeOptions {
    /// For one exclusive sleeper at most, and for whatever key.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            flags: 0,
            nr: 1,
            key: Keys::empty(),
            word: 0,
        }
    }

    /// For so many exclusive sleepers at most; 0 is all of them.
    #[must_use]
    pub const fn nr(mut self, nr: u32) -> Self {
        self.nr = nr;
        self
    }

    /// For all exclusive sleepers.
    #[must_use]
    pub const fn all(self) -> Self {
        self.nr(0)
    }

    /// What it is about: those whose mask says otherwise sleep on.
    #[must_use]
    pub const fn key(mut self, key: Keys) -> Self {
        self.key = key;
        self
    }

    /// The waker is about to sleep, so whom it wakes need not hurry.
    #[must_use]
    pub const fn sync(mut self) -> Self {
        self.flags |= raw::IPCDEMO_WAKE_SYNC;
        self
    }

    /// Sets the word in the same step.
    #[must_use]
    pub const fn set(mut self, word: u64) -> Self {
        self.flags |= raw::IPCDEMO_WAKE_SET;
        self.word = word;
        self
    }

    /// The struct that the kernel gets.
    #[must_use]
    pub fn args(&self) -> raw::ipcdemo_wake_args {
        raw::ipcdemo_wake_args {
            word: self.word,
            flags: self.flags,
            nr: self.nr,
            key: self.key.bits(),
            ..Default::default()
        }
    }
}

/// Why a walk along the queue ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoppedBy {
    /// It reached the end; or, in a sleeper's receipt, it went on.
    End,
    /// As many exclusive sleepers were woken as it wanted.
    Quota,
    /// An entry's wake function said so.
    Entry,
    /// What this library, older than the module, does not know.
    Unknown(u32),
}

impl From<u32> for StoppedBy {
    fn from(stopped_by: u32) -> Self {
        match stopped_by {
            raw::IPCDEMO_STOPPED_BY_END => Self::End,
            raw::IPCDEMO_STOPPED_BY_QUOTA => Self::Quota,
            raw::IPCDEMO_STOPPED_BY_ENTRY => Self::Entry,
            unknown => Self::Unknown(unknown),
        }
    }
}

impl fmt::Display for StoppedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.pad("the queue's end"),
            Self::Quota => f.pad("its quota"),
            Self::Entry => f.pad("an entry's wake function"),
            Self::Unknown(reason) => f.pad(&format!("reason {reason}")),
        }
    }
}

/// What a waker is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WakeReceipt {
    /// The word.
    pub word: u64,
    /// How many entries the walk came to.
    pub walked: u32,
    /// How many wake functions it called.
    pub called: u32,
    /// How many of them said that they woke somebody. An item of an epoll set says
    /// so though nobody waits for the set, unless it is exclusive.
    pub woken: u32,
    /// How many of those were exclusive.
    pub exclusive: u32,
    /// Why the walk ended.
    pub stopped_by: StoppedBy,
}

impl From<&raw::ipcdemo_wake_args> for WakeReceipt {
    fn from(args: &raw::ipcdemo_wake_args) -> Self {
        Self {
            word: args.word,
            walked: args.walked,
            called: args.called,
            woken: args.woken,
            exclusive: args.exclusive,
            stopped_by: args.stopped_by.into(),
        }
    }
}

/// Who put an entry on the queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaiterKind {
    /// A task asleep in the module.
    Task,
    /// `poll(2)` or `select(2)`.
    Poll,
    /// An item of an epoll set.
    Epoll,
    /// A poll by io_uring.
    IoUring,
    /// Another: see its function.
    Other,
    /// One that this library, older than the module, does not know.
    Unknown(u32),
}

impl From<u32> for WaiterKind {
    fn from(kind: u32) -> Self {
        match kind {
            raw::IPCDEMO_WAITER_TASK => Self::Task,
            raw::IPCDEMO_WAITER_POLL => Self::Poll,
            raw::IPCDEMO_WAITER_EPOLL => Self::Epoll,
            raw::IPCDEMO_WAITER_IO_URING => Self::IoUring,
            raw::IPCDEMO_WAITER_OTHER => Self::Other,
            unknown => Self::Unknown(unknown),
        }
    }
}

impl fmt::Display for WaiterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task => f.pad("task"),
            Self::Poll => f.pad("poll"),
            Self::Epoll => f.pad("epoll"),
            Self::IoUring => f.pad("io_uring"),
            Self::Other => f.pad("other"),
            Self::Unknown(kind) => f.pad(&format!("unknown-{kind}")),
        }
    }
}

/// One entry of a queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiter {
    /// 0 is woken first.
    pub position: u32,
    /// Who put it there.
    pub kind: WaiterKind,
    /// Whether a wake counts it.
    pub exclusive: bool,
    /// Whether it stands ahead of those that do not have this.
    pub priority: bool,
    /// What it waits for, if that is known.
    pub key: Keys,
    /// The process, if that is known and can be seen from here.
    pub pid: Option<i32>,
    /// Its thread.
    pub tid: Option<i32>,
    /// The thread's name.
    pub comm: String,
    /// The wake function's symbol.
    pub function: String,
    /// A task: asleep since this time, as [`monotonic`] tells it.
    pub since: Option<Duration>,
}

impl From<&raw::ipcdemo_waiter> for Waiter {
    fn from(waiter: &raw::ipcdemo_waiter) -> Self {
        let known = |number: i32| (number != 0).then_some(number);
        Self {
            position: waiter.position,
            kind: waiter.kind.into(),
            exclusive: waiter.flags & raw::IPCDEMO_WAITER_EXCLUSIVE != 0,
            priority: waiter.flags & raw::IPCDEMO_WAITER_PRIORITY != 0,
            key: Keys::from_bits_retain(waiter.key),
            pid: known(waiter.pid),
            tid: known(waiter.tid),
            comm: text(&waiter.comm),
            function: text(&waiter.function),
            since: (waiter.since_ns != 0).then(|| Duration::from_nanos(waiter.since_ns)),
        }
    }
}

/// A queue at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listing {
    /// The word.
    pub word: u64,
    /// Whether there were more than [`Listing::MAX`] entries, and only so many are told.
    pub is_cut: bool,
    /// The entries, in the order of a walk.
    pub waiters: Vec<Waiter>,
}

impl Listing {
    /// How many entries are told at most.
    pub const MAX: usize = raw::IPCDEMO_WAITERS_MAX as usize;
}

/// A wait queue, bare, with a word for those who sleep on it to agree upon.
#[derive(Debug)]
pub struct Waitq(File);

impl Waitq {
    /// The node of the one wait queue that everybody shares.
    pub const SHARED_PATH: &str = "/dev/ipcdemo-waitq";

    /// Opens the shared wait queue; its word is whatever its users left there.
    pub fn open_shared(nonblock: bool) -> Result<Self, OpenError> {
        let flags = if nonblock { libc::O_NONBLOCK } else { 0 };
        open_node(Self::SHARED_PATH, flags).map(Self)
    }

    /// Sleeps. Whatever ends the sleep, a receipt tells of it; an error is a call
    /// that the kernel refused.
    pub fn wait(&self, options: &WaitOptions) -> io::Result<Receipt> {
        let mut args = options.args();
        let result = self.call(raw::IPCDEMO_IOC_WAIT, &mut args);
        let errno = match &result {
            Ok(()) => Some(0),
            Err(error) => error.raw_os_error(),
        };
        match (Receipt::new(&args), result) {
            (Some(receipt), _) if Some(receipt.reason.errno()) == errno => Ok(receipt),
            (_, Err(error)) => Err(error),
            (_, Ok(())) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the wait's receipt makes no sense",
            )),
        }
    }

    /// Wakes whom the options reach.
    pub fn wake(&self, options: &WakeOptions) -> io::Result<WakeReceipt> {
        let mut args = options.args();
        self.call(raw::IPCDEMO_IOC_WAKE, &mut args)?;
        Ok(WakeReceipt::from(&args))
    }

    /// Tells who is on the queue.
    pub fn waiters(&self) -> io::Result<Listing> {
        let (args, array) = self.all_waiters()?;
        Ok(Listing {
            word: args.word,
            is_cut: args.total > args.count,
            waiters: array.iter().map(Waiter::from).collect(),
        })
    }

    /// How many are on the queue. One more than [`Listing::MAX`] stands for that or more.
    pub fn count(&self) -> io::Result<u32> {
        Ok(self.all_waiters()?.0.total)
    }

    /// Lists them into arrays that grow until all fit, as nobody tells how many there are before.
    fn all_waiters(&self) -> io::Result<(raw::ipcdemo_waiters_args, Vec<raw::ipcdemo_waiter>)> {
        let mut capacity = 32;
        loop {
            let mut array = vec![raw::ipcdemo_waiter::default(); capacity];
            let args = self.waiters_into(&mut array)?;
            if args.total <= args.count || capacity == Listing::MAX {
                array.truncate(args.count as usize);
                return Ok((args, array));
            }
            capacity = (capacity * 8).min(Listing::MAX);
        }
    }

    /// Fills `array` with the first entries of the queue.
    fn waiters_into(
        &self,
        array: &mut [raw::ipcdemo_waiter],
    ) -> io::Result<raw::ipcdemo_waiters_args> {
        let mut args = raw::ipcdemo_waiters_args {
            waiters: array.as_mut_ptr().addr() as u64,
            capacity: array.len().try_into().unwrap_or(u32::MAX),
            waiter_size: size_of::<raw::ipcdemo_waiter>() as u32,
            ..Default::default()
        };
        self.call(raw::IPCDEMO_IOC_WAITERS, &mut args)?;
        Ok(args)
    }

    /// Sleeps until a wake comes, as a plain `read(2)` does; it gives no byte.
    pub fn read(&self) -> io::Result<usize> {
        (&self.0).read(&mut [0; 1])
    }

    /// Wakes as a plain `write(2)` does, which does not look at the bytes.
    pub fn write(&self, buffer: &[u8]) -> io::Result<usize> {
        (&self.0).write(buffer)
    }

    fn call<T>(&self, request: u32, args: &mut T) -> io::Result<()> {
        debug_assert_eq!(raw::request_size(request), size_of::<T>());
        let args: *mut c_void = (&raw mut *args).cast();
        // SAFETY: `args` is the struct whose size the request's number names, and
        // the one pointer inside such a struct is a live slice of the caller's.
        unsafe { raw::ioctl(self.as_fd(), request, args) }?;
        Ok(())
    }
}

/// The time on the clock that deadlines and listings are told in, CLOCK_MONOTONIC.
#[must_use]
pub fn monotonic() -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: It writes one `timespec`.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    assert_eq!(result, 0, "every Linux has this clock");
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// As the kernel counts it; so long a time that it cannot be counted never comes.
const fn nanoseconds(time: Duration) -> u64 {
    let nanoseconds = time.as_nanos();
    if nanoseconds > u64::MAX as u128 {
        u64::MAX
    } else {
        nanoseconds as u64
    }
}

/// A C string in an array, which the kernel has terminated.
pub(crate) fn text(bytes: &[c_char]) -> String {
    let bytes: Vec<_> = bytes.iter().map(|&byte| byte as u8).collect();
    CStr::from_bytes_until_nul(&bytes)
        .map(|text| text.to_string_lossy().into_owned())
        .unwrap_or_default()
}

impl AsFd for Waitq {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Waitq {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<Waitq> for OwnedFd {
    fn from(waitq: Waitq) -> Self {
        waitq.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_names() {
        assert_eq!(Keys::empty().to_string(), "any");
        assert_eq!((Keys::IN | Keys::OUT).to_string(), "POLLIN|POLLOUT");
        assert_eq!(Keys::from_bits_retain(0x801).to_string(), "POLLIN|0x800");
    }

    #[test]
    fn every_key_is_one_that_the_module_takes() {
        assert_eq!(Keys::all().bits() & !raw::IPCDEMO_KEY_ALL, 0);
    }

    #[test]
    fn a_receipt_needs_a_reason() {
        assert_eq!(Receipt::new(&raw::ipcdemo_wait_args::default()), None);
    }
}
