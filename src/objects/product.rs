// SPDX-License-Identifier: GPL-2.0

//! The face of a kind of object to the factory: each implements [`Product`] in its own file, and is one row of the
//! factory's table in `device.rs`.

use crate::{
    abstractions::{
        tables::id_table::InStaticTable,
        vfs::user_struct::UserStructPtr, //
    },
    bindings::ipcdemo_object,
    objects::pipe::limits::Account, //
};
use kernel::{
    fs::{
        file::{flags, FileDescriptorReservation},
        File, //
    },
    prelude::*,
    sync::aref::ARef,
    uaccess::{UserPtr, UserSlice}, //
};

/// A kind of object that the factory makes and lists.
pub(crate) trait Product: InStaticTable {
    /// The upper half of its ids: one of `IPCDEMO_KIND_*`.
    const KIND: u32;

    /// The ioctl that asks for one.
    const MAKE: u32;

    /// The resources that all objects of the kind are made with.
    type Resources: Send + Sync + 'static;

    /// Makes them, once, when the module is loaded.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`.
    fn open_resources() -> Result<Self::Resources>;

    /// Makes an object and publishes its descriptor, as `args` ask for. A failure leaves neither an object nor a
    /// descriptor. `account` is the one that pays for its pages, most often.
    ///
    /// Context: may sleep.
    fn make(resources: &Self::Resources, account: &Account, args: &UserStructPtr) -> Result;

    /// Returns the object's description; the caller fills in its id and its kind.
    ///
    /// Context: process context, with no lock held.
    fn describe(&self) -> ipcdemo_object;
}

/// Returns the id of an object of a kind: the kind in its upper half, and its number among the kind in its lower half.
pub(crate) fn id<T: Product>(number: u32) -> u64 {
    u64::from(T::KIND) << 32 | u64::from(number)
}

/// Answers `IPCDEMO_IOC_ID`: writes the id of the object with this number to user memory.
///
/// Context: may sleep. Errors: `EFAULT`.
pub(crate) fn tell_id<T: Product>(number: u32, to: usize) -> Result<isize> {
    let id = id::<T>(number);
    UserSlice::new(UserPtr::from_addr(to), size_of_val(&id))
        .writer()
        .write(&id)?;
    Ok(0)
}

/// Publishes the file that `create` makes as a descriptor, in two steps. The first does all that can fail, and
/// calls `tell` to write the number to the caller's struct; in the second the descriptor appears.
pub(crate) fn publish(
    fd_flags: u32,
    create: impl FnOnce() -> Result<ARef<File>>,
    tell: impl FnOnce(i32) -> Result,
) -> Result {
    let fd = FileDescriptorReservation::get_unused_fd_flags(fd_flags & flags::O_CLOEXEC)?;
    let file = create()?;
    tell(fd.reserved_fd() as i32)?;
    fd.fd_install(file);
    Ok(())
}
