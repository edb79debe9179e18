// SPDX-License-Identifier: GPL-2.0

//! Provokes each thing that `vm` has to notice, and checks the verdict and the exit status.
//! `qemu/selftest` starts it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, exit};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipcdemo_vm::cli::status;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What the module `provoke` does, by the number it takes.
mod how {
    pub const WARN: u32 = 1;
    pub const BUG: u32 = 2;
    pub const OOPS: u32 = 3;
    pub const PANIC: u32 = 4;
    pub const LOCK_ORDER: u32 = 5;
    pub const ATOMIC_SLEEP: u32 = 6;
    pub const LEAK: u32 = 7;
    pub const USE_AFTER_FREE: u32 = 8;
    pub const OUT_OF_BOUNDS: u32 = 9;
    pub const SPIN: u32 = 10;
    pub const HANG: u32 = 11;
    pub const REFERENCE: u32 = 12;
    pub const REFUSE: u32 = 13;
    pub const RCU_SLEEP: u32 = 14;
    pub const COUNT: u32 = 15;
}

/// How a run ended.
struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Outcome {
    /// That the status is this, and that `vm` says each of these and nothing of a failure unless it
    /// is told to.
    fn expect(&self, status: i32, says: &[&str]) -> Result<()> {
        ensure!(
            self.status == status,
            "status {} instead of {status}",
            self.status
        );
        for text in says {
            ensure!(
                self.stderr.contains(text),
                "standard error does not say {text:?}"
            );
        }
        let failed = self.stderr.contains("vm: FAILED");
        let expected = (status::DIED..=status::SETUP).contains(&status);
        ensure!(
            failed == expected,
            "{} FAILED",
            if failed { "it says" } else { "it does not say" }
        );
        Ok(())
    }

    fn prints(&self, expected: &str) -> Result<()> {
        let printed = &self.stdout;
        ensure!(printed == expected, "standard output is {printed:?}");
        Ok(())
    }
}

struct Harness {
    tree: PathBuf,
    kernel: String,
    /// Caches and files of our own.
    scratch: PathBuf,
    passed: u32,
    failed: u32,
}

impl Harness {
    fn vm(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.tree.join("qemu/vm"));
        let log = self.scratch.join("log");
        command
            .arg("--kernel")
            .arg(&self.kernel)
            .arg("--log")
            .arg(log);
        if !args.contains(&"--kmemleak") {
            // It takes seconds, and has a case of its own.
            command.args(["--kmemleak", "off"]);
        }
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Result<Outcome> {
        finish(self.vm(args).spawn()?)
    }

    fn sh(&self, options: &[&str], script: &str) -> Result<Outcome> {
        self.run(&[options, &["--", "sh", "-c", script]].concat())
    }

    fn provoke(&self, how: u32, options: &[&str]) -> Result<Outcome> {
        let (module, how) = (self.module(), format!("how={how}"));
        let module = [
            "--timeout",
            "120",
            "--module",
            &module,
            "--module-args",
            &how,
            "--",
            "true",
        ];
        self.run(&[options, &module].concat())
    }

    fn module(&self) -> String {
        self.tree
            .join("out")
            .join(&self.kernel)
            .join("qemu/provoke/provoke.ko")
            .display()
            .to_string()
    }

    fn script(&self, name: &str, text: &str) -> Result<String> {
        let path = self.scratch.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path.display().to_string())
    }

    fn case(&mut self, name: &str, check: impl FnOnce(&Harness) -> Result<()>) {
        let started = Instant::now();
        let result = check(self);
        let took = started.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok      {}: {name} ({took:.1} s)", self.kernel);
            }
            Err(error) => {
                self.failed += 1;
                println!("NOT OK  {}: {name} ({took:.1} s): {error:#}", self.kernel);
                // The wrapper's and the runner's words, for whoever looks into it.
                let _ = fs::copy(
                    self.scratch.join("log"),
                    self.tree.join("out/vm/selftest-failed.log"),
                );
            }
        }
    }
}

fn finish(child: Child) -> Result<Outcome> {
    let started = Instant::now();
    let output = child.wait_with_output()?;
    Ok(Outcome {
        status: output.status.code().context("vm was killed")?,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: started.elapsed(),
    })
}

