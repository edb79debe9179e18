// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo ls --namespaces`: each enrolled namespace pins the module. Who pins the namespace?

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;

use ipcdemo_client::{Factory, Namespace};
use serde_json::{Value, json};

use crate::cli;
use crate::failure::Failure;
use crate::proc::{self, numbers, printable};

/// How many holders of one namespace the table names.
const NAMED: usize = 8;

pub fn run(out: &mut impl Write, options: &cli::List) -> Result<(), Failure> {
    let namespaces = Factory::open()?
        .namespaces()
        .map_err(Failure::because("cannot list the namespaces"))?;
    if options.count {
        writeln!(out, "{}", namespaces.len())?;
    } else if options.quiet {
        for namespace in &namespaces {
            writeln!(out, "{}", link(namespace.inum))?;
        }
    } else if options.json {
        writeln!(out, "{}", json(&namespaces, &pins()))?;
    } else if namespaces.is_empty() {
        eprintln!("no namespace is enrolled");
    } else {
        write!(out, "{}", table(&namespaces, &pins()))?;
    }
    Ok(())
}

/// The name under `/proc` of the IPC namespace with this inode number.
fn link(inum: u32) -> String {
    format!("ipc:[{inum}]")
}

/// The tasks, descriptors and mounts that keep a namespace, so far as this user may see them.
#[derive(Debug, Default)]
struct Pins {
    /// Processes with a task in it.
    tasks: Vec<Process>,
    /// Processes with open descriptors of it, and those.
    descriptors: Vec<(Process, Vec<u32>)>,
    /// Where it is mounted.
    mounts: Vec<String>,
}

#[derive(Clone, Debug)]
struct Process {
    pid: u32,
    comm: String,
}

