// SPDX-License-Identifier: GPL-2.0

//! Misc devices.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h).

use crate::abstractions::{
    module,
    vfs::file::{FileOperations, FileVtable}, //
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc,
    types::{ForeignOwnable, Opaque}, //
};

/// What is behind a node.
pub(crate) trait Node: Send + Sync + 'static {
    /// What its files are on.
    type File: FileOperations;

    /// Gives what a file is to be on that is being opened.
    ///
    /// Context: may sleep, but not for long: no other misc device can be opened meanwhile.
    fn open(&self) -> Result<Arc<Self::File>>;
}

/// Behind a node whose files are all on one object.
pub(crate) struct Shared<T>(pub(crate) Arc<T>);

impl<T: FileOperations> Node for Shared<T> {
    type File = T;

    fn open(&self) -> Result<Arc<T>> {
        Ok(self.0.clone())
    }
}

/// A node under `/dev`.
///
/// The kernel crate's `MiscDevice` knows neither `poll` nor `FMODE_NOWAIT`, hence this.
///
/// # Invariants
///
/// `device` is registered, with [`MiscNode::VTABLE`] as its operations.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct MiscNode<T: Node> {
    // First, so that a pointer to it is one to the node.
    #[pin]
    device: Opaque<kernel::bindings::miscdevice>,
    inner: T,
}

// SAFETY: A misc device may be deregistered from any thread, and `T` is `Send` and `Sync`.
unsafe impl<T: Node> Send for MiscNode<T> {}
// SAFETY: Nothing of it can be changed through a shared reference.
unsafe impl<T: Node> Sync for MiscNode<T> {}

impl<T: Node> MiscNode<T> {
    /// The operations of the node's files, and how to open one.
    const VTABLE: kernel::bindings::file_operations = kernel::bindings::file_operations {
        open: Some(Self::open),
        ..FileVtable::<T::File>::VTABLE
    };

    const fn fops() -> &'static kernel::bindings::file_operations {
        &Self::VTABLE
    }

    /// Registers `/dev/NAME`, which only root may open until someone changes its mode.
    ///
    /// Errors: `ENOMEM`, `EBUSY` if no minor number is free, `EEXIST` if there is a device of that
    /// name.
    pub(crate) fn register(name: &'static CStr, inner: T) -> impl PinInit<Self, Error> {
        // INVARIANT: If this succeeds, the device is registered.
        try_pin_init!(Self {
            inner,
            device <- Opaque::try_ffi_init(move |slot: *mut kernel::bindings::miscdevice| {
                let mut device: kernel::bindings::miscdevice = pin_init::zeroed();
                device.minor = kernel::bindings::MISC_DYNAMIC_MINOR as c_int;
                device.name = name.as_char_ptr();
                device.fops = Self::fops();
                device.mode = 0o600;
                // SAFETY: `slot` is valid for writing.
                unsafe { slot.write(device) };
                // SAFETY: The device is filled in, pinned, and deregistered before its memory goes
                // away. From here on it can be opened: `inner` is initialized before this field.
                to_result(unsafe { kernel::bindings::misc_register(slot) })
            }),
        })
    }

    /// # Safety
    ///
    /// To be called by `misc_open` as this node's `open`.
    unsafe extern "C" fn open(
        _inode: *mut kernel::bindings::inode,
        file: *mut kernel::bindings::file,
    ) -> c_int {
        // A node that comes after this one may still fail the module's init, which would free it with the file open.
        if !module::is_live() {
            return ENODEV.to_errno();
        }
        // SAFETY: `misc_open` set `private_data` to the device, which is the first field of a
        // `repr(C)` node, and holds the lock that `misc_deregister` needs, so the node is there.
        let node = unsafe { &*(*file).private_data.cast::<Self>() };
        match node.inner.open() {
            Ok(object) => {
                // SAFETY: The file is being opened, so that nobody else uses it.
                unsafe {
                    (*file).private_data = object.into_foreign();
                    (*file).f_mode |= FileVtable::<T::File>::EXTRA_MODE;
                }
                0
            }
            Err(error) => error.to_errno(),
        }
    }
}

#[pinned_drop]
impl<T: Node> PinnedDrop for MiscNode<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants, the device is registered.
        unsafe { kernel::bindings::misc_deregister(self.device.get()) };
    }
}
