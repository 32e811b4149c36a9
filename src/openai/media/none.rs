use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use crate::{Error, ErrorKind, FullBody, chat::AnswerKind, openai::error_response};

/// Answers every request for a picture or a film with an error that says who makes them: for an upstream
/// that is known to make none, such as vLLM.
///
/// The status is 501, with `x-should-retry: false`. The request's body is not read.
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_qwen::{chat::AnswerKind, openai::media::NoMedia};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let response = NoMedia::new("vLLM", AnswerKind::Image).oneshot(Request::new(())).await?;
/// assert_eq!(response.status(), 501);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NoMedia {
    upstream: &'static str,
    kind: AnswerKind,
}

impl NoMedia {
    /// For `upstream`, by the name that a client knows it by, and what is asked of it.
    #[must_use]
    pub const fn new(upstream: &'static str, kind: AnswerKind) -> Self {
        Self { upstream, kind }
    }
}

impl<B> Service<Request<B>> for NoMedia {
    type Response = Response<FullBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<FullBody>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<B>) -> Self::Future {
        ready(Ok(error_response(&no_media(self.upstream, self.kind))))
    }
}

/// That `upstream` makes none, and who does.
pub(crate) fn no_media(upstream: &str, kind: AnswerKind) -> Error {
    let (what, code) = match kind {
        AnswerKind::Video => ("videos", "videos_not_supported"),
        _ => ("images", "images_not_supported"),
    };
    let message = format!(
        "this upstream ({upstream}) makes no {what}; chat.qwen.ai makes them, and so does DashScope"
    );
    Error::new(ErrorKind::Unsupported, message).with_code(code)
}
