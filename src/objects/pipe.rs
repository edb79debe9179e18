// SPDX-License-Identifier: GPL-2.0

//! The pipe: bytes that writers put in at one end and readers take out at the other, in order.
//!
//! Card: pipe and FIFO, `struct pipe_inode_info`, `struct pipe_buffer`. Original: `fs/pipe.c`, pipe(7),
//! fifo(7).
//!
//! The bytes are in a ring of buffers, each a page. Who finds it empty, or full, sleeps on one of two wait
//! queues. The rest is a question of whom to wake, and of who is there at all:
//!
//! - A reader is woken when there is something in a ring that was empty, a writer when there is room in one
//!   that was full, and no more often: with data left over nobody sleeps.
//! - One sleeper is woken, and stands on the queue exclusively; when it is done and there is more to be had
//!   it wakes the next.
//! - The last reader or writer to leave wakes everybody.
//! - Pollers are called each time; who once polled a read end for edges (`EPOLLET`) is woken by each write,
//!   because programs rely on it.

use crate::{
    abstractions::{
        memory::page_ring::{
            Both, PageRing, Patience, Published, Reader, Refused, Writer, OWN_SLOTS,
        },
        tables::live::{self, impl_live},
        task::signal::{send_sigpipe, signal_pending},
        vfs::{
            fasync::{fasync_fields, Band, FasyncFields, FasyncQueue},
            file::{
                access, accessed, is_nonblocking, written, Access, FileOperations, InodeOfReleased,
                IoRequest, Seek,
            },
            open::{mark, Openable, Opening},
            poll::{PollEvent, PollEvents, PollTable},
            pseudo_fs::{self, FsType, PseudoFs},
            splice::SplicePipe,
            stream::{Destination, Filled, Source},
            user_struct::{impl_user_struct, UserStructPtr},
        },
        wait_queue::{new_wait_queue, Guard, Wait, WaitQueue, Waited, Wake}, //
    },
    algorithms::ring::{slots_for, State, BUFFER_MAX},
    bindings::{
        ipcdemo_object,
        ipcdemo_pipe_args,
        FIONREAD,
        IPCDEMO_CLOEXEC,
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
        pipe_limits::{is_unprivileged, Account, Charge, Idle, Limits, DEFAULT_PAGES},
        product::{Client, Product},
        tally::Tally, //
    },
};
use core::mem::swap;
use kernel::{
    bindings::{PIPEFS_MAGIC, S_IFIFO},
    fs::{
        file::{flags, FileDescriptorReservation},
        File, LocalFile,
    },
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
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
    /// Who waits for something to read, or for a partner to open a FIFO. Its lock guards who has the pipe
    /// open: [`Holders`], and the four counts below.
    #[pin]
    rd_wait: WaitQueue<Holders>,
    /// Who waits for room to write. Its lock guards who is on it, and nothing else.
    #[pin]
    wr_wait: WaitQueue<()>,
    /// How many files can read, and how many can write. They are looked at without the lock: who leaves
    /// changes them, and then wakes under the locks of both queues.
    readers: Atomic<u32>,
    writers: Atomic<u32>,
    /// How often it was opened for either: a partner who came and left still counts.
    r_counter: Atomic<u32>,
    w_counter: Atomic<u32>,
    /// Whether each write wakes readers, as they may poll for edges. `pseudo_edgetrigger`.
    edge_polled: Atomic<u32>,
    fasync_readers: FasyncQueue,
    fasync_writers: FasyncQueue,
    /// Whether it is found by a node in a directory: who opens that waits for a partner.
    is_fifo: bool,
    tally: Option<Arc<Tally>>,
    /// Whether a read or a write has to be noted: for a FIFO's times, or for the tally.
    is_noted: bool,
    /// A FIFO is not listed.
    entry: live::Entry<Self>,
}

impl_live!(Pipe, entry);

/// The file system of the pipes' inodes: those who look at one take it for one of the kernel's.
pub(crate) struct Inodes;

