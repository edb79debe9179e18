// SPDX-License-Identifier: GPL-2.0

//! Files whose operations are written in Rust.
//!
//! [`FileOperations`] is `struct file_operations` as a trait: each method that a type implements
//! becomes an operation of its files, each one that it leaves out is absent, with what that means
//! in the kernel. How such a file comes to be is another matter: see
//! [`anon_file`](super::anon_file) and [`misc_node`](super::misc_node); whoever opens one stores an
//! [`Arc`] of the implementing type in `private_data`, and that is all the operations rely on.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use crate::{
    abstractions::{
        tables::id_table::{InTable, Listed},
        vfs::{
            fasync::FasyncFields,
            poll::PollTable,
            splice::SplicePipe,
            splice_guess,
            stream::{Destination, Source, UserBuffer},
        },
        wait_queue::PollEvents, //
    },
    bindings, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::{self, NonNull}, //
};
use kernel::{
    error::{to_result, VTABLE_DEFAULT_ERROR},
    fs::{
        file::{flags, Offset},
        LocalFile, //
    },
    iov::{IovIterDest, IovIterSource},
    mm::virt::VmaNew,
    module::this_module,
    prelude::*,
    seq_file::SeqFile,
    sync::Arc,
    types::ForeignOwnable,
    uaccess::UserPtr, //
};

/// What a file does when it is sought in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seek {
    /// `lseek` fails with `ESPIPE`.
    Refused,
    /// `lseek` succeeds and changes nothing: `noop_llseek`.
    Ignored,
}

