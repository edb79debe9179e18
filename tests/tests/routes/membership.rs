// SPDX-License-Identifier: GPL-2.0

//! Whose calls the module answers: those of the tasks of an enrolled namespace and of the namespaces
//! that they make, as long as they are in one. And when it is over.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::thread;

use ipcdemo_client::Namespace;
use ipcdemo_tests::member::{
    answered, become_member, enrolled, enter, forked, member, namespace_of, outside, start,
    start_member,
};
use ipcdemo_tests::module::references;
use ipcdemo_tests::{Child, Errno, poll_now, scaled, serial, until};
use rustix::event::PollFlags;
use rustix::pipe::pipe;
use rustix::process::{Pid, Signal, getpid, kill_process};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::misuse::become_nobody;
use crate::{Off, open, switch};

/// Tells a program of this file that it is there to look whether its calls are answered, and where to
/// leave a word on that.
const SEEN: &str = "IPCDEMO_ROUTES_SEEN";

serial! {
    fn children_are_members() {
        member(|| {
            assert!(answered());
            forked(|| {
                assert!(answered());
                forked(|| assert!(answered()));
            });
        });
        assert!(!answered());
    }

    fn threads_are_members() {
        member(|| {
            let threads = [(); 3].map(|()| thread::spawn(answered));
            assert_eq!(threads.map(|thread| thread.join().unwrap()), [true; 3]);
        });
    }

    /// Which the C library starts by vfork(2) and exec.
    fn programs_are_members() {
        let seen = seen_path();
        member(|| program(&seen));
        assert_eq!(fs::read_to_string(&seen).unwrap(), "answered");
        program(&seen);
        assert_eq!(fs::read_to_string(&seen).unwrap(), "native");
        fs::remove_file(seen).unwrap();
    }

    /// A namespace that a member makes is one of the same kinds, whichever way it is made.
    fn namespaces_of_members_are_members() {
        let unshares: Maker = |body| {
            forked(|| {
                unshare(UnshareFlags::NEWIPC);
                body();
            });
        };
        let clones: Maker = |body| {
            let child = Child::clone(libc::CLONE_NEWIPC | libc::SIGCHLD, body);
            assert_eq!(child.wait(), 0);
        };
        for make in [unshares, clones] {
            member(|| {
                make(|| {
                    assert!(answered());
                    let namespace = own_namespace().expect("the namespace is listed");
                    assert!(namespace.born);
                    // And so on.
                    forked(|| {
                        unshare(UnshareFlags::NEWIPC);
                        assert!(answered());
                    });
                });
                assert!(own_namespace().is_some_and(|namespace| !namespace.born));
            });
        }
        // One that an outsider makes is none.
        forked(|| {
            unshare(UnshareFlags::NEWIPC);
            assert!(!answered());
            assert_eq!(own_namespace(), None);
        });
    }

    /// A process may leave, and come, if its memory is its own.
    fn a_process_alone_crosses() {
        let outside = outside();
        let inside = Held::new();
        member(|| {
            assert_eq!(enter(&outside), Ok(()));
            assert!(!answered());
            assert_eq!(enter(inside.namespace()), Ok(()));
            assert!(answered());
        });
        forked(|| {
            assert!(!answered());
            assert_eq!(enter(inside.namespace()), Ok(()));
            assert!(answered());
            forked(|| assert!(answered()));
            assert_eq!(enter(&outside), Ok(()));
            assert!(!answered());
        });
    }

    /// Each reader of the process's files in /proc uses its memory for a while, and shares it with nobody.
    fn a_reader_in_proc_hinders_no_crossing() {
        let outside = outside();
        let inside = Held::new();
        for file in ["cmdline", "maps", "status"] {
            member(|| {
                let path = format!("/proc/{}/{file}", process::id());
                let (end, ends) = pipe().unwrap();
                let reader = start(move || {
                    for _ in 0..scaled(5000) {
                        fs::read(&path).unwrap();
                    }
                    drop(ends);
                });
                while poll_now(&end, PollFlags::IN).is_empty() {
                    assert_eq!(enter(&outside), Ok(()), "while {file} is read");
                    assert_eq!(enter(inside.namespace()), Ok(()), "while {file} is read");
                }
                assert_eq!(reader.wait(), 0);
            });
        }
    }

    /// Nor does a thread that was joined, which may be not quite gone.
    fn a_joined_thread_hinders_no_crossing() {
        let outside = outside();
        let inside = Held::new();
        member(|| {
            for _ in 0..scaled(1000) {
                thread::spawn(|| ()).join().unwrap();
                assert_eq!(enter(&outside), Ok(()));
                assert_eq!(enter(inside.namespace()), Ok(()));
            }
        });
    }

    /// A caller without the privilege is told so, whatever else is in the way.
    fn a_crossing_without_privilege() {
        let outside = outside();
        member(|| {
            become_nobody();
            assert_eq!(enter(&outside), Err(Errno::PERM));
            let (reader, writer) = pipe().unwrap();
            let other = thread::spawn(move || File::from(reader).read(&mut [0]).unwrap());
            assert_eq!(enter(&outside), Err(Errno::PERM));
            drop(writer);
            other.join().unwrap();
        });
    }

    /// Two threads on different sides would share what only one of them may have.
    fn a_thread_does_not_cross() {
        let outside = outside();
        let inside = Held::new();
        for (of_member, to) in [(true, outside.as_fd()), (false, inside.namespace().as_fd())] {
            forked(|| {
                if of_member {
                    become_member();
                }
                let (reader, writer) = pipe().unwrap();
                let other = thread::spawn(move || File::from(reader).read(&mut [0]).unwrap());
                assert_eq!(enter(to), Err(Errno::INVAL));
                assert_eq!(answered(), of_member);
                drop(writer);
                other.join().unwrap();
            });
        }
    }

    /// Nor does a process that runs on its parent's memory.
    fn a_child_on_the_same_memory_does_not_cross() {
        let outside = outside();
        member(|| {
            let fd = outside.as_raw_fd();
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            let child = Child::clone(flags, move || {
                // SAFETY: It takes no pointer.
                assert_eq!(unsafe { libc::setns(fd, libc::CLONE_NEWIPC) }, -1);
                assert_eq!(io::Error::last_os_error().raw_os_error(), Some(libc::EINVAL));
            });
            assert_eq!(child.wait(), 0);
            assert!(answered());
        });
    }

    /// Between two namespaces on the same side there is no boundary.
    fn a_thread_moves_among_members() {
        let other = Held::new();
        member(|| {
            let moved = thread::scope(|scope| {
                let moves = || (enter(other.namespace()), answered());
                scope.spawn(moves).join().unwrap()
            });
            assert_eq!(moved, (Ok(()), true));
            assert!(answered());
        });
    }

    /// It is seen that a namespace is made and ends while nobody's calls are answered.
    fn births_and_deaths_are_seen_while_routes_are_off() {
        member(|| {
            let off = Off::new();
            forked(|| {
                unshare(UnshareFlags::NEWIPC);
                assert!(!answered());
                assert!(own_namespace().is_some_and(|namespace| namespace.born));
            });
            until("the namespace is gone", || born_here() == 0);
            forked(|| {
                unshare(UnshareFlags::NEWIPC);
                switch(true);
                assert!(answered());
            });
            drop(off);
        });
    }

    /// A namespace that was made for a child which then could not be: its number was taken.
    fn a_failed_birth_leaves_nothing() {
        const ROUNDS: usize = 50;
        member(|| {
            for _ in 0..ROUNDS {
                assert_eq!(clone_as_myself(), Err(Errno::EXIST));
            }
            until("no namespace but this is left", || born_here() == 0);
            assert!(answered());
        });
    }

    /// A namespace that was made together with another one which then could not be.
    fn an_undone_birth_leaves_nothing() {
        const LIMIT: &str = "/proc/sys/user/max_pid_namespaces";
        const ROUNDS: usize = 50;
        let before = fs::read_to_string(LIMIT).unwrap();
        fs::write(LIMIT, "0").unwrap();
        let child = start_member(|| {
            for _ in 0..ROUNDS {
                // SAFETY: No descriptors are unshared.
                let result = unsafe { unshare_unsafe(UnshareFlags::NEWIPC | UnshareFlags::NEWPID) };
                assert_eq!(result, Err(Errno::NOSPC));
            }
            until("no namespace but this is left", || born_here() == 0);
            assert!(answered());
        });
        let result = child.wait();
        fs::write(LIMIT, before.trim()).unwrap();
        assert_eq!(result, 0);
    }

    /// A namespace's end is some time after its last task's. Making one at the limit waits for that.
    fn a_low_limit_waits_for_the_dead() {
        const LIMIT: &str = "/proc/sys/user/max_ipc_namespaces";
        const ROUNDS: usize = 50;
        let before = fs::read_to_string(LIMIT).unwrap();
        let child = start_member(|| {
            fs::write(LIMIT, "3").unwrap();
            for _ in 0..ROUNDS {
                unshare(UnshareFlags::NEWIPC);
            }
            assert!(answered());
        });
        let result = child.wait();
        fs::write(LIMIT, before.trim()).unwrap();
        assert_eq!(result, 0);
    }

    /// The program that the kernel has run to load a module is init's child, whoever needs that module.
    fn a_helper_of_the_kernels_is_no_member() {
        const HELPER: &str = "/proc/sys/kernel/modprobe";
        let before = fs::read_to_string(HELPER).unwrap();
        let script = script();
        fs::write(HELPER, script.to_str().unwrap()).unwrap();
        let seen = seen_path();
        let child = start_member(|| {
            // A family that nobody has.
            // SAFETY: It takes no pointer.
            assert_eq!(unsafe { libc::socket(11, libc::SOCK_STREAM, 0) }, -1);
            assert!(answered());
        });
        let result = child.wait();
        fs::write(HELPER, before.trim()).unwrap();
        assert_eq!(result, 0);
        assert_eq!(fs::read_to_string(&seen).unwrap(), "native");
        fs::remove_file(seen).unwrap();
        fs::remove_file(script).unwrap();
    }

    /// Nor is the program that a member's core is piped to.
    fn a_cores_reader_is_no_member() {
        const PATTERN: &str = "/proc/sys/kernel/core_pattern";
        // Stock alone dumps core.
        let Ok(before) = fs::read_to_string(PATTERN) else { return };
        let script = script();
        fs::write(PATTERN, format!("|{}", script.display())).unwrap();
        let seen = seen_path();
        let child = start_member(|| process::abort());
        let result = child.wait();
        until("the core was looked at", || {
            fs::read_to_string(&seen).is_ok_and(|word| !word.is_empty())
        });
        fs::write(PATTERN, before.trim()).unwrap();
        assert_eq!(result, -libc::SIGABRT);
        assert_eq!(fs::read_to_string(&seen).unwrap(), "native");
        fs::remove_file(seen).unwrap();
        fs::remove_file(script).unwrap();
    }

    /// A namespace is listed as long as a task is in it, and no longer.
    fn it_ends_with_the_last_task() {
        let (reader, writer) = pipe().unwrap();
        let child = start_member(move || {
            let last = start(rest);
            let tells = [last.pid().as_raw_nonzero().get() as u32, namespace_of("self")];
            File::from(writer).write_all(&tells.map(u32::to_ne_bytes).concat()).unwrap();
            // It outlives its parent.
            mem::forget(last);
        });
        let [mut pid, mut inum] = [[0; 4]; 2];
        let mut told = File::from(reader);
        told.read_exact(&mut pid).unwrap();
        told.read_exact(&mut inum).unwrap();
        let inum = u32::from_ne_bytes(inum);
        assert_eq!(child.wait(), 0);
        assert!(enrolled(inum));
        let pid = Pid::from_raw(i32::from_ne_bytes(pid)).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        until("the namespace is gone", || !enrolled(inum));
    }

    /// A descriptor keeps it, and so the module, when all tasks are gone.
    fn a_descriptor_keeps_it() {
        let inside = Held::new();
        let inum = inside.inum;
        let kept = File::open(format!("/proc/{}/ns/ipc", inside.child.pid())).unwrap();
        drop(inside);
        assert!(enrolled(inum));
        assert!(references() > 0);
        // It is still one.
        forked(|| {
            assert_eq!(enter(&kept), Ok(()));
            assert!(answered());
        });
        assert!(enrolled(inum));
        drop(kept);
        until("the namespace is gone", || !enrolled(inum));
    }
}

