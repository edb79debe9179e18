// SPDX-License-Identifier: GPL-2.0

//! The kernel's log: kept in full, watched for bad signs as it comes.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use crate::ktap;
use crate::protocol::LOG_PREFIX;
use crate::signs::{self, Severity};
use crate::tree;

/// A line that makes the run a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The message, without its time stamp.
    pub message: String,
    /// Its number in the log, from 0.
    pub line: usize,
    /// How bad it is.
    pub severity: Severity,
}

/// The log so far.
pub struct Log {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    lines: Vec<String>,
    hits: Vec<Hit>,
    ktap: ktap::Parser,
}

impl Log {
    /// A log that becomes `target` when the run is over: two runs at once must not write into each
    /// other's.
    pub fn create(target: &Path) -> io::Result<Log> {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        let temporary = tree::unique(target);
        let file = File::create(&temporary)?;
        let target = target.to_path_buf();
        Ok(Log {
            file,
            temporary,
            target,
            lines: Vec::new(),
            hits: Vec::new(),
            ktap: ktap::Parser::default(),
        })
    }

    /// Starts over, for another attempt.
    pub fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.lines.clear();
        self.hits.clear();
        self.ktap = ktap::Parser::default();
        Ok(())
    }

    /// Takes a line. Returns what it means for the run, if anything.
    pub fn take(&mut self, line: String) -> io::Result<Seen> {
        writeln!(self.file, "{line}")?;
        let mut seen = Seen::Nothing;
        if let Some(note) = signs::lost(&line) {
            self.hits.push(Hit {
                message: note.to_owned(),
                line: self.lines.len(),
                severity: Severity::Bad,
            });
            seen = Seen::Sign(Severity::Bad);
        }
        if let Some(message) = signs::message(&line) {
            if let Some(mark) = message.strip_prefix(LOG_PREFIX) {
                seen = Seen::Mark(mark.to_owned());
            } else if let Some(severity) = signs::find(message) {
                self.hits.push(Hit {
                    message: message.to_owned(),
                    line: self.lines.len(),
                    severity,
                });
                seen = Seen::Sign(severity);
            } else if let Some(complaint) = self.ktap.take(message) {
                self.hits.push(Hit {
                    message: complaint,
                    line: self.lines.len(),
                    severity: Severity::Bad,
                });
            }
        }
        self.lines.push(line);
        Ok(seen)
    }

    /// No line will follow that belongs to what ran so far: what is unfinished now stays so.
    pub fn settle(&mut self) {
        if let Some(complaint) = self.ktap.unfinished() {
            let line = self.lines.len().saturating_sub(1);
            self.hits.push(Hit {
                message: complaint,
                line,
                severity: Severity::Bad,
            });
        }
    }

    /// Takes the lines of the saved guest's boot, whose signs were judged when it was saved.
    pub fn preload(&mut self, text: &str) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        self.lines.extend(text.lines().map(str::to_owned));
        Ok(())
    }

    /// The guest is up: what its kernel tested of itself while booting is not the run's to count.
    pub fn booted(&mut self) {
        self.ktap = ktap::Parser::default();
    }

    /// Leaks found so far are the booting kernel's own.
    pub fn forgive_leaks(&mut self) {
        self.hits
            .retain(|hit| !hit.message.starts_with("kmemleak: "));
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line, "\n"]).collect()
    }

    /// Whether the kernel has said anything yet.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The bad signs so far.
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// KUnit's results so far.
    pub fn kunit(&self) -> ktap::Counts {
        self.ktap.counts
    }

    /// The lines around a hit: a few before it, what it says after.
    pub fn around(&self, hit: &Hit) -> &[String] {
        let end = self.lines.len().min(hit.line + 40);
        &self.lines[hit.line.saturating_sub(4).min(end)..end]
    }

    /// The last lines.
    pub fn tail(&self, count: usize) -> &[String] {
        &self.lines[self.lines.len().saturating_sub(count)..]
    }

    /// Where the log will stand.
    pub fn path(&self) -> &Path {
        &self.target
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Nobody is left to tell; the temporary file is there, whatever happens.
        let _ = fs::rename(&self.temporary, &self.target);
    }
}

/// What a line means for the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Nothing,
    /// The agent's mark.
    Mark(String),
    /// A bad sign.
    Sign(Severity),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_judged_and_published() {
        let target = std::env::temp_dir().join(format!("ipcdemo-vm-log-{}", std::process::id()));
        let mut log = Log::create(&target).unwrap();
        log.preload("[    0.000001] BUG: judged long ago\n")
            .unwrap();
        assert_eq!(
            log.take("[    1.000000] ipcdemo-vm: end".into()).unwrap(),
            Seen::Mark("end".into())
        );
        log.take("[    1.000000] kmemleak: 3 new suspected memory leaks (see x)".into())
            .unwrap();
        log.forgive_leaks();
        assert_eq!(
            log.take("[    1.000000] WARNING: x".into()).unwrap(),
            Seen::Sign(Severity::Bad)
        );
        assert_eq!(
            log.take("[    1.000000]     # Subtest: s".into()).unwrap(),
            Seen::Nothing
        );
        assert_eq!(
            log.take("** 3 printk messages dropped **".into()).unwrap(),
            Seen::Sign(Severity::Bad)
        );
        log.settle();
        let messages: Vec<_> = log.hits().iter().map(|hit| hit.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "WARNING: x",
                "** 3 printk messages dropped **",
                "KUnit: s never finished"
            ]
        );
        assert_eq!(log.around(&log.hits()[0]).len(), 6);
        let text = log.text();
        drop(log);
        assert_eq!(fs::read_to_string(&target).unwrap(), text);
        fs::remove_file(target).unwrap();
    }
}
