// SPDX-License-Identifier: GPL-2.0

//! What the factory tells of live objects.

use std::array;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use ipcdemo_client::{
    Counter, CounterFlags, Factory, Kind, NullFlags, Object, PipeFlags, WaitqFlags, WakeOptions,
    raw,
};
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::{Access, Address, Errno, Fd, Memory, Sleeper, serial, until, write};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{open, send, words};

/// The size of an object as this version knows it.
const SIZE: usize = size_of::<raw::ipcdemo_object>();

serial! {
    /// It tells what there is of each object.
    fn objects_are_described() {
        let factory = open();
        let semaphore = factory
            .counter(7, CounterFlags::CLOEXEC | CounterFlags::SEMAPHORE)
            .unwrap();
        let null = factory.null(NullFlags::CLOEXEC).unwrap();
        let object = find(&factory, &semaphore);
        assert_eq!(object.kind, Kind::Counter);
        assert_eq!(object.value, 7);
        assert_eq!(object.flags, CounterFlags::SEMAPHORE.bits());
        assert_eq!(object.waiters, 0);
        let object = find(&factory, &null);
        assert_eq!(object.kind, Kind::Null);
        assert_eq!((object.value, object.flags, object.waiters), (0, 0, 0));
        let queue = factory.waitq(u64::MAX, WaitqFlags::CLOEXEC).unwrap();
        let _set = Epoll::of(&queue, EventFlags::OUT);
        let object = find(&factory, &queue);
        assert_eq!(object.kind, Kind::Waitq);
        assert_eq!((object.value, object.flags, object.waiters), (u64::MAX, 0, 1));
    }

    /// Kinds are told one after the other, the newest of each last.
    fn kinds_come_in_order() {
        let factory = open();
        let _queue = factory.waitq(1, WaitqFlags::CLOEXEC).unwrap();
        let _null = factory.null(NullFlags::CLOEXEC).unwrap();
        let _ends = factory.pipe(0, PipeFlags::CLOEXEC).unwrap();
        let _counter = factory.counter(2, CounterFlags::CLOEXEC).unwrap();
        let kinds: Vec<_> = factory.list().unwrap().iter().map(|object| object.kind).collect();
        assert_eq!(kinds, [Kind::Null, Kind::Counter, Kind::Waitq, Kind::Pipe]);
    }

    /// The value is the one at the moment.
    fn values_are_current() {
        let factory = open();
        let counter = factory.counter(1, CounterFlags::CLOEXEC).unwrap();
        counter.write(u64::MAX - 2).unwrap();
        assert_eq!(find(&factory, &counter).value, u64::MAX - 1);
        counter.read().unwrap();
        assert_eq!(find(&factory, &counter).value, 0);
        let queue = factory.waitq(1, WaitqFlags::CLOEXEC).unwrap();
        queue.wake(&WakeOptions::new().set(2)).unwrap();
        assert_eq!(find(&factory, &queue).value, 2);
    }

    /// An object is listed as long as it lives, whoever holds it.
    fn closed_objects_are_gone() {
        let factory = open();
        let before = factory.list().unwrap();
        let counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
        let duplicate = counter.as_fd().try_clone_to_owned().unwrap();
        let object = find(&factory, &counter);
        drop(counter);
        assert_eq!(find(&factory, &duplicate), object);
        drop(duplicate);
        assert_eq!(factory.list().unwrap(), before);
    }

    /// Another process, or another opener of the factory, sees the same.
    fn the_list_is_the_same_for_all() {
        let factory = open();
        let _counter = factory.counter(3, CounterFlags::CLOEXEC).unwrap();
        assert_eq!(open().list().unwrap(), factory.list().unwrap());
    }

    /// Sleepers, pollers and epoll sets are waiters, each one entry.
    fn waiters_are_counted() {
        let factory = open();
        let counter: Fd = Arc::new(factory.counter(0, CounterFlags::CLOEXEC).unwrap().into());
        let waiters = || find(&factory, &counter).waiters;
        let reader = Sleeper::reading(&counter);
        assert_eq!(waiters(), 1);
        let set = Epoll::of(&counter, EventFlags::IN);
        assert_eq!(waiters(), 2);
        let second = Sleeper::reading(&counter);
        assert_eq!(waiters(), 3);
        drop(set);
        assert_eq!(waiters(), 2);
        // Each write serves one of them.
        for left in [1, 0] {
            write(&counter, 1).unwrap();
            until("one reader is left less", || waiters() == left);
        }
        assert_eq!([reader, second].map(Sleeper::join), [Ok(1); 2]);
    }

    /// They are counted up to a limit, which stands for as many or more.
    fn a_count_of_waiters_has_an_end() {
        let factory = open();
        let limit = raw::IPCDEMO_WAITERS_COUNTED;
        let counter: OwnedFd = factory.counter(0, CounterFlags::CLOEXEC).unwrap().into();
        let queue: OwnedFd = factory.waitq(0, WaitqFlags::CLOEXEC).unwrap().into();
        for object in [counter, queue] {
            let waiters = || find(&factory, &object).waiters;
            let mut sets: Vec<_> = (1..limit).map(|_| Epoll::of(&object, EventFlags::IN)).collect();
            assert_eq!(waiters(), limit - 1);
            for _ in 0..3 {
                sets.push(Epoll::of(&object, EventFlags::IN));
                assert_eq!(waiters(), limit);
            }
        }
    }

    /// The order is that of the ids, which are unique.
    fn ids_ascend() {
        let factory = open();
        let _objects: [_; 10] = array::from_fn(|_| {
            let counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
            (counter, factory.null(NullFlags::CLOEXEC).unwrap())
        });
        let list = factory.list().unwrap();
        assert!(list.len() >= 20);
        assert!(list.is_sorted_by(|one, next| one.id < next.id));
    }

    /// A page at a time, by the last id of the page before, gives it all.
    fn pages_add_up() {
        let factory = open();
        let _counters: [_; 7] = array::from_fn(|_| factory.counter(0, CounterFlags::CLOEXEC));
        let _nulls: [_; 3] = array::from_fn(|_| factory.null(NullFlags::CLOEXEC));
        let whole = factory.list().unwrap();
        for size in 1..=whole.len() + 1 {
            let mut page = vec![raw::ipcdemo_object::default(); size];
            let mut objects = Vec::<Object>::new();
            loop {
                let after = objects.last().map_or(0, |last| last.id);
                let filled = factory.list_page(after, &mut page).unwrap();
                if filled.is_empty() {
                    break;
                }
                let rest = whole.len() - objects.len();
                assert_eq!(filled.len(), size.min(rest), "pages are full but for the last");
                objects.extend(filled.iter().map(Object::from));
            }
            assert_eq!(objects, whole, "pages of {size}");
        }
    }

    /// An id that is no object's any more is as good a place to go on from.
    fn a_page_begins_after_any_id() {
        let factory = open();
        let counters: [_; 3] = array::from_fn(|_| factory.counter(0, CounterFlags::CLOEXEC).unwrap());
        let [first, second, third] = counters.each_ref().map(|counter| find(&factory, counter));
        let [one, two, three] = counters;
        drop(two);
        let mut page = [raw::ipcdemo_object::default(); 64];
        let told = factory.list_page(second.id, &mut page).unwrap();
        assert_eq!(told.first().map(|object| object.id), Some(third.id));
        let told = factory.list_page(first.id, &mut page).unwrap();
        assert_eq!(told.first().map(|object| object.id), Some(third.id));
        assert_eq!(factory.list_page(u64::MAX, &mut page).unwrap().len(), 0);
        drop((one, three));
    }

    /// One request tells of so many at most, whatever there is room for.
    fn a_page_has_a_limit() {
        let factory = open();
        let limit = raw::IPCDEMO_LIST_MAX as usize;
        let counters: Vec<_> = (0..=limit)
            .map(|_| factory.counter(0, CounterFlags::CLOEXEC).unwrap())
            .collect();
        let mut page = vec![raw::ipcdemo_object::default(); limit + 10];
        assert_eq!(factory.list_page(0, &mut page).unwrap().len(), limit);
        assert!(factory.list().unwrap().len() >= counters.len());
    }

    /// Who knows less of an object is told less of it.
    fn objects_can_be_cut() {
        let factory = open();
        let counters: [_; 2] = array::from_fn(|_| factory.counter(5, CounterFlags::CLOEXEC).unwrap());
        let whole = factory.list().unwrap();
        let memory = Memory::new(Access::ReadWrite);
        for size in [1, 8, 12, SIZE - 1] {
            let room = whole.len().min(20);
            let array = memory.store(&vec![0xee; size * room]);
            let args = list_args(array, room as u32, size as u32);
            let (result, left) = send(&factory, raw::IPCDEMO_IOC_LIST, &args);
            assert_eq!((result, told(&left)), (Ok(0), room as u32));
            for (object, bytes) in whole.iter().zip(memory.load(size * room).chunks(size)) {
                let id = object.id.to_ne_bytes();
                let known = size.min(id.len());
                assert_eq!(bytes[..known], id[..known], "objects of {size} bytes");
            }
        }
        drop(counters);
    }

    /// Who knows more is told zeros.
    fn objects_can_be_extended() {
        let factory = open();
        let _counter = factory.counter(5, CounterFlags::CLOEXEC).unwrap();
        let whole = factory.list().unwrap();
        let memory = Memory::new(Access::ReadWrite);
        for size in [SIZE + 1, SIZE + 8, 100, raw::IPCDEMO_OBJECT_SIZE_MAX as usize] {
            let array = memory.store(&vec![0xee; size]);
            let (result, left) = send(
                &factory,
                raw::IPCDEMO_IOC_LIST,
                &list_args(array, 1, size as u32),
            );
            assert_eq!((result, told(&left)), (Ok(0), 1));
            let bytes = memory.load(size);
            assert_eq!(bytes[..8], whole[0].id.to_ne_bytes());
            assert!(bytes[SIZE..].iter().all(|&byte| byte == 0), "objects of {size} bytes");
        }
    }

    /// What lies behind the objects that there are is left alone.
    fn the_rest_of_the_array_is_left_alone() {
        let factory = open();
        let _counter = factory.counter(5, CounterFlags::CLOEXEC).unwrap();
        let count = factory.list().unwrap().len();
        let memory = Memory::new(Access::ReadWrite);
        let array = memory.store(&vec![0xee; SIZE * (count + 1)]);
        let args = list_args(array, count as u32 + 1, SIZE as u32);
        let (result, left) = send(&factory, raw::IPCDEMO_IOC_LIST, &args);
        assert_eq!((result, told(&left)), (Ok(0), count as u32));
        assert_eq!(memory.load(SIZE), [0xee; SIZE]);
    }

    /// Neither room for none makes sense, nor objects of no size or of more than a
    /// page; nobody looks at the array then.
    fn senseless_sizes_are_refused() {
        let factory = open();
        let _counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
        let largest = raw::IPCDEMO_OBJECT_SIZE_MAX;
        for (capacity, size) in [(0, SIZE as u32), (1, 0), (1, largest + 1), (1, u32::MAX)] {
            let args = list_args(Address::NULL, capacity, size);
            let (result, _) = send(&factory, raw::IPCDEMO_IOC_LIST, &args);
            assert_eq!(result, Err(Errno::INVAL), "{capacity} of {size} bytes");
        }
    }

    /// An array without an object to put there may be anywhere.
    fn an_empty_list_needs_no_array() {
        let factory = open();
        let mut args = list_args(Address::NULL, 1, SIZE as u32);
        args[..8].fill(0xff);
        let (result, left) = send(&factory, raw::IPCDEMO_IOC_LIST, &args);
        assert_eq!((result, told(&left)), (Ok(0), 0));
    }

    /// An array that cannot be written is EFAULT, if there is something to write.
    fn an_array_out_of_reach_faults() {
        let factory = open();
        let counters: [_; 2] = array::from_fn(|_| factory.counter(0, CounterFlags::CLOEXEC).unwrap());
        let (none, only) = (Memory::new(Access::None), Memory::new(Access::ReadOnly));
        let one = Memory::new(Access::ReadWrite);
        for array in [
            Address::NULL,
            Address::KERNEL,
            none.before_end(2 * SIZE),
            only.before_end(2 * SIZE),
            one.before_end(SIZE),
        ] {
            let args = list_args(array, 2, SIZE as u32);
            let (result, _) = send(&factory, raw::IPCDEMO_IOC_LIST, &args);
            assert_eq!(result, Err(Errno::FAULT), "{array:?}");
        }
        drop(counters);
    }

    /// While others come and go, those that stay are told every time, once each and
    /// in order.
    fn lists_are_consistent_under_change() {
        let factory = open();
        let staying: [_; 5] = array::from_fn(|_| factory.counter(0, CounterFlags::CLOEXEC).unwrap());
        let staying_ids = staying.each_ref().map(|counter| find(&factory, counter).id);
        let stop = Arc::new(AtomicBool::new(false));
        let changers = [(); 2].map(|()| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let factory = open();
                while !stop.load(Ordering::Relaxed) {
                    drop([(); 3].map(|()| factory.counter(0, CounterFlags::CLOEXEC)));
                    drop(factory.null(NullFlags::CLOEXEC));
                }
            })
        });
        let (mut last, mut changes) = (Vec::new(), 0);
        until("the list has changed often enough", || {
            let list = factory.list().unwrap();
            assert!(list.is_sorted_by(|one, next| one.id < next.id));
            let told = list.iter().filter(|object| staying_ids.contains(&object.id));
            assert_eq!(told.count(), staying_ids.len());
            changes += u32::from(list != last);
            last = list;
            changes >= 100
        });
        stop.store(true, Ordering::Relaxed);
        for changer in changers {
            changer.join().unwrap();
        }
    }

    /// A page costs what it tells, however many objects come before it. A walk that begins at the
    /// first object takes seventeen times as long for the last page here.
    fn a_late_page_costs_what_the_first_one_does() {
        const COUNTERS: usize = 20_000;
        const TRIES: usize = 20;
        let files = Rlimit { current: Some(COUNTERS as u64 + 100), maximum: Some(COUNTERS as u64 + 100) };
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, files).unwrap();
        let factory = open();
        let counters: Vec<_> = (0..COUNTERS)
            .map(|_| factory.counter(0, CounterFlags::CLOEXEC).unwrap())
            .collect();
        let mut page = [raw::ipcdemo_object::default(); raw::IPCDEMO_LIST_MAX as usize];
        let last_page = counter_id(&counters[COUNTERS - page.len() - 1]);
        let mut shortest = |after| {
            let mut one = || {
                let start = Instant::now();
                let told = factory.list_page(after, &mut page).unwrap().len();
                assert_eq!(told, page.len(), "both pages are full");
                start.elapsed()
            };
            (0..TRIES).map(|_| one()).min().unwrap()
        };
        let (first, last) = (shortest(0), shortest(last_page));
        drop(counters);
        setrlimit(Resource::Nofile, before).unwrap();
        println!("the first page: {first:?}; behind {COUNTERS} objects: {last:?}");
        assert!(last < 8 * first, "the first page: {first:?}; behind {COUNTERS} objects: {last:?}");
    }

    /// A number is not given to the next object at once, so that a list stays true for a while.
    fn numbers_are_not_used_again_at_once() {
        let factory = open();
        let number = || {
            let counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
            find(&factory, &counter).number()
        };
        let first = number();
        assert!(number() > first);
    }

    /// The id is made of the kind and of the number that fdinfo shows.
    fn ids_lead_to_descriptors() {
        let factory = open();
        let counter = factory.counter(0, CounterFlags::CLOEXEC).unwrap();
        let object = find(&factory, &counter);
        assert_eq!(object.id >> 32, raw::IPCDEMO_KIND_COUNTER.into());
        assert_eq!(object.number(), number(&counter));
    }
}

