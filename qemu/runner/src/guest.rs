// SPDX-License-Identifier: GPL-2.0

//! The guest's side: the first and only program of the initramfs, which sets up a small system,
//! reports to the host and then does what the host asks.

use std::ffi::{CStr, CString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::{ClockId, clock_settime};
use nix::unistd::{Pid, chdir, chroot, pipe2, sethostname, setsid};

use crate::protocol::{
    self, CHUNK, Channel, Entry, EntryKind, Exit, LOG_PREFIX, PORT_NAME, Reply, Request, parse,
    read_frame, write_frame, write_message,
};
use crate::tree;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const KUNIT_FILTER: &str = "/sys/module/kunit/parameters/filter_glob";
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";

/// What process 1 does: never returns but by an error, and the kernel then panics, which the host
/// reports.
pub fn main() -> Result<()> {
    if std::process::id() != 1 {
        bail!("this is the init of the guest that `vm` starts, of no use elsewhere");
    }
    set_up_system()?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    children.thread_block()?;
    let children = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut agent = Agent {
        port: open_port()?,
        children,
        modules: Vec::new(),
    };
    agent.reply(&Reply::Ready)?;
    loop {
        agent.serve()?;
    }
}

fn set_up_system() -> Result<()> {
    // (file system, where, options, whether the guest can do without)
    let mounts: [(&str, &str, &str, bool); 9] = [
        ("devtmpfs", "/dev", "", false),
        ("proc", "/proc", "", false),
        ("sysfs", "/sys", "", false),
        ("debugfs", "/sys/kernel/debug", "", true),
        ("tracefs", "/sys/kernel/tracing", "", true),
        ("tmpfs", "/tmp", "mode=1777", false),
        ("tmpfs", "/run", "mode=755", false),
        ("tmpfs", "/dev/shm", "mode=1777", false),
        ("devpts", "/dev/pts", "mode=620,ptmxmode=666", true),
    ];
    for (kind, path, options, optional) in mounts {
        // Below /sys the kernel makes the folder, if it has what belongs there.
        if !path.starts_with("/sys/") {
            fs::create_dir_all(path).with_context(|| format!("making {path}"))?;
        }
        match mount(
            Some(kind),
            path,
            Some(kind),
            MsFlags::empty(),
            Some(options),
        ) {
            Err(error) if !optional => {
                return Err(error).with_context(|| format!("mounting {path}"));
            }
            _ => {}
        }
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        std::os::unix::fs::symlink(target, Path::new("/dev").join(link))?;
    }
    sethostname("ipcdemo")?;
    let busybox = |args: &[&str]| {
        Command::new("/bin/busybox")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    busybox(&["--install", "-s", "/bin"])?;
    // Fails on a kernel without INET, where nobody misses it.
    busybox(&["ifconfig", "lo", "127.0.0.1", "up"])?;
    start_processors()
}

/// Brings up those the kernel was told to leave alone.
fn start_processors() -> Result<()> {
    switch(&processors(OFFLINE)?, ONLINE)
}

const OFFLINE: &str = "0";
const ONLINE: &str = "1";

/// The `online` files of the processors in this state. The first processor has no such file: it
/// can't go offline.
fn processors(state: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/devices/system/cpu")? {
        let file = entry?.path().join("online");
        if fs::read_to_string(&file).is_ok_and(|is| is.trim() == state) {
            found.push(file);
        }
    }
    Ok(found)
}

fn switch(processors: &[PathBuf], state: &str) -> Result<()> {
    for file in processors {
        fs::write(file, state).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Acts, if `alone` while the other processors are offline. A processor that was offline before
/// stays so. After a failure nothing is brought back: it ends the run.
fn act(alone: bool, action: impl FnOnce() -> Result<()>) -> Result<()> {
    let others = if alone {
        processors(ONLINE)?
    } else {
        Vec::new()
    };
    switch(&others, OFFLINE)?;
    action()?;
    switch(&others, ONLINE)
}

/// Waits for the port to come up: the kernel probes it on its own time, and announces it.
fn open_port() -> Result<File> {
    let events = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    const FROM_THE_KERNEL: u32 = 1;
    bind(events.as_raw_fd(), &NetlinkAddr::new(0, FROM_THE_KERNEL))?;
    loop {
        if let Some(device) = find_port()? {
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&device)
                .with_context(|| format!("opening {device:?}"));
        }
        recv(
            events.as_raw_fd(),
            &mut [0; 4096],
            nix::sys::socket::MsgFlags::empty(),
        )?;
    }
}

fn find_port() -> io::Result<Option<PathBuf>> {
    let Ok(ports) = fs::read_dir("/sys/class/virtio-ports") else {
        return Ok(None);
    };
    for port in ports {
        let port = port?;
        let device = Path::new("/dev").join(port.file_name());
        // The name arrives after the port does.
        if fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT_NAME)
            && device.exists()
        {
            return Ok(Some(device));
        }
    }
    Ok(None)
}

struct Agent {
    port: File,
    children: SignalFd,
    /// Inserted by us, in that order.
    modules: Vec<Module>,
}

struct Module {
    name: String,
    alone: bool,
}

impl Agent {
    fn reply(&mut self, reply: &Reply) -> Result<()> {
        Ok(write_message(&mut self.port, reply)?)
    }

    fn serve(&mut self) -> Result<()> {
        let (channel, payload) = self.receive()?;
        if channel != Channel::Control {
            // What a command left unread of its input, or a file that could not be made.
            return Ok(());
        }
        let reply = match parse(&payload)? {
            Request::Run(command) => match self.run(&command) {
                Ok(exit) => Reply::Exited(exit),
                Err(error) => Reply::Failed(format!("{error:#}")),
            },
            // Too late: the command they were meant for has ended.
            Request::Signal(_) | Request::Resize(..) => return Ok(()),
            request => match self.obey(request) {
                Ok(()) => Reply::Done,
                Err(error) => Reply::Failed(format!("{error:#}")),
            },
        };
        self.reply(&reply)
    }

    /// The next frame. The port reads as empty while nobody is connected to it, as after a resume.
    fn receive(&mut self) -> Result<(Channel, Vec<u8>)> {
        loop {
            if let Some(frame) = read_frame(&mut self.port)? {
                return Ok(frame);
            }
            poll(
                &mut [PollFd::new(self.port.as_fd(), PollFlags::POLLIN)],
                PollTimeout::from(10u8),
            )?;
        }
    }

    fn obey(&mut self, request: Request) -> Result<()> {
        match request {
            Request::Settle => settle(),
            Request::Start { clock, seed } => {
                clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(clock))
                    .context("setting the clock")?;
                reseed(seed).context("seeding the random number generator")
            }
            Request::Mount {
                tag,
                path,
                writable,
            } => {
                fs::create_dir_all(&path)?;
                mount_9p(&tag, &path, writable)
            }
            Request::Root { tag } => enter_root(&tag),
            Request::Put(entry) => self.put(&entry),
            Request::Get { path } => self.get(&path),
            Request::Load { path, args, alone } => self.load(&path, &args, alone),
            Request::Mark(text) => Ok(fs::write("/dev/kmsg", format!("<6>{LOG_PREFIX}{text}\n"))?),
            Request::KillLeftovers => self.kill_leftovers(),
            Request::Unload => self.unload(),
            Request::Kmemleak => kmemleak(),
            Request::Run(_) | Request::Signal(_) | Request::Resize(..) => bail!("out of turn"),
        }
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        let port = &mut self.port;
        tree::make(Path::new("/"), entry, &mut || match read_frame(port)? {
            Some((Channel::File, payload)) => Ok(payload),
            other => Err(io::Error::other(format!(
                "{:?} instead of a file's content",
                other.map(|frame| frame.0)
            ))),
        })
        .with_context(|| format!("making {}", entry.path))
    }

    fn get(&mut self, top: &str) -> Result<()> {
        tree::walk(Path::new(top), "", &mut |path, entry| {
            write_message(&mut self.port, &Reply::Entry(entry.clone()))?;
            match entry.kind {
                EntryKind::File { size, .. } => tree::send_content(path, size, &mut |piece| {
                    write_frame(&mut self.port, Channel::File, piece)
                }),
                _ => Ok(()),
            }
        })
        .with_context(|| format!("sending {top}"))
    }

    fn load(&mut self, path: &str, args: &str, alone: bool) -> Result<()> {
        let file = File::open(path).with_context(|| format!("opening {path}"))?;
        let name = Path::new(path)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or(path)
            .replace('-', "_");
        let insert = |args: &CStr| {
            finit_module(&file, args, ModuleInitFlags::empty())
                .with_context(|| format!("inserting the module {name}"))
        };
        // KUnit runs a module's tests during the insertion, and some of them look for races.
        if alone && Path::new(KUNIT_FILTER).exists() {
            insert(c"")?;
            remove_module(&name)?;
            fs::write(KUNIT_FILTER, "none").context("turning KUnit off")?;
        }
        let args = CString::new(args)?;
        act(alone, || insert(&args))?;
        self.modules.push(Module { name, alone });
        Ok(())
    }

    fn unload(&mut self) -> Result<()> {
        while let Some(Module { name, alone }) = self.modules.pop() {
            act(alone, || remove_module(&name))?;
        }
        Ok(())
    }

    fn run(&mut self, command: &protocol::Command) -> Result<Exit> {
        let (program, args) = command.argv.split_first().context("no command")?;
        let mut child = Command::new(program);
        child
            .args(args)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .env("USER", "root");
        child
            .env("SHELL", "/bin/sh")
            .envs(command.env.iter().map(|(name, value)| (name, value)));
        let streams = match command.terminal {
            Some(size) => Streams::terminal(&mut child, size)?,
            None => Streams::pipes(&mut child)?,
        };
        // SAFETY: It makes one system call.
        unsafe {
            // What init waits for is blocked for init alone.
            child.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?));
        }
        let pid = match child.spawn() {
            Ok(child) => Pid::from_raw(child.id().try_into()?),
            Err(error) => {
                write_frame(
                    &mut self.port,
                    Channel::Stderr,
                    format!("{program}: {error}\n").as_bytes(),
                )?;
                let code = if error.kind() == io::ErrorKind::NotFound {
                    127
                } else {
                    126
                };
                return Ok(Exit::Code(code));
            }
        };
        // Ours of the child's ends, or its output would never end.
        drop(child);
        self.attend(pid, streams)
    }

    /// Passes bytes to and fro until the command has ended.
    fn attend(&mut self, pid: Pid, mut streams: Streams) -> Result<Exit> {
        loop {
            let input_waits = !streams.pending.is_empty();
            let ready = {
                let mut fds = vec![
                    PollFd::new(self.port.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
                ];
                let outputs = [&streams.stdout, &streams.stderr];
                fds.extend(
                    outputs
                        .into_iter()
                        .flatten()
                        .map(|output| PollFd::new(output.as_fd(), PollFlags::POLLIN)),
                );
                if let Some(input) = streams.stdin.as_ref().filter(|_| input_waits) {
                    fds.push(PollFd::new(input.as_fd(), PollFlags::POLLOUT));
                }
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
                fds[0].any() == Some(true)
            };
            if ready {
                let (channel, payload) = self.receive()?;
                self.while_running(pid, &mut streams, channel, payload)?;
            }
            if streams.feed() {
                self.reply(&Reply::StdinTaken)?;
            }
            let exit = self.reap(pid)?;
            self.pass_output(&mut streams.stdout, Channel::Stdout)?;
            self.pass_output(&mut streams.stderr, Channel::Stderr)?;
            if let Some(exit) = exit {
                return Ok(exit);
            }
        }
    }

    fn while_running(
        &mut self,
        pid: Pid,
        streams: &mut Streams,
        channel: Channel,
        payload: Vec<u8>,
    ) -> Result<()> {
        match channel {
            Channel::Stdin if payload.is_empty() => streams.end_input(),
            Channel::Stdin => streams.pending = payload,
            Channel::Control => match parse(&payload)? {
                Request::Signal(signal) => {
                    // It may have ended in this very moment.
                    let _ = killpg(pid, Signal::try_from(signal)?);
                }
                Request::Resize(rows, columns) => streams.resize(rows, columns)?,
                other => bail!("out of turn: {other:?}"),
            },
            _ => bail!("out of turn: {channel:?}"),
        }
        Ok(())
    }

    /// Sends what is there, but no more than a pipe may have held: a process left in the background
    /// writes for ever.
    fn pass_output(&mut self, output: &mut Option<File>, channel: Channel) -> Result<()> {
        const PIPE: usize = 1 << 20;
        let Some(from) = output else { return Ok(()) };
        let mut chunk = [0; CHUNK];
        let mut passed = 0;
        while passed < PIPE {
            match from.read(&mut chunk) {
                Ok(0) => {
                    *output = None;
                    break;
                }
                Ok(got) => write_frame(&mut self.port, channel, &chunk[..got])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // So a terminal says that nobody has it open any more.
                Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => {
                    *output = None;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            passed += CHUNK;
        }
        Ok(())
    }

    /// Reaps whoever has ended, as process 1 must; tells how `pid` did, if it was among them.
    fn reap(&mut self, pid: Pid) -> Result<Option<Exit>> {
        while self.children.read_signal()?.is_some() {}
        let mut exit = None;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(who, code)) if who == pid => exit = Some(Exit::Code(code)),
                Ok(WaitStatus::Signaled(who, signal, _)) if who == pid => {
                    exit = Some(Exit::Signal(signal as i32))
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(exit),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn kill_leftovers(&mut self) -> Result<()> {
        const EVERYONE: Pid = Pid::from_raw(-1);
        // A task that the kernel never wakes up does not die of a signal.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match kill(EVERYONE, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
            while self.children.read_signal()?.is_some() {}
            match waitpid(EVERYONE, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(_) => continue,
                Err(Errno::ECHILD) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("can't be killed: {}", living_tasks()?.join(", "));
            }
            poll(
                &mut [PollFd::new(self.children.as_fd(), PollFlags::POLLIN)],
                PollTimeout::try_from(left)?,
            )?;
        }
    }
}

fn remove_module(name: &str) -> Result<()> {
    // A killed process gives up the last of its files in the kernel's own time, io_uring's for one.
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match delete_module(&CString::new(name)?, DeleteModuleFlags::O_NONBLOCK) {
            Err(Errno::EWOULDBLOCK | Errno::EBUSY) if Instant::now() < deadline => {
                sleep(Duration::from_millis(5))
            }
            Err(Errno::EWOULDBLOCK | Errno::EBUSY) => {
                let count =
                    fs::read_to_string(format!("/sys/module/{name}/refcnt")).unwrap_or_default();
                bail!(
                    "module {name} is still in use with every process gone: refcnt {}",
                    count.trim()
                );
            }
            // The command has removed it itself.
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("removing the module {name}")),
        }
    }
}

