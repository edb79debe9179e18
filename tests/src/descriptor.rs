// SPDX-License-Identifier: GPL-2.0

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::Errno;
use crate::subject::last_error;

/// Reads a counter with a buffer of exactly its size.
pub fn read(fd: impl AsFd) -> Result<u64, Errno> {
    let mut value = [0; 8];
    let length = io::read(fd, &mut value)?;
    assert_eq!(length, 8, "a read is never partial");
    Ok(u64::from_ne_bytes(value))
}

/// Writes to a counter.
pub fn write(fd: impl AsFd, value: u64) -> Result<(), Errno> {
    let length = io::write(fd, &value.to_ne_bytes())?;
    assert_eq!(length, 8, "a write is never partial");
    Ok(())
}

/// The count, without taking it.
///
/// # Panics
///
/// If the descriptor is no counter's.
pub fn count(fd: impl AsFd) -> u64 {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let info = fs::read_to_string(path).unwrap();
    let (_, rest) = info.split_once("eventfd-count:").expect("it is a counter");
    u64::from_str_radix(rest.split_whitespace().next().unwrap(), 16).unwrap()
}

/// What poll(2) says of `events` at this moment.
///
/// # Panics
///
/// If poll fails.
pub fn poll_now(fd: impl AsFd, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::new(&fd, events)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).unwrap();
    fds[0].revents()
}

/// What the kernel says to a descriptor that it is to take for a netlink socket: mq_notify(2) looks up what SIGEV_THREAD
/// is to be sent to before it looks at the queue, of which there is none.
#[must_use]
pub fn as_a_socket(fd: impl AsFd) -> Errno {
    let cookie = [0_u8; 32];
    // SAFETY: It may be zero.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD;
    event.sigev_signo = fd.as_fd().as_raw_fd();
    event.sigev_value.sival_ptr = cookie.as_ptr().cast_mut().cast();
    // SAFETY: It reads both.
    let result = unsafe { libc::syscall(libc::SYS_mq_notify, -1, &event) };
    assert_eq!(result, -1, "there is no such queue");
    last_error()
}

/// Sends a descriptor, with a byte.
///
/// # Panics
///
/// If the socket does not take it.
pub fn send_descriptor(socket: impl AsFd, fd: impl AsFd) {
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let data = [IoSlice::new(b"x")];
    assert_eq!(
        sendmsg(socket, &data, &mut control, SendFlags::empty()),
        Ok(1)
    );
}

/// Receives a descriptor, which is closed on exec if asked for.
///
/// # Panics
///
/// If none comes.
pub fn receive_descriptor(socket: impl AsFd, is_cloexec: bool) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut data = [0];
    let mut data = [IoSliceMut::new(&mut data)];
    let mut flags = RecvFlags::empty();
    flags.set(RecvFlags::CMSG_CLOEXEC, is_cloexec);
    recvmsg(socket, &mut data, &mut control, flags).unwrap();
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .expect("a descriptor arrives")
}
