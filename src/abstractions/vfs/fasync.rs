// SPDX-License-Identifier: GPL-2.0

//! Signal-driven I/O: who set `O_ASYNC` on a file is sent SIGIO when something happens to it.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use crate::{abstractions::vfs::file::Access, bindings};
use core::{marker::PhantomData, ptr};
use kernel::{
    macros::kunit_tests,
    prelude::*,
    sync::atomic::{atomic_load, Relaxed},
    types::{NotThreadSafe, Opaque}, //
};

/// What happened, as `si_band` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Band {
    /// There is something to read.
    In,
    /// There is room to write.
    Out,
}

/// The files whose owners want SIGIO: a `struct fasync_struct *`.
///
/// # Invariants
///
/// `list` is null or the head of a list that `fasync_helper` made, each entry of which is taken off
/// before its file goes away.
pub(crate) struct FasyncQueue {
    list: Opaque<*mut kernel::bindings::fasync_struct>,
}

// SAFETY: The list is changed and walked under locks of its own.
unsafe impl Send for FasyncQueue {}
// SAFETY: As above.
unsafe impl Sync for FasyncQueue {}

impl FasyncQueue {
    /// A queue with nobody on it.
    pub(crate) const fn new() -> Self {
        // INVARIANT: The list is empty.
        Self {
            list: Opaque::new(ptr::null_mut()),
        }
    }

    /// Sends SIGIO to the owners, if there are any.
    ///
    /// Context: any.
    ///
    /// C: `kill_fasync` in `fs/fcntl.c`.
    #[inline]
    pub(crate) fn notify(&self, band: Band) {
        // SAFETY: The head is valid, and every store to it is an `rcu_assign_pointer`.
        if !unsafe { atomic_load(self.list.get(), Relaxed) }.is_null() {
            self.send(band);
        }
    }

    #[inline(never)]
    fn send(&self, band: Band) {
        let band = match band {
            Band::In => kernel::bindings::POLL_IN,
            Band::Out => kernel::bindings::POLL_OUT,
        };
        // SAFETY: By the type invariants this is such a list, with valid files.
        unsafe {
            kernel::bindings::kill_fasync(
                self.list.get(),
                kernel::bindings::SIGIO as c_int,
                band as c_int,
            )
        };
    }
}

/// Held while a file is put on its queues or taken off them. One for all: it happens seldom.
struct Alone(NotThreadSafe);

impl Alone {
    fn new() -> Self {
        // SAFETY: It is unlocked by this thread, in drop; nothing in between locks it again.
        unsafe { bindings::fasync_lock() };
        Self(NotThreadSafe)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // SAFETY: This thread locked it.
        unsafe { bindings::fasync_unlock() };
    }
}

/// Where a type has its queues: the one for files that can be read, and the one for files that can be written.
///
/// A file's entry has to be taken off the very queue that it was put on, at the latest when the file goes. So it is not
/// for a function to say which queue that is: it is a field of the object that the file is on.
///
/// # Invariants
///
/// At both offsets a `T` has a [`FasyncQueue`].
pub(crate) struct FasyncFields<T> {
    read: usize,
    write: usize,
    _object: PhantomData<fn(&T)>,
}

impl<T> FasyncFields<T> {
    /// To be called by [`fasync_fields!`].
    ///
    /// # Safety
    ///
    /// At both offsets a `T` has a [`FasyncQueue`].
    pub(crate) const unsafe fn new(read: usize, write: usize) -> Self {
        // INVARIANT: By the function's requirements.
        Self {
            read,
            write,
            _object: PhantomData,
        }
    }

    /// Returns the queues of a file on `object` that was opened for `access`.
    pub(super) fn of(self, object: &T, access: Access) -> FasyncQueues<'_> {
        let object = ptr::from_ref(object);
        // SAFETY: By the type invariants, they are parts of the object.
        let (read, write) = unsafe {
            (
                &*object.byte_add(self.read).cast(),
                &*object.byte_add(self.write).cast(),
            )
        };
        FasyncQueues {
            first: access.read.then_some(read),
            second: access.write.then_some(write),
        }
    }
}

/// Tells [`FileOperations::FASYNC`](super::file::FileOperations::FASYNC) which fields of a type are its
/// [`FasyncQueue`]s.
macro_rules! fasync_fields {
    ($object:ty { read: $read:ident, write: $write:ident }) => {{
        use $crate::abstractions::vfs::fasync::{FasyncFields, FasyncQueue};

        // Both are aligned.
        const _: fn(&$object) = |object| {
            let _ = (&object.$read, &object.$write);
        };

        // Both are of that very type: a raw pointer does not coerce to one to something elsewhere.
        #[allow(unsafe_code, reason = "only addresses are taken")]
        const _: unsafe fn(*const $object) -> [*const FasyncQueue; 2] =
            // SAFETY: The function is never called.
            |object| unsafe { [&raw const (*object).$read, &raw const (*object).$write] };

        #[allow(unsafe_code, reason = "the fields are what is asked for")]
        // SAFETY: These are the fields' offsets, and by the function above they are queues.
        const FIELDS: FasyncFields<$object> = unsafe {
            FasyncFields::new(
                ::core::mem::offset_of!($object, $read),
                ::core::mem::offset_of!($object, $write),
            )
        };

        Some(FIELDS)
    }};
}
pub(crate) use fasync_fields;

