//! What is done with what a request has come to: a line of the access log, and the metrics by model.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use ::metrics::{SharedString, counter, histogram};
use axum::http::{Extensions, Request};
use tokio::runtime::Handle;
use tower_qwen::{
    chat::ChatRequest,
    qwen::models::Catalogue,
    usage::{Outcome, Settlement, UsageLayer},
    variant::Suffix,
};

use super::{access::Access, config::ModelNames, gate::Payer, metrics};

/// The label of what is in no catalogue: clients can make up as many names as they like.
const OTHER: &str = "other";

/// How many models have labels of their own. An upstream may list thousands.
const MOST_MODELS: usize = 200;

/// Settles requests. A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Settle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    labels: Labels,
    /// Whether the metrics of OpenTelemetry's conventions are kept too.
    gen_ai: bool,
}

impl Settle {
    pub(crate) fn new(names: ModelNames, upstreams: BTreeSet<String>, gen_ai: bool) -> Self {
        let labels =
            Labels { names, upstreams, catalogues: OnceLock::new(), given: Mutex::default() };
        Self(Arc::new(Shared { labels, gen_ai }))
    }

    /// Says which models there are; to be called once.
    pub(crate) fn models(&self, catalogues: Vec<Catalogue>) {
        if self.0.labels.catalogues.set(Catalogues(catalogues)).is_err() {
            tracing::warn!("the catalogues of models were known already");
        }
    }

    /// Settles every request below it, once.
    pub(crate) fn layer(&self) -> UsageLayer {
        let this = self.clone();
        UsageLayer::opening(move |request: &Request<ChatRequest>| this.of(request.extensions()))
    }

    /// What is told what the request with these `extensions` has come to.
    pub(crate) fn of(&self, extensions: &Extensions) -> impl FnOnce(Settlement) + Send + use<> {
        let (access, payer) = (Access::of(extensions), extensions.get::<Payer>().cloned());
        let this = self.clone();
        move |settlement: Settlement| {
            if metrics::is_on() {
                this.0.count(&settlement);
            }
            // What nobody has let in is the proxy's own.
            if let Some(payer) = payer {
                payer.pay(&settlement);
            }
            if let Some(access) = access {
                access.settle(&settlement);
            }
        }
    }
}

/// Notes which model a client asks for: one who repeats a request has no settlement of its own.
pub(crate) fn note_model(request: Request<ChatRequest>) -> Request<ChatRequest> {
    if let Some(access) = request.extensions().get::<Access>() {
        access.model(&request.body().model);
    }
    request
}

impl Shared {
    /// What is counted of a request. There are as many series as models and upstreams, whatever clients
    /// send.
    fn count(&self, settlement: &Settlement) {
        let model = self.labels.model(settlement);
        let upstream = self.labels.upstream(settlement);
        let labels = [("model", model.clone()), ("upstream", upstream)];
        let outcome = settlement.outcome.as_str();
        counter!("tower_qwen_proxy_requests_total", &with(&labels, "outcome", outcome))
            .increment(1);
        let usage = &settlement.usage;
        for (kind, tokens) in [
            ("prompt", usage.prompt_tokens),
            ("completion", usage.completion_tokens),
            ("cached", usage.cached_tokens.unwrap_or_default()),
        ] {
            counter!("tower_qwen_proxy_tokens_total", &with(&labels, "kind", kind))
                .increment(tokens);
        }
        histogram!("tower_qwen_proxy_answer_seconds", &labels).record(settlement.total);
        if let Some(first_event) = settlement.first_event {
            histogram!("tower_qwen_proxy_first_event_seconds", &labels).record(first_event);
        }
        if self.gen_ai {
            count_gen_ai(settlement, model);
        }
    }
}

