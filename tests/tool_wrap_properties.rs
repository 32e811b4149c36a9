//! `ToolWrapLayer`'s promise, for replies out of a grammar: whatever the model writes, and
//! wherever the stream is cut, the client finds exactly one call.

#[path = "xml_client/replies.rs"]
mod replies;
mod xml_client;

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};
use replies::{MARKUP, PARAMETERS, TOOLS, check, client, pieces, wrap};
use tower_qwen::tool::internals::{End, Outcome};

/// How a call is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    Client,
    WrappedClient,
    Coder,
    Bare,
    Hermes,
    HermesNameLast,
    HermesString,
}

const FORMS: [Form; 7] = [
    Form::Client,
    Form::WrappedClient,
    Form::Coder,
    Form::Bare,
    Form::Hermes,
    Form::HermesNameLast,
    Form::HermesString,
];

type Call = (&'static str, BTreeMap<&'static str, String>);

fn render((name, parameters): &Call, form: Form) -> String {
    let tags = || {
        let inside: String =
            parameters.iter().map(|(key, value)| format!("<{key}>{value}</{key}>\n")).collect();
        format!("<{name}>\n{inside}</{name}>")
    };
    let function = || {
        let inside: String = parameters
            .iter()
            .map(|(key, value)| format!("<parameter={key}>\n{value}\n</parameter>\n"))
            .collect();
        format!("<function={name}>\n{inside}</function>")
    };
    let arguments = serde_json::to_string(parameters).expect("strings");
    match form {
        Form::Client => tags(),
        Form::WrappedClient => format!("<tool_call>\n{}\n</tool_call>", tags()),
        Form::Coder => format!("<tool_call>\n{}\n</tool_call>", function()),
        Form::Bare => format!("{}\n</tool_call>", function()),
        Form::Hermes => format!(
            "<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>"
        ),
        Form::HermesNameLast => {
            format!("<tool_call>{{\"arguments\":{arguments},\"name\":\"{name}\"}}</tool_call>")
        }
        Form::HermesString => {
            let quoted = serde_json::to_string(&arguments).expect("a string");
            format!("<tool_call>[{{\"name\":\"{name}\",\"arguments\":{quoted}}}]</tool_call>")
        }
    }
}

/// Values that every form can carry: no closers of any form in them.
fn value() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        select(
            &[
                "a < b",
                "<div class=\"x\">",
                "</div>",
                "\"",
                "\\",
                "{}",
                "\n",
                "  ",
                "&lt;",
                "<path",
                "é🦀",
                "```",
                "<tools>",
                "\t"
            ][..]
        )
        .prop_map(str::to_owned),
        "[a-z ]{0,12}",
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn call() -> impl Strategy<Value = Call> {
    let parameters = prop::collection::btree_map(select(&PARAMETERS[..]), value(), 0..4);
    (select(&TOOLS[..]), parameters)
}

fn form() -> impl Strategy<Value = Form> {
    select(&FORMS[..])
}

