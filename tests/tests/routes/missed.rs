// SPDX-License-Identifier: GPL-2.0

//! No call of a member is missed, whatever tracers do to the same functions meanwhile.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ipcdemo_tests::member::{become_member, route, start};
use ipcdemo_tests::{Child, patching, scaled, serially_for};

use crate::traffic::check_one;
use crate::{ENTRIES, bpf, switch};

const TRACING: &str = "/sys/kernel/tracing";

const LIMIT: Duration = Duration::from_secs(600);

const THREADS: usize = 8;

/// Which functions are traced: those that the calls come by.
const CALLED: [&str; 2] = [ENTRIES[0], ENTRIES[1]];

#[test]
fn no_call_is_missed() {
    serially_for(LIMIT, || {
        let calls = scaled(1_000_000) / THREADS * THREADS;
        // One that is there before the route is armed, and one after.
        switch(false);
        let before = patching(|| bpf::attach_to_end_of(CALLED[1]));
        switch(true);
        let after = patching(|| bpf::attach_to_end_of(CALLED[0]));

        let answered = || {
            CALLED
                .map(|function| route(function).answered)
                .iter()
                .sum::<u64>()
        };
        let member = Member::new(calls);
        let seen = answered();
        member.go();
        let mut tracers = 0;
        while !member.child.task().has_ended() {
            trace(tracers % 3);
            tracers += 1;
        }
        assert_eq!(member.child.wait(), 0);
        assert!(
            tracers >= 3,
            "the calls were over before each tracer was there"
        );
        assert_eq!(answered() - seen, calls as u64);
        patching(|| drop((before, after)));
    });
}

/// Switches a tracer on, has it run, and switches it off.
fn trace(which: usize) {
    match which {
        0 => {
            patching(|| {
                for (event, function) in CALLED.iter().enumerate() {
                    append(
                        "kprobe_events",
                        &format!("p:ipcdemo/call{event} {function}"),
                    );
                }
                set("events/ipcdemo/enable", "1");
            });
            thread::yield_now();
            patching(|| {
                set("events/ipcdemo/enable", "0");
                for event in 0..CALLED.len() {
                    append("kprobe_events", &format!("-:ipcdemo/call{event}"));
                }
            });
        }
        which => {
            let tracer = ["function", "function_graph"][which - 1];
            patching(|| {
                set("set_ftrace_filter", &CALLED.join("\n"));
                set("current_tracer", tracer);
            });
            thread::yield_now();
            patching(|| {
                set("current_tracer", "nop");
                set("set_ftrace_filter", "");
            });
        }
    }
    // Nobody reads it.
    set("trace", "");
}

fn set(file: &str, text: &str) {
    fs::write(format!("{TRACING}/{file}"), text).unwrap_or_else(|error| panic!("{file}: {error}"));
}

fn append(file: &str, text: &str) {
    let path = format!("{TRACING}/{file}");
    let mut open = OpenOptions::new().append(true).open(&path).unwrap();
    open.write_all(text.as_bytes())
        .unwrap_or_else(|error| panic!("{file}: {text}: {error}"));
}

/// A member that makes so many calls once it is told to.
struct Member {
    child: Child,
    start: std::os::fd::OwnedFd,
}

impl Member {
    fn new(calls: usize) -> Self {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (ready, tells) = rustix::pipe::pipe().unwrap();
        let child = start(move || {
            become_member();
            rustix::io::write(&tells, b"x").unwrap();
            rustix::io::read(&reader, &mut [0; 1]).unwrap();
            let made = AtomicUsize::new(0);
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        for call in 0..calls / THREADS {
                            check_one(call as u32);
                            made.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(made.into_inner(), calls);
        });
        rustix::io::read(&ready, &mut [0; 1]).unwrap();
        Self {
            child,
            start: writer,
        }
    }

    fn go(&self) {
        rustix::io::write(&self.start, b"x").unwrap();
    }
}
