// SPDX-License-Identifier: GPL-2.0

//! Linux's IPC primitives, rewritten in Rust.
//!
//! The rooms of the code, each depending only on those after it:
//!
//! - `device`: the factory `/dev/ipcdemo` and the shared nodes beside it;
//! - `objects`: one file for each kind of object;
//! - `algorithms`: logic with no kernel in it, which host tests compile as well;
//! - `abstractions`: the only room with `unsafe`; what the kernel crate lacks;
//! - `bindings`: what bindgen makes of the C header and of kernel headers.

use kernel::prelude::*;

#[path = "src/abstractions/mod.rs"]
mod abstractions;
#[path = "src/algorithms/mod.rs"]
mod algorithms;
#[path = "src/bindings/mod.rs"]
mod bindings;
#[path = "src/device.rs"]
mod device;
#[cfg(CONFIG_KUNIT = "y")]
#[path = "src/kunit.rs"]
mod kunit;
#[path = "src/objects/mod.rs"]
mod objects;

module! {
    type: IpcDemo,
    name: "ipcdemo",
    authors: ["The ipcdemo authors"],
    description: "Linux's IPC primitives, rewritten in Rust",
    license: "GPL",
}

/// What the module holds while it is loaded. The nodes go first: after that no object can be made.
#[pin_data]
struct IpcDemo {
    #[pin]
    nodes: device::Nodes,
    objects: objects::Objects,
}

impl kernel::InPlaceModule for IpcDemo {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            objects: objects::Objects::new(),
            nodes <- device::Nodes::register(),
        })
    }
}
