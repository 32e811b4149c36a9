//! An answer that is not streamed.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::{
    Dialect,
    said::{Delta, NativeCall, Said},
    script::{Ending, ended},
    wire::{Spent, Wire},
};
use crate::{
    body::{Body, Step},
    envelope::json_with,
    kind::Kind,
};

/// What the model came to say.
#[derive(Default)]
struct Collected {
    reasoning: String,
    text: String,
    calls: Vec<NativeCall>,
}

/// The answer in one piece.
pub(super) fn response(
    mut said: Said,
    wire: &mut Wire,
    ending: &Ending,
    after: Option<usize>,
) -> Response<Body> {
    let whole_calls = wire.sends_whole_calls();
    let mut collected = Collected::default();
    let mut spent = Spent::default();
    let limit = wire.limit.unwrap_or(usize::MAX).min(after.unwrap_or(usize::MAX));
    let mut sent = 0;
    while sent < limit {
        let Some(delta) = said.advance(whole_calls) else { break };
        match &delta {
            Delta::Reasoning(..) => spent.reasoning += 1,
            _ => spent.text += 1,
        }
        collected.take(&delta, whole_calls);
        sent += 1;
    }
    let cut = said.advance(true).is_some();
    let broken = cut && after.is_some_and(|after| sent >= after);
    let Collected { reasoning, text, calls } = &collected;
    let Dialect { kind, .. } = wire.dialect;
    let ended = if broken && kind == Kind::DashScope {
        // DashScope: at its limit of time it gives what there is, and no reason.
        None
    } else {
        Some(ended(&said, cut))
    };
    let answer = wire.whole(reasoning, text, calls, ended, spent);
    match ending {
        Ending::Close if broken && kind == Kind::DashScope => json_with(StatusCode::OK, &answer),
        Ending::Close | Ending::Reset | Ending::Stall if broken => {
            let json = answer.to_string().into_bytes();
            let half = Bytes::from(json).split_to(answer.to_string().len() / 2);
            let step = match ending {
                Ending::Close => Step::End,
                Ending::Reset => Step::Fail,
                _ => Step::Hold,
            };
            let mut response = Response::new(Body::broken(half, step));
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        _ => json_with(StatusCode::OK, &answer),
    }
}

impl Collected {
    fn take(&mut self, delta: &Delta<'_>, whole_calls: bool) {
        match delta {
            Delta::Reasoning(thought, _) => self.reasoning.push_str(thought),
            Delta::Text(piece, _) => self.text.push_str(piece),
            Delta::Call(_, call) => {
                let mut call = (*call).clone();
                if !whole_calls {
                    call.arguments.clear();
                }
                self.calls.push(call);
            }
            Delta::Arguments { piece, .. } => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments.push_str(piece);
                }
            }
        }
    }
}