fn main() {
    let mut args = std::env::args().skip(1);
    let tree = PathBuf::from(args.next().unwrap_or_else(|| ".".into()));
    let scratch = std::env::temp_dir().join(format!("vm-selftest-{}", std::process::id()));
    if let Err(error) = fs::create_dir_all(&scratch) {
        eprintln!("{}: {error}", scratch.display());
        exit(1);
    }
    let mut harness = Harness {
        tree,
        kernel: String::new(),
        scratch,
        passed: 0,
        failed: 0,
    };
    for kernel in args {
        let first = harness.kernel.is_empty();
        harness.kernel = kernel;
        exits(&mut harness);
        streams(&mut harness);
        shells(&mut harness);
        signs(&mut harness);
        deaths(&mut harness);
        hangs(&mut harness);
        test_programs(&mut harness);
        patching(&mut harness);
        if first {
            saved_guests(&mut harness);
        }
        if harness.kernel == "debug" {
            checkers(&mut harness);
        }
    }
    let _ = fs::remove_dir_all(&harness.scratch);
    println!("{} passed, {} failed", harness.passed, harness.failed);
    exit(i32::from(harness.failed > 0));
}

fn exits(harness: &mut Harness) {
    harness.case("exit status", |harness| {
        harness.run(&["--", "true"])?.expect(0, &[])?;
        harness.sh(&[], "exit 7")?.expect(7, &[])
    });
    harness.case("exit by signal", |harness| {
        harness.sh(&[], "kill -9 $$")?.expect(137, &[])
    });
    harness.case("no such command", |harness| {
        harness.run(&["--", "/nothing"])?.expect(127, &["/nothing"])
    });
    harness.case("not executable", |harness| {
        harness
            .run(&["--", "/etc/passwd"])?
            .expect(126, &["/etc/passwd"])
    });
    harness.case("a command's own --help and -h", |harness| {
        let outcome = harness.run(&["--", "sh", "-c", "echo \"$@\"", "sh", "--help", "-h"])?;
        outcome.expect(0, &[])?;
        outcome.prints("--help -h\n")
    });
    harness.case("a process that can't be killed", |harness| {
        let file = format!("{}:/provoke.ko", harness.module());
        let script = format!("insmod /provoke.ko how={} & until grep -q 'D (disk sleep)' /proc/$!/status; do sleep 0.1; done", how::HANG);
        harness.sh(&["--file", &file], &script)?.expect(
            status::BAD_SIGN,
            &["can't be killed: ", "(insmod), in state D and waiting in "],
        )
    });
    harness.case("no command at all", |harness| {
        let outcome = harness.run(&[])?;
        ensure!(
            outcome.status == status::SETUP && outcome.stderr.contains("no command"),
            "{}",
            outcome.stderr
        );
        Ok(())
    });
}

fn streams(harness: &mut Harness) {
    harness.case("stdout and stderr apart, stdin passed on", |harness| {
        let mut child = harness
            .vm(&["--", "sh", "-c", "cat; echo to stderr >&2"])
            .stdin(Stdio::piped())
            .spawn()?;
        let sent = "0123456789abcde\n".repeat(20_000);
        let mut stdin = child.stdin.take().context("no stdin")?;
        let input = sent.clone();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let outcome = finish(child)?;
        ensure!(
            matches!(writer.join(), Ok(Ok(()))),
            "the input was not taken"
        );
        outcome.expect(0, &[])?;
        ensure!(outcome.stdout == sent, "not all that was sent came back");
        ensure!(
            outcome.stderr == "to stderr\n",
            "standard error is {:?}",
            outcome.stderr
        );
        Ok(())
    });
    harness.case(
        "an open stdin without data does not hold up the end",
        |harness| {
            let mut child = harness.vm(&["--", "true"]).stdin(Stdio::piped()).spawn()?;
            let held_open = child.stdin.take();
            let outcome = finish(child)?;
            drop(held_open);
            outcome.expect(0, &[])
        },
    );
    harness.case(
        "a process left behind does not hold up the end",
        |harness| {
            let outcome = harness.sh(&[], "sleep 1000 & echo started")?;
            outcome.expect(0, &[])?;
            outcome.prints("started\n")?;
            Ok(())
        },
    );
    harness.case("files and folders", |harness| {
        let folder = harness.scratch.join("folder");
        fs::create_dir_all(folder.join("sub"))?;
        fs::write(folder.join("sub/in"), "from outside\n")?;
        let share = format!("{}:/shared:rw", folder.display());
        let file = format!("{}:/etc/copied", folder.join("sub/in").display());
        let script = "cat /etc/copied && cp /shared/sub/in /shared/sub/out";
        let outcome = harness.sh(&["--share", &share, "--file", &file], script)?;
        outcome.expect(0, &[])?;
        outcome.prints("from outside\n")?;
        ensure!(
            fs::read_to_string(folder.join("sub/out"))? == "from outside\n",
            "the other way"
        );
        Ok(())
    });
    if harness.kernel != "stock" {
        harness.case("the toolchain's root", |harness| {
            let outcome = harness.run(&[
                "--root",
                "--",
                "bash",
                "-c",
                "echo x > /usr/new && cat /usr/new /etc/debian_version",
            ])?;
            outcome.expect(0, &[])?;
            ensure!(
                outcome.stdout.starts_with("x\n13"),
                "standard output is {:?}",
                outcome.stdout
            );
            ensure!(!Path::new("/usr/new").exists(), "it wrote to the real root");
            Ok(())
        });
    }
}

