//! `--otlp`: what a collector gets.

use std::{
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

use crate::{
    binary::{Running, command},
    command::exchange,
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
