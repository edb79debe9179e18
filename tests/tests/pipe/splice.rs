// SPDX-License-Identifier: GPL-2.0

//! splice(2) between the pipe under test and one of the kernel's, and sendfile(2) into
//! the pipe under test.
//!
//! The kernel takes its own pipes' buffers to pieces itself (fs/splice.c,
//! splice_pipe_to_pipe), and asks everybody else's file. What it can do with one of its
//! own, and not with ours, is in differences.rs.

use std::ffi::c_long;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{Blocked, READABLE, WRITABLE, bytes, fill, put, queued, take};
use ipcdemo_tests::{
    Errno, Fd, MissingPage, PAGE, Signal, Sleeper, Subject, Task, differential, poll_now, read_to,
    until,
};
use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::pipe::SpliceFlags;
use rustix::thread::gettid;

const BLOCK: PipeFlags = PipeFlags::empty();
const NONBLOCK: PipeFlags = PipeFlags::NONBLOCK;
const ALL: PollFlags = PollFlags::all();
const NOW: SpliceFlags = SpliceFlags::NONBLOCK;

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/splice.c, splice_pipe_to_pipe: bytes move to the kernel's pipe, as many as were
    /// asked for; the rest stays.
    fn bytes_move_out(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        assert_eq!(put(&writer, b"abcdef"), Ok(6));
        assert_eq!(splice(&reader, &to_theirs, 4), Ok(4));
        assert_eq!(queued(&reader), 2);
        assert_eq!(take(&theirs, 100).unwrap(), b"abcd");
        assert_eq!(splice(&reader, &to_theirs, 100), Ok(2));
        assert_eq!(take(&theirs, 100).unwrap(), b"ef");
    }

    /// The same: and from it.
    fn bytes_move_in(s: Subject) {
        let ((theirs, to_theirs), (reader, writer)) = (Subject::Native.pipe(), s.pipe());
        assert_eq!(put(&to_theirs, b"abcdef"), Ok(6));
        assert_eq!(splice(&theirs, &writer, 4), Ok(4));
        assert_eq!(take(&reader, 100).unwrap(), b"abcd");
        assert_eq!(splice(&theirs, &writer, 100), Ok(2));
        assert_eq!(take(&reader, 100).unwrap(), b"ef");
        assert_eq!(queued(&theirs), 0);
    }

    /// The same, fs/splice.c:1830: one call moves many buffers, up to a part of the last.
    fn one_call_moves_many_buffers(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        let all = fill(&writer);
        let most = all.len() - 100;
        assert_eq!(splice(&reader, &to_theirs, most), Ok(most));
        assert_eq!(take(&theirs, all.len()).unwrap(), all[..most]);
        assert_eq!(take(&reader, all.len()).unwrap(), all[most..]);
        assert_eq!(put(&to_theirs, &all), Ok(all.len()));
        assert_eq!(splice(&theirs, &writer, most), Ok(most));
        assert_eq!(take(&reader, all.len()).unwrap(), all[..most]);
    }

    /// The same, fs/splice.c:1766: it ends where the room does; with none it may say EAGAIN.
    fn their_room_ends_it(s: Subject) {
        let ((reader, writer), theirs) = (s.pipe(), Subject::Native.pipe_of(2, BLOCK));
        let all = fill(&writer);
        assert_eq!(splice(&reader, &theirs.1, all.len()), Ok(2 * PAGE));
        assert_eq!(splice_now(&reader, &theirs.1, 10), Err(Errno::AGAIN));
        assert_eq!(take(&theirs.0, all.len()).unwrap(), all[..2 * PAGE]);
        assert_eq!(queued(&reader), all.len() - 2 * PAGE);
    }

    /// The same: of either, and though it may block: what has moved is enough.
    fn our_room_ends_it(s: Subject) {
        let (theirs, (reader, writer)) = (Subject::Native.pipe(), s.pipe_of(2, BLOCK));
        let all = fill(&theirs.1);
        assert_eq!(splice(&theirs.0, &writer, all.len()), Ok(2 * PAGE));
        assert_eq!(splice_now(&theirs.0, &writer, 10), Err(Errno::AGAIN));
        assert_eq!(take(&reader, all.len()).unwrap(), all[..2 * PAGE]);
        assert_eq!(queued(&theirs.0), all.len() - 2 * PAGE);
    }

    /// The same, fs/splice.c, ipipe_prep: an empty pipe may say EAGAIN, asked by the call or
    /// by the file's mode; one at its end is 0.
    fn nothing_ends_it(s: Subject) {
        for flags in [BLOCK, NONBLOCK] {
            let (reader, writer) = s.pipe_with(flags);
            let (_theirs, to_theirs) = Subject::Native.pipe();
            assert_eq!(splice_now(&reader, &to_theirs, 10), Err(Errno::AGAIN));
            if flags == NONBLOCK {
                assert_eq!(splice(&reader, &to_theirs, 10), Err(Errno::AGAIN));
            }
            drop(writer);
            assert_eq!(splice(&reader, &to_theirs, 10), Ok(0));
        }
    }

    /// The same, fs/splice.c:1323: a full one too is asked by its mode.
    fn a_full_target_may_not_block(s: Subject) {
        let (theirs, to_theirs) = Subject::Native.pipe();
        let (_reader, writer) = s.pipe_of(1, NONBLOCK);
        fill(&writer);
        assert_eq!(put(&to_theirs, b"abc"), Ok(3));
        assert_eq!(splice(&theirs, &writer, 3), Err(Errno::AGAIN));
        assert_eq!(take(&theirs, 10).unwrap(), b"abc", "nothing was taken");
    }

    /// The same, pipe_wait_readable (fs/pipe.c:1159): it sleeps until there is something, and
    /// meanwhile the other pipe can be used.
    fn it_sleeps_for_data(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        let sleeper = splicing(&reader, &to_theirs, 10);
        assert_eq!(put(&to_theirs, b"ab"), Ok(2));
        assert_eq!(take(&theirs, 10).unwrap(), b"ab");
        assert_eq!(poll_now(&to_theirs, ALL), WRITABLE);
        assert_eq!(put(&writer, b"cde"), Ok(3));
        assert_eq!(sleeper.join(), Ok(3));
        assert_eq!(take(&theirs, 10).unwrap(), b"cde");
    }

    /// The same: or until there is no writer.
    fn the_end_ends_the_sleep(s: Subject) {
        let ((reader, writer), (_theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        let sleeper = splicing(&reader, &to_theirs, 10);
        drop(writer);
        assert_eq!(sleeper.join(), Ok(0));
    }

    /// The same, pipe_wait_writable (fs/pipe.c:1166): or, into a full pipe, until there is room.
    fn it_sleeps_for_room(s: Subject) {
        let (theirs, to_theirs) = Subject::Native.pipe();
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let all = fill(&writer);
        assert_eq!(put(&to_theirs, b"abc"), Ok(3));
        let sleeper = splicing(&theirs, &writer, 10);
        assert_eq!(take(&reader, PAGE).unwrap(), all);
        assert_eq!(sleeper.join(), Ok(3));
        assert_eq!(take(&reader, PAGE).unwrap(), b"abc");
    }

    /// The same, fs/splice.c:1749: with nobody to read it is EPIPE, and SIGPIPE.
    fn a_broken_pipe_signals(s: Subject) {
        let signal = Blocked::new(libc::SIGPIPE);
        let native = Subject::Native;
        for (source, target) in [(native, s), (s, native)] {
            let ((reader, writer), (gone, into)) = (source.pipe(), target.pipe());
            drop(gone);
            assert_eq!(put(&writer, b"abc"), Ok(3));
            assert_eq!(splice(&reader, &into, 3), Err(Errno::PIPE), "{source:?}");
            assert_eq!(signal.count(), 1);
            assert_eq!(take(&reader, 10).unwrap(), b"abc", "nothing was taken");
        }
    }

    /// fs/splice.c:1308: the ends must be the right ones.
    fn the_wrong_end_is_refused(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        assert_eq!(splice(&writer, &to_theirs, 1), Err(Errno::BADF));
        assert_eq!(splice(&theirs, &reader, 1), Err(Errno::BADF));
    }

    /// fs/splice.c:1320: a pipe cannot be spliced to itself.
    fn it_cannot_be_spliced_to_itself(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(splice(&reader, &writer, 1), Err(Errno::INVAL));
    }

    /// fs/splice.c, splice: to move nothing is done at once.
    fn nothing_moves_at_once(s: Subject) {
        let ((reader, _writer), (_theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        assert_eq!(splice(&reader, &to_theirs, 0), Ok(0));
    }

    /// fs/splice.c, wakeup_pipe_readers: who sleeps at the target is woken, be it ours or
    /// theirs.
    fn it_wakes_readers(s: Subject) {
        let native = Subject::Native;
        for (source, target) in [(native, s), (s, native)] {
            let ((reader, writer), (from, into)) = (source.pipe(), target.pipe());
            let poller = Sleeper::polling(&from, READABLE);
            let sleeper = Sleeper::taking(&from, 2);
            assert_eq!(put(&writer, b"abc"), Ok(3));
            assert_eq!(splice(&reader, &into, 3), Ok(3));
            assert_eq!(sleeper.join().unwrap(), b"ab");
            assert_eq!(poller.join(), Ok(READABLE));
        }
    }

    /// fs/splice.c:1798, wakeup_pipe_writers: so is who sleeps at the source.
    fn it_wakes_writers(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let (_theirs, to_theirs) = Subject::Native.pipe();
        fill(&writer);
        let poller = Sleeper::polling(&writer, PollFlags::OUT);
        assert_eq!(splice(&reader, &to_theirs, PAGE - 1), Ok(PAGE - 1));
        assert!(poller.sleeps_on(), "half a buffer is no room");
        assert_eq!(splice(&reader, &to_theirs, 1), Ok(1));
        assert_eq!(poller.join(), Ok(PollFlags::OUT));
        fill(&writer);
        let sleeper = Sleeper::putting(&writer, b"a");
        assert_eq!(splice(&reader, &to_theirs, PAGE), Ok(PAGE));
        assert_eq!(sleeper.join(), Ok(1));
    }

    /// fs/pipe.c:1159, 1147 to 1155: who sleeps here is not exclusive, as it passes nothing on:
    /// a write wakes a reader besides.
    fn a_sleep_for_data_is_not_exclusive(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        let splicer = splicing(&reader, &to_theirs, 1);
        let sleeper = Sleeper::taking(&reader, 1);
        assert_eq!(put(&writer, b"aa"), Ok(2));
        assert_eq!(splicer.join(), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"a");
        assert_eq!(take(&theirs, 10).unwrap(), b"a");
    }

    /// fs/pipe.c:1166: and a read a writer.
    fn a_sleep_for_room_is_not_exclusive(s: Subject) {
        let ((theirs, to_theirs), (reader, writer)) = (Subject::Native.pipe(), s.pipe_of(2, BLOCK));
        fill(&writer);
        assert_eq!(put(&to_theirs, b"a"), Ok(1));
        let splicer = splicing(&theirs, &writer, 1);
        let sleeper = Sleeper::putting(&writer, &bytes(PAGE));
        assert_eq!(take(&reader, 2 * PAGE).unwrap().len(), 2 * PAGE);
        assert_eq!(splicer.join(), Ok(1));
        assert_eq!(sleeper.join(), Ok(PAGE));
        assert_eq!(queued(&reader), PAGE + 1);
    }

    /// fs/pipe.c:1159: a signal ends the sleep; nothing was moved.
    fn a_signal_interrupts_it(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe_of(1, BLOCK), Subject::Native.pipe());
        let signal = Signal::interrupting();
        let splicer = splicing(&reader, &to_theirs, 1);
        splicer.interrupt(&signal);
        assert_eq!(splicer.join(), Err(Errno::INTR));
        fill(&writer);
        assert_eq!(put(&to_theirs, b"a"), Ok(1));
        let splicer = splicing(&theirs, &writer, 1);
        splicer.interrupt(&signal);
        assert_eq!(splicer.join(), Err(Errno::INTR));
        assert_eq!((queued(&reader), queued(&theirs)), (PAGE, 1));
    }

    /// fs/splice.c:1807 to 1819: what has moved is not touched by what comes after: not by
    /// writes that join what was left behind.
    fn what_has_moved_stays_as_it_is(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(splice(&reader, &to_theirs, 2), Ok(2));
        assert_eq!(put(&writer, b"def"), Ok(3));
        assert_eq!(put(&to_theirs, b"xyz"), Ok(3));
        assert_eq!(take(&reader, 10).unwrap(), b"cdef");
        assert_eq!(put(&writer, b"ghi"), Ok(3));
        assert_eq!(take(&theirs, 10).unwrap(), b"abxyz");
    }

    /// fs/splice.c, opipe_prep, and 1243: what cannot be moved stays where it is.
    fn what_cannot_be_moved_stays(s: Subject) {
        let _signal = Blocked::new(libc::SIGPIPE);
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        let full = fill(&to_theirs);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(splice_now(&reader, &to_theirs, 3), Err(Errno::AGAIN));
        drop(theirs);
        assert_eq!(splice(&reader, &to_theirs, 3), Err(Errno::PIPE));
        assert_eq!(take(&reader, full.len()).unwrap(), b"abc");

        let (theirs, to_theirs) = Subject::Native.pipe();
        fill(&writer);
        assert_eq!(put(&to_theirs, b"def"), Ok(3));
        assert_eq!(splice_now(&theirs, &writer, 3), Err(Errno::AGAIN));
        drop(reader);
        assert_eq!(splice(&theirs, &writer, 3), Err(Errno::PIPE));
        assert_eq!(take(&theirs, 10).unwrap(), b"def");
    }

    /// fs/splice.c:1794: it outlives the pipe it came from.
    fn what_has_moved_outlives_its_pipe(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (s.pipe(), Subject::Native.pipe());
        let all = fill(&writer);
        assert_eq!(splice(&reader, &to_theirs, all.len()), Ok(all.len()));
        drop((reader, writer));
        // Whoever gets the pages next writes something else there.
        let (_other, to_other) = s.pipe();
        assert_eq!(put(&to_other, &vec![0xff; all.len()]), Ok(all.len()));
        assert_eq!(take(&theirs, all.len()).unwrap(), all);
    }

    /// fs/splice.c:1790: buffers are moved in parts or as a whole, packets or not: what is
    /// left of one is not dropped.
    fn a_part_of_a_packet_moves(s: Subject) {
        let (reader, writer) = s.pipe_with(PipeFlags::DIRECT);
        let (theirs, to_theirs) = Subject::Native.pipe();
        assert_eq!(put(&writer, b"abcd"), Ok(4));
        assert_eq!(put(&writer, b"ef"), Ok(2));
        assert_eq!(splice(&reader, &to_theirs, 2), Ok(2));
        assert_eq!(take(&theirs, 10).unwrap(), b"ab");
        assert_eq!(take(&reader, 10).unwrap(), b"cd");
        assert_eq!(take(&reader, 10).unwrap(), b"ef");
    }

    /// fs/splice.c, splice_file_to_pipe: sendfile puts a file's bytes there.
    fn a_file_is_sent(s: Subject) {
        let (reader, writer) = s.pipe();
        let (content, file) = file(3 * PAGE + 10);
        let mut offset = 5;
        assert_eq!(sendfile(&writer, &file, Some(&mut offset), 2 * PAGE), Ok(2 * PAGE));
        assert_eq!(offset, 5 + 2 * PAGE as u64);
        assert_eq!(take(&reader, 4 * PAGE).unwrap(), content[5..][..2 * PAGE]);
        assert_eq!(sendfile(&writer, &file, Some(&mut offset), 4 * PAGE), Ok(PAGE + 5));
        assert_eq!(take(&reader, 4 * PAGE).unwrap(), content[5 + 2 * PAGE..]);
        assert_eq!(sendfile(&writer, &file, Some(&mut offset), 4 * PAGE), Ok(0));
    }

    /// fs/splice.c, wait_for_space: into a full pipe it may say EAGAIN, and sends what fits.
    fn a_file_is_sent_as_far_as_it_fits(s: Subject) {
        let (reader, writer) = s.pipe_of(2, NONBLOCK);
        let (content, file) = file(4 * PAGE);
        let mut offset = 0;
        assert_eq!(put(&writer, &bytes(PAGE)), Ok(PAGE));
        assert_eq!(sendfile(&writer, &file, Some(&mut offset), 4 * PAGE), Ok(PAGE));
        assert_eq!(offset, PAGE as u64);
        assert_eq!(sendfile(&writer, &file, Some(&mut offset), 4 * PAGE), Err(Errno::AGAIN));
        assert_eq!(offset, PAGE as u64);
        assert_eq!(take(&reader, PAGE).unwrap(), bytes(PAGE));
        assert_eq!(take(&reader, PAGE).unwrap(), content[..PAGE]);
    }

    /// fs/splice.c, splice_file_to_pipe: so it does into one that may block: what fits is enough.
    fn what_fits_of_a_file_is_enough(s: Subject) {
        let (reader, writer) = s.pipe_of(2, BLOCK);
        let (content, file) = file(4 * PAGE);
        let mut offset = 0;
        assert_eq!(sendfile(&writer, &file, Some(&mut offset), 4 * PAGE), Ok(2 * PAGE));
        assert_eq!(offset, 2 * PAGE as u64);
        assert_eq!(take(&reader, 4 * PAGE).unwrap(), content[..2 * PAGE]);
    }

    /// fs/splice.c, wait_for_space: or sleeps until there is room.
    fn sending_sleeps_for_room(s: Subject) {
        let (reader, writer) = s.pipe_of(1, BLOCK);
        let (content, file) = file(10);
        fill(&writer);
        let target = Fd::clone(&writer);
        let sleeper = Sleeper::new(&[libc::SYS_sendfile], move || {
            sendfile(&target, &file, Some(&mut 0), 10)
        });
        assert_eq!(take(&reader, PAGE).unwrap().len(), PAGE);
        assert_eq!(sleeper.join(), Ok(10));
        assert_eq!(take(&reader, PAGE).unwrap(), content);
    }

    /// fs/splice.c, wait_for_space: with nobody to read it is EPIPE, and SIGPIPE.
    fn sending_may_break_the_pipe(s: Subject) {
        let signal = Blocked::new(libc::SIGPIPE);
        let (reader, writer) = s.pipe();
        let (_content, file) = file(10);
        drop(reader);
        let mut offset = 0;
        assert_eq!(sendfile(&writer, &file, Some(&mut offset), 10), Err(Errno::PIPE));
        assert_eq!(offset, 0);
        assert_eq!(signal.count(), 1);
    }

    /// fs/splice.c, splice_file_to_pipe: a sendfile that is still at its file when another one
    /// ends waits for room all the same, and goes in whole.
    fn another_sendfile_changes_nothing(s: Subject) {
        const SENDFILE: &[c_long] = &[libc::SYS_sendfile];
        let (reader, writer) = s.pipe_of(1, BLOCK);
        // The kernel holds a lock of this open file while it copies. Each reader of it takes that.
        let slow = Arc::new(File::open("/proc/filesystems").unwrap());
        let missing = Arc::new(MissingPage::new());
        let holding = {
            let (slow, missing) = (Arc::clone(&slow), Arc::clone(&missing));
            thread::spawn(move || read_to(slow, missing.address(), 1))
        };
        until("the page is missed", || missing.is_missed());
        let (first, its_task) = sending(&writer, slow);
        until("the first one reads its file", || its_task.blocked_in(SENDFILE));
        let (second, other_task) = sending(&writer, Arc::new(file(PAGE).1));
        until("the second one has ended, or waits for the first", || {
            second.is_finished() || other_task.blocked_in(SENDFILE)
        });
        missing.give();
        assert_eq!(holding.join().unwrap(), Ok(1));
        until("the first one has ended, or waits for room", || {
            first.is_finished() || its_task.asleep_in(SENDFILE)
        });
        drop(writer);
        let mut arrived = 0;
        until("all has arrived", || {
            let page = take(&reader, PAGE).unwrap();
            arrived += page.len();
            page.is_empty()
        });
        let length = fs::read("/proc/filesystems").unwrap().len();
        assert_eq!([first, second].map(|sent| sent.join().unwrap()), [Ok(length), Ok(PAGE)]);
        assert_eq!(arrived, length + PAGE);
    }

    /// fs/read_write.c, do_sendfile: a pipe's position is left alone.
    fn what_is_sent_moves_no_position(s: Subject) {
        let (reader, writer) = s.pipe();
        let (content, file) = file(3 * PAGE + 10);
        assert_eq!(sendfile(&writer, &file, Some(&mut 0), content.len()), Ok(content.len()));
        assert_eq!(take(&reader, content.len()).unwrap(), content);
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", writer.as_raw_fd()));
        assert_eq!(info.unwrap().lines().next(), Some("pos:\t0"));
    }

    /// fs/splice.c, splice_direct_to_actor: to a file no pipe can be sent.
    fn it_is_no_file_to_be_sent(s: Subject) {
        let (reader, writer) = s.pipe();
        let (_content, file) = file(10);
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(sendfile(&file, &reader, None, 3), Err(Errno::INVAL));
        assert_eq!(queued(&reader), 3);
    }
}

fn splice(from: impl AsFd, to: impl AsFd, length: usize) -> Result<usize, Errno> {
    rustix::pipe::splice(from, None, to, None, length, SpliceFlags::empty())
}

fn splice_now(from: impl AsFd, to: impl AsFd, length: usize) -> Result<usize, Errno> {
    rustix::pipe::splice(from, None, to, None, length, NOW)
}

/// A thread that sleeps in splice(2).
fn splicing(from: &Fd, to: &Fd, length: usize) -> Sleeper<Result<usize, Errno>> {
    let (from, to) = (Fd::clone(from), Fd::clone(to));
    Sleeper::new(&[libc::SYS_splice], move || splice(&from, &to, length))
}

/// A thread that sends a page of a file, or what there is of it.
fn sending(to: &Fd, file: Arc<File>) -> (JoinHandle<Result<usize, Errno>>, Task) {
    let to = Fd::clone(to);
    let (send, receive) = channel();
    let thread = thread::spawn(move || {
        send.send(gettid()).unwrap();
        sendfile(to, file, Some(&mut 0), PAGE)
    });
    (thread, Task::thread(receive.recv().unwrap()))
}

/// A file of so many bytes.
fn file(length: usize) -> (Vec<u8>, File) {
    let content = bytes(length);
    let mut file = File::from(memfd_create("content", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(&content).unwrap();
    (content, file)
}
