// SPDX-License-Identifier: GPL-2.0

//! Both ends at once: another size, or nothing left inside.

use super::{is_power_of_two, PageRing, Pages, Slot, OWN_SLOTS};
use crate::algorithms::ring::{Side, State, SLOTS_MAX};
use core::ptr;
use kernel::{alloc::flags::__GFP_NOWARN, prelude::*, sync::atomic::Relaxed};

/// Both claims.
///
/// # Invariants
///
/// Both claims are held. The slots are as `anew` tells, if that is something, and as the word does otherwise.
pub(crate) struct Both<'a> {
    ring: &'a PageRing,
    /// Memory that is not used any more: freed once the claims are let go of.
    pages: &'a mut Pages,
    /// The state that the word is given then.
    anew: Option<State>,
}

impl<'a> Both<'a> {
    /// Returns the access that both claims give.
    ///
    /// # Safety
    ///
    /// The caller has taken both claims, and gives them up to this.
    #[inline]
    pub(super) unsafe fn new(ring: &'a PageRing, pages: &'a mut Pages) -> Self {
        // INVARIANT: By the function's requirements.
        Self {
            ring,
            pages,
            anew: None,
        }
    }

    /// Lets go of both claims, and has the word tell how the slots are now.
    #[inline]
    pub(super) fn let_go(self) {
        self.ring.word.let_go_both(self.anew);
        self.ring.pass(Side::Read);
        self.ring.pass(Side::Write);
    }

    /// Lets there be so many buffers, a power of two. The bytes inside stay.
    ///
    /// Context: may sleep. Errors: `ENOMEM`; `EBUSY` if there are more; `EINVAL` if there is no such ring.
    ///
    /// C: `pipe_resize_ring`.
    pub(crate) fn resize(&mut self, max_usage: u32) -> Result {
        if max_usage > SLOTS_MAX || !is_power_of_two(max_usage) {
            return Err(EINVAL);
        }
        let (mut few, mut more) = ([Slot::EMPTY; OWN_SLOTS as usize], None);
        let slots = if max_usage <= OWN_SLOTS {
            &mut few[..]
        } else {
            let flags = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
            more.insert(KVec::from_elem(Slot::EMPTY, max_usage as usize, flags)?)
        };
        let ring = self.ring;
        let known = self.anew.unwrap_or_else(|| ring.state());
        let used = known.occupancy();
        if used > max_usage {
            return Err(EBUSY);
        }
        for (slot, n) in slots.iter_mut().zip(0..used) {
            // SAFETY: The claims are held.
            // INVARIANT: The memory moves along.
            *slot = unsafe { ptr::replace(ring.slot(known.tail().plus(n)), Slot::EMPTY) };
        }
        // Readers may have left memory in the others.
        //
        // SAFETY: The claims are held.
        unsafe { ring.take_all(self.pages) };
        // SAFETY: With both claims held nobody else looks at the slots, wherever they are.
        // INVARIANT: There are as many slots as there may be buffers.
        unsafe {
            *ring.slots.get() = match &mut more {
                None => {
                    *ring.own.get() = few;
                    ring.own.get().cast()
                }
                Some(more) => more.as_mut_ptr(),
            };
            *ring.more.get() = more;
        }
        ring.max_usage.store(max_usage, Relaxed);
        // INVARIANT: They are in the first slots now.
        self.anew = Some(State::new(used, known.end()));
        Ok(())
    }

    /// Throws away all buffers.
    pub(crate) fn clear(&mut self) {
        let ring = self.ring;
        // SAFETY: With both claims held nobody else looks at the slots, nor at the cursor.
        unsafe {
            ring.take_all(self.pages);
            *ring.cursor.get() = 0;
        }
        // INVARIANT: Nothing is in the slots.
        self.anew = Some(State::new(0, 0));
    }
}
