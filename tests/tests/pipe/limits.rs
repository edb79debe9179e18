// SPDX-License-Identifier: GPL-2.0

//! What an unprivileged user may ask for: /proc/sys/fs/pipe-max-size and
//! pipe-user-pages-*, and the same limits of ours.

use ipcdemo_client::PipeFlags;
use ipcdemo_tests::pipe::{Limit, as_user, put, set_size, size};
use ipcdemo_tests::{Child, Errno, PAGE, differential};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

const BYTES: u32 = PAGE as u32;
const BLOCK: PipeFlags = PipeFlags::empty();

differential! {
    by ipcdemo_tests::pipe::alone;

    /// fs/pipe.c:1468 to 1470: a user may ask for a megabyte, and not for more; nothing
    /// changes then.
    fn a_user_may_have_a_megabyte(s: Subject) {
        assert_eq!(s.limit(Limit::MaxSize), 1 << 20);
        let code = as_user(40_010, || {
            let (reader, writer) = s.pipe();
            assert_eq!(set_size(&writer, 1 << 20), Ok(1 << 20));
            assert_eq!(set_size(&reader, (1 << 20) + 1), Err(Errno::PERM));
            assert_eq!(size(&reader), Ok(1 << 20));
        });
        assert_eq!(code, 0);
    }

    /// fs/pipe.c:1469: who has CAP_SYS_RESOURCE may have more.
    fn root_may_have_more(s: Subject) {
        let (_reader, writer) = s.pipe();
        assert_eq!(set_size(&writer, 1 << 21), Ok(1 << 21));
    }

    /// fs/pipe.c:1468: what another has made larger a user may make smaller, though it is
    /// above the limit still; but not larger again.
    fn a_user_may_shrink_what_is_too_large(s: Subject) {
        let _limited = s.set_limit(Limit::MaxSize, 8 * PAGE as u64).unwrap();
        let (_reader, writer) = s.pipe_of(64, BLOCK);
        let code = as_user(40_011, || {
            assert_eq!(set_size(&writer, 64 * BYTES), Ok(64 * BYTES));
            assert_eq!(set_size(&writer, 16 * BYTES), Ok(16 * BYTES));
            assert_eq!(set_size(&writer, 32 * BYTES), Err(Errno::PERM));
            assert_eq!(set_size(&writer, 8 * BYTES), Ok(8 * BYTES));
        });
        assert_eq!(code, 0);
    }

    /// fs/pipe.c:889, 890: where the limit is below sixteen pages a user's new pipe has no
    /// more than that; root's has sixteen.
    fn a_new_pipe_is_within_the_limit(s: Subject) {
        let _limited = s.set_limit(Limit::MaxSize, 4 * PAGE as u64).unwrap();
        let code = as_user(40_012, || {
            let (reader, _writer) = s.pipe();
            assert_eq!(size(&reader), Ok(4 * BYTES));
        });
        assert_eq!(code, 0);
        assert_eq!(size(s.pipe().0), Ok(16 * BYTES));
    }

    /// fs/pipe.c:1567, round_pipe_size: the limit is rounded as a size is, and what cannot be
    /// rounded is none.
    fn the_limit_is_rounded(s: Subject) {
        for (value, rounded) in [(0, PAGE), (1, PAGE), (5000, 2 * PAGE), ((1 << 20) + 1, 1 << 21)] {
            let _limited = s.set_limit(Limit::MaxSize, value).unwrap();
            assert_eq!(s.limit(Limit::MaxSize), rounded as u64);
        }
        for value in [(1 << 31) + 1, u32::MAX.into()] {
            assert_eq!(s.set_limit(Limit::MaxSize, value).err(), Some(Errno::INVAL), "{value}");
        }
        assert_eq!(s.limit(Limit::MaxSize), 1 << 20);
    }

    /// fs/pipe.c:61: by default a user's pages are limited as if to 1024 pipes, for those
    /// pipes that come later to be small; and not else.
    fn the_limits_to_begin_with(s: Subject) {
        assert_eq!(s.limit(Limit::UserPagesSoft), 16 * 1024);
        assert_eq!(s.limit(Limit::UserPagesHard), 0);
    }

    /// fs/pipe.c:894 to 897: beyond the soft limit a user's new pipe has two pages.
    fn a_pipe_beyond_the_soft_limit_is_small(s: Subject) {
        let _limited = s.set_limit(Limit::UserPagesSoft, 40).unwrap();
        let code = as_user(40_013, || {
            let pipes = [(); 4].map(|()| s.pipe());
            let sizes = pipes.each_ref().map(|(reader, _)| size(reader).unwrap() / BYTES);
            assert_eq!(sizes, [16, 16, 2, 2]);
            let (_, writer) = &pipes[3];
            assert_eq!(put(writer, &[0; 2 * PAGE]), Ok(2 * PAGE));
        });
        assert_eq!(code, 0);
    }

    /// fs/pipe.c:899, 1016: beyond the hard limit there is none: ENFILE.
    fn there_is_no_pipe_beyond_the_hard_limit(s: Subject) {
        let _limited = s.set_limit(Limit::UserPagesHard, 40).unwrap();
        let code = as_user(40_014, || {
            let pipes = [(); 2].map(|()| s.pipe());
            assert_eq!(s.create_pipe(0).err(), Some(Errno::NFILE));
            // 935: what is closed is given back, and what was refused never was taken (919).
            drop(pipes);
            let _pipes = [(); 2].map(|()| s.pipe());
            assert_eq!(s.create_pipe(0).err(), Some(Errno::NFILE));
        });
        assert_eq!(code, 0);
    }

    /// fs/pipe.c:1474 to 1479, 1489: nor may a pipe grow beyond either; what was refused is
    /// not counted.
    fn a_pipe_does_not_grow_beyond_a_limit(s: Subject) {
        for limit in [Limit::UserPagesSoft, Limit::UserPagesHard] {
            let _limited = s.set_limit(limit, 40).unwrap();
            let code = as_user(40_015, || {
                let (reader, _writer) = s.pipe();
                for _ in 0..2 {
                    assert_eq!(set_size(&reader, 64 * BYTES), Err(Errno::PERM));
                    assert_eq!(size(&reader), Ok(16 * BYTES));
                    assert_eq!(set_size(&reader, 32 * BYTES), Ok(32 * BYTES));
                    assert_eq!(set_size(&reader, 16 * BYTES), Ok(16 * BYTES));
                }
            });
            assert_eq!(code, 0, "{limit:?}");
        }
    }

    /// fs/pipe.c:1484, 1489: one that cannot be made smaller, for what is in it, counts as
    /// before.
    fn a_pipe_that_did_not_shrink_counts_as_before(s: Subject) {
        let _limited = s.set_limit(Limit::UserPagesHard, 40).unwrap();
        let code = as_user(40_019, || {
            let (reader, writer) = s.pipe();
            assert_eq!(put(&writer, &[0; 2 * PAGE]), Ok(2 * PAGE));
            assert_eq!(set_size(&reader, BYTES), Err(Errno::BUSY));
            let _other = s.pipe();
            assert_eq!(s.create_pipe(0).err(), Some(Errno::NFILE));
        });
        assert_eq!(code, 0);
    }

    /// fs/pipe.c:1474: who is beyond it already may make a pipe smaller.
    fn a_pipe_may_shrink_beyond_a_limit(s: Subject) {
        let _limited = s.set_limit(Limit::UserPagesSoft, 1).unwrap();
        let code = as_user(40_016, || {
            let pipes = [(); 2].map(|()| s.pipe());
            assert_eq!(set_size(&pipes[0].0, BYTES), Ok(BYTES));
            assert_eq!(set_size(&pipes[0].0, 2 * BYTES), Err(Errno::PERM));
            assert_eq!(set_size(&pipes[1].0, 2 * BYTES), Ok(2 * BYTES));
        });
        assert_eq!(code, 0);
    }

    /// fs/pipe.c:874: CAP_SYS_ADMIN is enough to be free of the limits of pages, not of that
    /// of the size (1469).
    fn an_administrator_may_have_more_pages(s: Subject) {
        let _limited = s.set_limit(Limit::UserPagesHard, 20).unwrap();
        let child = Child::fork(|| {
            without(CapabilitySet::SYS_RESOURCE);
            let pipes = [(); 3].map(|()| s.pipe());
            assert_eq!(set_size(&pipes[0].0, 32 * BYTES), Ok(32 * BYTES));
            assert_eq!(set_size(&pipes[0].0, 1 << 21), Err(Errno::PERM));
            0
        });
        assert_eq!(child.wait(), 0);
    }

    /// fs/pipe.c:912, 1472: the pages are those of the user who made the pipe, whoever makes
    /// it larger.
    fn pages_are_their_makers(s: Subject) {
        let _limited = s.set_limit(Limit::UserPagesHard, 20).unwrap();
        let _ = s.pipe();
        let child = Child::fork(|| {
            let become_user = |uid| {
                // SAFETY: The child has one thread.
                unsafe {
                    assert_eq!(libc::setresuid(u32::MAX, 0, u32::MAX), 0);
                    assert_eq!(libc::setresuid(uid, uid, 0), 0);
                }
            };
            become_user(40_017);
            let (reader, _writer) = s.pipe();
            become_user(40_018);
            assert_eq!(set_size(&reader, 32 * BYTES), Err(Errno::PERM));
            let (other, _other_writer) = s.pipe();
            assert_eq!(set_size(&other, 32 * BYTES), Err(Errno::PERM));
            0
        });
        assert_eq!(child.wait(), 0);
    }
}

/// Gives up capabilities.
fn without(given_up: CapabilitySet) {
    let mut sets = capabilities(None).unwrap();
    for set in [&mut sets.effective, &mut sets.permitted] {
        set.remove(given_up);
    }
    set_capabilities(None, sets).unwrap();
}