/// The object behind a descriptor.
fn find(factory: &Factory, fd: impl AsFd) -> Object {
    let kind = match fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())) {
        Ok(link) if link.to_str() == Some("anon_inode:[ipcdemo-counter]") => Kind::Counter,
        Ok(link) if link.to_str() == Some("anon_inode:[ipcdemo-null]") => Kind::Null,
        Ok(link) if link.to_str() == Some("anon_inode:[ipcdemo-waitq]") => Kind::Waitq,
        other => panic!("not an object: {other:?}"),
    };
    let number = number(fd);
    let list = factory.list().unwrap();
    let mut found = list
        .iter()
        .filter(|object| object.kind == kind && object.number() == number);
    let object = *found.next().expect("a live object is listed");
    assert_eq!(found.next(), None, "once");
    object
}

/// A counter's id, without a look at those before it.
fn counter_id(counter: &Counter) -> u64 {
    (u64::from(raw::IPCDEMO_KIND_COUNTER) << 32) | u64::from(number(counter))
}

/// An object's number, from `/proc/self/fdinfo`.
fn number(fd: impl AsFd) -> u32 {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let info = fs::read_to_string(path).unwrap();
    let number = info.lines().find_map(|line| {
        let (name, number) = line.split_once(':')?;
        let is_ours = ["eventfd-id", "null-id", "waitq-id"].contains(&name);
        is_ours.then(|| number.trim().parse().ok())?
    });
    number.expect("fdinfo shows a number")
}

/// The arguments of a list from the beginning.
fn list_args(objects: Address<'_>, capacity: u32, object_size: u32) -> Vec<u8> {
    let objects = objects.get() as u64;
    words(&[
        0,
        0,
        objects as u32,
        (objects >> 32) as u32,
        capacity,
        object_size,
        0,
        0,
    ])
}

/// How many objects a list told.
fn told(left: &[u8]) -> u32 {
    u32::from_ne_bytes(left[24..28].try_into().unwrap())
}
