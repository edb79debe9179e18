// SPDX-License-Identifier: GPL-2.0

//! A file system that nobody can mount, of inodes that are FIFOs to whoever looks at them. The
//! kernel's own pipes live in such a one.
//!
//! The file system is mounted while there is a [`Mount`]. Longer than that it is there for whatever leads to
//! one of its inodes: an open file, a descriptor made with `O_PATH`, a look at `/proc/PID/fd`. All that time
//! the module stays loaded, because the file system's type has an owner.
//!
//! C headers: [`include/linux/pseudo_fs.h`](srctree/include/linux/pseudo_fs.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h).

use crate::{
    abstractions::{
        file::{Access, FileOperations, FileVtable, Holder},
        open::{self, Openable},
        path_file, //
    },
    bindings,
    LocalModule, //
};
use core::{
    marker::PhantomData,
    mem::{forget, replace},
    ptr::{self, NonNull}, //
};
use kernel::{
    error::from_err_ptr,
    fs::{file::flags, File},
    macros::kunit_tests,
    module::this_module,
    prelude::*,
    sync::{aref::ARef, atomic::Relaxed, Arc, Refcount, SetOnce},
    types::{ForeignOwnable, Opaque}, //
};

/// The type of the file system, and where it is mounted.
struct PipeFs {
    fs_type: Opaque<kernel::bindings::file_system_type>,
    mount: Opaque<*mut kernel::bindings::vfsmount>,
    pins: Opaque<kernel::bindings::refcount_t>,
}

// SAFETY: The type is changed by the VFS under its own locks; the mount by us under `mount_lock`, while there is
// no pin, and read while there is one.
unsafe impl Sync for PipeFs {}

impl PipeFs {
    /// How many pins there are. Leaves 0, and comes back there, under `mount_lock`.
    fn pins(&self) -> &Refcount {
        // SAFETY: A `Refcount` is nothing but a `refcount_t`, and this one is only used as such.
        unsafe { &*self.pins.get().cast() }
    }
}

static PIPE_FS: PipeFs = PipeFs {
    fs_type: Opaque::new(kernel::bindings::file_system_type {
        name: c"ipcdemo_pipefs".to_bytes_with_nul().as_ptr(),
        init_fs_context: Some(init_fs_context),
        kill_sb: Some(kernel::bindings::kill_anon_super),
        owner: this_module::<LocalModule>().as_ptr(),
        ..pin_init::zeroed()
    }),
    mount: Opaque::new(ptr::null_mut()),
    pins: Opaque::new(pin_init::zeroed()),
};

static SUPER_OPERATIONS: kernel::bindings::super_operations = kernel::bindings::super_operations {
    statfs: Some(kernel::bindings::simple_statfs),
    destroy_inode: Some(destroy_inode),
    ..pin_init::zeroed()
};

static DENTRY_OPERATIONS: kernel::bindings::dentry_operations =
    kernel::bindings::dentry_operations {
        d_dname: Some(d_dname),
        ..pin_init::zeroed()
    };

/// # Safety
///
/// To be called as `file_system_type.init_fs_context`.
unsafe extern "C" fn init_fs_context(fc: *mut kernel::bindings::fs_context) -> c_int {
    // SAFETY: The context is valid and being set up. `init_pseudo` gives null or something valid.
    unsafe {
        let ctx = bindings::init_pseudo(fc, kernel::bindings::PIPEFS_MAGIC as c_ulong);
        if ctx.is_null() {
            return ENOMEM.to_errno();
        }
        (*ctx).ops = &raw const SUPER_OPERATIONS;
        (*ctx).dops = &raw const DENTRY_OPERATIONS;
    }
    0
}

/// # Safety
///
/// To be called as `super_operations.destroy_inode`, for an inode of this file system.
unsafe extern "C" fn destroy_inode(inode: *mut kernel::bindings::inode) {
    // SAFETY: The inode is valid, and nobody else uses it any more: nor does a walk under RCU come to it, as its
    // dentries are in no directory. If it has private data, `new_inode` made it, so that its file operations are the
    // first part of what that gave it, and the data is what `drop_object` wants. The root has none.
    unsafe {
        let object = (*inode).i_private;
        let operations = (*inode).__bindgen_anon_3.i_fop.cast::<InodeOperations>();
        kernel::bindings::free_inode_nonrcu(inode);
        if !object.is_null() {
            ((*operations).drop_object)(object);
        }
    }
}

