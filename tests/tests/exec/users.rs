// SPDX-License-Identifier: GPL-2.0

//! Whose program it is: as root nothing changes, and another user gets a user namespace.

use std::env;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ipcdemo_client::Factory;
use ipcdemo_tests::serially;
use rustix::process::{geteuid, getgid, getgroups, getuid};

use crate::{
    ANSWERED, BODY, NATIVE, SEEN, WAYS, command, differential, end, is_body, nothing_is_left,
    nothing_is_left_to_the_kernel, seen_path, whose,
};

/// A user, who may have the module's node, or not.
const USER: u32 = 1000;

/// Anybody may have the node as long as this exists.
struct ForAll;

impl ForAll {
    fn new() -> Self {
        Self::set(0o666);
        Self
    }

    fn set(mode: u32) {
        fs::set_permissions(Factory::PATH, Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for ForAll {
    fn drop(&mut self) {
        Self::set(0o600);
    }
}

/// This program as a file of root's whose user becomes root.
struct Privileged(PathBuf);

impl Privileged {
    fn new() -> Self {
        let path = env::temp_dir().join(format!("exec-privileged-{}", std::process::id()));
        fs::copy(env::current_exe().unwrap(), &path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
        Self(path)
    }

    /// Has a user run a body by it.
    fn run(&self, name: &str, seen: &Path) {
        let output = Command::new(&self.0)
            .args(["--exact", name, "--test-threads=1"])
            .env(BODY, name)
            .env(SEEN, seen)
            .uid(USER)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Privileged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Who this is, and whose objects it gets.
fn ids_and_whose() -> String {
    format!(
        "uid {}, euid {}, gid {}, groups {:?}, {}",
        getuid().as_raw(),
        geteuid().as_raw(),
        getgid().as_raw(),
        getgroups().unwrap(),
        whose()
    )
}

/// A program that root has started drops to a user, for whom the bit counts.
#[test]
fn a_setuid_program_has_its_rights() {
    const NAME: &str = "users::a_setuid_program_has_its_rights";
    const PRIVILEGED: &str = "users::what_a_program_gets";
    differential(NAME, || {
        let seen = env::temp_dir().join("exec-setuid");
        Privileged::new().run(PRIVILEGED, &seen);
        let text = fs::read_to_string(&seen).unwrap();
        fs::remove_file(seen).unwrap();
        assert!(text.starts_with("uid 1000, euid 0, "), "{text}");
        let ids = text.strip_suffix(&whose());
        ids.expect("its objects are as those of its parent")
            .to_owned()
    });
}

/// Not a test of its own: what others run.
#[test]
fn what_a_program_gets() {
    is_body("users::what_a_program_gets", ids_and_whose);
}

#[test]
fn groups_and_capabilities_stay() {
    const NAME: &str = "users::groups_and_capabilities_stay";
    let body = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let kept = ["Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", "Seccomp"];
        let is_kept = |line: &&str| kept.iter().any(|kept| line.starts_with(kept));
        let of_status: Vec<_> = status.lines().filter(is_kept).collect();
        format!("{}\n{}", of_status.join("\n"), ids_and_whose())
    };
    if is_body(NAME, body) {
        return;
    }
    serially(|| {
        let path = seen_path(NAME);
        let run = |before: &[&str]| {
            let mut command = command(before, NAME);
            // SAFETY: It makes one system call.
            unsafe {
                command.pre_exec(|| match libc::setgroups(3, [7, 8, 4000].as_ptr()) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                });
            }
            let output = command.env(SEEN, &path).output().unwrap();
            assert_eq!(end(output.status), Ok(0), "{output:?}");
            let text = fs::read_to_string(&path).unwrap();
            fs::remove_file(&path).unwrap();
            text
        };
        let native = run(&[]);
        assert!(native.contains("Groups:\t7 8 4000"), "{native}");
        for before in WAYS {
            assert_eq!(run(before), native.replace(NATIVE, ANSWERED), "{before:?}");
        }
        nothing_is_left();
    });
}

/// Runs the body of [`what_a_program_gets`] as a user.
fn as_user(before: &[&str]) -> (Output, String) {
    const NAME: &str = "users::what_a_program_gets";
    let path = seen_path(NAME);
    let output = command(before, NAME)
        .env(SEEN, &path)
        .uid(USER)
        .gid(USER)
        .output()
        .unwrap();
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    (output, text)
}

/// A user has the number that it had, is answered, and is told what is different.
#[test]
fn a_user_gets_a_user_namespace() {
    serially(|| {
        let _all = ForAll::new();
        let (output, native) = as_user(&[]);
        assert_eq!(end(output.status), Ok(0), "{output:?}");
        assert!(
            native.starts_with("uid 1000, euid 1000, gid 1000"),
            "{native}"
        );
        for before in WAYS {
            let (output, text) = as_user(before);
            assert_eq!(end(output.status), Ok(0), "{output:?}");
            assert_eq!(text, native.replace(NATIVE, ANSWERED), "{before:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            let of_ours: Vec<_> = said
                .lines()
                .filter(|line| line.starts_with("ipcdemo: "))
                .collect();
            assert_eq!(of_ours.len(), 1, "{said}");
            assert!(
                of_ours[0].contains("user namespace: setuid and setgid bits"),
                "{said}"
            );
            if before == WAYS[1] {
                nothing_is_left_to_the_kernel(&output);
            }
        }
        nothing_is_left();
    });
}

/// Without the node nothing is run.
#[test]
fn a_user_needs_the_node() {
    serially(|| {
        for before in WAYS {
            let (output, text) = as_user(before);
            assert_eq!((end(output.status), &*text), (Ok(4), ""), "{output:?}");
        }
        nothing_is_left();
    });
}

/// Where no user namespace may be made, the setting is named.
#[test]
fn a_user_is_told_what_forbids_it() {
    const LIMIT: &str = "/proc/sys/user/max_user_namespaces";
    serially(|| {
        let _all = ForAll::new();
        let before = fs::read_to_string(LIMIT).unwrap();
        fs::write(LIMIT, "0").unwrap();
        let (output, text) = as_user(WAYS[0]);
        fs::write(LIMIT, before.trim()).unwrap();
        assert_eq!((end(output.status), &*text), (Ok(1), ""), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(LIMIT), "{said}");
        nothing_is_left();
    });
}
