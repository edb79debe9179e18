// SPDX-License-Identifier: GPL-2.0

//! The table of members, as user space cannot see it: an address that two namespaces had, one after the other.

use super::{Member, Namespace, Origin, References, Table};
use kernel::{macros::kunit_tests, prelude::*};

#[kunit_tests(ipcdemo_members)]
mod tests {
    use super::*;

    /// A record is not taken for that of a namespace which has the address of another.
    #[test]
    fn an_address_that_is_used_again_is_no_member() -> Result {
        static TABLE: Table<(), ()> = Table::new(());
        Namespace::with_current(|namespace| {
            let mut before = record(namespace)?;
            before.key.id = before.key.id.wrapping_add(1);
            let gone = before.key;
            TABLE.lock().insert(before);
            assert!(!TABLE.lacks(namespace));
            assert!(TABLE.find(namespace, |_| ()).is_none());

            TABLE.lock().insert(record(namespace)?);
            assert!(TABLE.find(namespace, |_| ()).is_some());
            // Nor is one's end the other's.
            // SAFETY: The table is this test's, and nobody has a state of it.
            assert!(unsafe { TABLE.lock().unlink(gone) });
            assert!(TABLE.find(namespace, |_| ()).is_some());
            // SAFETY: As above.
            assert!(unsafe { TABLE.lock().unlink(namespace.key()) });
            assert!(TABLE.find(namespace, |_| ()).is_none());
            drop(TABLE.lock().take_dead().end());
            Ok(())
        })
        .unwrap_or(Err(ENOENT))
    }

    fn record(namespace: Namespace<'_>) -> Result<KBox<Member<()>>> {
        Member::new(namespace, Origin::enrolled(1), (), References::none())
    }
}
