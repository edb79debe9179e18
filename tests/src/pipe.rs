// SPDX-License-Identifier: GPL-2.0

//! Pipes of either make, and what the tests do with them again and again.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ipcdemo_client::{Factory, PipeFlags, PipeLimitsChange};
use rustix::event::PollFlags;
use rustix::io;

use crate::subject::{is_ours, last_error};
use crate::{Access, Child, Errno, Fd, Memory, Sleeper, Subject, guarded, outsider};

/// How many buffers a pipe has to begin with: PIPE_DEF_BUFFERS.
pub const BUFFERS: usize = 16;

/// What poll(2) says of a read end that has something to read.
pub const READABLE: PollFlags = PollFlags::IN.union(PollFlags::RDNORM);

/// What poll(2) says of a write end whose pipe has a buffer free.
pub const WRITABLE: PollFlags = PollFlags::OUT.union(PollFlags::WRNORM);

/// Held for writing while somebody forks: a child has every descriptor of its parent,
/// and an end that another test closes meanwhile would live on in it.
static ENDS: RwLock<()> = RwLock::new(());

/// Runs a test's body beside others that do not fork.
///
/// # Panics
///
/// If the body does, or does not end.
pub fn together(body: impl FnOnce() + Send + 'static) {
    let _ends = ENDS.read().unwrap_or_else(PoisonError::into_inner);
    guarded(body);
}

/// Runs a test's body that forks, or that changes what the whole system has.
///
/// # Panics
///
/// If the body does, or does not end.
pub fn alone(body: impl FnOnce() + Send + 'static) {
    let _ends = ENDS.write().unwrap_or_else(PoisonError::into_inner);
    guarded(body);
}

impl Subject {
    /// A pipe that blocks: the end to read from, and the end to write to.
    #[must_use]
    pub fn pipe(self) -> (Fd, Fd) {
        self.pipe_with(PipeFlags::empty())
    }

    /// A pipe that fails instead of blocking.
    #[must_use]
    pub fn nonblocking_pipe(self) -> (Fd, Fd) {
        self.pipe_with(PipeFlags::NONBLOCK)
    }

    /// A pipe with these flags, and closed on exec besides.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    #[must_use]
    pub fn pipe_with(self, flags: PipeFlags) -> (Fd, Fd) {
        match self.create_pipe((flags | PipeFlags::CLOEXEC).bits()) {
            Ok((reader, writer)) => (Arc::new(reader), Arc::new(writer)),
            Err(error) => panic!("{self:?}: cannot make a pipe: {error}"),
        }
    }

    /// A pipe with these flags and so many buffers, each of a page.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    #[must_use]
    pub fn pipe_of(self, buffers: usize, flags: PipeFlags) -> (Fd, Fd) {
        let (reader, writer) = self.pipe_with(flags);
        let size = (buffers * crate::PAGE) as u32;
        assert_eq!(set_size(&writer, size), Ok(size));
        (reader, writer)
    }

    /// Asks for a pipe with any bits as flags. Without any, by pipe(2).
    ///
    /// # Panics
    ///
    /// As [`Subject::create`].
    pub fn create_pipe(self, flags: u32) -> Result<(OwnedFd, OwnedFd), Errno> {
        let outsiders = match self {
            Self::Native => outsider::pipe(flags),
            Self::Module => None,
        };
        if let Some(ends) = outsiders {
            return Ok(ends);
        }
        let mut fds = [-1; 2];
        // SAFETY: It has place for both.
        unsafe { call(flags, fds.as_mut_ptr()) }?;
        // SAFETY: The call succeeded, so these are new descriptors, and ours.
        let [reader, writer] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        assert!(
            self == Self::Native || is_ours(&reader),
            "the module did not answer"
        );
        Ok((reader, writer))
    }

    /// The value of a limit of all pipes.
    #[must_use]
    pub fn limit(self, limit: Limit) -> u64 {
        self.limit_call(limit, None).unwrap()
    }

