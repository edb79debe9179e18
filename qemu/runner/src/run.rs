// SPDX-License-Identifier: GPL-2.0

//! A run, from the options to the verdict.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, IsTerminal, Read, Write, stdin};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use crate::accel;
use crate::cli::{Cli, Kernel, Stdin, status};
use crate::initramfs;
use crate::ktap::Counts;
use crate::log::Log;
use crate::protocol::{Channel, Command, Request};
use crate::qemu::{Accel, Folder, Machine, Memory};
use crate::saved::Saved;
use crate::session::{Failure, Phase, Session};
use crate::terminal::{self, Raw};
use crate::tree;

const BUSYBOX: &str = "/bin/busybox";

/// A resumed guest answers within milliseconds; one that does not is not worth waiting for.
const RESUME_LIMIT: Duration = Duration::from_secs(20);

/// Variables of ours that a test program is to see as well.
const PASSED_ON: [&str; 3] = ["RUST_", "PROPTEST_", "IPCDEMO_"];

/// Runs what the command line asks for. Returns the status to exit with.
pub fn main(cli: &Cli) -> i32 {
    let started = Instant::now();
    let target = cli
        .log
        .clone()
        .unwrap_or_else(|| cli.tree.join("out/vm/last.log"));
    let log = match Log::create(&target) {
        Ok(log) => log,
        Err(error) => {
            eprintln!(
                "vm: FAILED: the log {} can't be written: {error}",
                target.display()
            );
            return status::SETUP;
        }
    };
    let mut run = Run {
        cli,
        cache: cache(),
        session: Session::new(log),
        started,
    };
    let outcome = terminal::watch_signals()
        .map_err(Failure::from)
        .and_then(|()| run.whole());
    run.session.detach();
    run.session.log.settle();
    run.verdict(outcome)
}

fn cache() -> PathBuf {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    from("IPCDEMO_CACHE")
        .or_else(|| Some(from("XDG_CACHE_HOME")?.join("ipcdemo")))
        .or_else(|| Some(from("HOME")?.join(".cache/ipcdemo")))
        .unwrap_or_else(|| PathBuf::from("out/cache"))
        .join("vm")
}

struct Run<'a> {
    cli: &'a Cli,
    cache: PathBuf,
    session: Session,
    started: Instant,
}

/// How one of several test programs did.
#[derive(Serialize)]
struct TestProgram {
    name: String,
    status: i32,
    #[serde(flatten)]
    counts: Counts,
    bad_signs: Vec<String>,
}