/// The tasks of all programs but ours, and where in the kernel each one waits.
fn living_tasks() -> Result<Vec<String>> {
    const KTHREADD: &str = "2";
    let mut living = Vec::new();
    for process in fs::read_dir("/proc")? {
        let Ok(pid) = process?.file_name().into_string() else {
            continue;
        };
        if pid == "1" || pid == KTHREADD || pid.bytes().any(|byte| !byte.is_ascii_digit()) {
            continue;
        }
        // Of a process whose first thread has ended, another one may live. What can't be read has
        // ended meanwhile.
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let stat = read("stat");
            // `71 (cat) D 1 …`: the parent's number comes after the state.
            let Some((_, fields)) = stat.rsplit_once(") ") else {
                continue;
            };
            let mut fields = fields.split(' ');
            let (state, parent) = (fields.next(), fields.next());
            if matches!(state, Some("Z" | "X")) || parent == Some(KTHREADD) {
                continue;
            }
            living.push(format!(
                "task {} ({}), in state {} and waiting in {}",
                thread.file_name().to_string_lossy(),
                read("comm").trim_end(),
                state.unwrap_or_default(),
                read("wchan"),
            ));
        }
    }
    Ok(living)
}

/// Our ends of a command's standard streams.
#[derive(Default)]
struct Streams {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    terminal: Option<File>,
    /// Input the command has not taken yet.
    pending: Vec<u8>,
}

