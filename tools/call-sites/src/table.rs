// SPDX-License-Identifier: GPL-2.0

//! The rows of docs/call-sites.md.

/// A routed function.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// Its symbol.
    pub function: String,
    /// The option without which a kernel has no such function.
    pub option: Option<String>,
    /// The file of the kernel's source that defines it.
    pub file: String,
    /// All that refers to it.
    pub callers: Vec<Caller>,
}

/// A function that calls the routed one, or an object that points to it.
#[derive(Debug, Default, PartialEq)]
pub struct Caller {
    /// Its name in the source.
    pub name: String,
    /// Where compilers inline this caller: into all functions of one of these sets.
    pub inlined_into: Vec<Vec<String>>,
    /// The option without which a kernel has no such caller.
    pub option: Option<String>,
}

impl Caller {
    /// Sets of symbols. If all symbols of one set refer to the function, this caller's calls reach it.
    pub fn places(&self) -> Vec<Vec<String>> {
        let call = |macro_name: &str| self.name.strip_prefix(macro_name)?.strip_suffix(')');
        let mut places = match (call("SYSCALL_DEFINE("), call("COMPAT_SYSCALL_DEFINE(")) {
            (Some(call), _) => {
                let entries = ["__x64", "__ia32"].map(|it| format!("{it}_sys_{call}"));
                vec![
                    vec![format!("__do_sys_{call}")],
                    vec![format!("__se_sys_{call}")],
                    entries.into(),
                ]
            }
            (_, Some(call)) => ["__do", "__se", "__ia32"]
                .map(|it| vec![format!("{it}_compat_sys_{call}")])
                .into(),
            (None, None) => vec![vec![self.name.clone()]],
        };
        places.extend(self.inlined_into.iter().cloned());
        places
    }

    /// Whether a reference in that symbol is this caller's.
    pub fn is_in(&self, symbol: &str) -> bool {
        self.places().iter().flatten().any(|it| it == symbol)
    }
}

/// Parses each line of three columns whose first is a name in backquotes.
pub fn parse(page: &str) -> Result<Vec<Row>, String> {
    let rows: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| row(line).ok_or_else(|| format!("not a row: {line}")))
        .collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Err("the table has no rows".into());
    }
    Ok(rows)
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [function, file, callers] = cells.as_slice() else {
        return None;
    };
    let callers: Option<Vec<_>> = callers.split(", ").map(caller).collect();
    let Caller {
        name,
        inlined_into,
        option,
    } = caller(function)?;
    inlined_into.is_empty().then_some(Row {
        function: name,
        option,
        file: quoted(file)?,
        callers: callers?,
    })
}

/// `` `a` ``, `` `a` in `b` and `c` or `d` ``, and behind either `` if `CONFIG_E` ``.
fn caller(text: &str) -> Option<Caller> {
    let (text, option) = match text.split_once(" if ") {
        Some((text, option)) => (text, Some(quoted(option)?)),
        None => (text, None),
    };
    let all = |text: &str| text.split(" and ").map(quoted).collect();
    let (name, inlined_into) = match text.split_once(" in ") {
        Some((name, places)) => (name, places.split(" or ").map(all).collect::<Option<_>>()?),
        None => (text, Vec::new()),
    };
    Some(Caller {
        name: quoted(name)?,
        inlined_into,
        option,
    })
}

fn quoted(text: &str) -> Option<String> {
    let name = text.strip_prefix('`')?.strip_suffix('`')?;
    (!name.is_empty() && !name.contains('`')).then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_function_a_file_and_callers() {
        let page = "text\n| function | file | callers |\n|---|---|---|\n\
                    | `f` if `CONFIG_A` | `a/b.c` | `g`, `h` in `i` and `j` or `k` if `CONFIG_B` |\n";
        let rows = parse(page).unwrap();
        assert_eq!((rows.len(), rows[0].callers.len()), (1, 2));
        assert_eq!(
            (rows[0].function.as_str(), rows[0].file.as_str()),
            ("f", "a/b.c")
        );
        assert_eq!(rows[0].option.as_deref(), Some("CONFIG_A"));
        let [g, h] = &rows[0].callers[..] else {
            unreachable!()
        };
        assert_eq!(g.places(), [["g"]]);
        assert_eq!(h.places(), [vec!["h"], vec!["i", "j"], vec!["k"]]);
        assert_eq!(
            (g.option.as_deref(), h.option.as_deref()),
            (None, Some("CONFIG_B"))
        );
    }

    #[test]
    fn a_system_call_has_an_entry_for_each_kind_of_program() {
        let caller = caller("`SYSCALL_DEFINE(f)`").unwrap();
        assert_eq!(
            caller.places(),
            [
                vec!["__do_sys_f"],
                vec!["__se_sys_f"],
                vec!["__x64_sys_f", "__ia32_sys_f"]
            ]
        );
        assert!(caller.is_in("__ia32_sys_f") && !caller.is_in("f"));
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for page in [
            "",
            "| `f` | `a.c` |\n",
            "| `f` | a.c | `g` |\n",
            "| `f` | `a.c` | `g`,`h` |\n",
        ] {
            assert!(parse(page).is_err(), "{page}");
        }
    }
}
