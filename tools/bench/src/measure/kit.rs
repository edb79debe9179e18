// SPDX-License-Identifier: GPL-2.0

//! What operations are done on: the same things of each side.
//!
//! By system calls as bare as can be: the C library's read(2) costs more once there have been threads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;

use ipcdemo_client::{Factory, raw};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::measure::case::Budget;
use crate::measure::clock::Clock;
use crate::measure::histogram::Counted;
use crate::record::{Round, Setting, Side};

/// A descriptor, for several parts of a case and their threads.
pub type Fd = Arc<OwnedFd>;

/// What is written at once, at most.
const BUFFER: usize = 64 << 10;

const DEV_NULL: &str = "/dev/null";

/// What all cases share.
pub struct Kit {
    /// The setting.
    pub setting: Setting,
    /// Its clock.
    pub clock: Clock,
    /// How long it measures.
    pub budget: Budget,
    /// Compares the kernel's own with itself.
    pub twins: bool,
    /// To write from and to read to.
    pub buffers: Rc<RefCell<(Vec<u8>, Vec<u8>)>>,
    /// The rounds that the emulator's plugin was told of.
    pub rounds: RefCell<Vec<Round>>,
    /// How long each call of the case at hand took, if it says so.
    pub latencies: Rc<RefCell<BTreeMap<Side, Counted>>>,
    factory: RefCell<Option<Arc<Factory>>>,
}

impl Kit {
    /// Opens the factory and sets the clock up.
    pub fn new(setting: Setting, twins: bool) -> io::Result<Self> {
        let kit = Self {
            setting,
            clock: Clock::new(setting)?,
            budget: Budget::of(setting),
            twins,
            buffers: Rc::new(RefCell::new((vec![1; BUFFER], vec![1; BUFFER]))),
            rounds: RefCell::default(),
            latencies: Rc::default(),
            factory: RefCell::default(),
        };
        kit.open_factory()?;
        Ok(kit)
    }

    /// Opens the factory, for all makers to come.
    pub fn open_factory(&self) -> io::Result<()> {
        let factory = Factory::open().map_err(io::Error::other)?;
        *self.factory.borrow_mut() = Some(Arc::new(factory));
        Ok(())
    }

    /// Closes the factory, until it is opened again.
    pub fn close_factory(&self) {
        *self.factory.borrow_mut() = None;
    }

    /// What makes objects of a side.
    pub fn maker(&self, side: Side) -> Maker {
        Maker(self.whose(side), self.factory())
    }

    /// The factory.
    pub fn factory(&self) -> Arc<Factory> {
        let factory = self.factory.borrow();
        Arc::clone(
            factory
                .as_ref()
                .expect("only a case that opens the factory itself runs without it"),
        )
    }

    /// Whose objects are made where those of a side are asked for.
    pub fn whose(&self, side: Side) -> Side {
        match side {
            Side::Module if self.twins => Side::Native,
            side => side,
        }
    }

    /// A counter.
    pub fn counter(&self, side: Side) -> io::Result<Fd> {
        Ok(Arc::new(self.maker(side).counter(0, false)?))
    }

    /// A pipe's ends: to read from, to write to.
    pub fn pipe(&self, side: Side) -> io::Result<(Fd, Fd)> {
        let (reader, writer) = self.maker(side).pipe()?;
        Ok((reader.into(), writer.into()))
    }

    /// A wait queue, which nobody has but the module.
    pub fn waitq(&self) -> io::Result<Fd> {
        let mut args = raw::ipcdemo_waitq_args {
            fd: -1,
            flags: raw::IPCDEMO_CLOEXEC,
            word: 0,
        };
        request(&self.factory(), raw::IPCDEMO_IOC_WAITQ, &mut args)?;
        Ok(Arc::new(owned(args.fd)))
    }
}

/// Makes objects of one side.
pub struct Maker<F = Arc<Factory>>(Side, F);

impl Maker<OwnedFd> {
    /// Opens what makes objects of a side: the factory; or `/dev/null`, beside the original, so that both sides
    /// make as many system calls.
    #[inline]
    pub fn open(side: Side) -> io::Result<Self> {
        let path = match side {
            Side::Module => Factory::PATH,
            _ => DEV_NULL,
        };
        Ok(Self(side, open(path)?))
    }

    /// Closes it.
    #[inline]
    pub fn close(self) {
        close(self.1);
    }
}

impl<F: AsFd> Maker<F> {
    /// A counter.
    #[inline]
    pub fn counter(&self, value: u32, semaphore: bool) -> io::Result<OwnedFd> {
        match self.0 {
            Side::Native => {
                let mut flags = EventfdFlags::CLOEXEC;
                flags.set(EventfdFlags::SEMAPHORE, semaphore);
                Ok(eventfd(value, flags)?)
            }
            Side::Module => {
                let semaphore = if semaphore {
                    raw::IPCDEMO_COUNTER_SEMAPHORE
                } else {
                    0
                };
                let mut args = raw::ipcdemo_counter_args {
                    fd: -1,
                    flags: raw::IPCDEMO_CLOEXEC | semaphore,
                    initval: value,
                    reserved: 0,
                };
                request(&self.1, raw::IPCDEMO_IOC_COUNTER, &mut args)?;
                Ok(owned(args.fd))
            }
            Side::Floor | Side::DevNull => self.floor(),
        }
    }

