//! A credential on a request, without the chat stack.

use http::{Request, Response, StatusCode};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_qwen::{
    FullBody,
    auth::{AuthRefreshLayer, Credential, StaticCredential},
};

#[tokio::test(start_paused = true)]
async fn the_credential_is_put_on() {
    let service = service_fn(async |request: Request<FullBody>| {
        let status = match request.headers().get("authorization") {
            Some(value) if value == "Bearer sk-not-a-real-key" => StatusCode::OK,
            _ => StatusCode::UNAUTHORIZED,
        };
        Ok::<_, BoxError>(Response::builder().status(status).body(())?)
    });
    let key = Credential::api_key("sk-not-a-real-key").expect("a key");
    let service = AuthRefreshLayer::new(StaticCredential::new(key)).layer(service);
    let response = service.oneshot(Request::new(FullBody::default())).await.expect("it is let in");
    assert_eq!(response.status(), StatusCode::OK);
}