impl pseudo_fs::Kind for Inodes {
    const NAME: &'static CStr = c"ipcdemo_pipefs";
    const MAGIC: u32 = PIPEFS_MAGIC;
    const FILE_TYPE: u32 = S_IFIFO;
    const LABEL: &'static CStr = c"pipe";

    fn fs_type() -> &'static FsType<Self> {
        static FS_TYPE: FsType<Inodes> = FsType::new();
        &FS_TYPE
    }
}

// A new pipe has no other slots.
const _: () = assert!(DEFAULT_PAGES <= OWN_SLOTS);

/// Who has a pipe open, and pays for it.
struct Holders {
    /// How many files there are. With none nobody pays for it, and nothing is in it.
    files: u32,
    /// What the pipe's capacity counts for, against the limits of who made it, or opened it first.
    charge: Charge,
}

/// What is left when a file is taken away.
enum Left {
    /// Others have it open, too.
    Others,
    /// Nobody has, nor is anything inside.
    Nobody(Option<Idle>),
    /// It was not taken away: it is the last one, and there may be something inside.
    ToClear,
}

impl Pipe {
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
        tally: Option<&Arc<Tally>>,
    ) -> Result<(ARef<File>, ARef<File>)> {
        let charge = account.charge().map_err(|_| ENFILE)?;
        let slots = charge.pages();
        let holders = Holders { files: 2, charge };
        let pipe = Self::new(holders, 1, slots, false, tally.cloned()).map_err(|_| ENFILE)?;
        if size != 0 {
            pipe.set_size(size)?;
        }
        // The last one to leave takes it off the list, even if its inode stays.
        let ends = pseudo_fs::create(fs, live::add(pipe)?, open_flags)?;
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
        Self::new(Holders { files: 0, charge }, 0, 1, true, None)
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
                entry: live::Entry::new(),
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

    /// Whether somebody may read what is written.
    #[inline]
    fn has_readers(&self) -> bool {
        self.readers.load(Relaxed) != 0
    }

    /// Whether somebody may write. If not, who looks at the ring after this sees all that was written.
    ///
    /// The other way around a last write, and the end of its writer, could come between the two looks, and
    /// a reader would take what it has not seen for the end.
    #[inline]
    fn has_writers(&self) -> bool {
        // Pairs with the release in `sub`.
        self.writers.load(Acquire) != 0
    }
}

const _: () = assert!(IPCDEMO_PIPE_DIRECT == flags::O_DIRECT);

impl_user_struct!(ipcdemo_pipe_args: IPCDEMO_PIPE_SIZE_VER0);

impl Product for Pipe {
    const KIND: u32 = IPCDEMO_KIND_PIPE;
    const MAKE: u32 = IPCDEMO_IOC_PIPE;
    const TALLIED: bool = true;
    type Shop = PseudoFs<Inodes>;

    fn shop() -> Result<PseudoFs<Inodes>> {
        PseudoFs::mount()
    }

    /// As [`publish`](crate::objects::product::publish), for both ends.
    ///
    /// C: `do_pipe2` in `fs/pipe.c`.
    fn make(fs: &PseudoFs<Inodes>, client: &Client, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_pipe_args = ptr.read()?;
        if args.flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK | IPCDEMO_PIPE_DIRECT) != 0 {
            return Err(EINVAL);
        }
        let (read_end, write_end) = Self::create(
            fs,
            &client.account,
            args.size,
            args.flags,
            client.tally.as_ref(),
        )?;
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
            ..FromZeros::new_zeroed()
        }
    }
}

