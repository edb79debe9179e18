// SPDX-License-Identifier: GPL-2.0

//! `docs/performance.md`, made from the results.

use std::fmt::Write as _;

use crate::bars;
use crate::record::{Machine, Record, Results, Setting, Side};
use crate::table::{counted, figure, ratio};

const HEAD: &str = "\
<!-- SPDX-License-Identifier: GPL-2.0 -->
<!-- Made by `make bench B=--page`; what is written here by hand is lost. -->

# What it costs

`make bench` measures each operation on the kernel's own object and on the module's, in one process, one round on
the one and one on the other in turn, pinned to a processor; by the clock with objects that are made anew 15 times (5 times
where rounds are long), as it matters where in memory one lies. Each figure is the median of the rounds (the mean where
the kernel puts work off, as at a close). The ratio is the median of what each two rounds have that came one after the
other (of the means, there), as a machine may be faster for a while, then slower: so it may differ from the quotient of
the two figures. The loop around the operation and the look at the clock are measured too, and taken off.

| column | is |
|---|---|
| native | the kernel's own: eventfd, pipe |
| module | ours |
| floor | the module's null object, written and read with as many bytes: a system call that copies and does nothing else |
| ratio | module by native, round by round |
| above floor | the same, with the floor taken from both: what the primitive itself costs |
| interval | where the ratio would be found in 95 of 100 such runs, by bootstrap of the pairs of rounds |

For the function tracer each C function of the kernel begins with a NOP of five bytes, and the module's functions in Rust do
not. The module would gain an instruction for each function that it needs where the original has one in C. So a plugin of the emulator's counts
these NOPs in each round, by the addresses that `available_filter_functions_addrs` of the tracer lists, and they are taken off the round's
instructions, on each side: figures, ratios and bars are without them. The last column of the second table tells how many they were.

Counted in instructions, each round begins just after the kernel's tick, with nobody else to run: short rounds have no tick in them.

A write that wakes somebody is measured up to the moment when all who were woken sleep again: they have the greater
priority. An epoll set is armed if the item is not on its list yet; then the write alone is measured.
Two tasks are two threads of one process.

`open+create+close` is a program that makes one object and has nothing else of the module's: it opens the factory, makes the
object, closes the factory, closes the object. Beside the original, `/dev/null` is opened and closed, so that both sides make as
many system calls. In all other rows the factory is open already.

The rows of `routes/` are eventfd2(2) and a close, and getppid(2), which no route is about. On the native side all routes are switched off.
On the module's they are on, and the caller is a member, whose calls the module answers; or a bystander, while there is a member; or nobody is enrolled.

`module/load` is what finit_module(2) takes, `module/in memory` text and data without what is freed once it is loaded, `module/file`
the file with its symbols. By the clock, `out/bench/` has a plot for each crowd of writers and readers: how long their
writes took.
";

/// The page.
#[must_use]
pub fn render(results: &Results) -> String {
    let mut text = HEAD.to_owned();
    for (setting, machine) in &results.machines {
        let records: Vec<_> = results
            .results
            .iter()
            .filter(|record| record.setting == *setting)
            .collect();
        text += &section(*setting, machine, &records);
    }
    let _ = write!(
        text,
        "\n## What it is to reach\n\n```\n{}```\n",
        bars::render(&results.results)
    );
    text
}

fn section(setting: Setting, machine: &Machine, records: &[&Record]) -> String {
    let (title, explanation) = match setting {
        Setting::Instructions => (
            "Instructions",
            "The emulator gives each instruction a nanosecond of the guest's time, so that the time stamp counter counts \
             them; two runs agree to half a percent. A locked instruction counts as much as any other here, and so \
             does each step of a string copy.",
        ),
        Setting::Wall => (
            "By the clock",
            "Nanoseconds, or megabytes in a second. Under emulation (`TCGTCGTCGTCG` below) they say how the two \
             compare, and nothing of a real machine; with KVM or without a hypervisor they are the machine's.",
        ),
        Setting::Memcg => (
            "In a memory cgroup",
            "Instructions once more, on Debian's kernel, in a child group, as systemd puts each process into one. There, \
             `alloc_pages_bulk()` allocates one charged page a call, so that what it gains elsewhere is lost. The module \
             only frees a read's pages together. (Blocks that are charged in one go and split would take a ratio of 0.77, \
             but more time by the clock: what is split comes back as single pages, and each new block is cold.)",
        ),
    };
    let mut text = format!(
        "\n## {title}\n\n{explanation}{}\n\n| | |\n|---|---|\n",
        gain(records)
    );
    let hypervisor = machine.hypervisor.as_deref().unwrap_or("none");
    for (name, value) in [
        ("kernel", machine.kernel.as_str()),
        ("its options", &machine.options),
        ("processor", &machine.cpu),
        ("processors", &machine.cpus.to_string()),
        ("hypervisor", hypervisor),
    ]
    .into_iter()
    .chain(
        machine
            .told
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    ) {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text += "\n| operation | native | module | floor | ratio | above floor | interval |\n|---|---|---|---|---|---|---|\n";
    for record in records {
        let unit = if record.more_is_better || record.unit == "bytes" {
            format!(", {}", record.unit)
        } else {
            String::new()
        };
        let interval = record.ratio_interval.map_or_else(
            || "–".into(),
            |[low, high]| format!("{low:.2} to {high:.2}"),
        );
        let _ = writeln!(
            text,
            "| {}{unit} | {} | {} | {} | {} | {} | {interval} |",
            record.name,
            figure(record.native),
            figure(record.module),
            figure(record.floor),
            ratio(record.ratio),
            ratio(record.above_floor_ratio),
        );
    }
    text += &counts(setting, records);
    text
}

/// Whether what the bulk allocation gains elsewhere is there in a memory cgroup.
fn gain(records: &[&Record]) -> String {
    let is_its = |record: &&&Record| {
        record.setting == Setting::Memcg && record.name == "pipe/write+read, 64 KiB"
    };
    let Some(record) = records.iter().find(is_its) else {
        return String::new();
    };
    format!(
        " A write and a read of 64 KiB take {} instructions, and {} with the original: a ratio of {}.",
        figure(record.module),
        figure(record.native),
        ratio(record.ratio),
    )
}

/// What of the instructions costs more than one.
fn counts(setting: Setting, records: &[&Record]) -> String {
    let mut text = String::new();
    for record in records {
        if !record.counts.contains_key(&Side::Module) {
            continue;
        }
        if text.is_empty() {
            text += if setting == Setting::Instructions {
                COUNTS
            } else {
                ""
            };
            text += COLUMNS;
        }
        let sides = [Side::Native, Side::Module, Side::Floor];
        let columns = counted(record, &sides).join(" | ");
        let _ = writeln!(text, "| {} | {columns} |", record.name);
    }
    text
}

const COUNTS: &str = "
Some instructions cost far more than one. A plugin of the emulator's counts those that the kernel executes in the very
rounds that gave the figures above; it adds none. Locked are those with a lock prefix and exchanges with memory: each is a full fence
too. Fences are there for the fence alone: `mfence`, and `lock addl $0` or `lock orl $0` of the stack. Disables of interrupts
are `cli`. The NOPs are the function tracer's, which no figure above includes. `noreplace-smp` keeps a kernel with one processor from patching its lock prefixes away. In each column: native / module / floor, for one operation.
`make profile B=counter/create` tells in which functions they all are.
";

const COLUMNS: &str = "
| operation | locked | fences | disables | NOPs taken off |
|---|---|---|---|---|
";
