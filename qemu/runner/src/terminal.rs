// SPDX-License-Identifier: GPL-2.0

//! The user's terminal and signals.

use std::io::{self, stdin};
use std::os::fd::{AsFd, AsRawFd};
use std::process::exit;
use std::sync::Mutex;
use std::sync::mpsc::SyncSender;
use std::thread;

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::session::Event;

/// Who hears of signals: the session that runs, if one does.
static LISTENER: Mutex<Option<SyncSender<Event>>> = Mutex::new(None);

/// Turns the signals that end a program, and the one for a new window size, into events. To be
/// called before any thread is started.
pub fn watch_signals() -> nix::Result<()> {
    let mut watched = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGWINCH,
    ] {
        watched.add(signal);
    }
    watched.thread_block()?;
    // SAFETY: no handler is installed. A background job that reads from the terminal then gets an
    // error, not a stop.
    unsafe { signal(Signal::SIGTTIN, SigHandler::SigIgn) }?;
    thread::spawn(move || {
        while let Ok(signal) = watched.wait() {
            let listener = LISTENER.lock().ok().and_then(|listener| listener.clone());
            let heard =
                listener.is_some_and(|listener| listener.send(Event::Signal(signal)).is_ok());
            if !heard && signal != Signal::SIGWINCH {
                exit(128 + signal as i32);
            }
        }
    });
    Ok(())
}

/// From now on `listener` hears of signals.
pub fn send_signals_to(listener: Option<SyncSender<Event>>) {
    if let Ok(mut current) = LISTENER.lock() {
        *current = listener;
    }
}

/// Rows and columns of the user's terminal.
pub fn size() -> (u16, u16) {
    let mut size = nix::libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl writes one structure of this type.
    let got = unsafe { nix::libc::ioctl(stdin().as_raw_fd(), nix::libc::TIOCGWINSZ, &mut size) };
    if got == 0 && size.ws_row > 0 && size.ws_col > 0 {
        (size.ws_row, size.ws_col)
    } else {
        (24, 80)
    }
}

/// The terminal in raw mode, until this value is dropped.
pub struct Raw(Termios);

impl Raw {
    /// Fails where standard input is no terminal.
    pub fn enter() -> io::Result<Raw> {
        let before = tcgetattr(stdin().as_fd())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}
