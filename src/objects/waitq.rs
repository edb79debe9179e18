// SPDX-License-Identifier: GPL-2.0

//! The waitq: a wait queue, bare, with a word for its users to agree upon.
//!
//! It does for user space what `wait_event` and `wake_up` do in the kernel, with everything there is to
//! choose, and writes a receipt of the outcome. Card: wait queue. Original: `kernel/sched/wait.c`,
//! `include/linux/wait.h`; the word is that of futex(2).

use crate::{
    abstractions::{
        tables::id_table::{self, impl_in_table, Id},
        vfs::{
            anon_file::AnonFiles,
            file::{Access, FileOperations, InodeOfReleased, IoRequest, Seek},
            poll::PollTable,
            stream::{Destination, Source},
            user_struct::{impl_user_struct, request, Request, UserArray, UserStructPtr},
        },
        wait_queue::{
            new_wait_queue, Call, Deadline, Kind, Kinds, PassedOn, PollEvent, PollEvents,
            StoppedBy, Verdict, Wait, WaitQueue, Waited, Wake,
        }, //
    },
    bindings::{
        ipcdemo_object,
        ipcdemo_wait_args,
        ipcdemo_waiter,
        ipcdemo_waiters_args,
        ipcdemo_waitq_args,
        ipcdemo_wake_args,
        IPCDEMO_CHANGED,
        IPCDEMO_CLOEXEC,
        IPCDEMO_IOC_WAIT,
        IPCDEMO_IOC_WAITERS,
        IPCDEMO_IOC_WAITQ,
        IPCDEMO_IOC_WAKE,
        IPCDEMO_KEY_ALL,
        IPCDEMO_KIND_WAITQ,
        IPCDEMO_LINGER_MAX_US,
        IPCDEMO_NONBLOCK,
        IPCDEMO_SIGNALED,
        IPCDEMO_STOPPED_BY_END,
        IPCDEMO_STOPPED_BY_ENTRY,
        IPCDEMO_STOPPED_BY_QUOTA,
        IPCDEMO_TIMED_OUT,
        IPCDEMO_UNINTERRUPTIBLE_MAX_NS,
        IPCDEMO_WAITERS_COUNTED,
        IPCDEMO_WAITERS_MAX,
        IPCDEMO_WAITERS_SIZE_VER0,
        IPCDEMO_WAITER_EPOLL,
        IPCDEMO_WAITER_EXCLUSIVE,
        IPCDEMO_WAITER_IO_URING,
        IPCDEMO_WAITER_OTHER,
        IPCDEMO_WAITER_POLL,
        IPCDEMO_WAITER_PRIORITY,
        IPCDEMO_WAITER_SIZE_MAX,
        IPCDEMO_WAITER_TASK,
        IPCDEMO_WAITQ_SIZE_VER0,
        IPCDEMO_WAIT_ABSTIME,
        IPCDEMO_WAIT_EXCLUSIVE,
        IPCDEMO_WAIT_EXPECT,
        IPCDEMO_WAIT_KILLABLE,
        IPCDEMO_WAIT_PRIORITY,
        IPCDEMO_WAIT_SIZE_VER0,
        IPCDEMO_WAIT_TIMEOUT,
        IPCDEMO_WAIT_UNINTERRUPTIBLE,
        IPCDEMO_WAKE_SET,
        IPCDEMO_WAKE_SIZE_VER0,
        IPCDEMO_WAKE_SYNC,
        IPCDEMO_WOKEN, //
    },
    objects::{
        pipe::limits::Account,
        product::{publish, Product}, //
    },
};
use kernel::{
    fs::{File, LocalFile},
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, //
    }, //
};
use zerocopy::FromZeros;

/// A wait queue.
#[pin_data]
pub(crate) struct Waitq {
    /// Changed only with the queue's lock held. Without it a woken task reads it, which would have to
    /// wait for its waker otherwise.
    word: Atomic<u64>,
    #[pin]
    queue: WaitQueue<()>,
    /// Whether it is that of `/dev/ipcdemo-waitq`, which is not listed.
    shared: bool,
    id: Id,
}

