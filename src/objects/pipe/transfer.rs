// SPDX-License-Identifier: GPL-2.0

//! How bytes go into a pipe and come out: sleeping, waking, reading, and writing.
//!
//! A read or a write first tries to do without sleeping, on a path that is inlined into the call of the VFS.
//! Only a task that finds the ring empty, or full, goes on out of line.
//!
//! Original: `anon_pipe_read` and `anon_pipe_write` in `fs/pipe.c`, `splice_pipe_to_pipe` in `fs/splice.c`.

use super::Pipe;
use crate::{
    abstractions::{
        memory::page_ring::{Published, Reader, Refused, Writer},
        task::signal::{send_sigpipe, signal_pending},
        vfs::{
            fasync::Band,
            file::{is_nonblocking, IoRequest},
            splice::SplicePipe,
            stream::{Destination, Filled, Source},
        },
        wait_queue::{PollEvent, Wait, WaitQueue, Waited, Wake}, //
    },
    algorithms::ring::State,
};
use kernel::{
    fs::{file::flags, LocalFile},
    prelude::*,
    sync::atomic::Relaxed,
};

/// The waker's next step.
#[derive(Clone, Copy)]
enum Waker {
    /// It goes on.
    GoesOn,
    /// It is done, and likely to sleep soon, for want of room or of something to write.
    IsDone,
}

impl Waker {
    fn wake_one(self) -> Wake {
        match self {
            Self::GoesOn => Wake::one(),
            Self::IsDone => Wake::one().sync(),
        }
    }
}

/// Waking and sleeping.
impl Pipe {
    /// Wakes one task that waits for something to read, and calls all pollers.
    #[inline(never)]
    fn wake_reader(&self, waker: Waker) {
        let event = PollEvent::In | PollEvent::RdNorm;
        self.wake(&self.rd_wait, &waker.wake_one().key(event));
    }

    /// Wakes one task that waits for room, and calls all pollers.
    #[inline(never)]
    fn wake_writer(&self, waker: Waker) {
        let event = PollEvent::Out | PollEvent::WrNorm;
        self.wake(&self.wr_wait, &waker.wake_one().key(event));
    }

    #[inline]
    fn wake<T>(&self, queue: &WaitQueue<T>, wake: &Wake) {
        match &self.tally {
            None => queue.wake(wake),
            Some(tally) => tally.wake(queue, wake),
        }
    }

    /// Whether a read would not sleep.
    #[inline]
    fn is_readable(&self) -> bool {
        !self.ring.state().is_empty() || !self.has_writers()
    }

    /// Whether a write would not sleep.
    #[inline]
    pub(super) fn is_writable(&self) -> bool {
        self.ring.has_room() || !self.has_readers()
    }

    fn wait(exclusive: bool) -> Wait<'static> {
        let wait = Wait::interruptible();
        if exclusive {
            wait.exclusive()
        } else {
            wait
        }
    }

    /// Sleeps until a read would not.
    ///
    /// A wake-up counts an exclusive waiter, which must wake the next one when it is done.
    ///
    /// The look at the ring comes after going on the queue, with a full barrier between; a writer publishes,
    /// which is a full barrier, and then looks at the queue.
    #[inline(never)]
    fn wait_readable(&self, exclusive: bool) -> Result {
        let readable = || self.is_readable().then_some(());
        match self.rd_wait.wait_until(&Self::wait(exclusive), readable) {
            Waited::Done(..) => Ok(()),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }

    /// Sleeps until a write would not. As [`Pipe::wait_readable`].
    #[inline(never)]
    pub(super) fn wait_writable(&self, exclusive: bool) -> Result {
        let writable = || self.is_writable().then_some(());
        match self.wr_wait.wait_until(&Self::wait(exclusive), writable) {
            Waited::Done(..) => Ok(()),
            Waited::Signal(_) | Waited::TimedOut(_) => Err(ERESTARTSYS),
        }
    }
}

