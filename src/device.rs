// SPDX-License-Identifier: GPL-2.0

//! The factory `/dev/ipcdemo`, and the shared nodes beside it.
//!
//! Most requests to the factory make one object and give it out as a file descriptor of its own: `products!` lists
//! the kinds. The interface is `src/uapi/ipcdemo.h`.

#![deny(unsafe_code)]

use crate::{
    abstractions::{
        vfs::{
            anon_file::AnonFiles,
            file::{FileOperations, Seek},
            misc_node::{self, MiscNode, Shared},
            user_struct::{impl_user_struct, request, Request, UserArray, UserStructPtr},
        }, //
    },
    bindings::{
        ipcdemo_list_args,
        ipcdemo_object,
        ipcdemo_tally_args,
        IPCDEMO_CLOEXEC,
        IPCDEMO_IOC_ARM,
        IPCDEMO_IOC_LIST,
        IPCDEMO_IOC_MKFIFO,
        IPCDEMO_IOC_NAMESPACES,
        IPCDEMO_IOC_PIPE_LIMITS,
        IPCDEMO_IOC_RMFIFO,
        IPCDEMO_IOC_ROUTES,
        IPCDEMO_IOC_SEAL,
        IPCDEMO_IOC_TALLIED,
        IPCDEMO_IOC_TALLY,
        IPCDEMO_LIST_MAX,
        IPCDEMO_LIST_SIZE_VER0,
        IPCDEMO_NONBLOCK,
        IPCDEMO_OBJECT_SIZE_MAX,
        IPCDEMO_TALLY_SIZE_VER0, //
    },
    objects::{
        self,
        pipe::{
            fifo::Fifos,
            limits::{Account, Limits}, //
        },
        product::{self, publish, Product},
        tally::Tallies, //
    },
    routes, //
};

use core::cmp::Ordering;
use kernel::{
    fs::{file::flags, LocalFile},
    ioctl::_IOC_NR,
    prelude::*,
    sync::Arc,
    uapi::_IOC_NRBITS, //
};

/// Makes the factory's table: the kinds of its objects, in the order of their ids.
macro_rules! products {
    ($($module:ident::$object:ident,)*) => {
        $(use objects::$module::$object;)*

        // With one number for two requests, the first comparison would answer both.
        const _: () = {
            /// Notes a request's number as used.
            const fn note(seen: &mut [bool; 1 << _IOC_NRBITS], cmd: u32) {
                let number = _IOC_NR(cmd) as usize;
                assert!(!seen[number], "two requests have the same number");
                seen[number] = true;
            }

            let mut seen = [false; 1 << _IOC_NRBITS];
            $(note(&mut seen, $object::MAKE);)*
            let mut at = 0;
            while at < OTHERS.len() {
                note(&mut seen, OTHERS[at].0);
                at += 1;
            }
        };

        /// The resources of each kind.
        struct Resources {
            $($module: <$object as Product>::Resources,)*
        }

        impl Resources {
            fn open() -> Result<Self> {
                Ok(Self {
                    $($module: $object::open_resources()?,)*
                })
            }
        }

        impl Maker {
            /// Makes an object, if that is what the request asks for.
            #[inline(always)]
            fn make(&self, wanted: Request, args: &UserStructPtr) -> Option<Result> {
                $(
                    if wanted == const { request($object::MAKE) } {
                        return Some($object::make(&self.factory.resources.$module, &self.account, args));
                    }
                )*
                None
            }
        }

        /// Adds to `objects` those after `after`, until there are `capacity`.
        fn collect_all(objects: &mut KVec<ipcdemo_object>, capacity: usize, after: u64) {
            const {
                let mut last = 0;
                $(
                    assert!($object::KIND > last, "the kinds are in another order");
                    last = $object::KIND;
                )*
                let _ = last;
            };
            $(collect::<$object>(objects, capacity, after);)*
        }
    };
}

products! {
    null::Null,
    counter::Counter,
    waitq::Waitq,
    pipe::Pipe,
}

/// The module's nodes under `/dev`.
#[pin_data]
pub(crate) struct Nodes {
    #[pin]
    factory: MiscNode<Arc<Factory>>,
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
};

impl_user_struct! {
    ipcdemo_list_args: IPCDEMO_LIST_SIZE_VER0,
    ipcdemo_tally_args: IPCDEMO_TALLY_SIZE_VER0,
}

/// Answers a request.
type Answer = fn(&Maker, &UserStructPtr) -> Result;

/// The requests that make no object of the table, and their answers.
const OTHERS: [(u32, Answer); 9] = [
    (IPCDEMO_IOC_MKFIFO, |maker, args| {
        maker.factory.fifos.make(args)
    }),
    (IPCDEMO_IOC_RMFIFO, |maker, args| {
        maker.factory.fifos.remove(args)
    }),
    (IPCDEMO_IOC_PIPE_LIMITS, |maker, args| {
        maker.factory.limits.tell(args)
    }),
    (IPCDEMO_IOC_TALLY, Maker::make_tally),
    (IPCDEMO_IOC_LIST, |_, args| list(args)),
    (IPCDEMO_IOC_ARM, |maker, args| {
        routes::arm(&maker.factory.routed, None, args)
    }),
    (IPCDEMO_IOC_SEAL, |_, args| routes::seal(args)),
    (IPCDEMO_IOC_ROUTES, |_, args| routes::routes(args)),
    (IPCDEMO_IOC_NAMESPACES, |_, args| routes::namespaces(args)),
];

