//! `encrypted_content`: the thinking, so that it comes back to the upstream that wants it.
//!
//! It is not encrypted: it is the client's own conversation. What another provider has made is
//! opaque here, and is dropped without an error, for a conversation may have begun there.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

use crate::Text;

/// What those begin with that were made here.
const PREFIX: &str = "tq1.";

/// Makes the seal of `thinking`, with the signature that the upstream gave for it.
pub(super) fn seal(thinking: &str, signature: Option<&str>) -> String {
    let mut sealed = String::from(PREFIX);
    BASE64.encode_string(thinking, &mut sealed);
    if let Some(signature) = signature {
        sealed.push('.');
        BASE64.encode_string(signature, &mut sealed);
    }
    sealed
}

/// The thinking that was sealed, and its signature.
pub(super) fn open(sealed: &str) -> Option<(Text, Option<Text>)> {
    let text = |part: &str| {
        let bytes = BASE64.decode(part).ok()?;
        String::from_utf8(bytes).ok().map(Text::from)
    };
    let rest = sealed.strip_prefix(PREFIX)?;
    match rest.split_once('.') {
        Some((thinking, signature)) => Some((text(thinking)?, Some(text(signature)?))),
        None => Some((text(rest)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinking_comes_back() {
        for (thinking, signature) in [("Hm, ü", None), ("", None), ("a.b", Some("sig.\u{1F30C}"))]
        {
            let opened = open(&seal(thinking, signature)).expect("our own");
            assert_eq!((opened.0.as_str(), opened.1.as_deref()), (thinking, signature));
        }
        for foreign in ["", "gAAAAABo", "tq1._", "tq1h.SG0", "tq1.SG0.SG0.SG0", "tq1.gA"] {
            assert_eq!(open(foreign), None, "{foreign}");
        }
    }
}
