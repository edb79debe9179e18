// SPDX-License-Identifier: GPL-2.0

use std::arch::x86_64::__cpuid;
use std::fs;
use std::path::PathBuf;

/// Only one processor is online as long as this exists: for what makes the kernel patch its own
/// code. Under emulation a second processor may miss that (qemu/README.md); with KVM both stay.
#[derive(Debug)]
pub struct OneProcessor(Vec<PathBuf>);

impl OneProcessor {
    /// Takes the others offline. A thread that was bound to one of them is bound no more.
    ///
    /// # Panics
    ///
    /// If the kernel does not let them go.
    #[must_use]
    pub fn new() -> Self {
        let mut one = Self(Vec::new());
        if virtualized() {
            return one;
        }
        for entry in fs::read_dir("/sys/devices/system/cpu").unwrap() {
            let file = entry.unwrap().path().join("online");
            // The first processor's may be there as well.
            if !file.ends_with("cpu0/online")
                && fs::read_to_string(&file).is_ok_and(|state| state == "1\n")
            {
                fs::write(&file, "0").unwrap();
                one.0.push(file);
            }
        }
        one
    }
}

impl Default for OneProcessor {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        for file in &self.0 {
            fs::write(file, "1").unwrap();
        }
    }
}

/// Runs `body`, which makes the kernel patch its own code, while it can do so.
///
/// # Panics
///
/// If `body` does, or the processors cannot be had.
pub fn patching<T>(body: impl FnOnce() -> T) -> T {
    let _one = OneProcessor::new();
    body()
}

/// Whether the processors are real ones behind KVM, as their leaf for hypervisors says.
fn virtualized() -> bool {
    const HYPERVISOR: u32 = 0x4000_0000;
    // SAFETY: Every x86-64 processor has the instruction.
    let leaf = unsafe { __cpuid(HYPERVISOR) };
    let name: Vec<_> = [leaf.ebx, leaf.ecx, leaf.edx]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    name == b"KVMKVMKVM\0\0\0"
}
