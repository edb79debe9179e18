// SPDX-License-Identifier: GPL-2.0

//! The C header compiles alone, strictly, in each language and word size.

use std::env;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use ipcdemo_client::raw;

/// Compiles `source` as `language` for `-m<bits>`, and panics with the compiler's
/// complaint unless it says nothing.
fn compile(language: &str, standard: &str, bits: u32, source: &str) {
    let clang = env::var_os("CLANG").unwrap_or_else(|| "clang-19".into());
    let uapi = concat!(env!("CARGO_MANIFEST_DIR"), "/../../src/uapi");
    let mut child = Command::new(&clang)
        .args(["-fsyntax-only", "-Wall", "-Wextra", "-pedantic", "-Werror"])
        .args([
            "-x",
            language,
            &format!("-std={standard}"),
            &format!("-m{bits}"),
        ])
        .args(["-I", uapi, "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {clang:?}: {error}"));
    // Taken, so that it is closed and the compiler sees the end.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(source.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{language}, {standard}, {bits} bits:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Every language and word size that a user of the header may have.
fn compile_everywhere(source: &str) {
    for bits in [32, 64] {
        for (language, standard) in [
            ("c", "c99"),
            ("c", "c23"),
            ("c++", "c++98"),
            ("c++", "c++20"),
        ] {
            compile(language, standard, bits, source);
        }
    }
}

/// A C assertion that holds in C99 and C++98 alike, neither of which has one.
const ASSERT: &str = "#define ASSERT_(line, c) typedef char assert_##line[(c) ? 1 : -1]\n\
                      #define ASSERT(line, c) ASSERT_(line, c)\n";

#[test]
fn it_compiles_alone() {
    // Twice, for the guard; and something of one's own after it, as ISO C has
    // no empty file.
    compile_everywhere("#include \"ipcdemo.h\"\n#include \"ipcdemo.h\"\nextern int user;\n");
}

/// A false assertion is seen, so the next test can fail.
#[test]
#[should_panic(expected = "assert_1")]
fn a_false_assertion_is_an_error() {
    compile("c", "c99", 32, &format!("{ASSERT}ASSERT(1, 0);\n"));
}

/// The layout that this library has from bindgen is every caller's layout.
#[test]
fn layouts_are_the_same_everywhere() {
    macro_rules! layout {
        ($source:ident, $($name:ident { $($field:ident),* $(,)? })*) => {$(
            let raw::$name { $($field: _),* } = raw::$name::default();
            writeln!(
                $source,
                concat!("ASSERT(__LINE__, sizeof(struct ", stringify!($name), ") == {});"),
                size_of::<raw::$name>()
            ).unwrap();
            $(writeln!(
                $source,
                concat!(
                    "ASSERT(__LINE__, offsetof(struct ", stringify!($name), ", ",
                    stringify!($field), ") == {});"
                ),
                std::mem::offset_of!(raw::$name, $field)
            ).unwrap();)*
        )*};
    }

    let mut source = format!("#include \"ipcdemo.h\"\n#include <stddef.h>\n{ASSERT}");
    layout! { source,
        ipcdemo_null_args { fd, flags }
        ipcdemo_counter_args { fd, flags, initval, reserved }
        ipcdemo_waitq_args { fd, flags, word }
        ipcdemo_pipe_args { read_fd, write_fd, flags, size }
        ipcdemo_fifo_args { name, mode, reserved }
        ipcdemo_tally_args { fd, flags }
        ipcdemo_sums { kind, left, comm, objects, read, written, woken }
        ipcdemo_tallied_args { sums, capacity, sums_size, count, total }
        ipcdemo_pipe_limits_args { set, max_size, user_pages_soft, user_pages_hard, user_pages }
        ipcdemo_wait_args {
            expected, timeout_ns, flags, mask, linger_us, reserved, word, slept_ns, remaining_ns,
            reason, key, waker_pid, waker_tid, walked, called, woken, stopped_by, passed_on,
            reserved2,
        }
        ipcdemo_wake_args {
            word, flags, nr, key, reserved, walked, called, woken, exclusive, stopped_by, reserved2,
        }
        ipcdemo_waiter {
            since_ns, position, kind, flags, key, pid, tid, comm, function,
        }
        ipcdemo_waiters_args { waiters, capacity, waiter_size, count, total, word }
        ipcdemo_object { id, value, kind, flags, waiters, inode }
        ipcdemo_list_args { after, objects, capacity, object_size, count, reserved }
        ipcdemo_enroll_args { kinds, flags, reason, reserved, function }
        ipcdemo_route { function, kind, state, answered, passed }
        ipcdemo_routes_args { routes, capacity, route_size, count, total, switched, reserved }
        ipcdemo_namespace { id, inum, kinds, flags, reserved }
        ipcdemo_namespaces_args { after, namespaces, capacity, namespace_size, count, reserved }
    }
    macro_rules! requests {
        ($($name:ident)*) => {$(
            writeln!(
                source,
                concat!("ASSERT(__LINE__, ", stringify!($name), " == {}u);"),
                raw::$name
            ).unwrap();
        )*};
    }
    requests! {
        IPCDEMO_IOC_NULL
        IPCDEMO_IOC_COUNTER
        IPCDEMO_IOC_WAITQ
        IPCDEMO_IOC_PIPE
        IPCDEMO_IOC_MKFIFO
        IPCDEMO_IOC_RMFIFO
        IPCDEMO_IOC_PIPE_LIMITS
        IPCDEMO_IOC_TALLY
        IPCDEMO_IOC_LIST
        IPCDEMO_IOC_ARM
        IPCDEMO_IOC_SEAL
        IPCDEMO_IOC_ROUTES
        IPCDEMO_IOC_NAMESPACES
        IPCDEMO_IOC_WAIT
        IPCDEMO_IOC_WAKE
        IPCDEMO_IOC_WAITERS
        IPCDEMO_IOC_PIPE_SET_SIZE
        IPCDEMO_IOC_PIPE_GET_SIZE
        IPCDEMO_IOC_ID
        IPCDEMO_IOC_TALLIED
    }
    compile_everywhere(&source);
    for name in names("struct ", " {") {
        let row = format!("sizeof(struct {name})");
        assert!(source.contains(&row), "`layout!` lacks {name}");
    }
    for name in names("#define IPCDEMO_IOC_", "\t_IO") {
        let row = format!("(__LINE__, IPCDEMO_IOC_{name} == ");
        assert!(
            source.contains(&row),
            "`requests!` lacks IPCDEMO_IOC_{name}"
        );
    }
}

/// What the header has between `before`, at the beginning of a line, and `after`.
fn names(before: &str, after: &str) -> Vec<&'static str> {
    let header = include_str!("../../../src/uapi/ipcdemo.h");
    let names: Vec<_> = header
        .lines()
        .filter_map(|line| Some(line.strip_prefix(before)?.split_once(after)?.0.trim_end()))
        .collect();
    assert!(!names.is_empty(), "no line is {before}…{after}");
    names
}

