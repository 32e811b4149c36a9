//! What a person has pasted as a session of chat.qwen.ai, in whatever form it was copied.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tower_qwen::auth::{Credential, CredentialKind, JwtClaims, StoredCredential};

use super::span;

/// A token that ends within this time is of no use: a proxy renews it, and cannot, or refuses it.
const MARGIN: Duration = Duration::from_secs(60);

/// A session that can be used, for now.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) credential: Credential,
    /// The account, where the token says which.
    account: Option<String>,
    /// How many cookies were given beside the token.
    pub(crate) cookies: usize,
}

impl Session {
    /// Reads the two fields of the page, either of which may hold both.
    ///
    /// # Errors
    ///
    /// What is wrong and what to do, in a sentence that repeats nothing of what was pasted.
    pub(crate) fn read(token: &str, cookies: &str, now: SystemTime) -> Result<Self, String> {
        let token = Paste::read(token);
        let beside = Paste::read(cookies);
        let credential = match (token.credential, token.token, beside.credential, beside.token) {
            (Some(whole), ..) => whole,
            (None, Some(token), ..) => parse(&token)?,
            (None, None, Some(whole), _) => whole,
            (None, None, None, Some(token)) => parse(&token)?,
            (None, None, None, None) if token.is_empty && beside.is_empty => {
                return Err(
                    "Nothing was pasted: paste the token, or cookies with `token` among them."
                        .to_owned(),
                );
            }
            (None, None, None, None) if token.is_empty => {
                return Err(
                    "There is no `token` among the cookies: paste the token too. Perhaps nobody \
                            is signed in there."
                        .to_owned(),
                );
            }
            (None, None, None, None) => {
                return Err(
                    "That is no token of chat.qwen.ai: one is a single word that begins with \
                            `eyJ` (or with `H4sI`). Copy the value of `token`."
                        .to_owned(),
                );
            }
        };
        if credential.kind() != CredentialKind::Web {
            return Err(
                "That is a credential of another kind, and no session of chat.qwen.ai.".to_owned()
            );
        }
        let jwt = credential.access_token().expose().to_owned();
        let account = account(&jwt);
        let mut credential = credential;
        let before = jar(&credential).len();
        for jar in [token.cookies, beside.cookies].into_iter().flatten() {
            if let Some(other) = jar.token.as_deref().and_then(self::account)
                && account.as_ref().is_some_and(|account| *account != other)
            {
                return Err(
                    "The token and the cookies are of two accounts: copy both while the same \
                            account is signed in."
                        .to_owned(),
                );
            }
            let with = StoredCredential::parse(
                &json!({"kind": "web", "jwt": jwt, "cookies": jar.value}).to_string(),
            );
            let cookies =
                with.ok().and_then(|with| Some(with.credential().cookies()?.expose().to_owned()));
            let with = cookies.and_then(|cookies| credential.clone().with_cookies(&cookies).ok());
            let is_sent = |with: &Credential| {
                let jar = with.cookies().map_or("", |jar| jar.expose());
                jar.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
            };
            credential = with.filter(is_sent).ok_or(
                "The cookies cannot be sent: they hold other than visible ASCII. Copy the value of \
                 the header `cookie` of a request to chat.qwen.ai.",
            )?;
        }
        // The token that is given beside a jar is newer than the jar's own.
        let session = format!("token={jwt}");
        let credential = credential.with_cookies(&session).map_err(|_| BROKEN)?;
        if let Some(end) = credential.expires_at() {
            match end.duration_since(now) {
                Err(ago) => {
                    return Err(format!(
                        "The token ended {} ago ({}): sign in at chat.qwen.ai again, and copy the new one.",
                        span(ago.duration()),
                        date(end)
                    ));
                }
                Ok(left) if left < MARGIN => {
                    return Err(format!(
                        "The token ends in {}: sign in at chat.qwen.ai again, and copy the new one.",
                        span(left)
                    ));
                }
                Ok(_) => {}
            }
        }
        let given = jar(&credential).len().saturating_sub(1);
        debug_assert!(before <= given + 1, "cookies are added");
        Ok(Self { credential, account, cookies: given })
    }

