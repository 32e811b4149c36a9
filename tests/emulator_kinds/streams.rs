//! What a stream says and how it ends.

use super::*;

#[tokio::test]
async fn paths_may_have_the_prefixes_of_their_servers() {
    for kind in kinds() {
        let emulator = builder(kind).build();
        let body = chat(kind, "emulate:say=Hi");
        for prefix in ["", "/v1", "/compatible-mode/v1"] {
            let answer = post(&emulator, &format!("{prefix}/chat/completions"), &body).await;
            assert_eq!(answer.joined("content"), "Hi", "{kind} {prefix}");
            assert_eq!(get(&emulator, &format!("{prefix}/models")).await.status, StatusCode::OK);
        }
        assert_eq!(get(&emulator, "/v1/nothing").await.status, StatusCode::NOT_FOUND);
        let wrong = get(&emulator, "/v1/chat/completions").await.status;
        let none = matches!(kind, Kind::Ollama | Kind::LlamaCpp);
        let expected = if none { StatusCode::NOT_FOUND } else { StatusCode::METHOD_NOT_ALLOWED };
        assert_eq!(wrong, expected, "{kind}");
        // The web API is another server.
        assert_eq!(get(&emulator, "/api/v2/chats/").await.status, StatusCode::NOT_FOUND);
    }
}

/// DashScope: the name that comes back.
#[tokio::test]
async fn the_model_is_echoed_by_another_name() {
    for kind in kinds() {
        let answer = ask(kind, Style::default(), &chat(kind, "Hello")).await;
        let same = answer.chunks()[0]["model"] == coder(kind);
        assert_eq!(same, !matches!(kind, Kind::DashScope | Kind::Portal), "{kind}");
    }
}

/// Who thinks unasked, and how it is turned off.
#[tokio::test]
async fn thinking_is_turned_off() {
    for kind in kinds().filter(|kind| *kind != Kind::Portal) {
        let off = match kind {
            Kind::Ollama => json!({"reasoning_effort": "none"}),
            Kind::DashScope => json!({"enable_thinking": false}),
            _ => json!({"chat_template_kwargs": {"enable_thinking": false}}),
        };
        let body = with(chat(kind, "Hello"), json!({"model": hybrid(kind)}));
        for style in [Style::Autumn2025, Style::Autumn2026] {
            let usual = ask(kind, style, &body).await;
            let thought = usual.joined("reasoning") + &usual.joined("reasoning_content");
            assert!(thought.starts_with("The user"), "{kind}");
            let named = !usual.joined("reasoning").is_empty();
            let expected =
                kind == Kind::Ollama || (kind == Kind::Vllm && style == Style::Autumn2026);
            assert_eq!(named, expected, "the field of {kind}");
            let quiet = ask(kind, style, &with(body.clone(), off.clone())).await;
            assert_eq!(quiet.joined("reasoning") + &quiet.joined("reasoning_content"), "");
            let coder = ask(kind, style, &chat(kind, "Hello")).await;
            assert_eq!(coder.joined("reasoning") + &coder.joined("reasoning_content"), "");
        }
    }
}

/// Where thinking can stand.
#[tokio::test]
async fn thinking_in_the_content() {
    let thought = "The user wrote something. I will say what it was.";
    for kind in kinds() {
        for (place, content) in [
            ("tags", format!("<think>\n{thought}\n</think>\n\nHi")),
            ("opened", format!("{thought}\n</think>\n\nHi")),
            ("both", "Hi".to_owned()),
        ] {
            let text = format!("emulate:think emulate:reasoning={place} emulate:say=Hi");
            let answer = ask(kind, Style::Autumn2026, &chat(kind, &text)).await;
            assert_eq!(answer.joined("content"), content, "{kind} {place}");
            let both = if place == "both" { thought } else { "" };
            assert_eq!(answer.joined("reasoning"), both);
            assert_eq!(answer.joined("reasoning_content"), both);
        }
    }
    let old = ask(Kind::Portal, Style::Autumn2025, &chat(Kind::Portal, "emulate:think")).await;
    assert!(old.joined("content").starts_with("<think>\nThe user"), "of the portal by itself");
    let cut = old.chunks().iter().all(|chunk| !chunk.to_string().contains("<think>"));
    assert!(cut, "its tags are cut");
}

