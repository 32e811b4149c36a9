//! The codec and the layer, without a runtime.

use std::convert::Infallible;

use bytes::Bytes;
use futures_executor::block_on;
use futures_util::stream;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::sse::{
    Decoder, Encoder,
    reframe::{OnError, SseReframeLayer},
};

#[test]
fn the_codec_reads_what_it_writes() {
    let mut encoder = Encoder::new();
    encoder.data("one");
    encoder.data("two\nlines");
    encoder.done();
    let bytes = encoder.take();

    let mut decoder = Decoder::new();
    let mut read = Vec::new();
    for piece in bytes.chunks(3) {
        decoder.push(Bytes::copy_from_slice(piece));
        while let Some(event) = decoder.next_event().expect("well formed") {
            read.push(event.data.to_string());
        }
    }
    assert_eq!(read, ["one", "two\nlines", "[DONE]"]);
}

#[test]
fn the_layer_makes_a_stream_whole_and_says_that_it_broke_off() {
    let service = service_fn(async |_request: Request<()>| {
        let pieces = ["data: o", "ne\r\n\r\ndata: two\r\n\r\ndata: thr"];
        let pieces = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
        Ok::<_, Infallible>(
            Response::builder()
                .header(CONTENT_TYPE, "text/event-stream")
                .body(StreamBody::new(stream::iter(pieces)))
                .expect("the parts are valid"),
        )
    });
    let service = SseReframeLayer::new().on_error(OnError::InBand).layer(service);
    let body = block_on(async {
        let response = service.oneshot(Request::new(())).await.expect("infallible");
        response.into_body().collect().await.expect("the error is in band").to_bytes()
    });
    let text = std::str::from_utf8(&body).expect("text");
    assert!(text.starts_with("data: one\n\ndata: two\n\ndata: {\"error\":{"), "{text}");
    assert!(text.ends_with("\n\ndata: [DONE]\n\n"), "{text}");
}
