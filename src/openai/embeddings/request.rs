//! What the client asks for, and what the upstream is asked.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;

use super::config::Config;
use crate::{
    Error, ErrorKind, Text,
    chat::Extra,
    edge::{
        Integer, check_model,
        parse::{self, clip, invalid_value, missing},
        shape,
    },
    json::{Str, string_into},
};

/// The form in which the client wants its vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of little-endian `f32`.
    Base64,
}

impl Encoding {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Base64 => "base64",
        }
    }
}

/// A request for embeddings; inputs are slices of its body, as they stand there.
#[derive(Debug)]
pub(crate) struct EmbeddingsRequest<'a> {
    /// What the client calls the model, and so does the answer.
    pub(super) named: Cow<'a, str>,
    /// What the upstream is asked for.
    pub(super) model: Cow<'a, str>,
    pub(super) encoding: Encoding,
    inputs: Vec<&'a RawValue>,
    /// The client sent a single one, not in a list.
    alone: bool,
    dimensions: Option<u64>,
    extra: Extra,
}

shape! {
    /// The body of a request.
    Wire<'a> {
        model: Str<'a>,
        input: &'a RawValue,
        encoding_format: Str<'a>,
        dimensions: Integer<u64>,
    }
}

impl<'a> EmbeddingsRequest<'a> {
    /// Reads the body of a `POST /v1/embeddings`.
    pub(super) fn decode(body: &'a Text, config: &Config) -> Result<Self, Error> {
        let wire: Wire<'a> = parse::json(body)?;
        let model = wire.model.ok_or_else(|| missing("model"))?.0;
        check_model(&model)?;
        let encoding = match wire.encoding_format.as_ref().map(|word| &*word.0) {
            None | Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            Some(other) => {
                return Err(invalid_value(
                    "encoding_format",
                    format_args!("`{}` is none of float, base64", clip(other)),
                ));
            }
        };
        let extra = wire.extra.finish();
        let request = Self { encoding, extra, ..Self::empty(model.clone(), model) };
        let request = request.dimensions(wire.dimensions)?;
        request.inputs(wire.input.ok_or_else(|| missing("input"))?, "input", config)
    }

    /// A request for nothing, of what the client calls `named`.
    pub(crate) fn empty(named: Cow<'a, str>, model: Cow<'a, str>) -> Self {
        Self {
            named,
            model,
            encoding: Encoding::Float,
            inputs: Vec::new(),
            alone: false,
            dimensions: None,
            extra: Extra::new(),
        }
    }

    /// The same for the one text that `raw` is, or for those of a list.
    ///
    /// # Errors
    ///
    /// What is wrong with one of them; it is called `param`.
    pub(crate) fn inputs(
        self,
        raw: &'a RawValue,
        param: &str,
        config: &Config,
    ) -> Result<Self, Error> {
        let (inputs, alone) = inputs(raw, param, config)?;
        Ok(Self { inputs, alone, ..self })
    }

    /// The same with vectors of this length.
    ///
    /// # Errors
    ///
    /// For none at all.
    pub(crate) fn dimensions(self, dimensions: Option<Integer<u64>>) -> Result<Self, Error> {
        let dimensions = dimensions.map(|Integer(dimensions)| dimensions);
        if dimensions == Some(0) {
            return Err(invalid_value("dimensions", "a vector has at least one"));
        }
        Ok(Self { dimensions, ..self })
    }

    pub(super) fn len(&self) -> usize {
        self.inputs.len()
    }

    /// How many inputs go out at once.
    pub(super) fn batch_len(&self, config: &Config) -> usize {
        let limit = config.max_batch.or_else(|| config.server.embedding_batch(&self.model));
        limit.unwrap_or(usize::MAX).clamp(1, self.len().max(1))
    }

