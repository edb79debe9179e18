// SPDX-License-Identifier: GPL-2.0

//! An exclusive wake-up against a signal and against the clock.
//!
//! Of two sleepers one is interrupted all the time, while wakes for one sleeper come
//! from another CPU. Whatever happens, each wake-up that took somebody has to turn up
//! once: in the receipt of one who was woken, or of one who was leaving and found nobody
//! to pass it on to. One that is swallowed, or comes out twice, upsets the sum.
//!
//! That a wake-up is passed on must really happen: it is counted, and the tests fail if
//! it was rare. The moment in which a wake finds a task that is leaving would be too
//! short to be hit; `linger_us` makes it longer in a share of the sleeps.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipcdemo_client::{Keys, PassedOn, Reason, Receipt, WaitOptions, Waitq, WakeOptions};
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::{Signal, Waiting, pin, scaled, serial, serially_for, until, waitq};
use rustix::process::Pid;
use rustix::thread::{gettid, sched_yield};

/// How many wake-ups each of the two races deals out, and how many of them must have
/// been passed on.
const ROUNDS: usize = 50_000;
const PASSED_ON: usize = 1_000;

/// What either may take where everything else is busy as well.
const LIMIT: Duration = Duration::from_secs(300);

/// A signal against a wake.
#[test]
fn a_signal_and_a_wake() {
    serially_for(LIMIT, || {
        let signal = Signal::interrupting();
        let (mut race, mut random) = (Race::new(), Random(1));
        let hasty = race.sleeper(1, {
            let mut random = Random(2);
            move || some_options(&mut random)
        });
        let patient = race.sleeper(0, || WaitOptions::new().exclusive());
        let mut sent = 0;
        while race.goes_on(&hasty) {
            // Real-time signals queue up: one at a time.
            if signal.handled() == sent {
                signal.send(hasty.tid);
                sent += 1;
            }
            spin(random.below(150));
            race.wake(ONE.key(Keys::IN));
        }
        race.finish([hasty, patient]).check("signal");
    });
}

/// The clock against a wake.
#[test]
fn a_timeout_and_a_wake() {
    serially_for(LIMIT, || {
        let (mut race, mut random) = (Race::new(), Random(1));
        let hasty = race.sleeper(1, short_sleeps());
        let patient = race.sleeper(0, || WaitOptions::new().exclusive());
        while race.goes_on(&hasty) {
            spin(random.below(150));
            race.wake(ONE.key(Keys::IN));
        }
        race.finish([hasty, patient]).check("timeout");
    });
}

