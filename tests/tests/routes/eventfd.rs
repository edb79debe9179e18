// SPDX-License-Identifier: GPL-2.0

//! eventfd(2) of a member and of an outsider: the same to the errno, by each entry of the kernel.

use std::arch::asm;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use ipcdemo_tests::member::{
    answered, become_member, enter, forked, member, outside, route, start,
};
use ipcdemo_tests::{Errno, compat, count, read, serial, write};
use rustix::fs::{fcntl_getfl, fstat};
use rustix::io::fcntl_getfd;
use rustix::pipe::pipe;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::ENTRIES;

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

/// Has `body` run in an outsider and in a member, and compares what they saw.
fn differ_in_nothing(body: fn() -> String) {
    let seen = |enrolled: bool| {
        let (reader, writer) = pipe().unwrap();
        forked(|| {
            if enrolled {
                become_member();
            }
            assert_eq!(answered(), enrolled);
            let mut text = File::from(writer);
            text.write_all(body().as_bytes()).unwrap();
        });
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        text
    };
    let (native, routed) = (seen(false), seen(true));
    assert!(native.lines().count() > 10, "{native}");
    for (native, routed) in native.lines().zip(routed.lines()) {
        assert_eq!(native, routed);
    }
    assert_eq!(native, routed);
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
