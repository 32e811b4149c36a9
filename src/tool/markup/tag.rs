//! Matching markup at the start of a text that may go on.

use super::sink::Names;

/// The longest name of a tool or a parameter that is recognised in text, in bytes.
pub(in crate::tool) const NAME_LIMIT: usize = 256;

/// How many blanks are looked past, at most: before an opener, after a closer.
pub(super) const BLANK_LIMIT: usize = 256;

/// An answer about text that may go on. An answer other than [`More`](Look::More) holds however
/// the text goes on; that is what makes the scanner independent of chunking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Look<T> {
    No,
    /// More text decides.
    More,
    Yes(T),
}

impl<T> Look<T> {
    /// The first that says yes, or else whether one of both may still.
    pub(super) fn or(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes(_) => self,
            Self::No => other(),
            Self::More => match other() {
                Self::Yes(value) => Self::Yes(value),
                _ => Self::More,
            },
        }
    }

    pub(super) fn and_then<U>(self, then: impl FnOnce(T) -> Look<U>) -> Look<U> {
        match self {
            Self::Yes(value) => then(value),
            Self::More => Look::More,
            Self::No => Look::No,
        }
    }

    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Look<U> {
        self.and_then(|value| Look::Yes(map(value)))
    }
}

/// Whether `text` begins with `parts`, joined; yes carries their length.
pub(super) fn literal(text: &str, parts: &[&str]) -> Look<usize> {
    let mut rest = text.as_bytes();
    for part in parts {
        let part = part.as_bytes();
        if rest.len() < part.len() {
            return if part.starts_with(rest) { Look::More } else { Look::No };
        }
        if !rest.starts_with(part) {
            return Look::No;
        }
        rest = &rest[part.len()..];
    }
    Look::Yes(text.len() - rest.len())
}

/// Past the blanks at the start of `text`: no, if there are too many; more, if nothing else is
/// there.
pub(super) fn blanks(text: &str) -> Look<usize> {
    match text.len() - text.trim_ascii_start().len() {
        count if count > BLANK_LIMIT => Look::No,
        count if count == text.len() => Look::More,
        count => Look::Yes(count),
    }
}

/// Whether `c` is what `trim` of JavaScript, in which the XML clients are written, removes.
pub(in crate::tool) fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

/// A tag that `prefix` begins, with a name that `find` knows up to a `>`, which is not far; yes
/// carries the tag's length and what was found. Where the `>` is still to come, `may` says whether
/// the name so far can go on to something wanted.
pub(super) fn named<'t, T>(
    text: &'t str,
    prefix: &str,
    may: impl FnOnce(&str) -> bool,
    find: impl FnOnce(&'t str) -> Option<T>,
) -> Look<(usize, T)> {
    literal(text, &[prefix]).and_then(|start| {
        let text = &text[start..];
        // Room for quotes and blanks around it.
        let near = &text.as_bytes()[..text.len().min(NAME_LIMIT + 8)];
        match memchr::memchr(b'>', near) {
            Some(end) if end > 0 => match find(&text[..end]) {
                Some(found) => Look::Yes((start + end + 1, found)),
                None => Look::No,
            },
            None if near.len() == text.len() && may(text) => Look::More,
            _ => Look::No,
        }
    })
}

/// `tag`, and past the blanks behind it.
pub(super) fn before(text: &str, tag: &str) -> Look<usize> {
    literal(text, &[tag]).and_then(|start| blanks(&text[start..]).map(|gap| start + gap))
}

/// A name without the blanks and quotes around it, as far as it has arrived.
pub(super) fn bare(name: &str) -> &str {
    name.trim_ascii().trim_matches(['"', '\''])
}

/// Whether a closer whose text is done, with `rest` after it, is structural: one of the tags
/// that `accept` knows follows after blanks, or the end does. A tag that is cut by the end
/// counts.
pub(super) fn followed(
    rest: &str,
    end: bool,
    accept: impl FnOnce(&str) -> Look<usize>,
) -> Look<()> {
    match blanks(rest).and_then(|gap| accept(&rest[gap..])).map(|_| ()) {
        Look::More if end => Look::Yes(()),
        look => look,
    }
}

/// `<function=NAME>` with a declared name; yes carries the tag's length and the name.
pub(super) fn declared_function<'n>(text: &str, names: &'n impl Names) -> Look<(usize, &'n str)> {
    let may = |part: &str| names.begins_tool(part) || names.begins_tool(bare(part));
    named(text, "<function=", may, |name| names.tool(name).or_else(|| names.tool(bare(name))))
}

/// `<NAME>`, or what else `prefix` begins, with a declared name; yes carries the tag's length and
/// the name.
pub(super) fn declared_tag<'n>(
    text: &str,
    prefix: &str,
    names: &'n impl Names,
) -> Look<(usize, &'n str)> {
    named(text, prefix, |part| names.begins_tool(part), |name| names.tool(name))
}

/// `<KEY>` with a declared parameter of `tool` that passes `test`; yes carries the tag's length
/// and the key.
pub(super) fn declared_key<'a>(
    text: &'a str,
    prefix: &str,
    tool: &str,
    names: &impl Names,
    test: impl Fn(&str) -> bool,
) -> Look<(usize, &'a str)> {
    let may = |part: &str| names.may_declare(tool, part, &test);
    named(text, prefix, may, |key| (test(key) && names.declares(tool, key)).then_some(key))
}

/// `<parameter=KEY>` with any key.
pub(super) fn parameter(text: &str) -> Look<(usize, &str)> {
    named(text, "<parameter=", |_| true, Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_match_over_their_parts() {
        assert_eq!(literal("</path>x", &["</", "path", ">"]), Look::Yes(7));
        assert_eq!(literal("</pa", &["</", "path", ">"]), Look::More);
        assert_eq!(literal("</pq", &["</", "path", ">"]), Look::No);
        assert_eq!(literal("", &["<"]), Look::More);
    }

    #[test]
    fn blanks_are_looked_past_up_to_a_limit() {
        assert_eq!(blanks(" \n x"), Look::Yes(3));
        assert_eq!(blanks(&" ".repeat(BLANK_LIMIT)), Look::More);
        assert_eq!(blanks(&" ".repeat(BLANK_LIMIT + 1)), Look::No);
    }

    #[test]
    fn names_end_near() {
        assert_eq!(named("<abc>d", "<", |_| false, Some), Look::Yes((5, "abc")));
        assert_eq!(named("<abc>d", "<", |_| true, |_| None::<()>), Look::No);
        assert_eq!(named("<abc", "<", |part| part == "abc", Some), Look::More);
        assert_eq!(named("<abc", "<", |_| false, Some), Look::No);
        assert_eq!(named(&format!("<{}", "x".repeat(300)), "<", |_| true, Some), Look::No);
        assert_eq!(named("<>", "<", |_| true, Some), Look::No);
    }
}
