// SPDX-License-Identifier: GPL-2.0

use std::os::fd::AsFd;

use ipcdemo_client::raw;

use crate::{Address, Errno};

/// ioctl(2) with any request and address.
///
/// # Safety
///
/// If the request makes the kernel follow a pointer inside of what is at the
/// address, that must lead to where it can do no harm either.
pub unsafe fn ioctl(fd: impl AsFd, request: u32, argument: Address<'_>) -> Result<i32, Errno> {
    // SAFETY: An `Address` is harmless, and so, by the caller, is the rest.
    let result = unsafe { raw::ioctl(fd.as_fd(), request, argument.pointer()) };
    result.map_err(|error| Errno::from_io_error(&error).unwrap())
}
