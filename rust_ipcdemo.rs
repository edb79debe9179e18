// SPDX-License-Identifier: GPL-2.0

//! Linux's IPC primitives, rewritten in Rust.
//!
//! The rooms of the code, each of which may know of those below it and of no other. `scripts/rooms` looks, at all of
//! them but this file and `kunit`, which know all.
//!
//! - `device`: the factory `/dev/ipcdemo` and the shared nodes beside it;
//! - `routes`: which of the kernel's system calls are answered by which objects;
//! - `objects`: one file for each kind of object;
//! - `abstractions`: the only room with `unsafe`: what the kernel crate lacks. The interface to user space, with all that
//!   is the objects', is not known here. Of this file it knows `LocalModule`;
//! - `algorithms`: logic with no kernel in it, which host tests compile as well;
//! - `bindings`: what bindgen makes of the C header and of kernel headers. `algorithms` does not know it.

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
#[path = "src/routes/mod.rs"]
mod routes;

use abstractions::{module::Init, redirect::routes::Started};
use objects::pipe::limits::{Limits, Values};

module! {
    type: IpcDemo,
    name: "ipcdemo",
    authors: ["The ipcdemo authors"],
    description: "Linux's IPC primitives, rewritten in Rust",
    license: "GPL",
    params: {
        pipe_max_size: u32 {
            default: 1048576,
            description: "Largest capacity of a pipe in bytes, for users without CAP_SYS_RESOURCE",
        },
        pipe_user_pages_soft: u64 {
            default: 16384,
            description: "Pages in a user's pipes above which new ones are small (0: no limit)",
        },
        pipe_user_pages_hard: u64 {
            default: 0,
            description: "Pages in a user's pipes above which there are no new ones (0: no limit)",
        },
        routes: u8 {
            default: 0,
            description: "Whether IPC namespaces can be enrolled, whose system calls the module answers (0: no; 1: yes; 2: yes, with the kernel's functions redirected from the module's load to its end)",
        },
    },
}

/// What the module holds while it is loaded. The nodes go first: after that no object can be made.
#[pin_data]
struct IpcDemo {
    #[pin]
    nodes: device::Nodes,
    routes: Started<routes::Namespace>,
    init: Init,
}

impl kernel::InPlaceModule for IpcDemo {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(|| {
            let limits = Limits::new(Values {
                max_size: module_parameters::pipe_max_size.value(),
                user_pages_soft: module_parameters::pipe_user_pages_soft.value(),
                user_pages_hard: module_parameters::pipe_user_pages_hard.value(),
            })?;
            Ok(try_pin_init!(Self {
                init: Init::begin(),
                routes: routes::start(module_parameters::routes.value())?,
                nodes <- device::Nodes::register(limits),
            }))
        })
    }
}
