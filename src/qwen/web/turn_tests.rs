use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    chat::Usage,
    qwen::answer::{Pieces, Repairs, ThinkSplitter},
};

fn turn() -> Turn {
    Turn::new(Conversation::new("c-1"), Call::Turn { continued: false })
}

fn new_answer(pieces: fn() -> Pieces) -> Answer {
    Answer::new(pieces, ThinkSplitter::off(), Repairs::new("tests"))
}

fn push(turn: &mut Turn, data: &str, answer: &mut Answer) -> Result<(), Error> {
    turn.event(None, data.into(), answer)
}

/// Pushes the events one by one until one fails.
fn run_as(
    turn: &mut Turn,
    pieces: fn() -> Pieces,
    events: &[&str],
) -> (Vec<ChatEvent>, Option<Error>) {
    let mut answer = new_answer(pieces);
    let mut error = events.iter().find_map(|data| push(turn, data, &mut answer).err());
    if error.is_none() && turn.is_done() {
        error = turn.end(&mut answer).err();
    }
    (std::iter::from_fn(|| answer.pop()).collect(), error)
}

fn run(turn: &mut Turn, events: &[&str]) -> (Vec<ChatEvent>, Option<Error>) {
    run_as(turn, Pieces::incremental, events)
}

fn good(events: &[&str]) -> Vec<ChatEvent> {
    let (out, error) = run(&mut turn(), events);
    assert!(error.is_none(), "{error:?}");
    out
}

fn text(text: &str) -> ChatEvent {
    ChatEvent::Text(text.into())
}

fn thought(text: &str) -> ChatEvent {
    ChatEvent::Reasoning(text.into())
}

fn started() -> ChatEvent {
    ChatEvent::Started(Conversation::new("c-1").with_parent("r-1").into())
}

const CREATED: &str =
    r#"{"response.created":{"chat_id": "c-1", "parent_id": "u-1", "response_id":"r-1"}} "#;
const FINISHED: &str = r#"{"choices": [{"delta": {"content": "", "role": "assistant", "status": "finished", "phase": "answer"}}]}"#;

fn delta(delta: serde_json::Value) -> String {
    json!({"choices": [{"delta": delta}], "response_id": "r-1"}).to_string()
}

fn answer(content: &str) -> String {
    delta(json!({"role": "assistant", "content": content, "phase": "answer", "status": "typing"}))
}

#[test]
fn a_plain_answer_of_2025() {
    let usage = |n: u32| {
        format!(
            r#""usage": {{"input_tokens": 12, "output_tokens": {n}, "characters": 0, "total_tokens": {}, "input_tokens_details": {{"text_tokens": 12}}, "output_tokens_details": {{"text_tokens": {n}}}, "cached_tokens": 0}}"#,
            12 + n
        )
    };
    let typing = |content: &str, n| {
        format!(
            r#"{{"choices": [{{"delta": {{"role": "assistant", "content": "{content}", "phase": "answer", "status": "typing"}}}}], {}}}"#,
            usage(n)
        )
    };
    let mut counts = Usage::new(12, 2);
    counts.cached_tokens = Some(0);
    assert_eq!(
        good(&[CREATED, &typing("Hel", 1), &typing("lo", 2), &typing("", 2), FINISHED]),
        [
            started(),
            text("Hel"),
            text("lo"),
            ChatEvent::Usage(counts),
            ChatEvent::Finished(FinishReason::Stop)
        ]
    );
}

