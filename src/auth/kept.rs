//! What is needed to send a request once more.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};

/// A copy of a request as it came: without a credential, so that nothing of one account is left on
/// it when it goes to another.
///
/// Nearly always it is thrown away, so it is made to be cheap to write and to drop, not to read:
/// the headers are copied into one buffer. A clone of the header map has two allocations, and each
/// of its values costs as much to share as hundreds of bytes cost to copy: with the 17 headers that
/// OpenAI's clients send, 500 ns instead of 140.
pub(super) struct Kept<B> {
    /// Everything but the headers.
    request: Request<B>,
    /// For each header a mark, name and value. The mark has the lengths of both (16 bits are the most
    /// that a name has), and whether the value is sensitive.
    headers: Vec<u8>,
}

/// The room that most headers need, with their marks; the buffer grows where that is too little.
const USUAL_SIZE: usize = 64;

impl<B: Clone> Kept<B> {
    pub(super) fn new(request: &Request<B>) -> Self {
        let mut headers = Vec::with_capacity(USUAL_SIZE * request.headers().len());
        for (name, value) in request.headers() {
            let name = name.as_str().as_bytes();
            let lengths = ((value.len() as u64) << 16) | name.len() as u64;
            let mark = (lengths << 1) | u64::from(value.is_sensitive());
            headers.extend_from_slice(&mark.to_le_bytes());
            headers.extend_from_slice(name);
            headers.extend_from_slice(value.as_bytes());
        }
        let mut copy = Request::new(request.body().clone());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.extensions_mut() = request.extensions().clone();
        Self { request: copy, headers }
    }

    /// The request as it came; `None` where it had a header that no request can have, which takes
    /// `unsafe` code.
    pub(super) fn into_request(mut self) -> Option<Request<B>> {
        read_headers(self.headers.into(), self.request.headers_mut())?;
        Some(self.request)
    }
}

/// Reads what [`Kept::new`] wrote; the values share the buffer.
fn read_headers(mut buffer: Bytes, headers: &mut HeaderMap) -> Option<()> {
    while let Some(mark) = buffer.first_chunk() {
        let mark = u64::from_le_bytes(*mark);
        let _ = buffer.split_to(size_of_val(&mark));
        let (name, value) = (usize::try_from(mark >> 1 & 0xffff), usize::try_from(mark >> 17));
        let name = HeaderName::from_bytes(&buffer.split_to(name.ok()?)).ok()?;
        let mut value = HeaderValue::from_maybe_shared(buffer.split_to(value.ok()?)).ok()?;
        value.set_sensitive(mark & 1 == 1);
        headers.append(name, value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use http::{Uri, Version, header};
    use proptest::prelude::*;

    use super::*;

    fn kept_and_restored(request: &Request<String>) -> Request<String> {
        Kept::new(request).into_request().expect("safe code made it")
    }

    fn header() -> impl Strategy<Value = (HeaderName, HeaderValue)> {
        // Few names, so that they repeat; some that `http` knows, some that it does not.
        let name = prop_oneof![
            Just(header::ACCEPT),
            Just(header::COOKIE),
            Just(HeaderName::from_static("x-request-id")),
            "[a-z][a-z0-9!#~_.-]{0,70}".prop_map(|name| name.parse().expect("a name")),
        ];
        let bytes = prop::collection::vec(
            prop_oneof![8 => 0x20..=0x7e_u8, 1 => Just(b'\t'), 1 => 0x80..=0xff_u8],
            0..300,
        );
        (name, bytes, any::<bool>()).prop_map(|(name, bytes, is_sensitive)| {
            let mut value = HeaderValue::from_bytes(&bytes).expect("a value");
            value.set_sensitive(is_sensitive);
            (name, value)
        })
    }

    proptest! {
        #[test]
        fn a_request_is_restored_as_it_came(
            headers in prop::collection::vec(header(), 0..20),
            uri in prop::sample::select(vec![
                "/", "*", "/v1/chat/completions", "/a?b=c&d", "/?q", "http://example.org",
                "https://example.org:8443/v1?x=%20", "example.org:443",
            ]),
            method in prop::sample::select(vec!["GET", "POST", "QUERY"]),
            with_extension: bool,
            body in ".*",
        ) {
            let mut request = Request::builder()
                .method(method)
                .uri(uri)
                .version(Version::HTTP_2)
                .body(body)
                .expect("a request");
            if with_extension {
                request.extensions_mut().insert(7_u8);
            }
            for (name, value) in headers {
                request.headers_mut().append(name, value);
            }
            let restored = kept_and_restored(&request);
            prop_assert_eq!(restored.method(), request.method());
            prop_assert_eq!(restored.uri(), request.uri());
            prop_assert_eq!(restored.uri().to_string(), request.uri().to_string());
            prop_assert_eq!(restored.version(), request.version());
            prop_assert_eq!(restored.extensions().get::<u8>().is_some(), with_extension);
            prop_assert_eq!(restored.body(), request.body());
            let all = |request: &Request<String>| -> Vec<_> {
                let headers = request.headers().iter();
                headers.map(|(name, value)| (name.clone(), value.clone(), value.is_sensitive())).collect()
            };
            prop_assert_eq!(all(&restored), all(&request));
        }
    }

    #[test]
    fn the_longest_name_and_a_long_value_are_restored() {
        let name = "n".repeat(usize::from(u16::MAX));
        let request = Request::builder()
            .header(name.as_str(), "v".repeat(1 << 20))
            .header("last", "")
            .body(String::new())
            .expect("a request");
        assert_eq!(kept_and_restored(&request).headers(), request.headers());
    }

    #[test]
    fn a_uri_of_parts_is_restored() {
        let mut request = Request::new(String::new());
        assert_eq!(kept_and_restored(&request).uri(), "/");
        *request.uri_mut() = Uri::from_static("/p").into_parts().path_and_query.expect("p").into();
        assert_eq!(kept_and_restored(&request).uri(), "/p");
    }
}
