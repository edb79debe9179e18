// SPDX-License-Identifier: GPL-2.0

//! eventfd(2): answered by the counter.

use super::Namespace;
use crate::{
    abstractions::redirect::{
        routes::Entry,
        syscall::{self, Answer, Args, Syscall}, //
    },
    objects::counter::Counter, //
};
use kernel::prelude::*;

pub(super) const ENTRIES: &[Entry] = &[
    Entry::syscall::<Namespace, Eventfd>(),
    Entry::syscall::<Namespace, Eventfd2>(),
    #[cfg(CONFIG_IA32_EMULATION)]
    Entry::syscall::<Namespace, EventfdIa32>(),
    #[cfg(CONFIG_IA32_EMULATION)]
    Entry::syscall::<Namespace, Eventfd2Ia32>(),
];

/// Answers `eventfd(count)`.
fn eventfd(namespace: &Namespace, args: &Args) -> Result<usize> {
    create(namespace, args.uint(0), 0)
}

/// Answers `eventfd2(count, flags)`.
fn eventfd2(namespace: &Namespace, args: &Args) -> Result<usize> {
    create(namespace, args.uint(0), args.uint(1))
}

fn create(namespace: &Namespace, count: u32, flags: u32) -> Result<usize> {
    Counter::eventfd(
        &namespace.resources.eventfds,
        namespace.tallies(),
        count,
        flags,
    )
}

/// Makes answers out of functions: one for each ABI.
macro_rules! answers {
    ($($(#[$attribute:meta])* $name:ident: $syscall:ident = $answer:ident;)*) => {
        $(
            $(#[$attribute])*
            struct $name;

            $(#[$attribute])*
            impl Answer<Namespace> for $name {
                const SYSCALL: Syscall = syscall::$syscall;

                fn answer(namespace: &Namespace, args: &Args) -> Result<usize> {
                    $answer(namespace, args)
                }
            }
        )*
    };
}

answers! {
    Eventfd: EVENTFD = eventfd;
    Eventfd2: EVENTFD2 = eventfd2;
    #[cfg(CONFIG_IA32_EMULATION)]
    EventfdIa32: EVENTFD_IA32 = eventfd;
    #[cfg(CONFIG_IA32_EMULATION)]
    Eventfd2Ia32: EVENTFD2_IA32 = eventfd2;
}