impl_in_table!(Waitq, id);

impl Waitq {
    /// Makes one, and a file on it.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`, `ENOSPC` if no id is free.
    fn create(files: &AnonFiles, word: u64, open_flags: u32) -> Result<ARef<File>> {
        let waitq = id_table::add(Self::new(word, false)?)?;
        files.create(waitq, open_flags)
    }

    /// Makes one that is there for everybody, however many files on it come and go.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn new_shared() -> Result<Arc<Self>> {
        Self::new(0, true)
    }

    pub(crate) fn new(word: u64, shared: bool) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                word: Atomic::new(word),
                queue <- new_wait_queue!((), "Waitq::queue"),
                shared,
                id: Id::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The word, and the number of entries on the queue up to `IPCDEMO_WAITERS_COUNTED`, at one moment.
    fn snapshot(&self) -> (u64, usize) {
        let queue = self.queue.lock();
        let waiters = queue.count_entries(IPCDEMO_WAITERS_COUNTED as usize);
        (self.word(), waiters)
    }

    fn word(&self) -> u64 {
        self.word.load(Relaxed)
    }
}

impl Product for Waitq {
    const KIND: u32 = IPCDEMO_KIND_WAITQ;
    const MAKE: u32 = IPCDEMO_IOC_WAITQ;
    type Resources = AnonFiles;

    fn open_resources() -> Result<AnonFiles> {
        AnonFiles::new(c"[ipcdemo-waitq]")
    }

    fn make(files: &AnonFiles, _account: &Account, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_waitq_args = ptr.read()?;
        if args.flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK) != 0 {
            return Err(EINVAL);
        }
        publish(
            args.flags,
            || Self::create(files, args.word, args.flags),
            |fd| ptr.write(&ipcdemo_waitq_args { fd, ..args }),
        )
    }

    fn describe(&self) -> ipcdemo_object {
        let (value, waiters) = self.snapshot();
        ipcdemo_object {
            value,
            waiters: waiters as u32,
            ..FromZeros::new_zeroed()
        }
    }
}

const WAIT: Request = request(IPCDEMO_IOC_WAIT);
const WAKE: Request = request(IPCDEMO_IOC_WAKE);
const WAITERS: Request = request(IPCDEMO_IOC_WAITERS);

impl_user_struct! {
    ipcdemo_waitq_args: IPCDEMO_WAITQ_SIZE_VER0,
    ipcdemo_wait_args: IPCDEMO_WAIT_SIZE_VER0,
    ipcdemo_wake_args: IPCDEMO_WAKE_SIZE_VER0,
    ipcdemo_waiters_args: IPCDEMO_WAITERS_SIZE_VER0,
}

/// The wake-up that took a sleeper, as its receipt describes it. The waker writes it with the queue's lock held;
/// the sleeper reads it once it has left the queue, and that orders the two.
struct Note {
    pid: Atomic<i32>,
    tid: Atomic<i32>,
    key: Atomic<u32>,
    walked: Atomic<u32>,
    called: Atomic<u32>,
    woken: Atomic<u32>,
    stopped_by: Atomic<u32>,
}

impl Note {
    fn new() -> Self {
        Self {
            pid: Atomic::new(0),
            tid: Atomic::new(0),
            key: Atomic::new(0),
            walked: Atomic::new(0),
            called: Atomic::new(0),
            woken: Atomic::new(0),
            stopped_by: Atomic::new(0),
        }
    }

    fn take_down(&self, call: &Call<'_>) {
        let (pid, tid) = call.waker();
        self.pid.store(pid, Relaxed);
        self.tid.store(tid, Relaxed);
        self.key.store(call.key().bits(), Relaxed);
        let progress = call.progress().unwrap_or_default();
        self.walked.store(progress.walked, Relaxed);
        self.called.store(progress.called, Relaxed);
        self.woken.store(progress.woken, Relaxed);
        self.stopped_by.store(reason(progress.stopped_by), Relaxed);
    }

