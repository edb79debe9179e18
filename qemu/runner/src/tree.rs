// SPDX-License-Identifier: GPL-2.0

//! Files and whole folders over the protocol, in either direction.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use crate::protocol::{CHUNK, Entry, EntryKind};

/// Calls `found` for `top` and everything below it, folders before what they hold. What is no
/// directory, file or symbolic link is left out.
pub fn walk(
    top: &Path,
    name: &str,
    found: &mut impl FnMut(&Path, Entry) -> io::Result<()>,
) -> io::Result<()> {
    let meta = fs::symlink_metadata(top)?;
    let mode = meta.permissions().mode() & 0o7777;
    let kind = if meta.is_dir() {
        EntryKind::Dir { mode }
    } else if meta.is_symlink() {
        EntryKind::Link {
            target: text(fs::read_link(top)?.into_os_string())?,
        }
    } else if meta.is_file() {
        EntryKind::File {
            mode,
            size: meta.len(),
        }
    } else {
        return Ok(());
    };
    found(
        top,
        Entry {
            path: name.to_owned(),
            kind,
        },
    )?;
    if meta.is_dir() {
        for child in fs::read_dir(top)? {
            let child = child?;
            let child_name = text(child.file_name())?;
            let path = if name.is_empty() {
                child_name
            } else {
                format!("{name}/{child_name}")
            };
            walk(&child.path(), &path, found)?;
        }
    }
    Ok(())
}

/// Reads exactly the `size` bytes that were announced, even if the file changes meanwhile.
pub fn send_content(
    from: &Path,
    size: u64,
    send: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = File::open(from)?;
    let mut left = size;
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let want = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut chunk[..want])?;
        send(&chunk[..want])?;
        left -= want as u64;
    }
    Ok(())
}

/// Makes the entry below `top`. For a file, `receive` is called for its content, piece by piece.
pub fn make(
    top: &Path,
    entry: &Entry,
    receive: &mut impl FnMut() -> io::Result<Vec<u8>>,
) -> io::Result<()> {
    let path = top.join(entry.path.trim_start_matches('/'));
    if Path::new(&entry.path)
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return Err(io::Error::other(format!(
            "{} leads out of the folder",
            entry.path
        )));
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match &entry.kind {
        EntryKind::Dir { mode } => {
            fs::create_dir_all(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode))
        }
        EntryKind::Link { target } => {
            remove_old(&path)?;
            symlink(target, &path)
        }
        EntryKind::File { mode, size } => {
            remove_old(&path)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(*mode)
                .open(&path)?;
            let mut left = *size;
            while left > 0 {
                let chunk = receive()?;
                left = left
                    .checked_sub(chunk.len() as u64)
                    .ok_or_else(|| io::Error::other("more than was announced"))?;
                file.write_all(&chunk)?;
            }
            // Whatever the umask took away.
            file.set_permissions(fs::Permissions::from_mode(*mode))
        }
    }
}

/// A name next to this one that no other run uses. A process id would not do: each run is in a PID
/// namespace of its own.
pub fn unique(path: &Path) -> PathBuf {
    let random = RandomState::new().build_hasher().finish();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{random:016x}"));
    PathBuf::from(name)
}

fn remove_old(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn text(name: std::ffi::OsString) -> io::Result<String> {
    name.into_string()
        .map_err(|name| io::Error::other(format!("a name that is not UTF-8: {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_arrives_as_it_was_sent() {
        let top = std::env::temp_dir().join(format!("ipcdemo-vm-tree-{}", std::process::id()));
        let (from, to) = (top.join("from"), top.join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/big"), vec![7; CHUNK + 1]).unwrap();
        fs::write(from.join("empty"), "").unwrap();
        fs::set_permissions(from.join("empty"), fs::Permissions::from_mode(0o751)).unwrap();
        symlink("sub/big", from.join("link")).unwrap();

        walk(&from, "", &mut |path, entry| {
            let mut pieces = Vec::new();
            if let EntryKind::File { size, .. } = entry.kind {
                send_content(path, size, &mut |piece| {
                    pieces.push(piece.to_vec());
                    Ok(())
                })?;
            }
            let mut pieces = pieces.into_iter();
            make(&to, &entry, &mut || Ok(pieces.next().unwrap()))
        })
        .unwrap();

        assert_eq!(fs::read(to.join("sub/big")).unwrap(), vec![7; CHUNK + 1]);
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("sub/big")
        );
        assert_eq!(
            fs::metadata(to.join("empty")).unwrap().permissions().mode() & 0o7777,
            0o751
        );
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn nothing_is_made_outside() {
        let entry = Entry {
            path: "a/../../b".into(),
            kind: EntryKind::Dir { mode: 0o755 },
        };
        assert!(make(Path::new("/nowhere"), &entry, &mut || Ok(Vec::new())).is_err());
    }
}
