// SPDX-License-Identifier: GPL-2.0

//! Tallies: sums of the bytes and wake-ups of the objects that a tree of processes makes.
//!
//! Not of the cards: the originals have none. `ipcdemo exec --report` enrolls its namespace with a [`Tallies`] to report
//! which objects were made, and how they were used. Objects that were made without one do not count, and take no time for it.

use crate::{
    abstractions::{
        task::current_name,
        vfs::user_struct::{impl_user_struct, UserArray, UserStructPtr},
        wait_queue::{Locked, WaitQueue, Wake},
    },
    bindings::{
        ipcdemo_sums, ipcdemo_tallied_args, IPCDEMO_LEFT_NOT, IPCDEMO_LEFT_NOTIFICATION,
        IPCDEMO_OBJECT_SIZE_MAX, IPCDEMO_SUMS_MAX, IPCDEMO_TALLIED_SIZE_VER0,
    }, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        Mutex, //
    },
};

impl_user_struct!(ipcdemo_tallied_args: IPCDEMO_TALLIED_SIZE_VER0);

/// The sums of some objects. Each is exact by itself; at one moment they may be some calls apart.
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
}

/// Whether the module made the objects of a row, and why not.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Left {
    /// The module made them.
    Not = IPCDEMO_LEFT_NOT,
    /// They are notification pipes, for `watch_queue`: the kernel made them.
    Notification = IPCDEMO_LEFT_NOTIFICATION,
}

/// A tally, and the objects that it is of.
struct Row {
    kind: u32,
    left: Left,
    /// The name of the threads that made them; empty in the row of all names that have none of their own.
    comm: [u8; 16],
    tally: Arc<Tally>,
}

/// The tallies of a tree of processes: one for each kind of objects and each name of their makers.
#[pin_data]
pub(crate) struct Tallies {
    /// In the order of their first calls.
    #[pin]
    rows: Mutex<KVec<Row>>,
}

impl Tallies {
    /// Makes some with nothing in them.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                rows <- new_mutex!(KVec::new(), "Tallies::rows"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the tally of the objects of `kind` that the calling thread makes.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn of_caller(&self, kind: u32) -> Result<Arc<Tally>> {
        self.row(kind, Left::Not)
    }

    /// Counts a call of the calling thread that is left to the kernel.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn add_left(&self, kind: u32, why: Left) -> Result {
        self.row(kind, why)?.add_object();
        Ok(())
    }

    fn row(&self, kind: u32, left: Left) -> Result<Arc<Tally>> {
        let mut comm = current_name();
        let mut rows = self.rows.lock();
        // The last places are for the rows of all other names.
        if rows.len() >= IPCDEMO_SUMS_MAX as usize
            && !rows.iter().any(|row| row.is_of(kind, left, &comm))
        {
            comm = [0; 16];
        }
        if let Some(row) = rows.iter().find(|row| row.is_of(kind, left, &comm)) {
            return Ok(row.tally.clone());
        }
        let tally = Arc::new(Tally::default(), GFP_KERNEL_ACCOUNT)?;
        let row = Row {
            kind,
            left,
            comm,
            tally: tally.clone(),
        };
        rows.push(row, GFP_KERNEL_ACCOUNT)?;
        Ok(tally)
    }

    /// Writes the sums to the caller's array.
    ///
    /// Context: may sleep. Errors: `EINVAL` for a bad size, `ENOMEM`; those of [`UserStructPtr`].
    pub(crate) fn tell(&self, ptr: &UserStructPtr) -> Result {
        let mut args: ipcdemo_tallied_args = ptr.read()?;
        if args.capacity == 0 {
            return Err(EINVAL);
        }
        let array = UserArray::new(args.sums, args.sums_size, IPCDEMO_OBJECT_SIZE_MAX)?;
        let mut sums = KVec::new();
        {
            let rows = self.rows.lock();
            args.total = rows.len() as u32;
            for row in rows.iter().take(args.capacity as usize) {
                sums.push(row.sums(), GFP_KERNEL)?;
            }
        }
        array.write(&sums)?;
        args.count = sums.len() as u32;
        ptr.write(&args)
    }
}

impl Row {
    fn is_of(&self, kind: u32, left: Left, comm: &[u8; 16]) -> bool {
        self.kind == kind && self.left == left && self.comm == *comm
    }

    fn sums(&self) -> ipcdemo_sums {
        ipcdemo_sums {
            kind: self.kind,
            left: self.left as u32,
            comm: self.comm.map(|byte| byte as c_char),
            objects: self.tally.objects.get(),
            read: self.tally.read.get(),
            written: self.tally.written.get(),
            woken: self.tally.woken.get(),
        }
    }
}
