// SPDX-License-Identifier: GPL-2.0

//! Both files of a pair, their inode, and who keeps the module.

use super::*;
use crate::abstractions::vfs::{
    file::{access, close, Seek},
    open::{mark, Opening},
};
use kernel::{
    macros::kunit_tests,
    str::CString,
    sync::atomic::{Atomic, Relaxed}, //
};

const READ: Access = Access {
    read: true,
    write: false,
};
const WRITE: Access = Access {
    read: false,
    write: true,
};
const BOTH: Access = Access {
    read: true,
    write: true,
};

/// The events of a [`Probe`], which outlive it.
struct Log {
    refuses: Atomic<bool>,
    /// How often it was opened.
    opened: Atomic<u32>,
    /// How often it was released, by what the file was opened for.
    released: [Atomic<u32>; 3],
    /// Whether its inode went with the last one.
    inode_went: Atomic<bool>,
    /// How often it was dropped.
    dropped: Atomic<u32>,
}

impl Log {
    fn released(&self, access: Access) -> &Atomic<u32> {
        &self.released[usize::from(access.read) + 2 * usize::from(access.write) - 1]
    }

    /// How often a file for reading, one for writing and one for both was released.
    fn releases(&self) -> [u32; 3] {
        [READ, WRITE, BOTH].map(|access| self.released(access).load(Relaxed))
    }
}

struct Probe(Arc<Log>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.dropped.add(1, Relaxed);
    }
}

#[vtable]
impl FileOperations for Probe {
    const NOWAIT: bool = true;
    const SEEK: Seek = Seek::Refused;

    fn release(&self, access: Access, inode: InodeOfReleased<'_>) {
        self.0.released(access).add(1, Relaxed);
        self.0.inode_went.store(inode.goes(), Relaxed);
    }
}

impl Openable for Probe {
    fn open(&self, opening: &Opening<'_>) -> Result {
        if self.0.refuses.load(Relaxed) {
            return Err(ENXIO);
        }
        let before = self.0.opened.fetch_add(1, Relaxed);
        opening.set_mark(u64::from(before) + 7);
        Ok(())
    }
}

/// The file system of probes.
struct Probes;

impl Kind for Probes {
    const NAME: &'static CStr = c"ipcdemo-kunit";
    const MAGIC: u32 = 0x1234_5678;
    const LABEL: &'static CStr = c"probe";

    fn fs_type() -> &'static FsType<Self> {
        static FS_TYPE: FsType<Probes> = FsType::new();
        &FS_TYPE
    }
}

fn probe() -> Result<(Arc<Log>, Arc<Probe>)> {
    let log = Arc::new(
        Log {
            refuses: Atomic::new(false),
            opened: Atomic::new(0),
            released: [const { Atomic::new(0) }; 3],
            inode_went: Atomic::new(false),
            dropped: Atomic::new(0),
        },
        GFP_KERNEL,
    )?;
    let probe = Arc::new(Probe(log.clone()), GFP_KERNEL)?;
    Ok((log, probe))
}

fn inode(file: &File) -> *mut kernel::bindings::inode {
    // SAFETY: The file is open.
    unsafe { (*file.as_ptr()).f_inode }
}

fn mode(file: &File) -> u32 {
    // SAFETY: The file is open.
    unsafe { (*file.as_ptr()).f_mode }
}

/// The path as `/proc/PID/fd` shows it, written to the end of a buffer of `N` bytes.
fn name<const N: usize>(file: &File) -> Result<CString> {
    let mut buffer = [0 as c_char; N];
    // SAFETY: The file and its path are valid, and the buffer is as long as is told.
    let name = from_err_ptr(unsafe {
        kernel::bindings::d_path(
            &raw const (*file.as_ptr()).__bindgen_anon_1.f_path,
            buffer.as_mut_ptr(),
            N as c_int,
        )
    })?;
    // SAFETY: The name ends with a NUL, in the buffer.
    let name = unsafe { CStr::from_char_ptr(name) };
    let end = name.to_bytes_with_nul().as_ptr_range().end;
    if !ptr::eq(end, buffer.as_ptr_range().end.cast()) {
        return Err(EINVAL);
    }
    Ok(CString::try_from(name)?)
}

/// How many references there are to the module.
fn references() -> c_int {
    // SAFETY: No requirements. What was put off before is done.
    unsafe { kernel::bindings::flush_delayed_fput() };
    module::references()
}

/// Opens the inode that a path leads to, as open(2) does.
///
/// # Safety
///
/// The path and the credentials are held.
unsafe fn open(
    path: *const kernel::bindings::path,
    cred: *const kernel::bindings::cred,
) -> Result<ARef<File>> {
    // SAFETY: By the function's requirements. The reference to a new file is ours.
    unsafe {
        let file = kernel::bindings::dentry_open(path, flags::O_RDWR as c_int, cred);
        let file = NonNull::new(from_err_ptr(file)?).ok_or(ENOMEM)?;
        Ok(ARef::from_raw(file.cast()))
    }
}

