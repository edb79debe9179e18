// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo exec --report`: this process stays, as the program's parent, to print the report
//! when the program has ended. As little as possible of that is to be seen: what it is sent
//! goes to the program, it stops when the program stops, and ends as that ends.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::process;
use std::ptr;

use ipcdemo_client::{Kinds, Tally};
use libc::{c_int, pid_t, sigset_t};

use super::report::Report;
use crate::failure::Failure;

/// Runs `become_program`, which returns only if that fails, in a child. The kinds are those that are
/// enrolled.
pub fn run(
    tally: &Tally,
    kinds: Kinds,
    become_program: impl FnOnce() -> Failure,
) -> Result<(), Failure> {
    let before = block_all();
    // SAFETY: It takes numbers. Where it is ignored, no end of a child is told.
    let at_end_of_child = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // SAFETY: This process has one thread, so that the new one may do all that it could.
    match unsafe { libc::fork() } {
        -1 => Err(Failure::because("cannot start the program")(
            io::Error::last_os_error(),
        )),
        0 => {
            // SAFETY: As above.
            unsafe { libc::signal(libc::SIGCHLD, at_end_of_child) };
            set_mask(&before);
            process::exit(become_program().tell().into())
        }
        program => {
            close_all_but(tally);
            let status = accompany(program);
            print_report(tally, kinds);
            end_as(status)
        }
    }
}

/// Closes what is the program's alone: the other end of a pipe is to hear when the program closes
/// its own. The standard error stays, for the report.
fn close_all_but(tally: &Tally) {
    let tally = tally.as_fd().as_raw_fd() as u32;
    for (first, last) in [(0, 1), (3, tally - 1), (tally + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: Nothing in this process uses what is closed.
            unsafe { libc::close_range(first, last, 0) };
        }
    }
}

/// Passes signals on until the program ends; gives its status.
fn accompany(program: pid_t) -> c_int {
    loop {
        let signal = next_signal();
        if signal.si_signo != libc::SIGCHLD {
            if !is_from_terminal(&signal) {
                // SAFETY: It takes two numbers.
                unsafe { libc::kill(program, signal.si_signo) };
            }
            continue;
        }
        let mut status = 0;
        let flags = libc::WNOHANG | libc::WUNTRACED;
        // SAFETY: It writes the status.
        while unsafe { libc::waitpid(program, &raw mut status, flags) } == program {
            if !libc::WIFSTOPPED(status) {
                return status;
            }
            // Another who stops it continues it, too: then there is nothing to be told.
            if let libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU = libc::WSTOPSIG(status) {
                // SAFETY: They take numbers. The shell continues this process, and it the program.
                unsafe {
                    libc::kill(libc::getpid(), libc::SIGSTOP);
                    libc::kill(program, libc::SIGCONT);
                }
            }
        }
    }
}

/// What the terminal sends comes to all of the foreground, the program included.
fn is_from_terminal(signal: &libc::siginfo_t) -> bool {
    const SI_KERNEL: c_int = 0x80;
    const SENT: [c_int; 7] = [
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGHUP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGWINCH,
    ];
    signal.si_code == SI_KERNEL && SENT.contains(&signal.si_signo)
}

fn print_report(tally: &Tally, kinds: Kinds) {
    let report = match tally.sums() {
        Ok(sums) => Report { sums, kinds }.to_string(),
        Err(error) => format!("ipcdemo: no report: {error}\n"),
    };
    // A reader that is gone has seen enough.
    let _ = io::stderr().write_all(report.as_bytes());
}

/// Ends as the program did.
fn end_as(status: c_int) -> Result<(), Failure> {
    if libc::WIFEXITED(status) {
        return match libc::WEXITSTATUS(status) {
            0 => Ok(()),
            code => Err(Failure::silent(code as u8)),
        };
    }
    let signal = libc::WTERMSIG(status);
    let no_core = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: They take numbers and a struct that they read.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        set_mask(&no_signals());
    }
    unreachable!("signal {signal} ends a process")
}

fn block_all() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: It fills the set.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: It was filled.
    set_mask(&unsafe { set.assume_init() })
}

fn no_signals() -> sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: It initializes the set.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Sets which signals are blocked, and gives which were.
fn set_mask(set: &sigset_t) -> sigset_t {
    let mut before = no_signals();
    // SAFETY: It reads one set and writes the other.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, set, &raw mut before) };
    before
}

/// Waits for any.
fn next_signal() -> libc::siginfo_t {
    let mut set = no_signals();
    let mut info = MaybeUninit::uninit();
    // SAFETY: They read and write the sets, and the information of the signal that came.
    unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, ptr::null(), &raw mut set);
        while libc::sigwaitinfo(&raw const set, info.as_mut_ptr()) < 0 {}
        info.assume_init()
    }
}
