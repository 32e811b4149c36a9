//! What is served beside chat.

use super::*;

/// DashScope gives floats out of order, the others what was asked for.
#[tokio::test]
async fn embeddings_of_each_server() {
    for kind in kinds() {
        for (style, year) in STYLES {
            let emulator = builder(kind).style(style).build();
            let embed = async |fields: Value| {
                let body = with(json!({"model": embedder(kind), "input": ["a", "b"]}), fields);
                post(&emulator, "/v1/embeddings", &body).await
            };
            let floats = embed(json!({"dimensions": 8})).await;
            if kind == Kind::Portal {
                assert_eq!(floats.status, StatusCode::NOT_FOUND);
                continue;
            }
            let floats = floats.json();
            assert_eq!(floats["object"], "list");
            assert_eq!(floats["usage"]["prompt_tokens"], floats["usage"]["total_tokens"]);
            let mut data = floats["data"].as_array().expect("a list").clone();
            assert_eq!(data[0]["index"] == 1, kind == Kind::DashScope, "{kind}'s order");
            data.sort_by_key(|item| item["index"].as_u64());
            let vector = |item: &Value| -> Vec<f32> {
                serde_json::from_value(item["embedding"].clone()).expect("floats")
            };
            let (a, b) = (vector(&data[0]), vector(&data[1]));
            assert_eq!((a.len(), b.len()), (8, 8));
            assert_ne!(a, b);
            let length: f32 = a.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
            let alone = embed(json!({"dimensions": 8, "input": "a"})).await.json();
            assert_eq!(vector(&alone["data"][0]), a, "the same text has the same vector");
            assert_eq!(vector(&embed(json!({"input": "a"})).await.json()["data"][0]).len(), 1_024);

            let encoded = embed(json!({"dimensions": 8, "encoding_format": "base64"})).await;
            let base64 = match kind {
                Kind::DashScope if year == "2026" => {
                    assert_eq!(encoded.status, StatusCode::BAD_REQUEST, "only floats");
                    continue;
                }
                Kind::DashScope | Kind::SgLang => false,
                Kind::Ollama => year == "2026",
                _ => true,
            };
            let item = encoded.json()["data"][0]["embedding"].clone();
            assert_eq!(item.is_string(), base64, "{kind} {year}");
            if base64 {
                let bytes = STANDARD.decode(item.as_str().expect("text")).expect("base64");
                let words = bytes.chunks_exact(4).map(|b| <[u8; 4]>::try_from(b).expect("four"));
                assert_eq!(words.map(f32::from_le_bytes).collect::<Vec<_>>(), a);
            }

            let tokens = embed(json!({"input": [[1, 2], [3]]})).await.status;
            assert_eq!(tokens == StatusCode::OK, kind != Kind::DashScope, "{kind}");
            let chat = embed(json!({"model": coder(kind)})).await;
            assert!(chat.status.is_client_error() || chat.status == 501, "{kind} {}", chat.status);
            for input in [json!([]), json!(7), json!(null), json!([1.5])] {
                let refused = embed(json!({"input": input})).await.status;
                assert_eq!(refused, StatusCode::BAD_REQUEST, "{kind} {input}");
            }
        }
    }
}

/// DashScope: ten inputs, or twenty-five of the older models.
#[tokio::test]
async fn the_batches_of_dashscope() {
    let emulator = builder(Kind::DashScope).build();
    for (model, most) in [("text-embedding-v4", 10), ("text-embedding-v2", 25)] {
        for (count, fits) in [(most, true), (most + 1, false)] {
            let body = json!({"model": model, "input": vec!["x"; count], "dimensions": 2});
            let answer = post(&emulator, "/v1/embeddings", &body).await;
            assert_eq!(answer.status == StatusCode::OK, fits, "{model} {count}");
            assert!(fits || answer.text().contains(&format!("not be larger than {most}")));
        }
    }
    let many = json!({"model": embedder(Kind::Vllm), "input": vec!["x"; 500], "dimensions": 2});
    assert_eq!(post(&builder(Kind::Vllm).build(), "/embeddings", &many).await.status, 200);
}

