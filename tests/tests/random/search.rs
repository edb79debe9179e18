// SPDX-License-Identifier: GPL-2.0

//! Looks for a case that goes otherwise at the module than at the original, and for the
//! shortest such case.

use std::cell::RefCell;
use std::env;
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipcdemo_tests::{Subject, scaled};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use rustix::thread::sched_getaffinity;

use crate::crew::wake_in_order;

/// Longer than a case takes on the slowest kernel.
const LIMIT: Duration = Duration::from_secs(60);

/// A sequence of operations.
pub trait Case: Clone + fmt::Debug + Send + Sync + 'static {
    type Operation: fmt::Debug;

    fn operations(&self) -> &[Self::Operation];

    fn leave_out(&mut self, at: usize);
}

/// What there was to see after an operation.
pub trait Step: PartialEq + fmt::Debug + Send + 'static {
    /// Whether the operation was not to be done.
    fn was_left_out(&self) -> bool;

    /// How many workers sleep.
    fn asleep(&self) -> usize;

    /// How many workers' calls are over since the last one.
    fn returned(&self) -> usize;
}

/// Who takes a subject through cases.
pub trait Conduct: 'static {
    type Case: Case;
    type Step: Step;

    /// Makes the calling thread one.
    fn new(subject: Subject, cpus: [usize; 2]) -> Self;

    /// Does what is in a case: a step for each operation, and some for the end.
    fn conduct(&mut self, case: &Self::Case) -> Vec<Self::Step>;
}

/// Does random cases of so many operations together, scaled, or as many as `IPCDEMO_OPERATIONS` says.
pub fn search<C: Conduct>(
    pair: &'static Mutex<Pair<C>>,
    operations: usize,
    strategy: &impl Strategy<Value = C::Case>,
) {
    let operations = number("IPCDEMO_OPERATIONS").unwrap_or_else(|| scaled(operations) as u64);
    let seed = number("IPCDEMO_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_millis() as u64 % 1_000_000_000
    });
    tell(format_args!(
        "{operations} random operations, IPCDEMO_SEED={seed}"
    ));

    let start = Instant::now();
    let mut pair = Pair::lock(pair);
    pair.seen = Seen::default();
    let pair = RefCell::new(pair);
    let mut cases = 0;
    while pair.borrow().seen.operations < operations {
        // Each case has a seed of its own, so that one can begin with any.
        let seed = seed.wrapping_add(cases);
        if let Err(failure) = try_case(&pair, strategy, seed) {
            panic!("{failure}\nTo begin with it: IPCDEMO_SEED={seed}");
        }
        cases += 1;
    }
    let seen = &pair.borrow().seen;
    tell(format_args!(
        "{seen:?} in {cases} cases without a difference, in {:.1?}",
        start.elapsed()
    ));
    // Sequences in which nobody sleeps and is woken would prove little.
    assert!(seen.fell_asleep * 20 > operations, "too few sleep");
    assert!(seen.woken * 40 > operations, "too few are woken");
}

/// Does a case that was printed before.
pub fn replay<C: Conduct>(pair: &'static Mutex<Pair<C>>, case: &C::Case) {
    let outcome = Pair::lock(pair).compare(case.clone());
    outcome.unwrap_or_else(|difference| panic!("{difference}"));
}

