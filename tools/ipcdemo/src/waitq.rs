// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo waitq`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use ipcdemo_client::{
    Factory, Listing, PassedOn, Reason, Receipt, StoppedBy, WaitOptions, Waiter, Waitq, WaitqFlags,
    WakeOptions, WakeReceipt, monotonic,
};

use crate::cli;
use crate::command;
use crate::failure::Failure;
use crate::target::open;

pub fn run(out: &mut impl Write, command: cli::Waitq) -> Result<(), Failure> {
    match command {
        cli::Waitq::Wait {
            target,
            exclusive,
            priority,
            killable,
            uninterruptible,
            timeout,
            mask,
            expect,
            linger,
        } => {
            let mut options = WaitOptions::new()
                .mask(mask.unwrap_or_default())
                .linger_us(linger);
            for (wanted, set) in [
                (exclusive, WaitOptions::exclusive as fn(_) -> _),
                (priority, WaitOptions::priority),
                (killable, WaitOptions::killable),
                (uninterruptible, WaitOptions::uninterruptible),
            ] {
                if wanted {
                    options = set(options);
                }
            }
            if let Some(ms) = timeout {
                options = options.timeout(Duration::from_millis(ms));
            }
            if let Some(word) = expect {
                options = options.expect(word);
            }
            let receipt = open::<Waitq>(&target)?
                .wait(&options)
                .map_err(failure("cannot wait"))?;
            for line in told_to_sleeper(&receipt) {
                writeln!(out, "{line}")?;
            }
            out.flush()?;
            match receipt.reason {
                Reason::Woken => (),
                Reason::TimedOut => return Err(Failure::with_code(3, "it was not woken in time")),
                Reason::Changed => return Err(Failure::with_code(3, "the word was another")),
                Reason::Signaled => return Err(Failure::new("a signal came")),
            }
        }
        cli::Waitq::Wake {
            target,
            nr,
            all,
            key,
            set,
            sync,
        } => {
            let mut options = WakeOptions::new()
                .nr(if all { 0 } else { nr })
                .key(key.unwrap_or_default());
            if let Some(word) = set {
                options = options.set(word);
            }
            if sync {
                options = options.sync();
            }
            let receipt = open::<Waitq>(&target)?
                .wake(&options)
                .map_err(failure("cannot wake"))?;
            for line in told_to_waker(&receipt) {
                writeln!(out, "{line}")?;
            }
        }
        cli::Waitq::Ls { target, count } => {
            let queue = open::<Waitq>(&target)?;
            if count {
                let count = queue.count().map_err(failure("cannot look"))?;
                writeln!(out, "{}", counted(count))?;
                return Ok(());
            }
            let listing = queue.waiters().map_err(failure("cannot look"))?;
            if listing.waiters.is_empty() {
                eprintln!("nobody is on the queue");
            } else {
                for line in table(&listing, monotonic()) {
                    writeln!(out, "{line}")?;
                }
            }
        }
        cli::Waitq::With {
            word,
            nonblock,
            command,
        } => {
            let mut flags = WaitqFlags::CLOEXEC;
            flags.set(WaitqFlags::NONBLOCK, nonblock);
            let queue = Factory::open()?
                .waitq(word, flags)
                .map_err(Failure::because("cannot make a wait queue"))?;
            command::with_object(queue, &command)?;
        }
    }
    Ok(())
}

/// For `map_err`: a descriptor of something else does not know the requests.
fn failure(what: &str) -> impl FnOnce(io::Error) -> Failure {
    move |error| match error.raw_os_error() {
        Some(libc::ENOTTY) => Failure::new(format!("{what}: this is no wait queue")),
        _ => Failure::because(what)(error),
    }
}

/// A sleeper's receipt, line by line.
pub fn told_to_sleeper(receipt: &Receipt) -> Vec<String> {
    let mut lines = vec![format!(
        "{} after {}; the word is {:#x}",
        receipt.reason,
        span(receipt.slept),
        receipt.word
    )];
    if !receipt.remaining.is_zero() {
        lines.push(format!("left of the time: {}", span(receipt.remaining)));
    }
    match receipt.passed_on {
        PassedOn::No => (),
        PassedOn::ToAnother => lines.push("a wake came too late, and was passed on".into()),
        PassedOn::ToNobody => {
            lines.push("a wake came too late, and there was nobody to pass it on to".into());
        }
    }
    if receipt.reason == Reason::Woken || receipt.passed_on != PassedOn::No {
        // In another PID namespace, or an interrupt.
        let waker = match (receipt.waker_pid, receipt.waker_tid) {
            (0, _) => "somebody out of sight".into(),
            (pid, tid) if pid == tid => format!("process {pid}"),
            (pid, tid) => format!("process {pid}, thread {tid}"),
        };
        let key = match receipt.key.is_empty() {
            true => "without a key".into(),
            false => format!("with the key {}", receipt.key),
        };
        lines.push(format!("woken by {waker}, {key}"));
        if receipt.walked != 0 {
            let content = match receipt.stopped_by {
                StoppedBy::Quota => ", and that was enough",
                _ => "",
            };
            lines.push(format!(
                "entry {} of the walk, which had called {} and woken {} by then{content}",
                receipt.walked, receipt.called, receipt.woken
            ));
        }
    }
    lines
}

