// SPDX-License-Identifier: GPL-2.0

//! Several writers and several readers at one pipe, whose size changes all the time: every
//! byte arrives once, in its writer's order, and what is written at once is not torn.
//!
//! The module's pipe moves 200,000 records, on the debug kernel a tenth; the kernel's own,
//! by which the tests themselves are tried, a fifth of that. Ten million, which takes a
//! while and tells how far it is:
//!
//! ```sh
//! qemu/vm --kernel small --module "$(scripts/module small)" --timeout 3600 \
//!     --env IPCDEMO_RECORDS=10000000 --tests $(scripts/user tests records) -- module
//! ```

mod record;

use std::env;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::fifo::Fifo;
use ipcdemo_tests::pipe::{agreement, path, set_size};
use ipcdemo_tests::{Errno, Fd, PAGE, Subject, Task, differential, scaled, serially_for, sides};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::{read, write, writev};

use record::{HEADER, LONGEST, Record, Stream};

/// How many records all tests of one pipe move together.
const RECORDS: usize = 200_000;

/// Among how many tests they are divided.
const TESTS: usize = 4;

const WRITERS: usize = 3;
const READERS: usize = 3;

/// The lengths of records: around those that fill a part of a page, or a page.
const LENGTHS: [usize; 12] = [8, 9, 16, 100, 511, 512, 513, 1000, 2048, 4088, 4095, 4096];

/// What is read, or written, at once.
const PIECES: [usize; 10] = [1, 8, 511, 512, 513, 4095, 4096, 4097, 65_536, 65_537];

sides!();

differential! {
    by crate::run;

    /// One reader takes bytes as they come, in pieces of any size, and puts the records
    /// together.
    fn one_reader(s: Subject) {
        let channel = Channel::pipe(s, PipeFlags::empty());
        let test = Test::new(s, &LENGTHS);
        test.run(channel, 1, |reader, inbox, random| {
            let (mut buffer, mut start, mut end) = (vec![0; 1 << 17], 0, 0);
            while let Some(record) = {
                let piece = PIECES[random.below(PIECES.len())];
                // Often a long one, or most of the time is spent on single bytes.
                let piece = if random.below(3) == 0 { piece } else { 16 * PAGE };
                let got = reader.take(&mut buffer[end..end + piece]);
                end += got;
                (got > 0).then(|| Record::decode(&buffer[start..end]))
            } {
                let mut next = record;
                while let Some(record) = next.unwrap() {
                    inbox.put(record);
                    start += record.length;
                    next = Record::decode(&buffer[start..end]);
                }
                buffer.copy_within(start..end, 0);
                (start, end) = (0, end - start);
            }
            assert_eq!(start, end, "the last record is not whole");
        });
    }

    /// Each record is a packet, which one of several readers takes.
    fn packets(s: Subject) {
        let channel = Channel::pipe(s, PipeFlags::DIRECT);
        let test = Test::new(s, &LENGTHS);
        test.run(channel, READERS, |reader, inbox, random| {
            let mut buffer = vec![0; 16 * PAGE];
            loop {
                let room = [LONGEST, LONGEST + 1, buffer.len()][random.below(3)];
                let got = reader.take(&mut buffer[..room]);
                if got == 0 {
                    return;
                }
                let record = Record::decode(&buffer[..got]).unwrap();
                assert_eq!(record.map(|record| record.length), Some(got), "a packet is a record");
                inbox.put(record.unwrap());
            }
        });
    }

    /// All records have one length, so that several readers who take whole ones get whole
    /// ones: few fill a page, and some fit in no number.
    fn records_of_one_length(s: Subject) {
        for lengths in [[HEADER], [513], [1000], [LONGEST]].each_ref() {
            let channel = Channel::pipe(s, PipeFlags::empty());
            let test = Test::new(s, lengths).share(4);
            test.run(channel, READERS, |reader, inbox, random| {
                one_length(lengths[0], reader, inbox, random);
            });
        }
    }

    /// The same at a FIFO.
    fn a_fifo(s: Subject) {
        let fifo = Fifo::new(s);
        for lengths in [[HEADER], [512]].each_ref() {
            let channel = Channel::new(fifo.blocking_ends());
            let test = Test::new(s, lengths).share(2);
            test.run(channel, READERS, |reader, inbox, random| {
                one_length(lengths[0], reader, inbox, random);
            });
        }
    }

    /// What is longer than PIPE_BUF may be torn, and a write that may not block may end in
    /// the middle; but no byte is lost, and none overtakes another of its writer.
    fn long_writes(s: Subject) {
        let channel = Channel::pipe(s, PipeFlags::empty());
        let each = 64 * number() / Stream::WRITERS;
        let streams = [0, 1, 2, 3].map(Stream::of);
        let resizer = channel.resizer();
        let places = thread::scope(|scope| {
            for (who, stream) in streams.iter().enumerate() {
                let end = channel.writer(who);
                let tell = resizer.tell.clone();
                scope.spawn(move || {
                    let (mut random, mut place) = (Random::new(who), 0);
                    for written in 0.. {
                        if place == each {
                            return;
                        }
                        Resizer::tell(&tell, written);
                        let piece = PIECES[random.below(PIECES.len())].min(each - place);
                        place += end.put(&stream.from(place)[..piece]);
                    }
                });
            }
            let reader = channel.reader(0);
            drop(channel);
            let mut places = [0; Stream::WRITERS];
            let (mut random, mut buffer) = (Random::new(9), vec![0; 1 << 17]);
            loop {
                let got = reader.take(&mut buffer[..PIECES[random.below(PIECES.len())]]);
                if got == 0 {
                    return places;
                }
                let mut rest = &buffer[..got];
                while let [first, ..] = rest {
                    let who = Stream::writer(*first);
                    let expected = streams[who].from(places[who]);
                    let came = agreement(rest, expected);
                    assert!(came > 0, "{who}: {first:#x} for {:#x} at {}", expected[0], places[who]);
                    places[who] += came;
                    rest = &rest[came..];
                }
            }
        });
        assert_eq!(places, [each; Stream::WRITERS]);
        assert!(resizer.finish() > 0, "its size never changed");
    }
}

