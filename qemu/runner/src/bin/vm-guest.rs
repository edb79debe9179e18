// SPDX-License-Identifier: GPL-2.0

//! The init of the virtual machine that `vm` starts.

fn main() -> anyhow::Result<()> {
    ipcdemo_vm::guest::main()
}
