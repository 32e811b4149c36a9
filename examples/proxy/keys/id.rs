use std::fmt;

/// The longest id, in bytes.
const MAX_LEN: usize = 24;

/// What a key is called: a short word that tells nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyId {
    len: u8,
    bytes: [u8; MAX_LEN],
}

impl KeyId {
    /// The id that `text` is: 1 to 24 letters, digits, `-` and `_`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (!text.is_empty() && text.len() <= MAX_LEN && text.bytes().all(is_word))
            .then(|| Self::of(text))
    }

    /// That of the key at this place of a list, which no key of a file can have.
    pub(crate) fn listed(at: usize) -> Self {
        Self::of(&format!("#{at}"))
    }

    /// That of all who have no key.
    pub(crate) fn others() -> Self {
        Self::of("*")
    }

    /// The id that was written before; `None` where it is none.
    #[cfg(any(feature = "redis", feature = "usage-db"))]
    pub(crate) fn written(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| (text == "*").then(Self::others)).or_else(|| {
            let at = text.strip_prefix('#')?.parse().ok()?;
            Some(Self::listed(at))
        })
    }

    fn of(text: &str) -> Self {
        let len = text.len().min(MAX_LEN);
        let mut bytes = [0; MAX_LEN];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self { len: len as u8, bytes }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
