use std::{fmt, sync::Arc, time::Duration};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    breaker::Breaking,
    config::{Config, Named, Rules, Stack, ask},
    service::Fallback,
};
use crate::{
    Error,
    chat::{ChatRequest, ChatStream},
};

/// Puts [`Fallback`] over a stack: others answer where that one cannot.
///
/// What is known of how the stacks are is shared by all services that the layer makes. See the
/// [module](super) for what it does and where it stands.
#[derive(Clone)]
pub struct FallbackLayer {
    first: Named,
    others: Vec<(Named, Stack)>,
    config: Config,
}

impl FallbackLayer {
    /// A layer over the stack that is called `name`, which is asked first.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { first: Named::new(name), others: Vec::new(), config: Config::default() }
    }

    /// Asks `stack`, which is called `name`, where none before it can answer.
    #[must_use]
    pub fn to<S, B>(mut self, name: &str, stack: S) -> Self
    where
        S: Service<Request<ChatRequest>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<Error>,
        S::Future: Send + 'static,
        B: ChatStream + Send + 'static,
    {
        let stack: Stack = Arc::new(move |request| Box::pin(ask(stack.clone(), request)));
        self.others.push((Named::new(name), stack));
        self
    }

    /// Says for which errors another stack is asked; those of the [module](super) otherwise. It also
    /// says which of them count as failures of the stack.
    #[must_use]
    pub fn when<F>(mut self, when: F) -> Self
    where
        F: Fn(&Error) -> bool + Send + Sync + 'static,
    {
        self.config.when = Arc::new(when);
        self
    }

    /// After how long without a first event the next stack is asked; `None`, the default, is never.
    /// The last one has as long as it likes.
    #[must_use]
    pub fn first_event(mut self, limit: Option<Duration>) -> Self {
        self.config.first_event = limit;
        self
    }

    /// When a stack is no longer asked for a while; with `None` each is asked every time.
    #[must_use]
    pub fn breaking(mut self, breaking: Option<Breaking>) -> Self {
        self.config.breaking = breaking;
        self
    }
}

impl fmt::Debug for FallbackLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others: Vec<_> = self.others.iter().map(|(name, _)| name).collect();
        f.debug_struct("FallbackLayer")
            .field("first", &self.first)
            .field("others", &others)
            .field("config", &self.config)
            .finish()
    }
}

impl<S> Layer<S> for FallbackLayer {
    type Service = Fallback<S>;

    fn layer(&self, inner: S) -> Fallback<S> {
        let rules = Rules {
            first: self.first.clone(),
            others: self.others.as_slice().into(),
            config: self.config.clone(),
        };
        Fallback::over(inner, Arc::new(rules))
    }
}

impl<S> Fallback<S> {
    service!(made by FallbackLayer::new(name: &str));
}
