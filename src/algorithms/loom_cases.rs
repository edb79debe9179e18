// SPDX-License-Identifier: GPL-2.0

//! The pipe's rules, checked in every interleaving: nothing is lost, nothing comes twice, all is in
//! order, and nobody sleeps forever.

use super::{
    loom_pipe::{Current, Ended, Pipe, PipeFault},
    loom_ring::{RingFault, NO_MEMORY, PAGE, TOO_MUCH_KEPT},
    loom_runs::{Model, ASLEEP, SHARED},
    Fault, Task,
};
use ipcdemo_algorithms::{fault::Part, ring::BUFFER_MAX};
use loom::thread::{self, JoinHandle};
use std::rc::Rc;

const HUNG_UP: &str = "hung up with nothing to read";

/// A pipe for one run, with one reader and one writer.
pub(crate) struct Shared(Rc<Pipe>);

impl Shared {
    pub(crate) fn new(fault: Option<Fault>, max_usage: u32, inside: &[u8]) -> Self {
        let pipe = Self(Pipe::new(fault, max_usage));
        pipe.write(inside);
        pipe
    }

    pub(crate) fn current(&self) -> Current {
        Current::new(&self.0)
    }

    pub(crate) fn current_as(&self, task: &Rc<Task>) -> Current {
        Current::with_task(&self.0, task)
    }

    pub(crate) fn spawn<R: 'static>(
        &self,
        f: impl FnOnce(&Current) -> R + 'static,
    ) -> JoinHandle<R> {
        let current = self.current();
        thread::spawn(move || f(&current))
    }

    pub(crate) fn write(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.current().write(bytes).unwrap();
        }
    }

    /// Reads so many bytes, some at a time.
    pub(crate) fn read(&self, count: usize, limit: usize) -> Vec<u8> {
        let current = self.current();
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(current.read(limit));
        }
        all
    }

    /// Checks what all tasks have left behind.
    pub(crate) fn end(&self, inside: &[u8]) {
        assert_eq!(self.read(inside.len(), inside.len()), inside);
        self.0.end();
    }
}

/// Merges meet drains.
const MERGE: Model = Model::new("merge", 2, |fault| {
    let pipe = Shared::new(fault, 2, &[1]);
    let writer = pipe.spawn(|current| {
        for value in 2..=3 {
            current.write(&[value]).unwrap();
        }
    });
    assert_eq!(pipe.read(3, PAGE), [1, 2, 3]);
    writer.join().unwrap();
    pipe.end(&[]);
});

/// The one buffer grows while its bytes are read one by one.
const BYTES: Model = Model::new("bytes", 2, |fault| {
    let pipe = Shared::new(fault, 1, &[1]);
    let writer = pipe.spawn(|current| {
        for value in 2..=3 {
            current.write(&[value]).unwrap();
        }
    });
    assert_eq!(pipe.read(3, 1), [1, 2, 3]);
    writer.join().unwrap();
    pipe.end(&[]);
});

/// More is written than is merged.
const ODD: Model = Model::new("odd", 1, |fault| {
    let pipe = Shared::new(fault, 2, &[1]);
    let writer = pipe.spawn(|current| {
        current.write(&[2, 3, 4, 5, 6]).unwrap();
        current.write(&[7]).unwrap();
    });
    assert_eq!(pipe.read(7, PAGE), [1, 2, 3, 4, 5, 6, 7]);
    writer.join().unwrap();
    pipe.end(&[]);
});

/// Whole pages, which all end at the same place, and more than fit.
const PAGES: Model = Model::new("pages", 1, |fault| {
    let pipe = Shared::new(fault, 2, &[1; PAGE]);
    let writer = pipe.spawn(|current| {
        current.write(&[2; PAGE]).unwrap();
        current.write(&[3; PAGE + 1]).unwrap();
    });
    let expected = [[1; PAGE], [2; PAGE], [3; PAGE]].concat();
    assert_eq!(pipe.read(3 * PAGE, PAGE), expected);
    writer.join().unwrap();
    pipe.end(&[3]);
});

