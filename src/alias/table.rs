use std::sync::Arc;

use crate::{Error, Text};

/// What stands for any characters.
const ANY: char = '*';

/// The longest name that is taken, in bytes: as long as an edge takes one.
const MAX_LEN: usize = 256;

/// Names, and the models that they stand for, in the order in which they are tried.
///
/// A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Aliases {
    rows: Arc<Vec<Row>>,
}

#[derive(Clone, Debug)]
struct Row {
    name: Text,
    model: Text,
}

impl Aliases {
    /// No names.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, and `name` for `model` behind them.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`](crate::ErrorKind::InvalidRequest) for what can only be a slip, with
    /// words that name it:
    ///
    /// - a name or a model that is empty or has more than 256 bytes;
    /// - a name that one before it takes already, because it is the same or fits the same names;
    /// - a model that is itself another name, or this one: nothing would look it up;
    /// - a model with more `*` than its name has.
    pub fn alias(mut self, name: impl Into<Text>, model: impl Into<Text>) -> Result<Self, Error> {
        let row = Row { name: name.into(), model: model.into() };
        row.check()?;
        let Row { name, model } = &row;
        for other in &*self.rows {
            if other.name == *name {
                return Err(slip(format_args!("`{name}` is there twice")));
            }
            // What fits the pattern as a text fits whatever it stands for.
            if captures(&other.name, name).is_some() {
                let before = &other.name;
                return Err(slip(format_args!(
                    "`{name}` is never asked for: `{before}` stands before it and takes all of its \
                     names"
                )));
            }
            for (one, two) in [(&row, other), (other, &row)] {
                if one.model == two.name {
                    return Err(slip(format_args!(
                        "`{}` stands for `{}`, which is itself another name for `{}`; it is not \
                         looked up again",
                        one.name, one.model, two.model
                    )));
                }
            }
        }
        if name == model {
            return Err(slip(format_args!("`{name}` stands for itself")));
        }
        Arc::make_mut(&mut self.rows).push(row);
        Ok(self)
    }

    /// The model that `name` stands for; `None` where it is no other name.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Option<Text> {
        self.rows.iter().find_map(|row| Some(row.model_for(&captures(&row.name, name)?)))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Row {
    fn check(&self) -> Result<(), Error> {
        let Self { name, model } = self;
        for (text, what) in [(name, "name"), (model, "model")] {
            if text.trim().is_empty() {
                return Err(slip(format_args!("the {what} of `{name}` for `{model}` is empty")));
            }
            if text.len() > MAX_LEN {
                return Err(slip(format_args!("a {what} has more than {MAX_LEN} bytes")));
            }
        }
        let stars = |text: &str| text.matches(ANY).count();
        if stars(model) > stars(name) {
            return Err(slip(format_args!(
                "the model `{model}` has more `{ANY}` than its name, `{name}`"
            )));
        }
        Ok(())
    }

    /// The model, where the `*` of the name stood for `captures`.
    fn model_for(&self, captures: &[&str]) -> Text {
        if captures.is_empty() || !self.model.contains(ANY) {
            return self.model.clone();
        }
        let mut captures = captures.iter();
        let mut model = String::new();
        for (at, part) in self.model.split(ANY).enumerate() {
            if at > 0 {
                model.extend(captures.next().copied());
            }
            model.push_str(part);
        }
        model.into()
    }
}

/// What each `*` of `pattern` stands for in `name`, each but the last for as little as it can;
/// `None` where the name does not fit.
fn captures<'a>(pattern: &str, name: &'a str) -> Option<Vec<&'a str>> {
    let Some((start, rest_of_pattern)) = pattern.split_once(ANY) else {
        return (pattern == name).then(Vec::new);
    };
    let mut rest = name.strip_prefix(start)?;
    let (middle, end) =
        rest_of_pattern.rsplit_once(ANY).map_or((None, rest_of_pattern), |(m, e)| (Some(m), e));
    let mut captures = Vec::new();
    for part in middle.into_iter().flat_map(|middle| middle.split(ANY)) {
        let (captured, behind) = rest.split_once(part)?;
        captures.push(captured);
        rest = behind;
    }
    captures.push(rest.strip_suffix(end)?);
    Some(captures)
}

