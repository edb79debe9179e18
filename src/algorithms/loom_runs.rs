// SPDX-License-Identifier: GPL-2.0

//! How a model is run: in all interleavings, and with a fault that it has to notice.

use super::Fault;
use ipcdemo_algorithms::fault::LACKING;
use loom::model::Builder;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic,
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        Arc, Once,
    },
};

std::thread_local! {
    /// The outcomes of a run's interleavings, and how often each was seen.
    static SEEN: RefCell<BTreeMap<&'static str, usize>> = const { RefCell::new(BTreeMap::new()) };
}

/// Notes that something happened that a model is there for.
pub(crate) fn seen(event: &'static str) {
    SEEN.with_borrow_mut(|seen| *seen.entry(event).or_default() += 1);
}

/// A rule that holds in all interleavings, unless there is a fault.
#[derive(Clone, Copy)]
pub(crate) struct Model {
    name: &'static str,
    preemptions: usize,
    run: fn(Option<Fault>),
}

impl Model {
    /// In one interleaving loom takes the processor so many times at most from a thread that could go on;
    /// `LOOM_MAX_PREEMPTIONS` says otherwise.
    pub(crate) const fn new(
        name: &'static str,
        preemptions: usize,
        run: fn(Option<Fault>),
    ) -> Self {
        Self {
            name,
            preemptions,
            run,
        }
    }

    /// Runs it in all interleavings, and counts them.
    fn try_all(self, fault: Option<Fault>, count: &Arc<AtomicUsize>) {
        let count = count.clone();
        let mut builder = Builder::new();
        builder.preemption_bound.get_or_insert(self.preemptions);
        builder.check(move || {
            count.fetch_add(1, Relaxed);
            (self.run)(fault);
        });
    }

    /// It has to pass, and each of `events` has to happen.
    pub(crate) fn passes(self, events: &[&'static str]) {
        let name = self.name;
        let count = Arc::default();
        SEEN.take();
        self.try_all(None, &count);
        let seen = SEEN.take();
        let count = count.load(Relaxed);
        println!("model {name}: {count} interleavings {seen:?}");
        for event in events {
            assert!(seen.contains_key(event), "no {event} in model {name}");
        }
    }

    /// With `fault` it has to fail, with a message that has `symptom` in it.
    pub(crate) fn fails(self, fault: impl Into<Fault>, symptom: &str) {
        let fault = fault.into();
        const THREAD: &str = "broken";
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let others = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                if std::thread::current().name() != Some(THREAD) {
                    others(info);
                }
            }));
        });

        let name = self.name;
        let count = Arc::default();
        let run = std::thread::Builder::new().name(THREAD.into()).spawn({
            let count = Arc::clone(&count);
            move || {
                if let Fault::Without(part) = fault {
                    LACKING.set(Some(part));
                }
                self.try_all(Some(fault), &count);
            }
        });
        let result = run.unwrap().join();
        let count = count.load(Relaxed);
        let Err(panic) = result else {
            panic!("model {name} passes with {fault:?}, in {count} interleavings");
        };
        let message = match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(panic) => panic.downcast_ref::<&str>().unwrap().to_string(),
        };
        assert!(message.contains(symptom), "{message}");
        println!("model {name}: {fault:?} fails in number {count}");
    }
}

/// The symptom of a wake-up that got lost.
pub(crate) const ASLEEP: &str = "deadlock";

/// The symptom of memory that is used by two.
pub(crate) const SHARED: &str = "Causality violation";
