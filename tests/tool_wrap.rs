//! `ToolWrapLayer` on the failures that were seen in the field, each with its
//! source, and as a service: events, errors, what is held and for how long.

mod xml_client;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use futures_util::StreamExt;
use http::{Request, Response};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, Text,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStreamExt, FinishReason, Message, Role, Tool, Usage,
    },
    tool::{
        internals::{Automaton, End, Outcome},
        wrap::{ToolWrapLayer, ToolWrapStream, Vocabulary},
    },
};
use xml_client::{Client, Reading};

fn roo() -> Client {
    let vocabulary = Vocabulary::roo_code();
    Client::new(
        &vocabulary.tools().collect::<Vec<_>>(),
        &vocabulary.parameters().collect::<Vec<_>>(),
    )
}

/// The reply as Roo Code gets it, from an upstream that sends `size` bytes at a time.
fn wrap_by(size: usize, reply: &str, end: End) -> (String, Outcome) {
    let mut automaton = Automaton::new(Arc::new(Vocabulary::roo_code()));
    let mut queue = VecDeque::new();
    let mut rest = reply;
    while !rest.is_empty() {
        let at = (size..rest.len()).find(|&at| rest.is_char_boundary(at)).unwrap_or(rest.len());
        automaton.push(&rest[..at].into(), &mut queue);
        rest = &rest[at..];
    }
    let outcome = automaton.finish(end, &mut queue);
    let text = queue
        .iter()
        .map(|piece| match piece {
            ChatEvent::Text(text) => text.as_str(),
            _ => "",
        })
        .collect();
    (text, outcome)
}

fn wrap(reply: &str, end: End) -> (String, Outcome) {
    let whole = wrap_by(usize::MAX, reply, end);
    for size in 1..8 {
        assert_eq!(wrap_by(size, reply, end), whole, "cut every {size} bytes");
    }
    whole
}

fn completed(text: &str, result: &str) -> String {
    format!("{text}\n\n<attempt_completion>\n<result>\n{result}\n</result>\n</attempt_completion>")
}

/// The reply becomes `expected`, in which Roo Code and Cline find one call.
#[track_caller]
fn becomes(reply: &str, expected: &str, outcome: Outcome) -> Reading {
    let (text, got) = wrap(reply, End::Complete);
    assert_eq!(text, expected);
    assert_eq!(got, outcome);
    let reading = roo().roo_streaming(&text);
    assert_eq!(reading.calls.len(), 1, "{reading:#?}");
    assert!(reading.calls[0].closed);
    assert_eq!(roo().cline(&text).calls[0].name, reading.calls[0].name);
    reading
}

#[track_caller]
fn passes(reply: &str) -> Reading {
    becomes(reply, reply, Outcome::Call)
}

#[track_caller]
fn rewritten(reply: &str, name: &str, parameters: &[(&str, &str)]) -> String {
    let (text, outcome) = wrap(reply, End::Complete);
    assert_eq!(outcome, Outcome::Rewritten, "{text}");
    for reading in [roo().roo_streaming(&text), roo().cline(&text)] {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let expected: BTreeMap<String, String> = parameters.iter().map(own).collect();
        assert_eq!(reading.calls.len(), 1, "{text}");
        assert_eq!(reading.calls[0].name, name);
        assert_eq!(reading.calls[0].parameters, expected, "{text}");
        assert!(reading.calls[0].closed);
    }
    text
}

// ---- replies without a call ----

/// RooCodeInc/Roo-Code#6671, #10547, cline/cline#6660: error message, retry, loop.
#[test]
fn a_reply_without_a_call_is_completed() {
    let reading = becomes("All done.", &completed("All done.", "All done."), Outcome::Completed);
    assert_eq!(reading.calls[0].parameters["result"], "All done.");
}

/// The recorded sample of ChrisColeTech/qwen_proxy_poc: four replies are only this.
#[test]
fn dots_are_visible_text() {
    becomes("...", &completed("...", "..."), Outcome::Completed);
}

#[test]
fn a_reply_without_visible_text_stays_empty() {
    for reply in ["", " \n\t\u{feff}\u{a0}", "<think>what</think>\n ", "<think>what", "</think>\n"]
    {
        assert_eq!(wrap(reply, End::Complete), (String::new(), Outcome::Empty), "{reply:?}");
    }
}

/// Blanks at the start would keep Roo Code from seeing a think block.
#[test]
fn blanks_at_the_start_are_dropped() {
    becomes("\n\n  Hello \n", &completed("Hello \n", "Hello"), Outcome::Completed);
}

/// RooCodeInc/Roo-Code's provider splits a think block only at the very start; what is in it must
/// not be run.
#[test]
fn a_think_block_at_the_start_goes_to_the_reasoning() {
    let mut automaton = Automaton::new(Arc::new(Vocabulary::roo_code()));
    let mut queue = VecDeque::new();
    let reply = "\n<think>I could <read_file><path>a</path></read_file></thin</think>\n\nHi";
    for at in 0..reply.len() {
        automaton.push(&reply[at..=at].into(), &mut queue);
    }
    automaton.finish(End::Complete, &mut queue);
    let (mut text, mut reasoning) = (String::new(), String::new());
    for piece in queue {
        match piece {
            ChatEvent::Text(piece) => text.push_str(&piece),
            ChatEvent::Reasoning(piece) => reasoning.push_str(&piece),
            _ => unreachable!(),
        }
    }
    assert_eq!(reasoning, "I could <read_file><path>a</path></read_file></thin");
    assert_eq!(text, completed("Hi", "Hi"));
}

