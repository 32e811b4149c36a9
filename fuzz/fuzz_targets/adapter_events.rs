//! The adapters' readers of events: any mixture of deviations is read as the answer that it stands for,
//! over either wire and however its bytes are cut; and any bytes are an answer or one error, the same
//! for every cut.
#![no_main]

#[path = "../../tests/deviations/mod.rs"]
mod deviations;
#[path = "../../tests/deviations/model.rs"]
mod model;

use std::convert::Infallible;

use arbitrary::Arbitrary;
use bytes::Bytes;
use deviations::Deviations;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use libfuzzer_sys::fuzz_target;
use model::Model;
use serde_json::{Value, json};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_qwen::{
    Error, ErrorKind, FullBody,
    chat::{Answer, ChatRequest, ChatStreamExt, Message, Role},
    qwen::{
        compatible::{CompatibleLayer, Server},
        web::QwenWebLayer,
    },
};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Deviating { seed: u64, said: Said<'a>, cut: u8 },
    Any { bytes: &'a [u8], json: bool, cut: u8 },
}

#[derive(Arbitrary, Debug)]
struct Said<'a> {
    thinking: Vec<&'a str>,
    text: Vec<&'a str>,
    calls: Vec<(bool, Vec<(&'a str, &'a str)>)>,
    piece: u8,
}

impl Said<'_> {
    fn model(&self) -> Model {
        // White space, tags and what stands for half a character are tested elsewhere.
        let plain = |text: &str| {
            let text: String = text.chars().filter(|c| c.is_alphanumeric()).collect();
            (!text.is_empty()).then_some(text)
        };
        let mut text: Vec<String> = self.text.iter().copied().filter_map(plain).collect();
        text.push("end".to_owned());
        Model {
            thinking: self.thinking.iter().copied().filter_map(plain).collect(),
            text,
            calls: self
                .calls
                .iter()
                .take(8)
                .map(|(which, members)| {
                    let name = if *which { "f" } else { "g" };
                    let members =
                        members.iter().map(|(key, value)| ((*key).to_owned(), json!(value)));
                    (name.to_owned(), Value::Object(members.collect()))
                })
                .collect(),
            piece: usize::from(self.piece).max(1),
        }
    }
}

#[derive(Clone, Copy)]
enum Wire {
    Compatible,
    Web,
}

async fn answer(wire: Wire, json: bool, body: Bytes, cut: usize) -> Result<Answer, Error> {
    let upstream = service_fn(move |request: Request<FullBody>| {
        let body = body.clone();
        async move {
            let (kind, body) = match request.uri().path() {
                "/api/v2/chats/new" => {
                    ("application/json", Bytes::from(r#"{"success":true,"data":{"id":"c"}}"#))
                }
                _ if json => ("application/json", body),
                _ => ("text/event-stream", body),
            };
            let frames: Vec<_> = (0..body.len())
                .step_by(cut)
                .map(|at| {
                    Ok::<_, Infallible>(Frame::data(
                        body.slice(at..body.len().min(at.saturating_add(cut))),
                    ))
                })
                .collect();
            let response = Response::builder().header("content-type", kind);
            Ok::<_, Infallible>(
                response.body(StreamBody::new(stream::iter(frames))).expect("a response"),
            )
        }
    });
    let request = Request::new(ChatRequest::new("m", vec![Message::new(Role::User, "x")]));
    match wire {
        Wire::Compatible => {
            let service = CompatibleLayer::new(Server::Generic).layer(upstream);
            Answer::collect(service.oneshot(request).await?.into_body().checked()).await
        }
        Wire::Web => {
            let layer = QwenWebLayer::new().delete_orphans(false).stop_on_drop(false);
            let service = layer.layer(upstream);
            Answer::collect(service.oneshot(request).await?.into_body().checked()).await
        }
    }
}

/// An answer without what the adapter makes up, or the kind of the error.
fn comparable(answer: Result<Answer, Error>) -> Result<Answer, ErrorKind> {
    let mut answer = answer.map_err(|error| error.kind())?;
    for call in &mut answer.tool_calls {
        if call.id.starts_with("call_") {
            call.id = "call".into();
        }
    }
    Ok(answer)
}

fuzz_target!(|input: Input<'_>| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    for wire in [Wire::Compatible, Wire::Web] {
        match &input {
            Input::Deviating { seed, said, cut } => {
                let model = said.model();
                let mut deviations = Deviations::new(*seed);
                let chunks = model.chunks();
                let events = chunks.into_iter().flat_map(|chunk| deviations.apply(chunk));
                let mut body: String = events.map(|data| format!("data: {data}\n\n")).collect();
                body.push_str("data: [DONE]\n\n");
                let cut = usize::from(*cut).max(1);
                let answer = runtime.block_on(answer(wire, false, body.into(), cut));
                let answer = answer.expect("an answer");
                assert_eq!(answer.text, model.text.concat());
                assert_eq!(answer.reasoning, model.thinking.concat());
                let calls = answer.tool_calls.iter().map(|call| {
                    let arguments = serde_json::from_str(&call.arguments).expect("JSON");
                    (call.name.to_string(), arguments)
                });
                assert_eq!(calls.collect::<Vec<(String, Value)>>(), model.calls);
            }
            Input::Any { bytes, json, cut } => {
                let bytes = Bytes::copy_from_slice(bytes);
                let at_once = runtime.block_on(answer(wire, *json, bytes.clone(), usize::MAX));
                let cut = usize::from(*cut).max(1);
                let in_pieces = runtime.block_on(answer(wire, *json, bytes, cut));
                assert_eq!(comparable(at_once), comparable(in_pieces));
            }
        }
    }
});
