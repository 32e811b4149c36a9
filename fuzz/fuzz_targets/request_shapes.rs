//! Requests of a grammar through the whole stack, an emulated upstream below it: whatever their
//! shape, what is allocated at once is about four times the body.
//!
//! The input is a program for the grammar: which places of a request are filled, with what, and
//! how often that stands there. The emulator's own memory is not counted.
#![no_main]

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use allocation_counter::{measure, opt_out};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_qwen::{
    FullBody,
    dedup::DedupLayer,
    edge::Limits,
    openai::OpenAiLayer,
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
    session::{MemoryStore, SessionLayer},
    tool::{Dialect, call::ToolCallLayer, wrap::ToolWrapLayer},
};
use tower_qwen_emulator::{Emulator, Kind};

/// The largest body.
const BODY: usize = 256 * 1024;

/// What a message, a part, a call and a tool take at most, in all layers together.
const ITEM: usize = 2 * 1024;

/// What there may be of each. The default numbers are those of an agent; with small ones the
/// constant is small, and the factor is seen.
const ITEMS: usize = 256;

/// What the schemas of called tools may take (`tool::schema`), and what else does not depend on
/// the body.
const SCHEMAS: usize = 4 << 20;
const CONSTANT: usize = 1 << 20;

/// How many steps a byte of the body is, at most: the time is a multiple of the body, too.
#[cfg(fuzzing)]
const STEPS_A_BYTE: usize = 64;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime")
});

/// The upstream, whose memory is its own.
#[derive(Clone)]
struct Below(Emulator);

impl Service<Request<FullBody>> for Below {
    type Response = <Emulator as Service<Request<FullBody>>>::Response;
    type Error = <Emulator as Service<Request<FullBody>>>::Error;
    type Future = Uncounted<<Emulator as Service<Request<FullBody>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<FullBody>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<FullBody>) -> Self::Future {
        // The stack's own is let go where it is counted.
        let (head, body) = request.into_parts();
        let sent = body.into_bytes();
        let mut future = None;
        opt_out(|| {
            let body = FullBody::new(Bytes::copy_from_slice(&sent));
            future = Some(Box::pin(self.0.call(Request::from_parts(head, body))));
        });
        Uncounted(future.expect("it was called"))
    }
}

struct Uncounted<F>(Pin<Box<F>>);

impl<F: Future> Future for Uncounted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut polled = Poll::Pending;
        opt_out(|| polled = self.0.as_mut().poll(cx));
        polled
    }
}

/// A request that grows as the program says.
struct Grammar<'a> {
    program: &'a [u8],
    body: String,
}

