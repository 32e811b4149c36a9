use std::{fmt, sync::Arc};

use http::Request;

use super::{
    meter::{Estimates, Meter, Settle},
    settlement::Settlement,
};
use crate::{
    Text,
    chat::{ChatRequest, Tenant},
    tokens,
};

type Open = dyn Fn(&Request<ChatRequest>) -> Settle + Send + Sync;

/// Puts [`UsageService`](super::UsageService) in front of a service: each request is settled once.
///
/// What it learns of the tokens of models is shared by its clones, and by all services that they make.
/// See the [module](super) for what is told and where it stands.
#[derive(Clone)]
pub struct UsageLayer {
    open: Arc<Open>,
    pub(super) estimates: Arc<Estimates>,
    pub(super) upstream: Option<Text>,
}

impl UsageLayer {
    /// A layer that tells `settle` of every request.
    ///
    /// `settle` is called while a response is polled or dropped. It must not block, and whoever drops
    /// a response panics where it does.
    #[must_use]
    pub fn new<F>(settle: F) -> Self
    where
        F: Fn(Settlement) + Send + Sync + 'static,
    {
        let settle: Arc<dyn Fn(Settlement) + Send + Sync> = Arc::new(settle);
        Self::of(Arc::new(move |_| Settle::Every(Arc::clone(&settle))))
    }

    /// A layer that shows `open` every request, and then tells what that has given what has come of
    /// it: for who keeps something by the request's headers or extensions, or for as long as it lasts.
    ///
    /// The same holds as for [`new`](Self::new); what `open` gives costs one allocation a request.
    ///
    /// ```
    /// use http::Request;
    /// use tower_qwen::{chat::ChatRequest, usage::{Settlement, UsageLayer}};
    ///
    /// let layer = UsageLayer::opening(|request: &Request<ChatRequest>| {
    ///     let id = request.headers().get("x-request-id").cloned();
    ///     move |settlement: Settlement| {
    ///         println!("{id:?}: {} tokens", settlement.usage.total_tokens);
    ///     }
    /// });
    /// # drop(layer);
    /// ```
    #[must_use]
    pub fn opening<O, F>(open: O) -> Self
    where
        O: Fn(&Request<ChatRequest>) -> F + Send + Sync + 'static,
        F: FnOnce(Settlement) + Send + 'static,
    {
        Self::of(Arc::new(move |request| Settle::One(Box::new(open(request)))))
    }

    fn of(open: Arc<Open>) -> Self {
        Self { open, estimates: Arc::default(), upstream: None }
    }

    /// Says what the upstream below is called, where the response does not.
    #[must_use]
    pub fn upstream(mut self, name: impl Into<Text>) -> Self {
        self.upstream = Some(name.into());
        self
    }

    /// Measures a request that is no chat, of `tenant` for `model`, whose prompt has `prompt` bytes of
    /// text; `settle` is told. Estimates go by what the layer has learnt.
    pub fn meter<F>(
        &self,
        tenant: Option<Tenant>,
        model: impl Into<Text>,
        prompt: u64,
        settle: F,
    ) -> Meter
    where
        F: FnOnce(Settlement) + Send + 'static,
    {
        let (settle, estimates) = (Settle::One(Box::new(settle)), Arc::clone(&self.estimates));
        let upstream = self.upstream.clone();
        Meter::new(settle, estimates, upstream, tenant, model.into(), tokens::of_len(prompt))
    }

    /// Begins to measure `request`.
    pub(super) fn open(&self, request: &Request<ChatRequest>) -> Meter {
        let chat = request.body();
        Meter::new(
            (self.open)(request),
            Arc::clone(&self.estimates),
            self.upstream.clone(),
            chat.tenant,
            chat.model.clone(),
            tokens::of_request_len(chat),
        )
    }
}

impl fmt::Debug for UsageLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageLayer").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}
