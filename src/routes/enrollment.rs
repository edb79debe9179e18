// SPDX-License-Identifier: GPL-2.0

//! Enrollment of IPC namespaces, and the lists of what is enrolled and routed.

use super::{Namespace, Resources, ROUTES};
use crate::{
    abstractions::{
        redirect::routes::{Enrolled, Reason, Refusal, Switch},
        task::credentials::{capable, Capability},
        vfs::user_struct::{impl_user_struct, UserArray, UserStructPtr},
    },
    bindings::*,
    objects::{pipe::limits::Account, tally::Tallies},
};
use kernel::{
    prelude::*,
    sync::{atomic::Atomic, Arc},
};
use zerocopy::FromZeros;

impl_user_struct! {
    ipcdemo_enroll_args: IPCDEMO_ENROLL_SIZE_VER0,
    ipcdemo_namespaces_args: IPCDEMO_NAMESPACES_SIZE_VER0,
    ipcdemo_routes_args: IPCDEMO_ROUTES_SIZE_VER0,
}

/// Enrolls the caller's IPC namespace. With `tallies`, its objects are counted there.
///
/// Context: may sleep.
pub(crate) fn arm(
    resources: &Arc<Resources>,
    tallies: Option<&Arc<Tallies>>,
    ptr: &UserStructPtr,
) -> Result {
    let args: ipcdemo_enroll_args = ptr.read()?;
    let kinds = kinds_wanted(&args)?;
    if args.flags != 0 {
        return Err(EINVAL);
    }
    // A fresh namespace can be enrolled once: what could not be told is not begun.
    ptr.write(&args)?;
    let account = Account::open(&resources.limits)?;
    let state = || Namespace {
        resources: resources.clone(),
        account,
        tallies: tallies.cloned(),
        is_sealed: Atomic::new(false),
    };
    tell(ptr, args, ROUTES.enroll(kinds, state))
}

/// Seals the enrollment of the caller's IPC namespace.
///
/// Context: may sleep.
pub(crate) fn seal(ptr: &UserStructPtr) -> Result {
    let args: ipcdemo_enroll_args = ptr.read()?;
    let kinds = kinds_wanted(&args)?;
    if args.flags & !IPCDEMO_SEAL_WITHOUT_IA32 != 0 {
        return Err(EINVAL);
    }
    ptr.write(&args)?;
    let without_ia32 = args.flags & IPCDEMO_SEAL_WITHOUT_IA32 != 0;
    tell(ptr, args, ROUTES.seal(kinds, without_ia32))
}

/// The kinds that the caller wants.
fn kinds_wanted(args: &ipcdemo_enroll_args) -> Result<u32> {
    if args.reserved != 0 || args.kinds & !IPCDEMO_ROUTED_KINDS != 0 {
        return Err(EINVAL);
    }
    Ok(match args.kinds {
        0 => IPCDEMO_ROUTED_KINDS,
        kinds => kinds,
    })
}

/// Writes the outcome to the caller's struct, and returns it. If that cannot be written after all, no kind is left.
fn tell(
    ptr: &UserStructPtr,
    args: ipcdemo_enroll_args,
    outcome: Result<Enrolled, Refusal>,
) -> Result {
    let (kinds, refusal, result) = match outcome {
        Ok(enrolled) => (enrolled.kinds, enrolled.refusal, Ok(())),
        Err(refusal) => (0, Some(refusal), Err(refusal.reason.errno())),
    };
    let function = refusal.and_then(|refusal| refusal.function);
    let told = ptr.write(&ipcdemo_enroll_args {
        kinds,
        reason: refusal.map_or(0, |refusal| number(refusal.reason)),
        function: function.map_or([0; 64], name),
        ..args
    });
    if told.is_err() && result.is_ok() {
        ROUTES.give_up();
    }
    told.and(result)
}

/// The reason's number in the interface.
fn number(reason: Reason) -> u32 {
    match reason {
        Reason::Without => IPCDEMO_REFUSED_WITHOUT,
        Reason::Off => IPCDEMO_REFUSED_OFF,
        Reason::Lockdown => IPCDEMO_REFUSED_LOCKDOWN,
        Reason::Tracer => IPCDEMO_REFUSED_TRACER,
        Reason::Capability => IPCDEMO_REFUSED_CAPABILITY,
        Reason::Initial => IPCDEMO_REFUSED_INITIAL,
        Reason::Threads => IPCDEMO_REFUSED_THREADS,
        Reason::Shared => IPCDEMO_REFUSED_SHARED,
        Reason::Used => IPCDEMO_REFUSED_USED,
        Reason::Twice => IPCDEMO_REFUSED_TWICE,
        Reason::Absent => IPCDEMO_REFUSED_ABSENT,
        Reason::Taken => IPCDEMO_REFUSED_TAKEN,
        Reason::Unseen => IPCDEMO_REFUSED_UNSEEN,
        Reason::NotArmed => IPCDEMO_REFUSED_NOT_ARMED,
        Reason::Sealed => IPCDEMO_REFUSED_SEALED,
        // The error says it.
        Reason::Memory => 0,
    }
}