    /// Changes a limit, until what is returned is dropped.
    pub fn set_limit(self, limit: Limit, value: u64) -> Result<Limited, Errno> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.limit(limit);
        self.limit_call(limit, Some(value))?;
        Ok(Limited {
            subject: self,
            limit,
            before,
            _turn: turn,
        })
    }

    fn limit_call(self, limit: Limit, value: Option<u64>) -> Result<u64, Errno> {
        match self {
            Self::Native => {
                let path = format!("/proc/sys/fs/{}", limit.name());
                if let Some(value) = value {
                    fs::write(&path, value.to_string()).map_err(errno)?;
                }
                Ok(fs::read_to_string(&path)
                    .map_err(errno)?
                    .trim()
                    .parse()
                    .unwrap())
            }
            Self::Module => {
                let mut change = PipeLimitsChange::default();
                match limit {
                    Limit::MaxSize => change.max_size = value.map(|value| value as u32),
                    Limit::UserPagesSoft => change.user_pages_soft = value,
                    Limit::UserPagesHard => change.user_pages_hard = value,
                }
                let limits = factory().change_pipe_limits(change).map_err(errno)?;
                Ok(match limit {
                    Limit::MaxSize => limits.max_size.into(),
                    Limit::UserPagesSoft => limits.user_pages_soft,
                    Limit::UserPagesHard => limits.user_pages_hard,
                })
            }
        }
    }
}

/// pipe(2) or pipe2(2), whoever answers it.
///
/// # Safety
///
/// `fds` must point to two numbers, or where the kernel can do no harm.
unsafe fn call(flags: u32, fds: *mut i32) -> Result<(), Errno> {
    let result = if flags == 0 {
        // SAFETY: By the caller.
        unsafe { libc::syscall(libc::SYS_pipe, fds) }
    } else {
        // SAFETY: By the caller.
        unsafe { libc::syscall(libc::SYS_pipe2, fds, flags) }
    };
    if result == 0 {
        Ok(())
    } else {
        Err(last_error())
    }
}

/// Asks for a pipe whose numbers can be told in the first `told` bytes only; it must be refused.
#[must_use]
pub fn create_untold(told: usize) -> Errno {
    let memory = Memory::new(Access::ReadWrite);
    // SAFETY: The kernel faults before it has written both.
    let result = unsafe { call(0, memory.before_end(told).pointer::<i32>()) };
    result.expect_err("the numbers cannot be told")
}

/// A pipe that the factory makes, with these flags, and closed on exec besides.
///
/// # Panics
///
/// If there is none to be had.
#[must_use]
pub fn from_factory(size: u32, flags: PipeFlags) -> (Fd, Fd) {
    let (reader, writer) = factory().pipe(size, flags | PipeFlags::CLOEXEC).unwrap();
    (Arc::new(reader.into()), Arc::new(writer.into()))
}

fn factory() -> Factory {
    Factory::open().unwrap_or_else(|error| panic!("{error}"))
}

/// Asks for a capacity, and gives the one that there is then.
pub fn set_size(fd: impl AsFd, size: u32) -> Result<u32, Errno> {
    size_call(fd.as_fd(), libc::F_SETPIPE_SZ, size)
}

/// The capacity.
pub fn size(fd: impl AsFd) -> Result<u32, Errno> {
    size_call(fd.as_fd(), libc::F_GETPIPE_SZ, 0)
}

fn size_call(fd: BorrowedFd<'_>, command: i32, size: u32) -> Result<u32, Errno> {
    // SAFETY: These commands take a number.
    match unsafe { libc::fcntl(fd.as_raw_fd(), command, size) } {
        -1 => Err(last_error()),
        size => Ok(size as u32),
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap()
}

/// What users may not exceed.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// The size that a user may ask for.
    MaxSize,
    /// The pages beyond which new pipes are small.
    UserPagesSoft,
    /// The pages beyond which there are no new pipes.
    UserPagesHard,
}

impl Limit {
    fn name(self) -> &'static str {
        match self {
            Self::MaxSize => "pipe-max-size",
            Self::UserPagesSoft => "pipe-user-pages-soft",
            Self::UserPagesHard => "pipe-user-pages-hard",
        }
    }
}

/// A limit that is another for a while. One test at a time has one.
#[derive(Debug)]
pub struct Limited {
    subject: Subject,
    limit: Limit,
    before: u64,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.subject
            .limit_call(self.limit, Some(self.before))
            .unwrap();
    }
}

