// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::ffi::OsString;
use std::num::ParseIntError;
use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipcdemo_client::{Fifo, Keys, Kinds};

use crate::bench::Bench;

const EXAMPLES: &str = "\
Examples:
  ipcdemo tour                                see it all once
  ipcdemo counter write 3                     add 3 to the shared counter
  ipcdemo counter read                        take what is there
  ipcdemo counter with --semaphore -- sh      a shell with a counter of its own
  ipcdemo waitq wait                          sleep on the shared wait queue
  ipcdemo waitq ls                            who sleeps there
  ipcdemo waitq wake                          wake one, and be told whom it reached
  ipcdemo pipe run -- seq 9 ::: tac           a pipeline on the module's pipes
  ipcdemo exec -- bash -c 'seq 9 | tac'       any program: the module answers its calls
  ipcdemo mkfifo jobs                         a FIFO: /dev/ipcdemo-fifo-jobs
  ipcdemo ls                                  what is alive now

Exit status:
  0  done
  1  failed
  2  the command line is wrong
  3  it would have blocked
  4  the module is not loaded, or not open to this user";

/// Drives the ipcdemo kernel module: Linux's IPC primitives, rewritten in Rust
#[derive(Debug, Parser)]
#[command(name = "ipcdemo", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what the module does, step by step, and check each step
    Tour {
        /// No color, on a terminal neither
        #[arg(long)]
        plain: bool,
    },
    /// Use a counter: an eventfd in all but name
    #[command(subcommand)]
    Counter(Counter),
    /// Use a wait queue: sleep on it, wake others, look who is there
    #[command(subcommand)]
    Waitq(Waitq),
    /// Use pipes: run a pipeline of them, look into one, say what users may have
    #[command(subcommand)]
    Pipe(Pipe),
    /// Make a FIFO under /dev, and print its path
    #[command(after_help = "\
There is one from the beginning, /dev/ipcdemo-fifo. They are gone when the module is.

Examples:
  ipcdemo mkfifo --mode 0666 jobs
  echo hello > /dev/ipcdemo-fifo-jobs &       waits for somebody who reads
  cat /dev/ipcdemo-fifo-jobs")]
    Mkfifo {
        /// Letters, digits, '_', '.' and '-', up to 31, the first of them no '.' or '-'
        #[arg(value_parser = fifo_name)]
        name: String,
        /// The permissions, whatever the umask is
        #[arg(long, value_name = "OCTAL", default_value = "0600", value_parser = mode)]
        mode: u32,
    },
    /// Remove a FIFO that `ipcdemo mkfifo` made; who has it open goes on
    #[command(after_help = "\
Examples:
  ipcdemo rmfifo jobs
  ipcdemo rmfifo /dev/ipcdemo-fifo-jobs")]
    Rmfifo {
        /// Its name, or its path
        #[arg(value_parser = fifo_name)]
        name: String,
    },
    /// Run a command with a new null object as a descriptor
    #[command(after_help = "\
Examples:
  ipcdemo null -- sh -c 'head -c 8 <&$IPCDEMO_FD | od -x'")]
    Null {
        /// The command, which finds the descriptor's number in $IPCDEMO_FD
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Run a program whose own system calls the module answers: its pipes and eventfds are the module's
    #[command(after_help = "\
The program gets an IPC namespace of its own. The module redirects the kernel's functions for the
tasks in it: the program, all that it starts, and the IPC namespaces that they make. The program may be
any: static or dynamic, in any language, of 64 or 32 bits. See docs/exec.md.

It takes a module that was loaded with routes=1. Without CAP_SYS_ADMIN the program gets a user
namespace, too, in which setuid bits have no effect. See `ipcdemo routes` for what is
redirected, and `ipcdemo ls --namespaces` for who is a member.

Examples:
  ipcdemo exec -- bash -c 'seq 1 200000 | sort -rn | tail -1'
  ipcdemo exec --only pipe -- make -j4
  ipcdemo exec --report -- python3 script.py")]
    Exec(Exec),
    /// List the kernel's functions that the module answers for members, or switch them off
    #[command(after_help = "\
--off disarms the routes of all kinds at once, whatever members there are: their calls go to the
kernel, and what they have made before stays the module's. Those that follow the births and ends of
namespaces stay as long as there are members.

Examples:
  ipcdemo routes
  ipcdemo routes --json
  ipcdemo routes --off")]
    Routes(Routes),
    /// List the live objects, and who holds them
    #[command(after_help = "\
Examples:
  ipcdemo ls --json
  ipcdemo ls --namespaces                   whose calls the module answers, and who pins it
  test \"$(ipcdemo ls --count)\" = 0        nothing was left behind")]
    Ls(List),
    /// Measure the module against the kernel's own
    #[command(after_help = "\
