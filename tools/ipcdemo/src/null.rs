// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo null`.

use std::ffi::OsString;

use ipcdemo_client::{Factory, NullFlags};

use crate::command;
use crate::failure::Failure;

pub fn run(command: &[OsString]) -> Result<(), Failure> {
    let null = Factory::open()?
        .null(NullFlags::CLOEXEC)
        .map_err(Failure::because("cannot make a null object"))?;
    command::with_object(null, command)
}
