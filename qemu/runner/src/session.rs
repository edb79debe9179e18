// SPDX-License-Identifier: GPL-2.0

//! A running guest: everything that comes out of it, in one queue, and the requests that go in.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nix::sys::signal::Signal;

use crate::log::{Log, Seen};
use crate::protocol::{
    CHUNK, Channel, Command, Entry, EntryKind, Exit, Reply, Request, parse, read_frame,
    write_frame, write_message,
};
use crate::qemu::Qemu;
use crate::signs::Severity;
use crate::terminal;
use crate::tree;

/// How long a guest that says it is dead, or stuck, may go on explaining itself.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How many events wait at most to be dealt with.
const QUEUE: usize = 64;

/// Something that happened.
pub enum Event {
    /// A line of the kernel's log.
    Log(String),
    /// The log's end, and QEMU's.
    LogEnd,
    /// A frame from the agent.
    Frame(Channel, Vec<u8>),
    /// The agent sent what is no frame.
    Garbled(io::Error),
    /// A piece of our standard input; the empty piece is its end.
    Stdin(Vec<u8>),
    /// A line of our standard input, empty at its end.
    StdinLine(io::Result<String>),
    /// We got a signal.
    Signal(Signal),
    /// The log has come to this mark.
    Mark(String),
}

/// What the guest is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From power-on to the agent.
    Booting,
    /// From the saved state to the agent's first answer.
    Resuming,
    /// What is done before and after the command.
    Doing(String),
    /// The command.
    Running(String),
}

/// Why a run ended early.
#[derive(Debug)]
pub enum Failure {
    /// The time limit.
    Timeout {
        /// The limit.
        limit: Duration,
        /// What the guest was at.
        phase: String,
    },
    /// The guest is gone, or as good as gone.
    Died(String),
    /// What was asked of the agent failed, in a way that condemns the guest.
    Verdict(String),
    /// This signal came for us.
    Interrupted(Signal),
    /// The fault is not the guest's.
    Setup(anyhow::Error),
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Failure::Timeout { limit, phase } => {
                write!(f, "timed out after {} s {phase}", limit.as_secs_f64())
            }
            Failure::Died(why) | Failure::Verdict(why) => f.write_str(why),
            Failure::Interrupted(signal) => write!(f, "interrupted by {signal}"),
            Failure::Setup(error) => write!(f, "{error:#}"),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Setup(error.into())
    }
}

/// The guests of a run, one at a time, and the log that they write.
pub struct Session {
    /// The kernel's log.
    pub log: Log,
    guest: Option<Guest>,
    phase: Phase,
    limit: Duration,
    deadline: Option<Instant>,
    /// Set once the log says that the guest is dead or stuck.
    dying: Option<String>,
    stdin_permits: Option<SyncSender<()>>,
}

struct Guest {
    qemu: Qemu,
    events: Receiver<Event>,
    sender: SyncSender<Event>,
}

impl Session {
    /// Without a guest yet.
    pub fn new(log: Log) -> Session {
        let limit = Duration::ZERO;
        Session {
            log,
            guest: None,
            phase: Phase::Booting,
            limit,
            deadline: None,
            dying: None,
            stdin_permits: None,
        }
    }

    /// Listens to a guest that was just started, in place of the one before; no `limit`, no hurry.
    pub fn attach(&mut self, qemu: Qemu, phase: Phase, limit: Option<Duration>) -> io::Result<()> {
        let (sender, events) = sync_channel(QUEUE);
        listen(qemu.log.try_clone()?, sender.clone(), read_log);
        listen(qemu.agent.try_clone()?, sender.clone(), read_frames);
        terminal::send_signals_to(Some(sender.clone()));
        self.guest = Some(Guest {
            qemu,
            events,
            sender,
        });
        self.dying = None;
        self.enter(phase);
        self.set_limit(limit);
        Ok(())
    }

    /// Ends the guest, if there is one.
    pub fn detach(&mut self) {
        terminal::send_signals_to(None);
        self.guest = None;
    }

    fn guest(&mut self) -> &mut Guest {
        self.guest
            .as_mut()
            .expect("requests are made of a guest that was attached")
    }

    /// From now on, it is at this.
    pub fn enter(&mut self, phase: Phase) {
        self.phase = phase;
    }

    /// Another limit, counted from now.
    pub fn set_limit(&mut self, limit: Option<Duration>) {
        self.limit = limit.unwrap_or_default();
        self.deadline = limit.map(|limit| Instant::now() + limit);
    }

