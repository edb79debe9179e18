// SPDX-License-Identifier: GPL-2.0

//! Programs that know nothing of the module, on its pipes and FIFOs: they print, leave and
//! return what they do on the kernel's own. The `ipcdemo` program must be on PATH.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipcdemo_tests::fifo::Fifo;
use ipcdemo_tests::{Subject, scaled, serially_for};

/// Longer than the slowest of these takes.
const LIMIT: Duration = Duration::from_secs(300);

/// What a run comes to.
#[derive(Debug, Eq, PartialEq)]
struct Outcome {
    /// The status, that of the last command that failed if one did.
    status: i32,
    /// What was printed.
    text: String,
    /// The files in its folder, with their checksums.
    left: String,
}

macro_rules! programs {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)*) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            serially_for(LIMIT, || $body);
        }
    )*};
}

programs! {
    /// A writer that never ends ends with its reader.
    fn yes_and_head() {
        let outcome = pipeline(&["exec yes", "exec head -n 1000"]);
        assert_eq!(outcome.text, "y\n".repeat(1000));
        assert_eq!(outcome.status, 128 + libc::SIGPIPE);
    }

    /// Three in a row, the one in the middle reading all before it writes.
    fn many_lines_are_sorted() {
        let lines = scaled(200_000);
        let outcome = pipeline(&[&format!("seq {lines}"), "sort -n", "tail -n 1"]);
        assert_eq!((outcome.text, outcome.status), (format!("{lines}\n"), 0));
    }

    /// A tree of files arrives as it was.
    fn a_tree_is_copied() {
        let outcome = pipeline(&[&format!("{TREE}; tar c tree"), "mkdir copy; tar x -C copy"]);
        assert_eq!(outcome.status, 0);
        assert_copied(&outcome);
    }

    /// Compressed and back; and bytes counted, more than any pipe holds.
    fn many_bytes_go_through() {
        let bytes = scaled(5_000_000);
        let outcome = pipeline(&[&format!("head -c {bytes} /dev/zero"), "gzip", "gunzip", "wc -c"]);
        assert_eq!((outcome.text, outcome.status), (format!("{bytes}\n"), 0));
    }

    /// Blocks of odd sizes on both sides.
    fn blocks_of_any_size_fit() {
        let seq = format!("seq {}", scaled(50_000));
        let (small, large) = ("dd bs=777 2>/dev/null", "dd ibs=4097 obs=65537 2>/dev/null");
        let outcome = pipeline(&[&seq, small, large, small, "md5sum"]);
        assert_eq!(outcome, pipeline(&[&seq, "md5sum"]));
    }

    /// What passes through many hands arrives.
    fn a_long_chain() {
        let mut stages = vec!["seq 10000"];
        stages.extend(["cat"; 8]);
        stages.push("md5sum");
        assert_eq!(pipeline(&stages), pipeline(&["seq 10000", "md5sum"]));
    }

    /// A shell reads a byte at a time, so that the next one finds the next line.
    fn a_shell_reads_line_by_line() {
        let outcome = pipeline(&["seq 6", "read a; read b; echo $b $a; head -n 1; cat"]);
        assert!(outcome.text.starts_with("2 1\n3\n"), "{}", outcome.text);
        let outcome = pipeline(&["seq 200", "while read n; do echo $((n * n)); done", "tail -n 1"]);
        assert_eq!(outcome.text, "40000\n");
    }

    /// What is teed is there twice.
    fn tee_makes_two() {
        let outcome = pipeline(&["seq 20000", "tee file", "wc -l"]);
        assert_eq!((outcome.text.as_str(), outcome.status), ("20000\n", 0));
        assert!(outcome.left.contains("./file 81a4 108894\n"), "{}", outcome.left);
        // One of its readers leaves early.
        let outcome = pipeline(&["seq 200000", "tee /dev/null", "head -n 1"]);
        assert_eq!((outcome.text.as_str(), outcome.status), ("1\n", 128 + libc::SIGPIPE));
    }

    /// A sleeper is ended in time, and the others see it.
    fn timeout_ends_a_command() {
        // One that keeps its end open, and does nothing with it.
        let outcome = pipeline(&["timeout 1 sleep 1000; echo $? >&2", "cat; echo end"]);
        assert_eq!((outcome.text.as_str(), outcome.status), ("end\n", 0));
        let outcome = pipeline(&["yes", "timeout 1 sleep 1000"]);
        assert_eq!(outcome.status, 128 + libc::SIGTERM);
        // One that sleeps in a read, which a writer keeps it in.
        let reader = "timeout 1 cat; echo $?; kill $(cat pid); rm pid";
        let outcome = pipeline(&["echo $$ >pid; exec sleep 1000", reader]);
        assert_eq!((outcome.text.as_str(), outcome.status), ("143\n", 128 + libc::SIGTERM));
    }

    /// Who fails, fails as ever, wherever it stands.
    fn failures_are_the_same() {
        for stages in [
            &["exit 3", "cat"][..],
            &["echo x", "exit 4"],
            &["echo x; exit 5", "cat; exit 6"],
            &["true", "cat"],
            &["echo x", "cat", "nonsense"],
            &["nonsense", "cat"],
            &["kill -9 $$", "cat"],
        ] {
            pipeline(stages);
        }
    }

    /// By way of /dev, a program opens its own end once more.
    fn standard_input_has_a_path() {
        let outcome = pipeline(&["echo one >/dev/stdout; echo two", "cat /dev/stdin /dev/fd/0"]);
        assert_eq!((outcome.text.as_str(), outcome.status), ("one\ntwo\n", 0));
    }

    /// The two of them meet, whoever comes first.
    fn cat_and_echo_meet() {
        for script in [
            r#"cat "$FIFO" & echo hello >"$FIFO"; wait $!; echo $?"#,
            r#"echo hello >"$FIFO" & cat "$FIFO"; wait $!; echo $?"#,
        ] {
            let outcome = at_a_fifo(script);
            assert_eq!((outcome.text.as_str(), outcome.status), ("hello\n0\n", 0));
        }
    }

    /// Programs that want a file's name.
    fn programs_open_it_by_name() {
        for (program, text) in [
            ("wc -l", "10"),
            ("tail -n 1", "10\n"),
            ("head -n 1", "1\n"),
            ("grep -c 1", "2\n"),
            ("sort -rn", "10\n9\n"),
            ("sed -n 3p", "3\n"),
            ("md5sum", "3b0332e02daabf31651a5a0d81ba830a "),
            ("dd bs=3 count=1 2>/dev/null if=", "1\n2"),
        ] {
            let space = if program.ends_with('=') { "" } else { " " };
            let script = format!(r#"seq 10 >"$FIFO" & {program}{space}"$FIFO" | sed "s|$FIFO||""#);
            let outcome = at_a_fifo(&script);
            assert!(outcome.text.starts_with(text), "{program}: {outcome:?}");
        }
    }

    /// What a program creates, truncates or appends to may be a FIFO.
    fn programs_write_to_it_as_to_a_file() {
        let script = r#"md5sum <"$FIFO" & seq 20000 | dd of="$FIFO" bs=1000 2>/dev/null; wait"#;
        let dd = at_a_fifo(script);
        assert_eq!(dd.text, at_a_fifo("seq 20000 | md5sum").text);
        let outcome = at_a_fifo(r#"cat "$FIFO" & (echo one; echo two) >>"$FIFO"; wait"#);
        assert_eq!(outcome.text, "one\ntwo\n");
    }

    /// One half of a tee goes there.
    fn tee_goes_there() {
        let script = r#"md5sum <"$FIFO" & seq 50000 | tee "$FIFO" | md5sum; wait"#;
        let outcome = at_a_fifo(script);
        let (one, other) = outcome.text.split_at(outcome.text.len() / 2);
        assert_eq!(one, other);
    }

    /// A tree goes through.
    fn a_tree_goes_through() {
        let script = r#"mkdir copy; tar x -C copy <"$FIFO" & tar c tree >"$FIFO"; wait"#;
        let outcome = at_a_fifo(&format!("{TREE}; {script}"));
        assert_copied(&outcome);
    }

    /// Who waits for a partner is ended in time.
    fn timeout_ends_the_waiting() {
        let outcome = at_a_fifo(r#"timeout 1 cat "$FIFO"; echo $?"#);
        assert_eq!(outcome.text, "143\n");
        let outcome = at_a_fifo(r#"timeout 1 sh -c 'echo never >"$FIFO"'; echo $?"#);
        assert_eq!(outcome.text, "143\n");
        // It never blocks for both; then the read does.
        let outcome = at_a_fifo(r#"exec 3<>"$FIFO"; timeout 1 cat <&3; echo $?"#);
        assert_eq!(outcome.text, "143\n");
    }

    /// Its first reader's end is a writer's end.
    fn a_reader_leaves() {
        let outcome = at_a_fifo(r#"yes >"$FIFO" & head -n 2 "$FIFO"; wait $!; echo $?"#);
        assert_eq!(outcome.text, "y\ny\n141\n");
    }

    /// Who holds it for both keeps it from its end: three tokens for four workers, as make's
    /// jobserver passes them.
    fn it_holds_tokens() {
        let script = r#"
            exec 3<>"$FIFO"
            printf abc >&3
            for worker in 1 2 3 4; do
                (read -n 1 token <&3; echo "$worker" >>done; printf "$token" >&3) &
            done
            wait
            head -c 3 <&3 | fold -w 1 | sort
            wc -l <done
            rm done
        "#;
        let outcome = at_a_fifo(script);
        assert_eq!(outcome.text, "a\nb\nc\n4\n");
    }
}

/// Makes a tree of files of several kinds.
const TREE: &str = "mkdir -p tree/deep/er tree/empty && seq 30000 >tree/numbers && \
    : >tree/nothing && cp /bin/busybox tree/deep/er/ && ln -s ../numbers tree/deep/link && \
    mkfifo tree/fifo && chmod 640 tree/numbers && chmod 700 tree/empty";

/// Checks that there are two such trees.
fn assert_copied(outcome: &Outcome) {
    let below = |prefix: &str| -> Vec<_> {
        let lines = outcome.left.lines();
        lines
            .filter(|line| line.contains(prefix))
            .map(|line| line.replacen(prefix, "", 1))
            .collect()
    };
    let tree = below("./tree");
    assert!(tree.len() > 10, "{}", outcome.left);
    assert_eq!(below("./copy/tree"), tree);
}

/// Runs a pipeline on the kernel's pipes and on ours, and gives what both come to.
fn pipeline(stages: &[&str]) -> Outcome {
    let native = in_a_folder(|folder| {
        let commands: Vec<_> = (1..=stages.len())
            .map(|n| format!(r#"sh -c "${{{n}}}""#))
            .collect();
        let script = format!("set -o pipefail; {}", commands.join(" | "));
        Command::new("sh")
            .args(["-c", &script, "sh"])
            .args(stages)
            .current_dir(folder)
            .output()
            .unwrap()
    });
    let module = in_a_folder(|folder| {
        let mut command = Command::new("ipcdemo");
        command.args(["pipe", "run", "--pipefail", "--"]);
        for (place, stage) in stages.iter().enumerate() {
            if place > 0 {
                command.arg(":::");
            }
            command.args(["sh", "-c", stage]);
        }
        command.current_dir(folder).output().unwrap()
    });
    assert_eq!(module, native, "{stages:?}");
    native
}

/// Runs a script with the path of the kernel's FIFO and of ours in $FIFO, and gives what
/// both come to.
fn at_a_fifo(script: &str) -> Outcome {
    let [native, module] = [Subject::Native, Subject::Module].map(|subject| {
        let fifo = Fifo::new(subject);
        in_a_folder(|folder| {
            Command::new("sh")
                .args(["-c", script])
                .env("FIFO", fifo.path())
                .current_dir(folder)
                .output()
                .unwrap()
        })
    });
    assert_eq!(module, native, "{script}");
    native
}

/// Runs something in a folder of its own.
fn in_a_folder(run: impl FnOnce(&Path) -> Output) -> Outcome {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new("/tmp").join(format!("pipelines-{number}"));
    fs::create_dir(&folder).unwrap();
    let output = run(&folder);
    let look = "find . | sort | while read f; do stat -c '%n %f %s' \"$f\"; done; \
                find . -type f | sort | xargs -r md5sum";
    let left = Command::new("sh")
        .args(["-c", look])
        .current_dir(&folder)
        .output()
        .unwrap();
    fs::remove_dir_all(&folder).unwrap();
    Outcome {
        status: output.status.code().expect("it was not killed"),
        text: String::from_utf8(output.stdout).unwrap(),
        left: String::from_utf8(left.stdout).unwrap(),
    }
}