/// The holders of each namespace, by its link's text. Those that vanish meanwhile are left out.
fn pins() -> HashMap<String, Pins> {
    let mut pins: HashMap<String, Pins> = HashMap::new();
    for pid in numbers("/proc") {
        let Some(comm) = proc::comm(pid) else {
            continue;
        };
        let process = Process { pid, comm };
        // Each thread can have a namespace of its own.
        for tid in numbers(&format!("/proc/{pid}/task")) {
            if let Some(link) = ipc_link(&format!("/proc/{pid}/task/{tid}/ns/ipc")) {
                let tasks = &mut pins.entry(link).or_default().tasks;
                if tasks.last().is_none_or(|last| last.pid != pid) {
                    tasks.push(process.clone());
                }
            }
        }
        for fd in numbers(&format!("/proc/{pid}/fd")) {
            if let Some(link) = ipc_link(&format!("/proc/{pid}/fd/{fd}")) {
                let descriptors = &mut pins.entry(link).or_default().descriptors;
                match descriptors.last_mut() {
                    Some((last, fds)) if last.pid == pid => fds.push(fd),
                    _ => descriptors.push((process.clone(), vec![fd])),
                }
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for (link, place) in mounts.lines().filter_map(mount) {
        pins.entry(link.into())
            .or_default()
            .mounts
            .push(place.into());
    }
    pins
}

/// A symbolic link's text, if it names an IPC namespace.
fn ipc_link(path: &str) -> Option<String> {
    let link = fs::read_link(path)
        .ok()?
        .into_os_string()
        .into_string()
        .ok()?;
    link.starts_with("ipc:[").then_some(link)
}

/// The namespace that a line of mountinfo is about, and where it is mounted, if it is an IPC namespace.
fn mount(line: &str) -> Option<(&str, &str)> {
    let mut fields = line.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    root.starts_with("ipc:[").then_some((root, place))
}

/// Enrolled or born, and whether the proving calls were seen.
fn state(namespace: &Namespace) -> &'static str {
    match (namespace.born, namespace.sealed) {
        (true, true) => "born,sealed",
        (true, false) => "born",
        (false, true) => "sealed",
        (false, false) => "armed",
    }
}

/// For people.
fn table(namespaces: &[Namespace], pins: &HashMap<String, Pins>) -> String {
    let mut text =
        String::from("NAMESPACE         ID          KINDS         STATE        PINNED BY\n");
    for namespace in namespaces {
        let link = link(namespace.inum);
        let mut holders = pins.get(&link).map(words).unwrap_or_default();
        // In a mount namespace elsewhere, on its way through a socket, about to go, or out of
        // this user's sight.
        if holders.is_empty() {
            holders.push("?".into());
        }
        let more = holders.len().saturating_sub(NAMED);
        holders.truncate(NAMED);
        if more > 0 {
            holders.push(format!("and {more} more"));
        }
        let _ = writeln!(
            text,
            "{link:<16}  {:<10}  {:<12}  {:<11}  {}",
            namespace.id,
            namespace.kinds,
            state(namespace),
            holders.join(" ")
        );
    }
    text
}

/// Each holder as a word.
fn words(pins: &Pins) -> Vec<String> {
    let name = |process: &Process| format!("{}[{}]", printable(&process.comm), process.pid);
    let descriptors = pins.descriptors.iter().map(|(process, fds)| {
        let fds: Vec<_> = fds.iter().map(u32::to_string).collect();
        format!("{}:{}", name(process), fds.join(","))
    });
    let tasks = pins.tasks.iter().map(name);
    // The unusual ones first: they are not to be lost among many tasks.
    pins.mounts
        .iter()
        .cloned()
        .chain(descriptors)
        .chain(tasks)
        .collect()
}

/// For programs.
fn json(namespaces: &[Namespace], pins: &HashMap<String, Pins>) -> Value {
    let none = Pins::default();
    let of_process = |process: &Process| json!({ "pid": process.pid, "comm": process.comm });
    namespaces
        .iter()
        .map(|namespace| {
            let pins = pins.get(&link(namespace.inum)).unwrap_or(&none);
            let descriptors: Vec<_> = pins
                .descriptors
                .iter()
                .map(|(process, fds)| {
                    json!({ "pid": process.pid, "comm": process.comm, "fds": fds })
                })
                .collect();
            json!({
                "id": namespace.id,
                "inum": namespace.inum,
                "kinds": namespace.kinds.to_string(),
                "sealed": namespace.sealed,
                "born": namespace.born,
                "tasks": pins.tasks.iter().map(of_process).collect::<Vec<_>>(),
                "descriptors": descriptors,
                "mounts": pins.mounts,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use ipcdemo_client::Kinds;

    use super::*;

    fn sample(tasks: u32) -> (Vec<Namespace>, HashMap<String, Pins>) {
        let namespace = Namespace {
            id: 17,
            inum: 4_026_532_281,
            kinds: Kinds::COUNTER,
            sealed: true,
            born: false,
        };
        let process = |pid| Process {
            pid,
            comm: "a b".into(),
        };
        let pins = Pins {
            tasks: (1..=tasks).map(process).collect(),
            descriptors: vec![(process(99), vec![3, 4])],
            mounts: vec!["/run/ns".into()],
        };
        (
            vec![namespace],
            HashMap::from([(link(namespace.inum), pins)]),
        )
    }

    #[test]
    fn many_tasks_are_a_number() {
        let (namespaces, pins) = sample(2);
        let text = table(&namespaces, &pins);
        assert!(
            text.ends_with(" sealed       /run/ns a_b[99]:3,4 a_b[1] a_b[2]\n"),
            "{text}"
        );
        let (namespaces, pins) = sample(20);
        let text = table(&namespaces, &pins);
        assert!(text.ends_with(" a_b[6] and 14 more\n"), "{text}");
        assert!(table(&namespaces, &HashMap::new()).ends_with(" ?\n"));
    }

    #[test]
    fn programs_are_told_all() {
        let (namespaces, pins) = sample(20);
        let value = json(&namespaces, &pins);
        assert_eq!(value[0]["tasks"].as_array().unwrap().len(), 20);
        assert_eq!(value[0]["descriptors"][0]["fds"], json!([3, 4]));
        assert_eq!(value[0]["kinds"], "counter");
        assert_eq!(json(&[], &pins), json!([]));
    }

    #[test]
    fn a_mount_has_a_root_and_a_place() {
        let line = "36 35 0:4 ipc:[4026532281] /run/ns rw shared:1 - nsfs nsfs rw";
        assert_eq!(mount(line), Some(("ipc:[4026532281]", "/run/ns")));
        assert_eq!(mount("25 1 0:23 / /sys rw - sysfs sysfs rw"), None);
    }

    /// This test's own namespace is pinned by this test.
    #[test]
    fn this_process_is_found() {
        let own = ipc_link("/proc/self/ns/ipc").unwrap();
        let pid = std::process::id();
        assert!(pins()[&own].tasks.iter().any(|process| process.pid == pid));
    }
}
