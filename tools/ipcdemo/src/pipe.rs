// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo pipe`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use ipcdemo_client::{Factory, Object, PipeFlags, PipeLimitsChange, PipeReader, PipeWriter};
use rustix::io::{Errno, ioctl_fionread};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::cli::{self, Descriptor, PipeOptions};
use crate::command::{self, READ_FD_VARIABLE, WRITE_FD_VARIABLE};
use crate::failure::Failure;
use crate::list::{Name, waiters};

/// The largest size of a buffer.
const PAGE: u32 = 4096;

/// What stands between two commands.
const SEPARATOR: &str = ":::";

pub fn run(out: &mut impl Write, command: cli::Pipe) -> Result<(), Failure> {
    match command {
        cli::Pipe::Run {
            options,
            pipefail,
            commands,
        } => {
            let codes = pipeline(&options, &stages(&commands)?)?;
            match status(&codes, pipefail) {
                0 => Ok(()),
                code => Err(Failure::silent(code)),
            }
        }
        cli::Pipe::With {
            options,
            nonblock,
            command,
        } => {
            let mut flags = PipeFlags::empty();
            flags.set(PipeFlags::NONBLOCK, nonblock);
            let (reader, writer) = make(&Factory::open()?, &options, flags)?;
            let ends = [
                (READ_FD_VARIABLE, reader.into()),
                (WRITE_FD_VARIABLE, writer.into()),
            ];
            command::with_objects(ends, &command)
        }
        cli::Pipe::Info { descriptor } => {
            for line in info(descriptor)? {
                writeln!(out, "{line}")?;
            }
            Ok(())
        }
        cli::Pipe::Limits {
            max_size,
            soft,
            hard,
        } => {
            let change = PipeLimitsChange {
                max_size,
                user_pages_soft: soft,
                user_pages_hard: hard,
            };
            let limits =
                Factory::open()?
                    .change_pipe_limits(change)
                    .map_err(|error| match error.raw_os_error() {
                        Some(libc::EPERM) => {
                            Failure::new("cannot change the limits: that takes CAP_SYS_RESOURCE")
                        }
                        Some(libc::EINVAL) => {
                            Failure::new("cannot change the limits: there is no such size")
                        }
                        _ => Failure::because("cannot change the limits")(error),
                    })?;
            writeln!(out, "max-size: {}", limits.max_size)?;
            writeln!(out, "user-pages-soft: {}", limits.user_pages_soft)?;
            writeln!(out, "user-pages-hard: {}", limits.user_pages_hard)?;
            writeln!(out, "user-pages: {}", limits.user_pages)?;
            Ok(())
        }
    }
}

fn make(
    factory: &Factory,
    options: &PipeOptions,
    flags: PipeFlags,
) -> Result<(PipeReader, PipeWriter), Failure> {
    let mut flags = flags | PipeFlags::CLOEXEC;
    flags.set(PipeFlags::DIRECT, options.direct);
    factory
        .pipe(options.size.unwrap_or_default(), flags)
        .map_err(|error| match (error.raw_os_error(), options.size) {
            (Some(libc::EPERM), Some(size)) => Failure::new(format!(
                "cannot make a pipe of {size} bytes: that is more than `ipcdemo pipe limits` allow"
            )),
            _ => Failure::because("cannot make a pipe")(error),
        })
}

/// The commands of a pipeline, each with its first word.
fn stages(words: &[OsString]) -> Result<Vec<&[OsString]>, Failure> {
    let stages: Vec<_> = words.split(|word| word == SEPARATOR).collect();
    match stages.iter().position(|stage| stage.is_empty()) {
        None => Ok(stages),
        Some(place) => Err(Failure::with_code(
            2,
            format!("command {} of the pipeline is missing", place + 1),
        )),
    }
}

/// Runs the commands side by side, and gives their statuses as a shell has them.
fn pipeline(options: &PipeOptions, stages: &[&[OsString]]) -> Result<Vec<u8>, Failure> {
    let factory = Factory::open()?;
    // All pipes first: so nothing runs unless all of it can.
    let (mut inputs, mut outputs) = (vec![None], Vec::new());
    for _ in 1..stages.len() {
        let (reader, writer) = make(&factory, options, PipeFlags::empty())?;
        inputs.push(Some(reader));
        outputs.push(Some(writer));
    }
    outputs.push(None);
    let children: Vec<_> = stages
        .iter()
        .zip(inputs.into_iter().zip(outputs))
        .map(|(words, ends)| spawn(words, ends))
        .collect();
    Ok(children.into_iter().map(wait).collect())
}

/// Starts a command at its ends of two pipes, of which this process keeps nothing: the
/// neighbors of one that cannot be run find that nobody is there.
fn spawn(
    words: &[OsString],
    (input, output): (Option<PipeReader>, Option<PipeWriter>),
) -> Result<Child, Failure> {
    let mut command = command::command(words);
    if let Some(reader) = input {
        command.stdin(OwnedFd::from(reader));
    }
    if let Some(writer) = output {
        command.stdout(OwnedFd::from(writer));
    }
    command
        .spawn()
        .map_err(|error| command::cannot_run(words, &error))
}

