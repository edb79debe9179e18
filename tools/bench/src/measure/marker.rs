// SPDX-License-Identifier: GPL-2.0

//! What tells the emulator's plugin (`tools/bench/plugin/`) when to count: long nops that no compiler makes.

use std::arch::asm;

/// Count from here on.
#[inline(always)]
pub fn on() {
    // SAFETY: It does nothing, with or without a plugin.
    unsafe { asm!(".byte 0x0f, 0x1f, 0x84, 0x00, 1, 0x43, 0x50, 0x49") };
}

/// No more.
#[inline(always)]
pub fn off() {
    // SAFETY: As above.
    unsafe { asm!(".byte 0x0f, 0x1f, 0x84, 0x00, 0, 0x43, 0x50, 0x49") };
}

/// The end of a round: write down what was counted, and begin anew.
pub fn take() {
    // SAFETY: As above.
    unsafe { asm!(".byte 0x0f, 0x1f, 0x84, 0x00, 2, 0x43, 0x50, 0x49") };
}
