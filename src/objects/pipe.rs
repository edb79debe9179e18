// SPDX-License-Identifier: GPL-2.0

//! The pipe: bytes that writers put in at one end and readers take out at the other, in order.
//!
//! Card: pipe and FIFO, `struct pipe_inode_info`, `struct pipe_buffer`. Original: `fs/pipe.c`, pipe(7),
//! fifo(7).
//!
//! The bytes are in a ring of buffers, each a page. A reader that finds it empty, or a writer that finds it full,
//! sleeps on one of two wait queues. The rest decides which tasks to wake, and counts the open files:
//!
//! - A reader is woken when there is something in a ring that was empty, a writer when there is room in one
//!   that was full, and no more often: with data left over nobody sleeps.
//! - One sleeper is woken, and stands on the queue exclusively; when it is done and there is more to be had
//!   it wakes the next.
//! - The last reader or writer to leave wakes everybody.
//! - Pollers are called each time; once a read end was polled for edges (`EPOLLET`), each write wakes pollers,
//!   because programs rely on it.
//!
//! Here is what a pipe is, how one is made, and what can be done to its files. How bytes get through is in
//! `pipe/transfer.rs`, the holders of a pipe in `pipe/holders.rs`, the limits of a user's pipes in
//! `pipe/limits.rs`, and where the names of FIFOs come from in `pipe/fifo.rs`.

pub(crate) mod fifo;
mod holders;
pub(crate) mod limits;
mod transfer;

use self::{
    holders::Holders,
    limits::{is_unprivileged, Account, Limits, DEFAULT_PAGES}, //
};

use crate::{
    abstractions::{
        memory::page_ring::{Both, PageRing, Patience, OWN_SLOTS},
        tables::id_table::{self, impl_in_table, Id},
        vfs::{
            fasync::{fasync_fields, FasyncFields, FasyncQueue},
            file::{
                access, accessed, written, Access, FileOperations, InodeOfReleased, IoRequest, Seek,
            },
            open::mark,
            poll::PollTable,
            pseudo_fs::{self, FsType, PseudoFs},
            splice::SplicePipe,
            stream::{Destination, Source},
            user_struct::{impl_user_struct, UserStructPtr},
        },
        wait_queue::{new_wait_queue, PollEvent, PollEvents, WaitQueue, Wake}, //
    },
    algorithms::ring::{slots_for, BUFFER_MAX},
    bindings::{
        ipcdemo_object,
        ipcdemo_pipe_args,
        FIONREAD,
        IPCDEMO_CLOEXEC,
        IPCDEMO_IOC_ID,
        IPCDEMO_IOC_PIPE,
        IPCDEMO_IOC_PIPE_GET_SIZE,
        IPCDEMO_IOC_PIPE_SET_SIZE,
        IPCDEMO_KIND_PIPE,
        IPCDEMO_NONBLOCK,
        IPCDEMO_PIPE_DIRECT,
        IPCDEMO_PIPE_SIZE_VER0,
        IPCDEMO_WAITERS_COUNTED, //
    },
    objects::{
        product::{tell_id, Product},
        tally::{Left, Tallies, Tally}, //
    },
};
use kernel::{
    bindings::PIPEFS_MAGIC,
    fs::{
        file::{flags, FileDescriptorReservation},
        File, LocalFile,
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, //
    },
    uaccess::{UserPtr, UserSlice}, //
};
use zerocopy::FromZeros;

/// A pipe: the card's `pipe_inode_info`.
///
/// Where the original has one mutex, the ring's two ends are claimed apart, so that a reader and a writer
/// are at work at the same time: `algorithms/ring.rs` tells how.
#[pin_data]
pub(crate) struct Pipe {
    /// The buffers: `bufs`, `head`, `tail`, `ring_size` and `max_usage` of the card.
    #[pin]
    ring: PageRing,
    /// Tasks that wait for something to read, or for a partner to open a FIFO. Its lock guards [`Holders`] and the
    /// four counts below.
    #[pin]
    rd_wait: WaitQueue<Holders>,
    /// Writers that wait for room. Its lock guards its entries, and nothing else.
    #[pin]
    wr_wait: WaitQueue<()>,
    /// How many files can read, and how many can write. They are looked at without the lock: a task that closes an
    /// end changes them and then wakes under both queues' locks.
    readers: Atomic<u32>,
    writers: Atomic<u32>,
    /// How often it was opened for either: a partner who came and left still counts.
    r_counter: Atomic<u32>,
    w_counter: Atomic<u32>,
    /// Whether each write wakes readers, as they may poll for edges. `pseudo_edgetrigger`.
    edge_polled: Atomic<u32>,
    fasync_readers: FasyncQueue,
    fasync_writers: FasyncQueue,
    /// Whether it is found by a node in a directory: a task that opens that waits for a partner.
    is_fifo: bool,
    tally: Option<Arc<Tally>>,
    /// Whether a read or a write has to be noted: for a FIFO's times, or for the tally.
    is_noted: bool,
    /// A FIFO is not listed.
    id: Id,
    /// The number of its inode, for the list.
    inode: Atomic<u32>,
}

