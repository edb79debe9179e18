// SPDX-License-Identifier: GPL-2.0

//! The counter: an eventfd in all but name.
//!
//! A write adds to a 64-bit count, a read takes it. A reader that finds nothing sleeps, as does a writer that finds no
//! room. Card: eventfd, `struct eventfd_ctx`. Original: `fs/eventfd.c`, eventfd(2).

use crate::{
    abstractions::{
        tables::id_table::{self, impl_in_table, Id},
        vfs::{
            anon_file::AnonFiles,
            file::{Access, FileOperations, InodeOfReleased, IoRequest, Seek},
            poll::PollTable,
            stream::{Destination, Source},
            user_struct::{impl_user_struct, UserStructPtr},
        },
        wait_queue::{
            new_wait_queue, Locked, PollEvent, PollEvents, Wait, WaitQueue, Waited, Wake,
        }, //
    },
    algorithms::counter::{self, Change, Count, CounterOps, Mode, Upper, Word},
    bindings::{
        ipcdemo_counter_args, ipcdemo_object, IPCDEMO_CLOEXEC, IPCDEMO_COUNTER_SEMAPHORE,
        IPCDEMO_COUNTER_SIZE_VER0, IPCDEMO_IOC_COUNTER, IPCDEMO_IOC_ID, IPCDEMO_KIND_COUNTER,
        IPCDEMO_NONBLOCK, IPCDEMO_WAITERS_COUNTED,
    },
    objects::{
        pipe::limits::Account,
        product::{publish, tell_id, Product},
        tally::{Tallies, Tally},
    }, //
};
use kernel::{
    fs::{File, LocalFile},
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{aref::ARef, Arc},
};
use zerocopy::FromZeros;

/// A counter: the card's `eventfd_ctx`.
///
/// Readers and writers share one queue, and each change wakes both, as in the original. No sleeper is exclusive; an
/// `EPOLLEXCLUSIVE` watcher is, and takes a wake-up from the entries behind it.
///
/// The queue's lock guards the count only while somebody waits: `algorithms/counter.rs` tells how the two meet.
#[pin_data]
pub(crate) struct Counter {
    count: Word,
    /// Tasks that wait for the count to change. Its lock guards its entries, and the count while that is locked.
    #[pin]
    wqh: WaitQueue<()>,
    id: Id,
    mode: Mode,
    upper: Upper,
    /// Whether it is that of `/dev/ipcdemo-counter`, which is in no table.
    shared: bool,
}

impl_in_table!(Counter, id);

impl Counter {
    /// Makes one, and a file on it.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`, `ENOSPC` if no id is free.
    ///
    /// C: `do_eventfd`.
    #[inline(always)]
    fn create(files: &AnonFiles, count: u32, mode: Mode, open_flags: u32) -> Result<ARef<File>> {
        let counter = id_table::add(Self::new(count, mode, false)?)?;
        files.create(counter, open_flags)
    }

    /// Makes one, and a file on it whose reads, writes and wake-ups are added up.
    ///
    /// Context and errors as in [`Counter::create`].
    fn create_tallied(
        files: &AnonFiles,
        count: u32,
        mode: Mode,
        open_flags: u32,
        tally: Arc<Tally>,
    ) -> Result<ARef<File>> {
        let tallied = Tallied {
            counter: id_table::add(Self::new(count, mode, false)?)?,
            tally: tally.clone(),
        };
        let tallied = Arc::new(tallied, GFP_KERNEL_ACCOUNT)?;
        let file = files.create(tallied, open_flags)?;
        tally.add_object();
        Ok(file)
    }

    /// Makes one as eventfd2(2) does, and returns its descriptor's number. With `tallies`, its reads, writes and
    /// wake-ups are added up there.
    ///
    /// Context: may sleep. Errors: `EINVAL` for unknown flags, `EMFILE`; as [`Counter::create`].
    ///
    /// C: `do_eventfd` in `fs/eventfd.c`.
    pub(crate) fn eventfd(
        files: &AnonFiles,
        tallies: Option<&Tallies>,
        count: u32,
        flags: u32,
    ) -> Result<usize> {
        let mode = mode_of(flags)?;
        let mut number = 0;
        publish(
            flags,
            || match tallies {
                None => Self::create(files, count, mode, flags),
                Some(tallies) => {
                    let tally = tallies.of_caller(Self::KIND)?;
                    Self::create_tallied(files, count, mode, flags, tally)
                }
            },
            |fd| {
                number = fd as usize;
                Ok(())
            },
        )?;
        Ok(number)
    }

    /// Makes one that is there for everybody, however many files on it come and go.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn new_shared() -> Result<Arc<Self>> {
        Self::new(0, Mode::Sum, true)
    }

    pub(crate) fn new(count: u32, mode: Mode, shared: bool) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                count: Word::new(Count::new(count)),
                wqh <- new_wait_queue!((), "Counter::wqh"),
                id: Id::new(),
                mode,
                upper: Upper::default(),
                shared,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }
}