/// The portal: cumulative deltas.
#[tokio::test]
async fn cumulative_deltas() {
    for kind in kinds() {
        let body = chat(kind, "emulate:cumulative emulate:say=one two three");
        let chunks = ask(kind, Style::default(), &body).await.chunks();
        let texts = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str());
        let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
        assert_eq!(texts, ["one", "one two", "one two three"], "{kind}");
    }
}

/// Self-hosted servers: when a stream says what it cost.
#[tokio::test]
async fn where_usage_stands() {
    for kind in kinds() {
        for (style, year) in STYLES {
            let usages = async |options: Value| -> Vec<bool> {
                let fields = json!({"stream_options": options});
                let body = with(chat(kind, "emulate:say=one two"), fields);
                let chunks = ask(kind, style, &body).await.chunks();
                chunks.iter().map(|chunk| chunk["usage"].is_object()).collect()
            };
            let asked = usages(json!({"include_usage": true})).await;
            assert_eq!(asked.iter().filter(|usage| **usage).count(), 1, "{kind} {year}");
            assert_eq!(asked.last(), Some(&true));
            let always = kind == Kind::LlamaCpp && year == "2025";
            for silent in [json!(null), json!({"include_usage": false})] {
                let any = usages(silent).await.contains(&true);
                assert_eq!(any, always, "{kind} {year}");
            }
            let implied = usages(json!({})).await.contains(&true);
            assert_eq!(implied, always || (kind == Kind::Vllm && year == "2025"), "{kind} {year}");
            let all = json!({"include_usage": true, "continuous_usage_stats": true});
            let all = usages(all).await.iter().all(|usage| *usage);
            let continuous = kind == Kind::Vllm || (kind == Kind::SgLang && year == "2026");
            assert_eq!(all, continuous, "{kind} {year}");
        }
    }
}

/// What ends an answer, and what may be missing.
#[tokio::test]
async fn how_streams_end() {
    for kind in kinds() {
        let ends = async |text: &str, fields: Value| {
            let answer = ask(kind, Style::Autumn2026, &with(chat(kind, text), fields)).await;
            let chunks = answer.chunks();
            let reasons = chunks.iter().map(|chunk| chunk["choices"][0]["finish_reason"].clone());
            let reasons: Vec<Value> = reasons.filter(|reason| !reason.is_null()).collect();
            (reasons, answer.text().ends_with("data: [DONE]\n\n"), answer.joined("content"))
        };
        let none = || json!({});
        let said = "emulate:say=one two three";
        let one = |word: &str| vec![json!(word)];
        assert_eq!(ends(said, none()).await, (one("stop"), true, "one two three".into()), "{kind}");
        let cut = ends(said, json!({"max_tokens": 2})).await;
        assert_eq!(cut, (one("length"), true, "one two".into()), "{kind}");
        let stopped = ends(said, json!({"stop": ["three", "two"]})).await;
        assert_eq!(stopped, (one("stop"), true, "one ".into()), "{kind}");
        let text = format!("emulate:no_finish emulate:no_done {said}");
        assert_eq!(ends(&text, none()).await, (vec![], false, "one two three".into()), "{kind}");
        let text = format!("emulate:finish=content_filter {said}");
        assert_eq!(ends(&text, none()).await.0, one("content_filter"), "{kind}");
        let text = format!("emulate:cut=2 {said}");
        assert_eq!(ends(&text, none()).await, (vec![], false, "one two".into()), "{kind}");
    }
}

