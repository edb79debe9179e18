// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo exec`, which must be on PATH. This program runs itself under it: a body is told
//! apart from its test by the environment.

mod calls;
mod ends;
mod inside;
mod reports;
mod stress;
mod users;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use ipcdemo_client::{Factory, Object};
use ipcdemo_tests::{serially_for, until};
use rustix::event::{EventfdFlags, eventfd};
use rustix::pipe::pipe;

/// Longer than the slowest of these takes.
const LIMIT: Duration = Duration::from_secs(400);

/// Where a body finds its name, and where it is to leave what it has seen.
const BODY: &str = "IPCDEMO_EXEC_BODY";
const SEEN: &str = "IPCDEMO_EXEC_SEEN";

/// Both ways to run a program on the module's objects.
const WAYS: [&[&str]; 2] = [
    &["ipcdemo", "exec", "--"],
    &["ipcdemo", "exec", "--report", "--"],
];

/// What [`whose`] says under these.
const ANSWERED: &str = "pipe true, eventfd true";

/// And what it says without.
const NATIVE: &str = "pipe false, eventfd false";

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
    // A thread of its own for the body would keep it from unshare(2) and the like.
    let own = [
        program.to_str().unwrap(),
        "--exact",
        name,
        "--nocapture",
        "--test-threads=1",
    ];
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
    if before.contains(&"--report") {
        nothing_is_left_to_the_kernel(&output);
    }
    let seen = fs::read_to_string(&path).unwrap();
    fs::remove_file(path).unwrap();
    seen
}

fn seen_path(name: &str) -> PathBuf {
    env::temp_dir().join(name.replace(':', "-"))
}

/// A body sees the same with the module's objects as with the kernel's, and its calls were
/// answered by the one or the other.
fn differential(name: &'static str, body: fn() -> String) {
    if is_body(name, || format!("{}\n{}", whose(), body())) {
        return;
    }
    serially_for(LIMIT, move || {
        let native = seen(&[], name);
        let native = native.strip_prefix(NATIVE).unwrap();
        assert!(native.len() > 1);
        for before in WAYS {
            assert_eq!(
                seen(before, name),
                format!("{ANSWERED}{native}"),
                "{before:?}"
            );
        }
        nothing_is_left();
    });
}

/// Whether a new pipe, and a new eventfd, of this process is the module's.
fn whose() -> String {
    let (reader, _writer) = pipe().unwrap();
    let counter = eventfd(0, EventfdFlags::empty()).unwrap();
    let [pipe, counter] =
        [reader.as_fd(), counter.as_fd()].map(|fd| Object::id_of(fd).unwrap().is_some());
    format!("pipe {pipe}, eventfd {counter}")
}

/// Runs a shell's script.
fn script(before: &[&str], script: &str, with_input: &str) -> Output {
    let words = [before, &["sh", "-c", script]].concat();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // One that reads nothing may be gone already.
    let _ = input.write_all(with_input.as_bytes());
    drop(input);
    child.wait_with_output().unwrap()
}

/// A shell's script ends in the same way with and without `ipcdemo exec`, and gives what it printed.
fn ends_alike(text: &str, with_input: &str) -> String {
    let run = |before: &[&str]| {
        let output = script(before, text, with_input);
        if before.contains(&"--report") {
            nothing_is_left_to_the_kernel(&output);
        }
        (
            end(output.status),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let native = run(&[]);
    for before in WAYS {
        assert_eq!(native, run(before), "{before:?}: {text}");
    }
    nothing_is_left();
    native.1
}

/// An exit code, or a signal.
fn end(status: ExitStatus) -> Result<i32, i32> {
    status.code().ok_or_else(|| status.signal().unwrap())
}

/// A report's last line says so.
fn nothing_is_left_to_the_kernel(output: &Output) {
    let report = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        report.lines().last(),
        Some("left to the kernel: 0"),
        "{report}"
    );
}

/// No object and no member, once those that were killed are gone.
fn nothing_is_left() {
    let factory = Factory::open().unwrap();
    until("no object is left", || factory.list().unwrap().is_empty());
    until("no member is left", || {
        factory.namespaces().unwrap().is_empty()
    });
}
