//! Prompts of editors, over every kind of server.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::extract::Request as Asked;
use tower::service_fn;

use super::*;

/// Those that go on writing a prompt.
const KINDS: [Kind; 5] = [Kind::Vllm, Kind::SgLang, Kind::Ollama, Kind::LlamaCpp, Kind::DashScope];

/// A model of `kind` that fills in, and one that only chats.
fn models(kind: Kind) -> (String, String) {
    let models = kind.models();
    if kind == Kind::DashScope {
        return ("qwen-coder-turbo".to_owned(), "qwen3-coder-plus".to_owned());
    }
    let coder = models.iter().find(|model| model.to_ascii_lowercase().contains("coder"));
    let other = models.iter().find(|model| !model.to_ascii_lowercase().contains("coder"));
    (coder.expect("one").clone(), other.expect("one").clone())
}

fn post(path: &str, body: &Value) -> Asked {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(AxumBody::from(body.to_string())).expect("a request")
}

/// The status and the body.
async fn send(app: &App, path: &str, body: &Value) -> (u16, String) {
    let response = app.clone().oneshot(post(path, body)).await.expect("infallible");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(body.into()).expect("UTF-8"))
}

/// What the model said to a prompt, whole or in pieces.
fn said(body: &str) -> String {
    let text = |json: &str| -> String {
        let answer: Value = serde_json::from_str(json).unwrap_or_else(|_| panic!("{body}"));
        let text = answer["choices"][0]["text"].as_str().or(answer["content"].as_str());
        text.unwrap_or_default().to_owned()
    };
    if body.starts_with('{') {
        return text(body);
    }
    let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter(|data| *data != "[DONE]").map(text).collect()
}

const BEFORE: &str = "\tfn add(a: u8) {\n    // emulate:echo \u{1f980}\n    ";
const BEHIND: &str = "\n}\n\n";

fn in_tokens(before: &str, behind: &str) -> String {
    format!("<|fim_prefix|>{before}<|fim_suffix|>{behind}<|fim_middle|>")
}

