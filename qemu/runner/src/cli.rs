// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

/// The statuses with which `vm` speaks for itself; every other one is CMD's.
pub mod status {
    /// The guest died: a panic, or QEMU ended without the agent's goodbye.
    pub const DIED: i32 = 122;
    /// A bad sign in the kernel's log, leaked memory, a process that can't be killed, or a module
    /// that could not be removed.
    pub const BAD_SIGN: i32 = 123;
    /// The time limit.
    pub const TIMEOUT: i32 = 124;
    /// `vm` could not do its work: wrong options, missing files, QEMU not starting.
    pub const SETUP: i32 = 125;
}

/// Runs CMD in a virtual machine and exits with its status.
#[derive(Clone, Debug, Parser)]
#[command(name = "qemu/vm", override_usage = USAGE, after_help = AFTER_HELP)]
pub struct Cli {
    /// Kernel to boot; $IPCDEMO_KERNEL, or small, unless given
    #[arg(long, value_enum, default_value = "small", hide_default_value = true)]
    pub kernel: Kernel,

    /// Boot this image instead; it needs what qemu/kernels/small.config asks for
    #[arg(long, value_name = "FILE")]
    pub bzimage: Option<PathBuf>,

    /// Processors
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,

    /// Memory in MiB [default: 512, with --kernel debug 1024]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    pub mem: Option<u32>,

    /// Count instructions as time: one nanosecond each, one processor, a fresh boot
    #[arg(long, conflicts_with = "gdb")]
    pub icount: bool,

    /// Have QEMU load a plugin of its translator's (may be repeated); with the plugin's own arguments, NAME=VALUE
    #[arg(long, value_name = "SO[,ARG]...", requires = "icount")]
    pub plugin: Vec<String>,

    /// Wait for a debugger on this TCP port before the first instruction; no time limit unless
    /// given
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "1234")]
    pub gdb: Option<u16>,

    /// Add to the kernel's command line (may be repeated)
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub append: Vec<String>,

    /// Give up after this long [default: 600, with KVM 120]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Show a folder to the guest at its own path or at GUEST_PATH, read-only without :rw. By 9p,
    /// which takes a fresh boot; stock has 9p only as a module, so there the folder is copied in,
    /// and with :rw copied back when CMD has ended, except for what CMD deleted (may be repeated)
    #[arg(long, value_name = "DIR[:GUEST_PATH][:rw]", value_parser = Share::parse)]
    pub share: Vec<Share>,

    /// Run CMD inside the toolchain's root, shared by 9p; what CMD writes is gone afterwards. Not
    /// on stock
    #[arg(long)]
    pub root: bool,

    /// Copy a file to the same path in the guest, or to GUEST_PATH (may be repeated)
    #[arg(long, value_name = "PATH[:GUEST_PATH]", value_parser = CopyIn::parse)]
    pub file: Vec<CopyIn>,

    /// Insert this module before CMD and remove it afterwards; a failure of either fails the run. With -
    /// its path is read from standard input once the guest is up, so that a build can go on
    /// meanwhile, within the time limit (may be repeated)
    #[arg(long, value_name = "KO")]
    pub module: Vec<PathBuf>,

    /// Parameters for the last module
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        hide_default_value = true
    )]
    pub module_args: String,

    /// With --module-args, the last module patches the kernel's code when it is inserted and when it
    /// is removed. Without KVM, do both while the other processors are offline: QEMU's translator may
    /// leave one with a stale breakpoint. The module's KUnit tests run on all processors, before that
    /// and without the parameters
    #[arg(long)]
    pub patching: bool,

    /// Set a variable for CMD (may be repeated)
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,

    /// Whether CMD gets this standard input; auto passes on anything but a terminal
    #[arg(long, value_enum, default_value = "auto")]
    pub stdin: Stdin,

    /// A terminal in the guest for CMD, or for a shell without one; ^C goes to what runs there. Where
    /// standard input is no terminal, it is that of CMD or the shell, which ends with it
    #[arg(long, short, conflicts_with = "tests")]
    pub interactive: bool,

    /// Look for leaked memory afterwards; auto does on the debug kernel, and takes nine seconds, and
    /// as many before CMD unless a saved guest resumes
    #[arg(long, value_enum, default_value = "auto")]
    pub kmemleak: Kmemleak,

    /// Boot, instead of resuming a saved guest
    #[arg(long)]
    pub fresh: bool,

    /// Where the kernel's log goes [default: out/vm/last.log]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Write how many KUnit tests passed, failed and were skipped, as JSON
    #[arg(long, value_name = "FILE")]
    pub ktap_summary: Option<PathBuf>,

    /// Run these test programs (cargo's) one after the other in one guest, each with its own
    /// verdict
    #[arg(long, value_name = "BIN", num_args = 1.., conflicts_with_all = ["cargo_test"])]
    pub tests: Vec<PathBuf>,

    /// With --tests: write how many of their tests passed, failed and were ignored, as JSON
    #[arg(long, value_name = "FILE", requires = "tests")]
    pub tests_summary: Option<PathBuf>,

    /// As cargo's runner: CMD is a program of the host, to be copied in, with the module of the
    /// kernel in use inserted
    #[arg(long)]
    pub cargo_test: bool,

    /// Say what takes how long
    #[arg(long, short, action = ArgAction::SetTrue)]
    pub verbose: bool,

    /// The source tree; the wrapper gives it.
    #[arg(long, hide = true, default_value = ".")]
    pub tree: PathBuf,

    /// The image of --kernel; the wrapper gives it.
    #[arg(long, hide = true, value_name = "FILE")]
    pub image: Option<PathBuf>,

    /// The command, and with --tests the arguments of every test program
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

