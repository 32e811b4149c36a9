//! Request bodies that are compressed (RFC 9110 8.4).
//!
//! A body is decoded while it is read, so the limit on bodies, the pace that they have to keep and
//! the budget of all bodies count what it decodes to.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_compression::{
    tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder},
    zstd::DParameter,
};
use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderMap, HeaderValue,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use http_body::Body as _;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead};
use tokio_util::io::{ReaderStream, StreamReader};
use tower::BoxError;
use tower_qwen::{Error, ErrorKind, openai::error_response};

use super::lanes::MAX_BODY;

/// What a client may choose from (RFC 7694).
const ACCEPTED: &str = "gzip, deflate, br, zstd";

/// By how much a body may grow when it is decoded. Histories and schemas that repeat themselves
/// grow by 10 to 100.
const MAX_RATIO: u64 = 256;
/// Up to this size a body may grow by anything.
const ANY_RATIO_LEN: u64 = 4 * 1024 * 1024;
/// How many codings may be applied one after the other. Each has a window of its own.
const MAX_CODINGS: usize = 3;
/// No window is larger than 8 MiB, as RFC 9659 says for HTTP.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;
/// How much is decoded at a time.
const PIECE: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// What `headers` say of the body, in the order in which it was done; nothing where the body is
    /// as it is.
    ///
    /// # Errors
    ///
    /// What is not read here: an unknown coding, or too many.
    fn all_of(headers: &HeaderMap) -> Result<Vec<Self>, String> {
        let mut codings = Vec::new();
        for line in headers.get_all(CONTENT_ENCODING) {
            let line = String::from_utf8_lossy(line.as_bytes());
            for name in line.split(',').map(str::trim) {
                let coding = match name.to_ascii_lowercase().as_str() {
                    "" | "identity" => continue,
                    // The second is its old name (RFC 9110 8.4.1).
                    "gzip" | "x-gzip" => Self::Gzip,
                    "deflate" => Self::Deflate,
                    "br" => Self::Brotli,
                    "zstd" => Self::Zstd,
                    _ => return Err(format!("the content coding `{name}` is")),
                };
                if codings.len() == MAX_CODINGS {
                    return Err(format!("more than {MAX_CODINGS} content codings are"));
                }
                codings.push(coding);
            }
        }
        Ok(codings)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// What reads the bytes that `encoded` stands for.
    async fn reader<R>(self, mut encoded: R) -> io::Result<Pin<Box<dyn AsyncRead + Send>>>
    where
        R: AsyncBufRead + Send + Unpin + 'static,
    {
        Ok(match self {
            Self::Gzip => {
                let mut decoder = GzipDecoder::new(encoded);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
            // The name means the format of zlib, and some send what is inside of it alone. That
            // never begins with zlib's number of the method, but for a block that no encoder makes.
            Self::Deflate => match encoded.fill_buf().await?.first() {
                Some(first) if first & 0x0f != 8 => Box::pin(DeflateDecoder::new(encoded)),
                _ => Box::pin(ZlibDecoder::new(encoded)),
            },
            Self::Brotli => Box::pin(BrotliDecoder::new(encoded)),
            Self::Zstd => {
                let window = DParameter::window_log_max(MAX_ZSTD_WINDOW_LOG);
                let mut decoder = ZstdDecoder::with_params(encoded, &[window]);
                decoder.multiple_members(true);
                Box::pin(decoder)
            }
        })
    }
}

/// Lets through what can be read, with its body decoded.
pub(crate) async fn decode(mut request: Request, next: Next) -> Response {
    match Coding::all_of(request.headers()) {
        Ok(codings) => {
            request.headers_mut().remove(CONTENT_ENCODING);
            // A body that is empty is not worth decoding, and is not valid in any of them.
            if !codings.is_empty() && !request.body().is_end_stream() {
                request.headers_mut().remove(CONTENT_LENGTH);
                request = request.map(|body| decoded(body, codings));
            }
            next.run(request).await
        }
        Err(unread) => {
            let message =
                format!("{unread} not read here; send one of {ACCEPTED}, or the body as it is");
            let error = Error::new(ErrorKind::UnsupportedMediaType, message);
            let mut response = error_response(&error).into_response();
            let accepted = HeaderValue::from_static(ACCEPTED);
            response.headers_mut().insert(ACCEPT_ENCODING, accepted);
            response
        }
    }
}

/// The bytes that `body` stands for, until there are too many. The coding that was applied last is
/// undone first.
fn decoded(body: Body, codings: Vec<Coding>) -> Body {
    let came = Arc::new(AtomicU64::new(0));
    let sent = body.into_data_stream().inspect_ok({
        let came = Arc::clone(&came);
        move |piece| {
            came.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    let mut pieces = sent.map_err(BoxError::from).boxed();
    for coding in codings.into_iter().rev() {
        pieces = undone(pieces, coding, Arc::clone(&came)).boxed();
    }
    Body::from_stream(pieces)
}

/// What `coding` made `encoded` of, where `came` bytes of the body have come. What lies between two
/// codings has the limits of a body too: it may be large and stand for nothing.
fn undone(
    encoded: BoxStream<'static, Result<Bytes, BoxError>>,
    coding: Coding,
    came: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    let mut taken = 0;
    let encoded = encoded.map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        taken += piece.len() as u64;
        if taken > MAX_BODY as u64 {
            let message = format!("the body is larger than the limit of {MAX_BODY} bytes");
            return Err(io::Error::other(Error::new(ErrorKind::TooLarge, message)));
        }
        Ok(piece)
    });
    let encoded = StreamReader::new(encoded);
    // The first bytes are waited for when the body is read, not before.
    let reader = stream::once(coding.reader(encoded));
    let pieces = reader.map_ok(|reader| ReaderStream::with_capacity(reader, PIECE)).try_flatten();
    let mut len = 0;
    pieces.map(move |piece| {
        let piece = piece.map_err(|error| of_body(error, coding))?;
        len += piece.len() as u64;
        let most = came.load(Ordering::Relaxed).saturating_mul(MAX_RATIO).max(ANY_RATIO_LEN);
        if len > most {
            let message = format!(
                "the body decodes to more than {MAX_RATIO} times its size; send it without \
                 compression"
            );
            return Err(Error::new(ErrorKind::TooLarge, message).into());
        }
        Ok(piece)
    })
}

/// An error of the body below comes out as it was; another one is the decoder's.
fn of_body(error: io::Error, coding: Coding) -> BoxError {
    match error.downcast::<Error>() {
        Ok(own) => own.into(),
        Err(error) => match error.downcast::<axum::Error>() {
            Ok(below) => below.into(),
            Err(error) => {
                let name = coding.name();
                let message = format!("the body is not what its content coding `{name}` says");
                Error::new(ErrorKind::InvalidRequest, message)
                    .with_code("invalid_content_encoding")
                    .with_source(error)
                    .into()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write::{
        BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder,
    };
    use axum::{Router, middleware, routing::post};
    use http_body_util::BodyExt;
    use tokio::io::AsyncWriteExt;
    use tower::ServiceExt;
    use tower_qwen::edge::read_body;

    use super::*;

    macro_rules! encode {
        ($encoder:ident, $text:expr) => {{
            let mut encoder = $encoder::new(Vec::new());
            encoder.write_all($text).await.expect("memory");
            encoder.shutdown().await.expect("memory");
            encoder.into_inner()
        }};
    }

    /// What a route behind the decoder reads, or how it is refused.
    async fn sent(coding: &[&str], body: Vec<u8>) -> Result<Bytes, (u16, String)> {
        let route = post(async |request: Request| {
            assert!(!request.headers().contains_key(CONTENT_ENCODING));
            match read_body(request.into_body(), MAX_BODY, None).await {
                Ok(body) => body.into_response(),
                Err(error) => error_response(&error).into_response(),
            }
        });
        let route = Router::new().route("/", route).layer(middleware::from_fn(decode));
        let mut request = Request::post("/");
        for coding in coding {
            request = request.header(CONTENT_ENCODING, *coding);
        }
        // In pieces, as it comes over a network.
        let pieces: Vec<_> =
            body.chunks(1000).map(|piece| Ok::<_, io::Error>(piece.to_vec())).collect();
        let body = Body::from_stream(stream::iter(pieces));
        let response = route.oneshot(request.body(body).expect("a request")).await;
        let (head, body) = response.expect("infallible").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        if head.status.is_success() {
            return Ok(body);
        }
        assert_eq!(head.status == 415, head.headers.contains_key(ACCEPT_ENCODING));
        Err((head.status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
    }

    /// Requests: whatever is encoded is read.
    #[tokio::test]
    async fn a_body_is_read_in_every_coding() {
        let text = r#"{"model":"m","messages":[{"role":"user","content":"Grüße"}]}"#.repeat(5000);
        let text = text.as_bytes();
        let gzip = encode!(GzipEncoder, text);
        let zstd = encode!(ZstdEncoder, text);
        let brotli = encode!(BrotliEncoder, text);
        let in_two = encode!(ZlibEncoder, &brotli);
        let members = [encode!(GzipEncoder, &text[..99]), encode!(GzipEncoder, &text[99..])];
        let frames = [encode!(ZstdEncoder, &text[..99]), encode!(ZstdEncoder, &text[99..])];
        for (kind, coding, body) in [
            ("none", &[][..], text.to_vec()),
            ("an empty name", &[""], text.to_vec()),
            ("identity", &["identity"], text.to_vec()),
            ("gzip", &["gzip"], gzip.clone()),
            ("another case", &[" GZip "], gzip.clone()),
            ("an old name", &["x-gzip"], gzip.clone()),
            ("identity beside it", &["identity, gzip"], gzip.clone()),
            ("over two lines", &["gzip", "identity"], gzip.clone()),
            ("several members", &["gzip"], members.concat()),
            ("deflate", &["deflate"], encode!(ZlibEncoder, text)),
            ("deflate without zlib", &["deflate"], encode!(DeflateEncoder, text)),
            ("br", &["br"], brotli.clone()),
            ("zstd", &["zstd"], zstd.clone()),
            ("several frames", &["zstd"], frames.concat()),
            ("one in another", &["gzip, zstd"], encode!(ZstdEncoder, &gzip)),
            ("over two lines", &["zstd", "x-gzip"], encode!(GzipEncoder, &zstd)),
            ("twice", &["br,identity, ,BR"], encode!(BrotliEncoder, &brotli)),
            ("three", &["br", "deflate, gzip"], encode!(GzipEncoder, &in_two)),
        ] {
            let read = sent(coding, body).await;
            assert!(read.as_ref().is_ok_and(|read| read == text), "{kind}: {:?}", read.err());
        }
        let blank = vec![b' '; ANY_RATIO_LEN as usize];
        let read = sent(&["gzip"], encode!(GzipEncoder, &blank)).await;
        assert_eq!(read.expect("a small body may grow by anything"), blank);
    }

    /// Requests: what cannot be read, and what would take too much, is refused with the reason.
    #[tokio::test]
    async fn a_body_that_cannot_be_read_is_refused() {
        let text = b"{}".repeat(5000);
        let gzip = encode!(GzipEncoder, &text);
        let zstd = encode!(ZstdEncoder, &text);
        let twice = encode!(GzipEncoder, &gzip);
        let turned = encode!(GzipEncoder, &zstd);
        let cut = encode!(GzipEncoder, &gzip[..gzip.len() - 9]);
        let bomb = vec![b' '; MAX_BODY + 1];
        let garbage = [&gzip[..], b"garbage"].concat();
        let bomb_in_two = encode!(ZstdEncoder, &encode!(GzipEncoder, &bomb));
        // Members that are empty stand for nothing, however many there are.
        let nothing = encode!(ZstdEncoder, &encode!(GzipEncoder, b"").repeat(1_000_000));
        // Digits do not compress by much, so the limit comes before the ratio.
        let long: Vec<_> = (0_u32..5_000_000).flat_map(|n| n.to_le_bytes()).collect();
        let long = long.repeat(2);
        for (kind, coding, body, status, says) in [
            ("unknown", &["snappy"][..], gzip.clone(), 415, "`snappy`"),
            ("unknown", &["aws-chunked"], gzip.clone(), 415, "`aws-chunked`"),
            ("an unknown one too", &["identity, x"], gzip.clone(), 415, "coding `x` is"),
            ("an unknown one last", &["gzip, snappy"], gzip.clone(), 415, "coding `snappy` is"),
            ("an unknown one first", &["lz4", "gzip, zstd"], gzip.clone(), 415, "coding `lz4` is"),
            ("too many", &["gzip, br, gzip, gzip"], gzip.clone(), 415, "more than 3 content"),
            ("too many lines", &["gzip"; 9], gzip.clone(), 415, "more than 3 content"),
            ("not the last of two", &["gzip, br"], gzip.clone(), 400, "coding `br`"),
            ("not the first of two", &["br, gzip"], twice.clone(), 400, "coding `br`"),
            ("the wrong order", &["gzip, zstd"], turned, 400, "coding `zstd`"),
            ("once, and not twice", &["gzip", "gzip"], gzip.clone(), 400, "coding `gzip`"),
            ("cut inside", &["gzip, gzip"], cut, 400, "coding `gzip`"),
            ("a bomb in another", &["gzip, zstd"], bomb_in_two, 413, "256 times"),
            ("a bomb that is nothing", &["gzip, zstd"], nothing, 413, "256 times"),
            ("not that coding", &["gzip"], text.clone(), 400, "coding `gzip`"),
            ("not that coding", &["br"], gzip.clone(), 400, "coding `br`"),
            ("not that coding", &["zstd"], text.clone(), 400, "coding `zstd`"),
            ("not that coding", &["deflate"], gzip.clone(), 400, "coding `deflate`"),
            ("cut", &["gzip"], gzip[..gzip.len() - 9].to_vec(), 400, "coding `gzip`"),
            ("cut", &["zstd"], zstd[..zstd.len() - 9].to_vec(), 400, "coding `zstd`"),
            ("more behind it", &["gzip"], garbage, 400, "coding `gzip`"),
            ("a bomb", &["gzip"], encode!(GzipEncoder, &bomb), 413, "256 times"),
            ("a bomb", &["deflate"], encode!(ZlibEncoder, &bomb), 413, "256 times"),
            ("a bomb", &["br"], encode!(BrotliEncoder, &bomb), 413, "256 times"),
            ("a bomb", &["zstd"], encode!(ZstdEncoder, &bomb), 413, "256 times"),
            ("too large", &["zstd"], encode!(ZstdEncoder, &long), 413, "limit of 33554432"),
        ] {
            let (refused, said) = sent(coding, body).await.expect_err(kind);
            assert_eq!(refused, status, "{kind}: {said}");
            assert!(said.contains(says), "{kind}: {said}");
        }
    }

    /// Without a limit on windows this one would have the decoder ask for 128 MiB.
    #[tokio::test]
    async fn a_window_is_no_larger_than_http_allows() {
        let mut encoder = ZstdEncoder::with_quality_and_params(
            Vec::new(),
            async_compression::Level::Default,
            &[async_compression::zstd::CParameter::window_log(24)],
        );
        encoder.write_all(&[7; 100]).await.expect("memory");
        encoder.flush().await.expect("memory");
        encoder.shutdown().await.expect("memory");
        let (status, said) = sent(&["zstd"], encoder.into_inner()).await.expect_err("16 MiB");
        assert_eq!(status, 400, "{said}");
    }
}
