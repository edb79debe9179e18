// SPDX-License-Identifier: GPL-2.0

//! Processes whose own calls the module answers.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::panic;
use std::sync::atomic::{AtomicU32, Ordering};

use ipcdemo_client::{Enrolled, Factory, Kind, Kinds, Route, enroll};
use rustix::process::getpid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::subject::native;
use crate::{Child, Errno};

/// Runs `body` in a process of its own: a namespace is for life.
///
/// # Panics
///
/// If `body` does. Its message is on the standard error.
pub fn forked(body: impl FnOnce()) {
    let child = start(body);
    assert_eq!(child.wait(), 0, "a child failed: see above");
}

/// As [`forked`], in a process that is enrolled.
///
/// # Panics
///
/// If `body` does.
pub fn member(body: impl FnOnce()) {
    forked(|| {
        become_member();
        body();
    });
}

/// Begins what [`forked`] does.
#[must_use]
pub fn start(body: impl FnOnce()) -> Child {
    Child::fork(|| {
        // A harness would capture the text, and this process ends without it.
        panic::set_hook(Box::new(|info| {
            let _ = rustix::io::write(rustix::stdio::stderr(), format!("{info}\n").as_bytes());
        }));
        body();
        0
    })
}

/// Begins what [`member`] does.
#[must_use]
pub fn start_member(body: impl FnOnce()) -> Child {
    start(|| {
        become_member();
        body();
    })
}

/// Enrolls this process, which has one thread, for all kinds.
///
/// # Panics
///
/// If a kind is refused.
pub fn become_member() {
    let factory = Factory::open().unwrap_or_else(|error| panic!("{error}"));
    let enrolled = enroll(&factory, Kinds::empty(), None).unwrap_or_else(|error| panic!("{error}"));
    let all = Enrolled {
        kinds: Kinds::all(),
        refused: None,
    };
    assert_eq!(enrolled, all);
}

/// Whether the module answers this task's eventfd2(2): a counter of a value that no other has is
/// among the module's objects then.
///
/// # Panics
///
/// If there is no eventfd to be had.
#[must_use]
pub fn answered() -> bool {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let value =
        ((getpid().as_raw_nonzero().get() as u32) << 12) | NEXT.fetch_add(1, Ordering::Relaxed);
    let _eventfd = native(value, 0).unwrap();
    let factory = Factory::open().unwrap_or_else(|error| panic!("{error}"));
    let objects = factory.list().unwrap();
    objects
        .iter()
        .any(|object| object.kind == Kind::Counter && object.value == value.into())
}

/// The route of a function.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn route(function: &str) -> Route {
    let factory = Factory::open().unwrap_or_else(|error| panic!("{error}"));
    let routes = factory.routes().unwrap();
    routes
        .list
        .into_iter()
        .find(|route| route.function == function)
        .unwrap_or_else(|| panic!("there is no route of {function}"))
}

/// Whether a namespace is enrolled for any kind.
///
/// # Panics
///
/// If the module does not tell.
#[must_use]
pub fn enrolled(inum: u32) -> bool {
    let factory = Factory::open().unwrap_or_else(|error| panic!("{error}"));
    let namespaces = factory.namespaces().unwrap();
    namespaces
        .iter()
        .any(|namespace| namespace.inum == inum && !namespace.kinds.is_empty())
}

/// The inode number of a task's IPC namespace, by the task's folder under `/proc`.
///
/// # Panics
///
/// If there is no such task.
#[must_use]
pub fn namespace_of(task: &str) -> u32 {
    let link = fs::read_link(format!("/proc/{task}/ns/ipc")).unwrap();
    let text = link.to_str().unwrap();
    let number = text
        .strip_prefix("ipc:[")
        .and_then(|rest| rest.strip_suffix(']'));
    number.unwrap().parse().unwrap()
}

/// setns(2) of this thread into an IPC namespace, by a descriptor of it.
pub fn enter(namespace: impl AsFd) -> Result<(), Errno> {
    let kind = LinkNameSpaceType::InterProcessCommunication;
    move_into_link_name_space(namespace.as_fd(), Some(kind))
}

/// The namespace of the first process, of which no task is a member.
///
/// # Panics
///
/// If it cannot be opened.
#[must_use]
pub fn outside() -> File {
    File::open("/proc/1/ns/ipc").unwrap()
}
