// SPDX-License-Identifier: GPL-2.0

//! The null object: reads and writes that copy bytes to and from nowhere.
//!
//! The smallest object, where to start reading: a struct, how it is made, how it is read and written. It is also the
//! floor that benchmarks measure the others against: the cost of a system call on a file that copies the same bytes,
//! once, and does nothing else.

use crate::{
    abstractions::{
        tables::id_table::{self, impl_in_table, Id},
        vfs::{
            anon_file::AnonFiles,
            file::{FileOperations, IoRequest, Seek},
            stream::{in_chunks, Destination, Source},
            user_struct::{impl_user_struct, UserStructPtr},
        }, //
    },
    bindings::{
        ipcdemo_null_args, ipcdemo_object, IPCDEMO_CLOEXEC, IPCDEMO_IOC_NULL, IPCDEMO_KIND_NULL,
        IPCDEMO_NONBLOCK, IPCDEMO_NULL_SIZE_VER0,
    },
    objects::{
        pipe::limits::Account,
        product::{publish, Product}, //
    },
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

/// The size of a counter's transfer, moved like a counter's by one instruction instead of a copy.
const WORD: usize = size_of::<u64>();

/// The largest chunk that is copied without a buffer.
const SMALL: usize = 256;

/// The largest chunk that is copied with one: the capacity of a pipe.
const LARGE: usize = 64 << 10;

/// A null object.
#[pin_data]
pub(crate) struct Null {
    id: Id,
    /// Zeros for large reads to copy from: as many as the largest has asked for, up to [`LARGE`].
    #[pin]
    zeros: Mutex<KVVec<u8>>,
    /// Memory for large writes to copy to: the vector's capacity, with nothing in it.
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

    /// Copies `len` zeros out by `copy`. Out of line, so that a read of a word does not pay for it.
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

    /// Copies `len` bytes in by `copy`, and forgets them.
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

impl_user_struct!(ipcdemo_null_args: IPCDEMO_NULL_SIZE_VER0);

impl Product for Null {
    const KIND: u32 = IPCDEMO_KIND_NULL;
    const MAKE: u32 = IPCDEMO_IOC_NULL;
    type Resources = AnonFiles;

    fn open_resources() -> Result<AnonFiles> {
        AnonFiles::new(c"[ipcdemo-null]")
    }

    fn make(files: &AnonFiles, _account: &Account, ptr: &UserStructPtr) -> Result {
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

    /// Reads as many zeros as are asked for.
    fn read(&self, _request: &IoRequest<'_>, to: &mut impl Destination) -> Result<usize> {
        if to.len() == WORD && to.write_word(0) {
            return Ok(WORD);
        }
        self.give(to.len(), |zeros| to.copy(zeros))
    }

    /// Takes all bytes.
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
