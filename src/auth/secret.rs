use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A text that must not be shown, such as a token.
///
/// `Debug` shows nothing of it, nothing serialises it, and its memory is overwritten when it is
/// dropped. Whoever needs the text asks for it by name, so that a search for
/// [`expose`](Secret::expose) finds every place.
///
/// ```
/// use tower_qwen::auth::Secret;
///
/// let token = Secret::from("sk-not-a-real-key");
/// assert_eq!(token.expose(), "sk-not-a-real-key");
/// assert_eq!(format!("{token:?}"), "Secret(..)");
/// ```
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(SecretString::from(text))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(SecretString::from(text))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
