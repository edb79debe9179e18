// SPDX-License-Identifier: GPL-2.0

//! Telling who is on a queue.

use super::{
    events::PollEvents,
    wait::{self, Deadline, TaskEntry},
    Guard, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    bindings::{poll_table_entry, poll_wqueues, task_struct, wait_queue_entry},
    container_of,
    task::Pid, //
};

/// An entry of a queue whose lock is held.
///
/// # Invariants
///
/// Points at a valid entry, which stays on its queue for `'a`.
pub(crate) struct Entry<'a>(*mut wait_queue_entry, PhantomData<&'a ()>);

/// Who put an entry on a queue. Foreign ones are told by their wake function's symbol: it is all
/// there is to see of them from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A task that waits by means of this module.
    Task,
    /// poll(2) or select(2): `pollwake` in `fs/select.c`.
    Poll,
    /// An epoll set: `ep_poll_callback` in `fs/eventpoll.c`.
    Epoll,
    /// io_uring: `io_poll_wake` in `io_uring/poll.c`.
    IoUring,
    /// Anything else.
    Other,
}

/// A task on a queue, as the current task may see it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Identity {
    /// Process and thread, as the current task numbers them; 0 if it cannot see them.
    pub(crate) pid: Pid,
    /// The thread.
    pub(crate) tid: Pid,
    /// The thread's name, ended by 0; empty if the task cannot be seen.
    pub(crate) comm: [u8; 16],
}

/// The symbol of a kernel function, without an offset, as far as it fits; ended by 0.
pub(crate) type Symbol = [u8; 64];

/// What is known of wake functions. Looking one up takes microseconds: too long to do it for each entry
/// while a lock is held.
///
/// # Invariants
///
/// A function that is known as [`Kind::Poll`] is `pollwake` in `fs/select.c`: the kernel has no other
/// function of that name, and a module's would have the module's name behind it.
#[derive(Default)]
pub(crate) struct Kinds {
    known: [Option<Known>; 6],
}

struct Known {
    function: usize,
    kind: Kind,
    symbol: Symbol,
}

impl Kinds {
    fn of(&mut self, function: usize) -> &Known {
        let known = &mut self.known;
        let place = known
            .iter()
            .position(|slot| slot.as_ref().is_none_or(|known| known.function == function))
            // There are more functions than places: the last place changes hands.
            .unwrap_or(known.len() - 1);
        let slot = &mut known[place];
        slot.take_if(|known| known.function != function);
        slot.get_or_insert_with(|| look_up(function))
    }
}

#[inline(never)]
fn look_up(function: usize) -> Known {
    const LENGTH: usize = bindings::KSYM_SYMBOL_LEN as usize;
    let mut buffer = [0u8; LENGTH];
    // SAFETY: The buffer is as long as the function asks for. Any address will do, in any context.
    unsafe { kernel::bindings::sprint_symbol_no_offset(buffer.as_mut_ptr().cast(), function) };
    let length = buffer.iter().position(|&byte| byte == 0).unwrap_or(0);
    let name = &buffer[..length];
    let kind = match name {
        b"pollwake" => Kind::Poll,
        b"ep_poll_callback" => Kind::Epoll,
        b"io_poll_wake" => Kind::IoUring,
        _ => Kind::Other,
    };
    let mut symbol = [0; 64];
    // Where there is no symbol the address is printed, which is nobody's business.
    if !name.starts_with(b"0x") {
        let fits = length.min(symbol.len() - 1);
        symbol[..fits].copy_from_slice(&name[..fits]);
    }
    // INVARIANT: The kind is that of the symbol.
    Known {
        function,
        kind,
        symbol,
    }
}

impl<'a> Entry<'a> {
    /// Who put it there.
    pub(crate) fn kind(&self, kinds: &mut Kinds) -> Kind {
        if self.as_task().is_some() {
            Kind::Task
        } else {
            kinds.of(self.function()).kind
        }
    }

    /// Its wake function's symbol.
    pub(crate) fn symbol(&self, kinds: &mut Kinds) -> Symbol {
        kinds.of(self.function()).symbol
    }

    fn function(&self) -> usize {
        // SAFETY: By the type invariants, the entry is valid.
        unsafe { (*self.0).func }.map_or(0, |function| (function as *const ()).addr())
    }

    /// Its `WQ_FLAG_*`.
    pub(crate) fn flags(&self) -> u32 {
        // SAFETY: By the type invariants, the entry is valid.
        unsafe { (*self.0).flags }
    }