/// Not a test of its own: what [`program`] and [`script`] run.
#[test]
fn looks_whether_it_is_answered() {
    if let Ok(path) = env::var(SEEN) {
        fs::write(path, if answered() { "answered" } else { "native" }).unwrap();
    }
}

const LOOKS: &str = "membership::looks_whether_it_is_answered";

fn seen_path() -> PathBuf {
    env::temp_dir().join("ipcdemo-routes-seen")
}

/// Runs this file as a program that looks whether it is answered.
fn program(seen: &Path) {
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", LOOKS])
        .env(SEEN, seen)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

/// The same as a file, for the kernel, which gives a program words of its own.
fn script() -> PathBuf {
    let path = env::temp_dir().join("ipcdemo-routes-script");
    let program = env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\n{SEEN}={} exec {} --exact {LOOKS} >/dev/null\n",
        seen_path().display(),
        program.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// Makes a namespace and runs a body in it.
type Maker = fn(fn());

/// A member that does nothing, for its namespace.
struct Held {
    child: Child,
    namespace: File,
    inum: u32,
}

impl Held {
    fn new() -> Self {
        let (reader, writer) = pipe().unwrap();
        let child = start_member(move || {
            File::from(writer).write_all(b"x").unwrap();
            rest();
        });
        File::from(reader).read_exact(&mut [0]).unwrap();
        let path = format!("/proc/{}/ns/ipc", child.pid());
        Self {
            namespace: File::open(path).unwrap(),
            inum: namespace_of(&child.pid().to_string()),
            child,
        }
    }

    fn namespace(&self) -> &File {
        &self.namespace
    }
}

/// Waits to be killed.
fn rest() {
    loop {
        // SAFETY: It takes no pointer.
        unsafe { libc::pause() };
    }
}

/// This process's namespace, as the module lists it.
fn own_namespace() -> Option<Namespace> {
    let inum = namespace_of("self");
    let mut namespaces = open().namespaces().unwrap().into_iter();
    namespaces.find(|namespace| namespace.inum == inum)
}

/// How many namespaces are listed that were made by a member.
fn born_here() -> usize {
    let namespaces = open().namespaces().unwrap();
    namespaces.iter().filter(|namespace| namespace.born).count()
}

fn unshare(flags: UnshareFlags) {
    // SAFETY: No descriptors are unshared.
    unsafe { unshare_unsafe(flags) }.unwrap();
}

/// clone3(2) of a child in a namespace of its own, which is to have this process's number.
fn clone_as_myself() -> Result<(), Errno> {
    let number = getpid().as_raw_nonzero().get();
    // SAFETY: It may be zero.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = libc::CLONE_NEWIPC as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.set_tid = (&raw const number).addr() as u64;
    args.set_tid_size = 1;
    // SAFETY: Without CLONE_VM it is a fork, and the number is taken, so that there is no child.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match result {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap()),
        0 => {
            // SAFETY: It ends the child that ought not to be.
            unsafe { libc::_exit(1) }
        }
        _ => Ok(()),
    }
}
