//! What the adapters share in dealing with the HTTP service below them.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, header};
use http_body::Body;
use tower_service::Service;

use crate::{
    BoxError, CredentialHeaders, Error, ErrorKind,
    budget::Budget,
    chat::ChatRequest,
    clock,
    sse::{BOM, progress::Limits},
};

/// The error of an HTTP service or body as one of ours; what nobody knows means that upstream could
/// not be reached.
pub(crate) fn error(error: impl Into<BoxError>) -> Error {
    Error::from_boxed(error.into(), ErrorKind::Upstream, "the connection to the upstream failed")
}

/// The headers of an envelope that travel on to upstream because of their names; all whose names
/// begin with `bx-` do so too. What traces a request goes to servers for programs alone. The [module
/// above](super#headers) documents the list.
static TRAVELLING: [(HeaderName, Secrecy); 5] = [
    (header::AUTHORIZATION, Secrecy::Secret),
    (header::COOKIE, Secrecy::Secret),
    (HeaderName::from_static("x-request-id"), Secrecy::Public),
    (HeaderName::from_static("traceparent"), Secrecy::Public),
    (HeaderName::from_static("tracestate"), Secrecy::Public),
];

/// Whether the value of a header is marked sensitive.
#[derive(Clone, Copy, PartialEq)]
enum Secrecy {
    /// It is, as it proves who asks.
    Secret,
    /// It traces a request.
    Public,
}

/// Whether a header of the envelope travels on to upstream, and as what.
fn travels(name: &HeaderName) -> Option<Secrecy> {
    let listed = TRAVELLING.iter().find(|(listed, _)| listed == name);
    listed
        .map(|(_, secrecy)| *secrecy)
        .or_else(|| name.as_str().starts_with("bx-").then_some(Secrecy::Secret))
}

/// The headers that a request to upstream takes over: those of the envelope that travel, and the
/// credential in place of what it names too.
pub(crate) fn headers(envelope: &HeaderMap, credential: Option<&CredentialHeaders>) -> HeaderMap {
    kept(envelope, credential, |_| true)
}

/// The same of a request to chat.qwen.ai: no page of it sends what traces a request of a client's.
#[cfg(feature = "web")]
pub(crate) fn page_headers(
    envelope: &HeaderMap,
    credential: Option<&CredentialHeaders>,
) -> HeaderMap {
    kept(envelope, credential, |secrecy| secrecy == Secrecy::Secret)
}

fn kept(
    envelope: &HeaderMap,
    credential: Option<&CredentialHeaders>,
    takes: impl Fn(Secrecy) -> bool,
) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for (name, value) in envelope {
        if let Some(secrecy) = travels(name).filter(|secrecy| takes(*secrecy)) {
            let mut value = value.clone();
            // Its name decides, whatever a layer above has marked.
            value.set_sensitive(secrecy == Secrecy::Secret);
            kept.append(name, value);
        }
    }
    if let Some(credential) = credential {
        credential.apply(&mut kept);
    }
    kept
}

/// How long an answer to `request` may bring no event, of an adapter that is set to `limits`: where a
/// layer above sees to that, there is no limit of time here.
pub(crate) fn limits(limits: Limits, request: &ChatRequest) -> Limits {
    match request.is_timed {
        true => Limits { idle: None, ..limits },
        false => limits,
    }
}

/// Waits until `service` takes a request, then hands it one.
pub(crate) async fn send<S, R>(service: &mut S, request: R) -> Result<S::Response, Error>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(error)?;
    service.call(request).await.map_err(error)
}

/// What was read of a body that is not a stream of events.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) bytes: Bytes,
    /// Whether it is the whole body.
    pub(crate) complete: bool,
}

/// Why a body was not read to its end.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "compatible"),
    allow(dead_code, reason = "chat.qwen.ai's answers come whole as pages only, cut or not")
)]
pub(crate) enum Cut {
    /// What came of it was enough.
    Enough,
    /// It is longer than so many bytes.
    TooLong(usize),
    /// It took longer than this.
    TooSlow(Duration),
    /// It broke off.
    Broken(BoxError),
}

#[cfg(feature = "compatible")]
impl Cut {
    /// The error of an answer that was needed whole.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Enough => Error::new(ErrorKind::Internal, "the answer was not read to its end"),
            Self::TooLong(limit) => Error::new(
                ErrorKind::Truncated,
                format!("the upstream's answer is larger than the {limit} bytes that are read"),
            ),
            Self::TooSlow(deadline) => Error::new(
                ErrorKind::Timeout,
                format!(
                    "the upstream's answer did not end within {} seconds of its beginning",
                    deadline.as_secs()
                ),
            )
            .with_fate(crate::Fate::Abandoned),
            Self::Broken(cause) => match error(cause) {
                broken if broken.kind() == ErrorKind::Upstream => {
                    Error::new(ErrorKind::Truncated, "the upstream's answer broke off")
                        .with_source(broken)
                }
                known => known,
            },
        }
    }
}

/// Reads `body` to its end, or to `limit` bytes, or until `deadline` has passed.
///
/// Punish pages that are asked for as a stream may never end, so that what came until then
/// has to do. The same goes for a body that breaks off: its head says what it was.
pub(crate) async fn read<B>(body: B, limit: usize, deadline: Duration) -> Read
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (bytes, cut) = read_until(body, limit, deadline, |_| false).await;
    Read { bytes, complete: cut.is_none() }
}

