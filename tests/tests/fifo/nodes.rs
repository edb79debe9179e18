// SPDX-License-Identifier: GPL-2.0

//! What only ours has: the node that is always there, the others by request, and what
//! becomes of the module meanwhile.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use ipcdemo_client::{Counter, Factory, Waitq, fifo_path, raw};
use ipcdemo_tests::fifo::Fifo;
use ipcdemo_tests::pipe::{as_user, path, put, take};
use ipcdemo_tests::{Access, Census, Errno, Fd, Memory, Subject, ioctl, serial};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::io::{FdFlags, fcntl_setfd};

/// The node that is there as long as the module is.
const ALWAYS: &str = ipcdemo_client::Fifo::PATH;

serial! {
    /// There is a FIFO from the beginning, root's alone.
    fn one_is_always_there() {
        let node = fs::metadata(ALWAYS).unwrap();
        assert!(node.file_type().is_char_device());
        assert_eq!((node.mode() & 0o7777, node.uid(), node.gid()), (0o600, 0, 0));
        let open = |flags| open(ALWAYS, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        assert_eq!(open(OFlags::WRONLY).err(), Some(Errno::NXIO));
        let reader = open(OFlags::RDONLY).unwrap();
        assert_eq!(put(open(OFlags::WRONLY).unwrap(), b"x"), Ok(1));
        assert_eq!(take(&reader, 10), Ok(b"x".into()));
        assert_eq!(take(&reader, 10), Ok(vec![]));
    }

    /// It is nobody's to remove: it has no name.
    fn it_cannot_be_removed() {
        assert_eq!(rmfifo(""), Err(Errno::INVAL));
        assert!(Path::new(ALWAYS).exists());
    }

    /// One that is made is there at once, with the mode that was asked for whatever the
    /// umask is, and gone at once when it is removed.
    fn nodes_come_and_go_at_once() {
        for mode in [0o600, 0o666, 0, 0o777] {
            assert_eq!(mkfifo("here", mode), Ok(()));
            let node = fs::metadata(fifo_path("here")).unwrap();
            assert!(node.file_type().is_char_device());
            assert_eq!((node.mode() & 0o7777, node.uid()), (mode, 0));
            assert_eq!(rmfifo("here"), Ok(()));
            assert!(!fifo_path("here").exists());
        }
    }

    /// A name is of letters, digits and three signs, and begins with no '.' or '-'.
    fn names_have_rules() {
        for name in ["a", "Z", "0", "_", "a.b-c_d", "9-", "_.", &"x".repeat(31)] {
            assert_eq!(mkfifo(name, 0o600), Ok(()), "{name}");
            assert_eq!(mkfifo(name, 0o600), Err(Errno::EXIST), "{name}");
            assert_eq!(rmfifo(name), Ok(()), "{name}");
        }
        let long = "x".repeat(32);
        for name in [
            "", ".", "..", ".a", "-", "-a", "a/b", "/", "a b", "a\n", "ä", "a!", "a\0b", &long,
        ] {
            assert_eq!(mkfifo(name, 0o600), Err(Errno::INVAL), "{name:?}");
            assert_eq!(rmfifo(name), Err(Errno::INVAL), "{name:?}");
        }
    }

    /// Neither has any other byte a meaning, nor what comes after the name.
    fn names_are_padded_with_zeros() {
        for byte in 1..=u8::MAX {
            if !(byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
                assert_eq!(send(&[b'a', byte], 0o600, 0), Err(Errno::INVAL), "{byte:#x}");
            }
        }
        let mut name = [0; 32];
        name[0] = b'a';
        for place in [2, 31] {
            let mut padded = name;
            padded[place] = b'b';
            assert_eq!(send(&padded, 0o600, 0), Err(Errno::INVAL));
        }
        assert!(!fifo_path("a").exists());
    }

    /// A mode is permission bits and no more; what is reserved must be zero.
    fn fields_are_checked() {
        for mode in [0o1_600, 0o4_600, 0o10_600, 0o100_600, 1 << 31] {
            assert_eq!(mkfifo("a", mode), Err(Errno::INVAL), "{mode:o}");
        }
        assert_eq!(send(b"a", 0o600, 1), Err(Errno::INVAL));
        assert_eq!(send(b"a", 0o600, 1 << 31), Err(Errno::INVAL));
        assert!(!fifo_path("a").exists());
        let mut args = arguments(b"a", 0o600, 0);
        let request = raw::IPCDEMO_IOC_RMFIFO;
        assert_eq!(mkfifo("a", 0o600), Ok(()));
        assert_eq!(call(request, &args), Err(Errno::INVAL), "a mode means nothing here");
        args[32..36].fill(0);
        args[36] = 1;
        assert_eq!(call(request, &args), Err(Errno::INVAL));
        args[36] = 0;
        assert_eq!(call(request, &args), Ok(0));
    }

    /// What is there cannot be made, nor what is not there removed.
    fn each_is_there_once() {
        assert_eq!(rmfifo("once"), Err(Errno::NOENT));
        assert_eq!(mkfifo("once", 0o600), Ok(()));
        assert_eq!(mkfifo("once", 0o644), Err(Errno::EXIST));
        assert_eq!(rmfifo("once"), Ok(()));
        assert_eq!(rmfifo("once"), Err(Errno::NOENT));
    }

    /// There are 64 of them, the first one included, and one can be made for each that
    /// is removed.
    fn there_is_an_end_to_them() {
        let names: Vec<_> = (1..raw::IPCDEMO_FIFO_NODES_MAX)
            .map(|number| format!("n{number}"))
            .collect();
        for name in &names {
            assert_eq!(mkfifo(name, 0o600), Ok(()), "{name}");
        }
        assert_eq!(mkfifo("more", 0o600), Err(Errno::NOSPC));
        assert_eq!(mkfifo(&names[0], 0o600), Err(Errno::EXIST));
        let number = |name: &String| fs::metadata(fifo_path(name)).unwrap().rdev();
        let numbers: HashSet<_> = names.iter().map(number).collect();
        assert_eq!(numbers.len(), names.len(), "each has a number of its own");
        assert_eq!(rmfifo(&names[20]), Ok(()));
        assert_eq!(mkfifo("more", 0o600), Ok(()));
        assert_eq!(mkfifo(&names[20], 0o600), Err(Errno::NOSPC));
        assert_eq!(rmfifo("more"), Ok(()));
        for name in names.iter().filter(|name| **name != names[20]) {
            assert_eq!(rmfifo(name), Ok(()), "{name}");
        }
    }

    /// They are made and removed by the administrator, though others may have the factory.
    fn others_may_not() {
        assert_eq!(mkfifo("there", 0o666), Ok(()));
        let factory = factory();
        let code = as_user(65534, || {
            let errors = [
                factory.mkfifo("another", 0o666).unwrap_err(),
                factory.rmfifo("there").unwrap_err(),
            ];
            assert_eq!(errors.map(|error| errno(&error)), [Errno::PERM; 2]);
        });
        assert_eq!(code, 0);
        assert_eq!(rmfifo("there"), Ok(()));
        assert!(!fifo_path("another").exists());
    }

    /// What is removed while it is open leaves nothing once it is closed.
    fn they_leave_nothing() {
        let factory = factory();
        let census = Census::take(&factory);
        for _ in 0..100 {
            let fifo = Fifo::new(Subject::Module);
            let ends = fifo.blocking_ends();
            assert_eq!(put(&ends.1, b"lost"), Ok(4));
            fifo.remove();
            drop(ends);
            assert!(fifo.open(OFlags::RDWR).is_err());
        }
        census.check(&factory, "100 FIFOs");
    }

    /// Unlike the kernel's own, one that was removed cannot be opened again by way of a
    /// descriptor: what leads there is the node's device. Nor does another one open in its place.
    fn a_removed_one_is_out_of_reach() {
        let fifo = Fifo::new(Subject::Module);
        let held = [fifo.open(OFlags::PATH).unwrap(), fifo.both()];
        fifo.remove();
        let reopen = |fd: &Fd| open(path(fd), OFlags::RDWR, Mode::empty()).err();
        assert_eq!(held.each_ref().map(reopen), [Some(Errno::NXIO); 2]);
        // The number is another's now.
        let another = Fifo::new(Subject::Module);
        assert_eq!(held.each_ref().map(reopen), [Some(Errno::NXIO); 2]);
        drop(another);
        assert_eq!(put(&held[1], b"x"), Ok(1));
        assert_eq!(take(&held[1], 1), Ok(b"x".into()));
    }

    /// A node made by hand, with the same number, is the same FIFO; once the number is
    /// nobody's, there is nothing behind it.
    fn the_number_is_what_counts() {
        let fifo = Fifo::new(Subject::Module);
        let (other, number) = ("/dev/by-hand", fs::metadata(fifo.path()).unwrap().rdev());
        mknodat(CWD, other, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, number).unwrap();
        let reader = fifo.reader();
        let writer = open(other, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
        fifo.remove();
        let nobody = open(other, OFlags::RDWR, Mode::empty());
        fs::remove_file(other).unwrap();
        assert_eq!(put(writer.unwrap(), b"x"), Ok(1));
        assert_eq!(take(&reader, 1), Ok(b"x".into()));
        assert_eq!(nobody.err(), Some(Errno::NXIO));
    }

    /// While somebody waits in open(2), other openings go on: the module's and those of
    /// other drivers, which a lock of all misc devices would hold up.
    fn a_waiting_opening_holds_nobody_up() {
        let fifo = Fifo::new(Subject::Module);
        let reader = fifo.opening(OFlags::RDONLY);
        let ours = [Factory::PATH, Counter::SHARED_PATH, Waitq::SHARED_PATH];
        // Of those that one guest or the other has, some that nothing comes of.
        let others = ["hwrng", "userfaultfd", "hpet", "fuse", "cpu_dma_latency"];
        for path in ours {
            assert!(File::open(path).is_ok(), "{path}");
        }
        let opened = others.map(|name| File::open(Path::new("/dev").join(name)));
        assert!(opened.iter().any(Result::is_ok), "none of {others:?}: {opened:?}");
        let another = Fifo::new(Subject::Module);
        drop(another.both());
        assert!(reader.sleeps_on());
        drop(fifo.writer());
        assert!(reader.join().is_ok());
    }

    /// An opening that waits is a user of the module, as an open end is; and a node is none.
    fn a_waiting_opening_keeps_the_module() {
        let fifo = Fifo::new(Subject::Module);
        let reader = fifo.opening(OFlags::RDONLY);
        assert_eq!(unload(), Err(Errno::AGAIN));
        drop(fifo.writer());
        let reader = reader.join().unwrap();
        assert_eq!(unload(), Err(Errno::AGAIN));
        fifo.remove();
        assert_eq!(unload(), Err(Errno::AGAIN));
        drop(reader);
    }

    /// Where it waits is to be seen.
    fn a_waiting_opening_tells_where() {
        let fifo = Fifo::new(Subject::Module);
        for flags in [OFlags::RDONLY, OFlags::WRONLY] {
            let opening = fifo.opening(flags);
            let wchan = fs::read_to_string(format!("/proc/self/task/{}/wchan", opening.tid()));
            assert_eq!(wchan.unwrap(), "ipcdemo_wait_event");
            drop(fifo.both());
            assert!(opening.join().is_ok());
        }
    }

    /// FIFOs are not among the live objects: their nodes tell of them.
    fn they_are_not_listed() {
        let factory = factory();
        let before = factory.list().unwrap();
        let fifo = Fifo::new(Subject::Module);
        let ends = fifo.blocking_ends();
        assert_eq!(factory.list().unwrap(), before);
        drop(ends);
    }

    /// A program's ends stay with it as any descriptor does.
    fn a_program_uses_what_it_inherits() {
        let fifo = Fifo::new(Subject::Module);
        let (reader, writer) = fifo.blocking_ends();
        fcntl_setfd(&writer, FdFlags::empty()).unwrap();
        let script = format!("echo x >&{}", writer.as_raw_fd());
        let status = Command::new("/bin/sh").args(["-c", &script]).status();
        assert!(status.unwrap().success());
        assert_eq!(take(&reader, 10), Ok(b"x\n".into()));
    }
}

fn factory() -> Factory {
    Factory::open().unwrap_or_else(|error| panic!("{error}"))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap()
}

fn mkfifo(name: &str, mode: u32) -> Result<(), Errno> {
    factory().mkfifo(name, mode).map_err(|error| errno(&error))
}

fn rmfifo(name: &str) -> Result<(), Errno> {
    factory().rmfifo(name).map_err(|error| errno(&error))
}

/// `struct ipcdemo_fifo_args` as bytes.
fn arguments(name: &[u8], mode: u32, reserved: u32) -> [u8; 40] {
    let mut args = [0; 40];
    args[..name.len()].copy_from_slice(name);
    args[32..36].copy_from_slice(&mode.to_ne_bytes());
    args[36..].copy_from_slice(&reserved.to_ne_bytes());
    args
}

/// Asks for a FIFO with any bytes.
fn send(name: &[u8], mode: u32, reserved: u32) -> Result<i32, Errno> {
    call(raw::IPCDEMO_IOC_MKFIFO, &arguments(name, mode, reserved))
}

fn call(request: u32, args: &[u8]) -> Result<i32, Errno> {
    let memory = Memory::new(Access::ReadWrite);
    let address = memory.store(args);
    // SAFETY: There is no pointer in the struct.
    unsafe { ioctl(factory().as_fd(), request, address) }
}

/// delete_module(2), as rmmod(8) calls it: EAGAIN while somebody uses the module.
fn unload() -> Result<(), Errno> {
    let (name, flags) = (c"ipcdemo", libc::O_NONBLOCK);
    // SAFETY: The name is a C string.
    match unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(errno(&io::Error::last_os_error())),
    }
}