    fn copy_to(&self, args: &mut ipcdemo_wait_args) {
        args.waker_pid = self.pid.load(Relaxed);
        args.waker_tid = self.tid.load(Relaxed);
        args.key = self.key.load(Relaxed);
        args.walked = self.walked.load(Relaxed);
        args.called = self.called.load(Relaxed);
        args.woken = self.woken.load(Relaxed);
        args.stopped_by = self.stopped_by.load(Relaxed);
    }
}

fn reason(stopped_by: StoppedBy) -> u32 {
    match stopped_by {
        StoppedBy::End => IPCDEMO_STOPPED_BY_END,
        StoppedBy::Quota => IPCDEMO_STOPPED_BY_QUOTA,
        StoppedBy::Entry => IPCDEMO_STOPPED_BY_ENTRY,
    }
}

/// A set of poll events that a user may name: not the kernel's own, such as `POLLFREE`.
fn events(bits: u32) -> Result<PollEvents> {
    if bits & !IPCDEMO_KEY_ALL != 0 {
        return Err(EINVAL);
    }
    Ok(PollEvents::from_bits(bits))
}

/// The wait that a user asks for.
fn described(args: &ipcdemo_wait_args) -> Result<Wait<'static>> {
    const STATE: u32 = IPCDEMO_WAIT_KILLABLE | IPCDEMO_WAIT_UNINTERRUPTIBLE;
    const TIME: u32 = IPCDEMO_WAIT_TIMEOUT | IPCDEMO_WAIT_ABSTIME;
    const KNOWN: u32 =
        STATE | TIME | IPCDEMO_WAIT_EXCLUSIVE | IPCDEMO_WAIT_PRIORITY | IPCDEMO_WAIT_EXPECT;
    if args.flags & !KNOWN != 0
        || args.reserved != 0
        || args.reserved2 != 0
        || args.linger_us > IPCDEMO_LINGER_MAX_US
    {
        return Err(EINVAL);
    }
    let deadline = match args.flags & TIME {
        0 => None,
        IPCDEMO_WAIT_TIMEOUT => Some(Deadline::after(args.timeout_ns)),
        IPCDEMO_WAIT_ABSTIME => Some(Deadline::at(args.timeout_ns)),
        _ => return Err(EINVAL),
    };
    let wait = match args.flags & STATE {
        0 => Wait::interruptible(),
        IPCDEMO_WAIT_KILLABLE => Wait::killable().freezable(),
        // Nothing but a wake-up can end it, so that it has to end soon.
        IPCDEMO_WAIT_UNINTERRUPTIBLE => {
            let last = Deadline::after(IPCDEMO_UNINTERRUPTIBLE_MAX_NS);
            let too_long = args.flags & IPCDEMO_WAIT_TIMEOUT != 0
                && args.timeout_ns > IPCDEMO_UNINTERRUPTIBLE_MAX_NS;
            if too_long || deadline.is_none_or(|deadline| deadline > last) {
                return Err(EINVAL);
            }
            Wait::uninterruptible().freezable()
        }
        _ => return Err(EINVAL),
    };
    let mut wait = wait
        .until(deadline)
        .mask(events(args.mask)?)
        .stamped()
        .linger(u64::from(args.linger_us) * 1000);
    if args.flags & IPCDEMO_WAIT_EXCLUSIVE != 0 {
        wait = wait.exclusive();
    }
    if args.flags & IPCDEMO_WAIT_PRIORITY != 0 {
        wait = wait.priority();
    }
    Ok(wait)
}

/// A receipt that says nothing yet.
fn blank(args: &ipcdemo_wait_args) -> ipcdemo_wait_args {
    ipcdemo_wait_args {
        expected: args.expected,
        timeout_ns: args.timeout_ns,
        flags: args.flags,
        mask: args.mask,
        linger_us: args.linger_us,
        ..FromZeros::new_zeroed()
    }
}