fn slip(message: std::fmt::Arguments<'_>) -> Error {
    Error::invalid("alias", message.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(rows: &[(&'static str, &'static str)]) -> Result<Aliases, Error> {
        rows.iter().try_fold(Aliases::new(), |all, (name, model)| all.alias(*name, *model))
    }

    #[test]
    fn the_first_that_fits_counts() {
        let aliases = table(&[
            ("fast", "qwen3.8-flash"),
            ("claude-qwen*", "qwen*"),
            ("claude-*haiku*", "qwen3.8-flash"),
            ("claude-*", "qwen3.8-max"),
            ("*/*@*", "*:*"),
            ("gpt-*", "gpt-oss-120b"),
        ])
        .expect("no slip");
        for (name, model) in [
            ("fast", Some("qwen3.8-flash")),
            ("faster", None),
            ("claude-qwen3.8-max", Some("qwen3.8-max")),
            ("claude-qwen", Some("qwen")),
            ("claude-haiku-4-5-20251001", Some("qwen3.8-flash")),
            ("claude-3-5-haiku", Some("qwen3.8-flash")),
            ("claude-opus-4-5", Some("qwen3.8-max")),
            ("claude-", Some("qwen3.8-max")),
            ("claude", None),
            ("Claude-opus", None),
            ("a/b/c@d@e", Some("a:b/c")),
            ("/@", Some(":")),
            // It is not looked up again, or it would go round.
            ("gpt-oss-120b", Some("gpt-oss-120b")),
            ("qwen3.8-max", None),
            ("", None),
        ] {
            assert_eq!(aliases.resolve(name).as_deref(), model, "{name}");
        }
        assert!(Aliases::new().is_empty() && !aliases.is_empty());
        assert_eq!(Aliases::new().resolve("fast"), None);
    }

    #[test]
    fn what_can_only_be_a_slip_is_refused_and_named() {
        let long: &'static str = Box::leak("m".repeat(257).into_boxed_str());
        for (rows, words) in [
            (&[("", "m")][..], "the name of `` for `m` is empty"),
            (&[("a", " ")], "the model of `a` for ` ` is empty"),
            (&[(long, "m")], "a name has more than 256 bytes"),
            (&[("a", long)], "a model has more than 256 bytes"),
            (&[("a", "m"), ("a", "n")], "`a` is there twice"),
            (&[("a*", "m"), ("a*", "n")], "`a*` is there twice"),
            (&[("a*", "m"), ("ab", "n")], "`ab` is never asked for: `a*` stands before it"),
            (&[("a*", "m"), ("a*b*", "n")], "`a*b*` is never asked for: `a*` stands before it"),
            (&[("*", "m"), ("b", "n")], "`b` is never asked for: `*` stands before it"),
            (&[("a", "a")], "`a` stands for itself"),
            (&[("a*", "a*")], "`a*` stands for itself"),
            (&[("a", "b"), ("b", "a")], "`b` stands for `a`, which is itself another name for `b`"),
            (&[("a", "b"), ("b", "m")], "`a` stands for `b`, which is itself another name for `m`"),
            (&[("b", "m"), ("a", "b")], "`a` stands for `b`, which is itself another name for `m`"),
            (&[("a", "*")], "the model `*` has more `*` than its name, `a`"),
            (&[("a*", "**")], "the model `**` has more `*` than its name, `a*`"),
        ] {
            let error = table(rows).expect_err("a slip");
            assert!(error.to_string().contains(words), "{rows:?}: {error}");
            assert_eq!(error.param(), Some("alias"));
        }
        table(&[("ab", "m"), ("a*", "n")]).expect("what is special comes first");
        table(&[("a*b", "m"), ("a*", "n"), ("*", "o")]).expect("and so on");
    }

    /// The same, by trying all ends of each `*`.
    fn fits(pattern: &str, name: &str) -> bool {
        match pattern.split_once(ANY) {
            None => pattern == name,
            Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
                name.char_indices()
                    .map(|(at, _)| at)
                    .chain([name.len()])
                    .any(|at| fits(rest, &name[at..]))
            }),
        }
    }

    proptest! {
        #[test]
        fn a_name_fits_if_each_star_can_stand_for_something(pattern in "[abé*]{0,6}", name in "[abé]{0,8}") {
            let found = captures(&pattern, &name);
            prop_assert_eq!(found.is_some(), fits(&pattern, &name));
            if let Some(found) = found {
                prop_assert_eq!(found.len(), pattern.matches(ANY).count());
                let row = Row { name: pattern.as_str().into(), model: pattern.as_str().into() };
                prop_assert_eq!(&*row.model_for(&found), &*name);
            }
        }
    }
}
