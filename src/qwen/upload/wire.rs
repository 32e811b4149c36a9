//! What upstream is asked when a file is uploaded, and what it answers.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, chat::FileKind};

/// Where a file may be put, for as long as its credential lasts.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) access_key_id: String,
    pub(super) access_key_secret: String,
    pub(super) security_token: String,
    pub(super) file_id: String,
    /// The object's name in the bucket.
    pub(super) path: String,
    /// Where the file can be read, for 300 s.
    pub(super) url: String,
    pub(super) bucket: String,
    /// Without `oss-` before it.
    pub(super) region: String,
    pub(super) endpoint: String,
}

impl Grant {
    /// Reads the answer to [`ask`].
    ///
    /// # Errors
    ///
    /// Where a field is missing, with its name.
    pub(super) fn read(envelope: &Map<String, Value>) -> Result<Self, Error> {
        // The older route has no envelope.
        let data = envelope.get("data").and_then(Value::as_object).unwrap_or(envelope);
        let field = |name: &str| {
            let value = data.get(name).and_then(Value::as_str).filter(|value| !value.is_empty());
            value.map(str::to_owned).ok_or_else(|| {
                let message = format!("the upstream let a file be uploaded and gave no `{name}`");
                Error::new(ErrorKind::Upstream, message)
            })
        };
        let region = field("region")?;
        let bucket = field("bucketname")?;
        let path = field("file_path")?;
        Ok(Self {
            access_key_id: field("access_key_id")?,
            access_key_secret: field("access_key_secret")?,
            security_token: field("security_token")?,
            file_id: field("file_id")?,
            path: path.trim_start_matches('/').to_owned(),
            url: field("file_url")?,
            bucket,
            region: region.strip_prefix("oss-").unwrap_or(&region).to_owned(),
            endpoint: field("endpoint")?,
        })
    }

    /// The host that the file is put to.
    pub(super) fn host(&self) -> String {
        let endpoint = self.endpoint.trim_start_matches("https://").trim_end_matches('/');
        match endpoint.starts_with(&format!("{}.", self.bucket)) {
            true => endpoint.to_owned(),
            false => format!("{}.{endpoint}", self.bucket),
        }
    }
}

/// Where [`ask`] is sent to.
pub(super) const ASK: &str = "/api/v2/files/getstsToken";

/// Asks for a place to put a file to.
pub(super) fn ask(name: &str, size: usize, kind: FileKind) -> Bytes {
    #[derive(Serialize)]
    struct Ask<'a> {
        filename: &'a str,
        filesize: String,
        filetype: &'a str,
    }

    let filetype = match kind {
        FileKind::Document => "file",
        kind => kind.as_str(),
    };
    json(&Ask { filename: name, filesize: size.to_string(), filetype })
}

/// Where [`parse`] is sent to.
pub(super) const PARSE: &str = "/api/v2/files/parse";

/// Has a document be read.
pub(super) fn parse(file_id: &str) -> Bytes {
    #[derive(Serialize)]
    struct Parse<'a> {
        file_id: &'a str,
    }

    json(&Parse { file_id })
}

/// Where [`status`] is sent to.
pub(super) const STATUS: &str = "/api/v2/files/parse/status";

/// Asks how far the reading of a document is.
pub(super) fn status(file_id: &str) -> Bytes {
    #[derive(Serialize)]
    struct Status<'a> {
        file_id_list: [&'a str; 1],
    }

    json(&Status { file_id_list: [file_id] })
}

/// How far it is.
#[derive(Debug, PartialEq)]
pub(super) enum Parsed {
    Done,
    /// It goes on; so does whatever word is not known, until the deadline.
    NotYet,
    /// With upstream's words, if there are any.
    Failed(String),
}

impl Parsed {
    /// Reads the answer to [`status`].
    pub(super) fn read(envelope: &Map<String, Value>, file_id: &str) -> Self {
        let data = envelope.get("data");
        let is_it = |row: &&Value| {
            ["file_id", "id"]
                .iter()
                .any(|name| row.get(name).and_then(Value::as_str) == Some(file_id))
        };
        let row = match data {
            Some(Value::Array(rows)) => rows.iter().find(is_it).or_else(|| rows.first()),
            Some(Value::Object(fields)) => {
                fields.get(file_id).filter(|row| row.is_object()).or(data)
            }
            _ => None,
        };
        let word = |name: &str| row.and_then(|row| row.get(name)).and_then(Value::as_str);
        match word("status").unwrap_or_default().to_ascii_lowercase().as_str() {
            "success" => Self::Done,
            "failed" | "fail" | "error" => {
                let words = ["error", "message", "details", "error_msg", "error_code"];
                let words = words.into_iter().find_map(|name| word(name).filter(|w| !w.is_empty()));
                Self::Failed(words.unwrap_or_default().to_owned())
            }
            _ => Self::NotYet,
        }
    }
}

