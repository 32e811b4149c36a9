//! Which account a request or a chat belongs to.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// The name of an upstream account, as whoever set the accounts up gave it.
///
/// It is the same type wherever an account is meant: in a pool of credentials, in a request, in
/// the place of a chat, in what a session remembers. It is no secret: it stands in logs, metrics
/// and stores.
///
/// Cheap to clone.
///
/// ```
/// use tower_qwen::AccountName;
///
/// let work = AccountName::from("work");
/// assert_eq!(work, "work");
/// assert_eq!(work.to_string(), "work");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(Arc<str>);

impl AccountName {
    /// A name.
    pub fn new(name: impl Into<Self>) -> Self {
        name.into()
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AccountName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl From<String> for AccountName {
    fn from(name: String) -> Self {
        Self(Arc::from(name))
    }
}

impl From<&String> for AccountName {
    fn from(name: &String) -> Self {
        Self::from(name.as_str())
    }
}

/// Copies the text: a name does not keep the buffer alive that a [`Text`](crate::Text) is
/// part of.
#[cfg(feature = "chat")]
impl From<crate::Text> for AccountName {
    fn from(name: crate::Text) -> Self {
        Self::from(name.as_str())
    }
}

impl AsRef<str> for AccountName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for AccountName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for AccountName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for AccountName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for AccountName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_name_is_found_and_ordered_by_its_text() {
        let names = HashMap::from([(AccountName::from("ann"), 1), ("bob".into(), 2)]);
        assert_eq!(
            (names.get("ann"), names.get("bob"), names.get("cy")),
            (Some(&1), Some(&2), None)
        );
        let (ann, bob) = (AccountName::from("ann"), AccountName::from("bob".to_owned()));
        assert!(ann < bob);
    }

    #[test]
    fn it_serialises_as_a_string() {
        let json = serde_json::to_string(&AccountName::from("a \"b\"")).expect("a string");
        assert_eq!(json, r#""a \"b\"""#);
    }
}
