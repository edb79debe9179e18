// SPDX-License-Identifier: GPL-2.0

//! The interface as the C header has it, and the bare ioctl.
//!
//! The rest of the crate is the safe and typed face of this; tests of bad input
//! are its other user.

use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

// Named and documented for C, by bindgen.
#[allow(missing_docs, non_camel_case_types, clippy::undocumented_unsafe_blocks)]
mod uapi {
    include!(concat!(env!("OUT_DIR"), "/uapi.rs"));
}
pub use uapi::*;

/// Sends `request` with `arg` to `fd`, whatever they are.
///
/// # Safety
///
/// `arg` must be what `request` asks for, or something that the kernel cannot
/// read or write at all.
#[inline]
pub unsafe fn ioctl(fd: BorrowedFd<'_>, request: u32, arg: *mut c_void) -> io::Result<i32> {
    // SAFETY: By this function's own contract.
    Ok(unsafe { rustix::ioctl::ioctl(fd, Request { request, arg }) }?)
}

/// A request that may write to its argument, and whose answer is a number.
struct Request {
    request: u32,
    arg: *mut c_void,
}

// SAFETY: Who makes one answers for the argument.
unsafe impl Ioctl for Request {
    type Output = i32;

    const IS_MUTATING: bool = true;

    #[inline]
    fn opcode(&self) -> Opcode {
        self.request
    }

    #[inline]
    fn as_ptr(&mut self) -> *mut c_void {
        self.arg
    }

    #[inline]
    unsafe fn output_from_ptr(answer: IoctlOutput, _arg: *mut c_void) -> rustix::io::Result<i32> {
        Ok(answer)
    }
}

/// The struct size that travels in a request's number.
#[must_use]
pub const fn request_size(request: u32) -> usize {
    ((request >> SIZE_SHIFT) & SIZE_MASK) as usize
}

/// The same request for a struct of another size, as an older or newer user of
/// the interface would send it.
///
/// # Panics
///
/// If an ioctl number cannot carry `size`.
#[must_use]
pub const fn with_size(request: u32, size: usize) -> u32 {
    assert!(size <= SIZE_MASK as usize);
    (request & !(SIZE_MASK << SIZE_SHIFT)) | ((size as u32) << SIZE_SHIFT)
}

// _IOC_SIZESHIFT and _IOC_SIZEBITS of asm-generic/ioctl.h.
const SIZE_SHIFT: u32 = 16;
const SIZE_MASK: u32 = (1 << 14) - 1;
