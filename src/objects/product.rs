// SPDX-License-Identifier: GPL-2.0

//! The face of a kind of object to the factory: each implements [`Product`] in its own file, and is one row of the
//! factory's table in `device.rs`.

use crate::{
    abstractions::{
        tables::id_table::InStaticTable,
        vfs::user_struct::UserStructPtr, //
    },
    bindings::ipcdemo_object,
    objects::{pipe::limits::Account, tally::Tally}, //
};
use kernel::{
    fs::{
        file::{flags, FileDescriptorReservation},
        File, //
    },
    prelude::*,
    sync::{aref::ARef, Arc}, //
};

/// A kind of object that the factory makes and lists.
pub(crate) trait Product: InStaticTable {
    /// The upper half of its ids: one of `IPCDEMO_KIND_*`.
    const KIND: u32;

    /// The ioctl that asks for one.
    const MAKE: u32;

    /// Whether a tally takes that ioctl, too.
    const TALLIED: bool = false;

    /// The resources that all objects of the kind are made with.
    type Resources: Send + Sync + 'static;

    /// Makes them, once, when the module is loaded.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`.
    fn open_resources() -> Result<Self::Resources>;

    /// Makes an object and publishes its descriptor, as `args` ask for. A failure leaves neither an object nor a
    /// descriptor.
    ///
    /// Context: may sleep.
    fn make(resources: &Self::Resources, client: &Client, args: &UserStructPtr) -> Result;

    /// Returns the object's description; the caller fills in its id and its kind.
    ///
    /// Context: process context, with no lock held.
    fn describe(&self) -> ipcdemo_object;
}

/// Returns the id of an object of a kind: the kind in its upper half, and its number among the kind in its lower half.
pub(crate) fn id<T: Product>(number: u32) -> u64 {
    u64::from(T::KIND) << 32 | u64::from(number)
}

/// The account and the tally that objects are made for.
pub(crate) struct Client {
    /// The user who pays for their pages, most often.
    pub(crate) account: Account,
    /// Adds up the objects' bytes and wake-ups, if the request came through a tally.
    pub(crate) tally: Option<Arc<Tally>>,
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
