//! Files: places to put them to, the object store, and documents that are parsed.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write as _,
    time::Duration,
};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Response, StatusCode, Uri, header};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::Uuid;

use crate::json::{Value, json};

use super::{
    body::Body,
    directive::Directives,
    envelope::{Refusal, success, with_type},
    service::Reply,
    state::Shared,
};

/// How many files are kept, and how many bytes of them together.
const FILES: usize = 256;
const BYTES: usize = 128 * 1024 * 1024;

/// For how long a file may be read by its URL.
const SIGNED_FOR: Duration = Duration::from_secs(300);

/// The bucket, its region and where it is.
const BUCKET: &str = "qwen-webui-emulated";
const REGION: &str = "ap-southeast-1";
const ENDPOINT: &str = "oss-accelerate.aliyuncs.com";

/// What a credential for a place is made of.
const KEY_ID: &str = "STS.EMULATED";

/// A file that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileRecord {
    /// The id.
    pub id: String,
    /// The account whose it is.
    pub account: String,
    /// The name that was asked for.
    pub name: String,
    /// `image`, `video`, `audio` or `file`.
    pub kind: String,
    /// The media type that it was put with; empty where it was not put yet.
    pub media_type: String,
    /// The content; empty where it was not put yet.
    pub content: Bytes,
    /// Whether it was parsed to its end.
    pub parsed: bool,
}

struct File {
    record: FileRecord,
    path: String,
    secret: String,
    token: String,
    size: usize,
    granted: Instant,
    is_put: bool,
    /// How often it was asked whether the file is parsed; `None` until parsing was begun.
    polls: Option<u64>,
    directives: Directives,
}

impl File {
    fn url(&self) -> String {
        format!("https://{BUCKET}.{ENDPOINT}/{}?x-oss-expires=300&x-oss-signature=DEMO", self.path)
    }
}

/// All files, the oldest first.
#[derive(Default)]
pub(super) struct Files {
    files: HashMap<String, File>,
    order: VecDeque<String>,
    bytes: usize,
}

impl Files {
    /// What is kept, the oldest first.
    pub(super) fn records(&self) -> Vec<FileRecord> {
        let files = self.order.iter().filter_map(|id| self.files.get(id));
        files.map(|file| file.record.clone()).collect()
    }

    fn insert(&mut self, file: File) {
        self.order.push_back(file.record.id.clone());
        self.files.insert(file.record.id.clone(), file);
        self.evict();
    }

    fn evict(&mut self) {
        while (self.order.len() > FILES || self.bytes > BYTES)
            && let Some(id) = self.order.pop_front()
        {
            if let Some(file) = self.files.remove(&id) {
                self.bytes -= file.record.content.len();
            }
        }
    }

    fn of(&mut self, account: &str, id: &str) -> Option<&mut File> {
        self.files.get_mut(id).filter(|file| file.record.account == account)
    }
}

/// `POST /api/v2/files/getstsToken`.
pub(super) fn grant(shared: &Shared, account: &str, body: &Bytes) -> Reply {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let size = match &request["filesize"] {
        Value::String(size) => size.parse().ok(),
        size => size.as_u64().and_then(|size| usize::try_from(size).ok()),
    };
    let (Some(name), Some(kind), Some(size)) =
        (request["filename"].as_str(), request["filetype"].as_str(), size)
    else {
        return refuse(shared, &Refusal::new(400, "Bad_Request", "Invalid file information!"));
    };
    if !matches!(kind, "image" | "video" | "audio" | "file" | "document") {
        return refuse(shared, &Refusal::new(400, "Bad_Request", "Invalid file information!"));
    }
    // The request says nothing of what is in the file, so its name asks for what happens here.
    let directives = Directives::parse(name);
    if let Some(hours) = directives.number("upload_quota", 24) {
        return refuse(shared, &Refusal::rate_limited(hours));
    }
    if directives.has("upload_unauthorized") {
        return refuse(shared, &Refusal::unauthorized());
    }
    if directives.has("upload_moderated") {
        let details = "The file may contain inappropriate content.";
        return refuse(shared, &Refusal::new(400, "data_inspection_failed", details));
    }
    let id = Uuid::new_v4().to_string();
    let file = File {
        path: format!("{account}/{id}_{}", name.replace(['?', '#', '/'], "_")),
        secret: format!("secret-{id}"),
        token: format!("sts-{id}"),
        size,
        granted: shared.clock.now(),
        is_put: false,
        polls: None,
        directives,
        record: FileRecord {
            id: id.clone(),
            account: account.to_owned(),
            name: name.chars().take(1_000).collect(),
            kind: kind.to_owned(),
            media_type: String::new(),
            content: Bytes::new(),
            parsed: false,
        },
    };
    let endpoint = match file.directives.argument("upload_host") {
        None | Some("") => ENDPOINT,
        Some(host) => host,
    };
    let data = json!({
        "access_key_id": KEY_ID, "access_key_secret": file.secret, "security_token": file.token,
        "file_id": id, "file_path": file.path, "file_url": file.url(), "bucketname": BUCKET,
        "region": format!("oss-{REGION}"), "endpoint": endpoint,
    });
    shared.lock().files.insert(file);
    success(data).into()
}

