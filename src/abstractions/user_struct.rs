// SPDX-License-Identifier: GPL-2.0

//! Argument structs of user space that may grow.
//!
//! C: `copy_struct_from_user` and `copy_struct_to_user` in
//! [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h).

use kernel::{
    prelude::*,
    uaccess::{UserPtr, UserSlice}, //
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A struct whose size the caller tells, and which later versions extend at its end.
///
/// `IntoBytes` rules out padding, so nothing uninitialized can be copied out.
pub(crate) trait UserStruct: FromBytes + IntoBytes + Immutable {
    /// The size of the struct's first version, which no caller may go below.
    const SIZE_VER0: usize;
}

/// A [`UserStruct`] in user memory.
pub(crate) struct UserStructPtr {
    ptr: UserPtr,
    size: usize,
}

impl UserStructPtr {
    /// A struct of `size` bytes at `ptr`, as its caller sees it.
    pub(crate) fn new(ptr: UserPtr, size: usize) -> Self {
        Self { ptr, size }
    }

    /// Reads it.
    ///
    /// A shorter struct is extended by zeros. A longer one is taken if the rest is zero.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `EINVAL` if it is shorter than the first version, `E2BIG` if something unknown is
    /// set in it, `EFAULT`.
    pub(crate) fn read<T: UserStruct>(&self) -> Result<T> {
        const { assert!(T::SIZE_VER0 <= size_of::<T>()) };
        if self.size < T::SIZE_VER0 {
            return Err(EINVAL);
        }
        let known = self.size.min(size_of::<T>());

        let mut rest = UserSlice::new(self.ptr, self.size).reader();
        rest.skip(known)?;
        let mut bytes = [0; 64];
        while !rest.is_empty() {
            let part = rest.len().min(bytes.len());
            rest.read_slice(&mut bytes[..part])?;
            if bytes[..part].iter().any(|&byte| byte != 0) {
                return Err(E2BIG);
            }
        }

        let mut value = T::new_zeroed();
        UserSlice::new(self.ptr, known)
            .reader()
            .read_slice(&mut value.as_mut_bytes()[..known])?;
        Ok(value)
    }

    /// Writes `value` back, as much of it as the caller knows. What the caller knows beyond it was
    /// zero when it was read, and stays so.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `EFAULT`.
    pub(crate) fn write<T: UserStruct>(&self, value: &T) -> Result {
        let known = self.size.min(size_of::<T>());
        UserSlice::new(self.ptr, known)
            .writer()
            .write_slice(&value.as_bytes()[..known])
    }
}
