// SPDX-License-Identifier: GPL-2.0

//! The tasks beside the one that measures.

use std::fs;
use std::io;
use std::mem;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Puts the calling thread on a processor.
pub fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: All zeros is a set without members.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: The set is one.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: So large it is.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling thread a place among those that are never preempted but by one with a greater
/// `priority`; 0 is none. So who runs when does not depend on how long somebody has run before.
pub fn prioritize(priority: i32) -> io::Result<()> {
    let policy = if priority > 0 {
        libc::SCHED_FIFO
    } else {
        libc::SCHED_OTHER
    };
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: The parameter is read.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const param) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets such tasks have the processor as long as they want it: otherwise the kernel takes a
/// twentieth away, and says so in its log.
pub fn unthrottle() -> io::Result<()> {
    fs::write("/proc/sys/kernel/sched_rt_runtime_us", "-1")
}

/// Sleeps until the kernel's tick has come, so that the next one is far, and what was put off is done. Every
/// other task has run, too, that wanted to: one that waits for the processor, which a thread with a priority
/// never gives up, makes it cheaper to enqueue another, as `add_nr_running` looks closer at the second task only.
pub fn rest() {
    let ticks = || clock_gettime(ClockId::MonotonicCoarse);
    let before = ticks();
    while ticks() == before {
        thread::sleep(Duration::from_micros(100));
    }
}

/// The priority of the thread that measures, while it has helpers.
pub const MEASURING: i32 = 10;

/// And of those that run as soon as they can, so that its system call has not returned before they sleep
/// again: then all that the operation led to is measured.
pub const EAGER: i32 = 20;

/// Threads that do the same over and over, until this is dropped.
pub struct Helpers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Helpers {
    /// Starts `count` of them, each on the next one of `cpus`, and waits until they are at it. Each
    /// `turn` has to sleep at some point, for something that the measuring thread does.
    pub fn start(
        count: usize,
        cpus: &[usize],
        priority: i32,
        turn: impl FnMut() -> io::Result<()> + Clone + Send + 'static,
    ) -> io::Result<Self> {
        interruptible()?;
        prioritize(MEASURING.min(priority))?;
        let stop = Arc::<AtomicBool>::default();
        let ready = Arc::new(Barrier::new(2));
        let mut threads = Vec::new();
        for cpu in cpus.iter().copied().cycle().take(count) {
            let (stop, its_ready, mut turn) = (Arc::clone(&stop), Arc::clone(&ready), turn.clone());
            let work = move || {
                let set_up = pin(cpu).and_then(|()| prioritize(priority));
                its_ready.wait();
                let mut result = set_up;
                while result.is_ok() && !stop.load(Ordering::Relaxed) {
                    result = turn();
                }
                // At the end it is interrupted, wherever it is.
                match result {
                    Err(error) if !stop.load(Ordering::Relaxed) => {
                        eprintln!("a helping thread: {error}");
                    }
                    _ => {}
                }
            };
            threads.push(Builder::new().stack_size(STACK).spawn(work)?);
            ready.wait();
        }
        Ok(Self { stop, threads })
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            while !thread.is_finished() {
                // SAFETY: The thread has not been joined.
                unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
                thread::sleep(Duration::from_micros(100));
            }
            // It has said itself what went wrong.
            let _ = thread.join();
        }
        // That it has no helpers any more is no reason to keep others from the processor.
        let _ = prioritize(0);
    }
}

/// Makes SIGUSR1 end a system call and do nothing else.
fn interruptible() -> io::Result<()> {
    extern "C" fn nothing(_signal: i32) {}
    // SAFETY: All zeros is an action without flags: no call is restarted.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
    // SAFETY: The handler does nothing that it might not.
    match unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// There may be a thousand of them.
const STACK: usize = 64 << 10;