/// The factory. The objects that it makes live on their own.
struct Factory {
    resources: Resources,
    tallies: AnonFiles,
    limits: Arc<Limits>,
    fifos: Arc<Fifos>,
    /// The resources of members' objects.
    routed: Arc<routes::Resources>,
}

impl Factory {
    /// Makes the factory, and the nodes of the FIFOs, which it adds to.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, `ENFILE`; `EBUSY` if there is no device number.
    fn new(limits: Arc<Limits>) -> Result<Arc<Self>> {
        let factory = Self {
            fifos: Fifos::new(&limits)?,
            resources: Resources::open()?,
            tallies: AnonFiles::new(c"[ipcdemo-tally]")?,
            routed: routes::Resources::open(&limits)?,
            limits,
        };
        Ok(Arc::new(factory, GFP_KERNEL)?)
    }
}

impl misc_node::Node for Arc<Factory> {
    type File = Maker;

    fn open(&self) -> Result<Arc<Maker>> {
        let maker = Maker {
            factory: self.clone(),
            account: Account::open(&self.limits)?,
        };
        Ok(Arc::new(maker, GFP_KERNEL_ACCOUNT)?)
    }
}

/// The object behind each open file of the factory.
struct Maker {
    factory: Arc<Factory>,
    /// That of the user who opened it.
    account: Account,
}

impl Maker {
    /// Answers the requests that make no object of the table.
    #[cold]
    #[inline(never)]
    fn manage(&self, wanted: Request, args: &UserStructPtr) -> Result {
        let answer = OTHERS.iter().find(|(cmd, _)| request(*cmd) == wanted);
        answer.ok_or(ENOTTY)?.1(self, args)
    }

    fn make_tally(&self, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_tally_args = ptr.read()?;
        if args.flags & !IPCDEMO_CLOEXEC != 0 {
            return Err(EINVAL);
        }
        let create = || {
            let file = TallyFile {
                routed: self.factory.routed.clone(),
                tallies: Tallies::new()?,
            };
            let file = Arc::new(file, GFP_KERNEL_ACCOUNT)?;
            self.factory.tallies.create(file, 0)
        };
        publish(args.flags, create, |fd| {
            ptr.write(&ipcdemo_tally_args { fd, ..args })
        })
    }
}

#[vtable]
impl FileOperations for Maker {
    const SEEK: Seek = Seek::Ignored;

    #[inline(always)]
    fn ioctl(&self, _file: &LocalFile, cmd: u32, arg: usize) -> Result<isize> {
        let (request, args) = UserStructPtr::of_ioctl(cmd, arg);
        match self.make(request, &args) {
            Some(made) => made?,
            None => self.manage(request, &args)?,
        }
        Ok(0)
    }
}

/// The object behind a tally's file.
struct TallyFile {
    routed: Arc<routes::Resources>,
    tallies: Arc<Tallies>,
}

#[vtable]
impl FileOperations for TallyFile {
    const SEEK: Seek = Seek::Ignored;

    fn ioctl(&self, _file: &LocalFile, cmd: u32, arg: usize) -> Result<isize> {
        let (wanted, args) = UserStructPtr::of_ioctl(cmd, arg);
        if wanted == const { request(IPCDEMO_IOC_ARM) } {
            routes::arm(&self.routed, Some(&self.tallies), &args)?;
        } else if wanted == const { request(IPCDEMO_IOC_TALLIED) } {
            self.tallies.tell(&args)?;
        } else {
            return Err(ENOTTY);
        }
        Ok(0)
    }
}

/// Lists the live objects after `args.after`, kind by kind.
fn list(ptr: &UserStructPtr) -> Result {
    let mut args: ipcdemo_list_args = ptr.read()?;
    if args.reserved != 0 || args.capacity == 0 {
        return Err(EINVAL);
    }
    let array = UserArray::new(args.objects, args.object_size, IPCDEMO_OBJECT_SIZE_MAX)?;
    let capacity = args.capacity.min(IPCDEMO_LIST_MAX) as usize;
    let mut objects = KVec::with_capacity(capacity, GFP_KERNEL)?;
    collect_all(&mut objects, capacity, args.after);
    array.write(&objects)?;
    args.count = objects.len() as u32;
    ptr.write(&args)
}

/// Adds the objects of one kind whose ids are above `after`, until there are `capacity`. An id is the kind in its upper
/// half and the object's number in its lower half.
///
/// An object is described with no lock held but its own.
fn collect<T: Product>(objects: &mut KVec<ipcdemo_object>, capacity: usize, after: u64) {
    let after = match ((after >> 32) as u32).cmp(&T::KIND) {
        Ordering::Less => 0,
        Ordering::Equal => after as u32,
        Ordering::Greater => return,
    };
    let room = capacity - objects.len();
    for (number, object) in T::all().after(after).take(room) {
        let object = ipcdemo_object {
            id: product::id::<T>(number),
            kind: T::KIND,
            ..object.describe()
        };
        // `take` left room, so that this cannot fail.
        let _ = objects.push_within_capacity(object);
    }
}