    /// Whether both are sessions of one account; `None` where a token does not say whose it is.
    pub(crate) fn is_of(&self, other: &Credential) -> Option<bool> {
        let (own, other) = (self.account.as_ref()?, account(other.access_token().expose())?);
        Some(*own == other)
    }

    /// The same with the cookies of an older session of the account, where none were given now.
    pub(crate) fn or_cookies_of(mut self, older: &Credential) -> Self {
        if self.cookies > 0
            || older.kind() != CredentialKind::Web
            || self.is_of(older) != Some(true)
        {
            return self;
        }
        let token = format!("token={}", self.credential.access_token().expose());
        let kept = older.cookies().and_then(|cookies| {
            let with = self.credential.clone().with_cookies(cookies.expose()).ok()?;
            with.with_cookies(&token).ok()
        });
        if let Some(credential) = kept {
            self.cookies = jar(&credential).len().saturating_sub(1);
            self.credential = credential;
        }
        self
    }

    /// Whose it is, until when it is good, and how many cookies there are: nothing secret.
    pub(crate) fn told(&self, now: SystemTime) -> String {
        let mut told = String::from("a session");
        if let Some(account) = &self.account {
            // A tag tells accounts apart and names none.
            let digest = Sha256::digest(account);
            let _ = write!(told, " of the account {}", hex(&digest[..4]));
        }
        match self.credential.expires_at() {
            Some(end) => {
                let left = end.duration_since(now).unwrap_or_default();
                let _ = write!(told, ", good until {} (for {})", date(end), span(left));
            }
            None => told.push_str(", which does not say when it ends"),
        }
        match self.cookies {
            0 => told.push_str(", without cookies"),
            1 => told.push_str(", with 1 cookie beside it"),
            many => {
                let _ = write!(told, ", with {many} cookies beside it");
            }
        }
        told
    }
}

const BROKEN: &str = "The token begins as one and cannot be read: was it copied whole?";

fn parse(token: &str) -> Result<Credential, String> {
    let session = Credential::parse(token).map_err(|_| BROKEN.to_owned())?;
    // What was compressed may be cut too.
    let jwt = session.access_token().expose();
    if jwt.starts_with("eyJ") && JwtClaims::read(jwt).is_err() {
        return Err(BROKEN.to_owned());
    }
    Ok(session)
}

fn account(jwt: &str) -> Option<String> {
    JwtClaims::read(jwt).ok()?.id
}

