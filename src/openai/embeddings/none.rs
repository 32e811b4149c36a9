use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use crate::{Error, ErrorKind, FullBody, openai::error_response};

/// Answers every request for embeddings with an error that says who has them: for an upstream
/// that is known to have none, such as chat.qwen.ai.
///
/// The status is 501, with `x-should-retry: false`. The request's body is not read.
///
/// ```
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_qwen::openai::embeddings::NoEmbeddings;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let response = NoEmbeddings::new("chat.qwen.ai").oneshot(Request::new(())).await?;
/// assert_eq!(response.status(), 501);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NoEmbeddings {
    upstream: &'static str,
}

impl NoEmbeddings {
    /// For `upstream`, by the name that a client knows it by.
    #[must_use]
    pub const fn new(upstream: &'static str) -> Self {
        Self { upstream }
    }
}

impl<B> Service<Request<B>> for NoEmbeddings {
    type Response = Response<FullBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<FullBody>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<B>) -> Self::Future {
        ready(Ok(error_response(&no_embeddings(self.upstream))))
    }
}

/// That `upstream` has none, and who has.
pub(super) fn no_embeddings(upstream: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "this upstream ({upstream}) has no embeddings; DashScope serves them \
             (text-embedding-v4), and so do vLLM, SGLang, Ollama, llama.cpp and LM Studio with \
             an embedding model such as Qwen3-Embedding"
        ),
    )
    .with_code("embeddings_not_supported")
}