impl Grammar<'_> {
    fn next(&mut self) -> u8 {
        match self.program {
            [first, rest @ ..] => {
                self.program = rest;
                *first
            }
            [] => 0,
        }
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[usize::from(self.next()) % of.len()]
    }

    /// `unit` as often as the program says, and as there is room for.
    fn again(&mut self, unit: &str, between: &str) {
        let room = BODY.saturating_sub(self.body.len()) / (unit.len() + between.len()).max(1);
        let count = (1_usize << (self.next() % 19)).min(room.max(1));
        for at in 0..count {
            if at > 0 {
                self.body.push_str(between);
            }
            self.body.push_str(unit);
        }
    }

    /// What `write` writes, apart.
    fn unit(&mut self, write: impl FnOnce(&mut Self)) -> String {
        let body = std::mem::take(&mut self.body);
        write(self);
        std::mem::replace(&mut self.body, body)
    }

    fn value(&mut self, depth: u8) {
        const LEAVES: [&str; 10] =
            ["0", "\"\"", "null", "[]", "{}", "1.5e300", "\"\\u0001\"", "true", "\"a,{\"", "-1"];
        match self.next() % 5 {
            0 | 1 => {
                let leaf = self.one(&LEAVES);
                self.body.push_str(leaf);
            }
            2 if depth < 6 => {
                let unit = self.unit(|own| own.value(depth + 1));
                self.body.push('[');
                self.again(&unit, ",");
                self.body.push(']');
            }
            3 if depth < 6 => {
                self.object(depth + 1, &["a", "type", "properties", "\\n", "$ref", "items"])
            }
            _ => self.text(),
        }
    }

    fn object(&mut self, depth: u8, names: &[&str]) {
        let name = self.one(names);
        let unit = self.unit(|own| {
            own.body.push_str(&format!("\"{name}\":"));
            own.value(depth);
        });
        self.body.push('{');
        self.again(&unit, ",");
        self.body.push('}');
    }

    fn text(&mut self) {
        let unit =
            self.one(&["a ", "\\n", "\\u0001", "\\\"", "<a>", "\u{e9}", "{\\\"a\\\":", "x,"]);
        self.body.push('"');
        self.again(unit, "");
        self.body.push('"');
    }

    /// A field of the grammar and its value, or one that nobody knows.
    fn unknown(&mut self) {
        if self.next() % 4 == 0 {
            let unit = self.unit(|own| {
                own.body.push_str("\"v\":");
                own.value(3);
            });
            self.body.push(',');
            self.again(&unit, ",");
        }
    }

    fn list(&mut self, write: impl FnOnce(&mut Self)) {
        let unit = self.unit(write);
        self.body.push('[');
        self.again(&unit, ",");
        self.body.push(']');
    }

    fn part(&mut self) {
        let known = self.one(&[
            r#"{"type":"text","text":"x""#,
            r#"{"type":"text","text":"\n""#,
            r#"{"type":"image_url","image_url":"x""#,
            r#"{"type":"file","file":{"file_id":""}"#,
            r#"{"type":"x""#,
            r#"{"type":"input_audio","input_audio":{"data":"x"}"#,
        ]);
        self.body.push_str(known);
        self.unknown();
        self.body.push('}');
    }

    fn call(&mut self) {
        self.body.push_str(r#"{"id":"c","function":{"name":"f","arguments":"#);
        match self.next() % 3 {
            0 => self.object(2, &["a", "b"]),
            1 => self.text(),
            _ => {
                let json = self.unit(|own| own.object(2, &["a", "b"]));
                let json = json.replace('\\', "\\\\").replace('"', "\\\"");
                self.body.push_str(&format!("\"{json}\""));
            }
        }
        self.unknown();
        self.body.push('}');
        self.unknown();
        self.body.push('}');
    }

    fn message(&mut self) {
        let role = self.one(&["user", "assistant", "tool", "system"]);
        self.body.push_str(&format!(r#"{{"role":"{role}""#));
        match self.next() % 4 {
            0 => self.body.push_str(",\"content\":\"x\""),
            1 => {
                self.body.push_str(",\"content\":");
                self.text();
            }
            2 => {
                self.body.push_str(",\"content\":");
                self.list(Self::part);
            }
            _ => {}
        }
        if role == "assistant" && self.next() % 2 == 0 {
            self.body.push_str(",\"tool_calls\":");
            self.list(Self::call);
        }
        if role == "tool" {
            self.body.push_str(",\"tool_call_id\":\"c\"");
        }
        self.unknown();
        self.body.push('}');
    }

    fn tool(&mut self) {
        match self.next() % 4 {
            0 => {
                self.body.push_str(r#"{"type":"x""#);
            }
            1 => {
                self.body.push_str(r#"{"type":"function","name":"f","parameters":"#);
                self.object(1, &["properties", "type", "anyOf"]);
            }
            _ => {
                self.body.push_str(r#"{"type":"function","function":{"name":"f","parameters":"#);
                self.object(1, &["properties", "type", "anyOf"]);
                self.unknown();
                self.body.push('}');
            }
        }
        self.unknown();
        self.body.push('}');
    }

    fn request(&mut self) {
        self.body.push_str(r#"{"model":"qwen3-max","stream":true,"messages":["#);
        for at in 0..1 + self.next() % 4 {
            if at > 0 {
                self.body.push(',');
            }
            let unit = self.unit(Self::message);
            self.again(&unit, ",");
        }
        self.body.push(']');
        if self.next() % 2 == 0 {
            self.body.push_str(",\"tools\":");
            self.list(Self::tool);
        }
        match self.next() % 8 {
            0 => {
                self.body.push_str(",\"stop\":");
                self.list(Self::text);
            }
            1 => {
                self.body.push_str(",\"response_format\":");
                self.object(1, &["type", "json_schema"]);
            }
            2 => {
                self.body.push_str(",\"chat_template_kwargs\":");
                self.object(1, &["enable_thinking"]);
            }
            _ => {}
        }
        self.unknown();
        self.body.push('}');
    }
}

fn ask<S, A>(stack: S, body: Bytes)
where
    S: Service<Request<FullBody>, Response = Response<A>, Error = Infallible>,
    A: http_body::Body<Data = Bytes, Error = Infallible>,
{
    let request = Request::post("/v1/chat/completions")
        .header("authorization", "Bearer k")
        .body(FullBody::new(body))
        .expect("a request");
    RUNTIME.block_on(async {
        let Ok(response) = stack.oneshot(request).await;
        let Ok(_) = response.into_body().collect().await;
    });
}

fn run(kind: u8, body: Bytes, emulator: Emulator) {
    let mut limits = Limits::new();
    limits.messages = ITEMS;
    limits.parts = ITEMS;
    limits.calls = ITEMS;
    limits.tools = ITEMS;
    limits.stops = ITEMS;
    let edge = ServiceBuilder::new().layer(OpenAiLayer::new().limits(limits));
    let below = Below(emulator);
    let web =
        || edge.clone().layer(SessionLayer::new(MemoryStore::default())).layer(DedupLayer::new());
    let prompted = |format| {
        let tools = ToolCallLayer::prompted_in(format);
        web().layer(tools).layer(QwenWebLayer::new()).service(below.clone())
    };
    let compatible = |tools: ToolCallLayer| {
        edge.clone().layer(tools).layer(CompatibleLayer::new(Server::Vllm)).service(below.clone())
    };
    match kind % KINDS {
        0 => ask(prompted(Dialect::Hermes), body),
        1 => ask(prompted(Dialect::Coder), body),
        2 => ask(prompted(Dialect::Xml), body),
        3 => {
            let stack = edge
                .clone()
                .layer(SessionLayer::new(MemoryStore::default()))
                .layer(ToolWrapLayer::new())
                .layer(DedupLayer::new())
                .layer(QwenWebLayer::new())
                .service(below.clone());
            ask(stack, body);
        }
        4 => ask(compatible(ToolCallLayer::native()), body),
        5 => ask(compatible(ToolCallLayer::native_with_rescue()), body),
        _ => ask(compatible(ToolCallLayer::prompted()), body),
    }
}

const KINDS: u8 = 7;

fuzz_target!(|data: &[u8]| {
    let Some((&kind, program)) = data.split_first() else { return };
    let mut grammar = Grammar { program, body: String::new() };
    grammar.request();
    // Units of units may be larger than there was room for.
    if grammar.body.len() > 2 * BODY {
        return;
    }
    let has_schemas = grammar.body.contains("\"parameters\"");
    let body = Bytes::from(grammar.body);
    let emulated = if kind % KINDS < 4 { Kind::Web } else { Kind::Vllm };
    let emulator = Emulator::builder().kind(emulated).build();
    let ask = || measure(|| run(kind, body.clone(), emulator.clone()));
    #[cfg(fuzzing)]
    let (info, steps) = tower_qwen::steps::of(ask);
    #[cfg(not(fuzzing))]
    let info = ask();
    let most = 4 * body.len() + 5 * ITEMS * ITEM + CONSTANT + if has_schemas { SCHEMAS } else { 0 };
    assert!(
        info.bytes_max <= most as u64,
        "{} bytes for {} of {:.200}, more than {most}",
        info.bytes_max,
        body.len(),
        String::from_utf8_lossy(&body),
    );
    #[cfg(fuzzing)]
    assert!(
        steps <= STEPS_A_BYTE * (body.len() + 4096),
        "{steps} steps for {} bytes of {:.200}",
        body.len(),
        String::from_utf8_lossy(&body),
    );
});
