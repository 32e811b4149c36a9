//! Who may ask for what, and how a refusal looks.

use super::*;

#[tokio::test]
async fn credentials_are_refused_in_each_servers_words() {
    for kind in kinds() {
        let emulator = builder(kind).require_credentials(true).token("sk-ann", "ann").build();
        let try_with = async |header: Option<(&str, &str)>, path: &str, method: Method| {
            let body = chat(kind, "emulate:say=Hi").to_string();
            let mut request = Request::builder().method(method).uri(path);
            if let Some((name, value)) = header {
                request = request.header(name, value);
            }
            send(&emulator, request.body(Full::new(body.into())).expect("a request")).await
        };
        let complete = "/v1/chat/completions";
        let good = Some(("authorization", "Bearer sk-ann"));
        assert_eq!(try_with(good, complete, Method::POST).await.status, StatusCode::OK, "{kind}");
        let bad =
            [None, Some(("authorization", "Bearer sk-bob")), Some(("cookie", "token=sk-ann"))];
        for header in bad {
            let answer = try_with(header, complete, Method::POST).await;
            if kind == Kind::Ollama {
                assert_eq!(answer.status, StatusCode::OK, "it knows no keys");
                continue;
            }
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{kind} {header:?}");
            let error = &answer.json()["error"];
            let (code, words) = match kind {
                Kind::LlamaCpp => (json!(401), "Invalid API Key"),
                Kind::DashScope => (json!("invalid_api_key"), "Incorrect API key provided."),
                Kind::Portal => (json!("invalid_api_key"), "invalid access token or token expired"),
                _ => {
                    assert_eq!(*error, "Unauthorized");
                    continue;
                }
            };
            assert_eq!((&error["code"], &error["message"]), (&code, &json!(words)), "{kind}");
        }
        let models = try_with(None, "/v1/models", Method::GET).await.status;
        let open = matches!(kind, Kind::Ollama | Kind::LlamaCpp);
        assert_eq!(models == StatusCode::OK, open, "{kind}");
        assert_eq!(emulator.requests()[0].account.as_deref(), Some("ann"));
    }
}

