//! `--otlp`: what a collector gets.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use tokio::runtime::Runtime;
use tower_qwen_emulator::{Emulator, Kind};

use crate::{
    binary::{Running, command},
    command::exchange,
    proxied::serve,
};

/// A collector on a port of its own, and the spans that it has got.
fn collector() -> (String, Arc<Mutex<Vec<Span>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let spans = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&spans);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
            let kept = Arc::clone(&kept);
            thread::spawn(move || {
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    assert!(line.starts_with("POST /v1/traces "), "{line}");
                    let mut length = 0;
                    while line != "\r\n" {
                        line.clear();
                        reader.read_line(&mut line).expect("a head");
                        if let Some(value) = line.strip_prefix("content-length: ") {
                            length = value.trim().parse().expect("a length");
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).expect("a body");
                    let export = ExportTraceServiceRequest::decode(&*body).expect("protobuf");
                    let of_resources = export.resource_spans.into_iter();
                    let of_scopes = of_resources.flat_map(|resource| resource.scope_spans);
                    let new = of_scopes.flat_map(|scope| scope.spans);
                    kept.lock().expect("no panic").extend(new);
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer.as_bytes()).expect("it is read");
                    line.clear();
                }
            });
        }
    });
    (url, spans)
}

fn value(span: &Span, name: &str) -> Option<String> {
    let found = |attribute: &&KeyValue| attribute.key == name;
    let value = span.attributes.iter().find(found)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::ArrayValue(array) => format!("{:?}", array.values),
        other => format!("{other:?}"),
    })
}

#[test]
fn a_collector_reads_a_span_of_the_request_and_one_of_each_call() {
    let (url, spans) = collector();
    let mut proxy = command();
    proxy.args(["--emulate", "vllm", "--otlp", &url, "--log", "warn", "--retries", "1"]);
    let proxy = Running::start(proxy);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let ask = |say: &str| {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\n\
             traceparent: 00-{trace}-b7ad6b7169203331-01"
        );
        let body = format!(
            r#"{{"model":"Qwen/Qwen3-32B","max_tokens":64,"stream":true,
                "messages":[{{"role":"user","content":"{say} secret words"}}]}}"#
        );
        exchange(&proxy.origin, &head, &body)
    };
    assert!(ask("emulate:say=Hello.").starts_with("HTTP/1.1 200"));
    let failed = ask("emulate:status=503");
    let (_, log) = proxy.stop("-TERM");
    let spans = spans.lock().expect("no panic").clone();
    let of_kind = |kind: SpanKind| spans.iter().filter(move |span| span.kind == kind as i32);
    let servers: Vec<_> = of_kind(SpanKind::Server).collect();
    assert_eq!(servers.len(), 2, "{failed}\n{spans:#?}\n{log}");
    for server in &servers {
        assert_eq!(server.name, "POST /v1/chat/completions");
        assert_eq!(value(server, "http.request.method").as_deref(), Some("POST"));
        assert_eq!(value(server, "url.path").as_deref(), Some("/v1/chat/completions"));
        assert!(value(server, "http.response.status_code").is_some());
        assert_eq!(value(server, "gen_ai.usage.input_tokens"), None, "they are the calls'");
        let hex: String = server.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, trace, "the client's trace goes on");
        assert_eq!(server.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
        let calls = of_kind(SpanKind::Client).filter(|call| call.parent_span_id == server.span_id);
        assert!(calls.count() > 0, "{spans:#?}");
    }
    let good = of_kind(SpanKind::Client).find(|call| value(call, "error.type").is_none());
    let good = good.expect("one was answered");
    assert_eq!(good.name, "chat Qwen/Qwen3-32B");
    for (name, wanted) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "qwen"),
        ("gen_ai.request.model", "Qwen/Qwen3-32B"),
        ("gen_ai.request.max_tokens", "64"),
    ] {
        assert_eq!(value(good, name).as_deref(), Some(wanted), "{name}");
    }
    for name in ["gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"] {
        assert!(value(good, name).is_some_and(|tokens| tokens != "0"), "{name}: {good:#?}");
    }
    let reasons = value(good, "gen_ai.response.finish_reasons").expect("a list");
    assert!(reasons.contains("stop"), "{reasons}");
    // The second was tried once more, and each try is a span.
    let bad: Vec<_> =
        of_kind(SpanKind::Client).filter(|call| value(call, "error.type").is_some()).collect();
    assert_eq!(bad.len(), 2, "{failed}\n{spans:#?}");
    for call in bad {
        let status = call.status.as_ref().expect("a status");
        assert_eq!(status.code, StatusCode::Error as i32);
    }
    assert!(!format!("{spans:?}").contains("secret words"), "what is said is in no span");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of one kind that are in this one.
fn within<'a>(spans: &'a [Span], kind: SpanKind, parent: &Span) -> Vec<&'a Span> {
    let is_within = |span: &&Span| {
        span.kind == kind as i32
            && span.parent_span_id == parent.span_id
            && span.trace_id == parent.trace_id
    };
    spans.iter().filter(is_within).collect()
}

/// That of the request with this path.
fn server<'a>(spans: &'a [Span], path: &str) -> &'a Span {
    let is_it = |span: &&Span| {
        span.kind == SpanKind::Server as i32 && value(span, "url.path").as_deref() == Some(path)
    };
    spans.iter().find(is_it).unwrap_or_else(|| panic!("{path} is not in {spans:#?}"))
}

