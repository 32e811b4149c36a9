//! The model that a request is for.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny},
};

use super::parse::{self, invalid_value};
use crate::{Error, json::Str};

/// The longest name of a model, in bytes: every chunk of an answer repeats it.
pub const MAX_MODEL_LEN: usize = 256;

/// The model that `body` asks for, read as the edges of this module read it; `None` where it says
/// none.
///
/// It is for whoever chooses by the model which stack a request goes to: what is chosen by is what
/// the edge of that stack finds. Nothing else of the body is looked at, but that it is JSON.
///
/// # Errors
///
/// Those of the edges, with the same words: for a body that is no JSON object, and for a `model`
/// that is no string, is there twice, or is longer than [`MAX_MODEL_LEN`].
///
/// ```
/// use tower_qwen::edge;
///
/// let body = "\u{feff}{\"messages\":[],\"model\":\"qwen3-max\"}".into();
/// assert_eq!(edge::model(&body)?.as_deref(), Some("qwen3-max"));
/// assert!(edge::model(&r#"{"model":"a","model":"b"}"#.into()).is_err());
/// # Ok::<_, tower_qwen::Error>(())
/// ```
pub fn model(body: &Bytes) -> Result<Option<String>, Error> {
    let text = parse::text(body)?;
    let Asked(model) = parse::json(&text)?;
    let model = model.map(Cow::into_owned);
    model.as_deref().map(check_model).transpose()?;
    Ok(model)
}

/// # Errors
///
/// For what is no name of a model.
pub(crate) fn check_model(name: &str) -> Result<(), Error> {
    if name.trim().is_empty() {
        return Err(invalid_value("model", "the name is empty"));
    }
    if name.len() > MAX_MODEL_LEN {
        return Err(invalid_value(
            "model",
            format_args!("the name has {} bytes, and at most {MAX_MODEL_LEN} are read", name.len()),
        ));
    }
    Ok(())
}

/// What a body asks for.
struct Asked<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Asked<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Asked<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Asked<'de>, A::Error> {
                let mut model: Option<Str<'de>> = None;
                while let Some(Str(name)) = map.next_key()? {
                    if name != "model" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if model.is_some() {
                        return Err(de::Error::duplicate_field("model"));
                    }
                    model = map.next_value()?;
                }
                Ok(Asked(model.map(|Str(model)| model)))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::decode;

    /// Whatever is sent, it is the edge's model, or an error there too.
    #[test]
    fn it_is_what_the_edge_reads() {
        let long = "m".repeat(MAX_MODEL_LEN);
        let names = [
            r#""model":"a""#.to_owned(),
            r#""mod\u0065l":"\u0061""#.to_owned(),
            r#""model":null"#.to_owned(),
            r#""model":null,"model":"a""#.to_owned(),
            r#""model":"a","model":null"#.to_owned(),
            r#""model":"a","model":"b""#.to_owned(),
            r#""model":"a","mod\u0065l":"b""#.to_owned(),
            r#""Model":"b","model":"a""#.to_owned(),
            r#""model":7"#.to_owned(),
            r#""model":["a"]"#.to_owned(),
            r#""model":"""#.to_owned(),
            r#""model":" ""#.to_owned(),
            r#""model":"\ud800""#.to_owned(),
            format!(r#""model":"{long}""#),
            format!(r#""model":"{long}m""#),
            format!(r#""model":"{}""#, "m".repeat(1 << 20)),
            r#""user":"b""#.to_owned(),
        ];
        let messages = r#""messages":[{"role":"user","content":"Hi","model":"b"}]"#;
        let mut bodies = Vec::new();
        for name in &names {
            for inside in [format!("{name},{messages}"), format!("{messages},{name}")] {
                for (before, after) in
                    [("{", "}"), ("\u{feff}{", "} \n"), (" {", "}}"), ("{", ",}"), ("[{", "}]")]
                {
                    bodies.push(format!("{before}{inside}{after}").into_bytes());
                }
            }
        }
        bodies.extend(
            [&b""[..], b" ", b"\xef\xbb\xbf", b"{", b"{\"model\":\"a\xff\"}"].map(Vec::from),
        );
        let mut found = 0;
        for body in bodies.into_iter().map(Bytes::from) {
            let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            match (model(&body), decode(&body)) {
                (Ok(Some(model)), Ok(decoded)) => {
                    assert_eq!(model, decoded.chat.model.as_str(), "{shown}");
                    found += 1;
                }
                (Ok(None), Err(error)) => assert_eq!(error.param(), Some("model"), "{shown}"),
                (Err(ours), Err(edges)) => {
                    assert_eq!(ours.to_string(), edges.to_string(), "{shown}");
                    assert!(ours.to_string().len() < 500, "{shown}");
                }
                (ours, edges) => panic!("{shown}: {ours:?} is not {:?}", edges.map(drop)),
            }
        }
        assert!(found >= 8, "{found}");
    }
}
