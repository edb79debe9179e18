// SPDX-License-Identifier: GPL-2.0

//! File systems that nobody can mount, of inodes that are in no folder and have an object each. The kernel's own pipes
//! live in such a one.
//!
//! All inodes are FIFOs to the kernel, as it expects nothing but files of these: pages of a regular file's, other inodes of a
//! folder's, and of `S_IFSOCK` that the inode is part of a `struct socket_alloc` (`netlink_getsockbyfd`,
//! `unix_get_socket`).
//!
//! A file system stays mounted while there is a [`PseudoFs`]. That should last as long as the module is loaded: mounting
//! it for each object would have each close wait for a grace period. Each of these keeps the module loaded, as it leads to
//! an inode: an open file, a descriptor made with `O_PATH`, a look at `/proc/PID/fd`, a watch by inotify(7).
//!
//! C headers: [`include/linux/pseudo_fs.h`](srctree/include/linux/pseudo_fs.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h).

#[cfg(CONFIG_KUNIT = "y")]
mod kunit;

use crate::{
    abstractions::{
        module,
        vfs::{
            file::{Access, FileOperations, FileVtable, Holder, InodeOfReleased},
            open::{self, Openable},
            path_file,
        }, //
    },
    bindings,
    LocalModule, //
};
use core::{
    marker::PhantomData,
    mem::forget,
    ptr::{self, NonNull}, //
};
use kernel::{
    error::from_err_ptr,
    fs::{file::flags, File},
    module::this_module,
    prelude::*,
    sync::{aref::ARef, Arc},
    time::{delay::fsleep, Delta},
    types::{ForeignOwnable, Opaque}, //
};

/// A kind of pseudo file system.
pub(crate) trait Kind: Sized + 'static {
    /// The name of its type.
    const NAME: &'static CStr;

    /// The `f_type` that statfs(2) returns. Not `SOCKFS_MAGIC`: Smack takes the inodes for sockets' then.
    const MAGIC: u32;

    /// `/proc/PID/fd` shows its files as `LABEL:[INODE]`.
    const LABEL: &'static CStr;

    /// Returns the static that the kernel knows the kind by.
    fn fs_type() -> &'static FsType<Self>;
}

/// The type of a kind's file systems, as the kernel knows it: `struct file_system_type`. A generic function has no static
/// of its own for each type, so that each [`Kind`] brings one.
pub(crate) struct FsType<K>(
    Opaque<kernel::bindings::file_system_type>,
    PhantomData<fn() -> K>,
);

// SAFETY: The VFS changes it under its own locks.
unsafe impl<K> Sync for FsType<K> {}

impl<K: Kind> FsType<K> {
    /// Returns the type of `K`'s file systems.
    pub(crate) const fn new() -> Self {
        assert!(K::MAGIC != kernel::bindings::SOCKFS_MAGIC);
        let fs_type = kernel::bindings::file_system_type {
            name: K::NAME.to_bytes_with_nul().as_ptr(),
            init_fs_context: Some(Self::init_fs_context),
            kill_sb: Some(kernel::bindings::kill_anon_super),
            owner: this_module::<LocalModule>().as_ptr(),
            ..pin_init::zeroed()
        };
        Self(Opaque::new(fs_type), PhantomData)
    }

    const SUPER_OPERATIONS: kernel::bindings::super_operations =
        kernel::bindings::super_operations {
            statfs: Some(kernel::bindings::simple_statfs),
            destroy_inode: Some(destroy_inode),
            ..pin_init::zeroed()
        };

    const DENTRY_OPERATIONS: kernel::bindings::dentry_operations =
        kernel::bindings::dentry_operations {
            d_dname: Some(Self::d_dname),
            ..pin_init::zeroed()
        };

    /// # Safety
    ///
    /// To be called as `file_system_type.init_fs_context`.
    unsafe extern "C" fn init_fs_context(fc: *mut kernel::bindings::fs_context) -> c_int {
        // SAFETY: The context is valid and being set up. `init_pseudo` gives null or something valid.
        unsafe {
            let ctx = bindings::init_pseudo(fc, K::MAGIC as c_ulong);
            if ctx.is_null() {
                return ENOMEM.to_errno();
            }
            (*ctx).ops = const { &Self::SUPER_OPERATIONS };
            (*ctx).dops = const { &Self::DENTRY_OPERATIONS };
        }
        0
    }

