//! `--debug-stream`: what streams through the stacks, in the log.
//!
//! The layers that tell of it stand in every stack, at [`place`]s; here is who is told of what. They cost
//! nothing to speak of as long as nobody listens to their target.

use std::convert::Infallible;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{Extensions, HeaderName},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    inspect::{self, InspectLayer, View},
    openai::error_response,
};
use tracing::{Level, enabled};

use super::config::DebugStream;

/// With which a client asks for its own request, where the operator lets it.
pub(crate) const X_QWEN_DEBUG_STREAM: HeaderName = HeaderName::from_static("x-qwen-debug-stream");

/// The layer of a place.
pub(crate) const fn place(name: &'static str) -> InspectLayer {
    InspectLayer::new(name).view_by(view)
}

/// What is told of a request: nothing of those that are nobody's, such as for the list of models.
fn view(request: &Extensions) -> View {
    request.get::<Shown>().map_or(View::None, |shown| shown.0)
}

/// Among the extensions of a request of which something is told.
#[derive(Clone, Copy)]
struct Shown(View);

/// Says how much is told of each request, and tells what its client gets. That is done here, where a box
/// more is no matter, and not in the edges' own stacks.
pub(crate) async fn choose(
    State(mode): State<DebugStream>,
    mut request: Request,
    next: Next,
) -> Response {
    if enabled!(target: inspect::TARGET, Level::TRACE) {
        match chosen(mode, &mut request) {
            Ok(View::None) => {}
            Ok(view) => {
                request.extensions_mut().insert(Shown(view));
                let rest = service_fn(move |request| {
                    let next = next.clone();
                    async move { Ok::<_, Infallible>(next.run(request).await) }
                });
                let Ok(response) = place("client").layer(rest).oneshot(request).await;
                return response.map(Body::new);
            }
            Err(error) => return error_response(&error).into_response(),
        }
    }
    next.run(request).await
}

/// # Errors
///
/// For a header that asks for what there is not, or for more than the operator lets it.
fn chosen(mode: DebugStream, request: &mut Request) -> Result<View, Error> {
    let most = match mode {
        // Somebody listens all the same, by --log.
        DebugStream::Off | DebugStream::Events => return Ok(View::Events),
        DebugStream::Content => return Ok(View::Content),
        DebugStream::Header => View::Events,
        DebugStream::HeaderContent => View::Content,
    };
    // It is for this proxy, and not for what stands behind it.
    let Some(wanted) = request.headers_mut().remove(&X_QWEN_DEBUG_STREAM) else {
        return Ok(View::None);
    };
    match wanted.as_bytes() {
        b"events" => Ok(View::Events),
        b"content" if most == View::Content => Ok(View::Content),
        b"content" => Err(Error::new(
            ErrorKind::Permission,
            "the operator lets requests ask for `x-qwen-debug-stream: events` alone",
        )),
        _ => {
            let message = "the header x-qwen-debug-stream is neither `events` nor `content`";
            Err(Error::new(ErrorKind::InvalidRequest, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_asks_for_no_more_than_the_operator_lets_it() {
        let chosen = |mode, wanted: Option<&str>| {
            let mut request = Request::new(Body::empty());
            if let Some(wanted) = wanted {
                let wanted = wanted.parse().expect("a value");
                request.headers_mut().insert(X_QWEN_DEBUG_STREAM, wanted);
            }
            let chosen = chosen(mode, &mut request).map_err(|error| error.status().as_u16());
            let is_by_header = matches!(mode, DebugStream::Header | DebugStream::HeaderContent);
            assert!(!is_by_header || !request.headers().contains_key(X_QWEN_DEBUG_STREAM));
            chosen
        };
        use DebugStream::{Content, Events, Header, HeaderContent, Off};
        for (mode, wanted, view) in [
            (Off, None, Ok(View::Events)),
            (Events, Some("content"), Ok(View::Events)),
            (Content, Some("events"), Ok(View::Content)),
            (Header, None, Ok(View::None)),
            (Header, Some("events"), Ok(View::Events)),
            (Header, Some("content"), Err(403)),
            (Header, Some("1"), Err(400)),
            (HeaderContent, None, Ok(View::None)),
            (HeaderContent, Some("events"), Ok(View::Events)),
            (HeaderContent, Some("content"), Ok(View::Content)),
        ] {
            assert_eq!(chosen(mode, wanted), view, "{mode:?}, {wanted:?}");
        }
    }
}