#[test]
fn a_think_block_further_down_is_text() {
    let reply = "So <think> is a tag.</think>";
    becomes(reply, &completed(reply, reply), Outcome::Completed);
}

/// An inner closer would end the result, and what follows would become
/// other parameters.
#[test]
fn the_result_cannot_be_closed_from_inside() {
    let text = "It ends with </result>\n<command>rm -rf x</command>";
    let result = "It ends with &lt;/result>\n<command>rm -rf x</command>";
    let reading = becomes(text, &completed(text, result), Outcome::Completed);
    assert_eq!(reading.calls[0].parameters.len(), 1);
}

/// Roo Code gives up a parameter above 102,400 characters.
#[test]
fn a_long_text_is_completed_with_its_last_paragraphs() {
    let paragraph = format!("{}</result>\n\n", "word ".repeat(300));
    let text = paragraph.repeat(100);
    let (reply, outcome) = wrap_by(4096, &text, End::Complete);
    assert_eq!(outcome, Outcome::Completed);
    assert!(reply.starts_with(&text));
    let reading = roo().roo_streaming(&reply);
    let result = &reading.calls[0].parameters["result"];
    assert!((60_000..=66_000).contains(&result.len()), "{}", result.len());
    assert!(result.starts_with("word word") && result.ends_with("&lt;/result>"));
    assert_eq!(wrap_by(7, &text, End::Complete).0, reply);
}

#[test]
fn a_long_text_of_one_paragraph_keeps_its_last_lines_or_characters() {
    let lines = "é word\n".repeat(20_000);
    let (reply, _) = wrap_by(1000, &lines, End::Complete);
    let reading = roo().cline(&reply);
    let result = &reading.calls[0].parameters["result"];
    assert!(result.starts_with("é word\né") && result.len() > 60_000 && result.len() <= 65_536);

    let one = "é".repeat(70_000);
    let (reply, _) = wrap_by(1000, &one, End::Complete);
    assert_eq!(roo().cline(&reply).calls[0].parameters["result"].len(), 65_536);

    // Blanks at the end count for nothing, however many there are.
    let (reply, _) = wrap_by(1000, &format!("a\n\nb{}", " ".repeat(300_000)), End::Complete);
    assert_eq!(roo().cline(&reply).calls[0].parameters["result"], "a\n\nb");
}

/// A completion is added at the end of the stream, whatever its reason: without the completion the
/// client would only see a reply without a call.
#[test]
fn text_that_was_cut_is_completed_too() {
    let (text, outcome) = wrap("Once upon a", End::Cut);
    assert_eq!((text, outcome), (completed("Once upon a", "Once upon a"), Outcome::Completed));
}

// ---- calls in the client's tags ----

/// Recorded: 12 of 14 calls begin the reply, 2 stand behind a sentence.
#[test]
fn a_call_passes_unchanged() {
    passes("<read_file>\n<args>\n  <file><path>a.rs</path></file>\n</args>\n</read_file>");
    let reading = passes(
        "I'll run it.\n\n<execute_command>\n<command>echo '&lt;' && ls > x</command>\n\
         </execute_command>",
    );
    assert_eq!(reading.calls[0].parameters["command"], "echo '&lt;' && ls > x");
}

/// A completion of the model's own is not wrapped again.
#[test]
fn a_completion_is_not_completed() {
    passes("<attempt_completion>\n<result>\nDone.\n</result>\n</attempt_completion>");
}

/// Each surplus call is answered with an error by Roo Code and Cline.
#[test]
fn nothing_follows_the_first_call() {
    let call = "<read_file>\n<path>a</path>\n</read_file>";
    for behind in [
        "\nDone.",
        "\n<read_file><path>b</path></read_file>",
        "</tool_call>",
        "</toolcall>\n</tool_calls>",
        "\u{a0}</func>\n</tool_call><|im_end|>",
        "\n```",
    ] {
        becomes(&format!("{call}{behind}"), call, Outcome::Call);
    }
    let json = "<tool_call>{\"name\": \"read_file\", \"arguments\": {\"path\": \"a\"}}";
    for behind in ["}\n</tool_call>", "}", "</tool_calls>\nDone.", "\n</function>\n</tool_call>"] {
        let text = format!("{json}{behind}");
        rewritten(&text, "read_file", &[("path", "a")]);
    }
}

/// RooCodeInc/Roo-Code#8242: what the client executes counts, so a genuine call
/// in a fence passes.
#[test]
fn a_call_in_a_fence_is_what_the_client_makes_of_it() {
    let call = "```xml\n<read_file>\n<path>a</path>\n</read_file>";
    becomes(&format!("{call}\n```"), call, Outcome::Call);
}

/// A value is data up to its own closer, whatever stands in it.
#[test]
fn markup_in_values_is_data() {
    let reading = passes(
        "<write_to_file>\n<path>t.xml</path>\n<content>\n<read_file><path>x</path></read_file>\n\
         </write_to_file> <tool_call>{} </function> `<result>`\n</content>\n</write_to_file>",
    );
    assert!(reading.calls[0].parameters["content"].contains("</write_to_file> <tool_call>"));
}

/// An unknown tag inside a call is dropped by the client, and changed by nobody.
#[test]
fn unknown_tags_in_a_call_pass() {
    let reading = passes(
        "<write_to_file>\n<path>a</path>\n<content>x</content>\n<line_count>1</line_count>\n\
         </write_to_file>",
    );
    assert_eq!(reading.calls[0].parameters.len(), 2);
}

