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
mod routes;
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

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part))
    }

    /// Fails if a filter lets nothing through.
    fn check(&self) -> io::Result<()> {
        let mut names = names(self.setting);
        if self.module.is_none() {
            names.retain(|name| !module::names(self.setting).contains(&&**name));
        }
        let unknown = |part: &&String| !names.iter().any(|name| name.contains(*part));
        match self.filters.iter().find(unknown) {
            None => Ok(()),
            Some(part) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("no operation has '{part}' in its name; --list tells the names"),
            )),
        }
    }
}

/// The names of all that is measured in a setting.
#[must_use]
pub fn names(setting: Setting) -> Vec<String> {
    let module = module::names(setting).iter().map(|&name| name.to_owned());
    let memory = memory::cases(setting)
        .iter()
        .map(|(name, ..)| (*name).to_owned());
    let cases = cases(setting).into_iter().map(|case| case.name);
    module.chain(memory).chain(cases).collect()
}

/// Measures, and calls `progress` before each operation, with how many are done, how many there are,
/// and its name.
pub fn run(options: &Options, mut progress: impl FnMut(usize, usize, &str)) -> io::Result<Run> {
    options.check()?;
    tasks::pin(0)?;
    tasks::unthrottle()?;
    many_descriptors()?;
    let mut results = Vec::new();
    // Nobody has it in use yet.
    let module = options.module.as_ref();
    let names = module::names(options.setting);
    if let Some(file) = module.filter(|_| names.iter().any(|name| options.wants(name))) {
        results = module::measure(options.setting, file)?;
        results.retain(|record| options.wants(&record.name));
    }
    let kit = Kit::new(options.setting, options.twins)?;
    let mut cases = cases(options.setting);
    cases.retain(|case| options.wants(&case.name));
    let memory = memory::cases(options.setting).iter();
    for (name, count, make) in memory.filter(|(name, ..)| options.wants(name)) {
        results.push(memory::measure(&kit, name, *count, *make)?);
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
        nops: if options.setting.counts() {
            machine::tracer_nops()?
        } else {
            Vec::new()
        },
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
        // The last: routes stay armed for a second.
        routes::cases(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_to_let_something_through() {
        let check = |setting, filters: &[&str], module: bool| {
            let options = Options {
                setting,
                filters: filters.iter().map(|&part| part.to_owned()).collect(),
                twins: false,
                module: module.then(PathBuf::new),
                told: Vec::new(),
                symbols: false,
            };
            options.check().map_err(|error| error.to_string())
        };
        let (counted, timed) = (Setting::Instructions, Setting::Wall);
        assert_eq!(check(timed, &[], false), Ok(()));
        assert_eq!(check(timed, &["counter/", "pipe/"], false), Ok(()));
        let complaint = check(timed, &["counter/", "nonsense"], false).unwrap_err();
        assert!(complaint.contains("'nonsense'"), "{complaint}");
        // Memory is counted once, and loading takes a file.
        assert_eq!(check(counted, &["memory/"], false), Ok(()));
        assert!(check(timed, &["memory/"], false).is_err());
        assert_eq!(check(timed, &["module/load"], true), Ok(()));
        assert!(check(timed, &["module/load"], false).is_err());
        assert!(check(timed, &["module/file"], true).is_err());
    }
}
