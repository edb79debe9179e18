// SPDX-License-Identifier: GPL-2.0

//! What the audience sees, and the count of what did not come out as told.

use std::env;
use std::fmt::{Debug, Display};
use std::fs;
use std::io::{self, IsTerminal};

use crate::failure::Failure;

#[derive(Debug)]
pub struct Stage {
    color: bool,
    titles: u32,
    checks: u32,
    surprises: u32,
}

impl Stage {
    pub fn new(plain: bool) -> Self {
        let wanted = !plain && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            color: wanted && stdout_is_terminal(),
            titles: 0,
            checks: 0,
            surprises: 0,
        }
    }

    /// Begins a scene.
    pub fn title(&mut self, text: &str) {
        match self.titles {
            // The tour's own name.
            0 => println!("{}", self.colored("1", text)),
            number => println!("\n{}", self.colored("1", &format!("{number}. {text}"))),
        }
        self.titles += 1;
    }

    /// Says what is about to happen.
    pub fn explain(&self, text: &str) {
        println!("   {}", self.colored("2", text));
    }

    /// Says what happened.
    pub fn saw(&self, what: impl Display) {
        println!("     {what}");
    }

    /// Compares it with what should have.
    pub fn check<T: Debug + PartialEq>(&mut self, what: &str, got: T, expected: T) {
        self.checks += 1;
        if got != expected {
            self.surprises += 1;
            let complaint = format!("NOT AS TOLD: {what}: {got:?}, expected {expected:?}");
            println!("     {}", self.colored("1;31", &complaint));
        }
    }

    /// The verdict.
    pub fn close(self) -> Result<(), Failure> {
        if self.surprises > 0 {
            return Err(Failure::new(format!(
                "of {} things checked, {} did not come out as told",
                self.checks, self.surprises
            )));
        }
        let verdict = format!("All {} things checked came out as told.", self.checks);
        println!("\n{}", self.colored("32", &verdict));
        Ok(())
    }

    fn colored(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }
}

/// Asks only what looks like a terminal whether it is one, since the question is
/// an ioctl that fails on everything else.
fn stdout_is_terminal() -> bool {
    const TERMINALS: [&str; 4] = ["/dev/pts/", "/dev/tty", "/dev/hvc", "/dev/console"];
    let named_so = fs::read_link("/proc/self/fd/1").is_ok_and(|path| {
        path.to_str()
            .is_some_and(|path| TERMINALS.iter().any(|prefix| path.starts_with(prefix)))
    });
    named_so && io::stdout().is_terminal()
}
