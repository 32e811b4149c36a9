//! What to do about a request that failed or an account that ends, in a sentence for whoever runs the
//! proxy.

use std::{path::Path, time::Duration};

use tower_qwen::auth::{AccountState, AccountStatus, CredentialKind};

/// How long before a session's end that is said.
const SOON: Duration = Duration::from_secs(3 * 86_400);

/// What to do about an account; `file` is where it is kept, if not with the options.
pub(crate) fn on_account(account: &AccountState, file: Option<&Path>) -> Option<String> {
    let again = match (file.map(Path::display), account.kind) {
        (Some(file), Some(CredentialKind::Web)) => {
            format!("sign in again: proxy login web --file {file}")
        }
        (Some(file), Some(CredentialKind::OAuth)) => {
            format!("sign in again: proxy login --file {file}")
        }
        (Some(file), _) => format!("put a new one into {file}"),
        (None, _) => {
            "nothing renews what stands among the options: give a new one, and start the proxy \
             again"
                .to_owned()
        }
    };
    let soon = account.expires_in.filter(|left| *left < SOON);
    match account.status {
        AccountStatus::SignInAgain => Some(again),
        // Also where somebody has just signed in, so that to do so again is no advice.
        AccountStatus::Refused if account.kind == Some(CredentialKind::OAuth) => Some(
            "the upstream does not take it: Qwen ended the free use of such logins on 15 April \
             2026. Without a plan, use a key of DashScope, or a session: proxy login web"
                .to_owned(),
        ),
        AccountStatus::Refused => Some(format!("the upstream does not take it: {again}")),
        AccountStatus::RefreshFailing => Some(format!(
            "renewing fails, the log says why. The token is used until it ends; then {again}"
        )),
        AccountStatus::RateLimited => Some("it rests; nothing is to be done".to_owned()),
        AccountStatus::QuotaUsedUp => {
            Some("its quota is used up: wait, or add an account".to_owned())
        }
        AccountStatus::Expired if file.is_some() => {
            Some("it is renewed with the next request".to_owned())
        }
        _ if soon.is_some() && file.is_none() => Some(again),
        // A login of OAuth ends every few hours, and is renewed.
        _ if soon.is_some() && account.kind == Some(CredentialKind::Web) => {
            Some(format!("its cookies renew it where chat.qwen.ai allows that; else {again}"))
        }
        _ => None,
    }
}

/// By the kind of the error, as the settlement names it, or else by the status that the client got.
pub(crate) fn on(kind: Option<&str>, status: Option<u16>) -> &'static str {
    match kind {
        Some("Auth" | "AccountUnavailable") => {
            return "No account was let in: see their states above; sign in again, or renew the token.";
        }
        Some("Challenge") => {
            return "The upstream asks whether a person is there: open its page in a browser on this \
                    network, and wait.";
        }
        Some("Quota" | "ModelQuota") => {
            return "A quota is used up: wait for the next period, add an account, or name a stand-in \
                    with --fallback.";
        }
        Some("RateLimited") => {
            return "The upstream wants fewer requests: add accounts, or limit clients with a keys file.";
        }
        Some("Overloaded") => {
            return "The upstream has no room now: retries are under way by themselves; a stand-in \
                    (--fallback) answers meanwhile.";
        }
        Some("Timeout") => {
            return "The upstream was silent for too long: see whether it is loading a model; the limits \
                    are --first-event-timeout and --idle-timeout.";
        }
        Some("ContextLength") => {
            return "The prompt is longer than the model takes: the client should compact its history, or \
                    ask a model with a longer context.";
        }
        Some("ContentFilter") => return "The upstream's filter refused the prompt or the answer.",
        Some("ModelNotFound") => {
            return "No upstream has a model of that name: GET /v1/models lists them; an [[alias]] of \
                    the configuration gives one another name.";
        }
        Some("Truncated") => {
            return "The upstream broke off in the middle: see its log; --resume goes on with plain text.";
        }
        Some("Upstream") => {
            return "The upstream failed or could not be reached: see whether it runs, and the proxy's log.";
        }
        _ => {}
    }
    match status {
        Some(401) => "No key of the proxy was presented, or an unknown one.",
        Some(402 | 429) => "A limit is reached: `GET /v1/usage` tells whose.",
        Some(403) => "It is not for this client: see the message that it got.",
        Some(404 | 405) => {
            "Nothing is served there: the client's base URL may lack or double `/v1`."
        }
        Some(408) => "The client sent its request too slowly.",
        Some(413) => "The request is larger than 32 MiB.",
        Some(415) => "The request's media type or coding is not one that is read.",
        Some(400..=499) => {
            "The request is not one that is understood: the client was told which field."
        }
        Some(503) => "The proxy has no place for it, or is about to end.",
        _ => "See the proxy's log, which has the request's id.",
    }
}

#[cfg(test)]
mod tests {
    use tower_qwen::auth::{Credential, CredentialPool, StaticCredential};

    use super::*;

    /// The state of the one account of a pool, and then what else is said of it.
    async fn account(credential: Credential) -> AccountState {
        let pool = CredentialPool::builder().account("ann", StaticCredential::new(credential));
        let pool = pool.build().expect("an account");
        pool.load().await;
        pool.accounts().remove(0)
    }

    #[tokio::test]
    async fn who_ends_is_told_how_to_go_on() {
        let ends = |days: u64| {
            let end = std::time::SystemTime::now() + Duration::from_secs(days * 86_400 + 60);
            let session = Credential::web("eyJ.e30.s").expect("a session");
            session.with_expires_at(Some(end))
        };
        let file = Path::new("/logins/ann.json");
        let (mut soon, later) = (account(ends(2)).await, account(ends(20)).await);
        assert_eq!(on_account(&later, Some(file)), None);
        assert_eq!(on_account(&later, None), None);
        let said = on_account(&soon, Some(file)).expect("it ends");
        assert!(said.ends_with("sign in again: proxy login web --file /logins/ann.json"), "{said}");
        let said = on_account(&soon, None).expect("it ends");
        assert!(said.contains("start the proxy again"), "{said}");

        soon.status = AccountStatus::SignInAgain;
        soon.kind = Some(CredentialKind::OAuth);
        let said = on_account(&soon, Some(file)).expect("it has ended");
        assert_eq!(said, "sign in again: proxy login --file /logins/ann.json");
        soon.status = AccountStatus::Refused;
        let said = on_account(&soon, Some(file)).expect("it is refused");
        assert!(said.contains("ended the free use") && said.contains("DashScope"), "{said}");
        soon.kind = Some(CredentialKind::ApiKey);
        let said = on_account(&soon, Some(file)).expect("it is refused");
        assert!(said.contains("put a new one into /logins/ann.json"), "{said}");
        soon.status = AccountStatus::QuotaUsedUp;
        assert!(on_account(&soon, Some(file)).is_some_and(|said| said.contains("add an account")));
    }

    #[test]
    fn every_failure_has_a_word() {
        for status in (400..600).map(Some).chain([None]) {
            assert!(on(None, status).ends_with('.'), "{status:?}");
        }
        assert_ne!(on(Some("Timeout"), Some(504)), on(None, Some(504)));
    }
}
