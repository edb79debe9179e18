// SPDX-License-Identifier: GPL-2.0

//! System calls, and answers to them.

use super::{
    hook::{Decide, Entry},
    routes::NamespaceState,
};
use crate::bindings;
use kernel::{
    bindings::pt_regs,
    ffi::{c_long, c_ulong},
    prelude::*, //
};

/// Where a system call's arguments are.
enum Abi {
    /// x86-64, and x32, whose calls go to the same functions.
    X64,
    /// i386.
    Ia32,
}

/// The kernel's function for a system call, as programs of one ABI make it.
pub(crate) struct Syscall {
    name: &'static CStr,
    abi: Abi,
    original: unsafe extern "C" fn(regs: *const pt_regs) -> c_long,
    resolve: unsafe extern "C" fn(address: c_ulong),
}

/// Makes constants of functions of the kernel, which `src/bindings/redirect.h` declares the originals of.
macro_rules! syscalls {
    ($($name:ident: $abi:ident, $function:literal, $original:ident, $resolve:ident;)*) => {
        $(
            #[doc = concat!("`", stringify!($original), "`.")]
            pub(crate) const $name: Syscall = Syscall {
                name: $function,
                abi: Abi::$abi,
                original: bindings::$original,
                resolve: bindings::$resolve,
            };
        )*
    };
}

syscalls! {
    EVENTFD: X64, c"__x64_sys_eventfd", original___x64_sys_eventfd, resolve___x64_sys_eventfd;
    EVENTFD2: X64, c"__x64_sys_eventfd2", original___x64_sys_eventfd2, resolve___x64_sys_eventfd2;
}

#[cfg(CONFIG_IA32_EMULATION)]
syscalls! {
    EVENTFD_IA32: Ia32, c"__ia32_sys_eventfd", original___ia32_sys_eventfd, resolve___ia32_sys_eventfd;
    EVENTFD2_IA32: Ia32, c"__ia32_sys_eventfd2", original___ia32_sys_eventfd2, resolve___ia32_sys_eventfd2;
}

/// The arguments of a call, as they are in the registers: of an `int` only the lower half counts.
pub(crate) struct Args([usize; 6]);

impl Args {
    fn of(abi: &Abi, regs: &pt_regs) -> Self {
        Self(match abi {
            Abi::X64 => [regs.di, regs.si, regs.dx, regs.r10, regs.r8, regs.r9],
            Abi::Ia32 => [regs.bx, regs.cx, regs.dx, regs.si, regs.di, regs.bp]
                .map(|register| register as u32 as usize),
        })
    }

    /// The argument at this place, counted from 0: a C `unsigned int`.
    pub(crate) fn uint(&self, place: usize) -> u32 {
        self.0[place] as u32
    }
}

/// An answer to a system call of members of namespaces with `S`.
pub(crate) trait Answer<S> {
    /// The call.
    const SYSCALL: Syscall;

    /// Answers in the original's place, for the calling task.
    ///
    /// Context: as the original's; may sleep.
    fn answer(namespace: &S, args: &Args) -> Result<usize>;
}

impl Entry {
    /// Redirects a system call of members.
    pub(crate) const fn syscall<S: NamespaceState, A: Answer<S>>() -> Self {
        let call = A::SYSCALL;
        // SAFETY: Each `Syscall` is a function of the kernel that takes the caller's registers, as the answer does, and
        // `resolve` is its own. The decision looks at no argument. An answer may take the place of any system call: the
        // kernel relies on nothing that one does.
        let mut entry = unsafe {
            Self::new(
                call.name,
                Decide::Member,
                answer::<S, A> as *const _,
                call.resolve,
            )
        };
        entry.ia32 = matches!(call.abi, Abi::Ia32);
        entry
    }
}

/// Runs in the place of a kernel's function for a system call.
///
/// # Safety
///
/// `regs` has to be those of a call of [`Answer::SYSCALL`] by the current task.
unsafe extern "C" fn answer<S: NamespaceState, A: Answer<S>>(regs: *const pt_regs) -> c_long {
    // SAFETY: By the function's own requirement they are valid.
    let args = Args::of(&const { A::SYSCALL }.abi, unsafe { &*regs });
    match S::routes().with_current(|state| A::answer(state, &args)) {
        Some(Ok(value)) => value as c_long,
        Some(Err(error)) => error.to_errno() as c_long,
        // SAFETY: They are the arguments of a call of that function.
        None => unsafe { (const { A::SYSCALL.original })(regs) },
    }
}