/// Names a file for `/proc/PID/fd`: `pipe:[INODE]`.
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
        let format = c"pipe:[%llu]".as_char_ptr();
        let size = kernel::bindings::snprintf(buffer, len, format, ino) as usize + 1;
        if size > len {
            return ENAMETOOLONG.to_ptr();
        }
        // The name has to end where the buffer does.
        let start = buffer.add(len - size);
        ptr::copy(buffer, start, size);
        start
    }
}

/// What an inode knows of its object's type.
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
            // As with any file system, its own reference to the module is enough: a file has the mount.
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
        let (object, mode) = unsafe {
            (
                Arc::<H::Object>::borrow((*file).private_data),
                (*file).f_mode,
            )
        };
        object.release(Access::from_mode(mode));
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

/// Keeps the file system mounted.
///
/// # Invariants
///
/// Stands for one pin, and as long as there is one the file system is mounted.
pub(crate) struct Mount(());

impl Mount {
    /// Mounts the file system, unless it is mounted already.
    ///
    /// The module cannot be unloaded before this is dropped; so it must not be part of what is
    /// dropped at unload. And who drops it has another reference to the module, from the file that
    /// a system call is about, for instance.
    ///
    /// Context: may sleep, in drop as well; the last one waits for a grace period there.
    ///
    /// Errors: `ENOMEM`.
    ///
    /// C: `simple_pin_fs` in `fs/libfs.c`. But files on a mount that `kern_mount` made are closed without
    /// taking the lock of all mounts.
    fn pin(_lock: &MountLock) -> Result<Self> {
        let pins = PIPE_FS.pins();
        if pins.as_atomic().load(Relaxed) > 0 {
            pins.inc();
        } else {
            let fs_type = PIPE_FS.fs_type.get();
            // SAFETY: The type is valid, and static.
            let mount = from_err_ptr(unsafe { kernel::bindings::kern_mount(fs_type) })?;
            // SAFETY: The lock is held, and there is no pin.
            unsafe { *PIPE_FS.mount.get() = mount };
            pins.set(1);
        }
        // INVARIANT: There is one more pin now.
        Ok(Self(()))
    }

    fn as_ptr(&self) -> *mut kernel::bindings::vfsmount {
        // SAFETY: By the type invariants there is a pin, so that the pointer does not change.
        unsafe { *PIPE_FS.mount.get() }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the pin is ours to give back.
        if !unsafe { bindings::mount_dec_and_lock(PIPE_FS.pins.get()) } {
            return;
        }
        let lock = MountLock;
        // SAFETY: The lock is held, and there is no pin any more.
        let mount = unsafe { replace(&mut *PIPE_FS.mount.get(), ptr::null_mut()) };
        drop(lock);
        // SAFETY: `kern_mount` made it, and it is given back this once.
        unsafe { kernel::bindings::kern_unmount(mount) };
    }
}

/// A [`Mount`] for when it is needed first.
pub(crate) struct LazyMount(SetOnce<Mount>);

impl LazyMount {
    /// One that mounts nothing yet.
    pub(crate) const fn new() -> Self {
        Self(SetOnce::new())
    }

    /// Gives the mount. Context, errors and what has to be heeded: as of [`Mount::pin`].
    #[inline]
    pub(crate) fn get(&self) -> Result<&Mount> {
        match self.0.as_ref() {
            Some(mount) => Ok(mount),
            None => self.first(),
        }
    }

    #[cold]
    fn first(&self) -> Result<&Mount> {
        let lock = MountLock::take();
        if self.0.as_ref().is_none() {
            self.0.populate(Mount::pin(&lock)?);
        }
        // Who populates it has the lock, so that nobody is in the middle of that.
        self.0.as_ref().ok_or(ENOMEM)
    }
}

