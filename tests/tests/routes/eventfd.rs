// SPDX-License-Identifier: GPL-2.0

//! eventfd(2) of a member and of an outsider: the same to the errno, by each entry of the kernel.

use std::arch::asm;
use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use ipcdemo_tests::member::{answered, enter, member, outside, route, start};
use ipcdemo_tests::{Errno, Subject, compat, count, read, serial, write};
use rustix::fs::{fcntl_getfl, fstat};
use rustix::io::fcntl_getfd;
use rustix::pipe::pipe;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{ENTRIES, differ_in_nothing};

/// A way into the kernel, by two numbers: eventfd(2)'s and eventfd2(2)'s.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Native,
    /// Which Debian's kernel has only if `syscall.x32=y` is on its command line.
    X32,
    I386,
}

const ALL: [Entry; 3] = [Entry::Native, Entry::X32, Entry::I386];

impl Entry {
    fn eventfd(self, initval: u32) -> Result<OwnedFd, Errno> {
        // The second argument is none of its own.
        self.call(284, 323, [initval, u32::MAX])
    }

    fn eventfd2(self, initval: u32, flags: u32) -> Result<OwnedFd, Errno> {
        self.call(290, 328, [initval, flags])
    }

    fn call(self, number: u32, i386: u32, [first, second]: [u32; 2]) -> Result<OwnedFd, Errno> {
        const X32_BIT: u32 = 0x4000_0000;
        // SAFETY: Neither call takes a pointer.
        let result = unsafe {
            match self {
                Self::Native => syscall(number, first, second),
                Self::X32 => syscall(number | X32_BIT, first, second),
                Self::I386 => compat::syscall(i386, [first, second, u32::MAX]),
            }
        };
        // SAFETY: It is a new descriptor.
        result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// A system call by the instruction itself, with what is no argument set in the upper halves.
///
/// # Safety
///
/// What the call does must be of no concern to Rust.
unsafe fn syscall(number: u32, first: u32, second: u32) -> Result<i32, Errno> {
    const GARBAGE: u64 = 0xdead_beef << 32;
    let mut result = u64::from(number);
    // SAFETY: By the caller.
    unsafe {
        asm!(
            "syscall",
            inout("rax") result,
            in("rdi") GARBAGE | u64::from(first),
            in("rsi") GARBAGE | u64::from(second),
            out("rcx") _,
            out("r11") _,
        );
    }
    match result as i32 {
        error if error < 0 => Err(Errno::from_raw_os_error(-error)),
        fd => Ok(fd),
    }
}

serial! {
    /// Every flag alone and all together, and what there is to see of the descriptor then.
    fn what_is_made_is_the_same() {
        differ_in_nothing(|| {
            let mut seen = String::new();
            let flags = (0..u32::BITS).map(|bit| 1 << bit);
            let known = (libc::EFD_CLOEXEC | libc::EFD_NONBLOCK | libc::EFD_SEMAPHORE) as u32;
            for entry in ALL {
                let made = describe(entry.eventfd(7));
                writeln!(seen, "{entry:?}, eventfd: {made}").unwrap();
                for flags in flags.clone().chain([0, known, known | 2, u32::MAX]) {
                    let made = describe(entry.eventfd2(u32::MAX, flags));
                    writeln!(seen, "{entry:?}, {flags:#x}: {made}").unwrap();
                }
            }
            seen
        });
    }

    /// Each system call that takes a descriptor: what nobody does with an eventfd fails in the same way.
    fn every_call_on_it_is_the_same() {
        differ_in_nothing(|| {
            let eventfd = Subject::Native.counter(0);
            let fd = i64::from(eventfd.as_raw_fd());
            let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap();
            let ends = pipe().unwrap();
            let null = File::options().read(true).write(true).open("/dev/null").unwrap();
            let mut buffer = [0_u64; 512];
            let mut seen = String::new();
            for &(call, arguments) in CALLS {
                buffer.fill(0);
                let argument = |at: usize| match arguments.get(at).copied().unwrap_or(Number(0)) {
                    Fd => fd,
                    Pipe(end) => [&ends.0, &ends.1][end].as_raw_fd().into(),
                    Null => null.as_raw_fd().into(),
                    Path => path.as_ptr().addr() as i64,
                    Text(text) => text.as_ptr().addr() as i64,
                    Buffer => buffer.as_ptr().addr() as i64,
                    Number(number) => number,
                };
                let [a, b, c, d, e, f] = std::array::from_fn(argument);
                // SAFETY: None writes to more than the buffer, which nothing else refers to, and none that
                // succeeds maps anything.
                let result = unsafe { libc::syscall(call, a, b, c, d, e, f) };
                let errno = Errno::from_io_error(&io::Error::last_os_error());
                let errno = (result < 0).then_some(errno);
                writeln!(seen, "{call} {arguments:?}: {result} {errno:?}").unwrap();
            }
            seen
        });
    }

    /// A tracer turns another call into this one, as it does to run a call in a program's place.
    fn a_tracer_can_make_the_call() {
        differ_in_nothing(|| {
            const OPTIONS: usize = libc::PTRACE_O_TRACESYSGOOD as usize;
            let mut seen = String::new();
            for changed in 0..12 {
                let child = start(|| {
                    ptrace(libc::PTRACE_TRACEME, 0, 0).unwrap();
                    // SAFETY: Neither takes a pointer.
                    let fd = unsafe {
                        libc::raise(libc::SIGSTOP);
                        libc::syscall(libc::SYS_getppid, changed, libc::EFD_CLOEXEC)
                    };
                    // SAFETY: It is a new descriptor.
                    let eventfd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
                    assert_eq!(count(&eventfd), changed);
                });
                let pid = child.pid().as_raw_nonzero().get();
                stop_of(pid);
                ptrace(libc::PTRACE_SETOPTIONS, pid, OPTIONS).unwrap();
                let mut registers = loop {
                    ptrace(libc::PTRACE_SYSCALL, pid, 0).unwrap();
                    stop_of(pid);
                    let registers = registers_of(pid);
                    if registers.orig_rax == libc::SYS_getppid as u64 {
                        break registers;
                    }
                };
                registers.orig_rax = libc::SYS_eventfd2 as u64;
                ptrace(libc::PTRACE_SETREGS, pid, (&raw const registers).addr()).unwrap();
                ptrace(libc::PTRACE_SYSCALL, pid, 0).unwrap();
                stop_of(pid);
                writeln!(seen, "{}", registers_of(pid).rax as i64).unwrap();
                ptrace(libc::PTRACE_DETACH, pid, 0).unwrap();
                assert_eq!(child.wait(), 0);
            }
            seen
        });
    }

    /// The flags are looked at before descriptors are.
    fn failures_are_the_same() {
        differ_in_nothing(|| {
            let mut seen = String::new();
            let limit = File::open("/dev/null").unwrap().as_raw_fd() as u64;
            let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
            setrlimit(Resource::Nofile, limit).unwrap();
            for entry in ALL {
                for flags in [0, libc::EFD_NONBLOCK as u32, 2] {
                    let made = entry.eventfd2(0, flags).err();
                    writeln!(seen, "{entry:?}, {flags:#x}: {made:?}").unwrap();
                }
                writeln!(seen, "{entry:?}: {:?}", entry.eventfd(0).err()).unwrap();
            }
            seen
        });
    }

    /// A descriptor that is free is taken as the kernel takes it: the lowest.
    fn the_lowest_descriptor_is_taken() {
        member(|| {
            let free = File::open("/dev/null").unwrap().as_raw_fd();
            for entry in [Entry::Native, Entry::I386] {
                assert_eq!(entry.eventfd2(0, 0).unwrap().as_raw_fd(), free);
            }
        });
    }

    /// It counts.
    fn it_is_a_counter() {
        member(|| {
            for entry in [Entry::Native, Entry::I386] {
                let eventfd = entry.eventfd2(5, libc::EFD_NONBLOCK as u32).unwrap();
                assert_eq!(write(&eventfd, 3), Ok(()));
                assert_eq!(count(&eventfd), 8);
                assert_eq!(read(&eventfd), Ok(8));
                assert_eq!(read(&eventfd), Err(Errno::AGAIN));
                let semaphore = entry.eventfd2(2, libc::EFD_SEMAPHORE as u32).unwrap();
                assert_eq!(read(&semaphore), Ok(1));
                assert_eq!(count(&semaphore), 1);
            }
        });
    }

    /// Others have the kernel's, while a member has the module's.
    fn bystanders_have_the_kernels() {
        let answers = || ENTRIES.map(|entry| route(entry).answered);
        member(|| {
            assert!(answered());
            let (reader, writer) = pipe().unwrap();
            // One who has left.
            let outside = outside();
            let child = start(|| {
                enter(&outside).unwrap();
                let before = answers();
                let made = ALL.map(|entry| (entry.eventfd(1).is_ok(), entry.eventfd2(1, 0).is_ok()));
                assert!(made[0] == (true, true) && made[2] == (true, true));
                assert!(!answered());
                assert_eq!(answers(), before);
                File::from(writer.try_clone().unwrap()).write_all(b"x").unwrap();
            });
            File::from(reader).read_exact(&mut [0]).unwrap();
            assert_eq!(child.wait(), 0);
            assert!(answered());
        });
    }

    /// Each call is counted by the function that it came by, the failed ones too.
    fn calls_are_counted() {
        const CALLS: [(Entry, &str); 2] =
            [(Entry::Native, "__x64_sys_eventfd"), (Entry::I386, "__ia32_sys_eventfd")];
        member(|| {
            for (entry, function) in CALLS {
                let (one, two) = (function.to_owned(), format!("{function}2"));
                let seen = || [&one, &two].map(|function| {
                    let route = route(function);
                    route.answered + route.passed
                });
                let before = seen();
                for _ in 0..10 {
                    drop(entry.eventfd(0).unwrap());
                    drop(entry.eventfd2(0, 0).unwrap());
                    assert_eq!(entry.eventfd2(0, 2).err(), Some(Errno::INVAL));
                }
                assert_eq!(seen(), [before[0] + 10, before[1] + 20], "{function}");
            }
        });
    }
}

/// An argument of a call in [`CALLS`].
#[derive(Clone, Copy, Debug)]
enum Argument {
    Fd,
    /// The end of a pipe that is read from, and the other.
    Pipe(usize),
    /// A descriptor of /dev/null.
    Null,
    /// The descriptor's name under /proc.
    Path,
    Text(&'static CStr),
    /// 4 KiB of zeros.
    Buffer,
    Number(i64),
}

use Argument::{Buffer, Fd, Null, Number, Path, Pipe, Text};

const N0: Argument = Number(0);
const N1: Argument = Number(1);
const N8: Argument = Number(8);
const EMPTY_PATH: Argument = Number(libc::AT_EMPTY_PATH as i64);

/// Those that the C library's crate knows no number of.
const FCHMODAT2: i64 = 452;
const FILE_GETATTR: i64 = 468;

/// Calls by number, with arguments. Those that succeed change nothing that a later one sees.
const CALLS: &[(i64, &[Argument])] = &[
    (libc::SYS_pread64, &[Fd, Buffer, N8, N0]),
    (libc::SYS_pwrite64, &[Fd, Buffer, N8, N0]),
    (libc::SYS_lseek, &[Fd, N1, Number(libc::SEEK_SET as i64)]),
    (libc::SYS_lseek, &[Fd, N1, Number(libc::SEEK_END as i64)]),
    (libc::SYS_lseek, &[Fd, N0, Number(libc::SEEK_HOLE as i64)]),
    (libc::SYS_ftruncate, &[Fd, N0]),
    (libc::SYS_truncate, &[Path, N0]),
    (libc::SYS_fallocate, &[Fd, N0, N0, N1]),
    (libc::SYS_fsync, &[Fd]),
    (libc::SYS_fdatasync, &[Fd]),
    (libc::SYS_syncfs, &[Fd]),
    (libc::SYS_sync_file_range, &[Fd, N0, N1]),
    (libc::SYS_fadvise64, &[Fd, N0, N1, N0]),
    (libc::SYS_readahead, &[Fd, N0, N1]),
    (
        libc::SYS_mmap,
        &[
            N0,
            Number(4096),
            N1,
            Number(libc::MAP_SHARED as i64),
            Fd,
            N0,
        ],
    ),
    (
        libc::SYS_mmap,
        &[
            N0,
            Number(4096),
            N1,
            Number(libc::MAP_PRIVATE as i64),
            Fd,
            N0,
        ],
    ),
    (libc::SYS_fchmod, &[Fd, Number(0o600)]),
    (FCHMODAT2, &[Fd, Text(c""), Number(0o600), EMPTY_PATH]),
    (libc::SYS_fchown, &[Fd, N1, N1]),
    (libc::SYS_utimensat, &[Fd, N0, N0, N0]),
    (libc::SYS_fsetxattr, &[Fd, Text(c"user.a"), Buffer, N1, N0]),
    (libc::SYS_fgetxattr, &[Fd, Text(c"user.a"), Buffer, N8]),
    (
        libc::SYS_fgetxattr,
        &[Fd, Text(c"security.selinux"), Buffer, N8],
    ),
    (libc::SYS_fremovexattr, &[Fd, Text(c"user.a")]),
    (libc::SYS_flistxattr, &[Fd, Buffer, N8]),
    (
        FILE_GETATTR,
        &[Fd, Text(c""), Buffer, Number(24), EMPTY_PATH],
    ),
    (libc::SYS_flock, &[Fd, Number(libc::LOCK_EX as i64)]),
    (libc::SYS_fcntl, &[Fd, Number(libc::F_GETLK as i64), Buffer]),
    (libc::SYS_fcntl, &[Fd, Number(libc::F_GETLEASE as i64)]),
    (libc::SYS_fcntl, &[Fd, Number(libc::F_SETLEASE as i64), N0]),
    (libc::SYS_fcntl, &[Fd, Number(libc::F_NOTIFY as i64), N1]),
    (libc::SYS_fcntl, &[Fd, Number(libc::F_GETPIPE_SZ as i64)]),
    (
        libc::SYS_fcntl,
        &[Fd, Number(libc::F_SETPIPE_SZ as i64), Number(4096)],
    ),
    (libc::SYS_fcntl, &[Fd, Number(libc::F_GET_SEALS as i64)]),
    (libc::SYS_fcntl, &[Fd, Number(libc::F_ADD_SEALS as i64), N1]),
    (
        libc::SYS_fcntl,
        &[
            Fd,
            Number(libc::F_SETFL as i64),
            Number(libc::O_DIRECT as i64),
        ],
    ),
    (
        libc::SYS_fcntl,
        &[
            Fd,
            Number(libc::F_SETFL as i64),
            Number(libc::O_ASYNC as i64),
        ],
    ),
    (
        libc::SYS_fcntl,
        &[
            Fd,
            Number(libc::F_SETFL as i64),
            Number(libc::O_NONBLOCK as i64),
        ],
    ),
    (
        libc::SYS_ioctl,
        &[Fd, Number(libc::FIONREAD as i64), Buffer],
    ),
    (libc::SYS_ioctl, &[Fd, Number(libc::FIONREAD as i64), N0]),
    (
        libc::SYS_ioctl,
        &[Fd, Number(libc::FIOASYNC as i64), Buffer],
    ),
    (libc::SYS_ioctl, &[Fd, Number(libc::TCGETS as i64), Buffer]),
    (
        libc::SYS_ioctl,
        &[Fd, Number(libc::FS_IOC_GETFLAGS as i64), Buffer],
    ),
    (libc::SYS_ioctl, &[Fd, Number(libc::FICLONE as i64), N0]),
    (libc::SYS_ioctl, &[Fd, Number(0x5460), Buffer]),
    (libc::SYS_ioctl, &[Fd, N0, N0]),
    (
        libc::SYS_splice,
        &[
            Pipe(0),
            N0,
            Fd,
            N0,
            N8,
            Number(libc::SPLICE_F_NONBLOCK as i64),
        ],
    ),
    (
        libc::SYS_splice,
        &[
            Fd,
            N0,
            Pipe(1),
            N0,
            N8,
            Number(libc::SPLICE_F_NONBLOCK as i64),
        ],
    ),
    (libc::SYS_tee, &[Fd, Pipe(1), N8]),
    (libc::SYS_vmsplice, &[Fd, Buffer, N1]),
    (libc::SYS_sendfile, &[Null, Fd, N0, N8]),
    (libc::SYS_sendfile, &[Fd, Null, N0, N8]),
    (libc::SYS_copy_file_range, &[Fd, N0, Null, N0, N8]),
    (libc::SYS_copy_file_range, &[Null, N0, Fd, N0, N8]),
    (libc::SYS_recvfrom, &[Fd, Buffer, N8]),
    (libc::SYS_sendto, &[Fd, Buffer, N8]),
    (libc::SYS_fchdir, &[Fd]),
    (libc::SYS_chroot, &[Path]),
    (libc::SYS_getdents64, &[Fd, Buffer, Number(4096)]),
    (libc::SYS_openat, &[Fd, Text(c"x"), N0]),
    (libc::SYS_openat, &[Fd, Path, Number(libc::O_RDWR as i64)]),
    (
        libc::SYS_openat,
        &[Fd, Path, Number((libc::O_RDWR | libc::O_TRUNC) as i64)],
    ),
    (libc::SYS_openat, &[Fd, Path, Number(libc::O_PATH as i64)]),
    (libc::SYS_faccessat, &[Fd, Path, Number(libc::R_OK as i64)]),
    (libc::SYS_faccessat, &[Fd, Path, Number(libc::X_OK as i64)]),
    (
        libc::SYS_linkat,
        &[Fd, Text(c""), Fd, Text(c"/tmp/ipcdemo-link"), EMPTY_PATH],
    ),
    (libc::SYS_readlinkat, &[Fd, Text(c""), Buffer, N8]),
    (libc::SYS_execveat, &[Fd, Text(c""), N0, N0, EMPTY_PATH]),
    (libc::SYS_execve, &[Path, N0, N0]),
    (
        libc::SYS_name_to_handle_at,
        &[Fd, Text(c""), Buffer, Buffer, EMPTY_PATH],
    ),
    (libc::SYS_open_tree, &[Fd, Text(c""), EMPTY_PATH]),
    (libc::SYS_umount2, &[Path, N0]),
    (libc::SYS_setns, &[Fd, N0]),
    (libc::SYS_setns, &[Fd, Number(libc::CLONE_NEWIPC as i64)]),
    (libc::SYS_pidfd_send_signal, &[Fd, N0, N0, N0]),
    (libc::SYS_pidfd_getfd, &[Fd, N0, N0]),
    (
        libc::SYS_waitid,
        &[
            Number(libc::P_PIDFD as i64),
            Fd,
            N0,
            Number(libc::WEXITED as i64),
            N0,
        ],
    ),
    (libc::SYS_epoll_ctl, &[Fd, N1, Pipe(0), Buffer]),
    (libc::SYS_epoll_wait, &[Fd, Buffer, N1, N0]),
    (libc::SYS_signalfd4, &[Fd, Buffer, N8, N0]),
    (libc::SYS_timerfd_settime, &[Fd, N0, Buffer, N0]),
    (libc::SYS_timerfd_gettime, &[Fd, Buffer]),
    (libc::SYS_inotify_rm_watch, &[Fd, N1]),
    (libc::SYS_fanotify_mark, &[Fd, N1, N0, Fd, Path]),
    (libc::SYS_io_uring_enter, &[Fd, N0, N0, N0]),
    (libc::SYS_io_uring_register, &[Fd, N0, N0, N0]),
    (libc::SYS_mq_timedsend, &[Fd, Buffer, N1, N0, N0]),
    (libc::SYS_mq_getsetattr, &[Fd, N0, Buffer]),
    (libc::SYS_fsmount, &[Fd, N0, N0]),
    (libc::SYS_finit_module, &[Fd, Text(c""), N0]),
    (libc::SYS_kcmp, &[N0, N0, N0, Fd, Fd]),
    (
        libc::SYS_close_range,
        &[Fd, Fd, Number(libc::CLOSE_RANGE_CLOEXEC as i64)],
    ),
    (libc::SYS_fcntl, &[Fd, Number(libc::F_GETFD as i64)]),
];

/// ptrace(2) of a process that this one traces, or by the one that is traced.
fn ptrace(request: libc::c_uint, pid: i32, data: usize) -> Result<(), Errno> {
    // SAFETY: The requests here take a number, or registers that the caller has there.
    match unsafe { libc::ptrace(request, pid, 0, data) } {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap()),
        _ => Ok(()),
    }
}

fn registers_of(pid: i32) -> libc::user_regs_struct {
    // SAFETY: It may be zero.
    let mut registers: libc::user_regs_struct = unsafe { mem::zeroed() };
    ptrace(libc::PTRACE_GETREGS, pid, (&raw mut registers).addr()).unwrap();
    registers
}

/// Waits for a process's next stop.
fn stop_of(pid: i32) {
    let mut status = 0;
    // SAFETY: The status is a number of its own.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFSTOPPED(status), "{status:#x}");
}

/// All that there is to see of a new eventfd, but for its number, which must be there.
fn describe(made: Result<OwnedFd, Errno>) -> String {
    let fd = match made {
        Ok(fd) => fd,
        Err(error) => return format!("{error:?}"),
    };
    let raw = fd.as_raw_fd();
    let name = fs::read_link(format!("/proc/self/fd/{raw}")).unwrap();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{raw}")).unwrap();
    let (with_number, info): (Vec<_>, Vec<_>) = info
        .lines()
        .partition(|line| line.starts_with("eventfd-id:"));
    assert!(
        matches!(with_number[..], [line] if line.split(' ').nth(1).unwrap().parse::<u32>().is_ok())
    );
    let status = fstat(&fd).unwrap();
    format!(
        "{raw} {} {:?} {:?} {info:?} {:o} {} {} {} {}",
        name.display(),
        fcntl_getfl(&fd).unwrap(),
        fcntl_getfd(&fd).unwrap(),
        status.st_mode,
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_nlink,
    )
}