/// One has to wait for room, and then for more.
const FULL: Model = Model::new("full", 1, |fault| {
    let pipe = Shared::new(fault, 1, &[]);
    let writer = pipe.spawn(|current| current.write(&[1, 2, 3, 4, 5]));
    assert_eq!(pipe.read(5, 3), [1, 2, 3, 4, 5]);
    writer.join().unwrap().unwrap();
    pipe.end(&[]);
});

/// A reader who takes several buffers gives room back as it goes.
const ROOM_MEANWHILE: Model = Model::new("room_meanwhile", 1, |fault| {
    let pipe = Shared::new(fault, 4, &[1; 4 * PAGE]);
    let writer = pipe.spawn(|current| current.write(&[2; 2 * PAGE]));
    let expected = [
        [1; PAGE], [1; PAGE], [1; PAGE], [1; PAGE], [2; PAGE], [2; PAGE],
    ]
    .concat();
    assert_eq!(pipe.read(6 * PAGE, 4 * PAGE), expected);
    writer.join().unwrap().unwrap();
    pipe.end(&[]);
});

/// A writer who adds several buffers hands them over as it goes.
const PAGES_MEANWHILE: Model = Model::new("pages_meanwhile", 2, |fault| {
    let pipe = Shared::new(fault, 4, &[1; PAGE]);
    let writer = pipe.spawn(|current| current.write(&[1; 2 * PAGE]));
    assert_eq!(pipe.read(3 * PAGE, 3 * PAGE), [1; 3 * PAGE]);
    writer.join().unwrap().unwrap();
    pipe.end(&[]);
});

/// The bytes of two writers are not torn.
const WRITERS: Model = Model::new("writers", 1, |fault| {
    let pipe = Shared::new(fault, 2, &[]);
    let writers = [[1, 2], [11, 12]].map(|bytes| pipe.spawn(move |current| current.write(&bytes)));
    let all = pipe.read(4, PAGE);
    assert!(all == [1, 2, 11, 12] || all == [11, 12, 1, 2], "{all:?}");
    writers.map(|writer| writer.join().unwrap().unwrap());
    pipe.end(&[]);
});

/// One merges, and another begins a buffer behind that.
const ENDS: Model = Model::new("ends", 1, |fault| {
    let pipe = Shared::new(fault, 2, &[1]);
    let beginning = pipe.spawn(|current| current.write(&[3; PAGE]));
    let reader = pipe.spawn(|current| {
        let mut all = Vec::new();
        while all.len() < 2 + PAGE {
            all.extend(current.read(2 + PAGE));
        }
        all
    });
    pipe.write(&[2]);
    let mut all = reader.join().unwrap();
    all.sort();
    assert_eq!(all, [1, 2, 3, 3, 3, 3]);
    beginning.join().unwrap().unwrap();
    pipe.end(&[]);
});

/// Two wait for something, and one write is enough for both.
const READERS: Model = Model::new("readers", 1, |fault| {
    let pipe = Shared::new(fault, 2, &[]);
    let reader = pipe.spawn(|current| current.read(1));
    let writer = pipe.spawn(|current| current.write(&[1, 2]));
    let mut all = [pipe.read(1, 1), reader.join().unwrap()].concat();
    all.sort();
    assert_eq!(all, [1, 2]);
    writer.join().unwrap().unwrap();
    pipe.end(&[]);
});

/// Two wait for something, and get it one by one.
const TURNS_TO_READ: Model = Model::new("turns_to_read", 1, |fault| {
    let pipe = Shared::new(fault, 2, &[]);
    let reader = pipe.spawn(|current| current.read(1));
    let writer = pipe.spawn(|current| {
        current.write(&[1]).unwrap();
        current.write(&[2]).unwrap();
    });
    let mut all = [pipe.read(1, 1), reader.join().unwrap()].concat();
    all.sort();
    assert_eq!(all, [1, 2]);
    writer.join().unwrap();
    pipe.end(&[]);
});