/// A waker's receipt, line by line.
pub fn told_to_waker(receipt: &WakeReceipt) -> Vec<String> {
    vec![
        format!(
            "walked {}, called {}, woke {}, {} of them exclusive",
            receipt.walked, receipt.called, receipt.woken, receipt.exclusive
        ),
        format!(
            "stopped by {}; the word is {:#x}",
            receipt.stopped_by, receipt.word
        ),
    ]
}

/// The queue as a table, first to be woken first.
pub fn table(listing: &Listing, now: Duration) -> Vec<String> {
    let mut lines = vec!["POS  KIND      FLAGS               PID/TID        COMM             KEYS              ASLEEP".into()];
    lines.extend(listing.waiters.iter().map(|waiter| row(waiter, now)));
    if listing.is_cut {
        lines.push("and more".into());
    }
    lines
}

/// How many are on a queue, as far as the module counts them.
fn counted(count: u32) -> String {
    if count as usize > Listing::MAX {
        format!("{}+", Listing::MAX)
    } else {
        count.to_string()
    }
}

fn row(waiter: &Waiter, now: Duration) -> String {
    let flags = match (waiter.priority, waiter.exclusive) {
        (false, false) => "-",
        (false, true) => "exclusive",
        (true, false) => "priority",
        (true, true) => "priority,exclusive",
    };
    let who = match (waiter.pid, waiter.tid) {
        (Some(pid), Some(tid)) => format!("{pid}/{tid}"),
        _ => "?".into(),
    };
    // A thread may call itself anything; of one that is not known there is the
    // function to see.
    let comm = match waiter.comm.as_str() {
        "" => &waiter.function,
        comm => comm,
    };
    let comm = comm.replace(|c: char| c.is_control() || c == ' ', "_");
    let asleep = waiter.since.map(|since| span(now.saturating_sub(since)));
    let mut row = String::new();
    let _ = write!(
        row,
        "{:>3}  {:<8}  {flags:<18}  {who:<13}  {comm:<15}  {:<16}  {}",
        waiter.position,
        waiter.kind,
        waiter.key,
        asleep.as_deref().unwrap_or("-"),
    );
    row
}

/// A time for people.
fn span(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipcdemo_client::{Keys, WaiterKind};

    fn waiter() -> Waiter {
        Waiter {
            position: 3,
            kind: WaiterKind::Task,
            exclusive: true,
            priority: false,
            key: Keys::IN | Keys::HUP,
            pid: Some(12),
            tid: Some(13),
            comm: "a\nname".into(),
            function: "f".into(),
            since: Some(Duration::from_secs(5)),
        }
    }

    fn receipt() -> Receipt {
        Receipt {
            reason: Reason::TimedOut,
            word: 255,
            slept: Duration::from_micros(1500),
            remaining: Duration::ZERO,
            key: Keys::empty(),
            waker_pid: 0,
            waker_tid: 0,
            walked: 0,
            called: 0,
            woken: 0,
            stopped_by: StoppedBy::End,
            passed_on: PassedOn::No,
        }
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        let anonymous = Waiter {
            pid: None,
            tid: None,
            comm: String::new(),
            since: None,
            ..waiter()
        };
        let listing = Listing {
            word: 0,
            is_cut: true,
            waiters: vec![waiter(), anonymous],
        };
        let lines = table(&listing, Duration::from_secs(20));
        assert_eq!(lines.len(), 4);
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(
            words,
            [
                "3",
                "task",
                "exclusive",
                "12/13",
                "a_name",
                "POLLIN|POLLHUP",
                "15.0",
                "s"
            ]
        );
        let words: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(words[3..5], ["?", "f"]);
        assert_eq!(words.last(), Some(&"-"));
        assert_eq!(lines[3], "and more");
    }

    #[test]
    fn a_count_has_an_end() {
        assert_eq!([0, 4096, 4097].map(counted), ["0", "4096", "4096+"]);
    }

    #[test]
    fn a_receipt_says_what_there_is_to_say() {
        assert_eq!(
            told_to_sleeper(&receipt()),
            ["timed out after 1.5 ms; the word is 0xff"]
        );
        let woken = Receipt {
            reason: Reason::Woken,
            waker_pid: 7,
            waker_tid: 8,
            key: Keys::IN,
            walked: 3,
            called: 3,
            woken: 2,
            stopped_by: StoppedBy::Quota,
            ..receipt()
        };
        assert_eq!(
            told_to_sleeper(&woken)[1..],
            [
                "woken by process 7, thread 8, with the key POLLIN",
                "entry 3 of the walk, which had called 3 and woken 2 by then, and that was enough"
            ]
        );
        let late = Receipt {
            passed_on: PassedOn::ToAnother,
            ..receipt()
        };
        let lines = told_to_sleeper(&late);
        assert!(
            lines[1].contains("passed on") && lines[2].contains("out of sight"),
            "{lines:?}"
        );
    }
}
