// SPDX-License-Identifier: GPL-2.0

//! pipe(2), pipe2(2), `IORING_OP_PIPE`, and fcntl(2) about a pipe's size: answered by the pipe.

use super::Namespace;
use crate::{
    abstractions::redirect::{pipe::MakePipe, routes::Entry},
    bindings::{IPCDEMO_IOC_PIPE_GET_SIZE, IPCDEMO_IOC_PIPE_SET_SIZE},
    objects::pipe::Pipe, //
};
use kernel::{fs::File, prelude::*, sync::aref::ARef};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::create_pipe_files::<Namespace, Pipes>(),
    Entry::pipe_fcntl::<IPCDEMO_IOC_PIPE_SET_SIZE, IPCDEMO_IOC_PIPE_GET_SIZE>(),
];

struct Pipes;

impl MakePipe<Namespace> for Pipes {
    fn make(namespace: &Namespace, flags: u32) -> Option<Result<(ARef<File>, ARef<File>)>> {
        Pipe::pipe2(
            &namespace.resources.pipes,
            &namespace.account,
            namespace.tallies(),
            flags,
        )
    }
}
