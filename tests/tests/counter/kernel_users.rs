// SPDX-License-Identifier: GPL-2.0

//! What in the kernel signals eventfds takes the kernel's own, and refuses ours.
//!
//! Such a user turns a descriptor into an eventfd by one of three functions, which compare
//! the file's operations with fs/eventfd.c's, and say EINVAL of others. Who calls them,
//! in Linux 7.3.4 on x86-64:
//!
//! - eventfd_ctx_fdget (348): io_uring (io_uring/eventfd.c:139), aio (fs/aio.c:2054); KVM's
//!   ioeventfd, an irqfd's end and its resampling (virt/kvm/eventfd.c:870, 934, 595, 414),
//!   Xen's and Hyper-V's events (arch/x86/kvm/xen.c:2176, hyperv.c:2744); vhost's call, error
//!   and log (drivers/vhost/vhost.c:2274, 2287, 2491; vdpa.c:559); VFIO's interrupts
//!   (drivers/vfio/pci/vfio_pci_intrs.c:491, 652, 787); DRM's sync objects
//!   (drivers/gpu/drm/drm_syncobj.c:1484); and a dozen drivers.
//! - eventfd_ctx_fileget (366), which that one calls: KVM's irqfd
//!   (virt/kvm/eventfd.c:403), VFIO's virqfd (drivers/vfio/virqfd.c:141), memory cgroups
//!   of version 1 (mm/memcontrol-v1.c:1141), and the irqfds of Xen, ACRN and Hyper-V.
//! - eventfd_fget (323), with the same comparison (330): vhost's kick
//!   (drivers/vhost/vhost.c:2258), and nobody else.
//!
//! io_uring and aio are the users that the guests have, so they stand for the rest. KVM,
//! vhost, VFIO and DRM are modules of Debian's kernel, which the guests do not carry; it
//! has no memory cgroups of version 1, and the small and the debug kernel have none of
//! these. So nothing here calls eventfd_fget.
//!
//! Each case has two halves: the same calls with the kernel's counter, which shows that
//! they are the right ones, and with ours.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use ipcdemo_client::{CounterFlags, Factory, Object};
use ipcdemo_tests::aio::Aio;
use ipcdemo_tests::epoll::{Epoll, EventFlags};
use ipcdemo_tests::{Errno, Fd, MAX, Ring, Sleeper, Subject, count, poll_now, read, until, write};
use rustix::event::PollFlags;
use rustix::pipe::pipe;

use crate::{differential, differing};

const POLLIN: u16 = libc::POLLIN as u16;