/// `labels` and one more.
fn with(
    labels: &[(&'static str, SharedString); 2],
    name: &'static str,
    value: &'static str,
) -> [(&'static str, SharedString); 3] {
    let [first, second] = labels.clone();
    [first, second, (name, value.into())]
}

/// The same as OpenTelemetry's conventions for generative AI have it, with the names that Prometheus
/// makes of theirs.
fn count_gen_ai(settlement: &Settlement, model: SharedString) {
    let labels = [
        ("gen_ai_operation_name", SharedString::from("chat")),
        ("gen_ai_provider_name", "qwen".into()),
        ("gen_ai_request_model", model),
    ];
    let and = |name: &'static str, value: SharedString| {
        labels.iter().cloned().chain([(name, value)]).collect::<Vec<_>>()
    };
    for (kind, tokens) in
        [("input", settlement.usage.prompt_tokens), ("output", settlement.usage.completion_tokens)]
    {
        // What nobody has counted is no usage.
        if tokens > 0 {
            let tokens = f64::from(u32::try_from(tokens).unwrap_or(u32::MAX));
            histogram!("gen_ai_client_token_usage", &and("gen_ai_token_type", kind.into()))
                .record(tokens);
        }
    }
    let timed = match settlement.outcome {
        Outcome::Failed(kind) => and("error_type", format!("{kind:?}").into()),
        Outcome::Gone => and("error_type", "cancelled".into()),
        _ => labels.to_vec(),
    };
    histogram!("gen_ai_client_operation_duration_seconds", &timed).record(settlement.total);
    histogram!("gen_ai_server_request_duration_seconds", &timed).record(settlement.total);
    if let Some(first_event) = settlement.first_event {
        histogram!("gen_ai_client_operation_time_to_first_chunk_seconds", &labels)
            .record(first_event);
        histogram!("gen_ai_server_time_to_first_token_seconds", &labels).record(first_event);
    }
}

/// Which labels there are.
#[derive(Debug)]
struct Labels {
    names: ModelNames,
    upstreams: BTreeSet<String>,
    catalogues: OnceLock<Catalogues>,
    /// The models that have been given a label.
    given: Mutex<BTreeSet<String>>,
}

struct Catalogues(Vec<Catalogue>);

impl std::fmt::Debug for Catalogues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Catalogues").field(&self.0.len()).finish()
    }
}

impl Labels {
    /// The name of a model that an upstream lists; of an alias that of the model that it stands for.
    fn model(&self, settlement: &Settlement) -> SharedString {
        let asked = &*settlement.model;
        let meant = self.names.resolve(asked);
        let model = meant.as_deref().unwrap_or(asked);
        let is_listed = |model: &str| {
            self.catalogues.get().is_some_and(|Catalogues(catalogues)| {
                catalogues.iter().any(|catalogue| match catalogue.last() {
                    Some(listing) => listing.get(model).is_some(),
                    None => {
                        ask(catalogue, settlement);
                        false
                    }
                })
            })
        };
        // Of a virtual model that which is asked.
        let mut names = std::iter::once(model).chain(Suffix::fronts(model, &Suffix::WEB));
        let Some(model) = names.find(|model| is_listed(model)) else { return OTHER.into() };
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if !given.contains(model) {
            if given.len() >= MOST_MODELS {
                return OTHER.into();
            }
            given.insert(model.to_owned());
        }
        model.to_owned().into()
    }

    /// Who has answered, as the configuration calls it: an upstream may be a proxy, and say another name.
    fn upstream(&self, settlement: &Settlement) -> SharedString {
        let name = settlement.upstream.as_deref().unwrap_or(OTHER);
        if self.upstreams.contains(name) { name.to_owned().into() } else { OTHER.into() }
    }
}

/// Has a list fetched for the next time: the catalogue sees to it that this is seldom.
fn ask(catalogue: &Catalogue, settlement: &Settlement) {
    if let (Outcome::Finished(_), Ok(runtime)) = (settlement.outcome, Handle::try_current()) {
        let catalogue = catalogue.clone();
        // Where it fails the catalogue says so in the log.
        runtime.spawn(async move { catalogue.list().await });
    }
}