impl Streams {
    fn pipes(child: &mut Command) -> Result<Streams> {
        let (their_in, stdin) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout, their_out) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, their_err) = pipe2(OFlag::O_CLOEXEC)?;
        for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        child.stdin(their_in).stdout(their_out).stderr(their_err);
        child.process_group(0);
        let [stdin, stdout, stderr] = [stdin, stdout, stderr].map(|fd| Some(File::from(fd)));
        Ok(Streams {
            stdin,
            stdout,
            stderr,
            ..Streams::default()
        })
    }

    fn terminal(child: &mut Command, (rows, columns): (u16, u16)) -> Result<Streams> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
            .context("opening a terminal")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(ptsname_r(&master)?)?;
        let master = File::from(OwnedFd::from(master));
        child
            .stdin(terminal.try_clone()?)
            .stdout(terminal.try_clone()?)
            .stderr(terminal);
        // SAFETY: both calls are plain system calls, which may be made between fork and exec.
        unsafe {
            child.pre_exec(|| {
                setsid()?;
                ioctl::take_terminal(0, 0)?;
                Ok(())
            });
        }
        let streams = Streams {
            stdin: Some(master.try_clone()?),
            stdout: Some(master.try_clone()?),
            terminal: Some(master),
            ..Streams::default()
        };
        streams.resize(rows, columns)?;
        Ok(streams)
    }

    fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        let size = nix::libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the descriptor is a terminal's, and the structure is the one this ioctl reads.
        unsafe { ioctl::set_size(terminal.as_raw_fd(), &size) }?;
        Ok(())
    }

    /// The host's standard input has ended. A terminal's does when it hangs up: so does this one.
    fn end_input(&mut self) {
        self.stdin = None;
        if self.terminal.take().is_some() {
            self.stdout = None;
        }
    }

    /// Hands the command its pending input. True if there was some and it is gone now.
    fn feed(&mut self) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        match self.stdin.as_mut().map(|to| to.write(&self.pending)) {
            Some(Ok(written)) => drop(self.pending.drain(..written)),
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Nobody reads any more: as if it had been taken, like bytes left in a pipe.
            _ => self.pending.clear(),
        }
        self.pending.is_empty()
    }
}