/// Errors in the stream; Ollama's is none, llama.cpp's of 2025 is in no `data` line.
#[tokio::test]
async fn errors_in_the_stream() {
    for kind in kinds() {
        for (style, year) in STYLES {
            let body = chat(kind, "emulate:error_event=1 emulate:say=one two");
            let answer = ask(kind, style, &body).await;
            assert_eq!(answer.status, 200);
            let text = answer.text();
            assert!(text.contains("one") && !text.contains("two"), "{kind}");
            let (data, line) = (text.contains("data: {\"error\":{"), text.contains("\nerror: {"));
            let expected = match (kind, year) {
                (Kind::Ollama, _) => (false, false),
                (Kind::LlamaCpp, "2025") => (false, true),
                _ => (true, false),
            };
            assert_eq!((data, line), expected, "{kind} {year}");
            let done = text.ends_with("data: [DONE]\n\n");
            let marks = matches!(kind, Kind::Vllm | Kind::SgLang)
                || (kind == Kind::LlamaCpp && year == "2025");
            assert_eq!(done, marks, "{kind} {year}");
            if kind == Kind::Ollama {
                let last = answer.chunks().pop().expect("a chunk");
                assert_eq!(last["model"], "", "an empty chunk without a model");
            }
            // Where nothing is streamed the status says it.
            let whole = with(body, json!({"stream": false}));
            assert_eq!(ask(kind, style, &whole).await.status, 500, "{kind}");
        }
    }
    let native = chat(Kind::DashScope, "emulate:rate_event=1 emulate:flat");
    let native = ask(Kind::DashScope, Style::default(), &native).await;
    assert_eq!(native.chunks().pop().expect("one")["code"], "Throttling.RateQuota");
}

/// DashScope: at its limit of time a whole answer is what there is, without a reason; elsewhere it
/// breaks.
#[tokio::test]
async fn a_whole_answer_that_is_cut() {
    for kind in kinds() {
        let body = chat(kind, "emulate:cut=1 emulate:say=one two three");
        let body = with(body, json!({"stream": false}));
        let answer = ask(kind, Style::default(), &body).await;
        assert_eq!(answer.status, 200);
        if kind == Kind::DashScope {
            let choice = answer.json()["choices"][0].clone();
            assert_eq!(choice["message"]["content"], "one");
            assert_eq!(choice["finish_reason"], Value::Null);
        } else {
            assert!(serde_json::from_str::<Value>(answer.text()).is_err(), "{kind}");
        }
        let body = chat(kind, "emulate:reset=1 emulate:say=one two three");
        for stream in [true, false] {
            let body = with(body.clone(), json!({"stream": stream}));
            assert!(ask(kind, Style::default(), &body).await.body.is_err(), "{kind} {stream}");
        }
    }
}

/// The directives of the web API that concern the wire.
#[tokio::test]
async fn directives_of_the_wire() {
    for kind in kinds() {
        let answer = async |text: &str| ask(kind, Style::default(), &chat(kind, text)).await;
        let page = answer("emulate:status=418").await;
        assert_eq!(
            (page.status.as_u16(), &page.headers["content-type"] == "text/html"),
            (418, true)
        );
        let whole = answer("emulate:json emulate:say=Hi").await;
        assert_eq!(whole.json()["choices"][0]["message"]["content"], "Hi", "{kind}");
        let lines = answer("emulate:crlf emulate:say=Hi").await;
        assert!(lines.text().contains("}\r\n\r\ndata: "), "{kind}");
        assert_eq!(
            answer("emulate:tokens=50").await.chunks().len() - 50,
            answer("emulate:tokens=1").await.chunks().len() - 1
        );
        let comment = answer("emulate:keep_alive").await.text().contains("\n\n:\n\n");
        assert_eq!(comment, kind == Kind::LlamaCpp, "a bare comment");
        let roleless =
            answer("emulate:no_role emulate:say=Hi").await.text().contains("\"role\":\"");
        assert_eq!(roleless, kind == Kind::Ollama);
        let path = answer("emulate:path").await.joined("content");
        assert_eq!(path, "1. emulate:path\n", "system texts are not on it");
        let emulator = builder(kind).build();
        let body = chat(kind, "emulate:internal emulate:times=1 emulate:say=Hi");
        let path = "/v1/chat/completions";
        assert_eq!(post(&emulator, path, &body).await.status, 500, "{kind}");
        assert_eq!(post(&emulator, path, &body).await.status, 200, "{kind}");
        let counters = emulator.counters();
        assert_eq!((counters.completions, counters.refusals, counters.abandoned), (1, 1, 0));
    }
}

#[tokio::test]
async fn pieces_of_any_size_are_the_same_bytes() {
    for kind in kinds() {
        let body = chat(kind, "emulate:unicode");
        let whole = post(&builder(kind).build(), "/chat/completions", &body).await;
        for size in [1, 7, 4_096] {
            let emulator = builder(kind).piece_size(size).build();
            let cut = post(&emulator, "/chat/completions", &body).await;
            assert_eq!(timeless(cut.text()), timeless(whole.text()), "{kind} {size}");
        }
    }
}