impl_in_table!(Pipe, id);

/// The file system of the pipes' inodes. Programs that look at one take it for one of the kernel's.
pub(crate) struct Inodes;

impl pseudo_fs::Kind for Inodes {
    const NAME: &'static CStr = c"ipcdemo_pipefs";
    const MAGIC: u32 = PIPEFS_MAGIC;
    const LABEL: &'static CStr = c"pipe";

    fn fs_type() -> &'static FsType<Self> {
        static FS_TYPE: FsType<Inodes> = FsType::new();
        &FS_TYPE
    }
}

// A new pipe uses only the slots embedded in the ring.
const _: () = assert!(DEFAULT_PAGES <= OWN_SLOTS);

impl Pipe {
    /// Makes one as pipe2(2) does, and the two files on it: the end to read from, and the end to write to. With
    /// `tallies`, what goes through it is added up there. Returns `None` if the kernel has to make it: a
    /// notification pipe.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `ENFILE`, for want of memory and if the user has too many pages in pipes, too; `ENOMEM`.
    ///
    /// C: `create_pipe_files`.
    pub(crate) fn pipe2(
        fs: &PseudoFs<Inodes>,
        account: &Account,
        tallies: Option<&Tallies>,
        flags: u32,
    ) -> Option<Result<(ARef<File>, ARef<File>)>> {
        if flags & O_NOTIFICATION_PIPE != 0 {
            // The sum is short by one if there is no memory for it: the program's pipe is not to fail for that.
            let _ = tallies.map(|tallies| tallies.add_left(Self::KIND, Left::Notification));
            return None;
        }
        let tally = tallies.map(|tallies| tallies.of_caller(Self::KIND));
        Some(match tally.transpose() {
            Ok(tally) => Self::create(fs, account, 0, flags, tally),
            Err(_) => Err(ENFILE),
        })
    }

    /// Makes one, and the two files on it: the end to read from, and the end to write to. A `size` of 0 asks
    /// for what pipe2(2) would give. With a `tally`, what goes through it is added up there.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `ENFILE`, for want of memory and if the user has too many pages in pipes, too; `ENOMEM`; those of
    /// [`Pipe::set_size`].
    ///
    /// C: `create_pipe_files`.
    fn create(
        fs: &PseudoFs<Inodes>,
        account: &Account,
        size: u32,
        open_flags: u32,
        tally: Option<Arc<Tally>>,
    ) -> Result<(ARef<File>, ARef<File>)> {
        let charge = account.charge().map_err(|_| ENFILE)?;
        let slots = charge.pages();
        let holders = Holders::new(2, charge);
        let pipe = Self::new(holders, 1, slots, false, tally.clone()).map_err(|_| ENFILE)?;
        if size != 0 {
            pipe.set_size(size)?;
        }
        // The last one to leave takes it off the list, even if its inode stays.
        let ends = pseudo_fs::create(fs, id_table::add(pipe)?, open_flags)?;
        if let Some(tally) = tally {
            tally.add_object();
        }
        Ok(ends)
    }