/// The operations of a kind of file.
///
/// All run in process context and may sleep. `&self` stays valid until `release` has returned. Most often they run for
/// the task that made the system call, but not always:
///
/// | operation | also runs |
/// |---|---|
/// | `release` | late in a task's exit (`exit_task_work` in `do_exit`), without memory (`mm`) and without namespaces (`nsproxy`); in a kernel thread that had the last reference, or by delayed work for one |
/// | `fasync`, and a wake function of a poller that is left | where `release` does, just before it |
/// | `read`, `write`, `poll`, `splice_read`, `splice_wait` | in a worker of io_uring, which has the memory and the namespaces of the task that it works for; in a kernel thread without user memory, where the kernel itself reads or writes |
/// | `poll` | in a kernel worker for aio(7), without memory and with the first namespaces |
/// | `show_fdinfo` | for any task that looks into `/proc/PID/fdinfo` |
/// | `ioctl`, `mmap`, `llseek` | never elsewhere |
///
/// So whatever may be called in `release` must not take a task's memory or namespaces for granted: in this room,
/// [`Deadline`](crate::abstractions::wait_queue::Deadline) takes the clock as it is outside of any time namespace then.
#[vtable]
pub(crate) trait FileOperations: Send + Sync + Sized + 'static {
    /// Whether reading and writing honor a [request](IoRequest) not to block: `FMODE_NOWAIT`,
    /// which `preadv2(RWF_NOWAIT)` and io_uring's fast path ask for.
    const NOWAIT: bool = false;

    /// What seeking does.
    const SEEK: Seek;

    /// Whether splice(2) and sendfile(2) go through `write` and `read` where there is neither
    /// `splice_wait` nor `splice_read`. Only for files whose reads and writes never sleep: the pipe at the
    /// other end is locked meanwhile, and the request not to block is not passed on.
    const SPLICE: bool = false;

    /// Whether a vectored write is one write. If not, each of its segments is one.
    const VECTORED_WRITE: bool = true;

    /// Reads.
    ///
    /// It is both the `read` and the `read_iter` of the VFS, each compiled for what it brings. A file that
    /// has both cannot be read by the kernel itself, `kernel_read`; nor written, as far as it has both.
    fn read(&self, _request: &IoRequest<'_>, _to: &mut impl Destination) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes: as [`read`](Self::read).
    fn write(&self, _request: &IoRequest<'_>, _from: &mut impl Source) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Moves up to `len` bytes into a pipe, for splice(2) and for sendfile(2) to a pipe. The pipe is
    /// locked: what sleeps has to be put into [`SplicePipe::unlocked`]. `EAGAIN` if `nonblock` is
    /// set and there is nothing to move.
    ///
    /// A file with `O_DIRECT` is read by `read` instead, which then is asked not to block.
    fn splice_read(
        &self,
        _file: &LocalFile,
        _pipe: &mut SplicePipe<'_>,
        _len: usize,
        _nonblock: bool,
    ) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Waits until a write would not sleep, for splice(2) and sendfile(2) into the file. `EAGAIN` if
    /// `nonblock` is set and it would.
    ///
    /// What is written then is asked not to block: it holds the lock of the pipe that it comes from, and
    /// ends where the room does.
    fn splice_wait(&self, _file: &LocalFile, _nonblock: bool) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Tells which events are there now, after it registered each queue on which one of them may
    /// come with `table`.
    fn poll<'file>(&'file self, _file: &LocalFile, _table: &PollTable<'file>) -> PollEvents {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles an `ioctl`. `arg` is what the caller passed; `ENOTTY` is the answer to what is
    /// unknown.
    fn ioctl(&self, _file: &LocalFile, _cmd: u32, _arg: usize) -> Result<isize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles an `ioctl` of a 32-bit caller. Without it `ioctl` does, with `arg` taken for a
    /// pointer: `compat_ptr_ioctl`.
    #[cfg(CONFIG_COMPAT)]
    fn compat_ioctl(&self, _file: &LocalFile, _cmd: u32, _arg: usize) -> Result<isize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Where the type keeps the queues of those who want SIGIO: [`fasync_fields!`](super::fasync::fasync_fields) tells.
    /// Without it the files refuse `O_ASYNC`.
    const FASYNC: Option<FasyncFields<Self>> = None;

    /// Maps the file.
    fn mmap(&self, _file: &LocalFile, _vma: &VmaNew) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Seeks, instead of what [`FileOperations::SEEK`] says.
    fn llseek(&self, _file: &LocalFile, _offset: Offset, _whence: i32) -> Result<Offset> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The last reference to a file that was opened for `access` is gone. Nobody polls it any more.
    ///
    /// The file is not passed: from a `LocalFile` another reference could be taken.
    fn release(&self, _access: Access, _inode: InodeOfReleased<'_>) {}

    /// Prints lines of `/proc/PID/fdinfo/FD`.
    fn show_fdinfo(&self, _m: &SeqFile, _file: &LocalFile) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// What a file was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// It can be read.
    pub(crate) read: bool,
    /// It can be written.
    pub(crate) write: bool,
}

impl Access {
    /// Takes it from a file's `f_mode`.
    pub(super) const fn from_mode(mode: u32) -> Self {
        Self {
            read: mode & bindings::FMODE_READ != 0,
            write: mode & bindings::FMODE_WRITE != 0,
        }
    }
}

/// The inode of a file that is being released.
///
/// # Invariants
///
/// Holds such a file, or null.
#[derive(Clone, Copy)]
pub(crate) struct InodeOfReleased<'a>(*mut kernel::bindings::file, PhantomData<&'a ()>);

impl InodeOfReleased<'_> {
    /// One that other objects have, too.
    pub(crate) const SHARED: Self = Self(ptr::null_mut(), PhantomData);

    /// # Safety
    ///
    /// The file is being released for as long as the returned value exists.
    pub(super) unsafe fn new(file: *mut kernel::bindings::file) -> Self {
        // INVARIANT: By the function's requirements.
        Self(file, PhantomData)
    }

    /// Returns whether the inode goes with the file: it is that of one object alone, and nothing else leads to it.
    pub(crate) fn goes(self) -> bool {
        // SAFETY: By the type invariants, the file is valid, and has its dentry and its inode.
        !self.0.is_null() && unsafe { bindings::inode_goes_with(self.0) }
    }
}

/// One request to read or write.
#[derive(Clone, Copy)]
pub(crate) struct IoRequest<'a> {
    file: &'a LocalFile,
    /// `ki_flags` of the `struct kiocb`; read(2) and write(2) have none.
    flags: u32,
}

