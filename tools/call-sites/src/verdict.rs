// SPDX-License-Identifier: GPL-2.0

//! Whether a kernel's image has the references that the table and the source tell of.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use crate::image::Image;
use crate::source::Item;
use crate::table::{Caller, Row};

/// A kernel's image and what it was configured with.
pub struct Kernel {
    image: Image,
    /// All options that are set.
    options: HashSet<String>,
}

impl Kernel {
    /// With the text of its `.config`.
    pub fn new(image: Image, configuration: &str) -> Self {
        let set = configuration
            .lines()
            .filter_map(|line| line.strip_suffix("=y"));
        Self {
            image,
            options: set.map(str::to_owned).collect(),
        }
    }

    fn has(&self, option: Option<&String>) -> bool {
        option.is_none_or(|option| self.options.contains(option))
    }

    /// The contradictions to the table or the source, a sentence each.
    pub fn judge(&self, rows: &[Row], sources: &BTreeMap<&String, Vec<Item>>) -> Vec<String> {
        let mut faults = Vec::new();
        // Else a call from another file may be inlined too, and the check of the source looks at one file.
        if !self.options.contains("CONFIG_LTO_NONE") {
            faults.push("it was optimized across files".into());
        }
        for row in rows.iter().filter(|row| self.has(row.option.as_ref())) {
            let found = self.entry(row).err().map_or_else(
                || {
                    self.callers(row)
                        .into_iter()
                        .chain(self.source(row, &sources[&row.file]))
                        .collect()
                },
                |fault| vec![fault],
            );
            faults.extend(
                found
                    .into_iter()
                    .map(|fault| format!("{}: {fault}", row.function)),
            );
        }
        faults
    }

    /// The function has one entry, which is nothing else's.
    fn entry(&self, row: &Row) -> Result<(), String> {
        let symbols = self.image.symbols();
        match symbols.addresses(&row.function)[..] {
            [address] => {
                let others: Vec<_> = symbols
                    .namesakes(address)
                    .filter(|name| *name != row.function)
                    .collect();
                if others.is_empty() {
                    return Ok(());
                }
                Err(format!(
                    "has the same code as {}: a route would take calls of both",
                    others.join(", ")
                ))
            }
            [] => Err(format!(
                "the image has no such function: the compiler inlined it everywhere{}",
                but(&symbols.clones(&row.function))
            )),
            _ => Err("several functions have this name".into()),
        }
    }

    /// Each caller of the table refers to the function, and nothing else does.
    fn callers(&self, row: &Row) -> Vec<String> {
        let found = self.image.references(&row.function);
        let mut faults = Vec::new();
        for caller in row
            .callers
            .iter()
            .filter(|caller| self.has(caller.option.as_ref()))
        {
            let places = caller.places();
            if !places
                .iter()
                .any(|all| all.iter().all(|symbol| found.contains_key(symbol)))
            {
                faults.push(format!(
                    "{} does not refer to it: the compiler inlined it there, or that caller elsewhere{}",
                    caller.name,
                    but(&self.image.symbols().clones(&row.function))
                ));
            }
        }
        for symbol in found.keys() {
            if !row.callers.iter().any(|caller| caller.is_in(symbol)) {
                faults.push(format!(
                    "{symbol} refers to it, and the table does not say so"
                ));
            }
        }
        faults
    }

    /// Each mention in the file that defines the function, the only one into which it can be inlined, is a
    /// caller of the table, with as many references in the image.
    fn source(&self, row: &Row, items: &[Item]) -> Vec<String> {
        let mut faults = Vec::new();
        if !items.iter().any(|item| defines(item, &row.function)) {
            faults.push(format!("{} does not define it", row.file));
        }
        let mut mentions: BTreeMap<&str, usize> = BTreeMap::new();
        // The boot is over when a route is armed.
        for item in items
            .iter()
            .filter(|item| !item.init && item.names(&row.function) > 0)
        {
            let most = mentions.entry(&item.name).or_default();
            *most = (*most).max(item.names(&row.function));
        }
        for (name, number) in mentions {
            let Some(caller) = row.callers.iter().find(|caller| caller.name == name) else {
                faults.push(format!(
                    "{name} of {} names it, and the table does not say so",
                    row.file
                ));
                continue;
            };
            let sites = self.sites(row, caller);
            if self.has(caller.option.as_ref()) && sites > 0 && sites < number {
                faults.push(format!(
                    "{name} names it {number} times, and the image has {sites} references there"
                ));
            }
        }
        faults
    }

    fn sites(&self, row: &Row, caller: &Caller) -> usize {
        let found = self.image.references(&row.function);
        let its = found.iter().filter(|(symbol, _)| caller.is_in(symbol));
        its.map(|(_, sites)| sites.calls + sites.pointers).sum()
    }

    /// The number of references found.
    pub fn sum(&self, rows: &[Row]) -> String {
        let all: Vec<_> = rows
            .iter()
            .flat_map(|row| self.image.references(&row.function).into_values())
            .collect();
        let sum = |number: fn(&crate::image::Sites) -> usize| all.iter().map(number).sum::<usize>();
        format!(
            "{} calls, {} pointers",
            sum(|sites| sites.calls),
            sum(|sites| sites.pointers)
        )
    }

