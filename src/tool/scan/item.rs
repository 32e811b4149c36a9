use crate::{Text, tool::Dialect};

/// What a [`Scanner`](super::Scanner) found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// Visible text; never empty.
    Text(Text),
    /// Text of a think block at the start of the answer, without its tags; never empty.
    Reasoning(Text),
    /// A call begins. Its [`Arguments`](Item::Arguments) and its [`End`](Item::End) follow
    /// before anything else of the answer.
    Call {
        /// The function's name; never empty.
        name: Text,
        /// How the call is written.
        dialect: Dialect,
    },
    /// A piece of the open call's arguments; never empty. Joined, they are one JSON object.
    Arguments(Text),
    /// The open call is over.
    End {
        /// Whether it is all there; false if the text ended inside of a value, of a parameter's
        /// tag or of the JSON, so that a part of the arguments is missing. Closers alone may be
        /// missing: models forget them.
        complete: bool,
    },
}