/// Opening and leaving.
impl Pipe {
    /// Adds a file. The first one of a FIFO starts it anew: with nothing inside, and a capacity that counts
    /// for the user who opens it.
    ///
    /// C: the beginning of `fifo_open`.
    fn join(&self) -> Result {
        {
            let mut holders = self.rd_wait.lock();
            if holders.files > 0 {
                holders.files += 1;
                return Ok(());
            }
        }
        let account = Account::open(&self.limits())?;
        // Both the task that clears the ring and the task that starts it anew hold both claims, so neither can interrupt
        // the other.
        self.ring.both(Patience::Killable, |both| {
            let mut charge = account.charge()?;
            if self.rd_wait.lock().files == 0 && charge.pages() != self.ring.max_usage() {
                both.resize(charge.pages())?;
            }
            let mut holders = self.rd_wait.lock();
            holders.files += 1;
            if holders.files == 1 {
                swap(&mut holders.charge, &mut charge);
            }
            drop(holders);
            Ok(())
        })?
    }

    /// Takes a file away; with the last one goes what is inside.
    ///
    /// C: `put_pipe_info`.
    fn leave(&self) {
        let left = self.try_leave(self.rd_wait.lock(), InodeOfReleased::SHARED);
        self.finish_leaving(left);
    }

    /// Takes a file away, unless that is the last one and somebody is at the ring.
    #[inline]
    fn try_leave(&self, mut holders: Guard<'_, Holders>, inode: InodeOfReleased<'_>) -> Left {
        if holders.files > 1 {
            holders.files -= 1;
            return Left::Others;
        }
        // Nobody else has it open. A task that is just opening it either has the claims already, or finds that there is
        // no file.
        if self.ring.is_pristine() && self.ring.max_usage() <= DEFAULT_PAGES {
            return Left::Nobody(self.end(&mut holders));
        }
        self.try_clear(holders, inode)
    }

    #[inline(never)]
    fn try_clear(&self, mut holders: Guard<'_, Holders>, inode: InodeOfReleased<'_>) -> Left {
        // Without an inode nobody can open it, and an empty ring's memory is freed with the ring.
        if self.ring.is_idle() && self.ring.max_usage() <= DEFAULT_PAGES && inode.goes() {
            return Left::Nobody(self.end(&mut holders));
        }
        let left = self.ring.try_both(|both| self.clear(both, holders));
        left.unwrap_or(Left::ToClear)
    }

    /// The last file is gone. Gives the user to be forgotten, if it is one.
    #[inline]
    fn end(&self, holders: &mut Guard<'_, Holders>) -> Option<Idle> {
        holders.files = 0;
        self.edge_polled.store(0, Relaxed);
        holders.charge.uncharge()
    }

    #[inline]
    fn finish_leaving(&self, left: Left) {
        let left = match left {
            Left::ToClear => self.wait_to_clear(),
            left => left,
        };
        if let Left::Nobody(idle) = left {
            live::remove(self);
            drop(idle);
        }
    }

    #[cold]
    fn wait_to_clear(&self) -> Left {
        let left = self.ring.both(Patience::Endless, |both| {
            self.clear(both, self.rd_wait.lock())
        });
        // Nothing ends that wait.
        left.unwrap_or(Left::Others)
    }

    /// Takes a file away, with what is inside if it is the last one.
    fn clear(&self, both: &mut Both<'_>, mut holders: Guard<'_, Holders>) -> Left {
        if holders.files > 1 {
            holders.files -= 1;
            return Left::Others;
        }
        let idle = self.end(&mut holders);
        drop(holders);
        both.clear();
        if self.ring.max_usage() > DEFAULT_PAGES {
            // What it was enlarged to nobody pays for any more. It does no harm if this fails.
            let _ = both.resize(DEFAULT_PAGES);
        }
        Left::Nobody(idle)
    }

    /// The limits that it is measured by.
    fn limits(&self) -> Arc<Limits> {
        self.rd_wait.lock().charge.limits().clone()
    }

    /// Adds to one of the counts that `rd_wait`'s lock guards. Gives the sum.
    fn add(_lock: &mut Guard<'_, Holders>, count: &Atomic<u32>) -> u32 {
        let sum = count.load(Relaxed).wrapping_add(1);
        count.store(sum, Relaxed);
        sum
    }

