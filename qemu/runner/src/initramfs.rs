// SPDX-License-Identifier: GPL-2.0

//! The guest's whole userland: the agent as init, and a static busybox.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

const DIR: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHAR_DEVICE: u32 = 0o020_000;

/// An archive in the form that the kernel unpacks (`newc` of cpio), uncompressed: under emulation,
/// unpacking is dear and reading is cheap.
pub fn build(agent: &Path, busybox: &Path) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let mut archive = Archive::default();
    for path in [
        "bin", "dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var",
    ] {
        archive.add(path, DIR | 0o755, (0, 0), &[]);
    }
    // For what the kernel opens as init's standard streams, before /dev is mounted.
    archive.add("dev/console", CHAR_DEVICE | 0o600, (5, 1), &[]);
    archive.add(
        "etc/passwd",
        FILE | 0o644,
        (0, 0),
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    );
    archive.add(
        "etc/group",
        FILE | 0o644,
        (0, 0),
        b"root:x:0:\nnogroup:x:65534:\n",
    );
    archive.add("bin/busybox", FILE | 0o755, (0, 0), &read(busybox)?);
    archive.add("init", FILE | 0o755, (0, 0), &read(agent)?);
    Ok(archive.finish())
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(content.len()).expect("a file of the initramfs is small");
        let name_size = path.len() as u32 + 1;
        // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor,
        // rdevminor, namesize, check
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_laid_out_as_cpio_has_it() {
        let mut archive = Archive::default();
        archive.add("a", FILE | 0o644, (0, 0), b"hello");
        let bytes = archive.finish();
        assert_eq!(&bytes[..14], b"07070100000001");
        assert_eq!(&bytes[14..22], b"000081a4", "mode");
        assert_eq!(&bytes[54..62], b"00000005", "file size");
        assert_eq!(&bytes[94..102], b"00000002", "name size");
        assert_eq!(&bytes[110..112], b"a\0");
        assert_eq!(&bytes[112..120], b"hello\0\0\0");
        assert_eq!(&bytes[120..126], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }
}
