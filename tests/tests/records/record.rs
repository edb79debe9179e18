// SPDX-License-Identifier: GPL-2.0

//! What is written: records that can be told from one another, and bytes that can.

use std::sync::LazyLock;

use ipcdemo_tests::pipe::agreement;

/// A record is its header, and nothing else.
pub const HEADER: usize = 8;

/// The longest write that is never torn: PIPE_BUF of linux/limits.h.
pub const LONGEST: usize = 4096;

/// Who wrote a record, and which one of theirs it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record {
    pub writer: usize,
    pub sequence: u32,
    pub length: usize,
}

impl Record {
    /// Writer, length, sequence and a checksum, from the top down.
    fn header(self) -> u64 {
        let (writer, length) = (self.writer as u64, self.length as u64);
        let text = (writer << 60) | (length << 47) | (u64::from(self.sequence) << 16);
        text | checksum(text)
    }

    /// What follows the header: a part of the noise, which another record has another of.
    fn body(self) -> &'static [u8] {
        let start = mix(self.header()) as usize % (NOISE.len() - LONGEST);
        &NOISE[start..start + self.length - HEADER]
    }

    /// Puts it down.
    pub fn encode(self, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.header().to_le_bytes());
        buffer.extend_from_slice(self.body());
    }

    /// The record that these bytes begin with, as far as the header tells; none if that is
    /// not there as a whole.
    pub fn announced(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(header) = bytes.first_chunk() else {
            return Ok(None);
        };
        let header = u64::from_le_bytes(*header);
        let record = Self {
            writer: (header >> 60) as usize,
            sequence: (header >> 16) as u32 & 0x7fff_ffff,
            length: (header >> 47) as usize & 0x1fff,
        };
        let sound = record.header() == header && (HEADER..=LONGEST).contains(&record.length);
        sound
            .then_some(Some(record))
            .ok_or_else(|| format!("no header of a record: {header:#018x}"))
    }

    /// The record that these bytes begin with, every byte of which was compared; none if it
    /// is not there as a whole.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(record) = Self::announced(bytes)? else {
            return Ok(None);
        };
        let Some(body) = bytes.get(HEADER..record.length) else {
            return Ok(None);
        };
        match body == record.body() {
            true => Ok(Some(record)),
            false => {
                let at = agreement(body, record.body());
                Err(format!("{record:?} is torn at byte {}", HEADER + at))
            }
        }
    }
}

fn checksum(text: u64) -> u64 {
    mix(text) >> 48
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number ^ (number >> 32)
}

static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = (0..(1_u64 << 13)).map(|word| mix(word + 1));
    words.flat_map(u64::to_le_bytes).collect()
});

/// A writer's bytes without end: two bits of each tell whose it is, six its place, which
/// repeats itself after [`Stream::PERIOD`].
pub struct Stream {
    bytes: Vec<u8>,
}

impl Stream {
    /// So many writers can be told from each other.
    pub const WRITERS: usize = 4;
    /// No power of two, so that a lost buffer is seen.
    const PERIOD: usize = 61;
    /// So much of it can be had at once.
    pub const AT_ONCE: usize = 1 << 17;

    pub fn of(writer: usize) -> Self {
        let place = 0..Self::AT_ONCE + Self::PERIOD;
        let bytes = place.map(|place| ((writer << 6) | (place % Self::PERIOD)) as u8);
        Self {
            bytes: bytes.collect(),
        }
    }

    /// Whose a byte is.
    pub fn writer(byte: u8) -> usize {
        usize::from(byte >> 6)
    }

    /// What comes from a place on.
    pub fn from(&self, place: usize) -> &[u8] {
        let start = place % Self::PERIOD;
        &self.bytes[start..start + Self::AT_ONCE]
    }
}