#[test]
fn what_no_adapter_asks_for_has_spans_too() {
    let (url, spans) = collector();
    let mut proxy = command();
    proxy.args(["--emulate", "llamacpp", "--otlp", &url, "--log", "warn"]);
    let proxy = Running::start(proxy);
    let chat =
        r#""messages":[{"role":"user","content":"emulate:say=Hi secret words"}],"logprobs":true"#;
    let asked = [
        // It asks for what the layers have not.
        ("/v1/chat/completions", chat, "chat m"),
        ("/v1/completions", r#""prompt":"secret words""#, "text_completion m"),
        ("/infill", r#""input_prefix":"secret words","input_suffix":"x""#, "text_completion m"),
        ("/v1/embeddings", r#""input":"secret words""#, "embeddings qwen3-embedding"),
        ("/api/embed", r#""input":"secret words""#, "embeddings qwen3-embedding"),
    ];
    let model = |name: &str| name.split(' ').next_back().expect("a word").to_owned();
    for (path, fields, name) in asked {
        let head = format!("POST {path} HTTP/1.1\r\ncontent-type: application/json");
        let body = format!("{{\"model\":\"{}\",{fields}}}", model(name));
        let answer = exchange(&proxy.origin, &head, &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let (_, log) = proxy.stop("-TERM");
    let spans = spans.lock().expect("no panic").clone();
    for (path, _, name) in asked {
        let calls = within(&spans, SpanKind::Client, server(&spans, path));
        let [call] = calls[..] else { panic!("{path}: {calls:#?}\n{spans:#?}\n{log}") };
        assert_eq!(call.name, name, "{path}");
        assert_eq!(value(call, "gen_ai.request.model"), Some(model(name)), "{path}");
        assert_eq!(value(call, "tower_qwen.upstream").as_deref(), Some("emulator"), "{path}");
        assert!(
            value(call, "gen_ai.usage.input_tokens").is_some_and(|tokens| tokens != "0"),
            "{path}: {call:#?}"
        );
        assert_eq!(value(call, "error.type"), None, "{path}");
    }
    assert!(!format!("{spans:?}").contains("secret words"), "what is said is in no span");
}

#[test]
fn a_stand_in_is_a_span_of_the_same_request_and_its_server_goes_on_below_it() {
    let (url, spans) = collector();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    let emulated = || Emulator::builder().kind(Kind::Vllm).build();
    let (stranger, own) = (emulated(), emulated());
    let runtime = Runtime::new().expect("a runtime");
    let at = |emulator: &Emulator| runtime.block_on(serve(emulator.clone()));
    let config = format!(
        r#"
[[upstream]]
name = "gone"
server = "vllm"
base-url = "http://127.0.0.1:9/v1"
models = ["gone"]
retries = 0
fallback = ["stranger:Qwen/Qwen3-32B"]

[[upstream]]
name = "stranger"
server = "vllm"
base-url = "{}/v1"
models = ["Qwen/Qwen3-32B"]

[[upstream]]
name = "own"
server = "vllm"
base-url = "{}/v1"
send-trace = true
"#,
        at(&stranger),
        at(&own)
    );
    fs::write(&file, config).expect("writable");
    let mut proxy = command();
    proxy.arg("--config").arg(&file).args(["--otlp", &url, "--log", "warn"]);
    proxy.env("NO_PROXY", "127.0.0.1");
    let proxy = Running::start(proxy);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let ask = |path: &str, model: &str, more: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\ncontent-type: application/json\r\n\
             traceparent: 00-{trace}-b7ad6b7169203331-01\r\ntracestate: mine=1"
        );
        let body =
            format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hi"}}]{more}}}"#);
        let answer = exchange(&proxy.origin, &head, &body);
        assert!(answer.starts_with("HTTP/1.1 200"), "{model}: {answer}");
    };
    ask("/v1/chat/completions", "gone", "");
    ask("/v1/messages", "Qwen/Qwen3-Coder-30B-A3B-Instruct", r#","max_tokens":64"#);
    let (_, log) = proxy.stop("-TERM");
    let spans = spans.lock().expect("no panic").clone();

    let request = server(&spans, "/v1/chat/completions");
    let calls = within(&spans, SpanKind::Client, request);
    let mut upstreams: Vec<_> =
        calls.iter().filter_map(|call| value(call, "tower_qwen.upstream")).collect();
    upstreams.sort();
    assert_eq!(upstreams, ["gone", "stranger"], "{spans:#?}\n{log}");
    for call in calls {
        let is_gone = value(call, "tower_qwen.upstream").as_deref() == Some("gone");
        assert_eq!(value(call, "error.type").is_some(), is_gone, "{call:#?}");
    }
    let sent = |emulator: &Emulator, name: &str| -> Vec<String> {
        let requests = emulator.requests().into_iter();
        let asked = requests.filter(|request| request.path().ends_with("/chat/completions"));
        let value = |request: tower_qwen_emulator::ReceivedRequest| {
            Some(request.headers.get(name)?.to_str().ok()?.to_owned())
        };
        asked.filter_map(value).collect()
    };
    // Who was not meant to know has not learnt of it.
    for name in ["traceparent", "tracestate"] {
        assert_eq!(sent(&stranger, name), [""; 0], "{name}");
    }
    let calls = within(&spans, SpanKind::Client, server(&spans, "/v1/messages"));
    let [call] = calls[..] else { panic!("{spans:#?}") };
    let below = format!("00-{trace}-{}-01", hex(&call.span_id));
    assert_eq!(sent(&own, "traceparent"), [below]);
    assert_eq!(sent(&own, "tracestate"), ["mine=1"]);
}