/// What `GET /models` says, and who knows a single one.
#[tokio::test]
async fn lists_of_models() {
    for kind in kinds() {
        let emulator = builder(kind).build();
        let list = get(&emulator, "/v1/models").await.json();
        assert_eq!(list["object"], "list");
        let cards = list["data"].as_array().expect("a list");
        for card in cards {
            assert_eq!(card["object"], "model", "{kind} {card}");
            assert!(card["id"].is_string() && card["created"].is_u64());
            assert!(card["owned_by"].is_string());
        }
        assert!(cards.iter().any(|card| card["id"] == coder(kind)), "{kind}");
        assert_eq!(list["models"].is_array(), kind == Kind::LlamaCpp);
        let one = get(&emulator, &format!("/v1/models/{}", coder(kind))).await;
        let knows = matches!(kind, Kind::SgLang | Kind::Ollama);
        assert_eq!(one.status == StatusCode::OK, knows, "{kind}");
        if knows {
            assert_eq!(one.json(), cards[0], "{kind}");
            let escaped = coder(kind).replace('/', "%2F");
            assert_eq!(get(&emulator, &format!("/v1/models/{escaped}")).await.json(), cards[0]);
            let unknown = get(&emulator, "/v1/models/unknown").await;
            assert_eq!(unknown.status, StatusCode::NOT_FOUND);
            assert!(unknown.json()["error"]["message"].is_string());
        }
    }
    let own = builder(Kind::Vllm).models(["my-qwen"]).build();
    assert_eq!(get(&own, "/models").await.json()["data"][0]["id"], "my-qwen");
}

/// A model that continues prompts.
fn completer(kind: Kind) -> &'static str {
    match kind {
        Kind::DashScope => "qwen-coder-turbo",
        _ => coder(kind),
    }
}

/// Legacy completions, streamed and whole.
#[tokio::test]
async fn legacy_completions() {
    for kind in kinds() {
        let emulator = builder(kind).build();
        let body =
            json!({"model": completer(kind), "prompt": "emulate:say=Hi you", "stream": true});
        let answer = post(&emulator, "/v1/completions", &body).await;
        if kind == Kind::Portal {
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{kind}");
            continue;
        }
        let chunks = answer.chunks();
        let texts = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str());
        assert_eq!(texts.collect::<String>(), "Hi you");
        assert!(chunks.iter().all(|chunk| chunk["object"] == "text_completion"));
        assert_eq!(chunks.last().expect("chunks")["choices"][0]["finish_reason"], "stop");
        let zero = |chunk: &Value| chunk["usage"]["total_tokens"] == 0;
        assert_eq!(chunks.iter().all(zero), kind == Kind::Ollama, "zeros on every chunk");
        let whole = with(body, json!({"stream": false, "prompt": ["emulate:say=Hi"]}));
        let whole = post(&emulator, "/v1/completions", &whole).await.json();
        assert_eq!(whole["choices"][0]["text"], "Hi");
        assert_eq!(whole["object"], "text_completion");
        for prompt in [json!(["a", "b"]), json!([1, 2]), json!(null)] {
            let body = json!({"model": completer(kind), "prompt": prompt});
            assert_eq!(post(&emulator, "/v1/completions", &body).await.status, 400, "{kind}");
        }
    }
}

