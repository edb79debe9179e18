// SPDX-License-Identifier: GPL-2.0

//! The bad signs: lines of the kernel's log that make a run a failure, whatever its command says.
//!
//! This is the one list. A sign is matched at the start of a message, behind the time stamp and the
//! subsystem's own prefix, so that a boot option or a user's text that contains such a word is not
//! taken for one.

/// How much of the guest a sign leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It goes on; the command's output is worth having.
    Bad,
    /// It is stuck: waiting for it would only use up the time limit.
    Stuck,
    /// It is about to reset.
    Dead,
}

use Severity::{Bad, Dead, Stuck};

/// What a message starts with. A `*` stands for any text.
const SIGNS: &[(&str, Severity)] = &[
    ("Kernel panic - not syncing: ", Dead),
    // Oops, and the faults that lead to one.
    ("Oops: ", Bad),
    ("Oops[#", Bad),
    ("BUG: ", Bad), // page faults, KASAN, KCSAN, atomic sleeps, workqueues
    ("BUG ", Bad),  // slub: "BUG kmalloc-64 (Tainted: …): Poison overwritten"
    ("[ BUG: ", Bad),
    ("kernel BUG at ", Bad),
    ("general protection fault", Bad),
    ("invalid opcode: ", Bad),
    ("divide error: ", Bad),
    ("stack segment: ", Bad),
    ("double fault: ", Bad),
    ("PANIC: ", Bad),
    ("Insufficient stack space to handle exception!", Bad),
    ("bad: scheduling from the idle thread!", Bad),
    // WARN, and lockdep, whose splats start with WARNING as well.
    ("WARNING: ", Bad),
    ("INFO: trying to register non-static key", Bad),
    ("INFO: lockdep is turned off", Bad),
    ("DEBUG_LOCKS_WARN_ON", Bad),
    ("INFO: possible ", Bad),
    ("INFO: suspicious RCU usage", Bad),
    ("UBSAN: ", Bad),
    ("list_add corruption", Bad),
    ("list_del corruption", Bad),
    ("slab error in ", Bad),
    ("Bad page state in process ", Bad),
    ("Bad rss-counter state", Bad),
    ("unregister_netdevice: waiting for ", Bad),
    ("irq *: nobody cared", Bad),
    ("Out of memory: ", Bad),
    ("kmemleak: * new suspected memory leaks", Bad),
    ("rust_kernel: panicked at ", Bad),
    // Nothing moves any more.
    ("watchdog: BUG: ", Stuck),
    ("watchdog: CPU*: Watchdog detected hard LOCKUP", Stuck),
    ("rcu: INFO: * detected stalls on CPUs/tasks", Stuck),
    ("rcu: INFO: * self-detected stall on CPU", Stuck),
    (
        "rcu: INFO: * detected expedited stalls on CPUs/tasks",
        Stuck,
    ),
    ("rcu: INFO: * detected stall, but suppressed", Stuck),
    ("rcu: * kthread starved for ", Stuck),
    ("rcu_tasks_wait_gp: rcu_tasks grace period ", Stuck),
    ("INFO: rcu_tasks detected stalls on tasks", Stuck),
    ("INFO: task * blocked* for more than ", Bad),
];

/// The message of a line of the kernel's log: what stands behind the time stamp. A line without one
/// is not the kernel's: a program wrote to the console.
pub fn message(line: &str) -> Option<&str> {
    let mut rest = line;
    // The stamp may stand in mid-line, behind what a program left there without a newline.
    while let Some(start) = rest.find('[') {
        rest = &rest[start + 1..];
        let Some(end) = rest.find(']') else { break };
        let stamp = rest[..end].trim_start().split_once('.');
        let digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if stamp.is_some_and(|(seconds, fraction)| {
            digits(seconds) && fraction.len() == 6 && digits(fraction)
        }) {
            return Some(skip_caller(
                rest[end + 1..]
                    .strip_prefix(' ')
                    .unwrap_or(&rest[end + 1..]),
            ));
        }
    }
    None
}