#[kunit_tests(ipcdemo_pseudo_fs)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_on_one_inode() -> Result {
        let fs = PseudoFs::<Probes>::mount()?;
        let (log, probe) = probe()?;
        let flags = flags::O_NONBLOCK | flags::O_DIRECT | flags::O_APPEND;
        let (read, write) = create(&fs, probe, flags)?;

        assert!(inode(&read) == inode(&write));
        // SAFETY: The inode is valid as long as the files are open.
        let (mode_of_inode, ino) = unsafe { ((*inode(&read)).i_mode, (*inode(&read)).i_ino) };
        assert_eq!(u32::from(mode_of_inode), kernel::bindings::S_IFIFO | 0o600);
        // SAFETY: As above: the inode has its super block.
        let magic = unsafe { (*(*inode(&read)).i_sb).s_magic };
        assert_eq!(magic, Probes::MAGIC as c_ulong);
        let expected = CString::try_from_fmt(fmt!("probe:[{ino}]"))?;
        assert!(*name::<64>(&read)? == *expected);
        assert!(*name::<64>(&write)? == *expected);

        assert_eq!((access(&read), access(&write)), (READ, WRITE));
        assert_eq!(read.flags(), flags::O_RDONLY | flags::O_NONBLOCK);
        assert_eq!(
            write.flags(),
            flags::O_WRONLY | flags::O_NONBLOCK | flags::O_DIRECT
        );
        let modes = bindings::FMODE_NOWAIT | bindings::FMODE_STREAM;
        assert_eq!(mode(&read) & modes, modes);
        assert_eq!(mode(&write) & modes, modes);

        close(read);
        assert_eq!(log.releases(), [1, 0, 0]);
        assert!(!log.inode_went.load(Relaxed));
        assert_eq!(log.dropped.load(Relaxed), 0);
        close(write);
        assert_eq!(log.releases(), [1, 1, 0]);
        assert!(log.inode_went.load(Relaxed));
        assert_eq!(log.dropped.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn each_pair_has_an_inode_of_its_own() -> Result {
        let fs = PseudoFs::<Probes>::mount()?;
        let (first_read, first_write) = create(&fs, probe()?.1, 0)?;
        let (read, write) = create(&fs, probe()?.1, 0)?;
        assert!(inode(&read) != inode(&first_read));
        assert!(*name::<64>(&read)? != *name::<64>(&first_read)?);
        for file in [first_read, first_write, read, write] {
            close(file);
        }
        Ok(())
    }

    #[test]
    fn a_name_needs_room() -> Result {
        let fs = PseudoFs::<Probes>::mount()?;
        let (read, write) = create(&fs, probe()?.1, 0)?;
        assert!(name::<4>(&read).err() == Some(ENAMETOOLONG));
        close(read);
        close(write);
        Ok(())
    }

    #[test]
    fn a_refused_open_leaves_nothing() -> Result {
        let fs = PseudoFs::<Probes>::mount()?;
        let (log, probe) = probe()?;
        let (read, write) = create(&fs, probe, 0)?;
        let before = references();
        log.refuses.store(true, Relaxed);
        // SAFETY: They are those of an open file.
        let again = unsafe {
            open(
                &raw const (*read.as_ptr()).__bindgen_anon_1.f_path,
                (*read.as_ptr()).f_cred,
            )
        };
        assert!(again.err() == Some(ENXIO));
        assert_eq!(references(), before);
        assert_eq!(log.releases(), [0, 0, 0]);
        close(read);
        close(write);
        Ok(())
    }

    /// A path that leads to an inode, as a descriptor made with `O_PATH` does, holds it and the module, and
    /// the object can be opened through it, mounted or not.
    #[test]
    fn an_inode_can_be_opened_again() -> Result {
        let before = references();
        let fs = PseudoFs::<Probes>::mount()?;
        let (log, probe) = probe()?;
        let (read, write) = create(&fs, probe, 0)?;
        assert_eq!((mark(&read), mark(&write)), (0, 0));
        // SAFETY: The file is open, and its path is held.
        let (path, cred) = unsafe {
            let path = (*read.as_ptr()).__bindgen_anon_1.f_path;
            kernel::bindings::path_get(&path);
            (path, kernel::bindings::get_cred((*read.as_ptr()).f_cred))
        };
        close(read);
        close(write);
        drop(fs);
        assert_eq!(log.dropped.load(Relaxed), 0);
        assert!(!log.inode_went.load(Relaxed));
        assert!(references() > before);

        // SAFETY: The path and the credentials are held, and given back once.
        let again = unsafe {
            let again = open(&path, cred);
            kernel::bindings::put_cred(cred);
            kernel::bindings::path_put(&path);
            again?
        };
        assert_eq!(log.opened.load(Relaxed), 1);
        assert_eq!((access(&again), mark(&again)), (BOTH, 7));
        assert_eq!(mode(&again) & bindings::FMODE_NOWAIT, 0);

        close(again);
        assert_eq!(log.releases(), [1, 1, 1]);
        assert_eq!(log.dropped.load(Relaxed), 1);
        assert_eq!(references(), before);
        Ok(())
    }

    /// The file system has no reference to the module while it is idle, and each inode has one.
    #[test]
    fn whoever_is_last_gives_back_the_module() -> Result {
        let before = references();
        let fs = PseudoFs::<Probes>::mount()?;
        assert_eq!(references(), before);
        for write_is_last in [false, true] {
            let (read, write) = create(&fs, probe()?.1, 0)?;
            assert_eq!(references(), before + 1);
            let (first, last) = if write_is_last {
                (read, write)
            } else {
                (write, read)
            };
            close(first);
            assert_eq!(references(), before + 1);
            close(last);
            assert_eq!(references(), before);
        }
        drop(fs);
        assert_eq!(references(), before);
        Ok(())
    }

    /// The files of a file system that nobody keeps mounted keep it.
    #[test]
    fn a_file_system_may_go_before_its_files() -> Result {
        let before = references();
        let fs = PseudoFs::<Probes>::mount()?;
        let (log, probe) = probe()?;
        let (read, write) = create(&fs, probe, 0)?;
        drop(fs);
        // The super block's own reference counts now.
        assert_eq!(references(), before + 2);
        close(read);
        close(write);
        assert_eq!(log.releases(), [1, 1, 0]);
        assert_eq!(references(), before);
        Ok(())
    }
}