#[test]
fn thinking_search_and_keep_alive_of_2026() {
    let mut counts = Usage::new(2400, 60);
    counts.reasoning_tokens = Some(54);
    let mut found = Citation::new("https://example.org/a");
    found.title = Some("A".into());
    found.snippet = Some("s".into());
    assert_eq!(
        good(&[
            r#"{"response.created":{"chat_id":"c-1","parent_id":"u-1","response_id":"r-1","response_index":"0"}}"#,
            r#"{"choices":[{"delta":{"role":"assistant","content":"","phase":"thinking_summary","status":"typing","extra":{"summary_title":{"content":["Plan"]},"summary_thought":{"content":["First look."]}}}}],"response_id":"r-1","response_index":0}"#,
            r#"{"choices":[{"delta":{"role":"assistant","content":"","phase":"thinking_summary","status":"typing","extra":{"summary_title":{"content":["Plan","Check"]},"summary_thought":{"content":["First look.","Second look."]}}}}],"response_id":"r-1"}"#,
            r#"{"choices":[{"delta":{"role":"assistant","content":"","phase":"thinking_summary","status":"finished"}}],"response_id":"r-1"}"#,
            r#"{"choices":[{"delta":{"role":"assistant","content":"","phase":"web_search","status":"typing","function_call":{"name":"web_search","arguments":"{\"queries\": [\"x\"]}"},"function_id":"call_demo1","extra":{"display_position":"answer"}}}],"response_id":"r-1"}"#,
            r#"{"response.info":{"action":"keep_alive","chat_id":"c-1","response_id":"r-1","timestamp":1790000010}}"#,
            r#"{"choices":[{"delta":{"role":"function","name":"web_search","content":"","phase":"web_search","status":"finished","function_id":"call_demo1","extra":{"web_search_info":[{"url":"https://example.org/a","title":"A","snippet":"s","hostname":"example.org","hostlogo":"","date":""}]}}}],"response_id":"r-1"}"#,
            r#"{"choices":[{"delta":{"role":"assistant","content":"Answer [[1]]","phase":"answer","status":"typing"}}],"response_id":"r-1","usage":{"input_tokens":2400,"output_tokens":60,"characters":0,"total_tokens":2460,"output_tokens_details":{"text_tokens":6,"reasoning_tokens":54}},"timestamp":1790000012}"#,
            r#"{"choices":[{"delta":{"content":"","role":"assistant","status":"finished","phase":"answer"}}],"response_id":"r-1"}"#,
        ]),
        [
            started(),
            thought("Plan\nFirst look."),
            thought("\n\nCheck\nSecond look."),
            ChatEvent::Citation(found.into()),
            text("Answer [[1]]"),
            ChatEvent::Usage(counts),
            ChatEvent::Finished(FinishReason::Stop)
        ]
    );
}

#[test]
fn a_failure_after_the_stream_opened() {
    let mut turn = turn();
    let (out, error) = run(
        &mut turn,
        &[
            CREATED,
            r#"{"error":{"code":"invalid_input","details":"The input or attachment is not valid."},"response_id":"r-1","response_index":0}"#,
        ],
    );
    assert_eq!(out, [started()]);
    let error = error.expect("failed");
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(turn.is_over);
}

