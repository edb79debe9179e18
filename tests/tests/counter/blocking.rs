// SPDX-License-Identifier: GPL-2.0

//! Who sleeps, and what wakes them.

use ipcdemo_client::CounterFlags;
use ipcdemo_tests::{Errno, Fd, MAX, Signal, Sleeper, Task, count, read, until, write};
use rustix::fs::{OFlags, fcntl_setfl};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::differential;

differential! {
    /// 230, 273: a reader of an empty counter sleeps until somebody writes.
    fn a_write_wakes_a_reader(s: Subject) {
        let counter = s.counter(0);
        let reader = Sleeper::reading(&counter);
        assert_eq!(write(&counter, 42), Ok(()));
        assert_eq!(reader.join(), Ok(42));
        assert_eq!(count(&counter), 0);
    }

    /// 265, 237: a writer to a full counter sleeps until somebody reads.
    fn a_read_wakes_a_writer(s: Subject) {
        let counter = s.full(CounterFlags::empty());
        let writer = Sleeper::writing(&counter, 5);
        assert_eq!(count(&counter), MAX, "it adds nothing before it fits");
        assert_eq!(read(&counter), Ok(MAX));
        assert_eq!(writer.join(), Ok(()));
        assert_eq!(count(&counter), 5);
    }

    /// 266: the sum counts, not whether the counter is full.
    fn a_writer_sleeps_until_its_number_fits(s: Subject) {
        let counter = s.with(0, CounterFlags::SEMAPHORE);
        assert_eq!(write(&counter, MAX - 1), Ok(()));
        let writer = Sleeper::writing(&counter, 3);
        assert_eq!(read(&counter), Ok(1));
        // Woken, and not content: there is room for two.
        writer.wait_until_asleep_again();
        assert_eq!(read(&counter), Ok(1));
        assert_eq!(writer.join(), Ok(()));
        assert_eq!(count(&counter), MAX);
    }

    /// 262: a number that fits does not queue behind one that sleeps.
    fn a_small_write_passes_a_sleeping_one(s: Subject) {
        let counter = s.counter(0);
        assert_eq!(write(&counter, MAX - 1), Ok(()));
        let writer = Sleeper::writing(&counter, 2);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(read(&counter), Ok(MAX));
        assert_eq!(writer.join(), Ok(()));
        assert_eq!(read(&counter), Ok(2));
    }

    /// 237: one read makes room for every writer that sleeps.
    fn a_read_wakes_all_writers(s: Subject) {
        let counter = s.full(CounterFlags::empty());
        let writers = [1, 10, 100].map(|value| Sleeper::writing(&counter, value));
        assert_eq!(read(&counter), Ok(MAX));
        for writer in writers {
            assert_eq!(writer.join(), Ok(()));
        }
        assert_eq!(read(&counter), Ok(111));
    }

    /// 230, 274: sleepers are not exclusive. A write wakes them all; one takes the
    /// count, and the others sleep again.
    fn one_of_several_readers_gets_the_count(s: Subject) {
        let counter = s.counter(0);
        let mut readers = Vec::from([(); 3].map(|()| Sleeper::reading(&counter)));
        assert_eq!(write(&counter, 8), Ok(()));
        assert_eq!(next(&mut readers), Ok(8));
        for reader in &readers {
            reader.wait_until_asleep_again();
        }
        while !readers.is_empty() {
            assert_eq!(write(&counter, 1), Ok(()));
            assert_eq!(next(&mut readers), Ok(1));
        }
    }

    /// 180, 274: of three who want one, two are served by a write of two.
    fn a_write_serves_as_many_semaphore_readers(s: Subject) {
        let counter = s.semaphore(0);
        let mut readers = Vec::from([(); 3].map(|()| Sleeper::reading(&counter)));
        assert_eq!(write(&counter, 2), Ok(()));
        assert_eq!(next(&mut readers), Ok(1));
        assert_eq!(next(&mut readers), Ok(1));
        readers[0].wait_until_asleep_again();
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(next(&mut readers), Ok(1));
        assert_eq!(count(&counter), 0);
    }

    /// 230: a write of nothing wakes a reader, who sleeps again.
    fn a_write_of_zero_is_not_enough(s: Subject) {
        let counter = s.counter(0);
        let reader = Sleeper::reading(&counter);
        assert_eq!(write(&counter, 0), Ok(()));
        reader.wait_until_asleep_again();
        assert_eq!(write(&counter, 3), Ok(()));
        assert_eq!(reader.join(), Ok(3));
    }

    /// 273: readers and writers sleep on one queue, yet a count that others leave
    /// alone wakes no one: a failed write does not.
    fn a_refused_write_wakes_nobody(s: Subject) {
        let counter = s.counter(0);
        let reader = Sleeper::reading(&counter);
        assert_eq!(write(&counter, u64::MAX), Err(Errno::INVAL));
        assert!(reader.sleeps_on());
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(reader.join(), Ok(1));
    }

    /// 230, 232: a signal ends a reader's sleep, and takes nothing.
    fn a_signal_interrupts_a_reader(s: Subject) {
        let counter = s.counter(0);
        let signal = Signal::interrupting();
        let reader = Sleeper::reading(&counter);
        reader.interrupt(&signal);
        assert_eq!(reader.join(), Err(Errno::INTR));
        assert_eq!(signal.handled(), 1);
        assert_eq!(write(&counter, 5), Ok(()));
        assert_eq!(read(&counter), Ok(5));
    }

    /// 232: with SA_RESTART the reader sleeps on after the handler.
    fn a_restarted_reader_sleeps_on(s: Subject) {
        let counter = s.counter(0);
        let signal = Signal::restarting();
        let reader = Sleeper::reading(&counter);
        reader.interrupt(&signal);
        until("the signal was handled", || signal.handled() == 1);
        reader.wait_until_asleep_again();
        assert_eq!(write(&counter, 5), Ok(()));
        assert_eq!(reader.join(), Ok(5));
    }

    /// 265, 279: a signal ends a writer's sleep, and nothing was added.
    fn a_signal_interrupts_a_writer(s: Subject) {
        let counter = s.full(CounterFlags::empty());
        let signal = Signal::interrupting();
        let writer = Sleeper::writing(&counter, 1);
        writer.interrupt(&signal);
        assert_eq!(writer.join(), Err(Errno::INTR));
        assert_eq!(signal.handled(), 1);
        assert_eq!(count(&counter), MAX);
    }

    /// 265: with SA_RESTART the writer sleeps on after the handler.
    fn a_restarted_writer_sleeps_on(s: Subject) {
        let counter = s.full(CounterFlags::empty());
        let signal = Signal::restarting();
        let writer = Sleeper::writing(&counter, 5);
        writer.interrupt(&signal);
        until("the signal was handled", || signal.handled() == 1);
        writer.wait_until_asleep_again();
        assert_eq!(read(&counter), Ok(MAX));
        assert_eq!(writer.join(), Ok(()));
        assert_eq!(count(&counter), 5);
    }

    /// 230: a reader that a signal took away is off the queue: the next write finds
    /// the one that is left.
    fn an_interrupted_reader_leaves_the_queue(s: Subject) {
        let counter = s.counter(0);
        let signal = Signal::interrupting();
        let [first, second] = [(); 2].map(|()| Sleeper::reading(&counter));
        first.interrupt(&signal);
        assert_eq!(first.join(), Err(Errno::INTR));
        assert!(second.sleeps_on());
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(second.join(), Ok(1));
    }

    /// 224: O_NONBLOCK is looked at when a read begins. Who sleeps, sleeps on.
    fn nonblocking_mode_spares_a_sleeping_reader(s: Subject) {
        let counter = s.counter(0);
        let reader = Sleeper::reading(&counter);
        fcntl_setfl(&counter, OFlags::NONBLOCK).unwrap();
        assert_eq!(read(&counter), Err(Errno::AGAIN));
        assert!(reader.sleeps_on());
        assert_eq!(write(&counter, 4), Ok(()));
        assert_eq!(reader.join(), Ok(4));
    }

    /// 264: so it is with a write, in both directions.
    fn nonblocking_mode_can_be_taken_back(s: Subject) {
        let counter = s.full(CounterFlags::NONBLOCK);
        assert_eq!(write(&counter, 1), Err(Errno::AGAIN));
        fcntl_setfl(&counter, OFlags::empty()).unwrap();
        let writer = Sleeper::writing(&counter, 1);
        assert_eq!(read(&counter), Ok(MAX));
        assert_eq!(writer.join(), Ok(()));
    }

    /// 222 to 240, 260 to 277: with many at once, nothing is lost and nothing
    /// counted twice; and they did get in each other's way.
    fn concurrent_sums_are_exact(s: Subject) {
        const THREADS: u64 = 3;
        const WRITES: u64 = 100;
        let counter = s.counter(0);
        let taken = Arc::new(AtomicU64::new(0));
        let writers = Vec::from([(); THREADS as usize].map(|()| {
            let counter = Fd::clone(&counter);
            thread::spawn(move || {
                (1..=WRITES).try_for_each(|value| {
                    // Now and then the readers shall find nothing, and sleep.
                    if value % 5 == 0 {
                        until("the readers have emptied the counter", || count(&counter) == 0);
                    }
                    write(&counter, value)
                })
            })
        }));
        let readers = [(); THREADS as usize].map(|()| {
            let (counter, taken) = (Fd::clone(&counter), Arc::clone(&taken));
            thread::spawn(move || {
                loop {
                    let value = read(&counter).unwrap();
                    taken.fetch_add(value % END, Ordering::Relaxed);
                    if let Some(others) = (value / END).checked_sub(1) {
                        write(&counter, others * END).unwrap();
                        return Task::current().sleeps();
                    }
                }
            })
        });
        for writer in writers {
            assert_eq!(writer.join().unwrap(), Ok(()));
        }
        write(&counter, THREADS * END).unwrap();
        let sleeps: u64 = readers.map(|reader| reader.join().unwrap()).into_iter().sum();
        assert!(sleeps >= 50, "the readers slept {sleeps} times: no race to speak of");
        assert_eq!(taken.load(Ordering::Relaxed), THREADS * WRITES * (WRITES + 1) / 2);
        assert_eq!(count(&counter), 0);
    }
}

/// Takes out the first of the readers to return, and gives what it returned.
fn next(readers: &mut Vec<Sleeper<Result<u64, Errno>>>) -> Result<u64, Errno> {
    let mut first = None;
    until("a reader has returned", || {
        first = readers.iter().position(Sleeper::has_returned);
        first.is_some()
    });
    readers.swap_remove(first.unwrap()).join()
}

/// A reader that finds this much knows that nothing will follow; it takes one and
/// leaves the others' share.
const END: u64 = 1 << 32;
