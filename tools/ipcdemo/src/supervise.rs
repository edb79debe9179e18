// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo exec`: a program whose calls that make a pipe or an eventfd get the module's.
//!
//! This process becomes the program, as with env(1): whoever waits for it, signals it or
//! controls its terminal has the program itself. The supervisor is nobody's child, in a
//! session of its own, and ends with the last program that has the filter.

mod beside;
mod caller;
mod filter;
mod intercepts;
mod listener;
mod report;
mod supervisor;

use std::fs;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process;

use ipcdemo_client::Factory;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::cli;
use crate::exec;
use crate::failure::Failure;
use listener::Listener;
use report::Report;

pub fn run(options: &cli::Exec) -> Result<(), Failure> {
    // Before anything is started: whether there is a module.
    drop(Factory::open()?);
    let (ours, theirs) =
        UnixStream::pair().map_err(Failure::because("cannot reach a supervisor"))?;
    supervisor::start(theirs, options.report.then(Report::default))
        .map_err(Failure::because("cannot start a supervisor"))?;
    if options.report {
        beside::run(&ours, || become_program(&ours, options))
    } else {
        Err(become_program(&ours, options))
    }
}

/// Puts the filter on this process and becomes the program; else tells why not.
fn become_program(supervisor: &UnixStream, options: &cli::Exec) -> Failure {
    let handed_over = Listener::install(&filter::filter(intercepts::stops(&options.kinds())))
        .map_err(|error| cannot_install(&error))
        .and_then(|listener| hand_over(supervisor, listener));
    match handed_over {
        Ok(()) => {
            let error = exec::command(&options.command).exec();
            exec::cannot_run(&options.command, &error)
        }
        Err(failure) => failure,
    }
}

fn cannot_install(error: &io::Error) -> Failure {
    let why = match error.raw_os_error() {
        Some(libc::EBUSY) => {
            "somebody does that already, an `ipcdemo exec` around this one or a container's \
             manager, and the kernel has place for one"
        }
        Some(libc::EINVAL | libc::ENOSYS) => "the kernel lacks CONFIG_SECCOMP_FILTER",
        _ => return Failure::new(format!("cannot supervise the program: {error}")),
    };
    Failure::new(format!("cannot supervise the program: {why}"))
}

/// Gives the supervisor the listener, of which the program must keep nothing: the kernel
/// frees who waits when the last descriptor of it is closed.
fn hand_over(mut supervisor: &UnixStream, listener: Listener) -> Result<(), Failure> {
    let failed = "the supervisor does not answer";
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut passed = SendAncillaryBuffer::new(&mut space);
    let fds = [listener.as_fd()];
    passed.push(SendAncillaryMessage::ScmRights(&fds));
    let pid = process::id().to_ne_bytes();
    sendmsg(
        supervisor,
        &[IoSlice::new(&pid)],
        &mut passed,
        SendFlags::NOSIGNAL,
    )
    .map_err(Failure::because(failed))?;
    drop(listener);
    let mut answer = [0; size_of::<i32>()];
    supervisor
        .read_exact(&mut answer)
        .map_err(Failure::because(failed))?;
    match i32::from_ne_bytes(answer) {
        0 => Ok(()),
        error => Err(cannot_look_into(&io::Error::from_raw_os_error(error))),
    }
}

fn cannot_look_into(error: &io::Error) -> Failure {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let advice = match scope.as_deref().map(str::trim) {
        _ if error.raw_os_error() == Some(libc::ENOENT) => {
            "; is /proc mounted, for this pid namespace?".into()
        }
        Ok("0") | Err(_) => String::new(),
        Ok("3") => "; /proc/sys/kernel/yama/ptrace_scope is 3, until the next boot".into(),
        Ok(scope) => format!(
            "; /proc/sys/kernel/yama/ptrace_scope is {scope}: become root, or let root set it to 0"
        ),
    };
    Failure::new(format!(
        "cannot supervise the program: its memory cannot be reached: {error}{advice}"
    ))
}