impl<'a> IoRequest<'a> {
    /// That of a `struct kiocb`.
    ///
    /// # Safety
    ///
    /// The kiocb is valid, and so is its file for `'a`, which this thread may use as a `LocalFile`.
    unsafe fn from_raw(kiocb: *const kernel::bindings::kiocb) -> Self {
        // SAFETY: By the function's requirements. Its position may be in use, but not through this.
        unsafe {
            Self {
                file: LocalFile::from_raw_file((*kiocb).ki_filp),
                flags: (*kiocb).ki_flags as u32,
            }
        }
    }

    /// Whether it must not block: the file was told so, or this request is (`RWF_NOWAIT`).
    #[inline]
    pub(crate) fn is_nonblocking(&self) -> bool {
        is_nonblocking(self.file) || self.flags & (bindings::IOCB_NOWAIT as u32) != 0
    }

    /// Whether a broken pipe must not raise SIGPIPE: `RWF_NOSIGNAL`.
    pub(crate) fn no_signal(&self) -> bool {
        self.flags & (bindings::IOCB_NOSIGNAL as u32) != 0
    }

    /// The file.
    #[inline]
    pub(crate) fn file(&self) -> &'a LocalFile {
        self.file
    }
}

/// Whether a file was told not to block: `O_NONBLOCK`, at creation or by `F_SETFL`.
pub(crate) fn is_nonblocking(file: &LocalFile) -> bool {
    file.flags() & flags::O_NONBLOCK != 0
}

/// The file's `f_mode`.
pub(super) fn mode(file: &LocalFile) -> u32 {
    // `posix_fadvise` changes it while others look. This is meant as C's `READ_ONCE`.
    //
    // SAFETY: The file is valid.
    unsafe { (&raw const (*file.as_ptr()).f_mode).read_volatile() }
}

/// What the file was opened for.
pub(crate) fn access(file: &LocalFile) -> Access {
    Access::from_mode(mode(file))
}

/// The file was read: its access time may be due.
///
/// Context: may sleep.
///
/// C: `file_accessed` in `include/linux/fs.h`.
pub(crate) fn accessed(file: &LocalFile) {
    // SAFETY: The file is valid and open.
    unsafe { bindings::file_accessed(file.as_ptr()) };
}

/// The file was written: its times may be due, unless the file system is frozen.
///
/// Context: may sleep.
///
/// C: the end of `fifo_pipe_write` in `fs/pipe.c`.
pub(crate) fn written(file: &LocalFile) -> Result {
    let file = file.as_ptr();
    // SAFETY: The file is valid and open, which keeps its inode and its super block. Write access to
    // that is given back if it was taken.
    unsafe {
        let sb = (*(*file).f_inode).i_sb;
        if !bindings::sb_start_write_trylock(sb) {
            return Ok(());
        }
        let ret = kernel::bindings::file_update_time(file);
        bindings::sb_end_write(sb);
        to_result(ret)
    }
}

/// Drops a reference to the file. If it is the last one, the file is released before this returns:
/// in a kernel thread that is put off otherwise.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn close(file: kernel::sync::aref::ARef<kernel::fs::File>) {
    let file = core::mem::ManuallyDrop::new(file);
    // SAFETY: The reference is given up.
    unsafe { kernel::bindings::__fput_sync(file.as_ptr()) };
}

/// The `struct file_operations` of files with `T`'s operations, whose `private_data` came from
/// `Arc::<T>::into_foreign`.
pub(super) struct FileVtable<T: FileOperations>(PhantomData<T>);

/// What a file or its inode holds of the object that it is on: a reference.
///
/// # Safety
///
/// What `into_foreign` gives is as if [`Arc::into_foreign`] had given it, of an `Arc<Self::Object>`.
pub(crate) unsafe trait Holder:
    ForeignOwnable + Deref<Target = Self::Object> + Send + 'static
{
    /// The object.
    type Object: FileOperations;
}

// SAFETY: It is one.
unsafe impl<T: FileOperations> Holder for Arc<T> {
    type Object = T;
}

// SAFETY: It does as `Arc` does.
unsafe impl<T: FileOperations + InTable> Holder for Listed<T> {
    type Object = T;
}

