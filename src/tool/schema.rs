//! What a request declares: the tools by name, and the types that their JSON Schemas allow.
//!
//! A schema is never compiled: [`Toolset`] sorts the names once a request, reads the schema of a
//! function and sorts its parameters' names when a call of it is first looked at, and works the
//! types of a parameter out when a call opens it. So a call costs the same however many tools and
//! parameters are declared. Nothing is validated either; the only question that is asked of a
//! schema is which JSON types a value may have.
//!
//! A schema that `serde_json` cannot hold, such as one that nests deeper than 128 levels, says
//! nothing: the parameters of its function are strings. Neither does one whose values, with those
//! of the schemas read before it, would take more than 4 MiB: that is room for some 5,000
//! parameters of the tools that are called.

use std::{
    collections::{BTreeSet, HashSet},
    ops::BitOr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use super::markup::{NAME_LIMIT, Names};
use crate::{
    chat::{FunctionTool, Json, Tool, ToolChoice},
    json::tree_size,
    steps,
};

/// How many nodes of one schema are visited at most, so that a `$ref` that leads to itself, or
/// branches that multiply, cost no more than a large honest schema.
const VISITS: u32 = 512;

/// How many values of one `enum`, and types of one `type`, are looked at. Those of honest schemas
/// are of one or two types, and the first few show them.
pub(super) const VALUES: usize = 256;

/// How long a `$ref` may be, in bytes.
pub(super) const REFERENCE_LIMIT: usize = 1024;

/// How many names are looked through at most for one that goes on from what has arrived of it.
const CANDIDATES: usize = 64;
/// How much memory the schemas of a request may take once they are read, in bytes.
const MEMORY: usize = 4 * 1024 * 1024;

/// The function tools of a request, by name.
///
/// Cheap to clone, and cheap to make: the tools are shared, the names are sorted. Clones share
/// what has been read of the schemas, too.
#[derive(Clone, Debug, Default)]
pub struct Toolset {
    tools: Arc<Vec<Tool>>,
    /// Sorted by name; the first function of a name stands for all.
    functions: Arc<[Function]>,
    /// How much memory the schemas that were read take.
    memory: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Function {
    /// The place in the tools.
    place: u32,
    /// The schema, once somebody has asked for it.
    schema: OnceLock<Value>,
    /// The names of its parameters, sorted, once somebody has looked for one by its beginning.
    names: OnceLock<Vec<Box<str>>>,
    /// The names of the properties that stand at its top, sorted, without those that begin with
    /// another.
    openers: OnceLock<Vec<Box<str>>>,
}

impl Toolset {
    /// The functions among `tools`. Names that no tag can hold (empty, longer than 256 bytes, or
    /// with a `>`) are left out.
    #[must_use]
    pub fn new(tools: Arc<Vec<Tool>>) -> Self {
        let name = |place: &u32| function(&tools, *place).name.as_str();
        let mut places: Vec<u32> = (0u32..)
            .zip(tools.iter())
            .filter_map(|(place, tool)| {
                let name = &tool.as_function()?.name;
                let fits = (1..=NAME_LIMIT).contains(&name.len()) && !name.contains('>');
                fits.then_some(place)
            })
            .collect();
        places.sort_by(|a, b| name(a).cmp(name(b)));
        places.dedup_by(|b, a| name(b) == name(a));
        let functions = places.into_iter().map(Function::new).collect();
        Self { functions, tools, memory: Arc::default() }
    }

    /// Those of the functions that an answer may call: none where `choice` forbids calls.
    #[must_use]
    pub fn for_choice(&self, choice: Option<&ToolChoice>) -> Self {
        match choice {
            Some(ToolChoice::None) => Self::default(),
            _ => self.clone(),
        }
    }

    /// Whether no function is declared, so that nothing may become a call.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// The number of functions, those of one name counted once.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.functions.len()
    }

    /// The function of this name.
    #[must_use]
    pub(super) fn get(&self, name: &str) -> Option<&FunctionTool> {
        self.find(name).map(|own| function(&self.tools, own.place))
    }

    fn find(&self, name: &str) -> Option<&Function> {
        self.functions
            .binary_search_by(|own| function(&self.tools, own.place).name.as_str().cmp(name))
            .ok()
            .map(|at| &self.functions[at])
    }

    /// The functions, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &FunctionTool> {
        self.functions.iter().map(|own| function(&self.tools, own.place))
    }

    /// The schema of function `name`, which is read the first time only; `null` where it cannot
    /// be read, none where there is none.
    pub(super) fn schema(&self, name: &str) -> Option<&Value> {
        self.schema_of(self.find(name)?)
    }

    fn schema_of<'a>(&'a self, own: &'a Function) -> Option<&'a Value> {
        let json = function(&self.tools, own.place).parameters.as_ref()?;
        Some(own.schema.get_or_init(|| read(json, &self.memory)))
    }

    /// The parameter `key` of function `name`; undeclared ones are strings.
    pub(super) fn parameter(&self, name: &str, key: &str) -> Parameter<'_> {
        let mut parameter = Parameter { root: &Value::Null, nodes: Vec::new() };
        if let Some(root) = self.schema(name) {
            parameter.root = root;
            properties(root, root, key, &mut parameter.nodes);
        }
        parameter
    }

    /// Whether `text` begins with the name of a property at the top of the schema of function
    /// `name`.
    pub(super) fn begins_with_property(&self, name: &str, text: &str) -> bool {
        let Some(own) = self.find(name) else { return false };
        let openers = own.openers.get_or_init(|| {
            let properties = self
                .schema_of(own)
                .and_then(|schema| schema.get("properties"))
                .and_then(Value::as_object);
            let mut names: Vec<&str> =
                properties.into_iter().flat_map(|own| own.keys()).map(String::as_str).collect();
            names.sort_unstable();
            // Whatever begins with the longer of two begins with the shorter.
            names.dedup_by(|longer, shorter| longer.starts_with(*shorter));
            names.into_iter().map(Box::from).collect()
        });
        // Since none begins with another, nothing stands between a name and a text that begins
        // with it.
        let at = openers.partition_point(|own| compare(own, text).is_le());
        at > 0 && text.starts_with(&*openers[at - 1])
    }

    fn names<'a>(&'a self, own: &'a Function) -> &'a [Box<str>] {
        own.names.get_or_init(|| {
            let Some(root) = self.schema_of(own) else { return Vec::new() };
            let mut names = BTreeSet::new();
            // A node that is referred to often is read once.
            let mut read = HashSet::new();
            walk(root, root, &mut VISITS.clone(), &mut |node| {
                if read.insert(std::ptr::from_ref(node))
                    && let Some(own) = node.get("properties").and_then(Value::as_object)
                {
                    steps::count(own.len());
                    names.extend(own.keys().map(String::as_str));
                }
                false
            });
            names.into_iter().map(Box::from).collect()
        })
    }
}

