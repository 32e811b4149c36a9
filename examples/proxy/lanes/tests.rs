use axum::http::StatusCode;
use futures_util::stream;
use http_body_util::BodyExt;
use serde_json::json;
use tower::{BoxError, service_fn};
use tower_qwen::{FullBody, ollama::untagged};

use super::{super::config::Options, *};

/// An upstream that says its name and repeats the body, with these models in its catalogue.
fn lane(name: &'static str, patterns: &[&str], models: &'static [&'static str]) -> Lane {
    let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
    let patterns = (!patterns.is_empty()).then_some(patterns);
    let echo = |route: &'static str| {
        Route::new(service_fn(move |request: Request| async move {
            let body = request.into_body().collect().await.expect("a body").to_bytes();
            let said = [name.as_bytes(), b" ", route.as_bytes(), b" ", &body].concat();
            Ok(Response::new(Body::from(said)))
        }))
    };
    let catalogue = service_fn(move |_: axum::http::Request<FullBody>| async move {
        if models.is_empty() {
            return Err(BoxError::from("it is gone"));
        }
        let data: Vec<_> = models.iter().map(|id| json!({"id": id})).collect();
        Ok(axum::http::Response::new(FullBody::from(json!({"data": data}).to_string())))
    });
    let models = Catalogue::web(catalogue, catalogue);
    Lane {
        name: HeaderValue::from_static(name),
        patterns: Patterns::parse(patterns).expect("valid"),
        chat: echo("chat"),
        xml: echo("xml"),
        messages: echo("messages"),
        responses: echo("responses"),
        ollama: OllamaRoutes {
            chat: echo("ollama chat"),
            generate: echo("ollama generate"),
            embed: echo("ollama embed"),
            embeddings: echo("ollama embeddings"),
        },
        can: Can { tools: true, images: true },
        completions: echo("completions"),
        infill: None,
        embeddings: echo("embeddings"),
        media: MediaRoutes {
            images: echo("images"),
            edits: echo("edits"),
            videos: echo("videos"),
            begin: echo("begin"),
            jobs: None,
        },
        speech: echo("speech"),
        transcriptions: echo("transcriptions"),
        translations: echo("translations"),
        rerank: echo("rerank"),
        variants: Variants::new(models.clone(), Suffix::WEB),
        models,
        chats: None,
        desk: Desk::unmanned(),
        reach: Reach::new(),
    }
}

fn two() -> Lanes {
    Lanes::new(vec![
        lane("web", &[], &["qwen3-max", "qwen3-coder-plus"]),
        lane("local", &["qwen3-coder-*"], &["qwen3-coder-30b", "other"]),
    ])
}

fn ids(list: Models) -> Vec<String> {
    list.models.iter().map(|model| model.id.to_string()).collect()
}

fn ask(body: impl Into<Body>) -> Request {
    Request::post("/").body(body.into()).expect("a request")
}

async fn said(response: Response) -> (StatusCode, String, String) {
    let name =
        response.headers().get(X_QWEN_UPSTREAM).map_or("", |name| name.to_str().expect("ASCII"));
    let (status, name) = (response.status(), name.to_owned());
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, name, String::from_utf8(body.into()).expect("UTF-8"))
}

