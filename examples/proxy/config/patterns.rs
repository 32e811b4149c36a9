//! Which upstream is asked for which model.

use std::fmt;

use super::{ConfigError, error};

/// Names of models, and beginnings of names; with none, every model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patterns(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

/// How well a model fits: an exact name better than a beginning, a longer beginning better than
/// a shorter one, and that better than an upstream that takes everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// Whatever nobody else takes.
    Any,
    /// A beginning of this many bytes.
    Prefix(usize),
    /// The very name.
    Exact,
}

impl Patterns {
    pub(crate) fn parse(patterns: Option<Vec<String>>) -> Result<Self, ConfigError> {
        let Some(patterns) = patterns else { return Ok(Self::default()) };
        if patterns.is_empty() {
            return error("`models` is empty, so it would never be asked; leave it out for all");
        }
        let parse = |pattern: String| match pattern.split_once('*') {
            _ if pattern.is_empty() => error("`models` holds an empty name"),
            None => Ok(Pattern::Exact(pattern)),
            Some((prefix, "")) => Ok(Pattern::Prefix(prefix.to_owned())),
            Some(_) => error(format!("`models`: {pattern:?} has a `*` before its end")),
        };
        patterns.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether it is asked for every model that nobody else takes.
    pub(crate) const fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// The first that is the name of a model.
    pub(crate) fn first_exact(&self) -> Option<&str> {
        self.0.iter().find_map(|pattern| match pattern {
            Pattern::Exact(name) => Some(name.as_str()),
            Pattern::Prefix(_) => None,
        })
    }

    /// How well `model` fits, if it does.
    pub(crate) fn fit(&self, model: &str) -> Option<Fit> {
        if self.is_any() {
            return Some(Fit::Any);
        }
        let fits = self.0.iter().filter_map(|pattern| match pattern {
            Pattern::Exact(name) => (name == model).then_some(Fit::Exact),
            Pattern::Prefix(prefix) => {
                model.starts_with(prefix.as_str()).then_some(Fit::Prefix(prefix.len()))
            }
        });
        fits.max()
    }
}

/// `qwen3-*, qwq-32b`.
impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, pattern) in self.0.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            match pattern {
                Pattern::Exact(name) => write!(f, "{comma}{name}")?,
                Pattern::Prefix(prefix) => write!(f, "{comma}{prefix}*")?,
            }
        }
        Ok(())
    }
}

/// Checks that every model has one upstream at most, and that each upstream is asked for something,
/// if not in another's place: the second of a pair says whether it stands in for one.
pub(super) fn check<'a>(
    all: impl Iterator<Item = (&'a Patterns, bool)>,
) -> Result<(), ConfigError> {
    let mut seen: Vec<&Pattern> = Vec::new();
    let mut has_any = false;
    for (patterns, stands_in) in all {
        if has_any && patterns.is_any() && !stands_in {
            return error(
                "two upstreams are without `models`, and one of them would never be asked",
            );
        }
        has_any |= patterns.is_any();
        for pattern in &patterns.0 {
            if seen.contains(&pattern) {
                let pattern = Patterns(vec![pattern.clone()]);
                return error(format!("`models`: {pattern} is that of two upstreams"));
            }
            seen.push(pattern);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        let list = list.iter().map(|&pattern| pattern.to_owned()).collect();
        Patterns::parse(Some(list)).expect("valid")
    }

    #[test]
    fn the_better_fit_wins() {
        let all = [
            Patterns::default(),
            patterns(&["qwen3-*"]),
            patterns(&["qwen3-coder-*", "qwq-32b"]),
            patterns(&["qwen3-coder-plus"]),
        ];
        check(all.iter().map(|patterns| (patterns, false))).expect("each its own");
        for (model, owner) in [
            ("other", 0),
            ("", 0),
            ("qwen3-max", 1),
            ("qwen3-coder-flash", 2),
            ("qwq-32b", 2),
            ("qwq-32b-preview", 0),
            ("qwen3-coder-plus", 3),
            ("qwen3-coder-plus-1", 2),
        ] {
            let best = all.iter().enumerate().filter_map(|(at, p)| Some((p.fit(model)?, at))).max();
            assert_eq!(best.expect("one takes all").1, owner, "{model}");
        }
    }

    #[test]
    fn one_that_stands_in_needs_no_models() {
        let any = Patterns::default();
        check([(&any, false), (&any, true)].into_iter()).expect("the first is asked");
        check([(&any, true), (&any, false)].into_iter()).expect_err("the second never is");
    }

    #[test]
    fn what_can_only_be_a_slip_is_refused() {
        for list in [&[][..], &[""], &["a*b"], &["a**"]] {
            let list = list.iter().map(|&pattern| pattern.to_owned()).collect();
            Patterns::parse(Some(list)).expect_err("a slip");
        }
        let check = |a: &Patterns, b: &Patterns| check([(a, false), (b, false)].into_iter());
        check(&patterns(&["a", "b*"]), &patterns(&["b*"])).expect_err("both b*");
        check(&Patterns::default(), &Patterns::default()).expect_err("both all");
        check(&patterns(&["a", "a*"]), &patterns(&["b"])).expect("distinct");
        assert_eq!(patterns(&["a", "b*"]).to_string(), "a, b*");
    }
}
