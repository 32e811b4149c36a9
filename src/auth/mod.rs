//! Credentials that refresh themselves.
//!
//! [`AuthRefreshLayer`] puts an account's credential on every request that passes: on HTTP requests
//! as their headers (`authorization`, `cookie`, and what else belongs to the credential), into a
//! [`ChatRequest`](crate::chat::ChatRequest) as the field that the adapters read. It renews what is
//! about to end, and when the upstream refuses a credential it refreshes it once and sends the
//! request once more. Any number of requests that need the same refresh share one.
//!
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{FullBody, auth::{AuthRefreshLayer, Credential, StaticCredential}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let key = Credential::api_key("sk-not-a-real-key")?;
//! let service = ServiceBuilder::new()
//!     .layer(AuthRefreshLayer::new(StaticCredential::new(key)))
//!     .service(service_fn(|request: Request<FullBody>| async move {
//!         let status = match request.headers().get("authorization") {
//!             Some(value) if value == "Bearer sk-not-a-real-key" => StatusCode::OK,
//!             _ => StatusCode::UNAUTHORIZED,
//!         };
//!         Ok::<_, BoxError>(Response::builder().status(status).body(())?)
//!     }));
//!
//! let response = service.oneshot(Request::new(FullBody::default())).await?;
//! assert_eq!(response.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! The layer stands over any service of `http::Request<B>` whose body can be cloned and whose
//! error can be made from a [`tower_qwen::Error`](crate::Error), as that error itself and any
//! `BoxError` can. In the chat stack it stands right over an adapter, since chat.qwen.ai reports
//! ended tokens inside a 200, and only the adapter reads that.
//!
//! # The parts
//!
//! - A [`Credential`] is what is put on a request. It is made of what a person pastes
//!   ([`Credential::parse`]: keys, JWTs, compressed tokens) or of what a file holds
//!   ([`StoredCredential`]).
//! - A [`CredentialProvider`] knows where one account's credential lives and how it is renewed:
//!   [`StaticCredential`], [`EnvironmentCredential`], [`OAuthFile`] (shared with the qwen-code
//!   CLI), or one of your own.
//! - A [`CredentialPool`] holds the accounts and everything that is known about them.
//! - A [`TokenClient`] speaks with the sign-in endpoints, over an HTTP service that you give it;
//!   [`device::DeviceLogin`] signs in.
//! - [`Classify`] tells what an upstream's answer means; [`AccountPolicy`] tells which account a
//!   request wants.
//!
//! # What it does when
//!
//! The rules are those of the reference, [in one place][rules] and [for the portal][portal]:
//!
//! | outcome | account | request |
//! | --- | --- | --- |
//! | accepted | cool-downs and counts are cleared | passed on |
//! | refused (401, 403, an auth error before the first event) | refreshed, unless somebody has already | sent once more; if there is no fresh credential, with another account |
//! | refused again | cools down: 60 s, doubled up to 30 min; not refreshed meanwhile | passed on |
//! | refresh token rejected | dead until its credential changes from outside | fails at once: sign in again |
//! | refresh fails otherwise | backs off: 1 s, doubled up to 60 s; its token is used while it lives | fails with what passes |
//! | quota used up | cools down: as the upstream says, else 65 s doubled up to midnight (UTC+8) | sent once more with another account at once |
//! | rate limited | the last choice: as the upstream says, else 1 s doubled up to 60 s | passed on |
//! | too slow, as the upstream says (504) | refreshed, unless this credential stems from a refresh for a timeout | sent once more |
//! | a limit of time on this side ran out, of connecting or of an answer ([`Fate`](crate::Fate)) | left alone | passed on: the upstream may still be at work on it |
//! | anti-bot challenge | left alone | passed on; all requests pause for 60 s, doubled up to 15 min |
//! | anything else | left alone | passed on |
//!
//! - At most one refresh of an account is under way, and at most one copy of a request is sent
//!   after the first, whatever the reasons. What the layer returns is final: it looks at the head
//!   of an answer and never at its body, so nothing is repeated once an answer has begun.
//! - A refresh runs on a task of its own, to its end, whoever stops waiting for it: a rotated
//!   refresh token is not lost with a client that hangs up. Await
//!   [`CredentialPool::settled`] before the runtime ends.
//! - Good news counts only if it is younger than the bad: an answer to a request that was sent before
//!   an account cooled down, or before the pause after a challenge, ends neither.
//! - Asking how an account does ([`CredentialPool::accounts`]) starts nothing. Loads, refreshes and
//!   looks for a new login begin with requests.
//! - A conversation that belongs to an account which cannot be used now, while another can, fails
//!   with [`ErrorKind::AccountUnavailable`](crate::ErrorKind::AccountUnavailable): a session layer
//!   above starts a new chat and replays the history, with whichever account is next.
//!
//! # What it does not do
//!
//! It paces nothing, and it does not repeat requests for failures that have nothing to do with
//! the credential: put a limit or a retry layer above it. It solves no challenge and makes up no
//! device data; headers and cookies are sent as they were given.
//!
//! # Secrets
//!
//! Tokens are [`Secret`]s, and stand in headers that are marked sensitive. No `Debug`, no
//! error, no log line and no metric of this module holds one. Account names do stand there.
//!
//! # Metrics
//!
//! | name | kind | labels |
//! | --- | --- | --- |
//! | `tower_qwen_auth_requests_total` | counter | `account` |
//! | `tower_qwen_auth_refresh_total` | counter | `result`: `ok`, `rejected`, `failed` |
//! | `tower_qwen_auth_retry_total` | counter | `cause`: `refused`, `timeout`, `quota`, `rotated` |
//! | `tower_qwen_auth_challenges_total` | counter | |
//! | `tower_qwen_auth_account_state` | gauge, 1 for the state that holds | `account`, `state`: see [`AccountStatus`] |
//!
//! [rules]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#g
//! [portal]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/qwen-wire.md#b8

// The way of a request: `service` asks `accounts` which of them to send with and sends, `attempt`
// learns from the answer and may send once more, `future` is both. Each account is a state machine
// (`account`, with what upstreams said of it in `standing`) that a `driver` runs; `egress` is the way
// out that they share. `provider` is where credentials come from: `fixed` ones, and the login in a
// file (`store`), which `client` refreshes and `answer` reads.
mod account;
mod accounts;
mod answer;
mod attempt;
mod builder;
mod classify;
mod client;
mod clock;
mod credential;
pub mod device;
mod driver;
mod egress;
mod error;
mod fixed;
mod future;
mod kept;
mod layer;
mod policy;
mod pool;
mod provider;
mod secret;
mod service;
mod standing;
mod state;
mod store;
mod token;

pub use self::{
    builder::{CredentialPoolBuilder, PoolError},
    classify::{Classify, DefaultClassify, Outcome},
    client::{TokenClient, Validation},
    clock::Clock,
    credential::{Credential, CredentialKind},
    error::{RefreshError, RefreshErrorKind},
    fixed::{EnvironmentCredential, StaticCredential},
    future::ResponseFuture,
    layer::AuthRefreshLayer,
    policy::{AccountPolicy, DefaultPolicy, PolicyFn, policy_fn},
    pool::CredentialPool,
    provider::{BoxFuture, CredentialProvider, Renewal},
    secret::Secret,
    service::AuthRefresh,
    state::{AccountState, AccountStatus},
    store::{OAuthFile, StoredCredential},
    token::{InvalidToken, JwtClaims},
};
