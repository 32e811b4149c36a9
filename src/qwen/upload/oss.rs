//! Signature version 4 of Alibaba Cloud's Object Storage Service, for one `PUT` (sans-I/O).

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::wire::Grant;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-oss-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-oss-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-oss-security-token");

/// The body is not part of what is signed: TLS sees to it.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The headers of a `PUT` of content of `content_type` to where `grant` says, at the time of `now`.
/// `None` where something that was granted can be no header.
///
/// The signed headers are those that the service wants signed, and no more, so the host may be the one
/// of the bucket or of a gateway before it.
pub(super) fn headers(grant: &Grant, content_type: &str, now: Timestamp) -> Option<HeaderMap> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let signature = signature(grant, content_type, &stamp);
    let scope = scope(grant, &stamp);
    let authorization = format!(
        "OSS4-HMAC-SHA256 Credential={}/{scope},Signature={signature}",
        grant.access_key_id
    );
    let secret = |value: &str| {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        Some(value)
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, secret(&authorization)?);
    headers.insert(SECURITY_TOKEN, secret(&grant.security_token)?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).ok()?);
    headers.insert(CONTENT_SHA256, HeaderValue::from_static(UNSIGNED));
    headers.insert(DATE, HeaderValue::from_str(&stamp).ok()?);
    Some(headers)
}

/// The path of a request, as it is sent and signed: `/` and what is unreserved stand for themselves.
pub(super) fn escaped(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            hex(&mut escaped, &[byte], b"0123456789ABCDEF");
        }
    }
    escaped
}

fn scope(grant: &Grant, stamp: &str) -> String {
    format!("{}/{}/oss/aliyun_v4_request", date(stamp), grant.region)
}

fn date(stamp: &str) -> &str {
    stamp.split('T').next().unwrap_or(stamp)
}

fn signature(grant: &Grant, content_type: &str, stamp: &str) -> String {
    let path = escaped(&format!("/{}/{}", grant.bucket, grant.path));
    // The query is empty, and so is the list of further headers that are signed.
    let request = format!(
        "PUT\n{path}\n\ncontent-type:{content_type}\n{CONTENT_SHA256}:{UNSIGNED}\n{DATE}:{stamp}\n\
         {SECURITY_TOKEN}:{}\n\n\n{UNSIGNED}",
        grant.security_token
    );
    let mut to_sign = format!("OSS4-HMAC-SHA256\n{stamp}\n{}\n", scope(grant, stamp));
    small_hex(&mut to_sign, &Sha256::digest(request));
    let key = format!("aliyun_v4{}", grant.access_key_secret);
    let key = [date(stamp), &grant.region, "oss", "aliyun_v4_request"]
        .into_iter()
        .fold(key.into_bytes(), |key, word| mac(&key, word));
    let mut signature = String::with_capacity(64);
    small_hex(&mut signature, &mac(&key, &to_sign));
    signature
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn small_hex(out: &mut String, bytes: &[u8]) {
    hex(out, bytes, b"0123456789abcdef");
}

fn hex(out: &mut String, bytes: &[u8], digits: &[u8; 16]) {
    for byte in bytes {
        out.push(char::from(digits[usize::from(byte >> 4)]));
        out.push(char::from(digits[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(path: &str, region: &str) -> Grant {
        Grant {
            access_key_id: "STS.DEMO".into(),
            access_key_secret: "demo".into(),
            security_token: "demo-sts".into(),
            file_id: "f-1".into(),
            path: path.into(),
            url: "https://cdn.example/a.png".into(),
            bucket: "qwen-webui-prod".into(),
            region: region.into(),
            endpoint: "oss-accelerate.aliyuncs.com".into(),
        }
    }

    /// The signatures are those that Alibaba Cloud's own SDK (alibabacloud-oss-v2 1.4.1, for Python)
    /// makes of the same.
    #[test]
    fn the_signature_is_that_of_the_vendors_sdk() {
        let now = "2026-11-30T18:57:30Z".parse().expect("a time");
        for (path, region, content_type, signature) in [
            (
                "acct-1/f-1_a.png",
                "ap-southeast-1",
                "image/png",
                "e985febb7d5556f81400e84bf213f4d1483fbdef999579e9cb0fc27ecb263254",
            ),
            (
                "acct 1/f-2_Überblick (1)+~*.pdf",
                "cn-beijing",
                "application/pdf",
                "bac7a0490353b80da39b85a14fb9929d7300d0af180b46fc81b933351ae57e09",
            ),
        ] {
            let headers = headers(&grant(path, region), content_type, now).expect("headers");
            let wanted = format!(
                "OSS4-HMAC-SHA256 Credential=STS.DEMO/20261130/{region}/oss/aliyun_v4_request,\
                 Signature={signature}"
            );
            assert_eq!(headers[header::AUTHORIZATION], wanted, "{path}");
            assert!(headers[header::AUTHORIZATION].is_sensitive());
            assert!(headers[SECURITY_TOKEN].is_sensitive());
            assert_eq!(headers[DATE], "20261130T185730Z");
            assert_eq!(headers[header::CONTENT_TYPE], content_type);
        }
    }

    #[test]
    fn what_can_be_no_header_is_none() {
        let mut broken = grant("a", "r");
        broken.security_token = "a\nb".into();
        assert!(headers(&broken, "image/png", Timestamp::UNIX_EPOCH).is_none());
    }

    #[test]
    fn a_path_is_escaped_but_for_its_slashes() {
        assert_eq!(escaped("/b/a ü+~*.pdf"), "/b/a%20%C3%BC%2B~%2A.pdf");
    }
}
