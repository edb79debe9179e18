// SPDX-License-Identifier: GPL-2.0

//! Sequences that told the two apart, as the random test printed them: so far what it
//! shrank to when the module was broken on purpose, as each comment says.

use ipcdemo_tests::MAX;

use crate::operations::Operation::*;
use crate::operations::Who::*;
use crate::operations::*;
use crate::replay;

/// A read that makes no wake-up.
#[test]
fn a_read_lets_a_writer_in() {
    replay(&Case {
        semaphore: false,
        nonblocking: false,
        initval: 0,
        apart: false,
        operations: vec![
            Write(Main, MAX),
            WriteTwo(A, 1 << 63, 1),
            Read(Main, Lengths(&[8])),
        ],
    });
}

/// A wake-up by a read with the key of a write.
#[test]
fn a_read_is_an_edge_for_writers() {
    replay(&Case {
        semaphore: false,
        nonblocking: false,
        initval: 2,
        apart: false,
        operations: vec![
            Add(0, OUT | ET),
            Wait(Main, 0),
            Read(Main, Lengths(&[8])),
            Wait(Main, 0),
        ],
    });
}

/// A write of nothing that wakes nobody.
#[test]
fn a_write_of_zero_is_an_edge() {
    replay(&Case {
        semaphore: true,
        nonblocking: false,
        initval: 2,
        apart: false,
        operations: vec![
            Add(1, IN | OUT | ET),
            Wait(Main, 1),
            Write(Main, 0),
            Wait(Main, 1),
        ],
    });
}

/// Two readers and a write that both hear of.
fn two_readers(apart: bool) -> Case {
    Case {
        semaphore: false,
        nonblocking: false,
        initval: 0,
        apart,
        operations: vec![
            Read(C, Lengths(&[8])),
            Read(A, Lengths(&[8])),
            Write(Main, 1 << 63),
        ],
    }
}

/// Sleepers that join the queue at its head.
#[test]
fn readers_stand_in_line() {
    replay(&two_readers(false));
}

/// The same, with the workers on another processor.
#[test]
fn readers_elsewhere_stand_in_line() {
    replay(&two_readers(true));
}

/// Exclusive sleepers: the first is woken, and is not content.
#[test]
fn a_writer_who_does_not_fit_hides_nobody() {
    replay(&Case {
        semaphore: true,
        nonblocking: false,
        initval: 1,
        apart: false,
        operations: vec![
            Write(Main, MAX - 1),
            Read(Main, Lengths(&[8])),
            Write(A, MAX),
            Read(Main, Lengths(&[8])),
            Write(B, 3),
            Read(Main, Lengths(&[8])),
        ],
    });
}

/// A signal that ends a sleep for good.
#[test]
fn a_signal_restarts() {
    replay(&Case {
        semaphore: false,
        nonblocking: false,
        initval: 0,
        apart: false,
        operations: vec![Read(B, Lengths(&[8])), Signal(B, true)],
    });
}

/// A read into bad memory that takes nothing.
#[test]
fn a_fault_takes_the_count() {
    replay(&Case {
        semaphore: false,
        nonblocking: false,
        initval: 0,
        apart: false,
        operations: vec![Write(Main, 1 << 63), ReadFault(Main), Fdinfo],
    });
}
