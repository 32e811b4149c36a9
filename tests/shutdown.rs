//! What `ShutdownLayer` ends, and how.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use allocation_counter::measure;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::{Request, Response, StatusCode};
use tokio::sync::oneshot;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::{
    Error, ErrorKind, Fate,
    chat::{ChatEvent, ChatRequest, FinishReason, Message, Role, Started, Usage},
    shutdown::{ShutdownHandle, ShutdownLayer, ShutdownStream},
};

type Item = Result<ChatEvent, Error>;
type Events = Pin<Box<dyn Stream<Item = Item> + Send>>;

fn request() -> Request<ChatRequest> {
    Request::new(ChatRequest::new("m", vec![Message::new(Role::User, "Hello")]))
}

fn text() -> Item {
    Ok(ChatEvent::Text("a".into()))
}

fn finished() -> Item {
    Ok(ChatEvent::Finished(FinishReason::Stop))
}

/// What the layer makes of an upstream with these events.
async fn answered(handle: &ShutdownHandle, events: Events) -> ShutdownStream<Events> {
    let mut events = Some(events);
    let service = ShutdownLayer::new(handle.clone()).layer(service_fn(move |_| {
        let events = events.take().expect("it is asked once");
        async move { Ok::<_, Error>(Response::new(events)) }
    }));
    service.oneshot(request()).await.expect("it answers").into_body()
}

/// `items`, and then nothing for ever; whoever waits for the other half sees it dropped.
fn stalls(items: Vec<Item>) -> (Events, oneshot::Receiver<()>) {
    let (held, dropped) = oneshot::channel();
    let waits = stream::once(async move {
        let _held: oneshot::Sender<()> = held;
        std::future::pending().await
    });
    (Box::pin(stream::iter(items).chain(waits)), dropped)
}

fn assert_cut(error: &Error, fate: Fate) {
    assert_eq!((error.kind(), error.fate()), (ErrorKind::Overloaded, fate), "{error:?}");
    assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(error.is_retryable() && error.message().contains("shutting down"), "{error}");
}

#[tokio::test]
async fn without_a_shutdown_nothing_changes() {
    let handle = ShutdownHandle::new();
    let events = || vec![text(), text(), finished(), Ok(ChatEvent::Usage(Usage::new(1, 2)))];
    let answer = answered(&handle, Box::pin(stream::iter(events()))).await;
    let items: Vec<_> = answer.map(|item| format!("{item:?}")).collect().await;
    let same: Vec<_> = events().iter().map(|item| format!("{item:?}")).collect();
    assert_eq!(items, same);
    assert!(!handle.is_shut_down());
}

