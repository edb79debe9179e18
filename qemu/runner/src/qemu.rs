// SPDX-License-Identifier: GPL-2.0

//! QEMU: its command line, its process, its control channel.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;
use serde_json::{Value, json};

use crate::protocol::PORT_NAME;

/// The program.
pub const PROGRAM: &str = "/usr/bin/qemu-system-x86_64";

/// What every guest is booted with. A panic ends it at once, an Oops is a panic, and the log comes
/// in full: an early console, all levels, no limit on what the agent writes to it, and room for
/// what comes faster than the serial line takes it. Measuring the speed of a delay loop that nobody
/// uses (`lpj`) takes seconds under emulation. The agent brings up the other processors: while the
/// kernel patches its own code a few hundred times, as it does when booting, QEMU's translator now
/// and then leaves one with a stale breakpoint (`Oops: int3`).
const COMMAND_LINE: &str = "earlycon=uart8250,io,0x3f8 console=ttyS0 panic=-1 oops=panic \
    ignore_loglevel log_buf_len=4M printk.time=1 printk.devkmsg=on nokaslr mitigations=off \
    no_timer_check tsc=reliable lpj=4600000 maxcpus=1 rdinit=/init";

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// A folder of the host, for 9p.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The name under which the guest mounts it.
    pub tag: String,
    /// Where it is.
    pub path: PathBuf,
    /// Whether the guest may write.
    pub writable: bool,
}

/// A virtual machine, before it runs.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The kernel's image.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory: u32,
    /// Added to the kernel's command line.
    pub append: Vec<String>,
    /// Who executes it.
    pub accel: Accel,
    /// Whether time is the count of instructions.
    pub icount: bool,
    /// Plugins of the translator's, each with its arguments.
    pub plugins: Vec<String>,
    /// The port on which to wait for a debugger.
    pub gdb: Option<u16>,
    /// Its 9p folders.
    pub folders: Vec<Folder>,
}

/// What the guest's memory is.
#[derive(Clone, Copy, Debug)]
pub enum Memory<'a> {
    /// Fresh, and gone afterwards.
    Fresh,
    /// This file, to be saved with the rest of the machine.
    Save(&'a Path),
    /// A private copy of this file, page by page as it is touched. [`Control::load`] has to follow.
    Resume(&'a Path),
}

impl Machine {
    /// A number that differs when a saved guest would: it covers the kernel's and the initramfs'
    /// content too.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut hasher = DefaultHasher::new();
        for file in [&self.kernel, &self.initramfs] {
            fs::read(file)
                .with_context(|| format!("reading {}", file.display()))?
                .hash(&mut hasher);
        }
        // Asking QEMU for its version takes as long as resuming a guest.
        let qemu = fs::metadata(PROGRAM).with_context(|| format!("looking for {PROGRAM}"))?;
        (qemu.size(), qemu.mtime(), qemu.ino()).hash(&mut hasher);
        self.hardware().hash(&mut hasher);
        self.command_line().hash(&mut hasher);
        Ok(hasher.finish())
    }

    fn command_line(&self) -> String {
        let mut line = COMMAND_LINE.to_owned();
        for options in &self.append {
            line.push(' ');
            line.push_str(options);
        }
        line
    }

    fn hardware(&self) -> Vec<String> {
        let mut args: Vec<String> = Vec::new();
        let mut add = |option: &str, value: String| args.extend([option.to_owned(), value]);
        let (accel, cpu) = match (self.accel, self.icount) {
            (Accel::Kvm, _) => ("kvm", "host"),
            // With five levels of page tables, KASAN reports what is none when an interrupt comes
            // while the kernel identifies the processor.
            (Accel::Tcg, false) => ("tcg,thread=multi", "max,la57=off"),
            // Each step of a `rep` counts, and the kernel picks its copy routines by processor: with
            // `max` it copies by bytes, and 64 KiB cost four times as much as by words.
            (Accel::Tcg, true) => ("tcg,thread=single", "qemu64"),
        };
        add("-accel", accel.into());
        add("-cpu", cpu.into());
        add(
            "-machine",
            "pc,memory-backend=ram,vmport=off,hpet=off,usb=off".into(),
        );
        add("-m", self.memory.to_string());
        add("-smp", if self.icount { 1 } else { self.cpus }.to_string());
        if self.icount {
            add("-icount", "shift=0,sleep=off".into());
        }
        for plugin in &self.plugins {
            add("-plugin", plugin.clone());
        }
        add("-device", "virtio-serial-pci".into());
        args
    }

    /// Starts it.
    pub fn start(&self, memory: Memory) -> Result<Qemu> {
        let (log, log_theirs) = pipe2(OFlag::O_CLOEXEC)?;
        // The guest's driver waits a hundredth of a second for room, and then loses what it had to
        // say. A socket has room for a few hundred bytes if they come one by one.
        fcntl(&log_theirs, FcntlArg::F_SETPIPE_SZ(1 << 20))?;
        let (control, control_theirs) = UnixStream::pair()?;
        let (agent, agent_theirs) = UnixStream::pair()?;

        let mut qemu = Command::new(PROGRAM);
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ])
        .args(self.hardware());
        let ram = |file: &Path, options: &str| {
            format!(
                "memory-backend-file,id=ram,size={}M,mem-path={},{options}",
                self.memory,
                escape(file)
            )
        };
        match memory {
            Memory::Fresh => {
                qemu.arg("-object")
                    .arg(format!("memory-backend-ram,id=ram,size={}M", self.memory));
            }
            Memory::Save(file) => {
                qemu.arg("-object").arg(ram(file, "share=on"));
            }
            Memory::Resume(file) => {
                qemu.arg("-object")
                    .arg(ram(file, "share=off,readonly=on,rom=off"))
                    .args(["-incoming", "defer"]);
            }
        }
        qemu.arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs);
        qemu.arg("-append").arg(self.command_line());
        let agent_port = format!("virtserialport,chardev=agent,name={PORT_NAME}");
        for (id, fd, user) in [
            ("log", log_theirs.as_fd(), ["-serial", "chardev:log"]),
            (
                "control",
                control_theirs.as_fd(),
                ["-mon", "chardev=control,mode=control"],
            ),
            ("agent", agent_theirs.as_fd(), ["-device", &agent_port]),
        ] {
            // Only QEMU's ends survive its exec. They close with it, so the end of the log is the
            // end of QEMU.
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
            let number = fd.as_raw_fd();
            let chardev = match id {
                "log" => format!("file,id={id},path=/proc/self/fd/{number}"),
                _ => format!("socket,id={id},fd={number}"),
            };
            qemu.arg("-chardev").arg(chardev).args(user);
        }
        for Folder {
            tag,
            path,
            writable,
        } in &self.folders
        {
            let readonly = if *writable { "off" } else { "on" };
            let path = escape(path);
            qemu.arg("-fsdev").arg(format!(
                "local,id={tag},path={path},security_model=none,multidevs=remap,readonly={readonly}"
            ));
            qemu.arg("-device")
                .arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
        }
        if let Some(port) = self.gdb {
            qemu.arg("-S")
                .arg("-gdb")
                .arg(format!("tcp:127.0.0.1:{port}"));
        }
        qemu.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // ^C is for us to deal with.
        qemu.process_group(0);
        // SAFETY: prctl is a plain system call, which may be made between fork and exec.
        unsafe { qemu.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
        let mut child = qemu
            .spawn()
            .with_context(|| format!("starting {PROGRAM}"))?;
        let stderr = child.stderr.take();
        Ok(Qemu {
            child,
            stderr,
            log: log.into(),
            control,
            agent,
        })
    }
}