differing! {
    /// 348, 366, 73 to 76: a ring signals an eventfd for each of its completions.
    fn a_ring_signals {
        native() {
            let counter = Subject::Native.counter(0);
            let mut ring = Ring::new();
            assert_eq!(ring.register_eventfd(counter.as_raw_fd(), false), Ok(()));
            for completions in 1..=3 {
                complete(&mut ring, false);
                assert_eq!(count(&counter), completions);
            }
            assert_eq!(ring.unregister_eventfd(), Ok(()));
            complete(&mut ring, false);
            assert_eq!(read(&counter), Ok(3));
        }
        ours(s: Subject) {
            refused_by_a_ring(s, false);
        }
    }

    /// The same: or only for those that come from its worker threads.
    fn a_ring_signals_for_its_workers {
        native() {
            let counter = Subject::Native.counter(0);
            let mut ring = Ring::new();
            assert_eq!(ring.register_eventfd(counter.as_raw_fd(), true), Ok(()));
            complete(&mut ring, false);
            assert_eq!(count(&counter), 0);
            complete(&mut ring, true);
            // The worker signals after it has completed.
            until("the worker signals", || count(&counter) == 1);
        }
        ours(s: Subject) {
            refused_by_a_ring(s, true);
        }
    }

    /// 75, 76: and that wakes who reads it.
    fn a_ring_wakes_a_reader {
        native() {
            let counter = Subject::Native.counter(0);
            let reader = Sleeper::reading(&counter);
            let mut ring = Ring::new();
            assert_eq!(ring.register_eventfd(counter.as_raw_fd(), false), Ok(()));
            complete(&mut ring, false);
            assert_eq!(reader.join(), Ok(1));
        }
        ours(s: Subject) {
            let counter = s.counter(0);
            let reader = Sleeper::reading(&counter);
            let mut ring = Ring::new();
            let registered = ring.register_eventfd(counter.as_raw_fd(), false);
            assert_eq!(registered, Err(Errno::INVAL));
            complete(&mut ring, false);
            assert!(reader.sleeps_on());
            assert_eq!(write(&counter, 5), Ok(()));
            assert_eq!(reader.join(), Ok(5));
        }
    }

    /// 73, 168, 169: only such a user can bring the count to ULLONG_MAX, where it stays until
    /// it is read, and which is an error to poll and epoll.
    fn a_ring_overflows {
        native() {
            let counter = Subject::Native.full(CounterFlags::NONBLOCK);
            let set = Epoll::of(&counter, EventFlags::IN | EventFlags::OUT);
            let mut ring = Ring::new();
            assert_eq!(ring.register_eventfd(counter.as_raw_fd(), false), Ok(()));
            assert_eq!(set.now(), EventFlags::IN);
            for _ in 0..2 {
                complete(&mut ring, false);
                assert_eq!(count(&counter), u64::MAX);
                assert_eq!(ready(&counter), PollFlags::IN | PollFlags::ERR);
                assert_eq!(set.now(), EventFlags::IN | EventFlags::ERR);
            }
            assert_eq!(write(&counter, 0), Err(Errno::AGAIN));
            assert_eq!(read(&counter), Ok(u64::MAX));
            assert_eq!(ready(&counter), PollFlags::OUT);
        }
        ours(s: Subject) {
            let counter = s.full(CounterFlags::NONBLOCK);
            let set = Epoll::of(&counter, EventFlags::IN | EventFlags::OUT);
            let mut ring = Ring::new();
            let registered = ring.register_eventfd(counter.as_raw_fd(), false);
            assert_eq!(registered, Err(Errno::INVAL));
            complete(&mut ring, false);
            assert_eq!(count(&counter), MAX);
            assert_eq!(ready(&counter), PollFlags::IN);
            assert_eq!(set.now(), EventFlags::IN);
            assert_eq!(write(&counter, 0), Ok(()));
            assert_eq!(write(&counter, 1), Err(Errno::AGAIN));
            assert_eq!(read(&counter), Ok(MAX));
            assert_eq!(ready(&counter), PollFlags::OUT);
        }
    }

    /// 348, 366, 73 to 76: io_submit(2) signals an eventfd when an operation is done.
    fn aio_signals {
        native() {
            let (counter, source) = (Subject::Native.counter(0), Subject::Native.counter(3));
            let aio = Aio::new();
            let got = aio.read_and_signal(&source, counter.as_raw_fd());
            assert_eq!(got, Ok(3));
            assert_eq!(read(&counter), Ok(1));
        }
        ours(s: Subject) {
            let (ours, source) = (Ours::new(s), Ours::new(s));
            let aio = Aio::new();
            let refused = aio.read_and_signal(&source.counter, ours.fd());
            assert_eq!(refused, Err(Errno::INVAL));
            // The operation has not begun, so nothing was read.
            assert!(!aio.has_completed());
            source.is_untouched();
            ours.is_untouched();
            // To be read from is another matter.
            let counter = Subject::Native.counter(0);
            let got = aio.read_and_signal(&source.counter, counter.as_raw_fd());
            assert_eq!(got, Ok(source.value));
            assert_eq!(read(&counter), Ok(1));
            ours.ends();
        }
    }

    /// The same, when what it waited for has come.
    fn aio_signals_after_a_poll {
        native() {
            let (counter, source) = (Subject::Native.counter(0), Subject::Native.counter(0));
            let aio = Aio::new();
            let begun = aio.poll_and_signal(&source, POLLIN, counter.as_raw_fd());
            assert_eq!(begun, Ok(()));
            assert_eq!(count(&counter), 0);
            assert_eq!(write(&source, 1), Ok(()));
            until("the operation signals", || count(&counter) == 1);
            assert_eq!(aio.completion(), Ok(POLLIN.into()));
        }
        ours(s: Subject) {
            let (ours, source) = (Ours::new(s), Ours::new(s));
            let aio = Aio::new();
            let refused = aio.poll_and_signal(&source.counter, POLLIN, ours.fd());
            assert_eq!(refused, Err(Errno::INVAL));
            assert!(!aio.has_completed());
            // Nor has it left an entry on the queue.
            source.is_untouched();
            ours.is_untouched();
            let counter = Subject::Native.counter(0);
            let begun = aio.poll_and_signal(&source.counter, POLLIN, counter.as_raw_fd());
            assert_eq!(begun, Ok(()));
            until("the operation signals", || count(&counter) == 1);
            assert_eq!(aio.completion(), Ok(POLLIN.into()));
            ours.ends();
        }
    }
}

