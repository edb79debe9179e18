// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo exec`, `ipcdemo routes` and `ipcdemo ls`, as a user calls them.

use std::fs::File;
use std::process::{Command, Output};

use ipcdemo_tests::member::{enter, forked, member, namespace_of, outside};
use ipcdemo_tests::{Subject, patching, serial};

use crate::ENTRIES;

serial! {
    /// The program is what the process becomes, with its status.
    fn it_becomes_the_program() {
        let output = ipcdemo(&["exec", "--", "sh", "-c", "echo $PPID; exit 7"]);
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert_eq!(text(&output).trim(), std::process::id().to_string());
        assert!(output.stderr.is_empty(), "{output:?}");
        let output = ipcdemo(&["exec", "--", "/nowhere"]);
        assert_eq!(output.status.code(), Some(127), "{output:?}");
    }

    /// Each namespace is named with those who have it.
    fn members_are_listed() {
        let list = "ipcdemo ls --namespaces; readlink /proc/self/ns/ipc";
        let output = ipcdemo(&["exec", "--only", "counter", "--", "sh", "-c", list]);
        let text = text(&output);
        let link = text.lines().last().unwrap();
        let line = text.lines().find(|line| line.starts_with(link)).unwrap();
        assert!(line.contains(" counter ") && line.contains(" sealed "), "{line}");
        assert!(line.contains("sh["), "{line}");
    }

    /// A descriptor of it is named, too.
    fn its_descriptors_are_listed() {
        member(|| {
            let held = File::open("/proc/self/ns/ipc").unwrap();
            let output = ipcdemo(&["ls", "--namespaces"]);
            let text = text(&output);
            let link = format!("ipc:[{}] ", namespace_of("self"));
            let line = text.lines().find(|line| line.starts_with(&link)).unwrap();
            let fd = std::os::fd::AsRawFd::as_raw_fd(&held);
            let holder = format!("[{}]:{fd} ", std::process::id());
            assert!(line.contains(&holder), "{line} lacks {holder}");
        });
    }

    /// A member's eventfd is called as the kernel's own are; its holder is found all the same, and
    /// nobody else is taken for one.
    fn holders_of_eventfds_are_found() {
        member(|| {
            // More of the module's than there are, so that the kernel's own have such numbers.
            let own: Vec<_> = (0..64).map(|_| Subject::Native.counter(0)).collect();
            let outside = outside();
            forked(|| {
                enter(&outside).unwrap();
                let _native: Vec<_> = (0..64).map(|_| Subject::Native.counter(0)).collect();
                let output = ipcdemo(&["ls"]);
                let text = text(&output);
                let counters = text.lines().filter(|line| line.starts_with("counter/"));
                let fds = |line: &str| line.split(',').count();
                for line in counters {
                    // This child has inherited those of its parent.
                    let holders: Vec<_> = line.split_whitespace().skip(4).collect();
                    assert_eq!(holders.len(), 2, "{line}");
                    assert!(holders.iter().all(|holder| fds(holder) == 1), "{line}");
                }
            });
            drop(own);
        });
    }

    /// The table has each function, and the switch works.
    fn routes_are_listed_and_switched() {
        let table = |arguments: &[&str]| {
            let output = patching(|| ipcdemo(arguments));
            assert!(output.status.success(), "{output:?}");
            text(&output)
        };
        for entry in ENTRIES {
            assert!(table(&["routes"]).contains(entry));
        }
        let off = table(&["routes", "--off"]);
        for line in off.lines().filter(|line| ENTRIES.iter().any(|entry| line.starts_with(entry))) {
            assert!(line.contains(" resting "), "{off}");
        }
        assert!(table(&["routes", "--json"]).contains("\"on\":false"));
        let output = ipcdemo(&["exec", "--", "true"]);
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains("ipcdemo routes --on"), "{complaint}");
        table(&["routes", "--on"]);
        assert!(table(&["routes", "--json"]).contains("\"on\":true"));
    }
}

fn ipcdemo(arguments: &[&str]) -> Output {
    Command::new("ipcdemo").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}