/// A function's name as the interface has it: cut if need be, and padded with zeros.
fn name(function: &CStr) -> [c_char; 64] {
    let mut name = [0; 64];
    for (to, from) in name.iter_mut().zip(function.to_bytes()) {
        *to = *from as c_char;
    }
    name[63] = 0;
    name
}

/// Lists the routes, and throws their switch if asked to.
///
/// Context: may sleep.
pub(crate) fn routes(ptr: &UserStructPtr) -> Result {
    let mut args: ipcdemo_routes_args = ptr.read()?;
    if args.reserved != 0 || args.capacity == 0 {
        return Err(EINVAL);
    }
    let array = UserArray::new(args.routes, args.route_size, IPCDEMO_ROUTE_SIZE_MAX)?;
    // The switch is not thrown for a caller that cannot be told.
    ptr.write(&args)?;
    match args.switched {
        IPCDEMO_ROUTES_AS_IS => (),
        IPCDEMO_ROUTES_OFF | IPCDEMO_ROUTES_ON => {
            if !capable(Capability::SysAdmin) {
                return Err(EPERM);
            }
            ROUTES.switch(args.switched == IPCDEMO_ROUTES_ON)?;
        }
        _ => return Err(EINVAL),
    }
    let switched = ROUTES.switched();
    let mut list = KVec::with_capacity(IPCDEMO_ROUTES_MAX as usize, GFP_KERNEL)?;
    ROUTES.for_each_route(|route| {
        // There is room for all: the abstraction counts as many at most.
        let _ = list.push_within_capacity(ipcdemo_route {
            function: name(route.function),
            kind: route.kind.checked_ilog2().unwrap_or(0),
            state: if route.is_absent {
                IPCDEMO_ROUTE_ABSENT
            } else if route.is_armed {
                IPCDEMO_ROUTE_ARMED
            } else {
                IPCDEMO_ROUTE_RESTING
            },
            answered: route.counts.answered,
            passed: route.counts.passed,
        });
    });
    if switched == Switch::Absent {
        // Nobody looked whether the kernel has them.
        list.clear();
    }
    args.total = list.len() as u32;
    list.truncate(args.capacity as usize);
    array.write(&list)?;
    args.count = list.len() as u32;
    args.switched = match switched {
        Switch::Absent => IPCDEMO_ROUTES_WITHOUT,
        Switch::Off => IPCDEMO_ROUTES_OFF,
        Switch::OnDemand | Switch::Always => IPCDEMO_ROUTES_ON,
    };
    ptr.write(&args)
}

/// Lists the enrolled namespaces after `args.after`.
///
/// Context: may sleep.
pub(crate) fn namespaces(ptr: &UserStructPtr) -> Result {
    let mut args: ipcdemo_namespaces_args = ptr.read()?;
    if args.reserved != 0 || args.capacity == 0 {
        return Err(EINVAL);
    }
    let array = UserArray::new(
        args.namespaces,
        args.namespace_size,
        IPCDEMO_OBJECT_SIZE_MAX,
    )?;
    let capacity = args.capacity.min(IPCDEMO_LIST_MAX) as usize;
    // The first of those after `args.after`, in order.
    let mut list: KVec<ipcdemo_namespace> = KVec::with_capacity(capacity, GFP_KERNEL)?;
    ROUTES.for_each_namespace(|namespace| {
        if namespace.id <= args.after {
            return;
        }
        let place = list.partition_point(|listed| listed.id < namespace.id);
        if place == capacity {
            return;
        }
        if list.len() == capacity {
            list.pop();
        }
        let namespace = ipcdemo_namespace {
            id: namespace.id,
            inum: namespace.inum,
            kinds: namespace.kinds,
            flags: u32::from(namespace.is_sealed) * IPCDEMO_NAMESPACE_SEALED
                | u32::from(namespace.is_born) * IPCDEMO_NAMESPACE_BORN,
            ..FromZeros::new_zeroed()
        };
        // There is room for it, as was just seen to.
        let _ = list.insert_within_capacity(place, namespace);
    });
    array.write(&list)?;
    args.count = list.len() as u32;
    ptr.write(&args)
}