/// Reads as [`read`] does, or until `enough` says of all that came so far that it is; says why
/// not to the end, where it is not.
///
/// A byte order mark at the beginning is left out: JSON has no place for it, and some servers write
/// one.
///
/// `enough` is asked for every frame, so it must not look at all of them again.
pub(crate) async fn read_until<B>(
    body: B,
    limit: usize,
    deadline: Duration,
    enough: impl Fn(&[u8]) -> bool,
) -> (Bytes, Option<Cut>)
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut budget = Budget::new();
    let reading = async {
        let mut next = |cx: &mut Context<'_>| {
            ready!(budget.poll_left(cx));
            let frame = body.as_mut().poll_frame(cx);
            match &frame {
                Poll::Pending => budget.renew(),
                Poll::Ready(Some(Ok(frame))) => {
                    budget.spend(frame.data_ref().map_or(0, Bytes::len))
                }
                Poll::Ready(_) => {}
            }
            frame
        };
        while let Some(frame) = poll_fn(&mut next).await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Some(Cut::Broken(error.into())),
            };
            let Ok(mut data) = frame.into_data() else { continue };
            let room = limit - joined.len() - first.len();
            let fits = data.len() <= room;
            data.truncate(room);
            // The usual body is one frame: it is taken as it is.
            if first.is_empty() && joined.is_empty() {
                first = data;
            } else {
                joined.extend_from_slice(&std::mem::take(&mut first));
                joined.extend_from_slice(&data);
            }
            if !fits {
                return Some(Cut::TooLong(limit));
            }
            if enough(if joined.is_empty() { &first } else { &joined }) {
                return Some(Cut::Enough);
            }
        }
        None
    };
    // What was read is what counts, whether or not the deadline passed.
    let cut = clock::within(deadline, reading).await.unwrap_or(Some(Cut::TooSlow(deadline)));
    let mut bytes = if joined.is_empty() { first } else { joined.freeze() };
    if bytes.starts_with(BOM) {
        bytes.advance(BOM.len());
    }
    (bytes, cut)
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, error::Error as StdError, io};

    use futures_util::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    fn body(parts: &[&'static str]) -> impl Body<Data = Bytes, Error = Infallible> + use<> {
        let frames: Vec<_> =
            parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))).collect();
        StreamBody::new(stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_or_to_the_limit() {
        let read_all = read(body(&["ab", "cd", "e"]), 5, Duration::from_secs(1)).await;
        assert_eq!(read_all.bytes, "abcde");
        assert!(read_all.complete);
        let cut = read(body(&["ab", "cd", "e"]), 3, Duration::from_secs(1)).await;
        assert_eq!(cut.bytes, "abc");
        assert!(!cut.complete);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_left_at_the_deadline() {
        let frames = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x")))]);
        let never = StreamBody::new(frames.chain(stream::pending()));
        let read = read(never, 10, Duration::from_secs(9)).await;
        assert_eq!(read.bytes, "x");
        assert!(!read.complete);
    }

    #[test]
    fn what_is_listed_travels_whatever_is_marked() {
        let secret = ["authorization", "cookie", "bx-ua"];
        let public = ["x-request-id", "traceparent", "tracestate"];
        let own = ["accept", "host", "user-agent", "x-api-key", "baggage"];
        for marked in [false, true] {
            let mut envelope = HeaderMap::new();
            for name in secret.iter().chain(&public).chain(&own) {
                let mut value: http::HeaderValue = "v".parse().unwrap();
                value.set_sensitive(marked);
                envelope.insert(HeaderName::from_static(name), value);
            }
            let kept = headers(&envelope, None);
            assert_eq!(kept.len(), secret.len() + public.len());
            assert!(secret.iter().all(|name| kept[*name].is_sensitive()));
            assert!(public.iter().all(|name| !kept[*name].is_sensitive()));
            let of_page = page_headers(&envelope, None);
            assert_eq!(of_page.len(), secret.len());
            assert!(secret.iter().all(|name| of_page[*name].is_sensitive()));
        }
    }

    #[test]
    fn a_credential_takes_the_place_of_the_envelopes() {
        let mut envelope = HeaderMap::new();
        for (name, value) in [("cookie", "a=1"), ("cookie", "b=2"), ("user-agent", "client/1")] {
            envelope.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        envelope.insert("bx-v", "2".parse().unwrap());
        let credential = CredentialHeaders::new([
            (header::COOKIE, "token=own".parse().unwrap()),
            (header::USER_AGENT, "browser/1".parse().unwrap()),
        ]);
        let kept = headers(&envelope, Some(&credential));
        assert_eq!(kept.get_all("cookie").iter().collect::<Vec<_>>(), ["token=own"]);
        assert_eq!(
            (&kept["user-agent"], &kept["bx-v"]),
            (&"browser/1".parse().unwrap(), &"2".parse().unwrap())
        );
    }

    #[test]
    fn an_error_keeps_its_kind_through_a_wrapper() {
        #[derive(Debug)]
        struct Wrapper(Error);
        impl std::fmt::Display for Wrapper {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("wrapped")
            }
        }
        impl StdError for Wrapper {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&self.0)
            }
        }
        let inner = || Error::new(ErrorKind::Quota, "used up");
        assert!(error(inner()).is_quota());
        assert!(error(Wrapper(inner())).is_quota());
        assert!(error(io::Error::from(io::ErrorKind::TimedOut)).is_timeout());
        assert_eq!(error("else").kind(), ErrorKind::Upstream);
    }
}
