// SPDX-License-Identifier: GPL-2.0

//! One `ftrace_ops` and its handler, for the functions of one kind.
//!
//! Its filter is complete before it is registered, and does not change while it is: a BPF trampoline that was attached
//! meanwhile would call past it.

use super::{counts, namespace::Namespace, routes::NamespaceState};
use crate::{
    abstractions::module::{self, References},
    algorithms::perfect_hash::PerfectHash,
    bindings, //
};
use core::{cell::UnsafeCell, ffi::c_void, mem::MaybeUninit};
use kernel::{
    error::to_result,
    ffi::{c_uint, c_ulong},
    prelude::*,
    time::{delay::fsleep, Delta, Instant, Monotonic}, //
};

/// How the handler decides whether a call is answered. It only looks, and never sleeps.
#[derive(Clone, Copy)]
pub(super) enum Decide {
    /// The caller's namespace is a member that has the function's kind.
    Member,
    /// The first argument, a `struct ipc_namespace *`, is a member.
    Namespace,
    /// The caller's namespace is a member, or that of the second argument, a `struct ns_common *`.
    Crossing,
    /// The first argument, a `struct file *`, has operations of this module. A member whose namespace has the kind is noted, too.
    FileIsOurs,
}

/// A function of the kernel, and its answer.
///
/// # Invariants
///
/// `answer` is a function with the signature of the kernel's function `name`, and may be called whenever `decide` says so, in
/// its place and with its arguments. The arguments are what `decide` takes them for. `resolve` patches the address of that
/// function into its direct call.
pub(crate) struct Entry {
    pub(super) name: &'static CStr,
    /// Whether only 32-bit programs call it.
    pub(super) ia32: bool,
    decide: Decide,
    answer: *const c_void,
    resolve: unsafe extern "C" fn(address: c_ulong),
}

// SAFETY: The pointer is that of a function.
unsafe impl Sync for Entry {}

impl Entry {
    /// # Safety
    ///
    /// They have to fit together as the type's invariants say.
    pub(super) const unsafe fn new(
        name: &'static CStr,
        decide: Decide,
        answer: *const c_void,
        resolve: unsafe extern "C" fn(address: c_ulong),
    ) -> Self {
        // INVARIANT: By the function's own requirement.
        Self {
            name,
            ia32: false,
            decide,
            answer,
            resolve,
        }
    }
}