    /// A pipe's ends: to read from, to write to.
    #[inline]
    pub fn pipe(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        match self.0 {
            Side::Native => Ok(pipe_with(PipeFlags::CLOEXEC)?),
            Side::Module => {
                let mut args = raw::ipcdemo_pipe_args {
                    read_fd: -1,
                    write_fd: -1,
                    flags: raw::IPCDEMO_CLOEXEC,
                    size: 0,
                };
                request(&self.1, raw::IPCDEMO_IOC_PIPE, &mut args)?;
                Ok((owned(args.read_fd), owned(args.write_fd)))
            }
            Side::Floor | Side::DevNull => {
                let floor = self.floor()?;
                Ok((floor.try_clone()?, floor))
            }
        }
    }

    /// Has a pipe hold so many bytes.
    pub fn set_capacity(&self, end: &OwnedFd, bytes: usize) -> io::Result<()> {
        if self.0 == Side::Module {
            let bytes = std::ptr::without_provenance_mut(bytes);
            // SAFETY: The request's argument is a number.
            unsafe { raw::ioctl(end.as_fd(), raw::IPCDEMO_IOC_PIPE_SET_SIZE, bytes) }?;
        } else {
            fcntl_setpipe_size(end, bytes)?;
        }
        Ok(())
    }

    /// What only copies, or not even that.
    fn floor(&self) -> io::Result<OwnedFd> {
        if self.0 == Side::DevNull {
            return open(DEV_NULL);
        }
        let mut args = raw::ipcdemo_null_args {
            fd: -1,
            flags: raw::IPCDEMO_CLOEXEC,
        };
        request(&self.1, raw::IPCDEMO_IOC_NULL, &mut args)?;
        Ok(owned(args.fd))
    }
}

/// open(2), to read and write.
#[inline]
fn open(path: &str) -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open(path)?.into())
}

#[inline]
fn request<T>(fd: &impl AsFd, request: u32, args: &mut T) -> io::Result<()> {
    debug_assert_eq!(raw::request_size(request), size_of::<T>());
    // SAFETY: The request is for a struct like this one, and what addresses it holds, if any, are of what
    // the caller has.
    unsafe { raw::ioctl(fd.as_fd(), request, (&raw mut *args).cast()) }?;
    Ok(())
}

#[inline]
fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: The kernel just made it, for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// write(2) of all of it.
#[inline]
pub fn write(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    whole(bytes.len(), rustix::io::write(fd, bytes)?)
}

/// read(2) of as much as there is room for.
#[inline]
pub fn read(fd: &OwnedFd, bytes: &mut [u8]) -> io::Result<()> {
    whole(bytes.len(), rustix::io::read(fd, &mut *bytes)?)
}

/// read(2) of what there is.
#[inline]
pub fn read_some(fd: &OwnedFd, bytes: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(fd, bytes)?)
}

/// What was asked for has to have been moved, or what is measured is something else. (`/dev/null` gives
/// nothing to readers, ever.)
#[inline]
fn whole(wanted: usize, moved: usize) -> io::Result<()> {
    if moved == wanted || moved == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{moved} bytes instead of {wanted} were moved"
    )))
}

/// close(2). The library's, at the end of an `OwnedFd`, costs more once there have been threads.
#[inline]
pub fn close(fd: OwnedFd) {
    // SAFETY: Nobody else owns it.
    unsafe { rustix::io::close(fd.into_raw_fd()) };
}

/// Adds to a counter.
#[inline]
pub fn add(fd: &OwnedFd, value: u64) -> io::Result<()> {
    write(fd, &value.to_ne_bytes())
}

/// Takes from a counter.
#[inline]
pub fn take(fd: &OwnedFd) -> io::Result<u64> {
    let mut value = [0; size_of::<u64>()];
    read(fd, &mut value)?;
    Ok(u64::from_ne_bytes(value))
}

/// poll(2) of one descriptor, for as long as it takes.
#[inline]
pub fn poll(fd: &OwnedFd, events: PollFlags) -> io::Result<()> {
    rustix::event::poll(&mut [PollFd::new(fd, events)], None)?;
    Ok(())
}

/// An epoll set.
pub fn epoll() -> io::Result<Fd> {
    Ok(Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?))
}

/// Adds to an epoll set.
#[inline]
pub fn epoll_add(set: &OwnedFd, fd: &OwnedFd, events: EventFlags) -> io::Result<()> {
    Ok(epoll::add(set, fd, EventData::new_u64(0), events)?)
}

/// Waits for one event, or only looks.
#[inline]
pub fn epoll_wait(set: &OwnedFd, timeout: Option<&Timespec>) -> io::Result<usize> {
    let event = epoll::Event {
        flags: EventFlags::empty(),
        data: EventData::new_u64(0),
    };
    Ok(epoll::wait(set, &mut [event], timeout)?)
}

/// Sleeps on a wait queue, as one that a wake counts.
pub fn sleep(queue: &OwnedFd, mask: u32) -> io::Result<()> {
    let mut args = raw::ipcdemo_wait_args {
        flags: raw::IPCDEMO_WAIT_EXCLUSIVE,
        mask,
        ..Default::default()
    };
    request(queue, raw::IPCDEMO_IOC_WAIT, &mut args)
}

/// Wakes so many on a wait queue, 0 for all. Tells how many of [`sleep`]'s it woke: an entry of an epoll set says
/// that it woke somebody, whether it did or not.
#[inline]
pub fn wake(queue: &OwnedFd, nr: u32, key: u32) -> io::Result<u32> {
    let mut args = raw::ipcdemo_wake_args {
        nr,
        key,
        ..Default::default()
    };
    request(queue, raw::IPCDEMO_IOC_WAKE, &mut args)?;
    Ok(args.exclusive)
}
