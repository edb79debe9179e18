// SPDX-License-Identifier: GPL-2.0

//! How a counter is made, or not, apart from what its arguments say.

use std::os::fd::{FromRawFd, OwnedFd};

use ipcdemo_tests::{Child, Errno, Fd, count};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::differential;

differential! {
    /// 406, 407: with no descriptor free there is none for a counter.
    fn it_needs_a_descriptor(s: Subject) {
        let child = Child::fork(|| {
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum }).unwrap();
            u8::from(s.create(0, 0).err() != Some(Errno::MFILE))
        });
        assert_eq!(child.wait(), 0);
    }

    /// 419, 421: eventfd(2), which has no flags, makes what eventfd2(2) makes with none.
    fn no_flags_are_those_of_the_old_call(_s: Subject) {
        let counter = old_call(3);
        assert_eq!(fcntl_getfl(&counter), Ok(OFlags::RDWR));
        assert_eq!(fcntl_getfd(&counter), Ok(FdFlags::empty()));
        assert_eq!(count(&counter), 3);
    }
}

fn old_call(initval: u32) -> Fd {
    // SAFETY: It takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_eventfd, initval) };
    assert!(fd >= 0, "eventfd: {}", std::io::Error::last_os_error());
    // SAFETY: The call succeeded, so this is a new descriptor, and ours.
    Fd::new(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