/// Reading.
impl Pipe {
    /// Takes the bytes that are there, as many as `to` has room for. Fails with the error that ended it, if one did:
    /// `taken` counts the bytes before it.
    #[inline(always)]
    fn take(
        &self,
        reader: &mut Reader<'_>,
        to: &mut (impl Destination + ?Sized),
        taken: &mut usize,
    ) -> Result {
        loop {
            reader.take_whole(to, taken, |reader| self.hand_back(reader))?;
            if to.is_empty() {
                break;
            }
            let Some(front) = reader.front() else { break };
            let wanted = front.len().min(to.len());
            if front.copy(wanted, to) < wanted {
                return Err(EFAULT);
            }
            *taken += wanted;
            if front.is_sealed() {
                // A packet is read once, and what did not fit is lost.
                let all = front.len();
                front.consume(all);
                break;
            }
            front.consume(wanted);
            if to.is_empty() {
                break;
            }
            self.hand_back(reader);
        }
        Ok(())
    }

    /// Lets writers have the room that there is so far.
    #[inline(never)]
    fn hand_back(&self, reader: &mut Reader<'_>) {
        if let Some(before) = reader.hand_back(|| self.wr_wait.is_active()) {
            if before.is_full(self.ring.max_usage()) && self.wr_wait.is_active() {
                self.wake_writer(Waker::GoesOn);
            }
        }
    }

    /// Inlined, as is [`Pipe::write_bytes`]: a call, and its result in memory, are a tenth of what a small one
    /// costs.
    ///
    /// C: `anon_pipe_read`.
    #[inline(always)]
    pub(super) fn read_bytes(
        &self,
        request: &IoRequest<'_>,
        to: &mut impl Destination,
    ) -> Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        let mut taken = 0;
        let mut slept = false;
        let (result, before) = loop {
            // Before the ring is looked at: see `has_writers`.
            let may_come = self.has_writers();
            let read = self
                .ring
                .read_filled(|reader| self.take(reader, to, &mut taken));
            match read {
                Ok(Some(read)) if taken > 0 || read.0.is_err() => break read,
                Ok(_) if !may_come => break (Ok(()), None),
                Ok(_) => match self.wait_for_more(*request) {
                    Ok(waited) => slept |= waited,
                    Err(error) if error == EAGAIN => break (Err(error), None),
                    // Nothing was read, so that a signal may end it without a word.
                    Err(error) => return Err(error),
                },
                // Killed while another reader was at work. If this reader has slept, it took a writer's one
                // wake-up for what may still be there: `after_read` wakes the next reader in its place.
                Err(killed) => break (Err(killed), None),
            }
        };
        self.after_read(before, slept);
        match taken {
            0 => result.map(|()| 0),
            _ => Ok(taken),
        }
    }

    /// Waits until there is something to read, or nothing to come, if the request may wait. Returns whether it slept.
    ///
    /// Errors: `EAGAIN` if it may not, and something may come; `ERESTARTSYS` if a signal came.
    #[inline(never)]
    fn wait_for_more(&self, request: IoRequest<'_>) -> Result<bool> {
        if !request.is_nonblocking() {
            self.wait_readable(true)?;
            return Ok(true);
        }
        if self.has_writers() {
            return Err(EAGAIN);
        }
        Ok(false)
    }

    /// Wakes and notifies others after a read. `before` is the state in which the read made room, if it did.
    #[inline(always)]
    fn after_read(&self, before: Option<State>, slept: bool) {
        let wake_writer = before.is_some_and(|state| state.is_full(self.ring.max_usage()));
        let wake_next_reader = slept && !self.ring.state().is_empty();

        if wake_writer && self.wr_wait.is_active() {
            self.wake_writer(Waker::IsDone);
        }
        if wake_next_reader && self.rd_wait.is_active() {
            self.wake_reader(Waker::IsDone);
        }
        self.fasync_writers.notify(Band::Out);
    }
}

