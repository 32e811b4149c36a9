//! What is kept of a request that is sent, to send it once more.

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    uri::PathAndQuery,
};

/// What is needed to send a request once more, as it came: without a credential, so that nothing
/// of one account is left on it when it goes to another.
///
/// Nearly always it is thrown away, so it is made to be cheap to write and to drop, not to read:
/// path and headers are copied into one buffer. A clone of the header map has two allocations,
/// and each of its values costs as much to share as hundreds of bytes cost to copy. And it is
/// small, since it is moved several times.
pub(super) struct Kept<B> {
    unusual: Option<Box<Unusual>>,
    /// The path, if it is more than `/`; and then the headers: for each a [`Mark`], name and value.
    buffer: Vec<u8>,
    path: u16,
    is_post: bool,
    version: Version,
    body: B,
}

/// What is kept where the method is neither GET nor POST, the URI more than a path, or anything
/// among the extensions.
struct Unusual {
    method: Method,
    uri: Uri,
    extensions: Extensions,
}

/// The room that most headers need, with their marks; the buffer grows where that is too little.
const USUAL_SIZE: usize = 64;

/// The lengths of a header's name (16 bits are the most that one has) and value, and whether the
/// value is sensitive.
struct Mark {
    name: usize,
    value: usize,
    is_sensitive: bool,
}

impl Mark {
    const SIZE: usize = size_of::<u64>();

    fn to_bytes(&self) -> [u8; Self::SIZE] {
        let lengths = ((self.value as u64) << 16) | self.name as u64;
        ((lengths << 1) | u64::from(self.is_sensitive)).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let mark = u64::from_le_bytes(bytes);
        Some(Self {
            name: usize::try_from((mark >> 1) & 0xffff).ok()?,
            value: usize::try_from(mark >> 17).ok()?,
            is_sensitive: mark & 1 == 1,
        })
    }
}

impl<B: Clone> Kept<B> {
    pub(super) fn new(request: &Request<B>) -> Self {
        let headers = request.headers();
        let path = usual_path(request);
        let unusual = path.is_none().then(|| {
            Box::new(Unusual {
                method: request.method().clone(),
                uri: request.uri().clone(),
                extensions: request.extensions().clone(),
            })
        });
        let path = match path {
            // What a new request has, and so most that do not come from the wire.
            None | Some("/") => "",
            Some(path) => path,
        };
        let mut buffer = Vec::with_capacity(path.len() + USUAL_SIZE * headers.len());
        buffer.extend_from_slice(path.as_bytes());
        for (name, value) in headers {
            let name = name.as_str().as_bytes();
            let is_sensitive = value.is_sensitive();
            let mark = Mark { name: name.len(), value: value.len(), is_sensitive };
            buffer.extend_from_slice(&mark.to_bytes());
            buffer.extend_from_slice(name);
            buffer.extend_from_slice(value.as_bytes());
        }
        Self {
            unusual,
            buffer,
            path: u16::try_from(path.len()).expect("a longer one is not usual"),
            is_post: request.method() == Method::POST,
            version: request.version(),
            body: request.body().clone(),
        }
    }

    /// The request as it came; `None` where it had a header that no request can have, which takes
    /// `unsafe` code.
    pub(super) fn into_request(self) -> Option<Request<B>> {
        let mut buffer = Bytes::from(self.buffer);
        let path = buffer.split_to(self.path.into());
        let mut request = Request::new(self.body);
        *request.version_mut() = self.version;
        if let Some(unusual) = self.unusual {
            *request.method_mut() = unusual.method;
            *request.uri_mut() = unusual.uri;
            *request.extensions_mut() = unusual.extensions;
        } else {
            if self.is_post {
                *request.method_mut() = Method::POST;
            }
            if !path.is_empty() {
                *request.uri_mut() = PathAndQuery::from_maybe_shared(path).ok()?.into();
            }
        }
        read_headers(buffer, request.headers_mut())?;
        Some(request)
    }
}

/// The path and query of a request that has no more than these, its headers and its body.
fn usual_path<B>(request: &Request<B>) -> Option<&str> {
    let uri = request.uri();
    let path = uri.path_and_query()?;
    let is_usual = (request.method() == Method::POST || request.method() == Method::GET)
        && uri.scheme().is_none()
        && uri.authority().is_none()
        && request.extensions().is_empty()
        && path.as_str().len() <= usize::from(u16::MAX);
    is_usual.then_some(path.as_str())
}

/// Reads what [`Kept::new`] wrote; the values share the buffer.
fn read_headers(mut buffer: Bytes, headers: &mut HeaderMap) -> Option<()> {
    while let Some(mark) = buffer.first_chunk() {
        let mark = Mark::from_bytes(*mark)?;
        let _ = buffer.split_to(Mark::SIZE);
        let name = HeaderName::from_bytes(&buffer.split_to(mark.name)).ok()?;
        let mut value = HeaderValue::from_maybe_shared(buffer.split_to(mark.value)).ok()?;
        value.set_sensitive(mark.is_sensitive);
        headers.append(name, value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use http::header;
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
