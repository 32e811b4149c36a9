//! What a request asks for, and what of it these servers refuse.

use crate::json::Value;
use bytes::Bytes;

use super::{Dialect, error::Fault, given};
use crate::{
    completion::read_content,
    kind::Kind,
    prompt::{Section, Speaker, Turn, last_turn},
    tools::{Call, Choice, Format},
};

/// The most thinking that the emulated DashScope models do, in tokens.
const BUDGET: u64 = 81_920;

/// The efforts that the template of Qwen3.8 knows; it raises on every other.
const LADDER: [&str; 3] = ["low", "medium", "xhigh"];

/// JSON-Schema keywords that the portal refuses.
const REFUSED_BY_PORTAL: [&str; 2] = ["additionalProperties", "patternProperties"];

/// Which of the APIs for answers a request is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `POST /chat/completions`.
    Chat,
    /// `POST /completions`.
    Text,
    /// llama.cpp's `POST /infill`.
    Infill,
}

/// A request for an answer.
#[derive(Debug)]
pub(super) struct Ask {
    body: Value,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) form: Form,
    /// The texts of system and developer messages.
    pub(super) instructions: String,
    /// The texts of the messages up to the last of the assistant.
    pub(super) path: Vec<String>,
    /// What came since.
    turn: Vec<(Speaker, String)>,
    /// The same in one piece.
    pub(super) content: String,
    /// How many parts are no text.
    pub(super) files: usize,
}

impl Ask {
    /// Reads `POST /chat/completions`.
    pub(super) fn read(body: &Bytes) -> Result<Self, Fault> {
        let body = object(body)?;
        let model = text(&body, "model")?;
        let messages = body["messages"]
            .as_array()
            .filter(|messages| !messages.is_empty())
            .ok_or_else(|| Fault::bad(Some("messages"), "messages must be a list of messages"))?;
        let format = format(&model);
        let mut ask = Self {
            stream: body["stream"] == true,
            form: Form::Chat,
            instructions: String::new(),
            path: Vec::new(),
            turn: Vec::new(),
            content: String::new(),
            files: 0,
            model,
            body: Value::Null,
        };
        for message in messages {
            let (speaker, text) = ask.message(message, format)?;
            match speaker {
                Speaker::System => {
                    if !ask.instructions.is_empty() {
                        ask.instructions.push_str("\n\n");
                    }
                    ask.instructions.push_str(&text);
                }
                Speaker::Assistant => {
                    ask.path.extend(ask.turn.drain(..).map(|(_, text)| text));
                    ask.path.push(text);
                }
                Speaker::User | Speaker::Tool => ask.turn.push((speaker, text)),
            }
        }
        let texts: Vec<&str> = ask.turn.iter().map(|(_, text)| &**text).collect();
        ask.content = texts.join("\n\n");
        ask.body = body;
        Ok(ask)
    }

    /// Reads `POST /completions`.
    pub(super) fn prompt(body: &Bytes, dialect: Dialect) -> Result<Self, Fault> {
        let body = object(body)?;
        let model = text(&body, "model")?;
        let prompt = match &body["prompt"] {
            Value::String(prompt) => prompt.clone(),
            Value::Array(prompts) => match prompts.as_slice() {
                [Value::String(prompt)] => prompt.clone(),
                _ => return Err(Fault::bad(Some("prompt"), "one prompt of text is needed")),
            },
            _ => return Err(Fault::bad(Some("prompt"), "Field required")),
        };
        let is_coder = model.to_ascii_lowercase().contains("coder");
        let has = |start: &&str| model.starts_with(start);
        let suffix = given(&body, "suffix");
        let content = match dialect.kind {
            Kind::Vllm if suffix.is_some() => {
                return Err(Fault::bad(None, "suffix is not currently supported"));
            }
            // The name alone is too much.
            Kind::LlamaCpp if body.get("suffix").is_some() => {
                return Err(Fault::bad(None, "Unsupported param: suffix"));
            }
            Kind::DashScope if !["qwen-coder", "qwen2.5-coder"].iter().any(has) => {
                let message = format!("Unsupported model `{model}` for OpenAI compatibility mode.");
                return Err(Fault::bad(None, message));
            }
            // The model's template says where it goes, if it says anything of it.
            Kind::Ollama => match suffix.and_then(Value::as_str).filter(|text| !text.is_empty()) {
                Some(suffix) if is_coder => between(&prompt, suffix),
                Some(_) => {
                    let message =
                        format!("registry.ollama.ai/library/{model} does not support insert");
                    return Err(Fault::bad(None, message));
                }
                None => prompt,
            },
            // SGLang does not look at it, and DashScope does not say that there is one.
            _ => prompt,
        };
        Ok(Self::of_prompt(Form::Text, model, content, body))
    }

