// SPDX-License-Identifier: GPL-2.0

//! Signal-driven I/O: who set `O_ASYNC` on a file is sent SIGIO when something happens to it.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h).

use crate::bindings;
use core::ptr;
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

/// The queues that a file belongs on: it hears of what happens on either.
#[derive(Clone, Copy, Default)]
pub(crate) struct FasyncQueues<'a> {
    pub(crate) first: Option<&'a FasyncQueue>,
    pub(crate) second: Option<&'a FasyncQueue>,
}

impl FasyncQueues<'_> {
    /// Puts `file` on its queues or takes it off them, all or nothing.
    ///
    /// # Panics
    ///
    /// If the file is going away and its entry is on another queue, where it would be left.
    ///
    /// # Safety
    ///
    /// To be called as `file_operations.fasync` of `file`, with its arguments.
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
            // INVARIANT: `__fput` calls this for a file that is on a list, which then is off it: see the
            // check below.
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
        // Only `__fput` has no descriptor, and it is alone with the file. `FASYNC` tells that the file is on
        // a list, as it was cleared at open(2); taking it off clears that.
        //
        // SAFETY: The file is valid.
        let left = fd == -1 && unsafe { (*file).f_flags } & kernel::bindings::FASYNC != 0;
        assert!(!left, "a file's fasync queues are not those they were");
        ret
    }
}

#[kunit_tests(ipcdemo_fasync)]
mod tests {
    use super::*;
    use crate::abstractions::{
        anon_file::AnonFiles,
        file::{Access, FileOperations, Seek}, //
    };
    use kernel::{
        fs::File,
        sync::{aref::ARef, Arc}, //
    };

    struct Signalling {
        queue: FasyncQueue,
    }

    #[vtable]
    impl FileOperations for Signalling {
        const SEEK: Seek = Seek::Refused;

        fn fasync(&self, _access: Access) -> FasyncQueues<'_> {
            FasyncQueues {
                first: Some(&self.queue),
                second: None,
            }
        }
    }

    fn open() -> Result<(Arc<Signalling>, ARef<File>)> {
        let queue = FasyncQueue::new();
        let signalling = Arc::new(Signalling { queue }, GFP_KERNEL)?;
        let file = AnonFiles::new(c"[ipcdemo-kunit]")?.create(signalling.clone(), 0)?;
        Ok((signalling, file))
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

    fn is_empty(signalling: &Signalling) -> bool {
        // SAFETY: Nobody changes the list meanwhile.
        unsafe { (*signalling.queue.list.get()).is_null() }
    }

    #[test]
    fn a_file_is_on_the_queue_until_it_is_off() -> Result {
        let (signalling, file) = open()?;
        assert!(is_empty(&signalling));
        assert!(set(&file, true));
        assert!(!is_empty(&signalling));
        // It has no owner, so that nobody gets a signal.
        signalling.queue.notify(Band::In);
        signalling.queue.notify(Band::Out);
        assert!(set(&file, false));
        assert!(is_empty(&signalling));
        Ok(())
    }

    #[test]
    fn a_file_that_goes_leaves_the_queue() -> Result {
        let (signalling, file) = open()?;
        assert!(set(&file, true));
        drop(file);
        // A kernel thread puts the last reference off.
        //
        // SAFETY: No requirements.
        unsafe { kernel::bindings::flush_delayed_fput() };
        assert!(is_empty(&signalling));
        Ok(())
    }
}
