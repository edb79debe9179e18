// SPDX-License-Identifier: GPL-2.0

//! `ipcdemo ls`.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::Write;

use ipcdemo_client::{CounterFlags, Factory, Kind, Object};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::cli;
use crate::failure::Failure;
use crate::proc::{self, FdInfo, numbers, printable};

pub fn run(out: &mut impl Write, options: &cli::List) -> Result<(), Failure> {
    let objects = Factory::open()?
        .list()
        .map_err(Failure::because("cannot list the objects"))?;
    if options.count {
        writeln!(out, "{}", objects.len())?;
    } else if options.quiet {
        for object in &objects {
            writeln!(out, "{}", Name::of(object))?;
        }
    } else if options.json {
        out.write_all(json(&objects, &holders(&objects)).as_bytes())?;
    } else if objects.is_empty() {
        eprintln!("no live objects");
    } else {
        out.write_all(table(&objects, &holders(&objects)).as_bytes())?;
    }
    Ok(())
}

/// An object's name, such as `counter/2`: what the list and `/proc` have in common.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Name {
    kind: String,
    number: u32,
}

impl Name {
    /// From the module's list.
    pub fn of(object: &Object) -> Self {
        Self {
            kind: object.kind.to_string(),
            number: object.number(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.number)
    }
}

/// A process with an object's descriptors.
#[derive(Debug)]
struct Holder {
    pid: u32,
    comm: String,
    fds: Vec<u32>,
}

type Holders = HashMap<Name, Vec<Holder>>;

/// Who holds what, so far as this user may see it. What vanishes meanwhile is
/// left out.
fn holders(objects: &[Object]) -> Holders {
    let mut holders = Holders::new();
    for pid in numbers("/proc") {
        for fd in numbers(&format!("/proc/{pid}/fd")) {
            let Some(name) = name_of(pid, fd, objects) else {
                continue;
            };
            let of_object = holders.entry(name).or_default();
            if let Some(holder) = of_object.iter_mut().find(|holder| holder.pid == pid) {
                holder.fds.push(fd);
            } else if let Some(comm) = proc::comm(pid) {
                of_object.push(Holder {
                    pid,
                    comm,
                    fds: vec![fd],
                });
            }
        }
    }
    holders
}

/// The object behind a process's descriptor, if it is one of the module's.
fn name_of(pid: u32, fd: u32, objects: &[Object]) -> Option<Name> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok()?;
    let link = link.to_str()?;
    let number = || {
        FdInfo::read(format!("/proc/{pid}/fdinfo/{fd}"))
            .ok()?
            .number()
    };
    if let Some(kind) = link.strip_prefix("anon_inode:[ipcdemo-") {
        Some(Name {
            kind: kind.strip_suffix(']')?.into(),
            number: number()?,
        })
    } else if let Some(inode) = link.strip_prefix("pipe:[") {
        // The kernel's own are called so, too, with numbers of the same count.
        let inode: u32 = inode.strip_suffix(']')?.parse().ok()?;
        let mut pipes = objects.iter().filter(|object| object.kind == Kind::Pipe);
        pipes.find(|pipe| pipe.inode == inode).map(Name::of)
    } else if link == "anon_inode:[eventfd]" {
        eventfd_name(pid, fd, number()?, objects)
    } else {
        None
    }
}

/// The counter behind an eventfd, if it is one that the module made for a member. The kernel's own
/// have the same name and numbers of another count: if a counter has that number, too, the file
/// itself is asked.
fn eventfd_name(pid: u32, fd: u32, number: u32, objects: &[Object]) -> Option<Name> {
    let mut counters = objects.iter().filter(|object| object.kind == Kind::Counter);
    let counter = counters.find(|counter| counter.number() == number)?;
    let pid = Pid::from_raw(pid.try_into().ok()?)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let file = pidfd_getfd(process, fd.try_into().ok()?, PidfdGetfdFlags::empty()).ok()?;
    let id = Object::id_of(file).ok()??;
    (id == counter.id).then(|| Name::of(counter))
}

