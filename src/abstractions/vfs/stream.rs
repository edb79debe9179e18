// SPDX-License-Identifier: GPL-2.0

//! Where the bytes of a read go, and where those of a write come from.
//!
//! read(2) and write(2) bring one buffer of a user's, everybody else an I/O vector. Code that is written for
//! either, by these traits, is compiled for both: a request for one buffer then costs nothing of what a vector
//! needs, which for a few bytes is a good part of it all.

use crate::bindings;
use core::{mem::MaybeUninit, ptr};
use kernel::{
    iov::{IovIterDest, IovIterSource},
    prelude::*,
    uaccess::UserPtr, //
};

/// Where the bytes of a read go.
pub(crate) trait Destination {
    /// How many more bytes there is room for.
    fn len(&self) -> usize;

    /// Copies bytes there, as many as there is room for. Gives how many: fewer if there is a bad address.
    ///
    /// Context: may sleep.
    fn copy(&mut self, bytes: &[u8]) -> usize;

    /// Copies the bytes of a word there. Tells whether it could; if not, they may be there in part, not counted.
    ///
    /// Context: may sleep.
    #[inline]
    fn write_word(&mut self, word: u64) -> bool {
        let bytes = word.to_ne_bytes();
        self.copy(&bytes) == bytes.len()
    }

    /// Whether there is no more room.
    #[inline]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where the bytes of a write come from.
///
/// # Safety
///
/// [`Source::copy`] gives no more than the length of `room`, has initialized so many bytes of it, and leaves no
/// byte less initialized than it was. [`Source::len`] is less by so many then, and changes by nothing else but reading.
pub(crate) unsafe trait Source {
    /// How many more bytes there are.
    fn len(&self) -> usize;

    /// Copies bytes from there, as many as there is room for. Gives how many: fewer if there is a bad address.
    /// So many of `room` are initialized then.
    ///
    /// Context: may sleep.
    fn copy(&mut self, room: &mut [MaybeUninit<u8>]) -> usize;

    /// A word of the next bytes, if there are so many and none at a bad address. If not, some may be passed over.
    ///
    /// Context: may sleep.
    #[inline]
    fn read_word(&mut self) -> Option<u64> {
        let mut bytes = [0; size_of::<u64>()];
        self.fill(&mut bytes).then(|| u64::from_ne_bytes(bytes))
    }

    /// Copies as many bytes as there is room for, if there are so many and none at a bad address. If not, some of
    /// the room may be written, and some bytes passed over.
    ///
    /// Context: may sleep.
    #[inline]
    fn fill(&mut self, bytes: &mut [u8]) -> bool {
        // SAFETY: Bytes may be treated as if they were not initialized, as long as nothing else than bytes is
        // written there: by the trait's requirements `copy` initializes some, and leaves the others.
        let room = unsafe { &mut *(ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) };
        self.copy(room) == bytes.len()
    }

    /// Whether there is nothing left.
    #[inline]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A source that has something left.
pub(crate) struct Filled<'a, S: ?Sized>(&'a mut S);

impl<'a, S: Source + ?Sized> Filled<'a, S> {
    /// Returns the source, unless there is nothing left.
    #[inline]
    pub(crate) fn new(source: &'a mut S) -> Option<Self> {
        (!source.is_empty()).then_some(Self(source))
    }

    /// Takes what is left.
    #[inline]
    pub(in crate::abstractions) fn into_inner(self) -> &'a mut S {
        self.0
    }
}

/// The buffer of a read(2) or a write(2), at any address whatever.
///
/// It is the kernel crate's `UserSlice`, but inlined, and with a count of what was copied before a bad address. Nor
/// does it look where in the kernel the bytes are, as `copy_to_user` may: a slice is as long as it says.
pub(crate) struct UserBuffer {
    ptr: UserPtr,
    len: usize,
}

/// One to read into.
pub(crate) struct UserDestination(UserBuffer);

/// One to write from.
pub(crate) struct UserSource(UserBuffer);

impl UserBuffer {
    #[inline]
    pub(crate) fn new(ptr: UserPtr, len: usize) -> Self {
        Self { ptr, len }
    }

    #[inline]
    pub(crate) fn destination(self) -> UserDestination {
        UserDestination(self)
    }

    #[inline]
    pub(crate) fn source(self) -> UserSource {
        UserSource(self)
    }

