// SPDX-License-Identifier: GPL-2.0

//! The seccomp filter: which system calls stop, and ask the supervisor.

use std::mem::offset_of;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_USER_NOTIF, seccomp_data, sock_filter,
};

/// `AUDIT_ARCH_*` of `linux/audit.h`.
const ARCH_X86_64: u32 = 0xc000_003e;
const ARCH_I386: u32 = 0x4000_0003;

/// What a number of the x32 entry point has on top of that of x86-64.
const X32_BIT: u32 = 0x4000_0000;

/// A system call that is to stop.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// Its number at the 64-bit entry point, and at x32's.
    pub x86_64: u32,
    /// Its numbers at the 32-bit one.
    pub i386: &'static [u32],
    /// Values of its second argument for which it does; for all of them if there is none here.
    pub commands: &'static [u32],
}

impl Stop {
    /// Whether it is this call.
    pub fn is(&self, arch: u32, number: u32) -> bool {
        match arch {
            ARCH_X86_64 => number & !X32_BIT == self.x86_64,
            ARCH_I386 => self.i386.contains(&number),
            _ => false,
        }
    }
}

/// Stops these, and allows all others.
///
/// What it allows whatever the arguments are, the kernel remembers for each number, as long
/// as nothing but comparisons and masks of the number lead there: such a call does not run
/// the filter at all.
pub fn filter<'a>(stops: impl Iterator<Item = &'a Stop> + Clone) -> Vec<sock_filter> {
    let mut native = vec![
        load(offset_of!(seccomp_data, nr)),
        statement(BPF_ALU | BPF_AND | BPF_K, !X32_BIT),
    ];
    let mut compat = vec![load(offset_of!(seccomp_data, nr))];
    for stop in stops {
        native.extend(when(stop.x86_64, &asks(stop.commands)));
        for &number in stop.i386 {
            compat.extend(when(number, &asks(stop.commands)));
        }
    }
    for part in [&mut native, &mut compat] {
        part.push(give(SECCOMP_RET_ALLOW));
    }
    let mut program = vec![load(offset_of!(seccomp_data, arch))];
    program.extend(when(ARCH_X86_64, &native));
    program.extend(when(ARCH_I386, &compat));
    program.push(give(SECCOMP_RET_ALLOW));
    program
}

/// Asks, for these second arguments.
fn asks(commands: &[u32]) -> Vec<sock_filter> {
    let ask = give(SECCOMP_RET_USER_NOTIF);
    if commands.is_empty() {
        return vec![ask];
    }
    let mut body = vec![load(offset_of!(seccomp_data, args) + size_of::<u64>())];
    for &command in commands {
        body.extend(when(command, &[ask]));
    }
    body.push(give(SECCOMP_RET_ALLOW));
    body
}

/// Does `body` if what was loaded is `value`, and goes past it otherwise.
fn when(value: u32, body: &[sock_filter]) -> Vec<sock_filter> {
    let skip = body.len().try_into().expect("a part is short");
    let jump = sock_filter {
        jf: skip,
        ..statement(BPF_JMP | BPF_JEQ | BPF_K, value)
    };
    [&[jump], body].concat()
}

fn load(offset: usize) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset as u32)
}

fn give(action: u32) -> sock_filter {
    statement(BPF_RET | BPF_K, action)
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOPS: [Stop; 2] = [
        Stop {
            x86_64: 22,
            i386: &[42],
            commands: &[],
        },
        Stop {
            x86_64: 72,
            i386: &[55, 221],
            commands: &[1031, 1032],
        },
    ];

    /// Runs it as the kernel would.
    fn asks(arch: u32, number: u32, second: u64) -> bool {
        let program = filter(STOPS.iter());
        let (mut at, mut loaded) = (0, 0);
        loop {
            let instruction = program[at];
            at += 1;
            match u32::from(instruction.code) {
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    loaded = match instruction.k {
                        0 => number,
                        4 => arch,
                        24 => second as u32,
                        other => panic!("nothing is at {other}"),
                    }
                }
                code if code == BPF_ALU | BPF_AND | BPF_K => loaded &= instruction.k,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => {
                    let jump = if loaded == instruction.k {
                        instruction.jt
                    } else {
                        instruction.jf
                    };
                    at += usize::from(jump);
                }
                _ => return instruction.k == SECCOMP_RET_USER_NOTIF,
            }
        }
    }

    #[test]
    fn it_stops_what_it_is_to_stop() {
        for number in [22, 22 | X32_BIT] {
            assert!(asks(ARCH_X86_64, number, 0));
        }
        assert!(asks(ARCH_I386, 42, 0));
        for number in [72, 72 | X32_BIT] {
            assert!(asks(ARCH_X86_64, number, 1031) && asks(ARCH_X86_64, number, 1032));
        }
        assert!(asks(ARCH_I386, 55, 1031) && asks(ARCH_I386, 221, 1032));
        // The kernel takes 32 bits of a command.
        assert!(asks(ARCH_X86_64, 72, 0xff_0000_0407));
    }

    #[test]
    fn it_stops_nothing_else() {
        for number in [0, 21, 23, 42, 55, 221] {
            assert!(!asks(ARCH_X86_64, number, 1031), "{number}");
        }
        for number in [0, 22, 72, 41, 43] {
            assert!(!asks(ARCH_I386, number, 1031), "{number}");
        }
        assert!(!asks(ARCH_X86_64, 72, 3) && !asks(ARCH_I386, 55, 3));
        let (arm, number) = (0xc000_00b7, 22);
        assert!(!asks(arm, number, 0));
    }
}
