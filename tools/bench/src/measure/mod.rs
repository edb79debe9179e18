// SPDX-License-Identifier: GPL-2.0

//! Measuring, where the module is.

mod case;
mod clock;
mod counter;
mod histogram;
mod kit;
mod machine;
mod marker;
mod memory;
mod module;
mod pipe;
mod tasks;
mod traffic;
mod waitq;

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::record::{Run, Setting};
use case::Case;
use kit::Kit;

/// What to measure, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The setting.
    pub setting: Setting,
    /// Only operations whose name has one of these in it; all if there are none.
    pub filters: Vec<String>,
    /// Measures the kernel's own on both sides.
    pub twins: bool,
    /// Where the module is from, to see how long loading it takes.
    pub module: Option<PathBuf>,
    /// What is to stand beside the figures.
    pub told: Vec<(String, String)>,
    /// Whether the kernel's symbols are.
    pub symbols: bool,
}

/// The names of all operations of a setting.
#[must_use]
pub fn names(setting: Setting) -> Vec<String> {
    cases(setting).into_iter().map(|case| case.name).collect()
}

/// Measures, and calls `progress` before each operation, with how many are done, how many there are,
/// and its name.
pub fn run(options: &Options, mut progress: impl FnMut(usize, usize, &str)) -> io::Result<Run> {
    tasks::pin(0)?;
    tasks::unthrottle()?;
    many_descriptors()?;
    let wanted = |name: &str| {
        options.filters.is_empty() || options.filters.iter().any(|part| name.contains(part))
    };
    let mut results = Vec::new();
    // Nobody has it in use yet.
    let module = options.module.as_ref();
    if let Some(file) = module.filter(|_| module::NAMES.iter().any(|name| wanted(name))) {
        results = module::measure(options.setting, file)?;
        results.retain(|record| wanted(&record.name));
    }
    let kit = Kit::new(options.setting, options.twins)?;
    let mut cases = cases(options.setting);
    cases.retain(|case| wanted(&case.name));
    // Bytes repeat, so once is enough.
    if options.setting == Setting::Instructions {
        for (name, count, make) in memory::CASES.iter().filter(|(name, ..)| wanted(name)) {
            results.push(memory::measure(&kit, name, *count, *make)?);
        }
    }
    for (done, case) in cases.iter().enumerate() {
        progress(done, cases.len(), &case.name);
        let record = case
            .run(&kit)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", case.name)))?;
        results.push(record);
    }
    Ok(Run {
        setting: options.setting,
        machine: machine::look(options.told.clone()),
        results,
        rounds: kit.rounds.take(),
        symbols: if options.symbols {
            fs::read_to_string("/proc/kallsyms")?
        } else {
            String::new()
        },
    })
}

/// The names of what allocates memory that is charged to a memory cgroup begin so.
const CHARGED: &[&str] = &["counter/create", "pipe/create", "pipe/write+read"];

fn cases(setting: Setting) -> Vec<Case> {
    let families = [
        counter::cases(),
        pipe::cases(),
        traffic::cases(),
        waitq::cases(),
    ];
    let mut cases: Vec<_> = families.into_iter().flatten().collect();
    cases.retain(|case| case.is_for(setting));
    if setting == Setting::Memcg {
        cases.retain(|case| CHARGED.iter().any(|name| case.name.starts_with(name)));
    }
    cases
}

/// A process may have a thousand descriptors, unless it asks for more.
fn many_descriptors() -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: 40_000,
        rlim_max: 40_000,
    };
    // SAFETY: The limit is read.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
