// SPDX-License-Identifier: GPL-2.0

//! Character devices that come and go at run time, each one shared object.
//!
//! They are a region of device numbers of their own and no misc devices, because `misc_open` holds a
//! global lock across `open`, and an `open` here may sleep for as long as it takes.
//!
//! C headers: [`include/linux/cdev.h`](srctree/include/linux/cdev.h),
//! [`include/linux/device/class.h`](srctree/include/linux/device/class.h).

#[cfg(CONFIG_KUNIT = "y")]
mod kunit;

use crate::{
    abstractions::{
        module,
        tables::id_table::{self, Id, IdTable, InTable, Listed},
        vfs::{
            file::FileVtable,
            open::{self, Openable},
        }, //
    },
    LocalModule, //
};
use core::{
    mem::ManuallyDrop,
    ptr::{self, NonNull}, //
};
use kernel::{
    error::{from_err_ptr, to_result},
    module::this_module,
    prelude::*,
    sync::Arc,
    types::ForeignOwnable, //
};

/// An object that character devices can be made of.
pub(crate) trait Nodes: Openable {
    /// Returns the table of the objects and their devices.
    fn nodes() -> &'static NodeTable<Self>;
}

/// A table of objects and their devices. An id is the minor number plus 1.
///
/// Nobody else has access to it: a device's number stays its own for as long as the device is there.
pub(crate) struct NodeTable<T: Nodes>(IdTable<Behind<T>>);

impl<T: Nodes> NodeTable<T> {
    /// Returns a table with room for `max` devices, at least one. Panics if there cannot be so many: call it in a const
    /// context.
    pub(crate) const fn new(max: u32) -> Self {
        Self(IdTable::with_max(max))
    }
}

/// An object, and the device that leads to it.
struct Behind<T: Nodes> {
    object: Arc<T>,
    /// The address of its `struct cdev`, to be compared: another device may get its number.
    cdev: usize,
    id: Id,
    table: &'static IdTable<Self>,
}

// SAFETY: The id is a field, and the reference to the table does not change.
unsafe impl<T: Nodes> InTable for Behind<T> {
    fn id(&self) -> &Id {
        &self.id
    }

    fn table(&self) -> &IdTable<Self> {
        self.table
    }
}

/// A class of devices, and the device numbers for them.
///
/// # Invariants
///
/// Both are registered; `first` is the first of `count` numbers, with a minor of 0.
struct Region {
    class: NonNull<kernel::bindings::class>,
    first: kernel::bindings::dev_t,
    count: u32,
}

// SAFETY: Any thread may use a class and device numbers, and give them back.
unsafe impl Send for Region {}
// SAFETY: As above.
unsafe impl Sync for Region {}

impl Region {
    fn register(name: &'static CStr, count: u32) -> Result<Self> {
        let mut first = 0;
        // SAFETY: The name is copied or static.
        to_result(unsafe {
            kernel::bindings::alloc_chrdev_region(&mut first, 0, count, name.as_char_ptr())
        })?;
        // SAFETY: The name is static.
        let class = from_err_ptr(unsafe { kernel::bindings::class_create(name.as_char_ptr()) })
            .and_then(|class| NonNull::new(class).ok_or(ENOMEM))
            .inspect_err(|_| {
                // SAFETY: The numbers are ours and not in use.
                unsafe { kernel::bindings::unregister_chrdev_region(first, count) };
            })?;
        // SAFETY: The class is valid and has no devices yet, who alone would use this.
        unsafe { (*class.as_ptr()).devnode = Some(devnode) };
        Ok(Self {
            class,
            first,
            count,
        })
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, both are registered. No devices are left, because each
        // has a reference to this.
        unsafe {
            kernel::bindings::class_destroy(self.class.as_ptr());
            kernel::bindings::unregister_chrdev_region(self.first, self.count);
        }
    }
}

