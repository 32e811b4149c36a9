//! Tools that a prompt offers, and calls to them in the format that the prompt asks for.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::{Map, Value, json};

/// How many calls one answer makes at most.
const CALLS: usize = 8;
/// How many definitions that cannot be read are skipped before the rest is given up.
const UNREADABLE: usize = 64;
/// How deep made-up arguments are nested.
const DEPTH: usize = 8;
/// How many values are made up for one call.
const VALUES: usize = 256;

/// How calls are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `<function=NAME>` in `<tool_call>`.
    Coder,
    /// A JSON object in `<tool_call>`.
    Hermes,
    /// `<NAME>` with a tag for each parameter.
    Tags,
}

/// A tool that may be called.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tool {
    name: String,
    schema: Value,
}

/// What a prompt offers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Offer {
    format: Format,
    tools: Vec<Tool>,
    /// Whether an answer holds one call at most, as clients of the XML protocol want it.
    single: bool,
}

/// Arguments with the bytes that they were given in.
#[derive(Debug)]
struct Arguments(Vec<(String, Box<RawValue>)>);

/// A call that the model makes.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) name: &'a str,
    arguments: Arguments,
}

/// Which calls may be made in this turn: what a line behind the user's words says, or what the
/// request's own fields do.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Choice<'a> {
    pub(super) forbidden: bool,
    pub(super) required: bool,
    pub(super) single: bool,
    pub(super) only: Option<Vec<&'a str>>,
}

impl Offer {
    /// Reads the tools that `prompt` offers, in any of the usual ways: JSON objects or
    /// `<function>` elements in `<tools>`, or a section `## NAME` for each with a usage example
    /// that holds the tag `<NAME>`.
    pub(super) fn read(prompt: &str) -> Option<Self> {
        if let Some((list, rest)) =
            prompt.split_once("<tools>").and_then(|(_, rest)| rest.split_once("</tools>"))
        {
            let mut tools = json_tools(list);
            if tools.is_empty() {
                tools = xml_tools(list);
            }
            if !tools.is_empty() {
                let end = rest.char_indices().nth(2_000).map_or(rest.len(), |(at, _)| at);
                let how = &rest[..end];
                let format = if how.contains("<function=") {
                    Format::Coder
                } else if how.contains("<tool_call>") {
                    Format::Hermes
                } else {
                    Format::Tags
                };
                return Some(Self { format, tools, single: false });
            }
        }
        let tools = section_tools(prompt);
        (!tools.is_empty()).then_some(Self { format: Format::Tags, tools, single: true })
    }

    /// The functions that a request declares in its `tools`; `format` is the one that the model
    /// writes by itself.
    pub(super) fn declared(tools: &Value, format: Format) -> Option<Self> {
        let tools: Vec<Tool> =
            tools.as_array().into_iter().flatten().filter_map(function_tool).collect();
        (!tools.is_empty()).then_some(Self { format, tools, single: false })
    }

    /// The schema of the function `name`, if it is one of these.
    pub(super) fn schema(&self, name: &str) -> Option<&Value> {
        self.tools.iter().find(|tool| tool.name == name).map(|tool| &tool.schema)
    }