    /// Stops the guest, writes all of it but its memory to a file, and ends it.
    pub fn save(&mut self, state: &Path) -> Result<(), Failure> {
        self.guest().qemu.control()?.save(state)?;
        self.detach();
        Ok(())
    }

    fn next(&mut self) -> Result<Event, Failure> {
        loop {
            // Even without time left, receiving returns what is queued: a guest that talks all the
            // time would never run out of it.
            let left = self.time_left()?;
            let events = &self.guest().events;
            let event = match left {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(left) => events.recv_timeout(left),
            };
            match event {
                Ok(Event::Log(line)) => match self.log.take(line)? {
                    Seen::Nothing | Seen::Sign(Severity::Bad) => {}
                    Seen::Sign(severity) => self.expect_the_end(severity),
                    Seen::Mark(mark) => return Ok(Event::Mark(mark)),
                },
                Ok(Event::LogEnd) => return Err(self.post_mortem()?),
                Ok(Event::Garbled(error)) => {
                    return Err(Failure::Died(format!(
                        "the guest's agent went astray: {error}"
                    )));
                }
                Ok(Event::Signal(signal)) if signal != Signal::SIGWINCH => {
                    return Err(Failure::Interrupted(signal));
                }
                Ok(event) => return Ok(event),
                Err(_) => return Err(self.out_of_time()),
            }
        }
    }

