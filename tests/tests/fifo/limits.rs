// SPDX-License-Identifier: GPL-2.0

//! Who comes first pays, as for a pipe.

use ipcdemo_tests::fifo::Fifo;
use ipcdemo_tests::pipe::{Limit, as_user, size};
use ipcdemo_tests::{Errno, fifos};
use rustix::fs::OFlags;

/// Not root, who may have what it likes.
const USER: u32 = 65534;

fifos! {
    /// 899, 1221: a user with too many pages has none for a FIFO.
    fn too_many_pages_are_refused(fifo: &Fifo) {
        let open = Fifo::with_mode(fifo.subject(), 0o666);
        let _limit = fifo.subject().set_limit(Limit::UserPagesHard, 1).unwrap();
        let code = as_user(USER, || {
            for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
                let refused = open.open(flags | OFlags::NONBLOCK);
                assert_eq!(refused.err(), Some(Errno::NOMEM), "{flags:?}");
            }
        });
        assert_eq!(code, 0);
    }

    /// 894: and with many, few.
    fn many_pages_make_small_ones(fifo: &Fifo) {
        let open = Fifo::with_mode(fifo.subject(), 0o666);
        let _limit = fifo.subject().set_limit(Limit::UserPagesSoft, 1).unwrap();
        let code = as_user(USER, || assert_eq!(size(open.both()), Ok(8192)));
        assert_eq!(code, 0);
    }

    /// 1213: who comes to one that is there pays nothing.
    fn an_open_one_costs_nothing(fifo: &Fifo) {
        let open = Fifo::with_mode(fifo.subject(), 0o666);
        let _limit = fifo.subject().set_limit(Limit::UserPagesHard, 1).unwrap();
        let _both = open.both();
        let code = as_user(USER, || assert!(open.open(OFlags::RDWR).is_ok()));
        assert_eq!(code, 0);
    }
}