/// The names of the cookies of a session, its token's too.
fn jar(credential: &Credential) -> Vec<&str> {
    let jar = credential.cookies().map_or("", |jar| jar.expose());
    jar.split("; ").filter_map(|pair| Some(pair.split_once('=')?.0)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A moment, to the minute, in UTC: the zone of the browser is not known here.
fn date(moment: SystemTime) -> String {
    match Timestamp::try_from(moment) {
        Ok(moment) => moment.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => "a time beyond all calendars".to_owned(),
    }
}

/// What one field holds.
#[derive(Debug, Default)]
struct Paste {
    is_empty: bool,
    /// Of something that is a credential by itself.
    credential: Option<Credential>,
    token: Option<String>,
    cookies: Option<Jar>,
}

/// Cookies as they were pasted.
#[derive(Debug)]
struct Jar {
    value: Value,
    /// The session among them.
    token: Option<String>,
}

impl Jar {
    fn of_header(header: &str) -> Self {
        let mut pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
        let token = pairs.rfind(|(name, _)| name.trim() == "token");
        let token =
            token.map(|(_, value)| unquoted(value).to_owned()).filter(|token| is_token(token));
        Self { value: header.into(), token }
    }

    fn of_json(value: Value) -> Self {
        let probe = json!({"kind": "web", "cookies": value}).to_string();
        let session = StoredCredential::parse(&probe).ok();
        let token = session.map(|session| session.credential().access_token().expose().to_owned());
        Self { value, token }
    }
}

impl Paste {
    fn read(text: &str) -> Self {
        let text = text.trim().trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Self { is_empty: true, ..Self::default() };
        }
        match serde_json::from_str(text) {
            Ok(Value::String(inner)) if inner != text => return Self::read(&inner),
            Ok(Value::Object(fields)) => return Self::of_object(fields, text),
            Ok(list @ Value::Array(_)) => {
                let jar = Jar::of_json(list);
                return Self { token: jar.token.clone(), cookies: Some(jar), ..Self::default() };
            }
            _ => {}
        }
        // Headers as developer tools show and copy them, a line each.
        let header = |wanted: &str| {
            text.lines().find_map(|line| {
                let (name, value) = unquoted(line).split_once(':')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
            })
        };
        let (cookie, authorization) = (header("cookie"), header("authorization"));
        if cookie.is_some() || authorization.is_some() {
            let jar = cookie.map(Jar::of_header);
            let token = authorization.and_then(word).or_else(|| jar.as_ref()?.token.clone());
            return Self { token, cookies: jar, ..Self::default() };
        }
        if let Some(token) = word(text) {
            return Self { token: Some(token), ..Self::default() };
        }
        // One header's value.
        let text = unquoted(text);
        if text.contains('=') && !is_token(text) {
            let jar = Jar::of_header(text);
            return Self { token: jar.token.clone(), cookies: Some(jar), ..Self::default() };
        }
        Self::default()
    }

    /// Of a credential file, of what `JSON.stringify(localStorage)` gives, or of a jar.
    fn of_object(fields: Map<String, Value>, text: &str) -> Self {
        if let Ok(stored) = StoredCredential::parse(text) {
            return Self { credential: Some(stored.credential().clone()), ..Self::default() };
        }
        let storage = fields.get("localStorage").and_then(Value::as_object).unwrap_or(&fields);
        // Some stores keep each value as JSON.
        let token = storage.get("token").and_then(Value::as_str).and_then(word);
        let cookies = fields.get("cookies").cloned().map(Jar::of_json);
        if token.is_none() && cookies.is_none() {
            let names_and_values = fields.values().all(Value::is_string);
            let jar = names_and_values.then(|| Jar::of_json(Value::Object(fields)));
            return Self {
                token: jar.as_ref().and_then(|jar| jar.token.clone()),
                cookies: jar,
                ..Self::default()
            };
        }
        let token = token.or_else(|| cookies.as_ref()?.token.clone());
        Self { token, cookies, ..Self::default() }
    }
}

/// Whether it begins as a token of a session.
fn is_token(word: &str) -> bool {
    word.starts_with("eyJ") || word.starts_with("H4sI")
}

/// The one token that `text` is, without what stands around it where it is copied: `Bearer`,
/// quotes, its name, a line break in its middle.
fn word(text: &str) -> Option<String> {
    let mut rest = unquoted(text);
    for name in ["authorization", "bearer", "token"] {
        let begins = rest.get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
        let behind = &rest[if begins { name.len() } else { 0 }..];
        // The name ends where another character than of a word stands, or a quote behind it.
        if begins && behind.starts_with(|c: char| c.is_whitespace() || ":=\"'".contains(c)) {
            let is_sign = |c: char| c.is_whitespace() || ":=\"'".contains(c);
            rest = unquoted(behind.trim_start_matches(is_sign));
        }
    }
    if !is_token(rest) {
        return None;
    }
    let mut words = rest.split_whitespace();
    let first = words.next()?;
    // A second pair, as of a cookie header, is not its rest.
    if let Some((token, _)) = first.split_once(';') {
        return words.next().is_none().then(|| token.to_owned());
    }
    Some(words.fold(first.to_owned(), |token, piece| token + piece))
}

/// The text without white space, quotes and separators around it.
fn unquoted(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || "\"'`“”‘’,;".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Invented: the vectors of docs/reference/qwen-wire.md.
    pub(crate) const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpZCI6IjAwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwYWJjZCIsImxhc3RfcGFzc3dvcmRfY2hhbmdlIjoxNzAwMDAwMDAwLCJleHAiOjE4OTM0NTYwMDB9.bm90LWEtcmVhbC1zaWduYXR1cmU";
    const LAYOUT_A: &str =
        "H4sIAAAAAAACA6tWKi1OLYrPTFGyUgAzdVNSc/N1DZV0FJSKU4uLM/Pz4kvys1PzQPIgAZh8LQBKCSUoOgAAAA==";
    const LAYOUT_B: &str = "H4sIAAAAAAACA0tMTNRLSkrSS05OrsksyUvUTUnNzQcAIdb0PRUAAAA=";
    /// Invented, too: of another account, which ends later; its signature is "sig".
    const OTHER: &str =
        "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6InNvbWVib2R5LWVsc2UiLCJleHAiOjE4OTM0NTYwMDF9.c2ln";

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_890_000_000)
    }

    fn read(token: &str, cookies: &str) -> Result<(String, String), String> {
        let session = Session::read(token, cookies, now())?;
        let cookies = session.credential.cookies().expect("its own at least").expose().to_owned();
        Ok((session.credential.access_token().expose().to_owned(), cookies))
    }

    #[test]
    fn a_token_is_read_however_it_was_copied() {
        let wrapped = format!("{}\n  {}", &JWT[..80], &JWT[80..]);
        for pasted in [
            JWT.to_owned(),
            format!("  {JWT}\r\n"),
            format!("\u{feff}{JWT}"),
            format!("Bearer {JWT}"),
            format!("bearer   {JWT}"),
            format!("Authorization: Bearer {JWT}"),
            format!("authorization: bearer {JWT}\nhost: chat.qwen.ai"),
            format!("\"{JWT}\""),
            format!("'{JWT}',"),
            format!("“{JWT}”"),
            format!("token={JWT}"),
            format!("token={JWT};"),
            format!("token: {JWT}"),
            format!("\"token\": \"{JWT}\""),
            // A row of the table of the local storage.
            format!("token\t{JWT}"),
            format!("{{\"token\": \"{JWT}\", \"theme\": \"dark\"}}"),
            format!("{{\"token\": \"\\\"{JWT}\\\"\", \"type\": \"openai\"}}"),
            format!("{{\"localStorage\": {{\"token\": \"{JWT}\"}}}}"),
            format!("{{\"kind\": \"web\", \"jwt\": \"{JWT}\"}}"),
            serde_json::to_string(&format!("{{\"token\": \"{JWT}\"}}")).expect("a string"),
            wrapped,
        ] {
            let (token, cookies) =
                read(&pasted, "").unwrap_or_else(|error| panic!("{pasted}: {error}"));
            assert_eq!((&*token, &*cookies), (JWT, &*format!("token={JWT}")), "{pasted}");
        }
    }

    #[test]
    fn compressed_tokens_are_read() {
        assert_eq!(read(LAYOUT_A, "").expect("layout a").0, "sess-demo-1");
        let (token, cookies) = read(&format!("Bearer {LAYOUT_B}"), "isg=1").expect("layout b");
        assert_eq!(
            (&*token, &*cookies),
            ("aaa.bbb.ccc", "token=aaa.bbb.ccc; ssxmod_itna=itna-demo; isg=1")
        );
        let session = Session::read(LAYOUT_A, "", now()).expect("layout a");
        assert!(
            session.told(now()).contains("does not say when it ends"),
            "{}",
            session.told(now())
        );
    }

    #[test]
    fn cookies_are_read_however_they_were_copied() {
        let jar = format!("cna=1; token={JWT}; isg=2=3");
        for (token, cookies) in [
            (JWT, "cna=1; isg=2=3".to_owned()),
            (JWT, "Cookie: cna=1; isg=2=3".to_owned()),
            (JWT, "  \"cna=1; isg=2=3;\" ".to_owned()),
            (JWT, "accept: */*\ncookie: cna=1; isg=2=3\nhost: chat.qwen.ai".to_owned()),
            (JWT, r#"[{"name": "cna", "value": "1", "domain": "x"}, {"name": "isg", "value": "2=3"}]"#.to_owned()),
            (JWT, r#"{"cna": "1", "isg": "2=3"}"#.to_owned()),
            (JWT, jar.clone()),
            ("", jar.clone()),
            ("", format!("cookie: {jar}")),
            (&*jar, String::new()),
            (&*format!("authorization: Bearer {JWT}\ncookie: cna=1; isg=2=3"), String::new()),
        ] {
            let (read, all) = read(token, &cookies).unwrap_or_else(|error| panic!("{cookies}: {error}"));
            assert_eq!(read, JWT, "{cookies}");
            let mut all: Vec<_> = all.split("; ").collect();
            all.sort_unstable();
            assert_eq!(all, ["cna=1", "isg=2=3", &format!("token={JWT}")], "{cookies}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_at_once_and_not_repeated() {
        let ended = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE4ODk5MTM2MDB9.c2VjcmV0";
        let ends = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE4OTAwMDAwMzB9.c2VjcmV0";
        let cut = &JWT[..100];
        for (token, cookies, says) in [
            ("", "", "Nothing was pasted"),
            ("  \n", "\t", "Nothing was pasted"),
            (ended, "", "ended 24 hours ago (2029-11-21 00:00 UTC)"),
            (ends, "", "ends in 30 seconds"),
            (cut, "", "was it copied whole?"),
            ("H4sIAAAA", "", "was it copied whole?"),
            ("", "cna=1; isg=2", "no `token` among the cookies"),
            ("hunter2-secret", "", "That is no token of chat.qwen.ai"),
            ("sk-secret-key-of-others", "", "That is no token of chat.qwen.ai"),
            ("{\"kind\": \"apikey\", \"api_key\": \"sk-secret-key\"}", "", "of another kind"),
            (JWT, &format!("token={OTHER}; cna=1"), "of two accounts"),
            (JWT, "cna=\u{1b}[2Jsecret", "cannot be sent"),
            (JWT, "cna=sécret", "cannot be sent"),
        ] {
            let error = read(token, cookies).expect_err(says);
            assert!(error.contains(says), "{error}");
            for part in ["secret", "hunter2", "eyJh", "c2Vj"] {
                assert!(!error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn older_cookies_are_kept_for_the_same_account_alone() {
        let older = |jwt: &str| {
            Credential::web(jwt).and_then(|it| it.with_cookies("cna=old")).expect("a session")
        };
        let session = |cookies: &str| Session::read(JWT, cookies, now()).expect("a session");
        let jar =
            |session: Session| session.credential.cookies().expect("some").expose().to_owned();
        let kept = session("").or_cookies_of(&older(JWT));
        assert_eq!(kept.cookies, 1);
        assert_eq!(jar(kept), format!("token={JWT}; cna=old"));
        assert_eq!(jar(session("").or_cookies_of(&older(OTHER))), format!("token={JWT}"));
        assert_eq!(jar(session("isg=1").or_cookies_of(&older(JWT))), format!("token={JWT}; isg=1"));
        assert_eq!(session("").is_of(&older(OTHER)), Some(false));
    }

    #[test]
    fn what_is_told_of_it_names_nobody() {
        let told = Session::read(JWT, "cna=1", now()).expect("a session").told(now());
        assert!(told.contains("good until 2030-01-01 00:00 UTC (for 40 days)"), "{told}");
        assert!(told.ends_with(", with 1 cookie beside it"), "{told}");
        assert!(!told.contains("abcd") && !told.contains("eyJ"), "{told}");
    }
}
