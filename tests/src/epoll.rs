// SPDX-License-Identifier: GPL-2.0

//! epoll, one set at a time, with what the tests ask of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData};

pub use rustix::event::epoll::EventFlags;

use crate::Errno;

/// An epoll set.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    ///
    /// # Panics
    ///
    /// If there is none to be had.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a system call")]
    pub fn new() -> Self {
        Self(epoll::create(CreateFlags::CLOEXEC).unwrap())
    }

    /// A set of one descriptor.
    #[must_use]
    pub fn of(fd: impl AsFd, events: EventFlags) -> Self {
        let set = Self::new();
        set.add(fd, events);
        set
    }

    /// Adds a descriptor.
    ///
    /// # Panics
    ///
    /// If the kernel will not.
    pub fn add(&self, fd: impl AsFd, events: EventFlags) {
        epoll::add(&self.0, fd, EventData::new_u64(0), events).unwrap();
    }

    /// Changes what is wanted of a descriptor.
    ///
    /// # Panics
    ///
    /// If it is not in the set.
    pub fn modify(&self, fd: impl AsFd, events: EventFlags) {
        epoll::modify(&self.0, fd, EventData::new_u64(0), events).unwrap();
    }

    /// Takes a descriptor out.
    ///
    /// # Panics
    ///
    /// If it is not in the set.
    pub fn delete(&self, fd: impl AsFd) {
        epoll::delete(&self.0, fd).unwrap();
    }

    /// What the one descriptor in the set is ready for at this moment; empty if
    /// there is nothing to report.
    ///
    /// # Panics
    ///
    /// If more than one is reported.
    #[must_use]
    pub fn now(&self) -> EventFlags {
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        self.get(Some(&none)).unwrap()
    }

    /// Sleeps until there is something to report.
    pub fn wait(&self) -> Result<EventFlags, Errno> {
        self.get(None)
    }

    fn get(&self, timeout: Option<&Timespec>) -> Result<EventFlags, Errno> {
        let mut events = Vec::<Event>::with_capacity(4);
        epoll::wait(
            &self.0,
            rustix::buffer::spare_capacity(&mut events),
            timeout,
        )?;
        assert!(events.len() <= 1);
        Ok(events
            .first()
            .map_or(EventFlags::empty(), |event| event.flags))
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
