//! Several upstreams behind one address: which of them answers.

use std::{convert::Infallible, error::Error as StdError, iter, sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, Method, header::CONNECTION},
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;
use http_body_util::LengthLimitError;
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_qwen::{
    Error, ErrorKind,
    chat::Json,
    openai::{self, error_response},
    qwen::models::{Catalogue, Listing, Model},
};

use super::{chats::DeleteChats, config::Patterns, tokens::Desk};

pub(crate) const X_QWEN_UPSTREAM: HeaderName = HeaderName::from_static("x-qwen-upstream");

/// The largest body that is read to see which model it asks for; the edges take no larger one.
pub(crate) const MAX_BODY: usize = 32 * 1024 * 1024;

/// A stack of layers over one upstream, with an OpenAI edge.
pub(crate) type Route = BoxCloneSyncService<Request, Response, Infallible>;

/// One upstream with its layers.
pub(crate) struct Lane {
    /// What clients see in `x-qwen-upstream`.
    pub(crate) name: HeaderValue,
    /// Which models it is asked for.
    pub(crate) patterns: Patterns,
    /// Chat completions.
    pub(crate) chat: Route,
    /// The same for clients of the XML protocol.
    pub(crate) xml: Route,
    /// Legacy completions.
    pub(crate) completions: Route,
    /// Embeddings.
    pub(crate) embeddings: Route,
    /// Its catalogue.
    pub(crate) models: Catalogue,
    /// How its chats are deleted, if it keeps any.
    pub(crate) chats: Option<DeleteChats>,
    /// Its accounts, and who renews them.
    pub(crate) desk: Desk,
}

impl Lane {
    async fn listing(&self, anew: bool) -> Result<Listing, Error> {
        if anew && let Ok(listing) = self.models.refresh().await {
            return Ok(listing);
        }
        self.models.list().await
    }
}

/// Models as OpenAI's objects (D7).
#[derive(Debug, Default)]
pub(crate) struct Models {
    /// The upstreams' fields that OpenAI's object has none for stand beside its own: clients
    /// leave out what they do not know.
    pub(crate) models: Vec<Json>,
    /// How old the oldest list is, if an upstream could not be asked anew.
    pub(crate) stale: Option<Duration>,
}

/// Every upstream, in the order of the configuration.
#[derive(Clone)]
pub(crate) struct Lanes(Arc<[Lane]>);

impl Lanes {
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn new(lanes: Vec<Lane>) -> Self {
        assert!(!lanes.is_empty(), "a proxy has an upstream");
        Self(lanes.into())
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.0.iter()
    }

    /// The name of the only one.
    pub(crate) fn only_name(&self) -> Option<&HeaderValue> {
        match &*self.0 {
            [lane] => Some(&lane.name),
            _ => None,
        }
    }

    /// Who is asked for `model`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ModelNotFound`] if nobody is.
    pub(crate) fn find(&self, model: &str) -> Result<&Lane, Error> {
        let fits = self.0.iter().filter_map(|lane| Some((lane.patterns.fit(model)?, lane)));
        let best = fits.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, lane)| lane).ok_or_else(|| no_model(model))
    }

    /// Every upstream's models that it is asked for; `anew` from the upstreams themselves.
    ///
    /// # Errors
    ///
    /// If no upstream gives a list.
    pub(crate) async fn list_models(&self, anew: bool) -> Result<Models, Error> {
        let listings = join_all(self.iter().map(|lane| lane.listing(anew))).await;
        let mut list = Models::default();
        let mut failed = None;
        let mut answered = false;
        for (lane, listing) in self.iter().zip(listings) {
            match listing {
                Ok(listing) => {
                    answered = true;
                    list.stale = list.stale.max(listing.stale);
                    let own = listing.models.iter().filter(|model| self.is_of(lane, &model.id));
                    list.models.extend(own.map(Model::object));
                }
                // It was logged.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if !answered => Err(error),
            _ => Ok(list),
        }
    }

    /// Whether `lane` is who is asked for `model`.
    fn is_of(&self, lane: &Lane, model: &str) -> bool {
        self.find(model).is_ok_and(|owner| std::ptr::eq(owner, lane))
    }

    /// One model by its id; `anew` from its upstream itself.
    ///
    /// # Errors
    ///
    /// If it is unknown, or its upstream gives no list.
    pub(crate) async fn model(&self, id: &str, anew: bool) -> Result<Models, Error> {
        let listing = self.find(id)?.listing(anew).await?;
        let model = listing.get(id).ok_or_else(|| no_model(id))?.object();
        Ok(Models { models: vec![model], stale: listing.stale })
    }

    /// Has the `route` of whoever is asked for the request's model answer it.
    pub(crate) async fn serve(&self, request: Request, route: fn(&Lane) -> &Route) -> Response {
        let (lane, request) = match &*self.0 {
            [lane] if lane.patterns.is_any() => (lane, request),
            // Their edge says itself what it thinks of other methods.
            [lane, ..] if request.method() != Method::POST => (lane, request),
            _ => match self.choose(request).await {
                Ok(chosen) => chosen,
                Err(response) => return response,
            },
        };
        let route = route(lane).clone();
        let mut response = match route.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        response.headers_mut().insert(X_QWEN_UPSTREAM, lane.name.clone());
        response
    }

    /// Reads the body to see who is asked, as an edge does. One that names no model goes to the
    /// first, whose edge says so. One that cannot be read goes to nobody: an upstream that gets the
    /// bytes as they are might read another model in it than was found here.
    async fn choose(&self, request: Request) -> Result<(&Lane, Request), Response> {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, MAX_BODY).await.map_err(|error| unread(&error))?;
        let asked = openai::model(&body).and_then(|model| match model {
            Some(model) => self.find(&model),
            None => Ok(&self.0[0]),
        });
        let lane = asked.map_err(|error| error_response(&error).into_response())?;
        Ok((lane, Request::from_parts(head, Body::from(body))))
    }
}

fn no_model(id: &str) -> Error {
    let message = if id.len() > openai::MAX_MODEL_LEN {
        format!("no model has a name of more than {} bytes", openai::MAX_MODEL_LEN)
    } else {
        format!("the model `{id}` does not exist")
    };
    Error::new(ErrorKind::ModelNotFound, message).with_param("model")
}

/// The answer to a request whose body could not be read to its end.
pub(crate) fn unread(error: &axum::Error) -> Response {
    let causes =
        || iter::successors(error.source(), |error: &&(dyn StdError + 'static)| (*error).source());
    let own = causes().find_map(|cause| cause.downcast_ref::<Error>());
    let too_large = causes().any(|cause| cause.is::<LengthLimitError>());
    let error = if let Some(own) = own {
        // There was no room for it.
        let error = Error::new(own.kind(), own.to_string());
        match own.retry_after() {
            Some(wait) => error.with_retry_after(wait),
            None => error,
        }
    } else if too_large {
        Error::new(
            ErrorKind::TooLarge,
            format!("the request's body is larger than {} MiB", MAX_BODY / 1024 / 1024),
        )
    } else {
        Error::new(ErrorKind::InvalidRequest, "the request's body broke off")
    };
    let mut response = error_response(&error).into_response();
    // What is left of the body would be taken for the next request.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests;