    /// Calls as the model writes them.
    pub(super) fn render(&self, calls: &[Call<'_>]) -> String {
        let texts: Vec<String> = calls.iter().map(|call| call.render(self.format)).collect();
        texts.join("\n")
    }

    /// The calls that the user's `words` ask for, as text; `None` if they name no tool, and
    /// nothing says that one must be called.
    ///
    /// A tool is asked for by its name as a word of its own. Arguments right behind the name, as
    /// JSON or in parentheses (`name {"a":1}`, `name(a=1, b="x")`), are passed on as they are;
    /// otherwise what the schema requires is made up.
    pub(super) fn answer(&self, words: &str) -> Option<String> {
        let (words, choice) = Choice::split(words);
        let calls = self.calls(words, &choice);
        (!calls.is_empty()).then(|| self.render(&calls))
    }

    /// The calls that the user's `words` ask for, as far as `choice` allows them.
    pub(super) fn calls(&self, words: &str, choice: &Choice<'_>) -> Vec<Call<'_>> {
        if choice.forbidden {
            return Vec::new();
        }
        let allowed = |tool: &&Tool| {
            choice.only.as_ref().is_none_or(|only| only.contains(&tool.name.as_str()))
        };
        let mut named: Vec<(usize, &Tool)> = self
            .tools
            .iter()
            .filter(allowed)
            .flat_map(|tool| places(words, &tool.name).map(move |at| (at, tool)))
            .collect();
        named.sort_by_key(|(at, _)| *at);
        let mut calls: Vec<Call<'_>> = Vec::new();
        let mut read = 0;
        for (at, tool) in named {
            // A name within the arguments of an earlier call is an argument.
            if at < read || calls.len() == CALLS {
                continue;
            }
            let after = at + tool.name.len();
            match given(&words[after..]) {
                Some((arguments, length)) => {
                    read = after + length;
                    calls.push(Call { name: &tool.name, arguments });
                }
                None if calls.iter().all(|call| call.name != tool.name) => {
                    calls.push(Call { name: &tool.name, arguments: made_up(tool, words) });
                }
                None => {}
            }
        }
        if calls.is_empty()
            && choice.required
            && let Some(tool) = self.tools.iter().find(allowed)
        {
            calls.push(Call { name: &tool.name, arguments: made_up(tool, words) });
        }
        if self.single || choice.single {
            calls.truncate(1);
        }
        calls
    }
}

impl<'a> Choice<'a> {
    /// Takes the last paragraph off `words`, if it says which functions this reply calls.
    pub(super) fn split(words: &'a str) -> (&'a str, Self) {
        let (before, line) = words.rsplit_once("\n\n").unwrap_or(("", words));
        let line = line.trim();
        let calls = line.starts_with("Call ") || line.starts_with("Do not call ");
        if !calls || !line.contains("in this reply") {
            return (words, Self::default());
        }
        let one = line
            .strip_prefix("Call the function ")
            .and_then(|rest| rest.split_once(" in this reply"))
            .map(|(name, _)| vec![name]);
        let several = line
            .split_once("out of these")
            .and_then(|(_, rest)| rest.split_once(": "))
            .map(|(_, names)| names.trim_end_matches('.').split(", ").collect());
        let choice = Self {
            forbidden: line.starts_with("Do not "),
            required: one.is_some()
                || line.contains("at least one function")
                || line.contains("exactly one function"),
            single: ["at most one", "exactly one", "exactly once"]
                .iter()
                .any(|limit| line.contains(limit)),
            only: one.or(several),
        };
        (before, choice)
    }
}

impl<'a> Call<'a> {
    /// A call whose arguments are the fields of `arguments`, a JSON object; without any if it is
    /// something else.
    pub(super) fn new(name: &'a str, arguments: &str) -> Self {
        let arguments = serde_json::from_str(arguments).unwrap_or(Arguments(Vec::new()));
        Self { name, arguments }
    }

    /// The arguments as one JSON object.
    pub(super) fn arguments(&self) -> String {
        let Arguments(arguments) = &self.arguments;
        let fields =
            arguments.iter().map(|(key, value)| format!("{}: {}", quoted(key), value.get()));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    }

    pub(super) fn render(&self, format: Format) -> String {
        let Self { name, arguments: Arguments(fields) } = self;
        let mut text = String::new();
        match format {
            Format::Coder => {
                text += &format!("<tool_call>\n<function={name}>\n");
                for (key, value) in fields {
                    text += &format!("<parameter={key}>\n{}\n</parameter>\n", plain(value));
                }
                text += "</function>\n</tool_call>";
            }
            Format::Hermes => {
                let (name, arguments) = (quoted(name), self.arguments());
                text += &format!(
                    "<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>"
                );
            }
            Format::Tags => {
                text += &format!("<{name}>\n");
                for (key, value) in fields {
                    text += &format!("<{key}>{}</{key}>\n", plain(value));
                }
                text += &format!("</{name}>");
            }
        }
        text
    }
}

/// A value as text: a string as it is, anything else as JSON.
fn plain(value: &RawValue) -> String {
    serde_json::from_str::<String>(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn raw(value: &Value) -> Option<Box<RawValue>> {
    RawValue::from_string(value.to_string()).ok()
}

/// Where `name` stands in `words` as a word of its own, and not as the name of a directive.
fn places<'a>(words: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let joins = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    words.match_indices(name).map(|(at, _)| at).filter(move |at| {
        let (before, after) = (&words[..*at], &words[at + name.len()..]);
        !before.ends_with(joins) && !before.ends_with("emulate:") && !after.starts_with(joins)
    })
}

/// The arguments at the start of `text`, and where they end.
fn given(text: &str) -> Option<(Arguments, usize)> {
    let start = text.trim_start();
    let blank = text.len() - start.len();
    if start.starts_with('{') {
        let mut objects = serde_json::Deserializer::from_str(start).into_iter::<Arguments>();
        let arguments = objects.next()?.ok()?;
        return Some((arguments, blank + objects.byte_offset()));
    }
    let mut rest = start.strip_prefix('(')?;
    let mut arguments = Vec::new();
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix(')') {
            return Some((Arguments(arguments), text.len() - rest.len()));
        }
        let (key, value) = rest.split_once('=')?;
        let key = key.trim();
        if key.is_empty() || !key.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)) {
            return None;
        }
        let value = value.trim_start();
        let (argument, after) = keyword_value(value)?;
        arguments.push((key.to_owned(), argument));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with(')') => {}
            None => return None,
        }
    }
}