fn prose() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Za-z ,.]{1,20}", "\\PC{1,8}", Just("\n\n".to_owned())]
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prose(),
        4 => select(&MARKUP[..]).prop_map(str::to_owned),
        2 => (call(), form()).prop_map(|(call, form)| render(&call, form)),
        1 => (call(), form(), any::<prop::sample::Index>()).prop_map(|(call, form, cut)| {
            let text = render(&call, form);
            let at = cut.index(text.len() + 1);
            text.chars().take(at).collect()
        }),
        1 => (select(&TOOLS[..]), select(&["`<{}>`", "the <{}> tool", "<{}>.", "<{}>\n\n<b>"][..]))
            .prop_map(|(name, mention)| mention.replace("{}", name)),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Complete), Just(End::Cut)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn every_reply_becomes_one_call(segments in vec(segment(), 0..8), end in end(), size in 2..40usize) {
        check(&segments.concat(), end, &[1, size]);
    }

    #[test]
    fn dense_markup_becomes_one_call(segments in vec(select(&MARKUP[..]), 0..40), end in end(), size in 2..9usize) {
        check(&segments.concat(), end, &[1, size]);
    }

    /// Whatever its form, the client runs the call that the model made.
    #[test]
    fn a_call_means_the_same_in_every_form(
        call in call(), form in form(), lead in "[A-Za-z ]{0,10}", size in 1..30usize,
    ) {
        let reply = format!("{lead}\n\n{}\nand more", render(&call, form));
        let (wrapped, reading) = check(&reply, End::Complete, &[size]);
        prop_assert_eq!(
            wrapped.outcome,
            if matches!(form, Form::Client | Form::WrappedClient) { Outcome::Call } else { Outcome::Rewritten }
        );
        let expected: BTreeMap<String, String> = call.1
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.trim().to_owned()))
            .collect();
        prop_assert_eq!(&reading.calls[0].parameters, &expected);
        prop_assert_eq!(&reading.calls[0].name, call.0);
        prop_assert_eq!(reading.text.trim(), lead.trim());
        // Roo Code keeps the blanks of a file but for the newlines that are layout.
        if let Some(content) = call.1.get("content").filter(|_| !matches!(form, Form::Client | Form::WrappedClient)) {
            let roo = client().roo_streaming(&wrapped.text);
            prop_assert_eq!(&roo.calls[0].parameters["content"], content);
        }
    }

    /// An oracle that has the whole text at hand, for replies without native forms.
    #[test]
    fn a_naive_wrapper_agrees(segments in vec(select(&CLIENT_MARKUP[..]), 0..14), end in end(), size in 1..9usize) {
        let reply = segments.concat();
        let wrapped = wrap(pieces(&reply, size), end, 0);
        prop_assert_eq!(wrapped.text, naive(&reply, end));
    }
}

const CLIENT_MARKUP: [&str; 22] = [
    "<read_file>",
    "</read_file>",
    "<read>",
    "</read>",
    "<write_to_file>",
    "</write_to_file>",
    "<path>",
    "</path>",
    "<content>",
    "</content>",
    "</result>",
    "<read_fi",
    "<",
    ">",
    "`",
    "\n",
    " ",
    "\n\n",
    "words",
    "é",
    "</",
    "<tool>",
];

/// The rules of docs/reference/tool-calls.md#e.1 over a whole text, but for those of other formats.
fn naive(reply: &str, end: End) -> String {
    let reply = reply.trim_start();
    let mut out = String::new();
    let mut rest = reply;
    while let Some(c) = rest.chars().next() {
        let Some(name) = TOOLS.iter().find(|name| rest.starts_with(&format!("<{name}>"))) else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let behind = &rest[name.len() + 2..];
        let next = behind.trim_start_matches([' ', '\n']);
        let is_call = std::iter::once(format!("</{name}>"))
            .chain(PARAMETERS.iter().map(|key| format!("<{key}>")))
            .any(|tag| next.starts_with(&tag) || tag.starts_with(next));
        if !is_call {
            out.push_str("&lt;");
            rest = &rest[1..];
            continue;
        }
        out.push_str(&rest[..name.len() + 2]);
        return out + &naive_call(name, behind, end);
    }
    if out.trim().is_empty() {
        return String::new();
    }
    let result = out.trim().replace("</result>", "&lt;/result>");
    format!("{out}\n\n<attempt_completion>\n<result>\n{result}\n</result>\n</attempt_completion>")
}

fn naive_call(name: &str, call: &str, end: End) -> String {
    let mut open = None;
    let mut at = 0;
    while at < call.len() {
        let rest = &call[at..];
        match open {
            None if rest.starts_with(&format!("</{name}>")) => {
                return call[..at + name.len() + 3].to_owned();
            }
            None => open = PARAMETERS.iter().find(|key| rest.starts_with(&format!("<{key}>"))),
            Some(key) if rest.starts_with(&format!("</{key}>")) => open = None,
            Some(_) => {}
        }
        at += rest.chars().next().map_or(1, char::len_utf8);
    }
    let mut out = call.to_owned();
    if end == End::Complete {
        let mut closers = open.iter().map(|key| format!("</{key}>")).collect::<Vec<_>>();
        closers.push(format!("</{name}>"));
        let partial = (2..closers[0].len()).rev().find(|&n| call.ends_with(&closers[0][..n]));
        out.push_str(&closers[0][partial.unwrap_or(0)..]);
        for closer in &closers[1..] {
            out.push('\n');
            out.push_str(closer);
        }
    }
    out
}
