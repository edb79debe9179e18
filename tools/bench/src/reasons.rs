// SPDX-License-Identifier: GPL-2.0

//! Why the module is slower than the original where it is, or does not reach what it is to reach.

/// How an operation's name begins, and the reason. The first that fits counts.
const REASONS: &[(&str, &str)] = &[
    (
        "counter/write, epoll",
        "the count changes without the queue's lock, which is what makes the other writes cheap: who finds somebody \
         on the queue takes that beside it",
    ),
    (
        "counter/write, poller",
        "the count changes without the queue's lock: who finds somebody on the queue takes that beside it",
    ),
    (
        "counter/write, ",
        "the writer takes the queue's lock beside the count; an entry keeps the key that woke it, to pass on a wake-up \
         that was in vain; and who was woken looks at the count before it takes the lock, which its waker may have",
    ),
    (
        "counter/ping-pong",
        "two writes that wake somebody, each with the lock beside the count; two waits",
    ),
    (
        "waitq/write",
        "the count changes without the queue's lock, and the walk then takes it; what it costs for an entry is the same",
    ),
    (
        "pipe/create+write",
        "beside what create+close has, who leaves a ring that was used claims both its ends, which have a lock each",
    ),
    (
        "pipe/create",
        "the list of the live objects has a pipe, and its inode a pin of their file system; the kernel's own has neither",
    ),
];

/// The reason for an operation.
#[must_use]
pub fn of(name: &str) -> Option<&'static str> {
    let found = REASONS.iter().find(|(start, _)| name.starts_with(start));
    found.map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure;
    use crate::record::Setting;

    #[test]
    fn the_first_that_fits_counts() {
        assert!(of("counter/write, 8 sleeping readers woken").is_some());
        assert_ne!(of("pipe/create+write+read+close"), of("pipe/create+close"));
    }

    #[test]
    fn another_objects_reason_does_not_count() {
        assert!(of("pipe/write, 1 of 10 sleeping readers woken").is_none());
        assert!(of("counter/write+read").is_none());
    }

    #[test]
    fn each_is_for_an_operation_that_there_is() {
        let names = [Setting::Instructions, Setting::Wall].map(measure::names);
        for reason in REASONS {
            let its = |name: &&String| of(name) == Some(reason.1);
            assert!(
                names.iter().flatten().any(|name| its(&name)),
                "{}",
                reason.0
            );
        }
    }
}
