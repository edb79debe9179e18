// SPDX-License-Identifier: GPL-2.0

//! What keeps the module loaded, and what of it may outlive the module. Where it was
//! unloaded it is loaded again, for the tests that follow.

use std::fs::{self, File};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use ipcdemo_client::{Factory, Fifo, PipeFlags, fifo_path};
use ipcdemo_tests::inotify::{ReadFlags, Watch};
use ipcdemo_tests::module::{load, load_with, references, unload, unload_at_last};
use ipcdemo_tests::pipe::{bytes, path, put, take};
use ipcdemo_tests::{Errno, PAGE, Subject, serial, until};
use rustix::fs::{Mode, OFlags, fstat, open, readlink, stat};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::pipe::{SpliceFlags, splice};

serial! {
    /// A descriptor by which nothing can be read holds no file, but what leads to the
    /// pipe's inode; as long as it does, the module stays.
    fn a_path_descriptor_keeps_it() {
        let held = {
            let (reader, _writer) = pipe();
            open(path(&reader), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
        };
        assert_eq!(unload(), Err(Errno::AGAIN));
        let status = fstat(&held).unwrap();
        assert_eq!(status.st_mode, libc::S_IFIFO | 0o600);
        let name = readlink(path(&held), []).unwrap();
        assert_eq!(name.to_str().unwrap(), format!("pipe:[{}]", status.st_ino));
        // It is a way back to a pipe that everybody had left.
        let both = open(path(&held), OFlags::RDWR | OFlags::NONBLOCK, Mode::empty()).unwrap();
        assert_eq!(put(&both, b"abc"), Ok(3));
        assert_eq!(take(&both, 10).unwrap(), b"abc");
        drop(held);
        assert_eq!(unload(), Err(Errno::AGAIN));
        drop(both);
        assert_eq!(unload(), Ok(()));
        load();
    }

    /// A watch by inotify(7) keeps the inode, and so the module. It hears of the closes, and not
    /// of an unmount when nobody has the pipe or the factory open any more.
    fn a_watch_keeps_it() {
        let (reader, writer) = pipe();
        // None of the kernels but stock can watch.
        let Some(watch) = Watch::of(&path(&reader)) else { return };
        drop((reader, writer));
        assert_eq!(watch.events(), [ReadFlags::CLOSE_NOWRITE, ReadFlags::CLOSE_WRITE]);
        assert_eq!(unload(), Err(Errno::AGAIN));
        drop(watch);
        unload_at_last();
        load();
    }

    /// The module counts the factory's files, and each pipe once, however many descriptors lead
    /// to it. With the last close the count is 0, and the module goes at once.
    fn each_pipe_keeps_it_once() {
        assert_eq!(references(), 0);
        let factory = Factory::open().unwrap();
        assert_eq!(references(), 1);
        let (reader, writer) = factory.pipe(0, PipeFlags::CLOEXEC).unwrap();
        assert_eq!(references(), 2);
        let (flags, mode) = (OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let held = open(path(&reader), flags, mode).unwrap();
        let again = open(path(&reader), OFlags::RDWR | OFlags::CLOEXEC, mode).unwrap();
        assert_eq!(references(), 2);
        let others = [(); 3].map(|()| factory.pipe(0, PipeFlags::CLOEXEC).unwrap());
        assert_eq!(references(), 5);
        drop(factory);
        assert_eq!(references(), 4);
        drop((reader, writer, again));
        assert_eq!(references(), 4);
        drop(held);
        assert_eq!(references(), 3);
        drop(others);
        assert_eq!(references(), 0);
        assert_eq!(unload(), Ok(()));
        load();
    }

    /// The module goes in the same moment in which the last file is closed, each time.
    fn it_goes_at_once() {
        const ROUNDS: usize = 20;
        without_routes();
        for _ in 0..ROUNDS {
            let (reader, writer) = pipe();
            assert_eq!(put(&writer, b"abc"), Ok(3));
            assert_eq!(unload(), Err(Errno::AGAIN));
            drop((reader, writer));
            assert_eq!(unload(), Ok(()));
            load_with(c"");
        }
        with_routes();
    }

    /// The name under `/proc` is none of the pipe's: it can be held, and leads nowhere when
    /// the pipe is gone.
    fn a_name_keeps_nothing() {
        let (reader, writer) = pipe();
        let (name, flags) = (path(&reader), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC);
        let link = open(&name, flags, Mode::empty()).unwrap();
        let directory = fs::read_dir("/proc/self/fd").unwrap();
        drop((reader, writer));
        assert_eq!(unload(), Ok(()));
        assert!(directory.count() > 0);
        assert_eq!(readlink(&name, []).err(), Some(Errno::NOENT));
        assert!(fstat(&link).is_ok());
        load();
    }

    /// Others look at all descriptors, over and over, while a pipe ends and the module goes.
    fn a_look_at_descriptors_is_no_harm() {
        const ROUNDS: usize = 20;
        without_routes();
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let looking = {
            let (stop, looks) = (Arc::clone(&stop), Arc::clone(&looks));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
                        // It may be gone by now; if not, it is held for a moment.
                        let is_pipe = readlink(entry.path(), []).is_ok_and(|name| {
                            name.to_str().is_ok_and(|name| name.starts_with("pipe:["))
                        });
                        let found = stat(entry.path()).is_ok() && is_pipe;
                        looks.fetch_add(usize::from(found), Ordering::Relaxed);
                    }
                }
            })
        };
        for _ in 0..ROUNDS {
            let before = looks.load(Ordering::Relaxed);
            let (reader, writer) = pipe();
            until("they were seen", || looks.load(Ordering::Relaxed) > before + 1);
            drop((reader, writer));
            unload_at_last();
            load_with(c"");
        }
        with_routes();
        stop.store(true, Ordering::Relaxed);
        looking.join().unwrap();
    }

    /// A descriptor on its way through a socket is a descriptor.
    fn a_descriptor_under_way_keeps_it() {
        let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
        let (from, to) = socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        let (reader, writer) = pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [reader.as_fd()];
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            sendmsg(&from, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        }
        drop((reader, writer));
        assert_eq!(unload(), Err(Errno::AGAIN));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(&to, &mut [IoSliceMut::new(&mut byte)], &mut control, flags).unwrap();
        let received: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(take(&received[0], 10).unwrap(), b"abc");
        assert_eq!(unload(), Err(Errno::AGAIN));
        drop(received);
        assert_eq!(unload(), Ok(()));
        load();
    }

    /// What was spliced into a pipe of the kernel's is that pipe's, whatever becomes of ours.
    fn what_has_moved_outlives_it() {
        let (theirs, to_theirs) = Subject::Native.pipe();
        let all = bytes(3 * PAGE + 100);
        {
            let (reader, writer) = pipe();
            assert_eq!(put(&writer, &all), Ok(all.len()));
            let none = SpliceFlags::empty();
            // The last of it shares its page with what is left behind.
            let moved = splice(&reader, None, &to_theirs, None, all.len() - 50, none);
            assert_eq!(moved, Ok(all.len() - 50));
        }
        assert_eq!(unload(), Ok(()));
        // Whoever gets freed memory next writes something else there.
        let (_other, to_other) = Subject::Native.pipe();
        assert_eq!(put(&to_other, &vec![0xff; 16 * PAGE]), Ok(16 * PAGE));
        assert_eq!(take(&theirs, PAGE + 10).unwrap(), all[..PAGE + 10]);
        load();
        assert_eq!(take(&theirs, all.len()).unwrap(), all[PAGE + 10..all.len() - 50]);
    }

    /// So is what is never read.
    fn what_has_moved_may_end_after_it() {
        let (theirs, to_theirs) = Subject::Native.pipe();
        {
            let (reader, writer) = pipe();
            assert_eq!(put(&writer, &bytes(PAGE + 1)), Ok(PAGE + 1));
            let moved = splice(&reader, None, &to_theirs, None, PAGE + 1, SpliceFlags::empty());
            assert_eq!(moved, Ok(PAGE + 1));
        }
        assert_eq!(unload(), Ok(()));
        drop((theirs, to_theirs));
        load();
    }

    /// A FIFO's node is a name: who holds it holds nothing, and it goes with the module.
    fn a_node_keeps_nothing() {
        let factory = Factory::open().unwrap();
        factory.mkfifo("unload", 0o600).unwrap();
        drop(factory);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let places = [PathBuf::from(Fifo::PATH), fifo_path("unload")];
        let held = places.each_ref().map(|place| open(place, flags, Mode::empty()).unwrap());
        // Once it was open, so that the inode knows the device.
        for place in &places {
            drop(File::options().read(true).write(true).open(place).unwrap());
        }
        assert_eq!(unload(), Ok(()));
        let reopen = |fd: &OwnedFd| open(path(fd), OFlags::RDWR, Mode::empty()).err();
        assert_eq!(held.each_ref().map(reopen), [Some(Errno::NXIO); 2]);
        assert!(places.iter().all(|place| !place.exists()));
        assert!(held.iter().all(|fd| fstat(fd).is_ok()));
        load();
        assert!(places[0].exists() && !places[1].exists());
        // Of the same number, should it have got that again, or else nowhere.
        let error = reopen(&held[0]);
        assert!(error.is_none_or(|error| error == Errno::NXIO), "{error:?}");
    }

    /// An end of a FIFO keeps it, when its node is long gone.
    fn an_end_of_a_removed_fifo_keeps_it() {
        let factory = Factory::open().unwrap();
        factory.mkfifo("unload", 0o600).unwrap();
        let end = open(fifo_path("unload"), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
        factory.rmfifo("unload").unwrap();
        drop(factory);
        assert_eq!(put(&end, b"abc"), Ok(3));
        assert_eq!(unload(), Err(Errno::AGAIN));
        assert_eq!(take(&end, 10).unwrap(), b"abc");
        drop(end);
        assert_eq!(unload(), Ok(()));
        load();
    }
}

/// Loads the module without routes: it comes and goes faster.
fn without_routes() {
    unload_at_last();
    load_with(c"");
}

/// Loads it as it was before.
fn with_routes() {
    unload_at_last();
    load();
}

/// A pipe of the module's, by a factory of its own: one that stays open keeps the module.
fn pipe() -> (OwnedFd, OwnedFd) {
    let factory = Factory::open().unwrap_or_else(|error| panic!("{error}"));
    let (reader, writer) = factory.pipe(0, PipeFlags::CLOEXEC).unwrap();
    (reader.into(), writer.into())
}