fn wait(child: Result<Child, Failure>) -> u8 {
    let status = child.and_then(|mut child| {
        child
            .wait()
            .map_err(Failure::because::<io::Error>("cannot wait"))
    });
    match status {
        Ok(status) => code(status),
        Err(failure) => failure.tell(),
    }
}

/// A command's end, as a shell has it.
fn code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128 + signal as u8,
        (None, None) => 1,
    }
}

/// The pipeline's status.
fn status(codes: &[u8], pipefail: bool) -> u8 {
    let mut from_the_end = codes.iter().rev();
    let decisive = if pipefail {
        from_the_end.find(|code| **code != 0)
    } else {
        from_the_end.next()
    };
    decisive.copied().unwrap_or_default()
}

/// Describes a pipe or FIFO, line by line.
fn info(descriptor: Descriptor) -> Result<Vec<String>, Failure> {
    let fd = descriptor.fd;
    let (process, what) = match descriptor.pid {
        Some(pid) => (
            format!("/proc/{pid}"),
            format!("descriptor {fd} of process {pid}"),
        ),
        None => ("/proc/self".into(), format!("descriptor {fd}")),
    };
    let cannot_look =
        |error: io::Error| Failure::because::<io::Error>(format!("cannot look at {what}"))(error);
    let link = fs::read_link(format!("{process}/fd/{fd}")).map_err(cannot_look)?;
    let end = PipeReader::from(duplicate(descriptor).map_err(|error| cannot_look(error.into()))?);
    let Ok(capacity) = end.capacity() else {
        return Err(Failure::new(format!("{what} is no pipe of the module's")));
    };
    let bytes = ioctl_fionread(&end).map_err(|error| cannot_look(error.into()))?;
    // A FIFO has none.
    let id = Object::id_of(&end).map_err(cannot_look)?;
    let object = id.map(listed).transpose()?.flatten();
    Ok(lines(
        &link.to_string_lossy(),
        bytes,
        capacity,
        object.as_ref(),
    ))
}

/// The same open file: to open the pipe once more would make one more reader or writer for a moment.
fn duplicate(descriptor: Descriptor) -> rustix::io::Result<OwnedFd> {
    let pid = descriptor.pid.unwrap_or_else(std::process::id);
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(pid.ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    let fd = i32::try_from(descriptor.fd).map_err(|_| Errno::BADF)?;
    pidfd_getfd(process, fd, PidfdGetfdFlags::empty())
}

/// The pipe with this id among all live objects.
fn listed(id: u64) -> Result<Option<Object>, Failure> {
    let objects = Factory::open()?
        .list()
        .map_err(Failure::because("cannot list the objects"))?;
    Ok(objects.into_iter().find(|object| object.id == id))
}

fn lines(link: &str, bytes: u64, capacity: u32, object: Option<&Object>) -> Vec<String> {
    let mut lines = vec![
        format!("file: {link}"),
        format!("bytes: {bytes} of {capacity}"),
    ];
    if let Some(object) = object {
        lines.push(format!("object: {}", Name::of(object)));
        lines.push(format!("buffers: {} of {}", object.value, capacity / PAGE));
        lines.push(format!("waiters: {}", waiters(object)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipcdemo_client::raw;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn commands_are_told_apart() {
        let line = words("seq 9 ::: tac ::: head -n 1");
        let stages = stages(&line).unwrap();
        assert_eq!(stages, [words("seq 9"), words("tac"), words("head -n 1")]);
    }

    #[test]
    fn a_missing_command_is_told() {
        for (line, place) in [("::: cat", "1"), ("yes ::: ::: cat", "2"), ("yes :::", "2")] {
            let failure = stages(&words(line)).unwrap_err();
            assert!(
                format!("{failure:?}").contains(&format!("command {place} of")),
                "{line}"
            );
        }
    }

    #[test]
    fn the_last_command_decides() {
        assert_eq!(status(&[1, 0], false), 0);
        assert_eq!(status(&[0, 4], false), 4);
    }

    #[test]
    fn the_last_failure_decides() {
        assert_eq!(status(&[1, 2, 0], true), 2);
        assert_eq!(status(&[0, 0], true), 0);
    }

    #[test]
    fn ends_have_codes() {
        assert_eq!(code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code(ExitStatus::from_raw(libc::SIGPIPE)), 141);
    }

    #[test]
    fn a_pipe_is_described() {
        let object = Object {
            id: (u64::from(raw::IPCDEMO_KIND_PIPE) << 32) | 3,
            kind: ipcdemo_client::Kind::Pipe,
            value: 2,
            flags: 0,
            waiters: 4,
            inode: 7,
        };
        assert_eq!(
            lines("pipe:[77]", 5000, 65536, Some(&object)),
            [
                "file: pipe:[77]",
                "bytes: 5000 of 65536",
                "object: pipe/3",
                "buffers: 2 of 16",
                "waiters: 4"
            ]
        );
        assert_eq!(
            lines("/dev/ipcdemo-fifo", 0, 4096, None),
            ["file: /dev/ipcdemo-fifo", "bytes: 0 of 4096"]
        );
    }
}
