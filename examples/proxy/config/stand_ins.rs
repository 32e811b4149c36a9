//! Who is asked where an upstream cannot answer.

use std::time::Duration;

use axum::http::HeaderValue;

use super::{
    ConfigError, Tools, error,
    options::{MAX_TIMEOUT, UpstreamSettings},
    upstream::UpstreamConfig,
};

/// Those that stand in for an upstream, in the order in which they are asked.
#[derive(Debug, Default)]
pub(crate) struct StandIns {
    /// Each of them.
    pub(crate) all: Vec<StandIn>,
    /// How long the first event of an answer is waited for before the next one is asked.
    pub(crate) after: Option<Duration>,
}

/// One that stands in for another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StandIn {
    /// What clients see in `x-qwen-upstream`.
    pub(crate) name: HeaderValue,
    /// Which of the upstreams it is, from 0.
    pub(crate) upstream: usize,
    /// The model that it is asked for, if not that of the request.
    pub(crate) model: Option<String>,
}

impl StandIns {
    /// Whether there is none.
    pub(crate) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

/// What is set, before all upstreams are known.
pub(super) struct Asked {
    names: Vec<String>,
    after: Option<u64>,
}

impl From<&UpstreamSettings> for Asked {
    fn from(settings: &UpstreamSettings) -> Self {
        Self {
            names: settings.fallback.clone().unwrap_or_default(),
            after: settings.fallback_after,
        }
    }
}

impl Asked {
    /// Who stands in for upstream `at` of `all`.
    ///
    /// # Errors
    ///
    /// For a name that no upstream has, one that cannot help, and a time out of its range.
    pub(super) fn resolve(
        self,
        at: usize,
        all: &[UpstreamConfig],
    ) -> Result<StandIns, ConfigError> {
        let Self { names, after } = self;
        let own = &all[at];
        if names.is_empty() {
            return match after {
                None => Ok(StandIns::default()),
                Some(_) => error("--fallback-after: nobody stands in; say who with --fallback"),
            };
        }
        if own.tools == Tools::Off && own.upstream.is_api() {
            return error(
                "--fallback: with --tools off chat passes byte by byte, and nobody else can be \
                 asked for it",
            );
        }
        if after.is_some_and(|after| !(1..=MAX_TIMEOUT).contains(&after)) {
            return error(format!("--fallback-after: it must be 1 to {MAX_TIMEOUT} seconds"));
        }
        let mut stand_ins = Vec::new();
        for asked in names {
            let (name, model) = match asked.split_once(':') {
                Some((name, model)) => (name, Some(model)),
                None => (asked.as_str(), None),
            };
            if model.is_some_and(str::is_empty) {
                return error(format!("--fallback: {asked:?} has no model behind its colon"));
            }
            let Some(upstream) = all.iter().position(|one| one.name == name) else {
                let names: Vec<_> =
                    all.iter().map(|one| String::from_utf8_lossy(one.name.as_bytes())).collect();
                let names = names.join(", ");
                return error(format!(
                    "--fallback: no upstream is called {name:?}; there are {names}"
                ));
            };
            if upstream == at && model.is_none() {
                return error(format!(
                    "--fallback: {name:?} cannot stand in for itself, but with another model: \
                     {name}:MODEL"
                ));
            }
            let stand_in = StandIn {
                name: all[upstream].name.clone(),
                upstream,
                model: model.map(str::to_owned),
            };
            if stand_ins.contains(&stand_in) {
                return error(format!("--fallback: {asked:?} stands there twice"));
            }
            stand_ins.push(stand_in);
        }
        Ok(StandIns { all: stand_ins, after: after.map(Duration::from_secs) })
    }
}

#[cfg(test)]
mod tests;
