// SPDX-License-Identifier: GPL-2.0

//! The factory `/dev/ipcdemo`, and the shared nodes beside it.
//!
//! Each `ioctl` of the factory makes one object and gives it out as a file descriptor of its own.
//! The interface is `src/uapi/ipcdemo.h`.

#![deny(unsafe_code)]

use crate::{
    abstractions::{
        tables::live::{self, Live},
        task::credentials::{capable, Capability},
        vfs::{
            anon_file::AnonFiles,
            file::{FileOperations, Seek},
            misc_node::{self, MiscNode, Shared},
            pipe_fs::PipeFs,
            user_struct::{request, Request, UserArray, UserStruct, UserStructPtr},
        }, //
    },
    algorithms::counter::Mode,
    bindings::{
        ipcdemo_counter_args,
        ipcdemo_fifo_args,
        ipcdemo_list_args,
        ipcdemo_null_args,
        ipcdemo_object,
        ipcdemo_pipe_args,
        ipcdemo_pipe_limits_args,
        ipcdemo_tallied_args,
        ipcdemo_tally_args,
        ipcdemo_waitq_args,
        IPCDEMO_CLOEXEC,
        IPCDEMO_COUNTER_SEMAPHORE,
        IPCDEMO_COUNTER_SIZE_VER0,
        IPCDEMO_FIFO_SIZE_VER0,
        IPCDEMO_IOC_COUNTER,
        IPCDEMO_IOC_LIST,
        IPCDEMO_IOC_MKFIFO,
        IPCDEMO_IOC_NULL,
        IPCDEMO_IOC_PIPE,
        IPCDEMO_IOC_PIPE_LIMITS,
        IPCDEMO_IOC_RMFIFO,
        IPCDEMO_IOC_TALLIED,
        IPCDEMO_IOC_TALLY,
        IPCDEMO_IOC_WAITQ,
        IPCDEMO_KIND_COUNTER,
        IPCDEMO_KIND_NULL,
        IPCDEMO_KIND_PIPE,
        IPCDEMO_KIND_WAITQ,
        IPCDEMO_LIMIT_MAX_SIZE,
        IPCDEMO_LIMIT_USER_PAGES_HARD,
        IPCDEMO_LIMIT_USER_PAGES_SOFT,
        IPCDEMO_LIST_MAX,
        IPCDEMO_LIST_SIZE_VER0,
        IPCDEMO_NONBLOCK,
        IPCDEMO_NULL_SIZE_VER0,
        IPCDEMO_OBJECT_SIZE_MAX,
        IPCDEMO_PIPE_DIRECT,
        IPCDEMO_PIPE_LIMITS_SIZE_VER0,
        IPCDEMO_PIPE_SIZE_VER0,
        IPCDEMO_TALLIED_SIZE_VER0,
        IPCDEMO_TALLY_SIZE_VER0,
        IPCDEMO_WAITQ_SIZE_VER0, //
    },
    objects::{
        counter::Counter,
        fifo::Fifos,
        null::Null,
        pipe::Pipe,
        pipe_limits::{self, Account, Limits},
        tally::Tally,
        waitq::Waitq, //
    },
};

use core::cmp::Ordering;
use kernel::{
    fs::{
        file::{flags, FileDescriptorReservation},
        File,
        LocalFile, //
    },
    prelude::*,
    sync::{aref::ARef, Arc}, //
};
use zerocopy::{FromZeros, IntoBytes};

/// The module's nodes under `/dev`.
#[pin_data]
pub(crate) struct Nodes {
    #[pin]
    factory: MiscNode<Factory>,
    #[pin]
    counter: MiscNode<Shared<Counter>>,
    #[pin]
    waitq: MiscNode<Shared<Waitq>>,
}

impl Nodes {
    /// Registers them. They can be opened once the module's init has succeeded: a module whose init fails is freed
    /// without regard to files. The FIFOs come last, so that nothing can fail once they are there: removing a misc
    /// device waits for an open that is being refused, and removing a FIFO does not.
    pub(crate) fn register(limits: Arc<Limits>) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let shared_counter = Shared(Counter::new_shared()?);
            let shared_waitq = Shared(Waitq::new_shared()?);
            let factory = Factory::new(limits)?;
            let fifos = factory.fifos.clone();
            Ok(try_pin_init!(Self {
                counter <- MiscNode::register(c"ipcdemo-counter", shared_counter),
                waitq <- MiscNode::register(c"ipcdemo-waitq", shared_waitq),
                factory <- MiscNode::register(c"ipcdemo", factory),
                _: {
                    fifos.make_first()?
                },
            }))
        })
    }
}