/// Two wait for room, and one read makes enough for both.
const ROOM: Model = Model::new("room", 1, |fault| {
    let pipe = Shared::new(fault, 2, &[0; 2 * PAGE]);
    let writer = pipe.spawn(|current| current.write(&[1; PAGE]));
    let reader = pipe.spawn(|current| current.read(2 * PAGE));
    pipe.write(&[2; PAGE]);
    writer.join().unwrap().unwrap();
    let mut all = [reader.join().unwrap(), pipe.read(2 * PAGE, 2 * PAGE)].concat();
    all[2 * PAGE..].sort();
    assert_eq!(all, [[0; PAGE], [0; PAGE], [1; PAGE], [2; PAGE]].concat());
    pipe.end(&[]);
});

/// Three want to read at once, and find something.
const CLAIMS: Model = Model::new("claims", 2, |fault| {
    let pipe = Shared::new(fault, 2, &[1, 2, 3]);
    let readers = [(); 2].map(|()| pipe.spawn(|current| current.read(1)));
    let mut all = pipe.read(1, 1);
    all.extend(readers.map(|reader| reader.join().unwrap()).concat());
    all.sort();
    assert_eq!(all, [1, 2, 3]);
    pipe.end(&[]);
});

/// One polls, and is told of the first write.
const POLLER: Model = Model::new("poller", 2, |fault| {
    let pipe = Shared::new(fault, 1, &[]);
    let writer = pipe.spawn(|current| {
        current.write(&[1]).unwrap();
        current.write(&[2]).unwrap();
    });
    let events = pipe.current().poll_in();
    assert!(events.readable && !events.hung_up, "{events:?}");
    writer.join().unwrap();
    pipe.end(&[1, 2]);
});

/// One polls, one sleeps, and what is written is for both to see.
const POLLER_AND_READER: Model = Model::new("poller_and_reader", 1, |fault| {
    let pipe = Shared::new(fault, 1, &[]);
    let reader = pipe.spawn(|current| current.read(1));
    let writer = pipe.spawn(|current| {
        current.write(&[1]).unwrap();
        current.write(&[2]).unwrap();
    });
    let events = pipe.current().poll_in();
    assert!(events.readable && !events.hung_up, "{events:?}");
    assert_eq!(reader.join().unwrap(), [1]);
    writer.join().unwrap();
    pipe.end(&[2]);
});

/// One polls for room.
const POLLER_OF_ROOM: Model = Model::new("poller_of_room", 2, |fault| {
    let pipe = Shared::new(fault, 1, &[1; PAGE]);
    let reader = pipe.spawn(|current| [current.read(3), current.read(3)].concat());
    pipe.current().poll_out();
    assert_eq!(reader.join().unwrap(), [1; PAGE]);
    pipe.end(&[]);
});

/// One polls for edges, and has to hear of each write that it has not seen.
const EDGES: Model = Model::new("edges", 2, |fault| {
    let pipe = Shared::new(fault, 1, &[1]);
    let writer = pipe.spawn(|current| current.write(&[2]));
    pipe.current().poll_edges(BUFFER_MAX / 2);
    writer.join().unwrap().unwrap();
    pipe.end(&[1, 2]);
});

/// One writes what there is room for, and polls for the edge to more.
const EDGES_OF_ROOM: Model = Model::new("edges_of_room", 2, |fault| {
    let pipe = Shared::new(fault, 2, &[1; PAGE]);
    let writer = pipe.spawn(|current| current.write_by_edges(&[2; 2 * PAGE]));
    let expected = [[1; PAGE], [2; PAGE], [2; PAGE]].concat();
    assert_eq!(pipe.read(3 * PAGE, PAGE), expected);
    writer.join().unwrap();
    pipe.end(&[]);
});

/// The last writer leaves, and what it wrote is read before the end.
const END_OF_FILE: Model = Model::new("end_of_file", 2, |fault| {
    let pipe = Shared::new(fault, 1, &[]);
    let writer = pipe.spawn(|current| {
        current.write(&[1]).unwrap();
        current.leave_writers();
    });
    let current = pipe.current();
    assert_eq!(current.read(PAGE), [1]);
    assert_eq!(current.read(PAGE), []);
    writer.join().unwrap();
    pipe.end(&[]);
});

