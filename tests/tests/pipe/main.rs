// SPDX-License-Identifier: GPL-2.0

//! The pipe behaves as the kernel's does.
//!
//! Each case is one behavior, and names the lines of fs/pipe.c (Linux 7.3.4) that it
//! exercises, or what else of the kernel's source decides it. Where ours is
//! something else is in differences.rs.
//!
//! `make coverage FILE=fs/pipe.c T=pipe` shows which lines the native sides reach: 682 of
//! 819. The others are
//! - 483 to 489, 679 to 692, 1182 to 1197, 1254 to 1260, 1273, 1280 to 1282 and 1311 to
//!   1320: a FIFO's, which has tests of its own;
//! - 325 to 332, 404 to 406, 528, 1019 to 1025, 1453 and 1506: a watch queue's, which none of
//!   the guests' kernels has (CONFIG_WATCH_QUEUE), nor ours;
//! - 161, 593 to 595, 846, 887, 975 and 1221: when memory is out; that takes fault
//!   injection;
//! - 1042 to 1044: when there is a file left for one end and none for the other; the kernel
//!   does not count its files well enough to be brought there;
//! - 174 and 1225 to 1229: when two writers fill the pool of pages at a time, and when two
//!   processes open a pipe anew that all have closed: at most by chance;
//! - 413 to 415 and 562: when a file's page that was spliced in turns out not to be readable;
//! - 225 to 264: FUSE takes a pipe's pages for good by these; 291 to 295: and others give
//!   pages of theirs, with this to release them;
//! - 1100 to 1109: for architectures whose pipe(2) is another;
//! - 1381, 1529 and 1530: cannot be: the size would have to be beyond 2^31, and the command
//!   another than the two that lead there;
//! - 1549 to 1557 and 1618 to 1633: at boot, before the count begins.

mod asynchronous;
mod blocking;
mod creation;
mod differences;
mod epoll;
mod files;
mod limits;
mod packets;
mod poll;
mod processes;
mod reopening;
mod sigio;
mod size;
mod splice;
mod transfers;
mod vectored;
mod waking;

ipcdemo_tests::sides!();
