//! What a schema makes of a value that is written without quotes.

use serde_json::Value;

use crate::{
    json::nests_deeper_than,
    steps,
    tool::schema::{REFERENCE_LIMIT, Types, VALUES},
};

/// Values that are nested more deeply may be read as text, since readers of JSON have a limit.
const DEPTH: usize = 64;

/// The type of a value, given as JSON.
fn type_of(json: &str) -> Types {
    match json.bytes().next() {
        Some(b'"') => Types::STRING,
        Some(b'{') => Types::OBJECT,
        Some(b'[') => Types::ARRAY,
        Some(b't' | b'f') => Types::BOOLEAN,
        Some(b'n') => Types::NULL,
        _ if json.contains(['.', 'e', 'E']) => Types::NUMBER,
        _ => Types::INTEGER,
    }
}

/// Whether the value of `key`, which is `json` and perhaps a `string`, is read back as the same
/// value where it is written without quotes. Where the schema leaves a doubt, the answer is no.
pub(super) fn keeps_type(
    key: &str,
    json: &str,
    string: Option<&str>,
    schema: Option<&Value>,
) -> bool {
    let Some(types) = types_of(key, schema) else { return false };
    match string {
        Some(_) if types == Types::STRING => true,
        // Only a text that cannot be anything else of the union is surely the string. Words that
        // begin with a letter are JSON or Python literals in a few cases.
        Some(string) => {
            const WORDS: [&str; 7] =
                ["null", "none", "true", "false", "nan", "infinity", "undefined"];
            types.contains(Types::STRING)
                && string.chars().next().is_some_and(char::is_alphabetic)
                && string.trim() == string
                && !WORDS.iter().any(|word| word.eq_ignore_ascii_case(string))
        }
        None if types == Types::STRING => false,
        None => {
            let own = type_of(json);
            match own {
                Types::NULL => types.contains(Types::NULL) || !types.contains(Types::STRING),
                // Minus zero is a float to most readers.
                Types::INTEGER => types.intersects(Types::INTEGER | Types::NUMBER) && json != "-0",
                // A fraction of zero is dropped where integers are allowed.
                Types::NUMBER => types.contains(Types::NUMBER) && !types.contains(Types::INTEGER),
                own => types.contains(own) && !nests_deeper_than(json, DEPTH),
            }
        }
    }
}

/// How many nodes of one schema are looked at: references may lead to themselves, and multiply.
const VISITS: u32 = 64;

/// The types that the schema of a parameter allows; `None` where that is not plain to see.
///
/// It is stricter than [`schema`](super::schema), by which the scanner reads: what is rendered here
/// is read alike by readers that know less of schemas, such as those that look for properties in
/// one place only.
fn types_of(key: &str, schema: Option<&Value>) -> Option<Types> {
    let Some(schema) = schema else { return Some(Types::STRING) };
    // It could not be read; the upstream and other readers may know more of it.
    if schema.is_null() {
        return None;
    }
    // Properties may stand elsewhere, too.
    if ["$ref", "allOf", "anyOf", "oneOf"].iter().any(|word| schema.get(word).is_some()) {
        return None;
    }
    match schema.get("properties").and_then(|properties| properties.get(key)) {
        Some(property) => types_in(property, schema, &mut VISITS.clone()),
        None => Some(Types::STRING),
    }
}

fn types_in(schema: &Value, root: &Value, visits: &mut u32) -> Option<Types> {
    const SOURCES: [&str; 9] =
        ["type", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "properties", "items"];
    *visits = visits.checked_sub(1)?;
    steps::count(1);
    let fields = schema.as_object()?;
    if fields.contains_key("nullable") {
        return None;
    }
    let known = |word| Some(Types::of_word(word)).filter(|types| *types != Types::NONE);
    let mut union = |schemas: &Value| {
        let schemas = schemas.as_array().filter(|schemas| !schemas.is_empty())?;
        schemas
            .iter()
            .try_fold(Types::NONE, |types, schema| Some(types | types_in(schema, root, visits)?))
    };
    let values = |values: &[Value]| {
        let few = values.len() <= VALUES;
        few.then(|| {
            steps::count(values.len());
            values.iter().fold(Types::NONE, |types, value| types | Types::of_value(value))
        })
    };
    let mut sources = SOURCES.iter().filter_map(|source| Some((*source, fields.get(*source)?)));
    let Some((source, value)) = sources.next() else { return Some(Types::STRING) };
    let types = match source {
        "type"
            if ["$ref", "anyOf", "oneOf", "allOf"].iter().any(|key| fields.contains_key(*key)) =>
        {
            return None;
        }
        // Whatever else stands beside a type only narrows it.
        "type" => {
            return match value {
                Value::String(word) => known(word),
                Value::Array(words) if (1..=VALUES).contains(&words.len()) => words
                    .iter()
                    .try_fold(Types::NONE, |types, word| Some(types | known(word.as_str()?)?)),
                _ => None,
            };
        }
        "$ref" => {
            let pointer = value.as_str()?.strip_prefix('#')?;
            if pointer.len() > REFERENCE_LIMIT {
                return None;
            }
            types_in(root.pointer(pointer)?, root, visits)?
        }
        "anyOf" | "oneOf" => union(value)?,
        "allOf" if value.as_array().is_some_and(|all| all.len() == 1) => union(value)?,
        "allOf" => return None,
        "enum" => values(value.as_array()?)?,
        "const" => values(std::slice::from_ref(value))?,
        "properties" => Types::OBJECT,
        _ => Types::ARRAY,
    };
    (sources.next().is_none() && types != Types::NONE).then_some(types)
}
