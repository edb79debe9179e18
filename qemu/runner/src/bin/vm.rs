// SPDX-License-Identifier: GPL-2.0

//! Runs a command in a virtual machine and exits with its status. `qemu/vm` starts it.

use std::process::exit;

use clap::Parser;
use clap::error::ErrorKind;
use ipcdemo_vm::cli::{Cli, status};
use ipcdemo_vm::run;

fn main() {
    let parsed = Cli::try_parse().map_err(|error| {
        let asked_for = matches!(
            error.kind(),
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
        );
        // Nothing can be done about a standard error that is closed.
        let _ = error.print();
        if asked_for { 0 } else { status::SETUP }
    });
    let checked = parsed.and_then(|cli| match cli.check() {
        Ok(()) => Ok(cli),
        Err(why) => {
            eprintln!("error: {why}\n\nFor more information, try '--help'.");
            Err(status::SETUP)
        }
    });
    exit(checked.map_or_else(|status| status, |cli| run::main(&cli)))
}
