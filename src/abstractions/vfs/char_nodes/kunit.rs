// SPDX-License-Identifier: GPL-2.0

//! Opening a device that is in no folder, and what becomes of it when its node is gone.

use super::*;
use crate::{
    abstractions::vfs::{
        anon_file::AnonFiles,
        file::{close, Access, FileOperations, InodeOfReleased, Seek},
        open::Opening,
    },
    bindings, //
};
use kernel::{
    fs::{file::flags, File},
    macros::kunit_tests,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed}, //
    }, //
};

/// Counts how often it was opened and released.
struct Probe {
    opened: Atomic<u32>,
    released: Atomic<u32>,
}

impl Probe {
    fn new() -> Result<Arc<Self>> {
        let probe = Self {
            opened: Atomic::new(0),
            released: Atomic::new(0),
        };
        Ok(Arc::new(probe, GFP_KERNEL)?)
    }

    fn counts(&self) -> (u32, u32) {
        (self.opened.load(Relaxed), self.released.load(Relaxed))
    }
}

static PROBES: NodeTable<Probe> = NodeTable::new(2);

impl Nodes for Probe {
    fn nodes() -> &'static NodeTable<Self> {
        &PROBES
    }
}

#[vtable]
impl FileOperations for Probe {
    const NOWAIT: bool = true;
    const SEEK: Seek = Seek::Refused;

    fn release(&self, _access: Access, _inode: InodeOfReleased<'_>) {
        self.released.add(1, Relaxed);
    }
}

impl Openable for Probe {
    const DIRECT: bool = true;

    fn open(&self, _opening: &Opening<'_>) -> Result {
        self.opened.add(1, Relaxed);
        Ok(())
    }
}

/// The object of a file that is there for its path alone.
struct Nothing;

#[vtable]
impl FileOperations for Nothing {
    const SEEK: Seek = Seek::Refused;
}

/// The path of an inode for a device, as mknod(2) makes one, in no folder.
///
/// # Invariants
///
/// Owns a reference to each part.
struct Special {
    path: kernel::bindings::path,
    cred: *const kernel::bindings::cred,
}

impl Special {
    fn new(dev: kernel::bindings::dev_t) -> Result<Self> {
        let anon = AnonFiles::new(c"[ipcdemo-kunit]")?.create(Arc::new(Nothing, GFP_KERNEL)?, 0)?;
        // SAFETY: The file, its mount and its inode are valid.
        let (mount, special) = unsafe {
            let mount = (*anon.as_ptr()).__bindgen_anon_1.f_path.mnt;
            (mount, kernel::bindings::new_inode((*mount).mnt_sb))
        };
        let special = NonNull::new(special).ok_or(ENOMEM)?;
        let object = Arc::new(Nothing, GFP_KERNEL)?;
        // SAFETY: The inode is valid and new. The file that gets it has what its operations want,
        // and the reference to the module that its end gives back. The path and the credentials
        // are held by that file until there are other references.
        let special = unsafe {
            let mode = kernel::bindings::S_IFCHR | 0o600;
            let mode = mode as kernel::bindings::umode_t;
            kernel::bindings::init_special_inode(special.as_ptr(), mode, dev);
            kernel::bindings::__module_get(this_module::<LocalModule>().as_ptr());
            let file = from_err_ptr(kernel::bindings::alloc_file_pseudo(
                special.as_ptr(),
                mount,
                c"".as_char_ptr(),
                0,
                &FileVtable::<Nothing>::VTABLE,
            ))?;
            (*file).private_data = object.into_foreign();
            let path = (*file).__bindgen_anon_1.f_path;
            kernel::bindings::path_get(&path);
            let cred = kernel::bindings::get_cred((*file).f_cred);
            // It was not opened, so that it must be gone before the inode leads to a `cdev`: that
            // would be given up with it.
            close(ARef::from_raw(NonNull::new_unchecked(file.cast())));
            Self { path, cred }
        };
        close(anon);
        Ok(special)
    }

    /// As open(2).
    fn open(&self, open_flags: u32) -> Result<ARef<File>> {
        // SAFETY: By the type invariants, the path and the credentials are valid.
        let file = from_err_ptr(unsafe {
            kernel::bindings::dentry_open(&self.path, open_flags as c_int, self.cred)
        })?;
        // SAFETY: The file is valid, and its reference ours.
        Ok(unsafe { ARef::from_raw(NonNull::new_unchecked(file.cast())) })
    }
}

