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
mod pipe;
mod traffic;
mod unload;

use std::fs::File;
use std::io::{Read, Write};

use ipcdemo_client::Factory;
use ipcdemo_tests::member::{answered, become_member, forked};
use ipcdemo_tests::patching;
use rustix::pipe::pipe;

/// Every function by which a program makes an object.
const ENTRIES: [&str; 5] = [
    "__x64_sys_eventfd",
    "__x64_sys_eventfd2",
    "__ia32_sys_eventfd",
    "__ia32_sys_eventfd2",
    "create_pipe_files",
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

/// Has `body` run in an outsider and in a member, and compares what they saw.
fn differ_in_nothing(body: fn() -> String) {
    let seen = |enrolled: bool| {
        let (reader, writer) = pipe().unwrap();
        forked(|| {
            if enrolled {
                become_member();
            }
            assert_eq!(answered(), enrolled);
            let mut text = File::from(writer);
            text.write_all(body().as_bytes()).unwrap();
        });
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).unwrap();
        text
    };
    let (native, routed) = (seen(false), seen(true));
    assert!(native.lines().count() > 10, "{native}");
    for (native, routed) in native.lines().zip(routed.lines()) {
        assert_eq!(native, routed);
    }
    assert_eq!(native, routed);
}