impl_user_struct!(ipcdemo_counter_args: IPCDEMO_COUNTER_SIZE_VER0);

impl Product for Counter {
    const KIND: u32 = IPCDEMO_KIND_COUNTER;
    const MAKE: u32 = IPCDEMO_IOC_COUNTER;
    type Resources = AnonFiles;

    fn open_resources() -> Result<AnonFiles> {
        AnonFiles::new(c"[ipcdemo-counter]")
    }

    /// C: `do_eventfd` in `fs/eventfd.c`.
    fn make(files: &AnonFiles, _account: &Account, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_counter_args = ptr.read()?;
        let mode = mode_of(args.flags)?;
        if args.reserved != 0 {
            return Err(EINVAL);
        }
        let (count, flags) = (args.initval, args.flags);
        publish(
            flags,
            || Self::create(files, count, mode, flags),
            |fd| ptr.write(&ipcdemo_counter_args { fd, ..args }),
        )
    }

    fn describe(&self) -> ipcdemo_object {
        ipcdemo_object {
            value: self.count(),
            flags: match self.mode() {
                Mode::Sum => 0,
                Mode::Semaphore => IPCDEMO_COUNTER_SEMAPHORE,
            },
            waiters: self
                .wqh
                .lock()
                .count_entries(IPCDEMO_WAITERS_COUNTED as usize) as u32,
            ..FromZeros::new_zeroed()
        }
    }
}

/// Returns the mode that flags ask for; those of eventfd2(2) have the same values.
fn mode_of(flags: u32) -> Result<Mode> {
    if flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK | IPCDEMO_COUNTER_SEMAPHORE) != 0 {
        return Err(EINVAL);
    }
    Ok(if flags & IPCDEMO_COUNTER_SEMAPHORE != 0 {
        Mode::Semaphore
    } else {
        Mode::Sum
    })
}

/// The event that a change is to the entries on the queue.
fn event(change: Change) -> PollEvent {
    match change {
        Change::Taken => PollEvent::Out,
        Change::Added => PollEvent::In,
    }
}

impl CounterOps for Counter {
    type Error = Error;
    type Locked<'a> = Locked<'a, ()>;

    #[inline]
    fn word(&self) -> &Word {
        &self.count
    }

    #[inline]
    fn upper(&self) -> &Upper {
        &self.upper
    }

    #[inline]
    fn is_active(&self) -> bool {
        self.wqh.is_active()
    }