impl Run<'_> {
    fn note(&self, what: &str) {
        if self.cli.verbose {
            eprintln!("vm: {:5} ms  {what}", self.started.elapsed().as_millis());
        }
    }

    fn whole(&mut self) -> Result<i32, Failure> {
        let cli = self.cli;
        let machine = self.machine()?;
        let default_limit = Duration::from_secs(if machine.accel == Accel::Kvm {
            120
        } else {
            600
        });
        let limit = match cli.timeout {
            None if cli.gdb.is_some() || cli.interactive => None,
            limit => Some(limit.unwrap_or(default_limit)),
        };
        self.start(&machine, limit)?;
        self.note("the agent is up");
        self.prepare(&machine)?;
        self.note("the guest is prepared");
        let status = if cli.tests.is_empty() {
            self.command()?
        } else {
            self.tests()?
        };
        self.note("the command has ended");
        self.clean_up()?;
        self.note("the guest is done");
        Ok(status)
    }

    fn machine(&self) -> Result<Machine, Failure> {
        let cli = self.cli;
        let kernel = cli
            .bzimage
            .clone()
            .or_else(|| cli.image.clone())
            .context("--bzimage or --image is missing")?;
        let mut folders = Vec::new();
        if cli.root {
            folders.push(Folder {
                tag: "root".into(),
                path: "/".into(),
                writable: false,
            });
        }
        if self.has_9p() {
            folders.extend(cli.share.iter().enumerate().map(|(index, share)| Folder {
                tag: format!("share{index}"),
                path: share.host.clone(),
                writable: share.writable,
            }));
        }
        let mut machine = Machine {
            kernel,
            initramfs: self.initramfs()?,
            cpus: cli.cpus,
            memory: cli.memory(),
            append: cli.append.clone(),
            accel: Accel::Tcg,
            icount: cli.icount,
            plugins: cli.plugin.clone(),
            gdb: cli.gdb,
            folders,
        };
        machine.accel = accel::choose(&machine, &self.cache)?;
        Ok(machine)
    }

    fn has_9p(&self) -> bool {
        self.cli.kernel != Kernel::Stock || self.cli.bzimage.is_some()
    }

    /// Packed anew for each run, which takes no longer than finding out whether it must be. Its
    /// name tells its content: another run may have another agent.
    fn initramfs(&self) -> Result<PathBuf, Failure> {
        let agent = std::env::current_exe()?.with_file_name("vm-guest");
        let content = initramfs::build(&agent, Path::new(BUSYBOX))?;
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let path = self
            .cache
            .join(format!("initramfs-{:016x}", hasher.finish()));
        if !fs::metadata(&path).is_ok_and(|meta| meta.len() == content.len() as u64) {
            fs::create_dir_all(&self.cache)?;
            let new = tree::unique(&path);
            fs::write(&new, content).with_context(|| format!("writing {}", new.display()))?;
            fs::rename(&new, &path)?;
        }
        Ok(path)
    }

    /// Brings the guest to where its agent waits for requests.
    fn start(&mut self, machine: &Machine, limit: Option<Duration>) -> Result<(), Failure> {
        let cli = self.cli;
        let resumable =
            !cli.fresh && !cli.icount && cli.gdb.is_none() && machine.folders.is_empty();
        // A guest that does not resume is made anew. If the new one doesn't either, saving is at
        // fault: boot.
        for _ in 0..if resumable { 2 } else { 0 } {
            let saved = match Saved::find_or_make(machine, &self.cache, &mut self.session, limit) {
                Ok(saved) => saved,
                Err(Failure::Setup(error)) => {
                    self.note(&format!("the guest can't be saved: {error:#}"));
                    break;
                }
                Err(failure) => return Err(failure),
            };
            match saved
                .resume(machine, &mut self.session, RESUME_LIMIT)
                .and_then(|()| self.session.request(&hello()?))
            {
                Ok(()) => {
                    self.session.set_limit(limit);
                    return Ok(());
                }
                Err(failure @ Failure::Interrupted(_)) => return Err(failure),
                Err(failure) => {
                    self.note(&format!("the saved guest is no good: {failure}"));
                    saved.discard();
                    self.session.log.restart()?;
                }
            }
        }
        self.session.log.restart()?;
        self.session
            .attach(machine.start(Memory::Fresh)?, Phase::Booting, limit)?;
        self.session.wait_ready()?;
        self.session.request(&hello()?)?;
        if cli.wants_kmemleak() {
            self.doing("looking for memory leaked while booting");
            self.session.settle()?;
        }
        Ok(())
    }

    fn doing(&mut self, what: &str) {
        self.session.enter(Phase::Doing(what.to_owned()));
    }

    /// Folders, files, modules.
    fn prepare(&mut self, machine: &Machine) -> Result<(), Failure> {
        let cli = self.cli;
        self.doing("mounting the shared folders");
        if cli.root {
            self.session
                .request(&Request::Root { tag: "root".into() })?;
        }
        let tags = machine.folders.iter().filter(|folder| folder.tag != "root");
        for (folder, share) in tags.zip(&cli.share) {
            let (tag, path, writable) = (folder.tag.clone(), share.guest.clone(), share.writable);
            self.session.request(&Request::Mount {
                tag,
                path,
                writable,
            })?;
        }
        self.doing("copying files into the guest");
        if !self.has_9p() {
            for share in &cli.share {
                self.session.put(&share.host, &share.guest)?;
            }
        }
        for file in &cli.file {
            self.session.put(&file.host, &file.guest)?;
        }
        if let Some(program) = cli.command.first().filter(|_| cli.cargo_test) {
            self.session
                .put(Path::new(program), &test_path(Path::new(program)))?;
        }
        let mut modules = cli.module.clone();
        if cli.cargo_test {
            let name = cli
                .kernel
                .to_possible_value()
                .map_or_else(String::new, |value| value.get_name().to_owned());
            let module = cli.tree.join("out").join(name).join("ipcdemo.ko");
            modules.extend(module.exists().then_some(module));
        }
        // A processor that executes the code itself sees it patched; the translator may not.
        let alone = cli.patching && machine.accel == Accel::Tcg;
        let last = modules.len().saturating_sub(1);
        for (index, module) in modules.iter().enumerate() {
            let (args, alone) = if index == last {
                (&*cli.module_args, alone)
            } else {
                ("", false)
            };
            if module == Path::new("-") {
                self.doing("waiting for the path of a module on standard input");
                let path = self.session.stdin_line()?;
                self.insert(Path::new(path.trim_end()), args, alone)?;
            } else {
                self.insert(module, args, alone)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, module: &Path, args: &str, alone: bool) -> Result<(), Failure> {
        let name = module
            .file_name()
            .and_then(|name| name.to_str())
            .context("--module takes a file, and none came")?;
        let path = format!("/tmp/modules/{name}");
        self.session.put(module, &path)?;
        self.doing(&format!("inserting {name}"));
        self.session
            .request(&Request::Load {
                path,
                args: args.to_owned(),
                alone,
            })
            .map_err(condemn)
    }

    fn environment(&self) -> Vec<(String, String)> {
        let cli = self.cli;
        let mut env = Vec::new();
        if cli.interactive {
            env.push((
                "TERM".into(),
                std::env::var("TERM").unwrap_or_else(|_| "linux".into()),
            ));
        }
        if cli.cargo_test || !cli.tests.is_empty() {
            env.extend(
                std::env::vars()
                    .filter(|(name, _)| PASSED_ON.iter().any(|prefix| name.starts_with(prefix))),
            );
        }
        env.extend(cli.env.iter().cloned());
        env
    }

    fn command(&mut self) -> Result<i32, Failure> {
        let cli = self.cli;
        let mut argv = cli.command.clone();
        if cli.cargo_test {
            argv[0] = test_path(Path::new(&argv[0]));
        }
        if argv.is_empty() {
            argv = vec!["/bin/sh".into(), "-l".into()];
        }
        // A script on standard input is to end where it ends, which a terminal in the guest would
        // not tell the shell for sure: it may drop a ^D while the shell changes its mode.
        let raw = (cli.interactive && stdin().is_terminal())
            .then(Raw::enter)
            .transpose()?;
        let command = Command {
            argv,
            env: self.environment(),
            terminal: raw.is_some().then(terminal::size),
        };
        let pass_stdin = match cli.stdin {
            Stdin::Auto => cli.interactive || !stdin().is_terminal(),
            Stdin::Yes => true,
            Stdin::No => false,
        };
        let exit = self.session.run(command, pass_stdin, &mut copy_out)?;
        Ok(exit.status())
    }

    /// Every program is run, whatever the one before it did, unless the guest is gone.
    fn tests(&mut self) -> Result<i32, Failure> {
        let cli = self.cli;
        let mut programs: Vec<TestProgram> = Vec::new();
        let mut outcome = Ok(0);
        for path in &cli.tests {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            match self.test(path, &name) {
                Ok(program) => programs.push(program),
                Err(failure) => {
                    eprintln!("vm: {name}: the guest did not survive it");
                    outcome = Err(failure);
                    break;
                }
            }
        }
        if let Some(file) = &cli.tests_summary {
            fs::write(file, serde_json::to_vec_pretty(&programs)?)?;
        }
        outcome.map(|_| {
            programs
                .iter()
                .map(|program| program.status)
                .find(|&status| status != 0)
                .unwrap_or(0)
        })
    }

    fn test(&mut self, path: &Path, name: &str) -> Result<TestProgram, Failure> {
        let there = test_path(path);
        println!("== {name}");
        self.doing("copying files into the guest");
        self.session.put(path, &there)?;
        let signs_before = self.session.log.hits().len();
        let mut argv = vec![there];
        argv.extend(self.cli.command.iter().cloned());
        let command = Command {
            argv,
            env: self.environment(),
            terminal: None,
        };
        let mut results = Results::default();
        let exit = self.session.run(command, false, &mut |channel, bytes| {
            if channel == Channel::Stdout {
                results.take(bytes);
            }
            copy_out(channel, bytes)
        })?;
        self.doing(&format!("waiting for the log of {name}"));
        self.session.mark(name)?;
        let bad_signs = self.session.log.hits()[signs_before..]
            .iter()
            .map(|hit| hit.message.clone())
            .collect::<Vec<_>>();
        for sign in &bad_signs {
            eprintln!("vm: {name}: bad sign in the kernel's log: {sign}");
        }
        let (mut status, counts) = (exit.status(), results.counts());
        // A program that leaves in the middle of its tests has failed them.
        if status == 0 && counts.is_none() {
            eprintln!("vm: {name}: exited with 0, but without a result");
            status = 1;
        } else if status != 0 {
            eprintln!("vm: {name}: failed with status {status}");
        }
        Ok(TestProgram {
            name: name.to_owned(),
            status,
            counts: counts.unwrap_or_default(),
            bad_signs,
        })
    }

    /// Gives back what was shared, and finds out what CMD left behind.
    fn clean_up(&mut self) -> Result<(), Failure> {
        let cli = self.cli;
        if !self.has_9p() {
            self.doing("copying folders back");
            for share in cli.share.iter().filter(|share| share.writable) {
                self.session.get(&share.guest, &share.host)?;
            }
        }
        self.doing("removing the modules");
        self.session.request(&Request::Unload).map_err(condemn)?;
        if cli.wants_kmemleak() {
            self.doing("looking for leaked memory");
            self.session.request(&Request::Kmemleak).map_err(condemn)?;
        }
        self.doing("waiting for the end of the log");
        self.session.mark("end")
    }

    /// Says what happened, and turns it into a status.
    fn verdict(&self, outcome: Result<i32, Failure>) -> i32 {
        let log = &self.session.log;
        let mut outcome = outcome;
        if let Some(file) = &self.cli.ktap_summary {
            let written = serde_json::to_vec(&log.kunit()).map_err(anyhow::Error::from);
            if let Err(error) = written.and_then(|json| Ok(fs::write(file, json)?)) {
                outcome = outcome.and(Err(error
                    .context(format!("writing {}", file.display()))
                    .into()));
            }
        }
        let first = log.hits().first();
        let (status, why) = match (&outcome, first) {
            (&Ok(status), None) => return status,
            (Ok(_), Some(hit)) => (
                status::BAD_SIGN,
                format!("bad sign in the kernel's log: {}", hit.message),
            ),
            // As if the signal had killed us; the user knows.
            (&Err(Failure::Interrupted(signal)), _) => return 128 + signal as i32,
            // The guest has no part in it, and its log none to tell.
            (Err(failure @ Failure::Setup(_)), None) => {
                eprintln!("vm: FAILED: {failure}");
                return status::SETUP;
            }
            (Err(failure), _) => {
                let status = match failure {
                    Failure::Died(_) => status::DIED,
                    Failure::Verdict(_) => status::BAD_SIGN,
                    Failure::Timeout { .. } => status::TIMEOUT,
                    Failure::Interrupted(_) | Failure::Setup(_) => status::SETUP,
                };
                (status, failure.to_string())
            }
        };
        let lines = match first {
            Some(hit) => log.around(hit),
            None => log.tail(20),
        };
        for line in lines {
            eprintln!("  {line}");
        }
        for other in log.hits().iter().skip(1).take(9) {
            eprintln!("vm: another bad sign: {}", other.message);
        }
        eprintln!("vm: FAILED: {why}");
        if !log.is_empty() {
            eprintln!("vm: the whole log: {}", log.path().display());
        }
        status
    }
}

/// What libtest says at the end.
#[derive(Default)]
struct Results {
    line: Vec<u8>,
    counts: Option<Counts>,
}

impl Results {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                if let Some(counts) = std::str::from_utf8(&self.line).ok().and_then(result_line) {
                    self.counts.get_or_insert_default().add(counts);
                }
                self.line.clear();
            } else {
                self.line.push(byte);
            }
        }
    }

    fn counts(&self) -> Option<Counts> {
        self.counts
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in
/// 0.00s`.
fn result_line(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| -> Option<u64> {
        numbers
            .split("; ")
            .find_map(|part| part.strip_suffix(what)?.trim_end().parse().ok())
    };
    Some(Counts {
        passed: count("passed")?,
        failed: count("failed")?,
        skipped: count("ignored")?,
    })
}

fn copy_out(channel: Channel, bytes: &[u8]) -> io::Result<()> {
    if channel == Channel::Stderr {
        return io::stderr().write_all(bytes);
    }
    let mut stdout = io::stdout();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Modules that can't be inserted or removed, and leaked memory, are the guest's fault.
fn condemn(failure: Failure) -> Failure {
    match failure {
        Failure::Setup(error) => Failure::Verdict(format!("{error:#}")),
        other => other,
    }
}

fn test_path(program: &Path) -> String {
    format!(
        "/tmp/tests/{}",
        program.file_name().unwrap_or_default().to_string_lossy()
    )
}

fn hello() -> Result<Request, Failure> {
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(Request::Start {
        clock: SystemTime::now().duration_since(UNIX_EPOCH)?,
        seed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_read_however_the_output_is_cut() {
        let mut results = Results::default();
        let output = "\nrunning 2 tests\ntest a ... ok\ntest result: ok. 1 passed; \
                      0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        for byte in output.bytes() {
            results.take(&[byte]);
        }
        assert_eq!(
            results.counts(),
            Some(Counts {
                passed: 1,
                failed: 0,
                skipped: 1
            })
        );
        let failed =
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(
            result_line(failed),
            Some(Counts {
                passed: 10,
                failed: 2,
                skipped: 0
            })
        );
        assert_eq!(result_line("test result: well"), None);
    }
}