#[tokio::test]
async fn the_model_decides_who_answers_and_the_body_arrives_whole() {
    for (body, name) in [
        (r#"{"model":"qwen3-max","messages":[]}"#, "web"),
        (r#"{"messages":[{"model":"qwen3-max"}],"model":"qwen3-coder-30b"}"#, "local"),
        (r#"{"model":"qwen3-coder-\u0033"}"#, "local"),
        ("\u{feff}{\"model\":\"qwen3-coder-30b\"}", "local"),
        (r#"{"mod\u0065l":"qwen3-coder-30b"}"#, "local"),
        (r#"{"model":null,"model":"qwen3-coder-30b"}"#, "local"),
        // The first upstream's edge says what is wrong with these.
        ("{}", "web"),
        (r#"{"model":null}"#, "web"),
    ] {
        let (status, by, text) = said(two().serve(ask(body), |lane| &lane.chat).await).await;
        assert_eq!((status, &*by), (StatusCode::OK, name), "{body}");
        assert_eq!(text, format!("{name} chat {body}"));
    }
    let body = r#"{"model":"qwen3-coder-30b"}"#;
    let (_, _, text) = said(two().serve(ask(body), |lane| &lane.xml).await).await;
    assert_eq!(text, format!("local xml {body}"));
}

/// Names: the tag that every name has with Ollama is none, unless an upstream has it.
#[tokio::test]
async fn the_usual_tag_does_not_decide_who_answers() {
    let lanes = || {
        Lanes::new(vec![
            lane("web", &["qwen3-max"], &["qwen3-max"]),
            lane("local", &["coder:latest"], &["coder:latest"]),
        ])
    };
    for (model, name) in [
        ("qwen3-max", "web"),
        ("qwen3-max:latest", "web"),
        ("coder:latest", "local"),
        ("qwen3-max:8b", ""),
    ] {
        let request = ask(format!(r#"{{"model":"{model}"}}"#));
        let answer = lanes().serve_by(request, |lane| &lane.ollama.chat, untagged).await;
        let (status, by, text) = said(answer).await;
        assert_eq!(by, name, "{model}: {status} {text}");
    }
    // Other clients mean what they say.
    let answer = lanes().serve(ask(r#"{"model":"qwen3-max:latest"}"#), |lane| &lane.chat).await;
    assert_eq!(said(answer).await.0, StatusCode::NOT_FOUND);
}

/// Whoever got it might find another model in it.
#[tokio::test]
async fn a_body_that_cannot_be_read_goes_to_nobody() {
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(1 << 20));
    for body in [
        r#"{"model":"qwen3-coder-30b""#,
        r#"{"model":"qwen3-coder-30b",}"#,
        r#"{"model":7}"#,
        r#"{"model":"qwen3-coder-30b","model":"qwen3-max"}"#,
        r#"[{"model":"qwen3-coder-30b"}]"#,
        "\u{feff}\u{feff}{\"model\":\"qwen3-coder-30b\"}",
        "",
        &long,
    ] {
        let (status, by, text) =
            said(two().serve(ask(body.to_owned()), |lane| &lane.chat).await).await;
        assert_eq!((status, &*by), (StatusCode::BAD_REQUEST, ""), "{text}");
        assert!(text.starts_with(r#"{"error":{"#) && text.len() < 600, "{text}");
    }
}

#[tokio::test]
async fn a_model_that_nobody_has_is_an_error() {
    let lanes = Lanes::new(vec![lane("a", &["a-*"], &["a-1"]), lane("b", &["b-1"], &["b-1"])]);
    let (status, by, text) =
        said(lanes.serve(ask(r#"{"model":"c"}"#), |lane| &lane.chat).await).await;
    assert_eq!((status, &*by), (StatusCode::NOT_FOUND, ""));
    assert!(text.contains("model_not_found") && text.contains("`c`"), "{text}");
    lanes.model("c", false).await.expect_err("nobody has it");
    let long = lanes.model(&"c".repeat(50_000), false).await.expect_err("nobody has it");
    assert!(long.to_string().len() < 100);
    lanes.model("a-2", false).await.expect_err("it is not in the catalogue");
    assert_eq!(ids(lanes.model("b-1", true).await.expect("known")), ["b-1"]);
}

#[tokio::test]
async fn a_body_that_is_too_large_or_breaks_off_is_an_error() {
    let large = vec![b' '; MAX_BODY + 1];
    let response = two().serve(ask(large), |lane| &lane.chat).await;
    assert_eq!(said(response).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let broken = stream::iter([Ok("{"), Err(BoxError::from("gone"))]);
    let response = two().serve(ask(Body::from_stream(broken)), |lane| &lane.chat).await;
    assert_eq!(said(response).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_catalogue_is_that_of_all_of_them() {
    // What somebody else is asked for is not listed.
    assert_eq!(
        ids(two().list_models(false, false).await.expect("both")),
        ["qwen3-max", "qwen3-coder-30b"]
    );
    let gone = || lane("gone", &["x"], &[]);
    let half = Lanes::new(vec![gone(), lane("web", &[], &["qwen3-max"])]);
    assert_eq!(ids(half.list_models(false, false).await.expect("one of them")), ["qwen3-max"]);
    Lanes::new(vec![gone()]).list_models(false, false).await.expect_err("none of them");
}

#[tokio::test(start_paused = true)]
async fn a_list_is_kept_and_an_old_one_is_said_to_be() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let asked = Arc::new(AtomicUsize::new(0));
    let mut lane = lane("web", &[], &["unused"]);
    lane.models = Catalogue::new({
        let asked = Arc::clone(&asked);
        move || {
            let turn = asked.fetch_add(1, Ordering::Relaxed);
            std::future::ready(match turn {
                0 | 1 => Ok(vec![Model::new(format!("m-{turn}"), "qwen")]),
                _ => Err(Error::new(ErrorKind::Upstream, "it is gone")),
            })
        }
    });
    let lanes = Lanes::new(vec![lane]);
    let list = async |anew| {
        let list = lanes.list_models(anew, false).await.expect("a list");
        (json!(list.models[0].id.as_str()), list.stale)
    };
    assert_eq!(list(false).await, (json!("m-0"), None));
    assert_eq!(list(false).await, (json!("m-0"), None));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(list(true).await, (json!("m-1"), None));
    // The upstream is gone when the hour is over.
    let hour = Duration::from_secs(3600);
    tokio::time::advance(hour).await;
    assert_eq!(list(false).await, (json!("m-1"), Some(hour)));
    assert_eq!(list(true).await, (json!("m-1"), Some(hour)));
    assert_eq!(lanes.model("m-1", false).await.expect("kept").stale, Some(hour));
}

/// Who is asked is decided by the model that is meant.
#[tokio::test]
async fn another_name_leads_to_whoever_has_the_model() {
    let args =
        ["--alias", "claude-*haiku*=qwen3-coder-30b,claude-*=qwen3-max,qwen3-coder-plus=qwen3-max"];
    let names = Options::of(&args).resolve().expect("valid").names;
    let lanes = two().names(names);
    for (model, name) in [
        ("claude-haiku-4-5", "local"),
        ("claude-opus-4-5", "web"),
        ("qwen3-coder-plus", "web"),
        ("qwen3-coder-30b", "local"),
        ("other", "web"),
    ] {
        let body = json!({"model": model}).to_string();
        let (status, by, text) =
            said(lanes.serve(ask(body.clone()), |lane| &lane.chat).await).await;
        assert_eq!((status, &*by), (StatusCode::OK, name), "{model}");
        assert_eq!(text, format!("{name} chat {body}"), "the edge keeps the client's word");
    }
    assert_eq!(
        ids(lanes.model("claude-haiku-4-5", false).await.expect("known")),
        ["claude-haiku-4-5"]
    );
    // Who has a model is not changed by another name for it.
    assert_eq!(
        ids(lanes.list_models(false, false).await.expect("both")),
        ["qwen3-max", "qwen3-coder-30b"]
    );
}
