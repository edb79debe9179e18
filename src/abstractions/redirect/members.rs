// SPDX-License-Identifier: GPL-2.0

//! The enrolled IPC namespaces.
//!
//! A table of chains, found by the namespace's address. The chains of nearly all bystanders are empty, which takes one load
//! to see. Chains are walked with preemption off, and changed under the mutex of [`Table::lock`]; a record goes
//! a grace period after it was unlinked.

use super::namespace::{Key, Namespace};
use crate::{abstractions::module::References, bindings};
use core::{cell::UnsafeCell, ptr};
use kernel::{
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
    types::NotThreadSafe, //
};

#[cfg(CONFIG_KUNIT = "y")]
mod kunit;

/// Chains stay short, even if a user has as many namespaces as the kernel allows.
const BUCKETS_SHIFT: u32 = 12;

/// An enrolled namespace.
pub(crate) struct Member<S> {
    /// The rest of the chain. It stays when the record is unlinked, for a walk that stands there.
    next: Atomic<*mut Member<S>>,
    /// The rest of the list of dead records.
    next_dead: Atomic<*mut Member<S>>,
    pub(super) key: Key,
    pub(super) inum: u32,
    /// The kinds that are answered in it.
    pub(super) kinds: Atomic<u32>,
    /// The functions of which a call came through.
    pub(super) seen: Atomic<u64>,
    pub(super) sealed: Atomic<bool>,
    /// Whether a member made it, instead of enrolling it.
    pub(super) is_born: bool,
    pub(super) state: S,
    /// Keeps the text of the answers.
    module: References,
}

/// How a namespace became a member.
pub(super) struct Origin {
    kinds: u32,
    is_sealed: bool,
    is_born: bool,
}

impl Origin {
    /// Its only task enrolled it.
    pub(super) fn enrolled(kinds: u32) -> Self {
        Self {
            kinds,
            is_sealed: false,
            is_born: false,
        }
    }

    /// A member made it.
    pub(super) fn born_to<S>(parent: &Member<S>) -> Self {
        Self {
            kinds: parent.kinds.load(Relaxed),
            is_sealed: parent.sealed.load(Relaxed),
            is_born: true,
        }
    }
}

impl<S> Member<S> {
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(super) fn new(
        namespace: Namespace<'_>,
        origin: Origin,
        state: S,
        module: References,
    ) -> Result<KBox<Self>> {
        let member = Self {
            next: Atomic::new(ptr::null_mut()),
            next_dead: Atomic::new(ptr::null_mut()),
            key: namespace.key(),
            inum: namespace.inum(),
            kinds: Atomic::new(origin.kinds),
            seen: Atomic::new(0),
            sealed: Atomic::new(origin.is_sealed),
            is_born: origin.is_born,
            state,
            module,
        };
        Ok(KBox::new(member, GFP_KERNEL_ACCOUNT)?)
    }

    /// Whether the kind of this bit is answered in it.
    #[inline]
    pub(super) fn has(&self, kind: u32) -> bool {
        self.kinds.load(Relaxed) & kind != 0
    }

    /// Notes that a call of the function with this bit came through.
    #[inline]
    pub(super) fn see(&self, function: u64) {
        if self.seen.load(Relaxed) & function == 0 {
            self.see_first(function);
        }
    }

    #[cold]
    #[inline(never)]
    fn see_first(&self, function: u64) {
        let mut seen = self.seen.load(Relaxed);
        while let Err(other) = self.seen.cmpxchg(seen, seen | function, Relaxed) {
            seen = other;
        }
    }
}

/// All members, and `I`, which the mutex guards as well.
///
/// # Invariants
///
/// A record that a chain leads to stays valid until a grace period has passed after it was unlinked.
pub(super) struct Table<S, I> {
    /// Changed under the mutex only. Stores release what loads acquire in [`Table::find`]: a new record's fields.
    buckets: [Atomic<*mut Member<S>>; 1 << BUCKETS_SHIFT],
    /// The hash's, odd. It is random, so that nobody can fill one chain.
    factor: Atomic<u64>,
    /// The unlinked records that wait for their end. Under the mutex.
    dead: Atomic<*mut Member<S>>,
    /// Under the mutex.
    inner: UnsafeCell<I>,
}

// SAFETY: The fields that are not atomic are reached with the mutex held only. Records are shared, and dropped on any thread.
unsafe impl<S: Send + Sync, I: Send> Sync for Table<S, I> {}

impl<S, I> Table<S, I> {
    pub(super) const fn new(inner: I) -> Self {
        Self {
            buckets: [const { Atomic::new(ptr::null_mut()) }; 1 << BUCKETS_SHIFT],
            factor: Atomic::new(1),
            dead: Atomic::new(ptr::null_mut()),
            inner: UnsafeCell::new(inner),
        }
    }

    #[inline]
    fn bucket(&self, address: usize) -> &Atomic<*mut Member<S>> {
        let hash = (address as u64).wrapping_mul(self.factor.load(Relaxed));
        &self.buckets[(hash >> (u64::BITS - BUCKETS_SHIFT)) as usize]
    }

    /// Returns whether the namespace is certainly no member.
    ///
    /// Context: any.
    #[inline]
    pub(super) fn lacks(&self, namespace: Namespace<'_>) -> bool {
        self.bucket(namespace.address()).load(Relaxed).is_null()
    }