    /// Names a file for `/proc/PID/fd`.
    ///
    /// # Safety
    ///
    /// To be called as `dentry_operations.d_dname`.
    ///
    /// C: `dynamic_dname` in `fs/d_path.c`, which modules may not call.
    unsafe extern "C" fn d_dname(
        dentry: *mut kernel::bindings::dentry,
        buffer: *mut c_char,
        len: c_int,
    ) -> *mut c_char {
        let Ok(len) = usize::try_from(len) else {
            return ENAMETOOLONG.to_ptr();
        };
        // SAFETY: The dentry is one of a file of ours, which has an inode. `snprintf` writes no more than
        // the buffer can take, and tells how long the name is without the NUL at its end.
        unsafe {
            let ino = (*(*dentry).d_inode).i_ino;
            let (format, label) = (c"%s:[%llu]".as_char_ptr(), K::LABEL.as_char_ptr());
            let size = kernel::bindings::snprintf(buffer, len, format, label, ino) as usize + 1;
            if size > len {
                return ENAMETOOLONG.to_ptr();
            }
            // The name has to end where the buffer does.
            let start = buffer.add(len - size);
            ptr::copy(buffer, start, size);
            start
        }
    }
}

/// # Safety
///
/// To be called as `super_operations.destroy_inode`, for an inode of a [`PseudoFs`].
unsafe extern "C" fn destroy_inode(inode: *mut kernel::bindings::inode) {
    // SAFETY: The inode is valid, and nobody else uses it any more: nor does a walk under RCU come to it, as its
    // dentries are in no directory. If it has private data, `new_inode` made it, so that its file operations are the
    // first part of what that gave it, the data is what `drop_object` wants, and it has a reference to the module. The
    // root has none of these.
    unsafe {
        let object = (*inode).i_private;
        let operations = (*inode).__bindgen_anon_3.i_fop.cast::<InodeOperations>();
        kernel::bindings::free_inode_nonrcu(inode);
        if !object.is_null() {
            ((*operations).drop_object)(object);
            // From here on the module may be removed, but only after this task has left its text. A reference to an
            // inode comes with one to the mount or the super block, which is given up later. `PseudoFs::drop` waits for
            // that. Until then the VFS looks at the operations of inodes and dentries, too.
            kernel::bindings::module_put(module::as_ptr());
        }
    }
}

/// The part of an inode's operations that depends on its object's type.
#[repr(C)]
struct InodeOperations {
    // First, so that a pointer to it is one to all of this.
    files: kernel::bindings::file_operations,
    drop_object: unsafe fn(*mut c_void),
}

/// The operations of inodes whose private data came from `H::into_foreign`.
///
/// Files have the same, without a reference: theirs is the one to the inode.
struct InodeVtable<H: Holder>(PhantomData<H>);

impl<H: Holder<Object: Openable>> InodeVtable<H> {
    const VTABLE: InodeOperations = InodeOperations {
        files: kernel::bindings::file_operations {
            open: Some(Self::open),
            release: Some(Self::release),
            // A file has the inode, and that has a reference to the module.
            owner: ptr::null_mut(),
            ..FileVtable::<H::Object>::VTABLE
        },
        drop_object: Self::drop_object,
    };

    /// For an inode and its files.
    fn file_operations() -> *const kernel::bindings::file_operations {
        ptr::from_ref(const { &Self::VTABLE }).cast()
    }

    /// # Safety
    ///
    /// `object` came from `H::into_foreign`, and is not used after.
    unsafe fn drop_object(object: *mut c_void) {
        // SAFETY: By the function's requirements.
        drop(unsafe { H::from_foreign(object) });
    }

    /// # Safety
    ///
    /// To be called as `file_operations.open` of an inode that `new_inode::<H>` made.
    unsafe extern "C" fn open(
        inode: *mut kernel::bindings::inode,
        file: *mut kernel::bindings::file,
    ) -> c_int {
        // SAFETY: The file holds the inode, and that a reference to the object. The arguments are this operation's.
        // The object is what all operations expect, and `release` does not take the reference.
        unsafe {
            let private = (*inode).i_private;
            match open::open::<H::Object>(inode, file, &*Arc::<H::Object>::borrow(private)) {
                Ok(()) => {
                    open::finish::<H::Object>(file, private);
                    0
                }
                Err(error) => error.to_errno(),
            }
        }
    }

