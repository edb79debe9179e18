// SPDX-License-Identifier: GPL-2.0

//! Whether the processor can run the guest. That `/dev/kvm` exists proves nothing: nested in
//! another virtual machine the guest may hang before its first line. So it is tried, and the answer
//! is kept: for a day if it is no.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::log::Log;
use crate::qemu::{Accel, Machine, Memory, PROGRAM};
use crate::session::{Failure, Phase, Session};

/// A guest that runs on the processor is up in one second.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// How long to believe that it does not work: the host may only have been busy.
const FAILURE_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

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
        Ok("fails\n") if is_fresh(&answer) => false,
        _ => {
            eprintln!(
                "vm: trying whether KVM works here ({} s at most)",
                PROBE_LIMIT.as_secs()
            );
            let works = probe(machine, &answer.with_extension("log"))?;
            fs::write(&answer, if works { "works\n" } else { "fails\n" })?;
            works
        }
    };
    Ok(if works { Accel::Kvm } else { Accel::Tcg })
}

fn is_fresh(answer: &Path) -> bool {
    let written = fs::metadata(answer).and_then(|meta| meta.modified());
    written.is_ok_and(|written| {
        // A time to come is a clock set back: no reason to believe it for ever.
        SystemTime::now()
            .duration_since(written)
            .is_ok_and(|age| age < FAILURE_KEPT)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_grows_old() {
        let file = std::env::temp_dir().join(format!("ipcdemo-vm-kvm-{}", std::process::id()));
        assert!(!is_fresh(&file));
        fs::write(&file, "fails\n").unwrap();
        assert!(is_fresh(&file));
        let handle = fs::File::options().write(true).open(&file).unwrap();
        handle
            .set_modified(SystemTime::now() - FAILURE_KEPT)
            .unwrap();
        assert!(!is_fresh(&file));
        fs::remove_file(file).unwrap();
    }
}
