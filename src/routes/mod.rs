// SPDX-License-Identifier: GPL-2.0

//! Routes: which of the kernel's system calls are answered by which objects, for the tasks of enrolled IPC namespaces.
//!
//! `docs/routes.md` explains how; the mechanism is `src/abstractions/redirect/`.

#![deny(unsafe_code)]

mod enrollment;
mod eventfd;
mod pipe;

pub(crate) use enrollment::{arm, namespaces, routes, seal};

use crate::{
    abstractions::{
        redirect::routes::{Kind, NamespaceState, Routes, Started, Switch},
        vfs::{anon_file::AnonFiles, pseudo_fs::PseudoFs},
    },
    bindings::{IPCDEMO_KIND_COUNTER, IPCDEMO_KIND_PIPE, IPCDEMO_ROUTED_KINDS},
    objects::{
        pipe::{
            limits::{Account, Limits},
            Inodes, //
        },
        tally::Tallies, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, //
    },
};

/// The kinds that are routed.
const KINDS: &[Kind] = &[
    Kind {
        bit: 1 << IPCDEMO_KIND_COUNTER,
        entries: eventfd::ENTRIES,
    },
    Kind {
        bit: 1 << IPCDEMO_KIND_PIPE,
        entries: pipe::ENTRIES,
    },
];

static ROUTES: Routes<Namespace> = Routes::new(KINDS);

const _: () = {
    let mut bits = 0;
    let mut at = 0;
    while at < KINDS.len() {
        bits |= KINDS[at].bit;
        at += 1;
    }
    assert!(
        bits == IPCDEMO_ROUTED_KINDS,
        "the interface names other kinds"
    );
};

/// The objects' resources for members.
pub(crate) struct Resources {
    eventfds: AnonFiles,
    pipes: PseudoFs<Inodes>,
    limits: Arc<Limits>,
}

impl Resources {
    /// Makes them, once, when the module is loaded.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`.
    pub(crate) fn open(limits: &Arc<Limits>) -> Result<Arc<Self>> {
        let resources = Self {
            eventfds: AnonFiles::new(c"[eventfd]")?,
            pipes: PseudoFs::mount()?,
            limits: limits.clone(),
        };
        Ok(Arc::new(resources, GFP_KERNEL)?)
    }
}

/// The state of an enrolled namespace.
pub(crate) struct Namespace {
    resources: Arc<Resources>,
    /// That of the user who enrolled it, or the namespace that it was born to.
    account: Account,
    /// Where the objects that are made in it are counted, if they are.
    tallies: Option<Arc<Tallies>>,
    /// Whether it is sealed, so that calls are no proving calls any more, which are not counted.
    is_sealed: Atomic<bool>,
}

impl Namespace {
    /// Returns where objects are counted, if they are.
    #[inline]
    fn tallies(&self) -> Option<&Tallies> {
        let tallies = self.tallies.as_deref()?;
        self.is_sealed.load(Relaxed).then_some(tallies)
    }
}

impl NamespaceState for Namespace {
    fn child(&self) -> Self {
        Self {
            resources: self.resources.clone(),
            account: self.account.clone(),
            tallies: self.tallies.clone(),
            is_sealed: Atomic::new(self.is_sealed.load(Relaxed)),
        }
    }

    fn sealed(&self) {
        self.is_sealed.store(true, Relaxed);
    }

    fn routes() -> &'static Routes<Self> {
        &ROUTES
    }
}

/// Starts the routes, as the module's parameter says.
///
/// Context: the module's init; may sleep. Errors: `EINVAL` for an unknown value; those of [`Routes::start`].
pub(crate) fn start(parameter: u8) -> Result<Started<Namespace>> {
    ROUTES.start(match parameter {
        0 => Switch::Absent,
        1 => Switch::OnDemand,
        2 => Switch::Always,
        _ => {
            pr_err!("routes={parameter}: it is 0, 1 or 2\n");
            return Err(EINVAL);
        }
    })
}