/// What cannot be seen from outside: the flags are the system's own values, and
/// no struct has padding that the kernel might leave uninitialized.
#[test]
fn values_and_sizes_add_up() {
    assert_eq!(raw::IPCDEMO_CLOEXEC, libc::O_CLOEXEC as u32);
    assert_eq!(raw::IPCDEMO_NONBLOCK, libc::O_NONBLOCK as u32);
    assert_eq!(raw::IPCDEMO_COUNTER_SEMAPHORE, libc::EFD_SEMAPHORE as u32);
    assert_eq!(raw::IPCDEMO_PIPE_DIRECT, libc::O_DIRECT as u32);

    assert_eq!(raw::IPCDEMO_NULL_SIZE_VER0, 2 * 4);
    assert_eq!(raw::IPCDEMO_COUNTER_SIZE_VER0, 4 * 4);
    assert_eq!(raw::IPCDEMO_WAITQ_SIZE_VER0, 2 * 4 + 8);
    assert_eq!(raw::IPCDEMO_PIPE_SIZE_VER0, 4 * 4);
    assert_eq!(raw::IPCDEMO_FIFO_SIZE_VER0, 32 + 2 * 4);
    assert_eq!(raw::IPCDEMO_TALLY_SIZE_VER0, 2 * 4);
    assert_eq!(raw::IPCDEMO_TALLIED_SIZE_VER0, 8 + 4 * 4);
    assert_eq!(raw::IPCDEMO_PIPE_LIMITS_SIZE_VER0, 2 * 4 + 3 * 8);
    assert_eq!(raw::IPCDEMO_WAIT_SIZE_VER0, 5 * 8 + 14 * 4);
    assert_eq!(raw::IPCDEMO_WAKE_SIZE_VER0, 8 + 10 * 4);
    assert_eq!(raw::IPCDEMO_WAITERS_SIZE_VER0, 2 * 8 + 4 * 4);
    assert_eq!(size_of::<raw::ipcdemo_waiter>(), 8 + 6 * 4 + 16 + 64);
    assert_eq!(raw::IPCDEMO_LIST_SIZE_VER0, 2 * 8 + 4 * 4);
    assert_eq!(size_of::<raw::ipcdemo_object>(), 2 * 8 + 4 * 4);
    assert_eq!(raw::IPCDEMO_ENROLL_SIZE_VER0, 4 * 4 + 64);
    assert_eq!(raw::IPCDEMO_ROUTES_SIZE_VER0, 8 + 6 * 4);
    assert_eq!(size_of::<raw::ipcdemo_route>(), 64 + 2 * 4 + 2 * 8);
    assert_eq!(raw::IPCDEMO_NAMESPACES_SIZE_VER0, 2 * 8 + 4 * 4);
    assert_eq!(size_of::<raw::ipcdemo_namespace>(), 8 + 4 * 4);
}
