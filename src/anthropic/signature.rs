//! The signatures of thinking blocks.
//!
//! Clients keep a thinking block only where it has one, and send both back. What they send back
//! may be of another provider, with which the conversation began, so a signature is never
//! checked. It says whose the thinking is; and where the client wants no thinking shown, it holds
//! the thinking, so that an upstream that wants its own thinking back gets it.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use sha2::{Digest, Sha256};

/// Of thinking that was shown.
const SHOWN: &str = "tq1.";
/// Of thinking that was not: what stands behind it is the thinking.
const HIDDEN: &str = "tq1h.";

/// How much thinking a signature may hold, in bytes.
const HIDDEN_LEN: usize = 256 * 1024;

/// What a signature that came back says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Returned {
    /// The thinking beside it is the upstream's.
    Ours,
    /// This is the upstream's thinking.
    Hidden(String),
    /// It was not made here, so it may be the upstream's own.
    Foreign,
}

/// The signature of one block, while its thinking arrives.
#[derive(Debug)]
pub(super) enum Signer {
    Shown(Sha256),
    Hidden(String),
}

impl Signer {
    pub(super) fn new(is_shown: bool) -> Self {
        if is_shown { Self::Shown(Sha256::new()) } else { Self::Hidden(String::new()) }
    }

    pub(super) fn push(&mut self, thinking: &str) {
        match self {
            Self::Shown(hash) => hash.update(thinking),
            Self::Hidden(text) if text.len() + thinking.len() <= HIDDEN_LEN => {
                text.push_str(thinking);
            }
            Self::Hidden(text) => {
                let mut hash = Sha256::new();
                hash.update(&*text);
                hash.update(thinking);
                *self = Self::Shown(hash);
            }
        }
    }

    pub(super) fn finish(self) -> Cow<'static, str> {
        match self {
            Self::Shown(hash) => {
                let digest: [u8; 32] = hash.finalize().into();
                format!("{SHOWN}{}", BASE64.encode(&digest[..16])).into()
            }
            Self::Hidden(text) => format!("{HIDDEN}{}", BASE64.encode(text)).into(),
        }
    }
}

/// Whose thinking it is that came back with `signature`.
pub(super) fn read(signature: &str) -> Returned {
    if let Some(text) = signature.strip_prefix(HIDDEN) {
        let text = BASE64.decode(text).ok().and_then(|text| String::from_utf8(text).ok());
        return text.map_or(Returned::Ours, Returned::Hidden);
    }
    if signature.starts_with(SHOWN) { Returned::Ours } else { Returned::Foreign }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(is_shown: bool, pieces: &[&str]) -> Cow<'static, str> {
        let mut signer = Signer::new(is_shown);
        pieces.iter().for_each(|piece| signer.push(piece));
        signer.finish()
    }

    #[test]
    fn thinking_that_was_not_shown_comes_back() {
        assert_eq!(read(&sign(false, &["Hm, ", "ü"])), Returned::Hidden("Hm, ü".into()));
        assert_eq!(read(&sign(true, &["Hm"])), Returned::Ours);
        assert_eq!(read("EqQBCgIYAhIM"), Returned::Foreign);
        // Somebody has cut it.
        assert_eq!(read("tq1h._"), Returned::Ours);
    }

    #[test]
    fn pieces_do_not_matter_and_nothing_grows_without_bound() {
        assert_eq!(sign(true, &["ab", "c"]), sign(true, &["a", "bc"]));
        let long = "x".repeat(HIDDEN_LEN);
        assert_eq!(read(&sign(false, &[&long])), Returned::Hidden(long.clone()));
        assert_eq!(sign(false, &[&long, "y", "z"]), sign(true, &[&long, "yz"]));
    }
}
