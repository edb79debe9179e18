// SPDX-License-Identifier: GPL-2.0

//! What a program may do under `ipcdemo exec` as without it: filters of its own, namespaces, processes.

use std::ffi::{c_int, c_long};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::ptr;

use ipcdemo_tests::{Child, receive_descriptor, scaled, send_descriptor};
use rustix::event::{EventfdFlags, eventfd};
use rustix::pipe::pipe;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::{differential, whose};

/// seccomp(2) with a filter that has `action` for one system call, and allows all others.
fn set_filter(call: c_long, action: u32, flags: libc::c_ulong) -> io::Result<c_long> {
    let statement = |code: u32, jf, k| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, action),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: The program is as long as it says, and is copied.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) } {
        -1 => Err(io::Error::last_os_error()),
        listener => Ok(listener),
    }
}

#[test]
fn a_filter_of_its_own() {
    differential("inside::a_filter_of_its_own", || {
        let before = whose();
        let allow = |flags| set_filter(libc::SYS_getppid, libc::SECCOMP_RET_ALLOW, flags);
        let filter = allow(0).unwrap();
        assert_eq!(whose(), before);
        let listener = allow(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).is_ok();
        assert_eq!(whose(), before);
        let another = allow(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).map_err(|error| error.kind());
        format!("{filter}, {listener}, {another:?}")
    });
}

/// A call that a filter refuses has the filter's error, and does not come to the module.
#[test]
fn a_filter_that_refuses() {
    differential("inside::a_filter_that_refuses", || {
        let action = libc::SECCOMP_RET_ERRNO | libc::EXDEV as u32;
        set_filter(libc::SYS_eventfd2, action, 0).unwrap();
        format!("{:?}", eventfd(0, EventfdFlags::empty()).map(drop))
    });
}

/// Tells the kernel to go on with the call that the listener hears of next, and returns its number.
fn let_go_on(listener: &OwnedFd) -> c_int {
    let fd = listener.as_raw_fd();
    // SAFETY: It consists of numbers, and the kernel wants zeros there.
    let mut told: libc::seccomp_notif = unsafe { mem::zeroed() };
    // SAFETY: It fills the struct.
    let heard = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut told) };
    assert_eq!(heard, 0, "{}", io::Error::last_os_error());
    let answer = libc::seccomp_notif_resp {
        id: told.id,
        val: 0,
        error: 0,
        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    };
    // SAFETY: It reads the struct.
    let sent = unsafe { libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    assert_eq!(sent, 0, "{}", io::Error::last_os_error());
    told.data.nr
}

/// A supervisor that the program has for its children lets their calls go on, and they are answered then.
#[test]
fn a_listener_of_its_own() {
    differential("inside::a_listener_of_its_own", || {
        let before = whose();
        let (here, there) = UnixStream::pair().unwrap();
        let child = Child::fork(|| {
            let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
            let listener = set_filter(libc::SYS_eventfd2, libc::SECCOMP_RET_USER_NOTIF, flags);
            // SAFETY: It is new.
            send_descriptor(&there, unsafe {
                OwnedFd::from_raw_fd(listener.unwrap() as c_int)
            });
            u8::from(whose() != before)
        });
        let number = let_go_on(&receive_descriptor(&here, true));
        format!("{number} {}", child.wait())
    });
}

/// SECCOMP_MODE_STRICT leaves read, write and exit; pipe2 is the end.
#[test]
fn strict_mode() {
    differential("inside::strict_mode", || {
        let (reader, writer) = pipe().unwrap();
        let strict = |and_then: fn()| {
            let child = Child::fork(|| {
                // SAFETY: It takes numbers.
                let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
                let written = rustix::io::write(&writer, &[set as u8]);
                and_then();
                // exit(2), which ends the thread: exit_group(2) is none of the three.
                // SAFETY: Nothing of this process is needed any more.
                unsafe { libc::syscall(libc::SYS_exit, i64::from(written != Ok(1))) };
                1
            });
            let mut set = [9];
            rustix::io::read(&reader, &mut set).unwrap();
            format!("{} {}; ", set[0], child.wait())
        };
        strict(|| ()) + &strict(|| drop(pipe()))
    });
}

/// Namespaces that a member makes are members, whichever way they are made.
#[test]
fn namespaces_of_its_own() {
    differential("inside::namespaces_of_its_own", || {
        let before = whose();
        let container = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC;
        let cloned = [libc::CLONE_NEWIPC, container].map(|flags| {
            Child::clone(flags | libc::SIGCHLD, || assert_eq!(whose(), before)).wait()
        });
        // SAFETY: No descriptors are unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }.unwrap();
        assert_eq!(whose(), before);
        format!("{cloned:?}")
    });
}

/// A child of vfork(2) makes objects while its parent, on whose memory it runs, waits.
#[test]
fn a_child_on_its_memory() {
    differential("inside::a_child_on_its_memory", || {
        let before = whose();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let mut seen = String::new();
        let child = Child::clone(flags, || seen = whose()).wait();
        assert_eq!(seen, before);
        child.to_string()
    });
}

/// Programs that the C library starts on its memory, as by vfork(2), and that talk through pipes.
#[test]
fn programs_are_started() {
    differential("inside::programs_are_started", || {
        let before = whose();
        let said = (0..scaled(50)).map(|number| {
            let output = Command::new("echo")
                .arg(number.to_string())
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        });
        let said = said.collect::<String>();
        assert_eq!(whose(), before);
        said
    });
}

/// A member that runs `ipcdemo exec` stays one.
#[test]
fn one_in_another() {
    differential("inside::one_in_another", || {
        let words = ["exec", "--", "sh", "-c", "echo a | cat; exit 3"];
        let output = Command::new("ipcdemo").args(words).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        format!(
            "{} {:?}",
            String::from_utf8(output.stdout).unwrap(),
            output.status.code()
        )
    });
}

/// A tracer sees each call once as it comes and once as it goes, with its number and its result.
#[test]
fn a_tracer_sees_the_calls() {
    differential("inside::a_tracer_sees_the_calls", || {
        let child = Child::fork(|| {
            // SAFETY: It takes numbers; nobody but this process is stopped.
            unsafe {
                libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
                libc::raise(libc::SIGSTOP);
            }
            drop(pipe());
            let _ = whose();
            0
        });
        let pid = child.pid().as_raw_nonzero().get();
        let mut seen = String::new();
        loop {
            let mut status = 0;
            // SAFETY: It writes the status.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
            if !libc::WIFSTOPPED(status) {
                return format!("{seen}{status}");
            }
            // SAFETY: The tracee is stopped; its registers are written to a struct of their size.
            unsafe {
                let mut regs: libc::user_regs_struct = mem::zeroed();
                libc::ptrace(libc::PTRACE_GETREGS, pid, 0, &raw mut regs);
                let made = [libc::SYS_pipe2, libc::SYS_eventfd2].contains(&(regs.orig_rax as i64));
                if made && libc::WSTOPSIG(status) == libc::SIGTRAP {
                    seen += &format!("{} {} {}; ", regs.orig_rax, regs.rsi, regs.rax as i64);
                }
                assert_eq!(
                    libc::ptrace(libc::PTRACE_SYSCALL, pid, ptr::null_mut::<u8>(), 0),
                    0
                );
            }
        }
    });
}
