// SPDX-License-Identifier: GPL-2.0

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use ipcdemo_client::OpenError;

/// Why the program ends early. The codes are those that `--help` lists.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Status 1, with a sentence.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_code(1, message)
    }

    /// Another status, such as a shell's 127.
    pub fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The status of a command that has said itself what there is to say.
    pub fn silent(code: u8) -> Self {
        Self::with_code(code, "")
    }

    /// For `map_err`: puts what was tried before the system's complaint.
    pub fn because<E: Into<io::Error>>(what: impl Display) -> impl FnOnce(E) -> Self {
        move |error| {
            let failure = Self::from(error.into());
            Self::with_code(failure.code, format!("{what}: {}", failure.message))
        }
    }

    /// Tells the user, and gives the exit status.
    pub fn report(self) -> ExitCode {
        self.tell().into()
    }

    /// Tells the user, and gives the status as a number.
    pub fn tell(&self) -> u8 {
        if !self.message.is_empty() {
            eprintln!("ipcdemo: {}", self.message);
        }
        self.code
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match error {
            OpenError::NotLoaded { .. } | OpenError::Denied { .. } => 4,
            OpenError::Other { .. } => 1,
        };
        Self::with_code(code, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::with_code(3, "it would have blocked"),
            _ => Self::new(error.to_string()),
        }
    }
}
