// SPDX-License-Identifier: GPL-2.0

//! Routes: which functions are redirected for which members, and when they are armed.

pub(crate) use super::hook::Entry;
use super::{
    counts::Counts,
    hook::{Decide, Failure, Hook, State},
    members::{Locked, Member, Origin, Table},
    namespace::{self, Namespace},
};
use crate::{
    abstractions::module::References,
    bindings, //
};
use kernel::{
    bindings::{ns_common, work_struct},
    ffi::{c_int, c_uint},
    fmt,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    time::{delay::fsleep, Delta}, //
};

/// The most kinds that can be routed.
const KINDS_MAX: usize = 16;

/// How long routes stay armed after the last member that needed them: arming and disarming walk all functions of the kernel, and
/// each disarming waits for a grace period.
const SETTLING_MS: c_uint = 1000;

/// The state that the objects keep for each enrolled namespace.
pub(crate) trait NamespaceState: Sized + Send + Sync + 'static {
    /// Makes the state of a namespace that a member of this one has made.
    ///
    /// Context: may sleep.
    fn child(&self) -> Self;

    /// The namespace was sealed: its proving calls are over.
    ///
    /// Context: with a mutex held and preemption off.
    fn sealed(&self);

    /// The routes of namespaces with this state.
    fn routes() -> &'static Routes<Self>;
}

/// A kind of object, and the functions that make it.
pub(crate) struct Kind {
    /// One bit.
    pub(crate) bit: u32,
    pub(crate) entries: &'static [Entry],
}

/// When routes are armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// Never: the module was loaded without them.
    Absent,
    /// Not now: an operator threw the switch. Members' calls go to the originals.
    Off,
    /// While there are members.
    OnDemand,
    /// From the module's load to its end.
    Always,
}

/// Why a namespace was not enrolled, or not for all kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Without,
    Off,
    Lockdown,
    Tracer,
    Capability,
    Initial,
    Threads,
    Shared,
    Used,
    Twice,
    Absent,
    Taken,
    Unseen,
    NotArmed,
    Sealed,
    Memory,
}

/// A reason, and the function of the kernel that it is about.
#[derive(Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) function: Option<&'static CStr>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            function: None,
        }
    }
}

/// The kinds that a namespace is enrolled for, and why it is not for another that was asked for.
pub(crate) struct Enrolled {
    pub(crate) kinds: u32,
    pub(crate) refusal: Option<Refusal>,
}

/// A redirected function, as it is now.
pub(crate) struct Route {
    pub(crate) function: &'static CStr,
    /// The bit of its kind, 0 if all need it.
    pub(crate) kind: u32,
    pub(crate) is_absent: bool,
    pub(crate) is_armed: bool,
    pub(crate) counts: Counts,
}

/// An enrolled namespace, as it is now.
#[derive(Clone, Copy)]
pub(crate) struct Enrollment {
    pub(crate) id: u64,
    pub(crate) inum: u32,
    pub(crate) kinds: u32,
    pub(crate) is_sealed: bool,
    pub(crate) is_born: bool,
}

/// The state that the mutex guards beside the table of members.
pub(super) struct Inner {
    switch: Switch,
    /// As the module was loaded.
    configured: Switch,
    hooks: [State; KINDS_MAX],
    /// Whether the log has the functions.
    is_logged: bool,
}

/// The routes that are to be armed.
enum Needed {
    None,
    /// Those of these kinds, and what membership itself needs.
    Kinds(u32),
    All,
}

impl Needed {
    fn has(&self, kind: u32) -> bool {
        match self {
            Self::None => false,
            Self::Kinds(kinds) => kind == 0 || kinds & kind != 0,
            Self::All => true,
        }
    }
}

type Guard<'a, S> = Locked<'a, S, Inner>;

/// The routes of a module.
pub(crate) struct Routes<S: 'static> {
    members: Table<S, Inner>,
    hooks: [Hook; KINDS_MAX],
}

/// Whether some routes were started. There is one work, one mutex and one set of counts for them.
static ARE_STARTED: Atomic<bool> = Atomic::new(false);

