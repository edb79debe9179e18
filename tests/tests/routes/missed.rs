// SPDX-License-Identifier: GPL-2.0

//! No call of a member is missed, whatever tracers do to the same functions meanwhile. And tracers miss
//! none, and see none twice.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::time::Duration;

use ipcdemo_tests::member::{answered, enter, forked, member, outside};
use ipcdemo_tests::{has_checkers, patching, scaled, serially_for};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::traffic::Shared;
use crate::{ENTRIES, bpf, switch};

const TRACING: &str = "/sys/kernel/tracing";

const LIMIT: Duration = Duration::from_secs(600);

const THREADS: usize = 8;

/// Which functions are traced: those that the calls come by.
const CALLED: [&str; 2] = [ENTRIES[0], ENTRIES[1]];

/// How many calls have to come while a tracer is on.
const TRACED: u64 = 50;

#[test]
fn no_call_is_missed() {
    serially_for(LIMIT, || {
        // The debug kernel takes a millisecond for each: those under tracers are enough there.
        let calls = if has_checkers() { 10_000 } else { 1_000_000 };
        let calls = scaled(calls) as u64;
        // One that is there before the route is armed, and one after.
        switch(false);
        let before = patching(|| bpf::attach_to_end_of(CALLED[1]));
        switch(true);
        let after = patching(|| bpf::attach_to_end_of(CALLED[0]));

        let members = Shared::new();
        let process = members.begin(true, THREADS);
        members.go_on_for(1);
        let (answered_before, made_before) = members.look();
        let mut tracers = 0;
        while tracers < 3 || members.calls() < made_before + calls {
            trace(tracers % 3, members);
            tracers += 1;
        }
        let (answered, made) = members.look();
        assert_eq!(answered - answered_before, made - made_before);
        members.end([process]);
        patching(|| drop((before, after)));
    });
}

/// A function of which the answer calls the original is entered once all the same.
#[test]
fn a_call_is_traced_once() {
    const FUNCTIONS: [&str; 4] = [
        CALLED[1],
        "shm_init_ns",
        "ipcns_install",
        "create_pipe_files",
    ];
    serially_for(LIMIT, || {
        patching(|| {
            for function in FUNCTIONS {
                append("kprobe_events", &format!("p:ipcdemo/{function} {function}"));
            }
            set("events/ipcdemo/enable", "1");
        });
        let outside = outside();
        member(|| {
            let inside = File::open("/proc/self/ns/ipc").unwrap();
            let before = FUNCTIONS.map(hits);
            assert!(answered());
            forked(|| {
                // SAFETY: No descriptors are unshared.
                unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }.unwrap();
            });
            assert_eq!(enter(&outside), Ok(()));
            assert_eq!(enter(&inside), Ok(()));
            // For notifications: the answer calls the original.
            let _ = pipe_with(PipeFlags::from_bits_retain(libc::O_EXCL as u32));
            let after = FUNCTIONS.map(hits);
            let seen: [u64; 4] = std::array::from_fn(|at| after[at] - before[at]);
            assert_eq!(seen, [1, 1, 2, 1]);
        });
        patching(|| {
            set("events/ipcdemo/enable", "0");
            for function in FUNCTIONS {
                append("kprobe_events", &format!("-:ipcdemo/{function}"));
            }
        });
    });
}

/// How often an event of that name was seen.
fn hits(event: &str) -> u64 {
    let profile = fs::read_to_string(format!("{TRACING}/kprobe_profile")).unwrap();
    let mut lines = profile.lines().map(str::split_whitespace);
    let mut line = lines
        .find(|line| line.clone().next() == Some(event))
        .unwrap();
    line.nth(1).unwrap().parse().unwrap()
}

/// A BPF program at the end of a function runs for a member's calls as for others, the failed ones too.
#[test]
fn a_program_runs_for_each_call() {
    serially_for(LIMIT, || {
        let attached = patching(|| {
            let attached = bpf::attach_to_end_of(CALLED[1])?;
            fs::write(bpf::STATISTICS, "1").unwrap();
            Some(attached)
        });
        let Some(attached) = attached else { return };
        let calls = || {
            let before = attached.runs();
            for flags in [0, libc::EFD_NONBLOCK, libc::EFD_CLOEXEC, 2] {
                // SAFETY: It takes no pointer.
                let fd = unsafe { libc::syscall(libc::SYS_eventfd2, 0, flags) };
                assert_eq!(fd >= 0, flags != 2);
            }
            assert_eq!(attached.runs() - before, 4);
        };
        member(calls);
        forked(calls);
        patching(|| {
            fs::write(bpf::STATISTICS, "0").unwrap();
            drop(attached);
        });
    });
}

/// Switches a tracer on, has it see calls, and switches it off.
fn trace(which: usize, members: &Shared) {
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
            seen(members);
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
            seen(members);
            patching(|| {
                set("current_tracer", "nop");
                set("set_ftrace_filter", "");
            });
        }
    }
}

/// Has calls come, of which the tracer has to have seen some.
fn seen(members: &Shared) {
    set("trace", "");
    members.go_on_for(TRACED);
    let mut beginning = [0; 4096];
    let length = File::open(format!("{TRACING}/trace"))
        .and_then(|mut trace| trace.read(&mut beginning))
        .unwrap();
    let text = String::from_utf8_lossy(&beginning[..length]);
    assert!(text.contains(CALLED[0]), "{text}");
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