impl Names for Toolset {
    fn tool(&self, name: &str) -> Option<&str> {
        self.get(name).map(|function| function.name.as_str())
    }

    fn begins_tool(&self, start: &str) -> bool {
        let name = |own: &Function| function(&self.tools, own.place).name.as_str();
        let at = self.functions.partition_point(|own| name(own) < start);
        self.functions.get(at).is_some_and(|own| name(own).starts_with(start))
    }

    fn declares(&self, tool: &str, key: &str) -> bool {
        self.find(tool).is_some_and(|own| {
            let names = self.names(own);
            names.binary_search_by(|own| compare(own, key)).is_ok()
        })
    }

    fn may_declare(&self, tool: &str, start: &str, test: impl Fn(&str) -> bool) -> bool {
        self.find(tool).is_some_and(|own| {
            let names = self.names(own);
            let at = names.partition_point(|own| compare(own, start).is_lt());
            let mut those = names[at..].iter().take_while(|own| own.starts_with(start));
            // A few of them tell.
            those.by_ref().take(CANDIDATES).any(|own| test(own)) || those.next().is_some()
        })
    }
}

impl Function {
    const fn new(place: u32) -> Self {
        Self { place, schema: OnceLock::new(), names: OnceLock::new(), openers: OnceLock::new() }
    }
}

fn compare(own: &str, other: &str) -> std::cmp::Ordering {
    steps::count(1);
    own.cmp(other)
}

/// What a schema says; `null` where it cannot be read.
fn read(schema: &Json, memory: &AtomicUsize) -> Value {
    let takes = tree_size(schema.as_str());
    let add = |taken: usize| taken.checked_add(takes).filter(|&taken| taken <= MEMORY);
    match memory.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
        Ok(_) => schema.to_value().unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

/// The function at a place that [`Toolset::new`] has checked.
fn function(tools: &[Tool], place: u32) -> &FunctionTool {
    tools[place as usize].as_function().expect("only functions are indexed")
}

/// What the schema says about one parameter, or about one value inside of it.
#[derive(Debug)]
pub(super) struct Parameter<'a> {
    root: &'a Value,
    nodes: Vec<&'a Value>,
}

