//! Who may see the page and send its form: whoever knows its address, from that page alone.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use subtle::ConstantTimeEq;

use super::page;

/// The name of the cookie that goes with a form.
const COOKIE: &str = "proxy-login";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// 256 random bits, as a word of URLs and headers.
fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn is_same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// The address of the page.
#[derive(Clone)]
pub(super) struct Guard {
    port: u16,
    /// A secret, with the slash before it.
    path: String,
}

impl Guard {
    /// # Errors
    ///
    /// Where the system has no random numbers.
    pub(super) fn new(port: u16) -> Result<Self, getrandom::Error> {
        Ok(Self { port, path: format!("/{}", random()?) })
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether a request is one of the page's own; else the status and why.
    ///
    /// A page on the web can send requests here, and after DNS rebinding read the answers. The name in
    /// `Host` tells the latter, `Origin` and `Sec-Fetch-Site` the former, also of another port of this
    /// machine.
    fn check(&self, request: &Request) -> Result<(), (StatusCode, &'static str)> {
        let headers = request.headers();
        let own = [format!("127.0.0.1:{}", self.port), format!("localhost:{}", self.port)];
        let refused = |why| Err((StatusCode::FORBIDDEN, why));
        let host = match only(headers, &header::HOST) {
            Ok(Some(host)) if own.iter().any(|own| host == own) => host,
            _ => {
                return refused(
                    "The page is asked for under another name than its own. Through `ssh -L` the port \
                     must be the same at both ends.",
                );
            }
        };
        if request.uri().authority().is_some_and(|authority| authority.as_str() != host) {
            return refused("The page is asked for under two names.");
        }
        let is_form = *request.method() == Method::POST;
        match only(headers, &SEC_FETCH_SITE) {
            // Typed, or opened from another program.
            Ok(Some("none")) if !is_form => {}
            Ok(Some("same-origin") | None) => {}
            _ => return refused("Another page has sent that."),
        }
        match only(headers, &header::ORIGIN) {
            Ok(Some(origin)) if origin.strip_prefix("http://") == Some(host) => {}
            // Browsers give one with every form.
            Ok(None) if !is_form => {}
            _ => return refused("Another page has sent that."),
        }
        if !is_same(request.uri().path(), &self.path) {
            return Err((
                StatusCode::NOT_FOUND,
                "There is nothing here. Was the address copied whole?",
            ));
        }
        if request.uri().query().is_some() {
            return Err((
                StatusCode::BAD_REQUEST,
                "Nothing is read from the address, which browsers remember. If a token stood in it, sign \
                 out and in again at chat.qwen.ai: that ends it.",
            ));
        }
        if is_form {
            let form = only(headers, &header::CONTENT_TYPE).ok().flatten();
            let essence = form.and_then(|form| form.split(';').next()).map(str::trim);
            if !essence
                .is_some_and(|it| it.eq_ignore_ascii_case("application/x-www-form-urlencoded"))
            {
                return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "That is no form of the page."));
            }
        }
        Ok(())
    }
}

/// The value of a header that stands once at most.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Lets the page's own requests pass.
pub(super) async fn own_page_only(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Response {
    match guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err((status, why)) => page::refusal(status, why),
    }
}

/// The secrets of one form, one of which stands in it and the other in a cookie, so that what is sent comes
/// from a browser that was shown the page.
pub(super) struct Once {
    form: String,
    cookie: String,
}

impl Once {
    /// # Errors
    ///
    /// Where the system has no random numbers.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { form: random()?, cookie: random()? })
    }

    pub(super) fn form(&self) -> &str {
        &self.form
    }

    /// What has the browser keep the cookie, until it is closed and for `path` alone: cookies of
    /// 127.0.0.1 are those of all its ports.
    pub(super) fn set_cookie(&self, path: &str) -> HeaderValue {
        let cookie = &self.cookie;
        let value = format!("{COOKIE}={cookie}; Path={path}; HttpOnly; SameSite=Strict");
        let mut value = HeaderValue::try_from(value).expect("words of URLs are ASCII");
        value.set_sensitive(true);
        value
    }

    /// Whether a form and a cookie are these.
    pub(super) fn is(&self, form: &str, cookie: &str) -> bool {
        is_same(&self.form, form) & is_same(&self.cookie, cookie)
    }
}

/// The cookie of the page.
pub(super) fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = all.flat_map(|all| all.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value.to_owned()).next()
}