#[tokio::test]
async fn a_stream_that_waits_is_woken_and_ends_with_an_error() {
    let handle = ShutdownHandle::new();
    let (events, mut dropped) = stalls(vec![text()]);
    let mut answer = task::spawn(answered(&handle, events).await);
    assert!(matches!(assert_ready!(answer.poll_next()), Some(Ok(ChatEvent::Text(_)))));
    assert_pending!(answer.poll_next());
    handle.shut_down();
    assert!(answer.is_woken());
    let Some(Err(error)) = assert_ready!(answer.poll_next()) else { panic!("no error") };
    assert_cut(&error, Fate::Abandoned);
    assert!(dropped.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
    assert!(assert_ready!(answer.poll_next()).is_none());
    assert!(assert_ready!(answer.poll_next()).is_none());
}

#[tokio::test]
async fn a_stream_that_always_has_more_ends_too() {
    let handle = ShutdownHandle::new();
    let mut answer = answered(&handle, Box::pin(stream::repeat_with(text))).await;
    assert!(answer.next().await.is_some_and(|item| item.is_ok()));
    handle.shut_down();
    assert_cut(&answer.next().await.expect("an item").expect_err("cut"), Fate::Abandoned);
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn an_answer_that_has_finished_is_complete() {
    let handle = ShutdownHandle::new();
    let (events, _) = stalls(vec![text(), finished()]);
    let mut answer = answered(&handle, events).await;
    for _ in 0..2 {
        assert!(answer.next().await.is_some_and(|item| item.is_ok()));
    }
    handle.shut_down();
    assert!(answer.next().await.is_none());
    // And so is one that was read to its end.
    let handle = ShutdownHandle::new();
    let mut answer = answered(&handle, Box::pin(stream::iter([text(), finished()]))).await;
    while answer.next().await.is_some() {}
    handle.shut_down();
    assert!(answer.next().await.is_none());
    // An error was its last item.
    let failed = Error::new(ErrorKind::Quota, "used up");
    let handle = ShutdownHandle::new();
    let mut answer = answered(&handle, Box::pin(stream::iter([Err(failed)]))).await;
    assert!(answer.next().await.is_some_and(|item| item.is_err_and(|error| error.is_quota())));
    handle.shut_down();
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn who_waits_for_the_first_event_gets_a_status() {
    let handle = ShutdownHandle::new();
    let (held, mut dropped) = oneshot::channel::<()>();
    let mut held = Some(held);
    let service = ShutdownLayer::new(handle.clone()).layer(service_fn(move |_| {
        let held = held.take().expect("it is asked once");
        async move {
            let _held = held;
            std::future::pending::<Result<Response<Events>, Error>>().await
        }
    }));
    let mut call = task::spawn(service.oneshot(request()));
    assert_pending!(call.poll());
    handle.shut_down();
    assert!(call.is_woken());
    let Err(error) = assert_ready!(call.poll()) else { panic!("no error") };
    assert_cut(&error, Fate::Abandoned);
    drop(call);
    assert!(dropped.try_recv().is_err());
}

#[tokio::test]
async fn who_comes_later_asks_nobody() {
    let handle = ShutdownHandle::new();
    handle.shut_down();
    handle.shut_down();
    let asked = Arc::new(AtomicBool::new(false));
    let service = ShutdownLayer::new(handle).layer(service_fn({
        let asked = Arc::clone(&asked);
        move |_| {
            asked.store(true, Ordering::Relaxed);
            std::future::ready(Ok::<_, Error>(Response::new(stalls(vec![text()]).0)))
        }
    }));
    let Err(error) = service.oneshot(request()).await else { panic!("no error") };
    assert_cut(&error, Fate::Unsent);
    assert!(!asked.load(Ordering::Relaxed));
}

#[tokio::test]
async fn what_comes_out_is_well_formed() {
    use tower_qwen::chat::ChatStreamExt;

    for items in 0..4 {
        let handle = ShutdownHandle::new();
        let started = Ok(ChatEvent::Started(Started::new().into()));
        let all = [started, text(), text(), finished()];
        let (events, _) = stalls(all.into_iter().take(items).collect());
        let mut answer = answered(&handle, events).await.checked();
        while answer.next().now_or_never().is_some() {}
        handle.shut_down();
        let last = answer.next().await;
        assert!(last.is_some_and(|item| item.is_err()), "{items}");
        assert!(answer.next().await.is_none());
    }
}

#[test]
fn events_and_waits_allocate_nothing() {
    let handle = ShutdownHandle::new();
    let mut count = 0_u32;
    let events: Events = Box::pin(stream::poll_fn(move |cx| {
        count += 1;
        if count.is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(Some(Ok(ChatEvent::Usage(Usage::new(1, 2)))))
    }));
    let mut answer = task::spawn(answered(&handle, events).now_or_never().expect("it is there"));
    let mut poll = || {
        for _ in 0..1_000 {
            let _ = answer.poll_next();
        }
    };
    poll();
    assert_eq!(measure(poll).count_total, 0);
}

/// A call in the background has the extensions of the request that it is made for.
#[tokio::test]
async fn it_is_settled_when_nothing_of_a_request_is_left() {
    let handle = ShutdownHandle::new();
    assert!(handle.settled().now_or_never().is_some(), "nobody has asked");
    let mut calls = Vec::new();
    let service = ShutdownLayer::new(handle.clone()).layer(service_fn(|request: Request<_>| {
        calls.push(request.extensions().clone());
        std::future::ready(Ok::<_, Error>(Response::new(stalls(vec![text()]).0)))
    }));
    let answer = service.oneshot(request()).await.expect("it answers");
    let mut settled = task::spawn(handle.settled());
    assert_pending!(settled.poll());
    handle.shut_down();
    drop(answer);
    assert_pending!(settled.poll());
    calls.clear();
    assert!(settled.is_woken());
    assert_ready!(settled.poll());
}