/// The value of a keyword argument: JSON, a string in single quotes, or bare words.
fn keyword_value(text: &str) -> Option<(Box<RawValue>, &str)> {
    if text.starts_with(['"', '{', '[']) {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>();
        let value = values.next()?.ok()?;
        return Some((value, &text[values.byte_offset()..]));
    }
    if let Some(rest) = text.strip_prefix('\'') {
        let (value, rest) = rest.split_once('\'')?;
        return Some((raw(&value.into())?, rest));
    }
    let (word, rest) = text.split_at(text.find([',', ')'])?);
    let word = word.trim();
    let value = serde_json::from_str(word).ok().or_else(|| raw(&word.into()))?;
    Some((value, rest))
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Arguments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Arguments, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Arguments(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Values for all that the schema of `tool` requires.
fn made_up(tool: &Tool, words: &str) -> Arguments {
    let quotes = quotations(words).take(VALUES);
    let mut filler = Filler { root: &tool.schema, words, quotes, left: VALUES };
    let value = filler.fill(&tool.schema, "", DEPTH);
    let fields = value.as_object().into_iter().flat_map(Map::fields);
    Arguments(fields.filter_map(|(key, value)| Some((key.to_owned(), raw(value)?))).collect())
}

/// What stands in quotes in `words`.
fn quotations(words: &str) -> impl Iterator<Item = &str> {
    let mut rest = words;
    std::iter::from_fn(move || {
        let start = rest.find(['"', '\u{201c}', '`'])?;
        let open = rest[start..].chars().next()?;
        let close = if open == '\u{201c}' { '\u{201d}' } else { open };
        let inner = &rest[start + open.len_utf8()..];
        let end = inner.find(close)?;
        rest = &inner[end + close.len_utf8()..];
        Some(&inner[..end])
    })
}

/// Makes values up.
struct Filler<'a, I> {
    root: &'a Value,
    words: &'a str,
    quotes: I,
    /// How many values may still be made: a schema that refers to itself has no end.
    left: usize,
}

impl<'a, I: Iterator<Item = &'a str>> Filler<'a, I> {
    /// A value that fits `schema`, taken from the user's words where that is easy.
    fn fill(&mut self, schema: &Value, key: &str, depth: usize) -> Value {
        if depth == 0 || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        if let Some(path) = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#')) {
            return match self.root.pointer(path) {
                Some(schema) => self.fill(schema, key, depth - 1),
                None => Value::Null,
            };
        }
        for chosen in [&schema["const"], &schema["default"], &schema["enum"][0]] {
            if !chosen.is_null() {
                return chosen.clone();
            }
        }
        for union in ["anyOf", "oneOf", "allOf"] {
            if let Some(schema) = schema[union].get(0) {
                return self.fill(schema, key, depth - 1);
            }
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => {
                kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null")
            }
            kind => kind.as_str(),
        };
        let object = schema["properties"].is_object();
        match kind.unwrap_or(if object { "object" } else { "string" }) {
            "object" => {
                let required = schema["required"].as_array().into_iter().flatten();
                let fields = required.filter_map(Value::as_str).map(|key| {
                    let value = self.fill(&schema["properties"][key], key, depth - 1);
                    (key.to_owned(), value)
                });
                Value::Object(fields.collect())
            }
            "array" => {
                let least = schema["minItems"].as_u64().unwrap_or(1).min(4);
                (0..least).map(|_| self.fill(&schema["items"], key, depth - 1)).collect()
            }
            "boolean" => true.into(),
            "integer" | "number" => {
                number_in(self.words).or(schema["minimum"].as_i64()).unwrap_or(1).into()
            }
            "null" => Value::Null,
            _ => self.string(schema["format"].as_str(), key),
        }
    }

    fn string(&mut self, format: Option<&str>, key: &str) -> Value {
        let text = match (format, key) {
            (Some("date"), _) => "2026-01-01",
            (Some("date-time"), _) => "2026-01-01T00:00:00Z",
            (Some("uri" | "url"), _) => "https://example.org/",
            (Some("email"), _) => "ann@example.org",
            _ => match self.quotes.next() {
                Some(quote) => quote,
                None if matches!(
                    key,
                    "query" | "question" | "prompt" | "text" | "message" | "input"
                ) =>
                {
                    self.words
                }
                None => "example",
            },
        };
        text.into()
    }
}