/// Whether what is written to the file is to be read packet by packet: `O_DIRECT`, as pipe2(2) has it.
fn is_packetized(file: &LocalFile) -> bool {
    file.flags() & flags::O_DIRECT != 0
}

/// How a turn of a write ended.
enum Ended {
    /// All of it is in.
    Complete,
    /// There is no room for the rest.
    Full,
    /// This came between.
    Failed(Error),
}

impl Pipe {
    /// Adds as many bytes as there is room for: to the last buffer first, at the beginning of a write, and then in new
    /// ones.
    #[inline(always)]
    fn add_to(
        &self,
        writer: &mut Writer<'_>,
        request: IoRequest<'_>,
        from: &mut (impl Source + ?Sized),
        first: bool,
        added: &mut usize,
    ) -> Ended {
        let packet = is_packetized(request.file());
        if first {
            match writer.merge(from, packet) {
                Ok(len) => *added += len,
                Err(error) => return Ended::Failed(error),
            }
        }
        while let Some(rest) = Filled::new(from) {
            if let Some(published) = writer.hand_over() {
                if published.was_empty() && self.rd_wait.is_active() {
                    self.wake_reader(Waker::GoesOn);
                }
            }
            match writer.push(rest, packet) {
                Ok(len) => *added += len,
                Err(Refused::Full) => return Ended::Full,
                Err(Refused::NoMemory) => return Ended::Failed(ENOMEM),
                Err(Refused::Fault) => return Ended::Failed(EFAULT),
            }
        }
        Ended::Complete
    }

    /// Ends a write that has no reader.
    #[cold]
    fn broken(request: IoRequest<'_>) -> Ended {
        if !request.no_signal() {
            send_sigpipe();
        }
        Ended::Failed(EPIPE)
    }

    /// Adds as many bytes as there is room for now, at the beginning of a write or later. Returns how that ended, and
    /// the state in which the bytes were published.
    #[inline(always)]
    fn write_once(
        &self,
        request: IoRequest<'_>,
        from: &mut (impl Source + ?Sized),
        first: bool,
        added: &mut usize,
    ) -> (Ended, Option<Published>) {
        let wrote = self.ring.write(|writer| {
            if self.has_readers() {
                self.add_to(writer, request, from, first, added)
            } else {
                Self::broken(request)
            }
        });
        wrote.unwrap_or_else(|killed| (Ended::Failed(killed), None))
    }

    /// Inlined up to where it waits, as is [`Pipe::read_bytes`].
    ///
    /// C: `anon_pipe_write`.
    #[inline(always)]
    pub(super) fn write_bytes(
        &self,
        request: &IoRequest<'_>,
        from: &mut impl Source,
    ) -> Result<usize> {
        if from.is_empty() {
            return Ok(0);
        }
        let mut added = 0;
        let (mut ended, mut published) = self.write_once(*request, from, true, &mut added);
        let mut slept = false;
        if matches!(ended, Ended::Full) {
            (ended, published, added, slept) = self.write_rest(*request, from, published, added);
        }
        self.after_write(published.is_some_and(Published::was_empty), slept);
        match ended {
            Ended::Failed(error) if added == 0 => Err(error),
            _ => Ok(added),
        }
    }