/// The last writer leaves, and two learn of it.
const END_FOR_TWO: Model = Model::new("end_for_two", 1, |fault| {
    let pipe = Shared::new(fault, 1, &[]);
    let reader = pipe.spawn(|current| current.read(PAGE));
    let writer = pipe.spawn(Current::leave_writers);
    assert_eq!(pipe.current().read(PAGE), []);
    assert_eq!(reader.join().unwrap(), []);
    writer.join().unwrap();
    pipe.end(&[]);
});

/// The last writer leaves, and who polls is not told so before there is something to read.
const HANG_UP: Model = Model::new("hang_up", 2, |fault| {
    let pipe = Shared::new(fault, 1, &[]);
    let writer = pipe.spawn(|current| {
        current.write(&[1]).unwrap();
        current.leave_writers();
    });
    assert!(pipe.current().poll_in().readable, "{HUNG_UP}");
    writer.join().unwrap();
    pipe.end(&[1]);
});

/// The last reader leaves, and two who wait for room learn of it.
const BROKEN: Model = Model::new("broken", 1, |fault| {
    let pipe = Shared::new(fault, 1, &[0; PAGE]);
    let writer = pipe.spawn(|current| current.write(&[1]));
    let reader = pipe.spawn(Current::leave_readers);
    assert_eq!(pipe.current().write(&[2]), Err(Ended::Broken));
    assert_eq!(writer.join().unwrap(), Err(Ended::Broken));
    reader.join().unwrap();
    pipe.end(&[0; PAGE]);
});

/// The capacity grows while one waits for room and one reads.
const GROWTH: Model = Model::new("growth", 1, |fault| {
    let pipe = Shared::new(fault, 1, &[1; PAGE]);
    let reader = pipe.spawn(|current| current.read(PAGE));
    let resizer = pipe.spawn(|current| current.resize(2));
    pipe.write(&[2; PAGE]);
    assert_eq!(reader.join().unwrap(), [1; PAGE]);
    resizer.join().unwrap().unwrap();
    pipe.end(&[2; PAGE]);
});

/// The capacity grows while one waits for room that nobody else makes.
const ROOM_BY_GROWTH: Model = Model::new("room_by_growth", 2, |fault| {
    let pipe = Shared::new(fault, 1, &[1; PAGE]);
    let resizer = pipe.spawn(|current| current.resize(2));
    pipe.write(&[2; PAGE]);
    resizer.join().unwrap().unwrap();
    pipe.end(&[[1; PAGE], [2; PAGE]].concat());
});

#[test]
fn a_reader_and_a_writer_pass() {
    MERGE.passes(&["gone", "more", "left", "empty"]);
    BYTES.passes(&["gone", "more", "empty"]);
    ODD.passes(&["gone", "more", "left", "empty"]);
    PAGES.passes(&["more", "left", "full", "not filled"]);
    FULL.passes(&["full", "empty"]);
    ROOM_MEANWHILE.passes(&["handed back", "full", "empty"]);
    PAGES_MEANWHILE.passes(&["handed over", "empty"]);
}

#[test]
fn pollers_pass() {
    POLLER.passes(&[]);
    POLLER_AND_READER.passes(&["empty"]);
    POLLER_OF_ROOM.passes(&[]);
    EDGES.passes(&[]);
    EDGES_OF_ROOM.passes(&["full", "not filled"]);
}

#[test]
fn ends_pass() {
    END_OF_FILE.passes(&["empty"]);
    END_FOR_TWO.passes(&["empty"]);
    HANG_UP.passes(&[]);
    BROKEN.passes(&["full", "turn"]);
}

#[test]
fn two_writers_pass() {
    WRITERS.passes(&["turn", "gone", "more"]);
    ENDS.passes(&["turn", "more"]);
    ROOM.passes(&["turn", "full"]);
}