/// `PUT` to the object store. It has no account: the signature says who may.
pub(super) fn put(shared: &Shared, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Reply {
    let mut state = shared.lock();
    let path = decoded(uri.path().trim_start_matches('/'));
    let Some(file) = state.files.files.values_mut().find(|file| file.path == path) else {
        return store_error(StatusCode::FORBIDDEN, "AccessDenied", "The object is nobody's.");
    };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(authorization), Some(date), Some(media_type)) = (
        header(header::AUTHORIZATION.as_str()),
        header("x-oss-date"),
        header(header::CONTENT_TYPE.as_str()),
    ) else {
        let words = "Anonymous access is forbidden for this operation.";
        return store_error(StatusCode::FORBIDDEN, "AccessDenied", words);
    };
    if header("x-oss-security-token") != Some(&file.token) {
        let words = "The security token you provided is invalid.";
        return store_error(StatusCode::FORBIDDEN, "InvalidSecurityToken", words);
    }
    if authorization != signature(file, date, media_type, header("x-oss-content-sha256")) {
        let words =
            "The request signature we calculated does not match the signature you provided.";
        return store_error(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", words);
    }
    // A directive may stand in the file too: an image of a client has no name.
    let inside = Directives::parse(&String::from_utf8_lossy(body));
    file.directives.append(inside);
    if file.directives.has("upload_refused") {
        let words = "You have no right to access this object because of bucket acl.";
        return store_error(StatusCode::FORBIDDEN, "AccessDenied", words);
    }
    if file.directives.has("upload_failed") {
        let words = "Please contact the server administrator, oss@service.aliyun.com.";
        return store_error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", words);
    }
    let delay = Duration::from_millis(file.directives.number("upload_slow", 1_000).unwrap_or(0));
    if body.len() != file.size {
        let words = "The object is not as large as it was said to be.";
        return store_error(StatusCode::BAD_REQUEST, "InvalidArgument", words);
    }
    let before = file.record.content.len();
    file.is_put = true;
    file.record.media_type = media_type.to_owned();
    file.record.content = body.clone();
    state.files.bytes = state.files.bytes - before + body.len();
    state.files.evict();
    Reply {
        response: Response::new(Body::whole(Bytes::new())),
        delay: delay.min(super::builder::DAY),
    }
}

/// `POST /api/v2/files/parse`.
pub(super) fn parse(shared: &Shared, account: &str, body: &Bytes) -> Reply {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut state = shared.lock();
    let file = request["file_id"].as_str().and_then(|id| state.files.of(account, id));
    match file.filter(|file| file.is_put) {
        Some(file) => {
            file.polls.get_or_insert(0);
            success(json!({"status": true})).into()
        }
        None => {
            drop(state);
            refuse(shared, &Refusal::new(404, "Not_Found", "File not found"))
        }
    }
}

/// `POST /api/v2/files/parse/status`.
pub(super) fn status(shared: &Shared, account: &str, body: &Bytes) -> Reply {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut state = shared.lock();
    let ids = request["file_id_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = ids.iter().filter_map(Value::as_str).map(|id| {
        let row =
            |status: &str, error: &str| json!({"file_id": id, "status": status, "error": error});
        let Some(file) = state.files.of(account, id) else { return row("failed", "no such file") };
        let Some(polls) = &mut file.polls else { return row("pending", "") };
        *polls += 1;
        if file.directives.has("parse_failed") {
            return row("failed", "The document holds no text that can be read.");
        }
        if *polls <= file.directives.number("parse_slow", 3).unwrap_or(0) {
            return row("pending", "");
        }
        file.record.parsed = true;
        row("success", "")
    });
    let rows: Value = rows.collect();
    success(rows).into()
}