/// A comma in an option's value is written twice.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A running QEMU. It does not outlive this value.
pub struct Qemu {
    child: Child,
    stderr: Option<ChildStderr>,
    /// The kernel's log.
    pub log: File,
    control: UnixStream,
    /// The agent's port.
    pub agent: UnixStream,
}

impl Qemu {
    /// Connects to its control channel.
    pub fn control(&self) -> Result<Control> {
        let stream = self.control.try_clone()?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut control = Control {
            from: BufReader::new(stream.try_clone()?),
            to: stream,
            moved: String::new(),
        };
        control.next()?;
        control.execute("qmp_capabilities", json!({}))?;
        Ok(control)
    }

    /// Waits for its end; returns how it ended and what it had to say.
    pub fn wait(&mut self) -> io::Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        let mut said = Vec::new();
        if let Some(mut stderr) = self.stderr.take() {
            stderr.read_to_end(&mut said)?;
        }
        Ok((status, String::from_utf8_lossy(&said).trim().to_owned()))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The control channel (QMP).
pub struct Control {
    from: BufReader<UnixStream>,
    to: UnixStream,
    /// How far a move to or from a file has come, as QEMU reported last.
    moved: String,
}

impl Control {
    fn next(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self
            .from
            .read_line(&mut line)
            .context("waiting for QEMU's control channel")?
            == 0
        {
            bail!("QEMU closed its control channel");
        }
        let said: Value = serde_json::from_str(&line)?;
        if said["event"] == "MIGRATION" {
            self.moved = said["data"]["status"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
        }
        Ok(said)
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.to.write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut answer = self.next()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU's {command} failed: {error}");
            }
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    /// Stops the guest and writes all of it but its memory to a file.
    pub fn save(&mut self, state: &Path) -> Result<()> {
        self.execute("stop", json!({}))?;
        self.leave_memory_out()?;
        self.execute(
            "migrate",
            json!({ "uri": format!("file:{}", state.display()) }),
        )?;
        self.wait_moved()
    }

    /// Takes over what [`Control::save`] wrote; the guest then goes on.
    pub fn load(&mut self, state: &Path) -> Result<()> {
        self.leave_memory_out()?;
        self.execute(
            "migrate-incoming",
            json!({ "uri": format!("file:{}", state.display()) }),
        )?;
        self.wait_moved()?;
        self.execute("cont", json!({}))?;
        Ok(())
    }

    fn wait_moved(&mut self) -> Result<()> {
        loop {
            match self.moved.as_str() {
                "completed" => return Ok(()),
                "failed" | "cancelled" => {
                    bail!("QEMU could not move the guest to or from the file")
                }
                _ => self.next()?,
            };
        }
    }

    fn leave_memory_out(&mut self) -> Result<()> {
        let capabilities =
            ["x-ignore-shared", "events"].map(|name| json!({ "capability": name, "state": true }));
        self.execute(
            "migrate-set-capabilities",
            json!({ "capabilities": capabilities }),
        )?;
        Ok(())
    }
}
