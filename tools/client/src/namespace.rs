// SPDX-License-Identifier: GPL-2.0

//! An IPC namespace of the process's own.

use std::error::Error;
use std::ffi::c_int;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::limits::{Limits, LostLimit, write_file};

const PROC_SYS: &str = "/proc/sys";

/// What a process that made an IPC namespace for itself can notice of that.
#[derive(Debug)]
#[must_use]
pub struct OwnNamespace {
    /// It took a user namespace as well, in which the process has its own user and group, and no other.
    pub with_user_namespace: bool,
    /// The limits that were not copied from the namespace before.
    pub lost_limits: Vec<LostLimit>,
}

/// Why there is no IPC namespace to be had. As text it is a sentence that says what to do about it.
#[derive(Debug)]
pub struct NamespaceError {
    sentence: String,
    source: io::Error,
}

impl fmt::Display for NamespaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.sentence)
    }
}

impl Error for NamespaceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// What failed.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// unshare(2) of the IPC namespace alone.
    Ipc,
    /// unshare(2) of the user namespace and the IPC namespace.
    User,
    /// To write the user namespace's map of ids, in this file.
    Map(&'static str),
}

impl Step {
    fn failed(self, source: io::Error) -> NamespaceError {
        NamespaceError {
            sentence: self.advice(&source, Path::new(PROC_SYS)),
            source,
        }
    }

    /// Says what is in the way; `root` is `/proc/sys`.
    fn advice(self, error: &io::Error, root: &Path) -> String {
        const FORBIDDEN: &str =
            "an IPC namespace of one's own takes CAP_SYS_ADMIN or a user namespace, and";
        let value = |path| fs::read_to_string(root.join(path)).ok();
        let is = |path, wanted| value(path).is_some_and(|value| value.trim() == wanted);
        match (self, error.raw_os_error().unwrap_or_default()) {
            (Self::Ipc | Self::User, libc::ENOSPC) => {
                let limit = match self {
                    Self::User if is("user/max_user_namespaces", "0") => {
                        "/proc/sys/user/max_user_namespaces"
                    }
                    Self::User if !is("user/max_ipc_namespaces", "0") => {
                        "/proc/sys/user/max_user_namespaces or max_ipc_namespaces"
                    }
                    _ => "/proc/sys/user/max_ipc_namespaces",
                };
                format!("there are as many namespaces as {limit} allows: let root raise it")
            }
            (Self::Ipc, libc::EINVAL) => {
                "the kernel has no IPC namespaces: boot one with CONFIG_IPC_NS".into()
            }
            (Self::User, libc::EINVAL) => format!(
                "{FORBIDDEN} the kernel has none of those: become root, or boot one with \
                 CONFIG_USER_NS"
            ),
            (Self::User | Self::Map(_), libc::EPERM | libc::EACCES) => {
                if is("kernel/unprivileged_userns_clone", "0") {
                    format!(
                        "{FORBIDDEN} /proc/sys/kernel/unprivileged_userns_clone is 0: become \
                         root, or let root set it to 1"
                    )
                } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
                    format!(
                        "{FORBIDDEN} /proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1: \
                         become root, or let root set it to 0, or load an AppArmor profile that \
                         allows this program `userns`"
                    )
                } else {
                    format!(
                        "{FORBIDDEN} this process may have neither, as in a chroot, in a container, \
                         or by a security module: become root, or start it outside"
                    )
                }
            }
            (Self::Map(path), libc::ENOENT | libc::EROFS) => {
                format!("cannot write {path}: {error}: mount /proc there, for writing")
            }
            (Self::Map(path), _) => format!("cannot write {path}: {error}"),
            (Self::Ipc | Self::User, _) => format!("cannot make an IPC namespace: {error}"),
        }
    }
}

/// Gives this process, which must have a single thread, an IPC namespace of its own, with the limits
/// of the one before. Without CAP_SYS_ADMIN that takes a user namespace, too.
///
/// After an error the process may be in new namespaces. It should end.
pub fn own_namespace() -> Result<OwnNamespace, NamespaceError> {
    let limits = Limits::read(Path::new(PROC_SYS));
    let with_user_namespace = match unshare(libc::CLONE_NEWIPC) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            with_user_namespace()?;
            true
        }
        Err(error) => return Err(Step::Ipc.failed(error)),
    };
    Ok(OwnNamespace {
        with_user_namespace,
        lost_limits: limits.write(),
    })
}