/// ollama/ollama#17914, vllm-project/vllm#57699: models drop closers; the client would run the
/// call, but Roo Code leaves the last value untrimmed.
#[test]
fn missing_closers_are_added_at_a_normal_end() {
    let call = "<read_file>\n<path>a.rs</path>\n</read_file>";
    for cut in ["</path>", "\n</read_file>", "ath>\n</read_file>", "/path>\n</read_file>"] {
        let reply = call.strip_suffix(cut).unwrap_or(call);
        let (text, _) = wrap(reply, End::Complete);
        let reading = roo().roo_streaming(&text);
        assert!(reading.calls[0].closed, "{text}");
        assert_eq!(reading.calls[0].parameters["path"].trim_end_matches('<'), "a.rs", "{text}");
    }
    becomes(
        "<read_file>\n<path>a.rs</pat",
        "<read_file>\n<path>a.rs</path>\n</read_file>",
        Outcome::Call,
    );
}

/// Nothing is added to a call that the token limit cut, and nothing appended behind it,
/// where it would become a part of it.
#[test]
fn a_call_that_was_cut_stays_cut() {
    for reply in ["<read_file>\n<path>a.r", "<read_file>", "Hm\n<read_file>\n<pa"] {
        assert_eq!(wrap(reply, End::Cut), (reply.to_owned(), Outcome::Call));
    }
}

// ---- mentions ----

/// RooCodeInc/Roo-Code#2364, #3456: prose names a tool, and the client runs it without
/// parameters.
#[test]
fn a_mention_of_a_tool_is_escaped() {
    let text = "Use `<read_file>` or the <apply_diff> tool, then <attempt_completion>.";
    let escaped = text
        .replace("<read", "&lt;read")
        .replace("<apply", "&lt;apply")
        .replace("<attempt", "&lt;attempt");
    becomes(text, &completed(&escaped, &escaped), Outcome::Completed);
}

#[test]
fn a_call_behind_mentions_passes() {
    becomes(
        "<read_file> <<read_file> <read_file>\n\n<read_file>\n<path>a</path>\n</read_file>",
        "&lt;read_file> <&lt;read_file> &lt;read_file>\n\n<read_file>\n<path>a</path>\n</read_file>",
        Outcome::Call,
    );
}

/// Blanks between an opener and what decides about it are bounded, as is what is held.
#[test]
fn an_opener_before_a_desert_is_a_mention() {
    let near = format!("<read_file>{}<path>a</path></read_file>", " ".repeat(256));
    passes(&near);
    let far = format!("<read_file>{}<path>a</path></read_file>", " ".repeat(257));
    let (text, outcome) = wrap(&far, End::Complete);
    assert!(text.starts_with("&lt;read_file>  ") && outcome == Outcome::Completed);
}

/// RooCodeInc/Roo-Code#7156: lost brackets are text, as they are to the client; so are attributes
/// and other spellings.
#[test]
fn almost_tags_are_text() {
    for text in [
        "read_file>\n<path>a</path>\n</read_file>",
        "<read_file\n<path>a</path>\n</read_file>",
        "<Read_File>\n<path>a</path>\n</Read_File>",
        "<read_file path=\"a\"/>",
        "< read_file>",
        "<div>a</div>",
    ] {
        becomes(text, &completed(text, text), Outcome::Completed);
    }
}

// ---- the models' own forms ----

/// cline/cline#6660, RooCodeInc/Roo-Code#12185: the model answers in its native format.
#[test]
fn native_xml_is_rewritten() {
    let text = rewritten(
        "I'll look.\n\n<tool_call>\n<function=read_file>\n<parameter=path>\nsrc/a.rs\n</parameter>\n\
         </function>\n</tool_call>",
        "read_file",
        &[("path", "src/a.rs")],
    );
    assert_eq!(text, "I'll look.\n\n<read_file>\n<path>\nsrc/a.rs\n</path>\n</read_file>");
}

/// QwenLM/Qwen3-Coder#475, ollama/ollama#16686, aaif-goose/goose#6883: no opening `<tool_call>`.
#[test]
fn a_bare_function_is_rewritten() {
    rewritten(
        "Let me see.\n<function=list_files>\n<parameter=path>\n.\n</parameter>\n</function>\n\
         </tool_call>",
        "list_files",
        &[("path", ".")],
    );
    rewritten("<function=list_files>\n</function>", "list_files", &[]);
}

#[test]
fn native_json_is_rewritten() {
    let text = rewritten(
        "<tool_call>\n{\"name\": \"search_files\", \"arguments\": {\"path\": \"src\", \
         \"regex\": \"a\\\"\\u00e9\\ud83e\\udd80\", \"recursive\": true, \"file_pattern\": null}}\n\
         </tool_call>",
        "search_files",
        &[("path", "src"), ("regex", "a\"é🦀"), ("recursive", "true")],
    );
    assert!(!text.contains("null"));
}

