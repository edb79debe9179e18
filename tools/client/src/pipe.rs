// SPDX-License-Identifier: GPL-2.0

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

use bitflags::bitflags;

use crate::raw;

bitflags! {
    /// How a pipe is made: `O_*` of `pipe2(2)`, by value too.
    #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
    pub struct PipeFlags: u32 {
        /// The descriptors do not survive `exec`.
        const CLOEXEC = raw::IPCDEMO_CLOEXEC;
        /// What would sleep fails with EAGAIN, at both ends.
        const NONBLOCK = raw::IPCDEMO_NONBLOCK;
        /// Each write is a packet, and each read takes one.
        const DIRECT = raw::IPCDEMO_PIPE_DIRECT;
    }
}

/// The end of a pipe that is read from.
#[derive(Debug)]
pub struct PipeReader(File);

/// The end of a pipe that is written to.
#[derive(Debug)]
pub struct PipeWriter(File);

impl PipeReader {
    /// How many bytes the pipe holds at most: a power of two, in whole pages.
    pub fn capacity(&self) -> io::Result<u32> {
        capacity(self.as_fd())
    }

    /// Asks for room for so many bytes, and gives how many there is room for now.
    pub fn set_capacity(&self, bytes: u32) -> io::Result<u32> {
        set_capacity(self.as_fd(), bytes)
    }
}

impl PipeWriter {
    /// As [`PipeReader::capacity`].
    pub fn capacity(&self) -> io::Result<u32> {
        capacity(self.as_fd())
    }

    /// As [`PipeReader::set_capacity`].
    pub fn set_capacity(&self, bytes: u32) -> io::Result<u32> {
        set_capacity(self.as_fd(), bytes)
    }
}

fn capacity(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: The request takes no argument.
    let bytes = unsafe { raw::ioctl(fd, raw::IPCDEMO_IOC_PIPE_GET_SIZE, ptr::null_mut()) }?;
    Ok(bytes as u32)
}

fn set_capacity(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<u32> {
    let argument = ptr::without_provenance_mut(bytes as usize);
    // SAFETY: The request's argument is a number, not an address.
    let bytes = unsafe { raw::ioctl(fd, raw::IPCDEMO_IOC_PIPE_SET_SIZE, argument) }?;
    Ok(bytes as u32)
}

impl Read for &PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        (&self.0).read_vectored(buffers)
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for &PipeWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&self.0).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        (&self.0).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self).write(buffer)
    }

    fn write_vectored(&mut self, buffers: &[io::IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for PipeReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for PipeWriter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for PipeReader {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<OwnedFd> for PipeWriter {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<PipeReader> for OwnedFd {
    fn from(reader: PipeReader) -> Self {
        reader.0.into()
    }
}

impl From<PipeWriter> for OwnedFd {
    fn from(writer: PipeWriter) -> Self {
        writer.0.into()
    }
}

/// What users may ask of the module's pipes and FIFOs. The kernel's own count apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PipeLimits {
    /// The largest capacity that an unprivileged user may ask for, in bytes.
    pub max_size: u32,
    /// With more pages than this a user's new pipes are small; 0 for no limit.
    pub user_pages_soft: u64,
    /// With more pages than this a user gets no new pipe; 0 for no limit.
    pub user_pages_hard: u64,
    /// How many pages the caller's user has now.
    pub user_pages: u64,
}

/// Which limits to change, and to what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PipeLimitsChange {
    /// See [`PipeLimits::max_size`]; it is rounded up to a power of two, in whole pages.
    pub max_size: Option<u32>,
    /// See [`PipeLimits::user_pages_soft`].
    pub user_pages_soft: Option<u64>,
    /// See [`PipeLimits::user_pages_hard`].
    pub user_pages_hard: Option<u64>,
}

impl From<PipeLimitsChange> for raw::ipcdemo_pipe_limits_args {
    fn from(change: PipeLimitsChange) -> Self {
        let bit = |asked, bit| if asked { bit } else { 0 };
        Self {
            set: bit(change.max_size.is_some(), raw::IPCDEMO_LIMIT_MAX_SIZE)
                | bit(
                    change.user_pages_soft.is_some(),
                    raw::IPCDEMO_LIMIT_USER_PAGES_SOFT,
                )
                | bit(
                    change.user_pages_hard.is_some(),
                    raw::IPCDEMO_LIMIT_USER_PAGES_HARD,
                ),
            max_size: change.max_size.unwrap_or_default(),
            user_pages_soft: change.user_pages_soft.unwrap_or_default(),
            user_pages_hard: change.user_pages_hard.unwrap_or_default(),
            user_pages: 0,
        }
    }
}

impl From<raw::ipcdemo_pipe_limits_args> for PipeLimits {
    fn from(args: raw::ipcdemo_pipe_limits_args) -> Self {
        Self {
            max_size: args.max_size,
            user_pages_soft: args.user_pages_soft,
            user_pages_hard: args.user_pages_hard,
            user_pages: args.user_pages,
        }
    }
}
