// SPDX-License-Identifier: GPL-2.0

//! How much users may have in pipes, and how much they have.
//!
//! The kernel keeps an account of its own pipes, which a module cannot use; this one is for ours. A pipe
//! counts with its capacity, whether there is something in it or not.
//!
//! Original: `alloc_pipe_info` and what it calls in `fs/pipe.c`, `/proc/sys/fs/pipe-*` in pipe(7).

use crate::{
    abstractions::credentials::{capable, current_uid, Capability},
    algorithms::ring::{slots_for, BUFFER_MAX}, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, //
    },
    xarray::{AllocKind, XArray}, //
};

/// The pages of a pipe that nobody asked to be larger. `PIPE_DEF_BUFFERS`.
pub(crate) const DEFAULT_PAGES: u32 = 16;

/// The pages of a pipe whose user has too many. `PIPE_MIN_DEF_BUFFERS`.
const MIN_PAGES: u32 = 2;

/// The limits.
#[derive(Clone, Copy)]
pub(crate) struct Values {
    /// The largest capacity in bytes: `pipe-max-size`.
    pub(crate) max_size: u32,
    /// With more pages than these a user's new pipes are small: `pipe-user-pages-soft`. 0 is none.
    pub(crate) user_pages_soft: u64,
    /// With more than these there are no new ones: `pipe-user-pages-hard`. 0 is none.
    pub(crate) user_pages_hard: u64,
}

/// The limits, and what each user has.
#[pin_data]
pub(crate) struct Limits {
    max_size: Atomic<u32>,
    user_pages_soft: Atomic<u64>,
    user_pages_hard: Atomic<u64>,
    /// The users who have pipes, by number. Its lock guards who is in it; a user goes with the last page.
    #[pin]
    users: XArray<Arc<User>>,
}

/// What a user has.
struct User {
    pages: Atomic<u64>,
}

impl User {
    /// Replaces `old` pages by `new`. Gives how many there are then.
    fn account(&self, old: u32, new: u32) -> u64 {
        let difference = u64::from(new).wrapping_sub(old.into());
        self.pages
            .fetch_add(difference, Relaxed)
            .wrapping_add(difference)
    }
}

/// Whether the limits bind the caller.
///
/// C: `pipe_is_unprivileged_user`.
pub(crate) fn is_unprivileged() -> bool {
    !capable(Capability::SysResource) && !capable(Capability::SysAdmin)
}

/// A capacity in bytes, rounded as that of a pipe is.
///
/// Errors: `EINVAL` if there is no such capacity.
pub(crate) fn rounded(bytes: u32) -> Result<u32> {
    Ok(slots_for(bytes).ok_or(EINVAL)? * BUFFER_MAX)
}