    /// Makes one that is behind a node in a directory, and that nobody has open.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn new_fifo(limits: &Arc<Limits>) -> Result<Arc<Self>> {
        let charge = Account::open(limits)?.charge_nothing();
        Self::new(Holders::new(0, charge), 0, 1, true, None)
    }

    /// `users` is how many read, and how many write.
    #[inline]
    fn new(
        holders: Holders,
        users: u32,
        slots: u32,
        is_fifo: bool,
        tally: Option<Arc<Tally>>,
    ) -> Result<Arc<Self>> {
        let is_noted = is_fifo || tally.is_some();
        Arc::pin_init(
            try_pin_init!(Self {
                ring <- PageRing::new(slots),
                rd_wait <- new_wait_queue!(holders, "Pipe::rd_wait"),
                wr_wait <- new_wait_queue!((), "Pipe::wr_wait"),
                readers: Atomic::new(users),
                writers: Atomic::new(users),
                r_counter: Atomic::new(1),
                w_counter: Atomic::new(1),
                edge_polled: Atomic::new(0),
                fasync_readers: FasyncQueue::new(),
                fasync_writers: FasyncQueue::new(),
                is_fifo,
                is_noted,
                tally,
                id: Id::new(),
                inode: Atomic::new(0),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// How many entries are on both queues, up to `IPCDEMO_WAITERS_COUNTED`. One is looked at after the other.
    fn count_waiters(&self) -> usize {
        let limit = IPCDEMO_WAITERS_COUNTED as usize;
        let readers = self.rd_wait.lock().count_entries(limit);
        let writers = self.wr_wait.lock().count_entries(limit - readers);
        readers + writers
    }
}

const _: () = assert!(IPCDEMO_PIPE_DIRECT == flags::O_DIRECT);

/// The flag of pipe2(2) by which a program asks for a notification pipe: `include/linux/watch_queue.h`.
const O_NOTIFICATION_PIPE: u32 = flags::O_EXCL;

impl_user_struct!(ipcdemo_pipe_args: IPCDEMO_PIPE_SIZE_VER0);

impl Product for Pipe {
    const KIND: u32 = IPCDEMO_KIND_PIPE;
    const MAKE: u32 = IPCDEMO_IOC_PIPE;
    type Resources = PseudoFs<Inodes>;

    fn open_resources() -> Result<PseudoFs<Inodes>> {
        PseudoFs::mount()
    }

    /// As [`publish`](crate::objects::product::publish), for both ends.
    ///
    /// C: `do_pipe2` in `fs/pipe.c`.
    fn make(fs: &PseudoFs<Inodes>, account: &Account, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_pipe_args = ptr.read()?;
        if args.flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK | IPCDEMO_PIPE_DIRECT) != 0 {
            return Err(EINVAL);
        }
        let (read_end, write_end) = Self::create(fs, account, args.size, args.flags, None)?;
        let fd_flags = args.flags & flags::O_CLOEXEC;
        let read_fd = FileDescriptorReservation::get_unused_fd_flags(fd_flags)?;
        let write_fd = FileDescriptorReservation::get_unused_fd_flags(fd_flags)?;
        ptr.write(&ipcdemo_pipe_args {
            read_fd: read_fd.reserved_fd() as i32,
            write_fd: write_fd.reserved_fd() as i32,
            ..args
        })?;
        read_fd.fd_install(read_end);
        write_fd.fd_install(write_end);
        Ok(())
    }

    fn describe(&self) -> ipcdemo_object {
        ipcdemo_object {
            value: self.ring.state().occupancy().into(),
            waiters: self.count_waiters() as u32,
            inode: self.inode.load(Relaxed),
            ..FromZeros::new_zeroed()
        }
    }
}

/// Noting reads and writes, for a FIFO's times and for the tally.
impl Pipe {
    #[cold]
    fn note_read(&self, file: &LocalFile, taken: usize) {
        if self.is_fifo {
            accessed(file);
        }
        if let Some(tally) = &self.tally {
            tally.add_read(taken);
        }
    }

    #[cold]
    fn note_written(&self, file: &LocalFile, added: usize) -> Result {
        if let Some(tally) = &self.tally {
            tally.add_written(added);
        }
        if self.is_fifo {
            written(file)?;
        }
        Ok(())
    }
}

/// Capacity.
impl Pipe {
    /// Returns the capacity in bytes.
    fn size(&self) -> isize {
        self.ring.max_usage() as isize * BUFFER_MAX as isize
    }

    /// Changes the capacity to `bytes`, rounded up to a power of two of pages. Returns the new capacity.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `EINVAL` if there is no such capacity; `EPERM` if it is more than the user may have; `EBUSY` if
    /// it is less than what is inside needs; `ENOMEM`.
    ///
    /// C: `pipe_set_size`.
    fn set_size(&self, bytes: u32) -> Result<isize> {
        self.ring
            .both(Patience::Killable, |both| self.resize(both, bytes))??;
        // There may be more room for writers now.
        self.wr_wait.wake(&Wake::one());
        Ok(self.size())
    }

    fn resize(&self, both: &mut Both<'_>, bytes: u32) -> Result {
        let slots = slots_for(bytes).ok_or(EINVAL)?;
        let before = self.ring.max_usage();
        let grows = slots > before;
        if grows {
            self.limits().allow_size(slots)?;
        }
        let above = self.recharge(slots);
        let result = if grows && above && is_unprivileged() {
            Err(EPERM)
        } else {
            both.resize(slots)
        };
        if result.is_err() {
            self.recharge(before);
        }
        result
    }
}

#[vtable]
impl FileOperations for Pipe {
    const NOWAIT: bool = true;
    const SEEK: Seek = Seek::Refused;
    const FASYNC: Option<FasyncFields<Self>> = fasync_fields!(Pipe {
        read: fasync_readers,
        write: fasync_writers
    });

    /// Takes the bytes that are there; waits if there are none.
    ///
    /// C: `anon_pipe_read`, `fifo_pipe_read`.
    #[inline]
    fn read(&self, request: &IoRequest<'_>, to: &mut impl Destination) -> Result<usize> {
        let taken = self.read_bytes(request, to)?;
        if self.is_noted && taken > 0 {
            self.note_read(request.file(), taken);
        }
        Ok(taken)
    }

    /// Puts all of it in; waits for room as long as there is none.
    ///
    /// C: `anon_pipe_write`, `fifo_pipe_write`.
    #[inline]
    fn write(&self, request: &IoRequest<'_>, from: &mut impl Source) -> Result<usize> {
        let added = self.write_bytes(request, from)?;
        if self.is_noted && added > 0 {
            self.note_written(request.file(), added)?;
        }
        Ok(added)
    }

    /// C: `splice_pipe_to_pipe` in `fs/splice.c`.
    fn splice_read(
        &self,
        file: &LocalFile,
        pipe: &mut SplicePipe<'_>,
        len: usize,
        nonblock: bool,
    ) -> Result<usize> {
        self.splice_to(file, pipe, len, nonblock)
    }

    /// C: `opipe_prep` in `fs/splice.c`.
    fn splice_wait(&self, _file: &LocalFile, nonblock: bool) -> Result {
        if self.is_writable() {
            Ok(())
        } else if nonblock {
            Err(EAGAIN)
        } else {
            self.wait_writable(false)
        }
    }

    /// Readable with something in it, writable with a free slot; hung up without writers and broken without
    /// readers.
    ///
    /// C: `pipe_poll`.
    fn poll<'file>(&'file self, file: &LocalFile, table: &PollTable<'file>) -> PollEvents {
        let access = access(file);
        if access.read {
            if table.wants_edges() && self.edge_polled.load(Relaxed) == 0 {
                self.edge_polled.store(1, Relaxed);
            }
            table.register(&self.rd_wait);
        }
        if access.write {
            table.register(&self.wr_wait);
        }
        // These looks see each earlier change, and each later change finds the poller on the queue.
        let has_writers = self.has_writers();
        let state = self.ring.state();
        let mut events = PollEvents::default();
        if access.read {
            if !state.is_empty() {
                events |= PollEvent::In | PollEvent::RdNorm;
            }
            if !has_writers && mark(file) != u64::from(self.w_counter.load(Relaxed)) {
                events |= PollEvent::Hup;
            }
        }
        if access.write {
            if !state.is_full(self.ring.max_usage()) {
                events |= PollEvent::Out | PollEvent::WrNorm;
            }
            if !self.has_readers() {
                events |= PollEvent::Err;
            }
        }
        events
    }

    /// C: `pipe_ioctl`, `pipe_fcntl`.
    fn ioctl(&self, _file: &LocalFile, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            FIONREAD => {
                let (count, _) = self.ring.read(|reader| reader.count())?;
                UserSlice::new(UserPtr::from_addr(arg), size_of::<c_int>())
                    .writer()
                    .write(&(count as c_int))?;
                Ok(0)
            }
            // As fcntl(2), which knows no more than 32 bits of it.
            IPCDEMO_IOC_PIPE_SET_SIZE => self.set_size(arg as u32),
            IPCDEMO_IOC_PIPE_GET_SIZE => Ok(self.size()),
            IPCDEMO_IOC_ID if !self.is_fifo => tell_id::<Self>(self.id.get(), arg),
            _ => Err(ENOTTY),
        }
    }

    /// C: `pipe_release`.
    #[inline(always)]
    fn release(&self, access: Access, inode: InodeOfReleased<'_>) {
        self.close_ends(access, inode);
    }
}