impl<S: NamespaceState> Routes<S> {
    /// The functions that membership itself needs, for every kind.
    const OWN: &'static [Entry] = &[
        // SAFETY: `birth` has the original's signature, and calls it; it returns nothing.
        unsafe {
            Entry::new(
                c"shm_init_ns",
                Decide::Member,
                birth::<S> as *const _,
                bindings::resolve_shm_init_ns,
            )
        },
        // SAFETY: `death` has the original's signature, and calls it. The argument is an IPC namespace at its end.
        unsafe {
            Entry::new(
                c"shm_exit_ns",
                Decide::Namespace,
                death::<S> as *const _,
                bindings::resolve_shm_exit_ns,
            )
        },
        // SAFETY: `crossing` has the original's signature, and calls it or fails as it may. The second argument is what an
        // IPC namespace has in common with others: the function is called by way of `ipcns_operations` only.
        unsafe {
            Entry::new(
                c"ipcns_install",
                Decide::Crossing,
                crossing::<S> as *const _,
                bindings::resolve_ipcns_install,
            )
        },
    ];

    /// Routes for these kinds, each a bit of its own.
    pub(crate) const fn new(kinds: &'static [Kind]) -> Self {
        let mut hooks = [const { Hook::new(0, &[], 0) }; KINDS_MAX];
        let mut next = Self::OWN.len();
        hooks[0] = Hook::new(0, Self::OWN, 0);
        let mut at = 0;
        while at < kinds.len() {
            assert!(kinds[at].bit.is_power_of_two());
            hooks[at + 1] = Hook::new(kinds[at].bit, kinds[at].entries, next);
            next += kinds[at].entries.len();
            at += 1;
        }
        Self {
            members: Table::new(Inner {
                switch: Switch::Absent,
                configured: Switch::Absent,
                hooks: [const { State::new() }; KINDS_MAX],
                is_logged: false,
            }),
            hooks,
        }
    }

    #[inline]
    pub(super) fn members(&self) -> &Table<S, Inner> {
        &self.members
    }

    /// Looks for the functions, and arms their routes if they are always armed.
    ///
    /// Context: the module's init; may sleep.
    ///
    /// Errors: `EBUSY` if they were started before; with [`Switch::Always`], `EPERM` if the kernel is locked down, `EOPNOTSUPP` if it
    /// has no function tracer or lacks one of the functions, `EBUSY` if one of them is livepatched.
    pub(crate) fn start(&'static self, switch: Switch) -> Result<Started<S>> {
        if switch == Switch::Absent {
            return Ok(Started(None));
        }
        if switch == Switch::Always && is_locked_down() {
            pr_err!("no routes: the kernel is locked down\n");
            return Err(EPERM);
        }
        if ARE_STARTED.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        // SAFETY: It was never queued: these are the first routes that are started.
        unsafe { bindings::settling_init(Some(settle::<S>)) };
        let mut table = self.members.lock();
        table.seed();
        let inner = table.inner();
        inner.switch = switch;
        inner.configured = switch;
        if !is_locked_down() {
            for (hook, state) in self.hooks.iter().zip(&mut inner.hooks) {
                // SAFETY: The states stand in the hooks' order. No route is armed, so that nobody calls an original.
                unsafe { hook.resolve(state) };
            }
        }
        let started = Started(Some(self));
        let armed = match switch {
            Switch::Always => self.arm(&mut table, |_| true),
            _ => Ok(()),
        };
        self.log(table.inner());
        drop(table);
        match armed {
            Ok(()) => Ok(started),
            Err(refusal) => {
                let function = refusal.function.and_then(|name| name.to_str().ok());
                let function = function.unwrap_or("the kernel's functions");
                pr_err!(
                    "no routes: cannot redirect {function}: {:?}\n",
                    refusal.reason
                );
                Err(refusal.reason.errno())
            }
        }
    }

    /// Arms the hooks of the kinds that are wanted. Stops at the first that fails.
    fn arm(
        &'static self,
        table: &mut Guard<'_, S>,
        is_wanted: impl Fn(u32) -> bool,
    ) -> Result<(), Refusal> {
        let inner = table.inner();
        for (hook, state) in self.hooks.iter().zip(&mut inner.hooks) {
            if hook.entries.is_empty() || state.is_armed || !is_wanted(hook.kind) {
                continue;
            }
            // SAFETY: The states stand in the hooks' order.
            unsafe { hook.arm::<S>(state) }?;
        }
        Ok(())
    }

    /// Logs which functions are redirected, the first time that some are.
    fn log(&self, inner: &mut Inner) {
        let armed = Armed(&self.hooks, &inner.hooks);
        if !inner.is_logged && armed.entries().next().is_some() {
            pr_info!("routes: {armed}\n");
            inner.is_logged = true;
        }
    }

    /// Enrolls the caller's IPC namespace for those of `kinds` whose routes can be armed.
    ///
    /// Context: may sleep.
    pub(crate) fn enroll(
        &'static self,
        kinds: u32,
        state: impl FnOnce() -> S,
    ) -> Result<Enrolled, Refusal> {
        Namespace::with_current(|namespace| self.enroll_one(namespace, kinds, state))
            .unwrap_or(Err(Reason::Initial.into()))
    }

    fn enroll_one(
        &'static self,
        namespace: Namespace<'_>,
        kinds: u32,
        state: impl FnOnce() -> S,
    ) -> Result<Enrolled, Refusal> {
        let mut table = self.members.lock();
        match table.inner().switch {
            Switch::OnDemand | Switch::Always => (),
            Switch::Off => return Err(Reason::Off.into()),
            Switch::Absent => return Err(Reason::Without.into()),
        }
        if is_locked_down() {
            return Err(Reason::Lockdown.into());
        }
        self.judge(namespace)?;
        self.arm(&mut table, |kind| kind == 0)?;
        let mut enrolled = Enrolled {
            kinds: 0,
            refusal: None,
        };
        for hook in &self.hooks[1..] {
            if hook.kind & kinds == 0 {
                continue;
            }
            match self.arm(&mut table, |kind| kind == hook.kind) {
                Ok(()) => enrolled.kinds |= hook.kind,
                Err(refusal) => {
                    enrolled.refusal.get_or_insert(refusal);
                }
            }
        }
        self.log(table.inner());
        let inserted = if enrolled.kinds == 0 {
            Err(enrolled.refusal.unwrap_or(Reason::Absent.into()))
        } else {
            self.insert(
                &mut table,
                namespace,
                Origin::enrolled(enrolled.kinds),
                state(),
            )
            .map_err(|_| Reason::Memory.into())
        };
        drop(table);
        match inserted {
            Ok(()) => Ok(enrolled),
            Err(refusal) => {
                queue_settling();
                Err(refusal)
            }
        }
    }

    /// Judges whether the caller may enroll its namespace.
    fn judge(&self, namespace: Namespace<'_>) -> Result<(), Refusal> {
        let refused = if namespace.is_initial() {
            Reason::Initial
        } else if !namespace.caller_is_capable() {
            Reason::Capability
        } else if self.members.has(namespace) {
            Reason::Twice
        } else if namespace::current_shares_memory() {
            Reason::Threads
        } else if namespace::current_is_shared() {
            Reason::Shared
        } else if namespace.is_used() || namespace::current_has_undo_list() {
            Reason::Used
        } else {
            return Ok(());
        };
        Err(refused.into())
    }

    fn insert(
        &self,
        table: &mut Guard<'_, S>,
        namespace: Namespace<'_>,
        origin: Origin,
        state: S,
    ) -> Result {
        let module = References::take().ok_or(ENOENT)?;
        table.insert(Member::new(namespace, origin, state, module)?);
        Ok(())
    }

    /// Looks whether each of the caller's routes was seen to come through, and takes the kinds from its namespace whose were
    /// not. Routes that only 32-bit programs take are not looked at if `without_ia32`.
    ///
    /// Context: may sleep.
    pub(crate) fn seal(&self, kinds: u32, without_ia32: bool) -> Result<Enrolled, Refusal> {
        let _table = self.members.lock();
        let seal = |member: &Member<S>| {
            if member.sealed.load(Relaxed) {
                return Err(Refusal::from(Reason::Sealed));
            }
            let seen = member.seen.load(Relaxed);
            let mut enrolled = Enrolled {
                kinds: member.kinds.load(Relaxed) & kinds,
                refusal: None,
            };
            if enrolled.kinds == 0 {
                return Err(Reason::NotArmed.into());
            }
            for hook in &self.hooks[1..] {
                if hook.kind & enrolled.kinds == 0 {
                    continue;
                }
                let unseen = hook.entries.iter().enumerate().find(|(place, entry)| {
                    !(entry.ia32 && without_ia32) && seen & hook.index(*place).bit() == 0
                });
                if let Some((_, entry)) = unseen {
                    enrolled.kinds &= !hook.kind;
                    enrolled.refusal.get_or_insert(Refusal {
                        reason: Reason::Unseen,
                        function: Some(entry.name),
                    });
                }
            }
            member.kinds.store(enrolled.kinds, Relaxed);
            match enrolled.refusal {
                Some(refusal) if enrolled.kinds == 0 => Err(refusal),
                _ => {
                    member.sealed.store(true, Relaxed);
                    member.state.sealed();
                    Ok(enrolled)
                }
            }
        };
        let sealed = Namespace::with_current(|ns| self.members.find(ns, seal)).flatten();
        if sealed.is_some() {
            queue_settling();
        }
        sealed.unwrap_or(Err(Reason::NotArmed.into()))
    }

    /// Takes all kinds from the caller's namespace: for an enrollment whose outcome cannot be told. The record stays, as calls
    /// may be under way.
    ///
    /// Context: may sleep.
    pub(crate) fn give_up(&self) {
        let _table = self.members.lock();
        let give_up = |member: &Member<S>| member.kinds.store(0, Relaxed);
        let found = Namespace::with_current(|ns| self.members.find(ns, give_up)).flatten();
        if found.is_some() {
            queue_settling();
        }
    }

    /// Calls `f` with the state of the caller's namespace, if that is a member.
    ///
    /// Context: any task; `f` may sleep if that may.
    #[inline]
    pub(super) fn with_current<R>(&self, f: impl FnOnce(&S) -> R) -> Option<R> {
        let state = Namespace::with_current(|ns| {
            let state = |member: &Member<S>| &raw const member.state;
            self.members.find(ns, state)
        })
        .flatten()?;
        // SAFETY: `unlink` takes a record when no task is in its namespace, and the caller is in this one until `f` returns:
        // only system calls of its own lead a task elsewhere.
        Some(f(unsafe { &*state }))
    }

    /// The routes that the switch and the members need.
    fn needed(table: &mut Guard<'_, S>) -> Needed {
        let members = table
            .iter()
            .map(|member| member.kinds.load(Relaxed))
            .reduce(|all, kinds| all | kinds);
        match (table.inner().switch, members) {
            (Switch::Always, _) => Needed::All,
            (Switch::OnDemand, Some(kinds)) => Needed::Kinds(kinds),
            // Births and deaths are not missed.
            (Switch::Off, Some(_)) => Needed::Kinds(0),
            (Switch::Absent, _) | (_, None) => Needed::None,
        }
    }

    /// Disarms what is needed no more.
    ///
    /// Context: may sleep. Errors: the tracer's, if it could not be disarmed.
    fn settle(&self, table: &mut Guard<'_, S>) -> Result {
        let needed = Self::needed(table);
        let inner = table.inner();
        for (hook, state) in self.hooks.iter().zip(&mut inner.hooks) {
            if state.is_armed && !needed.has(hook.kind) {
                // SAFETY: The states stand in the hooks' order.
                unsafe { hook.disarm(state) }?;
            }
        }
        Ok(())
    }

    /// Throws the switch: disarms the routes of all kinds, or arms those that members need. Their calls go to the originals
    /// meanwhile.
    ///
    /// Context: may sleep. Errors: `EOPNOTSUPP` if the module was loaded without routes; to
    /// switch on, those of [`Routes::start`], and routes stay off.
    pub(crate) fn switch(&'static self, on: bool) -> Result {
        let mut table = self.members.lock();
        let configured = table.inner().configured;
        if configured == Switch::Absent {
            return Err(EOPNOTSUPP);
        }
        if on && is_locked_down() {
            return Err(EPERM);
        }
        table.inner().switch = if on { configured } else { Switch::Off };
        if !on {
            return self.settle(&mut table);
        }
        let needed = Self::needed(&mut table);
        let armed = self.arm(&mut table, |kind| needed.has(kind));
        if armed.is_err() {
            table.inner().switch = Switch::Off;
        }
        armed.map_err(|refusal| refusal.reason.errno())
    }

    /// Returns when routes are armed now.
    ///
    /// Context: may sleep.
    pub(crate) fn switched(&self) -> Switch {
        self.members.lock().inner().switch
    }

    /// Calls `f` with each route.
    ///
    /// Context: may sleep; so may `f`.
    pub(crate) fn for_each_route(&self, mut f: impl FnMut(Route)) {
        let mut table = self.members.lock();
        let inner = table.inner();
        for (hook, state) in self.hooks.iter().zip(&inner.hooks) {
            for (place, entry) in hook.entries.iter().enumerate() {
                f(Route {
                    function: entry.name,
                    kind: hook.kind,
                    is_absent: !hook.has(state, place),
                    is_armed: state.is_armed,
                    counts: hook.index(place).sum(),
                });
            }
        }
    }

    /// Calls `f` with each enrolled namespace, in no order.
    ///
    /// Context: may sleep; so may `f`.
    pub(crate) fn for_each_namespace(&self, mut f: impl FnMut(Enrollment)) {
        for member in self.members.lock().iter() {
            f(Enrollment {
                id: member.key.id,
                inum: member.inum,
                kinds: member.kinds.load(Relaxed),
                is_sealed: member.sealed.load(Relaxed),
                is_born: member.is_born,
            });
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let (reason, function) = match failure {
            Failure::Tracer => (Reason::Tracer, None),
            Failure::Absent(function) => (Reason::Absent, Some(function)),
            Failure::Taken(function) => (Reason::Taken, Some(function)),
        };
        Self { reason, function }
    }
}

