// SPDX-License-Identifier: GPL-2.0

//! What the tests share: the two subjects, and the means to watch a thread
//! sleep, to interrupt it, and to pass the kernel what it must refuse.
//!
//! The kernel's own eventfd and pipe are the oracle. One body runs against both subjects,
//! so a test of the module that expects what Linux does not do fails on `native`.

pub mod aio;
mod census;
mod child;
pub mod compat;
mod descriptor;
pub mod epoll;
pub mod fifo;
pub mod inotify;
mod ioctl;
mod kernel;
pub mod killed;
pub mod member;
mod memory;
mod missing;
pub mod module;
pub mod outsider;
mod patching;
pub mod pipe;
mod ring;
pub mod sides;
mod signal;
mod sleeper;
mod subject;
mod task;
mod waiting;
mod watch;

pub use census::{Census, serially, serially_for};
pub use child::Child;
pub use descriptor::{
    as_a_socket, count, poll_now, read, receive_descriptor, send_descriptor, write,
};
pub use ioctl::ioctl;
pub use kernel::{has_checkers, rounds, scaled};
pub use memory::{Access, Address, Memory, PAGE, read_to, write_from};
pub use missing::MissingPage;
pub use patching::{OneProcessor, patching};
pub use ring::Ring;
pub use signal::Signal;
pub use sleeper::Sleeper;
pub use subject::{Fd, MAX, Subject};
pub use task::{Task, pin, schedule};
pub use waiting::{Waiting, listed, waitq};
pub use watch::{guarded, guarded_for, until};

/// The errors that the tests compare.
pub use rustix::io::Errno;

/// Makes a test of each function, run one at a time: see [`serially`].
#[macro_export]
macro_rules! serial {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)*) => {$(
        $(#[$attribute])*
        #[test]
        fn $name() {
            $crate::serially(|| $body);
        }
    )*};
}

/// Makes two tests of each function, `name::native` and `name::module`, each run by
/// [`guarded`] or by the function that is named at the head. The program has to have [`sides!`].
#[macro_export]
macro_rules! differential {
    (by $run:path; $($functions:tt)*) => {
        $crate::by_subject! { [native = Native, module = Module] $run; $($functions)* }
    };
    ($($functions:tt)*) => {
        $crate::differential! { by $crate::guarded; $($functions)* }
    };
}

/// Makes a test of each function for ours alone, `name::module`.
#[macro_export]
macro_rules! ours {
    (by $run:path; $($functions:tt)*) => {
        $crate::by_subject! { [module = Module] $run; $($functions)* }
    };
}

/// Makes a test of each function for each subject, which [`differential!`] and [`ours!`] name.
#[doc(hidden)]
#[macro_export]
macro_rules! by_subject {
    (@tests $run:path, $name:ident, [$($test:ident = $variant:ident),*]) => {$(
        #[test]
        fn $test() {
            $run(|| super::$name($crate::Subject::$variant));
        }
    )*};
    (
        $subjects:tt $run:path;
        $($(#[$attribute:meta])* fn $name:ident($subject:ident: Subject) $body:block)*
    ) => {$(
        $(#[$attribute])*
        fn $name($subject: $crate::Subject) $body

        mod $name {
            $crate::by_subject! { @tests $run, $name, $subjects }
        }
    )*};
}

/// As [`differential!`], of what ours cannot do: a body for the kernel's, and one for ours.
#[macro_export]
macro_rules! differing {
    ($($(#[$attribute:meta])* fn $name:ident {
        native() $native:block
        ours($subject:ident: Subject) $ours:block
    })*) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;

            #[test]
            fn native() {
                $crate::guarded(|| $native);
            }

            #[test]
            fn module() {
                $crate::guarded(|| ours($crate::Subject::Module));
            }

            fn ours($subject: $crate::Subject) $ours
        }
    )*};
}
