// SPDX-License-Identifier: GPL-2.0

//! The edges of an id table, which are too far for a user-space test.

use super::{
    add, impl_in_table, remove, Id, IdTable, InStaticTable, InTable, Listed, CHUNK, HIGHEST,
    PASSED_OVER,
};
use kernel::{macros::kunit_tests, prelude::*, sync::Arc};

#[kunit_tests(ipcdemo_id_table)]
mod tests {
    use super::*;

    struct Probe {
        value: u32,
        id: Id,
        table: Arc<IdTable<Self>>,
    }

    // SAFETY: The id is a field, and the reference to the table does not change.
    unsafe impl InTable for Probe {
        fn id(&self) -> &Id {
            &self.id
        }

        fn table(&self) -> &IdTable<Self> {
            &self.table
        }
    }

    type Table = Arc<IdTable<Probe>>;

    fn new_table(max: u32) -> Result<Table> {
        Ok(Arc::new(IdTable::with_max(max), GFP_KERNEL)?)
    }

    fn probe(table: &Table, value: u32) -> Result<Arc<Probe>> {
        let probe = Probe {
            value,
            id: Id::new(),
            table: table.clone(),
        };
        Ok(Arc::new(probe, GFP_KERNEL)?)
    }

    /// Puts an object with each of the values into the table, in order.
    fn fill(table: &Table, values: impl Iterator<Item = u32>) -> Result<KVec<Listed<Probe>>> {
        let mut listed = KVec::new();
        for value in values {
            listed.push(add(probe(table, value)?)?, GFP_KERNEL)?;
        }
        Ok(listed)
    }

    /// Returns what the table lists above an id: ids and values.
    fn list(table: &Table, after: u32) -> Result<KVec<(u32, u32)>> {
        let mut all = KVec::new();
        for (id, probe) in table.after(after) {
            all.push((id, probe.value), GFP_KERNEL)?;
        }
        Ok(all)
    }

    fn kept(table: &Table) -> usize {
        let state = table.lock();
        state.kept.as_ref().map_or(0, |kept| kept.iter().count())
    }

    /// Has the ids go on with the first one of a chunk, as if those before had been given out.
    fn go_to(table: &Table, first: u32) {
        let mut state = table.lock();
        assert_eq!(state.current.len, 0);
        (state.current.first, state.used) = (first, 0);
    }

    #[test]
    fn an_object_is_found_while_it_is_in_the_table() -> Result {
        let (table, other) = (new_table(HIGHEST)?, new_table(HIGHEST)?);
        let first = probe(&table, 10)?;
        remove(&*first);
        assert_eq!(first.id.get(), 0);
        assert!(table.get(0).is_none() && table.get(1).is_none());

        let listed = add(first.clone())?;
        assert!(add(first.clone()).err() == Some(EBUSY));
        assert_eq!(first.id.get(), 1);
        assert!(table
            .get(1)
            .is_some_and(|found| Arc::ptr_eq(&found, &first)));
        for id in [0, 2, CHUNK + 1, HIGHEST, u32::MAX] {
            assert!(table.get(id).is_none());
        }
        assert!(other.get(1).is_none());

        // Whoever removes it first: the reference finds nothing to remove, and not the object that was put in anew.
        remove(&*first);
        assert!(table.get(1).is_none());
        let again = add(first.clone())?;
        assert_eq!(first.id.get(), 2);
        drop(listed);
        assert_eq!(first.id.get(), 0);
        drop(again);
        assert!(list(&table, 0)?.is_empty());
        Ok(())
    }

    #[test]
    fn objects_are_listed_in_order() -> Result {
        let table = new_table(HIGHEST)?;
        let mut listed = fill(&table, 10..14)?;
        assert!(list(&table, 0)?[..] == [(1, 10), (2, 11), (3, 12), (4, 13)]);
        assert!(list(&table, 2)?[..] == [(3, 12), (4, 13)]);

        // An id is not given out again at once.
        drop(listed.remove(1)?);
        listed.push(add(probe(&table, 11)?)?, GFP_KERNEL)?;
        assert!(list(&table, 1)?[..] == [(3, 12), (4, 13), (5, 11)]);

        // A listing has references of its own.
        let mut listing = table.after(0);
        assert!(listing.next().is_some_and(|(id, _)| id == 1));
        drop(listed);
        assert!(list(&table, 0)?.is_empty());
        assert!(listing.map(|(_, probe)| probe.value).eq([12, 13, 11]));
        Ok(())
    }

