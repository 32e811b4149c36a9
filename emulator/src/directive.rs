//! The words `emulate:NAME[=ARG]` in a user's text.

/// How many directives one text may hold; the rest is ignored.
const LIMIT: usize = 64;

/// What a user's text asks the emulator to do, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    words: Vec<(String, String)>,
}

impl Directives {
    /// Finds every directive in `text`.
    ///
    /// A directive starts at the start of the text or after anything but a letter or a digit. Its
    /// argument ends at the next blank, quote, comma, semicolon or closing bracket; that of
    /// `say` and `lead` at the end of the line.
    pub(super) fn parse(text: &str) -> Self {
        const PREFIX: &str = "emulate:";
        let mut words = Vec::new();
        let mut rest = text;
        let mut before = None;
        while words.len() < LIMIT
            && let Some(at) = rest.find(PREFIX)
        {
            let glued =
                rest[..at].chars().next_back().or(before).is_some_and(char::is_alphanumeric);
            rest = &rest[at + PREFIX.len()..];
            before = Some(':');
            if glued {
                continue;
            }
            let name_end = rest
                .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
                .unwrap_or(rest.len());
            let (name, after) = rest.split_at(name_end);
            rest = after;
            if name.is_empty() {
                continue;
            }
            let mut argument = "";
            if let Some(after) = rest.strip_prefix('=') {
                let end = if takes_the_line(name) {
                    after.find('\n')
                } else {
                    after.find(|c: char| c.is_whitespace() || "\"'`,;)]}<>".contains(c))
                };
                let (value, after) = after.split_at(end.unwrap_or(after.len()));
                argument = value.strip_suffix('\r').unwrap_or(value);
                before = value.chars().next_back().or(Some('='));
                rest = after;
            } else {
                before = name.chars().next_back();
            }
            words.push((name.to_owned(), argument.to_owned()));
        }
        Self { words }
    }

    /// Adds those of `other`.
    pub(super) fn append(&mut self, other: Self) {
        self.words.extend(other.words);
        self.words.truncate(LIMIT);
    }

    /// Adds one that nobody wrote.
    pub(super) fn add(&mut self, name: &str) {
        self.words.push((name.to_owned(), String::new()));
    }

    /// Whether `name` was asked for.
    pub(super) fn has(&self, name: &str) -> bool {
        self.words.iter().any(|(word, _)| word == name)
    }

    /// The argument of `name`: empty if it has none, `None` if it was not asked for.
    pub(super) fn argument(&self, name: &str) -> Option<&str> {
        self.words.iter().find(|(word, _)| word == name).map(|(_, argument)| &**argument)
    }

    /// The number that `name` was given, or `default` without a readable one; `None` if it was
    /// not asked for.
    pub(super) fn number(&self, name: &str, default: u64) -> Option<u64> {
        self.argument(name).map(|argument| {
            let digits = argument.find(|c: char| !c.is_ascii_digit()).unwrap_or(argument.len());
            argument[..digits].parse().unwrap_or(default)
        })
    }

    /// As [`number`](Self::number), for counts.
    pub(super) fn count(&self, name: &str, default: usize) -> Option<usize> {
        self.number(name, default as u64).map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }
}

/// Whether the argument of `name` runs to the end of its line.
fn takes_the_line(name: &str) -> bool {
    matches!(name, "say" | "lead")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(String, String)> {
        Directives::parse(text).words
    }

    fn pair(name: &str, argument: &str) -> (String, String) {
        (name.to_owned(), argument.to_owned())
    }

    #[test]
    fn several_directives_are_found_anywhere_in_a_text() {
        assert_eq!(
            words("hello (emulate:cut=2), \"emulate:slow=15\" emulate:think"),
            [pair("cut", "2"), pair("slow", "15"), pair("think", "")]
        );
    }

    #[test]
    fn say_takes_the_rest_of_its_line_and_nothing_in_it_counts() {
        assert_eq!(
            words("emulate:say=one, two emulate:cut\r\nemulate:done"),
            [pair("say", "one, two emulate:cut"), pair("done", "")]
        );
    }

    #[test]
    fn a_longer_word_is_no_directive() {
        assert!(words("reemulate:cut emulate: emulate:=x Emulate:cut").is_empty());
    }

    #[test]
    fn numbers_fall_back_to_their_default() {
        let directives = Directives::parse("emulate:cut emulate:stall=7. emulate:reset=x");
        assert_eq!(directives.number("cut", 3), Some(3));
        assert_eq!(directives.number("stall", 3), Some(7));
        assert_eq!(directives.number("reset", 3), Some(3));
        assert_eq!(directives.number("slow", 3), None);
    }

    #[test]
    fn their_number_is_bounded() {
        assert_eq!(words(&"emulate:a ".repeat(1_000)).len(), LIMIT);
    }
}
