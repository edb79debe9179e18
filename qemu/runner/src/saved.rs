// SPDX-License-Identifier: GPL-2.0

//! Saved guests: booted once, resumed often.
//!
//! A saved guest is a folder: `ram`, the guest's memory, which QEMU maps privately, so that
//! resuming reads only what is touched; `state`, the rest of the machine; `boot.log`; and
//! `manifest`, which is written last and tells the size and time of the others. The folder's name
//! is made of all that the guest depends on.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

use crate::qemu::{Machine, Memory};
use crate::session::{Failure, Phase, Session};

const FILES: [&str; 3] = ["ram", "state", "boot.log"];

/// How many saved guests are kept when a new one is made.
const KEEP: usize = 12;

/// A saved guest that looks sound.
pub struct Saved {
    dir: PathBuf,
}

impl Saved {
    /// The saved guest for this machine; it is booted and saved if there is none. `limit` is for
    /// that.
    pub fn find_or_make(
        machine: &Machine,
        cache: &Path,
        session: &mut Session,
        limit: Option<Duration>,
    ) -> Result<Saved, Failure> {
        let dir = cache.join(format!("guest-{:016x}", machine.fingerprint()?));
        let saved = Saved { dir };
        if saved.is_sound() {
            // For whoever tidies up; the manifest itself does not stand in it.
            let _ = File::open(saved.file("manifest"))
                .and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(saved);
        }
        fs::create_dir_all(cache)?;
        let lock = File::create(cache.join("saving.lock"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        if !saved.is_sound() {
            saved.discard();
            tidy(cache)?;
            saved.make(machine, session, limit)?;
            session.log.restart()?;
        }
        Ok(saved)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn is_sound(&self) -> bool {
        fs::read_to_string(self.file("manifest"))
            .is_ok_and(|manifest| manifest_of(&self.dir).is_ok_and(|is| is == manifest))
    }

    fn make(
        &self,
        machine: &Machine,
        session: &mut Session,
        limit: Option<Duration>,
    ) -> Result<(), Failure> {
        let unfinished = self.dir.with_extension("unfinished");
        fs::create_dir(&unfinished)?;
        let qemu = machine.start(Memory::Save(&unfinished.join("ram")))?;
        session.attach(qemu, Phase::Booting, limit)?;
        session.wait_ready()?;
        session.enter(Phase::Doing("preparing the guest to be saved".into()));
        session.settle()?;
        if let Some(hit) = session.log.hits().first() {
            return Err(Failure::Verdict(format!(
                "bad sign while booting: {}",
                hit.message
            )));
        }
        session.save(&unfinished.join("state"))?;
        fs::write(unfinished.join("boot.log"), session.log.text())?;
        for name in FILES {
            File::open(unfinished.join(name)).and_then(|file| file.sync_all())?;
        }
        fs::write(unfinished.join("manifest"), manifest_of(&unfinished)?)?;
        fs::rename(&unfinished, &self.dir)
            .with_context(|| format!("making {}", self.dir.display()))?;
        Ok(())
    }

    /// Goes on where it was saved. The log gets the lines of its boot.
    pub fn resume(
        &self,
        machine: &Machine,
        session: &mut Session,
        limit: Duration,
    ) -> Result<(), Failure> {
        session
            .log
            .preload(&fs::read_to_string(self.file("boot.log"))?)?;
        let qemu = machine.start(Memory::Resume(&self.file("ram")))?;
        qemu.control()?.load(&self.file("state"))?;
        Ok(session.attach(qemu, Phase::Resuming, Some(limit))?)
    }

    /// Throws it away.
    pub fn discard(&self) {
        remove(&self.dir);
    }
}

/// The size and time of each file: whoever writes into one after it was saved spoils the guest.
fn manifest_of(dir: &Path) -> Result<String> {
    let mut manifest = String::new();
    for name in FILES {
        let meta = fs::metadata(dir.join(name)).map_err(|error| anyhow!("{name}: {error}"))?;
        manifest.push_str(&format!(
            "{name} {} {} {}\n",
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
    }
    Ok(manifest)
}

/// Makes room: kernels and agents change, and each leaves a saved guest behind. What a killed run
/// left unfinished goes too, for nobody else is making one now.
fn tidy(cache: &Path) -> io::Result<()> {
    let mut guests = Vec::new();
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "unfinished")
        {
            remove(&path);
        } else if let Ok(used) =
            fs::metadata(path.join("manifest")).and_then(|meta| meta.modified())
        {
            guests.push((used, path));
        }
    }
    guests.sort();
    for (_, path) in guests.iter().rev().skip(KEEP - 1) {
        remove(path);
    }
    Ok(())
}

fn remove(dir: &Path) {
    // What is left of it is no sound guest, and making one anew reports what is wrong.
    let _ = fs::remove_dir_all(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_or_cut_or_unfinished_guest_is_not_sound() {
        let dir = std::env::temp_dir().join(format!("ipcdemo-vm-saved-{}", std::process::id()));
        let saved = Saved { dir };
        fs::create_dir(&saved.dir).unwrap();
        let fill = || {
            for name in FILES {
                fs::write(saved.file(name), "x").unwrap();
            }
        };
        fill();
        assert!(!saved.is_sound());
        fs::write(saved.file("manifest"), manifest_of(&saved.dir).unwrap()).unwrap();
        assert!(saved.is_sound());
        File::create(saved.file("ram")).unwrap();
        assert!(!saved.is_sound());
        fill();
        assert!(!saved.is_sound(), "the time differs");
        saved.discard();
        assert!(!saved.is_sound());
    }
}
