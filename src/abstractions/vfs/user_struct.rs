// SPDX-License-Identifier: GPL-2.0

//! Argument structs of an `ioctl` that may grow, and arrays of structs that may.
//!
//! C: `copy_struct_from_user` and `copy_struct_to_user` in
//! [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h).

use crate::abstractions::vfs::stream::{Destination, Source, UserBuffer};
use core::marker::PhantomData;
use kernel::{
    ioctl::_IOC_SIZE,
    prelude::*,
    uaccess::{UserPtr, UserSlice},
    uapi, //
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What an `ioctl` asks for. The size in its number is left out: that is up to the caller's version.
pub(crate) type Request = u32;

/// What the `ioctl` with this number asks for.
pub(crate) const fn request(cmd: u32) -> Request {
    cmd & !(uapi::_IOC_SIZEMASK << uapi::_IOC_SIZESHIFT)
}

/// A struct whose size the caller tells, and which later versions extend at its end.
///
/// `IntoBytes` rules out padding, so nothing uninitialized can be copied out.
pub(crate) trait UserStruct: FromBytes + IntoBytes + Immutable {
    /// The size of the struct's first version, which no caller may go below.
    const SIZE_VER0: usize;
}

/// Makes [`UserStruct`]s of structs of the interface, each with the size of its first version.
macro_rules! impl_user_struct {
    ($($args:ty: $size_ver0:expr),* $(,)?) => {
        $(impl $crate::abstractions::vfs::user_struct::UserStruct for $args {
            const SIZE_VER0: usize = $size_ver0 as usize;
        })*
    };
}
pub(crate) use impl_user_struct;

/// A [`UserStruct`] in user memory.
pub(crate) struct UserStructPtr {
    ptr: UserPtr,
    size: usize,
}

impl UserStructPtr {
    /// What an `ioctl` asks for, and its argument: a struct at `arg`, as long as its caller knows it.
    pub(crate) fn of_ioctl(cmd: u32, arg: usize) -> (Request, Self) {
        let ptr = UserPtr::from_addr(arg);
        let size = _IOC_SIZE(cmd);
        (request(cmd), Self { ptr, size })
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
        if self.size > known {
            self.refuse_unknown(known)?;
        }
        let mut value = T::new_zeroed();
        let mut from = UserBuffer::new(self.ptr, known).source();
        if from.fill(&mut value.as_mut_bytes()[..known]) {
            Ok(value)
        } else {
            Err(EFAULT)
        }
    }

    /// Refuses what is longer than `known`, unless the rest is zero.
    #[cold]
    fn refuse_unknown(&self, known: usize) -> Result {
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
        Ok(())
    }

    /// Writes `value` back, as much of it as the caller knows. What the caller knows beyond it was
    /// zero when it was read, and stays so.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `EFAULT`.
    pub(crate) fn write<T: UserStruct>(&self, value: &T) -> Result {
        let known = self.size.min(size_of::<T>());
        let mut to = UserBuffer::new(self.ptr, known).destination();
        if to.copy(&value.as_bytes()[..known]) == known {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }
}

/// An array in user memory that is written, of structs which the caller may know in another size.
pub(crate) struct UserArray<T> {
    start: usize,
    stride: usize,
    _elements: PhantomData<T>,
}

impl<T: IntoBytes + Immutable> UserArray<T> {
    /// An array at `address` of elements of `element_size` bytes.
    ///
    /// Errors: `EINVAL` if the size is 0 or above `size_max`, `EFAULT` if there is no such address.
    pub(crate) fn new(address: u64, element_size: u32, size_max: u32) -> Result<Self> {
        if element_size == 0 || element_size > size_max {
            return Err(EINVAL);
        }
        Ok(Self {
            start: address.try_into().map_err(|_| EFAULT)?,
            stride: element_size as usize,
            _elements: PhantomData,
        })
    }

    /// Writes its first elements, each cut or extended by zeros to the size that the caller knows.
    ///
    /// Context: may sleep.
    ///
    /// Errors: `EFAULT`.
    pub(crate) fn write(&self, elements: &[T]) -> Result {
        let known = self.stride.min(size_of::<T>());
        for (index, element) in elements.iter().enumerate() {
            let at = index
                .checked_mul(self.stride)
                .and_then(|offset| self.start.checked_add(offset))
                .ok_or(EFAULT)?;
            let mut writer = UserSlice::new(UserPtr::from_addr(at), self.stride).writer();
            writer.write_slice(&element.as_bytes()[..known])?;
            while !writer.is_empty() {
                writer.write_slice(&[0; 64][..writer.len().min(64)])?;
            }
        }
        Ok(())
    }
}
