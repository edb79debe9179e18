// SPDX-License-Identifier: GPL-2.0

//! How late a sleep may end is up to its task, if something else than time can end it.

use std::thread;
use std::time::{Duration, Instant};

use ipcdemo_client::{Reason, WaitOptions, WakeOptions};
use ipcdemo_tests::{Waiting, pin, serial, waitq};

serial! {
    /// A task may say by prctl(2) that its timers need not be on time, and then they go
    /// off with others. An uninterruptible sleep nothing else would end.
    fn an_uninterruptible_sleep_ends_in_time() {
        // Timers are looked at in the order of when they have to go off at last: this
        // one stands before that of the sleeper who has no hurry, on the same CPU.
        let queue = waitq();
        pin(None, 1);
        let other = Waiting::new(&queue, WaitOptions::new().timeout(Duration::from_secs(8)));
        let its_queue = queue.clone();
        let sleeper = thread::spawn(move || {
            pin(None, 1);
            // SAFETY: It takes no pointer.
            let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, libc::c_long::MAX) };
            assert_eq!(result, 0);
            let start = Instant::now();
            let options = WaitOptions::new().uninterruptible();
            let told = its_queue.wait(&options.timeout(Duration::from_millis(10))).unwrap();
            (told.reason, start.elapsed())
        });
        let (reason, time) = sleeper.join().unwrap();
        assert_eq!(reason, Reason::TimedOut);
        assert!(time < Duration::from_secs(4), "it took {time:?}");
        queue.wake(&WakeOptions::new()).unwrap();
        assert_eq!(other.join().reason, Reason::Woken);
    }
}
