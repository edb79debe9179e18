// SPDX-License-Identifier: GPL-2.0

//! Enrollment and routed calls: a namespace is a member whose caller was told so, or is none.
//!
//! The module has to be loaded with routes=2. Then nothing is left to be armed, which would patch the kernel.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::OwnedFd;

use ipcdemo_client::{
    CounterFlags, Factory, Kinds, Namespace, Object, Refusal, SealFlags, enroll, prove,
};
use ipcdemo_tests::member::{answered, enter, forked, member, namespace_of, outside, start_member};
use ipcdemo_tests::{Errno, Subject, serial, until};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::injection::{errno, every_fault, every_fault_with, factory};
use crate::pipes::CREATION;

serial! {
    /// What may fail: the copies, two of them out; the record.
    fn enrolling() {
        let factory = factory();
        forked(|| {
            let outside = outside();
            fresh(&outside);
            let arm = || factory.arm(Kinds::empty()).map_err(number);
            every_fault(&factory, 4, arm, |armed| {
                assert_eq!(is_member(&factory), armed.is_some());
                assert_eq!(answered(), armed.is_some());
                fresh(&outside);
            });
        });
        none_is_left(&factory);
    }

    /// The copies. A caller that was told nothing may try again, or has no kind left.
    fn sealing() {
        let factory = factory();
        forked(|| {
            let outside = outside();
            let prepare = || {
                fresh(&outside);
                let armed = factory.arm(Kinds::empty()).unwrap();
                assert_eq!(prove(armed.kinds).unwrap(), SealFlags::empty());
            };
            prepare();
            let seal = || factory.seal(Kinds::empty(), SealFlags::empty()).map_err(number);
            every_fault(&factory, 3, seal, |sealed| {
                if sealed.is_none() && is_member(&factory) {
                    assert!(!own_namespace(&factory).unwrap().sealed);
                    assert!(seal().is_ok());
                } else {
                    assert_eq!(is_member(&factory), sealed.is_some());
                }
                assert_eq!(answered(), is_member(&factory));
                prepare();
            });
        });
        none_is_left(&factory);
    }

    /// The array, and the copies.
    fn listing_routes() {
        let factory = factory();
        let list = || factory.routes().map_err(errno);
        every_fault(&factory, 4, list, |told| {
            assert!(told.is_none_or(|told| told.on && told.list.len() == 9));
        });
    }

    /// As of the routes.
    fn listing_namespaces() {
        let factory = factory();
        let _members = [(); 3].map(|()| start_member(|| loop {
            // SAFETY: It takes no pointer.
            unsafe { libc::pause() };
        }));
        let list = || factory.namespaces().map_err(errno);
        // Their proving calls made counters.
        until("they are members", || {
            let told = list().unwrap();
            told.len() == 3 && told.iter().all(|namespace| namespace.sealed)
        });
        every_fault(&factory, 4, list, |told| {
            assert!(told.is_none_or(|told| told.len() == 3));
        });
    }

    /// The copy.
    fn telling_a_counters_id() {
        let factory = factory();
        let counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
        let tell = || Object::id_of(&counter).map_err(errno);
        let told = tell().unwrap();
        assert!(told.is_some());
        every_fault(&factory, 1, tell, |id| assert!(id.is_none_or(|id| id == told)));
    }

    /// The counter, its number's place, the file: there is an eventfd of the module's, or none.
    fn making_an_eventfd() {
        let factory = factory();
        member(|| {
            let flags = CounterFlags::CLOEXEC.bits();
            let make = || Subject::Native.create(1, flags);
            every_fault(&factory, 3, make, |made: Option<OwnedFd>| {
                assert!(made.is_none_or(|fd| Object::id_of(fd).unwrap().is_some()));
            });
            assert!(answered());
        });
        none_is_left(&factory);
    }

    /// As of the factory's: there are two ends of the module's, or none. With a tally there is a row, too.
    fn making_a_pipe() {
        let factory = factory();
        let tally = factory.tally().unwrap();
        forked(|| {
            enroll(&factory, Kinds::empty(), Some(&tally)).unwrap();
            let make = || pipe_with(PipeFlags::CLOEXEC);
            every_fault_with(CREATION, &factory, 8, make, |made| {
                assert!(made.is_none_or(|ends| Object::id_of(ends.0).unwrap().is_some()));
            });
        });
        assert_eq!(tally.sums().unwrap().len(), 1);
        none_is_left(&factory);
    }

    /// Whatever the kernel allocates for a namespace, and the record: it is a member if it is listed. It is
    /// none, with a word in the log, if there was no memory for the record.
    fn being_born() {
        let factory = factory();
        member(|| {
            let home = File::open("/proc/self/ns/ipc").unwrap();
            let parent = namespace_of("self");
            let without = Cell::new(0);
            let sweep = || every_fault(&factory, 10, unshare, |born| {
                assert_eq!(namespace_of("self") != parent, born.is_some());
                let listed = is_member(&factory);
                assert_eq!(answered(), listed);
                if born.is_some() {
                    without.set(without.get() + u32::from(!listed));
                } else {
                    assert!(listed);
                }
                enter(&home).unwrap();
                assert!(answered());
            });
            // The record is the last that may fail. A page for a slab, which some births need and others do not, moves
            // its place by one, so that a single sweep may step over it.
            for _ in 0..20 {
                sweep();
                if without.get() > 0 {
                    return;
                }
            }
            panic!("no record was ever missing");
        });
        none_is_left(&factory);
    }
}

/// Moves to a namespace that no one has had before.
fn fresh(outside: &File) {
    enter(outside).unwrap();
    unshare().unwrap();
}

fn unshare() -> Result<(), Errno> {
    // SAFETY: No descriptors are unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }
}

/// This process's namespace, as the module lists it.
fn own_namespace(factory: &Factory) -> Option<Namespace> {
    let inum = namespace_of("self");
    let mut namespaces = factory.namespaces().unwrap().into_iter();
    namespaces.find(|namespace| namespace.inum == inum)
}

/// Whether this process's namespace is listed with kinds.
fn is_member(factory: &Factory) -> bool {
    own_namespace(factory).is_some_and(|namespace| !namespace.kinds.is_empty())
}

fn none_is_left(factory: &Factory) {
    until("no namespace is enrolled", || {
        factory.namespaces().unwrap().is_empty()
    });
}

fn number(refusal: Refusal) -> Errno {
    Errno::from_raw_os_error(refusal.errno)
}
