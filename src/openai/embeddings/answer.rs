//! What the upstream answers, and what the client is given.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;

use super::{encoded::Encoded, form::Form, request::Encoding};
use crate::{
    Error, ErrorKind,
    json::{
        Str,
        lenient::{Count, Object, lenient},
        string_into,
    },
};

lenient! {
    struct Wire<'a> {
        data: Option<Vec<Item<'a>>> = "data",
        usage: Object<Counts> = "usage",
    }
}

lenient! {
    struct Item<'a> {
        index: Count = "index",
        embedding: Option<&'a RawValue> = "embedding",
    }
}

lenient! {
    struct Counts {
        prompt_tokens: Count = "prompt_tokens",
        input_tokens: Count = "input_tokens",
        total_tokens: Count = "total_tokens",
    }
}

/// The answer to one batch.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    data: Vec<Item<'a>>,
    usage: Counts,
}

impl<'a> Batch<'a> {
    /// Reads an answer; `None` where it is JSON and holds no embeddings.
    ///
    /// # Errors
    ///
    /// Where it is no JSON.
    pub(super) fn read(json: &'a str) -> Result<Option<Self>, serde_json::Error> {
        let wire = serde_json::from_str::<Object<Wire<'_>>>(json)?.0.unwrap_or_default();
        let usage = wire.usage.0.unwrap_or_default();
        Ok(wire.data.map(|data| Self { data, usage }))
    }

    /// The items of a batch of `len` inputs, the first of which is the client's number `first`.
    ///
    /// # Errors
    ///
    /// Where there are not as many as there were inputs, or one of them is no vector.
    pub(super) fn encode<F: Form>(
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
        let size: usize = self.data.iter().map(|item| item.json().len()).sum();
        let mut out = BytesMut::with_capacity(64 * len + size);
        let mut vector = Vec::new();
        for (at, item) in self.data.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            F::before_vector(&mut out, first + at);
            vector_into(&mut out, &mut vector, item.json(), encoding)
                .map_err(|error| error.into_error(first + at))?;
            out.put_slice(F::BEHIND_VECTOR);
        }
        let prompt = self.usage.prompt_tokens.0.or(self.usage.input_tokens.0);
        let total = self.usage.total_tokens.0;
        Ok(Encoded {
            items: out.freeze(),
            prompt_tokens: prompt.or(total).unwrap_or(0),
            total_tokens: total.or(prompt).unwrap_or(0),
        })
    }

    /// Puts the items in the order of their indexes, which may have gaps. Where indexes are
    /// missing or the same, the order in which they came is all there is.
    fn sort(&mut self) {
        let mut indexes: Vec<_> = self.data.iter().filter_map(|item| item.index.0).collect();
        indexes.sort_unstable();
        indexes.dedup();
        if indexes.len() == self.data.len() {
            self.data.sort_by_key(|item| item.index.0);
        }
    }
}

impl Item<'_> {
    fn json(&self) -> &str {
        self.embedding.map_or("null", RawValue::get)
    }
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
    json: &str,
    encoding: Encoding,
) -> Result<(), NoVector> {
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
        // Digit by digit, so nothing is lost to rounding.
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

/// Whether `json` is a list of numbers, and no more: some endpoints nest the vectors of single tokens,
/// and some give no numbers. It is known to be JSON.
fn is_flat(json: &str) -> bool {
    let inside = json.strip_prefix('[').and_then(|json| json.strip_suffix(']'));
    let is_of_number =
        |b: u8| b.is_ascii_digit() || matches!(b, b',' | b'.' | b'-' | b'+' | b'e' | b'E');
    inside.is_some_and(|inside| inside.bytes().all(|b| is_of_number(b) || b.is_ascii_whitespace()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn vector(json: &str, encoding: Encoding) -> Result<Value, NoVector> {
        let mut out = BytesMut::new();
        vector_into(&mut out, &mut vec![7], json, encoding)?;
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
        for json in [
            "null",
            "7",
            "{}",
            "[0.5,null]",
            "[0.5,[1]]",
            "\"%%\"",
            "\"AAAA\"",
            "[[0.5]]",
            "[\"a\"]",
        ] {
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