    /// Reads `POST /infill`. The model is whichever the server has.
    pub(super) fn infill(body: &Bytes, model: &str) -> Result<Self, Fault> {
        let body = object(body)?;
        let required = |key: &'static str| {
            let message = format!("\"{key}\" is required");
            body[key].as_str().ok_or_else(|| Fault::bad(None, message))
        };
        let mut prefix = required("input_prefix")?.to_owned();
        let suffix = required("input_suffix")?;
        // What the user has begun to write.
        prefix.push_str(body["prompt"].as_str().unwrap_or_default());
        let mut content = String::new();
        for chunk in body["input_extra"].as_array().into_iter().flatten() {
            let text = chunk["text"].as_str().ok_or_else(|| {
                Fault::bad(
                    None,
                    "extra_context chunk must contain a \"text\" field with a string value",
                )
            })?;
            let name = chunk["filename"].as_str().unwrap_or("tmp");
            content.push_str(&format!("<|file_sep|>{name}\n{text}"));
        }
        content.push_str(&between(&prefix, suffix));
        Ok(Self::of_prompt(Form::Infill, model.to_owned(), content, body))
    }

    fn of_prompt(form: Form, model: String, content: String, body: Value) -> Self {
        Self {
            stream: body["stream"] == true,
            form,
            instructions: String::new(),
            path: Vec::new(),
            turn: vec![(Speaker::User, content.clone())],
            content,
            files: 0,
            model,
            body,
        }
    }

    fn message(&mut self, message: &Value, format: Format) -> Result<(Speaker, String), Fault> {
        let speaker = match message["role"].as_str() {
            Some("system" | "developer") => Speaker::System,
            Some("user") => Speaker::User,
            Some("assistant") => Speaker::Assistant,
            Some("tool" | "function") => Speaker::Tool,
            _ => return Err(Fault::bad(Some("messages"), "Unexpected message role.")),
        };
        let calls = given(message, "tool_calls").and_then(Value::as_array);
        let mut text = match given(message, "content") {
            None if calls.is_some() => String::new(),
            None => return Err(Fault::bad(Some("messages"), "a message needs content")),
            Some(content) => {
                let (text, files) = read_content(content)
                    .ok_or_else(|| Fault::bad(Some("messages"), "content is text or parts"))?;
                self.files += files;
                text
            }
        };
        // As the chat template shows earlier calls to the model.
        for call in calls.into_iter().flatten() {
            let function = &call["function"];
            let name = function["name"].as_str().unwrap_or_default();
            let arguments = function["arguments"].as_str().unwrap_or_default();
            if !text.is_empty() {
                text.push_str(if text.ends_with("</tool_call>") { "\n" } else { "\n\n" });
            }
            text.push_str(&Call::new(name, arguments).render(format));
        }
        Ok((speaker, text))
    }

    /// What is to be answered.
    pub(super) fn turn(&self) -> Turn<'_> {
        let sections: Vec<Section<'_>> = self
            .turn
            .iter()
            .map(|(speaker, text)| Section { speaker: *speaker, text: text.trim() })
            .collect();
        match last_turn(&sections) {
            // Several results are one turn.
            Turn::ToolResult(_) => Turn::ToolResult(&self.content),
            user @ Turn::User(_) => user,
        }
    }

    pub(super) fn tools(&self) -> &Value {
        &self.body["tools"]
    }

    pub(super) fn has_tools(&self) -> bool {
        self.tools().as_array().is_some_and(|tools| !tools.is_empty())
    }

    /// With an empty list of tools the portal's model calls what comes to its mind.
    pub(super) fn has_empty_tools(&self) -> bool {
        self.tools().as_array().is_some_and(Vec::is_empty)
    }

    /// Which calls the request allows.
    pub(super) fn choice(&self, dialect: Dialect) -> Choice<'_> {
        let choice = &self.body["tool_choice"];
        let only = choice["function"]["name"].as_str();
        // DashScope: one call at a time, unless more are allowed.
        let parallel = given(&self.body, "parallel_tool_calls")
            .map_or(!matches!(dialect.kind, Kind::DashScope), |parallel| *parallel != false);
        Choice {
            forbidden: choice == "none",
            required: choice == "required" || only.is_some(),
            single: !parallel || only.is_some(),
            only: only.map(|name| vec![name]),
        }
    }

    /// Whether the calls were not the model's own idea.
    pub(super) fn demands_calls(&self) -> bool {
        let choice = &self.body["tool_choice"];
        choice == "required" || choice.is_object()
    }

    /// How many tokens the answer may have.
    pub(super) fn limit(&self) -> Option<usize> {
        let names: &[&str] = match self.form {
            Form::Infill => &["n_predict"],
            _ => &["max_completion_tokens", "max_tokens"],
        };
        let limit = names.iter().find_map(|key| self.body[*key].as_u64())?;
        Some(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// The strings at which the answer stops.
    pub(super) fn stops(&self) -> Vec<&str> {
        match &self.body["stop"] {
            Value::String(stop) => vec![stop],
            Value::Array(stops) => stops.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the stream says what it cost, and whether in every chunk.
    pub(super) fn usage(&self, dialect: Dialect) -> (bool, bool) {
        let options = &self.body["stream_options"];
        let Some(options) = options.as_object() else { return (false, false) };
        let is = |key: &str| options.get(key).is_some_and(|value| *value == true);
        // Before March 2026 vLLM took any `stream_options` for a yes.
        let implied =
            dialect.is(Kind::Vllm) && dialect.old && !options.contains_key("include_usage");
        let continuous = match dialect.kind {
            Kind::Vllm => true,
            Kind::SgLang => !dialect.old,
            _ => false,
        };
        (is("include_usage") || implied, continuous && is("continuous_usage_stats"))
    }

    /// Whether the web is searched, and what was found to be told.
    pub(super) fn wants_sources(&self) -> bool {
        self.body["enable_search"] == true && self.body["search_options"]["enable_source"] == true
    }

    /// How many characters the prompt has.
    pub(super) fn characters(&self) -> usize {
        let path = self.path.iter().map(String::len).sum::<usize>();
        self.instructions.len() + path + self.content.len()
    }

    /// What the dialect refuses, except for thinking.
    pub(super) fn check(&self, dialect: Dialect, models: &[String]) -> Result<(), Fault> {
        if dialect.is(Kind::Portal) && matches!(&*self.model, "qwen3.5-plus" | "qwen3.6-plus") {
            // These go by another name there.
            return Err(Fault::model_not_found(dialect, &self.model));
        }
        // One model is all that these two have; they do not look at its name.
        let any = matches!(dialect.kind, Kind::SgLang | Kind::LlamaCpp);
        if !any && !models.contains(&self.model) {
            return Err(Fault::model_not_found(dialect, &self.model));
        }
        match dialect.kind {
            Kind::DashScope => self.check_dashscope(),
            Kind::Portal => self.check_portal(),
            _ => Ok(()),
        }
    }

    /// What DashScope refuses and other servers take.
    fn check_dashscope(&self) -> Result<(), Fault> {
        let model = self.model.to_ascii_lowercase();
        if !self.stream && ["qwq", "qvq", "omni"].iter().any(|name| model.contains(name)) {
            return Err(Fault::bad(
                None,
                "This model only support stream mode, please enable the stream parameter to access \
                 the model.",
            ));
        }
        if self.body["enable_search"] == true && (model.contains("coder") || is_open(&model)) {
            return Err(Fault::bad(None, "This model does not support enable_search."));
        }
        if let Some(n) = given(&self.body, "n") {
            let most = if self.has_tools() { 1 } else { 4 };
            if n.as_u64().is_none_or(|n| n == 0 || n > most) {
                let message = format!("Range of n should be [1, {most}]");
                return Err(Fault::bad(Some("n"), message));
            }
        }
        if let Some(seed) = given(&self.body, "seed")
            && seed.as_u64().is_none_or(|seed| seed > 0x7fff_ffff)
        {
            return Err(Fault::bad(Some("seed"), "Range of seed should be [0, 2147483647]"));
        }
        if self.body["response_format"]["type"] == "json_object" {
            let texts = self.path.iter().chain([&self.instructions, &self.content]);
            if !texts.into_iter().any(|text| text.to_ascii_lowercase().contains("json")) {
                return Err(Fault::bad(
                    Some("messages"),
                    "'messages' must contain the word 'json' in some form, to use \
                     'response_format' of type 'json_object'.",
                ));
            }
        }
        Ok(())
    }

    /// What the portal does not forgive.
    fn check_portal(&self) -> Result<(), Fault> {
        let messages = self.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let bad = |message: &str| Err(Fault::bad(Some("messages"), message));
        if !messages.iter().any(|message| message["role"] == "system") {
            return bad("a system message is required");
        }
        for message in messages {
            let parts = message["content"].as_array();
            let texts =
                parts.is_some_and(|parts| parts.iter().all(|part| part["text"].is_string()));
            if message["role"] == "system" && !texts {
                return bad("the content of the system message must be a list of text parts");
            }
            if message["role"] != "system" && texts {
                return bad("the content of this role must be a string");
            }
        }
        let plain = |message: &Value| given(message, "tool_calls").is_none();
        for pair in messages.windows(2) {
            let role = &pair[0]["role"];
            if *role == pair[1]["role"] && role != "tool" && plain(&pair[0]) && plain(&pair[1]) {
                return bad("two messages of one role may not follow each other");
            }
        }
        if self.tools().as_array().into_iter().flatten().any(has_refused_keyword) {
            return Err(Fault::bad(Some("tools"), "the schema has an unsupported keyword"));
        }
        let most = if self.model == "vision-model" { 32_768 } else { 65_536 };
        if self.body["max_tokens"].as_u64().is_some_and(|tokens| tokens > most) {
            let message = format!("Range of max_tokens should be [1, {most}]");
            return Err(Fault::bad(Some("max_tokens"), message));
        }
        Ok(())
    }

    /// Whether the model thinks, where `forced` says that it does.
    pub(super) fn thinking(&self, dialect: Dialect, forced: bool) -> Result<bool, Fault> {
        let model = self.model.to_ascii_lowercase();
        let body = &self.body;
        let switch = given(body, "enable_thinking").and_then(Value::as_bool);
        let budget = given(body, "thinking_budget");
        let effort = given(body, "reasoning_effort")
            .or_else(|| given(&body["reasoning"], "effort"))
            .and_then(Value::as_str);
        if let Some(effort) = effort {
            check_effort(dialect, &model, effort)?;
        }
        let wanted = match dialect.kind {
            Kind::DashScope | Kind::Portal => {
                if switch == Some(false) && must_think(&model) {
                    let message = "parameter.enable_thinking is restricted to True for this model";
                    return Err(Fault::bad(Some("enable_thinking"), message));
                }
                if effort.is_some() && (switch.is_some() || budget.is_some()) {
                    let message = "reasoning_effort excludes enable_thinking and thinking_budget";
                    return Err(Fault::bad(Some("reasoning_effort"), message));
                }
                if budget.is_some_and(|n| n.as_u64().is_none_or(|n| n == 0 || n > BUDGET)) {
                    let message = format!("Range of thinking_budget should be [1, {BUDGET}]");
                    return Err(Fault::bad(Some("thinking_budget"), message));
                }
                if switch == Some(true) && model.contains("coder") && dialect.is(Kind::DashScope) {
                    let message = "parameter.enable_thinking is not supported by this model";
                    return Err(Fault::bad(Some("enable_thinking"), message));
                }
                switch.or(effort.map(|effort| effort != "none"))
            }
            Kind::Ollama => effort.map(|effort| effort != "none"),
            _ => body["chat_template_kwargs"]["enable_thinking"].as_bool().or_else(|| {
                let off = dialect.is(Kind::LlamaCpp) && effort == Some("none");
                off.then_some(false)
            }),
        };
        // Hybrid models think unless told not to; of DashScope's own most do not.
        let usual = is_open(&model)
            || has_ladder(&model)
            || ["thinking", "qwq"].iter().any(|name| model.contains(name));
        let able = !model.contains("coder") && self.form == Form::Chat;
        let thinks = forced || (able && wanted.unwrap_or(usual));
        if dialect.is(Kind::DashScope) && thinks {
            if !self.stream && is_open(&model) {
                return Err(Fault::bad(
                    Some("enable_thinking"),
                    "parameter.enable_thinking must be set to false for non-streaming calls",
                ));
            }
            if body["tool_choice"].is_object() {
                return Err(Fault::bad(
                    Some("tool_choice"),
                    "The tool_choice parameter does not support being set to an object in thinking \
                     mode.",
                ));
            }
        }
        Ok(thinks)
    }
}

/// Whether `model`, in lower case, is of the family whose efforts are a ladder of its own.
fn has_ladder(model: &str) -> bool {
    model.contains("qwen3.8")
}

/// Whether `model`, in lower case, is one that DashScope does not let answer without thinking.
fn must_think(model: &str) -> bool {
    ["qwen3.8-max-preview", "kimi-k2.7-code", "kimi-k3"].contains(&model)
}

/// Whether the server, and the template of `model`, take a word for how hard it shall think.
fn check_effort(dialect: Dialect, model: &str, effort: &str) -> Result<(), Fault> {
    let bad = |message: String| Err(Fault::bad(Some("reasoning_effort"), message));
    match dialect.kind {
        Kind::DashScope | Kind::Portal => {
            let words = ["none", "minimal", "low", "medium", "high", "xhigh"];
            if has_ladder(model) && !words.contains(&effort) {
                return bad(format!("reasoning_effort should be one of {}", words.join(", ")));
            }
            if effort == "none" && must_think(model) {
                return bad("reasoning_effort none is not supported by this model".to_owned());
            }
            return Ok(());
        }
        // Later builds take more words, and ask the template.
        Kind::Ollama if dialect.old && !["high", "medium", "low", "none"].contains(&effort) => {
            return bad(format!(
                "invalid reasoning value: '{effort}' (must be \"high\", \"medium\", \"low\", or \
                 \"none\")"
            ));
        }
        // These take it for a switch.
        Kind::Ollama | Kind::LlamaCpp if effort == "none" => return Ok(()),
        _ => {}
    }
    if !has_ladder(model) || LADDER.contains(&effort) {
        return Ok(());
    }
    let raised = format!("Unexpected reasoning effort {effort}");
    match dialect.kind {
        Kind::SgLang => Err(Fault::bad(None, raised)),
        Kind::Vllm if !dialect.old => Err(Fault::bad(None, raised)),
        _ => Err(Fault::failed(&raised)),
    }
}

/// A prompt for what stands between two texts, in the control tokens of Qwen's coder models.
fn between(prefix: &str, suffix: &str) -> String {
    format!("<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>")
}

/// The body as a JSON object.
pub(super) fn object(body: &Bytes) -> Result<Value, Fault> {
    serde_json::from_slice(body)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Fault::bad(None, "the body is not a JSON object"))
}

/// A field that must be text.
pub(super) fn text(body: &Value, key: &'static str) -> Result<String, Fault> {
    let text = body[key].as_str().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| Fault::bad(Some(key), format!("{key}: Field required")))
}

/// Whether `model`, in lower case, is one of the open hybrid models: Qwen3 with a number of
/// parameters and no other purpose, as `qwen3-32b` or `qwen/qwen3.5-35b-a3b`.
fn is_open(model: &str) -> bool {
    let Some((_, rest)) = model.rsplit_once("qwen3") else { return false };
    let rest = match rest.strip_prefix('.') {
        Some(minor) => minor.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    let sized = rest.strip_prefix(['-', ':']).is_some_and(|rest| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        digits.len() < rest.len() && digits.starts_with('b')
    });
    sized && !["coder", "instruct", "embedding"].iter().any(|name| rest.contains(name))
}

/// The format in which `model` was trained to write calls.
pub(super) fn format(model: &str) -> Format {
    let model = model.to_ascii_lowercase();
    if model.contains("coder") {
        return Format::Coder;
    }
    let version = model.rsplit_once("qwen").map_or("", |(_, rest)| rest.trim_start_matches('-'));
    let digits = |text: &str| -> Option<u32> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text[..end].parse().ok()
    };
    let minor = version.split_once('.').and_then(|(_, minor)| digits(minor)).unwrap_or(0);
    match digits(version) {
        Some(0..=2) => Format::Hermes,
        Some(3) if minor < 5 => Format::Hermes,
        _ => Format::Coder,
    }
}

