// SPDX-License-Identifier: GPL-2.0

//! What a program may do under `ipcdemo exec` as without it: filters of its own, namespaces, processes.

use std::io;
use std::process::Command;
use std::ptr;

use ipcdemo_tests::Child;
use rustix::pipe::pipe;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::{differential, whose};

/// seccomp(2) with a filter that allows all.
fn set_filter(flags: libc::c_ulong) -> io::Result<i64> {
    let mut allow = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut allow,
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: The program is one of one instruction, and is copied.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) } {
        -1 => Err(io::Error::last_os_error()),
        listener => Ok(listener),
    }
}

#[test]
fn a_filter_of_its_own() {
    differential("inside::a_filter_of_its_own", || {
        let before = whose();
        let filter = set_filter(0).unwrap();
        assert_eq!(whose(), before);
        let listener = set_filter(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).is_ok();
        assert_eq!(whose(), before);
        let another =
            set_filter(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER).map_err(|error| error.kind());
        format!("{filter}, {listener}, {another:?}")
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

/// A namespace that a member makes is a member.
#[test]
fn a_namespace_of_its_own() {
    differential("inside::a_namespace_of_its_own", || {
        let before = whose();
        // SAFETY: No descriptors are unshared.
        unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }.unwrap();
        assert_eq!(whose(), before);
        "another".into()
    });
}

/// Programs that the C library starts on its memory, as by vfork(2), and that talk through pipes.
#[test]
fn programs_are_started() {
    differential("inside::programs_are_started", || {
        let before = whose();
        let said = (0..50).map(|number| {
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
                let mut regs: libc::user_regs_struct = std::mem::zeroed();
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
