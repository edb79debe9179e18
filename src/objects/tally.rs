// SPDX-License-Identifier: GPL-2.0

//! A tally: sums of the bytes and wake-ups of the objects that were made for it.
//!
//! Not of the cards: the originals have none. `ipcdemo exec --report` asks for one to report how its objects were
//! used. Objects that were made without one do not count, and take no time for it.

use crate::{
    abstractions::{
        vfs::user_struct::{impl_user_struct, UserStructPtr},
        wait_queue::{Locked, WaitQueue, Wake},
    },
    bindings::{ipcdemo_tallied_args, IPCDEMO_TALLIED_SIZE_VER0}, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, //
    },
};

impl_user_struct!(ipcdemo_tallied_args: IPCDEMO_TALLIED_SIZE_VER0);

/// The sums. Each is exact by itself; at one moment they may be some calls apart.
#[derive(Default)]
pub(crate) struct Tally {
    objects: Sum,
    read: Sum,
    written: Sum,
    woken: Sum,
}

/// One of them. It orders nothing, and wraps.
struct Sum(Atomic<u64>);

impl Default for Sum {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Sum {
    fn add(&self, number: u64) {
        self.0.add(number, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Tally {
    /// Makes one with nothing in it.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self::default(), GFP_KERNEL_ACCOUNT)?)
    }

    /// An object was made.
    pub(crate) fn add_object(&self) {
        self.objects.add(1);
    }

    /// So many bytes were read.
    pub(crate) fn add_read(&self, bytes: usize) {
        self.read.add(bytes as u64);
    }

    /// So many bytes were written.
    pub(crate) fn add_written(&self, bytes: usize) {
        self.written.add(bytes as u64);
    }

    /// Wakes the entries on a queue, and counts the woken ones: sleepers, and pollers of any kind.
    ///
    /// Context: as [`WaitQueue::wake`].
    pub(crate) fn wake<T>(&self, queue: &WaitQueue<T>, wake: &Wake) {
        queue.locked(|queue| {
            self.wake_locked(queue, wake);
        });
    }

    /// As [`Tally::wake`], called with the lock held. Returns how many entries the walk came to.
    pub(crate) fn wake_locked<T>(&self, queue: &mut Locked<'_, T>, wake: &Wake) -> u32 {
        let report = queue.wake_and_report(wake);
        self.woken.add(report.woken.into());
        report.walked
    }

    /// Writes the sums to the caller's struct.
    ///
    /// Context: may sleep. Errors: those of [`UserStructPtr`].
    pub(crate) fn tell(&self, ptr: &UserStructPtr) -> Result {
        let _: ipcdemo_tallied_args = ptr.read()?;
        ptr.write(&ipcdemo_tallied_args {
            objects: self.objects.get(),
            read: self.read.get(),
            written: self.written.get(),
            woken: self.woken.get(),
        })
    }
}