fn shells(harness: &mut Harness) {
    harness.case("a shell without input ends", |harness| {
        let outcome = harness.run(&["--interactive", "--timeout", "60"])?;
        outcome.expect(0, &[])?;
        outcome.prints("")
    });
    harness.case("a shell's script ends where the input does", |harness| {
        for (script, status, printed) in [("echo hi", 0, "hi\n"), ("echo hi; exit 5\n", 5, "hi\n")]
        {
            let mut child = harness
                .vm(&["--interactive", "--timeout", "60"])
                .stdin(Stdio::piped())
                .spawn()?;
            let mut stdin = child.stdin.take().context("no stdin")?;
            stdin.write_all(script.as_bytes())?;
            drop(stdin);
            let outcome = finish(child)?;
            outcome.expect(status, &[])?;
            outcome.prints(printed)?;
        }
        Ok(())
    });
    harness.case("a shell on a terminal", |harness| {
        let (mut user, child) = shell_on_terminal(harness)?;
        user.write_all(b"test -t 0 && test -t 1 && test -t 2 && exit 6\n")?;
        finish(child)?.expect(6, &[])
    });
    harness.case("a shell whose terminal hangs up", |harness| {
        let (user, child) = shell_on_terminal(harness)?;
        drop(user);
        finish(child)?.expect(128 + Signal::SIGHUP as i32, &[])
    });
}