const USAGE: &str = "\
qemu/vm [OPTIONS] -- CMD [ARG]...
       qemu/vm [OPTIONS] --tests BIN... [-- ARG...]
       qemu/vm [OPTIONS] --interactive [-- CMD [ARG]...]";

const AFTER_HELP: &str = "\
Exit status:
  CMD's own, 126 if it can't be executed, 127 if it isn't there, 128+N if signal N killed it; but
  122  the guest died: a kernel panic, or QEMU ended
  123  a bad sign: WARNING, BUG, Oops, a lockdep splat, a stall, a KASAN report, a failed KUnit test, ...
       in the kernel's log, messages lost on the way to it, leaked memory, a process that can't be killed,
       or a module that could not be inserted or removed
  124  the time limit
  125  vm itself could not do its work
whatever CMD said. One line to standard error tells what happened.

Examples:
  qemu/vm -- uname -a
  qemu/vm --kernel debug --module out/debug/ipcdemo.ko -- ls -l /dev/ipcdemo
  qemu/vm --share \"$PWD\":/src:rw --root -- gcc -o /src/a.out /src/a.c
  qemu/vm --interactive
";

/// The kernels there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kernel {
    /// Debian's own.
    Stock,
    /// Configured for quick tests.
    Small,
    /// With checkers.
    Debug,
}

/// When CMD gets the standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stdin {
    /// If it is no terminal.
    Auto,
    /// Always.
    Yes,
    /// Never.
    No,
}

/// When leaked memory is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kmemleak {
    /// On the debug kernel.
    Auto,
    /// If the kernel can.
    On,
    /// Never.
    Off,
}

/// A folder for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Here.
    pub host: PathBuf,
    /// There.
    pub guest: String,
    /// Whether the guest may write.
    pub writable: bool,
}

impl Share {
    fn parse(text: &str) -> Result<Share, String> {
        let (text, writable) = match text.strip_suffix(":rw") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (host, guest) = host_and_guest(text)?;
        Ok(Share {
            host,
            guest,
            writable,
        })
    }
}

/// A file for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyIn {
    /// Here.
    pub host: PathBuf,
    /// There.
    pub guest: String,
}

impl CopyIn {
    fn parse(text: &str) -> Result<CopyIn, String> {
        let (host, guest) = host_and_guest(text)?;
        Ok(CopyIn { host, guest })
    }
}