    /// The references to each function, for a reader.
    pub fn show(&self, functions: &[&str]) -> String {
        let mut text = String::new();
        for function in functions {
            let addresses = self.image.symbols().addresses(function);
            let _ = writeln!(text, "  {function}: {} in the image", addresses.len());
            for (symbol, sites) in self.image.references(function) {
                let _ = writeln!(
                    text,
                    "    {symbol}: {} calls, {} pointers",
                    sites.calls, sites.pointers
                );
            }
        }
        text
    }
}

fn but(clones: &[&str]) -> String {
    if clones.is_empty() {
        String::new()
    } else {
        format!(" (there is {})", clones.join(", "))
    }
}

/// Whether an item of the source becomes that symbol.
fn defines(item: &Item, function: &str) -> bool {
    let (kind, call) = match function
        .strip_prefix("__x64_")
        .or_else(|| function.strip_prefix("__ia32_"))
    {
        None => return item.name == function,
        Some(rest) => match rest.strip_prefix("compat_sys_") {
            Some(call) => ("COMPAT_SYSCALL_DEFINE", call),
            None => ("SYSCALL_DEFINE", rest.trim_start_matches("sys_")),
        },
    };
    item.name == format!("{kind}({call})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{source, table};

    const SYMBOLS: &str = "ffffffff81000000 T a\nffffffff81000010 T b\nffffffff81000020 T f\n";
    const ROW: &str = "| `f` | `f.c` | `a`, `b` |\n";
    const SOURCE: &str = "int f(void)\n{\n\treturn 1;\n}\nint a(void)\n{\n\treturn f();\n}\n";

    /// The description of a kernel; the calls are from the first to the second.
    fn judge(symbols: &str, calls: &[(&str, &str)], row: &str, source: &str) -> String {
        let kernel = Kernel::new(Image::with(symbols, calls), "CONFIG_LTO_NONE=y\n");
        let file = "f.c".to_owned();
        let sources = BTreeMap::from([(&file, source::parse(source))]);
        kernel
            .judge(&table::parse(row).unwrap(), &sources)
            .join("\n")
    }

    #[test]
    fn an_image_as_the_table_and_the_source_have_it_is_good() {
        let calls = [("a", "f"), ("b", "f")];
        assert_eq!(judge(SYMBOLS, &calls, ROW, SOURCE), "");
        let inlined = "| `f` | `f.c` | `a` in `b`, `c` if `CONFIG_C` |\n";
        assert_eq!(judge(SYMBOLS, &calls[1..], inlined, SOURCE), "");
        let boots = SOURCE.replace("int a(", "int __init boots(");
        assert_eq!(judge(SYMBOLS, &calls, ROW, &boots), "");
    }

    #[test]
    fn a_caller_that_inlined_the_function_is_told() {
        let text = judge(SYMBOLS, &[("b", "f")], ROW, SOURCE);
        assert!(text.contains("f: a does not refer to it"), "{text}");
        let with_clone = format!("{SYMBOLS}ffffffff81000030 t f.isra.0\n");
        let text = judge(&with_clone, &[("b", "f")], ROW, SOURCE);
        assert!(text.contains("(there is f.isra.0)"), "{text}");
        let twice = SOURCE.replace("return f()", "return f() + f()");
        let text = judge(SYMBOLS, &[("a", "f"), ("b", "f")], ROW, &twice);
        assert_eq!(
            text,
            "f: a names it 2 times, and the image has 1 references there"
        );
    }

    #[test]
    fn a_caller_that_the_table_lacks_is_told() {
        let text = judge(SYMBOLS, &[("a", "f"), ("b", "f"), ("c", "f")], ROW, SOURCE);
        assert_eq!(text, "f: c refers to it, and the table does not say so");
        let row = "| `f` | `f.c` | `b` |\n";
        let text = judge(SYMBOLS, &[("b", "f")], row, SOURCE);
        assert_eq!(text, "f: a of f.c names it, and the table does not say so");
    }

    #[test]
    fn a_function_without_an_entry_of_its_own_is_told() {
        let calls = [("a", "f"), ("b", "f")];
        let absent = judge(&SYMBOLS.replace(" f", " g"), &[], ROW, SOURCE);
        assert!(absent.contains("no such function"), "{absent}");
        let shared = judge(
            &format!("{SYMBOLS}ffffffff81000020 T g\n"),
            &calls,
            ROW,
            SOURCE,
        );
        assert!(shared.contains("same code as g"), "{shared}");
        let two = judge(
            &format!("{SYMBOLS}ffffffff81000030 t f\n"),
            &calls,
            ROW,
            SOURCE,
        );
        assert!(two.contains("several functions"), "{two}");
        let elsewhere = judge(SYMBOLS, &calls, ROW, "");
        assert!(elsewhere.contains("f.c does not define it"), "{elsewhere}");
    }

    #[test]
    fn a_kernel_optimized_across_files_is_refused() {
        let kernel = Kernel::new(Image::default(), "CONFIG_LTO_CLANG_THIN=y\n");
        assert_eq!(
            kernel.judge(&[], &BTreeMap::new()),
            ["it was optimized across files"]
        );
    }
}