/// The user's end of a terminal on which a shell has prompted.
fn shell_on_terminal(harness: &Harness) -> Result<(fs::File, Child)> {
    let terminal = openpty(None, None)?;
    // It hangs up only if nobody else has this end.
    fcntl(&terminal.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let mut child = harness
        .vm(&["--interactive", "--timeout", "60"])
        .stdin(terminal.slave)
        .spawn()?;
    let output = child.stdout.as_mut().context("no stdout")?;
    output.read_exact(&mut [0])?;
    Ok((terminal.master.into(), child))
}

fn signs(harness: &mut Harness) {
    harness.case("a module that behaves", |harness| {
        harness.provoke(0, &[])?.expect(0, &[])
    });
    harness.case("WARN", |harness| {
        harness
            .provoke(how::WARN, &[])?
            .expect(status::BAD_SIGN, &["bad sign", "WARNING: "])
    });
    harness.case("a module that refuses to load", |harness| {
        harness
            .provoke(how::REFUSE, &[])?
            .expect(status::BAD_SIGN, &["inserting the module provoke"])
    });
    harness.case("no path of a module on standard input", |harness| {
        harness
            .run(&["--module", "-", "--", "true"])?
            .expect(status::SETUP, &["--module takes a file, and none came"])
    });
    harness.case("lost kernel messages", |harness| {
        harness
            .sh(&[], "echo '** 3 printk messages dropped **' >/dev/console")?
            .expect(status::BAD_SIGN, &["** 3 printk messages dropped **"])
    });
    harness.case("a leaked module reference", |harness| {
        harness.provoke(how::REFERENCE, &[])?.expect(
            status::BAD_SIGN,
            &["module provoke is still in use", "refcnt 1"],
        )
    });
    harness.case("a failed KUnit test", |harness| {
        let script = r"printf '<6>    # Subtest: s\n' >/dev/kmsg; printf '<6>    1..1\n' >/dev/kmsg
            printf '<6>    not ok 1 t\n' >/dev/kmsg; printf '<6>not ok 1 s\n' >/dev/kmsg";
        harness
            .sh(&[], script)?
            .expect(status::BAD_SIGN, &["KUnit: not ok: s: t"])
    });
    harness.case("a KUnit suite that stops in the middle", |harness| {
        let script = r"printf '<6>    # Subtest: s\n' >/dev/kmsg";
        harness
            .sh(&[], script)?
            .expect(status::BAD_SIGN, &["KUnit: s never finished"])
    });
    harness.case(
        "a program that says BUG on the console is no bad sign",
        |harness| {
            harness
                .sh(&[], "echo 'BUG: WARNING: Oops' >/dev/console")?
                .expect(0, &[])
        },
    );
}

fn deaths(harness: &mut Harness) {
    harness.case("panic, within 2 s", |harness| {
        let usual = harness.run(&["--", "true"])?.took;
        let outcome = harness.sh(&[], "echo c >/proc/sysrq-trigger; sleep 1000")?;
        outcome.expect(
            status::DIED,
            &["FAILED: kernel panic: sysrq triggered crash"],
        )?;
        ensure!(
            outcome.took < usual + Duration::from_secs(2),
            "it took {:?}, and usually {usual:?}",
            outcome.took
        );
        Ok(())
    });
    for (name, how, says) in [
        ("BUG", how::BUG, "kernel BUG at "),
        ("Oops", how::OOPS, "Oops: "),
        ("Rust panic", how::PANIC, "rust_kernel: panicked at "),
    ] {
        harness.case(name, |harness| {
            harness
                .provoke(how, &[])?
                .expect(status::DIED, &["FAILED: kernel panic: ", says])
        });
    }
    harness.case("a guest without init", |harness| {
        harness
            .run(&["--fresh", "--append", "rdinit=/nothing", "--", "true"])?
            .expect(status::DIED, &["kernel panic: "])
    });
    harness.case("a guest that resets itself", |harness| {
        harness
            .run(&["--", "reboot", "-f"])?
            .expect(status::DIED, &["reset or powered itself off"])
    });
    harness.case("a guest killed from outside", |harness| {
        let mut child = harness
            .vm(&["--", "sh", "-c", "echo up; sleep 1000"])
            .spawn()?;
        let mut word = [0; 3];
        child
            .stdout
            .as_mut()
            .context("no stdout")?
            .read_exact(&mut word)?;
        kill(qemu_below(child.id())?, Signal::SIGKILL)?;
        finish(child)?.expect(status::DIED, &["killed from outside by SIGKILL"])
    });
    harness.case("QEMU that does not start", |harness| {
        harness
            .run(&["--bzimage", "/etc/passwd", "--", "true"])?
            .expect(status::SETUP, &["QEMU failed (exit status: 1)"])
    });
}

/// The process itself, or a descendant, that is QEMU.
fn qemu_below(pid: u32) -> Result<Pid> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
    if name.starts_with("qemu-system") {
        return Ok(Pid::from_raw(pid.try_into()?));
    }
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        for child in fs::read_to_string(thread?.path().join("children"))?.split_whitespace() {
            if let Ok(found) = qemu_below(child.parse()?) {
                return Ok(found);
            }
        }
    }
    bail!("no QEMU below process {pid}")
}

fn hangs(harness: &mut Harness) {
    harness.case("a command that hangs", |harness| {
        harness
            .run(&["--timeout", "2", "--", "sleep", "1000"])?
            .expect(status::TIMEOUT, &["after 2 s while running sleep 1000"])
    });
    harness.case("a guest that hangs before its console", |harness| {
        let outcome = harness.run(&["--gdb", "0", "--timeout", "2", "--", "true"])?;
        outcome.expect(
            status::TIMEOUT,
            &["after 2 s before the console's first line"],
        )
    });
    harness.case("a soft lockup", |harness| {
        let options = [
            "--fresh",
            "--append",
            "watchdog_thresh=1 rcupdate.rcu_cpu_stall_suppress=1",
        ];
        harness
            .provoke(how::SPIN, &options)?
            .expect(status::DIED, &["stuck: watchdog: BUG: soft lockup"])
    });
    harness.case("an RCU stall", |harness| {
        // Processes that end are what starts a grace period.
        let script = format!(
            "insmod /provoke.ko how={} & while :; do /bin/true; done",
            how::SPIN
        );
        let file = format!("{}:/provoke.ko", harness.module());
        let append = "nowatchdog rcupdate.rcu_cpu_stall_timeout=3";
        let outcome = harness.sh(
            &[
                "--fresh",
                "--append",
                append,
                "--timeout",
                "120",
                "--file",
                &file,
            ],
            &script,
        )?;
        outcome.expect(status::DIED, &["stuck: rcu: INFO: "])
    });
}