/// The code and the words of an error of the object store, which is XML.
pub(super) fn store_error(body: &str) -> (&str, &str) {
    let element = |name: &str| {
        let open = format!("<{name}>");
        let start = body.find(&open)? + open.len();
        let rest = &body[start..];
        Some(rest[..rest.find('<')?].trim())
    };
    (element("Code").unwrap_or_default(), element("Message").unwrap_or_default())
}

fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("strings alone").into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    fn data() -> Value {
        json!({
            "access_key_id": "STS.DEMO", "access_key_secret": "demo", "security_token": "demo-sts",
            "file_id": "f-1", "file_path": "acct-1/f-1_a.png",
            "file_url": "https://qwen-webui-prod.oss-accelerate.aliyuncs.com/acct-1/f-1_a.png?x",
            "bucketname": "qwen-webui-prod", "region": "oss-ap-southeast-1",
            "endpoint": "oss-accelerate.aliyuncs.com",
        })
    }

    #[test]
    fn a_grant_is_read_in_an_envelope_and_without() {
        let envelope = json!({"success": true, "data": data()});
        for answer in [envelope, data()] {
            let grant = Grant::read(&object(answer)).expect("whole");
            assert_eq!(grant.region, "ap-southeast-1");
            assert_eq!(grant.host(), "qwen-webui-prod.oss-accelerate.aliyuncs.com");
        }
        let mut data = data();
        data["endpoint"] = "https://qwen-webui-prod.oss.aliyuncs.com/".into();
        let grant = Grant::read(&object(data)).expect("whole");
        assert_eq!(grant.host(), "qwen-webui-prod.oss.aliyuncs.com");
    }

    #[test]
    fn a_grant_that_lacks_a_field_names_it() {
        for field in object(data()).keys() {
            let mut data = object(data());
            data[field] = Value::Null;
            let error = Grant::read(&data).err().expect("a field is missing");
            assert!(error.message().contains(&format!("`{field}`")), "{error}");
        }
    }

    #[test]
    fn what_is_asked_has_the_forms_of_the_page() {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("JSON");
        assert_eq!(
            text(ask("a.png", 12345, FileKind::Image)),
            r#"{"filename":"a.png","filesize":"12345","filetype":"image"}"#
        );
        assert!(text(ask("a.pdf", 1, FileKind::Document)).contains(r#""filetype":"file""#));
        assert_eq!(text(parse("f-1")), r#"{"file_id":"f-1"}"#);
        assert_eq!(text(status("f-1")), r#"{"file_id_list":["f-1"]}"#);
    }

    #[test]
    fn a_status_is_found_in_every_shape() {
        let failed = || Parsed::Failed("no text".to_owned());
        for (data, parsed) in [
            (
                json!([{"file_id": "f-2", "status": "failed"}, {"file_id": "f-1", "status": "success"}]),
                Parsed::Done,
            ),
            (json!([{"status": "SUCCESS"}]), Parsed::Done),
            (json!({"status": "success"}), Parsed::Done),
            (json!({"f-1": {"status": "failed", "message": "no text"}}), failed()),
            (
                json!([{"id": "f-1", "status": "error", "error": "", "details": "no text"}]),
                failed(),
            ),
            (json!([{"status": "pending"}]), Parsed::NotYet),
            (json!([]), Parsed::NotYet),
            (json!("success"), Parsed::NotYet),
        ] {
            let envelope = object(json!({"success": true, "data": data}));
            assert_eq!(Parsed::read(&envelope, "f-1"), parsed, "{data}");
        }
    }

    #[test]
    fn an_error_of_the_store_is_read_out_of_its_xml() {
        let body = "<?xml version=\"1.0\"?>\n<Error>\n  <Code>AccessDenied</Code>\n  <Message>No.\
                    </Message>\n</Error>";
        assert_eq!(store_error(body), ("AccessDenied", "No."));
        for body in ["", "<Code>", "<Code>x", "<html>"] {
            assert_eq!(store_error(body), ("", ""));
        }
    }
}