serial! {
    /// With nobody else there, the wake-up is lost as one that finds nobody is; the
    /// one that it took says so.
    fn a_wake_with_nobody_to_pass_it_to() {
        let mut race = Race::new();
        let hasty = race.sleeper(1, short_sleeps());
        race.wake_until("some found nobody", ONE, |_| hasty.tally.to_nobody() >= 10);
        let total = race.finish([hasty]);
        assert_eq!((total.dealt, total.to_another), (total.woken + total.to_nobody, 0));
    }

    /// Where nobody counts there is nothing to pass on: the others were woken too.
    fn what_does_not_count_is_not_passed_on() {
        let plain = || WaitOptions::new().timeout(Duration::ZERO).linger_us(100);
        for (wake, exclusive) in [(ONE, false), (ONE.all(), true)] {
            let mut race = Race::new();
            let hasty = race.sleeper(1, move || match exclusive {
                false => plain(),
                true => plain().exclusive(),
            });
            // One may just be on its way.
            let caught = |race: &Race| race.woken > hasty.tally.woken() + 10;
            race.wake_until("some were caught leaving", wake, caught);
            let total = race.finish([hasty]);
            assert_eq!((total.to_another, total.to_nobody), (0, 0), "{wake:?}");
        }
    }

    /// One that sleeps for another key is not the one to pass it to.
    fn it_is_passed_on_with_its_key() {
        let mut race = Race::new();
        let other = WaitOptions::new().exclusive().mask(Keys::HUP);
        let other = Waiting::new(&race.queue, other);
        let hasty = race.sleeper(1, short_sleeps());
        let wake = ONE.key(Keys::IN);
        race.wake_until("some found nobody", wake, |_| hasty.tally.to_nobody() >= 10);
        assert!(other.sleeps_on());
        race.wake(ONE.key(Keys::HUP).all());
        let told = other.join();
        assert_eq!((told.reason, told.key), (Reason::Woken, Keys::HUP));
        assert_eq!(race.finish([hasty]).to_another, 0);
    }

    /// Others than tasks can be exclusive, too: it is passed on to an epoll set.
    fn it_is_passed_on_to_an_epoll_set() {
        let mut race = Race::new();
        // So that there is something to report each time.
        race.wake(ONE.set(1));
        let hasty = race.sleeper(1, {
            let mut sleeps = short_sleeps();
            move || sleeps().priority()
        });
        let events = EventFlags::IN | EventFlags::EXCLUSIVE | EventFlags::ET;
        let set = Epoll::of(&race.queue, events);
        let reports = Arc::new(AtomicUsize::new(0));
        let (its_reports, stop) = (Arc::clone(&reports), Arc::clone(&race.stop));
        let watcher = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(set.wait(), Ok(EventFlags::IN));
                its_reports.fetch_add(1, Ordering::Relaxed);
            }
        });
        let wake = ONE.key(Keys::IN);
        race.wake_until("some were passed on", wake, |_| hasty.tally.to_another() >= 10);
        race.stop.store(true, Ordering::Relaxed);
        race.wake_until("the watcher has gone", wake, |_| watcher.is_finished());
        watcher.join().unwrap();
        let total = race.finish([hasty]);
        assert!(reports.load(Ordering::Relaxed) >= total.to_another, "{total:?}");
    }
}

/// Wakes one, whatever it waits for.
const ONE: WakeOptions = WakeOptions::new();

/// Sleeps that end by themselves almost at once.
fn short_sleeps() -> impl FnMut() -> WaitOptions + Send + 'static {
    let mut random = Random(3);
    move || {
        let timeout = Duration::from_micros(random.below(50) as u64);
        some_options(&mut random).timeout(timeout)
    }
}

/// An exclusive sleep at one end of the queue or the other, which may linger.
fn some_options(random: &mut Random) -> WaitOptions {
    let options = WaitOptions::new().exclusive();
    let options = options.linger_us([0, 0, 0, 20, 100, 500][random.below(6)]);
    match random.below(2) {
        0 => options,
        _ => options.priority(),
    }
}

/// A queue, and what was done with it.
struct Race {
    queue: Arc<Waitq>,
    stop: Arc<AtomicBool>,
    /// How many sleepers the wakes took, by what they said.
    woken: usize,
}

impl Race {
    fn new() -> Self {
        pin(None, 0);
        Self {
            queue: waitq(),
            stop: Arc::default(),
            woken: 0,
        }
    }

    /// A thread that sleeps again and again.
    fn sleeper(
        &self,
        cpu: usize,
        mut options: impl FnMut() -> WaitOptions + Send + 'static,
    ) -> Sleeper {
        let (send, receive) = channel();
        let tally = Arc::<Tally>::default();
        let (queue, stop) = (Arc::clone(&self.queue), Arc::clone(&self.stop));
        let its_tally = Arc::clone(&tally);
        let thread = thread::spawn(move || {
            pin(None, cpu);
            send.send(gettid()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                its_tally.add(&queue.wait(&options()).unwrap());
            }
        });
        let tid = receive.recv().unwrap();
        Sleeper { thread, tid, tally }
    }

    /// Whether there were too few rounds yet. On a machine that is busy with other
    /// things it may take some more of them until the race was seen often enough.
    fn goes_on(&self, hasty: &Sleeper) -> bool {
        let rare = hasty.tally.to_another() < scaled(PASSED_ON);
        self.woken < scaled(ROUNDS) || (rare && self.woken < 4 * scaled(ROUNDS))
    }

