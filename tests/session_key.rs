//! What counts of a history, and that a streamed answer counts like the message that a client
//! makes of it.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use tower_qwen::{
    Text,
    chat::{
        Attachment, AttachmentKind, ChatEvent, ChatRequest, Citation, Content, FunctionTool, Json,
        Message, Part, PartKind, Role, Tenant, Tool, ToolCall,
    },
    session::{
        ChatKey, Key, TenantTag,
        internals::{ARGUMENTS_LIMIT, KeyChain, tools_digest},
    },
};

const TENANT: Tenant = Tenant::from_digest([9; 32]);

fn request(messages: Vec<Message>) -> ChatRequest {
    let mut request = ChatRequest::new("qwen3-max", messages);
    request.tenant = Some(TENANT);
    request
}

fn key_of(request: &ChatRequest) -> Key {
    let mut chain = KeyChain::new(&request.tenant.expect("a tenant"), request);
    request.history.iter().for_each(|message| chain.push(message));
    chain.key()
}

fn key(messages: Vec<Message>) -> Key {
    key_of(&request(messages))
}

fn one(message: Message) -> Key {
    key(vec![message])
}

fn user(text: &str) -> Message {
    Message::new(Role::User, text.to_owned())
}

fn parts(role: Role, parts: Vec<PartKind>) -> Message {
    let mut message = Message::empty(role);
    message.content = Some(Content::Parts(parts.into_iter().map(Part::new).collect()));
    message
}

fn text(text: &str) -> PartKind {
    PartKind::Text(Text::from(text))
}

fn image(url: &str) -> PartKind {
    PartKind::Image { url: Text::from(url), detail: None }
}

fn calls(calls: &[(&str, &str, &str)]) -> Message {
    let mut message = Message::empty(Role::Assistant);
    message.tool_calls = calls
        .iter()
        .map(|(id, name, arguments)| {
            ToolCall::new((*id).to_owned(), (*name).to_owned(), (*arguments).to_owned())
        })
        .collect();
    message
}

fn result(id: &str, text: &str) -> Message {
    let mut message = Message::new(Role::Tool, text.to_owned());
    message.tool_call_id = Some(Text::from(id));
    message
}

#[test]
fn a_string_is_like_its_parts() {
    let whole = one(user("one two"));
    assert_eq!(one(parts(Role::User, vec![text("one "), text("two")])), whole);
    assert_eq!(one(parts(Role::User, vec![text("one "), text(""), text("two\n ")])), whole);
    assert_ne!(one(parts(Role::User, vec![text("one"), text("two")])), whole);
    // A refusal is what the assistant said.
    let refusal = PartKind::Refusal("no".into());
    assert_eq!(
        one(parts(Role::Assistant, vec![refusal])),
        one(Message::new(Role::Assistant, "no"))
    );
}

#[test]
fn white_space_at_the_end_does_not_count() {
    assert_eq!(one(user("a b\u{a0}\r\n\t ")), one(user("a b")));
    assert_ne!(one(user("a  b")), one(user("a b")));
    assert_ne!(one(user(" a")), one(user("a")));
    // Nothing, null and white space are one.
    assert_eq!(one(user(" \n")), one(Message::empty(Role::User)));
    assert_eq!(one(parts(Role::User, vec![])), one(Message::empty(Role::User)));
    // An answer is trimmed by some clients at both ends.
    let answer = |text: &str| one(Message::new(Role::Assistant, text.to_owned()));
    assert_eq!(answer("\n\n Yes. \n"), answer("Yes."));
}

#[test]
fn roles_count_and_developer_is_system() {
    use Role::{Assistant, Developer, Function, System, Tool, User};
    let roles = [System, User, Assistant, Tool, Function];
    let keys: Vec<Key> = roles.map(|role| one(Message::new(role, "x"))).to_vec();
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[index + 1..].contains(key), "{:?}", roles[index]);
    }
    assert_eq!(one(Message::new(Developer, "x")), keys[0]);
}

#[test]
fn names_count_and_unknown_fields_and_reasoning_do_not() {
    let plain = one(user("x"));
    let mut named = user("x");
    named.name = Some("ann".into());
    assert_ne!(one(named.clone()), plain);
    let mut empty = user("x");
    empty.name = Some("".into());
    assert_ne!(one(empty), plain);

    let mut more = user("x");
    more.reasoning = Some("hm".into());
    more.extra.insert("annotations", json!([1]));
    assert_eq!(one(more), plain);
    let mut cached = Part::new(text("x"));
    cached.extra.insert("cache_control", json!({"type": "ephemeral"}));
    let mut message = Message::empty(Role::User);
    message.content = Some(Content::Parts(vec![cached]));
    assert_eq!(one(message), plain);
}

