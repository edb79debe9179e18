// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo bench`.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipcdemo_bench::record::{self, Run};
use ipcdemo_bench::{bars, measure, table};

use crate::failure::Failure;

#[derive(Args, Debug)]
pub struct Bench {
    /// What to count: instructions only where the emulator gives each the time of a nanosecond
    #[arg(long, value_enum, default_value = "wall")]
    setting: Setting,
    /// Only operations with this in their name (may be repeated)
    #[arg(long, value_name = "PART")]
    filter: Vec<String>,
    /// For programs: a file to write, or - for the standard output, which then has nothing else
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put that beside the figures (may be repeated)
    #[arg(long, value_name = "NAME=VALUE", value_parser = told)]
    tell: Vec<(String, String)>,
    /// Measure the kernel's own on both sides: what then is not 1 is the measurement's fault
    #[arg(long)]
    twins: bool,
    /// Measure, too, what loading the module from this file takes: it is unloaded for that
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Put the kernel's symbols beside the figures, for what tells by function
    #[arg(long, requires = "json")]
    symbols: bool,
    /// Only the operations' names, one on a line
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Setting {
    /// Under an emulator that counts them, on one processor
    Instructions,
    /// By the clock
    Wall,
    /// As instructions: what is charged to memory cgroups, for a caller that is in one
    Memcg,
}

pub fn run(out: &mut impl Write, options: Bench) -> Result<(), Failure> {
    let setting = match options.setting {
        Setting::Instructions => record::Setting::Instructions,
        Setting::Wall => record::Setting::Wall,
        Setting::Memcg => record::Setting::Memcg,
    };
    if options.list {
        for name in measure::names(setting) {
            writeln!(out, "{name}")?;
        }
        return Ok(());
    }
    let what = measure::Options {
        setting,
        filters: options.filter,
        twins: options.twins,
        module: options.module,
        told: options.tell,
        symbols: options.symbols,
    };
    let run = measure::run(&what, |done, all, name| {
        eprintln!("  [{:>2}/{all}] {name}", done + 1);
    })
    .map_err(Failure::because("cannot measure"))?;
    match options.json {
        Some(file) if file.as_os_str() == "-" => json(out, &run)?,
        Some(file) => fs::File::create(&file)
            .and_then(|mut file| json(&mut file, &run))
            .map_err(Failure::because(format_args!(
                "cannot write {}",
                file.display()
            )))?,
        None => {
            write!(out, "{}", table::render(&run.results, setting))?;
            write!(out, "\n{}", bars::render(&run.results))?;
        }
    }
    Ok(())
}

fn json(out: &mut impl Write, run: &Run) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, run)?;
    writeln!(out)
}

fn told(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "it takes NAME=VALUE".into())
}