const _: () = {
    assert!(IPCDEMO_CLOEXEC == flags::O_CLOEXEC);
    assert!(IPCDEMO_NONBLOCK == flags::O_NONBLOCK);
    assert!(IPCDEMO_PIPE_DIRECT == flags::O_DIRECT);
};

impl UserStruct for ipcdemo_null_args {
    const SIZE_VER0: usize = IPCDEMO_NULL_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_counter_args {
    const SIZE_VER0: usize = IPCDEMO_COUNTER_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_fifo_args {
    const SIZE_VER0: usize = IPCDEMO_FIFO_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_pipe_args {
    const SIZE_VER0: usize = IPCDEMO_PIPE_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_pipe_limits_args {
    const SIZE_VER0: usize = IPCDEMO_PIPE_LIMITS_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_waitq_args {
    const SIZE_VER0: usize = IPCDEMO_WAITQ_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_tally_args {
    const SIZE_VER0: usize = IPCDEMO_TALLY_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_tallied_args {
    const SIZE_VER0: usize = IPCDEMO_TALLIED_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_list_args {
    const SIZE_VER0: usize = IPCDEMO_LIST_SIZE_VER0 as usize;
}

const NULL: Request = request(IPCDEMO_IOC_NULL);
const COUNTER: Request = request(IPCDEMO_IOC_COUNTER);
const WAITQ: Request = request(IPCDEMO_IOC_WAITQ);
const PIPE: Request = request(IPCDEMO_IOC_PIPE);
const MKFIFO: Request = request(IPCDEMO_IOC_MKFIFO);
const RMFIFO: Request = request(IPCDEMO_IOC_RMFIFO);
const PIPE_LIMITS: Request = request(IPCDEMO_IOC_PIPE_LIMITS);
const TALLY: Request = request(IPCDEMO_IOC_TALLY);
const TALLIED: Request = request(IPCDEMO_IOC_TALLIED);
const LIST: Request = request(IPCDEMO_IOC_LIST);

/// The factory. What it makes lives on its own.
struct Factory {
    fifos: Arc<Fifos>,
    shop: Arc<Shop>,
}

/// What all objects are made with.
struct Shop {
    limits: Arc<Limits>,
    nulls: AnonFiles,
    counters: AnonFiles,
    waitqs: AnonFiles,
    tallies: AnonFiles,
    pipes: PipeFs,
}

impl Factory {
    /// Makes the factory, and the nodes of the FIFOs, which it adds to.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`; `EBUSY` if there is no device number.
    fn new(limits: Arc<Limits>) -> Result<Self> {
        let fifos = Fifos::new(&limits)?;
        let shop = Shop {
            limits,
            nulls: AnonFiles::new(c"[ipcdemo-null]")?,
            counters: AnonFiles::new(c"[ipcdemo-counter]")?,
            waitqs: AnonFiles::new(c"[ipcdemo-waitq]")?,
            tallies: AnonFiles::new(c"[ipcdemo-tally]")?,
            pipes: PipeFs::mount()?,
        };
        let shop = Arc::new(shop, GFP_KERNEL)?;
        Ok(Self { fifos, shop })
    }
}

impl misc_node::Node for Factory {
    type File = Session;

    fn open(&self) -> Result<Arc<Session>> {
        let session = Session {
            fifos: self.fifos.clone(),
            maker: Maker::new(&self.shop)?,
        };
        Ok(Arc::new(session, GFP_KERNEL_ACCOUNT)?)
    }
}

/// Who makes objects: somebody with the factory open, or with a tally.
struct Maker {
    shop: Arc<Shop>,
    /// Who is charged for pipes, most often.
    account: Account,
}

impl Maker {
    fn new(shop: &Arc<Shop>) -> Result<Self> {
        Ok(Self {
            shop: shop.clone(),
            account: Account::open(&shop.limits)?,
        })
    }
}

/// What a file of the factory is on.
struct Session {
    fifos: Arc<Fifos>,
    maker: Maker,
}

#[vtable]
impl FileOperations for Session {
    const SEEK: Seek = Seek::Ignored;

    #[inline(always)]
    fn ioctl(&self, _file: &LocalFile, cmd: u32, arg: usize) -> Result<isize> {
        let (request, args) = UserStructPtr::of_ioctl(cmd, arg);
        match request {
            NULL => make_null(&self.maker, &args)?,
            COUNTER => make_counter(&self.maker, &args, None)?,
            WAITQ => make_waitq(&self.maker, &args)?,
            PIPE => make_pipe(&self.maker, &args, None)?,
            MKFIFO => make_fifo(&self.fifos, &args)?,
            RMFIFO => remove_fifo(&self.fifos, &args)?,
            PIPE_LIMITS => tell_limits(&self.maker.shop.limits, &args)?,
            TALLY => make_tally(&self.maker, &args)?,
            LIST => list(&args)?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

/// Gives out the file that `create` makes as a descriptor, in two steps: first all that can fail,
/// telling the caller its number included; then the descriptor appears.
fn publish(
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

fn make_null(maker: &Maker, ptr: &UserStructPtr) -> Result {
    let args: ipcdemo_null_args = ptr.read()?;
    if args.flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    publish(
        args.flags,
        || Null::create(&maker.shop.nulls, args.flags),
        |fd| ptr.write(&ipcdemo_null_args { fd, ..args }),
    )
}

/// C: `do_eventfd` in `fs/eventfd.c`.
fn make_counter(maker: &Maker, ptr: &UserStructPtr, tally: Option<&Arc<Tally>>) -> Result {
    let files = &maker.shop.counters;
    let args: ipcdemo_counter_args = ptr.read()?;
    let known = IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK | IPCDEMO_COUNTER_SEMAPHORE;
    if args.flags & !known != 0 || args.reserved != 0 {
        return Err(EINVAL);
    }
    let mode = if args.flags & IPCDEMO_COUNTER_SEMAPHORE != 0 {
        Mode::Semaphore
    } else {
        Mode::Sum
    };
    publish(
        args.flags,
        || match tally {
            None => Counter::create(files, args.initval, mode, args.flags),
            Some(tally) => Counter::create_tallied(files, args.initval, mode, args.flags, tally),
        },
        |fd| ptr.write(&ipcdemo_counter_args { fd, ..args }),
    )
}

fn make_waitq(maker: &Maker, ptr: &UserStructPtr) -> Result {
    let args: ipcdemo_waitq_args = ptr.read()?;
    if args.flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    publish(
        args.flags,
        || Waitq::create(&maker.shop.waitqs, args.word, args.flags),
        |fd| ptr.write(&ipcdemo_waitq_args { fd, ..args }),
    )
}

/// As [`publish`], for both ends.
///
/// C: `do_pipe2` in `fs/pipe.c`.
fn make_pipe(maker: &Maker, ptr: &UserStructPtr, tally: Option<&Arc<Tally>>) -> Result {
    let args: ipcdemo_pipe_args = ptr.read()?;
    if args.flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK | IPCDEMO_PIPE_DIRECT) != 0 {
        return Err(EINVAL);
    }
    let pipes = &maker.shop.pipes;
    let (read_end, write_end) = Pipe::create(pipes, &maker.account, args.size, args.flags, tally)?;
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

/// What a tally's file is on.
struct Tallier {
    maker: Maker,
    tally: Arc<Tally>,
}

#[vtable]
impl FileOperations for Tallier {
    const SEEK: Seek = Seek::Ignored;

    fn ioctl(&self, _file: &LocalFile, cmd: u32, arg: usize) -> Result<isize> {
        let (request, args) = UserStructPtr::of_ioctl(cmd, arg);
        match request {
            COUNTER => make_counter(&self.maker, &args, Some(&self.tally))?,
            PIPE => make_pipe(&self.maker, &args, Some(&self.tally))?,
            TALLIED => {
                let _: ipcdemo_tallied_args = args.read()?;
                args.write(&self.tally.sums())?;
            }
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

fn make_tally(maker: &Maker, ptr: &UserStructPtr) -> Result {
    let args: ipcdemo_tally_args = ptr.read()?;
    if args.flags & !IPCDEMO_CLOEXEC != 0 {
        return Err(EINVAL);
    }
    let create = || {
        let tallier = Tallier {
            maker: Maker::new(&maker.shop)?,
            tally: Tally::new()?,
        };
        let tallier = Arc::new(tallier, GFP_KERNEL_ACCOUNT)?;
        maker.shop.tallies.create(tallier, 0)
    };
    publish(args.flags, create, |fd| {
        ptr.write(&ipcdemo_tally_args { fd, ..args })
    })
}

fn make_fifo(fifos: &Fifos, ptr: &UserStructPtr) -> Result {
    let args: ipcdemo_fifo_args = ptr.read()?;
    if !capable(Capability::SysAdmin) {
        return Err(EPERM);
    }
    let mode = u16::try_from(args.mode)
        .ok()
        .filter(|mode| mode & !0o777 == 0 && args.reserved == 0);
    fifos.make(args.name.as_bytes(), mode.ok_or(EINVAL)?)
}

fn remove_fifo(fifos: &Fifos, ptr: &UserStructPtr) -> Result {
    let args: ipcdemo_fifo_args = ptr.read()?;
    if !capable(Capability::SysAdmin) {
        return Err(EPERM);
    }
    if args.mode != 0 || args.reserved != 0 {
        return Err(EINVAL);
    }
    fifos.remove(args.name.as_bytes())
}

/// Tells what the limits are, after those that are to be changed were. Who cannot be told changes nothing.
fn tell_limits(limits: &Limits, ptr: &UserStructPtr) -> Result {
    let args: ipcdemo_pipe_limits_args = ptr.read()?;
    let known =
        IPCDEMO_LIMIT_MAX_SIZE | IPCDEMO_LIMIT_USER_PAGES_SOFT | IPCDEMO_LIMIT_USER_PAGES_HARD;
    if args.set & !known != 0 {
        return Err(EINVAL);
    }
    if args.set != 0 && !capable(Capability::SysResource) {
        return Err(EPERM);
    }
    let mut values = limits.values();
    if args.set & IPCDEMO_LIMIT_MAX_SIZE != 0 {
        values.max_size = pipe_limits::rounded(args.max_size)?;
    }
    if args.set & IPCDEMO_LIMIT_USER_PAGES_SOFT != 0 {
        values.user_pages_soft = args.user_pages_soft;
    }
    if args.set & IPCDEMO_LIMIT_USER_PAGES_HARD != 0 {
        values.user_pages_hard = args.user_pages_hard;
    }
    ptr.write(&ipcdemo_pipe_limits_args {
        max_size: values.max_size,
        user_pages_soft: values.user_pages_soft,
        user_pages_hard: values.user_pages_hard,
        user_pages: limits.user_pages(),
        ..args
    })?;
    if args.set & IPCDEMO_LIMIT_MAX_SIZE != 0 {
        limits.set_max_size(values.max_size)?;
    }
    if args.set & IPCDEMO_LIMIT_USER_PAGES_SOFT != 0 {
        limits.set_user_pages_soft(values.user_pages_soft);
    }
    if args.set & IPCDEMO_LIMIT_USER_PAGES_HARD != 0 {
        limits.set_user_pages_hard(values.user_pages_hard);
    }
    Ok(())
}

/// Tells of the live objects after `args.after`, kind by kind.
fn list(ptr: &UserStructPtr) -> Result {
    let mut args: ipcdemo_list_args = ptr.read()?;
    if args.reserved != 0 || args.capacity == 0 {
        return Err(EINVAL);
    }
    let array = UserArray::new(args.objects, args.object_size, IPCDEMO_OBJECT_SIZE_MAX)?;
    let capacity = args.capacity.min(IPCDEMO_LIST_MAX) as usize;
    let mut objects = KVec::with_capacity(capacity, GFP_KERNEL)?;

    collect(&mut objects, &args, IPCDEMO_KIND_NULL, |_: &Null| {
        FromZeros::new_zeroed()
    });
    collect(
        &mut objects,
        &args,
        IPCDEMO_KIND_COUNTER,
        |counter: &Counter| ipcdemo_object {
            value: counter.count(),
            flags: match counter.mode() {
                Mode::Sum => 0,
                Mode::Semaphore => IPCDEMO_COUNTER_SEMAPHORE,
            },
            waiters: counter.count_waiters() as u32,
            ..FromZeros::new_zeroed()
        },
    );
    collect(&mut objects, &args, IPCDEMO_KIND_WAITQ, |waitq: &Waitq| {
        let (value, waiters) = waitq.snapshot();
        ipcdemo_object {
            value,
            waiters: waiters as u32,
            ..FromZeros::new_zeroed()
        }
    });
    collect(&mut objects, &args, IPCDEMO_KIND_PIPE, |pipe: &Pipe| {
        ipcdemo_object {
            value: pipe.occupancy().into(),
            waiters: pipe.count_waiters() as u32,
            ..FromZeros::new_zeroed()
        }
    });

    array.write(&objects)?;
    args.count = objects.len() as u32;
    ptr.write(&args)
}

/// Adds the objects of one kind whose ids are above `args.after`, as long as there is room. An id is
/// the kind in its upper half and the object's number in its lower half.
///
/// An object is described with no lock held but its own.
fn collect<T: Live>(
    objects: &mut KVec<ipcdemo_object>,
    args: &ipcdemo_list_args,
    kind: u32,
    describe: impl Fn(&T) -> ipcdemo_object,
) {
    let after = match ((args.after >> 32) as u32).cmp(&kind) {
        Ordering::Less => 0,
        Ordering::Equal => args.after as u32,
        Ordering::Greater => return,
    };
    let room = objects.capacity() - objects.len();
    for (number, object) in live::after::<T>(after).take(room) {
        let object = ipcdemo_object {
            id: u64::from(kind) << 32 | u64::from(number),
            kind,
            ..describe(&object)
        };
        // `take` left room, so that this cannot fail.
        let _ = objects.push_within_capacity(object);
    }
}
