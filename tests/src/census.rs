// SPDX-License-Identifier: GPL-2.0

use std::fs;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use ipcdemo_client::{Factory, Object};

use crate::module::references;
use crate::{guarded, guarded_for, until};

/// What there is of this process's descriptors and of the module's objects: the
/// same before and after whatever should leave nothing behind.
#[derive(Debug, Eq, PartialEq)]
pub struct Census {
    descriptors: usize,
    objects: Vec<Object>,
}

impl Census {
    /// Counts.
    ///
    /// # Panics
    ///
    /// If that is not possible.
    #[must_use]
    pub fn take(factory: &Factory) -> Self {
        Self {
            descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
            objects: factory.list().unwrap(),
        }
    }

    /// Checks that nothing has changed since.
    ///
    /// # Panics
    ///
    /// If something has.
    pub fn check(&self, factory: &Factory, after: impl std::fmt::Display) {
        assert_eq!(&Self::take(factory), self, "after {after}");
    }
}

/// Runs a test's body while no other such body runs, so that it may take a census.
///
/// # Panics
///
/// If the body does, or does not end.
pub fn serially(body: impl FnOnce() + Send + 'static) {
    in_turn(|| guarded(body));
}

/// As [`serially`], for a body that takes its time.
///
/// # Panics
///
/// If the body does, or does not end by then.
pub fn serially_for(limit: Duration, body: impl FnOnce() + Send + 'static) {
    in_turn(|| guarded_for(limit, body));
}

fn in_turn(run: impl FnOnce()) {
    static TURN: Mutex<()> = Mutex::new(());
    static ALONE: Once = Once::new();
    // A test that failed has left nothing behind that the next one depends on.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The kernel takes a ring of the program before apart after that program's end, and its namespace has a reference to
    // the module for a second longer.
    ALONE.call_once(|| {
        until("nothing is left of the program before", || {
            Factory::open().map_or(true, |factory| {
                let namespaces = factory.namespaces().unwrap().len() as u32;
                factory.list().unwrap().is_empty() && references() == namespaces + 1
            })
        });
    });
    run();
}
