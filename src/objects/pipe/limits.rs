// SPDX-License-Identifier: GPL-2.0

//! How much users may have in pipes, and how much they have.
//!
//! The kernel keeps an account of its own pipes, which a module cannot use; this one is for ours. A pipe
//! counts with its capacity, whether there is something in it or not.
//!
//! Original: `alloc_pipe_info` and what it calls in `fs/pipe.c`, `/proc/sys/fs/pipe-*` in pipe(7).

use crate::{
    abstractions::{
        task::credentials::{capable, current_uid, Capability},
        vfs::user_struct::{impl_user_struct, UserStructPtr}, //
    },
    algorithms::ring::{slots_for, BUFFER_MAX},
    bindings::{
        ipcdemo_pipe_limits_args, IPCDEMO_LIMIT_MAX_SIZE, IPCDEMO_LIMIT_USER_PAGES_HARD,
        IPCDEMO_LIMIT_USER_PAGES_SOFT, IPCDEMO_PIPE_LIMITS_SIZE_VER0,
    },
};
use core::{mem::replace, ptr};
use kernel::{
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc, //
    },
    xarray::{AllocKind, XArray}, //
};

/// The pages of a pipe that nobody asked to be larger. `PIPE_DEF_BUFFERS`.
pub(super) const DEFAULT_PAGES: u32 = 16;

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

/// The limits, and the pages of each user.
#[pin_data]
pub(crate) struct Limits {
    max_size: Atomic<u32>,
    user_pages_soft: Atomic<u64>,
    user_pages_hard: Atomic<u64>,
    /// The users who have pipes, or an [`Account`], by number. Its lock guards the set of users.
    #[pin]
    users: XArray<Arc<User>>,
}

/// A user's pages and accounts.
struct User {
    uid: u32,
    limits: Arc<Limits>,
    /// More come only while there is an account, or some already.
    pages: Atomic<u64>,
    /// How many [`Account`]s there are. The first comes only under the lock of `users`.
    accounts: Atomic<u32>,
}

impl User {
    /// Replaces `old` pages by `new`. Returns the user's pages after that.
    fn account(&self, old: u32, new: u32) -> u64 {
        let difference = u64::from(new).wrapping_sub(old.into());
        self.pages
            .fetch_add(difference, Full)
            .wrapping_add(difference)
    }

    /// Returns how many pages the user has.
    fn pages(&self) -> u64 {
        self.pages.load(Relaxed)
    }

    fn is_idle(&self) -> bool {
        self.pages() == 0 && self.accounts.load(Relaxed) == 0
    }

    /// Takes the user from the list if there is nothing left to remember: to be called when pages or an account
    /// went.
    ///
    /// The last page and the last account may go at the same time. Each is gone, by an operation that is a full
    /// barrier, before the look at the other, so that at least one of the two finds both gone.
    fn forget(&self) {
        if !self.is_idle() {
            return;
        }
        let mut users = self.limits.users.lock();
        let index = self.uid as usize;
        // Somebody may have come meanwhile, or been faster. With the lock held nobody comes.
        let listed = users.get(index).is_some_and(|user| ptr::eq(&*user, self));
        if listed && self.is_idle() {
            let gone = users.remove(index);
            drop(users);
            drop(gone);
        }
    }
}

/// The account of a user, kept open: so that the user need not be looked up for each pipe, nor come and go with
/// it.
pub(crate) struct Account(Arc<User>);

