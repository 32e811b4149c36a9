//! What the browser is shown: HTML without a script, which nothing from elsewhere is loaded for.

use std::{path::Path, sync::LazyLock};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

const SHELL: &str = include_str!("page.html");
const FORM: &str = include_str!("form.html");
const END: &str = "</main>\n</body>\n</html>\n";

/// What the page may do: have its own style, and send its form here. It runs nothing and is in no
/// frame.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let inside = SHELL.split_once("<style>").and_then(|(_, rest)| rest.split_once("</style>"));
    let (style, _) = inside.expect("the page has a style");
    let hash = BASE64_STANDARD.encode(Sha256::digest(style));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'; sandbox allow-forms allow-popups allow-popups-to-escape-sandbox \
         allow-same-origin"
    );
    HeaderValue::try_from(policy).expect("ASCII")
});

/// What every response has, whatever it says.
pub(super) fn headers() -> HeaderMap {
    let name = HeaderName::from_static;
    let all = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Without any, browsers would say `null` for the origin of the form too.
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (name("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (name("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    ];
    all.into_iter().collect()
}

fn response(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers();
    response
}

/// The page with the form, and above it what was wrong with what was pasted last.
pub(super) fn form(
    status: StatusCode,
    action: &str,
    secret: &str,
    file: &Path,
    complaint: Option<&str>,
) -> Response {
    let complaint = complaint
        .map(|text| format!("<p class=\"card bad\" role=\"alert\">{}</p>", escaped(text)))
        .unwrap_or_default();
    let form = FORM
        .replace("{{complaint}}", &complaint)
        .replace("{{action}}", &escaped(action))
        .replace("{{form}}", &escaped(secret))
        .replace("{{file}}", &escaped(&file.display().to_string()));
    response(status, SHELL.replace("{{content}}", &form).into())
}

/// A page that says why there is no form.
pub(super) fn refusal(status: StatusCode, why: &str) -> Response {
    let said = format!("<p class=\"card bad\" role=\"alert\">{}</p>\n{END}", escaped(why));
    response(status, SHELL.replace("{{content}}", &said).into())
}

/// A page that goes on: `begin` is its first part.
pub(super) fn streamed(
    begin: &str,
    rest: impl Future<Output = String> + Send + 'static,
) -> Response {
    use futures_util::{StreamExt, stream};

    let begin =
        SHELL.replace("{{content}}", &format!("<p class=\"card\">{}</p>\n", escaped(begin)));
    let rest = stream::once(async { rest.await + END });
    let parts = stream::once(std::future::ready(begin)).chain(rest);
    response(StatusCode::OK, Body::from_stream(parts.map(Ok::<_, std::convert::Infallible>)))
}

/// How it ended, for [`streamed`].
pub(super) fn ending(class: &str, text: &str) -> String {
    format!("<p class=\"card {class}\" role=\"status\">{}</p>\n", escaped(text))
}

/// Text as HTML has it, also within the quotes of an attribute.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}
