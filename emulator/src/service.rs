//! The emulator as a service: who asks for what.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::json::{Map, Value, json};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode, header, request};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower_service::Service;
use uuid::Uuid;

use super::{
    body::Body,
    builder::Builder,
    compatible, completion,
    envelope::{Refusal, json_with, success, with_type},
    files::{self, FileRecord},
    kind::Kind,
    media, models,
    oauth::{self, OAuthAnswer, RefreshFault, Standing},
    state::{ChatRecord, Counters, ReceivedRequest, Shared, new_chat},
};

/// An in-process chat.qwen.ai, or a server of another [`Kind`]; see the [module](super) for what
/// it does.
///
/// Clones are cheap and share everything.
#[derive(Clone)]
pub struct Emulator {
    pub(super) shared: Arc<Shared>,
}

impl Emulator {
    /// A [`pace`](Builder::pace) at which an answer looks as if a model wrote it.
    pub const DEMO_PACE: Duration = Duration::from_millis(12);

    /// An emulator that accepts anyone and answers at once.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Sets an emulator up.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The requests received, oldest first, as far as the log reaches back.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.lock().requests()
    }

    /// The chats, most recently used first.
    #[must_use]
    pub fn chats(&self) -> Vec<ChatRecord> {
        let now = self.shared.clock.now();
        self.shared.lock().chats().map(|chat| chat.record(now)).collect()
    }

    /// The chat of this id.
    #[must_use]
    pub fn chat(&self, chat_id: &str) -> Option<ChatRecord> {
        let now = self.shared.clock.now();
        self.shared.lock().chat(chat_id).map(|chat| chat.record(now))
    }

    /// The texts from the start of the branch that `message_id` is on, up to and with its own:
    /// what the model was given, so a test can prove that the right parent was named.
    /// `None` if the chat or the message is unknown.
    #[must_use]
    pub fn path(&self, chat_id: &str, message_id: &str) -> Option<Vec<String>> {
        let state = self.shared.lock();
        let chat = state.chat(chat_id)?;
        chat.message(message_id)?;
        Some(chat.path(Some(message_id)).iter().map(|message| message.text.clone()).collect())
    }

    /// How often things happened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters
    }

    /// Forgets a chat, as if it had been deleted elsewhere; whether it was known.
    pub fn forget_chat(&self, chat_id: &str) -> bool {
        self.shared.lock().delete_chat(chat_id)
    }

    /// The files that were uploaded, the oldest first: 256 of them at most, of 128 MiB together.
    #[must_use]
    pub fn files(&self) -> Vec<FileRecord> {
        self.shared.lock().files.records()
    }

    /// The ids of the answers that DashScope's Responses API keeps, the oldest first.
    #[must_use]
    pub fn responses(&self) -> Vec<String> {
        self.shared.lock().responses.ids()
    }

    /// Forgets such an answer, as if its time had passed; whether it was known.
    pub fn forget_response(&self, id: &str) -> bool {
        self.shared.lock().responses.forget(id)
    }

    /// A new session token for `account`, good for `lifetime` from now.
    ///
    /// It has the form of the web page's JWT, and a signature that means nothing.
    #[must_use]
    pub fn issue_session(&self, account: &str, lifetime: Duration) -> String {
        let (now, unix) = (self.shared.clock.now(), self.shared.clock.unix_seconds());
        self.shared.lock().oauth.issue_session(account, lifetime, now, unix)
    }

    /// Makes a session, access or refresh token worthless; whether it was worth anything.
    pub fn revoke(&self, token: &str) -> bool {
        self.shared.lock().oauth.revoke(token)
    }

    /// Makes the next refresh fail in this way. Several are used one after the other.
    pub fn fail_refresh(&self, fault: RefreshFault) {
        self.shared.lock().oauth.faults.push_back(fault);
    }

    /// Answers one request whose body was read.
    fn answer(&self, parts: request::Parts, body: &Bytes) -> Reply {
        let now = self.shared.clock.now();
        let standing = {
            let mut state = self.shared.lock();
            let headers = &parts.headers;
            let standing = match self.shared.config.kind {
                Kind::Web => state.oauth.standing(bearer(headers).chain(cookie(headers)), now),
                _ => state.oauth.standing(bearer(headers), now),
            };
            let received = receive(&parts, body, &standing);
            state.record(received, body.len() + 1_024);
            standing
        };
        if self.shared.config.kind != Kind::Web
            && let Some(reply) = compatible::answer(&self.shared, &parts, body, &standing)
        {
            return reply;
        }
        let path = parts.uri.path();
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        let segments: Vec<&str> = trimmed.split('/').skip(1).collect();
        let post = parts.method == Method::POST;
        let get = parts.method == Method::GET;

        match (&parts.method, segments.as_slice()) {
            (&Method::PUT, _) if self.shared.config.kind == Kind::Web => {
                return files::put(&self.shared, &parts.uri, &parts.headers, body);
            }
            (&Method::GET, ["api", "models"]) => {
                let data = models::catalogue(&self.shared.config.models);
                return json_with(StatusCode::OK, &json!({"data": data})).into();
            }
            (&Method::POST, ["api", "v1", "oauth2", "device", "code"]) => {
                return oauth_reply(
                    self.shared.lock().oauth.device_code(&oauth::form(body), now),
                    Duration::ZERO,
                );
            }
            (&Method::POST, ["api", "v1", "oauth2", "token"]) => return self.token(body),
            // Elsewhere, in truth: whoever has the address may fetch it.
            (&Method::GET, ["output", ..]) => {
                return media::fetched(path, parts.uri.query()).into();
            }
            _ => {}
        }
        let account = match self.account(standing) {
            Ok(account) => account,
            Err(refusal) => return self.refuse(&refusal),
        };
        match segments.as_slice() {
            ["api", "v2", "models"] if get => {
                let data = models::catalogue(&self.shared.config.models);
                success(json!({"data": data})).into()
            }
            ["api", "v1", "auths"] if get => self.session(&account),
            ["api", "v2", "chats", "new"] if post => self.new_chat(account, body),
            ["api", "v2", "chats", "batch_delete"] if post => self.delete_many(&account, body),
            ["api", "v2", "chats"] if get => self.list(&account, parts.uri.query()),
            ["api", "v2", "chats"] if parts.method == Method::DELETE => {
                let mut state = self.shared.lock();
                let ids: Vec<String> = state
                    .chats()
                    .filter(|chat| chat.account == account)
                    .map(|chat| chat.id.clone())
                    .collect();
                for id in ids {
                    state.delete_chat(&id);
                }
                success(json!({"status": true})).into()
            }
            ["api", "v2", "chats", id] if get => self.show(&account, id),
            ["api", "v2", "chats", id] if parts.method == Method::DELETE => {
                let mut state = self.shared.lock();
                let known = state.chat(id).is_some_and(|chat| chat.account == account);
                if known {
                    state.delete_chat(id);
                    return success(json!({"status": true})).into();
                }
                drop(state);
                self.refuse(&Refusal::chat_not_found(id))
            }
            ["api", "v2", "files", "getstsToken"] if post => {
                files::grant(&self.shared, &account, body)
            }
            ["api", "v2", "files", "parse"] if post => files::parse(&self.shared, &account, body),
            ["api", "v2", "files", "parse", "status"] if post => {
                files::status(&self.shared, &account, body)
            }
            ["api", "v2", "chat", "completions"] if post => {
                completion::answer(&self.shared, &account, parts.uri.query(), body)
            }
            ["api", "v2", "chat", "completions", "stop"] if post => {
                self.stop(&account, parts.uri.query(), body)
            }
            ["api", "v2", "task", "status", id] if get => {
                media::task(&self.shared, &account, id, false).into()
            }
            ["api", "v1", "tasks", "status", id] if get => {
                media::task(&self.shared, &account, id, true).into()
            }
            ["api", "models"]
            | ["api", "v1", "oauth2", ..]
            | ["api", "v1", "auths"]
            | ["api", "v2", "models" | "chats" | "files", ..]
            | ["api", "v2", "chat", "completions", ..] => {
                let body = json!({"detail": "Method Not Allowed"});
                json_with(StatusCode::METHOD_NOT_ALLOWED, &body).into()
            }
            _ => json_with(StatusCode::NOT_FOUND, &json!({"detail": "Not Found"})).into(),
        }
    }

    /// Whose request it is.
    fn account(&self, standing: Standing) -> Result<String, Refusal> {
        match standing {
            Standing::Good(account) => Ok(account),
            _ if !self.shared.config.require_credentials => Ok(GUEST.to_owned()),
            Standing::Unknown => Err(Refusal::new(401, "Unauthorized", "Invalid token")),
            Standing::Missing | Standing::Expired(_) => Err(Refusal::unauthorized()),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Reply {
        self.shared.lock().counters.refusals += 1;
        refusal.response().into()
    }

    /// `POST /api/v1/oauth2/token`.
    fn token(&self, body: &Bytes) -> Reply {
        let now = self.shared.clock.now();
        let form = oauth::form(body);
        let mut state = self.shared.lock();
        let answer = match form.get("grant_type").map(String::as_str) {
            Some("refresh_token") => {
                let answer = state.oauth.refresh(&form, now);
                let granted = granted(&answer);
                let counters = &mut state.counters;
                *(if granted {
                    &mut counters.refreshes
                } else {
                    &mut counters.refused_refreshes
                }) += 1;
                answer
            }
            Some("urn:ietf:params:oauth:grant-type:device_code") => {
                let answer = state.oauth.poll_device(&form, now);
                state.counters.logins += u64::from(granted(&answer));
                answer
            }
            _ => OAuthAnswer {
                status: StatusCode::BAD_REQUEST,
                body: Ok(json!({
                    "error": "unsupported_grant_type",
                    "error_description": "grant_type is not one of this server's",
                })),
            },
        };
        oauth_reply(answer, self.shared.config.token_delay)
    }

    /// `GET /api/v1/auths/`: the user record, with a fresh session token.
    fn session(&self, account: &str) -> Reply {
        const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
        let (now, unix) = (self.shared.clock.now(), self.shared.clock.unix_seconds());
        let mut state = self.shared.lock();
        let token = state.oauth.issue_session(account, LIFETIME, now, unix);
        state.counters.refreshes += 1;
        json_with(
            StatusCode::OK,
            &json!({
                "id": account, "email": format!("{account}@example.org"), "name": account,
                "role": "user", "token": token, "token_type": "Bearer",
                "expires_at": unix + LIFETIME.as_secs(),
            }),
        )
        .into()
    }

    /// `POST /api/v2/chats/new`. Any model will do here, as on the real server.
    fn new_chat(&self, account: String, body: &Bytes) -> Reply {
        let Ok(request @ Value::Object(_)) = serde_json::from_slice::<Value>(body) else {
            return self.refuse(&Refusal::validation("Field 'body': JSON decode error"));
        };
        let text = |field: &str, default: &str| {
            request[field].as_str().unwrap_or(default).chars().take(1_000).collect::<String>()
        };
        let id = Uuid::new_v4().to_string();
        let mut chat = new_chat(
            id.clone(),
            account,
            text("title", "New Chat"),
            text("chat_type", "t2t"),
            self.shared.clock.unix_seconds(),
        );
        chat.is_hidden = request["chat_mode"] == "local";
        self.shared.lock().create_chat(chat);
        success(json!({"id": id})).into()
    }

    fn delete_many(&self, account: &str, body: &Bytes) -> Reply {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(ids) = request["ids"].as_array() else {
            return self.refuse(&Refusal::validation("Field 'ids': Field required"));
        };
        let mut state = self.shared.lock();
        for id in ids.iter().filter_map(Value::as_str) {
            if state.chat(id).is_some_and(|chat| chat.account == account) {
                state.delete_chat(id);
            }
        }
        success(json!({"status": true})).into()
    }

    /// `GET /api/v2/chats/`: a page of the list, the last used first.
    fn list(&self, account: &str, query: Option<&str>) -> Reply {
        const PAGE: usize = 50;
        let page = completion::query(query, "page").and_then(|page| page.parse::<usize>().ok());
        let before = page.unwrap_or(1).saturating_sub(1).saturating_mul(PAGE);
        let state = self.shared.lock();
        let shown = state.chats().filter(|chat| chat.account == account && !chat.is_hidden);
        let chats = shown.skip(before).take(PAGE).map(|chat| {
            json!({
                "id": chat.id, "title": chat.title, "updated_at": chat.updated_at,
                "created_at": chat.created_at, "chat_type": chat.chat_type,
            })
        });
        success(chats.collect()).into()
    }

    /// `GET /api/v2/chats/<id>`: the record with its message tree.
    fn show(&self, account: &str, id: &str) -> Reply {
        let state = self.shared.lock();
        let Some(chat) = state.chat(id).filter(|chat| chat.account == account) else {
            drop(state);
            return self.refuse(&Refusal::chat_not_found(id));
        };
        let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
        for message in chat.messages() {
            if let Some(parent) = &message.parent_id {
                children.entry(parent).or_default().push(&message.id);
            }
        }
        let messages: Map = chat
            .messages()
            .iter()
            .map(|message| {
                let mut record = json!({
                    "id": message.id, "role": message.role, "content": message.text,
                    "parentId": message.parent_id, "model": message.model,
                    "childrenIds": children.get(&*message.id).cloned().unwrap_or_default(),
                    "timestamp": message.timestamp,
                });
                if !message.media.is_empty() {
                    record["content_list"] = media::content_list(&message.media);
                }
                (message.id.clone(), record)
            })
            .collect();
        success(json!({
            "id": chat.id, "title": chat.title, "chat_type": chat.chat_type,
            "created_at": chat.created_at, "updated_at": chat.updated_at,
            "chat": {"history": {
                "messages": messages,
                "currentId": chat.messages().last().map(|message| &message.id),
            }},
        }))
        .into()
    }

    /// `POST /api/v2/chat/completions/stop`.
    fn stop(&self, account: &str, query: Option<&str>, body: &Bytes) -> Reply {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let query = completion::query(query, "chat_id");
        let Some(id) = query.as_deref().or(request["chat_id"].as_str()) else {
            return self.refuse(&Refusal::validation("Field 'chat_id': Field required"));
        };
        let mut state = self.shared.lock();
        if state.chat(id).is_none_or(|chat| chat.account != account) {
            drop(state);
            return self.refuse(&Refusal::chat_not_found(id));
        }
        let status = state.stop(id);
        success(json!({"status": status})).into()
    }
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator").finish_non_exhaustive()
    }
}