fn host_and_guest(text: &str) -> Result<(PathBuf, String), String> {
    let (host, guest) = match text.split_once(':') {
        Some((host, guest)) => (host, Some(guest)),
        None => (text, None),
    };
    if host.is_empty() {
        return Err("the path is missing".into());
    }
    let absolute = std::path::absolute(host).map_err(|error| error.to_string())?;
    let guest = match guest {
        Some(guest) if guest.starts_with('/') => guest.to_owned(),
        Some(guest) => return Err(format!("the guest's path has to start with /: {guest}")),
        None => absolute.to_str().ok_or("the path is not UTF-8")?.to_owned(),
    };
    Ok((absolute, guest))
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it takes NAME=VALUE".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Cli {
    /// What clap can't say by itself.
    pub fn check(&self) -> Result<(), String> {
        let shell = self.interactive && !self.cargo_test;
        if self.command.is_empty() && self.tests.is_empty() && !shell {
            return Err("no command: what should run stands behind --".into());
        }
        if self.root && self.kernel == Kernel::Stock && self.bzimage.is_none() {
            return Err(
                "--root takes 9p and overlay, which stock has only as modules: use small or debug"
                    .into(),
            );
        }
        if !self.module_args.is_empty() && self.module.is_empty() && !self.cargo_test {
            return Err("--module-args belongs to a --module: none is given".into());
        }
        if self.patching && self.module_args.is_empty() {
            return Err("--patching belongs to --module-args: none are given".into());
        }
        if self.icount && self.cpus > 1 && std::env::args().any(|arg| arg.starts_with("--cpus")) {
            return Err("--icount takes one processor".into());
        }
        Ok(())
    }

    /// The guest's memory in MiB.
    pub fn memory(&self) -> u32 {
        self.mem.unwrap_or(if self.kernel == Kernel::Debug {
            1024
        } else {
            512
        })
    }

    /// Whether to look for leaked memory.
    pub fn wants_kmemleak(&self) -> bool {
        match self.kmemleak {
            Kmemleak::Auto => self.kernel == Kernel::Debug,
            Kmemleak::On => true,
            Kmemleak::Off => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, String> {
        let cli =
            Cli::try_parse_from([&["vm"], args].concat()).map_err(|error| error.to_string())?;
        cli.check().map(|()| cli)
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_keeps_its_own_options() {
        let cli = parse(&["--cpus", "1", "--", "ls", "--cpus", "-l", "--"]).unwrap();
        assert_eq!(
            (cli.cpus, cli.command),
            (1, ["ls", "--cpus", "-l", "--"].map(String::from).to_vec())
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        assert!(parse(&[]).unwrap_err().contains("no command"));
        assert!(
            parse(&["--kernel", "big", "--", "true"])
                .unwrap_err()
                .contains("stock, small, debug")
        );
        assert!(parse(&["--root", "--kernel", "stock", "--", "true"]).is_err());
        assert!(parse(&["--env", "x", "--", "true"]).is_err());
        assert!(parse(&["--timeout", "-1", "--", "true"]).is_err());
        assert!(parse(&["--cpus", "0", "--", "true"]).is_err());
        let args = |more: &[&str]| {
            parse(
                &[
                    &["--patching", "--module-args", "a=1"],
                    more,
                    &["--", "true"],
                ]
                .concat(),
            )
        };
        assert!(args(&[]).unwrap_err().contains("none is given"));
        assert!(args(&["--module", "a.ko"]).is_ok());
        assert!(args(&["--cargo-test"]).is_ok());
        assert!(parse(&["--patching", "--module", "a.ko", "--", "true"]).is_err());
        assert!(parse(&["--interactive"]).is_ok());
        assert!(parse(&["--interactive", "--cargo-test"]).is_err());
    }

    #[test]
    fn shares_and_files_name_both_sides() {
        let share = |host: &str, guest: &str, writable| Share {
            host: host.into(),
            guest: guest.into(),
            writable,
        };
        assert_eq!(Share::parse("/a"), Ok(share("/a", "/a", false)));
        assert_eq!(Share::parse("/a:rw"), Ok(share("/a", "/a", true)));
        assert_eq!(Share::parse("/a:/b:rw"), Ok(share("/a", "/b", true)));
        assert!(Share::parse("/a:b").is_err());
        assert!(Share::parse(":/b").is_err());
        let here = std::env::current_dir().unwrap().join("x");
        assert_eq!(CopyIn::parse("x").unwrap().host, here);
        assert_eq!(CopyIn::parse("x").unwrap().guest, here.to_str().unwrap());
    }

    #[test]
    fn gdb_may_name_its_port() {
        assert_eq!(parse(&["--gdb", "--", "true"]).unwrap().gdb, Some(1234));
        assert_eq!(parse(&["--gdb", "99", "--", "true"]).unwrap().gdb, Some(99));
    }
}
