// SPDX-License-Identifier: GPL-2.0

use std::ffi::c_char;
use std::io;
use std::path::PathBuf;

use crate::{Factory, raw};

/// A FIFO under `/dev`, which is opened, read and written as any file.
#[derive(Debug)]
pub enum Fifo {}

impl Fifo {
    /// The node that is there as long as the module is loaded.
    pub const PATH: &str = "/dev/ipcdemo-fifo";
}

/// Where the FIFO that [`Factory::mkfifo`] made with this name is.
#[must_use]
pub fn fifo_path(name: &str) -> PathBuf {
    format!("{}-{name}", Fifo::PATH).into()
}

impl Factory {
    /// Makes a FIFO, as `mkfifo(3)` does, with these permission bits, whatever the umask.
    pub fn mkfifo(&self, name: &str, mode: u32) -> io::Result<()> {
        self.call(raw::IPCDEMO_IOC_MKFIFO, &mut arguments(name, mode)?)
    }

    /// Removes a FIFO's node. Who has it open keeps what is behind it.
    pub fn rmfifo(&self, name: &str) -> io::Result<()> {
        self.call(raw::IPCDEMO_IOC_RMFIFO, &mut arguments(name, 0)?)
    }
}

/// The name as the module takes it. One that does not fit there is none that the
/// module would take.
fn arguments(name: &str, mode: u32) -> io::Result<raw::ipcdemo_fifo_args> {
    let mut args = raw::ipcdemo_fifo_args {
        mode,
        ..Default::default()
    };
    if name.len() > args.name.len() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in args.name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    Ok(args)
}
