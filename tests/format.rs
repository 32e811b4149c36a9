//! `response_format` for an upstream that has none: what the model is told, what the client gets.

mod traced;

use std::sync::{Arc, Mutex};

use futures_util::stream;
use http::{Request, Response};
use serde_json::json;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind,
    chat::{
        Answer, ChatEvent, ChatRequest, ChatStreamExt, Conversation, Destination, FinishReason,
        Json, Message, Part, PartKind, ResponseFormat, Role, Usage,
    },
    format::FormatLayer,
};

type Sent = Arc<Mutex<Vec<ChatRequest>>>;

/// What comes of a request with this format, where the model gives these answers in turn; and what
/// it was sent.
async fn asked(
    format: Option<ResponseFormat>,
    answers: &[&'static str],
    place: Option<&'static str>,
) -> (Result<Answer, Error>, Vec<ChatRequest>) {
    let mut request = ChatRequest::new("m", vec![Message::new(Role::User, "Where is it raining?")]);
    request.response_format = format;
    sent(request, answers, place, FinishReason::Stop).await
}

async fn sent(
    request: ChatRequest,
    answers: &[&'static str],
    place: Option<&'static str>,
    reason: FinishReason,
) -> (Result<Answer, Error>, Vec<ChatRequest>) {
    traced::on();
    let sent = Sent::default();
    let (log, answers) = (Arc::clone(&sent), answers.to_vec());
    let inner = service_fn(move |request: Request<ChatRequest>| {
        let mut log = log.lock().expect("not poisoned");
        let turn = log.len();
        log.push(request.into_body());
        let mut events = Vec::new();
        if let Some(place) = place {
            let place = Conversation::new(place).with_parent(format!("answer-{turn}"));
            events.push(Ok(ChatEvent::Started(place.into())));
        }
        events.push(Ok(ChatEvent::Reasoning("Hm.".into())));
        events.extend(
            answers[turn].split_inclusive(' ').map(|piece| Ok(ChatEvent::Text(piece.into()))),
        );
        events.push(Ok(ChatEvent::Finished(reason)));
        events.push(Ok(ChatEvent::Usage(Usage::new(7, 3))));
        std::future::ready(Ok::<_, Error>(Response::new(stream::iter(events))))
    });
    let service = ServiceBuilder::new().layer(FormatLayer::new()).service(inner);
    let answer = match service.oneshot(Request::new(request)).await {
        Ok(response) => Answer::collect(response.into_body().checked()).await,
        Err(error) => Err(error),
    };
    let sent = sent.lock().expect("not poisoned").clone();
    (answer, sent)
}

fn schema() -> ResponseFormat {
    ResponseFormat::JsonSchema(
        json!({
            "name": "weather",
            "schema": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        })
        .into(),
    )
}

#[tokio::test]
async fn the_model_is_told_and_its_json_is_given() {
    let (answer, sent) =
        asked(Some(schema()), &["Sure: ```json\n{\"city\":\"Oslo\"}\n``` Bye"], Some("c")).await;
    let answer = answer.expect("it fits");
    assert_eq!(answer.text, r#"{"city":"Oslo"}"#);
    assert_eq!(answer.reasoning, "Hm.");
    assert_eq!(answer.usage.map(|usage| usage.total_tokens), Some(10));
    assert_eq!(answer.conversation.expect("its place").parent_id.as_deref(), Some("answer-0"));
    let [request] = &sent[..] else { panic!("{} requests", sent.len()) };
    assert!(request.response_format.is_none());
    let told = request.history[0].text();
    assert!(told.starts_with("Where is it raining?\n\n"), "{told}");
    assert!(told.contains("\"city\":{\"type\":\"string\"}"), "the schema as it was sent: {told}");
}

#[tokio::test]
async fn it_is_told_behind_the_last_message_whatever_that_is() {
    let image = || Part::image("https://example.org/a.png");
    let result = || {
        let mut result = Message::new(Role::Tool, "4 °C");
        result.tool_call_id = Some("c1".into());
        result
    };
    let mut parts = Message::empty(Role::User);
    parts.content = Some(tower_qwen::chat::Content::Parts(vec![Part::text("Look:"), image()]));
    for (kind, message, count) in [
        ("parts", parts, 1),
        ("a result", result(), 2),
        ("nothing said", Message::empty(Role::User), 1),
    ] {
        let mut request = ChatRequest::new("m", vec![message]);
        request.response_format = Some(ResponseFormat::JsonObject);
        let (answer, sent) = sent(request, &["{}"], None, FinishReason::Stop).await;
        assert_eq!(answer.expect("an object").text, "{}", "{kind}");
        let history = &sent[0].history;
        assert_eq!(history.len(), count, "{kind}");
        let last = history.last().expect("there is one");
        assert_eq!(last.role, Role::User, "{kind}");
        assert!(last.text().contains("one JSON object"), "{kind}: {}", last.text());
        if kind == "parts" {
            let Some(tower_qwen::chat::Content::Parts(parts)) = &last.content else { panic!() };
            assert!(matches!(parts[1].kind, PartKind::Image { .. }), "media stay where they were");
        }
    }
}

/// In a chat the second try is one more turn of it; without one the whole history goes up again.
#[tokio::test]
async fn what_does_not_fit_is_asked_for_once_more() {
    for place in [Some("c"), None] {
        let answers = ["It rains in Oslo.", r#"{"city": "Oslo"}"#];
        let (answer, sent) = asked(Some(schema()), &answers, place).await;
        let answer = answer.expect("the second fits");
        assert_eq!(answer.text, r#"{"city": "Oslo"}"#);
        let [_, again] = &sent[..] else { panic!("{} requests", sent.len()) };
        let last = again.history.last().expect("a question").text();
        assert!(last.starts_with("That is not what was asked for: it is not valid JSON"), "{last}");
        assert!(last.contains("\"city\""), "{last}");
        match place {
            Some(place) => {
                let to = again.conversation().expect("the chat");
                assert_eq!((&*to.chat_id, to.parent_id.as_deref()), (place, Some("answer-0")));
                assert_eq!(again.history.len(), 1);
                // The next turn goes on from the answer that was given.
                let next = answer.conversation.expect("its place");
                assert_eq!(next.parent_id.as_deref(), Some("answer-1"));
            }
            None => {
                assert_eq!(again.destination, Destination::NEW);
                let roles: Vec<_> = again.history.iter().map(|message| message.role).collect();
                assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
            }
        }
    }
}

#[tokio::test]
async fn what_does_not_fit_twice_is_an_error() {
    let (answer, sent) = asked(Some(schema()), &["no", r#"{"town":"Oslo"}"#], Some("c")).await;
    let error = answer.expect_err("it does not fit");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Upstream, Some("response_format_not_kept"))
    );
    assert!(error.message().contains("lacks `city`"), "{error}");
    assert_eq!(sent.len(), 2);
}

/// What says itself that it is no answer is not asked for again.
#[tokio::test]
async fn an_answer_that_is_cut_is_given_as_it_is() {
    for reason in [FinishReason::Length, FinishReason::ContentFilter] {
        let mut request = ChatRequest::new("m", vec![Message::new(Role::User, "Hi")]);
        request.response_format = Some(ResponseFormat::JsonObject);
        let (answer, sent) = sent(request, &[r#"{"a":"#], None, reason).await;
        let answer = answer.expect("given");
        assert_eq!((answer.text.as_str(), answer.finish_reason), (r#"{"a":"#, Some(reason)));
        assert_eq!(sent.len(), 1);
    }
}

#[tokio::test]
async fn every_spelling_of_a_format_is_read() {
    let other = |json: serde_json::Value| {
        let json = Json::from(json);
        Some(ResponseFormat::Other(json))
    };
    let schema = json!({"type": "object", "required": ["a"]});
    for (kind, format, is_taken, is_told) in [
        ("none", None, true, false),
        ("text", Some(ResponseFormat::Text), true, false),
        ("text with more", other(json!({"type": "text", "x": 1})), true, false),
        ("an object", Some(ResponseFormat::JsonObject), true, true),
        (
            "an object with a schema",
            other(json!({"type": "json_object", "schema": schema})),
            true,
            true,
        ),
        (
            "a schema without a name",
            other(json!({"type": "json_schema", "schema": schema})),
            true,
            true,
        ),
        (
            "a schema with more",
            other(json!({"type": "json_schema", "json_schema": {"schema": schema}, "x": 1})),
            true,
            true,
        ),
        // The adapter below refuses it.
        ("another type", other(json!({"type": "structural_tag"})), false, false),
    ] {
        let (answer, sent) = asked(format, &[r#"{"a":1}"#], None).await;
        assert_eq!(answer.expect("it fits").text, r#"{"a":1}"#, "{kind}");
        assert_eq!(sent[0].response_format.is_none(), is_taken, "{kind}");
        assert_eq!(sent[0].history[0].text().contains("nothing else"), is_told, "{kind}");
    }
}

#[tokio::test]
async fn an_error_of_the_upstream_is_its_own() {
    let inner = service_fn(|_: Request<ChatRequest>| async {
        Err::<Response<stream::Empty<Result<ChatEvent, Error>>>, _>(Error::new(
            ErrorKind::Quota,
            "used up",
        ))
    });
    let mut request = ChatRequest::new("m", vec![Message::new(Role::User, "Hi")]);
    request.response_format = Some(ResponseFormat::JsonObject);
    let answer = FormatLayer::new().layer(inner).oneshot(Request::new(request)).await;
    assert!(answer.err().is_some_and(|error| error.is_quota()));
}

/// Without the layer nobody is told of the form, so it is no request for chat.qwen.ai.
#[tokio::test]
async fn over_the_web_the_layer_is_what_makes_it_work() {
    use tower_qwen::qwen::web::QwenWebLayer;
    use tower_qwen_emulator::Emulator;

    let ask = |format: ResponseFormat| {
        let text = r#"emulate:say={"a":1}"#;
        let mut request = ChatRequest::new("qwen3-max", vec![Message::new(Role::User, text)]);
        request.response_format = Some(format);
        Request::new(request)
    };
    let web = || QwenWebLayer::new().layer(Emulator::new());
    let refused = web().oneshot(ask(ResponseFormat::JsonObject)).await;
    assert_eq!(
        refused.err().and_then(|error| error.param().map(str::to_owned)),
        Some("response_format".into())
    );
    let plain = web().oneshot(ask(ResponseFormat::Text)).await.expect("answered");
    assert_eq!(Answer::collect(plain.into_body()).await.expect("whole").text, r#"{"a":1}"#);
    let formed = FormatLayer::new().layer(web()).oneshot(ask(ResponseFormat::JsonObject)).await;
    let answer = Answer::collect(formed.expect("answered").into_body().checked()).await;
    let answer = answer.expect("whole");
    assert_eq!(answer.text, r#"{"a":1}"#);
    assert!(answer.conversation.is_some());
}
