//! Why JSON was not read, without its content.

use std::{error::Error as StdError, fmt};

use serde_json::error::Category;

/// Where JSON that the upstream sent could not be read, and of what kind the fault is.
///
/// The parser's own error quotes the value that it did not expect, which may be the model's words
/// or the client's; errors are logged, with their sources. So this stands in its place wherever
/// what is read has passed through a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadError {
    category: Category,
    line: usize,
    column: usize,
}

impl ReadError {
    /// Whether the JSON ends before its value does, as what was cut does.
    #[cfg(any(feature = "compatible", feature = "web"))]
    pub(crate) fn is_early_end(&self) -> bool {
        self.category == Category::Eof
    }
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        Self { category: error.classify(), line: error.line(), column: error.column() }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { category, line, column } = self;
        f.write_str(match category {
            Category::Data => "a value of another type or range than expected",
            Category::Syntax => "not JSON",
            Category::Eof => "JSON that ends early",
            Category::Io => "JSON that could not be read",
        })?;
        // The errors of values that were read apart know no place.
        if *line > 0 { write!(f, " at line {line} column {column}") } else { Ok(()) }
    }
}

impl StdError for ReadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_where_and_nothing_of_what() {
        for (json, said) in [
            (
                "{\"a\":\n\"secret\"}",
                "a value of another type or range than expected at line 2 column 8",
            ),
            ("{\"a\": secret}", "not JSON at line 1 column 7"),
            ("{\"a\": 1", "JSON that ends early at line 1 column 7"),
        ] {
            let error = serde_json::from_str::<std::collections::HashMap<String, u8>>(json);
            let error = ReadError::from(error.expect_err("no number"));
            assert_eq!(error.to_string(), said);
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}