/// Seen variations of JSON calls: arguments first, as a string, `parameters`, none, an array.
#[test]
fn json_variations_are_rewritten() {
    let path = [("path", "a")];
    rewritten(
        "<tool_call>{\"arguments\": {\"path\": \"a\"}, \"name\": \"read_file\"}</tool_call>",
        "read_file",
        &path,
    );
    rewritten(
        "<tool_call>{\"name\":\"read_file\",\"arguments\":\"{\\\"path\\\":\\\"a\\\"}\"}</tool_call>",
        "read_file",
        &path,
    );
    rewritten(
        "<tool_call>\n{\n  \"id\": [1, {\"}\": 2}],\n  \"name\": \"read_file\",\n  \
         \"parameters\": {\n    \"path\": \"a\"\n  }\n}\n</tool_call>",
        "read_file",
        &path,
    );
    rewritten("<tool_call>{\"name\": \"read_file\"}</tool_call>", "read_file", &[]);
    rewritten(
        "<tool_call>\n[{\"name\":\"read_file\",\"arguments\":{\"path\":\"a\"}},{\"name\":\"x\"}]",
        "read_file",
        &path,
    );
}

/// minpeter/ai-sdk-tool-call-middleware#298: raw control characters and unescaped quotes.
#[test]
fn json_with_raw_newlines_and_quotes_is_rewritten() {
    rewritten(
        "<tool_call>{\"name\":\"execute_command\",\"arguments\":{\"command\":\"echo \"hi\n\" x\"}}",
        "execute_command",
        &[("command", "echo \"hi\n\" x")],
    );
}

/// vllm-project/vllm#45167: `</tool_call>` inside a string; NVIDIA/TensorRT-LLM#19228: a brace.
#[test]
fn json_strings_hide_markup_and_braces() {
    rewritten(
        "<tool_call>{\"name\":\"use_mcp_tool\",\"arguments\":{\"tool_name\":\"}</tool_call>{\",\
         \"arguments\":{\"a\":[\"]}</arguments>\"]}}}</tool_call>",
        "use_mcp_tool",
        &[("tool_name", "}</tool_call>{"), ("arguments", "{\"a\":[\"]}\\u003c/arguments>\"]}")],
    );
}

/// RooCodeInc/Roo-Code#12185: `<tool_call>` around the client's own tags.
#[test]
fn a_wrapper_around_the_clients_tags_is_dropped() {
    becomes(
        "Hm.\n<tool_call>\n<read_file>\n<path>a</path>\n</read_file>\n</tool_call>",
        "Hm.\n<read_file>\n<path>a</path>\n</read_file>",
        Outcome::Call,
    );
}

/// vllm-project/vllm#57699, ollama/ollama#17276, #14834: `</parameter>` or more is missing.
#[test]
fn native_xml_without_closers_is_rewritten() {
    let expected = [("path", "a"), ("regex", "b")];
    for reply in [
        "<function=search_files>\n<parameter=path>\na\n<parameter=regex>\nb\n</parameter>\n</function>",
        "<function=search_files>\n<parameter=path>\na\n</parameter>\n<parameter=regex>\nb\n</function>\n</tool_call>",
        "<function=search_files>\n<parameter=path>\na\n</parameter>\n<parameter=regex>\nb\n</function>",
        "<function=search_files>\n<parameter=path>\na\n</parameter>\n<parameter=regex>\nb\n</tool_call>",
        "<function=search_files>\n<parameter=path>\na\n</parameter>\n<parameter=regex>\nb\n</parameter>\n</tool_call>",
        "<function=search_files>\n<parameter=path>\na\n</parameter>\n<parameter=regex>\nb\n</parameter>",
        "<function=search_files>\n<parameter=path>\na\n</parameter>\n<parameter=regex>\nb\n</para",
        "<function=search_files>\n<parameter=path>\na\n</parameter>\n<parameter=regex>\nb",
        // The next call begins without any closer but the parameter's.
        "<function=search_files>\n<parameter=path>\na\n</parameter>\n<parameter=regex>\nb\n</parameter>\n<function=read_file>\n<parameter=path>\nc\n</parameter>\n</function>",
    ] {
        rewritten(reply, "search_files", &expected);
    }
    // What the client does not know begins no call.
    rewritten(
        "<function=read_file>\n<parameter=path>\na</parameter> <function=read_more>\n</parameter>\n</function>",
        "read_file",
        &[("path", "a</parameter> <function=read_more>")],
    );
}

/// ggml-org/llama.cpp#26763: the newlines around a value are left out.
#[test]
fn native_xml_without_newlines_is_rewritten() {
    rewritten(
        "<tool_call><function=search_files><parameter=path>a</parameter><parameter=regex>b</parameter></function></tool_call>",
        "search_files",
        &[("path", "a"), ("regex", "b")],
    );
}

/// vllm-project/vllm#33965, areal-project/AReaL#1458: a value quotes the format itself.
#[test]
fn native_closers_in_values_are_data() {
    for value in [
        "Write <parameter=x> … </parameter>, then </function>; </tool_call> is last.\n\
         <parameter=unknown>\n</function> no",
        "a</parameter>\n</div> b</function> </b> <parameter=path> c </parameter>\n<",
        "</parameter> </parameter></parameter></b> </function </parameter",
        "\n<parameter=path\n<parameter=question>\n</question></tool_call>.",
    ] {
        rewritten(
            &format!(
                "<tool_call>\n<function=ask_followup_question>\n<parameter=question>\n{value}\n\
                 </parameter>\n</function>\n</tool_call>"
            ),
            "ask_followup_question",
            &[("question", value.trim().replace("</question>", "&lt;/question>").as_str())],
        );
    }
}

/// ollama/ollama#12357, lightseekorg/smg#1888: values are literal; only what would end the
/// parameter at the client is escaped.
#[test]
fn rewritten_values_are_literal_but_for_their_own_closer() {
    let source = "#include <functional> // a && b &amp; </div> </path>\n\treturn x<y>(0);\n\n";
    let text = rewritten(
        &format!(
            "<function=apply_diff>\n<parameter=diff>\n{source}</diff>?\n</parameter>\n</function>"
        ),
        "apply_diff",
        &[("diff", &format!("{source}&lt;/diff>?"))],
    );
    assert!(text.contains(source));
}