/// The account of those whom the emulator does not know.
const GUEST: &str = "guest";

/// A response, and how long it takes until its head is there.
pub(super) struct Reply {
    pub(super) response: Response<Body>,
    pub(super) delay: Duration,
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self { response, delay: Duration::ZERO }
    }
}

fn granted(answer: &OAuthAnswer) -> bool {
    answer.body.as_ref().is_ok_and(|body| body["access_token"].is_string())
}

fn oauth_reply(answer: OAuthAnswer, delay: Duration) -> Reply {
    let response = match answer.body {
        Ok(body) => json_with(answer.status, &body),
        Err(text) => with_type(answer.status, "text/html", text),
    };
    Reply { response, delay }
}

/// The bearer token, if there is one.
fn bearer(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get(header::AUTHORIZATION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| !token.is_empty())
}

/// The cookie `token`, if it is there.
fn cookie(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix("token="))
        .filter(|token| !token.is_empty())
}

fn receive(parts: &request::Parts, body: &Bytes, standing: &Standing) -> ReceivedRequest {
    let mut headers = parts.headers.clone();
    for name in ["authorization", "cookie", "bx-umidtoken", "bx-ua", "bx-v", "x-api-key"] {
        if let header::Entry::Occupied(mut values) = headers.entry(name) {
            values.iter_mut().for_each(|value| value.set_sensitive(true));
        }
    }
    let is_form = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let body = if is_form {
        oauth::form(body)
            .into_iter()
            .map(|(key, value)| (key, serde_json::Value::from(value)))
            .collect()
    } else {
        serde_json::from_slice(body).unwrap_or_default()
    };
    let account = match standing {
        Standing::Good(account) | Standing::Expired(account) => Some(account.clone()),
        Standing::Missing | Standing::Unknown => None,
    };
    ReceivedRequest { method: parts.method.clone(), uri: parts.uri.clone(), headers, body, account }
}

