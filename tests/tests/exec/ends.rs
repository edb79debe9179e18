// SPDX-License-Identifier: GPL-2.0

//! How a program begins and ends.

use std::env;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use ipcdemo_tests::{Errno, Task, serially, until};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::{BODY, SEEN, command, end, ends_alike, is_body, nothing_is_left, seen_path};

const WAYS: [&[&str]; 2] = [
    &["ipcdemo", "exec", "--"],
    &["ipcdemo", "exec", "--report", "--"],
];

#[test]
fn the_end_is_the_program_s() {
    serially(|| {
        for script in [
            "true",
            "exit 7",
            "kill -TERM $$",
            "kill -INT $$",
            "kill -SEGV $$",
            "kill -KILL $$",
            "kill -PIPE $$",
            "trap 'exit 3' USR1; kill -USR1 $$; exit 4",
            "cat; echo end",
            "yes | head -n 3; exit 5",
            "(exit 6) & wait $!",
            "ulimit -c unlimited; kill -QUIT $$",
        ] {
            ends_alike(script, "some\nlines\n");
        }
    });
}

#[test]
fn what_cannot_be_run_is_said() {
    serially(|| {
        for (words, code) in [
            (&["no-such-program"][..], 127),
            (&["/dev/null"], 126),
            (&[], 2),
        ] {
            for before in WAYS {
                let words = [before, words].concat();
                let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
                assert_eq!(end(output.status), Ok(code), "{words:?}");
                assert!(!output.stderr.is_empty());
            }
        }
        nothing_is_left();
    });
}

/// Starts a program that says its number, here given, and goes on when it is told to.
fn obedient(before: &[&str]) -> (Child, Pid) {
    let script = "trap 'exit 9' TERM HUP; echo $$; read line; exit 5";
    let words = [before, &["sh", "-c", script]].concat();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // SIGTSTP is for groups that a shell looks after.
        .process_group(0)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.as_mut().unwrap());
    output.read_line(&mut line).unwrap();
    let program = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
    // A signal that comes before that is forgotten by some shells until the line is there.
    let task = Task::process(program);
    until("it waits for a line", || {
        task.asleep_in(&[libc::SYS_read, libc::SYS_poll])
    });
    (child, program)
}

#[test]
fn signals_reach_it() {
    serially(|| {
        for before in WAYS {
            for signal in [Signal::TERM, Signal::HUP] {
                let (mut child, _) = obedient(before);
                // Its end would be another reason to go on.
                let _input = child.stdin.take();
                kill_process(Pid::from_child(&child), signal).unwrap();
                assert_eq!(end(child.wait().unwrap()), Ok(9), "{before:?}");
            }
        }
        nothing_is_left();
    });
}

#[test]
fn it_stops_and_goes_on() {
    serially(|| {
        for before in WAYS {
            let (mut child, program) = obedient(before);
            let started = Pid::from_child(&child);
            kill_process(program, Signal::TSTP).unwrap();
            let tasks = [program, started].map(Task::process);
            until("both have stopped", || tasks.iter().all(Task::stopped));
            kill_process(started, Signal::CONT).unwrap();
            until("both go on", || !tasks.iter().any(Task::stopped));
            child.stdin.take().unwrap().write_all(b"\n").unwrap();
            assert_eq!(end(child.wait().unwrap()), Ok(5), "{before:?}");
        }
        nothing_is_left();
    });
}

/// The kernel has place for one listener.
#[test]
fn one_in_another_is_refused() {
    serially(|| {
        let output = Command::new("ipcdemo")
            .args(["exec", "--", "ipcdemo", "exec", "--", "true"])
            .output()
            .unwrap();
        assert_eq!(end(output.status), Ok(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("an `ipcdemo exec` around this one"), "{text}");
        nothing_is_left();
    });
}

/// A user, who may have the module's node, or not.
const USER: u32 = 1000;

fn open_node_to(mode: u32) {
    fs::set_permissions("/dev/ipcdemo", Permissions::from_mode(mode)).unwrap();
}

fn what_a_user_gets() -> String {
    let mut ends = [0; 2];
    // SAFETY: It writes two numbers.
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), 0) };
    format!("{} {made}", geteuid().as_raw())
}