fn run(body: impl FnOnce() + Send + 'static) {
    // For ten million it is hours; for what is usual, minutes.
    let limit = 300 + number() as u64 / 1000;
    serially_for(Duration::from_secs(limit), body);
}

/// How many records are moved in one test.
fn number() -> usize {
    let records = match env::var("IPCDEMO_RECORDS") {
        Ok(text) => text.parse().expect("IPCDEMO_RECORDS is a number"),
        Err(_) => scaled(RECORDS),
    };
    records / TESTS
}

fn one_length(length: usize, reader: End, inbox: &mut Inbox<'_>, random: &mut Random) {
    let mut buffer = vec![0; 8 * length];
    loop {
        let room = length * (1 + random.below(8));
        let got = reader.take(&mut buffer[..room]);
        if got == 0 {
            return;
        }
        assert_eq!(got % length, 0, "a record is torn");
        for bytes in buffer[..got].chunks(length) {
            inbox.put(Record::decode(bytes).unwrap().unwrap());
        }
    }
}

/// Records that are written and have to arrive.
struct Test<'a> {
    subject: Subject,
    lengths: &'a [usize],
    /// How many each of the writers has.
    each: usize,
    /// For each writer a bit for each record that has arrived.
    arrived: Vec<Vec<AtomicU64>>,
    count: AtomicUsize,
    start: Instant,
}

impl<'a> Test<'a> {
    fn new(subject: Subject, lengths: &'a [usize]) -> Self {
        Self {
            subject,
            lengths,
            each: number() / WRITERS,
            arrived: Vec::new(),
            count: AtomicUsize::new(0),
            start: Instant::now(),
        }
    }

    /// Moves one part in so many of them.
    fn share(mut self, parts: usize) -> Self {
        self.each /= parts;
        self
    }

