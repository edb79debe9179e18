// SPDX-License-Identifier: GPL-2.0

//! poll(2) and select(2).

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use ipcdemo_client::CounterFlags;
use ipcdemo_tests::{Errno, Fd, MAX, Signal, Sleeper, poll_now, read, write};
use rustix::event::{PollFd, PollFlags, poll};

use crate::differential;

differential! {
    /// 170: an empty counter can be written to, and that is all.
    fn an_empty_counter_is_writable(s: Subject) {
        assert_eq!(poll_now(s.counter(0), PollFlags::all()), PollFlags::OUT);
    }

    /// 166: one with something in it can be read from as well.
    fn a_counter_is_both(s: Subject) {
        let both = PollFlags::IN | PollFlags::OUT;
        assert_eq!(poll_now(s.counter(1), PollFlags::all()), both);
    }

    /// 170: a full one can only be read from; one less is room enough.
    fn a_full_counter_is_readable(s: Subject) {
        let counter = s.counter(0);
        assert_eq!(write(&counter, MAX - 1), Ok(()));
        let both = PollFlags::IN | PollFlags::OUT;
        assert_eq!(poll_now(&counter, PollFlags::all()), both);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(poll_now(&counter, PollFlags::all()), PollFlags::IN);
    }

    /// 167, 171: POLLRDNORM and POLLWRNORM are not said: who asks for nothing else
    /// hears nothing.
    fn normal_data_is_not_reported(s: Subject) {
        let asked = PollFlags::RDNORM | PollFlags::WRNORM | PollFlags::RDBAND;
        assert_eq!(poll_now(s.counter(1), asked), PollFlags::empty());
    }

    /// Only what was asked for is told.
    fn only_what_was_asked_is_told(s: Subject) {
        let counter = s.counter(1);
        assert_eq!(poll_now(&counter, PollFlags::IN), PollFlags::IN);
        assert_eq!(poll_now(&counter, PollFlags::OUT), PollFlags::OUT);
        assert_eq!(poll_now(&counter, PollFlags::PRI), PollFlags::empty());
    }

    /// 124, 274: a poller for POLLIN is woken by a write.
    fn a_write_wakes_a_poller(s: Subject) {
        let counter = s.counter(0);
        let poller = polling(&counter, PollFlags::IN);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(poller.join(), Ok(PollFlags::IN));
        assert_eq!(read(&counter), Ok(1), "polling takes nothing");
    }

    /// 124, 238: a poller for POLLOUT is woken by a read.
    fn a_read_wakes_a_poller(s: Subject) {
        let counter = s.full(CounterFlags::empty());
        let poller = polling(&counter, PollFlags::OUT);
        assert_eq!(read(&counter), Ok(MAX));
        assert_eq!(poller.join(), Ok(PollFlags::OUT));
    }

    /// 274: a write wakes all pollers, and a reader among them.
    fn a_write_wakes_all_pollers(s: Subject) {
        let counter = s.counter(0);
        let first = polling(&counter, PollFlags::IN);
        let reader = Sleeper::reading(&counter);
        let second = polling(&counter, PollFlags::IN);
        assert_eq!(write(&counter, 1), Ok(()));
        assert_eq!(reader.join(), Ok(1));
        // Either poller may have come too late to see it.
        for poller in [first, second] {
            if !poller.has_returned() {
                assert_eq!(write(&counter, 1), Ok(()));
            }
            assert_eq!(poller.join(), Ok(PollFlags::IN));
        }
    }

    /// 274: the wake-up's key says POLLIN and no more: it does not even wake a
    /// poller that waits for something else.
    fn the_key_spares_other_pollers(s: Subject) {
        let counter = s.counter(0);
        let signal = Signal::interrupting();
        let poller = polling(&counter, PollFlags::RDNORM);
        assert_eq!(write(&counter, 1), Ok(()));
        assert!(poller.sleeps_on());
        poller.interrupt(&signal);
        assert_eq!(poller.join(), Err(Errno::INTR));
    }

    /// 238: a read that empties one counter wakes a poller of two, which then says
    /// of both what is true at that moment.
    fn two_counters_in_one_call(s: Subject) {
        let (empty, full) = (s.counter(0), s.full(CounterFlags::empty()));
        let poller = {
            let (empty, full) = (Fd::clone(&empty), Fd::clone(&full));
            Sleeper::new(&[libc::SYS_ppoll], move || {
                let mut fds = [
                    PollFd::new(&empty, PollFlags::IN),
                    PollFd::new(&full, PollFlags::OUT),
                ];
                let ready = poll(&mut fds, None);
                (ready, fds[0].revents(), fds[1].revents())
            })
        };
        assert_eq!(read(&full), Ok(MAX));
        assert_eq!(poller.join(), (Ok(1), PollFlags::empty(), PollFlags::OUT));
    }

    /// 166 to 171, by way of select(2): its sets are made of the same bits.
    fn select_agrees(s: Subject) {
        assert_eq!(select(s.counter(0)), (false, true, false));
        assert_eq!(select(s.counter(1)), (true, true, false));
        assert_eq!(select(s.full(CounterFlags::empty())), (true, false, false));
    }
}

/// A thread that sleeps in poll(2).
fn polling(counter: &Fd, events: PollFlags) -> Sleeper<Result<PollFlags, Errno>> {
    let counter = Fd::clone(counter);
    Sleeper::new(&[libc::SYS_ppoll], move || {
        let mut fds = [PollFd::new(&counter, events)];
        poll(&mut fds, None)?;
        Ok(fds[0].revents())
    })
}

/// What select(2) says of reading, writing and exceptions at this moment.
fn select(fd: impl AsFd) -> (bool, bool, bool) {
    let fd = fd.as_fd().as_raw_fd();
    assert!((fd as usize) < libc::FD_SETSIZE);
    // SAFETY: All-zero sets are empty ones, `fd` is within them, and select writes
    // nothing else.
    unsafe {
        let mut sets: [libc::fd_set; 3] = MaybeUninit::zeroed().assume_init();
        for set in &mut sets {
            libc::FD_SET(fd, set);
        }
        let [readable, writable, exceptional] = &mut sets;
        let mut none = libc::timeval {
            tv_sec: 0,
            tv_usec: 0,
        };
        let result = libc::select(fd + 1, readable, writable, exceptional, &mut none);
        assert!(result >= 0);
        let [readable, writable, exceptional] = sets.map(|set| libc::FD_ISSET(fd, &set));
        (readable, writable, exceptional)
    }
}
