//! What opens a call (rules 2, 8 and 10 of tool-calls.md e.2).

use super::{
    super::schema::Toolset,
    body::Dialect,
    tag::{Look, bare, blanks, declared_function, declared_key, declared_tag, literal, name},
};

/// How many opening wrappers in a row count as one.
const WRAPPERS: u8 = 4;

/// A confirmed opener.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Opening {
    /// A call in tags: its name is known, and a parameter or the end follows after `length`.
    Tags { dialect: Dialect, name: String, length: usize, wrappers: u8 },
    /// The `{` of a JSON object follows after `length`.
    Json { length: usize, array: bool, wrappers: u8 },
}

impl Opening {
    /// The same, `by` bytes further on and in as many more wrappers.
    fn shift(self, by: usize, more: u8) -> Self {
        match self {
            Self::Tags { dialect, name, length, wrappers } => {
                Self::Tags { dialect, name, length: length + by, wrappers: wrappers + more }
            }
            Self::Json { length, array, wrappers } => {
                Self::Json { length: length + by, array, wrappers: wrappers + more }
            }
        }
    }
}

/// A call at the `<` that `text` begins with: of kind A, B or C.
pub(super) fn opener(text: &str, tools: &Toolset) -> Look<Opening> {
    wrapper(text, tools, WRAPPERS).or(|| function(text, tools, false)).or(|| tag(text, tools))
}

/// A call inside a `<tool_call>` that was opened before; blanks have been passed.
pub(super) fn wrapped(text: &str, tools: &Toolset) -> Look<Opening> {
    inside(text, tools, 0)
}

/// Kind A: `<tool_call>`, confirmed by what follows.
fn wrapper(text: &str, tools: &Toolset, left: u8) -> Look<Opening> {
    literal(text, &["<tool_call>"]).and_then(|start| {
        blanks(&text[start..]).and_then(|gap| {
            let at = start + gap;
            inside(&text[at..], tools, left - 1).map(|opening| opening.shift(at, 1))
        })
    })
}

fn inside(text: &str, tools: &Toolset, wrappers_left: u8) -> Look<Opening> {
    match text.as_bytes().first() {
        None => Look::More,
        Some(b'{') => Look::Yes(Opening::Json { length: 0, array: false, wrappers: 0 }),
        Some(b'[') => blanks(&text[1..]).and_then(|gap| match text.as_bytes()[1 + gap] {
            b'{' => Look::Yes(Opening::Json { length: 1 + gap, array: true, wrappers: 0 }),
            _ => Look::No,
        }),
        Some(b'<') => {
            let again = || match wrappers_left {
                0 => Look::No,
                left => wrapper(text, tools, left),
            };
            function(text, tools, true).or(|| tag(text, tools)).or(again)
        }
        Some(_) => Look::No,
    }
}

/// Kind B: `<function=NAME>` with a declared name, or with any name where `any`; confirmed by a
/// whole parameter opener or a closer.
fn function(text: &str, tools: &Toolset, any: bool) -> Look<Opening> {
    let free = || {
        if !any {
            return Look::No;
        }
        let plain = |name: &str| !name.contains(['\n', '<']);
        literal(text, &["<function="]).and_then(|start| {
            name(&text[start..], plain).and_then(|name| {
                // A name of blanks and quotes alone is none.
                if plain(name) && !bare(name).is_empty() {
                    Look::Yes((start + name.len() + 1, name))
                } else {
                    Look::No
                }
            })
        })
    };
    declared_function(text, tools).or(free).and_then(|(start, name)| {
        blanks(&text[start..]).and_then(|gap| {
            let at = start + gap;
            let rest = &text[at..];
            let parameter = literal(rest, &["<parameter="]).and_then(|start| {
                self::name(&rest[start..], |_| true).map(|key| start + key.len() + 1)
            });
            parameter
                .or(|| literal(rest, &["</function>"]))
                .or(|| literal(rest, &["</tool_call>"]))
                .map(|_| Opening::Tags {
                    dialect: Dialect::Coder,
                    name: name.to_owned(),
                    length: at,
                    wrappers: 0,
                })
        })
    })
}

/// Kind C: `<NAME>` with a declared name, confirmed by a declared parameter's tag or its closer.
fn tag(text: &str, tools: &Toolset) -> Look<Opening> {
    declared_tag(text, tools).and_then(|(start, name)| {
        blanks(&text[start..]).and_then(|gap| {
            let at = start + gap;
            let rest = &text[at..];
            literal(rest, &["</", name, ">"])
                .or(|| declared_key(rest, "<", name, tools, |_| true).map(|(length, _)| length))
                .map(|_| Opening::Tags {
                    dialect: Dialect::Tags,
                    name: name.to_owned(),
                    length: at,
                    wrappers: 0,
                })
        })
    })
}
