//! The names of the functions on offer, which tell a name in pieces from one that is repeated.

use crate::{Text, chat::Tool};

/// The names, each in a line.
///
/// They are copied: the tools may be slices of a long request, which is kept no longer than it is
/// needed.
#[derive(Debug, Default)]
pub(crate) struct Names(Box<str>);

/// How a name stands to those on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// No longer one begins so.
    Whole,
    /// It is one, and a longer one begins so.
    GoesOn,
    /// It is none, and one begins so: more of it must come.
    Begun,
}

impl Names {
    pub(crate) fn of(tools: &[Tool]) -> Self {
        let names = tools.iter().filter_map(Tool::as_function).map(|function| &*function.name);
        let names: Vec<&str> = names.filter(|name| !name.contains('\n')).collect();
        Self(names.join("\n").into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a longer name that begins so.
    fn go_on(&self, name: &str) -> bool {
        self.0.lines().any(|known| known.len() > name.len() && known.starts_with(name))
    }

    /// How `name` stands to them. It takes a look at each.
    pub(super) fn known(&self, name: &str) -> Known {
        match (self.go_on(name), self.has(name)) {
            (false, _) => Known::Whole,
            (true, true) => Known::GoesOn,
            (true, false) => Known::Begun,
        }
    }

    /// What `begun` and `more` are together, if a name begins so: `more` goes on from `begun`, or is all
    /// of the name so far. It is no other name.
    pub(super) fn joined(&self, begun: &str, more: &str) -> Option<Text> {
        if more.len() > begun.len()
            && more.starts_with(begun)
            && (self.has(more) || self.go_on(more))
        {
            return Some(more.into());
        }
        if more == begun || self.has(more) || !self.go_on(begun) {
            return None;
        }
        let whole = format!("{begun}{more}");
        (self.has(&whole) || self.go_on(&whole)).then(|| whole.into())
    }

    fn has(&self, name: &str) -> bool {
        self.0.lines().any(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::FunctionTool;

    #[test]
    fn pieces_of_names_are_told_from_names() {
        let tool = |name: &str| Tool::Function(FunctionTool::without_parameters(name));
        let names = Names::of(&["get", "get_weather", "write_file"].map(tool));
        for (begun, more, whole) in [
            ("get_", "weather", Some("get_weather")),
            ("get", "_weather", Some("get_weather")),
            ("write", "_", Some("write_")),
            ("write_", "file", Some("write_file")),
            ("get_", "get_weather", Some("get_weather")),
            ("get", "get_weather", Some("get_weather")),
            ("get_", "get_w", Some("get_w")),
            ("get_weather", "get_weather", None),
            ("get", "get", None),
            ("get", "write_file", None),
            ("get", "x", None),
            ("write_file", "x", None),
            ("", "x", None),
        ] {
            assert_eq!(names.joined(begun, more).as_deref(), whole, "{begun} {more}");
        }
        for (name, known) in [
            ("get_", Known::Begun),
            ("get", Known::GoesOn),
            ("get_weather", Known::Whole),
            ("read", Known::Whole),
        ] {
            assert_eq!(names.known(name), known, "{name}");
        }
        assert!(names.go_on("get") && names.go_on("write_") && !names.go_on("write_file"));
        assert!(Names::of(&[]).is_empty() && !Names::default().go_on(""));
    }
}
