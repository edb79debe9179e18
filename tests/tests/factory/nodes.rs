// SPDX-License-Identifier: GPL-2.0

//! The nodes under `/dev`, and the module that stands behind them.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Arc;

use ipcdemo_client::{Counter, CounterFlags, Factory, NullFlags, OpenError, Waitq, WaitqFlags};
use ipcdemo_tests::{Child, Errno, Fd, Sleeper, count, poll_now, read, serial, write};
use rustix::event::PollFlags;
use rustix::io::{ReadWriteFlags, preadv2};
use std::io::IoSliceMut;

use crate::open;

serial! {
    /// The nodes are root's alone, until root says otherwise.
    fn the_nodes_are_private() {
        for path in [Factory::PATH, Counter::SHARED_PATH, Waitq::SHARED_PATH] {
            let node = std::fs::metadata(path).unwrap();
            assert!(node.file_type().is_char_device(), "{path}");
            assert_eq!((node.mode() & 0o777, node.uid()), (0o600, 0), "{path}");
        }
    }

    /// Another user is told so, and what to do.
    fn another_user_is_refused() {
        let child = Child::fork(|| {
            // SAFETY: The child has one thread.
            assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
            let denied = |result| matches!(result, Err(OpenError::Denied { .. }));
            let factory = denied(Factory::open().map(drop));
            let counter = denied(Counter::open_shared(false).map(drop));
            let waitq = denied(Waitq::open_shared(false).map(drop));
            u8::from(!(factory && counter && waitq))
        });
        assert_eq!(child.wait(), 0);
    }

    /// Whoever opens the shared counter gets the same one.
    fn the_shared_counter_is_one() {
        let [one, other] = [(); 2].map(|()| shared(false));
        assert_eq!(write(&one, 3), Ok(()));
        assert_eq!(write(&other, 4), Ok(()));
        assert_eq!(read(&one), Ok(7));
        let reader = Sleeper::reading(&one);
        assert_eq!(write(&other, 1), Ok(()));
        assert_eq!(reader.join(), Ok(1));
    }

    /// It keeps its count while nobody has it open.
    fn the_shared_counter_remembers() {
        assert_eq!(write(shared(false), 5), Ok(()));
        assert_eq!(read(shared(false)), Ok(5));
    }

    /// The mode is each opener's own.
    fn the_mode_is_the_openers() {
        let (blocking, nonblocking) = (shared(false), shared(true));
        assert_eq!(read(&nonblocking), Err(Errno::AGAIN));
        let reader = Sleeper::reading(&blocking);
        assert_eq!(write(&nonblocking, 1), Ok(()));
        assert_eq!(reader.join(), Ok(1));
    }

    /// It can be polled, and told not to wait, as one of one's own.
    fn the_shared_counter_is_a_counter() {
        let counter = shared(false);
        assert_eq!(poll_now(&counter, PollFlags::all()), PollFlags::OUT);
        let mut value = [0; 8];
        let mut segments = [IoSliceMut::new(&mut value)];
        let result = preadv2(&counter, &mut segments, u64::MAX, ReadWriteFlags::NOWAIT);
        assert_eq!(result, Err(Errno::AGAIN));
        assert_eq!(count(&counter), 0);
    }

    /// A node has what an anonymous inode has not: an access mode.
    fn a_node_can_be_opened_one_way() {
        let path = Counter::SHARED_PATH;
        let reader = OpenOptions::new().read(true).open(path).unwrap();
        let writer = OpenOptions::new().write(true).open(path).unwrap();
        assert_eq!(write(&reader, 1), Err(Errno::BADF));
        assert_eq!(read(&writer), Err(Errno::BADF));
        assert_eq!(write(&writer, 1), Ok(()));
        assert_eq!(read(&reader), Ok(1));
    }

    /// What is shared is not listed: it is not left behind by anybody.
    fn shared_objects_are_not_listed() {
        let factory = open();
        let before = factory.list().unwrap();
        let shared = (shared(false), Waitq::open_shared(false).unwrap());
        assert_eq!(factory.list().unwrap(), before);
        drop(shared);
    }

    /// Whatever of the module's is open keeps it loaded: the factory, a node, or an
    /// object when the factory is long closed. And it works on.
    fn the_module_stays_while_it_is_used() {
        let openers: [fn() -> OwnedFd; 6] = [
            || open().as_fd().try_clone_to_owned().unwrap(),
            || Counter::open_shared(false).unwrap().into(),
            || open().counter(0, CounterFlags::CLOEXEC).unwrap().into(),
            || open().null(NullFlags::CLOEXEC).unwrap().into(),
            || Waitq::open_shared(false).unwrap().into(),
            || open().waitq(0, WaitqFlags::CLOEXEC).unwrap().into(),
        ];
        for opener in openers {
            let held = opener();
            assert_eq!(unload(c"ipcdemo"), Err(Errno::AGAIN));
            assert!(open().counter(1, CounterFlags::CLOEXEC).is_ok());
            drop(held);
        }
    }
}

fn shared(nonblock: bool) -> Fd {
    let counter = Counter::open_shared(nonblock).unwrap_or_else(|error| panic!("{error}"));
    Arc::new(counter.into())
}

/// delete_module(2), as rmmod(8) calls it: EAGAIN while somebody uses the module.
fn unload(name: &CStr) -> Result<(), Errno> {
    // SAFETY: The name is a C string.
    match unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()),
    }
}
