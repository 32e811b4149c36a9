//! Words that are looked for in every event or request.
//!
//! To set a search up costs as much as to look through an event, so each of these is set up once.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// A search that is set up when it is used first.
pub(crate) type Word = LazyLock<Finder<'static>>;

/// Makes a [`Word`] of each text.
macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $(
            $(#[$doc])*
            pub(crate) static $name: Word = LazyLock::new(|| Finder::new($text));
        )*
    };
}

words! {
    /// Why an answer ends.
    FINISH_REASON = "\"finish_reason\"";
    /// The same in llama.cpp's own form.
    STOP = "\"stop\"";
    /// What an error has.
    ERROR = "error";
    /// What other errors have.
    MESSAGE = "message";
    /// What names a model.
    MODEL = "\"model\"";
    /// What an event begins with.
    DATA = "data:";
}