/// vllm-project/vllm#48753: the indentation of the first line and the last newline are lost.
#[test]
fn a_rewritten_file_keeps_its_blanks() {
    let content = "    indented\nlast\n";
    for reply in [
        format!(
            "<function=write_to_file>\n<parameter=path>\na\n</parameter>\n<parameter=content>\n\
             {content}\n</parameter>\n</function>"
        ),
        "<tool_call>{\"name\":\"write_to_file\",\"arguments\":{\"path\":\"a\",\"content\":\
         \"    indented\\nlast\\n\"}}</tool_call>"
            .to_owned(),
    ] {
        let (text, _) = wrap(&reply, End::Complete);
        assert_eq!(roo().roo_streaming(&text).calls[0].parameters["content"], content);
    }
}

/// QwenLM/Qwen3-Coder#457: no peer repairs it; the call stays one call.
#[test]
fn a_broken_parameter_is_left_out() {
    rewritten(
        "<tool_call>\n<function=execute_command>\n<parameter=command=ls</parameter>\n\
         <parameter=cwd>\n/x\n</parameter>\n</function>\n</tool_call>",
        "execute_command",
        &[("cwd", "/x")],
    );
}

/// A parameter that the client does not know is dropped by it, but not the tags in its text.
#[test]
fn unknown_parameters_of_native_calls_are_left_out() {
    rewritten(
        "<function=read_file>\n<parameter=why>\n</read_file><path>b</path>\n</parameter>\n\
         <parameter=path>\na\n</parameter>\n</function>",
        "read_file",
        &[("path", "a")],
    );
    rewritten(
        "<tool_call>{\"name\":\"read_file\",\"arguments\":{\"why\":\"<path>b</path>\",\"path\":\"a\"}}",
        "read_file",
        &[("path", "a")],
    );
}

/// blazux/qwen3.8-Flash-DGX#29: any `<function=` is taken for a call; noonghunna/club-3090#72,
/// vllm-project/vllm#56658: `<tool_call>` in prose silences the rest.
#[test]
fn native_markup_in_prose_is_text() {
    for text in [
        "The <tool_call> tag and <function=NAME> are Qwen's.",
        "Write <function=read_file> and so on.",
        "<tool_call> then text",
        "<tool_call>\n{\"name\": \"no_such_tool\", \"arguments\": {}}\n</tool_call>",
        "<tool_call>\n{\"name\": 1}",
        "<tool_call>{not json}",
        "<tool_call>\n<function=no_such_tool>\n<parameter=path>\na\n</parameter>\n</function>",
        "<function=read_file>",
        "<tool_call>",
        "</tool_call> </function> <parameter=path>",
    ] {
        becomes(text, &completed(text, text), Outcome::Completed);
    }
}

/// vllm-project/vllm#57541, gptme/gptme#1472: a fenced example of the format is executed.
#[test]
fn native_forms_in_fences_and_behind_backticks_are_text() {
    let call = "<tool_call>\n<function=read_file>\n<parameter=path>\na\n</parameter>\n</function>";
    for text in [
        format!("Like this:\n```xml\n{call}\n```"),
        format!("~~~~\n~~~\n{call}\n~~~~"),
        format!("x\n   ````\n```\n{call}"),
        format!("`{call}`"),
        format!("`{}`", call.replace('\n', "")),
        "`<tool_call>{\"name\": \"read_file\"}`".to_owned(),
        "`<function=read_file><parameter=path>`".to_owned(),
    ] {
        becomes(&text, &completed(&text, &text), Outcome::Completed);
    }
    rewritten(&format!("```\nx\n```  \n{call}"), "read_file", &[("path", "a")]);
    rewritten(&format!("x\n    ```\n{call}"), "read_file", &[("path", "a")]);
}

/// A line that begins with three backticks and has more of them later is no fence, as in
/// CommonMark: what follows it is not quoted.
#[test]
fn inline_code_of_three_backticks_is_no_fence() {
    let call = "<tool_call>\n<function=read_file>\n<parameter=path>\na\n</parameter>\n</function>";
    for lead in ["```cargo test``` fails\n", "```` ```cargo test``` fails ````\n", "~~ no ~~\n"] {
        let text = rewritten(&format!("{lead}{call}"), "read_file", &[("path", "a")]);
        assert!(text.starts_with(&format!("{lead}<read_file>")), "{text}");
    }
    for lead in ["~~~ a`b`\n", "```\n```cargo test```\n"] {
        let text = format!("{lead}{call}");
        becomes(&text, &completed(&text, &text), Outcome::Completed);
    }
}

/// A call in JSON whose name never comes is text again, and what is in it is read as such.
#[test]
fn a_json_call_that_fails_is_read_as_text() {
    becomes(
        "<tool_call>{\"x\": \"<read_file>\n<path>a</path>\n</read_file>",
        "<tool_call>{\"x\": \"<read_file>\n<path>a</path>\n</read_file>",
        Outcome::Call,
    );
    let long = format!("<tool_call>{{\"x\": \"{}\" <read_file> no", "é ".repeat(40_000));
    let (text, outcome) = wrap_by(1000, &long, End::Complete);
    assert_eq!(outcome, Outcome::Completed);
    assert!(text.starts_with(&long.replace("<read_file>", "&lt;read_file>")));
}

