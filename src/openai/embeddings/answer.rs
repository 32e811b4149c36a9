//! What the upstream answers, and what the client is given.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::request::Encoding;
use crate::{
    Error, ErrorKind,
    json::{Str, string_into},
};

/// What begins the answer.
const HEAD: &[u8] = b"{\"object\":\"list\",\"data\":[";

/// The answer to one batch.
#[derive(Debug, Deserialize)]
pub(super) struct Batch<'a> {
    #[serde(borrow)]
    data: Vec<Item<'a>>,
    usage: Option<Counts>,
}

#[derive(Debug, Deserialize)]
struct Item<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    embedding: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct Counts {
    prompt_tokens: Option<u64>,
    total_tokens: Option<u64>,
}

/// A batch as the client is given it.
#[derive(Debug)]
pub(super) struct Encoded {
    /// Its items, with commas between.
    items: Bytes,
    prompt_tokens: u64,
    total_tokens: u64,
}

impl Batch<'_> {
    /// The items of a batch of `len` inputs, the first of which is the client's number `first`.
    ///
    /// # Errors
    ///
    /// Where there are not as many as there were inputs, or one of them is no vector.
    pub(super) fn encode(
        mut self,
        first: usize,
        len: usize,
        encoding: Encoding,
    ) -> Result<Encoded, Error> {
        if self.data.len() != len {
            return Err(Error::new(
                ErrorKind::Upstream,
                format!("the upstream gave {} embeddings for {len} inputs", self.data.len()),
            ));
        }
        self.sort();
        let size: usize = self.data.iter().map(|item| item.embedding.get().len()).sum();
        let mut out = BytesMut::with_capacity(64 * len + size);
        let mut vector = Vec::new();
        for (at, item) in self.data.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            out.put_slice(b"{\"object\":\"embedding\",\"index\":");
            out.put_slice(itoa::Buffer::new().format(first + at).as_bytes());
            out.put_slice(b",\"embedding\":");
            vector_into(&mut out, &mut vector, item.embedding, encoding)
                .map_err(|error| error.into_error(first + at))?;
            out.put_u8(b'}');
        }
        let counts = self.usage.as_ref();
        let prompt = counts.and_then(|counts| counts.prompt_tokens);
        let total = counts.and_then(|counts| counts.total_tokens);
        Ok(Encoded {
            items: out.freeze(),
            prompt_tokens: prompt.or(total).unwrap_or(0),
            total_tokens: total.or(prompt).unwrap_or(0),
        })
    }

    /// Puts the items in the order of their indexes, which may have gaps. Where indexes are
    /// missing or the same, the order in which they came is all there is.
    fn sort(&mut self) {
        let mut indexes: Vec<_> = self.data.iter().filter_map(|item| item.index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        if indexes.len() == self.data.len() {
            self.data.sort_by_key(|item| item.index);
        }
    }
}

/// The whole answer.
pub(super) fn merge(model: &str, batches: &[Encoded]) -> Bytes {
    let size: usize = batches.iter().map(|batch| batch.items.len() + 1).sum();
    let mut out = BytesMut::with_capacity(128 + model.len() + size);
    out.put_slice(HEAD);
    for (at, batch) in batches.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(&batch.items);
    }
    out.put_slice(b"],\"model\":");
    string_into(&mut out, model);
    let sum = |count: fn(&Encoded) -> u64| batches.iter().map(count).fold(0, u64::saturating_add);
    out.put_slice(b",\"usage\":{\"prompt_tokens\":");
    out.put_slice(itoa::Buffer::new().format(sum(|batch| batch.prompt_tokens)).as_bytes());
    out.put_slice(b",\"total_tokens\":");
    out.put_slice(itoa::Buffer::new().format(sum(|batch| batch.total_tokens)).as_bytes());
    out.put_slice(b"}}");
    out.freeze()
}

/// What is wrong with a vector.
#[derive(Debug, PartialEq, Eq)]
enum NoVector {
    /// Neither a list of numbers nor base64.
    Malformed,
    /// A number that `f32` or JSON does not have.
    NotFinite,
}

impl NoVector {
    fn into_error(self, at: usize) -> Error {
        let why = match self {
            Self::Malformed => "it is neither a list of numbers nor base64 of such",
            Self::NotFinite => "it holds a value that is not a finite number",
        };
        Error::new(
            ErrorKind::Upstream,
            format!("the upstream's embedding of input {at} cannot be read: {why}"),
        )
    }
}

