//! What opens a call, and what confirms that it does.

use super::{
    sink::{Dialect, Names},
    tag::{
        Look, bare, before, blanks, declared_function, declared_key, declared_tag, followed,
        literal, named, parameter,
    },
};

/// How many opening wrappers in a row count as one.
const WRAPPERS: u8 = 4;

/// What models open around all their calls, beside the tags of each. It goes with the first of them.
const AROUND: [&str; 2] = ["<tool_calls>", "<function_calls>"];

/// A confirmed opener, `length` bytes long, in so many wrappers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Opening {
    pub(super) call: Opened,
    pub(super) length: usize,
    pub(super) wrappers: u8,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Opened {
    /// A call in tags: its name is known, and a parameter or the end follows, blanks aside.
    Tags { dialect: Dialect, name: String },
    /// The `{` of a JSON object follows, perhaps of the first of several.
    Json { array: bool },
}

impl Opening {
    fn tags(dialect: Dialect, name: &str, length: usize) -> Self {
        Self { call: Opened::Tags { dialect, name: name.to_owned() }, length, wrappers: 0 }
    }

    const fn json(array: bool, length: usize) -> Self {
        Self { call: Opened::Json { array }, length, wrappers: 0 }
    }

    /// The same, behind `length` bytes that are a wrapper.
    fn wrapped(self, length: usize) -> Self {
        Self { wrappers: self.wrappers + 1, ..self.behind(length) }
    }

    /// The same, behind `length` bytes that go with it.
    fn behind(self, length: usize) -> Self {
        Self { length: self.length + length, ..self }
    }
}

/// Looks for openers at the `<` that a text begins with.
pub(super) struct Openers<'n, N> {
    pub(super) names: &'n N,
    /// Whether only a tool's own tag may open a call.
    pub(super) only_xml: bool,
    /// Whether `<tool_call>` may hold a call of a name that nobody declared.
    pub(super) any_name: bool,
    /// Whether the end of the text confirms a tool's own tag.
    pub(super) end_confirms: bool,
}

impl<N: Names> Openers<'_, N> {
    /// A call at the start of `text`: in a wrapper, or in tags of either kind without one.
    pub(super) fn at(&self, text: &str) -> Look<Opening> {
        if self.only_xml {
            return self.tag(text);
        }
        AROUND.iter().fold(self.call(text), |call, around| call.or(|| self.around(text, around)))
    }

    /// The same, with nothing around it.
    fn call(&self, text: &str) -> Look<Opening> {
        let bare = || self.function(text, false).or(|| self.tag(text));
        self.wrapper(text, WRAPPERS).or(bare)
    }

    /// A call behind the opening tag `around`.
    fn around(&self, text: &str, around: &str) -> Look<Opening> {
        before(text, around).and_then(|at| self.call(&text[at..]).map(|opening| opening.behind(at)))
    }

    /// `<tool_call>`, confirmed by what follows.
    fn wrapper(&self, text: &str, left: u8) -> Look<Opening> {
        before(text, "<tool_call>")
            .and_then(|at| self.inside(&text[at..], left - 1).map(|opening| opening.wrapped(at)))
    }

    /// A call inside a `<tool_call>`, and inside of so many more; blanks have been passed.
    pub(super) fn inside(&self, text: &str, wrappers_left: u8) -> Look<Opening> {
        match text.as_bytes().first() {
            None => Look::More,
            Some(b'{') => Look::Yes(Opening::json(false, 0)),
            Some(b'[') => blanks(&text[1..]).and_then(|gap| match text.as_bytes()[1 + gap] {
                b'{' => Look::Yes(Opening::json(true, 1 + gap)),
                _ => Look::No,
            }),
            Some(b'<') => {
                let again = || match wrappers_left {
                    0 => Look::No,
                    left => self.wrapper(text, left),
                };
                self.function(text, self.any_name).or(|| self.tag(text)).or(again)
            }
            Some(_) => Look::No,
        }
    }

    /// `<function=NAME>` with a declared name, or with any name where `any`; confirmed by a whole
    /// parameter opener or a closer.
    fn function(&self, text: &str, any: bool) -> Look<Opening> {
        let free = || {
            if !any {
                return Look::No;
            }
            let plain = |name: &str| !name.contains(['\n', '<']);
            // A name of blanks and quotes alone is none.
            let is_name = |name: &&str| plain(name) && !bare(name).is_empty();
            named(text, "<function=", plain, |name| Some(name).filter(is_name))
        };
        declared_function(text, self.names).or(free).and_then(|(start, name)| {
            let confirmed = |rest: &str| {
                (parameter(rest).map(|(length, _)| length))
                    .or(|| literal(rest, &["</function>"]))
                    .or(|| literal(rest, &["</tool_call>"]))
            };
            blanks(&text[start..])
                .and_then(|gap| confirmed(&text[start + gap..]))
                .map(|_| Opening::tags(Dialect::Coder, name, start))
        })
    }

    /// `<NAME>` with a declared name, confirmed by a declared parameter's tag or its closer.
    fn tag(&self, text: &str) -> Look<Opening> {
        declared_tag(text, "<", self.names).and_then(|(length, name)| {
            let accept = |rest: &str| {
                literal(rest, &["</", name, ">"]).or(|| {
                    declared_key(rest, "<", name, self.names, |_| true).map(|(length, _)| length)
                })
            };
            followed(&text[length..], self.end_confirms, accept)
                .map(|()| Opening::tags(Dialect::Xml, name, length))
        })
    }
}
