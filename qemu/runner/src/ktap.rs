// SPDX-License-Identifier: GPL-2.0

//! KUnit's results, as they stand in the kernel's log (KTAP).

use serde::Serialize;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Skipped.
    pub skipped: u64,
}

impl Counts {
    /// Both together.
    pub fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// One `# Subtest:` that has not seen its result line yet: a suite, or a parametrized test.
#[derive(Debug)]
struct Level {
    name: String,
    indent: usize,
    planned: Option<u64>,
    seen: u64,
}

/// Reads a kernel's log message by message and counts tests, the innermost only.
#[derive(Debug, Default)]
pub struct Parser {
    /// The results so far.
    pub counts: Counts,
    open: Vec<Level>,
}

impl Parser {
    /// Takes one message of the log. Returns a complaint if it is a failed test, or shows that
    /// results are missing.
    pub fn take(&mut self, message: &str) -> Option<String> {
        let text = message.trim_start_matches(' ');
        let indent = message.len() - text.len();
        if let Some(name) = text.strip_prefix("# Subtest: ") {
            self.open.push(Level {
                name: name.to_owned(),
                indent,
                planned: None,
                seen: 0,
            });
            return None;
        }
        if let Some(count) = text
            .strip_prefix("1..")
            .and_then(|count| count.parse().ok())
        {
            if let Some(level) = self.open.last_mut().filter(|level| level.indent == indent) {
                level.planned = Some(count);
            }
            return None;
        }
        let (passed, rest) = match text.strip_prefix("ok ") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("not ok ")?),
        };
        let (number, name) = rest.split_once(' ')?;
        number.parse::<u64>().ok()?;
        self.result(indent, passed, name.trim_start_matches("- "))
    }

    fn result(&mut self, indent: usize, passed: bool, name: &str) -> Option<String> {
        let skipped = name.contains("# SKIP");
        // A result less indented than the open level closes it: it is that level's own.
        if self.open.last().is_some_and(|level| level.indent > indent) {
            let level = self.open.pop()?;
            self.count_in_parent();
            if let Some(planned) = level
                .planned
                .filter(|&planned| planned != level.seen && !skipped)
            {
                return Some(format!(
                    "KUnit: {} planned {planned} tests, {} reported",
                    level.name, level.seen
                ));
            }
            return (!passed).then(|| format!("KUnit: not ok: {name}"));
        }
        self.count_in_parent();
        match (passed, skipped) {
            (_, true) => self.counts.skipped += 1,
            (true, false) => self.counts.passed += 1,
            (false, false) => self.counts.failed += 1,
        }
        (!passed && !skipped).then(|| format!("KUnit: not ok: {}{name}", self.path()))
    }

    fn count_in_parent(&mut self) {
        if let Some(level) = self.open.last_mut() {
            level.seen += 1;
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for level in &self.open {
            path.push_str(&level.name);
            path.push_str(": ");
        }
        path
    }

    /// At the end of the log: the tests that were begun and never reported a result.
    pub fn unfinished(&self) -> Option<String> {
        self.open
            .first()
            .map(|level| format!("KUnit: {} never finished", level.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(log: &str) -> (Counts, Vec<String>) {
        let mut parser = Parser::default();
        let mut complaints: Vec<_> = log.lines().filter_map(|line| parser.take(line)).collect();
        complaints.extend(parser.unfinished());
        (parser.counts, complaints)
    }

    #[test]
    fn a_suite_is_counted_by_its_cases() {
        let (counts, complaints) = run("\
KTAP version 1
1..1
    KTAP version 1
    # Subtest: counter
    # module: ipcdemo
    1..3
    ok 1 adds
    ok 2 wraps # SKIP needs two CPUs
        KTAP version 1
        # Subtest: params
        ok 1 zero
        ok 2 one
    # params: pass:2 fail:0 skip:0 total:2
    ok 3 params
# counter: pass:2 fail:0 skip:1 total:3
# Totals: pass:3 fail:0 skip:1 total:4
ok 1 counter");
        assert_eq!(
            counts,
            Counts {
                passed: 3,
                failed: 0,
                skipped: 1
            }
        );
        assert_eq!(complaints, [""; 0]);
    }

    #[test]
    fn a_failed_case_is_named_with_its_suite() {
        let (counts, complaints) = run("\
KTAP version 1
    # Subtest: counter
    1..2
    # adds: EXPECTATION FAILED at counter.rs:3
    not ok 1 adds
    ok 2 wraps
not ok 1 counter");
        assert_eq!(
            counts,
            Counts {
                passed: 1,
                failed: 1,
                skipped: 0
            }
        );
        assert_eq!(
            complaints,
            ["KUnit: not ok: counter: adds", "KUnit: not ok: counter"]
        );
    }

    #[test]
    fn lost_and_missing_results_are_failures() {
        let (_, complaints) = run("    # Subtest: counter\n    1..2\n    ok 1 adds\nok 1 counter");
        assert_eq!(complaints, ["KUnit: counter planned 2 tests, 1 reported"]);
        let (_, complaints) = run("    # Subtest: counter\n    1..2\n    ok 1 adds");
        assert_eq!(complaints, ["KUnit: counter never finished"]);
    }

    #[test]
    fn other_messages_do_not_count() {
        let (counts, complaints) = run("ok then\nnot ok at all\nok\n1..many\nok 1");
        assert_eq!((counts, complaints.len()), (Counts::default(), 0));
    }
}