/// A script's line by which it passes for a test program.
const PASSED: &str =
    "echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'";

fn test_programs(harness: &mut Harness) {
    let result = PASSED;
    let tests = |harness: &Harness, one: &str, two: &str| {
        let (one, two) = (harness.script("one", one)?, harness.script("two", two)?);
        harness.run(&["--tests", &one, &two])
    };
    harness.case("test programs that pass", |harness| {
        let outcome = tests(harness, result, result)?;
        outcome.expect(0, &[])?;
        ensure!(
            outcome.stdout.contains("== one\n") && outcome.stdout.contains("== two\n"),
            "{}",
            outcome.stdout
        );
        Ok(())
    });
    harness.case("a test program that fails", |harness| {
        tests(harness, &format!("{result}; exit 101"), result)?
            .expect(101, &["one: failed with status 101"])
    });
    harness.case("a test program that leaves in the middle", |harness| {
        tests(harness, result, "exit 0")?.expect(1, &["two: exited with 0, but without a result"])
    });
    harness.case(
        "a bad sign is put down to the test program that ran",
        |harness| {
            let outcome = tests(
                harness,
                &format!("echo 'WARNING: provoked' >/dev/kmsg; {result}"),
                result,
            )?;
            outcome.expect(
                status::BAD_SIGN,
                &["vm: one: bad sign in the kernel's log: WARNING: provoked"],
            )
        },
    );
}

/// A module that patches the kernel meets one processor; its KUnit tests and the command meet all.
fn patching(harness: &mut Harness) {
    const ALONE: [(&str, u32); 3] = [("tested", 2), ("inserted", 1), ("removed", 1)];
    const BESIDE: [(&str, u32); 3] = [("inserted", 2), ("tested", 2), ("removed", 2)];
    const SHOW: &str = "cat /sys/devices/system/cpu/online";
    let command = ["--", "sh", "-c", SHOW];
    for (name, options) in [
        ("on a resumed guest", &["--patching"][..]),
        ("on a booted guest", &["--patching", "--fresh"]),
        ("by standard input", &["--patching", "--module", "-"]),
    ] {
        harness.case(&format!("a module that patches, {name}"), |harness| {
            processors_seen(harness, &[options, &command].concat(), ALONE)
        });
    }
    harness.case("a module that patches, and test programs", |harness| {
        let program = harness.script("online", &format!("{SHOW}; {PASSED}"))?;
        processors_seen(harness, &["--patching", "--tests", &program], ALONE)
    });
    harness.case("a module that does not patch", |harness| {
        processors_seen(harness, &command, BESIDE)
    });
}