#[test]
fn errors_have_many_shapes() {
    for (event, kind) in [
        (r#"{"error":"Internal error!"}"#, ErrorKind::Upstream),
        (r#"{"error":{"code":"data_inspection_failed"}}"#, ErrorKind::ContentFilter),
        (r#"{"error":true}"#, ErrorKind::Upstream),
        (
            r#"{"success":false,"request_id":"x","data":{"code":"RateLimited","num":3}}"#,
            ErrorKind::Quota,
        ),
        (r#"{"success":false,"code":"Unauthorized","details":"x"}"#, ErrorKind::Auth),
        (r#"{"code":"quota_limit","detail":"high demand"}"#, ErrorKind::Overloaded),
        (r#"{"code":"Forbidden","details":"x"}"#, ErrorKind::Permission),
        (
            r#"{"ret":["FAIL_SYS_USER_VALIDATE","RGV587_ERROR::SM"],"data":{}}"#,
            ErrorKind::Challenge,
        ),
        (
            r#"{"choices":[{"delta":{"content":"Internal error!","status":"error"}}]}"#,
            ErrorKind::Upstream,
        ),
    ] {
        let (out, error) = run(&mut turn(), &[event]);
        assert_eq!(out, []);
        assert_eq!(error.map(|error| error.kind()), Some(kind), "{event}");
    }
}

#[test]
fn what_is_not_readable_ends_the_turn() {
    for event in ["nonsense", "{}x", "{\"a\":}", "[1}"] {
        let mut turn = turn();
        let (_, error) = run(&mut turn, &[event]);
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Upstream), "{event}");
        assert!(turn.is_over);
    }
}

#[test]
fn what_says_nothing_is_passed_over() {
    for event in [
        "",
        " ",
        "[DONE]",
        "null",
        "7",
        "[]",
        "[null,[1]]",
        "\"x\"",
        "{}",
        r#"{"error":null,"success":true,"data":{}}"#,
        r#"{"response.info":{"action":"keep_alive"}}"#,
        r#"{"choices":[]}"#,
        r#"{"choices":null}"#,
        r#"{"choices":[7,8]}"#,
        r#"{"choices":[{"delta":null}]}"#,
        r#"{"choices":[{"delta":{"content":null,"phase":"answer"}}]}"#,
        r#"{"choices":[{"delta":{"content":"x","phase":"code_interpreter"}}]}"#,
        r#"{"choices":[{"delta":{"phase":"think","status":"finished"}}]}"#,
        r#"{"choices":[{"delta":{"phase":"image_gen_tool","status":"finished","extra":null}}]}"#,
        r#"{"choices":[{"delta":{"phase":"web_search","extra":{"web_search_info":"x"}}}]}"#,
        r#"{"choices":[{"delta":{"phase":"web_search","extra":[1]}}]}"#,
        r#"{"choices":[{"delta":{"phase":"thinking_summary","extra":{"summary_title":{"content":[{},null]}}}}]}"#,
    ] {
        let mut turn = turn();
        assert_eq!(run(&mut turn, &[event]).0, [], "{event}");
        assert!(!turn.is_over, "{event}");
    }
}

#[test]
fn a_missing_phase_is_the_answer() {
    let typing = r#"{"choices":[{"delta":{"content":"x","status":"typing"}}]}"#;
    let finished = r#"{"choices":[{"delta":{"content":"y","status":"finished"}}]}"#;
    assert_eq!(
        good(&[typing, finished]),
        [text("x"), text("y"), ChatEvent::Finished(FinishReason::Stop)]
    );
}

#[test]
fn repeated_words_stay_in_an_incremental_stream() {
    assert_eq!(
        good(&[&answer("ha"), &answer("ha"), &answer("haha")])[1..],
        [text("ha"), text("ha"), text("haha")]
    );
}

#[test]
fn of_a_cumulative_stream_only_the_new_is_handed_on() {
    let think =
        |content: &str| delta(json!({"content": content, "phase": "think", "status": "typing"}));
    let (out, error) = run_as(
        &mut turn(),
        Pieces::cumulative,
        &[
            &think("Hm"),
            &think("Hm."),
            &answer("ha"),
            &answer("haha"),
            &answer("haha"),
            // An earlier state once more, as after a reconnection.
            &answer("ha"),
            &answer("hahaé"),
            // Changed: what both share is not said again, and characters are not cut.
            &answer("hahaèx"),
            &answer("hahaèxy"),
        ],
    );
    assert!(error.is_none());
    assert_eq!(
        out[1..],
        [thought("Hm"), thought("."), text("ha"), text("ha"), text("é"), text("èx"), text("y"),]
    );
}

#[test]
fn other_generations_on_the_socket_are_dropped() {
    let other = |event: &str| event.replace("r-1", "r-2");
    let events = good(&[
        CREATED,
        &answer("a"),
        &other(CREATED),
        &other(&answer("b")),
        &other(&delta(json!({"status": "finished", "phase": "answer"}))),
        r#"{"error":"x","response_id":"r-2"}"#,
        &answer("c"),
        FINISHED,
    ]);
    assert_eq!(events, [started(), text("a"), text("c"), ChatEvent::Finished(FinishReason::Stop)]);
}

#[test]
fn a_delta_may_name_the_answer_first() {
    assert_eq!(good(&[&answer("a"), CREATED]), [started(), text("a")]);
}

#[test]
fn the_account_of_the_request_stays() {
    let conversation = Conversation::new("c-1").with_account("ann").with_parent("r-0");
    let mut turn = Turn::new(conversation, Call::Turn { continued: true });
    let want = Conversation::new("c-1").with_account("ann").with_parent("r-1");
    assert_eq!(run(&mut turn, &[CREATED]).0, [ChatEvent::Started(want.into())]);
}

#[test]
fn summaries_grow_in_any_order() {
    let summary = |titles: serde_json::Value, thoughts: serde_json::Value| {
        delta(json!({"content": "", "phase": "thinking_summary", "status": "typing", "extra": {
            "summary_title": {"content": titles}, "summary_thought": {"content": thoughts}}}))
    };
    let events = good(&[
        CREATED,
        &summary(json!(["A"]), json!([])),
        &summary(json!(["A"]), json!(["one"])),
        &summary(json!(["A"]), json!(["one two"])),
        &summary(json!(["A", "B"]), json!(["one two"])),
        &summary(json!(["A", "B"]), json!(["one two", "three"])),
        &summary(json!(["A", "B"]), json!(["one two", "three", "four"])),
        &summary(json!(["A", "B"]), json!(["one two", "three", "four"])),
    ]);
    let reasoning: Vec<_> =
        ["A", "\none", " two", "\n\nB", "\nthree", "\n\nfour"].map(thought).into();
    assert_eq!(events[1..], reasoning);
}

#[test]
fn images_are_attached_once() {
    let image =
        |url: &str| ChatEvent::Attachment(Attachment::new(AttachmentKind::Image, url.into()));
    let one = "https://cdn.example/1.png?key=DEMO";
    let events = good(&[
        CREATED,
        &delta(json!({"role": "assistant", "content": one, "phase": "image_gen",
            "extra": {"output_image_hw": [[1024, 1792]]}, "status": "typing"})),
        &delta(json!({"content": "", "status": "typing", "phase": "image_gen_tool", "extra":
            {"image_list": [{"image": one}, {"image": "https://cdn.example/2.png"}, 3]}})),
        &delta(json!({"content": "", "status": "finished", "phase": "image_gen"})),
    ]);
    let want = [
        started(),
        image(one),
        image("https://cdn.example/2.png"),
        ChatEvent::Finished(FinishReason::Stop),
    ];
    assert_eq!(events, want);
}

#[test]
fn odd_counts_do_not_stand_in_the_way() {
    for (usage, want) in [
        (json!({"input_tokens": 1, "output_tokens": 2}), Some((1, 2, 3))),
        (json!({"input_tokens": 1, "output_tokens": 2, "total_tokens": 9}), Some((1, 2, 9))),
        (json!({"input_tokens": "1", "output_tokens": 2.5}), Some((1, 2, 3))),
        (json!({"input_tokens": "one", "output_tokens": [2]}), None),
        (
            json!({"input_tokens": -1, "output_tokens": 2, "output_tokens_details": []}),
            Some((0, 2, 2)),
        ),
        (json!([1, 2, 3]), None),
        (json!(7), None),
    ] {
        let event = json!({"choices": [], "usage": usage}).to_string();
        let counts = good(&[&event, FINISHED]).into_iter().find_map(|event| match event {
            ChatEvent::Usage(usage) => {
                Some((usage.prompt_tokens, usage.completion_tokens, usage.total_tokens))
            }
            _ => None,
        });
        assert_eq!(counts, want, "{usage}");
    }
}

#[test]
fn content_shares_the_buffer_of_the_event() {
    let data = Text::from(answer("hello"));
    let mut answer = new_answer(Pieces::incremental);
    turn().event(None, data.clone(), &mut answer).unwrap();
    assert_eq!(answer.pop(), Some(started()));
    let Some(ChatEvent::Text(text)) = answer.pop() else { panic!("{answer:?}") };
    assert!(data.as_bytes().as_ptr_range().contains(&text.as_ptr()));
}

#[test]
fn a_cut_last_line_is_a_cut_stream() {
    let mut answer = new_answer(Pieces::incremental);
    let mut turn = turn();
    push(&mut turn, r#"{"choices": [{"del"#, &mut answer).expect("more may follow");
    assert_eq!(turn.end(&mut answer).expect_err("cut").kind(), ErrorKind::Truncated);
}

#[test]
fn an_event_may_come_in_several_lines() {
    let lines = ["{", "  \"choices\": [{\"delta\":", "{\"content\": \"x\"}", "}]", "}"];
    assert_eq!(good(&lines), [text("x")]);
    // One that cannot become an object any more, and one that is too long.
    for lines in [&["{", "7"][..], &["{", "}", "}"], &["[", "]"]] {
        let (_, error) = run(&mut turn(), lines);
        assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Upstream), "{lines:?}");
    }
    let long = " ".repeat(EVENT_LEN);
    let (_, error) = run(&mut turn(), &["{", &long, "}"]);
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Upstream));
}

proptest! {
    /// No JSON and no text breaks the machine.
    #[test]
    fn nothing_panics(events in proptest::collection::vec(any_event(), 0..8), incremental: bool) {
        let mut turn = turn();
        let pieces = if incremental { Pieces::incremental } else { Pieces::cumulative };
        let mut answer = new_answer(pieces);
        for event in events {
            let _ = push(&mut turn, &event, &mut answer);
        }
        let _ = turn.end(&mut answer);
    }
}

/// JSON of nearly the right shape, or none.
fn any_event() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<f64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        "answer|think|thinking_summary|web_search|image_gen|finished|error|[^\"]{0,6}"
            .prop_map(|s| json!(s)),
    ];
    let value = leaf.prop_recursive(5, 40, 4, |inner| {
        let key = "choices|delta|content|phase|status|extra|usage|error|code|details|data|success|\
                   ret|response_id|response.created|summary_title|summary_thought|image_list|\
                   web_search_info|url|image|input_tokens|output_tokens_details|x";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::vec((key, inner), 0..5)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    });
    prop_oneof![8 => value.prop_map(|value| value.to_string()), 1 => any::<String>()]
}