    /// Takes one from one of the counts that `rd_wait`'s lock guards. Gives what is left.
    fn sub(lock: &mut Guard<'_, Holders>, count: &Atomic<u32>) -> u32 {
        let left = count.load(Relaxed).wrapping_sub(1);
        Self::set(lock, count, left, false);
        left
    }

    /// Sets one of the counts that `rd_wait`'s lock guards. Who then looks without `wr_wait`'s lock whether
    /// anybody is on that queue has to say so.
    #[inline]
    fn set(_lock: &mut Guard<'_, Holders>, count: &Atomic<u32>, left: u32, looks: bool) {
        // Pairs with the acquire in `has_writers`: who sees it sees what was written before. Full, it pairs with the
        // barrier in `Wait::announce` (src/abstractions/wait_queue/wait.rs), too: who is put on the queue after
        // the look sees it.
        if looks {
            count.xchg(left, Full);
        } else {
            count.store(left, Release);
        }
    }

    /// Sleeps until somebody has opened the other end since, whether they are still there or not.
    ///
    /// Nothing is lost between the look at the count and going to sleep: both are under the lock that who
    /// opens holds to change the count and to wake.
    ///
    /// C: `wait_for_partner`.
    fn wait_for_partner(holders: &mut Guard<'_, Holders>, counter: &Atomic<u32>) -> Result {
        let before = counter.load(Relaxed);
        let came = |_: &mut Holders| (counter.load(Relaxed) != before).then_some(());
        match holders.wait_until(&Wait::interruptible(), came) {
            Waited::Done(..) => Ok(()),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }

    /// Opens an end, or both. What is refused or interrupted leaves no count behind, but that somebody came.
    ///
    /// C: `fifo_open`.
    fn open_ends(&self, opening: &Opening<'_>) -> Result {
        let mut holders = self.rd_wait.lock();
        match opening.access() {
            Access {
                read: true,
                write: false,
            } => {
                Self::add(&mut holders, &self.r_counter);
                if Self::add(&mut holders, &self.readers) == 1 {
                    holders.wake(&Wake::all());
                }
                if !self.is_fifo || self.has_writers() {
                    return Ok(());
                }
                if opening.is_nonblocking() {
                    // It is no hang-up as long as there never was a writer.
                    opening.set_mark(self.w_counter.load(Relaxed).into());
                    return Ok(());
                }
                Self::wait_for_partner(&mut holders, &self.w_counter).inspect_err(|_| {
                    if Self::sub(&mut holders, &self.readers) == 0 {
                        self.wr_wait.wake(&Wake::one());
                    }
                })
            }
            Access {
                read: false,
                write: true,
            } => {
                if self.is_fifo && opening.is_nonblocking() && !self.has_readers() {
                    return Err(ENXIO);
                }
                Self::add(&mut holders, &self.w_counter);
                if Self::add(&mut holders, &self.writers) == 1 {
                    holders.wake(&Wake::all());
                }
                if !self.is_fifo || self.has_readers() {
                    return Ok(());
                }
                Self::wait_for_partner(&mut holders, &self.r_counter).inspect_err(|_| {
                    if Self::sub(&mut holders, &self.writers) == 0 {
                        holders.wake(&Wake::all());
                    }
                })
            }
            Access {
                read: true,
                write: true,
            } => {
                // This never blocks: whoever has both ends can at least talk to itself.
                Self::add(&mut holders, &self.r_counter);
                Self::add(&mut holders, &self.w_counter);
                let first_reader = Self::add(&mut holders, &self.readers) == 1;
                let first_writer = Self::add(&mut holders, &self.writers) == 1;
                if first_reader || first_writer {
                    holders.wake(&Wake::all());
                }
                Ok(())
            }
            Access {
                read: false,
                write: false,
            } => Err(EINVAL),
        }
    }
}

impl Openable for Pipe {
    const DIRECT: bool = true;