/// The first whole number in `words`.
fn number_in(words: &str) -> Option<i64> {
    let digits = &words[words.find(|c: char| c.is_ascii_digit())?..];
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

/// The tool that `value` describes, as the API has it or without the wrapper.
fn function_tool(value: &Value) -> Option<Tool> {
    let function = if value["function"].is_object() { &value["function"] } else { value };
    let name = function["name"].as_str().filter(|name| !name.is_empty())?;
    let schema = [&function["parameters"], &function["input_schema"]]
        .into_iter()
        .find(|schema| schema.is_object());
    let schema = schema.cloned().unwrap_or_else(|| json!({"type": "object"}));
    Some(Tool { name: name.to_owned(), schema })
}

/// The tools that are described by JSON objects in `list`.
fn json_tools(list: &str) -> Vec<Tool> {
    let mut tools = Vec::new();
    let mut rest = list;
    let mut unreadable = 0;
    while unreadable < UNREADABLE
        && let Some(at) = rest.find('{')
    {
        rest = &rest[at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                tools.extend(function_tool(&value));
                rest = &rest[values.byte_offset()..];
            }
            _ => {
                unreadable += 1;
                rest = &rest[1..];
            }
        }
    }
    tools
}

/// The tools that are described by `<function>` elements in `list`.
fn xml_tools(list: &str) -> Vec<Tool> {
    list.split("<function>")
        .skip(1)
        .filter_map(|function| {
            let (function, _) = function.split_once("</function>")?;
            let name = element(function, "name")?;
            let mut properties = Map::new();
            for parameter in function.split("<parameter>").skip(1) {
                let (parameter, _) = parameter.split_once("</parameter>")?;
                let mut schema = Map::new();
                for key in ["type", "enum", "items", "properties", "required", "default", "format"]
                {
                    if let Some(text) = element(parameter, key) {
                        let value = serde_json::from_str(text).unwrap_or_else(|_| text.into());
                        schema.insert(key.to_owned(), value);
                    }
                }
                properties.insert(element(parameter, "name")?.to_owned(), schema.into());
            }
            // What stands behind the last parameter is the function's own.
            let own = function.rsplit_once("</parameter>").map_or(function, |(_, own)| own);
            let required = element(own, "required")
                .and_then(|list| serde_json::from_str::<Value>(list).ok())
                .unwrap_or_else(|| json!([]));
            let schema = json!({"type": "object", "properties": properties, "required": required});
            Some(Tool { name: name.to_owned(), schema })
        })
        .collect()
}

