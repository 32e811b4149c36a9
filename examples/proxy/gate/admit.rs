//! Who may ask for an answer now.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        Method, StatusCode,
        header::{HeaderValue, RETRY_AFTER},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use tower_qwen::{Error, ErrorKind, edge::read_body, ollama::untagged, openai::error_response};

use super::{
    super::{
        beside::{is_form, named_model},
        clients::{Client, Clients},
        forms,
        keys::{Key, Limits},
        lanes::{Lanes, MAX_BODY},
    },
    Account, Gate, Payer, Reached, Rules,
    held::Places,
    streams::{Full, Queue},
    until,
};

/// When one who found no place is asked to come back.
const COME_BACK: Duration = Duration::from_secs(5);

/// What decides who may ask.
#[derive(Clone)]
pub(crate) struct Admission {
    gate: Gate,
    clients: Clients,
    rules: Rules,
    lanes: Lanes,
}

impl Admission {
    pub(crate) const fn new(gate: Gate, clients: Clients, rules: Rules, lanes: Lanes) -> Self {
        Self { gate, clients, rules, lanes }
    }

    pub(crate) const fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) const fn clients(&self) -> &Clients {
        &self.clients
    }

    /// A place among all answers, and one among those of the key.
    async fn places(&self, account: &Account, limits: &Limits) -> Result<Places, Refusal> {
        let queue = Queue { len: self.rules.queue, until: Instant::now() + self.rules.wait };
        let of_key = match limits.streams {
            Some(limit) => {
                let place = account.streams.enter(limit, queue).await;
                Some(place.map_err(|full| Refusal::of_key(limit, full))?)
            }
            None => None,
        };
        let of_all = match self.rules.streams {
            Some(limit) => {
                let place = self.gate.0.streams.enter(limit, queue).await;
                Some(place.map_err(|full| Refusal::of_all(limit, full))?)
            }
            None => None,
        };
        Ok(Places([of_key, of_all]))
    }
}

/// Why nobody is asked; it is the proxy's own word, and is told from an upstream's by its code.
struct Refusal {
    status: StatusCode,
    /// The `type` of OpenAI's errors.
    kind: &'static str,
    code: &'static str,
    message: String,
    retry_after: Duration,
    /// Whether a client should ask again by itself.
    is_worth_it: bool,
    /// The word of the metrics.
    reason: &'static str,
}

impl Refusal {
    fn reached(reached: Reached, now: Timestamp) -> Self {
        let of_key = |code, reason, message, retry_after| Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: "rate_limit_error",
            code,
            message,
            retry_after,
            is_worth_it: true,
            reason,
        };
        match reached {
            Reached::Requests(limit, wait) => {
                let message = format!("this API key may send {limit} requests a minute here");
                of_key("key_requests_exceeded", "requests", message, wait)
            }
            Reached::Tokens(limit, wait) => {
                let message = format!("this API key may use {limit} tokens a minute here");
                of_key("key_tokens_exceeded", "tokens", message, wait)
            }
            Reached::Budget(spent) => {
                let message = format!(
                    "this API key has used up the {} tokens that it has here for a {}; there are \
                     new ones at {}",
                    spent.budget, spent.unit, spent.until
                );
                let wait = until(spent.until, now);
                let refusal = of_key("key_budget_exceeded", "budget", message, wait);
                Self { kind: "insufficient_quota", is_worth_it: false, ..refusal }
            }
        }
    }

    fn unwritten() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "server_error",
            code: "usage_unavailable",
            message: "this proxy cannot write down what API keys with a budget use, and answers \
                      none of them until it can"
                .to_owned(),
            retry_after: COME_BACK,
            is_worth_it: true,
            reason: "usage",
        }
    }

    fn of_key(limit: usize, full: Full) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: "rate_limit_error",
            code: "key_streams_exceeded",
            message: format!(
                "this API key may have {limit} answers at once here, and {}",
                why(full)
            ),
            retry_after: COME_BACK,
            is_worth_it: true,
            reason: "key_streams",
        }
    }

    fn of_all(limit: usize, full: Full) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "server_error",
            code: "proxy_overloaded",
            message: format!("this proxy gives {limit} answers at once, and {}", why(full)),
            retry_after: COME_BACK,
            is_worth_it: true,
            reason: "streams",
        }
    }
}