impl Reason {
    /// The error that a call fails with for this reason.
    pub(crate) fn errno(self) -> Error {
        match self {
            Self::Without | Self::Off | Self::Tracer | Self::Absent => EOPNOTSUPP,
            Self::Lockdown | Self::Capability => EPERM,
            Self::Initial
            | Self::Threads
            | Self::Shared
            | Self::Used
            | Self::Twice
            | Self::Taken
            | Self::Sealed => EBUSY,
            Self::Unseen => ENOTCONN,
            Self::Memory => ENOMEM,
            Self::NotArmed => EINVAL,
        }
    }
}

/// The functions of those hooks that are armed, for the log.
struct Armed<'a>(&'a [Hook], &'a [State]);

impl Armed<'_> {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let hooks = self
            .0
            .iter()
            .zip(self.1)
            .filter(|(_, state)| state.is_armed);
        hooks.flat_map(|(hook, _)| hook.entries)
    }
}

impl fmt::Display for Armed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.entries() {
            f.write_str(entry.name.to_str().unwrap_or("?"))?;
            f.write_str(" ")?;
        }
        f.write_str("are answered for enrolled namespaces")
    }
}

/// Whether the kernel is locked down against what redirects its functions.
fn is_locked_down() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::lock_down_redirections() }
}

/// Has [`settle`] run a while later, unless it is to run already.
fn queue_settling() {
    // SAFETY: The work was initialized when the routes were started, without which there is no member.
    unsafe { bindings::settling_queue(SETTLING_MS) };
}

