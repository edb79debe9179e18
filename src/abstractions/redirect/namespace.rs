// SPDX-License-Identifier: GPL-2.0

//! IPC namespaces, by which tasks are told apart.

use crate::bindings;
use core::marker::PhantomData;

/// A live `struct ipc_namespace`.
///
/// # Invariants
///
/// The namespace is valid for `'a`.
#[derive(Clone, Copy)]
pub(super) struct Namespace<'a>(*const bindings::ipc_namespace, PhantomData<&'a ()>);

/// An IPC namespace by its address and its number. Addresses are used again, numbers are not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) address: usize,
    /// C: `ns_common.ns_id`.
    pub(super) id: u64,
}

impl Namespace<'_> {
    /// Calls `f` with the caller's. Returns `None` for a task that is late in its exit, and has none.
    ///
    /// Context: any task.
    #[inline]
    pub(super) fn with_current<R>(f: impl FnOnce(Namespace<'_>) -> R) -> Option<R> {
        // SAFETY: The function has no requirements.
        let nsproxy = unsafe { bindings::current_nsproxy() };
        if nsproxy.is_null() {
            return None;
        }
        // INVARIANT: Nobody but the task itself changes its namespaces, by a system call of its own, and it holds a
        // reference to each.
        // SAFETY: As was just said, the set is valid.
        let namespace = unsafe { bindings::nsproxy_ipc_ns(nsproxy) };
        Some(f(Namespace(namespace, PhantomData)))
    }

    /// # Safety
    ///
    /// `ns` has to be valid for as long as the result is used.
    #[inline]
    pub(super) unsafe fn from_ptr(ns: *const bindings::ipc_namespace) -> Self {
        // INVARIANT: By the function's own requirement.
        Self(ns, PhantomData)
    }

    /// # Safety
    ///
    /// `ns` has to be that of an IPC namespace, and valid for as long as the result is used.
    #[inline]
    pub(super) unsafe fn from_common(ns: *mut kernel::bindings::ns_common) -> Self {
        // INVARIANT: By the function's own requirement.
        // SAFETY: It lies in an IPC namespace.
        Self(unsafe { bindings::to_ipc_ns(ns) }, PhantomData)
    }

    #[inline]
    pub(super) fn address(self) -> usize {
        self.0.addr()
    }

    #[inline]
    pub(super) fn id(self) -> u64 {
        // SAFETY: By the type invariant it is valid.
        unsafe { bindings::ipc_ns_id(self.0) }
    }

    pub(super) fn key(self) -> Key {
        Key {
            address: self.address(),
            id: self.id(),
        }
    }

    /// Its inode number in `/proc/PID/ns/ipc`.
    pub(super) fn inum(self) -> u32 {
        // SAFETY: By the type invariant it is valid.
        unsafe { bindings::ipc_ns_inum(self.0) }
    }

    pub(super) fn is_initial(self) -> bool {
        // SAFETY: The function compares addresses.
        unsafe { bindings::ipc_ns_is_initial(self.0) }
    }

    /// Whether there are objects in it.
    pub(super) fn is_used(self) -> bool {
        // SAFETY: By the type invariant it is valid; the function only reads.
        unsafe { bindings::ipc_ns_is_used(self.0.cast_mut()) }
    }

    /// Whether the caller has `CAP_SYS_ADMIN` in the user namespace that owns it.
    pub(super) fn caller_is_capable(self) -> bool {
        // SAFETY: By the type invariant it is valid, and holds a reference to its owner.
        unsafe { bindings::capable_over_ipc_ns(self.0.cast_mut()) }
    }
}

/// Whether somebody else has the caller's set of namespaces or holds its IPC namespace.
///
/// Context: a task that is not exiting.
pub(super) fn current_is_shared() -> bool {
    // SAFETY: A task that is not exiting has namespaces.
    unsafe { bindings::current_shares_ipc_ns() }
}

/// Whether the caller has System V semaphores to undo at its exit, which are those of its namespace.
pub(super) fn current_has_undo_list() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::current_has_undo_list() }
}

/// Whether another task runs in the caller's memory.
pub(super) fn current_shares_memory() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::current_shares_memory() }
}
