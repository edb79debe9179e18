// SPDX-License-Identifier: GPL-2.0

//! Where a filter's calls arrive: seccomp_unotify(2).

use std::ffi::c_ulong;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libc::{seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp, sock_filter, sock_fprog};
use rustix::io::Errno;

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` of `linux/seccomp.h`: who asks gives its processor to who answers.
const SYNC_WAKE_UP: c_ulong = 1;

/// A call that was stopped.
pub struct Call {
    id: u64,
    /// The thread that made it.
    pub tid: u32,
    /// The instruction set's entry point.
    pub arch: u32,
    /// Its number there.
    pub number: u32,
    pub args: [u64; 6],
}

/// What becomes of a call.
pub enum Answer {
    /// It returns this.
    Returns(Result<i64, Errno>),
    /// It is done by the kernel.
    GoesOn,
    /// It has returned already.
    Done,
}

/// The supervisor's end of a filter.
pub struct Listener(OwnedFd);

impl Listener {
    /// Puts a filter on the calling thread, for good, and on all that it will start.
    ///
    /// A call whose notification was received is interrupted only by what kills it
    /// (`WAIT_KILLABLE_RECV`): a handler that ran between two descriptors would have the
    /// call repeated and the first of them lost.
    pub fn install(filter: &[sock_filter]) -> io::Result<Self> {
        let program = sock_fprog {
            len: filter.len().try_into().expect("a filter is short"),
            filter: filter.as_ptr().cast_mut(),
        };
        let flags =
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        rustix::thread::set_no_new_privs(true)?;
        // SAFETY: The kernel copies the program, which is as long as it says.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: It is a new descriptor, and ours.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Has two processors' work done on one, where that is quicker.
    pub fn take_turns(&self) {
        // An older kernel has no such thing, and does without.
        let _ = self.ioctl(
            libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
            ptr::without_provenance_mut::<u8>(SYNC_WAKE_UP as usize),
        );
    }

    /// The next call; none if who made it is gone.
    pub fn receive(&self) -> io::Result<Option<Call>> {
        // SAFETY: All zeros are what the kernel demands, and it is made of numbers.
        let mut notification: seccomp_notif = unsafe { std::mem::zeroed() };
        match self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification) {
            Ok(_) => Ok(Some(Call {
                id: notification.id,
                tid: notification.pid,
                arch: notification.data.arch,
                number: notification.data.nr as u32,
                args: notification.data.args,
            })),
            Err(Errno::NOENT | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether who made it still waits: so what was opened by its thread's number is its own,
    /// and not that of another who got the number since.
    pub fn is_waiting(&self, call: &Call) -> bool {
        let mut id = call.id;
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut id)
            .is_ok()
    }

    /// Gives the caller a descriptor.
    pub fn add(&self, call: &Call, fd: BorrowedFd<'_>, cloexec: bool) -> Result<i32, Errno> {
        self.add_with(call, fd, cloexec, 0)
    }

    /// The same, and its number is what the call returns, in one step.
    pub fn add_and_return(
        &self,
        call: &Call,
        fd: BorrowedFd<'_>,
        cloexec: bool,
    ) -> Result<(), Errno> {
        let flags = libc::SECCOMP_ADDFD_FLAG_SEND as u32;
        self.add_with(call, fd, cloexec, flags).map(drop)
    }

    fn add_with(
        &self,
        call: &Call,
        fd: BorrowedFd<'_>,
        cloexec: bool,
        flags: u32,
    ) -> Result<i32, Errno> {
        let mut args = seccomp_notif_addfd {
            id: call.id,
            flags,
            srcfd: fd.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: if cloexec { libc::O_CLOEXEC as u32 } else { 0 },
        };
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut args)
    }

    /// Lets the call go.
    pub fn answer(&self, call: &Call, answer: Answer) {
        let (val, error, flags) = match answer {
            Answer::Returns(Ok(value)) => (value, 0, 0),
            Answer::Returns(Err(error)) => (0, -error.raw_os_error(), 0),
            Answer::GoesOn => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Done => return,
        };
        let mut response = seccomp_notif_resp {
            id: call.id,
            val,
            error,
            flags,
        };
        // If nobody waits any more, there is nobody to be told.
        let _ = self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response);
    }

    fn ioctl<T>(&self, request: libc::Ioctl, argument: *mut T) -> Result<i32, Errno> {
        // SAFETY: Each request above comes with what it reads and writes, or with a number.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) } {
            -1 => {
                Err(Errno::from_io_error(&io::Error::last_os_error()).expect("it is the system's"))
            }
            value => Ok(value),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        listener.0
    }
}
