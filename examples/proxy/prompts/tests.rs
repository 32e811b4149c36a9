use serde_json::{Value, json};
use tower_qwen::qwen::compatible::Server::{
    DashScope, Generic, LlamaCpp, LmStudio, Ollama, Portal, SgLang, Vllm,
};

use super::{
    Completions::{Auto, Chat, Fim, Raw},
    *,
};

/// Upstream × model × option: what becomes of a prompt.
#[test]
fn the_server_the_model_and_the_option_decide() {
    const CODER: &str = "Qwen/Qwen3-Coder-30B-A3B-Instruct";
    let tokens = |reads| Form::Tokens { reads };
    for (completions, server, model, form) in [
        (Auto, Vllm, CODER, tokens(true)),
        (Auto, Vllm, "Qwen/Qwen3-32B", tokens(false)),
        (Auto, Vllm, "", tokens(false)),
        (Auto, SgLang, "qwen2.5-coder-7b", tokens(true)),
        (Auto, LlamaCpp, "QWEN2.5-CODER-1.5B-Q8_0.gguf", tokens(true)),
        (Auto, LlamaCpp, "my-coder", tokens(true)),
        (Auto, LmStudio, "qwen3-coder-30b", tokens(true)),
        // They read other tokens.
        (Auto, Vllm, "deepseek-ai/DeepSeek-Coder-V2", tokens(false)),
        (Auto, Vllm, "bigcode/starcoder2-3b", tokens(false)),
        (Auto, Ollama, "qwen3-coder:30b", Form::Raw),
        (Auto, Ollama, "qwen3:32b", Form::Raw),
        (Auto, Generic, CODER, Form::Raw),
        (Auto, DashScope, "qwen-coder-turbo", tokens(true)),
        (Auto, DashScope, "qwen2.5-coder-32b-instruct", tokens(true)),
        (Auto, DashScope, "qwen3-coder-plus", Form::Chat),
        (Auto, DashScope, "qwen-plus", Form::Chat),
        (Fim, DashScope, "qwen3-coder-plus", tokens(true)),
        (Auto, Portal, "coder-model", Form::Chat),
        (Fim, LlamaCpp, "default", tokens(true)),
        (Fim, Portal, "coder-model", tokens(true)),
        (Raw, Portal, "coder-model", Form::Raw),
        (Raw, Vllm, CODER, Form::Raw),
        (Chat, Vllm, CODER, Form::Chat),
    ] {
        let prompts = Prompts::new(server, completions);
        assert_eq!(prompts.form(model), form, "{completions:?} {server:?} {model}");
    }
}

/// The body, as the one value that it is.
fn fill(body: &Value, reads: bool) -> Result<Option<Value>, Error> {
    let filled = filled(&body.to_string().into(), reads)?;
    Ok(filled.map(|body| serde_json::from_slice(&body).expect("JSON")))
}

#[test]
fn a_suffix_is_written_into_the_prompt() {
    for (fields, prompt) in [
        (
            json!({"prompt": "fn a() {\n\t", "suffix": "\n}\n"}),
            json!("<|fim_prefix|>fn a() {\n\t<|fim_suffix|>\n}\n<|fim_middle|>"),
        ),
        (
            json!({"prompt": " ", "suffix": " \u{1f980}\"\\"}),
            json!("<|fim_prefix|> <|fim_suffix|> \u{1f980}\"\\<|fim_middle|>"),
        ),
        (
            json!({"prompt": ["a", "b"], "suffix": "c"}),
            json!([
                "<|fim_prefix|>a<|fim_suffix|>c<|fim_middle|>",
                "<|fim_prefix|>b<|fim_suffix|>c<|fim_middle|>"
            ]),
        ),
        (json!({"suffix": "c"}), json!("<|fim_prefix|><|fim_suffix|>c<|fim_middle|>")),
        (
            json!({"prompt": null, "suffix": "c"}),
            json!("<|fim_prefix|><|fim_suffix|>c<|fim_middle|>"),
        ),
        // None at all: vLLM and llama.cpp refuse the name alone.
        (json!({"prompt": "a", "suffix": ""}), json!("a")),
        (json!({"prompt": [1, 2], "suffix": null}), json!([1, 2])),
    ] {
        let mut body = fields.clone();
        body["model"] = "m".into();
        body["stop"] = json!(["<|endoftext|>"]);
        let filled = fill(&body, true).expect("it can be made").expect("it is another");
        assert_eq!(filled["prompt"], prompt, "{fields}");
        assert_eq!((&filled["model"], &filled["stop"]), (&body["model"], &body["stop"]));
        assert!(filled.get("suffix").is_none(), "{filled}");
        let empty = fields["suffix"].is_null() || fields["suffix"] == "";
        assert_eq!(fill(&body, false).is_ok(), empty, "{fields}");
    }
    assert_eq!(fill(&json!({"prompt": "a"}), false).expect("nothing is asked for"), None);
    // What stands in the bodies otherwise stays as the client wrote it.
    let body = "\u{feff}{ \"temperature\": 0.10, \"suffix\":\"\", \"seed\" : 1e2 }";
    let filled = filled(&body.into(), true).expect("fine").expect("another");
    assert_eq!(filled, r#"{"temperature":0.10,"seed":1e2}"#);
}

#[test]
fn what_cannot_be_filled_in_is_refused_by_name() {
    for (body, reads, param) in [
        (json!({"prompt": "a", "suffix": "b"}), false, "suffix"),
        (json!({"prompt": "a", "suffix": 7}), true, "suffix"),
        (json!({"prompt": "a", "suffix": ["b"]}), true, "suffix"),
        (json!({"prompt": [1, 2], "suffix": "b"}), true, "prompt"),
        (json!({"prompt": ["a", 2], "suffix": "b"}), true, "prompt"),
        (json!({"prompt": [], "suffix": "b"}), true, "prompt"),
        (json!({"prompt": {}, "suffix": "b"}), true, "prompt"),
        (
            json!({"prompt": (0..100).fold(json!(1), |inner, _| json!([inner])), "suffix": "b"}),
            true,
            "prompt",
        ),
        (json!({"prompt": "a", "suffix": "b", "echo": true}), true, "echo"),
    ] {
        let error = fill(&body, reads).expect_err("it is refused");
        assert_eq!((error.status().as_u16(), error.param()), (400, Some(param)), "{body}");
    }
    let deep = format!(r#"{{"suffix":"b","prompt":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    assert_eq!(filled(&deep.into(), true).expect_err("too deep").param(), Some("prompt"));
    let told = fill(&json!({"suffix": "b"}), false).expect_err("it is refused").to_string();
    assert!(told.contains("`coder`") && told.contains("--completions fim"), "{told}");
}