/// Ends the records of the dead, disarms what no member needs any more, and only then gives the references of the dead to the
/// module back.
///
/// # Safety
///
/// For the workqueue only. [`Started`] waits for its end.
unsafe extern "C" fn settle<S: NamespaceState>(_work: *mut work_struct) {
    let routes = S::routes();
    let dead = routes.members.lock().take_dead();
    let references = dead.end();
    let settled = routes.settle(&mut routes.members.lock());
    if let Err(error) = settled {
        pr_err!("a route could not be disarmed ({error:?}): the module stays loaded for good\n");
        references.leak();
    }
}

/// Answers `shm_init_ns(ns)`, by which a namespace is born to a member. Nothing that can fail comes after it in
/// `create_ipc_ns`; if the namespace is given up all the same, it dies as any other.
///
/// # Safety
///
/// As the original's.
unsafe extern "C" fn birth<S: NamespaceState>(ns: *mut bindings::ipc_namespace) {
    // SAFETY: These are the arguments of the call.
    unsafe { bindings::original_shm_init_ns(ns) };
    // SAFETY: It is a namespace, and not known to anybody else yet.
    let namespace = unsafe { Namespace::from_ptr(ns) };
    let routes = S::routes();
    let Some(child) = routes.with_current(S::child) else {
        return;
    };
    let origin = |ns: Namespace<'_>| routes.members.find(ns, Origin::born_to);
    let Some(origin) = Namespace::with_current(origin).flatten() else {
        return;
    };
    let inserted = routes.insert(&mut routes.members.lock(), namespace, origin, child);
    if inserted.is_err() {
        kernel::pr_warn_once!("no memory to enroll the namespace that a member made\n");
    }
}