/// A native call that the token limit cut is not closed.
#[test]
fn a_native_call_that_was_cut_stays_cut() {
    let (text, _) = wrap("<function=read_file>\n<parameter=path>\nsrc/a", End::Cut);
    assert_eq!(text, "<read_file>\n<path>\nsrc/a");
    let (text, _) =
        wrap("<tool_call>{\"name\":\"read_file\",\"arguments\":{\"path\":\"src/a", End::Cut);
    assert_eq!(text, "<read_file>\n<path>src/a");
    let (text, _) = wrap("<function=read_file>\n<parameter=path>\na\n</parameter>", End::Cut);
    assert_eq!(text, "<read_file>\n<path>\na\n</path>\n");
}

// ---- the vocabulary ----

const ROO_PROMPT: &str = "You are Roo, an engineer.\n\n====\n\nTOOL USE\n\n# Tools\n\n## read_file\n\
    Description: Reads.\n\nParameters:\n- args: Contains one or more files:\n  - inner: \
    (required) Not a parameter\n\nUsage:\n<read_file>\n<args>\n  <file>\n    <path>x</path>\n  \
    </file>\n</args>\n</read_file>\n\n## my_tool\nDescription: Special.\nUsage:\n<my_tool>\n\
    <my_key>v</my_key>\n</my_tool>\n\n## Notes\nNo tool: <b>x</b>\n\n# Guidelines\n- rule: none\n";

#[test]
fn names_come_from_the_prompt_and_from_the_client_it_shows() {
    let vocabulary = Vocabulary::from_prompt(ROO_PROMPT);
    for name in ["read_file", "my_tool", "apply_diff", "attempt_completion"] {
        assert!(vocabulary.has_tool(name), "{name}");
    }
    for name in ["Notes", "replace_in_file"] {
        assert!(!vocabulary.has_tool(name), "{name}");
    }
    for name in ["args", "my_key", "path", "result"] {
        assert!(vocabulary.has_parameter(name), "{name}");
    }
    for name in ["inner", "file", "b", "rule", "absolutePath"] {
        assert!(!vocabulary.has_parameter(name), "{name}");
    }
}

#[test]
fn without_tool_sections_both_clients_names_count() {
    let both = Vocabulary::default();
    assert!(both.has_tool("replace_in_file") && both.has_tool("apply_diff"));
    assert_eq!(Vocabulary::from_prompt("You are a poet."), both);
    let cline = Vocabulary::from_prompt("## replace_in_file\nUsage:\n<replace_in_file>");
    assert_eq!(cline, Vocabulary::cline());
    assert!(cline.has_tool("replace_in_file") && !cline.has_tool("apply_diff"));
}

/// Clients write the prompt; it may not cost more than its size.
#[test]
fn hostile_prompts_take_linear_time() {
    for junk in ["<", "<a>", "<x>", "## x\n<x>\n", "é<", "## x\n"] {
        let prompt = format!("## x\n<x>\n{}", junk.repeat(1_000_000 / junk.len()));
        assert!(Vocabulary::from_prompt(&prompt).has_tool("x"));
    }
}

/// What is linear for the client must be so here: markup that decides nothing.
#[test]
fn hostile_replies_take_linear_time() {
    for junk in [
        "<",
        "<read_file>",
        "<read_file> <pat",
        "<tool_call>",
        "<tool_call>{\"a\":\"",
        "<think>",
        "<function=read_file>",
        "<tool_call> <function=read_file>\n",
        "```\n",
        "</result>",
        " ",
    ] {
        let reply = format!("x{}", junk.repeat(1_000_000 / junk.len()));
        assert_eq!(wrap_by(64, &reply, End::Cut), wrap_by(4096, &reply, End::Cut));
    }
    // What is read again is full of mentions, and came in small pieces.
    let mentions = format!("<tool_call>{{\"a\":\"{}", "<read_file> ".repeat(6_000)).repeat(10);
    assert_eq!(wrap_by(4, &mentions, End::Cut), wrap_by(4096, &mentions, End::Cut));
    for (start, junk) in [
        ("<function=read_file><parameter=path>", "</parameter>\n</x"),
        ("<function=read_file><parameter=path>", "</path>"),
        ("<function=read_file><parameter=path>", "\n<parameter=args"),
        ("<tool_call>{\"name\":\"read_file\",\"arguments\":{\"path\":\"", "\"  <"),
        ("<tool_call>{\"name\":\"read_file\",\"arguments\":{\"path\":\"", "</path>"),
        ("<read_file><path>", "</path><path>"),
        ("<read_file><path>", "</read_file></"),
    ] {
        let reply = format!("{start}{}", junk.repeat(1_000_000 / junk.len()));
        assert_eq!(wrap_by(64, &reply, End::Cut), wrap_by(4096, &reply, End::Cut));
    }
}

// ---- as a service ----

fn text(text: &str) -> Result<ChatEvent, Error> {
    Ok(ChatEvent::Text(text.into()))
}

async fn answer(
    layer: ToolWrapLayer,
    request: ChatRequest,
    events: Vec<Result<ChatEvent, Error>>,
) -> Vec<Result<ChatEvent, Error>> {
    let events = std::sync::Mutex::new(Some(events));
    let inner = service_fn(move |request: Request<ChatRequest>| {
        assert!(request.body().tools.is_empty(), "no native tools are added");
        let events = events.lock().expect("not poisoned").take().expect("one request");
        async { Ok::<_, Error>(Response::new(futures_util::stream::iter(events))) }
    });
    let response = layer.layer(inner).oneshot(Request::new(request)).await.expect("it answers");
    response.into_body().checked().collect().await
}

