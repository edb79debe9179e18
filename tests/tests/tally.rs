// SPDX-License-Identifier: GPL-2.0

//! Tallies: sums of what goes through the objects that the members of a namespace make.

use std::os::fd::OwnedFd;

use ipcdemo_client::{Factory, Kind, Kinds, Left, Sums, Tally, enroll};
use ipcdemo_tests::member::forked;
use ipcdemo_tests::{Subject, serial};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};

/// Runs `body` in an enrolled process whose objects are counted.
fn tallied(body: impl FnOnce(&Tally)) {
    forked(|| {
        let factory = Factory::open().unwrap();
        let tally = factory.tally().unwrap();
        enroll(&factory, Kinds::empty(), Some(&tally)).unwrap();
        body(&tally);
    });
}

/// A row of this thread's.
fn row(kind: Kind, left: Option<Left>, objects: u64, read: u64, written: u64) -> Sums {
    let comm = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    Sums {
        kind,
        left,
        comm: comm.trim_end().into(),
        objects,
        read,
        written,
        woken: 0,
    }
}

fn counter() -> OwnedFd {
    Subject::Native.create(0, 0).unwrap()
}

serial! {
    fn proving_calls_do_not_count() {
        tallied(|tally| assert_eq!(tally.sums().unwrap(), []));
    }

    fn transfers_are_added_by_kind() {
        tallied(|tally| {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            assert_eq!(write(&writer, &[1; 10_000]), Ok(10_000));
            assert_eq!(read(&reader, &mut [0; 6_000]), Ok(6_000));
            let counter = counter();
            assert_eq!(write(&counter, &3_u64.to_ne_bytes()), Ok(8));
            assert_eq!(write(&counter, &4_u64.to_ne_bytes()), Ok(8));
            assert_eq!(read(&counter, &mut [0; 8]), Ok(8));
            drop(counter);
            assert_eq!(tally.sums().unwrap(), [
                row(Kind::Pipe, None, 1, 6_000, 10_000),
                row(Kind::Counter, None, 1, 8, 16),
            ]);
        });
    }

    fn calls_that_are_left_to_the_kernel_count() {
        tallied(|tally| {
            let made = pipe_with(PipeFlags::from_bits_retain(libc::O_EXCL as u32));
            let left = row(Kind::Pipe, Some(Left::Notification), 1, 0, 0);
            assert_eq!(tally.sums().unwrap(), [left]);
            drop(made);
        });
    }
}
