// SPDX-License-Identifier: GPL-2.0

//! What the factory has to know of a kind of object: each implements [`Product`] in its own file, and is one row of the
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

/// A kind of object that the factory makes, and tells of.
pub(crate) trait Product: InStaticTable {
    /// The upper half of its ids: one of `IPCDEMO_KIND_*`.
    const KIND: u32;

    /// The ioctl that asks for one.
    const MAKE: u32;

    /// Whether a tally takes that ioctl, too.
    const TALLIED: bool = false;

    /// What all objects of the kind are made with.
    type Shop: Send + Sync + 'static;

    /// Makes that, once, when the module is loaded.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`.
    fn shop() -> Result<Self::Shop>;

    /// Makes an object and gives it out, as `args` ask for. A failure leaves neither an object nor a descriptor.
    ///
    /// Context: may sleep.
    fn make(shop: &Self::Shop, client: &Client, args: &UserStructPtr) -> Result;

    /// Tells of the object; its id and its kind are filled in by the caller.
    ///
    /// Context: process context, with no lock held.
    fn describe(&self) -> ipcdemo_object;
}

/// For whom objects are made.
pub(crate) struct Client {
    /// The user who pays for their pages, most often.
    pub(crate) account: Account,
    /// Where what goes through them is added up.
    pub(crate) tally: Option<Arc<Tally>>,
}

/// Gives out the file that `create` makes as a descriptor, in two steps: first all that can fail,
/// telling the caller its number included; then the descriptor appears.
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