fn request(prompt: &str) -> ChatRequest {
    let messages = vec![Message::new(Role::System, prompt), Message::new(Role::User, "Go on")];
    ChatRequest::new("qwen3-coder-plus", messages)
}

#[tokio::test]
async fn the_request_decides_about_the_names() {
    let call = "<my_tool>\n<my_key>v</my_key>\n</my_tool>";
    let events = || vec![text(call), Ok(ChatEvent::Finished(FinishReason::Stop))];
    let known = answer(ToolWrapLayer::new(), request(ROO_PROMPT), events()).await;
    let known = Answer::collect(futures_util::stream::iter(known)).await.unwrap();
    assert_eq!(known.text, call);
    // On a later turn the prompt is among what the chat has seen.
    let mut later = request(ROO_PROMPT);
    later.history.mark_seen(1);
    let known = answer(ToolWrapLayer::new(), later, events()).await;
    let known = Answer::collect(futures_util::stream::iter(known)).await.unwrap();
    assert_eq!(known.text, call);
    let unknown = answer(ToolWrapLayer::new(), request("Be brief."), events()).await;
    let unknown = Answer::collect(futures_util::stream::iter(unknown)).await.unwrap();
    assert_eq!(unknown.text, completed(call, call));
    let given = ToolWrapLayer::new().vocabulary(Vocabulary::new(["my_tool"], ["my_key"]));
    let given = answer(given, request("Be brief."), events()).await;
    let given = Answer::collect(futures_util::stream::iter(given)).await.unwrap();
    assert_eq!(given.text, call);
}

#[tokio::test]
async fn other_events_pass_and_the_reason_is_never_tool_calls() {
    let usage = Usage::new(3, 4);
    let events = answer(
        ToolWrapLayer::new(),
        request(""),
        vec![
            Ok(ChatEvent::Reasoning("<read_file><path>x</path>".into())),
            text("Hi"),
            Ok(ChatEvent::Usage(usage)),
            Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
            Ok(ChatEvent::Usage(usage)),
        ],
    )
    .await;
    let events: Vec<ChatEvent> = events.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        events,
        [
            ChatEvent::Reasoning("<read_file><path>x</path>".into()),
            ChatEvent::Text("Hi".into()),
            ChatEvent::Usage(usage),
            ChatEvent::Text(completed("", "Hi").into()),
            ChatEvent::Finished(FinishReason::Stop),
            ChatEvent::Usage(usage),
        ]
    );
}

#[tokio::test]
async fn a_length_stays_a_length() {
    let events = answer(
        ToolWrapLayer::new(),
        request(""),
        vec![text("<read_file>\n<path>a"), Ok(ChatEvent::Finished(FinishReason::Length))],
    )
    .await;
    let answer = Answer::collect(futures_util::stream::iter(events)).await.unwrap();
    assert_eq!(answer.text, "<read_file>\n<path>a");
    assert_eq!(answer.finish_reason, Some(FinishReason::Length));
}

