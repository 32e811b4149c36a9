//! Files for chat.qwen.ai: uploaded through the layer, and seen by the emulator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Request, Response};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
use tower_qwen::{
    AccountName, BoxError, Error, ErrorKind, FullBody,
    chat::{Answer, ChatRequest, Content, Message, Part, PartKind, Role, Tenant},
    qwen::{
        upload::UploadLayer,
        web::{AnswerStream, QwenWebLayer},
    },
};
use tower_qwen_emulator::{Body, Emulator};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

fn image() -> PartKind {
    PartKind::Image { url: data("image/png", PNG), detail: None }
}

fn data(media_type: &str, bytes: &[u8]) -> tower_qwen::Text {
    format!("data:{media_type};base64,{}", STANDARD.encode(bytes)).into()
}

fn document(name: &str, text: &str) -> PartKind {
    let data = Some(data("text/plain", text.as_bytes()));
    let file: Part = Part::new(PartKind::File { id: None, data, name: Some(name.into()) });
    file.kind
}

fn request(parts: impl IntoIterator<Item = PartKind>) -> ChatRequest {
    let mut message = Message::new(Role::User, "");
    let text = [Part::text("What is this?")];
    message.content =
        Some(Content::Parts(text.into_iter().chain(parts.into_iter().map(Part::new)).collect()));
    ChatRequest::new("qwen3-max", vec![message])
}

type Stack = BoxCloneService<Request<ChatRequest>, Response<AnswerStream<Body>>, Error>;

fn stack(
    emulator: &Emulator,
    set: impl FnOnce(UploadLayer<Emulator, Emulator>) -> UploadLayer<Emulator, Emulator>,
) -> Stack {
    let layer = set(UploadLayer::new(emulator.clone(), emulator.clone()));
    let service = ServiceBuilder::new().layer(layer).layer(QwenWebLayer::new());
    BoxCloneService::new(service.service(emulator.clone()))
}

async fn ask(stack: &Stack, request: ChatRequest) -> Result<String, Error> {
    let response = stack.clone().oneshot(Request::new(request)).await?;
    Ok(Answer::collect(response.into_body()).await?.text)
}

fn paths(emulator: &Emulator) -> Vec<String> {
    let paths = emulator.requests().into_iter().map(|request| {
        let path = request.path().to_owned();
        if request.method == http::Method::PUT { "PUT".to_owned() } else { path }
    });
    paths.collect()
}