/// Answers `shm_exit_ns(ns)`, by which a namespace dies. No task has been in it for a grace period.
///
/// # Safety
///
/// As the original's.
unsafe extern "C" fn death<S: NamespaceState>(ns: *mut bindings::ipc_namespace) {
    // SAFETY: These are the arguments of the call.
    unsafe { bindings::original_shm_exit_ns(ns) };
    // SAFETY: The caller frees it later.
    let namespace = unsafe { Namespace::from_ptr(ns) };
    // The record keeps its reference to the module until `settle`, which waits for this task to leave the text.
    // SAFETY: The kernel frees the namespace: no task is in it.
    if unsafe { S::routes().members.lock().unlink(namespace.key()) } {
        queue_settling();
    }
}

/// Answers `ipcns_install(nsset, ns)`, by which setns(2) joins a namespace. A task may not cross the boundary of enrollment while
/// others run in its memory: half of a process would be answered here, and half in the kernel.
///
/// # Safety
///
/// As the original's.
unsafe extern "C" fn crossing<S: NamespaceState>(
    nsset: *mut bindings::nsset,
    ns: *mut ns_common,
) -> c_int {
    // First, so that a caller without the privilege is told so. The kernel undoes the change of `nsset` if this fails.
    // SAFETY: These are the arguments of the call.
    let result = unsafe { bindings::original_ipcns_install(nsset, ns) };
    if result != 0 {
        return result;
    }
    let members = S::routes().members();
    // SAFETY: By the function's own requirement it is that of an IPC namespace, which the caller's descriptor holds.
    let to = unsafe { Namespace::from_common(ns) };
    if Namespace::with_current(|from| members.has(from)).unwrap_or(false) != members.has(to)
        && namespace::current_shares_memory()
    {
        return EINVAL.to_errno();
    }
    0
}

/// Routes that were started. To be dropped by the module's exit, or when its init fails.
pub(crate) struct Started<S: NamespaceState>(Option<&'static Routes<S>>);

impl<S: NamespaceState> Drop for Started<S> {
    /// Disarms all routes. If one cannot be disarmed, the module's text has to stay, and this waits for ever.
    ///
    /// Context: may sleep. As each member has a reference to the module, there is none when the module exits.
    fn drop(&mut self) {
        let Some(routes) = self.0 else {
            return;
        };
        // SAFETY: The work was initialized, and is not queued again: there are no members.
        unsafe { bindings::settling_end() };
        routes.members.lock().inner().switch = Switch::Absent;
        loop {
            let settled = routes.settle(&mut routes.members.lock());
            let Err(error) = settled else { break };
            pr_err!("a route cannot be disarmed ({error:?}), so that the module cannot go\n");
            fsleep(Delta::from_secs(60));
        }
        // For tasks that were preempted between an answer's end and its caller.
        // SAFETY: The function has no requirements; this task may sleep.
        unsafe { bindings::wait_for_rcu_tasks() };
    }
}
