// SPDX-License-Identifier: GPL-2.0

//! Tallies: sums of what goes through the objects that were made by one.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use ipcdemo_client::{Counter, CounterFlags, Factory, PipeFlags, Sums, Tally, raw};
use ipcdemo_tests::{
    Access, Address, Census, Errno, Memory, Sleeper, count, epoll::Epoll, ioctl, poll_now, serial,
    serially, until,
};
use rustix::event::PollFlags;
use rustix::event::epoll::EventFlags;
use rustix::io::{read, write};
use rustix::pipe::{SpliceFlags, pipe, splice};

fn open() -> Factory {
    Factory::open().unwrap_or_else(|error| panic!("{error}"))
}

fn tally() -> Tally {
    open().tally().unwrap()
}

fn sums(objects: u64, read: u64, written: u64, woken: u64) -> Sums {
    Sums {
        objects,
        read,
        written,
        woken,
    }
}

fn counter(tally: &Tally) -> Counter {
    tally
        .counter(0, CounterFlags::CLOEXEC | CounterFlags::NONBLOCK)
        .unwrap()
}

serial! {
    fn a_counter_adds_its_transfers() {
        let tally = tally();
        assert_eq!(tally.sums().unwrap(), Sums::default());
        let counter = counter(&tally);
        counter.write(3).unwrap();
        counter.write(4).unwrap();
        assert_eq!(counter.read().unwrap(), 7);
        assert_eq!(tally.sums().unwrap(), sums(1, 8, 16, 0));

        // What is refused does not count.
        assert_eq!(ipcdemo_tests::read(&counter), Err(Errno::AGAIN));
        assert_eq!(write(&counter, &[0; 7]), Err(Errno::INVAL));
        assert_eq!(write(&counter, &[0xff; 8]), Err(Errno::INVAL));
        assert_eq!(tally.sums().unwrap(), sums(1, 8, 16, 0));
        drop(counter);
        assert_eq!(tally.sums().unwrap(), sums(1, 8, 16, 0));
    }

    fn a_pipe_adds_its_bytes() {
        let tally = tally();
        let (reader, writer) = tally.pipe(0, PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        assert_eq!(read(&reader, &mut [0; 1]), Err(Errno::AGAIN));
        assert_eq!(write(&writer, &[1; 10_000]), Ok(10_000));
        assert_eq!(read(&reader, &mut [0; 6_000]), Ok(6_000));
        assert_eq!(tally.sums().unwrap(), sums(1, 6_000, 10_000, 0));

        // By splice as well, in and out.
        let (other_reader, other_writer) = pipe().unwrap();
        let moved = splice(&reader, None, &other_writer, None, 1_000, SpliceFlags::empty());
        assert_eq!(moved, Ok(1_000));
        let moved = splice(&other_reader, None, &writer, None, 1_000, SpliceFlags::empty());
        assert_eq!(moved, Ok(1_000));
        assert_eq!(tally.sums().unwrap(), sums(1, 7_000, 11_000, 0));

        // What did not fit does not count.
        let written = write(&writer, &vec![1; 1 << 20]).unwrap() as u64;
        assert_eq!(tally.sums().unwrap(), sums(1, 7_000, 11_000 + written, 0));
        assert_eq!(write(&writer, &[1; 4096]), Err(Errno::AGAIN));
        assert_eq!(tally.sums().unwrap(), sums(1, 7_000, 11_000 + written, 0));
    }

    fn sleepers_count_when_they_are_woken() {
        let tally = tally();
        let counter = Arc::new(tally.counter(0, CounterFlags::CLOEXEC).unwrap());
        let its = Arc::clone(&counter);
        let sleeper = Sleeper::new(&[libc::SYS_read], move || its.read().unwrap());
        assert_eq!(tally.sums().unwrap().woken, 0);
        counter.write(9).unwrap();
        assert_eq!(sleeper.join(), 9);
        assert_eq!(tally.sums().unwrap(), sums(1, 8, 8, 1));

        let (reader, writer) = tally.pipe(0, PipeFlags::CLOEXEC).unwrap();
        let sleeper = Sleeper::new(&[libc::SYS_read], move || read(&reader, &mut [0; 8]));
        assert_eq!(write(&writer, b"abc"), Ok(3));
        assert_eq!(sleeper.join(), Ok(3));
        assert_eq!(tally.sums().unwrap(), sums(2, 11, 11, 2));
    }

    fn pollers_count_when_they_are_called() {
        let tally = tally();
        let counter = counter(&tally);
        let set = Epoll::of(&counter, EventFlags::IN | EventFlags::ET);
        let waiter = Sleeper::new(&[libc::SYS_epoll_pwait], move || set.wait());
        counter.write(1).unwrap();
        assert_eq!(waiter.join(), Ok(EventFlags::IN));
        assert_eq!(tally.sums().unwrap(), sums(1, 0, 8, 1));
    }

    /// As any other counter: the file is on something else.
    fn a_counter_is_one_all_the_same() {
        let factory = open();
        let before = factory.list().unwrap().len();
        let tally = tally();
        let counter = counter(&tally);
        assert_eq!(factory.list().unwrap().len(), before + 1);
        assert_eq!(poll_now(&counter, PollFlags::IN | PollFlags::OUT), PollFlags::OUT);
        counter.write(5).unwrap();
        assert_eq!(poll_now(&counter, PollFlags::IN | PollFlags::OUT), PollFlags::IN | PollFlags::OUT);
        assert_eq!(count(&counter), 5);
        let semaphore = tally.counter(2, CounterFlags::CLOEXEC | CounterFlags::SEMAPHORE).unwrap();
        assert_eq!([semaphore.read().unwrap(), semaphore.read().unwrap()], [1, 1]);
    }

    fn tallies_and_others_are_apart() {
        let (one, other) = (tally(), tally());
        let counters = [counter(&one), counter(&other), open().counter(0, CounterFlags::CLOEXEC).unwrap()];
        for counter in &counters {
            counter.write(1).unwrap();
        }
        assert_eq!(one.sums().unwrap(), sums(1, 0, 8, 0));
        assert_eq!(other.sums().unwrap(), sums(1, 0, 8, 0));
    }

    fn objects_outlive_their_tally() {
        let tally = tally();
        let counter = counter(&tally);
        let (_reader, mut writer) = tally.pipe(0, PipeFlags::CLOEXEC).unwrap();
        drop(tally);
        counter.write(1).unwrap();
        assert_eq!(counter.read().unwrap(), 1);
        writer.write_all(b"abc").unwrap();
    }

    fn what_it_does_not_know_is_refused() {
        let factory = open();
        let census = Census::take(&factory);
        let tally = tally();
        let memory = Memory::new(Access::ReadWrite);
        let send = |request: u32, bytes: &[u8]| send(&tally, request, memory.store(bytes));
        for request in [raw::IPCDEMO_IOC_NULL, raw::IPCDEMO_IOC_LIST, raw::IPCDEMO_IOC_TALLY, 0x5401] {
            assert_eq!(send(request, &[0; 64]), Err(Errno::NOTTY));
        }
        let short = raw::with_size(raw::IPCDEMO_IOC_TALLIED, raw::IPCDEMO_TALLIED_SIZE_VER0 as usize - 8);
        assert_eq!(send(short, &[0; 64]), Err(Errno::INVAL));
        let long = raw::with_size(raw::IPCDEMO_IOC_TALLIED, 64);
        assert_eq!(send(long, &[0; 64]), Ok(0));
        assert_eq!(send(long, &[&[0; 63][..], &[1]].concat()), Err(Errno::TOOBIG));

        let flags = [u32::MAX, CounterFlags::NONBLOCK.bits()].map(u32::to_ne_bytes).concat();
        assert_eq!(self::send(&factory, raw::IPCDEMO_IOC_TALLY, memory.store(&flags)), Err(Errno::INVAL));

        // Of who cannot be told, nothing is left.
        let read_only = Memory::new(Access::ReadOnly);
        for (request, size) in [
            (raw::IPCDEMO_IOC_TALLIED, 32),
            (raw::IPCDEMO_IOC_COUNTER, 16),
            (raw::IPCDEMO_IOC_PIPE, 16),
        ] {
            assert_eq!(self::send(&tally, request, read_only.before_end(size)), Err(Errno::FAULT));
        }
        drop(tally);
        census.check(&factory, "all of that");
    }
}

fn send(fd: &impl AsFd, request: u32, address: Address<'_>) -> Result<i32, Errno> {
    // SAFETY: No struct of these tests has a pointer in it.
    unsafe { ioctl(fd, request, address) }
}

/// Some make objects, use and close them, one reads the sums meanwhile, and the tally goes before they are done.
#[test]
fn nothing_is_left_or_lost() {
    const ROUNDS: u64 = 300;
    serially(|| {
        let factory = open();
        let census = Census::take(&factory);
        let tally = Arc::new(tally());
        let makers: Vec<_> = (0..3)
            .map(|_| {
                let tally = Arc::clone(&tally);
                thread::spawn(move || {
                    for _ in 0..ROUNDS {
                        let counter = counter(&tally);
                        let (reader, writer) = tally.pipe(0, PipeFlags::CLOEXEC).unwrap();
                        counter.write(1).unwrap();
                        assert_eq!(write(&writer, &[1; 5000]), Ok(5000));
                        assert_eq!(read(&reader, &mut [0; 5000]), Ok(5000));
                    }
                    // Those live on without it.
                    (counter(&tally), tally.pipe(0, PipeFlags::CLOEXEC).unwrap())
                })
            })
            .collect();
        let mut last = Sums::default();
        until("all are made", || {
            let now = tally.sums().unwrap();
            assert!(
                now.objects >= last.objects && now.read >= last.read && now.written >= last.written
            );
            last = now;
            makers.iter().all(thread::JoinHandle::is_finished)
        });
        let left: Vec<_> = makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect();
        let rounds = 3 * ROUNDS;
        assert_eq!(
            tally.sums().unwrap(),
            sums(2 * rounds + 6, 5000 * rounds, 5008 * rounds, 0)
        );
        drop(tally);
        for (counter, (reader, writer)) in left {
            counter.write(1).unwrap();
            assert_eq!(write(&writer, b"abc"), Ok(3));
            assert_eq!(read(&reader, &mut [0; 3]), Ok(3));
        }
        census.check(&factory, "all were closed");
    });
}