#[tokio::test]
async fn a_recording_is_replayed() {
    let recording =
        "data: {\"choices\":[{\"delta\":{\"content\":\"recorded\"}}]}\n\ndata: [DONE]\n\n";
    for kind in kinds() {
        let emulator = builder(kind).replay(recording).expect("a recording").build();
        let answer = post(&emulator, "/v1/chat/completions", &chat(kind, "Hello")).await;
        assert_eq!(answer.text(), recording, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_take_their_time() {
    for kind in kinds() {
        let emulator = builder(kind).pace(Duration::from_millis(10)).build();
        let start = Instant::now();
        post(&emulator, "/v1/chat/completions", &chat(kind, "emulate:tokens=20")).await;
        assert_eq!(start.elapsed(), Duration::from_millis(200), "{kind}");
        let start = Instant::now();
        let body = chat(kind, "emulate:wait=300 emulate:slow=50 emulate:tokens=3");
        post(&emulator, "/v1/chat/completions", &body).await;
        assert_eq!(start.elapsed(), Duration::from_millis(450), "{kind}");
        for directive in ["stall=1", "hold_open"] {
            let body = chat(kind, &format!("emulate:{directive} emulate:say=one two"));
            let never = post(&emulator, "/v1/chat/completions", &body);
            assert!(timeout(Duration::from_secs(60), never).await.is_err(), "{kind} {directive}");
        }
        assert_eq!(emulator.counters().abandoned, 1, "the held one had said everything");
    }
}

/// Behind a socket it is the same service.
#[tokio::test]
async fn a_server_behind_a_socket() {
    for kind in kinds() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(builder(kind).build().serve(listener));
        let body = chat(kind, "emulate:say=Hi").to_string();
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        socket.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{kind}");
        assert!(answer.contains("\"content\":\"Hi\"") && answer.contains("data: [DONE]"), "{kind}");
        server.abort();
    }
}

fn any_text() -> impl Strategy<Value = String> {
    let words = [
        "emulate:think",
        "emulate:reasoning=tags",
        "emulate:reasoning=opened",
        "emulate:unicode",
        "emulate:path",
        "emulate:say=a b <tool_call> c",
        "emulate:say=<tool_call>\n{}",
        "get_time",
        "get_date {\"a\": [1, {}]}",
        "emulate:unparsed",
        "emulate:unparsed=tags",
        "千问 🌍",
        "emulate:lead=So:",
        "emulate:tokens=7",
        "emulate:style=2025",
        "emulate:style=2026",
        "emulate:finish=stop",
        "emulate:crlf",
        "emulate:broken_call",
        "emulate:cumulative",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..5)
        .prop_map(|words| words.join("\n"))
}

proptest! {
    /// A stream and a whole answer to the same request say the same, and nothing panics.
    #[test]
    fn a_stream_says_what_a_whole_answer_says(
        text in any_text(),
        at in 0..Kind::ALL.len() - 1,
        limit in prop::option::of(0..9_u64),
        offers: bool,
    ) {
        let kind = kinds().nth(at).expect("a kind");
        let mut body = with(chat(kind, &text), json!({"max_tokens": limit}));
        if offers {
            body["tools"] = tools();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (streamed, whole) = runtime.block_on(async {
            let streamed = ask(kind, Style::default(), &body).await;
            let body = with(body, json!({"stream": false}));
            (streamed, ask(kind, Style::default(), &body).await)
        });
        if !whole.status.is_success() {
            // Only llama.cpp's parser fails an answer.
            prop_assert!(streamed.text().contains("Failed to parse input"), "{}", whole.text());
            return Ok(());
        }
        prop_assert_eq!(streamed.status, whole.status);
        let message = whole.json()["choices"][0]["message"].clone();
        if !text.contains("cumulative") {
            let said = message["content"].as_str().unwrap_or_default();
            prop_assert_eq!(streamed.joined("content"), said);
        }
        let calls = message["tool_calls"].as_array().map_or(0, Vec::len);
        let streamed_calls = streamed.chunks().iter().filter_map(|chunk| {
            chunk["choices"][0]["delta"]["tool_calls"][0]["index"].as_u64()
        }).max().map_or(0, |last| last + 1);
        prop_assert_eq!(streamed_calls, calls as u64);
    }
}