#[test]
fn it_takes_no_privileges() {
    const NAME: &str = "ends::it_takes_no_privileges";
    if is_body(NAME, what_a_user_gets) {
        return;
    }
    serially(|| {
        let path = seen_path(NAME);
        let privileged = env::temp_dir().join("exec-privileged");
        fs::copy(env::current_exe().unwrap(), &privileged).unwrap();
        fs::set_permissions(&privileged, Permissions::from_mode(0o4755)).unwrap();
        let run = |mode, words: &[&str]| {
            open_node_to(mode);
            let own = [privileged.to_str().unwrap(), "--exact", NAME, "--nocapture"];
            let words = [words, &own].concat();
            let _ = fs::remove_file(&path);
            let status = Command::new(words[0])
                .args(&words[1..])
                .env(BODY, NAME)
                .env(SEEN, &path)
                .uid(USER)
                .output()
                .unwrap()
                .status;
            open_node_to(0o600);
            (end(status), fs::read_to_string(&path).unwrap_or_default())
        };
        assert_eq!(run(0o600, &[]), (Ok(0), "0 0".into()));
        for before in WAYS {
            assert_eq!(run(0o666, before), (Ok(0), "1000 0".into()));
            assert_eq!(run(0o600, before), (Ok(4), String::new()));
        }
        fs::remove_file(privileged).unwrap();
        let _ = fs::remove_file(path);
        nothing_is_left();
    });
}

fn what_cannot_be_looked_into() -> String {
    // SAFETY: It takes numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    what_a_user_gets()
}

/// A program that may not be looked into gets the kernel's own.
#[test]
fn some_are_left_to_the_kernel() {
    const NAME: &str = "ends::some_are_left_to_the_kernel";
    if is_body(NAME, what_cannot_be_looked_into) {
        return;
    }
    serially(|| {
        open_node_to(0o666);
        let path = seen_path(NAME);
        let output = command(WAYS[1], NAME)
            .env(SEEN, &path)
            .uid(USER)
            .output()
            .unwrap();
        open_node_to(0o600);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(end(output.status), Ok(0), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1000 0");
        let left = "1  pipe     left to the kernel: the program may not be looked into";
        assert!(text.contains(left), "{text}");
        fs::remove_file(path).unwrap();
        nothing_is_left();
    });
}

fn another_listener() -> String {
    let allow = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: libc::SECCOMP_RET_ALLOW,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: (&raw const allow).cast_mut(),
    };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: It reads the program.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    assert_eq!(result, -1);
    std::io::Error::last_os_error().to_string()
}

#[test]
fn a_program_has_no_listener_of_its_own() {
    const NAME: &str = "ends::a_program_has_no_listener_of_its_own";
    if is_body(NAME, another_listener) {
        return;
    }
    serially(|| {
        let busy = std::io::Error::from(Errno::BUSY).to_string();
        assert_eq!(crate::seen(WAYS[0], NAME), busy);
        nothing_is_left();
    });
}

/// What a shell may leave to `ipcdemo exec`, and it must not stumble over.
#[test]
fn what_is_inherited_does_no_harm() {
    serially(|| {
        for (script, code, text) in [
            (
                "trap '' CHLD; exec ipcdemo exec --report -- sh -c 'exit 3'",
                3,
                "",
            ),
            (
                "ulimit -n 8; exec ipcdemo exec -- sh -c 'echo x | cat'",
                0,
                "x\n",
            ),
            (
                "set -o pipefail; ipcdemo exec --report -- sh -c 'exit 3' 2>&1 | true",
                3,
                "",
            ),
            ("unshare -p -f ipcdemo exec -- true", 1, ""),
        ] {
            let output = Command::new("sh").args(["-c", script]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert_eq!((end(output.status), &*said), (Ok(code), text), "{script}");
        }
        nothing_is_left();
    });
}

/// What a script and its report say, if it succeeds.
fn reported(script: &str) -> Output {
    let output = Command::new("ipcdemo")
        .args(["exec", "--report", "--", "sh", "-c", script])
        .output()
        .unwrap();
    assert_eq!(end(output.status), Ok(0));
    output
}

/// A report does not wait for who lives on.
#[test]
fn others_may_go_on() {
    serially(|| {
        let script = "(while echo | cat; do :; done) >/dev/null 2>&1 & echo $!";
        let other = String::from_utf8(reported(script).stdout).unwrap();
        let other = Pid::from_raw(other.trim().parse().unwrap()).unwrap();
        kill_process(other, Signal::KILL).unwrap();
        nothing_is_left();
    });
}

/// How many bytes went through, and by whose objects.
#[test]
fn the_report_tells_what_went_through() {
    serially(|| {
        let report = reported("seq 1 1000 | cat >/dev/null").stderr;
        let report = String::from_utf8(report).unwrap();
        let words: Vec<_> = report.lines().last().unwrap().split_whitespace().collect();
        let bytes = (1..=1000)
            .map(|number: u32| number.to_string().len() + 1)
            .sum::<usize>();
        let bytes = &*bytes.to_string();
        assert_eq!(words[..4], ["1", "pipe", bytes, bytes], "{report}");
        words[4].parse::<u64>().unwrap();
        assert_eq!(words[5..], ["sh"], "{report}");
        nothing_is_left();
    });
}