impl<'a> Parameter<'a> {
    /// The types that the value may have; nothing known means a string.
    pub(super) fn types(&self) -> Types {
        let budget = &mut VISITS.clone();
        let types = (self.nodes.iter())
            .fold(Types::NONE, |types, node| types | types_of(self.root, node, budget));
        if types == Types::NONE { Types::STRING } else { types }
    }

    /// The property `key` of an object.
    pub(super) fn property(&self, key: &str) -> Option<Parameter<'a>> {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            properties(self.root, node, key, &mut nodes);
        }
        (!nodes.is_empty()).then_some(Parameter { root: self.root, nodes })
    }

    /// The items of an array.
    pub(super) fn items(&self) -> Parameter<'a> {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            walk(self.root, node, &mut VISITS.clone(), &mut |node| {
                nodes.extend(node.get("items"));
                false
            });
        }
        Parameter { root: self.root, nodes }
    }
}

/// A set of JSON types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Types(u8);

impl Types {
    /// No type.
    pub const NONE: Self = Self(0);
    /// `string`.
    pub const STRING: Self = Self(1);
    /// `null`.
    pub const NULL: Self = Self(2);
    /// `boolean`.
    pub const BOOLEAN: Self = Self(4);
    /// `integer`.
    pub const INTEGER: Self = Self(8);
    /// `number`; takes integers too.
    pub const NUMBER: Self = Self(16);
    /// `object`.
    pub const OBJECT: Self = Self(32);
    /// `array`.
    pub const ARRAY: Self = Self(64);

    /// The types that `schema` allows, after local `$ref`s; `$ref`s start from `schema` itself.
    /// Nothing known means a string.
    ///
    /// ```
    /// use tower_qwen::{chat::Json, tool::internals::Types};
    ///
    /// let schema = Json::parse(r#"{"anyOf": [{"type": "integer"}, {"type": "null"}]}"#)?;
    /// assert_eq!(Types::of(&schema), Types::INTEGER | Types::NULL);
    /// assert_eq!(Types::of(&Json::parse(r#"{"description": "anything"}"#)?), Types::STRING);
    /// # Ok::<_, serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn of(schema: &Json) -> Self {
        let schema = &read(schema, &AtomicUsize::new(0));
        Parameter { root: schema, nodes: vec![schema] }.types()
    }

    /// Whether all of `other` are in the set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    pub(super) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            // Not `is_f64`, which depends on what the application makes of numbers.
            Value::Number(number) if number.is_i64() || number.is_u64() => Self::INTEGER,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// The type of this name; none if it is no type's.
    pub(super) fn of_word(word: &str) -> Self {
        match word {
            "string" => Self::STRING,
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "object" => Self::OBJECT,
            "array" => Self::ARRAY,
            _ => Self::NONE,
        }
    }
}

impl BitOr for Types {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Shows `node` and what it refers to or combines to `visit`, until `visit` says stop.
fn walk<'a>(
    root: &'a Value,
    node: &'a Value,
    budget: &mut u32,
    visit: &mut dyn FnMut(&'a Value) -> bool,
) -> bool {
    let Some(left) = budget.checked_sub(1) else { return false };
    *budget = left;
    steps::count(1);
    let Value::Object(fields) = node else { return false };
    if visit(node) {
        return true;
    }
    if let Some(Value::String(reference)) = fields.get("$ref")
        && reference.len() <= REFERENCE_LIMIT
        && let Some(target) = target(root, reference)
        && walk(root, target, budget, visit)
    {
        return true;
    }
    ["anyOf", "oneOf", "allOf"]
        .iter()
        .filter_map(|word| fields.get(*word)?.as_array())
        .any(|branches| branches.iter().any(|branch| walk(root, branch, budget, visit)))
}

/// What a local reference names: a JSON Pointer behind a `#`, where generators of schemas write
/// what stands in no URI as `%` and two digits (RFC 6901, section 6).
fn target<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let pointer = reference.strip_prefix('#')?;
    root.pointer(pointer).or_else(|| {
        let mut decoded = Vec::with_capacity(pointer.len());
        let mut rest = pointer.as_bytes();
        while let [byte, after @ ..] = rest {
            rest = after;
            match (byte, after) {
                (b'%', [high, low, after @ ..]) => {
                    let digit = |byte: u8| char::from(byte).to_digit(16);
                    decoded.push(u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?);
                    rest = after;
                }
                _ => decoded.push(*byte),
            }
        }
        root.pointer(std::str::from_utf8(&decoded).ok()?)
    })
}