/// What autocomplete of Zed, Continue and llama.vscode sends, and what the model is to be given.
fn habits(model: &str) -> [(&'static str, &'static str, Value, String); 5] {
    let filled = in_tokens(BEFORE, BEHIND);
    let in_files = format!("<|repo_name|>demo\n<|file_sep|>a.rs\nfn b() {{}}\n{filled}");
    [
        (
            "Zed: the tokens in the prompt",
            "/v1/completions",
            json!({
                "model": model, "prompt": filled, "max_tokens": 64, "temperature": 0.2,
                "stop": ["<|endoftext|>", "<|file_separator|>", "<|fim_pad|>"], "stream": false,
            }),
            filled.clone(),
        ),
        (
            "Continue, its own template: several files, many stops, streamed",
            "/v1/completions",
            json!({
                "model": model, "prompt": in_files, "max_tokens": 256, "temperature": 0.01,
                "stop": ["<|endoftext|>", "<|fim_pad|>", "/src/", "#- coding: utf-8", "```"],
                "stream": true,
            }),
            in_files,
        ),
        (
            "Continue, Copilot's kind: a prompt and a suffix, streamed",
            "/v1/completions",
            json!({
                "model": model, "prompt": BEFORE, "suffix": BEHIND, "max_tokens": 128,
                "stop": ["\n\n\n"], "stream": true,
            }),
            filled.clone(),
        ),
        (
            "the same without /v1",
            "/completions",
            json!({"model": model, "prompt": BEFORE, "suffix": BEHIND, "n": 1}),
            filled.clone(),
        ),
        (
            "llama.vscode",
            "/infill",
            json!({
                "input_prefix": BEFORE.strip_suffix("    ").expect("indented"), "prompt": "    ",
                "input_suffix": BEHIND, "input_extra": [], "n_predict": 128, "top_k": 40,
                "top_p": 0.99, "stream": false, "samplers": ["top_k", "top_p", "infill"],
                "cache_prompt": true, "t_max_prompt_ms": 500, "t_max_predict_ms": 2500,
            }),
            filled,
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn each_habit_reaches_the_model_as_it_was_meant() {
    for kind in KINDS {
        let (model, _) = models(kind);
        for tools in ["openai", "prompt", "xml"] {
            let app = proxy(&["--emulate", kind.as_str(), "--tools", tools]);
            for (habit, path, body, given) in habits(&model) {
                let (status, answer) = send(&app, path, &body).await;
                let case = format!("{kind}, {tools}: {habit}: {answer}");
                if path == "/infill" && kind != Kind::LlamaCpp {
                    assert_eq!(status, 501, "{case}");
                    assert!(answer.contains("infill_not_supported"), "{case}");
                    continue;
                }
                assert_eq!((status, said(&answer)), (200, given), "{case}");
            }
        }
    }
}

/// With `--tools off` the server has the last word, and so it has with `--completions raw`.
#[tokio::test(start_paused = true)]
async fn the_option_decides_what_becomes_of_a_suffix() {
    let with_suffix = |model: &str| json!({"model": model, "prompt": BEFORE, "suffix": BEHIND});
    let filled = in_tokens(BEFORE, BEHIND);
    for (kind, args, coder, other) in [
        (Kind::Vllm, &[][..], Ok(&*filled), Err("`coder`")),
        (Kind::SgLang, &[], Ok(&*filled), Err("`coder`")),
        (Kind::LlamaCpp, &[], Ok(&*filled), Err("`coder`")),
        (Kind::Ollama, &[], Ok(&*filled), Err("does not support insert")),
        (Kind::DashScope, &[], Ok(&*filled), Err("suffix")),
        (Kind::Portal, &[], Err("suffix"), Err("suffix")),
        (Kind::Vllm, &["--completions", "raw"], Err("suffix is not"), Err("suffix is not")),
        (Kind::Vllm, &["--tools", "off"], Err("suffix is not"), Err("suffix is not")),
        (Kind::SgLang, &["--completions", "raw"], Ok(BEFORE), Ok(BEFORE)),
        (Kind::Vllm, &["--completions", "fim"], Ok(&*filled), Ok(&*filled)),
        (Kind::Vllm, &["--tools", "off", "--completions", "fim"], Ok(&*filled), Ok(&*filled)),
        (Kind::Vllm, &["--completions", "chat"], Err("suffix"), Err("suffix")),
    ] {
        let app = proxy(&[&["--emulate", kind.as_str()], args].concat());
        let (of_coder, of_other) = models(kind);
        for (model, told) in [(of_coder, coder), (of_other, other)] {
            let (status, answer) = send(&app, "/v1/completions", &with_suffix(&model)).await;
            let case = format!("{kind}, {args:?}, {model}: {answer}");
            match told {
                Ok(text) => assert_eq!((status, &*said(&answer)), (200, text), "{case}"),
                Err(words) => {
                    assert!(status == 400 && answer.contains(words), "{case}");
                }
            }
        }
    }
}

/// A prompt of one who has no such route is a chat, and so it is where the option says so.
#[tokio::test(start_paused = true)]
async fn only_where_nobody_has_the_route_a_prompt_is_a_chat() {
    for (args, model, is_chat) in [
        (&["--emulate", "web"][..], "qwen3-max", true),
        (&["--emulate", "portal"], "coder-model", true),
        (&["--emulate", "dashscope"], "qwen-plus", true),
        (&["--emulate", "dashscope"], "qwen3-coder-plus", true),
        (&["--emulate", "dashscope"], "qwen-coder-turbo", false),
        (&["--emulate", "vllm"], "Qwen/Qwen3-32B", false),
        (&["--emulate", "vllm", "--completions", "chat"], "Qwen/Qwen3-32B", true),
    ] {
        let body = json!({"model": model, "prompt": "  emulate:say=Hi", "stream": true});
        let (status, answer) = send(&proxy(args), "/v1/completions", &body).await;
        assert_eq!((status, &*said(&answer)), (200, "Hi"), "{args:?}");
        // Tokens are refused in the words of whoever is asked.
        let tokens = json!({"model": model, "prompt": [1, 2, 3]});
        let (status, answer) = send(&proxy(args), "/v1/completions", &tokens).await;
        assert_eq!((status, answer.contains("token")), (400, is_chat), "{args:?}: {answer}");
    }
    let refusal = Options::of(&["--upstream", "web", "--completions", "raw"]).resolve();
    let refusal = refusal.expect_err("the web has no prompts").to_string();
    assert!(refusal.starts_with("--completions: "), "{refusal}");
}

/// Who asks by another name is answered with it.
#[tokio::test(start_paused = true)]
async fn an_alias_is_answered_with() {
    for kind in KINDS {
        let (model, _) = models(kind);
        let alias = format!("fast={model}");
        let app = proxy(&["--emulate", kind.as_str(), "--alias", &alias]);
        for stream in [false, true] {
            let body = json!({
                "model": "fast", "prompt": BEFORE, "suffix": BEHIND, "stream": stream,
            });
            let (status, answer) = send(&app, "/v1/completions", &body).await;
            let case = format!("{kind}: {answer}");
            assert_eq!((status, said(&answer)), (200, in_tokens(BEFORE, BEHIND)), "{case}");
            let named = answer.matches(r#""model":"fast""#).count();
            assert_eq!(named, answer.matches(r#""model":"#).count(), "{case}");
            assert!(named > 0, "{case}");
        }
    }
}

/// The stack over `upstream`.
fn over_server<U, B>(upstream: U, server: Server, args: &[&str]) -> App
where
    U: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let config =
        Options::of(&[&["--upstream-key", "sk-demo", "--base-url", "http://x/v1"], args].concat())
            .resolve()
            .expect("valid");
    let store = store(&config.sessions).expect("in memory");
    let given = &config.upstreams[0];
    let desk = desk(given, token_client(given).expect("a client"), None);
    let shared = Shared::new(&config, &store, &Shutdown::default());
    let lanes = alone(compatible(upstream.clone(), upstream, server, given, desk, &shared), given);
    over(lanes, &config, &store, &Shutdown::default(), &Gate::default()).0
}

/// Each key press cancels the last request: no time passes and nobody is woken between the drop and
/// the upstream's end.
#[test]
fn a_client_that_leaves_ends_the_upstreams_work_at_once() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            for (kind, server, path) in [
                (Kind::Vllm, Server::Vllm, "/v1/completions"),
                (Kind::Ollama, Server::Ollama, "/v1/completions"),
                (Kind::LlamaCpp, Server::LlamaCpp, "/infill"),
            ] {
                let emulator = Emulator::builder().kind(kind).build();
                let app = over_server(emulator.clone(), server, &[]);
                let words = "emulate:slow=1000 emulate:tokens=100000";
                let body = json!({
                    "model": models(kind).0, "stream": true, "prompt": words,
                    "input_prefix": "", "input_suffix": "",
                });
                let response = app.oneshot(post(path, &body)).await.expect("infallible");
                let mut body = response.into_body();
                let frame = body.frame().await.expect("a frame").expect("no error");
                assert!(frame.is_data());
                assert_eq!(emulator.counters().abandoned, 0, "{kind}");
                drop(body);
                assert_eq!(emulator.counters().abandoned, 1, "{kind}");
            }
        });
    });
    let counts = recorder.handle().render();
    for (path, count) in [("/completions", 2), ("/infill", 1)] {
        let line = format!(
            "tower_qwen_proxy_passed_total{{path=\"{path}\",outcome=\"abandoned\"}} {count}"
        );
        assert!(counts.lines().any(|found| found == line), "{line}\n{counts}");
    }
}

