// SPDX-License-Identifier: GPL-2.0

//! Entries of C code, poll tables, and threads on another CPU, for the tests of the queue.

use crate::abstractions::wait_queue::WaitQueue;
use crate::{
    abstractions::vfs::{
        anon_file::AnonFiles,
        file::{close, FileOperations, Seek},
        poll::PollTable,
    },
    bindings, //
};
use core::{
    cell::Cell,
    ffi::{c_int, c_void},
    ptr, //
};
use kernel::{
    bindings::{poll_table, wait_queue_entry, wait_queue_head},
    cpu::CpuId,
    error::from_err_ptr,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, //
    },
    types::Opaque, //
};

/// An entry of somebody else's, which counts its calls and keeps what the last one said. It heeds
/// `POLLFREE`, as that of epoll.
#[repr(C)]
pub(super) struct Foreign {
    pub(super) entry: Opaque<wait_queue_entry>,
    /// The value that its wake function returns.
    gives: c_int,
    calls: Atomic<u32>,
    pub(super) key: Atomic<usize>,
    pub(super) flags: Atomic<c_int>,
    /// Whether the waker was marked as one that a signal of an eventfd must not nest in.
    pub(super) in_eventfd: Atomic<bool>,
    /// The queue that it was put on by a poll table.
    head: Cell<*mut wait_queue_head>,
}

impl Foreign {
    pub(super) fn new(gives: c_int) -> Self {
        let foreign = Self {
            entry: Opaque::zeroed(),
            gives,
            calls: Atomic::new(0),
            key: Atomic::new(0),
            flags: Atomic::new(-1),
            in_eventfd: Atomic::new(false),
            head: Cell::new(ptr::null_mut()),
        };
        // SAFETY: The entry is valid, and on no queue.
        unsafe { (*foreign.entry.get()).func = Some(called) };
        foreign
    }

    /// How often it was called, and the last key.
    pub(super) fn seen(&self) -> (u32, usize) {
        (self.calls.load(Relaxed), self.key.load(Relaxed))
    }
}

/// # Safety
///
/// To be called as the wake function of the entry of a `Foreign`, with the queue's lock held.
unsafe extern "C" fn called(
    entry: *mut wait_queue_entry,
    _mode: c_uint,
    flags: c_int,
    key: *mut c_void,
) -> c_int {
    // SAFETY: By the function's requirements, this is the first field of a `repr(C)` struct.
    let foreign = unsafe { &*entry.cast::<Foreign>() };
    foreign.calls.fetch_add(1, Relaxed);
    foreign.key.store(key.addr(), Relaxed);
    foreign.flags.store(flags, Relaxed);
    foreign.in_eventfd.store(is_in_eventfd(), Relaxed);
    if key.addr() & bindings::POLLFREE as usize != 0 {
        // SAFETY: It is on a queue whose lock is held.
        unsafe { bindings::list_del_init(&raw mut (*entry).entry) };
    }
    foreign.gives
}

/// The current task's mark.
pub(super) fn is_in_eventfd() -> bool {
    // SAFETY: No requirements.
    !unsafe { bindings::eventfd_signal_allowed() }
}

/// Where a foreign entry stands.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Head,
    Priority,
    ExclusiveTail,
}

/// Runs `act` with a foreign entry on the queue, whose function gives `gives`. Tells how often it was
/// called, and its last key.
pub(super) fn with_foreign<T>(
    queue: &WaitQueue<T>,
    place: Place,
    gives: c_int,
    act: impl FnOnce(),
) -> (u32, usize) {
    let foreign = Foreign::new(gives);
    let (head, entry) = (queue.as_raw(), foreign.entry.get());
    // SAFETY: The entry is valid, and off the queue before its frame is gone.
    unsafe {
        match place {
            Place::Head => kernel::bindings::add_wait_queue(head, entry),
            Place::Priority => kernel::bindings::add_wait_queue_priority(head, entry),
            Place::ExclusiveTail => kernel::bindings::add_wait_queue_exclusive(head, entry),
        }
        act();
        kernel::bindings::remove_wait_queue(head, entry);
    }
    foreign.seen()
}

