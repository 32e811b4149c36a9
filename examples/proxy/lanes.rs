//! Several upstreams behind one address: which of them answers.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method},
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_qwen::{
    Error, ErrorKind, Text,
    anthropic::CountTokens,
    edge::{self, BodyPace, read_body},
    openai::error_response,
    qwen::models::{Catalogue, Listing, Model},
    variant::{Suffix, Variants},
};

use super::{
    beside::named_model,
    chats::KeptChats,
    config::{ModelNames, Patterns, named},
    keys::Key,
    ready::Reach,
    tokens::Desk,
};

pub(crate) const X_QWEN_UPSTREAM: HeaderName = HeaderName::from_static("x-qwen-upstream");

/// Marks a response that began before it was known which upstream would answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByWhoever;

/// The largest body that is read to see which model it asks for; the edges take no larger one.
pub(crate) const MAX_BODY: usize = 32 * 1024 * 1024;

/// A stack of layers over one upstream, with an edge.
pub(crate) type Route = BoxCloneSyncService<Request, Response, Infallible>;

/// The routes of Ollama's API that an upstream answers.
pub(crate) struct OllamaRoutes {
    /// Chats.
    pub(crate) chat: Route,
    /// Prompts.
    pub(crate) generate: Route,
    /// Embeddings of a list.
    pub(crate) embed: Route,
    /// Embeddings of one text, as they were asked for before.
    pub(crate) embeddings: Route,
}

/// The routes of pictures and films that an upstream answers.
pub(crate) struct MediaRoutes {
    /// Pictures.
    pub(crate) images: Route,
    /// Changes to pictures.
    pub(crate) edits: Route,
    /// Videos that are waited for.
    pub(crate) videos: Route,
    /// Videos that are begun.
    pub(crate) begin: Route,
    /// What becomes of those, if they are made here: whichever upstream makes them.
    pub(crate) jobs: Option<Route>,
}

/// What can be done with models, whatever they can do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Can {
    /// Offer them tools.
    pub(crate) tools: bool,
    /// Show them images.
    pub(crate) images: bool,
}

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
    /// Chats of the Messages API.
    pub(crate) messages: Route,
    /// Chats of the Responses API.
    pub(crate) responses: Route,
    /// Ollama's API.
    pub(crate) ollama: OllamaRoutes,
    /// Legacy completions.
    pub(crate) completions: Route,
    /// llama.cpp's own way to fill in between two texts, if that is who answers.
    pub(crate) infill: Option<Route>,
    /// Embeddings.
    pub(crate) embeddings: Route,
    /// Pictures and films.
    pub(crate) media: MediaRoutes,
    /// Speech from text.
    pub(crate) speech: Route,
    /// Text from speech.
    pub(crate) transcriptions: Route,
    /// English text from speech.
    pub(crate) translations: Route,
    /// The order of documents by how well they fit.
    pub(crate) rerank: Route,
    /// What can be done with its models on the way that is taken here.
    pub(crate) can: Can,
    /// Its catalogue.
    pub(crate) models: Catalogue,
    /// The virtual models over it.
    pub(crate) variants: Variants,
    /// Its chats, if it keeps any.
    pub(crate) chats: Option<KeptChats>,
    /// Its accounts, and who renews them.
    pub(crate) desk: Desk,
    /// Whether it answers.
    pub(crate) reach: Reach,
}

impl Lane {
    async fn listing(&self, anew: bool) -> Result<Listing, Error> {
        if anew && let Ok(listing) = self.models.refresh().await {
            return Ok(listing);
        }
        self.models.list().await
    }

    /// Has `route`, one of this lane's, answer `request`.
    async fn answer(&self, request: Request, route: &Route) -> Response {
        let Ok(mut response) = route.clone().oneshot(request).await;
        if response.extensions().get::<ByWhoever>().is_none() {
            response.headers_mut().entry(X_QWEN_UPSTREAM).or_insert_with(|| self.name.clone());
        }
        response
    }
}

/// Models, of one upstream or more.
#[derive(Debug, Default)]
pub(crate) struct Models {
    /// In the order of the upstreams, and behind them the aliases that are listed.
    pub(crate) models: Vec<Model>,
    /// How old the oldest list is, if an upstream could not be asked anew.
    pub(crate) stale: Option<Duration>,
}

impl Models {
    /// Those that `key` may ask for; all, where no key of a file is asked for.
    pub(crate) fn of_key(mut self, key: Option<&Key>, lanes: &Lanes) -> Self {
        if let Some(key) = key.filter(|key| !key.models.is_any()) {
            self.models.retain(|model| key.models.fit(&lanes.meant(&model.id)).is_some());
        }
        self
    }
}

