// SPDX-License-Identifier: GPL-2.0

//! The null object: reads and writes that copy bytes to and from nowhere.
//!
//! The smallest object, where to start reading: a struct, how it is made, what reading and writing
//! it does, its end. It is also the floor that benchmarks measure the others against: what a
//! system call on a file of ours costs before it does anything.

use crate::abstractions::{
    anon_file,
    file::{Access, FileOperations, Kiocb, Seek},
    registry::Registry, //
};
use core::mem::MaybeUninit;
use kernel::{
    fs::{File, LocalFile},
    iov::{IovIterDest, IovIterSource},
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{aref::ARef, Arc}, //
};

/// The live null objects.
pub(crate) static LIVE: Registry<Null> = Registry::new();

/// What a read gives and a write is copied to.
const CHUNK: usize = 256;

/// A null object.
pub(crate) struct Null {
    id: u32,
}

impl Null {
    /// Makes one, and a file on it.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`, `EBUSY` if no number is free.
    pub(crate) fn create(open_flags: u32) -> Result<ARef<File>> {
        let slot = LIVE.reserve()?;
        let null = Arc::new(Self { id: slot.id() }, GFP_KERNEL_ACCOUNT)?;
        let file = anon_file::create(c"[ipcdemo-null]", null.clone(), open_flags)?;
        // From here on `release` takes it off the list.
        slot.fill(null);
        Ok(file)
    }
}

/// Calls `copy` for a chunk at a time until `len` bytes are done, a bad address is met, or a signal
/// wants the task: a request may be as long as 2 GiB.
fn in_chunks(len: usize, mut copy: impl FnMut(usize) -> usize) -> Result<usize> {
    let mut done = 0;
    while done < len {
        let want = (len - done).min(CHUNK);
        let copied = copy(want);
        done += copied;
        if copied < want {
            return if done > 0 { Ok(done) } else { Err(EFAULT) };
        }
        if done < len && current!().signal_pending() {
            break;
        }
    }
    Ok(done)
}

#[vtable]
impl FileOperations for Null {
    const NOWAIT: bool = true;
    const SEEK: Seek = Seek::Ignored;
    const SPLICE: bool = true;

    /// Gives as many zeros as are asked for.
    fn read_iter(&self, _io: &Kiocb<'_>, to: &mut IovIterDest<'_>) -> Result<usize> {
        static ZEROS: [u8; CHUNK] = [0; CHUNK];
        in_chunks(to.len(), |want| to.copy_to_iter(&ZEROS[..want]))
    }

    /// Takes all it is given.
    fn write_iter(&self, _io: &Kiocb<'_>, from: &mut IovIterSource<'_>) -> Result<usize> {
        let mut sink = [MaybeUninit::uninit(); CHUNK];
        in_chunks(from.len(), |want| {
            from.copy_from_iter_raw(&mut sink[..want]).len()
        })
    }

    fn show_fdinfo(&self, m: &SeqFile, _file: &LocalFile) {
        seq_print!(m, "null-id: {}\n", self.id);
    }

    fn release(&self, _access: Access) {
        LIVE.remove(self.id);
    }
}