/// Skips the `[  T123] ` or `[   C0] ` that a kernel with PRINTK_CALLER adds.
fn skip_caller(message: &str) -> &str {
    let Some((id, rest)) = message
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    else {
        return message;
    };
    match id.trim_start().as_bytes() {
        [b'T' | b'C', digits @ ..]
            if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) =>
        {
            rest
        }
        _ => message,
    }
}

/// Whether a message is a bad sign.
pub fn find(message: &str) -> Option<Severity> {
    SIGNS
        .iter()
        .find(|(sign, _)| starts_like(message, sign))
        .map(|&(_, severity)| severity)
}

/// The kernel's note that messages were lost on their way to the console, any of which may have been
/// a bad sign. It is the console's own, so it has no time stamp.
pub fn lost(line: &str) -> Option<&str> {
    const END: &str = " printk messages dropped **";
    let end = line.find(END)?;
    let start = line[..end].rfind("** ")?;
    let number = &line[start + 3..end];
    // Behind a stamp, it is somebody's text.
    (!number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && message(&line[..start]).is_none())
    .then(|| &line[start..end + END.len()])
}

fn starts_like(message: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| message.strip_prefix(first)) else {
        return false;
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(line: &str) -> Option<Severity> {
        message(line).and_then(find)
    }

    #[test]
    fn real_signs_are_seen() {
        let lines = [
            (
                "[    1.234567] Kernel panic - not syncing: sysrq triggered crash",
                Dead,
            ),
            ("[   12.000001] Oops: Oops: 0002 [#1] SMP NOPTI", Bad),
            (
                "[   12.000001] Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1]",
                Bad,
            ),
            (
                "[    0.9] [    2.345678] BUG: kernel NULL pointer dereference, address: 0000000000000000",
                Bad,
            ),
            ("[    2.345678] kernel BUG at fs/eventfd.c:61!", Bad),
            (
                "[    2.345678] BUG: KASAN: slab-use-after-free in provoke+0x1a/0x40 [provoke]",
                Bad,
            ),
            ("[    2.345678] BUG: KCSAN: data-race in a / b", Bad),
            (
                "[    2.345678] BUG: sleeping function called from invalid context at kernel/locking/mutex.c:283",
                Bad,
            ),
            (
                "[    2.345678] BUG: scheduling while atomic: insmod/71/0x00000002",
                Bad,
            ),
            (
                "[    2.345678] BUG kmalloc-64 (Tainted: G    B   O       ): Poison overwritten",
                Bad,
            ),
            ("[    2.345678] [ BUG: Invalid wait context ]", Bad),
            (
                "[    2.345678] WARNING: fs/eventfd.c:61 at eventfd_signal_mask+0x5d/0x70, CPU#1: insmod/71",
                Bad,
            ),
            (
                "[    2.345678] WARNING: CPU: 0 PID: 71 at fs/eventfd.c:61 f+0x1/0x2",
                Bad,
            ),
            (
                "[    2.345678] WARNING: possible circular locking dependency detected",
                Bad,
            ),
            (
                "[    2.345678] WARNING: possible recursive locking detected",
                Bad,
            ),
            ("[    2.345678] WARNING: inconsistent lock state", Bad),
            ("[    2.345678] WARNING: suspicious RCU usage", Bad),
            (
                "[    2.345678] WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected",
                Bad,
            ),
            (
                "[    2.345678] UBSAN: array-index-out-of-bounds in mm/x.c:3:4",
                Bad,
            ),
            (
                "[   30.345678] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [insmod:71]",
                Stuck,
            ),
            (
                "[   30.345678] rcu: INFO: rcu_sched self-detected stall on CPU",
                Stuck,
            ),
            (
                "[   30.345678] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                Stuck,
            ),
            (
                "[   30.345678] rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-...! }",
                Stuck,
            ),
            (
                "[   30.345678] rcu: rcu_preempt kthread starved for 5250 jiffies! g1 f0x0",
                Stuck,
            ),
            (
                "[  245.345678] INFO: task cat:70 blocked for more than 122 seconds.",
                Bad,
            ),
            (
                "[  245.345678] INFO: task cat:70 blocked in I/O wait for more than 122 seconds.",
                Bad,
            ),
            (
                "[  245.345678] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
                Bad,
            ),
            (
                "[    2.345678] rust_kernel: panicked at provoke.rs:40:5:",
                Bad,
            ),
            (
                "[    2.345678] Out of memory: Killed process 71 (stress) total-vm:1kB",
                Bad,
            ),
            (
                "[    2.345678] irq 9: nobody cared (try booting with the \"irqpoll\" option)",
                Bad,
            ),
            // PRINTK_CALLER's column, and text a program left without a newline.
            ("[    2.345678][   T71] WARNING: suspicious RCU usage", Bad),
            ("[    2.345678] [    C0] WARNING: suspicious RCU usage", Bad),
            (
                "prompt# [    2.345678] BUG: unable to handle page fault for address: ffff",
                Bad,
            ),
        ];
        for (line, severity) in lines {
            assert_eq!(judge(line), Some(severity), "{line}");
        }
    }

    #[test]
    fn lost_messages_are_noticed() {
        let note = "** 12 printk messages dropped **";
        for (before, behind) in [
            ("", ""),
            ("prompt# ", ""),
            ("", " [    2.345678] eventfd: fine"),
            ("", "[    2.345678] WARNING: suspicious RCU usage"),
        ] {
            assert_eq!(lost(&format!("{before}{note}{behind}")), Some(note));
        }
        for line in [
            "[    2.345678] ** 12 printk messages dropped **",
            "[    2.345678][   T71] Command line: ** 12 printk messages dropped **",
            "**  printk messages dropped **",
            "** many printk messages dropped **",
            "12 printk messages dropped **",
            "** replaying previous printk message **",
        ] {
            assert_eq!(lost(line), None, "{line}");
        }
    }

    #[test]
    fn harmless_lines_are_not() {
        let lines = [
            "[    0.000000] Command line: console=ttyS0 panic=-1 oops=panic comment=WARNING: BUG:",
            "[    0.000000] Unknown kernel command line parameters \"WARNING:\", will be passed to user space.",
            "[    0.020000] Spectre V2 : WARNING: Unprivileged eBPF is enabled, data leaks possible",
            "[    0.020000] MDS: Vulnerable: Clear CPU buffers attempted, no microcode; this is a CPU bug",
            "[    0.020000] [Firmware Bug]: TSC doesn't count with P0 frequency!",
            "[    0.020000] rcu: \tRCU debug GP init slowdown: 0",
            "[    0.020000] rcu: Hierarchical RCU implementation.",
            "[    0.020000] watchdog: Delayed init of the lockup detector failed: -19",
            "[    0.020000] debug: unmapping init memory",
            "[    0.020000] kmemleak: Kernel memory leak detector initialized (mem pool available: 1)",
            "[    0.020000] Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
            "[    0.020000] ipcdemo: loading out-of-tree module taints kernel.",
            "[    2.345678] FAULT_INJECTION: forcing a failure.",
            "[    2.345678] cat[71]: segfault at 0 ip 0000000000401000 sp 00007ffc error 4 in cat[1000,401000+1000]",
            "[    2.345678] traps: cat[71] general protection fault ip:401000 sp:7ffc error:0 in cat",
            "[    2.345678] Memory cgroup out of memory: Killed process 71 (stress)",
            "[    2.345678] INFO: task cat:70 is blocked on a mutex likely owned by task dog:71.",
            "[    2.345678] sysrq: Show Blocked State",
            // Not the kernel's: a program's own words on the console.
            "WARNING: this test takes long",
            "BUG: 1 [x] [2.5] found",
            "Kernel panic - not syncing: says my shell",
            "",
        ];
        for line in lines {
            assert_eq!(judge(line), None, "{line}");
        }
    }
}
