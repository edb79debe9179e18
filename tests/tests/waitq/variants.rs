// SPDX-License-Identifier: GPL-2.0

//! Every sort of waiter and every sort of wake: who is woken, in which order, and
//! what is told of it, compared with a model.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::SystemTime;

use ipcdemo_client::{
    Keys, Listing, PassedOn, Reason, Receipt, StoppedBy, WaitOptions, WaiterKind, Waitq,
    WakeOptions, WakeReceipt,
};
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::{Errno, Fd, Sleeper, Subject, Waiting, scaled, serial, until, waitq, write};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::gettid;

/// An entry of the queue, and whom it stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Entry {
    id: usize,
    kind: WaiterKind,
    exclusive: bool,
    priority: bool,
    mask: Keys,
    /// An epoll set's: whether a thread waits for the set.
    attended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Wake {
    nr: u32,
    key: Keys,
}

/// Where an entry goes: those with priority stand at the head in order of arrival,
/// behind them the non-exclusive ones, the last of them first, and then the
/// exclusive ones in order of arrival.
fn enqueue(queue: &mut Vec<Entry>, entry: Entry) {
    let preferred = queue.iter().take_while(|other| other.priority).count();
    let at_tail = entry.exclusive && !entry.priority;
    queue.insert(if at_tail { queue.len() } else { preferred }, entry);
}

/// What a walk along the queue does: whom it reaches, and after each of those how
/// far it had come.
fn walk(queue: &[Entry], wake: Wake) -> (WakeReceipt, Vec<(usize, WakeReceipt)>) {
    let mut tally = WakeReceipt {
        word: WORD,
        walked: 0,
        called: 0,
        woken: 0,
        exclusive: 0,
        stopped_by: StoppedBy::End,
    };
    let mut reached = Vec::new();
    for entry in queue {
        tally.walked += 1;
        tally.called += 1;
        let wanted =
            wake.key.is_empty() || entry.mask.is_empty() || wake.key.intersects(entry.mask);
        // fs/eventpoll.c, `ep_poll_callback`: an item that is not exclusive always
        // says that it woke somebody, one that is only if somebody waits for its
        // set, and not for a key that is about both directions.
        let counts = match entry.kind {
            WaiterKind::Epoll if entry.exclusive => {
                wanted && entry.attended && !wake.key.contains(Keys::IN | Keys::OUT)
            }
            WaiterKind::Epoll => true,
            _ => wanted,
        };
        if counts {
            tally.woken += 1;
            if entry.exclusive {
                tally.exclusive += 1;
                if tally.exclusive == wake.nr {
                    tally.stopped_by = StoppedBy::Quota;
                }
            }
        }
        if wanted {
            reached.push((entry.id, tally));
        }
        if tally.stopped_by == StoppedBy::Quota {
            break;
        }
    }
    (tally, reached)
}

/// Whether a waiter that is reached is done. A poller looks whether what it waits
/// for is true: that the word is not 0 is POLLIN, and nothing else.
fn is_satisfied(entry: &Entry) -> bool {
    entry.kind == WaiterKind::Task || entry.mask.contains(Keys::IN)
}

/// Whether it leaves the queue then: an epoll set's item stays for the set's life.
fn leaves(entry: &Entry) -> bool {
    is_satisfied(entry) && entry.kind != WaiterKind::Epoll
}

/// What the wakes set the word to.
const WORD: u64 = 0x5eed;

/// A sort of waiter.
#[derive(Clone, Copy, Debug)]
struct Sort {
    kind: WaiterKind,
    exclusive: bool,
    priority: bool,
    attended: bool,
}

impl Sort {
    const fn new(kind: WaiterKind) -> Self {
        Self {
            kind,
            exclusive: false,
            priority: false,
            attended: true,
        }
    }

    const fn exclusive(self) -> Self {
        Self {
            exclusive: true,
            ..self
        }
    }

    const fn priority(self) -> Self {
        Self {
            priority: true,
            ..self
        }
    }

    const fn unattended(self) -> Self {
        Self {
            attended: false,
            ..self
        }
    }
}

const TASK: Sort = Sort::new(WaiterKind::Task);
const POLL: Sort = Sort::new(WaiterKind::Poll);
const EPOLL: Sort = Sort::new(WaiterKind::Epoll);

/// All sorts that there are: poll(2) has one, epoll knows no priority.
const SORTS: [Sort; 9] = [
    TASK,
    TASK.exclusive(),
    TASK.priority(),
    TASK.priority().exclusive(),
    POLL,
    EPOLL,
    EPOLL.exclusive(),
    EPOLL.unattended(),
    EPOLL.exclusive().unattended(),
];

/// A waiter that is there.
struct Live {
    entry: Entry,
    sleep: Sleep,
}

enum Sleep {
    Task(Waiting),
    Poll(Sleeper<Result<PollFlags, Errno>>),
    Epoll {
        sleeper: Sleeper<Result<EventFlags, Errno>>,
        /// Held on to, as its item leaves the queue with it.
        _set: Arc<Epoll>,
    },
    /// An epoll set that nobody waits for.
    Set(Epoll),
}