It takes root, and a machine that has nothing else to do: it runs with real-time priority. `make
bench` does it in VMs, in both settings, and makes tables, plots and a page of it.

Examples:
  ipcdemo bench --filter counter/
  ipcdemo bench --filter pipe/ --json results.json")]
    Bench(Bench),
    /// Print completions for a shell
    #[cfg(feature = "generate")]
    Completions { shell: clap_complete::Shell },
    /// Write the manual pages, one for each command, into a folder
    #[cfg(feature = "generate")]
    Man {
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct Exec {
    /// Only the calls that make or use these kinds of objects; the others are the kernel's
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    only: Vec<Kinds>,
    /// When the program has ended, say how many objects were made, and by whom, and which calls
    /// were left to the kernel. `ipcdemo` then stays as the program's parent
    #[arg(long)]
    pub report: bool,
    /// The program
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

impl Exec {
    /// The kinds that are asked for; none for all.
    pub fn kinds(&self) -> Kinds {
        self.only.iter().copied().collect()
    }
}

/// A kind of object by name.
fn kind(text: &str) -> Result<Kinds, String> {
    let mut known = Kinds::all().iter();
    known
        .find(|kind| kind.to_string() == text)
        .ok_or_else(|| format!("there is no '{text}', but {}", Kinds::all()))
}

#[derive(Debug, Args)]
pub struct Routes {
    /// Let routes be armed
    #[arg(long, group = "switch")]
    on: bool,
    /// Disarm the routes of all kinds, and let none be armed
    #[arg(long, group = "switch")]
    off: bool,
    /// For programs: an object with the array of routes
    #[arg(long)]
    pub json: bool,
}

impl Routes {
    /// The switch's new position, if it is to change.
    pub fn switch(&self) -> Option<bool> {
        (self.on || self.off).then_some(self.on)
    }
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Without --on and --fd it is the counter that `ipcdemo counter with` made, found by
$IPCDEMO_FD, or else the one that everybody shares, /dev/ipcdemo-counter.

Examples:
  ipcdemo counter read &                      sleeps: the counter is empty
  ipcdemo counter write 5                     wakes it
  ipcdemo counter with --initval 2 --semaphore -- \\
      sh -c 'ipcdemo counter read; ipcdemo counter info'")]
pub enum Counter {
    /// Take the count, or 1 of a semaphore's; sleep while it is 0
    Read {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        mode: Mode,
    },
    /// Add to the count; sleep while the sum would be 2^64 - 1 or more
    Write {
        /// What to add
        value: u64,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        mode: Mode,
    },
    /// Say what the counter is ready for, in words: read, write
    Poll {
        #[command(flatten)]
        target: Target,
        /// Sleep until it is ready for that
        #[arg(long, value_name = "WHAT")]
        until: Option<Readiness>,
        /// Sleep so long at most
        #[arg(long, value_name = "MS", requires = "until")]
        timeout: Option<u32>,
    },
    /// Say what /proc knows of the counter, without taking anything
    Info {
        #[command(flatten)]
        target: Target,
    },
    /// Run a command with a new counter as a descriptor
    With {
        /// The first count
        #[arg(long, default_value_t = 0, value_name = "N")]
        initval: u32,
        /// A read takes 1
        #[arg(long)]
        semaphore: bool,
        /// Nothing sleeps
        #[arg(long)]
        nonblock: bool,
        /// The command, which finds the descriptor's number in $IPCDEMO_FD
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Without --on and --fd it is the wait queue that `ipcdemo waitq with` made, found by
$IPCDEMO_FD, or else the one that everybody shares, /dev/ipcdemo-waitq.

Keys are poll events by their names, in any case and with or without POLL: in,out.

Examples:
  ipcdemo waitq wait --exclusive --mask in &
  ipcdemo waitq wait --expect 0 --timeout 5000 &
  ipcdemo waitq ls
  ipcdemo waitq wake --nr 2 --key in --set 7")]
pub enum Waitq {
    /// Sleep until a wake comes, and print what became of it
    #[command(after_help = "\
Exit status: 0 if it was woken, 3 if the time was up or the word was another, 1 after a
signal.")]
    Wait {
        #[command(flatten)]
        target: Target,
        /// Stand at the queue's tail, as one of those that a wake counts
        #[arg(long)]
        exclusive: bool,
        /// Stand ahead of all who do not say this
        #[arg(long)]
        priority: bool,
        /// Only fatal signals end the sleep
        #[arg(long)]
        killable: bool,
        /// No signal does
        #[arg(long, conflicts_with = "killable", requires = "timeout")]
        uninterruptible: bool,
        /// Sleep so long at most
        #[arg(long, value_name = "MS")]
        timeout: Option<u64>,
        /// Hear only wakes that are about one of these
        #[arg(long, value_name = "KEYS", value_parser = keys)]
        mask: Option<Keys>,
        /// Sleep only if the word is this
        #[arg(long, value_name = "WORD", value_parser = word)]
        expect: Option<u64>,
        /// To study a race: stay so much longer once time or a signal ended the sleep
        #[arg(long, value_name = "US", default_value_t = 0)]
        linger: u32,
    },
    /// Wake those who sleep, and print how far it went
    Wake {
        #[command(flatten)]
        target: Target,
        /// So many exclusive sleepers at most
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        nr: u32,
        /// All exclusive sleepers
        #[arg(long, conflicts_with = "nr")]
        all: bool,
        /// What it is about
        #[arg(long, value_name = "KEYS", value_parser = keys)]
        key: Option<Keys>,
        /// Set the word in the same step
        #[arg(long, value_name = "WORD", value_parser = word)]
        set: Option<u64>,
        /// Do not preempt the waker
        #[arg(long)]
        sync: bool,
    },
    /// List who is on the queue, first to be woken first
    Ls {
        #[command(flatten)]
        target: Target,
        /// Only how many there are
        #[arg(long)]
        count: bool,
    },
    /// Run a command with a new wait queue as a descriptor
    With {
        /// The first word
        #[arg(long, value_name = "WORD", default_value = "0", value_parser = word)]
        word: u64,
        /// A read fails instead of sleeping
        #[arg(long)]
        nonblock: bool,
        /// The command, which finds the descriptor's number in $IPCDEMO_FD
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
}

#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  ipcdemo pipe run -- seq 1000000 ::: sort -n ::: tail -n 1
  ipcdemo pipe run --size 1M -- tar c src ::: tar x -C /tmp
  ipcdemo pipe with -- sh -c 'echo hello >&$IPCDEMO_WRITE_FD; head -n 1 <&$IPCDEMO_READ_FD'
  ipcdemo pipe limits --soft 1000")]
pub enum Pipe {
    /// Run commands side by side, the output of each the input of the next
    #[command(after_help = "\
Exit status: the last command's, as a shell has it: 128 and the signal's number if one killed
it, 127 if there is no such command, 126 if it cannot be run.

Examples:
  ipcdemo pipe run -- yes ::: head -n 3
  ipcdemo pipe run --pipefail -- sh -c 'echo here; exit 4' ::: cat; echo $?")]
    Run {
        #[command(flatten)]
        options: PipeOptions,
        /// The status of the last command that fails, not just of the last one
        #[arg(long)]
        pipefail: bool,
        /// The commands, and ::: between one and the next
        #[arg(last = true, required = true, value_name = "CMD")]
        commands: Vec<OsString>,
    },
    /// Run a command with both ends of a new pipe as descriptors
    With {
        #[command(flatten)]
        options: PipeOptions,
        /// Nothing sleeps
        #[arg(long)]
        nonblock: bool,
        /// The command, which finds the ends in $IPCDEMO_READ_FD and $IPCDEMO_WRITE_FD
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Say what is in a pipe or FIFO, without taking anything
    #[command(after_help = "\
Examples:
  ipcdemo pipe run -- sleep 9 ::: ipcdemo pipe info
  ipcdemo pipe info 1234:0                    the input of process 1234")]
    Info {
        /// A descriptor of this process, or one of another process: PID:FD
        #[arg(value_name = "[PID:]FD", default_value = "0", value_parser = Descriptor::parse)]
        descriptor: Descriptor,
    },
    /// Say what users may ask of the module's pipes, or change it
    #[command(after_help = "\
They are those of pipe(7): /proc/sys/fs/pipe-max-size and so on, which hold for the kernel's own
pipes. Not to be changed without CAP_SYS_RESOURCE.

Examples:
  ipcdemo pipe limits
  ipcdemo pipe limits --max-size 4M --hard 0")]
    Limits {
        /// The largest capacity that a user may ask for
        #[arg(long, value_name = "BYTES", value_parser = size)]
        max_size: Option<u32>,
        /// With more pages than that a user's new pipes are small; 0 for no limit
        #[arg(long, value_name = "PAGES")]
        soft: Option<u64>,
        /// With more pages than that a user has no new pipes; 0 for no limit
        #[arg(long, value_name = "PAGES")]
        hard: Option<u64>,
    },
}

#[derive(Args, Debug)]
pub struct PipeOptions {
    /// How much it holds: a number, or one with K or M; rounded up to a power of two of pages
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub size: Option<u32>,
    /// Each write is a packet, and each read takes one
    #[arg(long)]
    pub direct: bool,
}

/// A descriptor, of this process unless told otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Descriptor {
    /// Whose.
    pub pid: Option<u32>,
    /// Which.
    pub fd: u32,
}

impl Descriptor {
    fn parse(text: &str) -> Result<Self, ParseIntError> {
        let (pid, fd) = match text.split_once(':') {
            Some((pid, fd)) => (Some(pid.parse()?), fd),
            None => (None, text),
        };
        Ok(Self {
            pid,
            fd: fd.parse()?,
        })
    }
}

/// So many bytes: 65536 or 64K.
fn size(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 1 << 10),
        Some('m' | 'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    let number: u32 = digits.parse().map_err(|error| format!("{error}"))?;
    number
        .checked_mul(unit)
        .ok_or_else(|| "there is no such pipe".into())
}

/// Permission bits, in octal.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        Ok(_) => Err("permissions are 0777 at most".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// A FIFO's name, by itself or in its path.
fn fifo_name(text: &str) -> Result<String, String> {
    let prefix = format!("{}-", Fifo::PATH);
    let name = text.strip_prefix(&prefix).unwrap_or(text);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if name.is_empty()
        || name.len() > 31
        || name.starts_with(['.', '-'])
        || !name.bytes().all(known)
    {
        return Err("a name is of 1 to 31 letters, digits, '_', '.' and '-', \
                    the first of them no '.' or '-'"
            .into());
    }
    Ok(name.into())
}

/// A 64-bit number, decimal or, after 0x, hexadecimal.
fn word(text: &str) -> Result<u64, ParseIntError> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
}

/// Poll events by name: `in,out` or `POLLIN|POLLOUT`.
fn keys(text: &str) -> Result<Keys, String> {
    text.split([',', '|'])
        .map(|name| {
            let upper = name.trim().to_uppercase();
            let short = upper.strip_prefix("POLL").unwrap_or(&upper);
            Keys::from_name(short).ok_or_else(|| {
                let known: Vec<_> = Keys::all()
                    .iter_names()
                    .map(|(name, _)| name.to_lowercase())
                    .collect();
                format!("there is no '{name}', but {}", known.join(", "))
            })
        })
        .try_fold(Keys::empty(), |all, one| Ok(all | one?))
}

#[derive(Args, Debug)]
#[group(multiple = false)]
pub struct Target {
    /// Open this node
    #[arg(long, value_name = "PATH")]
    pub on: Option<PathBuf>,
    /// Use this descriptor, which the shell opened or passed on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(RawFd).range(0..))]
    pub fd: Option<RawFd>,
}

#[derive(Args, Debug)]
pub struct Mode {
    /// Exit with status 3 instead of sleeping
    #[arg(long)]
    pub nonblock: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Readiness {
    /// There is something to take
    Read,
    /// There is room for 1
    Write,
}

#[derive(Args, Debug)]
pub struct List {
    /// List the IPC namespaces whose tasks' calls the module answers, and who pins them
    #[arg(long)]
    pub namespaces: bool,
    /// For programs: an array of objects
    #[arg(long, group = "form")]
    pub json: bool,
    /// Only how many there are
    #[arg(long, group = "form")]
    pub count: bool,
    /// Only their names, one on a line
    #[arg(long, group = "form")]
    pub quiet: bool,
}

#[cfg(feature = "generate")]
pub fn completions(mut definition: clap::Command, shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut definition, "ipcdemo", &mut std::io::stdout());
}

#[cfg(feature = "generate")]
pub fn man(definition: clap::Command, directory: &std::path::Path) -> Result<(), crate::Failure> {
    clap_mangen::generate_to(definition, directory).map_err(crate::Failure::because(format_args!(
        "cannot write to {}",
        directory.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_node_and_a_descriptor_exclude_each_other() {
        let both = ["ipcdemo", "counter", "read", "--fd", "3", "--on", "/dev/x"];
        assert!(Cli::try_parse_from(both).is_err());
        assert!(Cli::try_parse_from(&both[..5]).is_ok());
    }

    #[test]
    fn keys_have_names() {
        assert_eq!(keys("in"), Ok(Keys::IN));
        assert_eq!(
            keys("POLLIN|pollout,Hup"),
            Ok(Keys::IN | Keys::OUT | Keys::HUP)
        );
        assert!(keys("").is_err());
        assert!(keys("in,sideways").is_err_and(|complaint| complaint.contains("rdhup")));
    }

    #[test]
    fn words_may_be_hexadecimal() {
        assert_eq!(word("10"), Ok(10));
        assert_eq!(word("0xffffffffffffffff"), Ok(u64::MAX));
        assert!(word("-1").is_err() && word("0x").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("65536"), Ok(65536));
        assert_eq!([size("64K"), size("1m")], [Ok(65536), Ok(1 << 20)]);
        for wrong in ["", "K", "-1", "4096M", "1G", "ä"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!([mode("0600"), mode("777")], [Ok(0o600), Ok(0o777)]);
        assert!(mode("1777").is_err() && mode("608").is_err() && mode("rw").is_err());
    }

    #[test]
    fn a_fifo_has_a_name_or_a_path() {
        for given in ["jobs", "/dev/ipcdemo-fifo-jobs"] {
            assert_eq!(fifo_name(given), Ok("jobs".into()));
        }
        let long = "x".repeat(32);
        for wrong in ["", ".a", "a/b", "/dev/ipcdemo-fifo", "/dev/null", &long] {
            assert!(fifo_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_descriptor_may_be_another_processes() {
        let of = |pid, fd| Ok(Descriptor { pid, fd });
        assert_eq!(Descriptor::parse("3"), of(None, 3));
        assert_eq!(Descriptor::parse("12:0"), of(Some(12), 0));
        assert!(Descriptor::parse(":0").is_err() && Descriptor::parse("-1").is_err());
    }

    #[test]
    fn only_kinds_that_are_routed_can_be_enrolled() {
        let kinds = |only| {
            let line = ["ipcdemo", "exec", "--only", only, "--", "true"];
            match Cli::try_parse_from(line)?.command {
                Command::Exec(exec) => Ok(exec.kinds()),
                _ => panic!("another command"),
            }
        };
        assert!(kinds("counter").is_ok_and(|kinds| kinds == Kinds::COUNTER));
        assert!(kinds("counter,pipe").is_ok_and(|kinds| kinds == Kinds::all()));
        assert!(
            kinds("waitq").is_err_and(|error: clap::Error| error.to_string().contains("counter"))
        );
    }

    #[test]
    fn a_list_has_one_form() {
        for (line, sound) in [
            (&["ipcdemo", "ls", "--namespaces", "--json"][..], true),
            (&["ipcdemo", "ls", "--count", "--json"], false),
            (&["ipcdemo", "routes", "--off", "--json"], true),
            (&["ipcdemo", "routes", "--off", "--on"], false),
        ] {
            assert_eq!(Cli::try_parse_from(line).is_ok(), sound, "{line:?}");
        }
    }

    #[test]
    fn an_uninterruptible_sleep_needs_an_end() {
        let line = [
            "ipcdemo",
            "waitq",
            "wait",
            "--uninterruptible",
            "--timeout",
            "9",
        ];
        assert!(Cli::try_parse_from(&line[..4]).is_err());
        assert!(Cli::try_parse_from(line).is_ok());
    }

    #[test]
    fn a_command_stands_after_two_dashes() {
        let line = [
            "ipcdemo",
            "counter",
            "with",
            "--semaphore",
            "--",
            "ls",
            "--x",
        ];
        let Command::Counter(Counter::With { command, .. }) = Cli::parse_from(line).command else {
            panic!("another command");
        };
        assert_eq!(command, ["ls", "--x"]);
    }
}
