// SPDX-License-Identifier: GPL-2.0

//! Opening a pipe once more, by its name under `/proc/self/fd`.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{READABLE, WRITABLE, bytes, path, put, size, take};
use ipcdemo_tests::{Errno, Fd, PAGE, Sleeper, differential, poll_now, scaled, until};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, fchmod, fcntl_getfl, fcntl_setfl, fstat, open};
use rustix::io::{ReadWriteFlags, pread, preadv2};

const ALL: PollFlags = PollFlags::all();

differential! {
    by ipcdemo_tests::pipe::together;

    /// fs/pipe.c:1243, 1265: either name leads to the pipe: it is the flags that say which
    /// end it becomes.
    fn either_end_can_be_opened_by_either_name(s: Subject) {
        let (reader, writer) = s.pipe();
        let (other_writer, other_reader) = (
            reopen(&reader, OFlags::WRONLY).unwrap(),
            reopen(&writer, OFlags::RDONLY).unwrap(),
        );
        assert_eq!(put(&other_writer, b"a"), Ok(1));
        assert_eq!(put(&writer, b"b"), Ok(1));
        assert_eq!(take(&other_reader, 1).unwrap(), b"a");
        assert_eq!(take(&reader, 1).unwrap(), b"b");
        assert_eq!(take(&other_writer, 1), Err(Errno::BADF));
        assert_eq!(put(&other_reader, b"a"), Err(Errno::BADF));
        assert_eq!(fstat(other_reader).unwrap().st_ino, fstat(reader).unwrap().st_ino);
    }

    /// fs/pipe.c:1276: one that was opened to write counts as a writer.
    fn a_new_writer_counts(s: Subject) {
        let (reader, writer) = s.pipe();
        let other = reopen(&reader, OFlags::WRONLY).unwrap();
        drop(writer);
        let sleeper = Sleeper::taking(&reader, 1);
        drop(other);
        assert_eq!(sleeper.join().unwrap(), b"");
    }

    /// fs/pipe.c:1250: and one that was opened to read as a reader.
    fn a_new_reader_counts(s: Subject) {
        let (reader, writer) = s.pipe();
        let other = reopen(&writer, OFlags::RDONLY).unwrap();
        drop(reader);
        assert_eq!(put(&writer, b"a"), Ok(1));
        drop(other);
        assert_eq!(put(&writer, b"b"), Err(Errno::PIPE));
    }

    /// fs/pipe.c:1253, 1279: to open one never waits for the other side, as it would at a
    /// FIFO, and a reader is at the end at once, with POLLHUP, O_NONBLOCK or not.
    fn opening_never_waits(s: Subject) {
        let (reader, writer) = s.pipe();
        drop(writer);
        for flags in [OFlags::empty(), OFlags::NONBLOCK] {
            let other = reopen(&reader, OFlags::RDONLY | flags).unwrap();
            assert_eq!(poll_now(&other, ALL), PollFlags::HUP);
            assert_eq!(take(&other, 1).unwrap(), b"");
        }
    }

    /// fs/pipe.c:1272, 1279: nor a writer: with nobody to read there is no ENXIO.
    fn opening_to_write_is_never_refused(s: Subject) {
        let (reader, writer) = s.pipe();
        drop(reader);
        for flags in [OFlags::empty(), OFlags::NONBLOCK] {
            let other = reopen(&writer, OFlags::WRONLY | flags).unwrap();
            assert_eq!(poll_now(&other, ALL), WRITABLE | PollFlags::ERR);
            assert_eq!(put(&other, b"a"), Err(Errno::PIPE));
        }
    }

    /// fs/pipe.c:1250, 1276: who comes back takes the end away, and the hang-up or the error
    /// with it.
    fn an_end_may_come_back(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        drop(writer);
        assert_eq!(take(&reader, 1).unwrap(), b"");
        let writer = reopen(&reader, OFlags::WRONLY).unwrap();
        assert_eq!(poll_now(&reader, ALL), PollFlags::empty());
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        assert_eq!(put(&writer, b"a"), Ok(1));
        drop(reader);
        assert_eq!(put(&writer, b"b"), Err(Errno::PIPE));
        let reader = reopen(&writer, OFlags::RDONLY).unwrap();
        assert_eq!(poll_now(&writer, ALL), WRITABLE);
        assert_eq!(take(&reader, 10).unwrap(), b"a", "what was written is there still");
    }

    /// fs/pipe.c:1293 to 1296: O_RDWR is both a reader and a writer.
    fn one_descriptor_may_be_both(s: Subject) {
        let (reader, writer) = s.pipe();
        let both = reopen(&reader, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        assert_eq!(mode(&both), OFlags::RDWR | OFlags::NONBLOCK);
        drop((reader, writer));
        assert_eq!(take(&both, 1), Err(Errno::AGAIN), "no end");
        assert_eq!(poll_now(&both, ALL), WRITABLE, "no hang-up");
        assert_eq!(put(&both, b"abc"), Ok(3));
        assert_eq!(poll_now(&both, ALL), READABLE | WRITABLE);
        assert_eq!(take(&both, 10).unwrap(), b"abc");
    }

    /// fs/pipe.c:813 to 817: both end with it.
    fn both_end_with_one_descriptor(s: Subject) {
        let (reader, writer) = s.pipe();
        let both = reopen(&reader, OFlags::RDWR).unwrap();
        drop(writer);
        let sleeper = Sleeper::taking(&reader, 1);
        drop(both);
        assert_eq!(sleeper.join().unwrap(), b"");
        let (reader, writer) = s.pipe();
        let both = reopen(&reader, OFlags::RDWR).unwrap();
        drop(reader);
        assert_eq!(put(&writer, b"a"), Ok(1));
        drop(both);
        assert_eq!(put(&writer, b"b"), Err(Errno::PIPE));
    }

    /// fs/pipe.c:819: the end of one that was both is no end for who is left on both sides.
    fn nobody_is_woken_while_both_sides_are_there(s: Subject) {
        let (reader, writer) = s.pipe();
        let both = reopen(&reader, OFlags::RDWR).unwrap();
        let poller = Sleeper::polling(&reader, PollFlags::empty());
        drop(both);
        assert!(poller.sleeps_on());
        drop(writer);
        assert_eq!(poller.join(), Ok(PollFlags::HUP));
    }

    /// fs/pipe.c:1301 to 1303: what is open for neither cannot be.
    fn neither_is_refused(s: Subject) {
        let (reader, writer) = s.nonblocking_pipe();
        let result = reopen(&reader, OFlags::from_bits_retain(libc::O_ACCMODE as u32));
        assert_eq!(result.err(), Some(Errno::INVAL));
        // 1325: and leaves no trace.
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        drop(writer);
        assert_eq!(take(&reader, 1).unwrap(), b"");
    }

    /// fs/open.c: what is opened anew has a mode of its own.
    fn a_new_opener_has_its_own_mode(s: Subject) {
        let (reader, _writer) = s.nonblocking_pipe();
        let other = Fd::new(reopen(&reader, OFlags::RDONLY).unwrap());
        assert_eq!(mode(&other), OFlags::RDONLY);
        let sleeper = Sleeper::taking(&other, 1);
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        assert!(sleeper.sleeps_on());
        let writer = reopen(&reader, OFlags::WRONLY).unwrap();
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(sleeper.join().unwrap(), b"a");
    }

    /// fs/open.c, do_dentry_open: O_DIRECT is F_SETFL's affair: open(2) takes it for direct
    /// I/O, of which a pipe has none. That is found out after the pipe's own open, of which
    /// no trace is left.
    fn it_cannot_be_opened_for_packets(s: Subject) {
        let (reader, writer) = s.pipe();
        let result = reopen(&reader, OFlags::WRONLY | OFlags::DIRECT);
        assert_eq!(result.err(), Some(Errno::INVAL));
        drop(writer);
        assert_eq!(take(&reader, 1).unwrap(), b"");
        let writer = reopen(&reader, OFlags::WRONLY).unwrap();
        fcntl_setfl(&writer, OFlags::DIRECT).unwrap();
        assert_eq!(put(&writer, b"a"), Ok(1));
        assert_eq!(put(&writer, b"b"), Ok(1));
        assert_eq!(take(&reader, 10).unwrap(), b"a");
    }

    /// fs/pipe.c:1240, stream_open: there is no position here either.
    fn there_are_no_positions(s: Subject) {
        let (reader, _writer) = s.pipe();
        let other = reopen(&reader, OFlags::RDWR).unwrap();
        assert_eq!(put(&other, b"abc"), Ok(3));
        assert_eq!(pread(&other, &mut [0; 3], 0).err(), Some(Errno::SPIPE));
        assert_eq!(rustix::fs::seek(&other, rustix::fs::SeekFrom::Start(0)), Err(Errno::SPIPE));
    }

    /// fs/pipe.c:1053 is not done here: RWF_NOWAIT is refused.
    fn no_read_may_decline_to_wait(s: Subject) {
        let (reader, writer) = s.pipe();
        let other = reopen(&reader, OFlags::RDONLY).unwrap();
        assert_eq!(put(&writer, b"a"), Ok(1));
        let nowait = |reader: &dyn AsFd| {
            let mut buffer = [0];
            let mut segments = [IoSliceMut::new(&mut buffer)];
            preadv2(reader.as_fd(), &mut segments, u64::MAX, ReadWriteFlags::NOWAIT)
        };
        assert_eq!(nowait(&other), Err(Errno::OPNOTSUPP));
        assert_eq!(nowait(&reader), Ok(1));
    }

    /// fs/namei.c, inode_permission: who may open it is said by its mode and owner.
    fn its_mode_says_who_may(s: Subject) {
        let (reader, _writer) = s.pipe();
        as_fsuid(40_020, || {
            assert_eq!(reopen(&reader, OFlags::RDONLY).err(), Some(Errno::ACCESS));
        });
        fchmod(&reader, Mode::from_raw_mode(0o644)).unwrap();
        as_fsuid(40_020, || {
            assert!(reopen(&reader, OFlags::RDONLY).is_ok());
            assert_eq!(reopen(&reader, OFlags::WRONLY).err(), Some(Errno::ACCESS));
        });
    }

    /// fs/pipe.c:797: an O_PATH descriptor keeps the inode, and is no end: it can be asked who
    /// it is, no more.
    fn a_path_is_no_end(s: Subject) {
        let (reader, writer) = s.pipe();
        let place = reopen(&reader, OFlags::PATH).unwrap();
        assert_eq!(fstat(&place).unwrap().st_ino, fstat(&reader).unwrap().st_ino);
        assert_eq!(take(&place, 1), Err(Errno::BADF));
        drop(writer);
        assert_eq!(take(&reader, 1).unwrap(), b"");
        let name = std::fs::read_link(path(&place)).unwrap();
        drop(reader);
        assert_eq!(std::fs::read_link(path(&place)).unwrap(), name);
    }

    /// fs/pipe.c:798, 1219: with all ends closed the pipe is gone, while the inode is there:
    /// opened again it begins anew, empty and of the usual size.
    fn it_begins_anew(s: Subject) {
        let (reader, writer) = s.pipe_of(2, PipeFlags::empty());
        assert_eq!(put(&writer, &bytes(PAGE + 5)), Ok(PAGE + 5));
        let place = reopen(&reader, OFlags::PATH).unwrap();
        let number = fstat(&reader).unwrap().st_ino;
        drop((reader, writer));
        for _ in 0..2 {
            let both = reopen(&place, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
            assert_eq!(take(&both, 10), Err(Errno::AGAIN));
            assert_eq!(size(&both), Ok(16 * PAGE as u32));
            assert_eq!(fstat(&both).unwrap().st_ino, number);
            assert_eq!(put(&both, b"left behind"), Ok(11));
        }
    }

    /// fs/pipe.c:1219, 1253: the first who opens it then does not wait either.
    fn it_begins_anew_with_one_side(s: Subject) {
        let (reader, writer) = s.pipe();
        let place = reopen(&reader, OFlags::PATH).unwrap();
        drop((reader, writer));
        let reader = reopen(&place, OFlags::RDONLY).unwrap();
        assert_eq!(take(&reader, 1).unwrap(), b"");
        let writer = reopen(&place, OFlags::WRONLY).unwrap();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        assert_eq!(take(&reader, 10).unwrap(), b"abc");
    }

    /// fs/open.c, do_open: it exists, and has nothing to truncate: what is in it stays, by whatever flags a shell
    /// opens `/dev/stdout`.
    fn flags_for_files_do_no_harm(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"kept"), Ok(4));
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND | OFlags::NOCTTY;
        let other = reopen(&reader, OFlags::WRONLY | flags).unwrap();
        assert_eq!(put(&other, b", and more"), Ok(10));
        assert!(reopen(&writer, OFlags::RDONLY | OFlags::TRUNC).is_ok());
        assert_eq!(take(&reader, 20).unwrap(), b"kept, and more");
    }

    /// fs/namei.c, do_open: flags that ask for something else are refused.
    fn flags_for_others_are_refused(s: Subject) {
        let (reader, _writer) = s.pipe();
        let refused = |flags| reopen(&reader, OFlags::WRONLY | flags).err();
        assert_eq!(refused(OFlags::CREATE | OFlags::EXCL), Some(Errno::EXIST));
        assert_eq!(refused(OFlags::NOFOLLOW), Some(Errno::LOOP));
        assert_eq!(refused(OFlags::DIRECTORY), Some(Errno::NOTDIR));
    }

    /// fs/pipe.c:798: whoever opens it when nobody has it open finds nothing, however the one before left it, and
    /// however soon after.
    fn nothing_is_left_for_the_next(s: Subject) {
        /// What another opener writes, and how much of that it takes out again.
        const LEFT: [(usize, usize); 4] = [(4, 0), (2 * PAGE, 0), (2 * PAGE, 2 * PAGE), (2, 1)];
        let (reader, _) = s.pipe();
        let place = reopen(&reader, OFlags::PATH).unwrap();
        drop(reader);
        let open = Arc::new(move || reopen(&place, OFlags::RDWR | OFlags::NONBLOCK).unwrap());
        // Odd while the other one may have it open.
        let turns = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let (open, turns, stop) = (open.clone(), turns.clone(), stop.clone());
            move || {
                for (written, taken) in LEFT.into_iter().cycle() {
                    if stop.load(SeqCst) {
                        break;
                    }
                    turns.fetch_add(1, SeqCst);
                    let both = open();
                    let _ = (put(&both, &bytes(written)), take(&both, taken));
                    drop(both);
                    turns.fetch_add(1, SeqCst);
                    thread::yield_now();
                }
            }
        });
        let look = || {
            let before = turns.load(SeqCst);
            let both = open();
            let found = (take(&both, 4 * PAGE), size(&both));
            let alone = before > 0 && before % 2 == 0 && turns.load(SeqCst) == before;
            if alone {
                assert_eq!(found, (Err(Errno::AGAIN), Ok(16 * PAGE as u32)));
            }
            drop(both);
            thread::yield_now();
            usize::from(alone)
        };
        let mut alone = 0;
        until("this one was often there alone, right after the other", || {
            alone += (0..50).map(|_| look()).sum::<usize>();
            alone >= scaled(50)
        });
        stop.store(true, SeqCst);
        other.join().unwrap();
    }

    /// fs/pipe.c:1215, 797: what is in it stays as long as any end is there, whichever.
    fn what_is_in_it_stays_with_any_end(s: Subject) {
        let (reader, writer) = s.pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        drop(reader);
        let reader = reopen(&writer, OFlags::RDONLY).unwrap();
        drop(writer);
        let other = reopen(&reader, OFlags::RDONLY).unwrap();
        drop(reader);
        assert_eq!(take(&other, 10).unwrap(), b"abc");
        assert_eq!(take(&other, 10).unwrap(), b"");
    }
}

/// Opens a pipe once more.
fn reopen(end: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", end.as_fd().as_raw_fd());
    open(path, flags | OFlags::CLOEXEC, Mode::empty())
}

/// What F_GETFL says, less what every open(2) of a 64-bit program adds.
fn mode(end: impl AsFd) -> OFlags {
    fcntl_getfl(end).unwrap() - OFlags::LARGEFILE
}

/// Runs `body` in this thread as a user to whom files are not open as they are to root.
fn as_fsuid(uid: u32, body: impl FnOnce()) {
    // SAFETY: The system call, unlike the library's, changes the calling thread alone.
    let set = |uid: u32| unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    set(uid);
    body();
    set(0);
}
