// SPDX-License-Identifier: GPL-2.0

use std::os::fd::OwnedFd;
use std::ptr;

use rustix::event::PollFlags;
use rustix::ioctl::{Updater, ioctl, opcode};
use rustix::mm::{MapFlags, ProtFlags, UserfaultfdFlags, mmap_anonymous, munmap, userfaultfd};

use crate::{Address, PAGE, poll_now};

const API: u64 = 0xaa;
const MODE_MISSING: u64 = 1;

/// `struct uffdio_api` of linux/userfaultfd.h.
#[repr(C)]
#[derive(Default)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`, and `struct uffdio_zeropage`, which has the same layout.
#[repr(C)]
#[derive(Default)]
struct UffdioRange {
    start: u64,
    len: u64,
    mode: u64,
    result: u64,
}

/// A page that is missing until the test gives it. A system call that copies to it or from it sleeps
/// in the middle of the copy, with all the locks that it holds there. See userfaultfd(2).
#[derive(Debug)]
pub struct MissingPage {
    page: *mut u8,
    faults: OwnedFd,
}

impl MissingPage {
    /// Maps it.
    ///
    /// # Panics
    ///
    /// If the caller is not root: the kernel does not wait for anybody else.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes system calls")]
    pub fn new() -> Self {
        let (flags, access) = (MapFlags::PRIVATE, ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: It names no address, so nothing else is mapped over.
        let page = unsafe { mmap_anonymous(ptr::null_mut(), PAGE, access, flags) };
        // SAFETY: Only the page below is registered, and no reference to its inside exists.
        let faults = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK) };
        let missing = Self {
            page: page.unwrap().cast(),
            faults: faults.unwrap(),
        };
        let mut api = UffdioApi {
            api: API,
            ..UffdioApi::default()
        };
        // SAFETY: UFFDIO_API takes this struct.
        let result = unsafe {
            let request =
                Updater::<{ opcode::read_write::<UffdioApi>(0xaa, 0x3f) }, _>::new(&mut api);
            ioctl(&missing.faults, request)
        };
        result.expect("the kernel knows this interface");
        let mut range = missing.range(MODE_MISSING);
        // SAFETY: UFFDIO_REGISTER takes this struct, and the page is ours.
        let result = unsafe {
            let request =
                Updater::<{ opcode::read_write::<UffdioRange>(0xaa, 0x00) }, _>::new(&mut range);
            ioctl(&missing.faults, request)
        };
        result.expect("the page can be missing");
        missing
    }

    fn range(&self, mode: u64) -> UffdioRange {
        UffdioRange {
            start: self.page.expose_provenance() as u64,
            len: PAGE as u64,
            mode,
            result: 0,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> Address<'_> {
        Address::of_page(self.page)
    }

    /// Whether a task sleeps for want of it.
    #[must_use]
    pub fn is_missed(&self) -> bool {
        poll_now(&self.faults, PollFlags::IN).contains(PollFlags::IN)
    }

    /// Puts a page of zeros there, and wakes the tasks that sleep for it.
    ///
    /// # Panics
    ///
    /// If there is one already.
    pub fn give(&self) {
        let mut range = self.range(0);
        // SAFETY: UFFDIO_ZEROPAGE takes this struct, and nothing is at the page's address.
        let result = unsafe {
            let request =
                Updater::<{ opcode::read_write::<UffdioRange>(0xaa, 0x04) }, _>::new(&mut range);
            ioctl(&self.faults, request)
        };
        result.expect("the page was missing");
    }
}

impl Drop for MissingPage {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours, and every address of it is gone by now.
        unsafe { munmap(self.page.cast(), PAGE) }.unwrap();
    }
}

// SAFETY: It is an address range, which only the kernel touches.
unsafe impl Send for MissingPage {}
// SAFETY: As above.
unsafe impl Sync for MissingPage {}