/// 0, or how passing a wake-up on went.
fn told(passed_on: PassedOn) -> u32 {
    match passed_on {
        None => 0,
        Some(report) if report.exclusive > 0 => 1,
        Some(_) => 2,
    }
}

impl Waitq {
    /// Sleeps, and writes the receipt whatever the outcome is.
    fn wait(&self, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_wait_args = ptr.read()?;
        let note = Note::new();
        let judge = |call: &Call<'_>| {
            note.take_down(call);
            Verdict::Wake
        };
        let wait = described(&args)?.function(&judge);
        // A sleeper whose receipt cannot be written must not consume a wake-up.
        let mut receipt = blank(&args);
        ptr.write(&receipt)?;

        let start = Deadline::now();
        let (result, passed_on) = match self.sleep(&args, &wait) {
            None => {
                receipt.reason = IPCDEMO_CHANGED;
                (Err(EAGAIN), None)
            }
            Some(Waited::Done((), left)) => {
                receipt.reason = IPCDEMO_WOKEN;
                receipt.remaining_ns = left.unwrap_or(0);
                (Ok(()), None)
            }
            Some(Waited::TimedOut(passed_on)) => {
                receipt.reason = IPCDEMO_TIMED_OUT;
                (Err(ETIMEDOUT), passed_on)
            }
            // Never restarted: a relative time would begin anew.
            Some(Waited::Signal(passed_on)) => {
                receipt.reason = IPCDEMO_SIGNALED;
                (Err(EINTR), passed_on)
            }
        };
        receipt.word = self.word();
        receipt.slept_ns = Deadline::now().since(start);
        receipt.passed_on = told(passed_on);
        if result.is_ok() || passed_on.is_some() {
            note.copy_to(&mut receipt);
        }
        ptr.write(&receipt)?;
        result
    }

    /// Sleeps, unless the word is another than expected.
    fn sleep(&self, args: &ipcdemo_wait_args, wait: &Wait<'_>) -> Option<Waited<()>> {
        // The word is looked at and the entry put on the queue under one lock: a wake-up that sets the
        // word comes before, and is seen here, or after, and finds the entry.
        let queue = self.queue.lock();
        if args.flags & IPCDEMO_WAIT_EXPECT != 0 && self.word() != args.expected {
            return None;
        }
        Some(queue.sleep(wait))
    }

    /// Wakes, after it set the word if that is asked for.
    fn wake(&self, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_wake_args = ptr.read()?;
        if args.flags & !(IPCDEMO_WAKE_SYNC | IPCDEMO_WAKE_SET) != 0
            || args.reserved != 0
            || args.reserved2 != 0
        {
            return Err(EINVAL);
        }
        let mut wake = Wake::nr(args.nr).key(events(args.key)?);
        if args.flags & IPCDEMO_WAKE_SYNC != 0 {
            wake = wake.sync();
        }

        // A waker whose receipt cannot be written must not wake anybody.
        ptr.write(&args)?;

        let mut queue = self.queue.lock();
        if args.flags & IPCDEMO_WAKE_SET != 0 {
            self.word.store(args.word, Relaxed);
        }
        let word = self.word();
        let report = queue.wake_and_report(&wake);
        drop(queue);

        ptr.write(&ipcdemo_wake_args {
            word,
            walked: report.walked,
            called: report.called,
            woken: report.woken,
            exclusive: report.exclusive,
            stopped_by: reason(report.stopped_by),
            ..args
        })
    }

    /// Lists the entries of the queue at one moment, as many as fit. The walk ends at the first one that does not, so
    /// the rest is not counted.
    fn waiters(&self, ptr: &UserStructPtr) -> Result {
        let mut args: ipcdemo_waiters_args = ptr.read()?;
        let array = UserArray::<ipcdemo_waiter>::new(
            args.waiters,
            args.waiter_size,
            IPCDEMO_WAITER_SIZE_MAX,
        )?;
        let capacity = args.capacity.min(IPCDEMO_WAITERS_MAX) as usize;
        // Memory comes first: the lock is held while they are written down.
        let mut waiters = KVVec::with_capacity(capacity, GFP_KERNEL_ACCOUNT)?;
        let mut kinds = Kinds::default();

        let queue = self.queue.lock();
        args.word = self.word();
        args.total = 0;
        for entry in queue.entries().take(capacity + 1) {
            if waiters.len() < capacity {
                let identity = entry.identity(&mut kinds).unwrap_or_default();
                let waiter = ipcdemo_waiter {
                    since_ns: entry.since().map_or(0, Deadline::reading),
                    position: args.total,
                    kind: match entry.kind(&mut kinds) {
                        Kind::Task => IPCDEMO_WAITER_TASK,
                        Kind::Poll => IPCDEMO_WAITER_POLL,
                        Kind::Epoll => IPCDEMO_WAITER_EPOLL,
                        Kind::IoUring => IPCDEMO_WAITER_IO_URING,
                        Kind::Other => IPCDEMO_WAITER_OTHER,
                    },
                    flags: entry.flags() & (IPCDEMO_WAITER_EXCLUSIVE | IPCDEMO_WAITER_PRIORITY),
                    key: entry.mask(&mut kinds).bits() & IPCDEMO_KEY_ALL,
                    pid: identity.pid,
                    tid: identity.tid,
                    comm: identity.comm,
                    function: entry.symbol(&mut kinds),
                };
                // There is room: it does not allocate.
                let _ = waiters.push_within_capacity(waiter);
            }
            args.total += 1;
        }
        drop(queue);

        array.write(&waiters)?;
        args.count = waiters.len() as u32;
        ptr.write(&args)
    }
}