/// The queues that a file belongs on: it hears of what happens on either.
#[derive(Clone, Copy)]
pub(super) struct FasyncQueues<'a> {
    first: Option<&'a FasyncQueue>,
    second: Option<&'a FasyncQueue>,
}

impl FasyncQueues<'_> {
    /// Puts `file` on its queues or takes it off them, all or nothing.
    ///
    /// # Safety
    ///
    /// To be called as `file_operations.fasync` of `file`, with its arguments, and for the same queues each time. They
    /// have to be there until then.
    ///
    /// C: `pipe_fasync` in `fs/pipe.c`.
    pub(super) unsafe fn update(
        self,
        fd: c_int,
        file: *mut kernel::bindings::file,
        on: bool,
    ) -> c_int {
        // Another call for the file may be under way, and between taking it off one queue and off the
        // other it must not be put on the first again: it would be left there with `FASYNC` cleared.
        let _alone = Alone::new();
        let update = |queue: &FasyncQueue, fd, on| {
            let (on, list) = (c_int::from(on), queue.list.get());
            // SAFETY: By the function's requirements the file is valid, by the type invariants the list.
            // INVARIANT: `__fput` calls this for a file that is on a list, and the file is off it then.
            unsafe { kernel::bindings::fasync_helper(fd, file, on, list) }
        };
        let mut ret = self.first.map_or(0, |queue| update(queue, fd, on));
        if let (Some(queue), 0..) = (self.second, ret) {
            let before = ret;
            ret = update(queue, fd, on);
            if let (Some(queue), 1.., ..0) = (self.first, before, ret) {
                // It was put on the first one by this call.
                update(queue, -1, false);
            }
        }
        ret
    }
}

#[kunit_tests(ipcdemo_fasync)]
mod tests {
    use super::*;
    use crate::abstractions::vfs::{
        anon_file::AnonFiles,
        file::{close, FileOperations, Seek},
    };
    use kernel::{
        fs::File,
        sync::{aref::ARef, Arc}, //
    };

    struct Signaling {
        readers: FasyncQueue,
        writers: FasyncQueue,
    }

    #[vtable]
    impl FileOperations for Signaling {
        const SEEK: Seek = Seek::Refused;

        const FASYNC: Option<FasyncFields<Self>> = fasync_fields!(Signaling {
            read: readers,
            write: writers
        });
    }

    fn open() -> Result<(Arc<Signaling>, ARef<File>)> {
        let signaling = Signaling {
            readers: FasyncQueue::new(),
            writers: FasyncQueue::new(),
        };
        let signaling = Arc::new(signaling, GFP_KERNEL)?;
        let file = AnonFiles::new(c"[ipcdemo-kunit]")?.create(signaling.clone(), 0)?;
        Ok((signaling, file))
    }

    /// Does what `F_SETFL` does, and tells whether it worked.
    fn set(file: &File, on: bool) -> bool {
        // SAFETY: The file is valid and has this operation; 0 is as good a descriptor as any.
        unsafe {
            let fops = &*(*file.as_ptr()).f_op;
            fops.fasync
                .is_some_and(|fasync| fasync(0, file.as_ptr(), c_int::from(on)) >= 0)
        }
    }

    /// Returns how many of both queues have somebody on them.
    fn count(signaling: &Signaling) -> usize {
        let queues = [&signaling.readers, &signaling.writers];
        // SAFETY: Nobody changes the lists meanwhile.
        let active = |queue: &&&FasyncQueue| unsafe { !(*queue.list.get()).is_null() };
        queues.iter().filter(active).count()
    }

    #[test]
    fn a_file_is_on_its_queues_until_it_is_off() -> Result {
        let (signaling, file) = open()?;
        assert_eq!(count(&signaling), 0);
        assert!(set(&file, true));
        assert_eq!(count(&signaling), 2);
        // It has no owner, so that nobody gets a signal.
        signaling.readers.notify(Band::In);
        signaling.writers.notify(Band::Out);
        assert!(set(&file, false));
        assert_eq!(count(&signaling), 0);
        Ok(())
    }

    #[test]
    fn a_file_that_goes_leaves_its_queues() -> Result {
        let (signaling, file) = open()?;
        assert!(set(&file, true));
        close(file);
        assert_eq!(count(&signaling), 0);
        Ok(())
    }
}