/// Makes a user namespace and an IPC namespace that belongs to it. Whoever this process was, it is there.
fn with_user_namespace() -> Result<(), NamespaceError> {
    // In the new namespace they have no numbers until they are mapped.
    // SAFETY: They take nothing.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    wait_for_joined_threads();
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC).map_err(|error| Step::User.failed(error))?;
    for (path, text) in [
        // The kernel lets an ordinary user map a group only if no process there may drop groups.
        ("/proc/self/setgroups", "deny".into()),
        ("/proc/self/uid_map", identity(user)),
        ("/proc/self/gid_map", identity(group)),
    ] {
        write_file(Path::new(path), text.as_bytes())
            .map_err(|error| Step::Map(path).failed(error))?;
    }
    Ok(())
}

/// A map by which one user or group is itself, and no other is there.
fn identity(id: u32) -> String {
    format!("{id} {id} 1\n")
}

fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: It takes no pointer, and no memory depends on what callers here unshare.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A thread that was joined is a moment longer a thread of the process, which cannot enter a user
/// namespace meanwhile.
fn wait_for_joined_threads() {
    const TRIES: u32 = 200;
    const PAUSE: Duration = Duration::from_millis(1);
    for _ in 0..TRIES {
        // It changes nothing in a process of a single thread, and fails in another.
        if unshare(libc::CLONE_THREAD).is_ok() {
            return;
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::process;

    #[test]
    fn a_map_has_one_id() {
        assert_eq!(identity(1000), "1000 1000 1\n");
    }

    /// The file that is in the way is named, and what to do.
    #[test]
    fn an_error_names_its_cause() {
        let root = env::temp_dir().join(format!("ipcdemo-advice-{}", process::id()));
        let advice = |step: Step, errno, settings: &[(&str, &str)]| {
            for (path, value) in settings {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, value).unwrap();
            }
            let text = step.advice(&io::Error::from_raw_os_error(errno), &root);
            let _ = fs::remove_dir_all(&root);
            text
        };
        let clone = "kernel/unprivileged_userns_clone";
        let apparmor = "kernel/apparmor_restrict_unprivileged_userns";
        let map = Step::Map("/proc/self/uid_map");
        for (step, errno, settings, expected) in [
            (
                Step::User,
                libc::EPERM,
                &[(clone, "0\n")][..],
                "userns_clone is 0: become root",
            ),
            (
                Step::User,
                libc::EPERM,
                &[(clone, "1\n"), (apparmor, "1\n")],
                "restrict_unprivileged_userns is 1",
            ),
            (
                map,
                libc::EPERM,
                &[(apparmor, "1\n")],
                "restrict_unprivileged_userns is 1",
            ),
            (map, libc::EPERM, &[(apparmor, "0\n")], "as in a chroot"),
            (Step::User, libc::EPERM, &[], "as in a chroot"),
            (map, libc::ENOENT, &[], "mount /proc"),
            (map, libc::EIO, &[], "cannot write /proc/self/uid_map"),
            (
                Step::User,
                libc::ENOSPC,
                &[("user/max_user_namespaces", "0\n")],
                "/max_user_namespaces allows",
            ),
            (
                Step::User,
                libc::ENOSPC,
                &[("user/max_ipc_namespaces", "0\n")],
                "/max_ipc_namespaces allows",
            ),
            (
                Step::User,
                libc::ENOSPC,
                &[],
                "max_user_namespaces or max_ipc_namespaces allows",
            ),
            (Step::Ipc, libc::ENOSPC, &[], "/max_ipc_namespaces allows"),
            (Step::Ipc, libc::EINVAL, &[], "CONFIG_IPC_NS"),
            (Step::User, libc::EINVAL, &[], "CONFIG_USER_NS"),
            (
                Step::Ipc,
                libc::ENOMEM,
                &[],
                "cannot make an IPC namespace: ",
            ),
        ] {
            let text = advice(step, errno, settings);
            assert!(text.contains(expected), "{step:?}, {errno}: {text}");
            assert!(!text.contains("  "), "{text}");
        }
    }
}