/// Does a random case, and if it fails, gives the shortest that does.
fn try_case<C: Conduct>(
    pair: &RefCell<MutexGuard<'_, Pair<C>>>,
    strategy: &impl Strategy<Value = C::Case>,
    seed: u64,
) -> Result<(), String> {
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: 4096,
        ..Config::default()
    };
    // Neighbors must not be alike; none may be all zero.
    let first = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let second = (first ^ (first >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1;
    let bytes = [first.to_le_bytes(), second.to_le_bytes()];
    // The default generator takes half of the test's time.
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, bytes.as_flattened());
    let mut runner = TestRunner::new_with_rng(config, rng);
    let tree = strategy.new_tree(&mut runner).unwrap();
    let result = runner.run_one(tree, |case| {
        pair.borrow_mut().compare(case).map_err(TestCaseError::fail)
    });
    match result {
        Ok(_) => Ok(()),
        Err(TestError::Fail(reason, case)) => {
            let (difference, case) = shorten(&mut pair.borrow_mut(), case);
            let difference = difference.unwrap_or_else(|| format!("It comes and goes. {reason}"));
            Err(format!(
                "{difference}\n\
                 #[test]\n\
                 fn found_with_seed_{seed}() {{\n    \
                     replay(&{case:?});\n\
                 }}"
            ))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Leaves out what need not be there. proptest has tried that once, before it made the
/// operations simpler, and some are needless only since.
fn shorten<C: Conduct>(pair: &mut Pair<C>, mut case: C::Case) -> (Option<String>, C::Case) {
    let mut difference = pair.compare(case.clone()).err();
    let mut at = 0;
    while at < case.operations().len() {
        let mut shorter = case.clone();
        shorter.leave_out(at);
        if let Err(other) = pair.compare(shorter.clone()) {
            (difference, case, at) = (Some(other), shorter, 0);
        } else {
            at += 1;
        }
    }
    (difference, case)
}

/// What happened, to the original.
#[derive(Debug, Default)]
struct Seen {
    operations: u64,
    fell_asleep: u64,
    woken: u64,
    several_woken: u64,
}

/// The two subjects, each with a thread that conducts it and threads that work.
///
/// One test at a time has them: two would take each other's processors.
pub struct Pair<C: Conduct> {
    subjects: [Conducted<C>; 2],
    seen: Seen,
}

struct Conducted<C: Conduct> {
    cases: Sender<Arc<C::Case>>,
    steps: Receiver<Vec<C::Step>>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Conduct> Conducted<C> {
    /// The steps of a case that it was given, or why there are none.
    ///
    /// What the thread says when it panics is lost, as part of what a test said that was over long ago.
    fn steps(&mut self) -> Result<Vec<C::Step>, String> {
        let error = match self.steps.recv_timeout(LIMIT) {
            Ok(steps) => return Ok(steps),
            Err(error) => error,
        };
        let thread = (self.thread.take()).filter(|_| error == RecvTimeoutError::Disconnected);
        let Some(Err(payload)) = thread.map(JoinHandle::join) else {
            return Err(error.to_string());
        };
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Err(text.unwrap_or("it panicked").into())
    }
}

impl<C: Conduct> Pair<C> {
    fn lock(pair: &'static Mutex<Self>) -> MutexGuard<'static, Self> {
        // What a case that failed has left behind, it has put right.
        pair.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts them, each on a processor: the original, and ours.
    pub fn new(subjects: [Subject; 2]) -> Self {
        wake_in_order();
        let set = sched_getaffinity(None).unwrap();
        let cpus: Vec<_> = (0..1024).filter(|&cpu| set.is_set(cpu)).collect();
        let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
        let both = [(subjects[0], [first, last]), (subjects[1], [last, first])];
        Self {
            subjects: both.map(|(subject, cpus)| {
                let (send_case, cases) = channel::<Arc<C::Case>>();
                let (send_steps, steps) = channel();
                let thread = thread::spawn(move || {
                    let mut conductor = C::new(subject, cpus);
                    for case in cases {
                        send_steps.send(conductor.conduct(&case)).unwrap();
                    }
                });
                Conducted {
                    cases: send_case,
                    steps,
                    thread: Some(thread),
                }
            }),
            seen: Seen::default(),
        }
    }

    /// Does a case to both, and describes the first difference.
    fn compare(&mut self, case: C::Case) -> Result<(), String> {
        let case = Arc::new(case);
        for subject in &self.subjects {
            subject.cases.send(Arc::clone(&case)).unwrap();
        }
        let [native, module] = self.subjects.each_mut().map(|subject| {
            let steps = subject.steps();
            steps.unwrap_or_else(|error| panic!("{error}, amid {case:?}"))
        });
        let mut before = 0;
        for step in &native[..case.operations().len()] {
            let (asleep, returned) = (step.asleep(), step.returned());
            self.seen.operations += u64::from(!step.was_left_out());
            self.seen.fell_asleep += u64::from(asleep > before);
            // One may be the call of this step.
            self.seen.woken += u64::from(before > asleep);
            self.seen.several_woken += u64::from(before > asleep && returned > 1);
            before = asleep;
        }
        let Some(at) = (0..native.len()).find(|&at| native[at] != module[at]) else {
            return Ok(());
        };
        let mut text = String::from("What both did:\n");
        for (at, (native, module)) in native.iter().zip(&module).enumerate().take(at + 1) {
            let _ = match case.operations().get(at) {
                Some(operation) => writeln!(text, "  {operation:?}"),
                None => writeln!(text, "  at the end, a signal to all, and what is left"),
            };
            let _ = writeln!(text, "    {native:?}");
            if native != module {
                let _ = writeln!(text, "  and here the module differs:\n    {module:?}");
            }
        }
        Err(text)
    }
}

/// To the terminal, where the test harness does not keep it until a failure.
fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|error| panic!("{variable}={value}: {error}")),
    )
}