/// Whether a schema holds a keyword that the portal refuses. A property may have such a name.
fn has_refused_keyword(schema: &Value) -> bool {
    match schema {
        Value::Object(object) => object.fields().any(|(key, value)| match key {
            key if REFUSED_BY_PORTAL.contains(&key) => true,
            "properties" => value
                .as_object()
                .is_some_and(|all| all.fields().any(|(_, value)| has_refused_keyword(value))),
            "enum" | "const" | "default" | "examples" => false,
            _ => has_refused_keyword(value),
        }),
        Value::Array(items) => items.iter().any(has_refused_keyword),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_hybrid_models_are_told_from_others() {
        for model in ["qwen3-32b", "qwen/qwen3-0.6b", "qwen3:32b", "qwen3.5-35b-a3b"] {
            assert!(is_open(model), "{model}");
        }
        for model in [
            "qwen3-coder-30b",
            "qwen3-max",
            "qwen-plus",
            "qwen3-30b-a3b-instruct-2507",
            "qwen3.7-plus",
        ] {
            assert!(!is_open(model), "{model}");
        }
    }

    #[test]
    fn models_write_calls_in_the_format_of_their_family() {
        for model in ["Qwen/Qwen3-Coder-30B", "qwen3.5-27b", "qwen-plus", "coder-model", "other"] {
            assert_eq!(format(model), Format::Coder, "{model}");
        }
        for model in ["Qwen/Qwen3-32B", "qwen2.5-72b", "qwen3-max"] {
            assert_eq!(format(model), Format::Hermes, "{model}");
        }
    }

    #[test]
    fn properties_may_have_the_name_of_a_keyword() {
        let schema = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert!(has_refused_keyword(&schema(r#"{"a":[{"additionalProperties":false}]}"#)));
        assert!(!has_refused_keyword(&schema(r#"{"properties":{"patternProperties":{}}}"#)));
        assert!(has_refused_keyword(&schema(r#"{"properties":{"x":{"patternProperties":{}}}}"#)));
    }
}
