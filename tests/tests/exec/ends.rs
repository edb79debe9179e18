// SPDX-License-Identifier: GPL-2.0

//! How a program begins and ends, and what is reported of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use ipcdemo_client::Factory;
use ipcdemo_tests::module::{load, references, unload, unload_at_last};
use ipcdemo_tests::{Errno, Task, serially, until};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    ANSWERED, NATIVE, WAYS, command, end, ends_alike, is_body, nothing_is_left, script, seen,
    seen_path, whose,
};

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

/// Words that run others in a shell that has prepared something.
fn prepared<'a>(preparation: &'a str, before: &[&'a str]) -> Vec<&'a str> {
    [&["sh", "-c", preparation, "sh"], before].concat()
}

/// What a shell may leave to `ipcdemo exec`, the program has as natively.
#[test]
fn what_is_inherited_stays() {
    serially(|| {
        for (preparation, text) in [
            ("trap '' CHLD; exec \"$@\"", "exit 3"),
            (
                "trap '' PIPE; exec \"$@\"",
                "yes 2>/dev/null | head -n 1; kill -PIPE $$; echo here",
            ),
            ("ulimit -n 6; exec \"$@\"", "echo a | cat; ulimit -n"),
            (
                "umask 027; cd /proc; nice -n 3 \"$@\"",
                "umask; pwd; nice; echo a | cat",
            ),
            ("X=1 Y= exec -a other \"$@\"", "echo $X$Y; echo a | cat"),
            (
                "exec 5</proc/version; exec \"$@\"",
                "cat <&5 | wc -l; ls /proc/self/fd | wc -l",
            ),
            ("unshare -p -f \"$@\"", "echo a | cat"),
            ("setsid \"$@\"", "echo a | cat; exit 6"),
        ] {
            let run = |before: &[&str]| {
                let output = script(&prepared(preparation, before), text, "");
                (
                    end(output.status),
                    String::from_utf8(output.stdout).unwrap(),
                )
            };
            let native = run(&[]);
            for before in WAYS {
                assert_eq!(run(before), native, "{before:?}: {preparation}; {text}");
            }
        }
        nothing_is_left();
    });
}

/// A program finds closed what was closed, and the module answers its calls.
#[test]
fn descriptors_may_be_closed() {
    const NAME: &str = "ends::descriptors_may_be_closed";
    if is_body(NAME, whose) {
        return;
    }
    serially(|| {
        let text = std::env::temp_dir().join("exec-open");
        let look = format!(
            "for fd in 0 1 2; do [ ! -e /proc/self/fd/$fd ] || echo $fd; done >{0}; \
             echo some | cat >>{0}",
            text.display()
        );
        for preparation in [
            "exec \"$@\" <&- >&- 2>&-",
            "exec \"$@\" <&-",
            "exec \"$@\" >&-",
            "exec \"$@\" 2>&-",
        ] {
            let run = |before: &[&str]| {
                let output = script(&prepared(preparation, before), &look, "");
                assert_eq!(
                    end(output.status),
                    Ok(0),
                    "{before:?}: {preparation}: {output:?}"
                );
                fs::read_to_string(&text).unwrap()
            };
            let native = run(&[]);
            for before in WAYS {
                assert_eq!(run(before), native, "{before:?}: {preparation}");
            }
        }
        fs::remove_file(text).unwrap();
        let preparation = "exec \"$@\" <&- >&- 2>&-";
        assert_eq!(seen(&prepared(preparation, &[]), NAME), NATIVE);
        assert_eq!(seen(&prepared(preparation, WAYS[0]), NAME), ANSWERED);
        nothing_is_left();
    });
}

/// With so few descriptors that it can have one pipe and no more.
#[test]
fn descriptors_may_be_few() {
    const NAME: &str = "ends::descriptors_may_be_few";
    if is_body(NAME, whose) {
        return;
    }
    serially(|| {
        let few = "ulimit -n 6; exec \"$@\"";
        assert_eq!(seen(&prepared(few, &[]), NAME), NATIVE);
        for before in WAYS {
            assert_eq!(seen(&prepared(few, before), NAME), ANSWERED, "{before:?}");
        }
        nothing_is_left();
    });
}

/// What a script and its report say, if it succeeds.
fn reported(text: &str) -> Output {
    let output = script(WAYS[1], text, "");
    assert_eq!(end(output.status), Ok(0));
    output
}

/// A report does not wait for those that live on.
#[test]
fn others_may_go_on() {
    serially(|| {
        let text = "(while echo | cat; do :; done) >/dev/null 2>&1 & echo $!";
        let other = String::from_utf8(reported(text).stdout).unwrap();
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
        let mut lines = report.lines().rev();
        assert_eq!(lines.next(), Some("left to the kernel: 0"), "{report}");
        let words: Vec<_> = lines.next().unwrap().split_whitespace().collect();
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

fn a_notification_pipe() -> String {
    let mut ends = [0; 2];
    // A kernel without watch queues refuses it.
    // SAFETY: It writes two numbers.
    let _ = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_EXCL) };
    whose()
}

/// A call that the module leaves to the kernel is told, and why.
#[test]
fn the_report_tells_what_was_left() {
    const NAME: &str = "ends::the_report_tells_what_was_left";
    if is_body(NAME, a_notification_pipe) {
        return;
    }
    serially(|| {
        let path = seen_path(NAME);
        let output = command(WAYS[1], NAME)
            .env(crate::SEEN, &path)
            .output()
            .unwrap();
        let report = String::from_utf8(output.stderr).unwrap();
        assert_eq!(end(output.status), Ok(0), "{report}");
        assert_eq!(fs::read_to_string(&path).unwrap(), ANSWERED);
        fs::remove_file(path).unwrap();
        let mut lines = report.lines().rev();
        assert_eq!(lines.next(), Some("left to the kernel: 1"), "{report}");
        let row = lines.next().unwrap();
        assert!(
            row.contains("1  pipe     left to the kernel: it is a notification pipe"),
            "{report}"
        );
        nothing_is_left();
    });
}

/// A daemon goes on after the process that was started has ended, and is answered still.
fn daemon() -> String {
    let fork = || {
        // SAFETY: This process has one thread.
        match unsafe { libc::fork() } {
            0 => {}
            // SAFETY: The child goes on alone.
            _ => unsafe { libc::_exit(0) },
        }
    };
    fork();
    rustix::process::setsid().unwrap();
    fork();
    // Until the test has seen the end of the first.
    assert_eq!(std::io::stdin().read(&mut [0]).unwrap(), 0);
    whose()
}

#[test]
fn a_daemon_outlives_it() {
    const NAME: &str = "ends::a_daemon_outlives_it";
    if is_body(NAME, daemon) {
        return;
    }
    serially(|| {
        let path = seen_path(NAME);
        for (before, expected) in [(&[][..], NATIVE), (WAYS[0], ANSWERED), (WAYS[1], ANSWERED)] {
            let mut first = command(before, NAME)
                .env(crate::SEEN, &path)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // It would be closed before the wait.
            let input = first.stdin.take();
            assert_eq!(end(first.wait().unwrap()), Ok(0));
            assert!(!path.exists());
            drop(input);
            until("the daemon has told", || {
                fs::read_to_string(&path).is_ok_and(|text| text == expected)
            });
            fs::remove_file(&path).unwrap();
        }
        nothing_is_left();
    });
}

/// A program pins the module, and whatever it was, nothing does so afterwards.
#[test]
fn the_module_goes_afterwards() {
    serially(|| {
        for before in WAYS {
            let (mut child, _) = obedient(before);
            assert!(references() > 0);
            assert_eq!(unload(), Err(Errno::AGAIN), "{before:?}");
            drop(child.stdin.take());
            child.wait().unwrap();
            unload_at_last();
            // Without it there is nothing to enroll with.
            let output = script(before, "echo", "");
            assert_eq!(end(output.status), Ok(4), "{output:?}");
            load();
        }
        nothing_is_left();
    });
}

/// Nor does it matter that nobody else could begin now.
#[test]
fn the_node_may_go() {
    const NAME: &str = "ends::the_node_may_go";
    if is_body(NAME, || format!("{}\n{}", without_the_node(whose), whose())) {
        return;
    }
    serially(|| {
        for before in WAYS {
            assert_eq!(seen(before, NAME), format!("{ANSWERED}\n{ANSWERED}"));
            assert!(Factory::open().is_ok());
        }
        nothing_is_left();
    });
}

/// Runs `body` while there is no `/dev/ipcdemo`.
fn without_the_node<T>(body: impl FnOnce() -> T) -> T {
    struct Aside;
    const ASIDE: &str = "/dev/ipcdemo-aside";
    impl Drop for Aside {
        fn drop(&mut self) {
            fs::rename(ASIDE, Factory::PATH).unwrap();
        }
    }
    fs::rename(Factory::PATH, ASIDE).unwrap();
    let _aside = Aside;
    assert!(File::open(Factory::PATH).is_err());
    body()
}
