// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the objects: what user space cannot see of them.

#![deny(unsafe_code)]

use kernel::macros::kunit_tests;

#[kunit_tests(ipcdemo_objects)]
#[allow(unsafe_code, reason = "what the attribute makes of it")]
mod tests {
    use crate::{
        abstractions::{
            vfs::file::{Access, FileOperations, InodeOfReleased},
            wait_queue::{kunit::while_polled, PollEvent, PollEvents}, //
        },
        algorithms::counter::Mode,
        objects::{
            counter::Counter,
            waitq::Waitq, //
        },
    };
    use kernel::prelude::*;

    /// What the files of both are opened for.
    const ACCESS: Access = Access {
        read: true,
        write: true,
    };

    /// Whoever is left on the queue hears that this is the end: nobody who polls from user space can be,
    /// as they hold the file or epoll has left, but the kernel's own pollers.
    #[test]
    fn release_tells_those_left_on_the_queue() -> Result {
        let hup = (1, PollEvents::from(PollEvent::Hup).bits() as usize);
        let counter = Counter::new(0, Mode::Sum, false)?;
        assert_eq!(
            while_polled(&*counter, || counter
                .release(ACCESS, InodeOfReleased::SHARED))?,
            hup
        );
        let waitq = Waitq::new(0, false)?;
        assert_eq!(
            while_polled(&*waitq, || waitq.release(ACCESS, InodeOfReleased::SHARED))?,
            hup
        );
        Ok(())
    }

    /// The end of one file is not the end of what everybody shares.
    #[test]
    fn release_of_a_shared_one_tells_nobody() -> Result {
        let counter = Counter::new_shared()?;
        let seen = while_polled(&*counter, || {
            counter.release(ACCESS, InodeOfReleased::SHARED)
        })?;
        assert_eq!(seen, (0, 0));
        let waitq = Waitq::new_shared()?;
        assert_eq!(
            while_polled(&*waitq, || waitq.release(ACCESS, InodeOfReleased::SHARED))?,
            (0, 0)
        );
        Ok(())
    }
}
