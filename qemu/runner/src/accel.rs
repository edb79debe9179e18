// SPDX-License-Identifier: GPL-2.0

//! Whether the processor can run the guest. That `/dev/kvm` exists proves nothing: nested in
//! another virtual machine the guest may hang before its first line. So it is tried once, and the
//! answer is kept.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::log::Log;
use crate::qemu::{Accel, Machine, Memory, PROGRAM};
use crate::session::{Failure, Phase, Session};

/// A guest that runs on the processor is up in one second.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// What `IPCDEMO_ACCEL` says, or what a trial with this machine's kernel said.
pub fn choose(machine: &Machine, cache: &Path) -> Result<Accel, Failure> {
    match std::env::var("IPCDEMO_ACCEL").as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        Ok("") | Err(_) => {}
        Ok(other) => return Err(anyhow::anyhow!("IPCDEMO_ACCEL is kvm or tcg, not {other}").into()),
    }
    if machine.icount
        || OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_err()
    {
        return Ok(Accel::Tcg);
    }
    fs::create_dir_all(cache)?;
    let answer = cache.join(format!("kvm-{:016x}", host()?));
    let lock = fs::File::create(answer.with_extension("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let works = match fs::read_to_string(&answer).as_deref() {
        Ok("works\n") => true,
        Ok("fails\n") => false,
        _ => {
            eprintln!(
                "vm: trying whether KVM works here (once, {} s at most)",
                PROBE_LIMIT.as_secs()
            );
            let works = probe(machine, &answer.with_extension("log"))?;
            fs::write(&answer, if works { "works\n" } else { "fails\n" })?;
            works
        }
    };
    Ok(if works { Accel::Kvm } else { Accel::Tcg })
}

fn probe(machine: &Machine, log: &Path) -> Result<bool, Failure> {
    let machine = Machine {
        accel: Accel::Kvm,
        folders: Vec::new(),
        gdb: None,
        append: Vec::new(),
        ..machine.clone()
    };
    let mut session = Session::new(Log::create(log)?);
    session.attach(
        machine.start(Memory::Fresh)?,
        Phase::Booting,
        Some(PROBE_LIMIT),
    )?;
    match session.wait_ready() {
        Ok(()) => Ok(true),
        Err(Failure::Interrupted(signal)) => Err(Failure::Interrupted(signal)),
        Err(_) => Ok(false),
    }
}

/// A number for this host, this processor and this QEMU.
fn host() -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    fs::read_to_string("/proc/sys/kernel/osrelease")?.hash(&mut hasher);
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let Some(model) = cpu.lines().find(|line| line.starts_with("model name")) else {
        bail!("no processor's name")
    };
    model.hash(&mut hasher);
    cpu.lines()
        .find(|line| line.starts_with("flags"))
        .hash(&mut hasher);
    let qemu = fs::metadata(PROGRAM)?;
    (qemu.size(), qemu.mtime()).hash(&mut hasher);
    Ok(hasher.finish())
}