/// For people.
fn table(objects: &[Object], holders: &Holders) -> String {
    let mut text =
        String::from("OBJECT        WAITERS  VALUE                 FLAGS      HOLDERS\n");
    for object in objects {
        let name = Name::of(object);
        let flags = if is_semaphore(object) {
            "semaphore"
        } else {
            "-"
        };
        let _ = write!(
            text,
            "{:<12}  {:>7}  {:<20}  {flags:<9}  ",
            name.to_string(),
            waiters(object),
            object.value,
        );
        let who: Vec<_> = holders
            .get(&name)
            .into_iter()
            .flatten()
            .map(|holder| {
                let fds: Vec<_> = holder.fds.iter().map(u32::to_string).collect();
                let comm = printable(&holder.comm);
                format!("{comm}[{}]:{}", holder.pid, fds.join(","))
            })
            .collect();
        // In flight through a socket, or out of this user's sight.
        text += &if who.is_empty() {
            "?".into()
        } else {
            who.join(" ")
        };
        text.push('\n');
    }
    text
}

/// For programs.
fn json(objects: &[Object], holders: &Holders) -> String {
    let objects: Vec<_> = objects
        .iter()
        .map(|object| {
            let name = Name::of(object);
            let who: Vec<_> = holders
                .get(&name)
                .into_iter()
                .flatten()
                .map(|holder| {
                    format!(
                        r#"{{"pid":{},"comm":{},"fds":{:?}}}"#,
                        holder.pid,
                        quoted(&holder.comm),
                        holder.fds
                    )
                })
                .collect();
            format!(
                r#"{{"id":{},"kind":"{}","number":{},"value":{},"semaphore":{},"waiters":{},"holders":[{}]}}"#,
                object.id,
                name.kind,
                name.number,
                object.value,
                is_semaphore(object),
                object.waiters,
                who.join(",")
            )
        })
        .collect();
    format!("[{}]\n", objects.join(","))
}

/// How many wait, as far as the module counts them.
pub fn waiters(object: &Object) -> String {
    if object.waiters < Object::WAITERS_COUNTED {
        object.waiters.to_string()
    } else {
        format!("{}+", Object::WAITERS_COUNTED)
    }
}

fn is_semaphore(object: &Object) -> bool {
    object.kind == Kind::Counter && object.flags & CounterFlags::SEMAPHORE.bits() != 0
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<Object>, Holders) {
        let object = Object {
            id: (2 << 32) | 7,
            kind: Kind::Counter,
            value: 5,
            flags: CounterFlags::SEMAPHORE.bits(),
            waiters: 1,
            inode: 0,
        };
        let holder = Holder {
            pid: 12,
            comm: "a \"b\"\n".into(),
            fds: vec![3, 4],
        };
        let holders = Holders::from([(Name::of(&object), vec![holder])]);
        (vec![object], holders)
    }

    #[test]
    fn the_table_has_a_line_for_each() {
        let (mut objects, holders) = sample();
        objects.push(Object {
            id: 9,
            waiters: 64,
            ..objects[0]
        });
        let table = table(&objects, &holders);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("counter/7 "), "{table}");
        assert!(lines[1].contains("semaphore"), "{table}");
        assert!(lines[1].contains(" 1  5 "), "{table}");
        assert!(lines[2].contains(" 64+  5 "), "{table}");
        assert!(lines[2].ends_with('?'), "{table}");
    }

    #[test]
    fn names_are_quoted_in_json() {
        let (objects, holders) = sample();
        assert_eq!(
            json(&objects, &holders),
            concat!(
                r#"[{"id":8589934599,"kind":"counter","number":7,"value":5,"semaphore":true,"#,
                r#""waiters":1,"holders":[{"pid":12,"comm":"a \"b\"\u000a","fds":[3, 4]}]}]"#,
                "\n"
            )
        );
    }

    #[test]
    fn nothing_is_an_empty_array() {
        assert_eq!(json(&[], &Holders::new()), "[]\n");
    }
}
