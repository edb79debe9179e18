// SPDX-License-Identifier: GPL-2.0

//! What went wrong for programs elsewhere whose calls somebody intercepts.

use std::arch::asm;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use ipcdemo_tests::{Access, Child, Errno, Memory, scaled, serially_for};
use rustix::fs::{Gid, Mode, fchmod, fchown, fstat};
use rustix::pipe::pipe;

use crate::{LIMIT, differential, ends_alike};

/// A shell asks for a pipe while its background jobs end. ash and dash have a handler for SIGCHLD, and take EINTR from
/// pipe(2) for a failure.
#[test]
fn a_pipeline_while_jobs_end() {
    serially_for(LIMIT, || {
        let one = "sh -c '(:)& (:)& echo a | cat | cat >/dev/null' || echo wrong";
        let text = format!(
            "i=0; while [ $i -lt {} ]; do {one}; i=$((i+1)); done",
            scaled(100)
        );
        assert_eq!(ends_alike(&text, ""), "");
    });
}

/// A pipe belongs to the user that its maker has become, who may open it by its name and change its mode.
#[test]
fn a_pipe_belongs_to_its_maker() {
    const NOBODY: u32 = 65534;
    differential("reports::a_pipe_belongs_to_its_maker", || {
        let (seen_reader, seen_writer) = pipe().unwrap();
        let child = Child::fork(|| {
            // SAFETY: They take numbers. The flag is as after the exec of a program that its user may read.
            unsafe {
                assert_eq!(libc::setgid(NOBODY), 0);
                assert_eq!(libc::setuid(NOBODY), 0);
                assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1), 0);
            }
            let (reader, _writer) = pipe().unwrap();
            let status = fstat(&reader).unwrap();
            let mut seen = format!("{} {} {:o}; ", status.st_uid, status.st_gid, status.st_mode);
            let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
            for (read, write) in [(true, false), (false, true), (true, true)] {
                let mut options = OpenOptions::new();
                options
                    .read(read)
                    .write(write)
                    .custom_flags(libc::O_NONBLOCK);
                let opened = options.open(&path).map_err(|error| error.kind());
                write!(seen, "{:?}; ", opened.map(drop)).unwrap();
            }
            let mode = fchmod(&reader, Mode::from_raw_mode(0o640));
            let group = fchown(&reader, None, Some(Gid::from_raw(NOBODY)));
            let root = fchown(&reader, None, Some(Gid::from_raw(0)));
            let now = fstat(&reader).unwrap().st_mode;
            write!(seen, "{mode:?} {group:?} {root:?} {now:o}").unwrap();
            rustix::io::write(&seen_writer, seen.as_bytes()).unwrap();
            0
        });
        assert_eq!(child.wait(), 0);
        let mut seen = [0; 4096];
        let len = rustix::io::read(&seen_reader, &mut seen).unwrap();
        String::from_utf8(seen[..len].to_vec()).unwrap()
    });
}

/// pipe(2) into memory that the thread itself may not write: by protection keys, or at all.
#[test]
fn memory_that_is_protected() {
    differential("reports::memory_that_is_protected", || {
        let mut seen = String::new();
        let memory = Memory::new(Access::ReadWrite);
        let address = memory.store(&[7; 8]).get();
        let mut make = |what: &str| {
            // SAFETY: It writes two numbers to that memory, if it may.
            let result = unsafe { libc::syscall(libc::SYS_pipe2, address, 0) };
            let errno = Errno::from_io_error(&io::Error::last_os_error()).filter(|_| result != 0);
            writeln!(seen, "{what}: {result} {errno:?}").unwrap();
        };
        make("writable");
        // SAFETY: It takes numbers.
        let key = unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) };
        if key < 0 {
            seen += "no keys";
            return seen;
        }
        let page = address & !4095;
        // SAFETY: It is a page of that memory.
        let set = unsafe {
            libc::syscall(
                libc::SYS_pkey_mprotect,
                page,
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                key,
            )
        };
        assert_eq!(set, 0);
        for (what, rights) in [("no writes", 2_u32), ("no access", 1), ("all", 0)] {
            set_rights(rights << (2 * key));
            make(what);
            set_rights(0);
        }
        // What was refused has left no descriptor.
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        writeln!(seen, "{descriptors}").unwrap();
        seen
    });
}

/// Sets this thread's rights, but for those of the first key, which stay.
fn set_rights(rights: u32) {
    // SAFETY: Nothing of Rust's is in memory of another key than the first, and that of the test is not touched.
    unsafe { asm!("wrpkru", in("eax") rights, in("ecx") 0, in("edx") 0) };
}

/// Descriptors that others made are as they were: a member's calls on the kernel's own pipe.
#[test]
fn a_pipe_from_outside() {
    differential("reports::a_pipe_from_outside", || {
        let (reader, writer) = pipe().unwrap();
        let size = rustix::pipe::fcntl_getpipe_size(&reader).unwrap();
        let status = fstat(reader.as_fd()).unwrap();
        let inherited = fstat(io::stdout()).unwrap();
        let other = rustix::pipe::fcntl_getpipe_size(io::stdout());
        rustix::io::write(&writer, b"x").unwrap();
        format!(
            "{size} {:o} {:o} {other:?}",
            status.st_mode, inherited.st_mode
        )
    });
}