    fn wake(&mut self, options: WakeOptions) {
        self.woken += self.queue.wake(&options).unwrap().woken as usize;
        // To let those run that share this CPU.
        sched_yield();
    }

    fn wake_until(
        &mut self,
        what: &str,
        options: WakeOptions,
        mut condition: impl FnMut(&Self) -> bool,
    ) {
        let mut random = Random(4);
        until(what, || {
            for _ in 0..100 {
                spin(random.below(200));
                self.wake(options);
            }
            condition(self)
        });
    }

    /// Lets all sleepers end, and adds up what they were told.
    fn finish<const N: usize>(mut self, sleepers: [Sleeper; N]) -> Total {
        self.stop.store(true, Ordering::Relaxed);
        let ended = |_: &Self| sleepers.iter().all(|sleeper| sleeper.thread.is_finished());
        self.wake_until("the sleepers have ended", ONE.key(Keys::IN), ended);
        let mut total = Total {
            dealt: self.woken,
            ..Total::default()
        };
        for Sleeper { thread, tally, .. } in sleepers {
            thread.join().unwrap();
            total.woken += tally.woken();
            total.to_another += tally.to_another();
            total.to_nobody += tally.to_nobody();
            total.left += tally.left.load(Ordering::Relaxed);
        }
        total
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // After a failure some may be asleep.
        let _ = self.queue.wake(&ONE.all());
    }
}

struct Sleeper {
    thread: JoinHandle<()>,
    tid: Pid,
    tally: Arc<Tally>,
}

/// What one was told.
#[derive(Debug, Default)]
struct Tally {
    woken: AtomicUsize,
    to_another: AtomicUsize,
    to_nobody: AtomicUsize,
    left: AtomicUsize,
}

impl Tally {
    fn add(&self, told: &Receipt) {
        let count = match (told.reason, told.passed_on) {
            (Reason::Woken, PassedOn::No) => &self.woken,
            (Reason::Signaled | Reason::TimedOut, PassedOn::No) => &self.left,
            (Reason::Signaled | Reason::TimedOut, PassedOn::ToAnother) => &self.to_another,
            (Reason::Signaled | Reason::TimedOut, PassedOn::ToNobody) => &self.to_nobody,
            _ => panic!("{told:?}"),
        };
        count.fetch_add(1, Ordering::Relaxed);
        // A wake is told of if there was one.
        let is_told = told.reason == Reason::Woken || told.passed_on != PassedOn::No;
        let what = (
            told.walked != 0,
            told.called != 0,
            told.woken != 0,
            told.waker_tid != 0,
        );
        assert_eq!(what, (is_told, is_told, is_told, is_told), "{told:?}");
    }

    fn woken(&self) -> usize {
        self.woken.load(Ordering::Relaxed)
    }

    fn to_another(&self) -> usize {
        self.to_another.load(Ordering::Relaxed)
    }

    fn to_nobody(&self) -> usize {
        self.to_nobody.load(Ordering::Relaxed)
    }
}

/// What all of a race came to.
#[derive(Debug, Default)]
struct Total {
    /// How many sleepers the wakes took.
    dealt: usize,
    /// How many were woken.
    woken: usize,
    /// How many left, and passed a wake-up on.
    to_another: usize,
    /// How many left, and found nobody to pass it on to.
    to_nobody: usize,
    /// How many left, and had nothing to pass on.
    left: usize,
}

impl Total {
    fn check(&self, what: &str) {
        println!("{what}: {self:?}");
        assert_eq!(self.dealt, self.woken + self.to_nobody, "{what}: {self:?}");
        assert!(
            self.to_another >= scaled(PASSED_ON),
            "{what}: only {} were passed on: this proves nothing",
            self.to_another
        );
    }
}

/// Stays on the CPU for some time.
fn spin(microseconds: usize) {
    let duration = Duration::from_micros(microseconds as u64);
    let start = Instant::now();
    while start.elapsed() < duration {
        spin_loop();
    }
}

/// A linear congruential generator.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) as usize % limit
    }
}
