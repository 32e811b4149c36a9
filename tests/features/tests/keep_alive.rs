//! Keep-alives, which `sse` alone has not.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::{Layer, ServiceExt, service_fn};
use tower_qwen::sse::{KEEP_ALIVE, KeepAlive, reframe::SseReframeLayer};

#[tokio::test(start_paused = true)]
async fn a_silence_is_broken() {
    let service = service_fn(async |_request: Request<()>| {
        let silence = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        Ok::<_, Infallible>(
            Response::builder()
                .header(CONTENT_TYPE, "text/event-stream")
                .body(StreamBody::new(silence))
                .expect("the parts are valid"),
        )
    });
    let layer = SseReframeLayer::new().keep_alive(KeepAlive::new(Duration::from_secs(15)));
    let response = layer.layer(service).oneshot(Request::new(())).await.expect("infallible");
    let frame = response.into_body().frame().await.expect("a frame").expect("no error");
    assert_eq!(frame.into_data().expect("data"), KEEP_ALIVE);
}
