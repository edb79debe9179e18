// SPDX-License-Identifier: GPL-2.0

//! The calls that make objects, as programs see them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use ipcdemo_client::Object;
use ipcdemo_tests::{Access, Memory, PAGE, compat, serially};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{ANSWERED, NATIVE, differential, is_body, nothing_is_left, seen, whose};

/// A call's result, the number or the error.
fn result(value: i64) -> Result<i64, String> {
    match value {
        -1 => Err(io::Error::last_os_error().to_string()),
        value => Ok(value),
    }
}

fn pipe2(address: *mut i32, flags: i32) -> Result<i64, String> {
    // SAFETY: It writes two numbers, or faults.
    result(unsafe { libc::syscall(libc::SYS_pipe2, address, flags) })
}

fn eventfd2(initval: u32, flags: i32) -> Result<i64, String> {
    // SAFETY: It takes numbers.
    result(unsafe { libc::syscall(libc::SYS_eventfd2, initval, flags) })
}

fn fcntl(fd: i64, command: i32, argument: i64) -> Result<i64, String> {
    // SAFETY: The commands here take numbers.
    result(unsafe { libc::syscall(libc::SYS_fcntl, fd, command, argument) })
}

/// Which descriptors there are.
fn descriptors() -> Vec<i32> {
    let folder = fs::read_dir("/proc/self/fd").unwrap();
    let mut all: Vec<i32> = folder
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    all.sort_unstable();
    // The last is the folder's own.
    all.pop();
    all
}

/// How many of them are the module's.
fn ours() -> usize {
    let is_ours = |&fd: &i32| {
        // SAFETY: It is open, and nobody else closes it.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        Object::id_of(fd).unwrap().is_some()
    };
    descriptors().iter().filter(|fd| is_ours(fd)).count()
}

/// What can be asked of a descriptor.
fn describe(text: &mut String, fd: i64) {
    // SAFETY: It fills the struct, all of which are numbers.
    let stat = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        assert_eq!(libc::fstat(fd as i32, &raw mut stat), 0);
        stat
    };
    let [descriptor, status] = [libc::F_GETFD, libc::F_GETFL].map(|get| fcntl(fd, get, 0));
    let _ = writeln!(text, "  {fd}: {descriptor:?} {status:?} {:o}", stat.st_mode);
}

#[test]
fn what_is_made_is_as_asked_for() {
    differential("calls::what_is_made_is_as_asked_for", || {
        let mut text = String::new();
        let mut ends = [0; 2];
        for flags in [
            0,
            libc::O_CLOEXEC,
            libc::O_NONBLOCK,
            libc::O_DIRECT,
            0o2204000,
        ] {
            let made = pipe2(ends.as_mut_ptr(), flags);
            let _ = writeln!(text, "pipe2 {flags:#o}: {made:?} {ends:?}");
            ends.map(|end| describe(&mut text, end.into()));
        }
        // SAFETY: It writes two numbers.
        let made = result(unsafe { libc::syscall(libc::SYS_pipe, ends.as_mut_ptr()) });
        let _ = writeln!(text, "pipe: {made:?} {ends:?}");
        ends.map(|end| describe(&mut text, end.into()));
        for flags in [
            0,
            libc::EFD_CLOEXEC,
            libc::EFD_NONBLOCK,
            libc::EFD_SEMAPHORE,
        ] {
            let made = eventfd2(5, flags);
            let _ = writeln!(text, "eventfd2 {flags:#o}: {made:?}");
            describe(&mut text, made.unwrap());
        }
        // SAFETY: It takes a number.
        let made = result(unsafe { libc::syscall(libc::SYS_eventfd, 7) });
        let _ = writeln!(text, "eventfd: {made:?}");
        describe(&mut text, made.unwrap());
        text
    });
}

#[test]
fn the_32_bit_entry_makes_them() {
    differential("calls::the_32_bit_entry_makes_them", || {
        let mut text = String::new();
        let memory = Memory::low(Access::ReadWrite);
        let address = memory.store(&[0; 8]).get() as u32;
        for (number, args) in [
            (42, [address, 0, 0]),
            (331, [address, libc::O_CLOEXEC as u32, 0]),
            (323, [3, 0, 0]),
            (328, [3, libc::EFD_NONBLOCK as u32, 0]),
        ] {
            // SAFETY: They write into that memory, or nothing.
            let made = unsafe { compat::syscall(number, args) };
            let _ = writeln!(text, "{number}: {made:?} {:?}", memory.load(8));
        }
        for fd in descriptors() {
            describe(&mut text, fd.into());
        }
        // The ends of two pipes, and two counters.
        let made = if whose() == ANSWERED { 6 } else { 0 };
        assert_eq!(ours(), made);
        // fcntl and fcntl64, of the first pipe.
        let fd = i32::from_ne_bytes(memory.load(8)[..4].try_into().unwrap()) as u32;
        for (number, args) in [
            (55, [fd, libc::F_GETPIPE_SZ as u32, 0]),
            (221, [fd, libc::F_SETPIPE_SZ as u32, 5000]),
        ] {
            // SAFETY: It takes numbers.
            let size = unsafe { compat::syscall(number, args) };
            let _ = writeln!(text, "{number}: {size:?}");
        }
        text
    });
}

