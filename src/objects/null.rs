// SPDX-License-Identifier: GPL-2.0

//! The null object: reads and writes that copy bytes to and from nowhere.
//!
//! The smallest object, where to start reading: a struct, how it is made, what reading and writing
//! it does, its end. It is also the floor that benchmarks measure the others against: what a
//! system call on a file costs that copies the same bytes, once, and does nothing else.

use crate::{
    abstractions::{
        tables::id_table::{self, impl_in_table, Id},
        vfs::{
            anon_file::AnonFiles,
            file::{FileOperations, IoRequest, Seek},
            stream::{Destination, Source},
            user_struct::{impl_user_struct, UserStructPtr},
        }, //
    },
    bindings::{
        ipcdemo_null_args, ipcdemo_object, IPCDEMO_CLOEXEC, IPCDEMO_IOC_NULL, IPCDEMO_KIND_NULL,
        IPCDEMO_NONBLOCK, IPCDEMO_NULL_SIZE_VER0,
    },
    objects::product::{publish, Client, Product}, //
};
use core::mem::MaybeUninit;
use kernel::{
    fs::{File, LocalFile},
    new_mutex,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{aref::ARef, Arc, Mutex}, //
};
use zerocopy::FromZeros;

/// What a counter moves, and as it does: one instruction is cheaper than a copy of any length.
const WORD: usize = size_of::<u64>();

/// What is copied at once without a buffer.
const SMALL: usize = 256;

/// What is copied at once with one: what a pipe holds.
const LARGE: usize = 64 << 10;

/// A null object.
#[pin_data]
pub(crate) struct Null {
    id: Id,
    /// What large reads copy from: as many zeros as the largest has asked for, up to [`LARGE`].
    #[pin]
    zeros: Mutex<KVVec<u8>>,
    /// What large writes copy to: its capacity, with nothing in it.
    #[pin]
    sink: Mutex<KVVec<u8>>,
}

impl_in_table!(Null, id);

impl Null {
    /// Makes one, and a file on it.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`.
    fn create(files: &AnonFiles, open_flags: u32) -> Result<ARef<File>> {
        let null = Arc::pin_init(
            pin_init!(Self {
                id: Id::new(),
                zeros <- new_mutex!(KVVec::new()),
                sink <- new_mutex!(KVVec::new()),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;
        files.create(id_table::add(null)?, open_flags)
    }

    /// Gives `len` zeros by `copy`. Out of line, so that what a word costs is nothing but a word's.
    #[inline(never)]
    fn give(&self, len: usize, mut copy: impl FnMut(&[u8]) -> usize) -> Result<usize> {
        static ZEROS: [u8; SMALL] = [0; SMALL];
        if len <= SMALL {
            return in_chunks(len, SMALL, |want| copy(&ZEROS[..want]));
        }
        let mut zeros = self.zeros.lock();
        if zeros.len() < len.min(LARGE) {
            zeros.resize(len.min(LARGE), 0, GFP_KERNEL_ACCOUNT)?;
        }
        in_chunks(len, LARGE, |want| copy(&zeros[..want]))
    }

    /// Takes `len` bytes by `copy`.
    #[inline(never)]
    fn take(
        &self,
        len: usize,
        mut copy: impl FnMut(&mut [MaybeUninit<u8>]) -> usize,
    ) -> Result<usize> {
        if len <= SMALL {
            let mut sink = [MaybeUninit::uninit(); SMALL];
            return in_chunks(len, SMALL, |want| copy(&mut sink[..want]));
        }
        let mut sink = self.sink.lock();
        sink.reserve(len.min(LARGE), GFP_KERNEL_ACCOUNT)?;
        let sink = sink.spare_capacity_mut();
        in_chunks(len, LARGE, |want| copy(&mut sink[..want]))
    }
}

/// Calls `copy` for a chunk at a time until `len` bytes are done, a bad address is met, or a signal
/// wants the task: a request may be as long as 2 GiB.
///
/// `copy` may do part of what it is asked to, or nothing, where there is a bad address.
fn in_chunks(len: usize, chunk: usize, mut copy: impl FnMut(usize) -> usize) -> Result<usize> {
    let copied = copy(len.min(chunk));
    if copied == len {
        return Ok(len);
    }
    rest_in_chunks(len, chunk, copied, copy)
}

/// The same where the first chunk was not all. Apart, so that a floor has nothing of it.
#[cold]
fn rest_in_chunks(
    len: usize,
    mut chunk: usize,
    mut copied: usize,
    mut copy: impl FnMut(usize) -> usize,
) -> Result<usize> {
    let (mut done, mut want) = (copied, len.min(chunk));
    loop {
        if copied < want {
            // How much can be copied before the bad address is found with ever smaller chunks.
            chunk = want / 2;
            if chunk == 0 {
                break;
            }
        } else if done == len || current!().signal_pending() {
            break;
        }
        want = (len - done).min(chunk);
        copied = copy(want);
        done += copied;
    }
    if done > 0 {
        Ok(done)
    } else {
        Err(EFAULT)
    }
}

impl_user_struct!(ipcdemo_null_args: IPCDEMO_NULL_SIZE_VER0);

impl Product for Null {
    const KIND: u32 = IPCDEMO_KIND_NULL;
    const MAKE: u32 = IPCDEMO_IOC_NULL;
    type Shop = AnonFiles;

    fn shop() -> Result<AnonFiles> {
        AnonFiles::new(c"[ipcdemo-null]")
    }

    fn make(files: &AnonFiles, _client: &Client, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_null_args = ptr.read()?;
        if args.flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK) != 0 {
            return Err(EINVAL);
        }
        publish(
            args.flags,
            || Self::create(files, args.flags),
            |fd| ptr.write(&ipcdemo_null_args { fd, ..args }),
        )
    }

    fn describe(&self) -> ipcdemo_object {
        FromZeros::new_zeroed()
    }
}

#[vtable]
impl FileOperations for Null {
    const NOWAIT: bool = true;
    const SEEK: Seek = Seek::Ignored;
    const SPLICE: bool = true;

    /// Gives as many zeros as are asked for.
    fn read(&self, _request: &IoRequest<'_>, to: &mut impl Destination) -> Result<usize> {
        if to.len() == WORD && to.write_word(0) {
            return Ok(WORD);
        }
        self.give(to.len(), |zeros| to.copy(zeros))
    }

    /// Takes all it is given.
    fn write(&self, _request: &IoRequest<'_>, from: &mut impl Source) -> Result<usize> {
        if from.len() == WORD && from.read_word().is_some() {
            return Ok(WORD);
        }
        self.take(from.len(), |sink| from.copy(sink))
    }

    fn show_fdinfo(&self, m: &SeqFile, _file: &LocalFile) {
        seq_print!(m, "null-id: {}\n", self.id.get());
    }
}
