// SPDX-License-Identifier: GPL-2.0

//! Whether each call of a kernel function that the module redirects really enters that function.
//!
//! A compiler may inline a function into a caller of the same file, or give that caller a copy of its own.
//! Such a caller never reaches the entry that a route replaces. docs/call-sites.md lists the callers; this
//! program compares the list with the source and with the kernels' images.

mod image;
mod source;
mod table;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use image::Image;
use table::Row;
use verdict::Kernel;

/// Compare the call sites of the routed kernel functions in the kernels' images with the source
#[derive(Parser)]
#[command(name = "ipcdemo-call-sites")]
struct Cli {
    /// The page with the list
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
    /// The kernel's source
    #[arg(long, value_name = "DIR")]
    source: PathBuf,
    /// A kernel: its name, image, symbols as nm(1) or /proc/kallsyms print them, configuration
    #[arg(long, num_args = 4, value_names = ["NAME", "VMLINUX", "SYMBOLS", "CONFIG"], required = true)]
    kernel: Vec<PathBuf>,
    /// Compare nothing: print what refers to this function (may be repeated)
    #[arg(long, value_name = "FUNCTION")]
    show: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ipcdemo-call-sites: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether all is as the table has it.
fn run(cli: &Cli) -> io::Result<bool> {
    let rows = table::parse(&read(&cli.table)?).map_err(io::Error::other)?;
    let names: Vec<&str> = if cli.show.is_empty() {
        rows.iter().map(|row| row.function.as_str()).collect()
    } else {
        cli.show.iter().map(String::as_str).collect()
    };
    let mut sources = BTreeMap::new();
    for Row { file, .. } in &rows {
        if !sources.contains_key(file) {
            sources.insert(file, source::parse(&read(&cli.source.join(file))?));
        }
    }
    let mut out = io::stdout().lock();
    let mut good = true;
    for one in cli.kernel.chunks(4) {
        let (name, image) = (one[0].display(), &one[1]);
        let code = fs::read(image).map_err(about(image))?;
        let image = Image::parse(&code, &read(&one[2])?, &names)
            .map_err(|why| about(image)(io::Error::other(why)))?;
        let kernel = Kernel::new(image, &read(&one[3])?);
        if !cli.show.is_empty() {
            write!(out, "{name}\n{}", kernel.show(&names))?;
            continue;
        }
        let faults = kernel.judge(&rows, &sources);
        for fault in &faults {
            writeln!(out, "{name}: {fault}")?;
        }
        writeln!(
            out,
            "{name}: {} functions, {}",
            rows.len(),
            kernel.sum(&rows)
        )?;
        good &= faults.is_empty();
    }
    Ok(good)
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(about(path))
}

fn about(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