/// Why a hook could not be armed.
#[derive(Clone, Copy)]
pub(super) enum Failure {
    /// The kernel has no function tracer, or that is broken, or lacks memory.
    Tracer,
    /// The kernel has no such function that can be redirected, or it is one with another of the same kind.
    Absent(&'static CStr),
    /// It is livepatched, or redirected by another module.
    Taken(&'static CStr),
}

/// The functions of one kind, and their hook.
#[repr(C)]
pub(super) struct Hook {
    /// The first field: the handler gets its address. The tracer's own from arming to disarming.
    ops: UnsafeCell<MaybeUninit<bindings::redirect_hook>>,
    /// Written while the hook is not armed; the handler reads it while it is.
    hash: UnsafeCell<PerfectHash>,
    /// The kind's bit.
    pub(super) kind: u32,
    pub(super) entries: &'static [Entry],
    /// The number of the first function among those of all kinds.
    first: u8,
}

// SAFETY: The cells are the tracer's, or written while the hook is not armed, by the one owner of its `State`.
unsafe impl Sync for Hook {}

/// The part of a hook that changes. There is one for each hook.
pub(super) struct State {
    pub(super) is_armed: bool,
    /// Why it could not be armed, and when that was. To find the reason takes a grace period for each function.
    refused: Option<(Failure, Instant<Monotonic>)>,
    /// The functions' entries, 0 for one that the kernel does not have.
    addresses: [c_ulong; PerfectHash::KEYS_MAX],
}

impl State {
    pub(super) const fn new() -> Self {
        Self {
            is_armed: false,
            refused: None,
            addresses: [0; PerfectHash::KEYS_MAX],
        }
    }
}

impl Hook {
    pub(super) const fn new(kind: u32, entries: &'static [Entry], first: usize) -> Self {
        assert!(entries.len() <= PerfectHash::KEYS_MAX && first + entries.len() <= counts::MAX);
        Self {
            ops: UnsafeCell::new(MaybeUninit::zeroed()),
            hash: UnsafeCell::new(PerfectHash::empty()),
            kind,
            entries,
            first: first as u8,
        }
    }

    /// The number of a function among those of all kinds.
    #[inline]
    pub(super) fn index(&self, place: usize) -> counts::Index {
        counts::Index::new(self.first as usize + place)
    }

    /// Whether the kernel has the function.
    pub(super) fn has(&self, state: &State, place: usize) -> bool {
        state.addresses[place] != 0
    }

    /// Looks for the functions, and tells each original's direct call where it is.
    ///
    /// Context: may sleep.
    ///
    /// # Safety
    ///
    /// `state` has to be the hook's own. No original may be called meanwhile.
    pub(super) unsafe fn resolve(&self, state: &mut State) {
        for (entry, address) in self.entries.iter().zip(&mut state.addresses) {
            // SAFETY: The name is a string.
            *address = unsafe { bindings::function_address(entry.name.as_char_ptr()) };
            if *address != 0 {
                // SAFETY: By the entry's invariants it is the function's own. The instruction there enters the tracer, which
                // returns behind it.
                unsafe { (entry.resolve)(*address + bindings::REDIRECT_ENTRY_SIZE as c_ulong) };
            }
        }
    }

    /// Redirects the functions. A failure is told again for a while, without another try: a try is dear.
    ///
    /// Context: may sleep, if it fails for as long as an RCU-tasks grace period for each function takes.
    ///
    /// # Safety
    ///
    /// `state` has to be the hook's own, which is not armed.
    pub(super) unsafe fn arm<S: NamespaceState>(
        &'static self,
        state: &mut State,
    ) -> Result<(), Failure> {
        const REMEMBERED: Delta = Delta::from_secs(5);
        if let Some((failure, since)) = state.refused {
            if since.elapsed() < REMEMBERED {
                return Err(failure);
            }
        }
        let result = self.try_to_arm::<S>(state);
        state.refused = result.err().map(|failure| (failure, Instant::now()));
        result
    }

    fn try_to_arm<S: NamespaceState>(&'static self, state: &mut State) -> Result<(), Failure> {
        let addresses = &mut state.addresses[..self.entries.len()];
        // Without a tracer, or kprobes, none has an address.
        if addresses.iter().all(|&address| address == 0) {
            return Err(Failure::Tracer);
        }
        if let Some(absent) = addresses.iter().position(|&address| address == 0) {
            return Err(Failure::Absent(self.entries[absent].name));
        }
        // The linker may have given two functions with the same code one address.
        if let Some(second) =
            (1..addresses.len()).find(|&at| addresses[..at].contains(&addresses[at]))
        {
            return Err(Failure::Absent(self.entries[second].name));
        }
        let hash = PerfectHash::of(addresses).ok_or(Failure::Tracer)?;
        // SAFETY: The hook is not armed, and no handler of a try that failed is left: no handler reads it.
        unsafe { *self.hash.get() = hash };
        match self.register::<S>(addresses) {
            Ok(()) => {
                state.is_armed = true;
                Ok(())
            }
            Err(error) => Err(self.why::<S>(state, error)),
        }
    }

    /// Registers the hook for some of its functions.
    fn register<S: NamespaceState>(&'static self, addresses: &mut [c_ulong]) -> Result {
        const TRIES: usize = 100;
        for _ in 0..TRIES {
            // SAFETY:
            // - The hook is not registered, and static.
            // - The handler has the tracer's signature. It reads the hash, which is complete.
            let result = to_result(unsafe {
                bindings::hook_arm(
                    self.ops.get().cast(),
                    Some(handler::<S>),
                    addresses.as_mut_ptr(),
                    addresses.len() as c_uint,
                )
            });
            match result {
                // A BPF trampoline on one of the functions was being changed.
                Err(EAGAIN) => (),
                // The tracer gave up, and functions may still call the hook.
                Err(ENODEV) => {
                    pr_err!("the function tracer is broken: the module stays loaded for good\n");
                    if let Some(reference) = References::take() {
                        reference.leak();
                    }
                    return result;
                }
                _ => return result,
            }
            fsleep(Delta::from_millis(1));
        }
        Err(EAGAIN)
    }

    /// Finds out which of the functions made arming fail, by arming each alone.
    #[cold]
    fn why<S: NamespaceState>(&'static self, state: &mut State, error: Error) -> Failure {
        if error != EINVAL && error != EBUSY {
            return Failure::Tracer;
        }
        for (entry, address) in self.entries.iter().zip(&mut state.addresses) {
            let alone = core::slice::from_mut(address);
            match self.register::<S>(alone) {
                Ok(()) => {
                    if self.unregister().is_err() {
                        state.is_armed = true;
                        return Failure::Tracer;
                    }
                }
                Err(EINVAL) => return Failure::Absent(entry.name),
                Err(EBUSY) => return Failure::Taken(entry.name),
                Err(_) => (),
            }
        }
        Failure::Tracer
    }

    /// Gives the functions back. Afterwards no handler runs, and each task that a handler redirected has slept of its own will
    /// or returned to user space.
    ///
    /// Context: may sleep, for as long as an RCU-tasks grace period takes.
    ///
    /// # Safety
    ///
    /// `state` has to be the hook's own, which is armed.
    pub(super) unsafe fn disarm(&self, state: &mut State) -> Result {
        self.unregister()?;
        state.is_armed = false;
        Ok(())
    }

    fn unregister(&self) -> Result {
        // SAFETY: The hook is registered.
        to_result(unsafe { bindings::hook_disarm(self.ops.get().cast()) })
    }

    /// Redirects the call if it is to be answered: the second look, after the handler's quick one.
    ///
    /// # Safety
    ///
    /// `fregs` has to have the registers of a call of the entry's function.
    #[inline(never)]
    unsafe fn handle<S: NamespaceState>(
        &self,
        entry: &Entry,
        index: counts::Index,
        fregs: *mut bindings::ftrace_regs,
    ) {
        // SAFETY: By the function's own requirement.
        if unsafe { self.decides::<S>(entry, index, fregs) } {
            index.count_answered();
            // SAFETY: The registers are those of the call. By the entry's invariants the answer may run in its place.
            unsafe { bindings::ftrace_redirect(fregs, entry.answer as c_ulong) };
        } else {
            index.count_passed();
        }
    }

    /// Returns whether a call is answered.
    ///
    /// # Safety
    ///
    /// As for [`Hook::handle`].
    #[inline]
    unsafe fn decides<S: NamespaceState>(
        &self,
        entry: &Entry,
        index: counts::Index,
        fregs: *mut bindings::ftrace_regs,
    ) -> bool {
        let members = S::routes().members();
        let current_has = |kind| {
            let look = |namespace: Namespace<'_>| {
                members.find(namespace, |member| {
                    let has = kind == 0 || member.has(kind);
                    if has {
                        member.see(index.bit());
                    }
                    has
                })
            };
            Namespace::with_current(look).flatten().unwrap_or(false)
        };
        // SAFETY: The registers are those of the call.
        let argument = |n| unsafe { bindings::ftrace_argument(fregs, n) };
        match entry.decide {
            Decide::Member => current_has(self.kind),
            Decide::Namespace => {
                // SAFETY: By the entry's invariants it is such a pointer, valid during the call.
                let of = unsafe { Namespace::from_ptr(argument(0) as *const _) };
                members.has(of)
            }
            Decide::Crossing => {
                // SAFETY: By the entry's invariants it is such a pointer, valid during the call.
                let to = unsafe { Namespace::from_common(argument(1) as *mut _) };
                current_has(0) || members.has(to)
            }
            Decide::FileIsOurs => {
                let file = argument(0) as *const kernel::bindings::file;
                // SAFETY: By the entry's invariants it is such a pointer, of an open file.
                let is_ours = module::owns(unsafe { (*file).f_op });
                if is_ours {
                    current_has(self.kind);
                }
                is_ours
            }
        }
    }
}

/// The tracer's callback at the entry of each function of a hook.
///
/// It takes no lock and does not sleep. It may be preempted; disarming waits for such tasks.
///
/// # Safety
///
/// For the tracer only: `ops` is that of a [`Hook`], which is armed, and `fregs` has the call's registers.
unsafe extern "C" fn handler<S: NamespaceState>(
    ip: c_ulong,
    _parent_ip: c_ulong,
    ops: *mut bindings::ftrace_ops,
    fregs: *mut bindings::ftrace_regs,
) {
    // SAFETY: It is the first field of a hook's first field, which is static.
    let hook = unsafe { &*ops.cast_const().cast::<Hook>() };
    // SAFETY: Nobody writes to it while the hook is armed.
    let place = unsafe { &*hook.hash.get() }.place(ip);
    // SAFETY: The tracer calls for the addresses of the hook's filter, and the hash is of these, in the entries' order.
    let entry = unsafe { hook.entries.get_unchecked(place) };
    let index = hook.index(place);
    let members = S::routes().members();
    if matches!(entry.decide, Decide::Member)
        && Namespace::with_current(|ns| members.lacks(ns)).unwrap_or(true)
    {
        index.count_passed();
        return;
    }
    // SAFETY: These are the registers of the call.
    unsafe { hook.handle::<S>(entry, index, fregs) };
}