    /// Goes on by so many bytes.
    #[inline]
    fn advance(&mut self, len: usize) {
        self.ptr = self.ptr.wrapping_byte_add(len);
        self.len -= len;
    }
}

impl Destination for UserDestination {
    #[inline]
    fn len(&self) -> usize {
        self.0.len
    }

    #[inline]
    fn copy(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.0.len);
        let from = bytes.as_ptr().cast();
        // SAFETY: There are so many bytes.
        let left = unsafe { bindings::copy_to_user(self.0.ptr.as_mut_ptr(), from, len) };
        let copied = len - left as usize;
        self.0.advance(copied);
        copied
    }

    /// C: `put_user`, for which the length is a part of the instruction.
    #[inline]
    fn write_word(&mut self, word: u64) -> bool {
        if self.0.len < size_of_val(&word) {
            return false;
        }
        // SAFETY: No requirements: the address is a user's, or refused.
        let error = unsafe { bindings::put_user_u64(word, self.0.ptr.as_mut_ptr().cast()) };
        if error != 0 {
            return false;
        }
        self.0.advance(size_of_val(&word));
        true
    }
}

// SAFETY: `copy` gives what is not left of what it asked for, and so much is written; nothing but bytes is.
unsafe impl Source for UserSource {
    #[inline]
    fn len(&self) -> usize {
        self.0.len
    }

    #[inline]
    fn copy(&mut self, room: &mut [MaybeUninit<u8>]) -> usize {
        let len = room.len().min(self.0.len);
        let to = room.as_mut_ptr().cast();
        // SAFETY: There is room for so many bytes, and only bytes are written.
        let left = unsafe { bindings::copy_from_user(to, self.0.ptr.as_const_ptr(), len) };
        let copied = len - left as usize;
        self.0.advance(copied);
        copied
    }

    /// C: `get_user`, for which the length is a part of the instruction.
    #[inline]
    fn read_word(&mut self) -> Option<u64> {
        let mut word = 0;
        if self.0.len < size_of_val(&word) {
            return None;
        }
        // SAFETY: `word` is valid for writing. The address is a user's, or refused.
        let error = unsafe { bindings::get_user_u64(&mut word, self.0.ptr.as_const_ptr().cast()) };
        if error != 0 {
            return None;
        }
        self.0.advance(size_of_val(&word));
        Some(word)
    }
}

impl Destination for IovIterDest<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn copy(&mut self, bytes: &[u8]) -> usize {
        self.copy_to_iter(bytes)
    }
}

// SAFETY: `copy_from_iter_raw` gives the part of its argument that it has initialized.
unsafe impl Source for IovIterSource<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn copy(&mut self, room: &mut [MaybeUninit<u8>]) -> usize {
        self.copy_from_iter_raw(room).len()
    }
}

/// Calls `copy` for a chunk at a time until `len` bytes are copied, it meets a bad address, or the task has a signal
/// pending: a request may be as long as 2 GiB. Returns how many bytes were copied.
///
/// `copy` may copy less than it is asked to, or nothing, if there is a bad address; not more. `chunk` is not 0.
///
/// Context: may sleep. Errors: `EFAULT` if nothing was copied.
pub(crate) fn in_chunks(
    len: usize,
    chunk: usize,
    mut copy: impl FnMut(usize) -> usize,
) -> Result<usize> {
    let copied = copy(len.min(chunk));
    if copied == len {
        return Ok(len);
    }
    rest_in_chunks(len, chunk, copied, copy)
}

/// As [`in_chunks`], if the first chunk did not copy all bytes. Out of line, to keep the common case short.
#[cold]
fn rest_in_chunks(
    len: usize,
    mut chunk: usize,
    mut copied: usize,
    mut copy: impl FnMut(usize) -> usize,
) -> Result<usize> {
    let (mut done, mut want) = (copied, len.min(chunk));
    loop {
        if copied < want {
            // Ever smaller chunks find how much can be copied before the bad address.
            chunk = want / 2;
            if chunk == 0 {
                break;
            }
        } else if done == len || current!().signal_pending() {
            break;
        }
        want = (len - done).min(chunk);
        copied = copy(want);
        done += copied;
    }
    if done > 0 {
        Ok(done)
    } else {
        Err(EFAULT)
    }
}
