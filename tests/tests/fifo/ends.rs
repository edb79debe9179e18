// SPDX-License-Identifier: GPL-2.0

//! What the ends make of each other's coming and going, awake and asleep.

use ipcdemo_tests::fifo::blocking;
use ipcdemo_tests::pipe::{bytes, fill, put, queued, set_size, take};
use ipcdemo_tests::{Child, Errno, PAGE, Sleeper, fifos};
use rustix::fs::{OFlags, fcntl_setfl};

fifos! {
    /// 463: with a writer there, who reads of an empty FIFO sleeps until there is
    /// something.
    fn a_reader_sleeps_beside_a_writer(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        let sleeper = Sleeper::taking(&reader, 10);
        assert_eq!(put(&writer, b"x"), Ok(1));
        assert_eq!(sleeper.join(), Ok(b"x".into()));
    }

    /// 445: without one it does not sleep, though it may.
    fn a_reader_without_a_writer_does_not_sleep(fifo: &Fifo) {
        let reader = fifo.reader();
        blocking(&reader);
        assert_eq!(take(&reader, 1), Ok(vec![]));
        drop(fifo.writer());
        assert_eq!(take(&reader, 1), Ok(vec![]));
    }

    /// 445: an end is not for ever: the same reader reads what the next writer writes.
    fn a_reader_outlives_the_end(fifo: &Fifo) {
        let reader = fifo.reader();
        blocking(&reader);
        for message in [b"one", b"two"] {
            let writer = fifo.writer();
            assert_eq!(put(&writer, message), Ok(3));
            drop(writer);
            assert_eq!(take(&reader, 10), Ok(message.into()));
            assert_eq!(take(&reader, 10), Ok(vec![]));
        }
        let _writer = fifo.writer();
        let sleeper = Sleeper::taking(&reader, 10);
        assert_eq!(put(fifo.writer(), b"three"), Ok(5));
        assert_eq!(sleeper.join(), Ok(b"three".into()));
    }

    /// 819, 820: the last writer's going ends the sleep of all readers.
    fn the_last_writer_wakes_all_readers(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        let sleepers = [(); 3].map(|()| Sleeper::taking(&reader, 1));
        drop(writer);
        for sleeper in sleepers {
            assert_eq!(sleeper.join(), Ok(vec![]));
        }
    }

    /// 819: another's does not even wake them.
    fn another_writer_wakes_no_reader(fifo: &Fifo) {
        let (reader, first) = fifo.blocking_ends();
        let second = fifo.writer();
        let sleeper = Sleeper::taking(&reader, 1);
        drop(first);
        assert!(sleeper.sleeps_on());
        drop(fifo.reader());
        assert!(sleeper.sleeps_on());
        drop(second);
        assert_eq!(sleeper.join(), Ok(vec![]));
    }

    /// 577, 821: the last reader's going ends the sleep of all writers.
    fn the_last_reader_wakes_all_writers(fifo: &Fifo) {
        let (reader, writer) = (fifo.reader(), fifo.writer());
        fill(&writer);
        blocking(&writer);
        let sleepers = [(); 3].map(|()| Sleeper::putting(&writer, b"x"));
        drop(reader);
        for sleeper in sleepers {
            assert_eq!(sleeper.join(), Err(Errno::PIPE));
        }
    }

    /// 819: another's does not even wake them.
    fn another_reader_wakes_no_writer(fifo: &Fifo) {
        let (first, writer) = (fifo.reader(), fifo.writer());
        let second = fifo.reader();
        fill(&writer);
        blocking(&writer);
        let sleeper = Sleeper::putting(&writer, b"x");
        drop(first);
        assert!(sleeper.sleeps_on());
        drop(second);
        assert_eq!(sleeper.join(), Err(Errno::PIPE));
    }

    /// 580: a writer that had got some of it in is told how much, not of the end.
    fn a_partial_write_is_counted_at_the_end(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        assert_eq!(set_size(&writer, 8192), Ok(8192));
        let sleeper = Sleeper::putting(&writer, &bytes(3 * PAGE));
        drop(reader);
        assert_eq!(sleeper.join(), Ok(2 * PAGE));
        assert_eq!(put(&writer, b"x"), Err(Errno::PIPE));
    }

    /// 577, 1250: a writer that sleeps sleeps on if a new reader has come before the old
    /// one goes, and writes for that.
    fn readers_can_take_turns(fifo: &Fifo) {
        let (first, writer) = (fifo.reader(), fifo.writer());
        let total = fill(&writer).len();
        blocking(&writer);
        let sleeper = Sleeper::putting(&writer, &bytes(PAGE));
        let second = fifo.reader();
        drop(first);
        assert!(sleeper.sleeps_on());
        assert_eq!(take(&second, 2 * PAGE).unwrap().len(), 2 * PAGE);
        assert_eq!(sleeper.join(), Ok(PAGE));
        assert_eq!(queued(&second), total - PAGE);
    }

    /// 536: nobody to write to is EPIPE, whether there ever was a reader after the
    /// first or not, until there is one again.
    fn a_new_reader_can_be_written_to(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        drop(reader);
        assert_eq!(put(&writer, b"x"), Err(Errno::PIPE));
        let reader = fifo.reader();
        assert_eq!(put(&writer, b"y"), Ok(1));
        assert_eq!(take(&reader, 10), Ok(b"y".into()));
        drop(reader);
        assert_eq!(put(&writer, b"z"), Err(Errno::PIPE));
    }

    /// 538: and SIGPIPE for who has not said otherwise.
    fn nobody_to_write_to_is_a_signal(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        drop(reader);
        let child = Child::fork(|| {
            // SAFETY: The child has one thread, and no handler is set.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            u8::from(put(&writer, b"x").is_ok())
        });
        assert_eq!(child.wait(), -libc::SIGPIPE);
    }

    /// 531: but a write of nothing is none.
    fn nothing_can_be_written_to_nobody(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        drop(reader);
        assert_eq!(put(&writer, b""), Ok(0));
        assert_eq!(put(&writer, b"x"), Err(Errno::PIPE));
    }

    /// 1293, 1294: while somebody holds it for both, no reader finds the end and no
    /// writer is without a reader.
    fn for_both_keeps_it_going(fifo: &Fifo) {
        let both = fifo.both();
        let writer = fifo.writer();
        assert_eq!(put(&writer, b"x"), Ok(1));
        drop(writer);
        let reader = fifo.reader();
        assert_eq!(take(&reader, 10), Ok(b"x".into()));
        assert_eq!(take(&reader, 10), Err(Errno::AGAIN));
        drop(reader);
        let writer = fifo.writer();
        assert_eq!(put(&writer, b"y"), Ok(1));
        assert_eq!(take(&both, 10), Ok(b"y".into()));
    }

    /// 814, 816: its going is the last writer's and the last reader's at once.
    fn for_both_goes_as_both(fifo: &Fifo) {
        let both = fifo.both();
        let reader = fifo.reader();
        drop(both);
        assert_eq!(take(&reader, 1), Ok(vec![]));
        drop(reader);
        let both = fifo.both();
        let writer = fifo.writer();
        drop(both);
        assert_eq!(put(&writer, b"x"), Err(Errno::PIPE));
    }

    /// 819: if it was both of them, who sleeps is told.
    fn for_both_wakes_a_reader(fifo: &Fifo) {
        let both = fifo.both();
        let reader = fifo.reader();
        blocking(&reader);
        let sleeper = Sleeper::taking(&reader, 1);
        drop(both);
        assert_eq!(sleeper.join(), Ok(vec![]));
    }

    /// 418: readers that opened it each for itself share what there is.
    fn readers_share(fifo: &Fifo) {
        let [one, other] = [(); 2].map(|()| fifo.reader());
        assert_eq!(put(fifo.writer(), b"abcdef"), Ok(6));
        assert_eq!(take(&one, 2), Ok(b"ab".into()));
        assert_eq!(take(&other, 3), Ok(b"cde".into()));
        assert_eq!(take(&one, 10), Ok(b"f".into()));
        assert_eq!(take(&other, 10), Ok(vec![]));
    }

    /// 463, 475: of readers that sleep, each gets a part if there is enough.
    fn a_write_serves_several_readers(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        let readers = [reader.clone(), reader, fifo.open(OFlags::RDONLY).unwrap()];
        let sleepers = readers.map(|reader| Sleeper::taking(&reader, 1));
        assert_eq!(put(&writer, b"abc"), Ok(3));
        let mut got = sleepers.map(|sleeper| sleeper.join().unwrap()).concat();
        got.sort_unstable();
        assert_eq!(got, b"abc");
    }

    /// 558: writers that opened it each for itself write one after the other.
    fn writers_queue(fifo: &Fifo) {
        let reader = fifo.reader();
        let [one, other] = [(); 2].map(|()| fifo.writer());
        for (writer, text) in [(&one, b"a"), (&other, b"b"), (&one, b"c")] {
            assert_eq!(put(writer, text), Ok(1));
        }
        assert_eq!(queued(&one), 3);
        assert_eq!(take(&reader, 10), Ok(b"abc".into()));
    }

    /// 449: the mode is each end's own, and can be changed.
    fn the_mode_is_the_ends(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        let nonblocking = fifo.reader();
        let sleeper = Sleeper::taking(&reader, 1);
        assert_eq!(take(&nonblocking, 1), Err(Errno::AGAIN));
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        assert!(sleeper.sleeps_on());
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        assert_eq!(put(&writer, b"x"), Ok(1));
        assert_eq!(sleeper.join(), Ok(b"x".into()));
    }

    /// 429, 558, 612: packets, by F_SETFL, are the writer's affair; but one that comes
    /// behind a stream's bytes joins them.
    fn packets_are_kept_apart(fifo: &Fifo) {
        let reader = fifo.reader();
        let [packets, stream] = [(); 2].map(|()| fifo.writer());
        fcntl_setfl(&packets, OFlags::DIRECT | OFlags::NONBLOCK).unwrap();
        for writer in [&packets, &packets, &stream, &stream, &packets] {
            assert_eq!(put(writer, b"abc"), Ok(3));
        }
        assert_eq!(take(&reader, 10), Ok(b"abc".into()));
        assert_eq!(take(&reader, 2), Ok(b"ab".into()), "the rest of a packet is lost");
        assert_eq!(take(&reader, 7), Ok(b"abcabca".into()));
        assert_eq!(take(&reader, 10), Ok(b"bc".into()));
    }

    /// An end is for one direction, unless it is for both.
    fn ends_have_a_direction(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        assert_eq!(put(&reader, b"x"), Err(Errno::BADF));
        assert_eq!(take(&writer, 1), Err(Errno::BADF));
        assert_eq!(put(fifo.both(), b"x"), Ok(1));
        assert_eq!(take(fifo.both(), 1), Ok(b"x".into()));
    }
}
