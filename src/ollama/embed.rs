//! Embeddings, as clients of Ollama ask for them.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;

use super::{encode::duration_into, error::error_into, name::untagged};
use crate::{
    Error, Text,
    edge::{
        Integer, Times, check_model,
        parse::{self, missing},
        shape,
    },
    json::{Str, number_into, string_into},
    openai::embeddings::{Config, EmbeddingsRequest, Encoded, Form, embeddings},
};

/// The edge for embeddings: Ollama's `POST /api/embed` over an HTTP service that reaches an
/// OpenAI-compatible server.
///
/// What it does is what [`openai::embeddings`](crate::openai::embeddings) says; its vectors are
/// lists of numbers. Of the request it reads `model`, `input` and `dimensions`; the rest is about
/// the process that holds the weights and is not passed on. Without an `input`, or with an empty
/// one, nobody is asked, and there are no vectors.
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::BodyExt;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_qwen::{FullBody, ollama::EmbedLayer, qwen::compatible::Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = ServiceBuilder::new()
///     .layer(EmbedLayer::new(Server::Vllm))
///     // In place of a `QwenUpstream` with the base URL of the server.
///     .service(service_fn(|_: Request<FullBody>| async {
///         Response::builder().body(FullBody::from(
///             r#"{"data":[{"index":0,"embedding":[0.5,-2]}],"usage":{"prompt_tokens":1}}"#,
///         ))
///     }));
/// let request = Request::post("/api/embed")
///     .body(FullBody::from(r#"{"model":"qwen3-embedding","input":"Hello"}"#))?;
/// let body = service.oneshot(request).await?.into_body().collect().await?.to_bytes();
/// assert!(body.starts_with(br#"{"model":"qwen3-embedding","embeddings":[[0.5,-2]]"#));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EmbedLayer {
    config: Config,
}

/// The service of [`EmbedLayer`].
///
/// What `S` is, and when it is ready, is as with OpenAI's
/// [`Embeddings`](crate::openai::embeddings::Embeddings).
#[derive(Clone, Debug)]
pub struct Embed<S> {
    inner: S,
    config: Config,
}

embeddings!(EmbedLayer, Embed, Inputs);

/// The edge for embeddings as Ollama had them before: `POST /api/embeddings`, of one `prompt`.
///
/// It is as [`EmbedLayer`], but for the form of the answer: `{"embedding":[…]}`.
#[derive(Clone, Debug)]
pub struct EmbeddingsLayer {
    config: Config,
}

/// The service of [`EmbeddingsLayer`].
#[derive(Clone, Debug)]
pub struct Embeddings<S> {
    inner: S,
    config: Config,
}

embeddings!(EmbeddingsLayer, Embeddings, Prompt);

shape! {
    /// The body of a request, of either form.
    Wire<'a> alone {
        model: Str<'a>,
        input: &'a RawValue,
        prompt: &'a RawValue,
        dimensions: Integer<u64>,
    }
}

/// Reads what both forms have.
fn read<'a>(
    wire: Wire<'a>,
    input: Option<&'a RawValue>,
    param: &str,
    config: &Config,
) -> Result<EmbeddingsRequest<'a>, Error> {
    let input = input.filter(|raw| raw.get() != "\"\"" && !parse::is_empty_list(raw));
    let named = wire.model.ok_or_else(|| missing("model"))?.0;
    check_model(&named)?;
    let model = match &named {
        Cow::Borrowed(name) => Cow::Borrowed(untagged(name)),
        Cow::Owned(name) => Cow::Owned(untagged(name).to_owned()),
    };
    let request = EmbeddingsRequest::empty(named, model).dimensions(wire.dimensions)?;
    match input {
        Some(raw) => request.inputs(raw, param, config),
        None => Ok(request),
    }
}

/// `/api/embed`.
#[derive(Debug)]
struct Inputs;

impl Form for Inputs {
    const EDGE: &'static str = "ollama_embed";
    const BEHIND_VECTOR: &'static [u8] = b"";

    fn read<'a>(body: &'a Text, config: &Config) -> Result<EmbeddingsRequest<'a>, Error> {
        let wire: Wire<'a> = parse::json(body)?;
        let input = wire.input;
        read(wire, input, "input", config)
    }

    fn before_vector(_out: &mut BytesMut, _at: usize) {}

    fn whole(model: &str, batches: &[Encoded], times: &Times) -> Bytes {
        let mut out = BytesMut::with_capacity(128 + model.len() + Encoded::size(batches));
        out.put_slice(b"{\"model\":");
        string_into(&mut out, model);
        out.put_slice(b",\"embeddings\":[");
        Encoded::join(&mut out, batches);
        out.put_u8(b']');
        duration_into(&mut out, b",\"total_duration\":", times.total());
        out.put_slice(b",\"load_duration\":0,\"prompt_eval_count\":");
        number_into(&mut out, Encoded::prompt_tokens(batches));
        out.put_u8(b'}');
        out.freeze()
    }

    fn error_into(out: &mut BytesMut, error: &Error) {
        error_into(out, error);
    }
}

/// `/api/embeddings`.
#[derive(Debug)]
struct Prompt;

impl Form for Prompt {
    const EDGE: &'static str = Inputs::EDGE;
    const BEHIND_VECTOR: &'static [u8] = b"";

    fn read<'a>(body: &'a Text, config: &Config) -> Result<EmbeddingsRequest<'a>, Error> {
        let wire: Wire<'a> = parse::json(body)?;
        // Of a list there would be several vectors.
        if let Some(raw) = wire.prompt.filter(|raw| !raw.get().starts_with('"')) {
            return Err(parse::not_expected(raw, "prompt".to_owned(), "a string"));
        }
        let input = wire.prompt;
        read(wire, input, "prompt", config)
    }

    fn before_vector(_out: &mut BytesMut, _at: usize) {}

    fn whole(_model: &str, batches: &[Encoded], _times: &Times) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + Encoded::size(batches));
        out.put_slice(b"{\"embedding\":");
        match batches {
            [] => out.put_slice(b"[]"),
            batches => Encoded::join(&mut out, batches),
        }
        out.put_u8(b'}');
        out.freeze()
    }

    fn error_into(out: &mut BytesMut, error: &Error) {
        error_into(out, error);
    }
}
