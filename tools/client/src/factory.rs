// SPDX-License-Identifier: GPL-2.0

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::{OpenError, open_node};
use crate::{
    Counter, CounterFlags, Null, NullFlags, Object, PipeFlags, PipeLimits, PipeLimitsChange,
    PipeReader, PipeWriter, Tally, Waitq, WaitqFlags, raw,
};

/// `/dev/ipcdemo`, which makes objects and tells of those alive.
#[derive(Debug)]
pub struct Factory(OwnedFd);

impl Factory {
    /// Where the module puts its factory.
    pub const PATH: &str = "/dev/ipcdemo";

    /// Opens the factory.
    pub fn open() -> Result<Self, OpenError> {
        Ok(Self(open_node(Self::PATH, 0)?.into()))
    }

    /// Makes a null object.
    pub fn null(&self, flags: NullFlags) -> io::Result<Null> {
        let mut args = raw::ipcdemo_null_args {
            fd: -1,
            flags: flags.bits(),
        };
        self.call(raw::IPCDEMO_IOC_NULL, &mut args)?;
        // SAFETY: The call succeeded, so `fd` is a new descriptor, and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(args.fd) }.into())
    }

    /// Makes a counter that begins at `initval`, as `eventfd(2)` does.
    pub fn counter(&self, initval: u32, flags: CounterFlags) -> io::Result<Counter> {
        counter(self.as_fd(), initval, flags)
    }

    /// Makes a wait queue whose word begins at `word`.
    pub fn waitq(&self, word: u64, flags: WaitqFlags) -> io::Result<Waitq> {
        let mut args = raw::ipcdemo_waitq_args {
            fd: -1,
            flags: flags.bits(),
            word,
        };
        self.call(raw::IPCDEMO_IOC_WAITQ, &mut args)?;
        // SAFETY: The call succeeded, so `fd` is a new descriptor, and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(args.fd) }.into())
    }

    /// Makes a pipe, as `pipe2(2)` does, with room for at least `size` bytes; 0 for
    /// what the kernel would give.
    pub fn pipe(&self, size: u32, flags: PipeFlags) -> io::Result<(PipeReader, PipeWriter)> {
        pipe(self.as_fd(), size, flags)
    }

    /// Makes a tally, whose descriptor does not survive `exec`.
    pub fn tally(&self) -> io::Result<Tally> {
        let mut args = raw::ipcdemo_tally_args {
            fd: -1,
            flags: raw::IPCDEMO_CLOEXEC,
        };
        self.call(raw::IPCDEMO_IOC_TALLY, &mut args)?;
        // SAFETY: The call succeeded, so `fd` is a new descriptor, and ours.
        Ok(unsafe { OwnedFd::from_raw_fd(args.fd) }.into())
    }

    /// What users may ask of pipes.
    pub fn pipe_limits(&self) -> io::Result<PipeLimits> {
        self.change_pipe_limits(PipeLimitsChange::default())
    }

    /// Changes that, and gives what holds now. Needs CAP_SYS_RESOURCE, unless there is
    /// nothing to change.
    pub fn change_pipe_limits(&self, change: PipeLimitsChange) -> io::Result<PipeLimits> {
        let mut args: raw::ipcdemo_pipe_limits_args = change.into();
        self.call(raw::IPCDEMO_IOC_PIPE_LIMITS, &mut args)?;
        Ok(args.into())
    }

    /// Tells of every live object, in order of their ids. The shared nodes under
    /// `/dev` are not among them.
    ///
    /// Each page of the answer is consistent in itself; an object made or closed
    /// between two pages may be in the list or not.
    pub fn list(&self) -> io::Result<Vec<Object>> {
        let mut objects = Vec::new();
        let mut page = [raw::ipcdemo_object::default(); raw::IPCDEMO_LIST_MAX as usize];
        let mut after = 0;
        loop {
            let filled = self.list_page(after, &mut page)?;
            let Some(last) = filled.last() else {
                return Ok(objects);
            };
            after = last.id;
            objects.extend(filled.iter().map(Object::from));
        }
    }

    /// Fills `page` with the first objects whose id is greater than `after`, and
    /// gives the part of it that was filled.
    pub fn list_page<'a>(
        &self,
        after: u64,
        page: &'a mut [raw::ipcdemo_object],
    ) -> io::Result<&'a [raw::ipcdemo_object]> {
        let mut args = raw::ipcdemo_list_args {
            after,
            objects: page.as_mut_ptr().addr() as u64,
            capacity: page.len().try_into().unwrap_or(u32::MAX),
            object_size: size_of::<raw::ipcdemo_object>() as u32,
            count: 0,
            reserved: 0,
        };
        self.call(raw::IPCDEMO_IOC_LIST, &mut args)?;
        Ok(&page[..args.count as usize])
    }

    pub(crate) fn call<T>(&self, request: u32, args: &mut T) -> io::Result<()> {
        call(self.as_fd(), request, args)
    }
}

/// Makes a counter, by the factory.
pub(crate) fn counter(
    maker: BorrowedFd<'_>,
    initval: u32,
    flags: CounterFlags,
) -> io::Result<Counter> {
    let mut args = raw::ipcdemo_counter_args {
        fd: -1,
        flags: flags.bits(),
        initval,
        reserved: 0,
    };
    call(maker, raw::IPCDEMO_IOC_COUNTER, &mut args)?;
    // SAFETY: The call succeeded, so `fd` is a new descriptor, and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(args.fd) }.into())
}

/// Makes a pipe, by the factory.
pub(crate) fn pipe(
    maker: BorrowedFd<'_>,
    size: u32,
    flags: PipeFlags,
) -> io::Result<(PipeReader, PipeWriter)> {
    let mut args = raw::ipcdemo_pipe_args {
        read_fd: -1,
        write_fd: -1,
        flags: flags.bits(),
        size,
    };
    call(maker, raw::IPCDEMO_IOC_PIPE, &mut args)?;
    // SAFETY: The call succeeded, so both are new descriptors, and ours.
    let ends = [args.read_fd, args.write_fd].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let [reader, writer] = ends;
    Ok((reader.into(), writer.into()))
}

pub(crate) fn call<T>(fd: BorrowedFd<'_>, request: u32, args: &mut T) -> io::Result<()> {
    debug_assert_eq!(raw::request_size(request), size_of::<T>());
    let args: *mut c_void = (&raw mut *args).cast();
    // SAFETY: `args` is the struct whose size the request's number names, and
    // the one pointer inside such a struct is a live slice of the caller's.
    unsafe { raw::ioctl(fd, request, args) }?;
    Ok(())
}

impl AsFd for Factory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
