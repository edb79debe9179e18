// SPDX-License-Identifier: GPL-2.0

//! Routes on a kernel that is locked down: it lets nobody redirect its functions. That is for the rest of the
//! machine's life, so this test has a guest of its own, with stock: elsewhere it fails.

use std::fs;
use std::path::Path;

use ipcdemo_client::EnrollError::Refused;
use ipcdemo_client::{Factory, Kinds, RefusalReason, enroll};
use ipcdemo_tests::member::{answered, forked, member};
use ipcdemo_tests::{Errno, serial};
use rustix::mount::{MountFlags, mount};

const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

serial! {
    /// Nobody is enrolled any more.
    fn nobody_is_enrolled() {
        member(|| assert!(answered()));
        lock_down();
        forked(|| {
            let factory = Factory::open().unwrap_or_else(|error| panic!("{error}"));
            let Err(Refused(refusal)) = enroll(&factory, Kinds::empty(), None) else {
                panic!("it is not refused");
            };
            assert_eq!(refusal.reason, RefusalReason::Lockdown, "{refusal}");
            assert_eq!(refusal.errno, Errno::PERM.raw_os_error());
        });
    }
}

/// Integrity alone leaves kprobes and tracers, confidentiality does not.
fn lock_down() {
    if !Path::new(LOCKDOWN).exists() {
        mount(
            "securityfs",
            "/sys/kernel/security",
            "securityfs",
            MountFlags::empty(),
            None,
        )
        .unwrap();
    }
    fs::write(LOCKDOWN, "confidentiality").unwrap();
}
