//! DashScope's Responses API: it keeps what it answered, and a request that names an answer goes on
//! from it.
//!
//! `input` turns a request into one for chat completions, with what was kept in front of it; the
//! model and its faults are those of that route. `answer` writes what it says as events of a
//! response, and keeps it.

mod answer;
mod input;

use std::{collections::VecDeque, time::Duration};

use http::{Method, Response, StatusCode};
use tokio::time::Instant;

pub(super) use self::{answer::Answer, input::read};
use super::{
    Dialect,
    error::{Class, Fault},
};
use crate::{
    body::Body,
    envelope::json_with,
    json::{Value, json},
    state::Shared,
};

/// How long an answer can be gone on from.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How many answers are kept.
const KEPT: usize = 4_096;

/// The answers that can be gone on from, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Responses(VecDeque<Kept>);

/// One of them: all messages up to it, in the form of chat completions.
#[derive(Debug)]
struct Kept {
    id: String,
    messages: Vec<Value>,
    at: Instant,
}

impl Responses {
    fn get(&self, id: &str, now: Instant) -> Option<&Kept> {
        let kept = self.0.iter().rev().find(|kept| kept.id == id)?;
        (now.saturating_duration_since(kept.at) < KEPT_FOR).then_some(kept)
    }

    fn keep(&mut self, kept: Kept) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(kept);
    }

    /// Forgets one; whether it was known.
    pub(crate) fn forget(&mut self, id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|kept| kept.id != id);
        self.0.len() < before
    }

    /// The ids, the oldest first.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.0.iter().map(|kept| kept.id.clone()).collect()
    }
}

/// `GET` and `DELETE` of an answer that was kept.
pub(super) fn kept(
    shared: &Shared,
    dialect: Dialect,
    method: &Method,
    id: &str,
    request_id: &str,
) -> Response<Body> {
    let now = shared.clock.now();
    let is_known = shared.lock().responses.get(id, now).is_some();
    match *method {
        Method::GET if is_known => json_with(
            StatusCode::OK,
            &json!({"id": id, "object": "response", "status": "completed"}),
        ),
        Method::DELETE if is_known => {
            shared.lock().responses.forget(id);
            json_with(
                StatusCode::OK,
                &json!({"id": id, "object": "response.deleted", "deleted": true}),
            )
        }
        Method::GET | Method::DELETE => {
            shared.lock().counters.refusals += 1;
            let mut fault = Fault::bad(None, format!("Response with id '{id}' not found."));
            fault.status = Some(404);
            fault.response(dialect, request_id)
        }
        _ => super::not_here(dialect, false),
    }
}

/// What is said of an answer that is not there, or not any more.
fn not_found(id: &str) -> Fault {
    let message = format!("Previous response with id '{id}' not found.");
    let fault = Fault::bad(Some("previous_response_id"), message);
    debug_assert_eq!(fault.class, Class::BadRequest);
    fault
}