    fn open(&self, opening: &Opening<'_>) -> Result {
        self.join()?;
        self.open_ends(opening).inspect_err(|_| self.leave())
    }
}

/// What a waker does next.
#[derive(Clone, Copy)]
enum Waker {
    /// It goes on.
    GoesOn,
    /// It is done, and likely to sleep soon, for want of room or of something to write.
    IsDone,
}

impl Waker {
    fn wake_one(self) -> Wake {
        match self {
            Self::GoesOn => Wake::one(),
            Self::IsDone => Wake::one().sync(),
        }
    }
}

/// Waking and sleeping.
impl Pipe {
    /// Wakes one who waits for something to read, and calls all pollers.
    #[inline(never)]
    fn wake_reader(&self, waker: Waker) {
        let event = PollEvent::In | PollEvent::RdNorm;
        self.wake(&self.rd_wait, &waker.wake_one().key(event));
    }

    /// Wakes one who waits for room, and calls all pollers.
    #[inline(never)]
    fn wake_writer(&self, waker: Waker) {
        let event = PollEvent::Out | PollEvent::WrNorm;
        self.wake(&self.wr_wait, &waker.wake_one().key(event));
    }

    #[inline]
    fn wake<T>(&self, queue: &WaitQueue<T>, wake: &Wake) {
        match &self.tally {
            None => queue.wake(wake),
            Some(tally) => tally.wake(queue, wake),
        }
    }

    /// Whether a read would not sleep.
    #[inline]
    fn is_readable(&self) -> bool {
        !self.ring.state().is_empty() || !self.has_writers()
    }

    /// Whether a write would not sleep.
    #[inline]
    fn is_writable(&self) -> bool {
        self.ring.has_room() || !self.has_readers()
    }

    fn wait(exclusive: bool) -> Wait<'static> {
        let wait = Wait::interruptible();
        if exclusive {
            wait.exclusive()
        } else {
            wait
        }
    }

