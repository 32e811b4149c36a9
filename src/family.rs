//! What a model's name says of it.

/// A family of models whose templates read a request alike, in the order of their coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// Nothing is known: models of others, or of a name that an operator made up.
    Unknown,
    /// Qwen before 3.5: thinking is on or off.
    Qwen,
    /// Qwen3.5: one system message, and first.
    Qwen35,
    /// Qwen3.6 and 3.7: the thinking of earlier turns can be kept, too.
    Qwen36,
    /// Qwen3.8: efforts of its own, too.
    Qwen38,
}

impl Family {
    /// The family of a model by its name, such as `Qwen/Qwen3.6-27B` or `qwen3.8-max`.
    pub(crate) fn of(model: &str) -> Self {
        let name = model.to_ascii_lowercase();
        let Some((_, version)) = name.split_once("qwen3") else {
            let is_qwen = ["qwen", "qwq", "qvq"].iter().any(|word| name.contains(word));
            return if is_qwen { Self::Qwen } else { Self::Unknown };
        };
        let minor = version.strip_prefix(['.', '_', '-', 'p']).unwrap_or(version);
        let digits = minor.bytes().take_while(u8::is_ascii_digit).count();
        // `qwen3-30b` has a size there, and `qwen3-8b` too.
        let is_size = version.starts_with('-') || minor[digits..].starts_with('b');
        match minor[..digits].parse() {
            Ok(8_u8..=9) if !is_size => Self::Qwen38,
            Ok(6..=7) if !is_size => Self::Qwen36,
            Ok(5) if !is_size => Self::Qwen35,
            _ => Self::Qwen,
        }
    }
}

/// Whether the hosted `model` refuses not to think.
pub(crate) fn always_thinks(model: &str) -> bool {
    let name = model.to_ascii_lowercase();
    Family::of(&name) == Family::Qwen38 && name.ends_with("-preview")
        || ["kimi-k2.7-code", "kimi-k3", "qwq", "qvq"].iter().any(|start| name.starts_with(start))
        || name.contains("-thinking")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_known_by_the_version_and_not_by_the_size() {
        for (family, models) in [
            (Family::Unknown, &["kimi-k3", "deepseek-v4", "coder-model", "my-model", ""][..]),
            (
                Family::Qwen,
                &[
                    "qwen-plus",
                    "qwen2.5-72b",
                    "Qwen/Qwen3-32B",
                    "qwen3:8b",
                    "qwen3-8b",
                    "qwen3-max",
                    "qwq-plus",
                    "qwen38b",
                    "qwen3.99",
                    "qwen3.999",
                ],
            ),
            (Family::Qwen35, &["qwen3.5-plus", "Qwen/Qwen3.5-35B-A3B"]),
            (Family::Qwen36, &["qwen3.6-plus", "qwen3_7-max", "Qwen/Qwen3.6-27B"]),
            (Family::Qwen38, &["qwen3.8-max", "Qwen/Qwen3.8-27B", "qwen3p8", "QWEN3.9-next"]),
        ] {
            for model in models {
                assert_eq!(Family::of(model), family, "{model}");
            }
        }
    }

    #[test]
    fn models_that_always_think_are_known_by_name() {
        for model in ["qwen3.8-max-preview", "kimi-k3", "kimi-k2.7-code", "QwQ-plus"] {
            assert!(always_thinks(model), "{model}");
        }
        assert!(always_thinks("qwen3-235b-a22b-thinking-2507"));
        for model in ["qwen3.8-max", "qwen3-max-preview", "kimi-k2", "qwen-plus", ""] {
            assert!(!always_thinks(model), "{model}");
        }
    }
}