/// Tells devtmpfs the mode of a node.
///
/// # Safety
///
/// To be called as `class.devnode` of a device whose driver data is its mode.
unsafe extern "C" fn devnode(
    device: *const kernel::bindings::device,
    mode: *mut kernel::bindings::umode_t,
) -> *mut c_char {
    if !mode.is_null() {
        // SAFETY: By the function's requirements, and `mode` is valid if it is not null.
        unsafe {
            let data = kernel::bindings::dev_get_drvdata(device);
            *mode = data.addr() as kernel::bindings::umode_t;
        }
    }
    ptr::null_mut()
}

/// Room for character devices on objects of one type.
pub(crate) struct CharRegion<T: Nodes> {
    region: Arc<Region>,
    nodes: &'static NodeTable<T>,
}

impl<T: Nodes> CharRegion<T> {
    /// The operations of the objects' files, and how to open one.
    const VTABLE: kernel::bindings::file_operations = kernel::bindings::file_operations {
        open: Some(Self::open),
        ..FileVtable::<T>::VTABLE
    };

    /// Reserves room for as many devices as [`Nodes::nodes`] has: a major number, and a class, both called `name`.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `ENOMEM`, `EBUSY` if no major number is free, `EEXIST` if there is such a class.
    pub(crate) fn register(name: &'static CStr) -> Result<Self> {
        let nodes = T::nodes();
        let region = Arc::new(Region::register(name, nodes.0.max())?, GFP_KERNEL)?;
        Ok(Self { region, nodes })
    }

    /// Makes `/dev/NODE_NAME`, with the permissions in `mode`. Whoever opens it gets a file on
    /// `object`.
    ///
    /// The caller sees to it that no two calls at once are for one name.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `EEXIST` if there is a node of that name, `ENOSPC` if there are as many as there is
    /// room for, `ENOMEM`.
    pub(crate) fn add(&self, node_name: &CStr, mode: u16, object: Arc<T>) -> Result<CharNode<T>> {
        let region = self.region.clone();
        self.check_name(node_name)?;

        let new = NewCdev::new(const { &Self::VTABLE })?;
        let behind = Behind {
            object,
            cdev: new.0.addr().get(),
            id: Id::new(),
            table: &self.nodes.0,
        };
        // Before an open can come to the device.
        let behind = id_table::add(Arc::new(behind, GFP_KERNEL_ACCOUNT)?)?;
        let dev = region.first + (behind.id.get() - 1);
        let cdev = new.add(dev)?;

        // Set as a file type, too, so that it is not taken for unset if it allows nobody anything.
        let mode = u32::from(mode & 0o777) | kernel::bindings::S_IFCHR;
        // SAFETY: The class is valid, and its devices have their mode as driver data. The name is
        // what the format wants.
        from_err_ptr(unsafe {
            kernel::bindings::device_create(
                region.class.as_ptr(),
                ptr::null_mut(),
                dev,
                ptr::without_provenance_mut(mode as usize),
                c"%s".as_char_ptr(),
                node_name.as_char_ptr(),
            )
        })?;
        // INVARIANT: The device was created just now.
        Ok(CharNode {
            dev,
            _cdev: cdev,
            _behind: behind,
            region,
        })
    }

    /// sysfs would complain loudly of a name that is taken.
    fn check_name(&self, node_name: &CStr) -> Result {
        // SAFETY: The class is valid, and so is the name that is compared. What is found has one
        // more reference, which is given back.
        unsafe {
            let device = kernel::bindings::class_find_device(
                self.region.class.as_ptr(),
                ptr::null(),
                node_name.as_char_ptr().cast(),
                Some(kernel::bindings::device_match_name),
            );
            if device.is_null() {
                return Ok(());
            }
            kernel::bindings::put_device(device);
        }
        Err(EEXIST)
    }

