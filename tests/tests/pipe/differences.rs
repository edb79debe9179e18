// SPDX-License-Identifier: GPL-2.0

//! Where ours is not what the kernel's is: calls that take the kernel's own pipes to
//! pieces, and no file of anybody else's. The README has these in its table.

use std::os::fd::AsFd;

use ipcdemo_tests::pipe::{fill, put, queued, take};
use ipcdemo_tests::{Errno, Fd, Sleeper, Subject, ours};
use rustix::fs::{MemfdFlags, Mode, OFlags, fcntl_setfl, memfd_create, open, sendfile};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{IoSliceRaw, SpliceFlags, splice, tee, vmsplice};

const NATIVE: Subject = Subject::Native;
const NONE: SpliceFlags = SpliceFlags::empty();

ours! {
    by ipcdemo_tests::pipe::together;

    /// fs/splice.c, do_tee: what is in a pipe cannot be shared with another.
    fn it_cannot_be_teed(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (three(s), NATIVE.pipe());
        assert_eq!(tee(&reader, &to_theirs, 3, NONE), Err(Errno::INVAL));
        assert_eq!(put(&to_theirs, b"def"), Ok(3));
        assert_eq!(tee(&theirs, &writer, 3, NONE), Err(Errno::INVAL));
        assert_eq!(queued(&reader), 3);
    }

    /// fs/splice.c, vmsplice: nor can a process's pages be given to it, or taken from it.
    fn no_memory_can_be_spliced(s: Subject) {
        let (reader, writer) = three(s);
        let mut byte = [0];
        let segments = [IoSliceRaw::from_slice_mut(&mut byte)];
        for end in [reader, writer] {
            // SAFETY: Nothing is given away that is not the array, nor written beside it.
            let result = unsafe { vmsplice(&end, &segments, NONE) };
            assert_eq!(result, Err(Errno::BADF));
        }
    }

    /// fs/splice.c:1381: from ours to a file or a socket, and to ours from a file, there is no
    /// pipe that the kernel knows.
    fn only_to_and_from_their_pipes_it_can_be_spliced(s: Subject) {
        let (reader, writer) = three(s);
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
    }

    /// fs/splice.c:1381: nor from ours to ours.
    fn two_of_ours_cannot_be_spliced(s: Subject) {
        let ((reader, _writer), (_other, to_other)) = (three(s), three(s));
        assert_eq!(splice_3(&reader, &to_other), Err(Errno::INVAL));
    }

    /// fs/splice.c:1316, 1330, 1360: a position in it is invalid, and not ESPIPE.
    fn a_position_to_splice_at_is_invalid(s: Subject) {
        let ((reader, writer), (theirs, to_theirs)) = (three(s), NATIVE.pipe());
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
    }

    /// fs/splice.c:1338: nor may it be in append mode, which means nothing to a pipe.
    fn nothing_is_spliced_in_append_mode(s: Subject) {
        let ((_reader, writer), (theirs, to_theirs)) = (three(s), NATIVE.pipe());
        assert_eq!(put(&to_theirs, b"def"), Ok(3));
        fcntl_setfl(&writer, OFlags::APPEND).unwrap();
        assert_eq!(splice_3(&theirs, &writer), Err(Errno::INVAL));
    }

    /// fs/splice.c, iter_file_splice_write: what is spliced into ours is written, and so packets
    /// where O_DIRECT says so.
    fn what_is_spliced_in_becomes_packets(s: Subject) {
        let [native, module] = [NATIVE, s].map(|subject| {
            let ((reader, writer), (theirs, to_theirs)) = (subject.pipe(), NATIVE.pipe());
            fcntl_setfl(&writer, OFlags::DIRECT).unwrap();
            assert_eq!(put(&to_theirs, b"abc"), Ok(3));
            assert_eq!(splice_3(&theirs, &writer), Ok(3));
            assert_eq!(take(&reader, 1).unwrap(), b"a");
            queued(&reader)
        });
        assert_eq!((native, module), (2, 0));
    }

    /// fs/splice.c:1280, splice_file_to_pipe: for room in theirs it is waited before we are asked.
    fn its_mode_says_nothing_of_their_room(s: Subject) {
        let (theirs, to_theirs) = NATIVE.pipe();
        let full = fill(&to_theirs);
        let (reader, writer) = NATIVE.pipe();
        assert_eq!(put(&writer, b"abc"), Ok(3));
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        assert_eq!(splice_3(&reader, &to_theirs), Err(Errno::AGAIN));
        let (reader, _writer) = three(s);
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        let splice = Sleeper::new(&[libc::SYS_splice], move || splice_3(&reader, &to_theirs));
        assert_eq!(take(&theirs, full.len()).unwrap(), full);
        assert_eq!(splice.join(), Ok(3));
        assert_eq!(take(&theirs, 10).unwrap(), b"abc");
    }

    /// fs/splice.c:1280, splice_file_to_pipe: as a file it can be sent to one of their pipes.
    fn it_can_be_sent_to_a_pipe(s: Subject) {
        let ((reader, _writer), (theirs, to_theirs)) = (three(s), NATIVE.pipe());
        assert_eq!(sendfile(&to_theirs, &reader, None, 100), Ok(3));
        assert_eq!(take(&theirs, 100).unwrap(), b"abc");
        let (theirs, to_theirs) = NATIVE.pipe();
        assert_eq!(put(&to_theirs, b"abc"), Ok(3));
        let (_other, to_other) = NATIVE.pipe();
        assert_eq!(sendfile(&to_other, &theirs, None, 100), Err(Errno::INVAL));
    }
}

/// A pipe with three bytes in it.
fn three(s: Subject) -> (Fd, Fd) {
    let (reader, writer) = s.pipe();
    assert_eq!(put(&writer, b"abc"), Ok(3));
    (reader, writer)
}

fn splice_3(from: impl AsFd, to: impl AsFd) -> Result<usize, Errno> {
    splice(from, None, to, None, 3, NONE)
}
