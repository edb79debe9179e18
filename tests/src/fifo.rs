// SPDX-License-Identifier: GPL-2.0

//! FIFOs, the kernel's and ours. Their ends are used as those of [pipes](crate::pipe).

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ipcdemo_client::{Factory, fifo_path};
use rustix::fs::{CWD, FileType, Mode, OFlags, chmod, fcntl_getfl, fcntl_setfl, mknodat, openat};
use rustix::process::Pid;

use crate::pipe::{put, take};
use crate::{Errno, Fd, Sleeper, Subject, pin, schedule, serially};

/// A thread that is blocked in open(2).
pub type Opening = Sleeper<Result<Fd, Errno>>;

/// A FIFO of a test's own, which is removed at the end.
#[derive(Debug)]
pub struct Fifo {
    subject: Subject,
    name: String,
    mode: u32,
}

impl Fifo {
    /// The kernel's, made by mkfifo(3), or ours.
    #[must_use]
    pub fn new(subject: Subject) -> Self {
        Self::with_mode(subject, 0o600)
    }

    /// One with these permission bits.
    #[must_use]
    pub fn with_mode(subject: Subject, mode: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let fifo = Self {
            subject,
            name: format!("test-{}.{number}", std::process::id()),
            mode,
        };
        fifo.make();
        fifo
    }

    /// Makes the node: again, once it was removed.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    pub fn make(&self) {
        match self.subject {
            Subject::Native => {
                let (path, mode) = (self.path(), Mode::from_raw_mode(self.mode));
                mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
                // What the umask took.
                chmod(path, mode).unwrap();
            }
            Subject::Module => factory().mkfifo(&self.name, self.mode).unwrap(),
        }
    }

    /// Removes the node, and nothing but the node.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn remove(&self) {
        match self.subject {
            Subject::Native => fs::remove_file(self.path()).unwrap(),
            Subject::Module => factory().rmfifo(&self.name).unwrap(),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self.subject {
            Subject::Native => Path::new("/tmp").join(&self.name),
            Subject::Module => fifo_path(&self.name),
        }
    }

    /// Opens it, close-on-exec.
    pub fn open(&self, flags: OFlags) -> Result<Fd, Errno> {
        open(&self.path(), flags)
    }

    /// Begins to open it in a thread of its own, and looks until that sleeps.
    #[must_use]
    pub fn opening(&self, flags: OFlags) -> Opening {
        let path = self.path();
        Sleeper::new(&[libc::SYS_openat], move || open(&path, flags))
    }

    /// An end to read from, which does not block.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    #[must_use]
    pub fn reader(&self) -> Fd {
        self.open(OFlags::RDONLY | OFlags::NONBLOCK).unwrap()
    }

    /// An end to write to, which does not block. Somebody must be there to read.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    #[must_use]
    pub fn writer(&self) -> Fd {
        self.open(OFlags::WRONLY | OFlags::NONBLOCK).unwrap()
    }

    /// An end for both, which does not block.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    #[must_use]
    pub fn both(&self) -> Fd {
        self.open(OFlags::RDWR | OFlags::NONBLOCK).unwrap()
    }

    /// Checks that nobody has it open: there is no reader, nothing stays in it, and there
    /// is no writer.
    ///
    /// # Panics
    ///
    /// If somebody has.
    pub fn check_unused(&self) {
        let writer = self.open(OFlags::WRONLY | OFlags::NONBLOCK);
        assert_eq!(writer.err(), Some(Errno::NXIO), "somebody reads");
        assert_eq!(put(self.both(), b"x"), Ok(1));
        let left = take(self.reader(), 1);
        assert_eq!(left, Ok(vec![]), "somebody has it open, or writes");
    }

    /// A reader and a writer, which do block.
    #[must_use]
    pub fn blocking_ends(&self) -> (Fd, Fd) {
        let ends = (self.reader(), self.writer());
        blocking(&ends.0);
        blocking(&ends.1);
        ends
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        // A test may have removed it, and one that fails has a story of its own.
        let _ = match self.subject {
            Subject::Native => fs::remove_file(self.path()),
            Subject::Module => Factory::open().map_or(Ok(()), |factory| factory.rmfifo(&self.name)),
        };
    }
}

/// openat(2), as the C library's open(3) calls it.
fn open(path: &Path, flags: OFlags) -> Result<Fd, Errno> {
    let fd = openat(CWD, path, flags | OFlags::CLOEXEC, Mode::RUSR)?;
    Ok(Arc::new(fd))
}

fn factory() -> Factory {
    Factory::open().unwrap_or_else(|error| panic!("{error}"))
}

/// Has a descriptor sleep where it would have failed with EAGAIN.
///
/// # Panics
///
/// If it is not open.
pub fn blocking(fd: impl AsFd) {
    let flags = fcntl_getfl(&fd).unwrap();
    fcntl_setfl(fd, flags - OFlags::NONBLOCK).unwrap();
}

/// Does something while a thread that sleeps cannot run, though it be woken: both are
/// on one processor, where the caller comes first.
///
/// # Panics
///
/// If the caller is not root.
pub fn ahead_of<T>(tid: Pid, act: impl FnOnce() -> T) -> T {
    pin(Some(tid), 0);
    pin(None, 0);
    schedule(libc::SCHED_FIFO, 1);
    let result = act();
    schedule(libc::SCHED_OTHER, 0);
    result
}

/// Runs a test's body with a FIFO that nobody has open, and looks whether it is so again
/// in the end.
pub fn try_on(subject: Subject, body: fn(&Fifo)) {
    serially(move || {
        let fifo = Fifo::new(subject);
        body(&fifo);
        fifo.check_unused();
    });
}

/// Makes two tests of each function, `name::native` and `name::module`, each with a
/// FIFO of its own. They run one at a time: a process that another test forks would
/// hold ends open that this one has closed.
#[macro_export]
macro_rules! fifos {
    ($($(#[$attribute:meta])* fn $name:ident($fifo:ident: &Fifo) $body:block)*) => {$(
        $(#[$attribute])*
        fn $name($fifo: &$crate::fifo::Fifo) $body

        mod $name {
            #[test]
            fn native() {
                $crate::fifo::try_on($crate::Subject::Native, super::$name);
            }

            #[test]
            fn module() {
                $crate::fifo::try_on($crate::Subject::Module, super::$name);
            }
        }
    )*};
}
