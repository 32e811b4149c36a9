//! What becomes of fields that an upstream has not got.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};

use super::{
    parse::{clip, unsupported},
    shaped::Wishes,
};
use crate::{
    Error, Text,
    chat::{ChatRequest, Json, Tool, ToolChoice},
};

/// Names the fields of a request that its upstream has not got and that were left out.
pub(crate) const X_QWEN_LEFT_OUT: HeaderName = HeaderName::from_static("x-qwen-left-out");

/// How long its value may be; names that do not fit are not there.
const NAMES_LEN: usize = 512;

/// What the upstream below an edge has of the fields of a request.
///
/// Nothing is ignored without a word. Values that ask for nothing (`n: 1`, `logprobs: false`,
/// `stop: []`, the format `text`) always pass. For the rest this decides, field by field:
///
/// | field | [`Everything`](Offer::Everything) | [`Web`](Offer::Web) | [`Responses`](Offer::Responses) |
/// |---|---|---|---|
/// | `n`, `logprobs`, `top_logprobs`, `functions`, `function_call` | refused | refused | refused |
/// | `parallel_tool_calls: false` | passed on, and seen to | seen to: one call leaves | passed on, and seen to |
/// | `tool_choice` that wants a call, where no function is among `tools` | passed on | refused | passed on |
/// | a tool that is neither a function nor a web search | passed on | refused | passed on |
/// | `tool_choice` in a form that is not known, where a function is among `tools` | passed on | refused | passed on |
/// | `stop` | passed on | seen to: the answer ends before it | seen to, likewise |
/// | `response_format` | passed on | passed on, to a [`FormatLayer`](https://docs.rs/tower-qwen/latest/tower_qwen/format/struct.FormatLayer.html) below; without one the adapter refuses it | passed on |
/// | `best_of`, `suffix`, `echo`, `prompt_logprobs`, `n_probs`, `return_token_ids`, `continue_final_message` | passed on | refused | refused |
/// | `guided_*`, `grammar`, `json_schema`, `structured_outputs`, `audio`, `modalities` with other than `text` | passed on | refused | refused |
/// | `top_k`, `presence_penalty`, `frequency_penalty`, `repetition_penalty`, `seed` | passed on | left out, and named in `x-qwen-left-out` | left out, and named likewise |
/// | `max_tokens`, `temperature`, `top_p`, `user` and any other that is not known | passed on | left out, and named in `x-qwen-left-out` | passed on |
/// | `tools`, `tool_choice`, `reasoning_effort` and its like, `web_search_options`, `stream_options` | passed on | honoured | honoured |
///
/// Fields that an edge itself does not read, as the Messages, Responses and Ollama edges have them,
/// are left out whatever the upstream, and named in `x-qwen-left-out` behind the others.
///
/// A refusal has the status 400, the code `unsupported_parameter` and the field as its `param`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offer {
    /// All that a chat can ask for: an OpenAI-compatible server, which says itself what it has not.
    #[default]
    Everything,
    /// What chat.qwen.ai has: a text goes in, and the account's page sets the rest.
    Web,
    /// What DashScope's Responses API has. It has less than its chat completions, and ignores what it
    /// does not know.
    Responses,
}

/// Fields of [`ChatRequest::extra`] that mean something over chat.qwen.ai; what they ask for is
/// read elsewhere.
const READ: [&str; 4] =
    ["web_search_options", "chat_template_kwargs", "stream_options", "reasoning"];

/// Fields that change what an answer is, and not only how it is found.
const MEANING: [&str; 19] = [
    "suffix",
    "best_of",
    "echo",
    "prompt_logprobs",
    "n_probs",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "continue_final_message",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "grammar",
    "json_schema",
    "regex",
    "ebnf",
    "audio",
    "modalities",
];

