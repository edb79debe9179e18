// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo enroll`: a program whose own system calls the module answers.

use std::os::unix::process::CommandExt;

use ipcdemo_client::{EnrollError, Factory, RefusalReason, enroll};

use crate::cli;
use crate::exec;
use crate::failure::Failure;

pub fn run(options: &cli::Enroll) -> Result<(), Failure> {
    let factory = Factory::open()?;
    match enroll(&factory, options.kinds(), None) {
        Ok(enrolled) => {
            if let Some(refusal) = &enrolled.refused {
                eprintln!("ipcdemo: only {} is enrolled: {refusal}", enrolled.kinds);
            }
        }
        // A member's new namespace is enrolled from its birth.
        Err(EnrollError::Refused(refusal)) if refusal.reason == RefusalReason::Twice => {
            eprintln!("ipcdemo: this is a member already");
        }
        Err(error) => return Err(Failure::new(format!("cannot enroll: {error}"))),
    }
    let error = exec::command(&options.command).exec();
    Err(exec::cannot_run(&options.command, &error))
}