/// Appends a vector in the form that is wanted; `scratch` is used again for each.
fn vector_into(
    out: &mut BytesMut,
    scratch: &mut Vec<u8>,
    embedding: &RawValue,
    encoding: Encoding,
) -> Result<(), NoVector> {
    let json = embedding.get();
    if json.starts_with('"') {
        let Str(text) = serde_json::from_str(json).map_err(|_| NoVector::Malformed)?;
        scratch.clear();
        STANDARD.decode_vec(&*text, scratch).map_err(|_| NoVector::Malformed)?;
        if !scratch.len().is_multiple_of(size_of::<f32>()) {
            return Err(NoVector::Malformed);
        }
        match encoding {
            Encoding::Base64 => string_into(out, &text),
            Encoding::Float => floats_into(out, scratch)?,
        }
        return Ok(());
    }
    match encoding {
        // Digit by digit, so nothing is lost to rounding; that it is flat is all that is checked.
        Encoding::Float if is_flat(json) => out.put_slice(json.as_bytes()),
        Encoding::Float => return Err(NoVector::Malformed),
        Encoding::Base64 => {
            let numbers: Vec<f32> = serde_json::from_str(json).map_err(|_| NoVector::Malformed)?;
            scratch.clear();
            for number in numbers {
                if !number.is_finite() {
                    return Err(NoVector::NotFinite);
                }
                scratch.extend_from_slice(&number.to_le_bytes());
            }
            out.put_u8(b'"');
            let start = out.len();
            let length = base64::encoded_len(scratch.len(), true).ok_or(NoVector::Malformed)?;
            out.resize(start + length, 0);
            STANDARD.encode_slice(&scratch, &mut out[start..]).map_err(|_| NoVector::Malformed)?;
            out.put_u8(b'"');
        }
    }
    Ok(())
}

/// Appends the numbers whose bytes these are as a list.
fn floats_into(out: &mut BytesMut, bytes: &[u8]) -> Result<(), NoVector> {
    out.put_u8(b'[');
    let (numbers, _) = bytes.as_chunks::<{ size_of::<f32>() }>();
    for (at, number) in numbers.iter().enumerate() {
        let number = f32::from_le_bytes(*number);
        if !number.is_finite() {
            return Err(NoVector::NotFinite);
        }
        if at > 0 {
            out.put_u8(b',');
        }
        serde_json::to_writer(out.writer(), &number).map_err(|_| NoVector::NotFinite)?;
    }
    out.put_u8(b']');
    Ok(())
}

/// Whether `json` is a list of numbers, judged by its first: some endpoints nest the vectors of
/// single tokens.
fn is_flat(json: &str) -> bool {
    let Some(inside) = json.strip_prefix('[') else { return false };
    let first = inside.trim_ascii_start().as_bytes().first();
    first.is_some_and(|&first| first.is_ascii_digit() || matches!(first, b'-' | b']'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn vector(json: &str, encoding: Encoding) -> Result<Value, NoVector> {
        let raw = RawValue::from_string(json.to_owned()).expect("JSON");
        let mut out = BytesMut::new();
        vector_into(&mut out, &mut vec![7], &raw, encoding)?;
        Ok(serde_json::from_slice(&out).expect("JSON"))
    }

    #[test]
    fn either_form_becomes_either() {
        let floats = "[0.5, -2, 1e-3]";
        let base64 = "\"AAAAPwAAAMBvEoM6\"";
        assert_eq!(vector(floats, Encoding::Base64), Ok(json!("AAAAPwAAAMBvEoM6")));
        assert_eq!(vector(base64, Encoding::Base64), Ok(json!("AAAAPwAAAMBvEoM6")));
        assert_eq!(vector(base64, Encoding::Float), Ok(json!([0.5, -2.0, 0.001])));
        assert_eq!(vector(floats, Encoding::Float), Ok(json!([0.5, -2, 0.001])));
        assert_eq!(vector("[]", Encoding::Base64), Ok(json!("")));
        assert_eq!(vector("\"\"", Encoding::Float), Ok(json!([])));
        // A solidus may stand escaped in JSON.
        assert_eq!(vector("\"\\/\\/9\\/Pw==\"", Encoding::Base64), Ok(json!("//9/Pw==")));
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        for json in ["null", "7", "{}", "\"%%\"", "\"AAAA\"", "[[0.5]]", "[\"a\"]"] {
            for encoding in [Encoding::Float, Encoding::Base64] {
                assert_eq!(vector(json, encoding), Err(NoVector::Malformed), "{json} {encoding:?}");
            }
        }
        // NaN and infinity, which JSON does not have.
        for json in ["\"AADAfw==\"", "\"AACAfw==\""] {
            assert_eq!(vector(json, Encoding::Float), Err(NoVector::NotFinite));
        }
        assert_eq!(vector("[1e39]", Encoding::Base64), Err(NoVector::NotFinite));
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same(
            numbers in prop::collection::vec(any::<f32>().prop_filter("finite", |n| n.is_finite()), 0..40),
        ) {
            let json = serde_json::to_string(&numbers).expect("JSON");
            let base64 = vector(&json, Encoding::Base64).expect("finite").to_string();
            let back = vector(&base64, Encoding::Float).expect("base64");
            let back: Vec<f32> = serde_json::from_value(back).expect("floats");
            prop_assert_eq!(back, numbers);
        }
    }
}
