// SPDX-License-Identifier: GPL-2.0

//! Why the module is slower than the original where it is, or does not reach what it is to reach.

/// What of an operation's name a reason is for, and the reason. The first that fits counts.
const REASONS: &[(&str, &str)] = &[
    (
        "counter/write, epoll",
        "the count changes without the queue's lock, which is what makes the other writes cheap: who wakes somebody \
         takes that beside it",
    ),
    (
        "sleeping readers woken",
        "an entry keeps the key that woke it, to pass on a wake-up that was in vain, and who was woken looks at the \
         count without the lock, and takes that to leave the queue only if it has to",
    ),
    (
        "counter/write, poller",
        "as a write to what an epoll set watches",
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
        "pipe/create",
        "the list of the live objects has a pipe, and its inode a pin of their file system; the kernel's own has neither",
    ),
    (
        "pipe/write+read, 64 KiB",
        "more than half of it is allocating and freeing pages, by the same functions as the original",
    ),
];

/// The reason for an operation.
#[must_use]
pub fn of(name: &str) -> Option<&'static str> {
    let found = REASONS.iter().find(|(part, _)| name.contains(part));
    found.map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_fits_counts() {
        assert!(of("counter/write, 8 sleeping readers woken").is_some());
        assert!(of("pipe/create+write+read+close").is_some());
        assert!(of("counter/write+read").is_none());
    }
}
