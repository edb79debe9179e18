// SPDX-License-Identifier: GPL-2.0

//! Files on the kernel's anonymous inode.
//!
//! C headers: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h).

use crate::{
    abstractions::vfs::{
        file::{release, FileVtable, Holder},
        path_file,
    },
    bindings, //
};
use core::{marker::PhantomData, ptr};
use kernel::{
    error::from_err_ptr,
    fs::{file::flags, File},
    macros::kunit_tests,
    prelude::*,
    sync::aref::ARef, //
};

/// Files with one name, readable and writable, that no directory holds.
///
/// They are on one dentry. `anon_inode_getfile` makes one for each file, which is a third of what it takes to
/// make and to close it, and of the memory of a small object.
///
/// # Invariants
///
/// Owns a reference to the path, which is that of an anonymous inode.
pub(crate) struct AnonFiles(kernel::bindings::path);

// SAFETY: A path may be given back on any thread.
unsafe impl Send for AnonFiles {}
// SAFETY: A path may be used by any number of threads.
unsafe impl Sync for AnonFiles {}

impl AnonFiles {
    /// To make files that `/proc/PID/fd` shows as `anon_inode:` and `name`.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        // SAFETY: The name is NUL-terminated, and copied. The operations are static, and use no private data.
        let file = from_err_ptr(unsafe {
            bindings::anon_inode_getfile_fmode(
                name.as_char_ptr(),
                const { &pin_init::zeroed() },
                ptr::null_mut(),
                0,
                0,
            )
        })?;
        // SAFETY: The file is valid and has a path, to which there is one more reference when it is gone. Nobody
        // else has it, so that it is gone at once, with its operations.
        unsafe {
            let path = (*file).__bindgen_anon_1.f_path;
            kernel::bindings::path_get(&raw const path);
            kernel::bindings::__fput_sync(file);
            // INVARIANT: We own the reference that was just taken.
            Ok(Self(path))
        }
    }

    /// Makes one on `object`. Of `open_flags`, `O_NONBLOCK` counts.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `ENOMEM`, `ENFILE`, `ENOENT` while the module is going.
    ///
    /// C: `anon_inode_getfile_fmode` in `fs/anon_inodes.c`.
    #[inline(always)]
    pub(crate) fn create<H: Holder>(&self, object: H, open_flags: u32) -> Result<ARef<File>> {
        let open_flags = (open_flags & flags::O_NONBLOCK) | flags::O_RDWR;
        // SAFETY:
        // - By the type invariants, the path is valid.
        // - The file is one for writing, too.
        // - The operations are those of the object, and static.
        // - They expect what `into_foreign` gives, which the file owns from here on.
        unsafe {
            let fops = HeldVtable::<H>::fops();
            let file = path_file::create::<H::Object>(&raw const self.0, open_flags, fops)?;
            (*file.as_ptr()).private_data = object.into_foreign();
            // The file is new, and its one reference is ours. No descriptor leads to it, so that nobody is in the
            // middle of using its position.
            Ok(ARef::from_raw(file.cast()))
        }
    }
}

/// The operations of files whose `private_data` came from `H::into_foreign`.
struct HeldVtable<H: Holder>(PhantomData<H>);

impl<H: Holder> HeldVtable<H> {
    const VTABLE: kernel::bindings::file_operations = kernel::bindings::file_operations {
        release: Some(release::<H>),
        ..FileVtable::<H::Object>::VTABLE
    };

    const fn fops() -> &'static kernel::bindings::file_operations {
        const { &Self::VTABLE }
    }
}

impl Drop for AnonFiles {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the reference is ours to give back.
        unsafe { kernel::bindings::path_put(&raw const self.0) };
    }
}

#[kunit_tests(ipcdemo_anon_file)]
mod tests {
    use super::*;
    use crate::abstractions::{
        module::references,
        vfs::{
            file::{close, FileOperations, IoRequest, Seek},
            stream::Destination,
        }, //
    };
    use core::ptr::NonNull;
    use kernel::{
        sync::Arc,
        types::ForeignOwnable, //
    };

    struct Readable;

    #[vtable]
    impl FileOperations for Readable {
        const NOWAIT: bool = true;
        const SEEK: Seek = Seek::Ignored;

        fn read(&self, _request: &IoRequest<'_>, _to: &mut impl Destination) -> Result<usize> {
            Ok(0)
        }
    }

    fn path(file: &File) -> *const kernel::bindings::path {
        // SAFETY: The file is open.
        unsafe { &raw const (*file.as_ptr()).__bindgen_anon_1.f_path }
    }

    fn mode(file: &File) -> u32 {
        // SAFETY: The file is open.
        unsafe { (*file.as_ptr()).f_mode }
    }

    /// One as the kernel makes it.
    fn original() -> Result<ARef<File>> {
        let private = Arc::new(Readable, GFP_KERNEL)?.into_foreign();
        // SAFETY: The name and the operations are static, and the private data is what those expect. A file is new,
        // and its one reference ours.
        unsafe {
            let file = from_err_ptr(bindings::anon_inode_getfile_fmode(
                c"[ipcdemo-kunit]".as_char_ptr(),
                &FileVtable::<Readable>::VTABLE,
                private,
                flags::O_RDWR as c_int,
                FileVtable::<Readable>::EXTRA_MODE,
            ))?;
            Ok(ARef::from_raw(NonNull::new_unchecked(file).cast()))
        }
    }

    #[test]
    fn a_file_is_as_the_kernel_makes_it() -> Result {
        let files = AnonFiles::new(c"[ipcdemo-kunit]")?;
        let file = files.create(Arc::new(Readable, GFP_KERNEL)?, flags::O_APPEND)?;
        let original = original()?;
        assert_eq!(mode(&file), mode(&original));
        assert_eq!(file.flags(), original.flags());
        // SAFETY: Both are open.
        let inodes = unsafe { [&file, &original].map(|it| (*it.as_ptr()).f_inode) };
        assert!(inodes[0] == inodes[1]);
        close(original);

        let other = files.create(Arc::new(Readable, GFP_KERNEL)?, flags::O_NONBLOCK)?;
        assert_eq!(other.flags(), flags::O_RDWR | flags::O_NONBLOCK);
        // SAFETY: Both are open.
        assert!(unsafe { (*path(&file)).dentry == (*path(&other)).dentry });
        close(file);
        close(other);
        Ok(())
    }

    #[test]
    fn files_give_back_the_references_that_they_took() -> Result {
        let files = AnonFiles::new(c"[ipcdemo-kunit]")?;
        let before = references();
        let file = files.create(Arc::new(Readable, GFP_KERNEL)?, 0)?;
        assert_eq!(references(), before + 1);
        // What they have in common may end before them.
        drop(files);
        close(file);
        assert_eq!(references(), before);
        Ok(())
    }

    #[test]
    fn a_file_cannot_be_opened_again() -> Result {
        let files = AnonFiles::new(c"[ipcdemo-kunit]")?;
        let file = files.create(Arc::new(Readable, GFP_KERNEL)?, 0)?;
        let before = references();
        // SAFETY: The path and the credentials are those of an open file.
        let again = from_err_ptr(unsafe {
            kernel::bindings::dentry_open(path(&file), 0, (*file.as_ptr()).f_cred)
        });
        assert!(again.err() == Some(ENXIO));
        assert_eq!(references(), before);
        close(file);
        Ok(())
    }
}