    #[inline]
    fn locked<R: Send>(&self, f: impl FnOnce(&mut Self::Locked<'_>) -> R + Send) -> R {
        self.wqh.locked(f)
    }

    /// `one` wakes every sleeper: it counts exclusive entries only, and no sleeper is exclusive.
    #[inline]
    fn wake(&self, queue: &mut Locked<'_, ()>, change: Change) -> bool {
        queue.wake(&Wake::one().key(event(change)))
    }

    /// C: `wait_event_interruptible_locked_irq`, whose entries stand at the tail, too.
    #[inline]
    fn wait_until(&self, mut condition: impl FnMut() -> bool) -> Result {
        let condition = || condition().then_some(());
        match self
            .wqh
            .wait_until(&Wait::interruptible().at_tail(), condition)
        {
            Waited::Done(..) => Ok(()),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }
}

impl Counter {
    /// Whether a read takes all, or one.
    fn mode(&self) -> Mode {
        self.mode
    }

    /// The count.
    fn count(&self) -> u64 {
        counter::get(self).get()
    }
}

/// Takes the count, or one in semaphore mode; waits while it is 0.
///
/// A buffer that turns out to be bad is noticed after the count was taken, as in the original.
///
/// C: `eventfd_read`.
#[inline]
fn take(
    counter: &impl CounterOps<Error = Error>,
    mode: Mode,
    request: &IoRequest<'_>,
    to: &mut impl Destination,
) -> Result<usize> {
    if to.len() < size_of::<u64>() {
        return Err(EINVAL);
    }
    let request = *request;
    let taken = counter::read(counter, mode, move || may_wait(request))?;
    if to.write_word(taken) {
        Ok(size_of::<u64>())
    } else {
        Err(EFAULT)
    }
}

/// Adds eight bytes' worth to the count; waits while there is no room for it.
///
/// The length is judged before the buffer is touched.
///
/// C: `eventfd_write`.
#[inline]
fn add(
    counter: &impl CounterOps<Error = Error>,
    request: &IoRequest<'_>,
    from: &mut impl Source,
) -> Result<usize> {
    if from.len() != size_of::<u64>() {
        return Err(EINVAL);
    }
    let value = from.read_word().ok_or(EFAULT)?;
    let request = *request;
    counter::write(counter, value, move |value| {
        // There will never be room for that.
        if value > Count::MAX {
            return Err(EINVAL);
        }
        may_wait(request)
    })?;
    Ok(size_of::<u64>())
}

/// Whether a request may wait.
#[inline]
fn may_wait(request: IoRequest<'_>) -> Result {
    if request.is_nonblocking() {
        return Err(EAGAIN);
    }
    Ok(())
}

#[vtable]
impl FileOperations for Counter {
    const NOWAIT: bool = true;
    const SEEK: Seek = Seek::Ignored;
    const VECTORED_WRITE: bool = false;

    #[inline]
    fn read(&self, request: &IoRequest<'_>, to: &mut impl Destination) -> Result<usize> {
        take(self, self.mode(), request, to)
    }

    #[inline]
    fn write(&self, request: &IoRequest<'_>, from: &mut impl Source) -> Result<usize> {
        add(self, request, from)
    }

    /// Readable above 0, writable below the maximum. `EPOLLERR` would tell of an overflow, which
    /// only the kernel's own users of an eventfd can cause, and ours has none.
    ///
    /// C: `eventfd_poll`.
    fn poll<'file>(&'file self, _file: &LocalFile, table: &PollTable<'file>) -> PollEvents {
        table.register(&self.wqh);
        // This look sees each earlier change, and each later change finds the poller on the queue.
        let mut events = PollEvents::default();
        let (readable, writable) = counter::readiness(self);
        if readable {
            events |= PollEvent::In;
        }
        if writable {
            events |= PollEvent::Out;
        }
        events
    }

    /// C: `eventfd_show_fdinfo`.
    fn show_fdinfo(&self, m: &SeqFile, _file: &LocalFile) {
        seq_print!(m, "eventfd-count: {:16x}\n", self.count());
        seq_print!(m, "eventfd-id: {}\n", self.id.get());
        seq_print!(
            m,
            "eventfd-semaphore: {}\n",
            u8::from(self.mode() == Mode::Semaphore)
        );
    }

    /// Tells the counter's id, as the list of objects has it.
    fn ioctl(&self, _file: &LocalFile, cmd: u32, arg: usize) -> Result<isize> {
        if cmd != IPCDEMO_IOC_ID || self.shared {
            return Err(ENOTTY);
        }
        tell_id::<Self>(self.id.get(), arg)
    }

    /// Tells the pollers that are left on the queue that this is the end, unless it is the shared counter.
    ///
    /// C: `eventfd_release`.
    fn release(&self, _access: Access, _inode: InodeOfReleased<'_>) {
        if !self.shared {
            self.wqh.wake(&Wake::one().key(PollEvent::Hup));
        }
    }
}

/// A counter with a tally: the object behind a tallied file. A pipe has an `Option` of one instead; here that costs 21
/// instructions of each write.
struct Tallied {
    counter: id_table::Listed<Counter>,
    tally: Arc<Tally>,
}

impl CounterOps for Tallied {
    type Error = Error;
    type Locked<'a> = Locked<'a, ()>;

    fn word(&self) -> &Word {
        self.counter.word()
    }

    fn upper(&self) -> &Upper {
        self.counter.upper()
    }

    fn is_active(&self) -> bool {
        self.counter.is_active()
    }

    fn locked<R: Send>(&self, f: impl FnOnce(&mut Self::Locked<'_>) -> R + Send) -> R {
        self.counter.locked(f)
    }

    fn wake(&self, queue: &mut Locked<'_, ()>, change: Change) -> bool {
        let wake = Wake::one().key(event(change));
        self.tally.wake_locked(queue, &wake) > 0
    }

    fn wait_until(&self, condition: impl FnMut() -> bool) -> Result {
        self.counter.wait_until(condition)
    }
}

/// As the counter's own.
#[vtable]
impl FileOperations for Tallied {
    const NOWAIT: bool = Counter::NOWAIT;
    const SEEK: Seek = Counter::SEEK;
    const VECTORED_WRITE: bool = Counter::VECTORED_WRITE;

    fn read(&self, request: &IoRequest<'_>, to: &mut impl Destination) -> Result<usize> {
        let taken = take(self, self.counter.mode(), request, to)?;
        self.tally.add_read(taken);
        Ok(taken)
    }

    fn write(&self, request: &IoRequest<'_>, from: &mut impl Source) -> Result<usize> {
        let added = add(self, request, from)?;
        self.tally.add_written(added);
        Ok(added)
    }

    fn poll<'file>(&'file self, file: &LocalFile, table: &PollTable<'file>) -> PollEvents {
        self.counter.poll(file, table)
    }

    fn show_fdinfo(&self, m: &SeqFile, file: &LocalFile) {
        self.counter.show_fdinfo(m, file);
    }

    fn ioctl(&self, file: &LocalFile, cmd: u32, arg: usize) -> Result<isize> {
        self.counter.ioctl(file, cmd, arg)
    }

    fn release(&self, access: Access, inode: InodeOfReleased<'_>) {
        self.counter.release(access, inode);
    }
}
