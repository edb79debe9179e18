// SPDX-License-Identifier: GPL-2.0

//! Openings that come to nothing, and what they leave behind: nothing.

use ipcdemo_tests::fifo::ahead_of;
use ipcdemo_tests::pipe::{put, set_size, take};
use ipcdemo_tests::{Child, Errno, PAGE, Signal, fifos, killed, poll_now, until};
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::process::{self, Resource, Rlimit, setrlimit};

fifos! {
    /// 1193, 1310: a signal ends a reader's wait.
    fn a_signal_interrupts_a_reader(fifo: &Fifo) {
        let signal = Signal::interrupting();
        let reader = fifo.opening(OFlags::RDONLY);
        reader.interrupt(&signal);
        assert_eq!(reader.join().err(), Some(Errno::INTR));
        assert_eq!(signal.handled(), 1);
        let refused = fifo.open(OFlags::WRONLY | OFlags::NONBLOCK);
        assert_eq!(refused.err(), Some(Errno::NXIO), "the reader is gone");
    }

    /// 1193, 1316: and a writer's.
    fn a_signal_interrupts_a_writer(fifo: &Fifo) {
        let signal = Signal::interrupting();
        let writer = fifo.opening(OFlags::WRONLY);
        writer.interrupt(&signal);
        assert_eq!(writer.join().err(), Some(Errno::INTR));
        assert_eq!(signal.handled(), 1);
        // The writer is gone: this one waits.
        let reader = fifo.opening(OFlags::RDONLY);
        let _writer = fifo.writer();
        assert!(reader.join().is_ok());
    }

    /// 1313: with SA_RESTART a reader waits on after the handler.
    fn a_restarted_reader_waits_on(fifo: &Fifo) {
        let signal = Signal::restarting();
        let reader = fifo.opening(OFlags::RDONLY);
        reader.interrupt(&signal);
        until("the signal was handled", || signal.handled() == 1);
        reader.wait_until_asleep_again();
        let writer = fifo.writer();
        assert_eq!(put(&writer, b"x"), Ok(1));
        assert_eq!(take(reader.join().unwrap(), 1), Ok(b"x".into()));
    }

    /// 1319: so does a writer.
    fn a_restarted_writer_waits_on(fifo: &Fifo) {
        let signal = Signal::restarting();
        let writer = fifo.opening(OFlags::WRONLY);
        writer.interrupt(&signal);
        until("the signal was handled", || signal.handled() == 1);
        writer.wait_until_asleep_again();
        let reader = fifo.reader();
        assert_eq!(put(writer.join().unwrap(), b"x"), Ok(1));
        assert_eq!(take(&reader, 1), Ok(b"x".into()));
    }

    /// 1311: of two readers that wait, one goes. The other waits on, and is the only
    /// one that the writer finds.
    fn an_interrupted_reader_spares_the_other(fifo: &Fifo) {
        let signal = Signal::interrupting();
        let [first, second] = [(); 2].map(|()| fifo.opening(OFlags::RDONLY));
        first.interrupt(&signal);
        assert_eq!(first.join().err(), Some(Errno::INTR));
        assert!(second.sleeps_on());
        let writer = fifo.writer();
        drop(second.join().unwrap());
        assert_eq!(put(&writer, b"x"), Err(Errno::PIPE));
        let refused = fifo.open(OFlags::WRONLY | OFlags::NONBLOCK);
        assert_eq!(refused.err(), Some(Errno::NXIO));
    }

    /// 1317: of two writers that wait, one goes. The end comes with the other's.
    fn an_interrupted_writer_spares_the_other(fifo: &Fifo) {
        let signal = Signal::interrupting();
        let [first, second] = [(); 2].map(|()| fifo.opening(OFlags::WRONLY));
        first.interrupt(&signal);
        assert_eq!(first.join().err(), Some(Errno::INTR));
        assert!(second.sleeps_on());
        let reader = fifo.reader();
        let second = second.join().unwrap();
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        assert_eq!(poll_now(&reader, PollFlags::all()), PollFlags::empty());
        drop(second);
        assert_eq!(take(&reader, 1), Ok(vec![]));
        assert_eq!(poll_now(&reader, PollFlags::all()), PollFlags::HUP);
    }

    /// 1196: a reader whose partner came has it, though a signal came as well; and even
    /// if the partner has left again.
    fn a_writer_beats_a_signal(fifo: &Fifo) {
        let signal = Signal::interrupting();
        let reader = fifo.opening(OFlags::RDONLY);
        ahead_of(reader.tid(), || {
            reader.interrupt(&signal);
            drop(fifo.writer());
        });
        let reader = reader.join().unwrap();
        until("the signal was handled", || signal.handled() == 1);
        assert_eq!(take(&reader, 1), Ok(vec![]));
        let _writer = fifo.writer();
    }

    /// 1196: so has a writer.
    fn a_reader_beats_a_signal(fifo: &Fifo) {
        let signal = Signal::interrupting();
        let writer = fifo.opening(OFlags::WRONLY);
        let reader = ahead_of(writer.tid(), || {
            writer.interrupt(&signal);
            fifo.reader()
        });
        let writer = writer.join().unwrap();
        until("the signal was handled", || signal.handled() == 1);
        assert_eq!(put(&writer, b"x"), Ok(1));
        assert_eq!(take(&reader, 1), Ok(b"x".into()));
    }

    /// 1193, 1311: a process that is killed while it waits was no reader.
    fn a_killed_reader_leaves_nothing(fifo: &Fifo) {
        let child = Child::fork(|| u8::from(fifo.open(OFlags::RDONLY).is_err()));
        until("the child waits", || child.task().asleep_in(&[libc::SYS_openat]));
        child.kill(process::Signal::KILL);
        assert_eq!(child.wait(), -libc::SIGKILL);
        let refused = fifo.open(OFlags::WRONLY | OFlags::NONBLOCK);
        assert_eq!(refused.err(), Some(Errno::NXIO));
    }

    /// fs/open.c, do_sys_openat2: with no number free nobody waits, and was not there.
    fn nobody_waits_without_a_number(fifo: &Fifo) {
        let child = Child::fork(|| {
            let none = Rlimit { current: Some(0), maximum: Some(0) };
            setrlimit(Resource::Nofile, none).unwrap();
            u8::from(fifo.open(OFlags::RDONLY).err() != Some(Errno::MFILE))
        });
        assert_eq!(child.wait(), 0);
        let refused = fifo.open(OFlags::WRONLY | OFlags::NONBLOCK);
        assert_eq!(refused.err(), Some(Errno::NXIO));
    }

    /// 356, 463, 470 to 477: one that is killed between its wake-up and its turn leaves what it was
    /// woken for to the next.
    fn a_killed_reader_strands_nobody(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        killed::a_reader_is(&reader, &writer);
    }

    /// 533, 649, 655, 674: so does a writer.
    fn a_killed_writer_strands_nobody(fifo: &Fifo) {
        let (reader, writer) = fifo.blocking_ends();
        set_size(&writer, 2 * PAGE as u32).unwrap();
        killed::a_writer_is(&reader, &writer);
    }

    /// 1193, 1313: one that is stopped and continued waits on, with no handler and no
    /// EINTR.
    fn a_stopped_reader_waits_on(fifo: &Fifo) {
        let child = Child::fork(|| {
            let reader = fifo.open(OFlags::RDONLY).unwrap();
            u8::from(take(&reader, 1) != Ok(b"x".into()))
        });
        let waits = || child.task().asleep_in(&[libc::SYS_openat]);
        until("the child waits", waits);
        child.kill(process::Signal::STOP);
        until("the child is stopped", || child.task().stopped());
        let refused = fifo.open(OFlags::WRONLY | OFlags::NONBLOCK);
        assert_eq!(refused.err(), Some(Errno::NXIO), "it is off the FIFO meanwhile");
        child.kill(process::Signal::CONT);
        until("the child waits again", waits);
        assert_eq!(put(fifo.writer(), b"x"), Ok(1));
        assert_eq!(child.wait(), 0);
    }

    /// 1273: a writer that is refused was not there: it releases nobody, and its going
    /// is no end.
    fn a_refused_writer_leaves_nothing(fifo: &Fifo) {
        let waiting = fifo.opening(OFlags::WRONLY);
        let refused = fifo.open(OFlags::WRONLY | OFlags::NONBLOCK);
        assert_eq!(refused.err(), Some(Errno::NXIO));
        assert!(waiting.sleeps_on());
        let reader = fifo.reader();
        let writer = waiting.join().unwrap();
        assert_eq!(take(&reader, 1), Err(Errno::AGAIN));
        drop(writer);
        assert_eq!(take(&reader, 1), Ok(vec![]));
    }
}
