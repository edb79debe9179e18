// SPDX-License-Identifier: GPL-2.0

//! FIFOs: pipes that are found by a name.
//!
//! Card: FIFO, `fifo_open`, `wait_for_partner`. Original: `fs/pipe.c`, fifo(7). The meaning of opening one is in
//! `holders.rs`; here is where the nodes come from. They are a region of character devices and not misc
//! devices: `misc_open` holds a mutex that all of those share, and a task that opens a FIFO may have to wait.

use super::{limits::Limits, Pipe};
use crate::{
    abstractions::{
        task::credentials::{capable, Capability},
        vfs::{
            char_nodes::{CharNode, CharRegion, NodeTable, Nodes},
            user_struct::{impl_user_struct, UserStructPtr},
        }, //
    },
    bindings::{ipcdemo_fifo_args, IPCDEMO_FIFO_NODES_MAX, IPCDEMO_FIFO_SIZE_VER0}, //
};
use kernel::{
    new_mutex,
    prelude::*,
    str::CString,
    sync::{Arc, Mutex}, //
};
use zerocopy::IntoBytes;

impl_user_struct!(ipcdemo_fifo_args: IPCDEMO_FIFO_SIZE_VER0);

/// The node that is there from the beginning.
const FIRST: &CStr = c"ipcdemo-fifo";

/// The pipes behind the nodes.
static NODES: NodeTable<Pipe> = NodeTable::new(IPCDEMO_FIFO_NODES_MAX);

impl Nodes for Pipe {
    fn nodes() -> &'static NodeTable<Self> {
        &NODES
    }
}

/// The nodes.
#[pin_data]
pub(crate) struct Fifos {
    region: CharRegion<Pipe>,
    limits: Arc<Limits>,
    /// The nodes that there are. A task that adds or removes one holds the lock; opening one needs no lock.
    #[pin]
    nodes: Mutex<KVec<Node>>,
}

/// A node, and its name.
struct Node {
    name: CString,
    _device: CharNode<Pipe>,
}

impl Fifos {
    /// Makes the region, with no node in it as yet.
    ///
    /// Context: may sleep. Errors: `ENOMEM`; `EBUSY` if there is no device number.
    pub(crate) fn new(limits: &Arc<Limits>) -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                region: CharRegion::register(FIRST)?,
                limits: limits.clone(),
                nodes <- new_mutex!(KVec::new(), "Fifos::nodes"),
            }),
            GFP_KERNEL,
        )
    }

    /// Makes the first node, `/dev/ipcdemo-fifo`.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn make_first(&self) -> Result {
        self.add(CString::try_from(FIRST)?, 0o600)
    }

    /// Makes the node `/dev/ipcdemo-fifo-NAME`.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `EPERM`; `EINVAL` if that is no name or no mode; `EEXIST`; `ENOSPC` if there are as many nodes as there
    /// can be; `ENOMEM`; those of [`UserStructPtr::read`].
    pub(crate) fn make(&self, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_fifo_args = ptr.read()?;
        if !capable(Capability::SysAdmin) {
            return Err(EPERM);
        }
        let mode = u16::try_from(args.mode)
            .ok()
            .filter(|mode| mode & !0o777 == 0 && args.reserved == 0)
            .ok_or(EINVAL)?;
        self.add(node_name(args.name.as_bytes())?, mode)
    }

    /// Removes a node. Tasks that have it open keep the pipe behind it.
    ///
    /// Context: may sleep. Errors: `EPERM`; `EINVAL` if that is no name; `ENOENT`; `ENOMEM`; those of
    /// [`UserStructPtr::read`].
    pub(crate) fn remove(&self, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_fifo_args = ptr.read()?;
        if !capable(Capability::SysAdmin) {
            return Err(EPERM);
        }
        if args.mode != 0 || args.reserved != 0 {
            return Err(EINVAL);
        }
        let name = node_name(args.name.as_bytes())?;
        let mut nodes = self.nodes.lock();
        let found = nodes.iter().position(|node| *node.name == *name);
        let gone = nodes.remove(found.ok_or(ENOENT)?);
        drop(gone);
        Ok(())
    }

    fn add(&self, name: CString, mode: u16) -> Result {
        let mut nodes = self.nodes.lock();
        if nodes.iter().any(|node| *node.name == *name) {
            return Err(EEXIST);
        }
        if nodes.len() >= IPCDEMO_FIFO_NODES_MAX as usize {
            return Err(ENOSPC);
        }
        nodes.reserve(1, GFP_KERNEL)?;
        let device = self
            .region
            .add(&name, mode, Pipe::new_fifo(&self.limits)?)?;
        let node = Node {
            name,
            _device: device,
        };
        nodes.push(node, GFP_KERNEL)?;
        Ok(())
    }
}

/// The node of a FIFO that the user gave this name, NUL-terminated and padded with zeros.
fn node_name(name: &[u8]) -> Result<CString> {
    let len = name.iter().position(|&byte| byte == 0).ok_or(EINVAL)?;
    let (name, padding) = name.split_at(len);
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    let first = *name.first().ok_or(EINVAL)?;
    if !name.iter().all(known) || b".-".contains(&first) || padding.iter().any(|&byte| byte != 0) {
        return Err(EINVAL);
    }
    let name = core::str::from_utf8(name).map_err(|_| EINVAL)?;
    CString::try_from_fmt(kernel::prelude::fmt!("ipcdemo-fifo-{name}"))
}
