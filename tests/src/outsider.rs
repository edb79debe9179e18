// SPDX-License-Identifier: GPL-2.0

//! A process that makes the kernel's own eventfds and pipes for a member, whose calls the module answers.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use ipcdemo_client::PipeFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::subject::native;
use crate::{Subject, receive_descriptor, send_descriptor};

/// The socket to the process, if there is one.
static OUTSIDER: OnceLock<Mutex<OwnedFd>> = OnceLock::new();

/// Starts it. It ends with this process.
///
/// # Panics
///
/// If it cannot be started, or was before.
pub fn start() {
    let (here, there) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    // SAFETY: This process has one thread.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            drop(here);
            serve(&there);
            // SAFETY: It returns to nobody.
            unsafe { libc::_exit(0) }
        }
        _ => OUTSIDER.set(Mutex::new(here)).unwrap(),
    }
}

/// Makes them until nobody is left who could ask.
fn serve(socket: &OwnedFd) {
    let mut order = [0; ORDER];
    while rustix::io::read(socket, &mut order) == Ok(ORDER) {
        let [what, initval, flags] =
            [0, 4, 8].map(|at| u32::from_ne_bytes(*order[at..].first_chunk().unwrap()));
        let made = match what {
            EVENTFD => native(initval, flags).map(|eventfd| vec![eventfd]),
            _ => Subject::Native
                .create_pipe(flags)
                .map(|(reader, writer)| vec![reader, writer]),
        };
        for fd in made.expect("a member asks for what there is") {
            send_descriptor(socket, fd);
        }
        // No end of a pipe is open here any more.
        rustix::io::write(socket, b"x").unwrap();
    }
}

/// Of either call.
const CLOEXEC: u32 = PipeFlags::CLOEXEC.bits();
const ORDER: usize = 12;
const EVENTFD: u32 = 0;
const PIPE: u32 = 1;

/// Has it make an eventfd. None if there is no such process, as this is no member.
pub(crate) fn eventfd(initval: u32, flags: u32) -> Option<OwnedFd> {
    let [eventfd] = order([EVENTFD, initval, flags], flags & CLOEXEC != 0)?;
    Some(eventfd)
}

/// Has it make a pipe, as [`eventfd`].
pub(crate) fn pipe(flags: u32) -> Option<(OwnedFd, OwnedFd)> {
    let ends = order([PIPE, 0, flags], flags & CLOEXEC != 0)?;
    Some(ends.into())
}

fn order<const MADE: usize>(words: [u32; 3], is_cloexec: bool) -> Option<[OwnedFd; MADE]> {
    let socket = OUTSIDER.get()?;
    let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    rustix::io::write(&*socket, words.map(u32::to_ne_bytes).as_flattened()).unwrap();
    let made = [(); MADE].map(|()| receive_descriptor(&*socket, is_cloexec));
    assert_eq!(rustix::io::read(&*socket, &mut [0; 1]), Ok(1));
    Some(made)
}