/// # Safety
///
/// To be called as `file_operations.release` of a file whose `private_data` came from `H::into_foreign`.
pub(super) unsafe extern "C" fn release<H: Holder>(
    _inode: *mut kernel::bindings::inode,
    file: *mut kernel::bindings::file,
) -> c_int {
    // SAFETY: Nobody else uses the file any more. Its reference to the object, made by
    // `into_foreign`, is taken back this once.
    let (object, mode) = unsafe { (H::from_foreign((*file).private_data), (*file).f_mode) };
    object.release(Access::from_mode(mode), InodeOfReleased::SHARED);
    0
}

/// What the VFS expects of a read or write. More than was asked for cannot have been moved, and the
/// VFS relies on that.
fn to_ssize(result: Result<usize>, requested: usize) -> isize {
    match result {
        Ok(len) => len.min(requested) as isize,
        Err(error) => error.to_errno() as isize,
    }
}

/// Borrows what a file's `private_data` owns.
///
/// # Safety
///
/// `file` points at a valid file with `FileVtable<T>` operations, that stays open for `'a`.
unsafe fn object<'a, T: FileOperations>(file: *mut kernel::bindings::file) -> &'a T {
    // SAFETY: By the function's requirements, the file is valid, its `private_data` came from
    // `Arc::into_foreign`, and only `release` takes it back.
    let object = unsafe { Arc::<T>::borrow((*file).private_data) };
    // SAFETY: The file owns a reference to the object for `'a`, so that it outlives `object`.
    unsafe { &*core::ptr::from_ref::<T>(&object) }
}

