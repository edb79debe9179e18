// SPDX-License-Identifier: GPL-2.0

//! The calls that make a pipe and change its size, of a member and of an outsider: the same to the errno, by each entry of
//! the kernel.

use std::ffi::c_int;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use io_uring::{IoUring, opcode};
use ipcdemo_client::Object;
use ipcdemo_tests::member::{enter, member, outside};
use ipcdemo_tests::{Access, Errno, Memory, compat, serial};
use rustix::fs::{fcntl_getfl, fstat};
use rustix::io::fcntl_getfd;
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size, pipe};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::differ_in_nothing;

const O_NOTIFICATION_PIPE: u32 = libc::O_EXCL as u32;

/// A way into the kernel.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Native,
    I386,
    Ring,
}

const ALL: [Entry; 3] = [Entry::Native, Entry::I386, Entry::Ring];

impl Entry {
    fn pipe2(self, flags: u32) -> Result<[OwnedFd; 2], Errno> {
        let memory = Memory::low(Access::ReadWrite);
        let mut fds = [-1; 2];
        match self {
            Self::Native => {
                // SAFETY: It writes two numbers.
                errno(unsafe { libc::pipe2(fds.as_mut_ptr(), flags as c_int) })?;
            }
            Self::I386 => {
                let address = memory.store(&[0; 8]);
                let low = u32::try_from(address.get()).unwrap();
                // SAFETY: It writes two numbers to that memory, which is of its own.
                unsafe { compat::syscall(331, [low, flags, 0]) }?;
                // SAFETY: As above.
                fds = unsafe { (address.get() as *const [c_int; 2]).read() };
            }
            Self::Ring => {
                let mut ring = IoUring::new(2).expect("io_uring_setup");
                let operation = opcode::Pipe::new(fds.as_mut_ptr()).flags(flags).build();
                // SAFETY: The numbers live until the completion.
                unsafe { ring.submission().push(&operation) }.unwrap();
                ring.submit_and_wait(1).unwrap();
                let result = ring.completion().next().unwrap().result();
                if result < 0 {
                    return Err(Errno::from_raw_os_error(-result));
                }
            }
        }
        // SAFETY: They are new.
        Ok(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

fn errno(result: c_int) -> Result<c_int, Errno> {
    if result < 0 {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap())
    } else {
        Ok(result)
    }
}

/// All that there is to see of the ends of a new pipe, but for the number of its inode.
fn describe(made: Result<[OwnedFd; 2], Errno>) -> String {
    let ends = match made {
        Ok(ends) => ends,
        Err(error) => return format!("{error:?}"),
    };
    let mut seen = String::new();
    let inode = fstat(&ends[0]).unwrap().st_ino;
    for end in &ends {
        let raw = end.as_raw_fd();
        let name = fs::read_link(format!("/proc/self/fd/{raw}")).unwrap();
        assert_eq!(name.to_str(), Some(&*format!("pipe:[{inode}]")));
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{raw}")).unwrap();
        let info: Vec<_> = info
            .lines()
            .filter(|line| !line.starts_with("mnt_id:") && !line.starts_with("ino:"))
            .collect();
        let status = fstat(end).unwrap();
        assert_eq!(status.st_ino, inode);
        write!(
            seen,
            "{raw} {:?} {:?} {info:?} {:o} {} {} {} {} {:?}; ",
            fcntl_getfl(end).unwrap(),
            fcntl_getfd(end).unwrap(),
            status.st_mode,
            status.st_uid,
            status.st_size,
            status.st_nlink,
            status.st_blksize,
            fcntl_getpipe_size(end),
        )
        .unwrap();
    }
    seen
}

fn is_ours(end: impl AsFd) -> bool {
    Object::id_of(end).unwrap().is_some()
}

serial! {
    /// Every flag alone and all together, and what there is to see of the ends then.
    fn what_is_made_is_the_same() {
        differ_in_nothing(|| {
            let mut seen = String::new();
            let flags = (0..u32::BITS).map(|bit| 1 << bit);
            let known = (libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_DIRECT) as u32;
            for entry in ALL {
                for flags in flags.clone().chain([0, known, known | 2, u32::MAX]) {
                    let made = describe(entry.pipe2(flags));
                    writeln!(seen, "{entry:?}, {flags:#x}: {made}").unwrap();
                }
            }
            seen
        });
    }

    fn they_are_the_modules() {
        member(|| {
            for entry in ALL {
                let ends = entry.pipe2(libc::O_CLOEXEC as u32).unwrap();
                assert!(ends.iter().all(is_ours), "{entry:?}");
            }
            let mut fds = [-1; 2];
            // SAFETY: It writes two numbers.
            errno(unsafe { libc::pipe(fds.as_mut_ptr()) }).unwrap();
            // SAFETY: They are new.
            assert!(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).iter().all(is_ours));
        });
    }

    /// One for notifications is the kernel's, and works as its own do.
    fn a_notification_pipe_is_the_kernels() {
        member(|| {
            for entry in ALL {
                match entry.pipe2(O_NOTIFICATION_PIPE) {
                    Ok(ends) => assert!(!ends.iter().any(is_ours), "{entry:?}"),
                    // A kernel without watch queues.
                    Err(error) => assert_eq!(error, Errno::NOPKG),
                }
            }
        });
    }

    /// fs/fcntl.c: the size of a pipe of ours is told to whoever has it, and that of the kernel's to a member.
    fn a_size_belongs_to_the_file() {
        let native = pipe().unwrap();
        member(|| {
            assert!(!is_ours(&native.0));
            assert_eq!(fcntl_getpipe_size(&native.0), Ok(65536));
            fcntl_setpipe_size(&native.1, 8192).unwrap();
            assert_eq!(fcntl_getpipe_size(&native.0), Ok(8192));

            let ours = pipe().unwrap();
            enter(outside()).unwrap();
            assert!(!is_ours(pipe().unwrap().0));
            assert!(is_ours(&ours.0));
            assert_eq!(fcntl_getpipe_size(&ours.1), Ok(65536));
            fcntl_setpipe_size(&ours.0, 4096).unwrap();
            assert_eq!(fcntl_getpipe_size(&ours.1), Ok(4096));
            assert_eq!(fcntl_getpipe_size(outside()), Err(Errno::BADF));
        });
    }

    /// A file of ours that is no pipe has no size.
    fn a_counter_has_no_size() {
        differ_in_nothing(|| {
            // SAFETY: It takes numbers; the descriptor is new.
            let eventfd = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, 0)) };
            let mut seen = String::new();
            for size in (0..12).map(|shift| 1_usize << (2 * shift)) {
                let sizes = (fcntl_getpipe_size(&eventfd), fcntl_setpipe_size(&eventfd, size).err());
                writeln!(seen, "{size}: {sizes:?}").unwrap();
            }
            seen
        });
    }

    /// Sizes that may be asked for, and others.
    fn sizes_are_the_same() {
        differ_in_nothing(|| {
            let ends = pipe().unwrap();
            let mut seen = String::new();
            for size in [0, 1, 4096, 4097, 65536, 1 << 20, (1 << 20) + 1, 1 << 31, (1 << 31) + 1, usize::MAX] {
                // SAFETY: It takes numbers.
                let set = errno(unsafe { libc::fcntl(ends.0.as_raw_fd(), libc::F_SETPIPE_SZ, size) });
                writeln!(seen, "{size}: {set:?}, {:?}", fcntl_getpipe_size(&ends.1)).unwrap();
            }
            for end in [&ends.0, &ends.1] {
                rustix::io::write(&ends.1, &[1; 5000]).unwrap();
                writeln!(seen, "{:?}", fcntl_setpipe_size(end, 4096).err()).unwrap();
            }
            seen
        });
    }

    /// What fails leaves nothing behind: there is no memory for the numbers, or no place for a descriptor.
    fn failures_are_the_same() {
        differ_in_nothing(|| {
            let mut seen = String::new();
            for address in [0, 1, usize::MAX, 1 << 47] {
                // SAFETY: There is no such memory.
                let result = unsafe { libc::syscall(libc::SYS_pipe2, address, 0) };
                writeln!(seen, "{address:#x}: {result} {:?}", io::Error::last_os_error()).unwrap();
                writeln!(seen, "{}", describe(Entry::Native.pipe2(0))).unwrap();
            }
            let used = fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
            for more in 0..4 {
                let limit = Rlimit {
                    current: Some(used + more),
                    ..getrlimit(Resource::Nofile)
                };
                setrlimit(Resource::Nofile, limit).unwrap();
                let made = Entry::Native.pipe2(0).map(|ends| ends.map(|end| end.as_raw_fd() - used as c_int));
                writeln!(seen, "{more}: {made:?}").unwrap();
            }
            seen
        });
    }

    /// open(2) by /proc/PID/fd leads to the same pipe.
    fn an_end_can_be_opened_again() {
        member(|| {
            let (reader, writer) = pipe().unwrap();
            let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
            let again = fs::File::options().write(true).open(path).unwrap();
            assert!(is_ours(&again));
            assert_eq!(again.metadata().unwrap().ino(), fstat(&writer).unwrap().st_ino);
        });
    }

    /// The list tells the number that /proc/PID/fd shows.
    fn it_is_listed_by_its_inode() {
        member(|| {
            let (reader, _writer) = pipe().unwrap();
            let id = Object::id_of(&reader).unwrap().unwrap();
            let objects = crate::open().list().unwrap();
            let object = objects.iter().find(|object| object.id == id).unwrap();
            assert_eq!(u64::from(object.inode), fstat(&reader).unwrap().st_ino);
        });
    }
}