    /// Sleeps until a read would not.
    ///
    /// Who waits exclusively is one of those a wake-up counts, and has to wake the next when it is done.
    ///
    /// The look at the ring comes after going on the queue, with a full barrier between; a writer publishes,
    /// which is a full barrier, and then looks at the queue.
    #[inline(never)]
    fn wait_readable(&self, exclusive: bool) -> Result {
        let readable = || self.is_readable().then_some(());
        match self.rd_wait.wait_until(&Self::wait(exclusive), readable) {
            Waited::Done(..) => Ok(()),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }

    /// Sleeps until a write would not. As [`Pipe::wait_readable`].
    #[inline(never)]
    fn wait_writable(&self, exclusive: bool) -> Result {
        let writable = || self.is_writable().then_some(());
        match self.wr_wait.wait_until(&Self::wait(exclusive), writable) {
            Waited::Done(..) => Ok(()),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }
}

/// Reading.
impl Pipe {
    /// Takes what there is, up to what `to` has room for. Gives the error that ended it, if one did.
    #[inline(always)]
    fn take(
        &self,
        reader: &mut Reader<'_>,
        to: &mut (impl Destination + ?Sized),
        taken: &mut usize,
    ) -> Result {
        loop {
            reader.take_whole(to, taken, |reader| self.hand_back(reader))?;
            if to.is_empty() {
                break;
            }
            let Some(front) = reader.front() else { break };
            let wanted = front.len().min(to.len());
            if front.copy(wanted, to) < wanted {
                return Err(EFAULT);
            }
            *taken += wanted;
            if front.is_sealed() {
                // A packet is read once, and what did not fit is lost.
                let all = front.len();
                front.consume(all);
                break;
            }
            front.consume(wanted);
            if to.is_empty() {
                break;
            }
            self.hand_back(reader);
        }
        Ok(())
    }

    /// Lets writers have the room that there is so far.
    #[inline(never)]
    fn hand_back(&self, reader: &mut Reader<'_>) {
        if let Some(before) = reader.hand_back(|| self.wr_wait.is_active()) {
            if before.is_full(self.ring.max_usage()) && self.wr_wait.is_active() {
                self.wake_writer(Waker::GoesOn);
            }
        }
    }

    /// Gives the pages of what there is to a pipe of the kernel's, up to `len` bytes. Gives the error that
    /// ended it, if one did.
    fn give(
        reader: &mut Reader<'_>,
        pipe: &mut SplicePipe<'_>,
        len: usize,
        moved: &mut usize,
    ) -> Result {
        while *moved < len {
            let Some(front) = reader.front() else { break };
            let wanted = front.len().min(len - *moved);
            pipe.push(front.share(wanted), front.is_sealed())?;
            front.consume(wanted);
            *moved += wanted;
        }
        Ok(())
    }

    /// Inlined, as is [`Pipe::write_bytes`]: a call, and its result in memory, are a tenth of what a small one
    /// costs.
    ///
    /// C: `anon_pipe_read`.
    #[inline(always)]
    fn read_bytes(&self, request: &IoRequest<'_>, to: &mut impl Destination) -> Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        let mut taken = 0;
        let mut slept = false;
        let (result, before) = loop {
            let may_come = self.has_writers();
            let read = self
                .ring
                .read_filled(|reader| self.take(reader, to, &mut taken));
            match read {
                Ok(Some(read)) if taken > 0 || read.0.is_err() => break read,
                Ok(_) if !may_come => break (Ok(()), None),
                Ok(_) => match self.wait_for_more(*request) {
                    Ok(waited) => slept |= waited,
                    Err(error) if error == EAGAIN => break (Err(error), None),
                    // Nothing was read, so that a signal may end it without a word.
                    Err(error) => return Err(error),
                },
                // Killed while another reader was at work. If this reader has slept, it took a writer's one
                // wake-up for what may still be there: `after_read` wakes the next reader in its place.
                Err(killed) => break (Err(killed), None),
            }
        };
        self.after_read(before, slept);
        match taken {
            0 => result.map(|()| 0),
            _ => Ok(taken),
        }
    }

    /// Waits until there is something to read, or nothing to come, if it may. Tells whether it did.
    ///
    /// Errors: `EAGAIN` if it may not, and something may come; `ERESTARTSYS` if a signal came.
    #[inline(never)]
    fn wait_for_more(&self, request: IoRequest<'_>) -> Result<bool> {
        if !request.is_nonblocking() {
            self.wait_readable(true)?;
            return Ok(true);
        }
        if self.has_writers() {
            return Err(EAGAIN);
        }
        Ok(false)
    }

    /// Tells others what a read has changed. `before` is what there was when it made room, if it did.
    #[inline(always)]
    fn after_read(&self, before: Option<State>, slept: bool) {
        let wake_writer = before.is_some_and(|state| state.is_full(self.ring.max_usage()));
        let wake_next_reader = slept && !self.ring.state().is_empty();

        if wake_writer && self.wr_wait.is_active() {
            self.wake_writer(Waker::IsDone);
        }
        if wake_next_reader && self.rd_wait.is_active() {
            self.wake_reader(Waker::IsDone);
        }
        self.fasync_writers.notify(Band::Out);
    }
}

/// Whether what is written to the file is to be read packet by packet: `O_DIRECT`, as pipe2(2) has it.
fn is_packetized(file: &LocalFile) -> bool {
    file.flags() & flags::O_DIRECT != 0
}

/// Writing.
enum Ended {
    /// All of it is in.
    Complete,
    /// There is no room for the rest.
    Full,
    /// This came between.
    Failed(Error),
}

impl Pipe {
    /// Adds what there is room for: to the last buffer first, at the beginning of a write, and then in new
    /// ones.
    #[inline(always)]
    fn add_to(
        &self,
        writer: &mut Writer<'_>,
        request: IoRequest<'_>,
        from: &mut (impl Source + ?Sized),
        first: bool,
        added: &mut usize,
    ) -> Ended {
        let packet = is_packetized(request.file());
        if first {
            match writer.merge(from, packet) {
                Ok(len) => *added += len,
                Err(error) => return Ended::Failed(error),
            }
        }
        while let Some(rest) = Filled::new(from) {
            if let Some(published) = writer.hand_over() {
                if published.was_empty() && self.rd_wait.is_active() {
                    self.wake_reader(Waker::GoesOn);
                }
            }
            match writer.push(rest, packet) {
                Ok(len) => *added += len,
                Err(Refused::Full) => return Ended::Full,
                Err(Refused::NoMemory) => return Ended::Failed(ENOMEM),
                Err(Refused::Fault) => return Ended::Failed(EFAULT),
            }
        }
        Ended::Complete
    }

    /// Nobody will read this.
    #[cold]
    fn broken(request: IoRequest<'_>) -> Ended {
        if !request.no_signal() {
            send_sigpipe();
        }
        Ended::Failed(EPIPE)
    }

    /// Adds what there is room for now, at the beginning of a write or later. Gives what was published, too.
    #[inline(always)]
    fn write_once(
        &self,
        request: IoRequest<'_>,
        from: &mut (impl Source + ?Sized),
        first: bool,
        added: &mut usize,
    ) -> (Ended, Option<Published>) {
        let wrote = self.ring.write(|writer| {
            if self.has_readers() {
                self.add_to(writer, request, from, first, added)
            } else {
                Self::broken(request)
            }
        });
        wrote.unwrap_or_else(|killed| (Ended::Failed(killed), None))
    }

    /// Inlined up to where it waits, as is [`Pipe::read_bytes`].
    ///
    /// C: `anon_pipe_write`.
    #[inline(always)]
    fn write_bytes(&self, request: &IoRequest<'_>, from: &mut impl Source) -> Result<usize> {
        if from.is_empty() {
            return Ok(0);
        }
        let mut added = 0;
        let (mut ended, mut published) = self.write_once(*request, from, true, &mut added);
        let mut slept = false;
        if matches!(ended, Ended::Full) {
            (ended, published, added, slept) = self.write_rest(*request, from, published, added);
        }
        self.after_write(published.is_some_and(Published::was_empty), slept);
        match ended {
            Ended::Failed(error) if added == 0 => Err(error),
            _ => Ok(added),
        }
    }

    /// Goes on where there was no room, once there is some. `published` is what the last turn did.
    ///
    /// Apart, and for a source of any kind, so that the compiler sees in a write no more than one turn.
    #[cold]
    #[inline(never)]
    fn write_rest(
        &self,
        request: IoRequest<'_>,
        from: &mut dyn Source,
        mut published: Option<Published>,
        mut added: usize,
    ) -> (Ended, Option<Published>, usize, bool) {
        let mut slept = false;
        loop {
            // If readers took something before they could see the ring full they told nobody of the room, and
            // who waits for the edge after a short write would wait for ever.
            let filled = published.is_none_or(|it| it.filled(self.ring.max_usage()));
            if filled && request.is_nonblocking() {
                return (Ended::Failed(EAGAIN), published, added, slept);
            }
            if filled && signal_pending() {
                return (Ended::Failed(ERESTARTSYS), published, added, slept);
            }
            if published.is_some_and(Published::was_empty) && self.rd_wait.is_active() {
                self.wake_reader(Waker::IsDone);
            }
            if filled {
                self.fasync_readers.notify(Band::In);
                // A signal is looked for once there is no room again.
                let _ = self.wait_writable(true);
                slept = true;
            }
            let ended;
            (ended, published) = self.write_once(request, from, false, &mut added);
            if !matches!(ended, Ended::Full) {
                return (ended, published, added, slept);
            }
        }
    }

    /// Tells others what a write has changed.
    #[inline(always)]
    fn after_write(&self, was_empty: bool, slept: bool) {
        let wake_reader = was_empty || self.edge_polled.load(Relaxed) != 0;
        let wake_next_writer = slept && self.ring.has_room();

        if wake_reader && self.rd_wait.is_active() {
            self.wake_reader(Waker::IsDone);
        }
        self.fasync_readers.notify(Band::In);
        if wake_next_writer && self.wr_wait.is_active() {
            self.wake_writer(Waker::IsDone);
        }
    }
}

/// What is noted of a read or a write.
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
    /// The capacity in bytes.
    fn size(&self) -> isize {
        self.ring.max_usage() as isize * BUFFER_MAX as isize
    }

    /// Changes the capacity to `bytes`, rounded up to a power of two of pages. Gives what it is then.
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

    /// Has whoever pays for the pipe pay for so many pages: while both ends are claimed that is always the
    /// same. Tells whether they are above a limit then.
    fn recharge(&self, pages: u32) -> bool {
        self.rd_wait.lock().charge.change(pages)
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

    /// Takes what is there; waits for something if nothing is.
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

    /// Gives the pages of what is there to a pipe of the kernel's, without copying.
    ///
    /// That pipe's lock is held, so that whatever sleeps lets go of it first; and nothing of ours is held
    /// while it is taken again, which whoever splices the other way has.
    ///
    /// C: `splice_pipe_to_pipe` in `fs/splice.c`.
    fn splice_read(
        &self,
        file: &LocalFile,
        pipe: &mut SplicePipe<'_>,
        len: usize,
        nonblock: bool,
    ) -> Result<usize> {
        loop {
            let may_come = self.has_writers();
            let mut moved = 0;
            let give = |reader: &mut Reader<'_>| Self::give(reader, pipe, len, &mut moved);
            let Some((result, before)) = self.ring.try_read(give) else {
                // Another reader is at it.
                pipe.unlocked(|| self.ring.read(|_| ()))?;
                continue;
            };
            if before.is_some() {
                // There is more room. Full before or not, as splice does with the kernel's pipes.
                if self.wr_wait.is_active() {
                    self.wake(&self.wr_wait, &Wake::one());
                }
                self.fasync_writers.notify(Band::Out);
            }
            let nonblock = nonblock || is_nonblocking(file);
            match result {
                _ if moved > 0 => {
                    if let Some(tally) = &self.tally {
                        tally.add_read(moved);
                    }
                    return Ok(moved);
                }
                // It was filled while it was not locked.
                Err(error) if error == EAGAIN && !nonblock => {
                    pipe.wait_for_room()?;
                    continue;
                }
                Err(error) => return Err(error),
                Ok(()) if !may_come => return Ok(0),
                Ok(()) if nonblock => return Err(EAGAIN),
                Ok(()) => {}
            }
            pipe.unlocked(|| self.wait_readable(false))?;
        }
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
        // What happens before these looks is seen by them, what happens after finds the poller on the queue.
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
            _ => Err(ENOTTY),
        }
    }

    /// One line more than the original has. The factory's list tells the rest, to those who may use the factory.
    fn show_fdinfo(&self, m: &SeqFile, _file: &LocalFile) {
        if !self.is_fifo {
            seq_print!(m, "pipe-id:\t{}\n", self.entry.number());
        }
    }

    /// Tells those on the other side if nobody is left on this one.
    ///
    /// C: `pipe_release`.
    #[inline(always)]
    fn release(&self, access: Access, inode: InodeOfReleased<'_>) {
        let mut holders = self.rd_wait.lock();
        let readers = self.readers.load(Relaxed) - u32::from(access.read);
        let writers = self.writers.load(Relaxed) - u32::from(access.write);
        // Who is at the other end, and alone now, has to hear of it.
        let alone = (readers == 0) != (writers == 0);
        if access.read {
            Self::set(&mut holders, &self.readers, readers, alone);
        }
        if access.write {
            Self::set(&mut holders, &self.writers, writers, alone);
        }
        if alone && self.rd_wait.is_active() {
            holders.wake(&Wake::all());
        }
        let left = self.try_leave(holders, inode);
        if alone {
            if self.wr_wait.is_active() {
                self.wr_wait.wake(&Wake::all());
            }
            self.fasync_readers.notify(Band::In);
            self.fasync_writers.notify(Band::Out);
        }
        self.finish_leaving(left);
    }
}
