// SPDX-License-Identifier: GPL-2.0

//! Tallies: sums of what goes through the objects that the members of a namespace make.

use std::os::fd::AsFd;
use std::thread;

use ipcdemo_client::{
    CounterFlags, Factory, Kind, Kinds, Left, PipeFlags, Sums, Tally, enroll, raw,
};
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::member::forked;
use ipcdemo_tests::{
    Access, Address, Census, Errno, Fd, Memory, Sleeper, Subject, ioctl, serial, until,
};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags as OpenFlags, SpliceFlags, pipe_with, splice};
use rustix::thread::{UnshareFlags, set_name, unshare_unsafe};

const MODULE: Subject = Subject::Module;

fn open() -> Factory {
    Factory::open().unwrap_or_else(|error| panic!("{error}"))
}

/// Enrolls this process with the tally.
fn join(tally: &Tally) {
    set_name(c"maker").unwrap();
    enroll(&open(), Kinds::empty(), Some(tally)).unwrap();
}

/// Runs `body` in an enrolled process whose objects are counted. Returns the tally.
fn tallied(body: impl FnOnce(&Tally)) -> Tally {
    let tally = open().tally().unwrap();
    forked(|| {
        join(&tally);
        body(&tally);
    });
    tally
}

/// The row of a kind that was made by such a process, and what went through it.
fn row(kind: Kind, [objects, read, written, woken]: [u64; 4]) -> Sums {
    Sums {
        kind,
        left: None,
        comm: "maker".into(),
        objects,
        read,
        written,
        woken,
    }
}

fn counters(sums: [u64; 4]) -> Sums {
    row(Kind::Counter, sums)
}

fn pipes(sums: [u64; 4]) -> Sums {
    row(Kind::Pipe, sums)
}

/// Checks the sums of a tally.
fn check(tally: &Tally, rows: &[Sums]) {
    assert_eq!(tally.sums().unwrap(), rows);
}

fn add(counter: &Fd, value: u64) {
    assert_eq!(ipcdemo_tests::write(counter, value), Ok(()));
}