impl Drop for Special {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the references are ours to give back.
        unsafe {
            kernel::bindings::path_put(&self.path);
            kernel::bindings::put_cred(self.cred);
        }
    }
}

fn mode(file: &File) -> u32 {
    // SAFETY: The file is open.
    unsafe { (*file.as_ptr()).f_mode }
}

#[kunit_tests(ipcdemo_char_nodes)]
mod tests {
    use super::*;

    #[test]
    fn a_node_opens_its_object() -> Result {
        let region = CharRegion::<Probe>::register(c"ipcdemo-kunit")?;
        let (first, second) = (Probe::new()?, Probe::new()?);
        let first_node = region.add(c"ipcdemo-kunit-1", 0o600, first.clone())?;
        let second_node = region.add(c"ipcdemo-kunit-2", 0o600, second.clone())?;
        let special = Special::new(second_node.dev)?;

        let file = special.open(flags::O_RDWR)?;
        assert_eq!((first.counts(), second.counts()), ((0, 0), (1, 0)));
        let modes = bindings::FMODE_STREAM | bindings::FMODE_CAN_ODIRECT;
        assert_eq!(mode(&file) & (modes | bindings::FMODE_NOWAIT), modes);
        close(file);
        assert_eq!((first.counts(), second.counts()), ((0, 0), (1, 1)));

        drop((first_node, second_node));
        Ok(())
    }

    #[test]
    fn who_has_it_open_keeps_the_object() -> Result {
        let region = CharRegion::<Probe>::register(c"ipcdemo-kunit")?;
        let (first, others) = (Probe::new()?, Probe::new()?);
        let node = region.add(c"ipcdemo-kunit", 0o600, first.clone())?;
        // It leaves one number, which each of the other nodes has to get.
        let _other = region.add(c"ipcdemo-kunit-other", 0o600, others)?;
        let special = Special::new(node.dev)?;
        let dev = node.dev;
        let file = special.open(flags::O_RDWR)?;
        drop(node);
        assert_eq!(first.counts(), (1, 0));
        // The inode still leads to the device that is gone.
        assert!(special.open(flags::O_RDWR).err() == Some(ENXIO));

        let second = Probe::new()?;
        let node = region.add(c"ipcdemo-kunit", 0o600, second.clone())?;
        assert_eq!(node.dev, dev);
        // Nor does it lead to the one that has its number now, before the device is forgotten.
        assert!(special.open(flags::O_RDWR).err() == Some(ENXIO));
        close(file);
        let again = special.open(flags::O_RDWR)?;
        assert_eq!((first.counts(), second.counts()), ((1, 1), (1, 0)));
        close(again);
        assert_eq!((first.counts(), second.counts()), ((1, 1), (1, 1)));
        drop(node);
        Ok(())
    }

    #[test]
    fn an_open_for_direct_io_is_refused_after_all() -> Result {
        let region = CharRegion::<Probe>::register(c"ipcdemo-kunit")?;
        let probe = Probe::new()?;
        let node = region.add(c"ipcdemo-kunit", 0o600, probe.clone())?;
        let special = Special::new(node.dev)?;
        let file = special.open(flags::O_RDWR | flags::O_DIRECT);
        assert!(file.err() == Some(EINVAL));
        // SAFETY: No requirements.
        unsafe { kernel::bindings::flush_delayed_fput() };
        assert_eq!(probe.counts(), (1, 1));
        drop(node);
        Ok(())
    }

    #[test]
    fn names_and_room_are_limited() -> Result {
        let region = CharRegion::<Probe>::register(c"ipcdemo-kunit")?;
        let first = region.add(c"ipcdemo-kunit-1", 0o600, Probe::new()?)?;
        let error = region.add(c"ipcdemo-kunit-1", 0o600, Probe::new()?).err();
        assert!(error == Some(EEXIST));
        let second = region.add(c"ipcdemo-kunit-2", 0o600, Probe::new()?)?;
        let error = region.add(c"ipcdemo-kunit-3", 0o600, Probe::new()?).err();
        assert!(error == Some(ENOSPC));

        let dev = first.dev;
        drop(first);
        let first = region.add(c"ipcdemo-kunit-3", 0o600, Probe::new()?)?;
        assert_eq!(first.dev, dev);
        drop((first, second));
        Ok(())
    }
}
