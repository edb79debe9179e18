// SPDX-License-Identifier: GPL-2.0

//! Who waits in open(2), for whom, and who does not.

use std::fs;
use std::sync::{Arc, Barrier};
use std::thread;

use ipcdemo_tests::fifo::{ahead_of, blocking};
use ipcdemo_tests::pipe::{path, put, queued, take};
use ipcdemo_tests::{Child, Errno, Fd, fifos, pin, poll_now, scaled, until};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fstat};

fifos! {
    /// 1259: a reader waits for a writer.
    fn a_reader_waits_for_a_writer(fifo: &Fifo) {
        let reader = fifo.opening(OFlags::RDONLY);
        let writer = fifo.open(OFlags::WRONLY).unwrap();
        let reader = reader.join().unwrap();
        assert_eq!(put(&writer, b"hello"), Ok(5));
        assert_eq!(take(&reader, 10), Ok(b"hello".into()));
    }

    /// 1280: a writer waits for a reader.
    fn a_writer_waits_for_a_reader(fifo: &Fifo) {
        let writer = fifo.opening(OFlags::WRONLY);
        let reader = fifo.open(OFlags::RDONLY).unwrap();
        let writer = writer.join().unwrap();
        assert_eq!(put(&writer, b"hello"), Ok(5));
        assert_eq!(take(&reader, 10), Ok(b"hello".into()));
    }

    /// 1253: with a writer there, no reader waits, however many there are.
    fn readers_do_not_wait_beside_a_writer(fifo: &Fifo) {
        let (_reader, writer) = fifo.blocking_ends();
        let readers = [(); 3].map(|()| fifo.open(OFlags::RDONLY).unwrap());
        for reader in &readers {
            assert_eq!(put(&writer, b"1"), Ok(1));
            assert_eq!(take(reader, 10), Ok(b"1".into()));
        }
    }

    /// 1279: with a reader there, no writer waits.
    fn writers_do_not_wait_beside_a_reader(fifo: &Fifo) {
        let reader = fifo.reader();
        let writers = [(); 3].map(|()| fifo.open(OFlags::WRONLY).unwrap());
        for writer in &writers {
            assert_eq!(put(writer, b"1"), Ok(1));
        }
        assert_eq!(take(&reader, 10), Ok(b"111".into()));
    }

    /// 1254: with O_NONBLOCK a reader waits for nobody.
    fn a_nonblocking_reader_does_not_wait(fifo: &Fifo) {
        let reader = fifo.open(OFlags::RDONLY | OFlags::NONBLOCK).unwrap();
        assert_eq!(take(&reader, 1), Ok(vec![]));
    }

    /// 1271: with O_NONBLOCK a writer is refused where there is no reader.
    fn a_nonblocking_writer_is_refused(fifo: &Fifo) {
        let writer = || fifo.open(OFlags::WRONLY | OFlags::NONBLOCK).err();
        assert_eq!(writer(), Some(Errno::NXIO));
        let reader = fifo.reader();
        assert_eq!(writer(), None);
        drop(reader);
        assert_eq!(writer(), Some(Errno::NXIO));
    }

    /// 1250, 1272: a reader that waits is a reader to a writer that will not wait.
    fn a_waiting_reader_is_found(fifo: &Fifo) {
        let reader = fifo.opening(OFlags::RDONLY);
        let writer = fifo.open(OFlags::WRONLY | OFlags::NONBLOCK).unwrap();
        let reader = reader.join().unwrap();
        assert_eq!(put(&writer, b"x"), Ok(1));
        assert_eq!(take(&reader, 1), Ok(b"x".into()));
    }

    /// 1276, 1253: a writer that waits is a writer to a reader that will not wait: it
    /// finds the FIFO empty, not at its end.
    fn a_waiting_writer_is_found(fifo: &Fifo) {
        let writer = fifo.opening(OFlags::WRONLY);
        let reader = fifo.reader();
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        assert!(writer.join().is_ok());
    }

    /// 1285 to 1299: who opens for both waits for nobody, and can talk to itself.
    fn for_both_nobody_waits(fifo: &Fifo) {
        for flags in [OFlags::RDWR, OFlags::RDWR | OFlags::NONBLOCK] {
            let both = fifo.open(flags).unwrap();
            assert_eq!(put(&both, b"echo"), Ok(4));
            assert_eq!(take(&both, 10), Ok(b"echo".into()));
        }
    }

    /// 1296, 1298: who opens for both is the writer that a reader waits for.
    fn for_both_releases_a_reader(fifo: &Fifo) {
        let reader = fifo.opening(OFlags::RDONLY);
        let both = fifo.open(OFlags::RDWR).unwrap();
        let reader = reader.join().unwrap();
        assert_eq!(put(&both, b"x"), Ok(1));
        assert_eq!(take(&reader, 1), Ok(b"x".into()));
    }

    /// 1295, 1298: and the reader that a writer waits for.
    fn for_both_releases_a_writer(fifo: &Fifo) {
        let writer = fifo.opening(OFlags::WRONLY);
        let both = fifo.open(OFlags::RDWR).unwrap();
        let writer = writer.join().unwrap();
        assert_eq!(put(&writer, b"x"), Ok(1));
        assert_eq!(take(&both, 1), Ok(b"x".into()));
    }

    /// 1201, 1277: one writer releases all readers that wait.
    fn one_writer_releases_all_readers(fifo: &Fifo) {
        let readers = [(); 3].map(|()| fifo.opening(OFlags::RDONLY));
        let writer = fifo.open(OFlags::WRONLY).unwrap();
        let readers = readers.map(|reader| reader.join().unwrap());
        for reader in &readers {
            assert_eq!(put(&writer, b"x"), Ok(1));
            assert_eq!(take(reader, 10), Ok(b"x".into()));
        }
    }

    /// 1201, 1251: one reader releases all writers that wait.
    fn one_reader_releases_all_writers(fifo: &Fifo) {
        let writers = [(); 3].map(|()| fifo.opening(OFlags::WRONLY));
        let reader = fifo.open(OFlags::RDONLY).unwrap();
        let writers = writers.map(|writer| writer.join().unwrap());
        for writer in &writers {
            assert_eq!(put(writer, b"x"), Ok(1));
        }
        assert_eq!(take(&reader, 10), Ok(b"xxx".into()));
    }

    /// 1253: a reader is no partner for a reader, whether it waits or not.
    fn readers_do_not_release_each_other(fifo: &Fifo) {
        let _there = fifo.reader();
        let first = fifo.opening(OFlags::RDONLY);
        let second = fifo.opening(OFlags::RDONLY);
        assert!(first.sleeps_on());
        let _writer = fifo.writer();
        assert!(first.join().is_ok() && second.join().is_ok());
    }

    /// 1279: nor is a writer for a writer.
    fn writers_do_not_release_each_other(fifo: &Fifo) {
        let (reader, _there) = fifo.blocking_ends();
        drop(reader);
        let first = fifo.opening(OFlags::WRONLY);
        let second = fifo.opening(OFlags::WRONLY);
        assert!(first.sleeps_on());
        let _reader = fifo.reader();
        assert!(first.join().is_ok() && second.join().is_ok());
    }

    /// 1253: who opens for reading waits for a writer, not for something to read.
    fn data_is_no_partner(fifo: &Fifo) {
        let (there, writer) = fifo.blocking_ends();
        assert_eq!(put(&writer, b"left"), Ok(4));
        drop(writer);
        let reader = fifo.opening(OFlags::RDONLY);
        let _writer = fifo.writer();
        assert_eq!(take(reader.join().unwrap(), 10), Ok(b"left".into()));
        drop(there);
    }

    /// 1185, 1196: a writer that came and left before the reader could look has been
    /// there all the same.
    fn a_writer_that_came_and_left_counts(fifo: &Fifo) {
        let reader = fifo.opening(OFlags::RDONLY);
        ahead_of(reader.tid(), || {
            let writer = fifo.writer();
            assert_eq!(put(&writer, b"gone"), Ok(4));
            drop(writer);
            assert!(!reader.sleeps_on() && !reader.has_returned(), "it is about to look");
        });
        let reader = reader.join().unwrap();
        assert_eq!(take(&reader, 10), Ok(b"gone".into()));
        assert_eq!(take(&reader, 10), Ok(vec![]));
    }

    /// 1185, 1196: so has a reader.
    fn a_reader_that_came_and_left_counts(fifo: &Fifo) {
        let writer = fifo.opening(OFlags::WRONLY);
        ahead_of(writer.tid(), || {
            drop(fifo.reader());
            assert!(!writer.sleeps_on() && !writer.has_returned(), "it is about to look");
        });
        assert_eq!(put(writer.join().unwrap(), b"x"), Err(Errno::PIPE));
    }

    /// 1187: who waits is woken by others' comings and goings, and waits on unless
    /// its partner was among them.
    fn a_close_is_no_partner(fifo: &Fifo) {
        let (reader, there) = fifo.blocking_ends();
        drop(reader);
        let writer = fifo.opening(OFlags::WRONLY);
        drop(there);
        writer.wait_until_asleep_again();
        let _reader = fifo.reader();
        assert!(writer.join().is_ok());
    }

    /// 1259, 1280: two processes meet, whoever comes first.
    fn processes_meet(fifo: &Fifo) {
        let child = Child::fork(|| {
            let reader = fifo.open(OFlags::RDONLY).unwrap();
            u8::from(take(&reader, 10) != Ok(b"there".into()))
        });
        until("the child waits", || child.task().asleep_in(&[libc::SYS_openat]));
        let writer = fifo.open(OFlags::WRONLY).unwrap();
        assert_eq!(put(&writer, b"there"), Ok(5));
        assert_eq!(child.wait(), 0);
    }

    /// 1224: two who come first at the same moment find one another.
    fn two_come_first_at_once(fifo: &Fifo) {
        let here = Arc::new(Barrier::new(2));
        let [one, other] = [(0, b"x"), (1, b"y")].map(|(cpu, byte)| {
            let (here, path) = (Arc::clone(&here), fifo.path());
            thread::spawn(move || {
                pin(None, cpu);
                for _ in 0..scaled(1000) {
                    here.wait();
                    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
                    let both = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
                    assert_eq!(put(&both, byte), Ok(1));
                    here.wait();
                    assert_eq!(queued(&both), 2);
                    here.wait();
                }
            })
        });
        assert!(one.join().is_ok() && other.join().is_ok());
    }

    /// 1301: access mode 3, which is neither, is refused, and nobody was there.
    fn no_access_is_none(fifo: &Fifo) {
        let neither = || fifo.open(OFlags::RDWR | OFlags::WRONLY).err();
        assert_eq!(neither(), Some(Errno::INVAL));
        let reader = fifo.opening(OFlags::RDONLY);
        assert_eq!(neither(), Some(Errno::INVAL));
        assert!(reader.sleeps_on());
        let _writer = fifo.writer();
        assert!(reader.join().is_ok());
    }

    /// A descriptor by O_PATH is no end: it waits for nobody and nobody finds it.
    fn a_path_is_no_end(fifo: &Fifo) {
        let path = fifo.open(OFlags::PATH).unwrap();
        assert_eq!(take(&path, 1), Err(Errno::BADF));
        let refused = fifo.open(OFlags::WRONLY | OFlags::NONBLOCK);
        assert_eq!(refused.err(), Some(Errno::NXIO));
        let reader = fifo.opening(OFlags::RDONLY);
        let _path = fifo.open(OFlags::PATH).unwrap();
        assert!(reader.sleeps_on());
        let _writer = fifo.writer();
        assert!(reader.join().is_ok());
    }

    /// 1213: one more end can be opened by way of another, or of a path.
    fn a_descriptor_is_a_way_to_another(fifo: &Fifo) {
        let path = fifo.open(OFlags::PATH).unwrap();
        let reader = reopen(&path, OFlags::RDONLY | OFlags::NONBLOCK).unwrap();
        let writer = reopen(&reader, OFlags::WRONLY).unwrap();
        assert_eq!(put(&writer, b"x"), Ok(1));
        assert_eq!(take(&reader, 1), Ok(b"x".into()));
        drop(reader);
        assert_eq!(reopen(&writer, OFlags::WRONLY | OFlags::NONBLOCK).err(), Some(Errno::NXIO));
    }

    /// It exists, has nothing to truncate, and no end but one.
    fn flags_for_files_do_no_harm(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        assert_eq!(put(&writer, b"kept"), Ok(4));
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND | OFlags::NOCTTY;
        let other = fifo.open(OFlags::WRONLY | OFlags::NOFOLLOW | flags).unwrap();
        assert_eq!(put(&other, b", and more"), Ok(10));
        assert_eq!(take(&reader, 20), Ok(b"kept, and more".into()));
    }

    /// Who is refused for what the node is was not there.
    fn flags_for_others_are_refused(fifo: &Fifo) {
        let reader = fifo.opening(OFlags::RDONLY);
        let open = |flags| fifo.open(OFlags::WRONLY | flags).err();
        assert_eq!(open(OFlags::CREATE | OFlags::EXCL), Some(Errno::EXIST));
        assert_eq!(open(OFlags::DIRECTORY), Some(Errno::NOTDIR));
        assert!(reader.sleeps_on());
        let _writer = fifo.writer();
        assert!(reader.join().is_ok());
    }

    /// O_DIRECT cannot be had at once. The kernel says so at the end: the reader that
    /// waited for the writer has found one, which is gone.
    fn packets_are_refused_at_the_end(fifo: &Fifo) {
        let packets = || fifo.open(OFlags::WRONLY | OFlags::NONBLOCK | OFlags::DIRECT).err();
        assert_eq!(packets(), Some(Errno::NXIO));
        let reader = fifo.opening(OFlags::RDONLY);
        assert_eq!(packets(), Some(Errno::INVAL));
        let reader = reader.join().unwrap();
        assert_eq!(take(&reader, 1), Ok(vec![]));
        assert_eq!(poll_now(&reader, PollFlags::all()), PollFlags::HUP);
    }

    /// The flags stay with the file, but for those that are about the opening.
    fn flags_are_shown(fifo: &Fifo) {
        let large = OFlags::from_bits_retain(0o100_000);
        let flags = |fd: &Fd| fcntl_getfl(fd).unwrap() - large;
        let reader = fifo.reader();
        assert_eq!(flags(&reader), OFlags::RDONLY | OFlags::NONBLOCK);
        blocking(&reader);
        assert_eq!(flags(&reader), OFlags::RDONLY);
        let writer = fifo.open(OFlags::WRONLY | OFlags::TRUNC | OFlags::APPEND).unwrap();
        assert_eq!(flags(&writer), OFlags::WRONLY | OFlags::APPEND);
        assert_eq!(flags(&fifo.both()), OFlags::RDWR | OFlags::NONBLOCK);
    }

    /// All ends are one node.
    fn an_end_is_the_node(fifo: &Fifo) {
        let both = fifo.both();
        let end = fstat(&both).unwrap();
        let node = rustix::fs::stat(fifo.path()).unwrap();
        assert_eq!((end.st_dev, end.st_ino), (node.st_dev, node.st_ino));
        assert_eq!((end.st_mode & 0o7777, end.st_size), (0o600, 0));
        let link = fs::read_link(path(&both));
        assert_eq!(link.unwrap(), fifo.path());
    }
}

/// Opens what is behind a descriptor once more.
fn reopen(fd: &Fd, flags: OFlags) -> Result<Fd, Errno> {
    let fd = rustix::fs::open(path(fd), flags | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Fd::new(fd))
}
