// SPDX-License-Identifier: GPL-2.0

//! The FIFO behaves as the kernel's does.
//!
//! Each case is one behavior, and names the lines of fs/pipe.c (Linux 7.3) that it
//! exercises; a case that names none exercises what the kernel's core makes of the
//! operations and modes that a FIFO has, or has not. What an end does as any pipe's
//! does is tried in pipe/.

mod ends;
mod files;
mod interrupted;
mod life;
mod limits;
mod nodes;
mod opening;
mod poll;
