//! Finds tool calls in the text of an answer while it streams.
//!
//! [`Scanner`] is a plain state machine: pieces of text in, [`Item`]s out, no futures, no clock.
//! It knows the three dialects in which Qwen models write calls, with their outer tags missing or
//! doubled:
//!
//! - the tags of Qwen3-Coder: `<tool_call><function=NAME><parameter=KEY>…`;
//! - JSON in `<tool_call>`, one object or several;
//! - plain tags by the names of declared tools: `<NAME><KEY>…`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use serde_json::json;
//! use tower_qwen::{
//!     chat::{FunctionTool, Tool},
//!     tool::{
//!         Dialect,
//!         scan::{Item, Scanner, Toolset},
//!     },
//! };
//!
//! let schema = json!({"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
//! let tools = Toolset::new(Arc::new(vec![Tool::Function(FunctionTool::new("weather", schema))]));
//! let mut scanner = Scanner::new(tools);
//!
//! // Text leaves at once. The opener is waited for to the end of its first parameter's tag.
//! scanner.push("Let me look.\n\n<tool_call>\n<func".into());
//! assert_eq!(scanner.pop(), Some(Item::Text("Let me look.".into())));
//! assert_eq!(scanner.pop(), None);
//!
//! scanner.push("tion=weather>\n<parameter=city>\nPa".into());
//! assert_eq!(scanner.pop(), Some(Item::Call { name: "weather".into(), dialect: Dialect::Coder }));
//! assert_eq!(scanner.pop(), Some(Item::Arguments("{\"city\":\"Pa".into())));
//!
//! scanner.push("ris\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>".into());
//! scanner.push("\n</tool_call>".into());
//! scanner.finish();
//! let mut rest = String::new();
//! while let Some(item) = scanner.pop() {
//!     match item {
//!         Item::Arguments(json) => rest.push_str(&json),
//!         other => assert_eq!(other, Item::End { complete: true }),
//!     }
//! }
//! assert_eq!(rest, "ris\",\"days\":3}");
//! ```
//!
//! # What is promised
//!
//! - Any cut of the same text gives the same text, calls and arguments. What they are follows the
//!   [rules] of the reference.
//! - The arguments of every call, joined, are one JSON object that parses, also when the text
//!   ends in the middle of it.
//! - Text that leaves is made of slices of the pieces that came in; so are string arguments
//!   where nothing in a piece needs an escape.
//! - Time is linear in the text. Kept is at most one parameter whose type is undecided, or one
//!   JSON object whose name is unknown (1 MiB), and beside it undecided markup, which is what is
//!   looked at again when more arrives: a tag, as a rule, and never more than 2,401 bytes (blanks,
//!   five wrappers with blanks, two tags with a long name).
//! - Nothing is an error: markup that does not become a call is text.
//!
//! # What is decided beyond the rules
//!
//! - `<tool_calls>` and `<function_calls>` directly before an opener go with it, as all closing tags
//!   behind a call do. Without a call behind them they are text.
//! - Bare and fenced JSON, `<tools>` and `tool_code` are text, as the rules have it by default.
//!   There is no option for them: whether a reply is one such object is known only at its end, so
//!   all of it would have to be held back.
//! - An opener that follows an opener after a backtick is text as well, up to the line's end, so
//!   a whole call quoted as inline code is no call. After a quoted `<tool_call>` it may begin on a
//!   later line.
//! - A line that begins with three backticks and has more of them later is inline code, not a
//!   fence, as in CommonMark.
//! - `<tool_call>` may be doubled, up to four times.
//! - A closer behind a call is swallowed if its name is nearly one that dialects have: one slip in
//!   four letters, two at most. White space there and before a call is Unicode's.
//! - `</parameter>` is also structural before a bare `<function=NAME>` with a declared name, and
//!   `</tool_call>` ends an open value if an opener or the end follows.
//! - Behind a closer that is spelt right a mis-spelt one of what is around it counts as well, so
//!   that `</parameter>` before `</func>` ends a value.
//! - A run of more than 256 blanks is content, also before an opener, and an opener whose next
//!   character is further away is text.
//! - A call's own closer cut by the end of the text is dropped with the call.
//! - JSON arguments lose the blanks outside of strings. They are repaired where that is certain:
//!   control characters, escapes and surrogates, single quotes, words of Python, trailing commas,
//!   quotes inside of strings. Where nothing is certain the object is closed, and the rest up to
//!   the closing tag is dropped.
//! - An `arguments` value that is neither an object, nor a string that holds one, nor null makes
//!   the object text.
//! - A repeated parameter is sent twice, and the last one wins in every reader.
//!
//! # What cannot be told
//!
//! The dialects in tags have no escapes, so a value ends early where it quotes markup of its own
//! dialect as that would really stand there: a whole call with its closers, or on a line of its own a
//! parameter that the call has not had. What follows is text, or the next value. Calls in JSON, in
//! which [`ToolCallLayer`](super::call::ToolCallLayer) shows such values to the model, have no such limit.
//!
//! [rules]: https://github.com/tower-qwen/tower-qwen/blob/main/docs/reference/tool-calls.md#e.2

mod item;
mod scanner;
mod sink;

pub use self::{item::Item, scanner::Scanner};
pub use super::schema::Toolset;
