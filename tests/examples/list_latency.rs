// SPDX-License-Identifier: GPL-2.0

//! How late the most urgent task of a processor runs while live objects are listed on it: which is as long as a
//! listing keeps preemption or interrupts off, and whatever else does.
//!
//! `list_latency [COUNTERS] [LISTINGS]`: with so many counters open, while a thread on each processor makes and closes
//! others. It prints the longest delay on each processor, without listings and with them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use ipcdemo_client::{Counter, CounterFlags, Factory};
use ipcdemo_tests::pin;
use rustix::process::{Resource, Rlimit, setrlimit};

/// How often the most urgent task looks at the clock.
const PERIOD: Duration = Duration::from_micros(500);

static DONE: AtomicBool = AtomicBool::new(false);

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .map(|number| number.parse().expect("a number"));
    let counters: usize = numbers.next().unwrap_or(100_000);
    let listings: usize = numbers.next().unwrap_or(3);

    let files = Some(counters as u64 + 1000);
    let limit = Rlimit {
        current: files,
        maximum: files,
    };
    setrlimit(Resource::Nofile, limit).expect("root may raise it");
    let factory = Factory::open().expect("the module is loaded");
    let open = || {
        factory
            .counter(0, CounterFlags::empty())
            .expect("there is memory")
    };
    let kept: Vec<Counter> = (0..counters).map(|_| open()).collect();
    // The longest delay on each processor, in nanoseconds.
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let longest: Vec<_> = (0..cpus).map(|_| AtomicU64::new(0)).collect();

    thread::scope(|scope| {
        for (cpu, longest) in longest.iter().enumerate() {
            scope.spawn(move || urgent(cpu, longest));
            scope.spawn(move || {
                pin(None, cpu);
                while !DONE.load(Relaxed) {
                    drop(open());
                }
            });
        }
        pin(None, 0);
        thread::sleep(Duration::from_secs(5));
        tell("without listings", &longest);
        let start = Instant::now();
        for _ in 0..listings {
            let listed = factory.list().expect("root may list").len();
            assert!(listed >= kept.len(), "{listed} are listed");
        }
        let took = start.elapsed();
        let done = format!("{listings} listings of {counters} counters in {took:?}");
        tell(&done, &longest);
        DONE.store(true, Relaxed);
    });
}

/// Prints and forgets the longest delays.
fn tell(when: &str, longest: &[AtomicU64]) {
    let longest: Vec<_> = longest
        .iter()
        .map(|longest| Duration::from_nanos(longest.swap(0, Relaxed)))
        .collect();
    println!("{when}: at most {longest:?}");
}

/// Sleeps for a short time again and again, and notes how late it wakes.
fn urgent(cpu: usize, longest: &AtomicU64) {
    pin(None, cpu);
    let param = libc::sched_param { sched_priority: 99 };
    // SAFETY: The parameter is valid for the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
    assert_eq!(result, 0, "root may be urgent");
    while !DONE.load(Relaxed) {
        let start = Instant::now();
        thread::sleep(PERIOD);
        let late = start.elapsed().saturating_sub(PERIOD);
        longest.fetch_max(late.as_nanos() as u64, Relaxed);
    }
}