impl<B> Service<Request<B>> for Emulator
where
    B: http_body::Body,
    B::Data: Buf,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<B> {
        let (parts, body) = request.into_parts();
        ResponseFuture {
            emulator: self.clone(),
            parts: Some(parts),
            body,
            collected: BytesMut::new(),
            response: None,
            sleep: None,
        }
    }
}

pin_project! {
    /// The answer to one request: it reads the request's body, then decides.
    ///
    /// # Cancel safety
    ///
    /// Dropping it before the body was read leaves no trace. Afterwards it is as if the client
    /// had gone away in the middle of the answer.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<B> {
        emulator: Emulator,
        parts: Option<request::Parts>,
        #[pin]
        body: B,
        collected: BytesMut,
        response: Option<Response<Body>>,
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<B> Future for ResponseFuture<B>
where
    B: http_body::Body,
    B::Data: Buf,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.response.is_none() {
            loop {
                match ready!(this.body.as_mut().poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            if this.collected.len() + data.remaining()
                                > this.emulator.shared.config.body_limit
                            {
                                let body = json!({"detail": "Request Entity Too Large"});
                                return Poll::Ready(Ok(json_with(
                                    StatusCode::PAYLOAD_TOO_LARGE,
                                    &body,
                                )));
                            }
                            this.collected.put(data);
                        }
                    }
                    Some(Err(_)) => {
                        let body = json!({"detail": "the request body could not be read"});
                        return Poll::Ready(Ok(json_with(StatusCode::BAD_REQUEST, &body)));
                    }
                    None => break,
                }
            }
            let parts = this.parts.take().expect("`ResponseFuture` was polled after it was ready");
            let reply = this.emulator.answer(parts, &this.collected.split().freeze());
            if reply.delay.is_zero() {
                return Poll::Ready(Ok(reply.response));
            }
            *this.sleep = Some(Box::pin(tokio::time::sleep(reply.delay)));
            *this.response = Some(reply.response);
        }
        if let Some(sleep) = this.sleep {
            ready!(sleep.as_mut().poll(cx));
        }
        let response = this.response.take();
        Poll::Ready(Ok(response.expect("it was put there with the sleep, and is taken once")))
    }
}

impl<B> fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