    /// The body of the request for the inputs from `first` on, `len` of them.
    pub(super) fn batch(&self, first: usize, len: usize, config: &Config) -> Bytes {
        let inputs = &self.inputs[first..first + len];
        let size: usize = inputs.iter().map(|input| input.get().len() + 1).sum();
        let mut out =
            BytesMut::with_capacity(256 + self.model.len() + size + self.extra.byte_len());
        out.put_slice(b"{\"model\":");
        string_into(&mut out, &self.model);
        out.put_slice(b",\"input\":");
        if self.alone {
            out.put_slice(inputs[0].get().as_bytes());
        } else {
            for (at, input) in inputs.iter().enumerate() {
                out.put_u8(if at == 0 { b'[' } else { b',' });
                out.put_slice(input.get().as_bytes());
            }
            out.put_u8(b']');
        }
        // Said in any case: the default of a gateway's SDK may be another.
        let encoding = if config.server.embeds_base64() { self.encoding } else { Encoding::Float };
        out.put_slice(b",\"encoding_format\":");
        string_into(&mut out, encoding.as_str());
        if let Some(dimensions) = self.dimensions {
            out.put_slice(b",\"dimensions\":");
            out.put_slice(itoa::Buffer::new().format(dimensions).as_bytes());
        }
        if !self.extra.is_empty() {
            out.put_u8(b',');
            out.put_slice(self.extra.inside().as_bytes());
        }
        out.put_u8(b'}');
        out.freeze()
    }
}

/// What an input is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Tokens,
}

/// The inputs, checked one by one, and whether it was one that stands alone.
fn inputs<'a>(
    raw: &'a RawValue,
    param: &str,
    config: &Config,
) -> Result<(Vec<&'a RawValue>, bool), Error> {
    let json = raw.get();
    if json.starts_with('"') {
        check(raw, Kind::Text, || param.to_owned(), config)?;
        return Ok((vec![raw], true));
    }
    if !json.starts_with('[') {
        return Err(wrong_type(param.to_owned()));
    }
    // Token ids are a list of another kind, and as many as there are.
    let mut list: Vec<&RawValue> = Vec::new();
    let mut count = 0;
    parse::each_quickly(raw, |at, input: &RawValue| {
        count = at + 1;
        if at < config.max_inputs.max(1) {
            list.push(input);
        }
        Ok::<_, ()>(())
    })
    .ok_or_else(|| invalid_value(param.to_owned(), "it is not a list"))?
    .unwrap_or_default();
    let Some(first) = list.first() else {
        return Err(invalid_value(param.to_owned(), "the list is empty"));
    };
    if kind(first).is_none() && is_number(first) {
        check(raw, Kind::Tokens, || param.to_owned(), config)?;
        return Ok((vec![raw], true));
    }
    if count > config.max_inputs {
        return Err(invalid_value(
            param.to_owned(),
            format_args!("{count} inputs are more than the limit of {}", config.max_inputs),
        ));
    }
    let of_first = kind(first);
    for (at, input) in list.iter().enumerate() {
        let param = || format!("{param}[{at}]");
        match kind(input) {
            None => return Err(wrong_type(param())),
            Some(_) if kind(input) != of_first => {
                return Err(invalid_value(param(), "texts and lists of tokens cannot be mixed"));
            }
            Some(kind) => check(input, kind, param, config)?,
        }
    }
    Ok((list, false))
}

fn kind(input: &RawValue) -> Option<Kind> {
    match input.get().as_bytes().first() {
        Some(b'"') => Some(Kind::Text),
        Some(b'[') => Some(Kind::Tokens),
        _ => None,
    }
}

fn is_number(value: &RawValue) -> bool {
    value.get().starts_with(|first: char| first.is_ascii_digit() || first == '-')
}

fn check(
    input: &RawValue,
    kind: Kind,
    param: impl Fn() -> String,
    config: &Config,
) -> Result<(), Error> {
    match kind {
        Kind::Text if input.get() == "\"\"" => {
            Err(invalid_value(param(), "an empty text has no embedding"))
        }
        Kind::Text => Ok(()),
        Kind::Tokens if !config.server.embeds_tokens() => Err(Error::new(
            ErrorKind::InvalidRequest,
            format!(
                "this upstream ({}) embeds text and not token ids, which would be another \
                 tokenizer's; send strings",
                config.server.name()
            ),
        )
        .with_param(param())
        .with_code("invalid_value")),
        Kind::Tokens => match serde_json::from_str::<Vec<u32>>(input.get()) {
            Ok(tokens) if tokens.is_empty() => {
                Err(invalid_value(param(), "the list of tokens is empty"))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(invalid_value(param(), "a token is a whole number from 0 on")),
        },
    }
}

fn wrong_type(param: String) -> Error {
    Error::invalid(
        param.clone(),
        format!(
            "invalid type for `{param}`: expected a string, an array of strings, of tokens, or of \
             arrays of tokens"
        ),
    )
    .with_code("invalid_type")
}
