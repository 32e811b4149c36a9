//! The calls that uploading takes.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body::Body;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::{task::JoinSet, time::Instant};
use tower_service::Service;
use tracing::Instrument;

use super::{
    cache::{Cache, Key},
    config::{Config, is_among},
    oss,
    plan::Item,
    wire::{self, Grant, Parsed},
};
use crate::{
    AccountName, BoxError, CredentialHeaders, Error, ErrorKind, Fate, FullBody,
    chat::{ChatRequest, FileKind, Tenant, UploadedFile},
    clock,
    qwen::{
        redact::Secrets,
        transport,
        web::{Call, envelope},
    },
};

/// How much of an answer is read.
const PAGE_LIMIT: usize = 64 * 1024;

/// How long reading it may take once it has begun.
const PAGE_DEADLINE: Duration = Duration::from_secs(10);

/// What uploads the files of one request.
#[derive(Clone)]
pub(super) struct Exchange<U, O> {
    upstream: U,
    store: O,
    cache: Cache,
    tenant: Option<Tenant>,
    account: Option<AccountName>,
    credential: Option<CredentialHeaders>,
    headers: HeaderMap,
    extensions: Extensions,
}

impl<U, O> Exchange<U, O> {
    pub(super) fn new(
        upstream: U,
        store: O,
        cache: &Cache,
        request: &Request<ChatRequest>,
    ) -> Self {
        let chat = request.body();
        Self {
            upstream,
            store,
            cache: cache.clone(),
            tenant: chat.tenant,
            account: chat.account.clone(),
            credential: chat.credential.clone(),
            headers: transport::page_headers(request.headers(), chat.credential.as_ref()),
            extensions: request.extensions().clone(),
        }
    }

    /// What was uploaded a moment ago.
    pub(super) fn cache(&self) -> Cache {
        self.cache.clone()
    }

    /// The key of what `item` becomes. Clients that cannot be told apart share nothing.
    pub(super) fn key(&self, item: &Item) -> Option<Key> {
        let (tenant, account) = (self.tenant?, self.account.clone());
        Some(Key { tenant, account, digest: item.digest })
    }
}