#[test]
fn what_is_refused_leaves_nothing() {
    differential("calls::what_is_refused_leaves_nothing", || {
        let mut text = String::new();
        let before = descriptors();
        let read_only = Memory::new(Access::ReadOnly);
        let all = Memory::new(Access::ReadWrite);
        let short = File::create_new(std::env::temp_dir().join("exec-short")).unwrap();
        fs::remove_file(std::env::temp_dir().join("exec-short")).unwrap();
        // SAFETY: A new mapping, of a file that ends before it begins.
        let beyond = unsafe {
            let flags = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                ptr::null_mut(),
                PAGE,
                flags,
                libc::MAP_SHARED,
                short.as_raw_fd(),
                0,
            )
        };
        for (what, address) in [
            ("null", ptr::null_mut()),
            (
                "the kernel's",
                ptr::without_provenance_mut(usize::MAX << 47),
            ),
            ("the end", ptr::without_provenance_mut(usize::MAX - 3)),
            ("read-only", read_only.before_end(8).pointer()),
            ("half there", all.before_end(4).pointer()),
            ("beyond the file", beyond.cast()),
        ] {
            let _ = writeln!(text, "{what}: {:?}", pipe2(address, 0));
        }
        let mut ends = [-7; 2];
        for flags in [1, libc::O_APPEND, 1 << 30] {
            let _ = writeln!(text, "{flags:#o}: {:?}", pipe2(ends.as_mut_ptr(), flags));
            let _ = writeln!(text, "{flags:#o}: {:?}", eventfd2(1, flags | 2));
        }
        drop(short);
        assert_eq!(descriptors(), before);
        let _ = writeln!(text, "{ends:?}");
        text
    });
}

#[test]
fn there_are_limits() {
    differential("calls::there_are_limits", || {
        let mut text = String::new();
        let before = descriptors();
        let next = before.last().unwrap() + 1;
        let mut ends = [-7; 2];
        for limit in [1, next, next + 1, next + 2] {
            let limit = Rlimit {
                current: Some(limit as u64),
                maximum: Some(1000),
            };
            setrlimit(Resource::Nofile, limit).unwrap();
            let made = pipe2(ends.as_mut_ptr(), 0);
            let _ = writeln!(text, "{limit:?}: {made:?} {ends:?}");
            if made.is_ok() {
                let _ = writeln!(text, "{limit:?}: {:?}", eventfd2(0, 0));
                // SAFETY: They are this process's, and used no more.
                ends.map(|end| unsafe { libc::close(end) });
            }
            let made = eventfd2(0, 0);
            let _ = writeln!(text, "{limit:?}: {made:?}");
            if let Ok(fd) = made {
                // SAFETY: As above.
                unsafe { libc::close(fd as i32) };
            }
        }
        let limit = Rlimit {
            current: Some(1000),
            maximum: Some(1000),
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(descriptors(), before);
        text
    });
}

#[test]
fn the_capacity_is_asked_and_set() {
    differential("calls::the_capacity_is_asked_and_set", || {
        let mut text = String::new();
        let mut ends = [0; 2];
        pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK).unwrap();
        let [reader, writer] = ends.map(i64::from);
        let (get, set) = (libc::F_GETPIPE_SZ, libc::F_SETPIPE_SZ);
        for (fd, command, argument) in [
            (reader, get, 0),
            (writer, get, 0),
            (writer, set, 5000),
            (reader, get, 0),
            (reader, set, 0),
            (writer, set, 1 << 32),
            (writer, set, 1 << 31),
            (writer, set, 1 << 20),
            (-1, get, 0),
            (-1, set, 4096),
            (eventfd2(0, 0).unwrap(), get, 0),
            (0x1_0000_0000 | writer, get, 0),
        ] {
            let _ = writeln!(
                text,
                "{command} {argument}: {:?}",
                fcntl(fd, command, argument)
            );
        }
        for path in ["/dev/null", "/proc/self/exe", "/"] {
            let file = File::open(path).unwrap();
            let fd = i64::from(file.as_raw_fd());
            let _ = writeln!(text, "{path}: {:?}", fcntl(fd, get, 0));
        }
        let content = [1u8; 5000];
        // SAFETY: It reads the array.
        let written = unsafe { libc::write(writer as i32, content.as_ptr().cast(), content.len()) };
        let written = result(written as i64);
        let _ = writeln!(text, "{written:?} {:?}", fcntl(writer, set, 4096));
        text
    });
}

#[test]
fn they_are_the_module_s() {
    const NAME: &str = "calls::they_are_the_module_s";
    if is_body(NAME, whose) {
        return;
    }
    serially(|| {
        for (options, expected) in [
            (&["--"][..], ANSWERED),
            (&["--only", "pipe", "--"], "pipe true, eventfd false"),
            (&["--only", "counter", "--"], "pipe false, eventfd true"),
            (&["--only=pipe,counter", "--"], ANSWERED),
        ] {
            let before = [&["ipcdemo", "exec"], options].concat();
            assert_eq!(seen(&before, NAME), expected, "{options:?}");
        }
        assert_eq!(seen(&[], NAME), NATIVE);
        nothing_is_left();
    });
}
