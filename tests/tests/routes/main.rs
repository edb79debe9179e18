// SPDX-License-Identifier: GPL-2.0

//! Routes: the module answers the kernel's own calls for the tasks of an enrolled IPC namespace, and
//! for nobody else. The module has to be loaded with routes.

mod bpf;
mod commands;
mod eventfd;
mod gate;
mod membership;
mod missed;
mod misuse;
mod traffic;
mod unload;

use ipcdemo_client::Factory;
use ipcdemo_tests::patching;

/// Every entry by which a program asks for an eventfd.
const ENTRIES: [&str; 4] = [
    "__x64_sys_eventfd",
    "__x64_sys_eventfd2",
    "__ia32_sys_eventfd",
    "__ia32_sys_eventfd2",
];

fn open() -> Factory {
    Factory::open().unwrap_or_else(|error| panic!("{error}"))
}

/// Disarms all routes, or lets them be armed again.
fn switch(on: bool) {
    let factory = open();
    let routes = patching(|| factory.switch_routes(on)).unwrap();
    assert_eq!(routes.on, on);
}

/// Routes are off as long as this exists.
struct Off;

impl Off {
    fn new() -> Self {
        switch(false);
        Self
    }
}

impl Drop for Off {
    fn drop(&mut self) {
        switch(true);
    }
}
