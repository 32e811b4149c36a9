//! How the proxy reaches the endpoints that sign in, renew and validate.

use std::{error::Error as StdError, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response, Uri},
};
use tower::{BoxError, ServiceExt, service_fn};
use tower_qwen::{FullBody, auth::TokenClient, qwen::client::QwenUpstream};
use tower_qwen_emulator::Emulator;

/// The host whose sessions are renewed at a host of their own.
const WEB_HOST: &str = "chat.qwen.ai";
const WEB_REFRESH_ORIGIN: &str = "https://auth.qwen.ai";
/// Tells whose a session is, and on other servers than chat.qwen.ai renews it too.
pub(crate) const USER_PATH: &str = "/api/v1/auths/";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of the OAuth endpoints at `token_url`, or of Qwen's own, and of the endpoints of the
/// web API at `web`. Nothing of a session ever goes to another host than that of `web`, or
/// auth.qwen.ai where that is chat.qwen.ai.
///
/// # Errors
///
/// If it cannot be set up, with why in one line.
pub(crate) fn client(web: &Uri, token_url: Option<&Uri>) -> Result<TokenClient, String> {
    let plain = reqwest::Client::builder()
        .user_agent(concat!("tower-qwen/", env!("CARGO_PKG_VERSION")))
        // A grant must not be asked for twice, and a form with a token must not be redirected.
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|error| cannot("the HTTP client cannot be set up", &error))?;
    let browser = |origin: &str| {
        let client = QwenUpstream::web().base_url(origin).build();
        client.map_err(|error| cannot("the HTTP client cannot be set up", &error))
    };
    let user_url = at(web, USER_PATH)?;
    let (refresh_url, refresh) = if web.host() == Some(WEB_HOST) {
        let url = at(&Uri::from_static(WEB_REFRESH_ORIGIN), "/api/v2/auths/refresh")?;
        (url, browser(WEB_REFRESH_ORIGIN)?)
    } else {
        (user_url.clone(), browser(&origin(web))?)
    };
    let user = browser(&origin(web))?;

    // The web API judges who looks like no browser; the OAuth endpoints do not.
    let pages = [(refresh_url.clone(), refresh), (user_url.clone(), user)];
    let send = service_fn(move |request: Request<FullBody>| {
        let page = pages.iter().find(|(url, _)| url == request.uri());
        let page = page.map(|(_, client)| client.clone());
        let plain = plain.clone();
        async move {
            match page {
                Some(client) => Ok(client.oneshot(request).await?.map(Body::new)),
                None => execute(&plain, request).await,
            }
        }
    });
    let client = TokenClient::new(send).web_refresh_url(refresh_url).web_user_url(user_url);
    Ok(match token_url {
        Some(url) => client.token_url(url.clone()),
        None => client,
    })
}

/// A client of the emulator's endpoints, which leaves this process for nothing.
pub(crate) fn of_emulator(emulator: Emulator) -> TokenClient {
    let user_url = Uri::from_static("http://emulator/api/v1/auths/");
    TokenClient::new(emulator).web_refresh_url(user_url.clone()).web_user_url(user_url)
}

/// The URL of `path` below `base`.
pub(crate) fn at(base: &Uri, path: &str) -> Result<Uri, String> {
    let url = format!("{}{}{path}", origin(base), base.path().trim_end_matches('/'));
    url.parse().map_err(|error| cannot("an endpoint's URL cannot be made", &error))
}

/// Where a server has what stands beside its compatible API, whose URL is `base`.
pub(crate) fn beside_v1(base: &Uri) -> String {
    let path = base.path().trim_end_matches('/');
    format!("{}{}", origin(base), path.strip_suffix("/v1").unwrap_or(path))
}

/// A server, of which `url` is one place.
pub(crate) fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("https");
    format!("{scheme}://{}", url.authority().map_or("", |authority| authority.as_str()))
}

async fn execute(
    client: &reqwest::Client,
    request: Request<FullBody>,
) -> Result<Response<Body>, BoxError> {
    let request = reqwest::Request::try_from(request.map(reqwest::Body::wrap))?;
    let response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    Ok(Response::from(response).map(Body::new))
}

fn cannot(what: &str, error: &dyn StdError) -> String {
    format!("{what}: {error}")
}

#[cfg(test)]
mod tests {
    use tower_qwen::auth::Credential;

    use super::*;

    #[test]
    fn a_session_goes_to_its_own_server_only() {
        for (web, refresh) in [
            ("https://chat.qwen.ai/", "https://auth.qwen.ai/api/v2/auths/refresh"),
            ("http://127.0.0.1:9", "http://127.0.0.1:9/api/v1/auths/"),
            ("http://127.0.0.1:9/x/", "http://127.0.0.1:9/x/api/v1/auths/"),
        ] {
            let client = client(&Uri::from_static(web), None).expect("a client");
            let shown = format!("{client:?}");
            assert!(shown.contains(&format!("web_refresh_url: {refresh}")), "{web}: {shown}");
        }
    }

    #[tokio::test]
    async fn the_emulator_knows_its_sessions() {
        let emulator = Emulator::builder().require_credentials(true).build();
        let session = emulator.issue_session("ann", Duration::from_secs(60));
        let session = Credential::parse(&session).expect("a session");
        let client = of_emulator(emulator);
        let renewed = client.refresh(&session).await.expect("renewed");
        assert_ne!(renewed.expires_at(), session.expires_at());
        let found = client.validate(&renewed, None).await.expect("asked");
        assert!(found.valid && found.asked);
    }
}
