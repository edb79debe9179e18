// SPDX-License-Identifier: GPL-2.0

//! What the host and the guest's agent say to each other over a virtio-serial port.
//!
//! The host sends a [`Request`], the agent answers it with one [`Reply`] that ends it, and in
//! between bytes travel on the other channels. Everything is a frame: length, channel, payload.

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The name under which the guest finds the port.
pub const PORT_NAME: &str = "ipcdemo.agent";

/// What each line begins with that the agent writes to the kernel's log.
pub const LOG_PREFIX: &str = "ipcdemo-vm: ";

/// The most payload one frame carries; the guest's driver copies this much in one go.
pub const CHUNK: usize = 32 * 1024 - HEADER;

const HEADER: usize = 5;

/// Which stream a frame belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A [`Request`] or a [`Reply`], as JSON.
    Control,
    /// To the command's standard input; an empty frame is its end.
    Stdin,
    /// From the command's standard output.
    Stdout,
    /// From the command's standard error.
    Stderr,
    /// The content of the file announced last.
    File,
}

impl Channel {
    const ALL: [Channel; 5] = [
        Channel::Control,
        Channel::Stdin,
        Channel::Stdout,
        Channel::Stderr,
        Channel::File,
    ];
}

/// A directory, file or symbolic link on its way from one side to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it goes, absolute for the guest, relative to the shared folder for the host.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What an [`Entry`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory.
    Dir {
        /// Its permissions.
        mode: u32,
    },
    /// A file, whose content follows on [`Channel::File`].
    File {
        /// Its permissions.
        mode: u32,
        /// Its length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Link {
        /// What it points to.
        target: String,
    },
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the agent's own environment.
    pub env: Vec<(String, String)>,
    /// On the guest's terminal, of this many rows and columns, instead of three pipes.
    pub terminal: Option<(u16, u16)>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Exit {
    /// As a shell would report it.
    pub fn status(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// What the host asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The guest has booted: leave nothing unsettled behind, before it is saved or used.
    Settle,
    /// The first request of a run. A resumed guest has the clock and the random state of the moment
    /// it was saved.
    Start {
        /// The time since the epoch.
        clock: Duration,
        /// For the random number generator.
        seed: [u8; 32],
    },
    /// Mount a folder of the host.
    Mount {
        /// Its 9p tag.
        tag: String,
        /// Where.
        path: String,
        /// Whether the guest may write.
        writable: bool,
    },
    /// Go on inside the 9p folder of this tag, with a layer above it that takes what is written.
    Root {
        /// The 9p tag.
        tag: String,
    },
    /// Make this directory, file or link. Answered once its content is there.
    Put(Entry),
    /// Send this tree: a [`Reply::Entry`] for each of its entries, then [`Reply::Done`].
    Get {
        /// The tree's top.
        path: String,
    },
    /// Insert a module.
    Load {
        /// The file.
        path: String,
        /// Its parameters, as `insmod` takes them.
        args: String,
        /// Whether the other processors are to be offline meanwhile, and while it is removed. The
        /// module's KUnit tests then run before that, in a module without parameters.
        alone: bool,
    },
    /// Run a command; answered by [`Reply::Exited`].
    Run(Command),
    /// Send the running command's process group a signal; not answered.
    Signal(i32),
    /// The terminal has this many rows and columns now; not answered.
    Resize(u16, u16),
    /// Kill whatever the command left running. [`Reply::Failed`] names what can't be killed.
    KillLeftovers,
    /// Write this to the kernel's log.
    Mark(String),
    /// Remove every module that was inserted.
    Unload,
    /// Look for leaked memory; what is found stands in the [`Reply::Failed`].
    Kmemleak,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The agent is up; sent once, unasked.
    Ready,
    /// The request is done.
    Done,
    /// The request failed, for this reason.
    Failed(String),
    /// One entry of the tree asked for; its content follows.
    Entry(Entry),
    /// The last [`Channel::Stdin`] frame was passed on, the next may come.
    StdinTaken,
    /// The command has ended.
    Exited(Exit),
}

/// Sends a frame, in one write where the receiver has room.
pub fn write_frame(to: &mut impl Write, channel: Channel, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(HEADER + payload.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.push(channel as u8);
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}

/// Sends a request or a reply.
pub fn write_message(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    write_frame(to, Channel::Control, &serde_json::to_vec(message)?)
}

/// Receives a frame; `None` at the end of the stream.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<(Channel, Vec<u8>)>> {
    let mut header = [0; HEADER];
    match from.read(&mut header)? {
        0 => return Ok(None),
        got => from.read_exact(&mut header[got..])?,
    }
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let channel = Channel::ALL.get(usize::from(header[4])).copied();
    // A guest gone astray must not make the host allocate gigabytes.
    let Some(channel) = channel.filter(|_| length <= 16 << 20) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not a frame: {header:02x?}"),
        ));
    };
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(Some((channel, payload)))
}

/// Reads a request or a reply out of a frame's payload.
pub fn parse<T: DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
    serde_json::from_slice(payload)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte per read, as a slow port may.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let (now, later) = self
                .0
                .split_at(usize::from(!self.0.is_empty()).min(buf.len()));
            buf[..now.len()].copy_from_slice(now);
            self.0 = later;
            Ok(now.len())
        }
    }

    #[test]
    fn frames_survive_the_trip_however_they_are_cut() {
        let request = Request::Put(Entry {
            path: "/a b".into(),
            kind: EntryKind::File {
                mode: 0o755,
                size: 3,
            },
        });
        let mut wire = Vec::new();
        write_message(&mut wire, &request).unwrap();
        write_frame(&mut wire, Channel::File, b"xyz").unwrap();
        write_frame(&mut wire, Channel::Stdin, b"").unwrap();

        let mut wire = Trickle(&wire);
        let (channel, payload) = read_frame(&mut wire).unwrap().unwrap();
        assert_eq!(channel, Channel::Control);
        assert_eq!(parse::<Request>(&payload).unwrap(), request);
        assert_eq!(
            read_frame(&mut wire).unwrap(),
            Some((Channel::File, b"xyz".to_vec()))
        );
        assert_eq!(
            read_frame(&mut wire).unwrap(),
            Some((Channel::Stdin, Vec::new()))
        );
        assert_eq!(read_frame(&mut wire).unwrap(), None);
    }

    #[test]
    fn every_channel_is_told_by_its_number() {
        for channel in Channel::ALL {
            assert_eq!(Channel::ALL[channel as usize], channel);
        }
    }

    #[test]
    fn garbage_is_refused() {
        let unknown_channel = [0, 0, 0, 0, 9];
        let too_long = [0xff, 0xff, 0xff, 0xff, 1];
        for wire in [unknown_channel, too_long] {
            assert_eq!(
                read_frame(&mut &wire[..]).unwrap_err().kind(),
                io::ErrorKind::InvalidData
            );
        }
        let cut_short = [5, 0, 0, 0, 1, b'x'];
        assert_eq!(
            read_frame(&mut &cut_short[..]).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert!(parse::<Reply>(b"{\"Exited\":").is_err());
    }

    #[test]
    fn a_signal_counts_from_128() {
        assert_eq!(Exit::Code(7).status(), 7);
        assert_eq!(Exit::Signal(9).status(), 137);
    }
}