/// What each server makes of a `suffix`, and the prompt that its model is given.
#[tokio::test]
async fn suffixes_of_completions() {
    const PROMPT: &str = "\tfn add(\n # emulate:echo\n  ";
    let filled = format!("<|fim_prefix|>{PROMPT}<|fim_suffix|>}}\n<|fim_middle|>");
    for kind in kinds().filter(|kind| *kind != Kind::Portal) {
        let emulator = builder(kind).build();
        let ask = async |model: &str, fields: Value| {
            let body = with(json!({"model": model, "prompt": PROMPT}), fields);
            post(&emulator, "/v1/completions", &body).await
        };
        let coder = completer(kind);
        let raw = ask(coder, json!({})).await.json();
        assert_eq!(raw["choices"][0]["text"], PROMPT, "{kind}: byte for byte");
        let null = ask(coder, json!({"suffix": null})).await;
        assert_eq!(null.status == StatusCode::OK, kind != Kind::LlamaCpp, "{kind}");
        let with_suffix = ask(coder, json!({"suffix": "}\n"})).await;
        let told = match kind {
            Kind::Vllm => Err("suffix is not currently supported"),
            Kind::LlamaCpp => Err("Unsupported param: suffix"),
            Kind::Ollama => Ok(&*filled),
            _ => Ok(PROMPT),
        };
        match told {
            Ok(text) => assert_eq!(with_suffix.json()["choices"][0]["text"], text, "{kind}"),
            Err(why) => {
                assert_eq!(with_suffix.status, StatusCode::BAD_REQUEST, "{kind}");
                assert!(with_suffix.text().contains(why), "{kind}: {}", with_suffix.text());
            }
        }
    }
    let body = json!({"model": "qwen3:32b", "prompt": "a", "suffix": "b"});
    let refused = post(&builder(Kind::Ollama).build(), "/v1/completions", &body).await;
    assert!(refused.status == 400 && refused.text().contains("does not support insert"));
    for model in ["qwen-plus", "qwen3-coder-plus"] {
        let body = json!({"model": model, "prompt": "a"});
        let refused = post(&builder(Kind::DashScope).build(), "/v1/completions", &body).await;
        assert!(refused.status == 400 && refused.text().contains("Unsupported model"));
    }
}

/// llama.cpp's own route for what stands between two texts.
#[tokio::test]
async fn infill_of_llama_cpp() {
    let llama = builder(Kind::LlamaCpp).build();
    let body = json!({
        "input_prefix": "fn a() {\n", "input_suffix": "}\n", "prompt": "    emulate:echo",
        "input_extra": [{"filename": "b.rs", "text": "fn b() {}\n"}],
    });
    let whole = post(&llama, "/infill", &body).await.json();
    assert_eq!(
        whole["content"],
        "<|file_sep|>b.rs\nfn b() {}\n<|fim_prefix|>fn a() {\n    emulate:echo\
         <|fim_suffix|>}\n<|fim_middle|>"
    );
    assert_eq!((&whole["stop"], &whole["stop_type"]), (&json!(true), &json!("eos")));
    assert!(whole["timings"].is_object() && whole.get("choices").is_none(), "{whole}");
    let stream = with(body.clone(), json!({"stream": true, "n_predict": 2}));
    let stream = post(&llama, "/infill", &stream).await;
    assert!(!stream.text().contains("[DONE]"));
    let chunks = stream.chunks();
    assert_eq!(chunks.len(), 3);
    assert!(chunks[..2].iter().all(|chunk| chunk["stop"] == false));
    assert_eq!((&chunks[2]["stop"], &chunks[2]["stop_type"]), (&json!(true), &json!("limit")));
    for body in [json!({"input_prefix": "a"}), json!({"input_suffix": "b"}), json!([])] {
        assert_eq!(post(&llama, "/infill", &body).await.status, 400, "{body}");
    }
    assert_eq!(post(&llama, "/v1/infill", &body).await.status, 404);
    assert_eq!(post(&builder(Kind::Vllm).build(), "/infill", &body).await.status, 404);
}

/// The portal's search.
#[tokio::test]
async fn the_portals_search() {
    let path = "/api/v1/indices/plugin/web_search";
    let portal = builder(Kind::Portal).build();
    let found = post(&portal, path, &json!({"uq": "qwen", "page": 1, "rows": 5})).await.json();
    assert_eq!((&found["status"], &found["data"]["total"]), (&json!(0), &json!(1)));
    assert_eq!(found["data"]["docs"][0]["title"], "About qwen");
    assert_eq!(post(&portal, path, &json!({})).await.json()["success"], false);
    let closed = builder(Kind::Portal).require_credentials(true).build();
    assert_eq!(post(&closed, path, &json!({"uq": "qwen"})).await.status, 401);
    assert_eq!(post(&builder(Kind::Vllm).build(), path, &json!({"uq": "x"})).await.status, 404);
}
