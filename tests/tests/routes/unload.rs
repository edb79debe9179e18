// SPDX-License-Identifier: GPL-2.0

//! A member keeps the module, and the module goes soon after the last of them.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use ipcdemo_client::RouteState;
use ipcdemo_tests::member::{
    answered, become_member, enter, forked, member, outside, route, start,
};
use ipcdemo_tests::module::{load, load_with, references, unload, unload_at_last};
use ipcdemo_tests::{Errno, Subject, patching, rounds, serial, serially_for, until};
use rustix::pipe::pipe;

use crate::ENTRIES;
use crate::traffic::{Preempting, Shared};

/// For a round, on the slowest kernel.
const LIMIT: Duration = Duration::from_secs(20);

/// How long nothing keeps the module any more.
const SOON: Duration = Duration::from_secs(2);

serial! {
    /// It is in use by the namespace alone: no file of the module's is open.
    fn a_member_keeps_it() {
        until("nobody uses it", || references() == 0);
        let (ready, tells) = pipe().unwrap();
        let child = start(move || {
            become_member();
            File::from(tells).write_all(b"x").unwrap();
            loop {
                // SAFETY: It takes no pointer.
                unsafe { libc::pause() };
            }
        });
        File::from(ready).read_exact(&mut [0]).unwrap();
        assert_eq!(references(), 1);
        assert_eq!(unload(), Err(Errno::AGAIN));
        let end = Instant::now();
        drop(child);
        until("nobody uses it", || references() == 0);
        assert!(end.elapsed() < SOON, "{:?}", end.elapsed());
        assert_eq!(unload(), Ok(()));
        load();
    }

    /// So does a counter that outlives its maker's namespace, by its file.
    fn what_a_member_made_keeps_it() {
        until("nobody uses it", || references() == 0);
        let (ready, tells) = pipe().unwrap();
        forked(|| {
            let outside = outside();
            become_member();
            let eventfd = Subject::Native.counter(3);
            enter(&outside).unwrap();
            until("only the eventfd keeps it", || references() == 1);
            assert_eq!(unload(), Err(Errno::AGAIN));
            assert_eq!(ipcdemo_tests::read(&eventfd), Ok(3));
            assert!(!answered());
            rustix::io::write(&tells, b"x").unwrap();
        });
        rustix::io::read(&ready, &mut [0; 1]).unwrap();
        until("nobody uses it", || references() == 0);
        assert_eq!(unload(), Ok(()));
        load();
    }

    /// With routes=1 the first member has them armed, and they rest again soon after the last.
    fn they_can_be_armed_on_demand() {
        unload_at_last();
        load_with(c"routes=1");
        // The module patches the kernel when it likes.
        patching(|| {
            let states = || ENTRIES.map(|entry| route(entry).state);
            assert_eq!(states(), [RouteState::Resting; ENTRIES.len()]);
            for _ in 0..2 {
                member(|| {
                    assert!(answered());
                    assert_eq!(states(), [RouteState::Armed; ENTRIES.len()]);
                });
                let end = Instant::now();
                until("nobody uses it", || references() == 0);
                assert!(end.elapsed() < SOON, "{:?}", end.elapsed());
                assert_eq!(states(), [RouteState::Resting; ENTRIES.len()]);
            }
        });
        unload_at_last();
        load();
    }

    /// Where it is loaded without them, there are no routes.
    fn without_its_parameter_it_has_none() {
        unload_at_last();
        load_with(c"");
        forked(|| {
            let factory = crate::open();
            let error = ipcdemo_client::enroll(&factory, ipcdemo_client::Kinds::empty(), None);
            let text = error.unwrap_err().to_string();
            assert!(text.contains("routes=1"), "{text}");
            let error = factory.switch_routes(true).unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(Errno::OPNOTSUPP));
            let routes = factory.routes().unwrap();
            assert!(!routes.on && !routes.loaded && routes.list.is_empty());
        });
        unload_at_last();
        load();
    }
}

/// It comes, a member comes and goes, and it goes. Meanwhile the threads of the member and of others are preempted wherever they
/// stand in a call: the member is killed then, and the others find the module gone when they go on.
#[test]
fn it_comes_and_goes() {
    const CALLS: u64 = 50;
    let rounds = rounds("IPCDEMO_LOADS", 20).max(2);
    serially_for(LIMIT * u32::try_from(rounds + 5).unwrap(), move || {
        let others = Shared::new();
        let process = others.begin_idle(false, 2);
        let preempting = Preempting::begin();
        for _ in 0..rounds {
            let members = Shared::new();
            let member = members.begin_idle(true, 2);
            members.go_on_for(1);
            let (answered, made) = members.moved(CALLS);
            assert_eq!(answered, made);
            drop(member);
            unload_at_last();
            others.go_on_for(1);
            load();
            others.go_on_for(1);
        }
        drop(preempting);
        others.end([process]);
    });
}
