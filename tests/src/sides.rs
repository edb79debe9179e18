// SPDX-License-Identifier: GPL-2.0

//! The two sides of a test program: its tests `NAME::module` run in an enrolled process, and all others in one that is
//! as it came.

use std::env;
use std::ffi::OsString;
use std::process::{Command, exit};

use crate::{member, outsider};

/// Called before the test harness has begun, and a second thread. Returns if the tests that are asked for
/// have one side only, as a process of that side; otherwise runs the program once for each side, and exits.
pub fn take() {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let (module, others): (Vec<_>, Vec<_>) = tests(&arguments)
        .into_iter()
        .partition(|test| test.ends_with("::module"));
    if module.is_empty() {
        return;
    }
    if others.is_empty() {
        outsider::start();
        member::become_member();
        return;
    }
    let statuses = [others, module].map(|tests| {
        let mut program = Command::new(PROGRAM);
        // With --exact the other filters, and what is skipped, select nothing more.
        let status = program.args(&arguments).arg("--exact").args(tests).status();
        status.unwrap().code().unwrap_or(1)
    });
    exit(statuses[0].max(statuses[1]));
}

const PROGRAM: &str = "/proc/self/exe";

/// The names of the tests that these arguments select.
fn tests(arguments: &[OsString]) -> Vec<String> {
    let mut program = Command::new(PROGRAM);
    let output = program.args(arguments).arg("--list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(String::from)
        .collect()
}

/// Has a test program run its tests `NAME::module` as a member: see [`take`].
#[macro_export]
macro_rules! sides {
    () => {
        $crate::before_main! { $crate::sides::take() }
    };
}

/// Makes a test program a member as a whole.
///
/// Its [`Subject::Module`](crate::Subject::Module) is made by its own calls, and its
/// [`Subject::Native`](crate::Subject::Native) by another process.
#[macro_export]
macro_rules! member_program {
    () => {
        $crate::before_main! {{
            $crate::outsider::start();
            $crate::member::become_member();
        }}
    };
}

/// Runs something before the test harness has a second thread.
#[doc(hidden)]
#[macro_export]
macro_rules! before_main {
    ($body:expr) => {
        #[used]
        // SAFETY: The C library calls what is in this section, once it is ready itself.
        #[unsafe(link_section = ".init_array")]
        static BEFORE_MAIN: extern "C" fn() = {
            extern "C" fn run() {
                $body
            }
            run
        };
    };
}
