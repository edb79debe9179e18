// SPDX-License-Identifier: GPL-2.0

//! Why the module is slower than the original where it is, or does not reach what it is to reach.

/// How an operation's name begins and ends, and the reason.
const REASONS: &[(&str, &str, &str)] = &[
    (
        "counter/write, ",
        " sleeping readers woken",
        "an entry keeps the key that woke it, to pass on a wake-up that was in vain, and who was woken looks at the count \
         before it takes the lock, which its waker may have: with many readers only one of whom finds something, that counts",
    ),
    (
        "",
        "/open+create+close",
        "an open factory refers to the module, to its user's account of pipes and to the list of FIFOs, where `/dev/null` \
         has no state; the object alone costs less",
    ),
    (
        "waitq/write, 1 entries",
        "",
        "it is fewer instructions, but two are of the dear ones: a wake-up may come from where interrupts are off, so that the \
         lock saves and restores that, where the original knows that they are on",
    ),
];

/// The reason for an operation.
#[must_use]
pub fn of(name: &str) -> Option<&'static str> {
    let mut all = REASONS.iter();
    let found = all.find(|(start, end, _)| name.starts_with(start) && name.ends_with(end));
    found.map(|(_, _, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure;
    use crate::record::Setting;

    #[test]
    fn the_name_counts() {
        assert!(of("counter/write, 8 sleeping readers woken").is_some());
        assert!(of("pipe/write, 1 of 10 sleeping readers woken").is_none());
        assert!(of("counter/write, poller woken").is_none());
    }

    #[test]
    fn each_is_for_an_operation_that_there_is() {
        let names = [Setting::Instructions, Setting::Wall].map(measure::names);
        for reason in REASONS {
            let its = |name: &&String| of(name) == Some(reason.2);
            assert!(
                names.iter().flatten().any(|name| its(&name)),
                "{}",
                reason.0
            );
        }
    }
}