    /// Returns whether the namespace is a member.
    ///
    /// Context: any.
    #[inline]
    pub(super) fn has(&self, namespace: Namespace<'_>) -> bool {
        self.find(namespace, |_| ()).is_some()
    }

    /// Calls `f` with the namespace's record, if it is a member.
    ///
    /// Context: any. `f` runs with preemption off.
    #[inline]
    pub(super) fn find<R>(
        &self,
        namespace: Namespace<'_>,
        f: impl FnOnce(&Member<S>) -> R,
    ) -> Option<R> {
        let _walk = Walk::begin();
        let mut at = self.bucket(namespace.address()).load(Acquire);
        loop {
            // SAFETY: By the type invariant what a chain leads to is valid, or a grace period has not passed since: it
            // does not while preemption is off.
            let member = unsafe { at.as_ref() }?;
            if member.key.address == namespace.address() && member.key.id == namespace.id() {
                return Some(f(member));
            }
            at = member.next.load(Acquire);
        }
    }

    /// Takes the mutex.
    ///
    /// Context: may sleep.
    pub(super) fn lock(&self) -> Locked<'_, S, I> {
        // SAFETY: The mutex is static, and initialized.
        unsafe { bindings::members_lock() };
        Locked {
            table: self,
            _not_send: NotThreadSafe,
        }
    }
}

/// Preemption is off.
struct Walk(NotThreadSafe);

impl Walk {
    #[inline]
    fn begin() -> Self {
        // SAFETY: The drop enables it again, on the same task.
        unsafe { bindings::preempt_disable_notrace() };
        Self(NotThreadSafe)
    }
}

impl Drop for Walk {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: It was disabled when the value was made, and no value leaves its task.
        unsafe { bindings::preempt_enable_notrace() };
    }
}

/// The table, with its mutex held.
pub(super) struct Locked<'a, S, I> {
    table: &'a Table<S, I>,
    _not_send: NotThreadSafe,
}

impl<S, I> Locked<'_, S, I> {
    pub(super) fn inner(&mut self) -> &mut I {
        // SAFETY: The mutex is held, and this borrow is the value's only one.
        unsafe { &mut *self.table.inner.get() }
    }

    pub(super) fn insert(&mut self, member: KBox<Member<S>>) {
        let bucket = self.table.bucket(member.key.address);
        member.next.store(bucket.load(Relaxed), Relaxed);
        // Pairs with the loads of `find`.
        bucket.store(KBox::into_raw(member), Release);
    }

    /// Chooses the hash anew, unless there are records.
    pub(super) fn seed(&mut self) {
        if self.iter().next().is_none() {
            // SAFETY: The function has no requirements.
            let random = unsafe { bindings::random_u64() };
            self.table.factor.store(random | 1, Relaxed);
        }
    }

    /// The records, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Member<S>> {
        self.table.buckets.iter().flat_map(|bucket| {
            let mut at = bucket.load(Relaxed);
            core::iter::from_fn(move || {
                // SAFETY: With the mutex held no record is unlinked, so that each is valid.
                let member = unsafe { at.as_ref() }?;
                at = member.next.load(Relaxed);
                Some(member)
            })
        })
    }

    /// Unlinks a namespace's record, if it is a member. [`Dead`] ends it.
    ///
    /// # Safety
    ///
    /// No task may be in the namespace any more: [`super::routes`] lends its state to the calls of its tasks.
    pub(super) unsafe fn unlink(&mut self, key: Key) -> bool {
        let mut link = self.table.bucket(key.address);
        loop {
            let at = link.load(Relaxed);
            // SAFETY: With the mutex held each record in a chain is valid.
            let Some(member) = (unsafe { at.as_ref() }) else {
                return false;
            };
            if member.key == key {
                // Pairs with the loads of `find`.
                link.store(member.next.load(Relaxed), Release);
                member
                    .next_dead
                    .store(self.table.dead.load(Relaxed), Relaxed);
                self.table.dead.store(at, Relaxed);
                return true;
            }
            link = &member.next;
        }
    }

    /// Takes the unlinked records.
    pub(super) fn take_dead(&mut self) -> Dead<S> {
        // INVARIANT: Each was unlinked, and is on this list only.
        Dead(self.table.dead.xchg(ptr::null_mut(), Relaxed))
    }
}

impl<S, I> Drop for Locked<'_, S, I> {
    fn drop(&mut self) {
        // SAFETY: The mutex was taken by this task when the value was made.
        unsafe { bindings::members_unlock() };
    }
}

/// Unlinked records.
///
/// # Invariants
///
/// A list of records that no chain leads to, linked by `next_dead`, and owned.
#[must_use]
pub(super) struct Dead<S>(*mut Member<S>);

impl<S> Dead<S> {
    /// Waits for the walks that may have seen them, drops them, and returns their references to the module.
    ///
    /// Context: may sleep, without the table's mutex.
    pub(super) fn end(self) -> References {
        let mut references = References::none();
        let mut at = self.0;
        if !at.is_null() {
            // SAFETY: The function has no requirements; this task may sleep.
            unsafe { kernel::bindings::synchronize_rcu() };
        }
        while !at.is_null() {
            // SAFETY: By the type invariant the record is owned, and came from a `KBox`. No walk sees it any more.
            let member = unsafe { KBox::from_raw(at) };
            at = member.next_dead.load(Relaxed);
            references.add(KBox::into_inner(member).module);
        }
        references
    }
}