/// The ioctls that no library call covers.
#[allow(missing_docs)]
mod ioctl {
    use nix::libc;

    nix::ioctl_write_int_bad!(take_terminal, libc::TIOCSCTTY);
    nix::ioctl_write_ptr_bad!(set_size, libc::TIOCSWINSZ, libc::winsize);
    nix::ioctl_none!(reseed, b'R', 0x07);
    nix::ioctl_write_ptr!(add_entropy, b'R', 0x03, [libc::c_int; 2]);
}

/// Without this, every guest resumed from one saved state would draw the same random numbers.
fn reseed(seed: [u8; 32]) -> Result<()> {
    /// `struct rand_pool_info`, with its flexible array given a length.
    #[repr(C)]
    struct PoolInfo {
        entropy_bits: i32,
        size: i32,
        data: [u8; 32],
    }
    let info = PoolInfo {
        entropy_bits: 256,
        size: 32,
        data: seed,
    };
    let random = OpenOptions::new().write(true).open("/dev/urandom")?;
    // SAFETY: RNDADDENTROPY reads two integers and as many bytes behind them as the second one
    // says.
    unsafe { ioctl::add_entropy(random.as_raw_fd(), (&raw const info).cast()) }?;
    // SAFETY: RNDRESEEDCRNG takes no argument.
    unsafe { ioctl::reseed(random.as_raw_fd()) }?;
    Ok(())
}

