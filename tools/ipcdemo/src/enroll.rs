// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo enroll`: a program whose own system calls the module answers.

use std::fs;
use std::os::unix::process::CommandExt;
use std::thread;
use std::time::{Duration, Instant};

use ipcdemo_client::{Factory, enroll};

use crate::cli;
use crate::exec;
use crate::failure::Failure;

pub fn run(options: &cli::Enroll) -> Result<(), Failure> {
    let factory = Factory::open()?;
    wait_until_alone();
    let enrolled = enroll(&factory, options.kinds())
        .map_err(|error| Failure::new(format!("cannot enroll: {error}")))?;
    if let Some(refusal) = &enrolled.refused {
        eprintln!("ipcdemo: only {} is enrolled: {refusal}", enrolled.kinds);
    }
    let error = exec::command(&options.command).exec();
    Err(exec::cannot_run(&options.command, &error))
}

/// Waits for the thread that read the command line: a thread can be joined a moment before the
/// kernel counts it no more.
fn wait_until_alone() {
    const LIMIT: Duration = Duration::from_secs(5);
    let start = Instant::now();
    let threads = || fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    while threads() > 1 && start.elapsed() < LIMIT {
        thread::yield_now();
    }
}
