// SPDX-License-Identifier: GPL-2.0

//! What is measured on.

use std::arch::x86_64::__cpuid;
use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use crate::record::Machine;

/// Looks, and puts beside it what the caller knows.
pub fn look(told: impl IntoIterator<Item = (String, String)>) -> Machine {
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_once(": "))
            .map(|(_, value)| value.to_owned())
            .unwrap_or_default()
    };
    let flags = field("flags");
    Machine {
        kernel: read("/proc/version"),
        options: read("/proc/cmdline"),
        cpu: field("model name"),
        cpus: cpuinfo
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count(),
        hypervisor: flags
            .split(' ')
            .any(|flag| flag == "hypervisor")
            .then(hypervisor),
        told: told.into_iter().collect(),
    }
}

/// What the hypervisor calls itself: `KVMKVMKVM`, `TCGTCGTCGTCG`.
fn hypervisor() -> String {
    // SAFETY: Where the processor has the flag, it has this leaf.
    let leaf = unsafe { __cpuid(0x4000_0000) };
    let name = [leaf.ebx, leaf.ecx, leaf.edx]
        .map(u32::to_le_bytes)
        .concat();
    String::from_utf8_lossy(&name)
        .trim_end_matches('\0')
        .to_owned()
}

/// The addresses of the NOPs with which functions begin for the tracer's sake; none in a kernel without it.
pub fn tracer_nops() -> io::Result<Vec<u64>> {
    const TRACER: &str = "/sys/kernel/tracing";
    let list = Path::new(TRACER).join("available_filter_functions_addrs");
    if Path::new(TRACER).exists() && !list.exists() {
        mount("tracefs", TRACER, "tracefs", MountFlags::empty(), None)?;
    }
    if !list.exists() {
        return Ok(Vec::new());
    }
    // ffffffff81000000 function
    let address = |line: &str| u64::from_str_radix(line.split(' ').next()?, 16).ok();
    fs::read_to_string(list)?
        .lines()
        .map(|line| address(line).ok_or_else(|| io::Error::other(format!("no address: {line}"))))
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}