impl Limits {
    /// The limits to begin with. The largest capacity is rounded.
    ///
    /// Context: may sleep. Errors: `ENOMEM`; `EINVAL` if there is no such capacity.
    pub(crate) fn new(values: Values) -> Result<Arc<Self>> {
        let max_size = rounded(values.max_size)?;
        Arc::pin_init(
            pin_init!(Self {
                max_size: Atomic::new(max_size),
                user_pages_soft: Atomic::new(values.user_pages_soft),
                user_pages_hard: Atomic::new(values.user_pages_hard),
                users <- XArray::new(AllocKind::Alloc),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn values(&self) -> Values {
        Values {
            max_size: self.max_size.load(Relaxed),
            user_pages_soft: self.user_pages_soft.load(Relaxed),
            user_pages_hard: self.user_pages_hard.load(Relaxed),
        }
    }

    pub(crate) fn set_max_size(&self, bytes: u32) -> Result {
        self.max_size.store(rounded(bytes)?, Relaxed);
        Ok(())
    }

    pub(crate) fn set_user_pages_soft(&self, pages: u64) {
        self.user_pages_soft.store(pages, Relaxed);
    }

    pub(crate) fn set_user_pages_hard(&self, pages: u64) {
        self.user_pages_hard.store(pages, Relaxed);
    }

    /// How many pages the caller's user has.
    pub(crate) fn user_pages(&self) -> u64 {
        let users = self.users.lock();
        users
            .get(current_uid() as usize)
            .map_or(0, |user| user.pages.load(Relaxed))
    }

    /// Whether the caller may ask for so many pages at once.
    ///
    /// Errors: `EPERM`.
    pub(crate) fn allow_size(&self, pages: u32) -> Result {
        if pages > self.values().max_size / BUFFER_MAX && !capable(Capability::SysResource) {
            return Err(EPERM);
        }
        Ok(())
    }

    fn is_above(pages: u64, limit: u64) -> bool {
        limit != 0 && pages > limit
    }

    fn is_above_soft(&self, pages: u64) -> bool {
        Self::is_above(pages, self.values().user_pages_soft)
    }

    fn is_above_hard(&self, pages: u64) -> bool {
        Self::is_above(pages, self.values().user_pages_hard)
    }

    /// The user with this number, and so many pages more.
    fn charge(&self, uid: u32, pages: u32) -> Result<Arc<User>> {
        let index = uid as usize;
        if let Some(user) = self.users.lock().get(index) {
            user.account(0, pages);
            return Ok(user.into());
        }
        let user = Arc::new(
            User {
                pages: Atomic::new(pages.into()),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let mut users = self.users.lock();
        if let Some(other) = users.get(index) {
            other.account(0, pages);
            return Ok(other.into());
        }
        // The lock may be dropped to allocate memory, and another one be put in meanwhile: that stays.
        let stored = users.store(index, user.clone(), GFP_KERNEL_ACCOUNT);
        match stored.map_err(|refused| refused.error)? {
            None => Ok(user),
            Some(other) => {
                other.account(0, pages);
                // There is memory for it now.
                let _ = users.store(index, other.clone(), GFP_ATOMIC);
                Ok(other)
            }
        }
    }

    fn uncharge(&self, uid: u32, user: &User, pages: u32) {
        let mut users = self.users.lock();
        if user.account(pages, 0) == 0 {
            let gone = users.remove(uid as usize);
            drop(users);
            drop(gone);
        }
    }
}

/// What a pipe counts for.
pub(crate) struct Charge {
    limits: Arc<Limits>,
    user: Arc<User>,
    uid: u32,
    pages: u32,
}

impl Charge {
    /// Charges the caller for a new pipe: as many pages as it may have.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, also if the user has too many pages.
    ///
    /// C: `alloc_pipe_info`.
    pub(crate) fn new(limits: &Arc<Limits>) -> Result<Self> {
        let mut pages = DEFAULT_PAGES;
        let most = limits.values().max_size / BUFFER_MAX;
        if pages > most && !capable(Capability::SysResource) {
            pages = most;
        }
        let uid = current_uid();
        let user = limits.charge(uid, pages)?;
        let mut charge = Self {
            limits: limits.clone(),
            user,
            uid,
            pages,
        };
        if limits.is_above_soft(charge.sum()) && is_unprivileged() {
            charge.replace(MIN_PAGES);
        }
        if limits.is_above_hard(charge.sum()) && is_unprivileged() {
            return Err(ENOMEM);
        }
        Ok(charge)
    }

    /// How many pages it is.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// How many pages the user has.
    fn sum(&self) -> u64 {
        self.user.pages.load(Relaxed)
    }

    fn replace(&mut self, pages: u32) {
        self.user.account(self.pages, pages);
        self.pages = pages;
    }

    /// Makes it so many pages. Tells whether the user is above a limit then.
    ///
    /// Context: any.
    pub(crate) fn change(&mut self, pages: u32) -> bool {
        self.replace(pages);
        self.limits.is_above_soft(self.sum()) || self.limits.is_above_hard(self.sum())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.limits.uncharge(self.uid, &self.user, self.pages);
    }
}
