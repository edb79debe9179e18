// SPDX-License-Identifier: GPL-2.0

//! The `ipcdemo` program, which must be on PATH: what it prints, and its status.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use ipcdemo_client::{CounterFlags, Factory};
use ipcdemo_tests::{Task, serial, until};
use rustix::process::Pid;

serial! {
    /// Everything in the tour comes out as told, and nothing is left behind.
    fn the_tour_succeeds() {
        let tour = ipcdemo(&["tour", "--plain"]);
        let text = stdout(&tour);
        assert!(text.ends_with("came out as told.\n"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert_eq!(status(&tour), 0);
        assert_eq!(stdout(&ipcdemo(&["ls", "--count"])), "0\n");
    }

    /// What one writes to the shared counter, another one reads.
    fn the_shared_counter_is_the_default() {
        assert_eq!(status(&ipcdemo(&["counter", "write", "5"])), 0);
        assert_eq!(stdout(&ipcdemo(&["counter", "poll"])), "read write\n");
        assert_eq!(stdout(&ipcdemo(&["counter", "info"])), "count: 5\nsemaphore: no\n");
        assert_eq!(stdout(&ipcdemo(&["counter", "read"])), "5\n");
        assert_eq!(stdout(&ipcdemo(&["counter", "poll"])), "write\n");
    }

    /// A reader sleeps until a writer comes.
    fn a_read_sleeps() {
        let reader = program().args(["counter", "read"]).stdout(Stdio::piped()).spawn().unwrap();
        let task = Task::process(Pid::from_child(&reader));
        until("the reader sleeps", || task.asleep_in(&[libc::SYS_read]));
        assert_eq!(status(&ipcdemo(&["counter", "write", "7"])), 0);
        assert_eq!(stdout(&reader.wait_with_output().unwrap()), "7\n");
    }

    /// So does who polls; and who would sleep can say so, with a status of its own.
    fn what_would_block_has_a_status() {
        for arguments in [
            &["counter", "read", "--nonblock"][..],
            &["counter", "poll", "--until", "read", "--timeout", "1"],
            &["counter", "with", "--nonblock", "--", "ipcdemo", "counter", "read"],
        ] {
            assert_eq!(status(&ipcdemo(arguments)), 3, "{arguments:?}");
        }
    }

    /// A command finds its counter by $IPCDEMO_FD, and its status is the program's.
    fn a_command_has_a_counter() {
        let script = "ipcdemo counter read; ipcdemo counter read --fd $IPCDEMO_FD; \
                      ipcdemo counter info; echo $IPCDEMO_FD; exit 9";
        let output = ipcdemo(&[
            "counter", "with", "--initval", "3", "--semaphore", "--", "sh", "-c", script,
        ]);
        assert_eq!(stdout(&output), "1\n1\ncount: 1\nsemaphore: yes\n3\n");
        assert_eq!(status(&output), 9);
    }

    /// So does one with a null object.
    fn a_command_has_a_null_object() {
        let script = "test \"$(readlink /proc/self/fd/$IPCDEMO_FD)\" = 'anon_inode:[ipcdemo-null]'";
        assert_eq!(status(&ipcdemo(&["null", "--", "sh", "-c", script])), 0);
    }

    /// Who waits on the shared queue is listed, and told by whom it was woken; so is
    /// who wakes.
    fn the_shared_queue_is_the_default() {
        let arguments = ["waitq", "wait", "--exclusive", "--mask", "pollin,hup"];
        let sleeper = program().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        until("it sleeps", || stdout(&ipcdemo(&["waitq", "ls", "--count"])) == "1\n");
        let table = stdout(&ipcdemo(&["waitq", "ls"]));
        let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        let pid = sleeper.id();
        let who = format!("{pid}/{pid}");
        assert_eq!(words[..6], ["0", "task", "exclusive", &who, "ipcdemo", "POLLIN|POLLHUP"]);

        let nobody = stdout(&ipcdemo(&["waitq", "wake", "--key", "out"]));
        assert!(nobody.starts_with("walked 1, called 1, woke 0, 0 of them exclusive\n"), "{nobody}");
        let wake = ["waitq", "wake", "--key", "in", "--set", "0x10", "--sync"];
        let waker = program().args(wake).stdout(Stdio::piped()).spawn().unwrap();
        let waker_pid = waker.id();
        assert_eq!(
            stdout(&waker.wait_with_output().unwrap()),
            "walked 1, called 1, woke 1, 1 of them exclusive\nstopped by its quota; the word is 0x10\n"
        );
        let output = sleeper.wait_with_output().unwrap();
        let text = stdout(&output);
        assert!(text.starts_with("woken after ") && text.contains("the word is 0x10\n"), "{text}");
        assert!(text.contains(&format!("process {waker_pid}, with the key POLLIN\n")), "{text}");
        assert_eq!(status(&output), 0);
        assert_eq!(status(&ipcdemo(&["waitq", "wake", "--set", "0"])), 0);
    }

    /// A wait that ends otherwise has a status and a receipt, too.
    fn a_wait_without_a_wake_has_a_status() {
        for (arguments, reason) in [
            (&["--expect", "1"][..], "the word was another after"),
            (&["--timeout", "1"], "timed out after"),
            (&["--uninterruptible", "--timeout", "1", "--linger", "5"], "timed out after"),
        ] {
            let output = ipcdemo(&[&["waitq", "wait"], arguments].concat());
            assert_eq!(status(&output), 3, "{arguments:?}");
            assert!(stdout(&output).starts_with(reason), "{output:?}");
        }
    }

    /// A command can have a queue of its own; a descriptor of something else is none.
    fn a_command_has_a_queue() {
        let script = "ipcdemo waitq wait --expect 4; ipcdemo waitq wake --all; \
                      ipcdemo ls --quiet; exit 8";
        let output = ipcdemo(&["waitq", "with", "--word", "5", "--", "sh", "-c", script]);
        let text = unnumbered(&stdout(&output));
        assert!(text.contains("the word was another") && text.contains("the word is 0x5\n"), "{text}");
        assert!(text.ends_with("waitq/N\n"), "{text}");
        assert_eq!(status(&output), 8);
        let output = ipcdemo(&["counter", "with", "--", "ipcdemo", "waitq", "ls"]);
        assert_eq!(output.stderr, b"ipcdemo: cannot look: this is no wait queue\n");
        assert_eq!(status(&output), 1);
        assert_eq!(ipcdemo(&["waitq", "ls"]).stderr, b"nobody is on the queue\n");
    }

    /// What one command of a pipeline writes, the next one reads, on pipes of the module's.
    fn a_pipeline_is_run() {
        let run = |arguments: &[&str]| ipcdemo(&[&["pipe", "run"], arguments].concat());
        let output = run(&["--", "seq", "5", ":::", "tac", ":::", "head", "-n", "2"]);
        assert_eq!(stdout(&output), "5\n4\n");
        assert_eq!(status(&output), 0);
        let look = ["--size", "8K", "--", "true", ":::", "ipcdemo", "pipe", "info"];
        let text = unnumbered(&stdout(&run(&look)));
        assert!(text.starts_with("file: pipe:["), "{text}");
        let rest = "]\nbytes: 0 of 8192\nobject: pipe/N\nbuffers: 0 of 2\nwaiters: 0\n";
        assert!(text.ends_with(rest), "{text}");
        // One command alone has no pipe.
        assert_eq!(stdout(&run(&["--", "echo", "alone"])), "alone\n");
        assert_eq!(stdout(&ipcdemo(&["ls", "--count"])), "0\n");
    }

    /// Its status is the last command's, or with --pipefail that of the last to fail.
    fn a_pipeline_has_a_status() {
        for (commands, code, pipefail) in [
            (&["true", ":::", "true"][..], 0, 0),
            (&["false", ":::", "true"], 0, 1),
            (&["true", ":::", "false"], 1, 1),
            (&["sh", "-c", "exit 5", ":::", "sh", "-c", "exit 6", ":::", "true"], 0, 6),
            (&["true", ":::", "sh", "-c", "kill $$"], 143, 143),
            (&["yes", ":::", "true"], 0, 141),
            (&["true", ":::", "/nowhere"], 127, 127),
            (&["/nowhere", ":::", "cat"], 0, 127),
            (&["true", ":::", "/proc/version"], 126, 126),
            (&["true", ":::"], 2, 2),
        ] {
            let run = |options: &[&str]| {
                status(&ipcdemo(&[&["pipe", "run"], options, commands].concat()))
            };
            assert_eq!(run(&["--"]), code, "{commands:?}");
            assert_eq!(run(&["--pipefail", "--"]), pipefail, "{commands:?}");
        }
    }

    /// A command can have both ends of a pipe, which is listed and told about.
    fn a_command_has_a_pipe() {
        let script = "echo hello >&$IPCDEMO_WRITE_FD; ipcdemo ls --json; \
                      ipcdemo pipe info $IPCDEMO_READ_FD; head -n 1 <&$IPCDEMO_READ_FD; exit 6";
        let output = ipcdemo(&["pipe", "with", "--size", "64K", "--", "sh", "-c", script]);
        let text = unnumbered(&stdout(&output));
        let json = text.lines().next().unwrap();
        assert!(json.contains(r#""kind":"pipe","number":N,"value":1,"#), "{json}");
        assert!(json.contains(r#""fds":[3, 4]"#), "{json}");
        let rest = "bytes: 6 of 65536\nobject: pipe/N\nbuffers: 1 of 16\nwaiters: 0\nhello\n";
        assert!(text.ends_with(rest), "{text}");
        assert_eq!(status(&output), 6);
        let options = ["pipe", "with", "--nonblock", "--direct", "--"];
        let output = ipcdemo(&[&options[..], &["sh", "-c", "dd bs=1 count=1 <&3"]].concat());
        assert!(stderr(&output).contains("temporarily unavailable"), "{output:?}");
        assert_eq!(status(&ipcdemo(&["pipe", "with", "--size", "4G", "--", "true"])), 2);
    }

    /// Another process's pipe can be looked at, and so can a FIFO; nothing else is a pipe.
    fn a_pipe_is_told_about() {
        let mut holder = program()
            .args(["pipe", "with", "--", "sh", "-c", "echo there; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut there = [0; 6];
        holder.stdout.as_mut().unwrap().read_exact(&mut there).unwrap();
        let text = unnumbered(&stdout(&ipcdemo(&["pipe", "info", &format!("{}:4", holder.id())])));
        assert!(text.ends_with("object: pipe/N\nbuffers: 0 of 16\nwaiters: 0\n"), "{text}");
        drop(holder.stdin.take());
        holder.wait().unwrap();
        let output = Command::new("sh")
            .args(["-c", "ipcdemo pipe info 3 3<>/dev/ipcdemo-fifo"])
            .output();
        let text = stdout(&output.unwrap());
        assert_eq!(text, "file: /dev/ipcdemo-fifo\nbytes: 0 of 65536\n");
        for (descriptor, complaint) in [
            ("0", "descriptor 0 is no pipe of the module's\n"),
            ("99", "cannot look at descriptor 99: No such file"),
            ("1:99", "cannot look at descriptor 99 of process 1: No such file"),
        ] {
            let output = program()
                .args(["pipe", "info", descriptor])
                .stdin(Stdio::null())
                .output()
                .unwrap();
            assert_eq!(status(&output), 1);
            let told = stderr(&output);
            assert!(told.starts_with(&format!("ipcdemo: {complaint}")), "{told}");
        }
    }

    /// The limits can be told, and changed by who may.
    fn the_limits_can_be_changed() {
        let before = stdout(&ipcdemo(&["pipe", "limits"]));
        let told = "max-size: 1048576\nuser-pages-soft: 16384\nuser-pages-hard: 0\n";
        assert!(before.starts_with(told), "{before}");
        let change = ["pipe", "limits", "--max-size", "3M", "--soft", "100", "--hard", "200"];
        let after = stdout(&ipcdemo(&change));
        let told = "max-size: 4194304\nuser-pages-soft: 100\nuser-pages-hard: 200\n";
        assert!(after.starts_with(told), "{after}");
        assert_eq!(stdout(&ipcdemo(&["pipe", "limits"])), after);
        let back = ["pipe", "limits", "--max-size", "1M", "--soft", "16384", "--hard", "0"];
        assert_eq!(stdout(&ipcdemo(&back)), before);
    }

    /// A FIFO can be made, used by its path, and removed.
    fn a_fifo_comes_and_goes() {
        let made = ipcdemo(&["mkfifo", "--mode", "0640", "of-the-test"]);
        let path = "/dev/ipcdemo-fifo-of-the-test";
        assert_eq!(stdout(&made), format!("{path}\n"));
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o640);
        let again = ipcdemo(&["mkfifo", "of-the-test"]);
        assert_eq!(stderr(&again), format!("ipcdemo: cannot make {path}: it is there already\n"));
        assert_eq!(status(&again), 1);

        let reader = Command::new("cat").arg(path).stdout(Stdio::piped()).spawn().unwrap();
        let task = Task::process(Pid::from_child(&reader));
        until("the reader waits", || task.asleep_in(&[libc::SYS_open, libc::SYS_openat]));
        let writer = Command::new("sh").args(["-c", &format!("echo hello >{path}")]).status();
        assert!(writer.unwrap().success());
        assert_eq!(stdout(&reader.wait_with_output().unwrap()), "hello\n");

        assert_eq!(status(&ipcdemo(&["rmfifo", path])), 0);
        assert!(!fs::exists(path).unwrap());
        let again = ipcdemo(&["rmfifo", "of-the-test"]);
        assert_eq!(stderr(&again), format!("ipcdemo: cannot remove {path}: it is not there\n"));
        assert_eq!(status(&again), 1);
        for wrong in [
            &["mkfifo", ".hidden"][..],
            &["mkfifo", "a/b"],
            &["mkfifo", "--mode", "9", "a"],
            &["rmfifo", ""],
        ] {
            assert_eq!(status(&ipcdemo(wrong)), 2, "{wrong:?}");
        }
    }

    /// Who may have the factory may not have everything, and is told what it takes.
    fn another_user_is_told_what_it_takes() {
        let mode = |mode| fs::set_permissions(Factory::PATH, Permissions::from_mode(mode)).unwrap();
        mode(0o666);
        let outputs = [
            &["mkfifo", "denied"][..],
            &["rmfifo", "denied"],
            &["pipe", "limits", "--soft", "1"],
            &["pipe", "run", "--size", "2M", "--", "true", ":::", "true"],
            &["pipe", "limits"],
        ]
        .map(|arguments| program().args(arguments).uid(65534).output().unwrap());
        mode(0o600);
        let [make, remove, change, large, look] = outputs.each_ref().map(stderr);
        assert!(make.ends_with("that takes CAP_SYS_ADMIN\n"), "{make}");
        assert!(remove.ends_with("that takes CAP_SYS_ADMIN\n"), "{remove}");
        assert!(change.ends_with("that takes CAP_SYS_RESOURCE\n"), "{change}");
        assert!(large.contains("`ipcdemo pipe limits`"), "{large}");
        assert_eq!(look, "");
        assert_eq!(outputs.each_ref().map(status), [1, 1, 1, 1, 0]);
    }

    /// A command that is not there has a shell's status.
    fn a_missing_command_has_a_status() {
        assert_eq!(status(&ipcdemo(&["null", "--", "/nowhere"])), 127);
        assert_eq!(status(&ipcdemo(&["null", "--", "/proc/version"])), 126);
    }

    /// No objects: a sentence for people, nothing for programs.
    fn an_empty_list_is_empty() {
        let list = ipcdemo(&["ls"]);
        assert_eq!(stdout(&list), "");
        assert_eq!(list.stderr, b"no live objects\n");
        assert_eq!(status(&list), 0);
        assert_eq!(stdout(&ipcdemo(&["ls", "--quiet"])), "");
        assert_eq!(stdout(&ipcdemo(&["ls", "--json"])), "[]\n");
    }

    /// Each object is listed with who holds it.
    fn the_list_names_the_holders() {
        let factory = Factory::open().unwrap();
        let flags = CounterFlags::CLOEXEC | CounterFlags::SEMAPHORE;
        let counter = factory.counter(8, flags).unwrap();
        let text = unnumbered(&stdout(&ipcdemo(&["ls"])));
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("counter/N ") && line.contains(" 8 "), "{text}");
        assert!(line.contains(&format!("[{}]:", std::process::id())), "{text}");
        assert_eq!(unnumbered(&stdout(&ipcdemo(&["ls", "--quiet"]))), "counter/N\n");
        let json = unnumbered(&stdout(&ipcdemo(&["ls", "--json"])));
        assert!(json.contains(r#""kind":"counter","number":N,"value":8,"semaphore":true"#), "{json}");
        drop(counter);
    }

    /// Another user is told why not, with a status of its own.
    fn another_user_is_told() {
        let output = program().arg("tour").uid(65534).output().unwrap();
        assert_eq!(status(&output), 4);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains("0600") && complaint.contains("chmod"), "{complaint}");
    }

    /// So is who uses it wrongly.
    fn wrong_use_has_a_status() {
        for arguments in [&["nonsense"][..], &["counter", "write"], &["counter", "write", "-1"], &[]] {
            assert_eq!(status(&ipcdemo(arguments)), 2, "{arguments:?}");
        }
        assert_eq!(status(&ipcdemo(&["counter", "read", "--fd", "99"])), 1);
        let output = ipcdemo(&["bench", "--filter", "counter/", "--filter", "nonsense"]);
        assert!(stderr(&output).contains("no operation has 'nonsense'"), "{output:?}");
        assert_eq!(status(&output), 1);
    }

    /// A stack of 256 KiB is enough for each command, and a program that one runs keeps that
    /// limit.
    fn a_small_stack_is_enough() {
        for (arguments, code) in [
            (&["--help"][..], 0),
            (&["tour", "--plain"], 0),
            (&["counter", "write", "1"], 0),
            (&["counter", "read"], 0),
            (&["waitq", "wait", "--timeout", "1"], 3),
            (&["waitq", "wake"], 0),
            (&["pipe", "limits"], 0),
            (&["pipe", "run", "--", "true", ":::", "true"], 0),
            (&["rmfifo", "of-nobody"], 1),
            (&["bench", "--list"], 0),
            (&["ls"], 0),
            (&["nonsense"], 2),
        ] {
            let output = on_a_small_stack(arguments);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        }
        for runs in [
            &["null"][..],
            &["counter", "with"],
            &["waitq", "with"],
            &["pipe", "with"],
            &["pipe", "run"],
            &["exec"],
            &["exec", "--report"],
        ] {
            let output = on_a_small_stack(&[runs, &["--", "sh", "-c", "ulimit -s"]].concat());
            assert_eq!(stdout(&output), "256\n", "{runs:?}: {}", stderr(&output));
        }
    }
}

fn on_a_small_stack(arguments: &[&str]) -> Output {
    let script = r#"ulimit -s 256; exec ipcdemo "$@""#;
    Command::new("sh")
        .args(["-c", script, "sh"])
        .args(arguments)
        .output()
        .unwrap()
}

fn program() -> Command {
    Command::new("ipcdemo")
}

fn ipcdemo(arguments: &[&str]) -> Output {
    let output = program().args(arguments).output();
    output.unwrap_or_else(|error| panic!("cannot run ipcdemo, which should be on PATH: {error}"))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The text with N for each object's number, which depends on how many objects there were before.
fn unnumbered(text: &str) -> String {
    ["counter/", "pipe/", "waitq/", "\"number\":"]
        .iter()
        .fold(text.to_owned(), |text, before| {
            let mut parts = text.split(before);
            let first = parts.next().unwrap_or_default().to_owned();
            parts.fold(first, |sum, part| {
                let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
                sum + before + "N" + rest
            })
        })
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}
