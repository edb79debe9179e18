// SPDX-License-Identifier: GPL-2.0

//! Where ours is not what the kernel's is: calls that take the kernel's own pipes to
//! pieces, and no file of anybody else's. The README has these in its table.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use ipcdemo_tests::pipe::{fill, put, queued, take, together};
use ipcdemo_tests::{Errno, Fd, Sleeper, Subject};
use rustix::fs::{MemfdFlags, Mode, OFlags, fcntl_setfl, memfd_create, open, sendfile};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{IoSliceRaw, SpliceFlags, splice, tee, vmsplice};

const NATIVE: Subject = Subject::Native;
const NONE: SpliceFlags = SpliceFlags::empty();

/// A pipe of ours with three bytes in it.
fn ours() -> (Fd, Fd) {
    let (reader, writer) = Subject::Module.pipe();
    assert_eq!(put(&writer, b"abc"), Ok(3));
    (reader, writer)
}

fn splice_3(from: impl AsFd, to: impl AsFd) -> Result<usize, Errno> {
    splice(from, None, to, None, 3, NONE)
}

/// fs/splice.c, do_tee: what is in a pipe cannot be shared with another.
#[test]
fn it_cannot_be_teed() {
    together(|| {
        let ((reader, writer), (theirs, to_theirs)) = (ours(), NATIVE.pipe());
        assert_eq!(tee(&reader, &to_theirs, 3, NONE), Err(Errno::INVAL));
        assert_eq!(put(&to_theirs, b"def"), Ok(3));
        assert_eq!(tee(&theirs, &writer, 3, NONE), Err(Errno::INVAL));
        assert_eq!(queued(&reader), 3);
    });
}

/// fs/splice.c, vmsplice: nor can a process's pages be given to it, or taken from it.
#[test]
fn no_memory_can_be_spliced() {
    together(|| {
        let (reader, writer) = ours();
        let mut byte = [0];
        let segments = [IoSliceRaw::from_slice_mut(&mut byte)];
        for end in [reader, writer] {
            // SAFETY: Nothing is given away that is not the array, nor written beside it.
            let result = unsafe { vmsplice(&end, &segments, NONE) };
            assert_eq!(result, Err(Errno::BADF));
        }
    });
}

/// fs/splice.c:1381: from ours to a file or a socket, and to ours from a file, there is no
/// pipe that the kernel knows.
#[test]
fn only_to_and_from_their_pipes_it_can_be_spliced() {
    together(|| {
        let (reader, writer) = ours();
        let file = memfd_create("file", MemfdFlags::CLOEXEC).unwrap();
        let kind = (
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
        );
        let (socket, _peer) = socketpair(kind.0, kind.1, kind.2, None).unwrap();
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let [null, zero] =
            ["/dev/null", "/dev/zero"].map(|path| open(path, flags, Mode::empty()).unwrap());
        for target in [&file, &socket, &null] {
            assert_eq!(splice_3(&reader, target), Err(Errno::INVAL));
        }
        for source in [&file, &socket, &zero] {
            assert_eq!(splice_3(source, &writer), Err(Errno::INVAL));
        }
        assert_eq!(queued(&reader), 3);
    });
}

/// fs/splice.c:1381: nor from ours to ours.
#[test]
fn two_of_ours_cannot_be_spliced() {
    together(|| {
        let ((reader, _writer), (_other, to_other)) = (ours(), ours());
        assert_eq!(splice_3(&reader, &to_other), Err(Errno::INVAL));
    });
}

/// fs/splice.c:1316, 1330, 1360: a position in it is invalid, and not ESPIPE.
#[test]
fn a_position_to_splice_at_is_invalid() {
    together(|| {
        let ((reader, writer), (theirs, to_theirs)) = (ours(), NATIVE.pipe());
        let mut position = 0;
        let at = Some(&mut position);
        assert_eq!(
            splice(&reader, at, &to_theirs, None, 3, NONE),
            Err(Errno::INVAL)
        );
        assert_eq!(put(&to_theirs, b"def"), Ok(3));
        let at = Some(&mut position);
        assert_eq!(
            splice(&theirs, None, &writer, at, 3, NONE),
            Err(Errno::INVAL)
        );
    });
}