/// Every upstream, in the order of the configuration.
#[derive(Clone)]
pub(crate) struct Lanes {
    lanes: Arc<[Lane]>,
    names: Arc<ModelNames>,
    body_pace: BodyPace,
    count: CountTokens,
}

impl Lanes {
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn new(lanes: Vec<Lane>) -> Self {
        assert!(!lanes.is_empty(), "a proxy has an upstream");
        let count = CountTokens::new(Arc::default());
        Self { lanes: lanes.into(), names: Arc::default(), body_pace: BodyPace::new(), count }
    }

    /// By which other names models are asked for.
    pub(crate) fn names(self, names: ModelNames) -> Self {
        Self { names: Arc::new(names), ..self }
    }

    /// What counts the tokens of a request that is not sent.
    pub(crate) fn count_tokens(self, count: CountTokens) -> Self {
        Self { count, ..self }
    }

    /// Counts the tokens of a request, which nobody is asked for.
    pub(crate) async fn count(&self, request: Request) -> Response {
        let Ok(response) = self.count.clone().oneshot(request).await;
        response.into_response()
    }

    /// How fast a body must come that is read to see who is asked.
    pub(crate) fn body_pace(self, body_pace: BodyPace) -> Self {
        Self { body_pace, ..self }
    }

    /// How fast a body must come.
    pub(crate) const fn pace(&self) -> BodyPace {
        self.body_pace
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }

    /// The name of the only one.
    pub(crate) fn only_name(&self) -> Option<&HeaderValue> {
        match &*self.lanes {
            [lane] => Some(&lane.name),
            _ => None,
        }
    }

    /// The model that a client means that calls it `model`.
    pub(crate) fn meant(&self, model: &str) -> Text {
        self.names.resolve(model).unwrap_or_else(|| model.to_owned().into())
    }

    /// Who is asked for what a client calls `model`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ModelNotFound`] if nobody is.
    pub(crate) fn find(&self, model: &str) -> Result<&Lane, Error> {
        let meant = self.names.resolve(model);
        self.owner(meant.as_deref().unwrap_or(model)).ok_or_else(|| no_model(model))
    }

    /// Who has the model of this id, or the one in front of the suffix that it may have.
    fn owner(&self, model: &str) -> Option<&Lane> {
        let own = self.fitting(model);
        let is_real = |lane: &Lane| {
            let known = lane.models.last();
            !lane.variants.may_be(model) || known.is_some_and(|known| known.get(model).is_some())
        };
        if own.is_some_and(is_real) {
            return own;
        }
        let of_front = Suffix::fronts(model, &Suffix::WEB)
            .find_map(|front| self.fitting(front).filter(|lane| lane.variants.may_be(model)));
        of_front.or(own)
    }

