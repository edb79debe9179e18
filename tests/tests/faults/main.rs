// SPDX-License-Identifier: GPL-2.0

//! Every allocation and user copy of a system call fails once, in turn. For the
//! debug kernel, which has fault injection: elsewhere these tests fail.

mod injection;
mod pipes;
mod routes;

use ipcdemo_client::{Counter, CounterFlags, Factory, NullFlags, raw};
use ipcdemo_tests::{count, poll_now, read, serial, write};
use rustix::event::PollFlags;
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};

use injection::{errno, every_fault, factory};

serial! {
    /// What may fail: the object, its number's place, the file; the copies.
    fn making_a_null_object() {
        let factory = factory();
        let make = || factory.null(NullFlags::CLOEXEC).map_err(errno);
        every_fault(&factory, 5, make, drop);
    }

    fn making_a_counter() {
        let factory = factory();
        let make = || factory.counter(1, CounterFlags::CLOEXEC).map_err(errno);
        every_fault(&factory, 5, make, drop);
    }

    /// What may fail: the array; the copies of the arguments and of each object.
    fn listing() {
        let factory = factory();
        let _counters = [(); 3].map(|()| factory.counter(0, CounterFlags::CLOEXEC).unwrap());
        let mut page = [raw::ipcdemo_object::default(); 8];
        let list = || factory.list_page(0, &mut page).map(<[_]>::len).map_err(errno);
        every_fault(&factory, 6, list, |told| assert!(told.is_none_or(|told| told >= 3)));
    }

    fn opening_a_node() {
        let factory = factory();
        for path in [Factory::PATH, Counter::SHARED_PATH] {
            let open = || rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
            every_fault(&factory, 2, open, drop);
        }
    }

    /// A write whose copy fails adds nothing.
    fn writing_to_a_counter() {
        let factory = factory();
        let counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
        every_fault(&factory, 1, || write(&counter, 5), |written| {
            let expected = if written.is_some() { 5 } else { 0 };
            assert_eq!(count(&counter), expected);
            if written.is_some() {
                assert_eq!(read(&counter), Ok(5));
            }
        });
    }

    /// A read whose copy fails has taken the count, as eventfd's has.
    fn reading_a_counter() {
        let factory = factory();
        let counter = factory.counter(5, CounterFlags::CLOEXEC).unwrap();
        every_fault(&factory, 1, || read(&counter), |taken| {
            assert!(taken.is_none_or(|value| value == 5));
            assert_eq!(count(&counter), 0);
            assert_eq!(write(&counter, 5), Ok(()));
        });
    }

    /// Being watched needs memory; where there is none, no entry is left behind.
    fn watching_a_counter() {
        let factory = factory();
        let counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let data = epoll::EventData::new_u64(0);
        let add = || epoll::add(&set, &counter, data, epoll::EventFlags::IN);
        every_fault(&factory, 2, add, |added| {
            if added.is_some() {
                epoll::delete(&set, &counter).unwrap();
            }
        });
        assert_eq!(poll_now(&counter, PollFlags::OUT), PollFlags::OUT);
    }
}
