// SPDX-License-Identifier: GPL-2.0

//! Sequences that told the two apart, as the random test printed them.

use crate::operations::Operation::*;
use crate::operations::Who::*;
use crate::operations::*;
use crate::replay;

const STREAM: Flags = Flags {
    nonblock: false,
    direct: false,
};

/// A descriptor that does not block, and a splice that waited for the other pipe.
#[test]
fn a_mode_that_is_for_both_pipes() {
    replay(&Case {
        fifo: true,
        flags: STREAM,
        buffers: 1,
        apart: false,
        operations: vec![Open(Main, 1, Mode::Both, STREAM), SpliceIn(A, 1, 1)],
    });
}

/// A write that made packets to its end, though the mode had changed.
#[test]
fn a_mode_that_changes_during_a_write() {
    replay(&Case {
        fifo: false,
        flags: Flags {
            nonblock: false,
            direct: true,
        },
        buffers: 1,
        apart: false,
        operations: vec![
            Write(A, 1, Lengths(&[12_289]), 0),
            SetFlags(1, STREAM),
            Read(Main, 0, Lengths(&[1])),
            Read(Main, 0, Lengths(&[1])),
        ],
    });
}

/// A splice that told of room only where there had been none.
#[test]
fn a_splice_is_an_edge() {
    replay(&Case {
        fifo: false,
        flags: STREAM,
        buffers: 2,
        apart: false,
        operations: vec![
            Write(Main, 1, Lengths(&[1]), 0),
            Add(0, 1, OUT | ET),
            Wait(Main, 0),
            SpliceOut(Main, 0, 1),
            Wait(Main, 0),
        ],
    });
}

/// What splice had given away was written to: a writer found two pages that readers had left.
#[test]
fn memory_that_is_shared() {
    replay(&Case {
        fifo: false,
        flags: STREAM,
        buffers: 2,
        apart: false,
        operations: vec![
            Write(Main, 1, Lengths(&[3, 5]), 0),
            Read(Main, 0, Lengths(&[4096, 4096])),
            Write(Main, 1, Lengths(&[4000, 200]), 0),
            Write(A, 1, Lengths(&[4000, 200]), 0),
            SpliceOut(B, 0, 5000),
            TakeOutlet(65536),
        ],
    });
}

/// A splice that began anew, with a file of another mode that had got its descriptor's number.
#[test]
fn a_mode_of_another_file() {
    replay(&Case {
        fifo: false,
        flags: STREAM,
        buffers: 1,
        apart: false,
        operations: vec![
            SpliceOut(C, 0, 1),
            Close(0),
            Open(Main, 0, Mode::Both, STREAM),
            SetFlags(
                0,
                Flags {
                    nonblock: false,
                    direct: true,
                },
            ),
            Signal(C, true),
        ],
    });
}

/// A splice that waited for room while there was nothing yet to put there, and was woken behind others.
#[test]
fn a_splice_that_waits_for_room() {
    replay(&Case {
        fifo: false,
        flags: STREAM,
        buffers: 1,
        apart: false,
        operations: vec![
            Write(Main, 1, Lengths(&[12289]), 0),
            SpliceIn(A, 1, 1),
            Add(1, 1, OUT),
            Wait(B, 1),
            PutInlet(0),
            Read(Main, 0, Lengths(&[4096, 4096])),
        ],
    });
}
