//! What a protocol says of embeddings.

use bytes::{BufMut, Bytes, BytesMut};

use super::{config::Config, encoded::Encoded, request::EmbeddingsRequest};
use crate::{
    Error, Text,
    edge::{Times, openai_error_into},
    json::{number_into, string_into},
};

/// A protocol by which embeddings are asked for, whoever gives them.
pub(crate) trait Form: Send + 'static {
    /// The label `edge` of the metrics.
    const EDGE: &'static str;

    /// What stands behind a vector in the answer.
    const BEHIND_VECTOR: &'static [u8];

    /// Reads a request.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn read<'a>(body: &'a Text, config: &Config) -> Result<EmbeddingsRequest<'a>, Error>;

    /// Appends what stands before the vector of input `at`.
    fn before_vector(out: &mut BytesMut, at: usize);

    /// The whole answer; `model` is what the client calls the model.
    fn whole(model: &str, batches: &[Encoded], times: &Times) -> Bytes;

    /// Appends the body that tells of `error`.
    fn error_into(out: &mut BytesMut, error: &Error);
}

/// OpenAI's.
#[derive(Debug)]
pub(super) struct OpenAi;

impl Form for OpenAi {
    const EDGE: &'static str = "embeddings";
    const BEHIND_VECTOR: &'static [u8] = b"}";

    fn read<'a>(body: &'a Text, config: &Config) -> Result<EmbeddingsRequest<'a>, Error> {
        EmbeddingsRequest::decode(body, config)
    }

    fn before_vector(out: &mut BytesMut, at: usize) {
        out.put_slice(b"{\"object\":\"embedding\",\"index\":");
        number_into(out, at as u64);
        out.put_slice(b",\"embedding\":");
    }

    fn whole(model: &str, batches: &[Encoded], _times: &Times) -> Bytes {
        let mut out = BytesMut::with_capacity(128 + model.len() + Encoded::size(batches));
        out.put_slice(b"{\"object\":\"list\",\"data\":[");
        Encoded::join(&mut out, batches);
        out.put_slice(b"],\"model\":");
        string_into(&mut out, model);
        out.put_slice(b",\"usage\":{\"prompt_tokens\":");
        number_into(&mut out, Encoded::prompt_tokens(batches));
        out.put_slice(b",\"total_tokens\":");
        number_into(&mut out, Encoded::total_tokens(batches));
        out.put_slice(b"}}");
        out.freeze()
    }

    fn error_into(out: &mut BytesMut, error: &Error) {
        openai_error_into(out, error);
    }
}