fn mount_9p(tag: &str, path: &str, writable: bool) -> Result<()> {
    // Nobody changes what is shared read-only, so it may be cached; of the other, the host sees
    // each write at once.
    let (flags, cache) = if writable {
        (MsFlags::empty(), "mmap")
    } else {
        (MsFlags::MS_RDONLY, "loose")
    };
    let options = format!("trans=virtio,version=9p2000.L,msize=524288,cache={cache}");
    mount(Some(tag), path, Some("9p"), flags, Some(options.as_str()))
        .with_context(|| format!("mounting 9p on {path}"))
}

fn enter_root(tag: &str) -> Result<()> {
    let (lower, top, root) = ("/mnt/lower", "/mnt/top", "/mnt/root");
    for path in [lower, top, root] {
        fs::create_dir_all(path)?;
    }
    mount_9p(tag, lower, false)?;
    mount(
        Some("tmpfs"),
        top,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )?;
    fs::create_dir(format!("{top}/upper"))?;
    fs::create_dir(format!("{top}/scratch"))?;
    let options = format!("lowerdir={lower},upperdir={top}/upper,workdir={top}/scratch");
    mount(
        Some("overlay"),
        root,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .context("mounting overlay")?;
    for path in ["/dev", "/proc", "/sys", "/tmp", "/run"] {
        let there = format!("{root}{path}");
        fs::create_dir_all(&there)?;
        mount(
            Some(path),
            there.as_str(),
            None::<&CStr>,
            MsFlags::MS_MOVE,
            None::<&CStr>,
        )
        .with_context(|| format!("moving {path}"))?;
    }
    // The root of all mounts: the kernel lets nobody in a mere chroot make a user namespace.
    chdir(root)?;
    mount(
        Some("."),
        "/",
        None::<&CStr>,
        MsFlags::MS_MOVE,
        None::<&CStr>,
    )
    .context("moving the root")?;
    chroot(".")?;
    chdir("/")?;
    Ok(())
}

/// What the booting kernel itself may have leaked is not the run's doing.
fn settle() -> Result<()> {
    if Path::new(KMEMLEAK).exists() {
        scan()?;
        fs::write(KMEMLEAK, "clear")?;
    }
    Ok(())
}

/// A block is reported once two scans have seen it unreferenced and unchanged, and when it was five
/// seconds old at the last one's start.
fn scan() -> Result<()> {
    let old_enough = Instant::now() + Duration::from_millis(5100);
    fs::write(KMEMLEAK, "scan")?;
    sleep(old_enough.saturating_duration_since(Instant::now()));
    Ok(fs::write(KMEMLEAK, "scan")?)
}

fn kmemleak() -> Result<()> {
    if !Path::new(KMEMLEAK).exists() {
        return Ok(());
    }
    scan()?;
    let report = fs::read_to_string(KMEMLEAK)?;
    const BLOCK: &str = "unreferenced object ";
    let starts: Vec<usize> = report.match_indices(BLOCK).map(|(at, _)| at).collect();
    if starts.is_empty() {
        return Ok(());
    }
    // More of them would only bury the verdict.
    let end = starts.get(4).copied().unwrap_or(report.len());
    let shown = report[..end].trim_end();
    Err(anyhow!(
        "memory was leaked, {} blocks; the first:\n{shown}",
        starts.len()
    ))
}
