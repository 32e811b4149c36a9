//! The [formats][tokens] that a web session's token comes in.
//!
//! [tokens]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#f

use std::{
    fmt,
    io::Read,
    time::{Duration, SystemTime},
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;

use super::Secret;

/// The longest compressed token that is looked at, in characters.
const MAX_COMPRESSED: usize = 16 << 10;
/// The longest text that a compressed token may expand to, in bytes.
const MAX_EXPANDED: u64 = 256 << 10;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A token or credential that cannot be one.
///
/// Deliberately without detail: an attacker who probes the decoder learns nothing about the step
/// that failed, and no part of the token can end up in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidToken(pub(super) ());

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the token is not valid")
    }
}

impl std::error::Error for InvalidToken {}

impl From<InvalidToken> for crate::Error {
    fn from(error: InvalidToken) -> Self {
        Self::new(crate::ErrorKind::Auth, "the token is not valid").with_source(error)
    }
}

/// What the payload of a web session's JWT says.
///
/// The signature is not checked: only the upstream has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JwtClaims {
    /// The account's id. Not a secret, but a person's: hash it before it goes into a log.
    pub id: Option<String>,
    /// When the token ends. `None` where it does not say; such a token is used until refused.
    pub expires_at: Option<SystemTime>,
}

impl JwtClaims {
    /// Reads the payload of `token`: three base64url parts, the second a JSON object.
    ///
    /// Padding and the standard alphabet are tolerated.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] where it is anything else.
    ///
    /// ```
    /// use tower_qwen::auth::JwtClaims;
    ///
    /// let token = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE4OTM0NTYwMDB9.c2ln";
    /// assert!(JwtClaims::read(token)?.expires_at.is_some());
    /// assert!(JwtClaims::read("eyJ.not-a-token").is_err());
    /// # Ok::<_, tower_qwen::auth::InvalidToken>(())
    /// ```
    pub fn read(token: &str) -> Result<Self, InvalidToken> {
        let parts: Vec<&str> = token.splitn(4, '.').collect();
        let [header, payload, signature] = *parts else { return Err(InvalidToken(())) };
        if header.is_empty() || signature.is_empty() {
            return Err(InvalidToken(()));
        }
        let Ok(Value::Object(claims)) = serde_json::from_slice(&decode(payload)?) else {
            return Err(InvalidToken(()));
        };
        Ok(Self {
            id: claims.get("id").and_then(Value::as_str).map(str::to_owned),
            expires_at: claims.get("exp").and_then(Value::as_f64).and_then(from_seconds),
        })
    }
}

/// The moment `seconds` after the epoch, where that is one.
fn from_seconds(seconds: f64) -> Option<SystemTime> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
}

/// Base64 in either alphabet, with or without padding.
fn decode(text: &str) -> Result<Vec<u8>, InvalidToken> {
    let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    engine.decode(text).map_err(|_| InvalidToken(()))
}

/// What a compressed token holds: a session's JWT and perhaps some of its cookies.
pub(super) struct Expanded {
    pub(super) jwt: Secret,
    /// Name and value, without the `token` cookie.
    pub(super) cookies: Vec<(String, String)>,
}

/// Reads a compressed token in any of its three layouts.
pub(super) fn expand(token: &str) -> Result<Expanded, InvalidToken> {
    let token = token.trim();
    if token.len() > MAX_COMPRESSED {
        return Err(InvalidToken(()));
    }
    let compressed = decode(token)?;
    let mut rest = compressed.as_slice();
    let mut text = String::new();
    // `bufread` stops behind the member that it read, so what trails it can be seen. One byte
    // more than the cap is enough to know that the cap is passed.
    flate2::bufread::GzDecoder::new(&mut rest)
        .take(MAX_EXPANDED + 1)
        .read_to_string(&mut text)
        .map_err(|_| InvalidToken(()))?;
    if !rest.is_empty() || text.len() as u64 > MAX_EXPANDED {
        return Err(InvalidToken(()));
    }
    match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => expand_object(&value),
        _ => {
            // Layout b.
            let (jwt, itna) = text.split_once('|').unwrap_or((&text, ""));
            let cookie = Some(("ssxmod_itna".to_owned(), itna.to_owned()));
            expanded(jwt, cookie.filter(|(_, itna)| !itna.is_empty()).into_iter().collect())
        }
    }
}