/// What `node` says about its property `key`, into `found`.
fn properties<'a>(root: &'a Value, node: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    walk(root, node, &mut VISITS.clone(), &mut |node| {
        found.extend(node.get("properties").and_then(|own| own.get(key)));
        false
    });
}

fn types_of(root: &Value, node: &Value, budget: &mut u32) -> Types {
    let mut types = Types::NONE;
    walk(root, node, budget, &mut |node| {
        types = types | own_types(node);
        false
    });
    types
}

/// The types that a node names by itself.
fn own_types(node: &Value) -> Types {
    let mut types = match node.get("type") {
        Some(Value::String(word)) => Types::of_word(word),
        Some(Value::Array(words)) => (words.iter().take(VALUES))
            .filter_map(Value::as_str)
            .fold(Types::NONE, |types, word| types | Types::of_word(word)),
        _ => Types::NONE,
    };
    if types == Types::NONE {
        if let Some(Value::Array(values)) = node.get("enum") {
            let values = &values[..values.len().min(VALUES)];
            steps::count(values.len());
            types = values.iter().fold(types, |types, value| types | Types::of_value(value));
        }
        if let Some(value) = node.get("const") {
            types = types | Types::of_value(value);
        }
        if types == Types::NONE && node.get("properties").is_some() {
            types = Types::OBJECT;
        }
        if types == Types::NONE && node.get("items").is_some() {
            types = Types::ARRAY;
        }
    }
    // What OpenAPI wrote before it took up JSON Schema.
    if types != Types::NONE && node.get("nullable") == Some(&Value::Bool(true)) {
        types = types | Types::NULL;
    }
    types
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn toolset(parameters: Value) -> Toolset {
        Toolset::new(Arc::new(vec![
            Tool::Other(json!({"type": "web_search"}).into()),
            Tool::Function(FunctionTool::new("f", parameters)),
            Tool::Function(FunctionTool::without_parameters("a_tool")),
        ]))
    }

    #[test]
    fn names_are_found_whole_and_by_prefix() {
        let tools = toolset(json!({}));
        assert_eq!(tools.len(), 2);
        assert!(tools.get("f").is_some() && tools.get("web_search").is_none());
        assert!(tools.begins_tool("a_t") && tools.begins_tool("") && !tools.begins_tool("a_x"));
    }

    #[test]
    fn names_that_no_tag_can_hold_are_left_out() {
        let tools = ["", "a>b", &"n".repeat(257)]
            .map(|name| Tool::Function(FunctionTool::without_parameters(name)))
            .to_vec();
        assert!(Toolset::new(Arc::new(tools)).is_empty());
    }

    #[test]
    fn no_choice_means_no_tools() {
        let tools = Toolset::new(Arc::new(vec![Tool::Function(FunctionTool::new("f", json!({})))]));
        assert!(tools.for_choice(Some(&ToolChoice::None)).is_empty());
        assert_eq!(tools.for_choice(Some(&ToolChoice::Required)).len(), 1);
        assert_eq!(tools.for_choice(None).len(), 1);
    }

    #[test]
    fn types_follow_every_way_to_say_them() {
        let cases = [
            (json!({"type": "string"}), Types::STRING),
            (json!({"type": ["integer", "null"]}), Types::INTEGER | Types::NULL),
            (json!({"oneOf": [{"type": "number"}, {"const": "x"}]}), Types::NUMBER | Types::STRING),
            (json!({"allOf": [{"type": "object"}, {"required": ["x"]}]}), Types::OBJECT),
            (json!({"enum": ["a", 1, null]}), Types::STRING | Types::INTEGER | Types::NULL),
            (json!({"properties": {}}), Types::OBJECT),
            (json!({"items": {}}), Types::ARRAY),
            (json!({"type": "boolean", "nullable": true}), Types::BOOLEAN | Types::NULL),
            (json!({"minLength": 1}), Types::STRING),
            (json!(true), Types::STRING),
        ];
        for (schema, types) in cases {
            assert_eq!(Types::of(&schema.clone().into()), types, "{schema}");
        }
    }

    #[test]
    fn numbers_are_integers_where_they_are_written_so() {
        for (number, types) in [
            ("1", Types::INTEGER),
            ("-1", Types::INTEGER),
            ("18446744073709551615", Types::INTEGER),
            ("18446744073709551616", Types::NUMBER),
            ("1.0", Types::NUMBER),
            ("1e2", Types::NUMBER),
        ] {
            for schema in
                [format!(r#"{{"const": {number}}}"#), format!(r#"{{"enum": [{number}]}}"#)]
            {
                let schema = Json::parse(schema).expect("JSON");
                assert_eq!(Types::of(&schema), types, "{schema}");
            }
        }
        // Says nothing of the type.
        assert_eq!(Types::of(&json!({"default": 1}).into()), Types::STRING);
    }

    #[test]
    fn clones_share_what_was_read() {
        let tools = toolset(json!({"properties": {"n": {"type": "integer"}}}));
        let clone = tools.for_choice(None);
        assert_eq!(clone.parameter("f", "n").types(), Types::INTEGER);
        assert!(std::ptr::eq(
            clone.schema("f").expect("it has one"),
            tools.functions[1].schema.get().expect("it was read"),
        ));
        assert_eq!((tools.schema("a_tool"), tools.schema("nobody")), (None, None));
    }

    #[test]
    fn a_schema_that_cannot_be_read_says_nothing() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for part in [deep.as_str(), "1e400", r#""\ud800""#] {
            let schema =
                format!(r#"{{"properties": {{"n": {{"type": "integer"}}}}, "x": {part}}}"#);
            let schema = Json::parse(schema).expect("JSON");
            let tools =
                Toolset::new(Arc::new(vec![Tool::Function(FunctionTool::new("f", schema))]));
            assert_eq!(tools.schema("f"), Some(&Value::Null), "{part}");
            assert_eq!(tools.parameter("f", "n").types(), Types::STRING);
            assert!(!tools.may_declare("f", "", |_| true));
        }
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_counts() {
        let schema = r#"{"properties": {"v": {"type": "integer"}, "v": {"type": "boolean"}}}"#;
        let schema = Json::parse(schema).expect("JSON");
        let tools = Toolset::new(Arc::new(vec![Tool::Function(FunctionTool::new("f", schema))]));
        assert_eq!(tools.parameter("f", "v").types(), Types::BOOLEAN);
    }

    #[test]
    fn references_are_followed_and_loops_end() {
        let tools = toolset(json!({
            "$ref": "#/$defs/Arguments",
            "$defs": {
                "Arguments": {"properties": {"n": {"$ref": "#/$defs/N"}, "loop": {"$ref": "#/$defs/L"}}},
                "N": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                "L": {"anyOf": [{"$ref": "#/$defs/L"}, {"$ref": "#/$defs/L"}, {"type": "array"}]},
            },
        }));
        assert_eq!(tools.parameter("f", "n").types(), Types::INTEGER | Types::NULL);
        assert_eq!(tools.parameter("f", "other").types(), Types::STRING);
        assert_eq!(tools.parameter("nobody", "n").types(), Types::STRING);
        // The first branch uses the budget up; what matters is that it ends.
        let _ = tools.parameter("f", "loop").types();
        assert!(tools.declares("f", "loop"));
    }

    /// ts-json-schema-generator names a definition by its type, with what that has of brackets.
    #[test]
    fn references_may_be_written_as_in_a_uri() {
        let schema = |reference: &str| {
            json!({
                "$ref": reference,
                "definitions": {"Record<string,é>": {"type": "object"}, "a/b%": {"type": "array"}},
            })
        };
        for (reference, types) in [
            ("#/definitions/Record%3Cstring%2C%C3%A9%3e", Types::OBJECT),
            ("#/definitions/Record<string,é>", Types::OBJECT),
            ("#/definitions/a~1b%25", Types::ARRAY),
            ("#/definitions/a~1b%", Types::ARRAY),
            ("#/definitions/a~1b%2", Types::STRING),
            ("#/definitions/%ff", Types::STRING),
            ("other.json#/definitions/a~1b%25", Types::STRING),
        ] {
            assert_eq!(Types::of(&schema(reference).into()), types, "{reference}");
        }
    }

    #[test]
    fn the_types_of_a_key_in_several_branches_are_joined() {
        let tools = toolset(json!({"anyOf": [
            {"properties": {"v": {"type": "integer"}}},
            {"properties": {"v": {"type": "boolean"}}},
        ]}));
        assert_eq!(tools.parameter("f", "v").types(), Types::INTEGER | Types::BOOLEAN);
    }
}
