// SPDX-License-Identifier: GPL-2.0

//! The factory: what it makes, what it refuses and leaves behind when it does (that
//! is, nothing), and what it lists.

mod closing;
mod list;
mod nodes;
mod pipes;
mod requests;

use std::os::fd::AsFd;

use ipcdemo_client::{CounterFlags, Factory, raw};
use ipcdemo_tests::{Access, Address, Errno, Memory};

/// Every request to the factory, with the size of its struct's first version.
const REQUESTS: [(u32, u32); 13] = [
    (raw::IPCDEMO_IOC_NULL, raw::IPCDEMO_NULL_SIZE_VER0),
    (raw::IPCDEMO_IOC_COUNTER, raw::IPCDEMO_COUNTER_SIZE_VER0),
    (raw::IPCDEMO_IOC_WAITQ, raw::IPCDEMO_WAITQ_SIZE_VER0),
    (raw::IPCDEMO_IOC_LIST, raw::IPCDEMO_LIST_SIZE_VER0),
    (raw::IPCDEMO_IOC_PIPE, raw::IPCDEMO_PIPE_SIZE_VER0),
    (raw::IPCDEMO_IOC_MKFIFO, raw::IPCDEMO_FIFO_SIZE_VER0),
    (raw::IPCDEMO_IOC_RMFIFO, raw::IPCDEMO_FIFO_SIZE_VER0),
    (
        raw::IPCDEMO_IOC_PIPE_LIMITS,
        raw::IPCDEMO_PIPE_LIMITS_SIZE_VER0,
    ),
    (raw::IPCDEMO_IOC_TALLY, raw::IPCDEMO_TALLY_SIZE_VER0),
    (raw::IPCDEMO_IOC_ARM, raw::IPCDEMO_ENROLL_SIZE_VER0),
    (raw::IPCDEMO_IOC_SEAL, raw::IPCDEMO_ENROLL_SIZE_VER0),
    (raw::IPCDEMO_IOC_ROUTES, raw::IPCDEMO_ROUTES_SIZE_VER0),
    (
        raw::IPCDEMO_IOC_NAMESPACES,
        raw::IPCDEMO_NAMESPACES_SIZE_VER0,
    ),
];

fn open() -> Factory {
    Factory::open().unwrap_or_else(|error| panic!("{error}"))
}

/// Sends a request with these bytes, which end where the mapped memory does, and
/// gives what is there afterwards.
fn send(factory: &Factory, request: u32, bytes: &[u8]) -> (Result<i32, Errno>, Vec<u8>) {
    let memory = Memory::new(Access::ReadWrite);
    let result = ioctl(factory, request, memory.store(bytes));
    let left = memory.load(bytes.len());
    (result, left)
}

/// Sends a request with an address, whatever is there.
fn ioctl(fd: impl AsFd, request: u32, address: Address<'_>) -> Result<i32, Errno> {
    // SAFETY: No struct of these tests has a pointer in it, but for the list's, and
    // those tests lead it into a `Memory` or nowhere.
    unsafe { ipcdemo_tests::ioctl(fd, request, address) }
}

/// A struct as bytes.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// A counter's arguments with these flags.
fn counter_args(flags: u32, initval: u32, reserved: u32) -> Vec<u8> {
    words(&[u32::MAX, flags, initval, reserved])
}

const CLOEXEC: u32 = CounterFlags::CLOEXEC.bits();
