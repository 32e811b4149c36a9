use std::{fmt, sync::Arc, time::Duration};

use http::request::Parts;

use super::{BodyPace, Limits, Offer, head::tenant};
use crate::{
    chat::{ANSWER_LIMIT, Tenant},
    sse::KeepAlive,
};

/// How an edge reads requests and answers them.
#[derive(Clone)]
pub(crate) struct Config<O> {
    /// What only the protocol knows of.
    pub(crate) options: O,
    pub(crate) max_body: usize,
    pub(crate) body_pace: Option<BodyPace>,
    pub(crate) limits: Limits,
    pub(crate) offer: Offer,
    pub(crate) max_answer: usize,
    pub(crate) keep_alive: Option<KeepAlive>,
    /// Whose a request is, where it is not what [`tenant`] says.
    pub(crate) tenant: Option<Arc<TenantOf>>,
}

/// Tells whose a request is.
type TenantOf = dyn Fn(&Parts) -> Option<Tenant> + Send + Sync;

impl<O: fmt::Debug> fmt::Debug for Config<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("options", &self.options)
            .field("max_body", &self.max_body)
            .field("body_pace", &self.body_pace)
            .field("limits", &self.limits)
            .field("offer", &self.offer)
            .field("max_answer", &self.max_answer)
            .field("keep_alive", &self.keep_alive)
            .finish_non_exhaustive()
    }
}

impl<O> Config<O> {
    pub(crate) const fn new(options: O) -> Self {
        Self {
            options,
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
    pub(crate) fn tenant(&self, parts: &Parts) -> Option<Tenant> {
        match &self.tenant {
            Some(tenant_of) => tenant_of(parts),
            None => tenant(&parts.headers),
        }
    }
}