const fn why(full: Full) -> &'static str {
    match full {
        Full::Queue => "as many wait as may",
        Full::Late => "no place was free in time",
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        metrics::counter!("tower_qwen_proxy_limited_total", "reason" => self.reason).increment(1);
        tracing::debug!(reason = self.reason, "a request is refused here");
        let error = json!({
            "message": self.message, "type": self.kind, "param": null, "code": self.code,
        });
        let mut response = (self.status, axum::Json(json!({"error": error}))).into_response();
        // Whole seconds; who comes earlier comes in vain.
        let seconds = self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0);
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, seconds.max(1).into());
        if !self.is_worth_it {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }
}

/// The limits of a key; who has none in the file has no limit.
pub(super) fn key_limits(key: Option<&Arc<Key>>) -> Limits {
    key.map(|key| key.limits).unwrap_or_default()
}

/// Lets a request in that asks for an answer, when there is a place for it within the limits of its
/// client; it keeps that until the answer has ended. Each answer says how near its limits the key is.
pub(crate) async fn admit(
    State(admission): State<Admission>,
    mut request: Request,
    next: Next,
) -> Response {
    // Other methods are refused by the edges.
    let client = request.extensions().get::<Client>().copied();
    let Some(client) = client.filter(|_| request.method() == Method::POST) else {
        return next.run(request).await;
    };
    let account = admission.gate.account(client.account());
    let limits = key_limits(admission.clients.key_of(client));
    let is_messages = forms::is_messages(&request);

    if admission.rules.fail_closed && limits.have_budget() && admission.gate.is_failing() {
        return Refusal::unwritten().into_response();
    }
    let taken = account.take(&limits, Instant::now(), Timestamp::now());
    let admitted = match taken {
        Ok(()) => admission.places(&account, &limits).await,
        Err(reached) => Err(Refusal::reached(reached, Timestamp::now())),
    };
    let mut response = match admitted {
        Ok(places) => {
            request.extensions_mut().insert(Payer(Arc::clone(&account)));
            next.run(request).await.map(|body| places.hold(body))
        }
        Err(refusal) => refusal.into_response(),
    };
    let now = Timestamp::now();
    for told in account.told(&limits, Instant::now(), now) {
        told.into(response.headers_mut(), is_messages, now);
    }
    response
}

/// Refuses a request for a model that its key may not ask for. The body is read for that, and only
/// for keys that may not ask for all.
pub(crate) async fn may_ask(
    State(admission): State<Admission>,
    request: Request,
    next: Next,
) -> Response {
    let client = request.extensions().get::<Client>();
    let key = client.and_then(|client| admission.clients.key_of(*client));
    let Some(key) = key.filter(|key| !key.models.is_any()) else { return next.run(request).await };
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    // llama.cpp fills in with the model that it has, whichever that is.
    let needs_model = head.uri.path().ends_with("/infill") || is_form(&head.headers);
    let read = read_body(body, MAX_BODY, Some(admission.lanes.pace())).await;
    let model = match &read {
        Ok(body) => named_model(&head, body).await,
        Err(_) => Ok(None),
    };
    let allowed = read.and_then(|body| {
        match model? {
            Some(model) => check(key, &model, &admission.lanes)?,
            None if needs_model => {
                let message = format!(
                    "this API key may ask for the models {} alone; name one in `model`",
                    key.models
                );
                let error = Error::new(ErrorKind::Permission, message).with_param("model");
                return Err(error.with_code("model_not_allowed"));
            }
            // The edge says what is wrong with it.
            None => {}
        }
        Ok(body)
    });
    match allowed {
        Ok(body) => next.run(Request::from_parts(head, Body::from(body))).await,
        Err(error) => error_response(&error).into_response(),
    }
}

/// # Errors
///
/// If `key` may not ask for what a client calls `model`. What counts is the model that is meant.
fn check(key: &Key, model: &str, lanes: &Lanes) -> Result<(), Error> {
    let meant = lanes.meant(model);
    let fits = |name: &str| key.models.fit(name).is_some();
    if fits(&meant) || fits(&lanes.meant(untagged(model))) {
        return Ok(());
    }
    let message =
        format!("this API key may not ask for the model `{model}`; it may for {}", key.models);
    let error = Error::new(ErrorKind::Permission, message).with_param("model");
    Err(error.with_code("model_not_allowed"))
}
