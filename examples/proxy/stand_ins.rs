//! What answers chats, and which upstream stands in for another.

use std::pin::Pin;

use axum::http::{HeaderValue, Request, Response};
use futures_util::Stream;
use tower::{
    Layer, ServiceBuilder, ServiceExt,
    util::{BoxCloneSyncService, MapRequest},
};
use tower_qwen::{
    Error,
    chat::{ChatEvent, ChatRequest, ChatService},
    fallback::FallbackLayer,
    join::{Join, JoinLayer},
    shutdown::{Shutdown, ShutdownLayer},
    usage::{UsageLayer, UsageService},
};

use super::{
    config::{StandIn, StandIns},
    debug_stream::place,
    lanes::{ByWhoever, Route, X_QWEN_UPSTREAM},
    settle,
};

/// The stream of an answer, whoever gives it.
type Answer = Pin<Box<dyn Stream<Item = Result<ChatEvent, Error>> + Send>>;

/// A stack below the edge, whatever its types.
pub(crate) type Chat = BoxCloneSyncService<Request<ChatRequest>, Response<Answer>, Error>;

/// All layers of an upstream without their types.
pub(crate) fn chat(stack: impl ChatService + Sync) -> Chat {
    boxed(place("stack").layer(stack))
}

/// `stack` without its types.
fn boxed(stack: impl ChatService + Sync) -> Chat {
    Chat::new(stack.map_response(|response| response.map(|answer| Box::pin(answer) as Answer)))
}

/// What answers the chats of an upstream.
#[derive(Clone)]
pub(crate) struct Stacks<S = Chat> {
    /// With calls as events, for every protocol that has a form for them.
    pub(crate) calls: S,
    /// With one call a reply, written in XML.
    pub(crate) xml: S,
    /// Whether others answer in its place.
    has_stand_ins: bool,
}

impl Stacks {
    /// Those of one upstream, which answers alone.
    pub(crate) const fn new(calls: Chat, xml: Chat) -> Self {
        Self { calls, xml, has_stand_ins: false }
    }

    /// The same with others asked where it cannot answer, which is called `name`. `all` are those of
    /// all upstreams.
    pub(crate) fn or(self, others: &StandIns, name: &HeaderValue, all: &[Self]) -> Self {
        if others.is_empty() {
            return self;
        }
        let layer = |of: fn(&Self) -> &Chat| {
            let first = FallbackLayer::new(word(name)).first_event(others.after);
            others.all.iter().fold(first, |layer, other| {
                layer.to(word(&other.name), with_model(of(&all[other.upstream]).clone(), other))
            })
        };
        Self {
            calls: boxed(layer(|stacks| &stacks.calls).layer(self.calls)),
            xml: boxed(layer(|stacks| &stacks.xml).layer(self.xml)),
            has_stand_ins: true,
        }
    }

    /// The same, settled, for clients that repeat their requests, until the `shutdown`.
    pub(crate) fn joined(
        self,
        join: &JoinLayer,
        settle: &UsageLayer,
        shutdown: &ShutdownLayer,
    ) -> Joined {
        let layers = ServiceBuilder::new()
            .map_request(settle::note_model as NoteModel)
            .layer(join)
            .layer(settle)
            .layer(shutdown);
        let (calls, xml) = (layers.service(self.calls), layers.service(self.xml));
        Stacks { calls, xml, has_stand_ins: self.has_stand_ins }
    }
}

/// What edges stand over.
pub(crate) type Joined = Stacks<MapRequest<Join<UsageService<Shutdown<Chat>>>, NoteModel>>;

type NoteModel = fn(Request<ChatRequest>) -> Request<ChatRequest>;

impl Joined {
    /// `route`, an edge over these, so that its answers say who has given them.
    pub(crate) fn named(&self, route: Route) -> Route {
        if !self.has_stand_ins {
            return route;
        }
        Route::new(route.map_response(|mut response: axum::response::Response| {
            // A refusal is the edge's own, or was the last upstream's word.
            let is_named = response.headers().contains_key(X_QWEN_UPSTREAM);
            if response.status().is_success() && !is_named {
                response.extensions_mut().insert(ByWhoever);
            }
            response
        }))
    }
}

/// The names of upstreams are ASCII.
fn word(name: &HeaderValue) -> &str {
    name.to_str().unwrap_or_default()
}

/// `stack`, asked for the model that it stands in with.
fn with_model(stack: Chat, stand_in: &StandIn) -> Chat {
    let Some(model) = stand_in.model.clone() else { return stack };
    let stack = stack.map_request(move |mut request: Request<ChatRequest>| {
        request.body_mut().model = model.as_str().into();
        request
    });
    Chat::new(stack)
}
