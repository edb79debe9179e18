// SPDX-License-Identifier: GPL-2.0

//! Which functions and objects of a C file name another function.
//!
//! This is no parser of C. It relies on the kernel's style: whatever is at the top level ends with a brace or a
//! semicolon, and a closing brace in the first column ends a function.

/// A definition at the top level of a file.
#[derive(Debug, Default, PartialEq)]
pub struct Item {
    /// The function's or object's name.
    pub name: String,
    /// Whether the item is gone once the kernel has booted.
    pub init: bool,
    /// All words of the body, in order.
    body: Vec<String>,
}

impl Item {
    /// How often the item names the function.
    pub fn names(&self, function: &str) -> usize {
        self.body.iter().filter(|word| *word == function).count()
    }
}

/// All functions, objects with an initializer, and macros.
pub fn parse(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut head = Vec::new();
    let mut body = Vec::new();
    let mut depth = 0_u32;
    let mut rest = lines(text).into_iter();
    while let Some(line) = rest.next() {
        if let Some(directive) = line.trim_start().strip_prefix('#') {
            let mut words = words(directive);
            let mut last = line;
            while last.ends_with('\\') {
                last = rest.next().unwrap_or_default();
                words.extend(self::words(&last));
            }
            if words.first().is_some_and(|word| word == "define") && words.len() > 1 {
                items.push(Item {
                    name: words[1].clone(),
                    init: false,
                    body: words.split_off(2),
                });
            }
            continue;
        }
        // Branches of an #ifdef may have opened more braces than there are.
        if line.starts_with('}') {
            depth = 1;
        }
        for word in words(&line) {
            match word.as_str() {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ if depth == 0 => head.push(word.clone()),
                _ => body.push(word.clone()),
            }
            if depth == 0 && (word == "}" || word == ";") {
                // An object's initializer goes on up to the semicolon; a function ends here.
                items.extend(item(std::mem::take(&mut head), std::mem::take(&mut body)));
            }
        }
    }
    items
}

/// The name is the word before the first parenthesis, or the last before `=` or `[`.
fn item(head: Vec<String>, mut body: Vec<String>) -> Option<Item> {
    let end = head
        .iter()
        .position(|word| matches!(word.as_str(), "(" | "=" | "["))?;
    let mut name = head.get(end.checked_sub(1)?)?.clone();
    // SYSCALL_DEFINE2(eventfd2, …
    if name.starts_with("SYSCALL_DEFINE") || name.starts_with("COMPAT_SYSCALL_DEFINE") {
        name = format!(
            "{}({})",
            name.trim_end_matches(|last: char| last.is_ascii_digit()),
            head.get(end + 1)?
        );
    }
    // Without a body it is a declaration, unless it has a value.
    if head[end] == "=" || head[end..].iter().any(|word| word == "=") {
        body.extend_from_slice(&head[end..]);
    } else if body.is_empty() {
        return None;
    }
    let init = head.iter().any(|word| word == "__init");
    Some(Item { name, init, body })
}

/// Identifiers, numbers, and each other character alone.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut within = false;
    for letter in line.chars() {
        let is_word = letter.is_ascii_alphanumeric() || letter == '_';
        match words.last_mut() {
            Some(last) if is_word && within => last.push(letter),
            _ if letter.is_whitespace() => {}
            _ => words.push(letter.into()),
        }
        within = is_word;
    }
    words
}

/// The lines without comments, and without what strings and characters hold.
fn lines(text: &str) -> Vec<String> {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let end = match letter {
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => quote(rest, letter),
            _ => {
                bare.push(letter);
                rest = &rest[letter.len_utf8()..];
                continue;
            }
        };
        bare.extend(rest[..end].chars().filter(|letter| *letter == '\n'));
        bare.push(' ');
        rest = &rest[end..];
    }
    bare.lines().map(str::to_owned).collect()
}

/// Where the string or character ends that the text begins with.
fn quote(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        if letter == mark && !escaped {
            return at + 1;
        }
        escaped = letter == '\\' && !escaped;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
/* f() in a comment */
static int f(int a);
static int __init boots(void)
{
\treturn f(1);
}
#define both(a) \\
\t(f(a) + f(a))
static const struct ops table[] = {
\t{ .call = f },
};
static call_t pointer = f;
static long
twice(const char *text)
{
#ifdef A
\tif (f(2)) {
#else
\tif (*text == '\"' && g(\"f()\")) {
#endif
\t\treturn f(3); // f
\t}
}

SYSCALL_DEFINE2(call, int, a, int, b)
{
\treturn f(a) + ff(b);
}
int f(int a)
{
\treturn a;
}
";

    #[test]
    fn each_mention_belongs_to_an_item() {
        let items = parse(FILE);
        let found: Vec<_> = items
            .iter()
            .filter(|item| item.names("f") > 0)
            .map(|item| (item.name.as_str(), item.init, item.names("f")))
            .collect();
        let want = [
            ("boots", true, 1),
            ("both", false, 2),
            ("table", false, 1),
            ("pointer", false, 1),
            ("twice", false, 2),
            ("SYSCALL_DEFINE(call)", false, 1),
        ];
        assert_eq!(found, want);
        assert!(items.iter().any(|item| item.name == "f"));
    }
}