/// # Safety (of all functions below)
///
/// They are called by the VFS as the `file_operations` of a valid, open file whose `private_data`
/// came from `Arc::<T>::into_foreign`, with arguments as the operation's documentation in
/// Documentation/filesystems/vfs.rst says.
impl<T: FileOperations> FileVtable<T> {
    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn read(
        file: *mut kernel::bindings::file,
        buf: *mut c_char,
        len: usize,
        _pos: *mut Offset,
    ) -> isize {
        let mut to = UserBuffer::new(UserPtr::from_ptr(buf.cast()), len).destination();
        // SAFETY: The file is valid for the call. Its position may be in use, but not through this.
        let (this, file) = unsafe { (object::<T>(file), LocalFile::from_raw_file(file)) };
        to_ssize(this.read(&IoRequest { file, flags: 0 }, &mut to), len)
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn write(
        file: *mut kernel::bindings::file,
        buf: *const c_char,
        len: usize,
        _pos: *mut Offset,
    ) -> isize {
        let ptr = UserPtr::from_ptr(buf.cast_mut().cast());
        let mut from = UserBuffer::new(ptr, len).source();
        // SAFETY: The file is valid for the call. Its position may be in use, but not through this.
        let (this, file) = unsafe { (object::<T>(file), LocalFile::from_raw_file(file)) };
        to_ssize(this.write(&IoRequest { file, flags: 0 }, &mut from), len)
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn read_iter(
        kiocb: *mut kernel::bindings::kiocb,
        iter: *mut kernel::bindings::iov_iter,
    ) -> isize {
        if T::HAS_SPLICE_READ {
            // SAFETY: Both are valid, and the flags are for this call.
            unsafe { splice_guess::nowait_if_spliced(kiocb, iter) };
        }
        // SAFETY: The kiocb and its file are valid for the call.
        let (this, request) =
            unsafe { (object::<T>((*kiocb).ki_filp), IoRequest::from_raw(kiocb)) };
        // SAFETY: `iter` is valid, nobody else uses it, and as it is for a read, it is `ITER_DEST`.
        let to = unsafe { IovIterDest::from_raw(iter) };
        let requested = to.len();
        to_ssize(this.read(&request, to), requested)
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn write_iter(
        kiocb: *mut kernel::bindings::kiocb,
        iter: *mut kernel::bindings::iov_iter,
    ) -> isize {
        if T::HAS_SPLICE_WAIT {
            // SAFETY: Both are valid, and the flags are for this call.
            unsafe { splice_guess::nowait_if_spliced(kiocb, iter) };
        }
        // SAFETY: The kiocb and its file are valid for the call.
        let (this, request) =
            unsafe { (object::<T>((*kiocb).ki_filp), IoRequest::from_raw(kiocb)) };
        // SAFETY: `iter` is valid, nobody else uses it, and as it is for a write, it is
        // `ITER_SOURCE`.
        let from = unsafe { IovIterSource::from_raw(iter) };
        let requested = from.len();
        to_ssize(this.write(&request, from), requested)
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn poll(
        file: *mut kernel::bindings::file,
        table: *mut kernel::bindings::poll_table,
    ) -> u32 {
        // SAFETY: The file is valid for the call and `table` null or valid. The object lives until
        // `release`; that is the lifetime of both.
        let (this, table) = unsafe { (object::<T>(file), PollTable::from_raw(file, table)) };
        // SAFETY: Who polls holds a reference to the file. Its position may be in use, but not
        // through this.
        let file = unsafe { LocalFile::from_raw_file(file) };
        this.poll(file, &table).bits()
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn splice_write(
        pipe: *mut kernel::bindings::pipe_inode_info,
        file: *mut kernel::bindings::file,
        pos: *mut Offset,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: The arguments are this operation's, and the object is the file's own.
        unsafe { splice_guess::write(object::<T>(file), pipe, file, pos, len, flags) }
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn splice_read(
        file: *mut kernel::bindings::file,
        _pos: *mut Offset,
        pipe: *mut kernel::bindings::pipe_inode_info,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: The file is valid for the call. Its position may be in use, but not through this.
        let (this, file) = unsafe { (object::<T>(file), LocalFile::from_raw_file(file)) };
        // SAFETY: The pipe is valid for the call. It is locked, or this task's own, that of
        // `splice_direct_to_actor`, which needs no lock.
        let mut pipe = unsafe { SplicePipe::from_raw(NonNull::new_unchecked(pipe)) };
        let nonblock = flags & bindings::SPLICE_F_NONBLOCK != 0;
        to_ssize(this.splice_read(file, &mut pipe, len, nonblock), len)
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn ioctl(
        file: *mut kernel::bindings::file,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_long {
        // SAFETY: The file is valid for the call. Its position may be in use, but not through this.
        let (this, file) = unsafe { (object::<T>(file), LocalFile::from_raw_file(file)) };
        match this.ioctl(file, cmd, arg) {
            Ok(value) => value as c_long,
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// See above.
    #[cfg(CONFIG_COMPAT)]
    unsafe extern "C" fn compat_ioctl(
        file: *mut kernel::bindings::file,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_long {
        // SAFETY: The file is valid for the call. Its position may be in use, but not through this.
        let (this, file) = unsafe { (object::<T>(file), LocalFile::from_raw_file(file)) };
        match this.compat_ioctl(file, cmd, arg) {
            Ok(value) => value as c_long,
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn fasync(fd: c_int, file: *mut kernel::bindings::file, on: c_int) -> c_int {
        let Some(fields) = T::FASYNC else {
            return ENOTTY.to_errno();
        };
        // SAFETY: The file is valid for the call; the arguments are this operation's. The queues are those of the
        // file's own object, which is there until `release`, and the same each time.
        unsafe {
            let access = Access::from_mode((*file).f_mode);
            fields
                .of(object::<T>(file), access)
                .update(fd, file, on != 0)
        }
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn mmap(
        file: *mut kernel::bindings::file,
        vma: *mut kernel::bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The file is valid for the call. Its position may be in use, but not through this.
        let (this, file) = unsafe { (object::<T>(file), LocalFile::from_raw_file(file)) };
        // SAFETY: The area is being set up for this call.
        let vma = unsafe { VmaNew::from_raw(vma) };
        match this.mmap(file, vma) {
            Ok(()) => 0,
            Err(error) => error.to_errno(),
        }
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn llseek(
        file: *mut kernel::bindings::file,
        offset: Offset,
        whence: c_int,
    ) -> Offset {
        // SAFETY: The file is valid for the call. Its position may be in use, but not through this.
        let (this, file) = unsafe { (object::<T>(file), LocalFile::from_raw_file(file)) };
        match this.llseek(file, offset, whence) {
            Ok(position) => position,
            Err(error) => error.to_errno().into(),
        }
    }

    /// # Safety
    ///
    /// See above.
    unsafe extern "C" fn show_fdinfo(
        m: *mut kernel::bindings::seq_file,
        file: *mut kernel::bindings::file,
    ) {
        // SAFETY: Who reads fdinfo holds a reference to the file, and uses no position of it.
        let (this, file) = unsafe { (object::<T>(file), LocalFile::from_raw_file(file)) };
        // SAFETY: The seq_file is valid and used by this thread alone for the call.
        this.show_fdinfo(unsafe { SeqFile::from_raw(m) }, file);
    }

    /// The operations. `owner` keeps the module loaded while such a file is open.
    pub(super) const VTABLE: kernel::bindings::file_operations = {
        kernel::bindings::file_operations {
            owner: this_module::<T::OwnerModule>().as_ptr(),
            read: if T::HAS_READ { Some(Self::read) } else { None },
            write: if T::HAS_WRITE {
                Some(Self::write)
            } else {
                None
            },
            read_iter: if T::HAS_READ {
                Some(Self::read_iter)
            } else {
                None
            },
            write_iter: if T::HAS_WRITE && T::VECTORED_WRITE {
                Some(Self::write_iter)
            } else {
                None
            },
            poll: if T::HAS_POLL { Some(Self::poll) } else { None },
            unlocked_ioctl: if T::HAS_IOCTL {
                Some(Self::ioctl)
            } else {
                None
            },
            #[cfg(CONFIG_COMPAT)]
            compat_ioctl: if T::HAS_COMPAT_IOCTL {
                Some(Self::compat_ioctl)
            } else if T::HAS_IOCTL {
                kernel::bindings::compat_ptr_ioctl
            } else {
                None
            },
            fasync: if T::FASYNC.is_some() {
                Some(Self::fasync)
            } else {
                None
            },
            mmap: if T::HAS_MMAP { Some(Self::mmap) } else { None },
            splice_read: if T::HAS_SPLICE_READ {
                Some(Self::splice_read)
            } else if T::SPLICE && T::HAS_READ {
                Some(kernel::bindings::copy_splice_read)
            } else {
                None
            },
            splice_write: if T::HAS_SPLICE_WAIT {
                Some(Self::splice_write)
            } else if T::SPLICE && T::HAS_WRITE && T::VECTORED_WRITE {
                Some(kernel::bindings::iter_file_splice_write)
            } else {
                None
            },
            llseek: if T::HAS_LLSEEK {
                Some(Self::llseek)
            } else {
                match T::SEEK {
                    Seek::Refused => None,
                    Seek::Ignored => Some(kernel::bindings::noop_llseek),
                }
            },
            release: Some(release::<Arc<T>>),
            show_fdinfo: if T::HAS_SHOW_FDINFO {
                Some(Self::show_fdinfo)
            } else {
                None
            },
            ..pin_init::zeroed()
        }
    };

    /// `f_mode` bits that such a file has beyond those of its access mode.
    pub(super) const EXTRA_MODE: u32 = if T::NOWAIT { bindings::FMODE_NOWAIT } else { 0 };

    /// The `f_mode` of such a file that was opened with these flags, and whose inode nobody watches.
    ///
    /// C: `file_init_path` and `alloc_file_pseudo` in `fs/file_table.c`.
    #[inline]
    pub(super) const fn mode(open_flags: u32) -> u32 {
        // `OPEN_FMODE`.
        let access = (open_flags + 1) & flags::O_ACCMODE;
        let mut mode =
            access | bindings::FMODE_OPENED | bindings::FMODE_NONOTIFY | Self::EXTRA_MODE;
        if Self::VTABLE.llseek.is_some() {
            mode |= bindings::FMODE_LSEEK;
        }
        if access & bindings::FMODE_READ != 0 && T::HAS_READ {
            mode |= bindings::FMODE_CAN_READ;
        }
        if access & bindings::FMODE_WRITE != 0 && T::HAS_WRITE {
            mode |= bindings::FMODE_CAN_WRITE;
        }
        mode
    }
}
