//! What OpenAI's API, and those like it, have beside chats: speech, transcriptions, reranking.
//!
//! Nothing of it is translated. A server that has the route is sent the request as it is, and what
//! has none is answered with 501 and with who has.

use std::{convert::Infallible, future::ready};

use axum::{
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use memchr::memmem;
use multer::Multipart;
use tower::{ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, edge,
    openai::{error_response, media},
    qwen::compatible::Server,
};

use super::lanes::Route;

/// One of these routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// `/v1/audio/speech`.
    Speech,
    /// `/v1/audio/transcriptions`.
    Transcriptions,
    /// `/v1/audio/translations`.
    Translations,
    /// `/v1/rerank`.
    Rerank,
}

impl Beside {
    /// Where `server` has it, below the base URL of its compatible API; `None` where it is known to
    /// have none.
    pub(crate) const fn path(self, server: Server) -> Option<&'static str> {
        Some(match (self, server) {
            (Self::Rerank, Server::Generic | Server::Vllm | Server::SgLang | Server::LlamaCpp) => {
                "/rerank"
            }
            (Self::Speech, Server::Generic | Server::Vllm) => "/audio/speech",
            (
                Self::Transcriptions,
                Server::Generic | Server::Vllm | Server::SgLang | Server::LlamaCpp,
            ) => "/audio/transcriptions",
            (Self::Translations, Server::Generic | Server::Vllm) => "/audio/translations",
            _ => return None,
        })
    }

    /// That `upstream` has none, and who has.
    fn unsupported(self, upstream: &str) -> Error {
        let (what, who, code) = match self {
            Self::Speech => (
                "makes no speech from text",
                "vLLM does, where it serves a model for it; DashScope's speech models have an API of \
                 their own, which is not spoken here",
                "speech_not_supported",
            ),
            Self::Transcriptions => (
                "transcribes no audio here",
                "vLLM, SGLang and llama.cpp do, with a model for it; DashScope's qwen3-asr-flash \
                 takes the audio as `input_audio` of a message in /v1/chat/completions",
                "transcriptions_not_supported",
            ),
            Self::Translations => (
                "translates no audio here",
                "vLLM does, with a model for it; DashScope's qwen3-omni models take the audio as \
                 `input_audio` of a message in /v1/chat/completions",
                "translations_not_supported",
            ),
            Self::Rerank => (
                "reranks no documents",
                "DashScope does (qwen3-rerank), and so do vLLM, SGLang and llama.cpp with a model \
                 such as Qwen3-Reranker",
                "rerank_not_supported",
            ),
        };
        let message = format!("this upstream ({upstream}) {what}; {who}");
        Error::new(ErrorKind::Unsupported, message).with_code(code)
    }

    /// The route of an upstream that has none.
    pub(crate) fn none(self, upstream: &'static str) -> Route {
        Route::new(service_fn(move |_: Request| {
            ready(Ok(error_response(&self.unsupported(upstream)).into_response()))
        }))
    }

    /// `route`, which sends requests to `upstream`: where that has no such route after all, since it
    /// was started without a model for it, the client is told who has.
    pub(crate) fn over(self, route: Route, upstream: &'static str) -> Route {
        Route::new(service_fn(move |request: Request| {
            let route = route.clone();
            async move {
                // Of other methods nobody is asked.
                let is_asked = request.method() == Method::POST;
                let response = route.oneshot(request).await?;
                Ok(if is_asked { self.known(response, upstream).await } else { response })
            }
        }))
    }

    async fn known(self, response: Response, upstream: &str) -> Response {
        /// The largest body that can say no more than that there is no such route.
        const SAID: usize = 1024;

        let status = response.status();
        if !matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
        ) {
            return response;
        }
        let (head, body) = response.into_parts();
        let Ok(said) = axum::body::to_bytes(body, ERROR_LEN).await else {
            let error = Error::new(ErrorKind::Upstream, "the upstream's error broke off");
            return error_response(&error.with_status(status)).into_response();
        };
        // A model that is not there is another thing.
        let is_of_route = said.len() <= SAID
            && (status != StatusCode::NOT_FOUND
                || said.is_empty()
                || NO_ROUTE.iter().any(|words| memmem::find(&said, words).is_some()));
        match is_of_route {
            true => error_response(&self.unsupported(upstream)).into_response(),
            false => Response::from_parts(head, said.into()),
        }
    }
}

/// How much of an error is read.
const ERROR_LEN: usize = 64 * 1024;

