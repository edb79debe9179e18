// SPDX-License-Identifier: GPL-2.0

//! The host's half of the benchmark: makes of what `ipcdemo bench` measured in VMs what people read.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ipcdemo_bench::record::{Results, Run};
use ipcdemo_bench::{bars, compare, table};
use serde::de::DeserializeOwned;

/// Makes of what `ipcdemo bench` measured what people read
#[derive(Parser)]
#[command(name = "ipcdemo-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put runs together: results.json, and on the standard output the tables
    Report {
        /// Where it goes
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// An earlier results.json: say what moved
        #[arg(long, value_name = "FILE")]
        base: Option<PathBuf>,
        /// What `ipcdemo bench --json` wrote
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipcdemo-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> io::Result<()> {
    match command {
        Command::Report { out, base, runs } => report(&out, base.as_deref(), &runs),
    }
}

fn report(out: &Path, base: Option<&Path>, runs: &[PathBuf]) -> io::Result<()> {
    // Before the new results are written: they may well replace it.
    let base: Option<Results> = base.map(load).transpose()?;
    let results: Results = runs
        .iter()
        .map(|run| load::<Run>(run))
        .collect::<io::Result<_>>()?;
    let file = out.join("results.json");
    fs::write(&file, serde_json::to_string_pretty(&results)? + "\n").map_err(about(&file))?;

    let mut text = String::new();
    for setting in results.machines.keys() {
        text += &table::render(&results.results, *setting);
        text.push('\n');
    }
    text += &bars::render(&results.results);
    if let Some(base) = base {
        text += "\nWhat moved:\n";
        text += &compare::render(&base, &results);
    }
    io::stdout().write_all(text.as_bytes())
}

fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = fs::read_to_string(path).map_err(about(path))?;
    serde_json::from_str(&text).map_err(|error| about(path)(error.into()))
}

fn about(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