/// A queue with its waiters, and the model of it.
struct Scene {
    queue: Arc<Waitq>,
    /// A counter that all but tasks watch as well, to send them home by.
    end: Fd,
    live: Vec<Live>,
    model: Vec<Entry>,
}

/// Shows what is on the stage when a comparison fails.
impl Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in &self.model {
            writeln!(f, "  {entry:?}")?;
        }
        Ok(())
    }
}

impl Scene {
    fn new() -> Self {
        Self {
            queue: waitq(),
            end: Subject::Native.counter(0),
            live: Vec::new(),
            model: Vec::new(),
        }
    }

    /// Lets a waiter come, and looks until it is there and asleep.
    fn add(&mut self, sort: Sort, mask: Keys) {
        let entry = Entry {
            id: self.live.len(),
            kind: sort.kind,
            exclusive: sort.exclusive,
            priority: sort.priority,
            // These two are always reported.
            mask: match sort.kind {
                WaiterKind::Task => mask,
                _ => mask | Keys::ERR | Keys::HUP,
            },
            attended: sort.attended,
        };
        let sleep = match sort.kind {
            WaiterKind::Task => self.task(&entry),
            WaiterKind::Poll => self.poll(mask),
            _ => self.epoll(&entry, mask),
        };
        enqueue(&mut self.model, entry);
        self.live.push(Live { entry, sleep });
    }

    fn task(&self, entry: &Entry) -> Sleep {
        let mut options = WaitOptions::new().mask(entry.mask);
        if entry.exclusive {
            options = options.exclusive();
        }
        if entry.priority {
            options = options.priority();
        }
        Sleep::Task(Waiting::new(&self.queue, options))
    }

    fn poll(&self, mask: Keys) -> Sleep {
        let (queue, end) = (Arc::clone(&self.queue), Fd::clone(&self.end));
        Sleep::Poll(Sleeper::new(&[libc::SYS_ppoll], move || {
            let events = PollFlags::from_bits_retain(mask.bits() as u16);
            let mut fds = [
                PollFd::new(&queue, events),
                PollFd::new(&end, PollFlags::IN),
            ];
            poll(&mut fds, None)?;
            Ok(fds[0].revents())
        }))
    }

    fn epoll(&self, entry: &Entry, mask: Keys) -> Sleep {
        let mut events = EventFlags::from_bits_retain(mask.bits());
        events.set(EventFlags::EXCLUSIVE, entry.exclusive);
        // The one way to watch or the other is nothing to the queue.
        events.set(EventFlags::ET, entry.id % 2 == 0);
        let set = Epoll::of(&self.queue, events);
        if !entry.attended {
            return Sleep::Set(set);
        }
        set.add(&self.end, EventFlags::IN);
        let set = Arc::new(set);
        let its_set = Arc::clone(&set);
        let sleeper = Sleeper::new(&[libc::SYS_epoll_pwait], move || its_set.wait());
        Sleep::Epoll { sleeper, _set: set }
    }

    /// Compares the listing with the model.
    fn check_listing(&self, listing: &Listing, when: &str) {
        let told: Vec<_> = listing
            .waiters
            .iter()
            .map(|waiter| {
                let flags = (waiter.exclusive, waiter.priority);
                (waiter.position, waiter.kind, flags, waiter.key, waiter.tid)
            })
            .collect();
        let expected: Vec<_> = (0..)
            .zip(&self.model)
            .map(|(position, entry)| {
                let key = match entry.kind {
                    WaiterKind::Epoll => Keys::empty(),
                    _ => entry.mask,
                };
                let tid = match &self.live[entry.id].sleep {
                    Sleep::Task(waiting) => Some(waiting.tid()),
                    Sleep::Poll(sleeper) => Some(sleeper.tid()),
                    Sleep::Epoll { .. } | Sleep::Set(_) => None,
                };
                let tid = tid.map(|tid| tid.as_raw_nonzero().get());
                let flags = (entry.exclusive, entry.priority);
                (position, entry.kind, flags, key, tid)
            })
            .collect();
        assert_eq!(told, expected, "the listing {when}");
        assert!(!listing.is_cut, "{when}");
    }