/// What servers say of a path that they have not: DashScope, and those of FastAPI, llama.cpp and Go.
const NO_ROUTE: [&[u8]; 4] = [
    br#""message":"Not Found""#,
    br#"{"detail":"Not Found"}"#,
    b"File Not Found",
    b"404 page not found",
];

/// The `model` of a form with files; `None` where `headers` and `body` are no such form, or it names
/// none. What is wrong with the form is for the upstream to say.
async fn model_of_form(headers: &HeaderMap, body: &Bytes) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let boundary = multer::parse_boundary(kind).ok()?;
    let whole = stream::once(ready(Ok::<_, Infallible>(body.clone())));
    let mut form = Multipart::new(whole, boundary);
    let mut found = None;
    while let Some(field) = form.next_field().await.ok()? {
        if field.name() != Some("model") {
            continue;
        }
        // Which of two an upstream would read nobody knows.
        if found.replace(field.text().await.ok()?).is_some() {
            return None;
        }
    }
    found.filter(|model| !model.trim().is_empty() && model.len() <= edge::MAX_MODEL_LEN)
}

/// Whether it is such a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    kind.to_ascii_lowercase().starts_with(b"multipart/form-data")
}

/// The model that a body asks for, be it JSON or a form; `None` where it names none.
///
/// # Errors
///
/// Where it cannot be read. A form of images and videos is read as their edges do, so that what is
/// chosen by is what they find.
pub(crate) async fn named_model(head: &Parts, body: &Bytes) -> Result<Option<String>, Error> {
    let path = head.uri.path();
    let is_media = ["/images/", "/videos"].iter().any(|part| path.contains(part));
    match is_form(&head.headers) {
        true if is_media => media::model(&head.headers, body).await,
        true => Ok(model_of_form(&head.headers, body).await),
        false => edge::model(body),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::HeaderValue};
    use http_body_util::BodyExt;

    use super::*;

    fn form(parts: &[(&str, &str)]) -> Bytes {
        let mut body = String::new();
        for (head, value) in parts {
            body += &format!("--XX\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n");
        }
        (body + "--XX--\r\n").into()
    }

    async fn model(kind: &'static str, body: &Bytes) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        model_of_form(&headers, body).await
    }

    #[tokio::test]
    async fn the_model_of_a_form_is_found() {
        const KIND: &str = "multipart/form-data; boundary=XX";
        let file = ("name=\"file\"; filename=\"a.wav\"", "RIFF name=\"model\"\r\n\r\nnone");
        let usual = form(&[file, ("name=\"model\"", "whisper-1")]);
        for kind in [KIND, "Multipart/Form-Data;charset=utf-8; boundary=\"XX\""] {
            assert_eq!(model(kind, &usual).await.as_deref(), Some("whisper-1"));
        }
        for (kind, body) in [
            ("application/json", &usual),
            ("multipart/form-data", &usual),
            ("multipart/form-data; boundary=", &usual),
            ("multipart/form-data; boundary=YY", &usual),
            (KIND, &form(&[file])),
            (KIND, &form(&[("name=\"model\"", " ")])),
            (KIND, &form(&[("name=\"model\"", "a"), ("name=\"model\"", "b")])),
            (KIND, &form(&[("name=\"model\"", &"m".repeat(257))])),
            (KIND, &usual.slice(..usual.len() - 12)),
            (KIND, &Bytes::new()),
        ] {
            assert_eq!(model(kind, body).await, None, "{kind} {body:?}");
        }
    }

    #[tokio::test]
    async fn a_server_without_the_route_is_told_from_one_without_the_model() {
        for (status, said, is_known) in [
            (404, r#"{"detail":"Not Found"}"#, true),
            (404, r#"{"error":{"code":404,"message":"File Not Found"}}"#, true),
            (404, "404 page not found", true),
            (404, "", true),
            (405, r#"{"detail":"Method Not Allowed"}"#, true),
            (501, r#"{"error":{"message":"This server does not support reranking."}}"#, true),
            (404, r#"{"error":{"message":"The model `x` does not exist."}}"#, false),
            (400, r#"{"detail":"Not Found"}"#, false),
            (200, "404 page not found", false),
        ] {
            let response = Response::builder().status(status).body(Body::from(said));
            let response = Beside::Rerank.known(response.expect("a response"), "vllm").await;
            let now = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            if is_known {
                let body = String::from_utf8_lossy(&body);
                assert!(now == 501 && body.contains("DashScope does (qwen3-rerank)"), "{said}");
            } else {
                assert_eq!((now, &*body), (status, said.as_bytes()));
            }
        }
    }
}