    fn as_task(&self) -> Option<&'a TaskEntry<'a>> {
        // SAFETY: By the type invariants, the entry is valid.
        let function = unsafe { (*self.0).func }?;
        // SAFETY: Only a `TaskEntry` has this function. It stays on the queue for `'a`, and thus valid.
        wait::is_ours(function).then(|| unsafe { &*self.0.cast() })
    }

    fn as_poll(&self, kinds: &mut Kinds) -> Option<*const poll_table_entry> {
        (kinds.of(self.function()).kind == Kind::Poll)
            // SAFETY: By the invariants of `Kinds`, the function is `pollwake`, which takes it for granted
            // that its entry is part of a `poll_table_entry`.
            .then(|| unsafe { container_of!(self.0, poll_table_entry, wait) }.cast_const())
    }

    /// The events waited for, as far as that is known; empty if any will do.
    pub(crate) fn mask(&self, kinds: &mut Kinds) -> PollEvents {
        if let Some(task) = self.as_task() {
            return task.mask();
        }
        self.as_poll(kinds).map_or(PollEvents::empty(), |entry| {
            // SAFETY: The entry is valid for as long as it is on the queue.
            PollEvents::from_bits(unsafe { (*entry).key })
        })
    }

    /// When a task of this module's went to sleep, if it noted that: see [`Wait::stamped`](super::Wait::stamped).
    pub(crate) fn since(&self) -> Option<Deadline> {
        self.as_task()?.since()
    }

    /// The task that waits, as far as that is known.
    pub(crate) fn identity(&self, kinds: &mut Kinds) -> Option<Identity> {
        let task: *mut task_struct = if self.as_task().is_some() {
            // SAFETY: By the invariants of `TaskEntry`, this is its task.
            unsafe { (*self.0).private.cast() }
        } else {
            let entry = self.as_poll(kinds)?;
            // SAFETY: `private` of such an entry is the `poll_wqueues` it belongs to, which is there
            // as long as its entries are.
            unsafe { (*(*entry).wait.private.cast::<poll_wqueues>()).polling_task }
        };
        // SAFETY: The task is in the middle of a wait that began with this entry and ends with it, so
        // it is valid. A null namespace stands for that of the current task.
        Some(unsafe { Identity::of(task) })
    }
}

impl Identity {
    /// # Safety
    ///
    /// `task` is valid.
    unsafe fn of(task: *mut task_struct) -> Self {
        let mut identity = Self::default();
        // SAFETY: By the function's requirements. A null namespace stands for the current task's.
        unsafe {
            identity.pid = bindings::task_tgid_nr_ns(task, ptr::null_mut());
            identity.tid = bindings::task_pid_nr_ns(task, ptr::null_mut());
        }
        if identity.tid != 0 {
            // SAFETY: The task is valid, and the array as long as a name is.
            unsafe { bindings::get_task_comm(identity.comm.as_mut_ptr().cast(), task) };
        }
        identity
    }
}

/// The entries of a queue in the order in which they are woken.
///
/// # Invariants
///
/// The lock of the queue is held for `'a`; `list` is the queue's list head, `next` it or an entry's link.
struct Entries<'a> {
    list: *mut kernel::bindings::list_head,
    next: *mut kernel::bindings::list_head,
    _guard: PhantomData<&'a ()>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        if ptr::eq(self.next, self.list) {
            return None;
        }
        // SAFETY: By the type invariants, `next` is the link of a valid entry, as it is not the head; the
        // list does not change.
        let entry = unsafe { container_of!(self.next, wait_queue_entry, entry) };
        // SAFETY: As above.
        self.next = unsafe { (*self.next).next };
        // INVARIANT: It is valid, and stays on the queue while the guard is borrowed.
        Some(Entry(entry, PhantomData))
    }
}

impl<T> Guard<'_, T> {
    /// Who is on the queue, in the order in which they are woken.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        // SAFETY: The head is valid and initialized.
        let (list, next) = unsafe {
            let list = &raw mut (*self.queue.as_raw()).head;
            (list, (*list).next)
        };
        // INVARIANT: The guard, which is borrowed for as long, holds the lock.
        Entries {
            list,
            next,
            _guard: PhantomData,
        }
    }

    /// Returns how many entries are on the queue, `limit` at most: the lock is not held for a walk along all of a
    /// long queue.
    pub(crate) fn count_entries(&self, limit: usize) -> usize {
        self.entries().take(limit).count()
    }
}