#[test]
fn media_count_by_content_and_place() {
    let at = |before: &str, url: &str, after: &str| {
        one(parts(Role::User, vec![text(before), image(url), text(after)]))
    };
    assert_eq!(at("a", "u", "b"), at("a", "u", "b"));
    assert_ne!(at("a", "u", "b"), at("a", "v", "b"));
    assert_ne!(at("a", "u", "b"), at("ab", "u", ""));
    assert_ne!(at("a", "u", "b"), one(user("ab")));
    assert_ne!(
        one(parts(Role::User, vec![image("u"), image("v")])),
        one(parts(Role::User, vec![image("v"), image("u")]))
    );
    // The same bytes as another kind, or divided otherwise between the fields.
    let file = |id: Option<&str>, data: Option<&str>, name: Option<&str>| {
        one(parts(
            Role::User,
            vec![PartKind::File {
                id: id.map(Text::from),
                data: data.map(Text::from),
                name: name.map(Text::from),
            }],
        ))
    };
    let keys = [
        file(Some("u"), None, None),
        file(None, Some("u"), None),
        file(None, None, Some("u")),
        file(Some(""), Some("u"), None),
        one(parts(Role::User, vec![image("u")])),
        one(parts(Role::User, vec![PartKind::Video { url: "u".into() }])),
        one(parts(Role::User, vec![PartKind::Audio { data: "u".into(), format: None }])),
        one(parts(
            Role::User,
            vec![PartKind::Image { url: "u".into(), detail: Some("low".into()) }],
        )),
    ];
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[index + 1..].contains(key), "{index}");
    }
    let other = |fields: &str| {
        let fields = serde_json::from_str(fields).expect("an object");
        one(parts(Role::User, vec![PartKind::Other(fields)]))
    };
    assert_eq!(other(r#"{"type":"x","y":1}"#), other(r#"{"y": 1.0, "type": "x"}"#));
    assert_ne!(other(r#"{"type":"x","y":1}"#), other(r#"{"type":"x","y":2}"#));
}

#[test]
fn arguments_count_by_what_they_mean() {
    let arguments = |arguments: &str| one(calls(&[("id", "f", arguments)]));
    for (one, other) in [
        (r#"{"a":1,"b":[true,null]}"#, " { \"b\" : [ true , null ],\n\"a\" : 1 } "),
        (r#"{"a":{"x":1,"y":2}}"#, r#"{"a":{"y":2,"x":1}}"#),
        // JavaScript writes 1.0 as 1, Python writes 1e2 as 100.0.
        (r#"{"a":1.0,"b":1e2,"c":-0.0}"#, r#"{"a":1,"b":100,"c":0}"#),
        (r#"{"a":"\u00e9\/"}"#, r#"{"a":"é/"}"#),
        ("", "{}"),
        (" \n", "{ }"),
    ] {
        assert_eq!(arguments(one), arguments(other), "{one} {other}");
    }
    for (one, other) in [
        (r#"{"a":1}"#, r#"{"a":2}"#),
        (r#"{"a":1}"#, r#"{"a":"1"}"#),
        (r#"{"a":1}"#, r#"{"a":1.5}"#),
        // Too large for a float to tell them apart.
        (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#),
        (r#"{"a":18446744073709551615}"#, r#"{"a":18446744073709551614}"#),
        (r#"{"a":-1}"#, r#"{"a":18446744073709551615}"#),
        (r#"{"a":[18446744073709551617]}"#, r#"{"a":[18446744073709551616]}"#),
        (r#"{"a":{"b":-9223372036854775810}}"#, r#"{"a":{"b":-9223372036854775809}}"#),
        (r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#),
        (r#"{"a":[[1],2]}"#, r#"{"a":[[1,2]]}"#),
        (r#"{"a":{},"b":1}"#, r#"{"a":{"b":1}}"#),
        (r#"{"a":null}"#, "{}"),
        (r#"{"a":"b\":\"c"}"#, r#"{"a":"b","c":""}"#),
        // What is not JSON counts to the letter.
        (r#"{"a":1"#, r#"{"a": 1"#),
        ("{}x", "{}"),
    ] {
        assert_ne!(arguments(one), arguments(other), "{one} {other}");
    }
}

#[test]
fn calls_count_by_name_order_and_number_and_not_by_id() {
    let two = one(calls(&[("1", "f", "{}"), ("2", "g", "{}")]));
    assert_eq!(one(calls(&[("x", "f", "{}"), ("y", "g", "{}")])), two);
    assert_ne!(one(calls(&[("1", "g", "{}"), ("2", "f", "{}")])), two);
    assert_ne!(one(calls(&[("1", "f", "{}")])), two);
    assert_ne!(one(calls(&[])), one(calls(&[("1", "", "{}")])));
}

#[test]
fn a_result_counts_by_the_call_that_it_belongs_to() {
    let asked = |a: &str, b: &str| calls(&[(a, "f", r#"{"n":1}"#), (b, "f", r#"{"n":2}"#)]);
    let straight = key(vec![asked("a", "b"), result("a", "x"), result("b", "y")]);
    // Other ids, the same pairs.
    assert_eq!(key(vec![asked("c", "d"), result("c", "x"), result("d", "y")]), straight);
    // The same texts in the same order, for the other calls.
    assert_ne!(key(vec![asked("a", "b"), result("b", "x"), result("a", "y")]), straight);
    // A result that nobody asked for.
    assert_ne!(key(vec![asked("a", "b"), result("?", "x"), result("b", "y")]), straight);
}

#[test]
fn tenant_and_model_count_and_tools_do_not() {
    let base = request(vec![user("x")]);
    let tool = |name: &str, parameters: Json| {
        Tool::Function(FunctionTool::new(name.to_owned(), parameters))
    };
    let with = |change: &dyn Fn(&mut ChatRequest)| {
        let mut request = base.clone();
        change(&mut request);
        key_of(&request)
    };
    let plain = key_of(&base);
    let other = with(&|request| request.tenant = Some(Tenant::from_digest([1; 32])));
    assert_ne!(other.to_bytes()[8..], plain.to_bytes()[8..], "the tenant is in the digest itself");
    assert_ne!(other.tenant(), plain.tenant());
    assert_ne!(with(&|request| request.model = "qwen3-coder".into()), plain);

    let json = |text: &str| Json::parse(text.to_owned()).expect("JSON");
    let schema =
        || json(r#"{"type": "object", "properties": {"a": {"type": "string", "maximum": 1}}}"#);
    let turned = || json(r#"{"properties":{"a":{"maximum":1.0,"type":"string"}},"type":"object"}"#);
    let offered = vec![tool("f", schema()), tool("g", schema())];
    assert_eq!(with(&|request| request.tools = Arc::new(offered.clone())), plain);

    // What a chat was told of is known by a digest of its own.
    let both = tools_digest(&offered);
    assert_eq!(tools_digest(&[tool("g", turned()), tool("f", turned())]), both);
    for tools in [
        vec![tool("f", schema())],
        vec![tool("f", schema()), tool("f", schema())],
        vec![tool("f", schema()), tool("h", schema())],
        vec![tool("f", schema()), tool("g", json(r#"{"type": "object"}"#))],
        vec![tool("f", schema()), Tool::Other(json!({"type": "web_search"}).into())],
    ] {
        assert_ne!(tools_digest(&tools), both);
    }
    assert_ne!(tools_digest(&[]), both);
}

#[test]
fn a_chat_that_the_client_names_has_keys_of_its_own() {
    let base = request(vec![user("x")]);
    let within = |chat: &str| {
        let mut chain = KeyChain::within_chat(&TENANT, &base, chat);
        chain.push(&base.history[0]);
        chain.key()
    };
    assert_eq!(within("a"), within("a"));
    assert_ne!(within("a"), within("b"));
    assert_ne!(within("a"), key_of(&base));
    let [one, other] = [[1; 32], [2; 32]].map(Tenant::from_digest);
    assert_ne!(Key::of_chat(&one, "a"), Key::of_chat(&other, "a"));
    assert_ne!(ChatKey::new(&one, "a"), ChatKey::new(&other, "a"));
    assert_ne!(TenantTag::new(&one), TenantTag::new(&other));
}

#[test]
fn a_message_cannot_be_moved_into_its_neighbour() {
    let pairs = [
        vec![user("a"), user("b")],
        vec![user("ab")],
        vec![user("a\nuser: b")],
        vec![user("b"), user("a")],
        vec![user("a"), user("b"), user("")],
        vec![user(""), user("a"), user("b")],
    ];
    let keys: Vec<Key> = pairs.iter().map(|messages| key(messages.clone())).collect();
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[index + 1..].contains(key), "{index}");
    }
}

/// The key of `before` and an answer of these events.
fn streamed(before: &[Message], events: impl IntoIterator<Item = ChatEvent>) -> Option<Key> {
    let mut chain = KeyChain::new(&TENANT, &request(vec![]));
    before.iter().for_each(|message| chain.push(message));
    let mut answer = chain.answer();
    events.into_iter().for_each(|event| answer.push(&event));
    answer.finish()
}

fn call_event(index: u32, name: &str) -> ChatEvent {
    ChatEvent::ToolCall { index, id: format!("call_{index}").into(), name: name.to_owned().into() }
}

fn arguments_event(index: u32, json: &str) -> ChatEvent {
    ChatEvent::ToolArguments { index, json: json.to_owned().into() }
}

#[test]
fn an_image_counts_as_the_text_that_the_client_sees() {
    let image = Attachment::new(AttachmentKind::Image, "https://example.org/i.png".into());
    let found = Citation::new("https://example.org/s");
    let events = [
        ChatEvent::Text("Here:\n".into()),
        ChatEvent::Attachment(image),
        ChatEvent::Citation(found.into()),
        ChatEvent::Text("Like it?".into()),
    ];
    let seen = "Here:\n![image](https://example.org/i.png)\nLike it?";
    let message = Message::new(Role::Assistant, seen);
    assert_eq!(streamed(&[user("draw")], events), Some(key(vec![user("draw"), message])));
}

#[test]
fn events_out_of_order_have_no_key() {
    let call = call_event;
    let arguments = arguments_event;
    for events in [
        vec![arguments(0, "{}")],
        vec![call(1, "f")],
        vec![call(0, "f"), call(0, "f")],
        vec![call(0, "f"), call(1, "g"), arguments(0, "{}")],
        vec![call(0, "f"), arguments(1, "{}")],
        vec![call(0, "f"), arguments(u32::MAX, "{}")],
    ] {
        assert_eq!(streamed(&[], events.clone()), None, "{events:?}");
    }
}

#[test]
fn arguments_at_the_limit_are_compared_alike_on_both_sides() {
    for length in [ARGUMENTS_LIMIT - 1, ARGUMENTS_LIMIT, ARGUMENTS_LIMIT + 1, ARGUMENTS_LIMIT * 3] {
        let frame = r#"{"a": ""}"#.len();
        let arguments = format!(r#"{{"a": "{}"}}"#, "x".repeat(length - frame));
        assert_eq!(arguments.len(), length);
        for size in [1_000, length / 2, length] {
            let pieces = arguments
                .as_bytes()
                .chunks(size)
                .map(|piece| arguments_event(0, std::str::from_utf8(piece).expect("ASCII")));
            let events = std::iter::once(call_event(0, "f")).chain(pieces);
            assert_eq!(
                streamed(&[], events),
                Some(one(calls(&[("x", "f", &arguments)]))),
                "{length} in pieces of {size}"
            );
        }
        // A client that writes them anew is understood up to the limit.
        let anew = arguments.replace(": ", ":  ");
        let same = one(calls(&[("x", "f", &anew)])) == one(calls(&[("x", "f", &arguments)]));
        assert_eq!(same, anew.len() <= ARGUMENTS_LIMIT, "{length}");
    }
}

/// JSON objects as models write them.
fn json_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e15..1e15_f64).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"é]{0,3}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-c]{1,2}", value, 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

/// The same value, keys the other way round.
fn reversed(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(reversed).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().rev().map(|(k, v)| (k.clone(), reversed(v))).collect())
        }
        other => other.clone(),
    }
}

/// `text` in pieces that end after as many characters as `cuts` says, over and over.
fn pieces<'a>(text: &'a str, cuts: &'a [usize]) -> impl Iterator<Item = String> + 'a {
    let mut cuts = cuts.iter().copied().cycle();
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        chars.peek()?;
        Some(chars.by_ref().take(cuts.next().unwrap_or(1).max(1)).collect())
    })
}

proptest! {
    /// However an answer is cut, it counts like the message that the client makes of it.
    #[test]
    fn a_streamed_answer_is_the_message_that_comes_back(
        before in prop::collection::vec("[a-b \n]{0,3}", 0..3),
        content in "[ab \n\u{a0}é\u{3000}]{0,24}",
        calls in prop::collection::vec(("[fg]", json_object()), 0..3),
        cuts in prop::collection::vec(1_usize..6, 1..6),
        trim in 0..3,
        anew: bool,
    ) {
        let before: Vec<Message> = before.iter().map(|text| user(text)).collect();
        let mut events = vec![ChatEvent::Reasoning("hm".into())];
        events.extend(pieces(&content, &cuts).map(|piece| ChatEvent::Text(piece.into())));
        for (index, (name, arguments)) in calls.iter().enumerate() {
            let index = index as u32;
            events.push(call_event(index, name));
            let arguments = arguments.to_string();
            events.extend(pieces(&arguments, &cuts).map(|piece| arguments_event(index, &piece)));
        }

        let text = match trim {
            0 => content.as_str(),
            1 => content.trim_end(),
            _ => content.trim(),
        };
        let mut message = Message::new(Role::Assistant, text.to_owned());
        message.tool_calls = calls
            .iter()
            .map(|(name, arguments)| {
                let arguments = if anew {
                    serde_json::to_string_pretty(&reversed(arguments)).expect("JSON")
                } else {
                    arguments.to_string()
                };
                ToolCall::new("mine", name.clone(), arguments)
            })
            .collect();
        let mut history = before.clone();
        history.push(message);
        prop_assert_eq!(streamed(&before, events), Some(key(history)));
    }

    /// Against a naive twin: two histories have one key exactly if they look alike.
    #[test]
    fn keys_are_equal_exactly_for_histories_alike(
        one in prop::collection::vec(small_message(), 0..3),
        other in prop::collection::vec(small_message(), 0..3),
    ) {
        let alike = one.iter().map(naive).eq(other.iter().map(naive));
        prop_assert_eq!(key(one) == key(other), alike);
    }
}

/// Messages from few pieces, so that many are alike.
fn small_message() -> impl Strategy<Value = Message> {
    let role =
        prop::sample::select(vec![Role::System, Role::Developer, Role::User, Role::Assistant]);
    let content = prop_oneof![
        Just(None),
        "[a \n]{0,2}".prop_map(|text| Some(Content::Text(text.into()))),
        prop::collection::vec(
            prop_oneof!["[a ]{0,2}".prop_map(|piece| text(&piece)), Just(image("a"))],
            0..3
        )
        .prop_map(|parts| Some(Content::Parts(parts.into_iter().map(Part::new).collect()))),
    ];
    let arguments = prop::sample::select(vec!["", "{}", r#"{"a":1}"#, r#"{ "a": 1.0 }"#, "a"]);
    let calls = prop::collection::vec(
        (prop::sample::select(vec!["f", "g"]), arguments).prop_map(|(name, arguments)| {
            ToolCall::new("x", name.to_owned(), arguments.to_owned())
        }),
        0..2,
    );
    let name = prop::option::of("[a]{0,1}");
    (role, content, calls, name).prop_map(|(role, content, calls, name)| {
        let mut message = Message::empty(role);
        message.content = content;
        message.tool_calls = calls;
        message.name = name.map(Text::from);
        message
    })
}

fn naive(message: &Message) -> String {
    let role = message.role.as_str().replace("developer", "system");
    let all = message.text();
    let text = if message.role == Role::Assistant { all.trim() } else { all.trim_end() };
    let mut before = 0;
    let mut media = Vec::new();
    if let Some(Content::Parts(parts)) = &message.content {
        for part in parts {
            match part.as_text() {
                Some(text) => before += text.len(),
                None => media.push((before, format!("{:?}", part.kind))),
            }
        }
    }
    let calls: Vec<String> = message
        .tool_calls
        .iter()
        .map(|call| {
            let arguments = match call.arguments.as_str() {
                "" | "{}" => "nothing",
                r#"{"a":1}"# | r#"{ "a": 1.0 }"# => "a is 1",
                other => other,
            };
            format!("{} {arguments}", call.name)
        })
        .collect();
    format!("{:?}", (role, &message.name, text, media, calls))
}