#[vtable]
impl FileOperations for Waitq {
    const NOWAIT: bool = true;
    const SEEK: Seek = Seek::Ignored;
    const VECTORED_WRITE: bool = false;

    /// Sleeps until it is woken, and then reads nothing: `cat` ends.
    fn read(&self, request: &IoRequest<'_>, _to: &mut impl Destination) -> Result<usize> {
        if request.is_nonblocking() {
            return Err(EAGAIN);
        }
        match self.queue.lock().sleep(&Wait::interruptible().stamped()) {
            Waited::Done((), _) => Ok(0),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }

    /// Wakes every sleeper that is not exclusive, and one that is. The bytes do not matter.
    fn write(&self, _request: &IoRequest<'_>, from: &mut impl Source) -> Result<usize> {
        // The report is for the sleepers that are woken: their receipts say how far the walk had come.
        self.queue
            .lock()
            .wake_and_report(&Wake::one().key(PollEvent::In));
        Ok(from.len())
    }

    /// Readable while the word is not 0. A wake-up never has to wait, so it is writable always.
    fn poll<'file>(&'file self, _file: &LocalFile, table: &PollTable<'file>) -> PollEvents {
        table.register(&self.queue);
        let mut events = PollEvents::from(PollEvent::Out);
        if self.word() != 0 {
            events |= PollEvent::In;
        }
        events
    }

    fn ioctl(&self, _file: &LocalFile, cmd: u32, arg: usize) -> Result<isize> {
        let (request, args) = UserStructPtr::of_ioctl(cmd, arg);
        match request {
            WAIT => self.wait(&args)?,
            WAKE => self.wake(&args)?,
            WAITERS => self.waiters(&args)?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }

    fn show_fdinfo(&self, m: &SeqFile, _file: &LocalFile) {
        let (word, waiters) = self.snapshot();
        seq_print!(m, "waitq-id: {}\n", self.id.get());
        seq_print!(m, "waitq-word: {:16x}\n", word);
        seq_print!(m, "waitq-waiters: {}\n", waiters);
    }

    /// Tells the pollers that are left on the queue that this is the end, unless it is the shared queue.
    fn release(&self, _access: Access, _inode: InodeOfReleased<'_>) {
        if !self.shared {
            self.queue.lock().wake(&Wake::one().key(PollEvent::Hup));
        }
    }
}