    /// Moves the records. Half of those at either side do not block, but poll.
    fn run(
        mut self,
        channel: Channel,
        readers: usize,
        body: impl Fn(End, &mut Inbox<'_>, &mut Random) + Sync,
    ) {
        let words = || (0..self.each.div_ceil(64)).map(|_| AtomicU64::new(0));
        self.arrived = (0..WRITERS).map(|_| words().collect()).collect();
        let (test, body) = (&self, &body);
        let slept = [AtomicU64::new(0), AtomicU64::new(0)];
        let [writers_slept, readers_slept] = &slept;
        let resizer = channel.resizer();
        thread::scope(|scope| {
            for who in 0..readers {
                let end = channel.reader(who);
                scope.spawn(move || {
                    body(end, &mut Inbox::new(test), &mut Random::new(who + 10));
                    readers_slept.fetch_add(Task::current().sleeps(), Ordering::Relaxed);
                });
            }
            for who in 0..WRITERS {
                let end = channel.writer(who);
                let tell = resizer.tell.clone();
                scope.spawn(move || {
                    test.write(who, &end, &tell);
                    writers_slept.fetch_add(Task::current().sleeps(), Ordering::Relaxed);
                });
            }
            // A writer that ends is an end only if nobody else holds what it wrote to, and a
            // reader that fails is noticed only if nobody else could read.
            drop(channel);
        });
        let resized = resizer.finish();
        let all = self.each * WRITERS;
        assert_eq!(self.count.load(Ordering::Relaxed), all, "some were lost");
        let slept = slept.map(AtomicU64::into_inner);
        tell(format_args!(
            "{:?}: {all} records of {:?} bytes, {readers} readers, in {:.1?}; \
             {resized} resizes; writers and readers slept {slept:?} times",
            self.subject,
            self.lengths,
            self.start.elapsed()
        ));
        // Had nobody waited for anybody, or nothing changed, this would prove little.
        assert!(resized > 0, "its size never changed");
        assert!(slept.iter().sum::<u64>() > 10, "{slept:?} sleeps");
    }

    fn write(&self, who: usize, end: &End, tell: &Sender<()>) {
        let (mut random, mut buffer) = (Random::new(who), Vec::new());
        for sequence in 0..self.each {
            Resizer::tell(tell, sequence);
            let record = Record {
                writer: who,
                sequence: sequence as u32,
                length: self.lengths[random.below(self.lengths.len())],
            };
            record.encode(&mut buffer);
            let written = match random.below(4) {
                0 => end.put_in_two(buffer.split_at(random.below(buffer.len()))),
                _ => end.put(&buffer),
            };
            assert_eq!(written, buffer.len(), "{record:?}: a short write");
        }
    }
}

/// What one reader gets.
struct Inbox<'a> {
    test: &'a Test<'a>,
    /// For each writer, one more than the last number.
    next: [u32; WRITERS],
}

impl<'a> Inbox<'a> {
    fn new(test: &'a Test<'a>) -> Self {
        Self {
            test,
            next: [0; WRITERS],
        }
    }

    /// Writes down that a record has arrived.
    fn put(&mut self, record: Record) {
        const OFTEN: usize = 500_000;
        let Record {
            writer, sequence, ..
        } = record;
        // Others may have got those between, but none after this one came before it.
        let next = self.next.get_mut(writer).expect("a writer's number");
        assert!(sequence >= *next, "{record:?} came after {}", *next - 1);
        *next = sequence + 1;
        let (word, bit) = (sequence as usize / 64, 1 << (sequence % 64));
        let before = self.test.arrived[writer][word].fetch_or(bit, Ordering::Relaxed);
        assert_eq!(before & bit, 0, "{record:?} came twice");
        let count = 1 + self.test.count.fetch_add(1, Ordering::Relaxed);
        if count % OFTEN == 0 {
            let all = self.test.each * WRITERS;
            tell(format_args!(
                "  {count} of {all} records in {:.0?}",
                self.test.start.elapsed()
            ));
        }
    }
}

/// A pipe's or a FIFO's two ends.
struct Channel {
    reader: Fd,
    writer: Fd,
}

