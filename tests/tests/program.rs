// SPDX-License-Identifier: GPL-2.0

//! The `ipcdemo` program, which must be on PATH: what it prints, and its status.

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
        let text = stdout(&output);
        assert!(text.contains("the word was another") && text.contains("the word is 0x5\n"), "{text}");
        assert!(text.ends_with("waitq/1\n"), "{text}");
        assert_eq!(status(&output), 8);
        let output = ipcdemo(&["counter", "with", "--", "ipcdemo", "waitq", "ls"]);
        assert_eq!(output.stderr, b"ipcdemo: cannot look: this is no wait queue\n");
        assert_eq!(status(&output), 1);
        assert_eq!(ipcdemo(&["waitq", "ls"]).stderr, b"nobody is on the queue\n");
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
        let text = stdout(&ipcdemo(&["ls"]));
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("counter/1 ") && line.contains(" 8 "), "{text}");
        assert!(line.contains(&format!("[{}]:", std::process::id())), "{text}");
        assert_eq!(stdout(&ipcdemo(&["ls", "--quiet"])), "counter/1\n");
        let json = stdout(&ipcdemo(&["ls", "--json"]));
        assert!(json.contains(r#""kind":"counter","number":1,"value":8,"semaphore":true"#), "{json}");
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
    }
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

fn status(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}
