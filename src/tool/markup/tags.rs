//! The tags of a call: `<function=NAME>` and `<parameter=KEY>`, or `<NAME>` and `<KEY>`.

use super::{
    body::{Body, Next},
    sink::{Dialect, Names},
    tag::{
        Look, bare, declared_function, declared_key, declared_tag, followed, literal, parameter,
    },
};
use crate::closer::{Closer, Part};

impl Body {
    /// What `text` begins with, where no value is open.
    pub(super) fn next(&self, text: &str, repairs: bool, names: &impl Names) -> Look<Next> {
        let wrapper = || {
            literal(text, &["</tool_call>"]).map(|length| Next::Closer { length, wrapper: true })
        };
        let own = || self.closer(text).map(|length| Next::Closer { length, wrapper: false });
        let key = || match self.dialect {
            Dialect::Coder => self.coder_key(text, repairs, names),
            _ => declared_key(text, "<", &self.name, names, |_| true)
                .map(|(length, key)| Next::Parameter { key: key.into(), length, value: None }),
        };
        own().or(wrapper).or(key)
    }

    /// `<parameter=KEY>` with any key; a declared one is found behind quotes.
    fn coder_key(&self, text: &str, repairs: bool, names: &impl Names) -> Look<Next> {
        parameter(text).map(|(length, key)| {
            let declared = |key: &str| names.declares(&self.name, key);
            let (key, value) = match lost_bracket(key) {
                _ if declared(key) => (key, None),
                _ if declared(bare(key)) => (bare(key), None),
                Some((key, value)) if repairs && declared(key) => (key, Some(value)),
                _ => (key, None),
            };
            Next::Parameter { key: key.into(), length, value: value.map(Into::into) }
        })
    }

    /// The call's own closer.
    fn closer(&self, text: &str) -> Look<usize> {
        self.closer_of(text, "function", &self.name)
    }

    /// The closer of the open parameter.
    fn value_closer(&self, text: &str) -> Look<usize> {
        self.closer_of(text, "parameter", self.open_key())
    }

    fn closer_of(&self, text: &str, kind: &str, name: &str) -> Look<usize> {
        literal(text, &["</", if self.dialect == Dialect::Coder { kind } else { name }, ">"])
    }

    /// Another parameter's opener.
    fn key(&self, text: &str, names: &impl Names) -> Look<usize> {
        match self.dialect {
            Dialect::Coder => literal(text, &["<parameter="]),
            _ => declared_key(text, "<", &self.name, names, |_| true).map(|(length, _)| length),
        }
    }

    /// Another call's opener.
    fn opener(&self, text: &str, names: &impl Names) -> Look<usize> {
        let tag = || match self.dialect {
            Dialect::Coder => Look::No,
            _ => declared_tag(text, "<", names).map(|(length, _)| length),
        };
        literal(text, &["<tool_call>"])
            .or(|| declared_function(text, names).map(|(length, _)| length))
            .or(tag)
    }

    /// Whether the tag that `text` begins with ends the open value; yes carries how much of it
    /// belongs to that end. A closer does only if markup or the end of the text follows it: a
    /// value may quote one.
    pub(super) fn ends_value(
        &self,
        text: &str,
        line_start: bool,
        end: bool,
        names: &impl Names,
    ) -> Look<usize> {
        // Nearly every `<` of a value is followed by something else.
        let may_end = match text.as_bytes() {
            [_] | [_, b'/', ..] => true,
            [_, b'p', ..] => self.dialect == Dialect::Coder || line_start,
            _ => self.dialect != Dialect::Coder && line_start,
        };
        if !may_end {
            return Look::No;
        }
        let wrapper_closer = |rest: &str| literal(rest, &["</tool_call>"]);
        // Behind a closer that is spelt right, one may be mis-spelt, if it is there whole.
        let near = |rest: &str, parts: &[Part]| match Closer::at(rest) {
            Closer::Whole { len, part } if parts.contains(&part) => Look::Yes(len),
            Closer::Half if !end => Look::More,
            _ => Look::No,
        };
        let opener = |rest: &str| self.opener(rest, names);
        self.value_closer(text)
            .and_then(|length| {
                let accept = |rest: &str| {
                    (self.key(rest, names).or(|| self.closer(rest)))
                        .or(|| wrapper_closer(rest))
                        .or(|| opener(rest))
                        .or(|| near(rest, &[Part::Call, Part::Wrapper]))
                };
                followed(&text[length..], end, accept).map(|()| length)
            })
            .or(|| {
                self.closer(text).and_then(|length| {
                    let accept = |rest: &str| {
                        (wrapper_closer(rest).or(|| opener(rest)))
                            .or(|| near(rest, &[Part::Wrapper]))
                    };
                    followed(&text[length..], end, accept).map(|()| 0)
                })
            })
            .or(|| {
                wrapper_closer(text)
                    .and_then(|length| followed(&text[length..], end, opener).map(|()| 0))
            })
            .or(|| {
                if !line_start {
                    return Look::No;
                }
                let prefix = if self.dialect == Dialect::Coder { "<parameter=" } else { "<" };
                let unused = |key: &str| key != self.open_key() && !self.used.contains(key);
                declared_key(text, prefix, &self.name, names, unused).map(|_| 0)
            })
    }

    /// Whether `text` is the beginning of a closer, and not just a `<` or `</`.
    pub(super) fn is_cut_closer(&self, text: &str) -> bool {
        text.len() > 2
            && [self.value_closer(text), self.closer(text), literal(text, &["</tool_call>"])]
                .contains(&Look::More)
    }
}

/// `<parameter=KEY=VALUE</parameter>`, or a newline in place of the second `=`: the `>` after
/// the key was lost, and that of the closer ended it (QwenLM/Qwen3-Coder#457).
fn lost_bracket(key: &str) -> Option<(&str, &str)> {
    let (key, value) = key.strip_suffix("</parameter")?.split_once(['=', '\n'])?;
    Some((key.trim_ascii(), value.strip_suffix('\n').unwrap_or(value)))
}
