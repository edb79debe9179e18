// SPDX-License-Identifier: GPL-2.0

//! The factory `/dev/ipcdemo`, and the shared nodes beside it.
//!
//! Each `ioctl` of the factory makes one object and gives it out as a file descriptor of its own.
//! The interface is `src/uapi/ipcdemo.h`.

#![deny(unsafe_code)]

use crate::{
    abstractions::{
        file::{FileOperations, Seek},
        misc_node::MiscNode,
        registry::Registry,
        user_struct::{request, Request, UserArray, UserStruct, UserStructPtr}, //
    },
    algorithms::counter::Mode,
    bindings::{
        ipcdemo_counter_args,
        ipcdemo_list_args,
        ipcdemo_null_args,
        ipcdemo_object,
        ipcdemo_waitq_args,
        IPCDEMO_CLOEXEC,
        IPCDEMO_COUNTER_SEMAPHORE,
        IPCDEMO_COUNTER_SIZE_VER0,
        IPCDEMO_IOC_COUNTER,
        IPCDEMO_IOC_LIST,
        IPCDEMO_IOC_NULL,
        IPCDEMO_IOC_WAITQ,
        IPCDEMO_KIND_COUNTER,
        IPCDEMO_KIND_NULL,
        IPCDEMO_KIND_WAITQ,
        IPCDEMO_LIST_MAX,
        IPCDEMO_LIST_SIZE_VER0,
        IPCDEMO_NONBLOCK,
        IPCDEMO_NULL_SIZE_VER0,
        IPCDEMO_OBJECT_SIZE_MAX,
        IPCDEMO_WAITQ_SIZE_VER0, //
    },
    objects::{
        counter::{self, Counter},
        null::{self, Null},
        waitq::{self, Waitq}, //
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
use zerocopy::FromZeros;

/// The module's nodes under `/dev`.
#[pin_data]
pub(crate) struct Nodes {
    #[pin]
    factory: MiscNode<Factory>,
    #[pin]
    counter: MiscNode<Counter>,
    #[pin]
    waitq: MiscNode<Waitq>,
}

impl Nodes {
    /// Registers them, the factory last: a module whose init fails is freed without regard to files
    /// that were opened meanwhile, so that what can fail comes before what gives out files.
    pub(crate) fn register() -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let shared_counter = Counter::new_shared()?;
            let shared_waitq = Waitq::new_shared()?;
            let root = Arc::new(Factory, GFP_KERNEL)?;
            Ok(try_pin_init!(Self {
                counter <- MiscNode::register(c"ipcdemo-counter", shared_counter),
                waitq <- MiscNode::register(c"ipcdemo-waitq", shared_waitq),
                factory <- MiscNode::register(c"ipcdemo", root),
            }))
        })
    }
}

const _: () = {
    assert!(IPCDEMO_CLOEXEC == flags::O_CLOEXEC);
    assert!(IPCDEMO_NONBLOCK == flags::O_NONBLOCK);
};

impl UserStruct for ipcdemo_null_args {
    const SIZE_VER0: usize = IPCDEMO_NULL_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_counter_args {
    const SIZE_VER0: usize = IPCDEMO_COUNTER_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_waitq_args {
    const SIZE_VER0: usize = IPCDEMO_WAITQ_SIZE_VER0 as usize;
}

impl UserStruct for ipcdemo_list_args {
    const SIZE_VER0: usize = IPCDEMO_LIST_SIZE_VER0 as usize;
}

const NULL: Request = request(IPCDEMO_IOC_NULL);
const COUNTER: Request = request(IPCDEMO_IOC_COUNTER);
const WAITQ: Request = request(IPCDEMO_IOC_WAITQ);
const LIST: Request = request(IPCDEMO_IOC_LIST);

/// The factory. It has no state: what it makes lives on its own.
struct Factory;

#[vtable]
impl FileOperations for Factory {
    const SEEK: Seek = Seek::Ignored;

    fn ioctl(&self, _file: &LocalFile, cmd: u32, arg: usize) -> Result<isize> {
        let (request, args) = UserStructPtr::of_ioctl(cmd, arg);
        match request {
            NULL => make_null(&args)?,
            COUNTER => make_counter(&args)?,
            WAITQ => make_waitq(&args)?,
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

fn make_null(ptr: &UserStructPtr) -> Result {
    let args: ipcdemo_null_args = ptr.read()?;
    if args.flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    publish(
        args.flags,
        || Null::create(args.flags),
        |fd| ptr.write(&ipcdemo_null_args { fd, ..args }),
    )
}

/// C: `do_eventfd` in `fs/eventfd.c`.
fn make_counter(ptr: &UserStructPtr) -> Result {
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
        || Counter::create(args.initval, mode, args.flags),
        |fd| ptr.write(&ipcdemo_counter_args { fd, ..args }),
    )
}

fn make_waitq(ptr: &UserStructPtr) -> Result {
    let args: ipcdemo_waitq_args = ptr.read()?;
    if args.flags & !(IPCDEMO_CLOEXEC | IPCDEMO_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    publish(
        args.flags,
        || Waitq::create(args.word, args.flags),
        |fd| ptr.write(&ipcdemo_waitq_args { fd, ..args }),
    )
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

    collect(
        &mut objects,
        capacity,
        &args,
        IPCDEMO_KIND_NULL,
        &null::LIVE,
        |_| FromZeros::new_zeroed(),
    )?;
    collect(
        &mut objects,
        capacity,
        &args,
        IPCDEMO_KIND_COUNTER,
        &counter::LIVE,
        |counter| ipcdemo_object {
            value: counter.count(),
            flags: match counter.mode() {
                Mode::Sum => 0,
                Mode::Semaphore => IPCDEMO_COUNTER_SEMAPHORE,
            },
            waiters: counter.count_waiters() as u32,
            ..FromZeros::new_zeroed()
        },
    )?;

    collect(
        &mut objects,
        capacity,
        &args,
        IPCDEMO_KIND_WAITQ,
        &waitq::LIVE,
        |waitq| {
            let (value, waiters) = waitq.snapshot();
            ipcdemo_object {
                value,
                waiters: waiters as u32,
                ..FromZeros::new_zeroed()
            }
        },
    )?;

    array.write(&objects)?;
    args.count = objects.len() as u32;
    ptr.write(&args)
}

/// Adds the objects of one kind whose ids are above `args.after`, as long as there is room. An id is
/// the kind in its upper half and the object's number in its lower half.
fn collect<T: Send + Sync>(
    objects: &mut KVec<ipcdemo_object>,
    capacity: usize,
    args: &ipcdemo_list_args,
    kind: u32,
    live: &'static Registry<T>,
    describe: impl Fn(&T) -> ipcdemo_object,
) -> Result {
    let mut after = match ((args.after >> 32) as u32).cmp(&kind) {
        Ordering::Less => 0,
        Ordering::Equal => args.after as u32,
        Ordering::Greater => return Ok(()),
    };
    while objects.len() < capacity {
        let Some((number, object)) = live.next_after(after) else {
            break;
        };
        let object = ipcdemo_object {
            id: u64::from(kind) << 32 | u64::from(number),
            kind,
            ..describe(&object)
        };
        objects.push(object, GFP_KERNEL)?;
        after = number;
    }
    Ok(())
}
