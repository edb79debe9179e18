// SPDX-License-Identifier: GPL-2.0

//! The process that makes the objects.

use std::env;
use std::fs;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::set_name;

use super::caller::{self, Caller};
use super::intercepts::{Intercept, Outcome};
use super::listener::{Answer, Listener};
use super::report::Report;

/// Starts it, as nobody's child.
pub fn start(program: UnixStream, report: Option<Report>) -> io::Result<()> {
    // SAFETY: This process has one thread, so that the new one may do all that it could.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: As above.
            let error = match unsafe { libc::fork() } {
                -1 => last_error(),
                0 => i32::from(supervise(program, report).is_err()),
                _ => 0,
            };
            // SAFETY: What else there is to do at the end of a process, such as writing what
            // is buffered, is the other's.
            unsafe { libc::_exit(error) }
        }
        child => {
            let mut status = 0;
            // SAFETY: It writes the status.
            let result = unsafe { libc::waitpid(child, &raw mut status, 0) };
            // Where SIGCHLD is ignored, there is no status.
            match libc::WEXITSTATUS(status) {
                error if result == child && error != 0 => Err(io::Error::from_raw_os_error(error)),
                _ => Ok(()),
            }
        }
    }
}

fn last_error() -> i32 {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EAGAIN)
}

/// Its life: until the last program with the filter is gone.
fn supervise(mut program: UnixStream, mut report: Option<Report>) -> io::Result<()> {
    leave_all_but(&program)?;
    let (pid, listener) = receive(&program)?;
    let reached = check_proc().and_then(|()| Caller::open(pid)).err();
    let error = reached.map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
    program.write_all(&error.to_ne_bytes())?;
    listener.take_turns();
    hurry();

    let mut program = Some(program);
    loop {
        let mut fds = vec![PollFd::new(&listener, PollFlags::IN)];
        fds.extend(
            program
                .iter()
                .map(|program| PollFd::new(program, PollFlags::IN)),
        );
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let asked = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        let calls = fds[0].revents();
        let nobody_is_left = !calls.is_empty() && !calls.contains(PollFlags::IN);
        // First, as others may make calls without a pause.
        if let Some(program) = program.take_if(|_| asked || nobody_is_left) {
            tell(program, report.take());
        } else if nobody_is_left {
            return Ok(());
        } else if !calls.is_empty() {
            serve(&listener, report.as_mut())?;
        }
    }
}

/// Takes no part in anything of the program's: what it has open, its terminal, its limits.
fn leave_all_but(program: &UnixStream) -> io::Result<()> {
    set_name(c"ipcdemo-exec")?;
    setsid()?;
    // Paths in it are relative from here on: what is mounted over it later is of no concern.
    env::set_current_dir("/proc")?;
    // What the program may have is not what this process needs for it.
    for resource in [Resource::Nofile, Resource::Cpu] {
        let limit = getrlimit(resource);
        let current = limit.maximum;
        setrlimit(resource, Rlimit { current, ..limit })?;
    }
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    drop(null);
    let kept = program.as_raw_fd() as u32;
    for (first, last) in [(3, kept - 1), (kept + 1, u32::MAX)] {
        // SAFETY: Nothing in this process uses what is closed.
        if first <= last && unsafe { libc::close_range(first, last, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Has this process run before others, if it may: until it has taken a call, a signal can
/// interrupt it.
fn hurry() {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: It reads the struct.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
}

/// Whether the numbers in `/proc` are those by which the kernel tells this process of others.
fn check_proc() -> io::Result<()> {
    let own = fs::read_link("self")?;
    match own.to_str() == Some(&process::id().to_string()) {
        true => Ok(()),
        false => Err(Errno::NOENT.into()),
    }
}

/// The program's process, and the listener of its filter.
fn receive(program: &UnixStream) -> io::Result<(u32, Listener)> {
    let mut pid = [0; size_of::<u32>()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut passed = RecvAncillaryBuffer::new(&mut space);
    let buffers = &mut [IoSliceMut::new(&mut pid)];
    recvmsg(program, buffers, &mut passed, RecvFlags::CMSG_CLOEXEC)?;
    let listener = passed.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    // Without one the program has failed, and said so itself.
    let listener = listener.ok_or(Errno::CONNRESET)?;
    Ok((u32::from_ne_bytes(pid), listener.into()))
}

fn serve(listener: &Listener, report: Option<&mut Report>) -> io::Result<()> {
    let Some(call) = listener.receive()? else {
        return Ok(());
    };
    let Some(intercept) = Intercept::of(&call) else {
        // The filter lets nothing else come here.
        listener.answer(&call, Answer::GoesOn);
        return Ok(());
    };
    // It may end as soon as it is answered.
    let name = report.as_ref().map(|_| caller::name(call.tid));
    let outcome = intercept.act(listener, &call);
    if let (Some(report), Some(name)) = (report, name) {
        report.note(intercept.kind, name, &outcome);
    }
    match outcome {
        Outcome::Made(answer) | Outcome::Asked(answer) => listener.answer(&call, answer),
        Outcome::Refused(error) => listener.answer(&call, Answer::Returns(Err(error))),
        // If it is gone indeed, nobody is told.
        Outcome::Left(_) | Outcome::Gone => listener.answer(&call, Answer::GoesOn),
    }
    Ok(())
}

/// Tells who asks for it what there is to tell. Who became the program does not ask.
fn tell(mut program: UnixStream, report: Option<Report>) {
    if let (Ok(()), Some(report)) = (program.read_exact(&mut [0]), report) {
        let told = report.to_string();
        // Its tallies are of the module, which who reads this may want to unload.
        drop(report);
        // If it is gone meanwhile, it does not want to know.
        let _ = program.write_all(told.as_bytes());
    }
}
