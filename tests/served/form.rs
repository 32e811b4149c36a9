//! How models write tool calls.

use serde_json::{Value, json};

/// How the model writes a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    /// Format 1.
    Coder,
    /// Format 4: the opening tag is missing.
    Bare,
    /// Format 2.
    Hermes,
    /// Format 3.
    Tags,
}

impl Form {
    pub(crate) const ALL: [Self; 4] = [Self::Coder, Self::Bare, Self::Hermes, Self::Tags];

    /// A call as this form has it: strings as they are where it has no quotes, all else as JSON.
    /// The arguments stand in the order that they are given in.
    pub(crate) fn write(self, name: &str, arguments: &[(&str, Value)]) -> String {
        let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let coder = || -> String {
            let parameter = |(key, value): &(&str, Value)| {
                format!("<parameter={key}>\n{}\n</parameter>\n", plain(value))
            };
            arguments.iter().map(parameter).collect()
        };
        match self {
            Self::Coder => {
                format!("<tool_call>\n<function={name}>\n{}</function>\n</tool_call>", coder())
            }
            Self::Bare => format!("<function={name}>\n{}</function>\n</tool_call>", coder()),
            Self::Hermes => {
                // Not a `Value`, whose keys are sorted: no model writes the name last.
                let pair = |(key, value): &(&str, Value)| format!("{}: {value}", json!(key));
                let arguments = arguments.iter().map(pair).collect::<Vec<_>>().join(", ");
                let name = json!(name);
                format!(
                    "<tool_call>\n{{\"name\": {name}, \"arguments\": {{{arguments}}}}}\n</tool_call>"
                )
            }
            Self::Tags => {
                let parameter =
                    |(key, value): &(&str, Value)| format!("<{key}>\n{}\n</{key}>\n", plain(value));
                let arguments: String = arguments.iter().map(parameter).collect();
                format!("<{name}>\n{arguments}</{name}>")
            }
        }
    }
}