#[tokio::test]
async fn an_error_comes_behind_the_held_text_and_completes_nothing() {
    for (held, out) in [
        ("<read_fi", "<read_fi"),
        ("<read_file>\n", "&lt;read_file>\n"),
        ("<tool_call>{\"na", "<tool_call>{\"na"),
    ] {
        let events = answer(
            ToolWrapLayer::new(),
            request(""),
            vec![
                text("Hello "),
                text(held),
                Err(Error::new(ErrorKind::Truncated, "cut")),
                Ok(ChatEvent::Finished(FinishReason::Stop)),
            ],
        )
        .await;
        let (error, before) = events.split_last().unwrap();
        assert_eq!(error.as_ref().unwrap_err().kind(), ErrorKind::Truncated);
        let before: String = before
            .iter()
            .map(|event| match event {
                Ok(ChatEvent::Text(text)) => text.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(before, format!("Hello {out}"));
    }
}

#[tokio::test]
async fn an_end_without_its_marker_is_an_error() {
    let events = answer(ToolWrapLayer::new(), request(""), vec![text("Hello <rea")]).await;
    assert!(matches!(&events[..], [Ok(_), Ok(_), Err(_)]), "{events:?}");
    let error = Answer::collect(futures_util::stream::iter(events)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated);
}

#[tokio::test]
async fn an_upstreams_own_call_becomes_the_clients() {
    let call = |index, name: &str| {
        Ok(ChatEvent::ToolCall { index, id: format!("call_{index}").into(), name: name.into() })
    };
    let arguments = |index, json: &str| Ok(ChatEvent::ToolArguments { index, json: json.into() });
    let events = answer(
        ToolWrapLayer::new(),
        request(""),
        vec![
            text("Look:"),
            call(0, "no_such_tool"),
            arguments(0, "{}"),
            call(1, "read_file"),
            arguments(1, "{\"path\": \"a"),
            call(2, "read_file"),
            arguments(2, "{\"path\": \"b\"}"),
            arguments(1, ".rs\"}"),
            Ok(ChatEvent::Finished(FinishReason::ToolCalls)),
        ],
    )
    .await;
    let answer = Answer::collect(futures_util::stream::iter(events)).await.unwrap();
    assert_eq!(answer.text, "Look:\n\n<read_file>\n<path>a.rs</path>\n</read_file>");
    assert!(answer.tool_calls.is_empty());
    assert_eq!(answer.finish_reason, Some(FinishReason::Stop));
}

#[tokio::test]
async fn a_lead_window_saves_the_repetition() {
    let layer = ToolWrapLayer::new().lead_window(20);
    for (reply, expected) in [
        ("Four.", completed("", "Four.").trim_start().to_owned()),
        (
            "A longer answer than that.",
            completed("A longer answer than that.", "A longer answer than that."),
        ),
        (
            "Hm. <read_file>\n<path>a</path>\n</read_file>",
            "Hm. <read_file>\n<path>a</path>\n</read_file>".to_owned(),
        ),
    ] {
        let events = vec![text(reply), Ok(ChatEvent::Finished(FinishReason::Stop))];
        let events = answer(layer.clone(), request(""), events).await;
        let answer = Answer::collect(futures_util::stream::iter(events)).await.unwrap();
        assert_eq!(answer.text, expected);
    }
}

/// The only delay is a possible tag: everything else leaves with the event that brings it, as a
/// slice of it.
#[test]
fn prose_leaves_at_once_and_without_a_copy() {
    let (sender, receiver) = futures_channel();
    let automaton = Automaton::new(Arc::new(Vocabulary::roo_code()));
    let mut stream = task::spawn(ToolWrapStream::new(receiver, automaton).checked());
    let mut next = |input: &Text, output: &[&str]| {
        sender.send(Ok(ChatEvent::Text(input.clone())));
        for expected in output {
            let event = assert_ready!(stream.poll_next()).unwrap().unwrap();
            let ChatEvent::Text(text) = event else { panic!("{event:?}") };
            assert_eq!(text, *expected);
            if let Some(at) = input.find(*expected) {
                assert_eq!(text.as_ptr(), input[at..].as_ptr(), "a slice");
            }
        }
        assert_pending!(stream.poll_next());
    };
    let piece = |text: &str| Text::from(text.to_owned());
    next(&piece("if a < b && b > c, <b>then</b> "), &["if a < b && b > c, <b>then</b> "]);
    next(&piece("see <rea"), &["see "]);
    next(&piece("ding> and "), &["<reading> and "]);
    next(&piece("<read_file>"), &[]);
    next(&piece("\n"), &[]);
    next(&piece("<"), &[]);
    next(&piece("path"), &[]);
    next(&piece(">src/"), &["<read_file>\n<path>src/"]);
    for part in ["a", "<", "/", "path>", "\n", "</read_f", "ile"] {
        next(&piece(part), &[part]);
    }
    next(&piece("> done"), &[">"]);
    next(&piece("and more"), &[]);
}

/// A stream that is fed by hand.
fn futures_channel() -> (Feed, impl tower_qwen::chat::ChatStream + Unpin) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|event| (event, receiver))
    });
    (Feed(sender), Box::pin(stream))
}

struct Feed(tokio::sync::mpsc::UnboundedSender<Result<ChatEvent, Error>>);

impl Feed {
    fn send(&self, event: Result<ChatEvent, Error>) {
        self.0.send(event).expect("the stream is there");
    }
}

/// Native tools are for other clients; what a request brings of them is passed on.
#[tokio::test]
async fn a_request_passes_unchanged() {
    let mut sent = request(ROO_PROMPT);
    sent.tools = Arc::new(vec![Tool::Other(serde_json::json!({"type": "web_search"}).into())]);
    let history = sent.history.clone();
    let inner = service_fn(move |request: Request<ChatRequest>| {
        assert!(request.body().history.fresh.is_shared_with(&history.fresh));
        assert_eq!(request.body().tools.len(), 1);
        async { Ok::<_, Error>(Response::new(futures_util::stream::iter([text("x")]))) }
    });
    let response = ToolWrapLayer::new().layer(inner).oneshot(Request::new(sent)).await.unwrap();
    let items: Vec<_> = response.into_body().checked().collect().await;
    assert!(matches!(&items[..], [Ok(_), Err(_)]), "{items:?}");
}

#[tokio::test]
async fn an_error_before_the_reply_passes() {
    let inner = service_fn(|_: Request<ChatRequest>| async {
        Err::<Response<futures_util::stream::Empty<Result<ChatEvent, Error>>>, _>(Error::new(
            ErrorKind::Quota,
            "used up",
        ))
    });
    let result = ToolWrapLayer::new().layer(inner).oneshot(Request::new(request(""))).await;
    assert!(result.map(|_| ()).unwrap_err().is_quota());
}

#[test]
fn outcomes_are_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let call = "<read_file>\n<path>a</path>\n</read_file>";
    let native = "<function=read_file>\n</function>";
    for reply in ["Hi", "Hi again", " ", call, native] {
        let events = vec![text(reply), Ok(ChatEvent::Finished(FinishReason::Stop))];
        let reply = answer(ToolWrapLayer::new(), request(""), events);
        metrics::with_local_recorder(&recorder, || tokio_test::block_on(reply));
    }
    let failed = answer(
        ToolWrapLayer::new(),
        request(""),
        vec![text("Hi"), Err(Error::new(ErrorKind::Truncated, "cut"))],
    );
    metrics::with_local_recorder(&recorder, || tokio_test::block_on(failed));
    let rendered = recorder.handle().render();
    for (outcome, count) in [("completed", 2), ("empty", 1), ("call", 1), ("rewritten", 1)] {
        let line = format!("tower_qwen_tool_wrap_total{{outcome=\"{outcome}\"}} {count}");
        assert!(rendered.contains(&line), "{line} is not in {rendered}");
    }
}