/// Nor does it wait for a first byte.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_the_first_byte_ends_it_too() {
    /// Counts itself while it is there.
    struct Working(Arc<AtomicUsize>);
    impl Drop for Working {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let at_work = Arc::new(AtomicUsize::new(0));
    let upstream = service_fn({
        let at_work = Arc::clone(&at_work);
        move |_: Request<FullBody>| {
            at_work.fetch_add(1, Ordering::Relaxed);
            let working = Working(Arc::clone(&at_work));
            async move {
                let _working = working;
                std::future::pending::<Result<Response<FullBody>, BoxError>>().await
            }
        }
    });
    let app = over_server(upstream, Server::Vllm, &["--server", "vllm"]);
    let body = json!({"model": "qwen3-coder", "prompt": "a", "suffix": "b", "stream": true});
    let mut turn = tokio_test::task::spawn(app.oneshot(post("/v1/completions", &body)));
    for _ in 0..100 {
        assert!(turn.poll().is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(at_work.load(Ordering::Relaxed), 1);
    drop(turn);
    assert_eq!(at_work.load(Ordering::Relaxed), 0);
}

/// No sign of life stands in for the first word, and nothing is added to what the server says.
#[tokio::test(start_paused = true)]
async fn nothing_is_said_while_the_model_reads() {
    let app = proxy(&["--emulate", "vllm"]);
    let body = json!({
        "model": models(Kind::Vllm).0, "stream": true,
        "prompt": "emulate:wait=100000 emulate:crlf emulate:say=Hi you",
    });
    let begun = tokio::time::Instant::now();
    let response = app.oneshot(post("/v1/completions", &body)).await.expect("infallible");
    assert_eq!(begun.elapsed().as_secs(), 100, "the head is the server's");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(!body.lines().any(|line| line.starts_with(':')), "{body}");
    assert!(!body.contains('\r') && body.ends_with("data: [DONE]\n\n"), "{body:?}");
    assert_eq!(said(&body), "Hi you");
}

/// What the server says of a request is told in its status and in its words.
#[tokio::test(start_paused = true)]
async fn refusals_are_the_servers_own() {
    for (kind, words, status, told) in [
        (Kind::Vllm, "emulate:rate_limited", 429, "Too many requests."),
        (Kind::LlamaCpp, "emulate:too_long", 400, "exceed_context_size_error"),
        (Kind::Ollama, "emulate:model_not_found", 404, "not found"),
        (Kind::DashScope, "emulate:quota", 429, "insufficient_quota"),
    ] {
        let app = proxy(&["--emulate", kind.as_str()]);
        let body = json!({"model": models(kind).0, "prompt": words});
        let (had, answer) = send(&app, "/v1/completions", &body).await;
        assert!(had == status && answer.contains(told), "{kind}: {had} {answer}");
    }
    let app = proxy(&["--emulate", "vllm"]);
    for body in ["{", "[]", r#"{"model":"a","model":"b"}"#, r#"{"model":7}"#] {
        let request = Request::post("/v1/completions").body(AxumBody::from(body));
        let response = app.clone().oneshot(request.expect("one")).await.expect("infallible");
        assert_eq!(response.status(), 400, "{body}");
    }
    let wrong = Request::get("/infill").body(AxumBody::empty()).expect("a request");
    let response = proxy(&["--emulate", "llamacpp"]).oneshot(wrong).await.expect("infallible");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"POST".parse().expect("ok"))
    );
}

/// `/infill` names no model as a rule: the first llama.cpp is asked.
#[tokio::test(start_paused = true)]
async fn infill_finds_llama_cpp_among_several() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let toml = "[[upstream]]\nkind = \"emulator\"\n[[upstream]]\nname = \"local\"\n\
                kind = \"emulator\"\nemulate = \"llamacpp\"\nmodels = [\"qwen2.5-*\"]\n";
    std::fs::write(&file, toml).expect("written");
    let app = proxy(&["--config", file.to_str().expect("UTF-8")]);
    let mut body = json!({"input_prefix": "emulate:echo", "input_suffix": "b"});
    for path in ["/infill", "/v1/infill", "/infill/"] {
        let response = app.clone().oneshot(post(path, &body)).await.expect("infallible");
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-qwen-upstream"]),
            (200, &"local".parse().expect("ok")),
            "{path}"
        );
    }
    body["model"] = "qwen2.5-coder-7b".into();
    assert_eq!(send(&app, "/infill", &body).await.0, 200);
    body["model"] = "qwen3-max".into();
    let (status, answer) = send(&app, "/infill", &body).await;
    assert!(status == 501 && answer.contains("infill_not_supported"), "{answer}");
}
