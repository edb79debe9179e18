// SPDX-License-Identifier: GPL-2.0

//! What Rust's runtime changes of a process before `main`, and the program is to have as it was:
//! the disposition of SIGPIPE, and the standard descriptors that were closed.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether SIGPIPE was ignored.
static SIGPIPE_IGNORED: AtomicBool = AtomicBool::new(false);

/// Which of the standard descriptors were closed. The runtime opens `/dev/null` in their places.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

#[used]
// SAFETY: The C library calls what is in this section, once it is ready itself.
#[unsafe(link_section = ".init_array")]
static LOOKS: extern "C" fn() = {
    extern "C" fn look() {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: It writes the action, for which zeros are a value, too.
        let handler = unsafe {
            libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr());
            action.assume_init().sa_sigaction
        };
        SIGPIPE_IGNORED.store(handler == libc::SIG_IGN, Ordering::Relaxed);
        for (fd, closed) in (0..).zip(&CLOSED) {
            // SAFETY: It takes numbers.
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
            closed.store(flags < 0, Ordering::Relaxed);
        }
    }
    look
};

/// Has what this process becomes find all that as this process did.
pub fn hand_on() {
    if SIGPIPE_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: It takes numbers.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    }
    for (fd, closed) in (0..).zip(&CLOSED) {
        if closed.load(Ordering::Relaxed) {
            // Should there be no such program, its name can still go to the standard error.
            // SAFETY: It takes numbers.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
}