/// Runs `body` in a child that is an unprivileged user, and gives the child's exit code: 0
/// if the body returns, and 101 if it panics.
#[must_use]
pub fn as_user(uid: u32, body: impl FnOnce()) -> i32 {
    let child = Child::fork(|| {
        // SAFETY: The child has one thread.
        unsafe {
            assert_eq!(libc::setresgid(uid, uid, uid), 0);
            assert_eq!(libc::setresuid(uid, uid, uid), 0);
        }
        body();
        0
    });
    child.wait()
}

/// Bytes that tell their place: none of 251 in a row is the same, nor do those of two
/// pages agree.
#[must_use]
pub fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

/// read(2): what arrives, at most so many bytes.
pub fn take(fd: impl AsFd, length: usize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; length];
    let got = io::read(fd, &mut buffer)?;
    buffer.truncate(got);
    Ok(buffer)
}

/// write(2).
pub fn put(fd: impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    io::write(fd, bytes)
}

/// Fills an empty pipe's buffers, each with a whole page, and gives what it wrote.
///
/// # Panics
///
/// If there is more or less room.
pub fn fill(writer: &Fd) -> Vec<u8> {
    let all = bytes(size(writer).unwrap() as usize);
    assert_eq!(put(writer, &all), Ok(all.len()));
    all
}

/// How many bytes of both are the same from the beginning.
#[must_use]
pub fn agreement(one: &[u8], other: &[u8]) -> usize {
    let (mut same, mut most) = (0, one.len().min(other.len()));
    // By halves: the library's comparison is many times faster than a loop in a test program.
    while same < most {
        let half = same + (most - same).div_ceil(2);
        if one[same..half] == other[same..half] {
            same = half;
        } else {
            most = half - 1;
        }
    }
    same
}

/// How many bytes there are to read.
///
/// # Panics
///
/// If FIONREAD fails.
pub fn queued(fd: impl AsFd) -> usize {
    io::ioctl_fionread(fd).unwrap() as usize
}

/// A name by which an end can be opened once more.
pub fn path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

impl Sleeper<Result<Vec<u8>, Errno>> {
    /// A thread that sleeps in read(2).
    #[must_use]
    pub fn taking(reader: &Fd, length: usize) -> Self {
        let reader = Fd::clone(reader);
        Self::new(&[libc::SYS_read], move || take(&reader, length))
    }
}

impl Sleeper<Result<usize, Errno>> {
    /// A thread that sleeps in write(2).
    #[must_use]
    pub fn putting(writer: &Fd, bytes: &[u8]) -> Self {
        let (writer, bytes) = (Fd::clone(writer), bytes.to_vec());
        Self::new(&[libc::SYS_write], move || put(&writer, &bytes))
    }
}

impl Sleeper<Result<PollFlags, Errno>> {
    /// A thread that sleeps in poll(2).
    #[must_use]
    pub fn polling(fd: &Fd, events: PollFlags) -> Self {
        let fd = Fd::clone(fd);
        Self::new(&[libc::SYS_ppoll], move || {
            let mut fds = [rustix::event::PollFd::new(&fd, events)];
            rustix::event::poll(&mut fds, None)?;
            Ok(fds[0].revents())
        })
    }
}

/// A thread's signals of one kind, which it has blocked and looks for instead.
#[derive(Debug)]
pub struct Blocked(i32);

impl Blocked {
    /// Blocks a signal in the calling thread, and in those that it makes.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    #[must_use]
    pub fn new(signal: i32) -> Self {
        let blocked = Self(signal);
        let set = blocked.set();
        // SAFETY: The set is initialized; the old one is not asked for.
        let result = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
        assert_eq!(result, 0);
        blocked
    }

    /// Takes a signal that the calling thread has been sent, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<libc::siginfo_t> {
        let now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let set = self.set();
        let mut info = std::mem::MaybeUninit::uninit();
        // SAFETY: It writes `info`, if it returns a signal.
        match unsafe { libc::sigtimedwait(&set, info.as_mut_ptr(), &now) } {
            -1 => None,
            // SAFETY: As it has.
            _ => Some(unsafe { info.assume_init() }),
        }
    }

    /// How many such signals the calling thread has been sent.
    #[must_use]
    pub fn count(&self) -> usize {
        std::iter::from_fn(|| self.next()).count()
    }

    fn set(&self) -> libc::sigset_t {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initializes it.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), self.0);
            set.assume_init()
        }
    }
}
