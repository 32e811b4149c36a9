//! Virtual models: names with a suffix that says how the model is asked.
//!
//! Many clients can choose a model and nothing else: no field for thinking, none for a search of
//! the web, no route for an image. Older servers over Qwen gave them names for that, such as
//! `qwen-max-search`. Upstream has no such models. With [`VariantLayer`] a name of that kind is the
//! model of the name in front of it, asked in the way that the [`Suffix`] says.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_qwen::{
//!     Error,
//!     chat::{AnswerKind, ChatRequest, Message, Role},
//!     qwen::models::{Catalogue, Model},
//!     variant::{Suffix, VariantLayer, Variants},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! // In the place of this one stands `Catalogue::web`.
//! let catalogue = Catalogue::new(|| async { Ok(vec![Model::new("qwen3-max", "qwen")]) });
//! let variants = Variants::new(catalogue, Suffix::WEB);
//!
//! // In place of the layers and the adapter.
//! let below = service_fn(|request: Request<ChatRequest>| async move {
//!     let ChatRequest { model, kind, reasoning, .. } = request.into_body();
//!     Ok::<_, Error>(Response::new((model, kind, reasoning.enabled)))
//! });
//! let service = ServiceBuilder::new().layer(VariantLayer::new(variants)).service(below);
//! let request = ChatRequest::new("qwen3-max-thinking-search", [Message::new(Role::User, "News?")]);
//! let asked = service.oneshot(Request::new(request)).await?.into_body();
//! assert_eq!(asked, ("qwen3-max".into(), AnswerKind::Search, Some(true)));
//! # Ok(())
//! # }
//! ```
//!
//! # The suffixes
//!
//! | suffix | the model is asked for |
//! |---|---|
//! | `-thinking` | thinking; an effort or a budget of the request's own stays |
//! | `-no-thinking` | no thinking, whatever else the request says of it |
//! | `-search` | [`AnswerKind::Search`](crate::chat::AnswerKind::Search) |
//! | `-deep-research` | [`AnswerKind::DeepResearch`](crate::chat::AnswerKind::DeepResearch) |
//! | `-image` | [`AnswerKind::Image`](crate::chat::AnswerKind::Image) |
//! | `-video` | [`AnswerKind::Video`](crate::chat::AnswerKind::Video) |
//!
//! One for thinking and one for the kind can stand together, in either order.
//!
//! # Which name is virtual
//!
//! The one that the catalogue has not, and whose front it has: a real model is never shadowed, though
//! `qwen3-30b-a3b-thinking` looks like one of these. So the catalogue is asked, and only for names
//! with a suffix; it keeps its list for an hour. Where it cannot be had, names pass as they are, and
//! upstream says what it thinks of them. Where the catalogue says that the model has not what the
//! suffix is for, the request is refused as one for a model that is not there.
//!
//! A kind that is no chat takes no functions, and no form for its text: a request that wants them of
//! `-image` is refused, since they would be a part of the picture's description.
//!
//! # Where it stands
//!
//! Right below an [`AliasLayer`](crate::alias::AliasLayer), so that an alias may lead to a virtual
//! model; above all that depends on the model. The edge has kept the client's own word by then and
//! answers with it.
//!
//! # Metrics
//!
//! | name | labels |
//! | --- | --- |
//! | `tower_qwen_variant_requests_total` | `kind`: as [`AnswerKind::as_str`](crate::chat::AnswerKind::as_str) has it; `thinking`: `on`, `off`, `unsaid` |

mod future;
mod layer;
mod service;
mod suffix;
mod variants;

pub use self::{
    future::ResponseFuture,
    layer::VariantLayer,
    service::VariantService,
    suffix::Suffix,
    variants::{Variant, Variants},
};