    /// # Safety
    ///
    /// To be called as `file_operations.release` of a file on such an inode.
    unsafe extern "C" fn release(
        _inode: *mut kernel::bindings::inode,
        file: *mut kernel::bindings::file,
    ) -> c_int {
        // SAFETY: The file still holds the inode, and that a reference to the object.
        let (object, mode, inode) = unsafe {
            (
                Arc::<H::Object>::borrow((*file).private_data),
                (*file).f_mode,
                InodeOfReleased::new(file),
            )
        };
        object.release(Access::from_mode(mode), inode);
        0
    }
}

/// A reference to an inode.
///
/// # Invariants
///
/// Owns one count of the inode's references.
struct InodeRef(NonNull<kernel::bindings::inode>);

impl Drop for InodeRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the reference is ours to give back.
        unsafe { kernel::bindings::iput(self.0.as_ptr()) };
    }
}

/// The file system, mounted for as long as this exists.
///
/// # Invariants
///
/// - The mount came from `kern_mount`, and the reference to it is ours.
/// - The super block holds one reference to the module, of which the module was relieved while this exists.
pub(crate) struct PseudoFs<K: Kind>(NonNull<kernel::bindings::vfsmount>, PhantomData<fn() -> K>);

// SAFETY: A mount may be used and given back by any thread.
unsafe impl<K: Kind> Send for PseudoFs<K> {}
// SAFETY: As above.
unsafe impl<K: Kind> Sync for PseudoFs<K> {}

impl<K: Kind> PseudoFs<K> {
    /// Mounts the file system.
    ///
    /// Mounted or not, the module can be unloaded while there is no inode: each of these has a reference to it. The
    /// super block's own reference is given back at once, and taken anew before the super block goes.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    ///
    /// C: `init_pipe_fs` in `fs/pipe.c`. Files on a mount that `kern_mount` made are closed without taking the lock of
    /// all mounts.
    pub(crate) fn mount() -> Result<Self> {
        // SAFETY: The type is valid, and static.
        let mount = from_err_ptr(unsafe { kernel::bindings::kern_mount(K::fs_type().0.get()) })?;
        let mount = NonNull::new(mount).ok_or(ENOMEM)?;
        // SAFETY: `get_filesystem` took it for the super block. While this code runs there is another reference, or the
        // module is being loaded.
        unsafe { kernel::bindings::module_put(module::as_ptr()) };
        // INVARIANT: Both are as they have to be now.
        Ok(Self(mount, PhantomData))
    }
}

impl<K: Kind> Drop for PseudoFs<K> {
    /// Context: may sleep; waits for a grace period. While the module goes it waits for tasks that are done with the
    /// last inode, too, and for a walk of all super blocks, as sync(2) does one, to get past this one.
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the super block's reference is one that the module was relieved of: now it
        // counts. The module is valid.
        unsafe { kernel::bindings::__module_get(module::as_ptr()) };
        let references = module::references();
        // SAFETY: By the type invariants, the reference is ours to give back.
        unsafe { kernel::bindings::kern_unmount_array(&mut self.0.as_ptr(), 1) };
        if !module::is_going() {
            return;
        }
        // The module goes. There is no inode any more, but a task that had the last one may be on its way from
        // `destroy_inode` to `mntput`. The super block ends there, and its last use of this module is to give back
        // the reference: nobody else has one.
        while module::references() >= references {
            fsleep(Delta::from_millis(1));
        }
    }
}

/// Makes an inode for `object`.
///
/// C: `get_pipe_inode` in `fs/pipe.c`.
fn new_inode<K: Kind, H: Holder<Object: Openable>>(
    fs: &PseudoFs<K>,
    object: H,
) -> Result<InodeRef> {
    // It is none, but all that an inode of its kind needs that is on no list.
    //
    // SAFETY: By the invariants of `PseudoFs` the mount is valid, and so is its super block.
    let inode = unsafe { kernel::bindings::alloc_anon_inode(fs.0.as_ref().mnt_sb) };
    // INVARIANT: It has one reference, and we own it.
    let inode = InodeRef(NonNull::new(from_err_ptr(inode).map_err(|_| ENFILE)?).ok_or(ENFILE)?);
    let raw = inode.0.as_ptr();
    // SAFETY: The module is valid. `destroy_inode` gives the reference back, once the inode has an object.
    if !unsafe { kernel::bindings::try_module_get(module::as_ptr()) } {
        return Err(ENOENT);
    }
    // SAFETY: The inode is valid, and nobody else uses it yet.
    object.placed(unsafe { (*raw).i_ino } as u32);
    // SAFETY: As above.
    unsafe {
        (*raw).__bindgen_anon_3.i_fop = InodeVtable::<H>::file_operations();
        (*raw).i_private = object.into_foreign();
        (*raw).i_mode |= kernel::bindings::S_IFIFO as kernel::bindings::umode_t;
        (*raw).i_flags = 0;
    }
    Ok(inode)
}