impl<U, O, UB, OB> Exchange<U, O>
where
    U: Service<Request<FullBody>, Response = Response<UB>> + Clone + Send + Sync + 'static,
    U::Error: Into<BoxError>,
    U::Future: Send,
    UB: Body<Data = Bytes> + Send + 'static,
    UB::Error: Into<BoxError>,
    O: Service<Request<FullBody>, Response = Response<OB>> + Clone + Send + Sync + 'static,
    O::Error: Into<BoxError>,
    O::Future: Send,
    OB: Body<Data = Bytes> + Send + 'static,
    OB::Error: Into<BoxError>,
{
    /// Uploads all `items`, and gives the files in their order.
    ///
    /// # Errors
    ///
    /// The first that occurs; the other uploads are then cancelled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels what is under way.
    pub(super) async fn all(
        self,
        items: Vec<Item>,
        config: Arc<Config>,
    ) -> Result<Vec<UploadedFile>, Error> {
        let mut files: Vec<Option<UploadedFile>> = vec![None; items.len()];
        let mut waiting = items.into_iter().enumerate();
        // Dropping the set aborts its tasks.
        let mut running = JoinSet::new();
        loop {
            while running.len() < config.parallel
                && let Some((at, item)) = waiting.next()
            {
                let (exchange, config) = (self.clone(), Arc::clone(&config));
                let upload = async move { (at, exchange.one(item, &config).await) };
                running.spawn(upload.in_current_span());
            }
            let Some(done) = running.join_next().await else { break };
            let (at, file) = match done {
                Ok(done) => done,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(error) => {
                    let message = "the server is shutting down";
                    return Err(Error::new(ErrorKind::Overloaded, message).with_source(error));
                }
            };
            files[at] = Some(file?);
        }
        Ok(files.into_iter().flatten().collect())
    }

    async fn one(self, item: Item, config: &Config) -> Result<UploadedFile, Error> {
        let kind = item.kind.as_str();
        let counted = |result: &'static str| {
            let labels = [("kind", kind), ("result", result)];
            metrics::counter!("tower_qwen_uploads_total", &labels).increment(1);
        };
        let key = self.key(&item).filter(|_| !config.reuse.is_zero());
        if let Some(known) = key.as_ref().and_then(|key| self.cache.get(key, config.reuse)) {
            counted("reused");
            return Ok(known);
        }
        let begun = Instant::now();
        let (cache, place) = (self.cache.clone(), item.place);
        let uploaded = clock::within(config.deadline, self.upload(&item, config)).await;
        let uploaded = uploaded.unwrap_or_else(|| {
            let message =
                format!("uploading {:?} took longer than {:?}", item.name, config.deadline);
            Err(Error::new(ErrorKind::Timeout, message).with_fate(Fate::Abandoned))
        });
        match uploaded {
            Ok((file, granted)) => {
                counted("uploaded");
                metrics::counter!("tower_qwen_upload_bytes_total", "kind" => kind)
                    .increment(file.size);
                metrics::histogram!("tower_qwen_upload_seconds", "kind" => kind)
                    .record(begun.elapsed());
                if let Some(key) = key {
                    cache.put(key, file.clone(), granted, config.capacity);
                }
                Ok(file)
            }
            Err(error) => {
                counted("failed");
                tracing::debug!(kind, error_kind = ?error.kind(), "a file was not uploaded");
                // What is wrong with the file is wrong in a place of the request.
                let is_files = matches!(
                    error.kind(),
                    ErrorKind::InvalidRequest | ErrorKind::ContentFilter | ErrorKind::TooLarge
                );
                Err(if is_files { error.with_param(place.param()) } else { error })
            }
        }
    }

    /// The file, and when its URL was signed.
    async fn upload(
        mut self,
        item: &Item,
        config: &Config,
    ) -> Result<(UploadedFile, Instant), Error> {
        let granted = Instant::now();
        let ask = wire::ask(&item.name, item.bytes.len(), item.kind);
        let grant = Grant::read(&self.page(wire::ASK, ask).await?)?;
        self.put(item, &grant, config).await?;
        if item.kind == FileKind::Document {
            self.parse(item, &grant, config).await?;
        }
        tracing::debug!(
            kind = item.kind.as_str(),
            bytes = item.bytes.len(),
            file_id = %grant.file_id,
            "uploaded a file"
        );
        let mut file = UploadedFile::new(
            item.kind,
            grant.file_id,
            grant.url,
            item.name.as_str(),
            item.media_type.as_str(),
        );
        file.size = item.bytes.len() as u64;
        Ok((file, granted))
    }

    /// Asks upstream something about a file.
    async fn page(&mut self, path: &'static str, body: Bytes) -> Result<Map<String, Value>, Error> {
        let mut request = Request::new(FullBody::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        *request.extensions_mut() = self.extensions.clone();
        *request.headers_mut() = self.headers.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json.clone());
        request.headers_mut().insert(header::ACCEPT, json);
        let (head, body) = transport::send(&mut self.upstream, request).await?.into_parts();
        let read = transport::read(body, PAGE_LIMIT, PAGE_DEADLINE).await;
        let secrets = Secrets::new(self.credential.as_ref(), &head.extensions);
        envelope(Call::File, head.status, &head.headers, &read, &secrets)
    }

    /// Puts the content to where it was granted a place.
    async fn put(&mut self, item: &Item, grant: &Grant, config: &Config) -> Result<(), Error> {
        let host = grant.host();
        if !is_among(host.split(':').next().unwrap_or(&host), &config.hosts) {
            let message = format!(
                "the upstream wants files put to {host:?}, which is none of the hosts that they may \
                 be put to; allow it if it is right"
            );
            return Err(Error::new(ErrorKind::Upstream, message));
        }
        let refused =
            || Error::new(ErrorKind::Upstream, "the upstream granted a place that can be no URL");
        let uri = format!("https://{host}/{}", oss::escaped(&grant.path));
        let headers =
            oss::headers(grant, &item.media_type, Timestamp::now()).ok_or_else(refused)?;
        let mut request = Request::new(FullBody::new(item.bytes.clone()));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = uri.parse().map_err(|_| refused())?;
        *request.headers_mut() = headers;
        let (head, body) = transport::send(&mut self.store, request).await?.into_parts();
        if head.status.is_success() {
            return Ok(());
        }
        let read = transport::read(body, PAGE_LIMIT, PAGE_DEADLINE).await;
        Err(refusal(head.status, &String::from_utf8_lossy(&read.bytes), grant))
    }

    /// Has a document be read, and waits until it is.
    async fn parse(&mut self, item: &Item, grant: &Grant, config: &Config) -> Result<(), Error> {
        self.page(wire::PARSE, wire::parse(&grant.file_id)).await?;
        loop {
            let envelope = self.page(wire::STATUS, wire::status(&grant.file_id)).await?;
            match Parsed::read(&envelope, &grant.file_id) {
                Parsed::Done => return Ok(()),
                Parsed::Failed(words) => {
                    let secrets = Secrets::new(self.credential.as_ref(), &Extensions::new());
                    let words = secrets.redact(&words);
                    let message = match words.is_empty() {
                        true => format!("upstream could not read the document {:?}", item.name),
                        false => {
                            format!("upstream could not read the document {:?}: {words}", item.name)
                        }
                    };
                    let error = Error::new(ErrorKind::InvalidRequest, message);
                    return Err(error.with_code("file_parse_failed").with_fate(Fate::Refused));
                }
                Parsed::NotYet => tokio::time::sleep(config.poll).await,
            }
        }
    }
}

/// What it means that the object store does not take a file.
fn refusal(status: StatusCode, body: &str, grant: &Grant) -> Error {
    let (code, words) = wire::store_error(body);
    let mut words = words.to_owned();
    for secret in [&grant.access_key_secret, &grant.security_token, &grant.access_key_id] {
        words = words.replace(secret.as_str(), "[redacted]");
    }
    let words = Secrets::default().redact(&words);
    let said = match (code, words.as_str()) {
        ("", "") => status.to_string(),
        (code, "") => format!("{status}, {code}"),
        ("", words) => format!("{status}, {words}"),
        (code, words) => format!("{status}, {code}: {words}"),
    };
    let kind = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ErrorKind::TooLarge,
        _ if code == "EntityTooLarge" => ErrorKind::TooLarge,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => ErrorKind::Overloaded,
        _ => ErrorKind::Upstream,
    };
    Error::new(kind, format!("upstream's store did not take the file: {said}"))
        .with_fate(Fate::Refused)
}

impl<U, O> fmt::Debug for Exchange<U, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("account", &self.account).finish_non_exhaustive()
    }
}
