//! The model catalogue over an upstream of this file's own.
// Helpers of tests are not tests to the lint.
#![allow(clippy::unwrap_used)]

mod traced;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use tower::{Service, service_fn};
use tower_qwen::{
    CredentialHeaders, Error, ErrorKind, FullBody,
    qwen::models::{self, Model},
};

const CATALOGUE: &str = r#"{"data": [
    {"id": "qwen3-max", "name": "Qwen3-Max", "object": "model", "owned_by": "qwen",
     "info": {"id": "qwen3-max", "meta": {"max_context_length": 262144}, "created_at": 1732000000}},
    {"id": "bare"}, {"name": "no id"}, 7
]}"#;
const UNAUTHORIZED: &str = r#"{"success":false,"data":{"code":"Unauthorized","details":"x"}}"#;

type Answer = Response<FullBody>;
type Answered = Ready<Result<Answer, Infallible>>;
type Calls = Arc<Mutex<Vec<(HeaderMap, bool)>>>;

type Answers = Arc<Mutex<std::vec::IntoIter<&'static str>>>;

/// A way to an upstream that gives `answers` in turn and notes the requests that it got, and
/// whether this is the way without a credential.
fn upstream(
    answers: &Answers,
    calls: &Calls,
    anonymous: bool,
) -> impl Service<Request<FullBody>, Response = Answer, Error = Infallible, Future = Answered> {
    let (answers, calls) = (Arc::clone(answers), Arc::clone(calls));
    service_fn(move |request: Request<FullBody>| {
        assert_eq!((request.method().as_str(), request.uri().path()), ("GET", "/api/models"));
        calls.lock().unwrap().push((request.headers().clone(), anonymous));
        let answer = answers.lock().unwrap().next().expect("one call more than answers");
        ready(Ok(Response::new(answer.into())))
    })
}

async fn list(answers: &[&'static str]) -> (Result<Vec<Model>, Error>, Calls) {
    traced::on();
    let (answers, calls) = (Arc::new(Mutex::new(Vec::from(answers).into_iter())), Calls::default());
    let [own, anonymous] = [false, true].map(|anonymous| upstream(&answers, &calls, anonymous));
    let cookie = HeaderValue::from_static("token=demo");
    let credential = CredentialHeaders::new([(header::COOKIE, cookie)]);
    (models::list_web(own, anonymous, Some(&credential)).await, calls)
}

#[tokio::test]
async fn the_catalogue_is_read() {
    let (models, calls) = list(&[CATALOGUE]).await;
    let models = models.unwrap();
    assert_eq!(models.len(), 2, "what has no id is no model");
    assert_eq!(models[0].id, "qwen3-max");
    assert_eq!(models[0].created, 1_732_000_000);
    assert_eq!(models[0].owned_by, "qwen");
    let extra = models[0].extra.to_map().expect("fields");
    assert_eq!(extra["name"], "Qwen3-Max");
    assert_eq!(extra["info"]["meta"]["max_context_length"], 262_144);
    assert!(!extra.contains_key("id") && !extra.contains_key("object"));
    assert_eq!((models[1].created, models[1].owned_by.as_str()), (0, "qwen"));
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].0["cookie"], "token=demo");
    assert!(!calls[0].1);
}

#[tokio::test]
async fn the_envelope_of_the_second_version_is_read() {
    let (models, _) = list(&[r#"{"success":true,"data":{"data":[{"id":"a"}]}}"#]).await;
    assert_eq!(models.unwrap()[0].id, "a");
}

#[tokio::test]
async fn a_refused_credential_is_left_out() {
    let (models, calls) = list(&[UNAUTHORIZED, CATALOGUE]).await;
    assert_eq!(models.unwrap().len(), 2);
    let calls = calls.lock().unwrap();
    assert!(calls[1].1, "by the way that puts none on");
    assert!(!calls[1].0.contains_key("cookie"));
}

#[tokio::test]
async fn refused_twice_the_first_refusal_counts() {
    let (models, calls) = list(&[UNAUTHORIZED, r#"{"data":7}"#]).await;
    assert!(models.expect_err("refused").is_auth());
    assert_eq!(calls.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_challenge_is_not_provoked_again() {
    let (models, calls) = list(&["<!doctypehtml><html></html>"]).await;
    assert!(models.expect_err("challenged").is_challenge());
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_no_catalogue_is_an_upstream_error() {
    for none in ["{}", "[]", r#"{"data":["qwen3-max"]}"#] {
        let (models, _) = list(&[none, "[]"]).await;
        assert_eq!(models.expect_err(none).kind(), ErrorKind::Upstream);
    }
}
