// SPDX-License-Identifier: GPL-2.0

//! Who of several sleepers is woken.

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{bytes, fill, put, queued, take};
use ipcdemo_tests::{
    Access, Errno, Fd, Memory, PAGE, Signal, Sleeper, differential, poll_now, read_to, write_from,
};
use rustix::event::PollFlags;
use rustix::io::dup;

const BLOCK: PipeFlags = PipeFlags::empty();

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:463: readers are exclusive: a write wakes one, the one that came first, and
    /// the others not even in vain.
    fn a_write_wakes_one_reader(s: Subject) {
        let (reader, writer) = s.pipe();
        let [first, second, third] = [(); 3].map(|()| Sleeper::taking(&reader, 100));
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(first.join().unwrap(), b"abc");
        assert!(second.sleeps_on() && third.sleeps_on());
        assert_eq!(put(&writer, b"de"), Ok(2));
        assert_eq!(second.join().unwrap(), b"de");
        assert!(third.sleeps_on());
        assert_eq!(put(&writer, b"f"), Ok(1));
        assert_eq!(third.join().unwrap(), b"f");
    }

    /// fs/pipe.c:466, 477: a reader that was woken and leaves something wakes the next.
    fn a_reader_passes_the_rest_on(s: Subject) {
        let (reader, writer) = s.pipe();
        let readers = [(); 3].map(|()| Sleeper::taking(&reader, 2));
        assert_eq!(put(&writer, b"abcdef"), Ok(6));
        let mut got = readers.map(|reader| reader.join().unwrap());
        got.sort();
        assert_eq!(got, [b"ab", b"cd", b"ef"]);
    }

    /// fs/pipe.c:469: one that leaves nothing does not.
    fn a_reader_passes_nothing_on(s: Subject) {
        let (reader, writer) = s.pipe();
        let [first, second, third] = [(); 3].map(|()| Sleeper::taking(&reader, 2));
        assert_eq!(put(&writer, b"abcd"), Ok(4));
        assert_eq!(first.join().unwrap(), b"ab");
        assert_eq!(second.join().unwrap(), b"cd");
        assert!(third.sleeps_on());
        assert_eq!(put(&writer, b"e"), Ok(1));
        assert_eq!(third.join().unwrap(), b"e");
    }

    /// fs/pipe.c:649: writers are exclusive: a buffer that becomes free wakes one, the one
    /// that came first; it fills the pipe, and the next sleeps on (655).
    fn a_read_wakes_one_writer(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let [first, second] = [1, 2].map(|byte| Sleeper::putting(&writer, &[byte; PAGE]));
        take(&reader, PAGE).unwrap();
        assert_eq!(first.join(), Ok(PAGE));
        assert!(second.sleeps_on());
        assert_eq!(take(&reader, PAGE).unwrap(), [1; PAGE]);
        assert_eq!(second.join(), Ok(PAGE));
        assert_eq!(take(&reader, PAGE).unwrap(), [2; PAGE]);
    }

    /// fs/pipe.c:652, 674: a writer that was woken and leaves room wakes the next.
    fn a_writer_passes_the_room_on(s: Subject) {
        let (reader, writer) = s.pipe_of(4, BLOCK);
        let size = fill(&writer).len();
        let writers = [1, 2].map(|byte| Sleeper::putting(&writer, &[byte; PAGE]));
        assert_eq!(take(&reader, size).unwrap().len(), size);
        for writer in writers {
            assert_eq!(writer.join(), Ok(PAGE));
        }
        assert_eq!(queued(&reader), 2 * PAGE);
    }

    /// fs/pipe.c:655: room is a buffer: a writer of a byte that could be added to the last
    /// one is not woken for that, and sleeps on.
    fn a_byte_of_room_is_not_passed_on(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let [first, second] = [b"a", b"b"].map(|byte| Sleeper::putting(&writer, byte));
        take(&reader, PAGE).unwrap();
        assert_eq!(first.join(), Ok(1));
        assert!(second.sleeps_on());
        assert_eq!(put(&writer, b"c"), Ok(1), "this one found the room");
        assert!(second.sleeps_on());
        assert_eq!(take(&reader, PAGE).unwrap(), b"ac");
        assert_eq!(second.join(), Ok(1));
    }

    /// fs/pipe.c:554, 576: a write looks once whether it can be added to the last buffer, at its
    /// beginning: after a sleep it begins one of its own.
    fn who_has_slept_adds_to_no_buffer(s: Subject) {
        let (reader, writer) = s.pipe_of(2, BLOCK);
        fill(&writer);
        let [first, second] = [b"ab", b"cd"].map(|bytes| Sleeper::putting(&writer, bytes));
        take(&reader, PAGE).unwrap();
        assert_eq!(first.join(), Ok(2));
        take(&reader, PAGE).unwrap();
        assert_eq!(second.join(), Ok(2));
        assert_eq!(poll_now(&writer, PollFlags::OUT), PollFlags::empty(), "two buffers");
        assert_eq!(take(&reader, PAGE).unwrap(), b"abcd");
    }

    /// fs/pipe.c:820: the last writer's end wakes all readers.
    fn the_end_wakes_all_readers(s: Subject) {
        let (reader, writer) = s.pipe();
        let readers = [(); 3].map(|()| Sleeper::taking(&reader, 2));
        drop(writer);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), b"");
        }
    }

    /// fs/pipe.c:821: the last reader's end all writers.
    fn the_end_wakes_all_writers(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let writers = [(); 3].map(|()| Sleeper::putting(&writer, b"x"));
        drop(reader);
        for writer in writers {
            assert_eq!(writer.join(), Err(Errno::PIPE));
        }
    }

    /// fs/pipe.c:819, fs/file_table.c: the end of a duplicate is nobody's end.
    fn a_duplicate_ends_nothing(s: Subject) {
        let (reader, writer) = s.pipe();
        let other = dup(&writer).unwrap();
        let sleeper = Sleeper::taking(&reader, 2);
        drop(other);
        assert!(sleeper.sleeps_on());
        drop(writer);
        assert_eq!(sleeper.join().unwrap(), b"");
    }

    /// fs/pipe.c:463: a reader that a signal took away is off the queue: the next write finds
    /// the one that is left.
    fn an_interrupted_reader_leaves_the_queue(s: Subject) {
        let (reader, writer) = s.pipe();
        let signal = Signal::interrupting();
        let [first, second] = [(); 2].map(|()| Sleeper::taking(&reader, 2));
        first.interrupt(&signal);
        assert_eq!(first.join(), Err(Errno::INTR));
        assert!(second.sleeps_on());
        assert_eq!(put(&writer, b"ab"), Ok(2));
        assert_eq!(second.join().unwrap(), b"ab");
    }

    /// fs/pipe.c:649: so is a writer: the next buffer wakes the one that is left.
    fn an_interrupted_writer_leaves_the_queue(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let signal = Signal::interrupting();
        let [first, second] = [(); 2].map(|()| Sleeper::putting(&writer, &bytes(PAGE)));
        first.interrupt(&signal);
        assert_eq!(first.join(), Err(Errno::INTR));
        assert!(second.sleeps_on());
        take(&reader, PAGE).unwrap();
        assert_eq!(second.join(), Ok(PAGE));
    }

    /// fs/pipe.c:422, 477: a reader that was woken and could take nothing, for its buffer is
    /// no good, passes all of it on.
    fn a_faulting_reader_passes_all_on(s: Subject) {
        let (reader, writer) = s.pipe();
        let faulting = Fd::clone(&reader);
        let first = Sleeper::new(&[libc::SYS_read], move || {
            let memory = Memory::new(Access::ReadOnly);
            read_to(&faulting, memory.before_end(10), 10)
        });
        let second = Sleeper::taking(&reader, 10);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(first.join(), Err(Errno::FAULT));
        assert_eq!(second.join().unwrap(), b"abc");
    }

    /// fs/pipe.c:603, 674: and so does a writer.
    fn a_faulting_writer_passes_the_room_on(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        fill(&writer);
        let faulting = Fd::clone(&writer);
        let first = Sleeper::new(&[libc::SYS_write], move || {
            let memory = Memory::new(Access::None);
            write_from(&faulting, memory.before_end(10), 10)
        });
        let second = Sleeper::putting(&writer, b"abc");
        take(&reader, PAGE).unwrap();
        assert_eq!(first.join(), Err(Errno::FAULT));
        assert_eq!(second.join(), Ok(3));
        assert_eq!(take(&reader, PAGE).unwrap(), b"abc");
    }

    /// fs/pipe.c:463, 671: pollers are not exclusive: a write wakes them all, and a reader
    /// besides.
    fn a_write_wakes_all_pollers(s: Subject) {
        let (reader, writer) = s.pipe();
        let sleeper = Sleeper::taking(&reader, 1);
        let pollers = [(); 2].map(|()| Sleeper::polling(&reader, PollFlags::IN));
        // More than the reader takes, so that each poller sees some of it.
        assert_eq!(put(&writer, b"ab"), Ok(2));
        assert_eq!(sleeper.join().unwrap(), b"a");
        for poller in pollers {
            assert_eq!(poller.join(), Ok(PollFlags::IN));
        }
    }

    /// fs/pipe.c:475: and so does a read.
    fn a_read_wakes_all_pollers(s: Subject) {
        let (reader, writer) = s.pipe_of(2, BLOCK);
        fill(&writer);
        let sleeper = Sleeper::putting(&writer, b"a");
        let pollers = [(); 2].map(|()| Sleeper::polling(&writer, PollFlags::OUT));
        take(&reader, 2 * PAGE).unwrap();
        assert_eq!(sleeper.join(), Ok(1));
        for poller in pollers {
            assert_eq!(poller.join(), Ok(PollFlags::OUT));
        }
    }
}