impl Channel {
    fn new((reader, writer): (Fd, Fd)) -> Self {
        Self { reader, writer }
    }

    fn pipe(subject: Subject, flags: PipeFlags) -> Self {
        Self::new(subject.pipe_with(flags))
    }

    /// One of several readers. Every other one does not block.
    fn reader(&self, who: usize) -> End {
        End::new(&self.reader, who)
    }

    /// One of several writers, likewise.
    fn writer(&self, who: usize) -> End {
        End::new(&self.writer, who)
    }

    fn resizer(&self) -> Resizer {
        Resizer::start(&self.reader)
    }
}

/// An end of a thread's own.
struct End {
    fd: Fd,
    blocks: bool,
}

impl End {
    /// One that does not block is another opening of the same end: the mode is not the
    /// pipe's.
    fn new(fd: &Fd, who: usize) -> Self {
        let blocks = who % 2 == 0;
        if blocks {
            return Self {
                fd: Fd::clone(fd),
                blocks,
            };
        }
        let flags = fcntl_getfl(fd).unwrap();
        let access = flags & OFlags::RWMODE;
        let another = open(path(fd), access | OFlags::CLOEXEC, Mode::empty()).unwrap();
        // Who opens a pipe cannot ask for packets, but can afterwards.
        fcntl_setfl(&another, flags | OFlags::NONBLOCK).unwrap();
        Self {
            fd: Arc::new(another),
            blocks,
        }
    }

    fn take(&self, buffer: &mut [u8]) -> usize {
        self.wait_and(PollFlags::IN, || read(&self.fd, &mut *buffer))
    }

    fn put(&self, bytes: &[u8]) -> usize {
        self.wait_and(PollFlags::OUT, || write(&self.fd, bytes))
    }

    fn put_in_two(&self, (one, other): (&[u8], &[u8])) -> usize {
        let segments = [IoSlice::new(one), IoSlice::new(other)];
        self.wait_and(PollFlags::OUT, || writev(&self.fd, &segments))
    }

    fn wait_and(&self, events: PollFlags, mut call: impl FnMut() -> Result<usize, Errno>) -> usize {
        loop {
            match call() {
                Ok(length) => return length,
                Err(Errno::AGAIN) if !self.blocks => {
                    let mut fds = [PollFd::new(&self.fd, events)];
                    assert_eq!(poll(&mut fds, None), Ok(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A thread that changes a pipe's size each time that it is told to.
struct Resizer {
    thread: thread::JoinHandle<usize>,
    tell: Sender<()>,
}

impl Resizer {
    fn start(fd: &Fd) -> Self {
        const PAGES: [usize; 6] = [16, 1, 2, 4, 64, 8];
        // It keeps nothing open: who has nobody left to write to has to fail.
        let fd = Arc::downgrade(fd);
        let (tell, told) = channel();
        let thread = thread::spawn(move || {
            let (mut random, mut resized) = (Random::new(99), 0);
            for () in told {
                let Some(fd) = fd.upgrade() else { break };
                let bytes = (PAGES[random.below(PAGES.len())] * PAGE) as u32;
                match set_size(&fd, bytes) {
                    Ok(size) => {
                        assert_eq!(size, bytes);
                        resized += 1;
                    }
                    // More is inside.
                    Err(error) => assert_eq!(error, Errno::BUSY),
                }
            }
            resized
        });
        Self { thread, tell }
    }

    /// Tells it, now and then.
    fn tell(tell: &Sender<()>, written: usize) {
        const EVERY: usize = 25;
        if written % EVERY == 0 {
            // It fails only when it has seen an error.
            let _ = tell.send(());
        }
    }

    /// How often it did.
    fn finish(self) -> usize {
        drop(self.tell);
        self.thread.join().unwrap()
    }
}

/// To the terminal, where the test harness does not keep it until a failure.
fn tell(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A linear congruential generator.
struct Random(u32);

impl Random {
    fn new(seed: usize) -> Self {
        Self(seed as u32)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % limit
    }
}
