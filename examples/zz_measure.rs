use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::json;
use std::{convert::Infallible, time::Instant};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    chat::*,
    dedup::DedupLayer,
    openai::decode,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::internals::KeyChain,
    tool::{call::ToolCallLayer, prompt::Format, wrap::ToolWrapLayer},
};

fn main() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let calls = |n: usize| {
        let calls: Vec<_> = (0..n).map(|n| json!({"id": format!("call_{n}"), "function": {"name": "f", "arguments": "{\"p\":\"x\"}"}})).collect();
        let mut m = vec![
            json!({"role":"user","content":"hi"}),
            json!({"role":"assistant","content":null,"tool_calls":calls}),
        ];
        m.extend(
            (0..n).map(
                |n| json!({"role":"tool","tool_call_id":format!("call_{n}"),"content":"done"}),
            ),
        );
        json!({"model":"qwen3-coder","messages":m,"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"p":{"type":"string"}}}}}]}).to_string()
    };
    let tools = |n: usize| {
        let tools: Vec<_> = (0..n)
            .map(|n| json!({"type":"function","function":{"name":format!("f{n}")}}))
            .collect();
        let calls: Vec<_> = (0..n).map(|n| json!({"id": format!("call_{n}"), "function": {"name": format!("f{n}"), "arguments": "{}"}})).collect();
        json!({"model":"qwen3-coder","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":calls},{"role":"user","content":"hi"}],"tools":tools}).to_string()
    };
    let bodies = [
        ("calls+results 27k", calls(27_000)),
        ("tools+calls 40k", tools(28_000)),
        ("empty messages", format!(r#"{{"model":"m","messages":[{}{{"role":"user","content":"x"}}]}}"#, r#"{"role":"assistant"},"#.repeat(190_000))),
        ("plain 4 MiB", json!({"model":"m","messages":[{"role":"user","content":"lorem ipsum \"x\"\n".repeat(1<<18)}]}).to_string()),
        ("system msgs", format!(r#"{{"model":"m","messages":[{}{{"role":"user","content":"x"}}]}}"#, r#"{"role":"system","content":"be"},"#.repeat(120_000))),
        ("history 1 MiB", json!({"model":"qwen3-coder","messages":(0..512).flat_map(|n| ["user","assistant"].map(|r| json!({"role":r,"content":format!("{n} {}", "some text here\n".repeat(64))}))).collect::<Vec<_>>()}).to_string()),
        ("256 KiB", json!({"model":"qwen3-coder","messages":(0..128).flat_map(|n| ["user","assistant"].map(|r| json!({"role":r,"content":format!("{n} {}", "some text here\n".repeat(64))}))).collect::<Vec<_>>()}).to_string()),
    ];
    for (name, body) in bodies {
        let body = Bytes::from(body);
        println!("{name}: {} KiB", body.len() / 1024);
        for _ in 0..2 {
            let t = Instant::now();
            let chat = decode(&body).expect("valid").chat;
            let d_decode = t.elapsed();
            let t = Instant::now();
            let tenant = Tenant::from_digest([1; 32]);
            let mut chain = KeyChain::new(&tenant, &chat);
            for m in chat.history.iter() {
                chain.push(m);
            }
            let d_chain = t.elapsed();
            let inner = || {
                service_fn(|r: Request<ChatRequest>| {
                    let b = r.into_body();
                    async move {
                        let b = b;
                        Ok::<_, tower_qwen::Error>(Response::new(
                            (
                                b,
                                futures_util::stream::empty::<Result<ChatEvent, tower_qwen::Error>>(
                                ),
                            )
                                .1,
                        ))
                    }
                })
            };
            let time = |what: &str, f: &mut dyn FnMut()| {
                let t = Instant::now();
                f();
                print!("{what} {:?}  ", t.elapsed());
            };
            print!("  decode {d_decode:?}  chain {d_chain:?}  ");
            for format in [Format::Coder, Format::Xml] {
                let mut s = ToolCallLayer::prompted_in(format).layer(inner());
                let req = Request::new(chat.clone());
                time(&format!("tool {format:?}"), &mut || {
                    let _ = s.call(req.clone());
                });
            }
            let mut s = ToolWrapLayer::new().layer(inner());
            let req = Request::new(chat.clone());
            time("wrap", &mut || {
                let _ = s.call(req.clone());
            });
            let api = service_fn(|_: Request<Full<Bytes>>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
            });
            let mut s = CompatibleLayer::new(Server::Vllm).layer(api);
            time("compatible", &mut || {
                let _ = s.call(req.clone());
            });
            let s = QwenWebLayer::new().layer(tower_qwen_emulator::Emulator::new());
            let s2 = ServiceBuilder::new()
                .layer(DedupLayer::new())
                .layer(ToolCallLayer::prompted())
                .service(s);
            time("dedup+tool+web incl emulator", &mut || {
                let _ = rt.block_on(s2.clone().oneshot(req.clone()));
            });
            let t = Instant::now();
            drop(req);
            drop(chat);
            print!("drop {:?}", t.elapsed());
            println!();
        }
    }
}
