// SPDX-License-Identifier: GPL-2.0

//! System calls as a 32-bit program makes them.

use std::arch::asm;
use std::os::fd::{AsFd, AsRawFd};

use crate::{Address, Errno};

/// `ioctl`'s number in the 32-bit table.
const IOCTL: u32 = 54;

/// ioctl(2) through the 32-bit entry, which leads to the file's `compat_ioctl`.
///
/// # Panics
///
/// If 32 bits do not hold the address: see [`crate::Memory::low`].
///
/// # Safety
///
/// What the kernel writes at `argument` must be of no concern to Rust.
pub unsafe fn ioctl(fd: impl AsFd, request: u32, argument: Address<'_>) -> Result<i32, Errno> {
    let argument = u32::try_from(argument.get()).expect("a low address");
    let fd = fd.as_fd().as_raw_fd() as u32;
    // SAFETY: By the caller.
    unsafe { syscall(IOCTL, [fd, request, argument]) }
}

/// A system call through the 32-bit entry, by its number there.
///
/// # Safety
///
/// What the call does must be of no concern to Rust.
pub unsafe fn syscall(number: u32, args: [u32; 3]) -> Result<i32, Errno> {
    let [first, second, third] = args.map(u64::from);
    let mut result = u64::from(number);
    // SAFETY: By the caller; rbx, which the compiler keeps to itself, is put back.
    unsafe {
        asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) first => _,
            inout("rax") result,
            in("rcx") second,
            in("rdx") third,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    match result as i32 {
        error if error < 0 => Err(Errno::from_raw_os_error(-error)),
        value => Ok(value),
    }
}