/// fs/splice.c:1338: nor may it be in append mode, which means nothing to a pipe.
#[test]
fn nothing_is_spliced_in_append_mode() {
    together(|| {
        let ((_reader, writer), (theirs, to_theirs)) = (ours(), NATIVE.pipe());
        assert_eq!(put(&to_theirs, b"def"), Ok(3));
        fcntl_setfl(&writer, OFlags::APPEND).unwrap();
        assert_eq!(splice_3(&theirs, &writer), Err(Errno::INVAL));
    });
}

/// fs/splice.c, iter_file_splice_write: what is spliced into ours is written, and so packets
/// where O_DIRECT says so.
#[test]
fn what_is_spliced_in_becomes_packets() {
    together(|| {
        let [native, module] = [NATIVE, Subject::Module].map(|subject| {
            let ((reader, writer), (theirs, to_theirs)) = (subject.pipe(), NATIVE.pipe());
            fcntl_setfl(&writer, OFlags::DIRECT).unwrap();
            assert_eq!(put(&to_theirs, b"abc"), Ok(3));
            assert_eq!(splice_3(&theirs, &writer), Ok(3));
            assert_eq!(take(&reader, 1).unwrap(), b"a");
            queued(&reader)
        });
        assert_eq!((native, module), (2, 0));
    });
}

/// fs/splice.c:1280, splice_file_to_pipe: for room in theirs it is waited before we are asked.
#[test]
fn its_mode_says_nothing_of_their_room() {
    together(|| {
        let (theirs, to_theirs) = NATIVE.pipe();
        let full = fill(NATIVE, &to_theirs);
        let (reader, writer) = NATIVE.pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        assert_eq!(splice_3(&reader, &to_theirs), Err(Errno::AGAIN));
        let (reader, _writer) = ours();
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        let splice = Sleeper::new(&[libc::SYS_splice], move || splice_3(&reader, &to_theirs));
        assert_eq!(take(&theirs, full.len()).unwrap(), full);
        assert_eq!(splice.join(), Ok(3));
        assert_eq!(take(&theirs, 10).unwrap(), b"abc");
    });
}

/// fs/splice.c:1280, splice_file_to_pipe: as a file it can be sent to one of their pipes.
#[test]
fn it_can_be_sent_to_a_pipe() {
    together(|| {
        let ((reader, _writer), (theirs, to_theirs)) = (ours(), NATIVE.pipe());
        assert_eq!(sendfile(&to_theirs, &reader, None, 100), Ok(3));
        assert_eq!(take(&theirs, 100).unwrap(), b"abc");
        let (theirs, to_theirs) = NATIVE.pipe();
        assert_eq!(put(&to_theirs, b"abc"), Ok(3));
        let (_other, to_other) = NATIVE.pipe();
        assert_eq!(sendfile(&to_other, &theirs, None, 100), Err(Errno::INVAL));
    });
}

/// fs/pipe.c:1018: none of ours is a watch queue.
#[test]
fn it_is_no_watch_queue() {
    together(|| {
        let result = Subject::Module.create_pipe(OFlags::EXCL.bits());
        assert_eq!(result.err(), Some(Errno::INVAL));
    });
}

/// fs/proc/fd.c: a pipe has no line of its own.
#[test]
fn fdinfo_is_that_of_every_file() {
    together(|| {
        let names = |end: &Fd| -> Vec<String> {
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", end.as_raw_fd()));
            let name = |line: &str| line.split(':').next().unwrap().to_owned();
            info.unwrap().lines().map(name).collect()
        };
        let (native, (reader, writer)) = (NATIVE.pipe(), ours());
        let every_file = ["pos", "flags", "mnt_id", "ino"];
        assert_eq!(names(&native.0), every_file);
        for end in [reader, writer] {
            assert_eq!(names(&end), every_file);
        }
    });
}