/// Buffers that readers leave do not pile up, wherever the rounds begin.
const KEPT: Model = Model::new("kept", 1, |fault| {
    let pipe = Shared::new(fault, 4, &[]);
    for buffers in [2, 2, 1, 2, 2, 2] {
        let bytes = vec![1; buffers * PAGE];
        pipe.write(&bytes);
        assert_eq!(pipe.read(bytes.len(), bytes.len()), bytes);
    }
    pipe.end(&[]);
});

#[test]
fn pages_are_kept() {
    KEPT.passes(&["left", "both left"]);
    KEPT.fails(RingFault::LeftPilesUp, TOO_MUCH_KEPT);
    PAGES_MEANWHILE.fails(RingFault::PublishUnsettled, TOO_MUCH_KEPT);
}

#[test]
fn two_readers_pass() {
    READERS.passes(&["turn", "empty"]);
    TURNS_TO_READ.passes(&["turn", "empty"]);
    CLAIMS.passes(&["turn", "late"]);
}

#[test]
fn growth_passes() {
    GROWTH.passes(&["turn", "full"]);
    ROOM_BY_GROWTH.passes(&["turn", "full"]);
}

#[test]
fn barriers_are_needed() {
    for model in [MERGE, FULL, CLAIMS, POLLER, EDGES] {
        model.fails(Part::BarrierAfterChange, ASLEEP);
    }
    for model in [MERGE, FULL, CLAIMS] {
        model.fails(Fault::NoBarrierInAnnounce, ASLEEP);
    }
    for model in [POLLER, EDGES] {
        model.fails(Fault::NoBarrierInPollWait, ASLEEP);
    }
}

#[test]
fn release_and_acquire_are_needed() {
    MERGE.fails(Part::BarrierBeforeChange, SHARED);
    MERGE.fails(Part::LoadAcquire, SHARED);
    CLAIMS.fails(Part::ExchangeAcquire, SHARED);
    HANG_UP.fails(PipeFault::WritersWithoutAcquire, HUNG_UP);
}

#[test]
fn the_rules_of_the_last_buffer_are_needed() {
    MERGE.fails(RingFault::DrainWithoutEnd, ASLEEP);
    PAGES.fails(RingFault::DrainWithoutHead, ASLEEP);
    MERGE.fails(RingFault::DrainAndFree, SHARED);
    TURNS_TO_READ.fails(RingFault::CursorAfterDrain, SHARED);
    MERGE.fails(RingFault::MergeWithoutUse, ASLEEP);
    ENDS.fails(RingFault::EndAfterMerge, SHARED);
    PAGES.fails(RingFault::TakeWithoutEmpty, NO_MEMORY);
    PAGES.fails(RingFault::SettleWithoutOrder, SHARED);
}

#[test]
fn the_order_of_looks_is_needed() {
    END_OF_FILE.fails(PipeFault::WritersAfterRing, "left: []");
    HANG_UP.fails(PipeFault::WritersAfterRing, HUNG_UP);
}

#[test]
fn each_wake_up_is_needed() {
    MERGE.fails(RingFault::StateOfClaim, ASLEEP);
    PAGES.fails(RingFault::StateOfClaim, ASLEEP);
    CLAIMS.fails(RingFault::ClaimNotPassed, ASLEEP);
    WRITERS.fails(RingFault::ClaimNotPassed, ASLEEP);
    READERS.fails(PipeFault::NextReaderAsleep, ASLEEP);
    ROOM.fails(PipeFault::NextWriterAsleep, ASLEEP);
    ROOM_MEANWHILE.fails(PipeFault::HandBackWithoutWake, ASLEEP);
    PAGES_MEANWHILE.fails(PipeFault::HandOverWithoutWake, ASLEEP);
    END_FOR_TWO.fails(PipeFault::LeaveWakesOne, ASLEEP);
    BROKEN.fails(PipeFault::LeaveWakesOne, ASLEEP);
    ROOM_BY_GROWTH.fails(PipeFault::ResizeWithoutWake, ASLEEP);
    EDGES.fails(PipeFault::EdgesIgnored, ASLEEP);
    EDGES_OF_ROOM.fails(PipeFault::ShortThoughNotFilled, ASLEEP);
}
