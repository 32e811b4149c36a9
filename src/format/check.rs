//! Whether JSON fits a schema, as far as the keywords go that schemas of answers are made of.

use serde_json::Value;

/// How deep a schema is followed; what is below fits.
const DEPTH: usize = 64;

/// Whether `value` fits `schema`; if not, where and why, in words that the model is told.
pub(super) fn fits(value: &Value, schema: &Value) -> Result<(), String> {
    follow(value, schema, "the answer", DEPTH)
}

fn follow(value: &Value, schema: &Value, at: &str, depth: usize) -> Result<(), String> {
    let Some(depth) = depth.checked_sub(1) else { return Ok(()) };
    let Some(schema) = schema.as_object() else {
        // `false` is the schema that nothing fits.
        return if schema == &Value::Bool(false) {
            Err(format!("{at} must not be there"))
        } else {
            Ok(())
        };
    };
    match schema.get("type") {
        Some(Value::String(kind)) if !is_of(value, kind) => {
            return Err(format!("{at} must be of type {kind}"));
        }
        Some(Value::Array(kinds))
            if !kinds.iter().filter_map(Value::as_str).any(|kind| is_of(value, kind)) =>
        {
            return Err(format!("{at} is of none of the types {}", Value::from(kinds.clone())));
        }
        _ => {}
    }
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.contains(value)
    {
        return Err(format!("{at} must be one of {}", Value::from(allowed.clone())));
    }
    if let Some(only) = schema.get("const")
        && only != value
    {
        return Err(format!("{at} must be {only}"));
    }
    if let Some(Value::Array(several)) = schema.get("anyOf") {
        let mut reasons = several.iter().map(|one| follow(value, one, at, depth));
        if !several.is_empty() && reasons.all(|fits| fits.is_err()) {
            return Err(format!("{at} fits none of what it may be"));
        }
    }
    if let Some(object) = value.as_object() {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(name) {
                return Err(format!("{at} lacks `{name}`"));
            }
        }
        let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        for (name, value) in object {
            match properties.and_then(|properties| properties.get(name)) {
                Some(schema) => follow(value, schema, &format!("`{name}` of {at}"), depth)?,
                None if is_closed => return Err(format!("{at} must not have `{name}`")),
                None => {}
            }
        }
    }
    if let (Some(list), Some(items)) = (value.as_array(), schema.get("items")) {
        for (place, value) in list.iter().enumerate() {
            follow(value, items, &format!("item {place} of {at}"), depth)?;
        }
    }
    Ok(())
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        // A type that is newer than JSON: nobody knows.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        let schema = json!({
            "type": "object",
            "properties": {
                "title": {"type": "string"},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
                "count": {"type": ["integer", "null"]},
                "kind": {"anyOf": [{"const": "x"}, {"type": "number"}]},
                "never": false,
            },
            "required": ["title"],
            "additionalProperties": false,
        });
        for good in [
            json!({"title": "t"}),
            json!({"title": "t", "tags": ["a", "b"], "count": 3.0, "kind": "x"}),
            json!({"title": "", "tags": [], "count": null, "kind": 1.5}),
        ] {
            assert_eq!(fits(&good, &schema), Ok(()), "{good}");
        }
        for (bad, why) in [
            (json!([]), "the answer must be of type object"),
            (json!({}), "the answer lacks `title`"),
            (json!({"title": 1}), "`title` of the answer must be of type string"),
            (json!({"title": "t", "x": 1}), "the answer must not have `x`"),
            (json!({"title": "t", "tags": ["c"]}), "item 0 of `tags` of the answer must be one of"),
            (json!({"title": "t", "count": 1.5}), "`count` of the answer is of none of the types"),
            (json!({"title": "t", "kind": "y"}), "`kind` of the answer fits none"),
            (json!({"title": "t", "never": 1}), "`never` of the answer must not be there"),
        ] {
            let told = fits(&bad, &schema).expect_err("it does not fit");
            assert!(told.starts_with(why), "{bad}: {told}");
        }
    }

    #[test]
    fn odd_schemas_stop_nobody() {
        for schema in [json!(true), json!(null), json!([]), json!({"type": "tuple", "items": 7})] {
            assert_eq!(fits(&json!({"a": [1]}), &schema), Ok(()), "{schema}");
        }
        let mut deep = json!({"type": "integer"});
        let mut value = json!("no integer");
        for _ in 0..200 {
            deep = json!({"items": deep});
            value = json!([value]);
        }
        assert_eq!(fits(&value, &deep), Ok(()), "what is too deep is not followed");
    }
}
