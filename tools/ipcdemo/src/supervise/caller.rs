// SPDX-License-Identifier: GPL-2.0

//! The thread that made a call, from outside: its memory and its descriptors. The supervisor's
//! folder is `/proc`.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::listener::{Call, Listener};

/// `PIDFD_THREAD` of `linux/pidfd.h`: not only of the first thread of a process.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);

/// A thread that waits for its call to return.
pub struct Caller {
    tid: u32,
    memory: File,
}

impl Caller {
    /// Opens its memory; ESRCH if it does not wait any more, EACCES if it may not be reached.
    pub fn of(listener: &Listener, call: &Call) -> io::Result<Self> {
        let caller = Self::open(call.tid)?;
        // Only now it is known to be the caller's: that may have been killed, and its number
        // another's.
        if listener.is_waiting(call) {
            Ok(caller)
        } else {
            Err(Errno::SRCH.into())
        }
    }

    /// Opens a process that makes no call.
    pub fn open(tid: u32) -> io::Result<Self> {
        let path = format!("{tid}/mem");
        let memory = File::options().read(true).write(true).open(path)?;
        Ok(Self { tid, memory })
    }

    /// Whether it may have so many more descriptors.
    pub fn has_room_for(&self, count: u64) -> io::Result<bool> {
        let path = format!("{}/fd", self.tid);
        let limit = self.descriptor_limit()?;
        // The folder's size is the number of its entries; some may be above a limit that was
        // lowered.
        if fs::metadata(&path)?.size() + count <= limit {
            return Ok(true);
        }
        let taken = fs::read_dir(path)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&fd: &u64| fd < limit)
            .count();
        Ok(taken as u64 + count <= limit)
    }

    /// RLIMIT_NOFILE.
    fn descriptor_limit(&self) -> io::Result<u64> {
        let mut limit = MaybeUninit::<libc::rlimit>::uninit();
        let (pid, kind) = (self.tid as libc::pid_t, libc::RLIMIT_NOFILE);
        // SAFETY: It sets nothing, and writes one struct.
        let result = unsafe { libc::prlimit(pid, kind, ptr::null(), limit.as_mut_ptr()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: It succeeded.
        Ok(unsafe { limit.assume_init() }.rlim_cur)
    }

    /// Whether it could write there itself. Its memory file would take what is read-only, too.
    pub fn could_write(&self, address: u64, len: u64) -> io::Result<bool> {
        let maps = File::open(format!("{}/maps", self.tid))?;
        let Some(end) = address.checked_add(len) else {
            return Ok(false);
        };
        let mut at = address;
        while at < end {
            let mut query = MapQuery::writable_at(at);
            // SAFETY: It reads and writes the struct, and by it nothing else.
            let result = unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY, &raw mut query) };
            if result != 0 {
                return match io::Error::last_os_error() {
                    error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
                    error => Err(error),
                };
            }
            at = query.vma_end;
        }
        // It is mapped; a file may be shorter than its mapping.
        let mut there = vec![0; len as usize];
        Ok(self.memory.read_exact_at(&mut there, address).is_ok())
    }

    /// Writes to its memory.
    pub fn write(&self, address: u64, bytes: &[u8]) -> io::Result<()> {
        self.memory.write_all_at(bytes, address)
    }
}

/// The name of a thread.
pub fn name(tid: u32) -> String {
    match fs::read_to_string(format!("{tid}/comm")) {
        Ok(name) => name.trim_end().into(),
        Err(_) => "?".into(),
    }
}

/// A descriptor that a thread has, for this process.
pub fn descriptor(listener: &Listener, call: &Call, number: i32) -> Result<OwnedFd, Errno> {
    let tid = Pid::from_raw(call.tid as i32).ok_or(Errno::SRCH)?;
    let thread = pidfd_open(tid, PIDFD_THREAD)?;
    if !listener.is_waiting(call) {
        return Err(Errno::SRCH);
    }
    pidfd_getfd(thread, number, PidfdGetfdFlags::empty())
}

/// `PROCMAP_QUERY` of `linux/fs.h`.
const PROCMAP_QUERY: libc::Ioctl = libc::_IOWR::<MapQuery>(b'f' as u32, 17);

/// `struct procmap_query`.
#[repr(C)]
#[derive(Default)]
struct MapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

impl MapQuery {
    /// Asks for the mapping that this address is in, if it may be written.
    fn writable_at(address: u64) -> Self {
        const WRITABLE: u64 = 2;
        Self {
            size: size_of::<Self>() as u64,
            query_flags: WRITABLE,
            query_addr: address,
            ..Self::default()
        }
    }
}