/// What a message's `files` come to.
pub(super) struct Shown {
    /// What the model says of them.
    pub(super) told: String,
    /// The directive that the stream fails by, if it does.
    pub(super) fault: Option<&'static str>,
}

/// Looks at the `files` of a message.
pub(super) fn shown(shared: &Shared, account: &str, files: &[Value]) -> Shown {
    let mut shown = Shown { told: String::new(), fault: None };
    let now = shared.clock.now();
    let mut state = shared.lock();
    for entry in files {
        let kind = entry["type"].as_str().unwrap_or_default();
        let url = entry["url"].as_str().unwrap_or_default();
        let Some(id) = entry["id"].as_str().filter(|id| !id.is_empty()) else {
            // An image by its URL is fetched; nothing else is.
            if kind != "image" {
                shown.fault = Some("invalid_input");
            }
            continue;
        };
        let file = state.files.of(account, id).filter(|file| file.is_put && file.url() == url);
        let Some(file) = file else {
            shown.fault = Some("invalid_input");
            continue;
        };
        let is_over = now.duration_since(file.granted) >= SIGNED_FOR;
        if is_over || file.directives.has("url_expired") {
            shown.fault = Some("invalid_input");
        } else if file.directives.has("moderated") {
            shown.fault = Some("content_filter");
        } else if file.record.kind == "file" && !file.record.parsed {
            shown.fault = Some("invalid_input");
        }
        let record = &file.record;
        let digest = hex(&Sha256::digest(&record.content));
        let _ = write!(
            shown.told,
            "\n\nThe {} {} is {}, {} bytes, SHA-256 {digest}.",
            record.kind,
            record.name,
            record.media_type,
            record.content.len(),
        );
        if record.kind == "file"
            && let Ok(text) = str::from_utf8(&record.content)
        {
            let beginning: String = text.chars().take(80).collect();
            let _ = write!(shown.told, " It begins: {beginning}");
        }
    }
    shown
}

fn refuse(shared: &Shared, refusal: &Refusal) -> Reply {
    shared.lock().counters.refusals += 1;
    refusal.response().into()
}

fn store_error(status: StatusCode, code: &str, words: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>\n  <Code>{code}</Code>\n  \
         <Message>{words}</Message>\n  <RequestId>DEMO</RequestId>\n</Error>\n"
    );
    with_type(status, "application/xml", body).into()
}

/// The header that a client with the file's credential sends, by its own account of what it signs.
fn signature(file: &File, date: &str, media_type: &str, payload: Option<&str>) -> String {
    let mac = |key: &[u8], text: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes()
    };
    let payload = payload.unwrap_or_default();
    let day = date.get(..8).unwrap_or(date);
    let signed = [
        ("content-type", media_type),
        ("x-oss-content-sha256", payload),
        ("x-oss-date", date),
        ("x-oss-security-token", &file.token),
    ];
    let signed: String = signed.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let object = encoded(&format!("{BUCKET}/{}", file.path));
    let canonical = ["PUT", &format!("/{object}"), "", &signed, "", payload].join("\n");
    let scope = format!("{day}/{REGION}/oss/aliyun_v4_request");
    let digest = hex(&Sha256::digest(canonical));
    let text = ["OSS4-HMAC-SHA256", date, &scope, &digest].join("\n");
    let key = mac(format!("aliyun_v4{}", file.secret).as_bytes(), day);
    let key = mac(&mac(&mac(&key, REGION), "oss"), "aliyun_v4_request");
    format!("OSS4-HMAC-SHA256 Credential={KEY_ID}/{scope},Signature={}", hex(&mac(&key, &text)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut path, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                path.push(char::from(byte));
            }
            byte => {
                let _ = write!(path, "%{byte:02X}");
            }
        }
        path
    })
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = str::from_utf8(after.get(..2).unwrap_or_default()).ok();
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
