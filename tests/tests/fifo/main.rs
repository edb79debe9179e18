// SPDX-License-Identifier: GPL-2.0

//! The FIFO behaves as the kernel's does.
//!
//! Each case is one behavior, and names the lines of fs/pipe.c (Linux 7.3) that it
//! exercises; a case that names none exercises what the kernel's core makes of the
//! operations and modes that a FIFO has, or has not. What an end does as any pipe's
//! does is tried in pipe/.
//!
//! `make coverage FILE=fs/pipe.c T=fifo` shows that the native halves reach each line of
//! fifo_open, wait_for_partner and pipe_release.

mod ends;
mod files;
mod interrupted;
mod life;
mod limits;
mod nodes;
mod opening;
mod poll;