/// The lock of who mounts the file system and who unmounts it, held.
struct MountLock;

impl MountLock {
    fn take() -> Self {
        // SAFETY: Process context, by the contexts of the functions above.
        unsafe { bindings::mount_lock() };
        Self
    }
}

impl Drop for MountLock {
    fn drop(&mut self) {
        // SAFETY: This thread took it.
        unsafe { bindings::mount_unlock() };
    }
}

/// Makes an inode for `object`.
///
/// C: `get_pipe_inode` in `fs/pipe.c`.
fn new_inode<H: Holder<Object: Openable>>(mount: &Mount, object: H) -> Result<InodeRef> {
    // It is none, but all that an inode of its kind needs that is on no list.
    //
    // SAFETY: The mount is valid, and so is its super block.
    let inode = unsafe { kernel::bindings::alloc_anon_inode((*mount.as_ptr()).mnt_sb) };
    // INVARIANT: It has one reference, and we own it.
    let inode = InodeRef(NonNull::new(from_err_ptr(inode).map_err(|_| ENFILE)?).ok_or(ENFILE)?);
    let raw = inode.0.as_ptr();
    // SAFETY: The inode is valid, and nobody else uses it yet.
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
/// Who opens the inode again finds `object` by itself.
fn first_file<H: Holder<Object: Openable>>(
    mount: &Mount,
    inode: InodeRef,
    open_flags: u32,
) -> Result<ARef<File>> {
    // SAFETY: All is valid. If there is a file, it owns the reference to the inode.
    let file = from_err_ptr(unsafe {
        kernel::bindings::alloc_file_pseudo(
            inode.0.as_ptr(),
            mount.as_ptr(),
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
    // mount, and that keeps the module. The file is counted as one for reading, and `start` gives it its object.
    unsafe {
        let path = &raw const (*first.as_ptr()).__bindgen_anon_1.f_path;
        let operations = InodeVtable::<H>::file_operations();
        let file = path_file::create::<H::Object>(path, open_flags, operations)?.as_ptr();
        bindings::i_readcount_inc((*file).f_inode);
        start::<H>(file)
    }
}

/// Starts a file as the kernel starts its pipes'.
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
/// Errors: `ENFILE`, `ENOMEM`.
///
/// C: `create_pipe_files` in `fs/pipe.c`.
pub(crate) fn create<H: Holder<Object: Openable>>(
    mount: &Mount,
    object: H,
    open_flags: u32,
) -> Result<(ARef<File>, ARef<File>)> {
    let inode = new_inode(mount, object)?;
    let write_flags = flags::O_WRONLY | open_flags & (flags::O_NONBLOCK | flags::O_DIRECT);
    let write = first_file::<H>(mount, inode, write_flags)?;
    let read_flags = flags::O_RDONLY | open_flags & flags::O_NONBLOCK;
    let read = second_file::<H>(&write, read_flags)?;
    Ok((read, write))
}

#[kunit_tests(ipcdemo_pipe_fs)]
mod tests {
    use super::*;
    use crate::abstractions::{
        file::{access, close, pipe_mark, Seek},
        open::Opening, //
    };
    use kernel::{
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

    /// What happened to a [`Probe`], which is there when that is gone.
    struct Log {
        refuses: Atomic<bool>,
        /// How often it was opened.
        opened: Atomic<u32>,
        /// How often it was released, by what the file was opened for.
        released: [Atomic<u32>; 3],
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

        fn release(&self, access: Access) {
            self.0.released(access).add(1, Relaxed);
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

    fn probe() -> Result<(Arc<Log>, Arc<Probe>)> {
        let log = Arc::new(
            Log {
                refuses: Atomic::new(false),
                opened: Atomic::new(0),
                released: [const { Atomic::new(0) }; 3],
                dropped: Atomic::new(0),
            },
            GFP_KERNEL,
        )?;
        let probe = Arc::new(Probe(log.clone()), GFP_KERNEL)?;
        Ok((log, probe))
    }

    fn pin() -> Result<Mount> {
        Mount::pin(&MountLock::take())
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
        // SAFETY: The module is valid.
        unsafe { kernel::bindings::module_refcount(this_module::<LocalModule>().as_ptr()) }
    }

    #[test]
    fn both_files_are_on_one_fifo() -> Result {
        let mount = pin()?;
        let (log, probe) = probe()?;
        let flags = flags::O_NONBLOCK | flags::O_DIRECT | flags::O_APPEND;
        let (read, write) = create(&mount, probe, flags)?;

        assert!(inode(&read) == inode(&write));
        // SAFETY: The inode is valid as long as the files are open.
        let (mode_of_inode, ino) = unsafe { ((*inode(&read)).i_mode, (*inode(&read)).i_ino) };
        assert_eq!(u32::from(mode_of_inode), kernel::bindings::S_IFIFO | 0o600);
        let expected = CString::try_from_fmt(fmt!("pipe:[{ino}]"))?;
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
        assert_eq!(log.dropped.load(Relaxed), 0);
        close(write);
        assert_eq!(log.releases(), [1, 1, 0]);
        assert_eq!(log.dropped.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn each_pair_has_an_inode_of_its_own() -> Result {
        let mount = pin()?;
        let (first_read, first_write) = create(&mount, probe()?.1, 0)?;
        let (read, write) = create(&mount, probe()?.1, 0)?;
        assert!(inode(&read) != inode(&first_read));
        assert!(*name::<64>(&read)? != *name::<64>(&first_read)?);
        for file in [first_read, first_write, read, write] {
            close(file);
        }
        Ok(())
    }

    #[test]
    fn a_name_needs_room() -> Result {
        let mount = pin()?;
        let (read, write) = create(&mount, probe()?.1, 0)?;
        assert!(name::<4>(&read).err() == Some(ENAMETOOLONG));
        close(read);
        close(write);
        Ok(())
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

    #[test]
    fn a_refused_open_leaves_nothing() -> Result {
        let mount = pin()?;
        let (log, probe) = probe()?;
        let (read, write) = create(&mount, probe, 0)?;
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

    /// What leads to an inode as a descriptor made with `O_PATH` does, holds it and the module, and
    /// the object can be opened through it, mounted or not.
    #[test]
    fn an_inode_can_be_opened_again() -> Result {
        let before = references();
        let mount = pin()?;
        let (log, probe) = probe()?;
        let (read, write) = create(&mount, probe, 0)?;
        assert_eq!((pipe_mark(&read), pipe_mark(&write)), (0, 0));
        // SAFETY: The file is open, and its path is held.
        let (path, cred) = unsafe {
            let path = (*read.as_ptr()).__bindgen_anon_1.f_path;
            kernel::bindings::path_get(&path);
            (path, kernel::bindings::get_cred((*read.as_ptr()).f_cred))
        };
        close(read);
        close(write);
        drop(mount);
        assert_eq!(log.dropped.load(Relaxed), 0);
        assert!(references() > before);

        // SAFETY: The path and the credentials are held, and given back once.
        let again = unsafe {
            let again = open(&path, cred);
            kernel::bindings::put_cred(cred);
            kernel::bindings::path_put(&path);
            again?
        };
        assert_eq!(log.opened.load(Relaxed), 1);
        assert_eq!((access(&again), pipe_mark(&again)), (BOTH, 7));
        assert_eq!(mode(&again) & bindings::FMODE_NOWAIT, 0);

        close(again);
        assert_eq!(log.releases(), [1, 1, 1]);
        assert_eq!(log.dropped.load(Relaxed), 1);
        assert_eq!(references(), before);
        Ok(())
    }

    /// A file has no reference to the module of its own: it has the mount.
    #[test]
    fn whoever_is_last_gives_back_the_module() -> Result {
        let before = references();
        for write_is_last in [false, true] {
            let (read, write) = create(&pin()?, probe()?.1, 0)?;
            assert!(references() > before);
            let (first, last) = if write_is_last {
                (read, write)
            } else {
                (write, read)
            };
            close(first);
            assert!(references() > before);
            close(last);
            assert_eq!(references(), before);
        }
        Ok(())
    }
}