#[tokio::test(start_paused = true)]
async fn an_image_is_put_to_the_store_and_shown_to_the_model() {
    let emulator = Emulator::new();
    let text = ask(&stack(&emulator, |layer| layer), request([image()])).await.expect("an answer");
    assert!(text.contains("with 1 file"), "{text}");
    assert!(text.contains("The image image.png is image/png, 16 bytes"), "{text}");
    let [file] = &emulator.files()[..] else { panic!("one file") };
    assert_eq!((&*file.kind, &*file.media_type, &file.content[..]), ("image", "image/png", PNG));
    assert_eq!(
        paths(&emulator),
        ["/api/v2/files/getstsToken", "PUT", "/api/v2/chats/new", "/api/v2/chat/completions"],
    );
    // Nothing of the account goes to the store.
    let put = emulator.requests().into_iter().find(|request| request.method == http::Method::PUT);
    let put = put.expect("a file was put");
    assert!(put.uri.host().is_some_and(|host| host.ends_with(".aliyuncs.com")), "{}", put.uri);
    assert!(put.headers.get("cookie").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_document_is_waited_for_until_it_is_parsed() {
    let emulator = Emulator::new();
    let stack = stack(&emulator, |layer| layer);
    let begun = tokio::time::Instant::now();
    let text = "The first line.\nemulate:parse_slow=2";
    let answer = ask(&stack, request([document("notes.txt", text)])).await.expect("an answer");
    assert!(answer.contains("The file notes.txt is text/plain"), "{answer}");
    assert!(answer.contains("It begins: The first line."), "{answer}");
    assert_eq!(begun.elapsed(), Duration::from_secs(4));
    let polls = paths(&emulator).iter().filter(|path| path.ends_with("/parse/status")).count();
    assert_eq!(polls, 3);
}

#[tokio::test(start_paused = true)]
async fn several_files_stand_in_their_order_and_are_put_at_the_same_time() {
    let emulator = Emulator::new();
    let stack = stack(&emulator, |layer| layer);
    let begun = tokio::time::Instant::now();
    let files = (0..5).map(|n| document(&format!("{n}.txt"), &format!("{n} emulate:upload_slow")));
    let answer = ask(&stack, request(files)).await.expect("an answer");
    let places: Vec<_> =
        (0..5).map(|n| answer.find(&format!("The file {n}.txt")).expect("all are there")).collect();
    assert!(places.is_sorted(), "{answer}");
    // Four at a time.
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_tool_s_picture_and_older_ones_are_uploaded_too() {
    let emulator = Emulator::new();
    let mut chat = request([image()]);
    let mut result = Message::new(Role::Tool, "");
    result.tool_call_id = Some("call_1".into());
    result.content = Some(Content::Parts(vec![
        Part::text("A shot:"),
        Part::image(data("image/gif", b"GIF89a\x01\0\x01\0")),
    ]));
    chat.history.push(result);
    let answer = ask(&stack(&emulator, |layer| layer), chat).await.expect("an answer");
    assert!(
        answer.contains("The image image.png is") && answer.contains("The image image-2.gif is")
    );
    let turn = emulator.requests().pop().expect("a turn");
    let content = turn.body["messages"][0]["content"].as_str().expect("a text").to_owned();
    assert!(content.contains("What is this?[image 1]"), "{content}");
    assert!(content.contains("A shot:[image 2]"), "{content}");
}

#[tokio::test(start_paused = true)]
async fn text_alone_passes_and_nothing_is_asked() {
    let emulator = Emulator::new();
    let answer = ask(&stack(&emulator, |layer| layer), request([])).await.expect("an answer");
    assert!(answer.contains("What is this?"));
    assert_eq!(paths(&emulator), ["/api/v2/chats/new", "/api/v2/chat/completions"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_file_of_the_same_tenant_and_account_is_used_again_for_two_minutes() {
    let emulator = Emulator::new();
    let stack = stack(&emulator, |layer| layer);
    let of = |tenant: Option<u8>, account: &str| {
        let mut request = request([image()]);
        request.tenant = tenant.map(|tenant| Tenant::from_digest([tenant; 32]));
        request.account = Some(AccountName::from(account));
        request
    };
    let uploads = |wanted: usize| assert_eq!(emulator.files().len(), wanted);
    ask(&stack, of(Some(1), "work")).await.expect("an answer");
    ask(&stack, of(Some(1), "work")).await.expect("an answer");
    uploads(1);
    ask(&stack, of(Some(2), "work")).await.expect("an answer");
    uploads(2);
    ask(&stack, of(Some(1), "home")).await.expect("an answer");
    uploads(3);
    // Clients that nobody can tell apart share nothing.
    ask(&stack, of(None, "work")).await.expect("an answer");
    ask(&stack, of(None, "work")).await.expect("an answer");
    uploads(5);
    tokio::time::advance(Duration::from_secs(119)).await;
    ask(&stack, of(Some(1), "work")).await.expect("an answer");
    uploads(5);
    tokio::time::advance(Duration::from_secs(1)).await;
    ask(&stack, of(Some(1), "work")).await.expect("an answer");
    uploads(6);
}

#[tokio::test(start_paused = true)]
async fn what_upstream_refuses_is_an_error_with_its_words() {
    for (name, kind, words, param) in [
        ("emulate:upload_quota=3", ErrorKind::Quota, "upper limit", None),
        ("emulate:upload_unauthorized", ErrorKind::Auth, "401", None),
        ("emulate:upload_moderated", ErrorKind::ContentFilter, "inappropriate", Some(1)),
        (
            "emulate:upload_refused",
            ErrorKind::Upstream,
            "403 Forbidden, AccessDenied: You have",
            None,
        ),
        ("emulate:upload_failed", ErrorKind::Upstream, "InternalError", None),
        ("emulate:parse_failed", ErrorKind::InvalidRequest, "holds no text that can", Some(1)),
    ] {
        let emulator = Emulator::new();
        let stack = stack(&emulator, |layer| layer);
        let asks = request([document(&format!("{name}.txt"), "hello")]);
        let error = ask(&stack, asks).await.expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.message().contains(words), "{name}: {error}");
        let param = param.map(|part| format!("messages[0].content[{part}]"));
        assert_eq!(error.param(), param.as_deref(), "{name}");
        // Nobody opened a chat for it.
        assert!(emulator.chats().is_empty(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_turn_refuses_of_a_file_is_an_error_before_the_commit_point() {
    for (directive, kind) in [
        ("emulate:moderated", ErrorKind::ContentFilter),
        ("emulate:url_expired", ErrorKind::InvalidRequest),
    ] {
        let emulator = Emulator::new();
        let picture = [PNG, b" ", directive.as_bytes()].concat();
        let picture = PartKind::Image { url: data("image/png", &picture), detail: None };
        let stack = stack(&emulator, |layer| layer);
        let error = stack.oneshot(Request::new(request([picture]))).await.expect_err(directive);
        assert_eq!(error.kind(), kind, "{directive}: {error}");
    }
}

/// An address that upstream does not take is not given to it twice.
#[tokio::test(start_paused = true)]
async fn what_a_turn_was_refused_with_is_uploaded_again() {
    let emulator = Emulator::new();
    let stack = stack(&emulator, |layer| layer);
    for uploads in 1..=2 {
        let picture = [PNG, b" emulate:url_expired"].concat();
        let mut asks =
            request([PartKind::Image { url: data("image/png", &picture), detail: None }]);
        asks.tenant = Some(Tenant::from_digest([1; 32]));
        let error = ask(&stack, asks).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert_eq!(emulator.files().len(), uploads);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_goes_to_no_host_but_the_stores() {
    let emulator = Emulator::new();
    let name = "emulate:upload_host=files.example)";
    let asks = request([document(&format!("{name}.txt"), "hello")]);
    let stack_of = |hosts: &'static [&'static str]| {
        stack(&emulator, |layer| if hosts.is_empty() { layer } else { layer.hosts(hosts.to_vec()) })
    };
    let error = ask(&stack_of(&[]), asks.clone()).await.expect_err("elsewhere");
    assert_eq!(error.kind(), ErrorKind::Upstream);
    assert!(error.message().contains("qwen-webui-emulated.files.example"), "{error}");
    assert!(!paths(&emulator).contains(&"PUT".to_owned()));
    ask(&stack_of(&["files.example"]), asks).await.expect("allowed");
}

#[tokio::test(start_paused = true)]
async fn a_document_that_is_never_parsed_is_given_up() {
    let emulator = Emulator::new();
    let stack = stack(&emulator, |layer| layer.deadline(Duration::from_secs(60)));
    let asks = request([document("a.txt", "emulate:parse_slow=1000000")]);
    let begun = tokio::time::Instant::now();
    let error = ask(&stack, asks).await.expect_err("too slow");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("a.txt") && error.message().contains("60s"), "{error}");
    assert_eq!(begun.elapsed(), Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_cancels_what_is_under_way() {
    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    let running = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&running);
    let store = service_fn(move |_: Request<FullBody>| {
        counter.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(Arc::clone(&counter));
        async move {
            let _counted = counted;
            std::future::pending::<Result<Response<FullBody>, BoxError>>().await
        }
    });
    let emulator = Emulator::new();
    let service = UploadLayer::new(emulator.clone(), store)
        .layer(QwenWebLayer::new().layer(emulator.clone()));
    let files = (0..6).map(|n| document(&format!("{n}.txt"), "hello"));
    let mut call = tokio_test::task::spawn(service.oneshot(Request::new(request(files.take(5)))));
    tokio_test::assert_pending!(call.poll());
    while running.load(Ordering::SeqCst) < 4 {
        tokio::task::yield_now().await;
        tokio_test::assert_pending!(call.poll());
    }
    drop(call);
    while running.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(emulator.chats().is_empty());
}