    /// Whose patterns fit best.
    fn fitting(&self, model: &str) -> Option<&Lane> {
        let fits = self.lanes.iter().filter_map(|lane| Some((lane.patterns.fit(model)?, lane)));
        let best = fits.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, lane)| lane)
    }

    /// Every upstream's models that it is asked for; `anew` from the upstreams themselves. With
    /// `virtual_too`, or where the configuration says so, the virtual models over them are among them.
    ///
    /// # Errors
    ///
    /// If no upstream gives a list.
    pub(crate) async fn list_models(&self, anew: bool, virtual_too: bool) -> Result<Models, Error> {
        let virtual_too = virtual_too || self.names.lists_virtual_models();
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
                    let own: Vec<_> = own.cloned().collect();
                    let over = if virtual_too { lane.variants.list(&own) } else { Vec::new() };
                    list.models.extend(own);
                    list.models.extend(over);
                }
                // It was logged.
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if !answered => Err(error),
            _ => {
                list.models.extend(self.names.listed(&list.models));
                Ok(list)
            }
        }
    }

    /// The same for clients of the Anthropic API.
    ///
    /// # Errors
    ///
    /// Those of [`list_models`](Self::list_models).
    pub(crate) async fn list_for_claude(
        &self,
        anew: bool,
        virtual_too: bool,
    ) -> Result<Models, Error> {
        let list = self.list_models(anew, virtual_too).await?;
        Ok(Models { models: self.names.for_claude(list.models), ..list })
    }

    /// Whether `lane` is who is asked for `model`.
    fn is_of(&self, lane: &Lane, model: &str) -> bool {
        self.owner(model).is_some_and(|owner| std::ptr::eq(owner, lane))
    }

    /// One model by its id or another name of it, under which it then is; `anew` from its upstream
    /// itself.
    ///
    /// # Errors
    ///
    /// If it is unknown, or its upstream gives no list.
    pub(crate) async fn model(&self, id: &str, anew: bool) -> Result<Models, Error> {
        let lane = self.find(id)?;
        let listing = lane.listing(anew).await?;
        let meant = self.meant(id);
        let found = match listing.get(&meant) {
            Some(model) => named(model, id),
            None => match lane.variants.resolve_among(&listing.models, &meant)? {
                Some(variant) => {
                    let base = listing.get(&variant.model).ok_or_else(|| no_model(id))?;
                    let mut model = named(base, id);
                    model.extra.insert("base_model", serde_json::Value::from(&*base.id));
                    model
                }
                None => return Err(no_model(id)),
            },
        };
        Ok(Models { models: vec![found], stale: listing.stale })
    }

    /// Has the `route` of whoever is asked for the request's model answer it.
    pub(crate) async fn serve(&self, request: Request, route: fn(&Lane) -> &Route) -> Response {
        self.serve_by(request, route, |name| name).await
    }

    /// The same, where what the body calls the model is first read by `name`.
    pub(crate) async fn serve_by(
        &self,
        request: Request,
        route: fn(&Lane) -> &Route,
        name: fn(&str) -> &str,
    ) -> Response {
        let (lane, request) = match &*self.lanes {
            [lane] if lane.patterns.is_any() => (lane, request),
            // Their edge says itself what it thinks of other methods.
            [lane, ..] if request.method() != Method::POST => (lane, request),
            _ => match self.choose(request, name, &self.lanes[0]).await {
                Ok(chosen) => chosen,
                Err(response) => return response,
            },
        };
        lane.answer(request, route(lane)).await
    }

    /// Has who begins videos begin one, or tells what has become of one that was begun.
    pub(crate) async fn videos(&self, request: Request) -> Response {
        if request.method() == Method::POST && request.uri().path().ends_with("/videos") {
            return self.serve(request, |lane| &lane.media.begin).await;
        }
        let Some(lane) = self.lanes.iter().find(|lane| lane.media.jobs.is_some()) else {
            return no_videos();
        };
        let Some(jobs) = &lane.media.jobs else { return no_videos() };
        let Ok(response) = jobs.clone().oneshot(request).await;
        response
    }

    /// Has llama.cpp fill in between two texts: the one that is asked for the request's model, or
    /// where it names none, the first.
    pub(crate) async fn infill(&self, request: Request) -> Response {
        let Some(first) = self.lanes.iter().find(|lane| lane.infill.is_some()) else {
            return no_infill();
        };
        let (lane, request) = match &*self.lanes {
            [_] if first.patterns.is_any() => (first, request),
            _ if request.method() != Method::POST => (first, request),
            _ => match self.choose(request, |model| model, first).await {
                Ok(chosen) => chosen,
                Err(response) => return response,
            },
        };
        match &lane.infill {
            Some(route) => lane.answer(request, route).await,
            None => no_infill(),
        }
    }

    /// Reads the body to see who is asked, as an edge does. One that names no model goes to
    /// `otherwise`, whose edge says so. One that cannot be read goes to nobody: an upstream that gets
    /// the bytes as they are might read another model in it than was found here.
    async fn choose<'a>(
        &'a self,
        request: Request,
        name: fn(&str) -> &str,
        otherwise: &'a Lane,
    ) -> Result<(&'a Lane, Request), Response> {
        let (head, body) = request.into_parts();
        let body = read_body(body, MAX_BODY, Some(self.body_pace)).await;
        let refuse = |error| error_response(&error).into_response();
        let body = body.map_err(refuse)?;
        let asked = named_model(&head, &body).await.and_then(|model| match model {
            // As it stands where that is the name of a model: an upstream may have the tag in it.
            Some(model) => self.find(name(&model)).or_else(|_| self.find(&model)),
            None => Ok(otherwise),
        });
        let lane = asked.map_err(refuse)?;
        Ok((lane, Request::from_parts(head, Body::from(body))))
    }
}

fn no_videos() -> Response {
    let message = "no upstream here makes videos; chat.qwen.ai makes them, and so does DashScope";
    let error = Error::new(ErrorKind::Unsupported, message).with_code("videos_not_supported");
    error_response(&error).into_response()
}

fn no_infill() -> Response {
    let message = "no upstream here is llama.cpp, which alone has /infill; send a prompt and a \
                   `suffix` to /v1/completions";
    let error = Error::new(ErrorKind::Unsupported, message).with_code("infill_not_supported");
    error_response(&error).into_response()
}

pub(crate) fn no_model(id: &str) -> Error {
    let message = if id.len() > edge::MAX_MODEL_LEN {
        format!("no model has a name of more than {} bytes", edge::MAX_MODEL_LEN)
    } else {
        format!("the model `{id}` does not exist")
    };
    Error::new(ErrorKind::ModelNotFound, message).with_param("model")
}

#[cfg(test)]
mod tests;