/// Layouts a and c: a JSON object.
pub(super) fn expand_object(object: &Value) -> Result<Expanded, InvalidToken> {
    if let Some(token) = object.get("session_token") {
        let user = object.get("user_id").and_then(Value::as_str).unwrap_or_default();
        return match token.as_str() {
            Some(token) if !user.is_empty() => expanded(token, Vec::new()),
            _ => Err(InvalidToken(())),
        };
    }
    let mut jwt = object.pointer("/localStorage/token").and_then(Value::as_str).map(str::to_owned);
    let mut cookies = object.get("cookies").map(read_cookies).unwrap_or_default();
    cookies.retain(|(name, value)| {
        if name == "token" {
            jwt.get_or_insert_with(|| value.clone());
        }
        name != "token"
    });
    expanded(jwt.as_deref().unwrap_or_default(), cookies)
}

fn expanded(jwt: &str, cookies: Vec<(String, String)>) -> Result<Expanded, InvalidToken> {
    let jwt = jwt.trim();
    if jwt.is_empty() {
        return Err(InvalidToken(()));
    }
    Ok(Expanded { jwt: Secret::from(jwt), cookies })
}

/// Cookies in any form that stores use: an object, a list of objects with `name` and `value`, a
/// list of `name=value`, or the header's text.
pub(super) fn read_cookies(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::String(text) => split_cookies(text),
        Value::Object(cookies) => cookies
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        Value::Array(cookies) => cookies
            .iter()
            .flat_map(|cookie| match (cookie, &cookie["name"], &cookie["value"]) {
                (Value::String(text), ..) => split_cookies(text),
                (_, Value::String(name), Value::String(value)) => {
                    vec![(name.clone(), value.clone())]
                }
                _ => Vec::new(),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The pairs of a `cookie` header.
pub(super) fn split_cookies(text: &str) -> Vec<(String, String)> {
    text.split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    // Invented: the vectors of docs/reference/qwen-wire.md; the signature reads "not-a-real-signature".
    const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpZCI6IjAwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwYWJjZCIsImxhc3RfcGFzc3dvcmRfY2hhbmdlIjoxNzAwMDAwMDAwLCJleHAiOjE4OTM0NTYwMDB9.bm90LWEtcmVhbC1zaWduYXR1cmU";
    const LAYOUT_A: &str =
        "H4sIAAAAAAACA6tWKi1OLYrPTFGyUgAzdVNSc/N1DZV0FJSKU4uLM/Pz4kvys1PzQPIgAZh8LQBKCSUoOgAAAA==";
    const LAYOUT_B: &str = "H4sIAAAAAAACA0tMTNRLSkrSS05OrsksyUvUTUnNzQcAIdb0PRUAAAA=";

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).expect("into memory");
        encoder.finish().expect("into memory")
    }

    fn token_of(bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    #[test]
    fn the_jwt_vector_is_read() {
        let claims = JwtClaims::read(JWT).expect("the vector of the reference");
        assert_eq!(claims.id.as_deref(), Some("00000000-0000-4000-8000-00000000abcd"));
        let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        assert_eq!(claims.expires_at, Some(expected));
    }

    #[test]
    fn a_jwt_is_read_with_padding_and_in_the_standard_alphabet() {
        // The payload `{"id":"??>>","exp":1}` has characters of both alphabets.
        let payload = STANDARD.encode(r#"{"id":"??>>??>>","exp":10}"#);
        assert!(payload.contains(['+', '/', '=']), "{payload}");
        for payload in [payload.clone(), payload.replace('+', "-").replace('/', "_")] {
            let claims = JwtClaims::read(&format!("eyJ.{payload}.s")).expect("tolerated");
            assert_eq!(claims.id.as_deref(), Some("??>>??>>"));
        }
    }

    #[test]
    fn what_is_no_jwt_is_refused() {
        for token in ["", "eyJ", "a.b", "a.b.c", "eyJ.e30.", ".e30.s", "eyJ.e30.s.t", "eyJ.W10.s"] {
            assert!(JwtClaims::read(token).is_err(), "{token}");
        }
        assert_eq!(JwtClaims::read("eyJ.e30.s").expect("an object").expires_at, None);
        // 1e300 seconds, and a negative time.
        for payload in [r#"{"exp":1e300}"#, r#"{"exp":-1}"#, r#"{"exp":"soon"}"#] {
            let token = format!("eyJ.{}.s", STANDARD.encode(payload));
            assert_eq!(JwtClaims::read(&token).expect("an object").expires_at, None);
        }
    }

    #[test]
    fn the_compressed_vectors_are_read() {
        let a = expand(LAYOUT_A).expect("the vector of layout a");
        assert_eq!(a.jwt.expose(), "sess-demo-1");
        assert!(a.cookies.is_empty());
        let b = expand(LAYOUT_B).expect("the vector of layout b");
        assert_eq!(b.jwt.expose(), "aaa.bbb.ccc");
        assert_eq!(b.cookies, [("ssxmod_itna".to_owned(), "itna-demo".to_owned())]);
    }

    #[test]
    fn layout_c_is_read_from_storage_and_from_cookies() {
        for (text, jwt) in [
            (r#"{"localStorage":{"token":"one"},"cookies":[{"name":"cna","value":"x"}]}"#, "one"),
            (r#"{"localStorage":{},"cookies":["token=two; cna=x"]}"#, "two"),
            (r#"{"cookies":{"cna":"x","token":"three"}}"#, "three"),
        ] {
            let token = expand(&token_of(&gzip(text.as_bytes()))).expect(text);
            assert_eq!(token.jwt.expose(), jwt);
            assert_eq!(token.cookies, [("cna".to_owned(), "x".to_owned())]);
        }
    }

    #[test]
    fn the_alphabet_and_the_padding_are_free() {
        let bytes = gzip(b"aaa.bbb.ccc|?????>>>>>");
        let token = token_of(&bytes);
        let variants = [
            format!("  {token}\n"),
            token.trim_end_matches('=').to_owned(),
            token.replace('+', "-").replace('/', "_"),
        ];
        for token in variants {
            assert_eq!(expand(&token).expect("tolerated").jwt.expose(), "aaa.bbb.ccc");
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_expands() {
        // 12 MiB of zeros in about 12 KiB: under the cap of the input, far over that of the output.
        let bomb = token_of(&gzip(&vec![b'0'; 11 << 20]));
        assert!(bomb.len() < MAX_COMPRESSED, "{}", bomb.len());
        assert!(expand(&bomb).is_err());
        let fits = token_of(&gzip(&vec![b'0'; MAX_EXPANDED as usize]));
        assert!(expand(&fits).is_ok());
        let over = token_of(&gzip(&vec![b'0'; MAX_EXPANDED as usize + 1]));
        assert!(expand(&over).is_err());
        assert!(expand(&format!("H4sI{}", "A".repeat(MAX_COMPRESSED))).is_err());
    }

    #[test]
    fn trailing_bytes_cut_members_and_wrong_text_are_refused() {
        let good = gzip(b"aaa.bbb.ccc|x");
        let mut second = good.clone();
        second.extend_from_slice(&good);
        let mut trailing = good.clone();
        trailing.push(0);
        let mut checksum = good.clone();
        let at = checksum.len() - 8;
        checksum[at] ^= 1;
        for bytes in [
            second,
            trailing,
            checksum,
            good[..good.len() - 1].to_vec(),
            gzip(b"aaa\xff"),
            gzip(b""),
            gzip(b"|x"),
            gzip(br#"{"user_id":"u"}"#),
            gzip(br#"{"user_id":"","session_token":"x"}"#),
            gzip(br#"{"session_token":"x"}"#),
            gzip(br#"{"user_id":"u","session_token":7}"#),
        ] {
            assert_eq!(expand(&token_of(&bytes)).err(), Some(InvalidToken(())));
        }
        assert!(expand("H4sI!!!").is_err());
    }

    #[test]
    fn cookies_of_a_header_are_split() {
        assert_eq!(
            split_cookies(" a=1; b = x=y ;; =z; c"),
            [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x=y".to_owned())]
        );
    }
}
