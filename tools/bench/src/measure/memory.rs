// SPDX-License-Identifier: GPL-2.0

//! Bytes of kernel memory that objects hold.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use rustix::io::fcntl_dupfd_cloexec;

use crate::measure::kit::{Kit, Maker, read, write};
use crate::record::{Record, Setting, Side};

const PAGE: i64 = 4096;

type Make = fn(&Maker) -> io::Result<Vec<OwnedFd>>;

/// What is held, how many there are at once, and how one comes to be: so many that a page that somebody else
/// has does not count.
const CASES: &[(&str, usize, Make)] = &[
    ("memory/counter", 10_000, |maker| {
        Ok(vec![maker.counter(0, false)?])
    }),
    ("memory/pipe, new", 1_000, |maker| Ok(ends(maker.pipe()?))),
    ("memory/pipe, holding 8 B", 1_000, |maker| {
        let (reader, writer) = maker.pipe()?;
        write(&writer, &[1; 8])?;
        Ok(ends((reader, writer)))
    }),
    ("memory/pipe, holding 64 KiB", 1_000, |maker| {
        let (reader, writer) = maker.pipe()?;
        write(&writer, &[1; 64 << 10])?;
        Ok(ends((reader, writer)))
    }),
    ("memory/pipe, drained", 1_000, |maker| {
        let (reader, writer) = maker.pipe()?;
        write(&writer, &[1; 32 << 10])?;
        read(&reader, &mut [0; 32 << 10])?;
        Ok(ends((reader, writer)))
    }),
];

/// The cases of a setting.
pub fn cases(setting: Setting) -> &'static [(&'static str, usize, Make)] {
    match setting {
        Setting::Instructions => CASES,
        // Bytes repeat, so once is enough.
        Setting::Wall | Setting::Memcg => &[],
    }
}

fn ends((reader, writer): (OwnedFd, OwnedFd)) -> Vec<OwnedFd> {
    vec![reader, writer]
}

/// Measures one of them, on both sides.
pub fn measure(kit: &Kit, name: &str, count: usize, make: Make) -> io::Result<Record> {
    let held = |side| held(&kit.maker(side), count, make);
    let [native, module] = [Side::Native, Side::Module].map(held);
    let (native, module) = (native?, module?);
    Ok(Record {
        native: Some(native),
        module: Some(module),
        ratio: Some(module / native),
        n: count as u64,
        ..Record::empty(name, Setting::Instructions, "bytes")
    })
}

fn held(maker: &Maker, count: usize, make: Make) -> io::Result<f64> {
    // The table of descriptors has its size then, and stays.
    let first = many(maker, count, make)?;
    let descriptors = 2 * count * first[0].len() + SPARE;
    drop(fcntl_dupfd_cloexec(&first[0][0], descriptors as i32)?);
    let before = settled()?;
    let objects = many(maker, count, make)?;
    let after = settled()?;
    drop((first, objects));
    Ok((after - before) as f64 / count as f64)
}

/// Descriptors that a process has besides.
const SPARE: usize = 1_000;

/// What is used once the kernel has freed what it put off: the same for half a second.
fn settled() -> io::Result<i64> {
    const SAME: u32 = 5;
    let (mut last, mut same) = (used()?, 0);
    while same < SAME {
        thread::sleep(Duration::from_millis(100));
        let now = used()?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}

fn many(maker: &Maker, count: usize, make: Make) -> io::Result<Vec<Vec<OwnedFd>>> {
    (0..count).map(|_| make(maker)).collect()
}

/// Bytes of objects, and of pages that are not for objects.
fn used() -> io::Result<i64> {
    // So that no processor keeps a part of the counts to itself.
    let _ = fs::read("/proc/sys/vm/stat_refresh");
    let slabs = fs::read_to_string("/proc/slabinfo")?;
    // The name, how many objects are in use, how many there are, the size of each.
    let objects = slabs.lines().skip(2).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let used: i64 = words.next()?.parse().ok()?;
        let size: i64 = words.nth(1)?.parse().ok()?;
        Some(used * size)
    });
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kilobytes = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok())
            .ok_or_else(|| io::Error::other(format!("/proc/meminfo does not tell {name}")))
    };
    let pages = kilobytes("MemTotal:")? - kilobytes("MemFree:")? - kilobytes("Slab:")?;
    // What each processor has in store counts as in use.
    let zones = fs::read_to_string("/proc/zoneinfo")?;
    let stored: i64 = zones
        .lines()
        .filter_map(|line| {
            line.trim_start()
                .strip_prefix("count:")?
                .trim()
                .parse::<i64>()
                .ok()
        })
        .sum();
    Ok(objects.sum::<i64>() + (pages << 10) - stored * PAGE)
}
