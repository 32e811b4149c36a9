//! `EventStream` over bodies.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::FusedStream};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use tower_qwen::sse::{DecodeError, Decoder, EventStream, StreamError};

type Item = Result<Frame<Bytes>, io::Error>;

fn body(items: Vec<Item>) -> StreamBody<stream::Iter<std::vec::IntoIter<Item>>> {
    StreamBody::new(stream::iter(items))
}

fn pieces(pieces: &[&'static str]) -> Vec<Item> {
    pieces.iter().map(|&piece| Ok(Frame::data(Bytes::from(piece)))).collect()
}

#[tokio::test]
async fn gives_the_events_and_skips_trailers() {
    let mut items = pieces(&["data: a\n", "", "\ndata: b\n\nretry: 5\n\n"]);
    items.push(Ok(Frame::trailers(HeaderMap::new())));
    let mut stream = EventStream::new(body(items));
    let mut data = Vec::new();
    while let Some(event) = stream.next().await {
        data.push(event.expect("well formed").data);
    }
    assert_eq!(data, ["a", "b"]);
    assert!(stream.is_terminated());
    assert_eq!(stream.decoder().reconnection_time().map(|time| time.as_millis()), Some(5));
}

#[tokio::test]
async fn an_end_within_an_event_is_told_or_taken() {
    for end in ["data: [DONE]", "data: [DONE]\n"] {
        let items = || pieces(&["data: a\n\n", end]);
        let mut strict = EventStream::new(body(items()));
        assert_eq!(strict.next().await.expect("an event").expect("whole").data, "a");
        assert!(matches!(strict.next().await, Some(Err(StreamError::Unfinished))));
        assert!(strict.next().await.is_none());

        let taken: Vec<_> =
            EventStream::new(body(items())).take_unfinished(true).try_collect().await.expect("ok");
        assert!(taken[1].is_done());
    }
}

#[tokio::test]
async fn a_body_error_ends_the_stream_and_is_not_wrapped() {
    let mut items = pieces(&["data: a\n\ndata: cut"]);
    items.push(Err(io::Error::from(io::ErrorKind::ConnectionReset)));
    items.extend(pieces(&["\n\n"]));
    let mut stream = EventStream::new(body(items)).take_unfinished(true);
    assert!(stream.next().await.is_some_and(|event| event.is_ok()));
    match stream.next().await {
        Some(Err(StreamError::Body(error))) => {
            let error = error.downcast::<io::Error>().expect("as it was");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        other => panic!("{other:?}"),
    }
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_limit_ends_the_stream() {
    let decoder = Decoder::new().max_line(8);
    let mut stream = EventStream::with_decoder(body(pieces(&["data: abc\n\n"])), decoder);
    let error = stream.next().await.expect("an item").expect_err("too long");
    assert!(matches!(error, StreamError::Decode(DecodeError::LineTooLong { limit: 8 })));
    assert!(stream.next().await.is_none());
}
