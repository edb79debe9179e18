// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo exec`: a program whose own system calls the module answers.
//!
//! This process becomes the program, as with env(1). Only with `--report` is there a process in
//! between, which prints the report.

mod inherited;
mod parent;
mod report;

use std::fs;
use std::os::unix::fs::MetadataExt;

use ipcdemo_client::{
    EnrollError, Factory, Kinds, OwnNamespace, RefusalReason, Tally, enroll_own, own_namespace,
};

use crate::cli;
use crate::command;
use crate::failure::Failure;

pub fn run(options: &cli::Exec) -> Result<(), Failure> {
    let factory = Factory::open()?;
    let tally = options
        .report
        .then(|| factory.tally())
        .transpose()
        .map_err(Failure::because("cannot make a tally"))?;
    let Some(kinds) = enroll(&factory, options.kinds(), tally.as_ref())? else {
        if options.report || !options.kinds().is_empty() {
            eprintln!(
                "ipcdemo: this is a member already: the `ipcdemo exec` around it decides which kinds \
                 are the module's, and reports"
            );
        }
        return Err(become_program(options));
    };
    match tally {
        None => Err(become_program(options)),
        Some(tally) => {
            drop(factory);
            parent::run(&tally, kinds, || become_program(options))
        }
    }
}

/// Makes this process a member, and gives the kinds that it is enrolled for; none if it was a member
/// before.
fn enroll(
    factory: &Factory,
    wanted: Kinds,
    tally: Option<&Tally>,
) -> Result<Option<Kinds>, Failure> {
    let failed = |error| Failure::new(format!("cannot enroll: {error}"));
    if is_member(factory) {
        return Ok(None);
    }
    tell(&own_namespace().map_err(|error| failed(EnrollError::from(error)))?);
    match enroll_own(factory, wanted, tally) {
        Ok(enrolled) => {
            if let Some(refusal) = &enrolled.refused {
                eprintln!("ipcdemo: only {} is enrolled: {refusal}", enrolled.kinds);
            }
            Ok(Some(enrolled.kinds))
        }
        // Without /proc a member does not know that it is one. Its new namespace is enrolled from its birth.
        Err(EnrollError::Refused(refusal)) if refusal.reason == RefusalReason::Twice => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn is_member(factory: &Factory) -> bool {
    let (Ok(own), Ok(members)) = (fs::metadata("/proc/self/ns/ipc"), factory.namespaces()) else {
        return false;
    };
    members
        .iter()
        .any(|member| u64::from(member.inum) == own.ino() && !member.kinds.is_empty())
}

/// Tells what the program can notice of its namespace.
fn tell(namespace: &OwnNamespace) {
    if namespace.with_user_namespace {
        eprintln!(
            "ipcdemo: without CAP_SYS_ADMIN the program gets a user namespace: setuid and setgid bits \
             and file capabilities have no effect there, and supplementary groups show as nogroup"
        );
    }
    if !namespace.lost_limits.is_empty() {
        let lost: Vec<_> = namespace
            .lost_limits
            .iter()
            .map(ToString::to_string)
            .collect();
        eprintln!(
            "ipcdemo: in the new IPC namespace these limits are the kernel's defaults: {}",
            lost.join(", ")
        );
    }
}

/// Becomes the program; else tells why not.
fn become_program(options: &cli::Exec) -> Failure {
    inherited::hand_on();
    let error = command::replace_process(&options.command);
    command::cannot_run(&options.command, &error)
}