/// Runs with a module that counts the processors when it is inserted, tested by KUnit, and removed.
fn processors_seen(harness: &Harness, options: &[&str], expected: [(&str, u32); 3]) -> Result<()> {
    let (module, how) = (harness.module(), format!("how={}", how::COUNT));
    let mut args = vec!["--module-args", &how];
    if !options.contains(&"--module") {
        args.extend(["--module", &module]);
    }
    args.extend(options);
    let mut child = harness
        .vm(&args)
        // With KVM, --patching does nothing.
        .env("IPCDEMO_ACCEL", "tcg")
        .stdin(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    writeln!(stdin, "{module}")?;
    drop(stdin);
    let outcome = finish(child)?;
    outcome.expect(0, &[])?;
    ensure!(
        outcome.stdout.contains("0-1\n"),
        "the command saw {:?}",
        outcome.stdout
    );
    let log = fs::read_to_string(harness.scratch.join("log"))?;
    let said: Vec<&str> = log
        .lines()
        .filter_map(|line| Some(line.split_once("] provoke: ")?.1))
        .filter(|message| message.ends_with(" online"))
        .collect();
    // The stock kernel has no KUnit.
    let expected: Vec<String> = expected
        .iter()
        .filter(|(what, _)| *what != "tested" || harness.kernel != "stock")
        .map(|(what, online)| format!("{what} with {online} online"))
        .collect();
    ensure!(said == expected, "the module said {said:?}");
    Ok(())
}

fn saved_guests(harness: &mut Harness) {
    let cache = harness.scratch.join("cache");
    // A cache of our own, but with the kernel where it is.
    let image = fs::read_to_string(
        harness
            .tree
            .join("out/vm")
            .join(format!("image-{}", harness.kernel)),
    );
    let image = image.unwrap_or_default().trim().to_owned();
    let runner = harness
        .tree
        .join("out/target/x86_64-unknown-linux-gnu/debug/vm");
    let start = |harness: &Harness| {
        let mut command = Command::new(&runner);
        command.args([
            "--verbose",
            "--kmemleak",
            "off",
            "--image",
            &image,
            "--kernel",
            &harness.kernel,
        ]);
        command
            .arg("--log")
            .arg(harness.scratch.join("log"))
            .env("IPCDEMO_CACHE", &cache)
            .args(["--", "sh", "-c", "exit 7"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    let _ = fs::remove_dir_all(&cache);
    harness.case("two runs at once that both need a saved guest", |harness| {
        let (one, two) = (start(harness)?, start(harness)?);
        finish(one)?.expect(7, &[])?;
        finish(two)?.expect(7, &[])
    });
    for file in ["ram", "state"] {
        harness.case(
            &format!("a saved guest whose {file} was written to"),
            |harness| {
                spoil(&guest_in(&cache)?.join(file))?;
                finish(start(harness)?)?.expect(7, &[])
            },
        );
        harness.case(
            &format!("a saved guest whose {file} was spoiled unnoticed"),
            |harness| {
                let file = guest_in(&cache)?.join(file);
                let before = fs::metadata(&file)?.modified()?;
                spoil(&file)?;
                fs::File::options()
                    .write(true)
                    .open(&file)?
                    .set_modified(before)?;
                finish(start(harness)?)?.expect(7, &["the saved guest is no good"])?;
                let outcome = finish(start(harness)?)?;
                outcome.expect(7, &[])?;
                ensure!(
                    !outcome.stderr.contains("no good"),
                    "the one made anew is no better"
                );
                Ok(())
            },
        );
    }
    let _ = fs::remove_dir_all(&cache);
}

fn guest_in(cache: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(cache.join("vm"))? {
        let path = entry?.path();
        if path.join("manifest").exists() {
            return Ok(path);
        }
    }
    bail!("no saved guest in {}", cache.display())
}

/// Overwrites all of it that holds anything with zeros.
fn spoil(file: &Path) -> Result<()> {
    let size = fs::metadata(file)?.len();
    let file = fs::File::options().write(true).truncate(true).open(file)?;
    Ok(file.set_len(size)?)
}

/// What only the debug kernel can see.
fn checkers(harness: &mut Harness) {
    for (name, how, says) in [
        (
            "lockdep",
            how::LOCK_ORDER,
            "possible circular locking dependency detected",
        ),
        (
            "sleep in atomic context",
            how::ATOMIC_SLEEP,
            "BUG: sleeping function called from invalid context",
        ),
        ("sleep of an RCU reader", how::RCU_SLEEP, "WARNING: "),
        (
            "KASAN, use after free",
            how::USE_AFTER_FREE,
            "BUG: KASAN: slab-use-after-free",
        ),
        (
            "KASAN, out of bounds",
            how::OUT_OF_BOUNDS,
            "BUG: KASAN: slab-out-of-bounds",
        ),
    ] {
        harness.case(name, |harness| {
            harness.provoke(how, &[])?.expect(status::BAD_SIGN, &[says])
        });
    }
    harness.case("kmemleak", |harness| {
        harness.provoke(0, &["--kmemleak", "on"])?.expect(0, &[])?;
        let outcome = harness.provoke(how::LEAK, &["--kmemleak", "on"])?;
        outcome.expect(
            status::BAD_SIGN,
            &["memory was leaked", "unreferenced object"],
        )
    });
    harness.case("a hung task", |harness| {
        let script = format!(
            "echo 2 >/proc/sys/kernel/hung_task_timeout_secs; insmod /provoke.ko how={}",
            how::HANG
        );
        let file = format!("{}:/provoke.ko", harness.module());
        let outcome = harness.sh(&["--file", &file], &script)?;
        outcome.expect(status::BAD_SIGN, &["blocked for more than 2 seconds"])
    });
}