serial! {
    fn proving_calls_do_not_count() {
        check(&tallied(|_| ()), &[]);
    }

    /// In the order of the first of each kind; and what was made stays counted when it is gone, as its maker is.
    fn transfers_are_added_by_kind() {
        let tally = tallied(|tally| {
            let (reader, writer) = MODULE.pipe();
            assert_eq!(write(&writer, &[1; 10_000]), Ok(10_000));
            assert_eq!(read(&reader, &mut [0; 6_000]), Ok(6_000));
            check(tally, &[pipes([1, 6_000, 10_000, 0])]);
            let counter = MODULE.counter(0);
            add(&counter, 3);
            add(&counter, 4);
            assert_eq!(ipcdemo_tests::read(&counter), Ok(7));
            check(tally, &[pipes([1, 6_000, 10_000, 0]), counters([1, 8, 16, 0])]);
            let _another = MODULE.counter(0);
        });
        check(&tally, &[pipes([1, 6_000, 10_000, 0]), counters([2, 8, 16, 0])]);
    }

    fn what_is_refused_does_not_count() {
        tallied(|tally| {
            let counter = MODULE.nonblocking(0);
            assert_eq!(ipcdemo_tests::read(&counter), Err(Errno::AGAIN));
            assert_eq!(write(&counter, &[0; 7]), Err(Errno::INVAL));
            assert_eq!(write(&counter, &[0xff; 8]), Err(Errno::INVAL));
            let (reader, writer) = MODULE.nonblocking_pipe();
            assert_eq!(read(&reader, &mut [0; 1]), Err(Errno::AGAIN));
            assert_eq!(write(&writer, &vec![1; 1 << 20]), Ok(1 << 16));
            assert_eq!(write(&writer, &[1; 4096]), Err(Errno::AGAIN));
            assert_eq!(MODULE.create_pipe(2).err(), Some(Errno::INVAL));
            check(tally, &[counters([1, 0, 0, 0]), pipes([1, 0, 1 << 16, 0])]);
        });
    }

    fn what_is_spliced_counts() {
        let (other_reader, other_writer) = Subject::Native.pipe();
        tallied(|tally| {
            let (reader, writer) = MODULE.pipe();
            assert_eq!(write(&writer, &[1; 3_000]), Ok(3_000));
            let none = SpliceFlags::empty();
            assert_eq!(splice(&reader, None, &other_writer, None, 1_000, none), Ok(1_000));
            assert_eq!(splice(&other_reader, None, &writer, None, 800, none), Ok(800));
            check(tally, &[pipes([1, 1_000, 3_800, 0])]);
        });
    }

    fn calls_that_are_left_to_the_kernel_count() {
        tallied(|tally| {
            let made = pipe_with(OpenFlags::from_bits_retain(libc::O_EXCL as u32));
            let left = Sums { left: Some(Left::Notification), ..pipes([1, 0, 0, 0]) };
            check(tally, &[left]);
            drop(made);
        });
    }

    fn sleepers_count_when_they_are_woken() {
        tallied(|tally| {
            let counter = MODULE.counter(0);
            let sleeper = Sleeper::reading(&counter);
            check(tally, &[counters([1, 0, 0, 0])]);
            add(&counter, 9);
            assert_eq!(sleeper.join(), Ok(9));
            check(tally, &[counters([1, 8, 8, 1])]);
            let (reader, writer) = MODULE.pipe();
            let sleeper = Sleeper::taking(&reader, 8);
            assert_eq!(write(&writer, b"abc"), Ok(3));
            assert_eq!(sleeper.join().unwrap(), b"abc");
            check(tally, &[counters([1, 8, 8, 1]), pipes([1, 3, 3, 1])]);
        });
    }

    fn pollers_count_when_they_are_called() {
        tallied(|tally| {
            let counter = MODULE.counter(0);
            let set = Epoll::of(&counter, EventFlags::IN | EventFlags::ET);
            let waiter = Sleeper::new(&[libc::SYS_epoll_pwait], move || set.wait());
            add(&counter, 1);
            assert_eq!(waiter.join(), Ok(EventFlags::IN));
            check(tally, &[counters([1, 0, 8, 1])]);
        });
    }

    /// A row is of the name that the thread had when it made the object; whoever uses that.
    fn each_name_has_a_row() {
        tallied(|tally| {
            let counter = MODULE.counter(0);
            set_name(c"renamed").unwrap();
            let _another = MODULE.counter(0);
            add(&counter, 1);
            forked(|| {
                set_name(c"fifteen letters").unwrap();
                drop(MODULE.pipe());
                drop(MODULE.counter(0));
            });
            set_name(c"maker").unwrap();
            drop(MODULE.counter(0));
            let of = |comm: &str, sums: Sums| Sums { comm: comm.into(), ..sums };
            check(tally, &[
                counters([2, 0, 8, 0]),
                of("renamed", counters([1, 0, 0, 0])),
                of("fifteen letters", pipes([1, 0, 0, 0])),
                of("fifteen letters", counters([1, 0, 0, 0])),
            ]);
        });
    }

    /// Those who come when there are many names have a row together, with those that had one counted there still.
    fn the_last_names_share_a_row() {
        const MANY: usize = raw::IPCDEMO_SUMS_MAX as usize;
        tallied(|tally| {
            for number in 0..MANY + 20 {
                set_name(&std::ffi::CString::new(format!("{number}")).unwrap()).unwrap();
                drop(MODULE.counter(0));
            }
            set_name(c"7").unwrap();
            drop(MODULE.counter(0));
            let sums = tally.sums().unwrap();
            assert_eq!(sums.len(), MANY + 1);
            let told = [&sums[6], &sums[7], &sums[MANY]].map(|row| (&*row.comm, row.objects));
            assert_eq!(told, [("6", 1), ("7", 2), ("", 20)]);
        });
    }

    /// A member's own namespace is counted where the member is.
    fn namespaces_that_are_born_count() {
        tallied(|tally| {
            forked(|| {
                // SAFETY: It shares no descriptors any less.
                unsafe { unshare_unsafe(UnshareFlags::NEWIPC) }.unwrap();
                drop(MODULE.counter(0));
            });
            check(tally, &[counters([1, 0, 0, 0])]);
        });
    }

    /// Nor does what the factory makes count, for a member either.
    fn tallies_and_others_are_apart() {
        let others = tallied(|tally| {
            add(&MODULE.counter(0), 1);
            let made = open().counter(0, CounterFlags::CLOEXEC).unwrap();
            made.write(1).unwrap();
            drop(open().pipe(0, PipeFlags::CLOEXEC).unwrap());
            check(tally, &[counters([1, 0, 8, 0])]);
        });
        let own = tallied(|_| drop(MODULE.pipe()));
        ipcdemo_tests::member::member(|| drop(MODULE.counter(0)));
        check(&others, &[counters([1, 0, 8, 0])]);
        check(&own, &[pipes([1, 0, 0, 0])]);
    }

    fn objects_outlive_their_tally() {
        let tally = open().tally().unwrap();
        forked(|| {
            join(&tally);
            let counter = MODULE.counter(0);
            drop(tally);
            add(&counter, 1);
            assert_eq!(ipcdemo_tests::read(&counter), Ok(1));
            drop(MODULE.pipe());
        });
    }

    /// A tally makes no objects, nor lists any.
    fn what_it_does_not_know_is_refused() {
        let factory = open();
        let census = Census::take(&factory);
        let tally = factory.tally().unwrap();
        let memory = Memory::new(Access::ReadWrite);
        for request in [
            raw::IPCDEMO_IOC_NULL,
            raw::IPCDEMO_IOC_COUNTER,
            raw::IPCDEMO_IOC_PIPE,
            raw::IPCDEMO_IOC_LIST,
            raw::IPCDEMO_IOC_TALLY,
            raw::IPCDEMO_IOC_SEAL,
            0x5401,
        ] {
            assert_eq!(send(&tally, request, memory.store(&[0; 128])), Err(Errno::NOTTY));
        }
        let flags = [u32::MAX, CounterFlags::NONBLOCK.bits()].map(u32::to_ne_bytes).concat();
        assert_eq!(send(&factory, raw::IPCDEMO_IOC_TALLY, memory.store(&flags)), Err(Errno::INVAL));
        drop(tally);
        census.check(&factory, "all of that");
    }

    /// The array may be shorter than the rows, and its elements than ours; and neither may be absurd.
    fn rows_are_cut() {
        const SIZE: u32 = size_of::<raw::ipcdemo_sums>() as u32;
        tallied(|tally| {
            drop(MODULE.counter(0));
            drop(MODULE.pipe());
            let (array, memory) = (Memory::new(Access::ReadWrite), Memory::new(Access::ReadWrite));
            let ask = |capacity: u32, size: u32, tail: &[u8]| {
                let address = array.store(&[0xee; 4 * SIZE as usize]);
                let mut args = (address.get() as u64).to_ne_bytes().to_vec();
                args.extend([capacity, size, 0, 0].map(u32::to_ne_bytes).as_flattened());
                args.extend(tail);
                let request = raw::with_size(raw::IPCDEMO_IOC_TALLIED, args.len());
                send(tally, request, memory.store(&args))?;
                let told = memory.load(args.len());
                let word = |at: usize| u32::from_ne_bytes(told[at..at + 4].try_into().unwrap());
                Ok((word(16), word(20), array.load(4 * SIZE as usize)))
            };
            let (count, total, one) = ask(1, SIZE, &[]).unwrap();
            assert_eq!((count, total), (1, 2));
            assert_eq!(one[..4], raw::IPCDEMO_KIND_COUNTER.to_ne_bytes());
            assert_eq!(one[SIZE as usize..], [0xee; 3 * SIZE as usize]);
            let (count, _, short) = ask(4, 8, &[0; 8]).unwrap();
            assert_eq!((count, &short[16..20]), (2, &[0xee; 4][..]));
            assert_eq!(short[8..12], raw::IPCDEMO_KIND_PIPE.to_ne_bytes());
            assert_eq!(ask(0, SIZE, &[]).err(), Some(Errno::INVAL));
            assert_eq!(ask(1, 0, &[]).err(), Some(Errno::INVAL));
            assert_eq!(ask(1, raw::IPCDEMO_OBJECT_SIZE_MAX + 1, &[]).err(), Some(Errno::INVAL));
            assert_eq!(ask(1, SIZE, &[0, 1]).err(), Some(Errno::TOOBIG));
            let short = raw::with_size(raw::IPCDEMO_IOC_TALLIED, raw::IPCDEMO_TALLIED_SIZE_VER0 as usize - 8);
            assert_eq!(send(tally, short, memory.store(&[0; 16])), Err(Errno::INVAL));
            // Neither the rows nor how many they are can be told.
            let args = [0, 0, 1, SIZE, 0, 0].map(u32::to_ne_bytes).concat();
            let told = send(tally, raw::IPCDEMO_IOC_TALLIED, memory.store(&args));
            assert_eq!(told, Err(Errno::FAULT));
            let refused = send(tally, raw::IPCDEMO_IOC_TALLIED, Address::NULL);
            assert_eq!(refused, Err(Errno::FAULT));
        });
    }

    /// Some make objects, use and close them, one reads the sums meanwhile, and the tally goes before they are done.
    fn nothing_is_left_or_lost() {
        const ROUNDS: u64 = 300;
        let factory = open();
        let census = Census::take(&factory);
        let tally = open().tally().unwrap();
        forked(|| {
            join(&tally);
            let makers: Vec<_> = (0..3)
                .map(|_| {
                    thread::spawn(move || {
                        for _ in 0..ROUNDS {
                            let counter = MODULE.counter(0);
                            let (reader, writer) = MODULE.pipe();
                            add(&counter, 1);
                            assert_eq!(write(&writer, &[1; 5000]), Ok(5000));
                            assert_eq!(read(&reader, &mut [0; 5000]), Ok(5000));
                        }
                        // Those live on without it.
                        (MODULE.counter(0), MODULE.pipe())
                    })
                })
                .collect();
            let mut last = vec![];
            until("all are made", || {
                let now = tally.sums().unwrap();
                for (now, last) in now.iter().zip(&last) {
                    let last: &Sums = last;
                    assert!(now.objects >= last.objects && now.read >= last.read && now.written >= last.written);
                }
                last = now;
                makers.iter().all(thread::JoinHandle::is_finished)
            });
            let left: Vec<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
            let rounds = 3 * ROUNDS;
            check(&tally, &[
                counters([rounds + 3, 0, 8 * rounds, 0]),
                pipes([rounds + 3, 5000 * rounds, 5000 * rounds, 0]),
            ]);
            drop(tally);
            for (counter, (reader, writer)) in left {
                add(&counter, 1);
                assert_eq!(write(&writer, b"abc"), Ok(3));
                assert_eq!(read(&reader, &mut [0; 3]), Ok(3));
            }
        });
        census.check(&factory, "all were closed");
    }
}

fn send(fd: &impl AsFd, request: u32, address: Address<'_>) -> Result<i32, Errno> {
    // SAFETY: The one pointer in a struct of these tests leads into a `Memory`, or nowhere.
    unsafe { ioctl(fd, request, address) }
}
