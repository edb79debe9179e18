// SPDX-License-Identifier: GPL-2.0

use std::fs;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::Task;
use crate::kernel::prolonged;

/// Longer than any state takes to come about on the slowest kernel, under
/// emulation; what is waited for has otherwise been lost.
const LIMIT: Duration = Duration::from_secs(60);

/// Where one test has waited in vain others will too, and the verdict is certain.
const LIMIT_AFTER_FAILURE: Duration = Duration::from_secs(4);

static FAILED: AtomicBool = AtomicBool::new(false);

fn limit() -> Duration {
    if FAILED.load(Ordering::Relaxed) {
        LIMIT_AFTER_FAILURE
    } else {
        LIMIT
    }
}

fn give_up(complaint: &str) -> ! {
    FAILED.store(true, Ordering::Relaxed);
    panic!("{complaint}; the process's threads:\n{}", threads());
}

/// Runs a test's body, and fails instead of hanging for ever.
///
/// # Panics
///
/// If the body does, or does not end.
pub fn guarded(body: impl FnOnce() + Send + 'static) {
    // Somewhat later than `until`, whose complaint says more.
    guarded_for(limit() * 5 / 4, body);
}

/// As [`guarded`], for a body that takes its time: at most `limit` for the usual rounds.
///
/// # Panics
///
/// If the body does, or does not end by then.
pub fn guarded_for(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let limit = prolonged(limit);
    let (alive, ended) = channel::<()>();
    let thread = thread::spawn(move || {
        let _alive = alive;
        body();
    });
    match ended.recv_timeout(limit) {
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
        Err(RecvTimeoutError::Timeout) => give_up("it hangs"),
    }
}

/// Waits until `condition` holds, looking again and again: for states that
/// nothing but looking can tell of.
///
/// # Panics
///
/// If that takes unreasonably long.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit() {
            give_up(&format!("waited in vain until {what}"));
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn threads() -> String {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return "(no /proc)".into();
    };
    tasks
        .flatten()
        .map(|task| Task::at(task.path()).to_string() + "\n")
        .collect()
}
