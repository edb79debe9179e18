// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo mkfifo` and `ipcdemo rmfifo`.

use std::io::{self, Write};

use ipcdemo_client::{Factory, fifo_path, raw};

use crate::failure::Failure;

pub fn make(out: &mut impl Write, name: &str, mode: u32) -> Result<(), Failure> {
    let path = fifo_path(name).display().to_string();
    Factory::open()?.mkfifo(name, mode).map_err(|error| {
        because(error, &format!("cannot make {path}"), |code| match code {
            libc::EEXIST => Some("it is there already".into()),
            libc::ENOSPC => Some(format!(
                "there are {} FIFOs already; remove one with `ipcdemo rmfifo`",
                raw::IPCDEMO_FIFO_NODES_MAX
            )),
            _ => None,
        })
    })?;
    writeln!(out, "{path}")?;
    Ok(())
}

pub fn remove(name: &str) -> Result<(), Failure> {
    let path = fifo_path(name).display().to_string();
    Factory::open()?.rmfifo(name).map_err(|error| {
        because(error, &format!("cannot remove {path}"), |code| {
            (code == libc::ENOENT).then(|| "it is not there".into())
        })
    })
}

/// What was tried, and why it failed: in our own words where the system's would mislead.
fn because(error: io::Error, what: &str, words: impl Fn(i32) -> Option<String>) -> Failure {
    let words = error.raw_os_error().and_then(|code| match code {
        libc::EPERM => Some("that takes CAP_SYS_ADMIN".into()),
        _ => words(code),
    });
    match words {
        Some(words) => Failure::new(format!("{what}: {words}")),
        None => Failure::because(what)(error),
    }
}