impl Account {
    /// That of the caller.
    ///
    /// Context: may sleep. Errors: `ENOMEM`.
    pub(crate) fn open(limits: &Arc<Limits>) -> Result<Self> {
        let uid = current_uid();
        let index = uid as usize;
        if let Some(user) = limits.users.lock().get(index) {
            return Ok(Self::of(user.into()));
        }
        let user = Arc::new(
            User {
                uid,
                limits: limits.clone(),
                pages: Atomic::new(0),
                accounts: Atomic::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let mut users = limits.users.lock();
        if let Some(other) = users.get(index) {
            return Ok(Self::of(other.into()));
        }
        // The lock may be dropped to allocate memory, and another one be put in meanwhile: that stays.
        let stored = users.store(index, user.clone(), GFP_KERNEL_ACCOUNT);
        match stored.map_err(|refused| refused.error)? {
            None => Ok(Self::of(user)),
            Some(other) => {
                let account = Self::of(other.clone());
                // There is memory for it now.
                let _ = users.store(index, other, GFP_ATOMIC);
                Ok(account)
            }
        }
    }

    /// Called with the lock of the users held, or with another account of the user open.
    fn of(user: Arc<User>) -> Self {
        user.accounts.add(1, Relaxed);
        Self(user)
    }

    /// Charges the caller for a new pipe: as many pages as it may have.
    ///
    /// Context: may sleep. Errors: `ENOMEM`, also if the user has too many pages.
    ///
    /// C: `alloc_pipe_info`.
    pub(super) fn charge(&self) -> Result<Charge> {
        if self.0.uid != current_uid() {
            // The file was given to somebody else, or its owner became somebody else.
            return Self::open(&self.0.limits)?.charge_itself();
        }
        self.charge_itself()
    }

    /// Charges for nothing so far.
    pub(super) fn charge_nothing(&self) -> Charge {
        Charge {
            user: self.0.clone(),
            pages: 0,
        }
    }

    #[inline]
    fn charge_itself(&self) -> Result<Charge> {
        let limits = &self.0.limits;
        let mut pages = DEFAULT_PAGES;
        let most = limits.max_size.load(Relaxed) / BUFFER_MAX;
        if pages > most && !capable(Capability::SysResource) {
            pages = most;
        }
        let mut charge = self.charge_nothing();
        let mut sum = charge.replace(pages);
        if limits.is_above_soft(sum) && is_unprivileged() {
            sum = charge.replace(MIN_PAGES);
        }
        if limits.is_above_hard(sum) && is_unprivileged() {
            return Err(ENOMEM);
        }
        Ok(charge)
    }
}

impl Clone for Account {
    fn clone(&self) -> Self {
        // This account keeps the user on the list, so that no lock is needed.
        Self::of(self.0.clone())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.0.accounts.fetch_sub(1, Full);
        self.0.forget();
    }
}

impl_user_struct!(ipcdemo_pipe_limits_args: IPCDEMO_PIPE_LIMITS_SIZE_VER0);

/// Whether the limits bind the caller.
///
/// C: `pipe_is_unprivileged_user`.
pub(super) fn is_unprivileged() -> bool {
    !capable(Capability::SysResource) && !capable(Capability::SysAdmin)
}

/// A capacity in bytes, rounded as that of a pipe is.
///
/// Errors: `EINVAL` if there is no such capacity.
fn rounded(bytes: u32) -> Result<u32> {
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

    /// Applies the requested changes and reports the resulting limits. If the report cannot be written, nothing is
    /// changed.
    ///
    /// Context: may sleep. Errors: `EPERM`; `EINVAL` if there is no such capacity; those of [`UserStructPtr`].
    pub(crate) fn tell(&self, ptr: &UserStructPtr) -> Result {
        let args: ipcdemo_pipe_limits_args = ptr.read()?;
        let known =
            IPCDEMO_LIMIT_MAX_SIZE | IPCDEMO_LIMIT_USER_PAGES_SOFT | IPCDEMO_LIMIT_USER_PAGES_HARD;
        if args.set & !known != 0 {
            return Err(EINVAL);
        }
        if args.set != 0 && !capable(Capability::SysResource) {
            return Err(EPERM);
        }
        let sets = |limit| args.set & limit != 0;
        let mut values = self.values();
        if sets(IPCDEMO_LIMIT_MAX_SIZE) {
            values.max_size = rounded(args.max_size)?;
        }
        if sets(IPCDEMO_LIMIT_USER_PAGES_SOFT) {
            values.user_pages_soft = args.user_pages_soft;
        }
        if sets(IPCDEMO_LIMIT_USER_PAGES_HARD) {
            values.user_pages_hard = args.user_pages_hard;
        }
        ptr.write(&ipcdemo_pipe_limits_args {
            max_size: values.max_size,
            user_pages_soft: values.user_pages_soft,
            user_pages_hard: values.user_pages_hard,
            user_pages: self.user_pages(),
            ..args
        })?;
        if sets(IPCDEMO_LIMIT_MAX_SIZE) {
            self.max_size.store(values.max_size, Relaxed);
        }
        if sets(IPCDEMO_LIMIT_USER_PAGES_SOFT) {
            self.user_pages_soft.store(values.user_pages_soft, Relaxed);
        }
        if sets(IPCDEMO_LIMIT_USER_PAGES_HARD) {
            self.user_pages_hard.store(values.user_pages_hard, Relaxed);
        }
        Ok(())
    }

    fn values(&self) -> Values {
        Values {
            max_size: self.max_size.load(Relaxed),
            user_pages_soft: self.user_pages_soft.load(Relaxed),
            user_pages_hard: self.user_pages_hard.load(Relaxed),
        }
    }

    /// How many pages the caller's user has.
    fn user_pages(&self) -> u64 {
        let users = self.users.lock();
        users
            .get(current_uid() as usize)
            .map_or(0, |user| user.pages.load(Relaxed))
    }

    /// Whether the caller may ask for so many pages at once.
    ///
    /// Errors: `EPERM`.
    pub(super) fn allow_size(&self, pages: u32) -> Result {
        if pages > self.values().max_size / BUFFER_MAX && !capable(Capability::SysResource) {
            return Err(EPERM);
        }
        Ok(())
    }

    fn is_above(pages: u64, limit: u64) -> bool {
        limit != 0 && pages > limit
    }

    fn is_above_soft(&self, pages: u64) -> bool {
        Self::is_above(pages, self.user_pages_soft.load(Relaxed))
    }

    fn is_above_hard(&self, pages: u64) -> bool {
        Self::is_above(pages, self.user_pages_hard.load(Relaxed))
    }
}

/// The pages that a user is charged for one pipe.
pub(crate) struct Charge {
    user: Arc<User>,
    pages: u32,
}

/// A user who may have nothing left. To be dropped in process context, with no lock held.
pub(crate) struct Idle(Arc<User>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.forget();
    }
}

impl Charge {
    /// Returns how many pages it is.
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// The limits that it is measured by.
    pub(super) fn limits(&self) -> &Arc<Limits> {
        &self.user.limits
    }

    /// Changes the charge to `pages`. Returns how many pages the user now has.
    #[inline]
    fn replace(&mut self, pages: u32) -> u64 {
        let before = replace(&mut self.pages, pages);
        self.user.account(before, pages)
    }

    /// Changes the charge to `pages`. Returns whether the user now exceeds a limit.
    ///
    /// Context: any.
    pub(super) fn change(&mut self, pages: u32) -> bool {
        let sum = self.replace(pages);
        self.limits().is_above_soft(sum) || self.limits().is_above_hard(sum)
    }

    /// Gives the charge back for a pipe that could not be made.
    #[cold]
    fn undo(&mut self) {
        drop(self.uncharge());
    }

    /// Changes the charge to nothing. Returns the user if nothing else is left of it.
    ///
    /// Context: any.
    #[inline]
    pub(super) fn uncharge(&mut self) -> Option<Idle> {
        self.replace(0);
        self.user.is_idle().then(|| Idle(self.user.clone()))
    }
}

impl Drop for Charge {
    #[inline]
    fn drop(&mut self) {
        if self.pages != 0 {
            self.undo();
        }
    }
}
