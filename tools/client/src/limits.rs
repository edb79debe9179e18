// SPDX-License-Identifier: GPL-2.0

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The limits of the caller's IPC namespace, by their files below `/proc/sys`. A new namespace
/// begins with the kernel's defaults.
pub(crate) struct Limits(Vec<(PathBuf, io::Result<Vec<u8>>)>);

/// A limit that a new IPC namespace may have another value of than the caller's had.
#[derive(Debug)]
pub struct LostLimit {
    /// Its file below `/proc/sys`, or the folder that could not be listed.
    pub path: PathBuf,
    /// Why it was not copied.
    pub error: io::Error,
}

impl fmt::Display for LostLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.error)
    }
}

/// The folders that have limits of IPC namespaces.
const FOLDERS: [&str; 2] = ["kernel", "fs/mqueue"];

/// Whether a file there is such a limit.
fn is_limit(folder: &str, name: &str) -> bool {
    let prefixes = ["msg", "sem", "shm"];
    // The number of the next object is no limit.
    folder == "fs/mqueue"
        || prefixes.iter().any(|prefix| name.starts_with(prefix)) && !name.ends_with("_next_id")
}

impl Limits {
    /// Reads those of the caller's namespace; `root` is `/proc/sys`.
    pub(crate) fn read(root: &Path) -> Self {
        let mut limits = Vec::new();
        for folder in FOLDERS {
            match files(root, folder) {
                // Before any is read, so that one descriptor is enough.
                Ok(paths) => limits.extend(paths.into_iter().map(|path| {
                    let value = fs::read(&path);
                    (path, value)
                })),
                // A kernel without POSIX message queues has no limits of them.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !limits.is_empty() => {}
                Err(error) => limits.push((root.join(folder), Err(error))),
            }
        }
        Self(limits)
    }

    /// Writes those that the caller's namespace, another one now, has other values of. Gives
    /// those that it could not.
    pub(crate) fn write(self) -> Vec<LostLimit> {
        let write = |(path, value): (PathBuf, io::Result<Vec<u8>>)| {
            let written = value.and_then(|value| match fs::read(&path)? == value {
                true => Ok(()),
                false => write_file(&path, &value),
            });
            written.err().map(|error| LostLimit { path, error })
        };
        self.0.into_iter().filter_map(write).collect()
    }
}

/// Writes a file that is there: a folder that is no `/proc` is to get no files by this.
pub(crate) fn write_file(path: &Path, value: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value)
}

/// The limits in a folder, in order.
fn files(root: &Path, folder: &str) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| is_limit(folder, name))
        {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::process;

    /// A folder as `/proc/sys` is, gone when this is dropped.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let root = env::temp_dir().join(format!("ipcdemo-limits-{name}-{}", process::id()));
            fs::create_dir_all(root.join("kernel")).unwrap();
            Self(root)
        }

        fn set(&self, path: &str, value: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }

        fn get(&self, path: &str) -> String {
            fs::read_to_string(self.0.join(path)).unwrap()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn limits_are_copied_and_nothing_else() {
        const FILES: [(&str, bool); 8] = [
            ("kernel/msgmax", true),
            ("kernel/sem", true),
            ("kernel/shm_rmid_forced", true),
            ("kernel/shm_next_id", false),
            ("kernel/auto_msgmni", false),
            ("kernel/hostname", false),
            ("fs/mqueue/msg_max", true),
            ("fs/mqueue/queues_max", true),
        ];
        let root = Root::new("copied");
        for (path, _) in FILES {
            root.set(path, "7\t8\n");
        }
        let limits = Limits::read(&root.0);
        for (path, _) in FILES {
            root.set(path, "1\t2\n");
        }
        assert!(limits.write().is_empty());
        for (path, is_limit) in FILES {
            let expected = if is_limit { "7\t8\n" } else { "1\t2\n" };
            assert_eq!(root.get(path), expected, "{path}");
        }
    }

    /// A folder cannot be read as a file, nor written, whoever tries.
    #[test]
    fn those_that_cannot_be_copied_are_named() {
        let root = Root::new("named");
        root.set("kernel/msgmax", "1\n");
        root.set("kernel/shmmax/folder", "1\n");
        let lost = Limits::read(&root.0).write();
        let names: Vec<_> = lost.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        let prefix = format!("{}/kernel/shmmax (", root.0.display());
        assert!(names[0].starts_with(&prefix), "{names:?}");
    }

    #[test]
    fn what_is_the_same_is_not_written() {
        let root = Root::new("same");
        root.set("kernel/msgmax", "1\n");
        let modified = || {
            let path = root.0.join("kernel/msgmax");
            fs::metadata(path).unwrap().modified().unwrap()
        };
        let before = modified();
        assert!(Limits::read(&root.0).write().is_empty());
        assert_eq!(modified(), before);
    }

    /// Without `/proc` nobody knows.
    #[test]
    fn a_missing_folder_is_named() {
        let root = Root::new("missing");
        let lost = Limits::read(&root.0.join("nowhere")).write();
        assert!(lost.iter().any(|lost| lost.path.ends_with("kernel")));
    }
}