    /// Wakes, and compares all that can be seen of it with the model.
    fn play(mut self, wake: Wake) {
        let before = self.queue.waiters().unwrap();
        self.check_listing(&before, "before");
        assert_eq!(before.word, 0);

        let options = WakeOptions::new().nr(wake.nr).key(wake.key).set(WORD);
        let receipt = self.queue.wake(&options).unwrap();
        let (expected, reached) = walk(&self.model, wake);
        assert_eq!(receipt, expected, "{wake:?} along\n{self:?}");

        // Those that it did not reach have not even stirred. That comes first: it
        // is true at once.
        let is_reached = |entry: &Entry| reached.iter().any(|(id, _)| *id == entry.id);
        for Live { entry, sleep } in &self.live {
            if !is_reached(entry) {
                let asleep = match sleep {
                    Sleep::Task(waiting) => waiting.sleeps_on(),
                    Sleep::Poll(sleeper) => sleeper.sleeps_on(),
                    Sleep::Epoll { sleeper, .. } => sleeper.sleeps_on(),
                    Sleep::Set(set) => set.now().is_empty(),
                };
                assert!(asleep, "{entry:?} was reached by {wake:?} along\n{self:?}");
            }
        }

        // The others have: they are done, or have looked and sleep again.
        for Live { entry, sleep } in &self.live {
            if is_reached(entry) {
                let done = is_satisfied(entry);
                match sleep {
                    Sleep::Task(waiting) => until("it is done", || waiting.has_returned()),
                    Sleep::Poll(sleeper) if done => until("it is done", || sleeper.has_returned()),
                    Sleep::Poll(sleeper) => sleeper.wait_until_asleep_again(),
                    Sleep::Epoll { sleeper, .. } if done => {
                        until("it is done", || sleeper.has_returned());
                    }
                    Sleep::Epoll { sleeper, .. } => sleeper.wait_until_asleep_again(),
                    Sleep::Set(set) => assert_eq!(!set.now().is_empty(), done, "{entry:?}"),
                }
            }
        }

        let left = |entry: &Entry| !(is_reached(entry) && leaves(entry));
        self.model.retain(left);
        let after = self.queue.waiters().unwrap();
        self.check_listing(&after, "after");
        assert_eq!(after.word, WORD);
        self.finish(wake, &reached);
    }

    /// Sends everybody home, and compares what they tell.
    fn finish(self, wake: Wake, reached: &[(usize, WakeReceipt)]) {
        self.queue.wake(&WakeOptions::new().all().set(0)).unwrap();
        assert_eq!(write(&self.end, 1), Ok(()));
        for Live { entry, sleep } in self.live {
            let tally = reached.iter().find(|(id, _)| *id == entry.id);
            match (sleep, tally) {
                (Sleep::Task(waiting), Some((_, tally))) => {
                    let receipt = waiting.join();
                    let expected = Receipt {
                        reason: Reason::Woken,
                        word: WORD,
                        key: wake.key,
                        waker_pid: std::process::id() as i32,
                        waker_tid: gettid().as_raw_nonzero().get(),
                        walked: tally.walked,
                        called: tally.called,
                        woken: tally.woken,
                        stopped_by: tally.stopped_by,
                        passed_on: PassedOn::No,
                        ..receipt
                    };
                    assert_eq!(receipt, expected, "{entry:?}");
                }
                (Sleep::Task(waiting), None) => assert_eq!(waiting.join().reason, Reason::Woken),
                (Sleep::Poll(sleeper), tally) => {
                    // One that was sent home finds its own descriptor not ready.
                    let ready = tally.is_some() && is_satisfied(&entry);
                    let events = if ready {
                        PollFlags::IN
                    } else {
                        PollFlags::empty()
                    };
                    assert_eq!(sleeper.join(), Ok(events), "{entry:?}");
                }
                (Sleep::Epoll { sleeper, .. }, _) => assert_eq!(sleeper.join(), Ok(EventFlags::IN)),
                (Sleep::Set(_), _) => (),
            }
        }
    }
}

/// The keys of wakes: none, one that some are waiting for, and one that says more
/// than an exclusive epoll item knows how to count.
const KEYS: [Keys; 3] = [Keys::empty(), Keys::IN, Keys::IN.union(Keys::OUT)];

serial! {
    /// Each sort among others, for each wake: without a key and with one, for one,
    /// for two, and for all.
    fn each_sort_and_each_wake() {
        for sort in SORTS {
            for key in KEYS {
                for nr in [1, 2, 0] {
                    let mut scene = Scene::new();
                    // The same before, between and behind the others, with every
                    // sort of mask.
                    for (sort, mask) in [
                        (sort, Keys::IN),
                        (TASK, Keys::empty()),
                        (sort, Keys::HUP),
                        (POLL, Keys::IN),
                        (EPOLL.exclusive(), Keys::IN),
                        (TASK.exclusive(), Keys::IN),
                        (EPOLL.unattended(), Keys::HUP),
                        (sort, Keys::IN | Keys::HUP),
                        (TASK.exclusive(), Keys::HUP),
                        (POLL, Keys::HUP),
                        (EPOLL.exclusive().unattended(), Keys::IN),
                        (TASK.priority(), Keys::IN),
                        (sort, Keys::IN),
                    ] {
                        scene.add(sort, mask);
                    }
                    scene.play(Wake { nr, key });
                }
            }
        }
    }

    /// Any sorts, in any order.
    fn any_population_and_any_wake() {
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seed = clock.unwrap().as_nanos() as u64 | 1;
        println!("seed {seed}");
        let mut random = Random(seed);
        for _ in 0..scaled(100) {
            let mut scene = Scene::new();
            for _ in 0..random.below(14) {
                let masks = [Keys::empty(), Keys::IN, Keys::HUP];
                let sort = SORTS[random.below(SORTS.len())];
                scene.add(sort, masks[random.below(masks.len())]);
            }
            let nr = random.below(5) as u32;
            let key = KEYS[random.below(KEYS.len())];
            scene.play(Wake { nr, key });
        }
    }
}

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % limit
    }
}
