// SPDX-License-Identifier: GPL-2.0

//! The counter behaves as the kernel's eventfd does.
//!
//! Each case is one behavior, and names the lines of fs/eventfd.c (Linux 7.3)
//! that it exercises; a case that names none exercises what the kernel's core
//! makes of the file operations and modes that eventfd has, or has not (lines
//! 302 to 311 and 403 to 405).
//!
//! What user space cannot reach has no case. POLLERR at ULLONG_MAX (168, 169) and
//! eventfd_signal belong to the kernel's own users of eventfds, who refuse ours.
//! The wake-up with EPOLLHUP (113) finds nobody: whoever polls holds the file, and
//! epoll has left the queue by then.

mod asynchronous;
mod blocking;
mod epoll;
mod files;
mod poll;
mod processes;
mod values;
mod vectored;
