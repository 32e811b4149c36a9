use std::fs;

use super::super::{Config, Options};

/// What a file comes to whose first upstream has these lines; the others are `dashscope` and `local`.
fn resolve(lines: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let text = format!(
        "[[upstream]]\nname = \"web\"\nemulate = \"web\"\n{lines}\n\
         [[upstream]]\nname = \"dashscope\"\nemulate = \"dashscope\"\nmodels = [\"qwen-plus\"]\n\
         [[upstream]]\nname = \"local\"\nemulate = \"vllm\"\nmodels = [\"qwen3-coder-30b\"]\n"
    );
    fs::write(&file, text).expect("written");
    let file = file.to_str().expect("UTF-8");
    Options::of(&["--config", file]).resolve().map_err(|error| error.to_string())
}

/// Who stands in for the first upstream, as they are written.
fn stand_ins(lines: &str) -> Vec<(String, usize, Option<String>)> {
    let config = resolve(lines).expect("valid");
    let all = &config.upstreams[0].stand_ins.all;
    all.iter()
        .map(|one| {
            let name = one.name.to_str().expect("ASCII").to_owned();
            (name, one.upstream, one.model.clone())
        })
        .collect()
}

#[test]
fn they_are_asked_in_the_order_that_is_written() {
    assert_eq!(stand_ins(""), []);
    assert_eq!(stand_ins("fallback = []"), []);
    let model = |name: &str| Some(name.to_owned());
    assert_eq!(
        stand_ins(r#"fallback = ["local", "dashscope:qwen-plus", "dashscope", "web:qwen3-max"]"#),
        [
            ("local".to_owned(), 2, None),
            ("dashscope".to_owned(), 1, model("qwen-plus")),
            ("dashscope".to_owned(), 1, None),
            ("web".to_owned(), 0, model("qwen3-max")),
        ]
    );
    // Names of models have colons of their own.
    let ollama = stand_ins(r#"fallback = ["local:qwen3-coder:30b"]"#);
    assert_eq!(ollama, [("local".to_owned(), 2, model("qwen3-coder:30b"))]);

    let config = resolve("fallback = [\"local\"]\nfallback-after = 20").expect("valid");
    assert_eq!(config.upstreams[0].stand_ins.after.map(|after| after.as_secs()), Some(20));
    assert_eq!(config.upstreams[1].stand_ins.after, None);
}

#[test]
fn what_cannot_help_is_refused() {
    for (lines, expected) in [
        (
            r#"fallback = ["dash"]"#,
            "--fallback: no upstream is called \"dash\"; there are web, dashscope, local",
        ),
        (
            r#"fallback = ["web"]"#,
            "--fallback: \"web\" cannot stand in for itself, but with another model: web:MODEL",
        ),
        (
            r#"fallback = ["dashscope:"]"#,
            "--fallback: \"dashscope:\" has no model behind its colon",
        ),
        (
            r#"fallback = ["local", "dashscope", "local"]"#,
            "--fallback: \"local\" stands there twice",
        ),
        ("fallback-after = 9", "--fallback-after: nobody stands in; say who with --fallback"),
        (
            "fallback = [\"local\"]\nfallback-after = 0",
            "--fallback-after: it must be 1 to 86400 seconds",
        ),
    ] {
        let error = resolve(lines).expect_err(lines);
        assert!(error.contains("upstream \"web\": "), "{lines}: {error}");
        assert!(error.contains(expected), "{lines}: {error}");
    }
}

/// On the command line there is one upstream, and nobody else to name.
#[test]
fn alone_there_is_nobody_to_name_but_another_model() {
    let of = |args: &[&str]| Options::of(args).resolve();
    let error = of(&["--fallback", "local"]).expect_err("nobody").to_string();
    assert!(error.contains("there are emulator"), "{error}");
    let config = of(&["--fallback", "emulator:qwen3-coder-plus"]).expect("valid");
    assert_eq!(config.upstreams[0].stand_ins.all.len(), 1);
    let args = ["--emulate", "vllm", "--tools", "off", "--fallback", "emulator:qwen3-8b"];
    let error = of(&args).expect_err("bytes").to_string();
    assert!(error.contains("--fallback: with --tools off chat passes byte by byte"), "{error}");
}