differential! {
    /// 352, 371: what they say of other files, and so of ours, and of no file.
    fn others_are_refused(s: Subject) {
        let (out, into) = pipe().unwrap();
        let source = s.counter(3);
        let (ring, aio) = (Ring::new(), Aio::new());
        for (fd, error) in [
            (-1, Errno::BADF),
            (out.as_raw_fd(), Errno::INVAL),
            (into.as_raw_fd(), Errno::INVAL),
        ] {
            assert_eq!(ring.register_eventfd(fd, false), Err(error));
            assert_eq!(ring.register_eventfd(fd, true), Err(error));
            assert_eq!(aio.read_and_signal(&source, fd), Err(error));
            assert_eq!(aio.poll_and_signal(&source, POLLIN, fd), Err(error));
        }
        assert!(!aio.has_completed());
        assert_eq!(read(&source), Ok(3));
    }
}

/// Registers ours with a ring, in vain.
fn refused_by_a_ring(s: Subject, workers_only: bool) {
    let ours = Ours::new(s);
    let mut ring = Ring::new();
    let registered = ring.register_eventfd(ours.fd(), workers_only);
    assert_eq!(registered, Err(Errno::INVAL));
    // So nothing is there to be signalled, or to be unregistered.
    complete(&mut ring, workers_only);
    ours.is_untouched();
    assert_eq!(ring.unregister_eventfd(), Err(Errno::NXIO));
    // And the ring is free for an eventfd of the kernel's.
    let counter = Subject::Native.counter(0);
    let registered = ring.register_eventfd(counter.as_raw_fd(), workers_only);
    assert_eq!(registered, Ok(()));
    complete(&mut ring, workers_only);
    until("the ring signals", || count(&counter) == 1);
    ours.ends();
}

/// Lets an operation of a ring begin and end.
fn complete(ring: &mut Ring, in_worker: bool) {
    ring.nop(in_worker);
    assert_eq!(ring.completion(), Ok(0));
}

/// What poll(2) says.
fn ready(counter: &Fd) -> PollFlags {
    poll_now(counter, PollFlags::IN | PollFlags::OUT)
}

/// A counter of ours that is to be refused.
struct Ours {
    counter: Fd,
    // By which the factory's list tells it from other tests' counters.
    value: u64,
}

impl Ours {
    fn new(subject: Subject) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0x5eed_0000);
        let value = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            counter: subject.counter(value),
            value: value.into(),
        }
    }

    fn fd(&self) -> RawFd {
        self.counter.as_raw_fd()
    }

    /// Checks that its count is what it was, and that nobody waits for it.
    fn is_untouched(&self) {
        let waiters: Vec<_> = listed(self.value).map(|object| object.waiters).collect();
        assert_eq!(waiters, [0]);
    }

    /// Takes its count and closes it, and checks that nobody else holds it.
    fn ends(self) {
        assert_eq!(read(&self.counter), Ok(self.value));
        assert_eq!(write(&self.counter, self.value), Ok(()));
        drop(self.counter);
        // A child of another test's may have it, until that ends.
        until("nobody holds the counter", || {
            listed(self.value).next().is_none()
        });
    }
}

/// The objects with this count.
fn listed(value: u64) -> impl Iterator<Item = Object> {
    let list = Factory::open().unwrap().list().unwrap();
    list.into_iter().filter(move |object| object.value == value)
}