/// The portal's tokens are renewed beside it.
#[tokio::test]
async fn the_portal_has_the_oauth_server() {
    let account = OAuthAccount::new("ann", "rt-ann").access_token("at-ann");
    let account = account.lifetime(Duration::ZERO);
    let emulator = builder(Kind::Portal).require_credentials(true).oauth_account(account).build();
    let form = "grant_type=refresh_token&refresh_token=rt-ann&client_id=x";
    let request = Request::post("/api/v1/oauth2/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(form.into()));
    let token = send(&emulator, request.expect("a request")).await.json();
    assert_eq!(token["resource_url"], "portal.qwen.ai");
    assert_eq!(
        post(&builder(Kind::Vllm).build(), "/api/v1/oauth2/token", &json!({})).await.status,
        404
    );
}

#[tokio::test]
async fn who_looks_at_the_models_name() {
    for kind in kinds() {
        let body = with(chat(kind, "Hello"), json!({"model": "unknown"}));
        let answer = ask(kind, Style::Autumn2026, &body).await;
        match kind {
            Kind::SgLang | Kind::LlamaCpp => assert_eq!(answer.status, StatusCode::OK),
            Kind::Portal => assert_eq!(answer.status, StatusCode::BAD_REQUEST),
            _ => {
                assert_eq!(answer.status, StatusCode::NOT_FOUND);
                assert!(answer.text().contains("unknown"), "{}", answer.text());
            }
        }
    }
}

/// A fault: its directive, and the status and the code or type of each kind.
type Row = (&'static str, [(Kind, u16, Value); 6]);

#[tokio::test]
async fn refusals_of_each_kind() {
    let cases: [Row; 7] = [
        (
            "too_long",
            [
                (Kind::Vllm, 400, json!(400)),
                (Kind::SgLang, 400, json!(400)),
                (Kind::Ollama, 400, json!("invalid_request_error")),
                (Kind::LlamaCpp, 400, json!("exceed_context_size_error")),
                (Kind::DashScope, 400, json!("invalid_parameter_error")),
                (Kind::Portal, 400, json!("invalid_parameter_error")),
            ],
        ),
        (
            "loading",
            [
                (Kind::Vllm, 503, json!(503)),
                (Kind::SgLang, 503, json!(503)),
                (Kind::Ollama, 200, json!(null)),
                (Kind::LlamaCpp, 503, json!("unavailable_error")),
                (Kind::DashScope, 503, json!("ModelServingError")),
                (Kind::Portal, 503, json!("ModelUnavailable")),
            ],
        ),
        (
            "rate_limited=7",
            [
                (Kind::Vllm, 429, json!(429)),
                (Kind::SgLang, 429, json!(429)),
                (Kind::Ollama, 429, json!("rate_limit_error")),
                (Kind::LlamaCpp, 429, json!("rate_limit_error")),
                (Kind::DashScope, 429, json!("limit_requests")),
                (Kind::Portal, 429, json!("Throttling")),
            ],
        ),
        (
            "quota",
            [
                (Kind::Vllm, 429, json!(429)),
                (Kind::SgLang, 429, json!(429)),
                (Kind::Ollama, 429, json!("rate_limit_error")),
                (Kind::LlamaCpp, 429, json!("rate_limit_error")),
                (Kind::DashScope, 429, json!("insufficient_quota")),
                (Kind::Portal, 429, json!("insufficient_quota")),
            ],
        ),
        (
            "content_filter",
            [
                (Kind::Vllm, 400, json!(400)),
                (Kind::SgLang, 400, json!(400)),
                (Kind::Ollama, 400, json!("invalid_request_error")),
                (Kind::LlamaCpp, 400, json!("invalid_request_error")),
                (Kind::DashScope, 400, json!("data_inspection_failed")),
                (Kind::Portal, 400, json!("data_inspection_failed")),
            ],
        ),
        (
            "internal",
            [
                (Kind::Vllm, 500, json!(500)),
                (Kind::SgLang, 500, json!(500)),
                (Kind::Ollama, 500, json!("api_error")),
                (Kind::LlamaCpp, 500, json!("server_error")),
                (Kind::DashScope, 500, json!("internal_error")),
                (Kind::Portal, 500, json!("internal_error")),
            ],
        ),
        (
            "forbidden",
            [
                (Kind::Vllm, 403, json!(403)),
                (Kind::SgLang, 403, json!(403)),
                (Kind::Ollama, 403, json!("api_error")),
                (Kind::LlamaCpp, 403, json!("permission_error")),
                (Kind::DashScope, 403, json!("access_denied")),
                (Kind::Portal, 403, json!(null)),
            ],
        ),
    ];
    for (directive, row) in cases {
        for (kind, status, word) in row {
            for stream in [true, false] {
                let text = format!("emulate:{directive}");
                let body = with(chat(kind, &text), json!({"stream": stream}));
                let answer = ask(kind, Style::Autumn2026, &body).await;
                assert_eq!(answer.status, status, "{kind} {directive}");
                if status == 200 {
                    continue;
                }
                let body = answer.json();
                // SGLang's are flat.
                let flat = kind == Kind::SgLang;
                assert_eq!(body["object"] == "error", flat, "{kind} {directive}");
                let error = if flat { &body } else { &body["error"] };
                assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
                let said = match kind {
                    Kind::Ollama | Kind::LlamaCpp => &error["type"],
                    _ => &error["code"],
                };
                assert_eq!(*said, word, "{kind} {directive}");
                let retry = answer.headers.get("retry-after");
                assert_eq!(retry.is_some(), directive == "rate_limited=7", "{kind} {directive}");
            }
        }
    }
}

/// vLLM's errors were flat; llama.cpp names the sizes; Ollama cuts what is too long.
#[tokio::test]
async fn refusals_of_other_builds() {
    let old = Style::Autumn2025;
    let flat = ask(Kind::Vllm, old, &chat(Kind::Vllm, "emulate:too_long")).await.json();
    assert_eq!((&flat["object"], &flat["code"]), (&json!("error"), &json!(400)));
    assert!(flat["message"].as_str().expect("text").contains("maximum context length is"));
    let sizes = ask(Kind::LlamaCpp, old, &chat(Kind::LlamaCpp, "emulate:too_long")).await.json();
    assert!(sizes["error"]["n_prompt_tokens"].as_u64() > sizes["error"]["n_ctx"].as_u64());
    assert_eq!(sizes["error"]["code"], 400, "a number");
    let cut = ask(Kind::Ollama, old, &chat(Kind::Ollama, "emulate:too_long")).await;
    assert_eq!(cut.status, 200);
    assert!(cut.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test(start_paused = true)]
async fn ollama_is_slow_while_it_loads() {
    let start = Instant::now();
    let answer = ask(Kind::Ollama, Style::default(), &chat(Kind::Ollama, "emulate:loading")).await;
    assert_eq!(answer.status, 200);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

/// DashScope: the transient, the permanent and the sudden; of the portal: two statuses, one text.
#[tokio::test]
async fn kinds_of_limits() {
    for (directive, status, code, words) in [
        ("quota", 429, "insufficient_quota", "Free allocated quota exceeded."),
        ("tokens_limited", 429, "insufficient_quota", "Allocated quota exceeded"),
        ("burst", 429, "limit_burst_rate", "increased too quickly"),
        ("billing", 400, "Arrearage", "arrears"),
        ("timeout", 500, "RequestTimeOut", "timed out"),
    ] {
        let body = chat(Kind::DashScope, &format!("emulate:{directive}"));
        let answer = ask(Kind::DashScope, Style::default(), &body).await;
        assert_eq!(answer.status, status, "{directive}");
        let body = answer.json();
        assert_eq!(body["error"]["code"], code);
        assert!(body["error"]["message"].as_str().expect("text").contains(words), "{body}");
        assert!(body["request_id"].is_string() && body["id"].is_string());
    }
    let native = chat(Kind::DashScope, "emulate:rate_limited emulate:flat");
    let native = ask(Kind::DashScope, Style::default(), &native).await.json();
    assert_eq!(native["code"], "Throttling.RateQuota");
    assert!(native["error"].is_null() && native["request_id"].is_string());

    let portal = |text: &str| chat(Kind::Portal, text);
    let quota = ask(Kind::Portal, Style::default(), &portal("emulate:quota=403")).await;
    assert_eq!(
        (quota.status.as_u16(), &quota.json()["error"]["code"]),
        (403, &json!("insufficient_quota"))
    );
    let late = ask(Kind::Portal, Style::default(), &portal("emulate:timeout")).await;
    assert_eq!((late.status.as_u16(), late.text()), (504, "stream timeout"));
    let denied = ask(Kind::Portal, Style::default(), &portal("emulate:forbidden")).await;
    assert_eq!(denied.json()["error"]["message"], "access denied");
}

/// What DashScope refuses and others do not.
#[tokio::test]
async fn dashscope_refuses() {
    let search = json!({"enable_search": true});
    let refused = [
        (json!({"model": "qwen3-32b", "stream": false}), "enable_thinking must be set to false"),
        (json!({"model": "qwq-plus", "stream": false}), "only support stream mode"),
        (with(search.clone(), json!({"model": "qwen3-coder-plus"})), "enable_search"),
        (json!({"n": 5}), "n should be [1, 4]"),
        (json!({"n": 2, "tools": tools()}), "n should be [1, 1]"),
        (json!({"seed": 3_000_000_000_u64}), "seed should be"),
        (json!({"response_format": {"type": "json_object"}}), "the word 'json'"),
        (json!({"thinking_budget": 0}), "thinking_budget should be"),
        (json!({"thinking_budget": 1_000_000}), "thinking_budget should be"),
        (json!({"thinking_budget": 9, "reasoning_effort": "low"}), "excludes"),
        (json!({"model": "qwen3-coder-plus", "enable_thinking": true}), "not supported"),
        (
            json!({"enable_thinking": true, "tools": tools(),
                "tool_choice": {"type": "function", "function": {"name": "get_time"}}}),
            "tool_choice parameter does not support",
        ),
    ];
    for (fields, words) in refused {
        let body = with(chat(Kind::DashScope, "Hello"), fields.clone());
        let answer = ask(Kind::DashScope, Style::default(), &body).await;
        assert_eq!(answer.status, 400, "{fields}");
        let message = answer.json()["error"]["message"].clone();
        assert!(message.as_str().expect("text").contains(words), "{fields}: {message}");
    }
    for fields in [
        json!({"model": "qwen3-32b", "stream": false, "enable_thinking": false}),
        json!({"model": "qwen3-32b"}),
        search,
        json!({"n": 4, "seed": 7, "thinking_budget": 9, "enable_thinking": true}),
        json!({"response_format": {"type": "json_object"},
            "messages": [{"role": "user", "content": "As JSON, please"}]}),
    ] {
        let body = with(chat(Kind::DashScope, "Hello"), fields.clone());
        assert_eq!(ask(Kind::DashScope, Style::default(), &body).await.status, 200, "{fields}");
    }
}

/// The template of Qwen3.8 raises on what is no step of its ladder, and each server makes of that
/// what it does; nobody else's template looks.
#[tokio::test]
async fn the_template_raises_on_an_effort_that_it_does_not_know() {
    for (kind, model, refused) in [
        (Kind::Vllm, "Qwen/Qwen3.8-27B", &["none", "minimal", "high", "max", "newer"][..]),
        (Kind::SgLang, "Qwen/Qwen3.8-27B", &["none", "minimal", "high", "max", "newer"]),
        (Kind::LlamaCpp, "qwen3.8-27b-q4_k_m", &["minimal", "high", "max", "newer"]),
        (Kind::Ollama, "qwen3.8:27b", &["minimal", "high", "max", "newer"]),
        (Kind::DashScope, "qwen3.8-max", &["max", "newer"]),
        (Kind::Portal, "qwen3.8-max", &["max", "newer"]),
    ] {
        for (style, year) in STYLES {
            for word in ["none", "minimal", "low", "medium", "high", "xhigh", "max", "newer"] {
                let emulator = builder(kind).style(style).models([model, hybrid(kind)]).build();
                let ask = async |model: &str| {
                    let fields = json!({"model": model, "reasoning_effort": word});
                    post(&emulator, "/v1/chat/completions", &with(chat(kind, "Hello"), fields))
                        .await
                };
                // Older builds of Ollama know fewer words, and look before the template does.
                let old_ollama = kind == Kind::Ollama && year == "2025";
                let is_word = ["none", "low", "medium", "high"].contains(&word);
                let named = format!("{kind} {year}: {word}");
                let other = ask(hybrid(kind)).await.status.as_u16();
                assert_eq!(other, if old_ollama && !is_word { 400 } else { 200 }, "{named}");
                let answer = ask(model).await;
                let (status, words) = match kind {
                    Kind::Ollama if old_ollama && !is_word => (400, "invalid reasoning value"),
                    _ if !refused.contains(&word) => {
                        assert_eq!(answer.status, 200, "{named}");
                        continue;
                    }
                    Kind::DashScope | Kind::Portal => (400, "reasoning_effort should be one of"),
                    Kind::SgLang => (400, "Unexpected reasoning effort"),
                    Kind::Vllm if year == "2026" => (400, "Unexpected reasoning effort"),
                    _ => (500, "Unexpected reasoning effort"),
                };
                assert_eq!(answer.status, status, "{named}");
                assert!(answer.text().contains(words), "{named}: {}", answer.text());
            }
        }
    }
}

/// Models that must think are not asked to stop.
#[tokio::test]
async fn dashscope_has_models_that_must_think() {
    for model in ["qwen3.8-max-preview", "kimi-k2.7-code", "kimi-k3"] {
        for (fields, status) in [
            (json!({"enable_thinking": false}), 400),
            (json!({"reasoning_effort": "none"}), 400),
            (json!({"enable_thinking": true}), 200),
            (json!({}), 200),
        ] {
            let emulator = builder(Kind::DashScope).models([model]).build();
            let body = with(chat(Kind::DashScope, "Hello"), with(fields, json!({"model": model})));
            let answer = post(&emulator, "/v1/chat/completions", &body).await;
            assert_eq!(answer.status, status, "{model}: {body}");
        }
    }
}

/// The portal is stricter.
#[tokio::test]
async fn the_portal_refuses() {
    let parts = json!([{"type": "text", "text": "x"}]);
    let system = json!({"role": "system", "content": parts});
    let user = json!({"role": "user", "content": "Hello"});
    let strict = |parameters: Value| json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]});
    for fields in [
        json!({"messages": [user]}),
        json!({"messages": [{"role": "system", "content": "x"}, user]}),
        json!({"messages": [system, {"role": "user", "content": parts}]}),
        json!({"messages": [system, user, user]}),
        json!({"model": "qwen3.6-plus"}),
        json!({"max_tokens": 65_537}),
        json!({"model": "vision-model", "max_tokens": 32_769}),
        strict(json!({"type": "object", "additionalProperties": false})),
    ] {
        let body = with(chat(Kind::Portal, "Hello"), fields.clone());
        assert_eq!(ask(Kind::Portal, Style::default(), &body).await.status, 400, "{fields}");
    }
    let image = json!([{"type": "text", "text": "x"},
        {"type": "image_url", "image_url": {"url": "https://example.org/i.png"}}]);
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let result = json!({"role": "tool", "tool_call_id": "c", "content": "1"});
    for fields in [
        json!({"messages": [system, {"role": "user", "content": image}]}),
        json!({"messages": [system, user,
            {"role": "assistant", "content": null, "tool_calls": [call, call]}, result, result]}),
        json!({"max_tokens": 65_536}),
        strict(json!({"type": "object", "properties": {"patternProperties": {"type": "string"}}})),
    ] {
        let body = with(chat(Kind::Portal, "Hello"), fields.clone());
        assert_eq!(ask(Kind::Portal, Style::default(), &body).await.status, 200, "{fields}");
    }
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    for kind in kinds() {
        for body in [
            json!([]),
            json!({}),
            json!({"model": coder(kind)}),
            with(chat(kind, ""), json!({"messages": [{"role": "king", "content": "x"}]})),
            with(chat(kind, ""), json!({"messages": [{"role": "user", "content": 7}]})),
            with(chat(kind, ""), json!({"messages": [{"role": "user"}]})),
        ] {
            let status = ask(kind, Style::default(), &body).await.status;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{kind} {body}");
        }
    }
}
