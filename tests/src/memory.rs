// SPDX-License-Identifier: GPL-2.0

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::Errno;
use crate::subject::last_error;

/// The size of a page.
pub const PAGE: usize = 4096;

/// What may be done to the first page of a [`Memory`].
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// A copy out to it faults.
    ReadOnly,
    /// Every copy faults.
    None,
}

/// A page, and after it one that cannot be touched. The test itself reaches it by
/// [`Memory::load`] and [`Memory::store`] only, so that the kernel may write there
/// at any time.
#[derive(Debug)]
pub struct Memory(*mut u8);

/// An address that the kernel can be given without harm to this process.
#[derive(Clone, Copy, Debug)]
pub struct Address<'memory>(usize, PhantomData<&'memory Memory>);

impl Memory {
    /// Maps it.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self::map(access, MapFlags::PRIVATE)
    }

    /// Maps it where 32 bits can name it.
    #[must_use]
    pub fn low(access: Access) -> Self {
        const MAP_32BIT: MapFlags = MapFlags::from_bits_retain(libc::MAP_32BIT as u32);
        Self::map(access, MapFlags::PRIVATE | MAP_32BIT)
    }

    fn map(access: Access, flags: MapFlags) -> Self {
        // SAFETY: It names no address, so nothing else is mapped over.
        let page = unsafe { mmap_anonymous(ptr::null_mut(), 2 * PAGE, ProtFlags::empty(), flags) };
        let memory = Self(page.unwrap().cast());
        memory.protect(access);
        memory
    }

    /// Changes what may be done to the first page.
    pub fn protect(&self, access: Access) {
        let flags = match access {
            Access::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
            Access::ReadOnly => MprotectFlags::READ,
            Access::None => MprotectFlags::empty(),
        };
        // SAFETY: The page is ours, and no reference to its inside exists.
        unsafe { mprotect(self.0.cast(), PAGE, flags) }.unwrap();
    }

    /// The address `length` bytes before the page that cannot be touched.
    #[must_use]
    pub fn before_end(&self, length: usize) -> Address<'_> {
        assert!(length <= PAGE);
        Address(self.0.addr() + PAGE - length, PhantomData)
    }

    /// Puts bytes at the end of the first page, and gives their address.
    pub fn store(&self, bytes: &[u8]) -> Address<'_> {
        let address = self.before_end(bytes.len());
        // SAFETY: So many bytes end where the page does; it must be writable.
        unsafe {
            let end = self.0.add(PAGE - bytes.len());
            ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len());
        }
        address
    }

    /// The last bytes of the first page.
    #[must_use]
    pub fn load(&self, length: usize) -> Vec<u8> {
        assert!(length <= PAGE);
        let mut bytes = vec![0; length];
        // SAFETY: As in `store`; it must be readable.
        unsafe {
            let end = self.0.add(PAGE - length);
            ptr::copy_nonoverlapping(end, bytes.as_mut_ptr(), length);
        }
        bytes
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours, and every address of it is gone by now.
        unsafe { munmap(self.0.cast(), 2 * PAGE) }.unwrap();
    }
}

// SAFETY: It is an address range, used through the kernel or by copies.
unsafe impl Send for Memory {}

impl Address<'static> {
    /// The null pointer.
    pub const NULL: Self = Self(0, PhantomData);
    /// Out of the range that a process may name at all.
    pub const KERNEL: Self = Self(0xffff_8880_0000_0000, PhantomData);
}

impl Address<'_> {
    /// That of a page that is mapped for as long.
    pub(crate) fn of_page(page: *mut u8) -> Self {
        Self(page.expose_provenance(), PhantomData)
    }

    /// The bare number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }

    /// For functions that take a pointer.
    #[must_use]
    pub fn pointer<T>(self) -> *mut T {
        ptr::with_exposed_provenance_mut(self.0)
    }
}

/// read(2) to an address.
pub fn read_to(fd: impl AsFd, address: Address<'_>, length: usize) -> Result<usize, Errno> {
    assert!(length <= PAGE);
    // SAFETY: The kernel writes within a `Memory`, or faults at its second page.
    let result = unsafe { libc::read(fd.as_fd().as_raw_fd(), address.pointer(), length) };
    usize::try_from(result).map_err(|_| last_error())
}

/// write(2) from an address.
pub fn write_from(fd: impl AsFd, address: Address<'_>, length: usize) -> Result<usize, Errno> {
    // SAFETY: The kernel only reads, and faults where it may not.
    let result = unsafe { libc::write(fd.as_fd().as_raw_fd(), address.pointer(), length) };
    usize::try_from(result).map_err(|_| last_error())
}
