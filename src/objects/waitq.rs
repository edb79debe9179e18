// SPDX-License-Identifier: GPL-2.0

//! The waitq: a wait queue, bare, with a word for its users to agree upon.
//!
//! It does for user space what `wait_event` and `wake_up` do in the kernel, with everything there is to
//! choose, and gives a receipt of what came of it. Card: wait queue. Original: `kernel/sched/wait.c`,
//! `include/linux/wait.h`; the word is that of futex(2).

use crate::{
    abstractions::{
        anon_file,
        file::{is_nonblocking, FileOperations, Kiocb, Seek},
        poll::{PollEvent, PollEvents, PollTable},
        registry::Registry,
        user_struct::{request, Request, UserArray, UserStruct, UserStructPtr},
        wait_queue::{
            new_wait_queue,
            symbol,
            Call,
            Deadline,
            Kind,
            Kinds,
            PassedOn,
            Report,
            StoppedBy,
            Verdict,
            Wait,
            WaitQueue,
            Waited,
            Wake, //
        },
    },
    bindings::{
        ipcdemo_wait_args,
        ipcdemo_waiter,
        ipcdemo_waiters_args,
        ipcdemo_wake_args,
        IPCDEMO_CHANGED,
        IPCDEMO_IOC_WAIT,
        IPCDEMO_IOC_WAITERS,
        IPCDEMO_IOC_WAKE,
        IPCDEMO_KEY_ALL,
        IPCDEMO_LINGER_MAX_US,
        IPCDEMO_SIGNALED,
        IPCDEMO_STOPPED_BY_END,
        IPCDEMO_STOPPED_BY_ENTRY,
        IPCDEMO_STOPPED_BY_QUOTA,
        IPCDEMO_TIMED_OUT,
        IPCDEMO_UNINTERRUPTIBLE_MAX_NS,
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
};
use kernel::{
    fs::{File, LocalFile},
    iov::IovIterDest,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, //
    },
    uaccess::UserSliceReader, //
};
use zerocopy::FromZeros;

/// The live wait queues, without the shared one of `/dev/ipcdemo-waitq`.
pub(crate) static LIVE: Registry<Waitq> = Registry::new();

/// A wait queue.
#[pin_data]
pub(crate) struct Waitq {
    /// The condition word, guarded by the queue's lock, and who is on the queue.
    #[pin]
    queue: WaitQueue<u64>,
    /// The number under which it is listed. The shared one is not.
    id: Option<u32>,
}

impl Waitq {
    /// Makes one, and a file on it.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`, `EBUSY` if no number is free.
    pub(crate) fn create(word: u64, open_flags: u32) -> Result<ARef<File>> {
        let slot = LIVE.reserve()?;
        let waitq = Self::new(word, Some(slot.id()))?;
        let file = anon_file::create(c"[ipcdemo-waitq]", waitq.clone(), open_flags)?;
        // From here on `release` takes it off the list.
        slot.fill(waitq);
        Ok(file)
    }

    /// Makes one that is there for everybody, however many files on it come and go.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn new_shared() -> Result<Arc<Self>> {
        Self::new(0, None)
    }

    pub(crate) fn new(word: u64, id: Option<u32>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                queue <- new_wait_queue!(word, "Waitq::queue"),
                id,
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The word and the number of entries on the queue, at one moment.
    pub(crate) fn snapshot(&self) -> (u64, usize) {
        let word = self.queue.lock();
        (*word, word.count_entries())
    }
}

const WAIT: Request = request(IPCDEMO_IOC_WAIT);
const WAKE: Request = request(IPCDEMO_IOC_WAKE);
const WAITERS: Request = request(IPCDEMO_IOC_WAITERS);

impl UserStruct for ipcdemo_wait_args {
    const SIZE_VER0: usize = IPCDEMO_WAIT_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_wake_args {
    const SIZE_VER0: usize = IPCDEMO_WAKE_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_waiters_args {
    const SIZE_VER0: usize = IPCDEMO_WAITERS_SIZE_VER0 as usize;
}

/// What a sleeper is told of the wake-up that took it. The waker writes it with the queue's lock held;
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
        if let Some(progress) = call.progress() {
            self.walked.store(progress.report.walked, Relaxed);
            self.called.store(progress.report.called, Relaxed);
            self.woken.store(progress.report.woken, Relaxed);
            self.stopped_by
                .store(reason(progress.report.stopped_by), Relaxed);
        }
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
        IPCDEMO_WAIT_KILLABLE => Wait::killable(),
        // Nothing but a wake-up can end it, so that it has to end soon.
        IPCDEMO_WAIT_UNINTERRUPTIBLE => {
            let last = Deadline::after(IPCDEMO_UNINTERRUPTIBLE_MAX_NS);
            if deadline.is_none_or(|deadline| deadline > last) {
                return Err(EINVAL);
            }
            Wait::uninterruptible()
        }
        _ => return Err(EINVAL),
    };
    let mut wait = wait
        .until(deadline)
        .mask(events(args.mask)?)
        .linger(u64::from(args.linger_us) * 1000);
    if args.flags & IPCDEMO_WAIT_EXCLUSIVE != 0 {
        wait = wait.exclusive();
    }
    if args.flags & IPCDEMO_WAIT_PRIORITY != 0 {
        wait = wait.priority();
    }
    Ok(wait)
}

