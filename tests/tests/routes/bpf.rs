// SPDX-License-Identifier: GPL-2.0

//! A BPF program that runs after a function of the kernel, as tracers attach it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Where the kernel describes its functions, if it can have such programs.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// A program that is attached to a function's end as long as this exists.
pub struct Attached {
    program: OwnedFd,
    _link: OwnedFd,
}

/// Whether the kernel counts how often programs run.
pub const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

impl Attached {
    /// How often it has run while that was counted.
    pub fn runs(&self) -> u64 {
        let path = format!("/proc/self/fdinfo/{}", self.program.as_raw_fd());
        let info = fs::read_to_string(path).unwrap();
        let mut lines = info.lines();
        let runs = lines.find_map(|line| line.strip_prefix("run_cnt:"));
        runs.unwrap().trim().parse().unwrap()
    }
}

/// Attaches a program that does nothing to the end of `function`. None where the kernel has no such
/// programs: of the three, stock alone has.
///
/// # Panics
///
/// If it has, and that fails.
pub fn attach_to_end_of(function: &str) -> Option<Attached> {
    let btf = fs::read(BTF).ok()?;
    let id = function_id(&btf, function).expect("the function is described");
    let program = load(id).unwrap_or_else(|error| panic!("BPF_PROG_LOAD: {error}"));
    let mut open = RawTracepointOpen {
        prog_fd: program.as_raw_fd() as u32,
        ..Default::default()
    };
    let link = bpf(BPF_RAW_TRACEPOINT_OPEN, &mut open);
    let link = link.unwrap_or_else(|error| panic!("BPF_RAW_TRACEPOINT_OPEN: {error}"));
    Some(Attached {
        program,
        _link: link,
    })
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_RAW_TRACEPOINT_OPEN: i32 = 17;

/// `union bpf_attr` of BPF_PROG_LOAD, up to `attach_btf_id`.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// And of BPF_RAW_TRACEPOINT_OPEN.
#[repr(C)]
#[derive(Default)]
struct RawTracepointOpen {
    name: u64,
    prog_fd: u32,
    reserved: u32,
    cookie: u64,
}

fn load(id: u32) -> io::Result<OwnedFd> {
    const TRACING: u32 = 26;
    const FEXIT: u32 = 25;
    // r0 = 0; exit
    let program: [u64; 2] = [0xb7, 0x95];
    let mut attr = ProgLoad {
        prog_type: TRACING,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        expected_attach_type: FEXIT,
        attach_btf_id: id,
        ..Default::default()
    };
    bpf(BPF_PROG_LOAD, &mut attr)
}

fn bpf<T>(command: i32, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: The struct is what the command takes, and the pointers in it outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: Both commands return a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The number of a function among the types of the kernel's BTF.
/// C: `struct btf_header`, `struct btf_type`
fn function_id(btf: &[u8], function: &str) -> Option<u32> {
    const FUNC: u32 = 12;
    let word = |at: usize| u32::from_ne_bytes(btf[at..at + 4].try_into().unwrap());
    let header = word(4) as usize;
    let types = header + word(8) as usize;
    let end = types + word(12) as usize;
    let names = header + word(16) as usize;
    let (mut at, mut id) = (types, 1);
    while at < end {
        let info = word(at + 4);
        let (kind, members) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
        let name = &btf[names + word(at) as usize..];
        if kind == FUNC && name.starts_with(function.as_bytes()) && name[function.len()] == 0 {
            return Some(id);
        }
        at += 12
            + match kind {
                // Integers, variables, tags of declarations.
                1 | 14 | 17 => 4,
                // Arrays.
                3 => 12,
                // Structs, unions, sections, enumerations of 64 bits.
                4 | 5 | 15 | 19 => 12 * members,
                // Enumerations, prototypes.
                6 | 13 => 8 * members,
                _ => 0,
            };
        id += 1;
    }
    None
}
