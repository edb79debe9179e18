// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo exec`, which must be on PATH. This program runs itself under it: a body is told
//! apart from its test by the environment.

mod calls;
mod ends;
mod stress;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use ipcdemo_client::Factory;
use ipcdemo_tests::{serially_for, until};
use rustix::process::{Pid, test_kill_process};

/// Longer than the slowest of these takes.
const LIMIT: Duration = Duration::from_secs(400);

/// Where a body finds its name, and where it is to leave what it has seen.
const BODY: &str = "IPCDEMO_EXEC_BODY";
const SEEN: &str = "IPCDEMO_EXEC_SEEN";

/// Runs a body, if this process is there for that.
fn is_body(name: &str, body: impl FnOnce() -> String) -> bool {
    if env::var_os(BODY).as_deref() != Some(OsStr::new(name)) {
        return false;
    }
    fs::write(env::var_os(SEEN).unwrap(), body()).unwrap();
    true
}

/// A command line that runs a body, after the words of another.
fn command(before: &[&str], name: &str) -> Command {
    let program = env::current_exe().unwrap();
    let own = [program.to_str().unwrap(), "--exact", name, "--nocapture"];
    let words = [before, &own].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env(BODY, name);
    command
}

/// Runs a body by such a command, and gives what it has seen.
fn seen(before: &[&str], name: &str) -> String {
    let path = seen_path(name);
    let output = command(before, name).env(SEEN, &path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{before:?}: {text}");
    let seen = fs::read_to_string(&path).unwrap();
    fs::remove_file(path).unwrap();
    seen
}

fn seen_path(name: &str) -> PathBuf {
    env::temp_dir().join(name.replace(':', "-"))
}

/// A body sees the same with the module's objects as with the kernel's.
fn differential(name: &'static str, body: fn() -> String) {
    if is_body(name, body) {
        return;
    }
    serially_for(LIMIT, move || {
        let native = seen(&[], name);
        assert!(!native.is_empty());
        for module in [
            &["ipcdemo", "exec", "--"][..],
            &["ipcdemo", "exec", "--report", "--"],
        ] {
            assert_eq!(native, seen(module, name), "{module:?}");
        }
        nothing_is_left();
    });
}

/// A shell's script ends in the same way with and without `ipcdemo exec`.
fn ends_alike(script: &str, with_input: &str) {
    let run = |before: &[&str]| {
        let words = [before, &["sh", "-c", script]].concat();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        // One that reads nothing may be gone already.
        let _ = input.write_all(with_input.as_bytes());
        drop(input);
        let output = child.wait_with_output().unwrap();
        (
            end(output.status),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let native = run(&[]);
    for options in [&["--"][..], &["--report", "--"]] {
        assert_eq!(
            native,
            run(&[&["ipcdemo", "exec"], options].concat()),
            "{script}"
        );
    }
    nothing_is_left();
}

/// An exit code, or a signal.
fn end(status: ExitStatus) -> Result<i32, i32> {
    status.code().ok_or_else(|| status.signal().unwrap())
}

/// No object, and no supervisor, once those who were killed are gone.
fn nothing_is_left() {
    let factory = Factory::open().unwrap();
    until("no supervisor and no object is left", || {
        supervisors().is_empty() && factory.list().unwrap().is_empty()
    });
}

/// The supervisors there are.
fn supervisors() -> Vec<Pid> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name == "ipcdemo-exec\n")
        })
        .filter_map(Pid::from_raw)
        .filter(|&pid| test_kill_process(pid).is_ok())
        .collect()
}