/// Makes the first file on an inode, for writing.
///
/// An open of the inode finds `object` by itself.
fn first_file<K: Kind, H: Holder<Object: Openable>>(
    fs: &PseudoFs<K>,
    inode: InodeRef,
    open_flags: u32,
) -> Result<ARef<File>> {
    // SAFETY: All is valid. If there is a file, it owns the reference to the inode.
    let file = from_err_ptr(unsafe {
        kernel::bindings::alloc_file_pseudo(
            inode.0.as_ptr(),
            fs.0.as_ptr(),
            c"".as_char_ptr(),
            open_flags as c_int,
            InodeVtable::<H>::file_operations(),
        )
    })?;
    forget(inode);
    // SAFETY: The file is valid and new, has these operations, and its one reference is ours.
    unsafe { start::<H>(file) }
}

/// Makes one more file where `first` is, for reading.
fn second_file<H: Holder<Object: Openable>>(first: &File, open_flags: u32) -> Result<ARef<File>> {
    // SAFETY: The path is that of an open file. The operations are static, and the object's; the path leads to the
    // inode, and that keeps the module. The file is counted as one for reading, and `start` gives it its object.
    unsafe {
        let path = &raw const (*first.as_ptr()).__bindgen_anon_1.f_path;
        let operations = InodeVtable::<H>::file_operations();
        let file = path_file::create::<H::Object>(path, open_flags, operations)?.as_ptr();
        bindings::i_readcount_inc((*file).f_inode);
        start::<H>(file)
    }
}

/// Starts a file as the kernel starts those of its pipes.
///
/// # Safety
///
/// `file` is valid, on an inode that `new_inode::<H>` made, has its operations and no object so far, and nobody else
/// knows it: its one reference is the caller's, who gives it up.
unsafe fn start<H: Holder<Object: Openable>>(
    file: *mut kernel::bindings::file,
) -> Result<ARef<File>> {
    // SAFETY: By the function's requirements. Nobody is in the middle of using the file's position.
    unsafe {
        open::begin((*file).f_inode, file);
        open::finish::<H::Object>(file, (*(*file).f_inode).i_private);
        (*file).f_mode |= FileVtable::<H::Object>::EXTRA_MODE;
        // Whoever watches hears of them, but is not asked for permission.
        bindings::file_set_fsnotify_mode(file, bindings::FMODE_NONOTIFY_PERM);
        Ok(ARef::from_raw(NonNull::new(file).ok_or(ENOMEM)?.cast()))
    }
}

/// Makes an inode on `object` and two files on that: the first for reading, the second for writing.
///
/// The object has to begin as if both had been opened: [`Openable::open`] is called for what open(2) adds. If
/// this fails, `release` is called for the second file at most, if need be after this function returned.
///
/// Of `open_flags`, `O_NONBLOCK` counts, and `O_DIRECT` for the second file.
///
/// Context: may sleep.
///
/// Errors: `ENFILE`, `ENOMEM`; `ENOENT` while the module is going.
///
/// C: `create_pipe_files` in `fs/pipe.c`.
pub(crate) fn create<K: Kind, H: Holder<Object: Openable>>(
    fs: &PseudoFs<K>,
    object: H,
    open_flags: u32,
) -> Result<(ARef<File>, ARef<File>)> {
    let inode = new_inode(fs, object)?;
    let write_flags = flags::O_WRONLY | open_flags & (flags::O_NONBLOCK | flags::O_DIRECT);
    let write = first_file::<K, H>(fs, inode, write_flags)?;
    let read_flags = flags::O_RDONLY | open_flags & flags::O_NONBLOCK;
    let read = second_file::<H>(&write, read_flags)?;
    Ok((read, write))
}