    /// How long until the deadline, which has not passed; `None` without one.
    fn time_left(&mut self) -> Result<Option<Duration>, Failure> {
        let Some(deadline) = self.deadline else {
            return Ok(None);
        };
        match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(self.out_of_time()),
            left => Ok(Some(left)),
        }
    }

    fn expect_the_end(&mut self, severity: Severity) {
        if self.dying.is_none() {
            let sign = self.log.hits().last().map_or("", |hit| &hit.message);
            let what = match severity {
                Severity::Dead => sign.replacen("Kernel panic - not syncing", "kernel panic", 1),
                _ => format!("the guest is stuck: {sign}"),
            };
            self.dying = Some(what);
            self.deadline = Some(Instant::now() + LAST_WORDS);
        }
    }

    fn out_of_time(&mut self) -> Failure {
        // What the log has said already, while nobody listened, may tell why.
        let queued: Vec<Event> = self.guest().events.try_iter().take(QUEUE).collect();
        for event in queued {
            if let Event::Log(line) = event {
                match self.log.take(line) {
                    Ok(Seen::Sign(severity)) if severity != Severity::Bad => {
                        self.expect_the_end(severity)
                    }
                    Ok(_) => {}
                    Err(error) => return error.into(),
                }
            }
        }
        if let Some(what) = self.dying.take() {
            return Failure::Died(what);
        }
        let phase = match &self.phase {
            Phase::Booting if self.log.is_empty() => "before the console's first line".to_owned(),
            Phase::Booting => "while booting".to_owned(),
            Phase::Resuming => "while the saved guest was resuming".to_owned(),
            Phase::Doing(what) => format!("while {what}"),
            Phase::Running(what) => format!("while running {what}"),
        };
        Failure::Timeout {
            limit: self.limit,
            phase,
        }
    }

    /// QEMU has ended, and nobody had asked it to.
    fn post_mortem(&mut self) -> io::Result<Failure> {
        let (status, said) = self.guest().qemu.wait()?;
        Ok(match (self.dying.take(), status.signal()) {
            (Some(what), _) => Failure::Died(what),
            (None, Some(signal)) => {
                let name = Signal::try_from(signal).map_or("an unknown signal", Signal::as_str);
                Failure::Died(format!("QEMU was killed from outside by {name}"))
            }
            (None, None) if status.success() => {
                Failure::Died("the guest reset or powered itself off".into())
            }
            (None, None) => Failure::Setup(anyhow!("QEMU failed ({status}): {said}")),
        })
    }

    fn next_reply(&mut self) -> Result<Reply, Failure> {
        loop {
            if let Event::Frame(Channel::Control, payload) = self.next()? {
                return Ok(parse(&payload)?);
            }
        }
    }

    /// Waits until the agent is up.
    pub fn wait_ready(&mut self) -> Result<(), Failure> {
        match self.next_reply()? {
            Reply::Ready => {
                self.log.booted();
                Ok(())
            }
            other => Err(anyhow!("the agent's first word was {other:?}").into()),
        }
    }

    /// Has the guest settle after its boot, and takes note of all that the boot said.
    pub fn settle(&mut self) -> Result<(), Failure> {
        self.request(&Request::Settle)?;
        self.mark("booted")?;
        self.log.forgive_leaks();
        Ok(())
    }

    fn send(&mut self, request: &Request) -> Result<(), Failure> {
        self.limit_write()?;
        write_message(&mut self.guest().qemu.agent, request)
            .or_else(|error| self.sending_failed(error))
    }

    fn send_bytes(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), Failure> {
        self.limit_write()?;
        write_frame(&mut self.guest().qemu.agent, channel, bytes)
            .or_else(|error| self.sending_failed(error))
    }

    /// A guest that hangs does not read either, and the socket is soon full.
    fn limit_write(&mut self) -> Result<(), Failure> {
        let left = self.time_left()?;
        Ok(self.guest().qemu.agent.set_write_timeout(left)?)
    }

    /// The log knows better why nobody is listening any more.
    fn sending_failed(&mut self, error: io::Error) -> Result<(), Failure> {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => loop {
                self.next()?;
            },
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(self.out_of_time()),
            _ => Err(error.into()),
        }
    }

    /// Asks for something and waits until it is done.
    pub fn request(&mut self, request: &Request) -> Result<(), Failure> {
        self.send(request)?;
        self.wait_done()
    }

    fn wait_done(&mut self) -> Result<(), Failure> {
        match self.next_reply()? {
            Reply::Done => Ok(()),
            Reply::Failed(why) => Err(anyhow!(why).into()),
            other => Err(anyhow!("unexpected answer {other:?}").into()),
        }
    }

    /// Copies a file or folder into the guest.
    pub fn put(&mut self, from: &Path, to: &str) -> Result<(), Failure> {
        let mut failure = None;
        // A program built by cargo is a symbolic link only by accident; a folder's links stay
        // links.
        let top = from
            .canonicalize()
            .with_context(|| format!("looking for {}", from.display()))?;
        let walked = tree::walk(&top, to.trim_end_matches('/'), &mut |path, entry| {
            self.put_entry(path, entry).map_err(|error| {
                failure = Some(error);
                io::Error::other("the guest did not take it")
            })
        });
        match failure {
            Some(failure) => Err(failure),
            None => {
                Ok(walked.with_context(|| format!("copying {} into the guest", from.display()))?)
            }
        }
    }

    fn put_entry(&mut self, path: &Path, entry: Entry) -> Result<(), Failure> {
        let kind = entry.kind.clone();
        self.send(&Request::Put(entry))?;
        if let EntryKind::File { size, .. } = kind {
            let mut failure = None;
            let sent = tree::send_content(path, size, &mut |piece| {
                self.send_bytes(Channel::File, piece).map_err(|error| {
                    failure = Some(error);
                    io::Error::other("the guest did not take it")
                })
            });
            if let Some(failure) = failure {
                return Err(failure);
            }
            sent.with_context(|| format!("copying {} into the guest", path.display()))?;
        }
        self.wait_done()
    }

    /// Copies a folder out of the guest.
    pub fn get(&mut self, from: &str, to: &Path) -> Result<(), Failure> {
        self.send(&Request::Get {
            path: from.to_owned(),
        })?;
        loop {
            let entry = match self.next_reply()? {
                Reply::Done => return Ok(()),
                Reply::Failed(why) => return Err(anyhow!(why).into()),
                Reply::Entry(entry) => entry,
                other => return Err(anyhow!("unexpected answer {other:?}").into()),
            };
            let mut failure = None;
            let made = tree::make(to, &entry, &mut || loop {
                match self.next() {
                    Ok(Event::Frame(Channel::File, payload)) => return Ok(payload),
                    Ok(_) => {}
                    Err(error) => {
                        failure = Some(error);
                        return Err(io::Error::other("the guest stopped sending"));
                    }
                }
            });
            match failure {
                Some(failure) => return Err(failure),
                None => made.with_context(|| format!("copying {} out of the guest", entry.path))?,
            }
        }
    }

    /// Writes a mark to the kernel's log and waits until the log has come that far: every line the
    /// guest caused before has been seen then.
    pub fn mark(&mut self, text: &str) -> Result<(), Failure> {
        self.send(&Request::Mark(text.to_owned()))?;
        let (mut done, mut seen) = (false, false);
        while !(done && seen) {
            match self.next()? {
                Event::Mark(mark) => seen |= mark == text,
                Event::Frame(Channel::Control, payload) => match parse(&payload)? {
                    Reply::Done => done = true,
                    other => return Err(anyhow!("marking the log: {other:?}").into()),
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// Runs a command. What it writes goes to `output`; `pass_stdin` gives it our standard input.
    pub fn run(
        &mut self,
        command: Command,
        pass_stdin: bool,
        output: &mut impl FnMut(Channel, &[u8]) -> io::Result<()>,
    ) -> Result<Exit, Failure> {
        let on_terminal = command.terminal.is_some();
        self.enter(Phase::Running(command.argv.join(" ")));
        self.send(&Request::Run(command))?;
        if pass_stdin {
            self.read_stdin();
        } else if !on_terminal {
            self.send_bytes(Channel::Stdin, b"")?;
        }
        let mut write = |channel, bytes: &[u8]| match output(channel, bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(Failure::Interrupted(Signal::SIGPIPE))
            }
            result => Ok(result?),
        };
        loop {
            match self.next()? {
                Event::Frame(channel @ (Channel::Stdout | Channel::Stderr), bytes) => {
                    write(channel, &bytes)?
                }
                Event::Frame(Channel::Control, payload) => match parse(&payload)? {
                    Reply::StdinTaken => self.permit_stdin(),
                    Reply::Exited(exit) => {
                        self.kill_leftovers()?;
                        return Ok(exit);
                    }
                    Reply::Failed(why) => return Err(anyhow!(why).into()),
                    other => return Err(anyhow!("unexpected answer {other:?}").into()),
                },
                Event::Stdin(bytes) => self.send_bytes(Channel::Stdin, &bytes)?,
                Event::Signal(Signal::SIGWINCH) if on_terminal => {
                    let (rows, columns) = terminal::size();
                    self.send(&Request::Resize(rows, columns))?;
                }
                _ => {}
            }
        }
    }

    /// A later request must not find modules held, or processors used, by what the command left
    /// running.
    fn kill_leftovers(&mut self) -> Result<(), Failure> {
        self.enter(Phase::Doing("killing what the command left running".into()));
        self.send(&Request::KillLeftovers)?;
        match self.next_reply()? {
            Reply::Done => Ok(()),
            Reply::Failed(why) => Err(Failure::Verdict(why)),
            other => Err(anyhow!("unexpected answer {other:?}").into()),
        }
    }

    /// Waits for a line of our standard input, no longer than for anything else.
    pub fn stdin_line(&mut self) -> Result<String, Failure> {
        let sender = self.guest().sender.clone();
        thread::spawn(move || {
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line);
            // Fails if the run has ended meanwhile.
            let _ = sender.send(Event::StdinLine(read.map(|_| line)));
        });
        loop {
            if let Event::StdinLine(line) = self.next()? {
                return Ok(line?);
            }
        }
    }

    /// Starts reading our standard input, one piece ahead of the command at most. The thread may
    /// stay blocked in a read for ever; it ends with the process.
    fn read_stdin(&mut self) {
        let (permit, permits) = sync_channel(1);
        self.stdin_permits = Some(permit);
        let sender = self.guest().sender.clone();
        thread::spawn(move || {
            let mut chunk = vec![0; CHUNK];
            loop {
                let got = io::stdin().read(&mut chunk).unwrap_or(0);
                if sender.send(Event::Stdin(chunk[..got].to_vec())).is_err()
                    || got == 0
                    || permits.recv().is_err()
                {
                    return;
                }
            }
        });
    }

    fn permit_stdin(&self) {
        if let Some(permits) = &self.stdin_permits {
            // Full only if it is not waiting.
            let _ = permits.try_send(());
        }
    }
}

fn listen<S: Send + 'static>(
    stream: S,
    sender: SyncSender<Event>,
    read: fn(S, &SyncSender<Event>) -> Option<()>,
) {
    thread::spawn(move || read(stream, &sender));
}

fn read_log(stream: File, sender: &SyncSender<Event>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while let Ok(1..) = stream.read_until(b'\n', &mut line) {
        sender
            .send(Event::Log(
                String::from_utf8_lossy(&line).trim_end().to_owned(),
            ))
            .ok()?;
        line.clear();
    }
    sender.send(Event::LogEnd).ok()
}

fn read_frames(stream: UnixStream, sender: &SyncSender<Event>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        match read_frame(&mut stream) {
            Ok(Some((channel, payload))) => sender.send(Event::Frame(channel, payload)).ok()?,
            // QEMU has ended, in mid-frame perhaps: the log's end tells.
            Ok(None) => return None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return sender.send(Event::Garbled(error)).ok();
            }
            Err(_) => return None,
        }
    }
}
