// SPDX-License-Identifier: GPL-2.0

//! The host's half of the benchmark: makes of what `ipcdemo bench` measured in VMs what people read.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ipcdemo_bench::record::{Results, Run};
use ipcdemo_bench::{bars, compare, counts, page, plot, profile, table, trust};
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
    /// Print a run with what the emulator's plugin counted beside it
    Counts {
        #[arg(value_name = "RUN")]
        run: PathBuf,
        /// What the plugin wrote
        #[arg(value_name = "COUNTS")]
        counts: PathBuf,
        /// The other plugin's output, of NOPs
        #[arg(value_name = "NOPS")]
        nops: PathBuf,
    },
    /// Tell in which functions the instructions of a run are
    Profile {
        /// Measured with `--symbols`
        #[arg(value_name = "RUN")]
        run: PathBuf,
        /// What the plugin wrote
        #[arg(value_name = "PROFILE")]
        profile: PathBuf,
    },
    /// Print docs/performance.md, made from a results.json
    Page {
        #[arg(value_name = "RESULTS")]
        results: PathBuf,
    },
    /// Judge runs of `ipcdemo bench --twins`: each ratio has to be 1
    Twins {
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<PathBuf>,
    },
    /// Judge two runs, the second with a floor made slower on purpose
    Delay {
        /// By so many instructions
        #[arg(long, value_name = "N")]
        by: f64,
        #[arg(value_name = "RUN")]
        before: PathBuf,
        #[arg(value_name = "RUN")]
        after: PathBuf,
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
        Command::Counts { run, counts, nops } => {
            let mut with: Run = load(&run)?;
            let lines = fs::read_to_string(&counts).map_err(about(&counts))?;
            let nops = fs::read_to_string(&nops).map_err(about(&nops))?;
            counts::merge(&mut with, &lines, &nops).map_err(about(&counts))?;
            let text = serde_json::to_string_pretty(&with)? + "\n";
            io::stdout().write_all(text.as_bytes())
        }
        Command::Profile { run, profile } => {
            let written = fs::read_to_string(&profile).map_err(about(&profile))?;
            let text = profile::render(&load(&run)?, &written).map_err(about(&profile))?;
            io::stdout().write_all(text.as_bytes())
        }
        Command::Page { results } => {
            let page = page::render(&load(&results)?);
            io::stdout().write_all(page.as_bytes())
        }
        Command::Twins { runs } => judged(trust::twins(&together(&runs)?)),
        Command::Delay { by, before, after } => judged(trust::delay(
            &together(&[before])?,
            &together(&[after])?,
            by,
        )),
    }
}

fn report(out: &Path, base: Option<&Path>, runs: &[PathBuf]) -> io::Result<()> {
    // Before the new results are written: they may well replace it.
    let base: Option<Results> = base.map(load).transpose()?;
    let results = together(runs)?;
    let file = out.join("results.json");
    fs::write(&file, serde_json::to_string_pretty(&results)? + "\n").map_err(about(&file))?;
    let drawn = plots(out, &results)?;

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
    if !drawn.is_empty() {
        text += "\nPlots:\n";
    }
    for plot in drawn {
        text += &format!("  {plot}\n");
    }
    io::stdout().write_all(text.as_bytes())
}

fn together(runs: &[PathBuf]) -> io::Result<Results> {
    runs.iter().map(|run| load::<Run>(run)).collect()
}

fn judged((text, ok): (String, bool)) -> io::Result<()> {
    io::stdout().write_all(text.as_bytes())?;
    if ok {
        Ok(())
    } else {
        Err(io::Error::other("the benchmark cannot be trusted"))
    }
}

/// One for each family and setting: `counter-instructions.svg`; and one for how long calls took. Gives their names.
fn plots(out: &Path, results: &Results) -> io::Result<Vec<String>> {
    let mut drawn = Vec::new();
    let mut families: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in &results.results {
        let key = (record.family(), record.setting);
        families.entry(key).or_default().push(record);
    }
    for ((family, setting), records) in families {
        let name = format!("{family}-{}.svg", setting.name());
        let path = out.join(&name);
        let any = plot::draw(&path, family, setting, &records)
            .map_err(|error| about(&path)(io::Error::other(error.to_string())))?;
        if any {
            drawn.push(name);
        }
    }
    // The same calls gave both quantiles.
    for record in results.results.iter().filter(|it| !it.latencies.is_empty()) {
        let Some(crowd) = record.name.strip_suffix(", p99 of a write") else {
            continue;
        };
        let words = crowd.split(|letter: char| !letter.is_ascii_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        let name = format!("latency-{}.svg", words.join("-"));
        let path = out.join(&name);
        plot::draw_latencies(&path, crowd, record)
            .map_err(|error| about(&path)(io::Error::other(error.to_string())))?;
        drawn.push(name);
    }
    Ok(drawn)
}

fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = fs::read_to_string(path).map_err(about(path))?;
    serde_json::from_str(&text).map_err(|error| about(path)(error.into()))
}

fn about(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