/// A poll table whose function puts a [`Foreign`] on the queue.
#[repr(C)]
pub(super) struct Table<'a> {
    table: poll_table,
    foreign: &'a Foreign,
}

impl<'a> Table<'a> {
    pub(super) fn new(foreign: &'a Foreign) -> Self {
        Self {
            table: poll_table {
                _qproc: Some(queue_foreign),
                _key: 0,
            },
            foreign,
        }
    }

    /// # Safety
    ///
    /// The caller takes the entry off its queue before `'file` ends, or lets it heed `POLLFREE`.
    pub(super) unsafe fn with<'file>(&mut self, act: impl FnOnce(&PollTable<'file>)) {
        // SAFETY: The table is valid for the call, and its function does not look at the file. The rest
        // is up to the caller.
        act(&unsafe { PollTable::from_raw(ptr::null_mut(), (&raw mut self.table).cast()) });
    }
}

/// # Safety
///
/// To be called by `poll_wait` with the table of a `Table`.
unsafe extern "C" fn queue_foreign(
    _file: *mut kernel::bindings::file,
    head: *mut wait_queue_head,
    table: *mut poll_table,
) {
    // SAFETY: By the function's requirements, the table is the first field of a `repr(C)` struct.
    let foreign = unsafe { (*table.cast::<Table<'_>>()).foreign };
    if !foreign.head.get().is_null() {
        // There is one entry, for the first queue.
        return;
    }
    foreign.head.set(head);
    // SAFETY: `head` is valid, and the entry on no queue.
    unsafe { kernel::bindings::add_wait_queue(head, foreign.entry.get()) };
}

/// An object whose files do nothing.
struct Nothing;

#[vtable]
impl FileOperations for Nothing {
    const SEEK: Seek = Seek::Refused;
}

/// Runs `act` while a poller is on the first queue that `object` registers for a file that can be read and written.
/// Returns how often the poller was called, and the last key.
pub(crate) fn while_polled<T: FileOperations>(
    object: &T,
    act: impl FnOnce(),
) -> Result<(u32, usize)> {
    let file = AnonFiles::new(c"[ipcdemo-kunit]")?.create(Arc::new(Nothing, GFP_KERNEL)?, 0)?;
    let foreign = Foreign::new(1);
    // SAFETY: The entry is taken off below, before `object` can go.
    unsafe {
        Table::new(&foreign).with(|table| {
            let _ = object.poll(&file, table);
        });
    }
    act();
    if !foreign.head.get().is_null() {
        // SAFETY: The entry is on this queue, which is part of `object`.
        unsafe { kernel::bindings::remove_wait_queue(foreign.head.get(), foreign.entry.get()) };
    }
    close(file);
    Ok(foreign.seen())
}

/// # Safety
///
/// To be called as the function of a kernel thread whose data is an `F`.
unsafe extern "C" fn thread<F: Fn() + Sync>(body: *mut c_void) -> c_int {
    // SAFETY: By the function's requirements.
    unsafe { (*body.cast::<F>())() };
    0
}

/// Runs `act` while `body` runs in a thread on another CPU, and waits for that. `act` does not end
/// before `body` has begun.
pub(super) fn beside<F: Fn() + Sync, R>(body: &F, act: impl FnOnce() -> R) -> Result<R> {
    let data = ptr::from_ref(body).cast_mut().cast();
    let name = c"ipcdemo_kunit".as_char_ptr();
    // SAFETY: The name has no conversions in it. The thread does not run yet when it is bound, and has
    // ended before `body` does.
    unsafe {
        let task = kernel::bindings::kthread_create_on_node(Some(thread::<F>), data, -1, name);
        let task = from_err_ptr(task)?;
        kernel::bindings::get_task_struct(task);
        kernel::bindings::migrate_disable();
        kernel::bindings::kthread_bind(task, u32::from(CpuId::current().as_u32() == 0));
        kernel::bindings::wake_up_process(task);
        let result = act();
        kernel::bindings::kthread_stop_put(task);
        kernel::bindings::migrate_enable();
        Ok(result)
    }
}
