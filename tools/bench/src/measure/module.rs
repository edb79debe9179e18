// SPDX-License-Identifier: GPL-2.0

//! What the module itself costs: its size, and the time that loading it takes.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::rc::Rc;

use rustix::system::{delete_module, finit_module};

use crate::measure::clock::Clock;
use crate::record::{Record, Setting, Side};
use crate::stats::{median, spread};

const NAME: &std::ffi::CStr = c"ipcdemo";

/// How often it is loaded.
const ROUNDS: usize = 9;

const NAMES: [&str; 3] = ["module/load", "module/in memory", "module/file"];

/// The names of what is measured in a setting.
pub fn names(setting: Setting) -> &'static [&'static str] {
    match setting {
        Setting::Instructions => &NAMES,
        // Bytes repeat, so once is enough.
        Setting::Wall => &NAMES[..1],
        Setting::Memcg => &[],
    }
}

/// Measures it. Nobody may have it in use: it is unloaded, and loaded from the file, which has to be the same
/// module.
pub fn measure(setting: Setting, file: &Path) -> io::Result<Vec<Record>> {
    let mut records = vec![load(setting, file)?];
    if setting == Setting::Instructions {
        let of = |name, bytes| Record {
            module: Some(bytes as f64),
            n: 1,
            ..Record::empty(name, setting, "bytes")
        };
        records.push(of(NAMES[1], size_in_memory()?));
        records.push(of(NAMES[2], fs::metadata(file)?.len()));
    }
    Ok(records)
}

fn load(setting: Setting, file: &Path) -> io::Result<Record> {
    let clock = Clock::new(setting)?;
    let file = File::open(file).map(Rc::new)?;
    let its_file = Rc::clone(&file);
    let mut round = clock.timed(
        unload,
        move || Ok(finit_module(&*its_file, c"", 0)?),
        || Ok(()),
    );
    let figures: Vec<_> = (0..ROUNDS).map(|_| round(1)).collect::<io::Result<_>>()?;
    // Some operations take routes, which are off unless asked for.
    unload()?;
    finit_module(&*file, c"routes=1", 0)?;
    Ok(Record {
        module: Some(median(&figures)),
        n: ROUNDS as u64,
        spread: [(Side::Module, spread(&figures))].into(),
        ..Record::empty(NAMES[0], setting, setting.unit())
    })
}

fn unload() -> io::Result<()> {
    delete_module(NAME, libc::O_NONBLOCK).map_err(|error| {
        let why = "the module cannot be unloaded, to see how long loading it takes";
        io::Error::other(format!("{why}: {error}"))
    })
}

/// Text and data, without what is freed once it is loaded.
fn size_in_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/sys/module/ipcdemo/coresize")?;
    text.trim().parse().map_err(io::Error::other)
}
