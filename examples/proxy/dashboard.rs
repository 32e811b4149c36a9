//! `GET /dashboard`: one page that shows what the proxy does, and the numbers behind it.
//!
//! The page itself is the same for everyone and holds nothing; it asks for `/dashboard/status` with a key
//! that is typed into it. That is for whoever runs the proxy: with a key in the keys file that is an
//! admin's, for such keys alone; else for every key; without keys for this machine.

use std::sync::LazyLock;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower_qwen::{Error, ErrorKind, openai::error_response};

use super::{
    board::Board,
    clients::{Client, Clients},
    gate::{Admission, rows},
    metrics,
    ready::Ready,
    tokens::Tokens,
};

const PAGE: &str = include_str!("dashboard/page.html");

/// What a page of this content may do: run its own script and style, and ask this proxy.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let inside = PAGE.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
        let (inside, _) = inside.expect("the page has one of each");
        format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(inside)))
    };
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    );
    HeaderValue::try_from(policy).expect("ASCII")
});

/// What the page shows.
#[derive(Clone)]
pub(crate) struct Dashboard {
    pub(crate) board: Board,
    pub(crate) clients: Clients,
    pub(crate) admission: Admission,
    pub(crate) ready: Ready,
    pub(crate) tokens: Tokens,
}

/// The page.
pub(crate) async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")),
    ];
    (headers, PAGE).into_response()
}

/// What it shows.
pub(crate) async fn status(
    State(dashboard): State<Dashboard>,
    Extension(client): Extension<Client>,
) -> Response {
    if let Err(error) = may_look(&dashboard.clients, client) {
        return error_response(&error).into_response();
    }
    ([(header::CACHE_CONTROL, "no-store")], Json(dashboard.report())).into_response()
}

/// # Errors
///
/// Where it is not for `client`.
fn may_look(clients: &Clients, client: Client) -> Result<(), Error> {
    let message = if clients.filed().any(|key| key.is_admin) {
        if clients.key_of(client).is_some_and(|key| key.is_admin) {
            return Ok(());
        }
        "the dashboard is for the keys of admins; make one with `proxy keys add --admin`"
    } else if clients.are_strangers() {
        "the dashboard is for those with a key, and this proxy has none; set QWEN_PROXY_API_KEY, or \
         --keys-file"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Permission, message))
}

impl Dashboard {
    fn report(&self) -> Value {
        let mut report = self.board.report();
        let ready = self.ready.told();
        report["version"] = env!("CARGO_PKG_VERSION").into();
        report["status"] = ready["status"].clone();
        report["reason"] = ready["reason"].clone();
        report["upstreams"] = ready["upstreams"].clone();
        report["accounts"] = self.tokens.accounts().into();
        report["keys"] = rows(&self.admission).into();
        report["layers"] = metrics::sums(&[
            "tower_qwen_session_lookups_total",
            "tower_qwen_dedup_tokens_saved_total",
            "tower_qwen_join_joined_total",
            "tower_qwen_fallback_total",
            "tower_qwen_resume_tries_total",
        ]);
        report["asks_for_key"] = json!(!self.clients.are_all_let_in());
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_runs_what_is_in_it_and_asks_nobody_else() {
        let policy = POLICY.to_str().expect("ASCII");
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        for elsewhere in ["http://", "https://", "//cdn", "@import", "url("] {
            // Settings of clients may name schemas, and nothing loads those.
            let loads = PAGE.matches(elsewhere).count();
            let named = PAGE.matches("https://opencode.ai/config.json").count()
                + PAGE.matches("http://www.w3.org/2000/svg").count();
            assert!(loads <= named, "{elsewhere}");
        }
        for inline in ["onclick=", "onload=", "style=\"", "javascript:", "innerHTML", "eval("] {
            assert!(!PAGE.contains(inline), "{inline}");
        }
    }
}
