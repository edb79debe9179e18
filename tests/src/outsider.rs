// SPDX-License-Identifier: GPL-2.0

//! A process that makes the kernel's own eventfds for a member, whose calls the module answers.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::subject::native;
use crate::{receive_descriptor, send_descriptor};

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

/// Makes eventfds until nobody is left who could ask.
fn serve(socket: &OwnedFd) {
    let mut order = [0; 8];
    while rustix::io::read(socket, &mut order) == Ok(order.len()) {
        let [initval, flags] =
            [0, 4].map(|at| u32::from_ne_bytes(*order[at..].first_chunk().unwrap()));
        let eventfd = native(initval, flags).expect("a member asks for what there is");
        send_descriptor(socket, &eventfd);
    }
}

/// Has it make an eventfd. None if there is no such process, as this is no member.
pub(crate) fn eventfd(initval: u32, flags: u32) -> Option<OwnedFd> {
    let socket = OUTSIDER.get()?;
    let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
    let order = [initval, flags].map(u32::to_ne_bytes);
    rustix::io::write(&*socket, order.as_flattened()).unwrap();
    let is_cloexec = flags & libc::EFD_CLOEXEC as u32 != 0;
    Some(receive_descriptor(&*socket, is_cloexec))
}
