// SPDX-License-Identifier: GPL-2.0

//! Watching files.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use crate::Errno;

pub use rustix::fs::inotify::ReadFlags;

/// A watch of one file for all events, by inotify(7).
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Begins to watch. A kernel that was built without inotify has no watches.
    ///
    /// # Panics
    ///
    /// If the kernel has inotify and refuses.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let watch = match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Err(Errno::NOSYS) if !Path::new("/proc/sys/fs/inotify").exists() => return None,
            watch => watch.unwrap(),
        };
        inotify::add_watch(&watch, path, WatchFlags::ALL_EVENTS).unwrap();
        Some(Self(watch))
    }

    /// Returns the events since the last call, in order.
    ///
    /// # Panics
    ///
    /// If the kernel does not tell.
    #[must_use]
    pub fn events(&self) -> Vec<ReadFlags> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => events.push(event.events()),
                Err(Errno::AGAIN) => return events,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