/// Values that ask for nothing, of the fields that are known to have one.
const NEUTRAL: [(&str, &str); 24] = [
    ("modalities", r#"["text"]"#),
    ("modalities", "[]"),
    ("suffix", r#""""#),
    ("best_of", "1"),
    ("echo", "false"),
    ("prompt_logprobs", "false"),
    ("prompt_logprobs", "0"),
    ("n_probs", "0"),
    ("return_token_ids", "false"),
    ("return_tokens_as_token_ids", "false"),
    ("continue_final_message", "false"),
    ("logit_bias", "{}"),
    ("metadata", "{}"),
    ("service_tier", r#""auto""#),
    ("service_tier", r#""default""#),
    ("store", "false"),
    ("quality", r#""auto""#),
    ("background", r#""auto""#),
    ("background", r#""opaque""#),
    ("moderation", r#""auto""#),
    ("partial_images", "0"),
    ("output_format", r#""png""#),
    ("output_compression", "100"),
    ("input_fidelity", r#""low""#),
];

/// What was decided about a request.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    /// What the edge sees to itself.
    pub(super) wishes: Wishes,
    /// The value of [`X_QWEN_LEFT_OUT`].
    pub(crate) left_out: Option<HeaderValue>,
}

impl Offer {
    /// Takes off `request` what the upstream has not got. Of what the client asked for `unread` are
    /// the names that its edge has not read.
    ///
    /// # Errors
    ///
    /// Names a field without which the answer would be another.
    pub(crate) fn decide(
        self,
        request: &mut ChatRequest,
        unread: &[Text],
    ) -> Result<Decided, Error> {
        let one_call = request.parallel_tool_calls == Some(false);
        match self {
            Self::Everything => {
                let left_out = header(unread.iter().map(Text::as_str));
                Ok(Decided { wishes: Wishes { one_call, ..Wishes::default() }, left_out })
            }
            Self::Responses => {
                let left_out = self.left_out(request, unread)?;
                let stop = std::mem::take(&mut request.sampling.stop);
                Ok(Decided { wishes: Wishes { stop, one_call }, left_out })
            }
            Self::Web => {
                if wants_a_call(request) && !request.tools.iter().any(is_function) {
                    return Err(unsupported(
                        "tool_choice",
                        "`tool_choice` wants a call, and no function is among `tools`",
                    ));
                }
                if let Some((place, kind)) = unknown_tool(request) {
                    return Err(unsupported(
                        "tools",
                        format!(
                            "`tools[{place}]`: this upstream (chat.qwen.ai) has no tools of type \
                             `{kind}`; offer functions, or `web_search`"
                        ),
                    ));
                }
                if is_choice_unknown(request) {
                    return Err(unsupported(
                        "tool_choice",
                        "`tool_choice` has a form that is not known here; name a function, send \
                         `allowed_tools`, or one of none, auto, required",
                    ));
                }
                let left_out = self.left_out(request, unread)?;
                let stop = std::mem::take(&mut request.sampling.stop);
                Ok(Decided { wishes: Wishes { stop, one_call }, left_out })
            }
        }
    }

    fn not_offered(self, field: &'static str) -> Error {
        let upstream = match self {
            Self::Responses => "DashScope's Responses API",
            Self::Web | Self::Everything => "chat.qwen.ai",
        };
        let message =
            format!("`{field}`: this upstream ({upstream}) has no such thing; leave it out");
        unsupported(field, message)
    }

    /// The names of the fields that the upstream is not given.
    fn left_out(
        self,
        request: &ChatRequest,
        unread: &[Text],
    ) -> Result<Option<HeaderValue>, Error> {
        let sampling = &request.sampling;
        let is_web = self == Self::Web;
        let is_not = |value: Option<f64>, neutral: f64| value.is_some_and(|value| value != neutral);
        // Below 0 there is no limit.
        let is_limit = |tokens: Option<i64>| is_web && tokens.is_some_and(|tokens| tokens >= 0);
        // What to choose from it says in vain where there is nothing.
        let is_choice = is_web
            && matches!(request.tool_choice, Some(ToolChoice::Other(_)))
            && !request.tools.iter().any(is_function);
        let is_user = is_web && request.user.as_ref().is_some_and(|user| !user.is_empty());
        let mut names: Vec<Cow<'_, str>> = [
            ("tool_choice", is_choice),
            ("max_tokens", is_limit(sampling.max_tokens)),
            ("max_completion_tokens", is_limit(sampling.max_completion_tokens)),
            ("temperature", is_web && is_not(sampling.temperature, 1.0)),
            ("top_p", is_web && is_not(sampling.top_p, 1.0)),
            ("top_k", sampling.top_k.is_some_and(|top_k| top_k > 0)),
            ("presence_penalty", is_not(sampling.presence_penalty, 0.0)),
            ("frequency_penalty", is_not(sampling.frequency_penalty, 0.0)),
            ("repetition_penalty", is_not(sampling.repetition_penalty, 1.0)),
            ("seed", sampling.seed.is_some()),
            ("user", is_user),
            // What is made there has five.
            ("seconds", is_web && request.media.seconds.is_some_and(|seconds| seconds != 5)),
        ]
        .into_iter()
        .filter_map(|(name, is_there)| is_there.then_some(name.into()))
        .collect();
        for (name, value) in request.extra.iter() {
            if value.is_null() || READ.contains(&&*name) || is_neutral(&name, &value) {
                continue;
            }
            if let Some(field) = MEANING.into_iter().find(|field| *field == name) {
                return Err(self.not_offered(field));
            }
            if is_web {
                names.push(name);
            }
        }
        let unread = unread.iter().map(Text::as_str);
        Ok(header(names.iter().map(|name| &**name).chain(unread)))
    }
}

fn is_function(tool: &Tool) -> bool {
    tool.as_function().is_some()
}

/// The place of the first tool that nobody would tell the model of, and what it is.
fn unknown_tool(request: &ChatRequest) -> Option<(usize, String)> {
    request.tools.iter().enumerate().find_map(|(place, tool)| {
        let Tool::Other(whole) = tool else { return None };
        let kind = whole.get("type");
        let kind = kind.as_ref().and_then(|kind| kind.as_string()).unwrap_or_default();
        (!kind.starts_with("web_search")).then(|| (place, clip(&kind).to_string()))
    })
}

/// Whether a choice among functions would be lost, as its form is a vendor's.
fn is_choice_unknown(request: &ChatRequest) -> bool {
    let Some(choice @ ToolChoice::Other(whole)) = &request.tool_choice else { return false };
    let is_allowed_tools =
        whole.get("type").is_some_and(|kind| kind.as_string().as_deref() == Some("allowed_tools"));
    request.tools.iter().any(is_function) && choice.function().is_none() && !is_allowed_tools
}

/// Whether an answer without a call would not be what was asked for.
fn wants_a_call(request: &ChatRequest) -> bool {
    match &request.tool_choice {
        None | Some(ToolChoice::Auto | ToolChoice::None) => false,
        Some(ToolChoice::Required | ToolChoice::Function(_)) => true,
        Some(choice @ ToolChoice::Other(whole)) => {
            let is_required = |json: &Json| {
                json.get("mode").is_some_and(|mode| mode.as_string().as_deref() == Some("required"))
            };
            choice.function().is_some()
                || is_required(whole)
                || whole.get("allowed_tools").as_ref().is_some_and(is_required)
        }
    }
}

fn is_neutral(name: &str, value: &Json) -> bool {
    let plain: Text = value.as_str().split_ascii_whitespace().collect::<String>().into();
    NEUTRAL.iter().any(|(field, neutral)| *field == name && plain == *neutral)
}

/// A list of names (RFC 9110 5.6.1). One that could not be read there is `other`.
fn header<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let mut value = String::new();
    for name in names {
        let is_token = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let name = if is_token && !name.is_empty() { name } else { "other" };
        if value.len() + ", ".len() + name.len() > NAMES_LEN {
            break;
        }
        if !value.is_empty() {
            value.push_str(", ");
        }
        value.push_str(name);
    }
    if value.is_empty() { None } else { HeaderValue::try_from(value).ok() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::openai::decode;

    /// What becomes of one field: `Err` with the field that is named.
    fn decided(offer: Offer, field: &str, value: &Value) -> Result<Decided, String> {
        let body =
            json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}], field: value});
        let named = |error: Error| {
            assert_eq!(error.status(), 400, "{error}");
            assert!(error.message().contains(field), "{error}");
            error.param().unwrap_or_default().to_owned()
        };
        let mut chat = decode(&body.to_string().into()).map_err(named)?.chat;
        offer.decide(&mut chat, &[]).map_err(named)
    }

    #[derive(Debug, PartialEq)]
    enum Then {
        Passes,
        Refused,
        /// Not given, and named.
        Named,
        /// The edge sees to it.
        SeenTo,
    }
    use Then::{Named, Passes, Refused, SeenTo};

    fn then_of(offer: Offer, field: &str, value: &Value) -> Then {
        match decided(offer, field, value) {
            Err(named) => {
                assert_eq!(named, field, "{offer:?}");
                Refused
            }
            Ok(Decided { left_out: Some(names), .. }) => {
                assert_eq!(names, field, "{offer:?}");
                Named
            }
            Ok(Decided { wishes, .. }) if wishes.one_call || !wishes.stop.is_empty() => SeenTo,
            Ok(_) => Passes,
        }
    }

    /// What chat.qwen.ai has not and this API has.
    #[test]
    fn the_responses_api_has_more_than_the_web_and_less_than_a_server() {
        for (field, value, then) in [
            ("max_tokens", json!(9), Passes),
            ("max_completion_tokens", json!(9), Passes),
            ("temperature", json!(0.5), Passes),
            ("top_p", json!(0.5), Passes),
            ("user", json!("ann"), Passes),
            ("tool_choice", json!("required"), Passes),
            ("response_format", json!({"type": "json_object"}), Passes),
            ("metadata", json!({"a": "b"}), Passes),
            ("anything", json!(1), Passes),
            ("stop", json!("END"), SeenTo),
            ("parallel_tool_calls", json!(false), SeenTo),
            ("top_k", json!(9), Named),
            ("presence_penalty", json!(1), Named),
            ("frequency_penalty", json!(1), Named),
            ("repetition_penalty", json!(1.1), Named),
            ("seed", json!(7), Named),
            ("seed", json!(null), Passes),
            ("top_k", json!(0), Passes),
            ("suffix", json!("x"), Refused),
            ("guided_json", json!({}), Refused),
            ("grammar", json!("x"), Refused),
            ("n", json!(2), Refused),
        ] {
            assert_eq!(then_of(Offer::Responses, field, &value), then, "{field}: {value}");
        }
    }

    /// Fields: each with a value that asks for nothing, and one that does not, over each upstream.
    #[test]
    fn nothing_is_ignored_without_a_word() {
        let schema = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {}}});
        for (field, value, everything, web) in [
            ("n", json!(1), Passes, Passes),
            ("n", json!(null), Passes, Passes),
            ("n", json!(2), Refused, Refused),
            ("logprobs", json!(false), Passes, Passes),
            ("logprobs", json!(null), Passes, Passes),
            ("logprobs", json!(true), Refused, Refused),
            ("top_logprobs", json!(0), Passes, Passes),
            ("top_logprobs", json!(5), Refused, Refused),
            ("functions", json!([{"name": "f"}]), Refused, Refused),
            ("function_call", json!("auto"), Refused, Refused),
            ("stop", json!([]), Passes, Passes),
            ("stop", json!(null), Passes, Passes),
            ("stop", json!("END"), Passes, SeenTo),
            ("stop", json!(["a", "b"]), Passes, SeenTo),
            ("response_format", json!(null), Passes, Passes),
            ("response_format", json!({"type": "text"}), Passes, Passes),
            ("response_format", json!({"type": "text", "x": 1}), Passes, Passes),
            ("response_format", json!({"type": "json_object"}), Passes, Passes),
            ("response_format", schema, Passes, Passes),
            ("response_format", json!({"type": "structural_tag"}), Passes, Passes),
            ("parallel_tool_calls", json!(true), Passes, Passes),
            ("parallel_tool_calls", json!(false), SeenTo, SeenTo),
            ("tool_choice", json!(null), Passes, Passes),
            ("tool_choice", json!("auto"), Passes, Passes),
            ("tool_choice", json!("none"), Passes, Passes),
            ("tool_choice", json!("required"), Passes, Refused),
            ("tool_choice", json!("any"), Passes, Refused),
            (
                "tool_choice",
                json!({"type": "function", "function": {"name": "f"}}),
                Refused,
                Refused,
            ),
            ("tool_choice", json!({"type": "web_search"}), Passes, Named),
            ("tool_choice", json!({"type": "allowed_tools", "mode": "required"}), Passes, Refused),
            (
                "tool_choice",
                json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": []}}),
                Passes,
                Refused,
            ),
            (
                "tool_choice",
                json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
                Passes,
                Named,
            ),
            ("seed", json!(null), Passes, Passes),
            ("seed", json!(7), Passes, Named),
            ("temperature", json!(1), Passes, Passes),
            ("temperature", json!(0), Passes, Named),
            ("top_p", json!(1.0), Passes, Passes),
            ("top_p", json!(0.5), Passes, Named),
            ("top_k", json!(-1), Passes, Passes),
            ("top_k", json!(0), Passes, Passes),
            ("top_k", json!(20), Passes, Named),
            ("presence_penalty", json!(0), Passes, Passes),
            ("presence_penalty", json!(1.5), Passes, Named),
            ("frequency_penalty", json!(0.0), Passes, Passes),
            ("frequency_penalty", json!(-1), Passes, Named),
            ("repetition_penalty", json!(1), Passes, Passes),
            ("repetition_penalty", json!(1.1), Passes, Named),
            ("max_tokens", json!(-1), Passes, Passes),
            ("max_tokens", json!(100), Passes, Named),
            ("max_completion_tokens", json!(100), Passes, Named),
            ("user", json!("ann"), Passes, Named),
            ("logit_bias", json!({}), Passes, Passes),
            ("logit_bias", json!({"5": -100}), Passes, Named),
            ("metadata", json!({}), Passes, Passes),
            ("metadata", json!({"a": "b"}), Passes, Named),
            ("service_tier", json!("auto"), Passes, Passes),
            ("service_tier", json!("flex"), Passes, Named),
            ("store", json!(false), Passes, Passes),
            ("store", json!(true), Passes, Named),
            ("min_p", json!(0.1), Passes, Named),
            ("prediction", json!({"type": "content", "content": "x"}), Passes, Named),
            ("verbosity", json!("low"), Passes, Named),
            ("newer_than_this", json!([1]), Passes, Named),
            ("newer_than_this", json!(null), Passes, Passes),
            ("modalities", json!(["text"]), Passes, Passes),
            ("modalities", json!([]), Passes, Passes),
            ("suffix", json!(""), Passes, Passes),
            ("suffix", json!("x"), Passes, Refused),
            ("best_of", json!(1), Passes, Passes),
            ("best_of", json!(2), Passes, Refused),
            ("echo", json!(false), Passes, Passes),
            ("echo", json!(true), Passes, Refused),
            ("prompt_logprobs", json!(0), Passes, Passes),
            ("prompt_logprobs", json!(3), Passes, Refused),
            ("n_probs", json!(0), Passes, Passes),
            ("n_probs", json!(5), Passes, Refused),
            ("return_token_ids", json!(false), Passes, Passes),
            ("return_token_ids", json!(true), Passes, Refused),
            ("return_tokens_as_token_ids", json!(true), Passes, Refused),
            ("continue_final_message", json!(false), Passes, Passes),
            ("continue_final_message", json!(true), Passes, Refused),
            ("functions", json!([]), Passes, Passes),
            ("functions", json!(null), Passes, Passes),
            ("function_call", json!("none"), Passes, Passes),
            ("modalities", json!(["text", "audio"]), Passes, Refused),
            ("audio", json!({"voice": "x"}), Passes, Refused),
            ("guided_json", json!({}), Passes, Refused),
            ("guided_regex", json!("a+"), Passes, Refused),
            ("guided_choice", json!(["a"]), Passes, Refused),
            ("guided_grammar", json!("root"), Passes, Refused),
            ("structured_outputs", json!({"json": {}}), Passes, Refused),
            ("grammar", json!("root"), Passes, Refused),
            ("json_schema", json!({}), Passes, Refused),
            ("regex", json!("a"), Passes, Refused),
            ("ebnf", json!("a"), Passes, Refused),
            ("reasoning_effort", json!("high"), Passes, Passes),
            ("enable_thinking", json!(true), Passes, Passes),
            ("reasoning", json!({"effort": "low"}), Passes, Passes),
            ("chat_template_kwargs", json!({"enable_thinking": true}), Passes, Passes),
            ("web_search_options", json!({}), Passes, Passes),
            ("stream_options", json!({"include_usage": true}), Passes, Passes),
        ] {
            for (offer, then) in [(Offer::Everything, everything), (Offer::Web, web)] {
                assert_eq!(then_of(offer, field, &value), then, "{offer:?}: {field} {value}");
            }
        }
    }

    /// Fields: with a function there is something to choose, and without one, whatever else is
    /// among the tools, there is not.
    #[test]
    fn a_call_that_is_wanted_needs_a_function() {
        let function = json!({"type": "function", "function": {"name": "f"}});
        let search = json!({"type": "web_search"});
        for (tools, is_refused) in [
            (json!([function]), false),
            (json!([search, function]), false),
            (json!([search]), true),
            (json!([]), true),
        ] {
            let body = json!({"model": "m", "tools": tools, "tool_choice": "required",
                "messages": [{"role": "user", "content": "Hi"}]});
            let mut chat = decode(&body.to_string().into()).expect("valid").chat;
            let decided = Offer::Web.decide(&mut chat, &[]);
            let param = decided.as_ref().err().and_then(Error::param);
            assert_eq!(param, is_refused.then_some("tool_choice"), "{tools}");
            assert!(Offer::Everything.decide(&mut chat, &[]).is_ok(), "{tools}");
        }
    }

    /// Tools that nobody would tell the model of, and choices that nobody would read.
    #[test]
    fn other_tools_and_choices_are_refused_over_the_web() {
        let function = json!({"type": "function", "function": {"name": "f"}});
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto",
            "tools": [{"type": "function", "function": {"name": "f"}}]}});
        let named = json!({"type": "function", "function": {"name": "f"}, "x": 1});
        for (tools, choice, refused) in [
            (json!([function]), json!(null), None),
            (json!([{"type": "web_search"}]), json!(null), None),
            (json!([{"type": "web_search_preview"}, function]), json!("auto"), None),
            (json!([{"type": "web_search_2025_08_26"}]), json!(null), None),
            (json!([{"type": "custom", "custom": {"name": "x"}}]), json!(null), Some("tools")),
            (json!([function, {"type": "mcp", "server_label": "x"}]), json!(null), Some("tools")),
            (json!([{"type": "code_interpreter"}]), json!(null), Some("tools")),
            (json!([function, {"type": "file_search"}]), json!("none"), Some("tools")),
            (json!([{"type": "image_generation"}]), json!(null), Some("tools")),
            (json!([function]), json!("required"), None),
            (json!([function]), allowed, None),
            (json!([function]), named, None),
            (json!([function]), json!({"type": "web_search"}), Some("tool_choice")),
            (json!([function]), json!({"type": "any"}), Some("tool_choice")),
            (json!([function]), json!({"type": "tool", "name": "f"}), Some("tool_choice")),
            (
                json!([function]),
                json!({"type": "custom", "custom": {"name": "x"}}),
                Some("tool_choice"),
            ),
            (json!([{"type": "web_search"}]), json!({"type": "web_search"}), None),
        ] {
            let body = json!({"model": "m", "tools": tools, "tool_choice": choice,
                "messages": [{"role": "user", "content": "Hi"}]});
            let mut chat = decode(&body.to_string().into()).expect("valid").chat;
            let decided = Offer::Web.decide(&mut chat, &[]);
            let error = decided.as_ref().err();
            assert_eq!(error.and_then(Error::param), refused, "{tools} {choice}");
            assert!(error.is_none_or(|error| error.status() == 400), "{tools} {choice}");
            assert!(Offer::Everything.decide(&mut chat, &[]).is_ok(), "{tools} {choice}");
        }
    }

    #[test]
    fn both_names_of_the_limit_are_named() {
        let body = json!({"model": "m", "max_tokens": 9, "max_completion_tokens": 7,
            "messages": [{"role": "user", "content": "Hi"}]});
        let mut chat = decode(&body.to_string().into()).expect("valid").chat;
        let decided = Offer::Web.decide(&mut chat, &[]).expect("left out");
        assert_eq!(decided.left_out.expect("names"), "max_tokens, max_completion_tokens");
    }

    #[test]
    fn names_are_listed_as_a_header_can_hold_them() {
        assert_eq!(header(std::iter::empty()), None);
        let list = header(["seed", "a b\r\nx: y", "über"].into_iter());
        assert_eq!(list.expect("a list"), "seed, other, other");
        let many: Vec<_> = (0..10_000).map(|n| format!("field_{n}")).collect();
        assert!(header(many.iter().map(String::as_str)).expect("a list").len() <= NAMES_LEN);
    }
}
