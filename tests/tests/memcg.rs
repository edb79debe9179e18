// SPDX-License-Identifier: GPL-2.0

//! Pipes of a control group: their pages are charged, and it freezes. For the stock kernel, which has such groups:
//! elsewhere these tests fail.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{self, Command};

use ipcdemo_tests::pipe::{BUFFERS, bytes, path, put, take};
use ipcdemo_tests::{
    Child, Errno, Fd, OneProcessor, PAGE, Subject, differential, serially, sides, until,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::read;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::mount::{MountFlags, mount};
use rustix::pipe::{SpliceFlags, splice};

sides!();

const GROUPS: &str = "/sys/fs/cgroup";
const GROUP: &str = "/sys/fs/cgroup/ipcdemo";
const TRACE: &str = "/sys/kernel/tracing/instances/ipcdemo";

/// The capacity of a new pipe.
const FULL: usize = BUFFERS * PAGE;

/// How far the group's figure may be off: the kernel charges 64 pages at once, and keeps what the pipes
/// themselves took for a while.
const SLACK: usize = 1 << 20;

/// A control group, which exists as long as this does.
struct Group;

impl Group {
    fn new() -> Self {
        let groups = Path::new(GROUPS);
        if !groups.join("cgroup.procs").exists() {
            mount("cgroup2", groups, "cgroup2", MountFlags::empty(), None).unwrap();
        }
        fs::write(groups.join("cgroup.subtree_control"), "+memory").unwrap();
        fs::create_dir(GROUP).unwrap();
        Self
    }

    fn join() {
        Self::set("cgroup.procs", "0");
    }

    fn current() -> usize {
        let text = fs::read_to_string(format!("{GROUP}/memory.current")).unwrap();
        text.trim().parse().unwrap()
    }

    fn set(file: &str, value: &str) {
        fs::write(format!("{GROUP}/{file}"), value).unwrap();
    }

    fn is_frozen() -> bool {
        let events = fs::read_to_string(format!("{GROUP}/cgroup.events")).unwrap();
        events.contains("frozen 1")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process is in its group until its last switch, which may come after its parent knows of its end.
        until("nobody is in the group", || fs::remove_dir(GROUP).is_ok());
    }
}

/// Runs a test's body in a process that is in the group, alone.
fn in_group(body: impl FnOnce() + Send + 'static) {
    serially(|| {
        let _one = OneProcessor::new();
        let _group = Group::new();
        let child = Child::fork(|| {
            Group::join();
            body();
            0
        });
        assert_eq!(child.wait(), 0);
    });
}

/// Runs a test's body in this process, while there is a group.
fn beside_group(body: impl FnOnce() + Send + 'static) {
    serially(|| {
        let _one = OneProcessor::new();
        let _group = Group::new();
        body();
    });
}

/// Begins a process in the group, and what it starts, that do nothing but make pipes and talk through them.
fn begin_pipelines(subject: Subject) -> Child {
    let (reader, writer) = subject.pipe();
    let child = Child::fork(|| {
        Group::join();
        loop {
            let output = Command::new("echo").arg("a").output().unwrap();
            assert_eq!(output.stdout, b"a\n");
            // Whoever has begun this has read one of these, or is gone.
            let _ = put(&writer, b"a");
        }
    });
    assert_eq!(take(&reader, 1).as_deref(), Ok(&b"a"[..]));
    child
}

/// How many pages this process frees together with others while `body` runs.
fn freed_together(body: impl FnOnce()) -> usize {
    let trace = Path::new(TRACE);
    let event = trace.join("events/kmem/mm_page_free_batched");
    fs::create_dir(trace).unwrap();
    fs::write(
        event.join("filter"),
        format!("common_pid == {}", process::id()),
    )
    .unwrap();
    fs::write(event.join("enable"), "1").unwrap();
    body();
    fs::write(event.join("enable"), "0").unwrap();
    let text = fs::read_to_string(trace.join("trace")).unwrap();
    fs::remove_dir(trace).unwrap();
    // "… mm_page_free_batched: page=… pfn=0x1234 order=0"
    text.lines()
        .filter(|line| line.contains(" mm_page_free_batched: "))
        .count()
}

differential! {
    by crate::in_group;

    /// How many of a full pipe's pages one read frees together: none, and of ours all that it does not keep.
    fn a_read_frees_pages_together(subject: Subject) {
        let (reader, writer) = subject.pipe();
        let mut all = bytes(FULL);
        assert_eq!(put(&writer, &all), Ok(FULL));
        let pages = freed_together(|| assert_eq!(read(&reader, &mut all), Ok(FULL)));
        let expected = match subject {
            Subject::Native => 0..=0,
            Subject::Module => BUFFERS - 2..=BUFFERS,
        };
        assert!(expected.contains(&pages), "{pages}");
    }

    /// Each page is charged, and its charge ends with it: also page by page, and in a pipe of the kernel's.
    fn what_is_freed_is_not_charged_any_more(subject: Subject) {
        const PIPES: usize = 64;
        let all = bytes(FULL);
        let before = Group::current();
        let pipes = [(); PIPES].map(|()| subject.pipe());
        let added = || Group::current().saturating_sub(before);
        for (_, writer) in &pipes {
            assert_eq!(put(writer, &all), Ok(FULL));
        }
        assert!(added() >= PIPES * FULL, "{} are charged", added());
        for (reader, _) in &pipes {
            assert_eq!(take(reader, FULL / 2).unwrap(), all[..FULL / 2]);
        }
        until("the half that was read is not charged", || added() < PIPES * FULL / 2 + SLACK);
        let others = [(); PIPES].map(|()| Subject::Native.pipe());
        for ((reader, _), (_, writer)) in pipes.iter().zip(&others) {
            let moved = splice(reader, None, writer, None, FULL, SpliceFlags::empty());
            assert_eq!(moved, Ok(FULL / 2));
        }
        drop(pipes);
        assert!(added() >= PIPES * FULL / 2, "{} are charged", added());
        drop(others);
        until("nothing is charged", || added() < SLACK);
    }

    /// fs/pipe.c:804, 946: a pipe that nobody has open has no pages, even if an O_PATH descriptor keeps its inode.
    fn what_nobody_has_open_has_no_pages(subject: Subject) {
        const PIPES: usize = 300;
        let before = Group::current();
        let kept = [(); PIPES].map(|()| {
            let (reader, writer) = subject.pipe();
            let path = path(&reader);
            let kept = open(&*path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            assert_eq!(put(&writer, &bytes(FULL)), Ok(FULL));
            assert_eq!(take(&reader, FULL).map(|taken| taken.len()), Ok(FULL));
            kept
        });
        // Both pages that an idle pipe may keep would be 2.4 MB.
        let added = || Group::current().saturating_sub(before);
        until("no pages are charged", || added() < SLACK);
        drop(kept);
    }

    /// At the group's limit a write fails, though the machine has free pages.
    fn the_limit_holds(subject: Subject) {
        const ROOM: usize = 1 << 20;
        // Nobody can be killed for memory, so that calls fail.
        fs::write("/proc/self/oom_score_adj", "-1000").unwrap();
        let mut limit = OpenOptions::new().write(true).open(format!("{GROUP}/memory.max")).unwrap();
        let all = bytes(FULL);
        let pipes = [(); 2 * ROOM / FULL].map(|()| subject.nonblocking_pipe());
        let fill = |pipes: &[(Fd, Fd)]| {
            let mut written = 0;
            for (_, writer) in pipes {
                match put(writer, &all) {
                    Ok(some) => written += some,
                    Err(error) => return (written, Err(error)),
                }
            }
            (written, Ok(()))
        };
        // This process itself has all that it needs before there is a limit.
        mlockall(MlockAllFlags::CURRENT).unwrap();
        let room = (Group::current() + ROOM).to_string();
        limit.write_all(room.as_bytes()).unwrap();
        let (written, result) = fill(&pipes);
        limit.write_all(b"max").unwrap();
        assert_eq!(result, Err(Errno::NOMEM));
        // 64 pages may have been charged in advance, and the group's other pages may become fewer meanwhile.
        assert!((ROOM / 2..ROOM + ROOM / 2).contains(&written), "{written}");
        let rest = pipes.iter().map(|(_, writer)| put(writer, &all[..1]));
        assert_eq!(rest.last(), Some(Ok(1)));
    }
}

differential! {
    by crate::beside_group;

    /// A group can be frozen whatever its tasks are about.
    fn it_freezes(subject: Subject) {
        const PIPELINES: usize = 2;
        let children = [(); PIPELINES].map(|()| begin_pipelines(subject));
        for _ in 0..30 {
            Group::set("cgroup.freeze", "1");
            until("the group is frozen", Group::is_frozen);
            Group::set("cgroup.freeze", "0");
            until("the group goes on", || !Group::is_frozen());
        }
        Group::set("cgroup.kill", "1");
        assert_eq!(children.map(Child::wait), [-libc::SIGKILL; PIPELINES]);
    }

    /// The machine can be suspended, as far as its tasks are concerned: the kernel's own test of that goes no further.
    fn the_machine_freezes(subject: Subject) {
        let child = begin_pipelines(subject);
        fs::write("/sys/power/pm_test", "freezer").unwrap();
        fs::write("/sys/module/suspend/parameters/pm_test_delay", "1").unwrap();
        let suspended = fs::write("/sys/power/state", "freeze");
        fs::write("/sys/power/pm_test", "none").unwrap();
        suspended.unwrap();
        Group::set("cgroup.kill", "1");
        assert_eq!(child.wait(), -libc::SIGKILL);
    }

    /// Full pipes are the memory of the one that filled them: it is the one that ends.
    fn full_pipes_are_its_end(subject: Subject) {
        Group::set("memory.max", "8M");
        let child = Child::fork(|| {
            Group::join();
            let all = bytes(FULL);
            let pipes: Vec<_> = (0..400)
                .map(|_| {
                    let pipe = subject.pipe();
                    put(&pipe.1, &all).unwrap();
                    pipe
                })
                .collect();
            pipes.len() as u8
        });
        assert_eq!(child.wait(), -libc::SIGKILL);
    }
}