/// The text of the first element `name`.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner.trim())
}

/// The tools that have a section of their own, as in the prompts of Roo Code and Cline.
fn section_tools(prompt: &str) -> Vec<Tool> {
    let sections = prompt.split("\n## ").skip(1);
    sections
        .filter_map(|section| {
            let (name, text) = section.split_once('\n')?;
            let name = name.trim();
            let word = name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
            if name.is_empty() || !word || !text.contains(&format!("<{name}>")) {
                return None;
            }
            let mut properties = Map::new();
            let mut required = Vec::new();
            for line in text.lines() {
                // `- path: (required) The path …`, or `(required|optional) type - …`.
                let Some((key, rest)) =
                    line.trim_start().strip_prefix("- ").and_then(|line| line.split_once(':'))
                else {
                    continue;
                };
                let Some(rest) = rest.trim_start().strip_prefix('(') else { continue };
                let Some((word, rest)) = rest.split_once(')') else { continue };
                let kinds = ["integer", "number", "boolean", "array", "object"];
                let kind = rest.split_whitespace().next().filter(|kind| kinds.contains(kind));
                let kind = kind.unwrap_or("string");
                properties.insert(key.to_owned(), json!({"type": kind}));
                if word.starts_with("required") {
                    required.push(key);
                }
            }
            let schema = json!({"type": "object", "properties": properties, "required": required});
            Some(Tool { name: name.to_owned(), schema })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEATHER: &str = r#"{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"},"unit":{"enum":["c","f"]},"note":{"type":"string"}},"required":["city","days","unit"]}}}"#;

    fn offer(how: &str) -> Offer {
        let time = r#"{"name": "get_time", "parameters": {}}"#;
        let prompt = format!("# Tools\n<tools>\n{WEATHER}\n{time}\n</tools>\n{how}");
        Offer::read(&prompt).expect("an offer")
    }

    #[test]
    fn the_format_is_the_one_that_the_prompt_shows() {
        let words = "What does get_weather say for \"Oslo\" in 3 days?";
        for (how, call) in [
            (
                "<tool_call>\n<function=name>",
                "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n\
                 <parameter=days>\n3\n</parameter>\n<parameter=unit>\nc\n</parameter>\n\
                 </function>\n</tool_call>",
            ),
            (
                "<tool_call>\n{\"name\": …",
                "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \
                 \"days\": 3, \"unit\": \"c\"}}\n</tool_call>",
            ),
            (
                "<tool_name>",
                "<get_weather>\n<city>Oslo</city>\n<days>3</days>\n<unit>c</unit>\n</get_weather>",
            ),
        ] {
            assert_eq!(offer(how).answer(words).as_deref(), Some(call));
        }
    }

    #[test]
    fn arguments_are_passed_on_as_they_are_given() {
        let offer = offer("<tool_call>\n{");
        let call = |arguments: &str| {
            let call = format!("{{\"name\": \"get_weather\", \"arguments\": {arguments}}}");
            Some(format!("<tool_call>\n{call}\n</tool_call>"))
        };
        assert_eq!(
            offer.answer(r#"get_weather {"n":12345678901234567890123, "x": {"get_time":1.0}}!"#),
            call(r#"{"n": 12345678901234567890123, "x": {"get_time":1.0}}"#)
        );
        assert_eq!(
            offer.answer(r#"call get_weather(a=1, b='x y', c="z\n", d=some words, e=[1,2])"#),
            call(r#"{"a": 1, "b": "x y", "c": "z\n", "d": "some words", "e": [1,2]}"#)
        );
        assert_eq!(offer.answer("get_weather()"), call("{}"));
        for broken in
            ["get_weather(a", "get_weather(=1)", "get_weather {\"a\":", "get_weather(a=\""]
        {
            assert!(offer.answer(broken).is_some_and(|text| text.contains("\"days\"")), "{broken}");
        }
    }

    #[test]
    fn several_tools_are_called_in_their_order_and_no_others() {
        let offer = offer("<tool_call>\n<function=f>");
        let names = |words: &str| {
            let text = offer.answer(words).unwrap_or_default();
            let names = text.match_indices("<function=").map(|(at, _)| {
                let rest = &text[at + 10..];
                rest[..rest.find('>').expect("closed")].to_owned()
            });
            names.collect::<Vec<_>>()
        };
        assert_eq!(
            names("get_time, then get_weather, get_time again"),
            ["get_time", "get_weather"]
        );
        assert_eq!(names("get_time {} get_time {}"), ["get_time", "get_time"]);
        assert!(names("get_times and my_get_time, or emulate:get_time").is_empty());
        assert!(names("hello").is_empty());
        assert_eq!(names("hello\n\nCall at least one function in this reply."), ["get_weather"]);
        assert_eq!(
            names("get_weather\n\nCall the function get_time in this reply, and no other."),
            ["get_time"]
        );
        assert_eq!(
            names("get_weather get_time\n\nCall at most one function in this reply."),
            ["get_weather"]
        );
        assert_eq!(
            names("get_weather\n\nCall only functions out of these in this reply: get_time."),
            [""; 0]
        );
        assert!(
            names("get_time\n\nDo not call any function in this reply; answer in words.")
                .is_empty()
        );
    }

    #[test]
    fn elements_and_sections_are_read() {
        let prompt = "<tools>\n<function>\n<name>f</name>\n<parameters>\n<parameter>\n<name>n</name>\n\
             <type>integer</type>\n</parameter>\n<required>[\"n\"]</required>\n</parameters>\n\
             </function>\n</tools>\n<function=x>";
        let offer = Offer::read(prompt).expect("an offer");
        let call = offer.answer("f for 7").expect("a call");
        assert!(call.contains("<function=f>\n<parameter=n>\n7\n</parameter>\n"), "{call}");

        let prompt = "# Tools\n\n## read_file\nDescription: reads\nParameters:\n\
             - path: (required) The path\n- line: (optional) number - A line\nUsage:\n<read_file>\n\
             <path>x</path>\n</read_file>\n\n## Rules\n- none: at all\n";
        let offer = Offer::read(prompt).expect("an offer");
        assert_eq!(
            offer.answer("read_file `a.rs` and read_file `b.rs`").as_deref(),
            Some("<read_file>\n<path>a.rs</path>\n</read_file>")
        );
        assert_eq!(Offer::read("no tools here, <tools></tools>"), None);
    }

    #[test]
    fn schemas_of_any_kind_are_filled() {
        let prompt = r##"<tools>{"name":"f","parameters":{"type":"object","$defs":{"loop":{"type":"object","properties":{"l":{"$ref":"#/$defs/loop"}},"required":["l"]}},"properties":{"a":{"type":"array","items":{"type":"object","properties":{"q":{"type":["null","string"]}},"required":["q"]}},"b":{"type":"boolean"},"l":{"$ref":"#/$defs/loop"},"u":{"anyOf":[{"type":"number"}]}},"required":["a","b","l","u","undeclared"]}}</tools><tool_call>"##;
        let call = Offer::read(prompt).expect("an offer").answer("f").expect("a call");
        let call = call.trim_start_matches("<tool_call>").trim_end_matches("</tool_call>");
        let call: Value = serde_json::from_str(call).expect("JSON");
        let arguments = &call["arguments"];
        assert_eq!(arguments["a"][0]["q"], "example");
        assert_eq!((&arguments["b"], &arguments["u"]), (&json!(true), &json!(1)));
        assert!(arguments["l"]["l"].is_object());
        assert_eq!(arguments["undeclared"], "example");
    }

    #[test]
    fn a_schema_without_end_is_filled_up_to_a_limit() {
        let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
        let loops: Map = keys.iter().map(|key| (key.clone(), json!({"$ref": "#"}))).collect();
        let schema = json!({"type": "object", "properties": loops, "required": keys});
        let tool = json!({"name": "f", "parameters": schema});
        let offer = Offer::read(&format!("<tools>{tool}</tools><tool_call>")).expect("an offer");
        let call = offer.answer("f").expect("a call");
        assert!(call.len() < 100_000, "{}", call.len());
    }
}