    #[test]
    fn chunks_come_and_go() -> Result {
        let table = new_table(HIGHEST)?;
        let mut listed = fill(&table, 1..3 * CHUNK)?;
        assert_eq!(kept(&table), 2);
        let all = list(&table, 0)?;
        assert!(all.iter().copied().eq((1..3 * CHUNK).map(|id| (id, id))));
        for id in [1, CHUNK, CHUNK + 1, 3 * CHUNK - 1] {
            assert!(table.get(id).is_some_and(|probe| probe.value == id));
        }
        // Listings begin within a kept chunk, with its end, and with the current chunk.
        for after in [CHUNK + 9, 2 * CHUNK - 1, 2 * CHUNK] {
            let rest = list(&table, after)?;
            assert!(rest[0] == (after + 1, after + 1));
            assert_eq!(rest.len() as u32, 3 * CHUNK - 1 - after);
        }

        // A kept chunk goes with its last object.
        let last_of_second = listed.remove(2 * CHUNK as usize - 1)?;
        for _ in CHUNK..2 * CHUNK - 1 {
            drop(listed.remove(CHUNK as usize)?);
        }
        assert_eq!(kept(&table), 2);
        drop(last_of_second);
        assert_eq!(kept(&table), 1);
        drop(listed);
        assert_eq!(kept(&table), 0);

        // A chunk that nothing is in is never kept.
        for value in 0..3 * CHUNK {
            drop(add(probe(&table, value)?)?);
        }
        assert_eq!(kept(&table), 0);
        Ok(())
    }

    #[test]
    fn after_the_highest_id_come_those_that_are_free() -> Result {
        let table = new_table(HIGHEST)?;
        let mut low = fill(&table, 1..CHUNK + 2)?;
        drop(low.remove(1)?);
        drop(low.pop());
        go_to(&table, HIGHEST - CHUNK + 1);
        let high = fill(&table, 1..CHUNK + 1)?;
        assert!(high.last().is_some_and(|last| last.id.get() == HIGHEST));
        assert!(list(&table, HIGHEST - 1)?[..] == [(HIGHEST, CHUNK)]);
        assert!(list(&table, HIGHEST)?.is_empty() && list(&table, u32::MAX)?.is_empty());
        let free = fill(&table, 1..3)?;
        assert!(free.iter().map(|listed| listed.id.get()).eq([2, CHUNK + 1]));
        drop((low, high, free));
        assert_eq!(kept(&table), 0);
        Ok(())
    }

    #[test]
    fn a_full_table_refuses_objects() -> Result {
        // More full chunks than are passed over at once, and a last one with fewer places.
        let many = (PASSED_OVER + 2) * CHUNK + 3;
        for max in [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, many] {
            let table = new_table(max)?;
            let mut listed = fill(&table, 1..max + 1)?;
            assert!(add(probe(&table, 0)?).err() == Some(ENOSPC));
            assert_eq!(list(&table, 0)?.len() as u32, max);
            for free in [max, 1, max / 2 + 1] {
                drop(listed.remove(free as usize - 1)?);
                let again = add(probe(&table, 0)?)?;
                assert_eq!(again.id.get(), free);
                listed
                    .insert_within_capacity(free as usize - 1, again)
                    .map_err(|_| ENOMEM)?;
                assert!(add(probe(&table, 0)?).err() == Some(ENOSPC));
            }
        }
        Ok(())
    }

    #[test]
    fn a_type_may_have_one_table() -> Result {
        struct Single {
            id: Id,
        }
        impl_in_table!(Single, id);
        let single = add(Arc::new(Single { id: Id::new() }, GFP_KERNEL)?)?;
        assert_eq!(single.id.get(), 1);
        assert!(Single::all().get(1).is_some());
        drop(single);
        assert!(Single::all().get(1).is_none());
        Ok(())
    }
}
