use std::{fmt, sync::Arc, time::Duration};

use http::request::Parts;

use super::{BodyPace, Limits, Offer, head::tenant};
use crate::{
    chat::{ANSWER_LIMIT, Tenant},
    sse::KeepAlive,
};

/// How an edge reads requests and answers them.
#[derive(Clone)]
pub(super) struct Config {
    pub(super) api: Api,
    pub(super) max_body: usize,
    pub(super) body_pace: Option<BodyPace>,
    pub(super) limits: Limits,
    pub(super) offer: Offer,
    pub(super) max_answer: usize,
    pub(super) keep_alive: Option<KeepAlive>,
    /// Whose a request is, where it is not what [`tenant`] says.
    pub(super) tenant: Option<Arc<TenantOf>>,
}

/// Tells whose a request is.
type TenantOf = dyn Fn(&Parts) -> Option<Tenant> + Send + Sync;

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("api", &self.api)
            .field("max_body", &self.max_body)
            .field("body_pace", &self.body_pace)
            .field("limits", &self.limits)
            .field("offer", &self.offer)
            .field("max_answer", &self.max_answer)
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}

/// Which of OpenAI's APIs the edge speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
}

impl Config {
    pub(super) const fn new(api: Api) -> Self {
        Self {
            api,
            max_body: 32 * 1024 * 1024,
            body_pace: Some(BodyPace::new()),
            limits: Limits::new(),
            offer: Offer::Everything,
            max_answer: ANSWER_LIMIT,
            keep_alive: Some(KeepAlive::new(Duration::from_secs(15))),
            tenant: None,
        }
    }

    /// Whose request this is.
    pub(super) fn tenant(&self, parts: &Parts) -> Option<Tenant> {
        match &self.tenant {
            Some(tenant_of) => tenant_of(parts),
            None => tenant(&parts.headers),
        }
    }
}
