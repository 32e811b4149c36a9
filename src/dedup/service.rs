use std::task::{Context, Poll};

use http::Request;
use tower_service::Service;
use tracing::debug;

use super::plan::{self, Plan};
use crate::{chat::ChatRequest, tokens};

/// Leaves out of a request what its conversation holds already.
///
/// Made by [`DedupLayer`](super::DedupLayer); the [module](super) says how it works. Responses,
/// errors and readiness are the inner service's own, as are the futures: nothing is awaited here.
#[derive(Clone, Debug)]
pub struct Dedup<S> {
    inner: S,
    after_last_answer: bool,
}

impl<S> Dedup<S> {
    service!();

    pub(super) const fn over(inner: S, after_last_answer: bool) -> Self {
        Self { inner, after_last_answer }
    }
}

impl<S> Service<Request<ChatRequest>> for Dedup<S>
where
    S: Service<Request<ChatRequest>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ChatRequest>) -> S::Future {
        let chat = request.body_mut();
        if self.after_last_answer {
            plan::see_answered(chat);
        }
        let plan = Plan::new(chat);
        match plan {
            Plan::Whole => {}
            Plan::Fresh => {
                let (seen, sent) = (chat.history.seen.len(), chat.history.fresh.len());
                debug!(seen, sent, "the chat gets what it has not seen");
                metrics::counter!("tower_qwen_dedup_messages_total", "result" => "left_out")
                    .increment(seen as u64);
            }
            Plan::Replay(cause) => {
                debug!(cause = cause.as_str(), "the history is replayed into a new chat");
                metrics::counter!("tower_qwen_dedup_replays_total", "cause" => cause.as_str())
                    .increment(1);
            }
        }
        if let Plan::Fresh = plan {
            let whole = tokens::of_request_len(chat);
            plan.apply(chat);
            let saved = whole.saturating_sub(tokens::of_request_len(chat));
            metrics::counter!("tower_qwen_dedup_tokens_saved_total").increment(saved);
        } else {
            plan.apply(chat);
        }
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::{
        chat::{Conversation, Destination, Message, Role},
        dedup::DedupLayer,
    };

    async fn sent(layer: DedupLayer, chat: ChatRequest) -> ChatRequest {
        let inner = service_fn(|request: Request<ChatRequest>| async move {
            Ok::<_, crate::Error>(Response::new(request.into_body()))
        });
        let response = layer.layer(inner).oneshot(Request::new(chat)).await;
        response.expect("answers").into_body()
    }

    fn chat(seen: usize) -> ChatRequest {
        let messages = vec![
            Message::new(Role::User, "one"),
            Message::new(Role::Assistant, "two"),
            Message::new(Role::User, "three"),
        ];
        let mut chat = ChatRequest::new("m", messages);
        chat.destination = Conversation::new("c").with_parent("p").into();
        chat.history.mark_seen(seen);
        chat
    }

    #[tokio::test]
    async fn a_known_conversation_gets_what_is_new() {
        let whole = chat(2);
        let sent = sent(DedupLayer::new(), whole.clone()).await;
        assert_eq!(sent.history.fresh, whole.history.fresh);
        assert!(sent.history.seen.is_empty());
        assert_eq!(sent.destination, whole.destination);
    }

    #[tokio::test]
    async fn without_a_conversation_the_very_same_history_goes_on() {
        let mut whole = chat(0);
        whole.destination = Destination::NEW;
        let sent = sent(DedupLayer::new(), whole.clone()).await;
        assert!(sent.history.fresh.is_shared_with(&whole.history.fresh));
    }

    #[tokio::test]
    async fn alone_it_can_go_by_the_last_answer() {
        assert_eq!(sent(DedupLayer::new(), chat(0)).await.history.len(), 3);
        assert_eq!(sent(DedupLayer::new().after_last_answer(), chat(0)).await.history.len(), 1);
    }
}
