//! What the model is told, and what of its answer is the JSON.

use serde_json::{Value, value::RawValue};

use super::check;
use crate::chat::{ChatRequest, Content, Json, Message, Part, ResponseFormat, Role};

/// The form that an answer shall have.
#[derive(Debug)]
pub(super) enum Wanted {
    /// Any JSON object.
    Object,
    /// JSON after a schema: the text that the model is told, and what is checked.
    Schema { told: Json, checked: Value },
}

impl Wanted {
    /// Takes the form off a request and tells the model of it in words; `None` where none is asked
    /// for, or where it is one that words cannot ask for.
    pub(super) fn take(chat: &mut ChatRequest) -> Option<Self> {
        let wanted = match chat.response_format.as_ref()? {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some(Self::Object),
            ResponseFormat::JsonSchema(format) => Some(Self::of_schema(format.get("schema"))?),
            ResponseFormat::Other(whole) => match whole.get("type")?.as_string().as_deref()? {
                "json_object" => Some(match whole.get("schema") {
                    Some(schema) => Self::of_schema(Some(schema))?,
                    None => Self::Object,
                }),
                "json_schema" => {
                    let inside = whole.get("json_schema").and_then(|format| format.get("schema"));
                    Some(Self::of_schema(inside.or_else(|| whole.get("schema")))?)
                }
                "text" => None,
                _ => return None,
            },
        };
        chat.response_format = None;
        let wanted = wanted?;
        say(chat, &wanted.line());
        Some(wanted)
    }

    /// A schema that is there is one that can be told; what of it can be checked is.
    fn of_schema(schema: Option<Json>) -> Option<Self> {
        let Some(told) = schema.filter(Json::is_object) else { return Some(Self::Object) };
        let checked = told.to_value().ok()?;
        Some(Self::Schema { told, checked })
    }

    fn line(&self) -> String {
        match self {
            Self::Object => {
                "Answer with one JSON object and nothing else: no words before or after \
                             it, and no code fence."
                    .to_owned()
            }
            Self::Schema { told, .. } => format!(
                "Answer with JSON that fits this schema and nothing else: no words before or after \
                 it, and no code fence.\n\n{}",
                told.as_str()
            ),
        }
    }

    /// What the model is told of an answer that is not in the form.
    pub(super) fn again(&self, why: &str) -> String {
        format!("That is not what was asked for: {why}. {}", self.line())
    }

    /// The JSON in an answer, or why there is none that fits.
    pub(super) fn find<'a>(&self, answer: &'a str) -> Result<&'a str, String> {
        let (mut is_json, mut why) = (false, None);
        for candidate in candidates(answer) {
            let value = match serde_json::from_str::<&RawValue>(candidate)
                .and_then(|_| serde_json::from_str::<Value>(candidate))
            {
                Ok(value) => value,
                Err(error) => {
                    why.get_or_insert_with(|| format!("it is not valid JSON ({error})"));
                    continue;
                }
            };
            let fits = match self {
                Self::Object if value.is_object() => Ok(()),
                Self::Object => Err("it is not a JSON object".to_owned()),
                Self::Schema { checked, .. } => check::fits(&value, checked),
            };
            match fits {
                Ok(()) => return Ok(candidate),
                // What is wrong with the first that is JSON is what the model can mend.
                Err(reason) if !std::mem::replace(&mut is_json, true) => why = Some(reason),
                Err(_) => {}
            }
            // Of an answer that is JSON no part is the answer.
            if candidate.len() == answer.trim().len() {
                break;
            }
        }
        Err(why.unwrap_or_else(|| "it is empty".to_owned()))
    }
}

/// The texts in an answer that may be the JSON: all of it, what is in a fence, and what stands
/// between the first and the last bracket.
fn candidates(answer: &str) -> impl Iterator<Item = &str> {
    let whole = Some(answer.trim()).filter(|text| !text.is_empty());
    let fenced = answer.split_once("```").and_then(|(_, rest)| {
        let (_, inside) = rest.split_once('\n')?;
        Some(inside.rsplit_once("```").map_or(inside, |(inside, _)| inside).trim())
    });
    let between = |open: char, close: char| {
        let (start, end) = (answer.find(open)?, answer.rfind(close)?);
        (start < end).then(|| &answer[start..=end])
    };
    [whole, fenced, between('{', '}'), between('[', ']')].into_iter().flatten()
}

/// Says `line` to the model, behind what the person says.
fn say(chat: &mut ChatRequest, line: &str) {
    let fresh = &mut chat.history.fresh;
    let is_users = fresh.last().is_some_and(|last| last.role == Role::User);
    let content = if is_users { fresh.last_mut().map(|last| &mut last.content) } else { None };
    match content {
        Some(Some(Content::Text(text))) => *text = format!("{text}\n\n{line}").into(),
        Some(Some(Content::Parts(parts))) => parts.push(Part::text(format!("\n\n{line}"))),
        Some(empty @ None) => *empty = Some(Content::Text(line.into())),
        None => fresh.push(Message::new(Role::User, line.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(answer: &str) -> Result<&str, String> {
        Wanted::Object.find(answer)
    }

    /// What models put around their JSON.
    #[test]
    fn the_json_is_found_in_what_stands_around_it() {
        for (kind, answer, json) in [
            ("plain", r#"{"a":1}"#, r#"{"a":1}"#),
            ("blanks", "\n {\"a\":1}\n\n", r#"{"a":1}"#),
            ("a fence", "```json\n{\"a\":1}\n```", r#"{"a":1}"#),
            ("a fence without a name", "```\n{\"a\":1}\n```\n", r#"{"a":1}"#),
            ("a fence that is not closed", "```json\n{\"a\":1}", r#"{"a":1}"#),
            ("a fence in the JSON", r#"{"a":"```\nx\n```"}"#, r#"{"a":"```\nx\n```"}"#),
            ("words before", "Sure, here it is:\n{\"a\":1}", r#"{"a":1}"#),
            ("words behind", "{\"a\":{\"b\":[1]}}\nDoes that help?", r#"{"a":{"b":[1]}}"#),
            ("words around a fence", "So:\n```json\n{\"a\":1}\n```\nOK?", r#"{"a":1}"#),
        ] {
            assert_eq!(found(answer), Ok(json), "{kind}");
        }
        for (kind, answer) in [
            ("nothing", "  "),
            ("words", "I cannot do that."),
            ("a list", "[1, 2]"),
            ("half of it", r#"{"a":"#),
            ("two of them", r#"{"a":1} {"b":2}"#),
            ("not JSON", "{'a': 1}"),
        ] {
            assert!(found(answer).is_err(), "{kind}: {:?}", found(answer));
        }
    }
}
