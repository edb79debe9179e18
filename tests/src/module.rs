// SPDX-License-Identifier: GPL-2.0

//! The module's coming and going.

use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::OnceLock;

use ipcdemo_client::Factory;

use crate::subject::last_error;
use crate::{Errno, patching, until};

const DIRECTORY: &str = "/sys/module/ipcdemo";

/// How many references to the module there are, as lsmod(8) shows them.
///
/// # Panics
///
/// If it is not loaded.
#[must_use]
pub fn references() -> u32 {
    let count = fs::read_to_string(format!("{DIRECTORY}/refcnt")).unwrap();
    count.trim().parse().unwrap()
}

/// delete_module(2), as rmmod(8) calls it: EAGAIN while somebody uses the module.
pub fn unload() -> Result<(), Errno> {
    let (name, flags) = (c"ipcdemo", libc::O_NONBLOCK);
    quietly(has_routes(), || {
        // SAFETY: The name is a C string.
        match unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), flags) } {
            0 => Ok(()),
            _ => Err(last_error()),
        }
    })
}

/// Unloads the module once nobody has it in use.
///
/// # Panics
///
/// If somebody keeps it.
pub fn unload_at_last() {
    // Each attempt may take processors offline.
    until("the module is gone", || {
        references() == 0
            && match unload() {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error, Errno::AGAIN);
                    false
                }
            }
    });
}

/// Loads the module from the file that it was loaded from, with routes if it had them.
///
/// # Panics
///
/// If that fails.
pub fn load() {
    load_with(parameters());
}

/// As [`load`], with other parameters.
///
/// # Panics
///
/// If that fails.
pub fn load_with(parameters: &CStr) {
    // Its own tests have run, and are counted each time.
    let filter = Path::new("/sys/module/kunit/parameters/filter_glob");
    if filter.exists() {
        fs::write(filter, "none").unwrap();
    }
    let mut modules = fs::read_dir("/tmp/modules").expect("where the guest has its modules");
    let module = File::open(modules.next().unwrap().unwrap().path()).unwrap();
    let result = quietly(!parameters.is_empty(), || {
        // SAFETY: The parameters are a C string.
        unsafe {
            libc::syscall(
                libc::SYS_finit_module,
                module.as_raw_fd(),
                parameters.as_ptr(),
                0,
            )
        }
    });
    assert_eq!(result, 0, "finit_module: {}", last_error());
    assert_eq!(modules.count(), 0, "more than one module");
    until("its node is there", || Path::new(Factory::PATH).exists());
    assert!(Factory::open().is_ok());
}

/// Routes that are armed at load and kept until unload have the kernel patched then.
fn quietly<T>(has_routes: bool, body: impl FnOnce() -> T) -> T {
    if has_routes { patching(body) } else { body() }
}

/// The parameters that the module is loaded with: routes, if the tests began with a module that had them.
fn parameters() -> &'static CStr {
    if has_routes_usually() {
        c"routes=2"
    } else {
        c""
    }
}

/// As it was when this was first asked.
fn has_routes_usually() -> bool {
    static ROUTES: OnceLock<bool> = OnceLock::new();
    *ROUTES.get_or_init(now_has_routes)
}

/// As it is loaded at the moment.
fn has_routes() -> bool {
    // Remembered for the next load.
    has_routes_usually() && now_has_routes()
}

fn now_has_routes() -> bool {
    let factory = Factory::open().unwrap_or_else(|error| panic!("{error}"));
    factory.routes().unwrap().on
}