    /// Goes on where there was no room, once there is some. `published` comes from the last turn.
    ///
    /// Apart, and for a source of any kind, so that the compiler sees in a write no more than one turn.
    #[cold]
    #[inline(never)]
    fn write_rest(
        &self,
        request: IoRequest<'_>,
        from: &mut dyn Source,
        mut published: Option<Published>,
        mut added: usize,
    ) -> (Ended, Option<Published>, usize, bool) {
        let mut slept = false;
        loop {
            // Readers that took bytes before the ring looked full woke nobody. A poller that waits for that edge would
            // then sleep forever.
            let filled = published.is_none_or(|it| it.filled(self.ring.max_usage()));
            if filled && request.is_nonblocking() {
                return (Ended::Failed(EAGAIN), published, added, slept);
            }
            if filled && signal_pending() {
                return (Ended::Failed(ERESTARTSYS), published, added, slept);
            }
            if published.is_some_and(Published::was_empty) && self.rd_wait.is_active() {
                self.wake_reader(Waker::IsDone);
            }
            if filled {
                self.fasync_readers.notify(Band::In);
                // A signal is looked for once there is no room again.
                let _ = self.wait_writable(true);
                slept = true;
            }
            let ended;
            (ended, published) = self.write_once(request, from, false, &mut added);
            if !matches!(ended, Ended::Full) {
                return (ended, published, added, slept);
            }
        }
    }

    /// Wakes and notifies others after a write.
    #[inline(always)]
    fn after_write(&self, was_empty: bool, slept: bool) {
        let wake_reader = was_empty || self.edge_polled.load(Relaxed) != 0;
        let wake_next_writer = slept && self.ring.has_room();

        if wake_reader && self.rd_wait.is_active() {
            self.wake_reader(Waker::IsDone);
        }
        self.fasync_readers.notify(Band::In);
        if wake_next_writer && self.wr_wait.is_active() {
            self.wake_writer(Waker::IsDone);
        }
    }
}

/// Giving pages away.
impl Pipe {
    /// Gives the pages that are there to a pipe of the kernel's, up to `len` bytes. Fails with the error that ended it,
    /// if one did: `moved` counts the bytes before it.
    fn give(
        reader: &mut Reader<'_>,
        pipe: &mut SplicePipe<'_>,
        len: usize,
        moved: &mut usize,
    ) -> Result {
        while *moved < len {
            let Some(front) = reader.front() else { break };
            let wanted = front.len().min(len - *moved);
            pipe.push(front.share(wanted), front.is_sealed())?;
            front.consume(wanted);
            *moved += wanted;
        }
        Ok(())
    }

    /// Gives the pages that are there to a pipe of the kernel's, without copying.
    ///
    /// Called with that pipe's lock held, which is let go of before anything sleeps. Hold none of our locks while it is
    /// retaken: a task that splices the other way may hold ours and want it.
    ///
    /// C: `splice_pipe_to_pipe` in `fs/splice.c`.
    pub(super) fn splice_to(
        &self,
        file: &LocalFile,
        pipe: &mut SplicePipe<'_>,
        len: usize,
        nonblock: bool,
    ) -> Result<usize> {
        loop {
            let may_come = self.has_writers();
            let mut moved = 0;
            let give = |reader: &mut Reader<'_>| Self::give(reader, pipe, len, &mut moved);
            let Some((result, before)) = self.ring.try_read(give) else {
                // Another reader is at it.
                pipe.unlocked(|| self.ring.read(|_| ()))?;
                continue;
            };
            if before.is_some() {
                // There is more room. Full before or not, as splice does with the kernel's pipes.
                if self.wr_wait.is_active() {
                    self.wake(&self.wr_wait, &Wake::one());
                }
                self.fasync_writers.notify(Band::Out);
            }
            let nonblock = nonblock || is_nonblocking(file);
            match result {
                _ if moved > 0 => {
                    if let Some(tally) = &self.tally {
                        tally.add_read(moved);
                    }
                    return Ok(moved);
                }
                // The kernel's pipe was filled while it was not locked.
                Err(error) if error == EAGAIN && !nonblock => {
                    pipe.wait_for_room()?;
                    continue;
                }
                Err(error) => return Err(error),
                Ok(()) if !may_come => return Ok(0),
                Ok(()) if nonblock => return Err(EAGAIN),
                Ok(()) => {}
            }
            pipe.unlocked(|| self.wait_readable(false))?;
        }
    }
}