/// 0, or how passing a wake-up on went.
fn told(passed_on: PassedOn) -> u32 {
    match passed_on {
        None => 0,
        Some(report) if report.woken > 0 => 1,
        Some(_) => 2,
    }
}

impl Waitq {
    /// Sleeps, and writes the receipt whatever the outcome is.
    fn wait(&self, ptr: &UserStructPtr) -> Result {
        let mut args: ipcdemo_wait_args = ptr.read()?;
        let note = Note::new();
        let judge = |call: &Call<'_>| {
            note.take_down(call);
            Verdict::Wake
        };
        let wait = described(&args)?.function(&judge);

        let start = Deadline::now();
        let word = self.queue.lock();
        // The word is looked at and the entry put on the queue under one lock: a wake-up that sets the
        // word comes before, and is seen here, or after, and finds the entry.
        let waited = if args.flags & IPCDEMO_WAIT_EXPECT != 0 && *word != args.expected {
            None
        } else {
            Some(word.sleep(&wait))
        };
        let (result, reason, left, passed_on) = match waited {
            None => (Err(EAGAIN), IPCDEMO_CHANGED, None, None),
            Some(Waited::Condition((), left)) => (Ok(()), IPCDEMO_WOKEN, left, None),
            Some(Waited::TimedOut(passed_on)) => {
                (Err(ETIMEDOUT), IPCDEMO_TIMED_OUT, None, passed_on)
            }
            // Never restarted: a relative time would begin anew.
            Some(Waited::Signal(passed_on)) => (Err(EINTR), IPCDEMO_SIGNALED, None, passed_on),
        };

        let receipt = ipcdemo_wait_args {
            reason,
            slept_ns: Deadline::now().since(start),
            remaining_ns: left.unwrap_or(0),
            word: *self.queue.lock(),
            passed_on: told(passed_on),
            key: 0,
            waker_pid: 0,
            waker_tid: 0,
            walked: 0,
            called: 0,
            woken: 0,
            stopped_by: 0,
            ..args
        };
        args = receipt;
        if reason == IPCDEMO_WOKEN || passed_on.is_some() {
            note.copy_to(&mut args);
        }
        ptr.write(&args)?;
        result
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

        let mut guard = self.queue.lock();
        if args.flags & IPCDEMO_WAKE_SET != 0 {
            *guard = args.word;
        }
        let word = *guard;
        let report = guard.wake_and_report(&wake);
        drop(guard);

        ptr.write(&receipt(args, word, &report))
    }

    /// Tells who is on the queue: all at one moment, or as many as fit.
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
        let mut functions = KVVec::with_capacity(capacity, GFP_KERNEL_ACCOUNT)?;
        let mut kinds = Kinds::default();

        let word = self.queue.lock();
        args.word = *word;
        args.total = 0;
        for entry in word.entries() {
            if waiters.len() < capacity {
                let identity = entry.identity(&mut kinds).unwrap_or_default();
                let waiter = ipcdemo_waiter {
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
                    since_ns: entry.since().map_or(0, Deadline::nanoseconds),
                    ..FromZeros::new_zeroed()
                };
                // There is room: neither allocates.
                let _ = waiters.push_within_capacity(waiter);
                let _ = functions.push_within_capacity(entry.function());
            }
            args.total += 1;
        }
        drop(word);

        for (waiter, function) in waiters.iter_mut().zip(&functions) {
            waiter.function = symbol(*function);
        }
        array.write(&waiters)?;
        args.count = waiters.len() as u32;
        ptr.write(&args)
    }
}

fn receipt(args: ipcdemo_wake_args, word: u64, report: &Report) -> ipcdemo_wake_args {
    ipcdemo_wake_args {
        word,
        walked: report.walked,
        called: report.called,
        woken: report.woken,
        exclusive: report.exclusive,
        stopped_by: reason(report.stopped_by),
        ..args
    }
}

#[vtable]
impl FileOperations for Waitq {
    const NOWAIT: bool = true;
    const SEEK: Seek = Seek::Ignored;

    /// Sleeps until it is woken, and then reads nothing: `cat` ends.
    fn read_iter(&self, io: &Kiocb<'_>, _to: &mut IovIterDest<'_>) -> Result<usize> {
        if is_nonblocking(io.file()) || io.nowait() {
            return Err(EAGAIN);
        }
        match self.queue.lock().sleep(&Wait::interruptible()) {
            Waited::Condition((), _) => Ok(0),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }

    /// Wakes whoever is not exclusive, and one that is. The bytes do not matter.
    fn write(&self, _file: &LocalFile, from: UserSliceReader) -> Result<usize> {
        self.queue.lock().wake(&Wake::one().key(PollEvent::In));
        Ok(from.len())
    }

    /// Readable while the word is not 0. A wake-up never has to wait, so it is writable always.
    fn poll<'file>(&'file self, table: &PollTable<'file>) -> PollEvents {
        table.register(&self.queue);
        let mut events = PollEvents::from(PollEvent::Out);
        if *self.queue.lock() != 0 {
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
        seq_print!(m, "waitq-id: {}\n", self.id.unwrap_or(0));
        seq_print!(m, "waitq-word: {:16x}\n", word);
        seq_print!(m, "waitq-waiters: {}\n", waiters);
    }

    /// Tells those who are left on the queue that this is the end; of the shared one it is not.
    fn release(&self) {
        if let Some(id) = self.id {
            self.queue.lock().wake(&Wake::one().key(PollEvent::Hup));
            LIVE.remove(id);
        }
    }
}