    /// # Safety
    ///
    /// To be called by `chrdev_open` as the operation of a device of ours.
    unsafe extern "C" fn open(
        inode: *mut kernel::bindings::inode,
        file: *mut kernel::bindings::file,
    ) -> c_int {
        // The module's init may still fail, and free it with the file open.
        if !module::is_live() {
            return ENODEV.to_errno();
        }
        // SAFETY: The inode is valid, and that of a device, to which `chrdev_open` has a reference, so that the inode
        // leads to it.
        let (minor, cdev) = unsafe {
            (
                (*inode).i_rdev & kernel::bindings::MINORMASK,
                (*inode).__bindgen_anon_5.i_cdev.addr(),
            )
        };
        // An inode goes on to lead to the device that it was opened for, as long as somebody has that open. If the node
        // was removed meanwhile, its number may be another's.
        let Some(behind) = T::nodes()
            .0
            .get(minor + 1)
            .filter(|behind| behind.cdev == cdev)
        else {
            return ENXIO.to_errno();
        };
        let object = &behind.object;
        // SAFETY: The arguments are this operation's. Once it is open, the file gets what its operations expect.
        unsafe {
            match open::open(inode, file, &**object) {
                Ok(()) => {
                    open::finish::<T>(file, object.clone().into_foreign());
                    0
                }
                Err(error) => error.to_errno(),
            }
        }
    }
}

/// A device number that is in use.
///
/// # Invariants
///
/// Points at a `struct cdev` that `cdev_alloc` made and `cdev_add` added.
struct Cdev(NonNull<kernel::bindings::cdev>);

// SAFETY: Any thread may remove it.
unsafe impl Send for Cdev {}
// SAFETY: Nothing of it can be changed through a shared reference.
unsafe impl Sync for Cdev {}

/// A `struct cdev` that has no number yet.
///
/// # Invariants
///
/// `cdev_alloc` made it, and the reference is ours.
struct NewCdev(NonNull<kernel::bindings::cdev>);

impl NewCdev {
    fn new(fops: &'static kernel::bindings::file_operations) -> Result<Self> {
        // It is memory of the kernel's, so that nothing of ours has to last until the last of those
        // who found it has let go of it.
        //
        // SAFETY: No requirements.
        let cdev = NonNull::new(unsafe { kernel::bindings::cdev_alloc() }).ok_or(ENOMEM)?;
        // SAFETY: The device is valid, and not known to anybody before it is added.
        unsafe {
            (*cdev.as_ptr()).ops = fops;
            (*cdev.as_ptr()).owner = this_module::<LocalModule>().as_ptr();
        }
        // INVARIANT: It was made just now.
        Ok(Self(cdev))
    }

    /// Assigns it a number; from then on it can be opened.
    fn add(self, dev: kernel::bindings::dev_t) -> Result<Cdev> {
        // SAFETY: By the type invariants, the device is valid, and was not added.
        to_result(unsafe { kernel::bindings::cdev_add(self.0.as_ptr(), dev, 1) })?;
        // INVARIANT: It was added just now. The reference goes with it.
        Ok(Cdev(ManuallyDrop::new(self).0))
    }
}

impl Drop for NewCdev {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the reference is ours to give back.
        unsafe { kernel::bindings::kobject_put(&raw mut (*self.0.as_ptr()).kobj) };
    }
}

impl Drop for Cdev {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. Files that are open have references of their own.
        unsafe { kernel::bindings::cdev_del(self.0.as_ptr()) };
    }
}

/// A node under `/dev`. It goes when this is dropped; who has it open keeps the object.
///
/// # Invariants
///
/// `dev` is the number of a device in the region's class.
pub(crate) struct CharNode<T: Nodes> {
    dev: kernel::bindings::dev_t,
    // In this order: the number may be used again as soon as this leaves the table.
    _cdev: Cdev,
    _behind: Listed<Behind<T>>,
    region: Arc<Region>,
}

impl<T: Nodes> Drop for CharNode<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants, the class is valid and the device there.
        unsafe { kernel::bindings::device_destroy(self.region.class.as_ptr(), self.dev) };
    }
}
