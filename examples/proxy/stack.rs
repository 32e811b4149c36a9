//! Where the layers are put together.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body as AxumBody,
    http::{Request, Response, Uri},
};
use bytes::Bytes;
use http_body::Body;
use secrecy::ExposeSecret;
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    retry::RetryLayer,
    util::{BoxCloneSyncService, Either, option_layer},
};
use tower_qwen::{
    Error, FullBody,
    alias::AliasLayer,
    anthropic::{AnthropicLayer, CountTokens},
    auth::{AuthRefreshLayer, TokenClient},
    chat::{AnswerKind, ReasoningEffort},
    dedup::DedupLayer,
    edge::{BodyBudget, Offer},
    fetch::FetchLayer,
    format::FormatLayer,
    ollama::{self, GenerateLayer, OllamaLayer},
    openai::{
        OpenAiLayer,
        completions::CompletionsLayer,
        embeddings::{EmbeddingsLayer, NoEmbeddings},
        media::{MediaLayer, NoFetch, NoMedia},
        videos::{Jobs, VideoJobs, VideosLayer},
    },
    qwen::{
        client::{QwenUpstream, StoreClient},
        compatible::{CompatibleLayer, Server},
        models::Catalogue,
        responses::QwenResponsesLayer,
        synthesis::SynthesisLayer,
        upload::UploadLayer,
        web::QwenWebLayer,
    },
    responses::ResponsesLayer,
    retry::RetryPolicy,
    session::{Contention, MemoryStore, SessionLayer, SessionStore},
    sse::reframe::SseReframeLayer,
    tokens::TokenEstimator,
    tool::{call::ToolCallLayer, wrap::ToolWrapLayer},
    usage::UsageLayer,
    variant::{Suffix, VariantLayer, Variants},
};
use tower_qwen_emulator::{Emulator, Kind, ReplayError};

use super::{
    beside::Beside,
    chats,
    clients::Client,
    config::{
        Api, Bounds, Config, ModelNames, Sessions, Tools, Upstream, UpstreamConfig, WebCredentials,
    },
    credentials::LoginFile,
    debug_stream::place,
    gate::{Admission, Gate, Metered},
    lanes::{Can, Lane, Lanes, MAX_BODY, MediaRoutes, OllamaRoutes, Route},
    otlp::{call_span, http_span},
    pass,
    prompts::Prompts,
    ready::Reach,
    routes::{self, App, Site},
    settle::Settle,
    shutdown::Shutdown,
    sign_in,
    stand_ins::{Joined, Stacks, chat},
    tokens::{Desk, Tokens},
    trace_context::TraceContextLayer,
};

/// The app over the stacks that `config` asks for, and what knows their accounts;
/// conversations are remembered in `store`, and answers end with `shutdown`.
///
/// # Errors
///
/// If an upstream cannot be set up, with what is wrong in one line.
pub(crate) fn app(
    config: &Config,
    store: &Arc<dyn SessionStore>,
    shutdown: &Shutdown,
    gate: &Gate,
) -> Result<(App, Tokens), String> {
    let shared = Shared { jobs: gate.jobs().clone(), ..Shared::new(config, store, shutdown) };
    Ok(over(lanes_of(config, &shared)?, config, store, shutdown, gate))
}

/// The app over `lanes`.
fn over(
    lanes: Lanes,
    config: &Config,
    store: &Arc<dyn SessionStore>,
    shutdown: &Shutdown,
    gate: &Gate,
) -> (App, Tokens) {
    let desks = lanes.iter().map(|lane| lane.desk.clone()).collect();
    let tokens = Tokens::new(desks, config.clients());
    let site = Site {
        chats: chats::Chats::new(lanes.clone(), Arc::clone(store), config.clients()),
        clients: config.clients(),
        hosts: config.hosts(),
        tokens: tokens.clone(),
        shutdown: shutdown.clone(),
        budget: BodyBudget::new(config.bounds.bodies),
        admission: Admission::new(gate.clone(), config.clients(), config.rules, lanes.clone()),
        debug_stream: config.debug_stream,
        lanes,
    };
    (routes::app(site), tokens)
}

/// The stacks alone.
///
/// # Errors
///
/// Those of [`app`].
pub(crate) fn lanes(
    config: &Config,
    store: &Arc<dyn SessionStore>,
    shutdown: &Shutdown,
) -> Result<Lanes, String> {
    lanes_of(config, &Shared::new(config, store, shutdown))
}

fn lanes_of(config: &Config, shared: &Shared) -> Result<Lanes, String> {
    let shutdown = &shared.shutdown;
    let drafts = config.upstreams.iter().map(|upstream| {
        draft(upstream, shared).map_err(|error| match &config.upstreams[..] {
            [_] => error,
            _ => format!("upstream {:?}: {error}", upstream.name),
        })
    });
    let drafts = drafts.collect::<Result<Vec<_>, _>>()?;
    let all: Vec<_> = drafts.iter().map(|draft| draft.stacks.clone()).collect();
    let lanes = config
        .upstreams
        .iter()
        .zip(drafts)
        .map(|(upstream, draft)| draft.lane(upstream, shutdown, &all));
    let lanes: Vec<_> = lanes.collect();
    shared.settle.models(lanes.iter().map(|lane| lane.models.clone()).collect());
    let count = CountTokens::new(Arc::clone(&shared.estimator))
        .max_body(MAX_BODY)
        .body_pace(Some(config.body_pace()))
        .limits(config.bounds.limits);
    let lanes = Lanes::new(lanes).names(config.names.clone());
    Ok(lanes.body_pace(config.body_pace()).count_tokens(count))
}

/// What the stacks of all upstreams have in common.
struct Shared {
    bounds: Bounds,
    /// What finds the chat that a history goes on in.
    sessions: SessionLayer,
    /// What is done with what they come to.
    settle: Settle,
    /// Settles it.
    usage: UsageLayer,
    /// Learns how many tokens the requests have.
    estimator: Arc<TokenEstimator>,
    /// By which other names models are asked for.
    names: ModelNames,
    /// Whether chats are opened that do not show up in the account's list.
    temporary_chats: bool,
    /// What ends answers.
    shutdown: Shutdown,
    /// The videos that were begun.
    jobs: Jobs,
}

impl Shared {
    fn new(config: &Config, store: &Arc<dyn SessionStore>, shutdown: &Shutdown) -> Self {
        let names = config.upstreams.iter().map(UpstreamConfig::label).collect();
        let settle = Settle::new(config.names.clone(), names, config.gen_ai_metrics);
        Self {
            bounds: config.bounds,
            sessions: SessionLayer::from_shared(Arc::clone(store)).own_chats(config.own_chats()),
            usage: settle.layer(),
            settle,
            estimator: Arc::new(TokenEstimator::new()),
            names: config.names.clone(),
            temporary_chats: config.temporary_chats,
            shutdown: shutdown.clone(),
            jobs: Jobs::new(),
        }
    }

    /// What settles the requests of `config`'s upstream.
    fn settle(&self, config: &UpstreamConfig) -> UsageLayer {
        self.usage.clone().upstream(config.label())
    }

    /// Below every edge: it has kept the client's word, and answers with it.
    fn aliases(&self) -> AliasLayer {
        AliasLayer::new(self.names.aliases.clone())
    }

    /// What finds the chat of `config`'s upstream that a history goes on in.
    fn sessions(&self, config: &UpstreamConfig) -> SessionLayer {
        self.sessions.clone().scope(config.label())
    }
}

/// Where conversations are remembered.
///
/// # Errors
///
/// If the URL of Redis is none.
pub(crate) fn store(sessions: &Sessions) -> Result<Arc<dyn SessionStore>, String> {
    #[cfg(feature = "redis")]
    if let Some(url) = &sessions.redis {
        // The message of a bad URL must not hold the URL, which may hold a password.
        let url = url.expose_secret();
        let store = tower_qwen::session::RedisStore::builder(url).map_err(|_| {
            let tls = if url.starts_with("rediss:") {
                ", or this build speaks no TLS with Redis; build it with \
                 --features redis,redis/tokio-rustls-comp"
            } else {
                ""
            };
            format!("--redis: it is not a URL such as redis://127.0.0.1:6379/0{tls}")
        })?;
        return Ok(Arc::new(store.ttl(sessions.ttl).build()));
    }
    debug_assert!(sessions.redis.is_none(), "options that ask for it were refused");
    Ok(Arc::new(MemoryStore::new(sessions.capacity, sessions.ttl)))
}

/// An upstream on the way to being a lane.
struct Draft<'a> {
    stacks: Stacks,
    /// What settles its requests.
    settle: UsageLayer,
    /// The lane with its edges over those that answer its chats.
    edges: Box<dyn FnOnce(Joined) -> Lane + 'a>,
}

impl Draft<'_> {
    /// The lane of `config`'s upstream; `all` are the stacks of all of them.
    fn lane(self, config: &UpstreamConfig, shutdown: &Shutdown, all: &[Stacks]) -> Lane {
        let stacks = self.stacks.or(&config.stand_ins, &config.name, all);
        let join = config.patience.join();
        (self.edges)(stacks.joined(&join, &self.settle, &shutdown.layer()))
    }
}

fn draft<'a>(config: &'a UpstreamConfig, shared: &'a Shared) -> Result<Draft<'a>, String> {
    let failed = |error: Error| format!("the upstream cannot be set up: {error}");
    match &config.upstream {
        Upstream::Emulator { emulated, recording } => {
            let emulator = emulator(*emulated, recording.as_ref());
            let emulator = emulator.map_err(|error| format!("--replay: {error}"))?;
            let desk = desk(config, sign_in::of_emulator(emulator.clone()), None);
            Ok(match server(*emulated) {
                // It knows no credential but those of a request.
                None => {
                    let store = emulator.clone();
                    web(emulator.clone(), emulator, store, config, desk, shared)
                }
                Some(server) => {
                    compatible(emulator.clone(), emulator, server, config, desk, shared)
                }
            })
        }
        Upstream::Web { base_url, credentials, store_url } => {
            let client = web_client(&base_url.to_string(), credentials, config).map_err(failed)?;
            // Whoever is let in there has a valid login, whatever its kind.
            let user_url = sign_in::at(base_url, sign_in::USER_PATH)?;
            let desk = desk(config, token_client(config)?, Some(user_url));
            let store = match store_url {
                None => Either::Left(StoreClient::new().map_err(failed)?),
                Some(url) => {
                    Either::Right(QwenUpstream::builder(url.to_string()).build().map_err(failed)?)
                }
            };
            Ok(web(client.clone(), client.anonymous(), store, config, desk, shared))
        }
        Upstream::Compatible { base_url, server } => {
            let first_event = config.patience.first_event;
            let client_of = |url: String| {
                let client = QwenUpstream::builder(url).first_byte_timeout(first_event);
                client.build().map_err(failed)
            };
            let client = client_of(base_url.to_string())?;
            let own = match server {
                Server::LlamaCpp => client_of(sign_in::beside_v1(base_url))?,
                Server::DashScope => client_of(sign_in::origin(base_url))?,
                _ => client.clone(),
            };
            let models_url = sign_in::at(base_url, "/models")?;
            let desk = desk(config, token_client(config)?, Some(models_url));
            Ok(compatible(client, own, *server, config, desk, shared))
        }
    }
}

/// What signs in for the upstream of `config`.
///
/// # Errors
///
/// If it cannot be set up.
pub(crate) fn token_client(config: &UpstreamConfig) -> Result<TokenClient, String> {
    let web = match &config.upstream {
        Upstream::Web { base_url, .. } => base_url.clone(),
        _ => Uri::from_static("https://chat.qwen.ai"),
    };
    sign_in::client(&web, config.token_url.as_ref())
}

fn desk(config: &UpstreamConfig, client: TokenClient, models_url: Option<Uri>) -> Desk {
    Desk {
        upstream: config.label(),
        takes_sessions: !matches!(config.upstream, Upstream::Compatible { .. }),
        pool: config.accounts.pool(&client),
        files: config.accounts.files().iter().map(LoginFile::place).collect(),
        client,
        models_url,
    }
}

/// The upstream without its types, except its body's: another box would cost at each event.
type Http<B> = BoxCloneSyncService<Request<FullBody>, Response<B>, Error>;

/// `upstream` for calls that stand beside the chat stack, such as for the list of models: with a
/// credential on each.
fn signed<U, B>(upstream: U, auth: Option<&AuthRefreshLayer>) -> Http<B>
where
    U: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let plain = Http::new(upstream.map_err(|error: U::Error| pass::known(error.into())));
    match auth {
        Some(auth) => Http::new(auth.layer(plain)),
        None => plain,
    }
}

/// How people call the upstream of the page.
const WEB: &str = "chat.qwen.ai";

/// The layers over chat.qwen.ai, outermost first. `anonymous` is the same upstream, asked without
/// any credential. `store` is where its files are put, and what it makes is fetched.
fn web<'a, U, B, O, OB>(
    upstream: U,
    anonymous: U,
    store: O,
    config: &'a UpstreamConfig,
    desk: Desk,
    shared: &'a Shared,
) -> Draft<'a>
where
    U: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    O: Service<Request<FullBody>, Response = Response<OB>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    OB: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let reach = Reach::new();
    let (upstream, anonymous) =
        (place("upstream").layer(reach.over(upstream)), reach.over(anonymous));
    let auth = desk.pool.clone().map(AuthRefreshLayer::from_pool);
    let mut adapter = QwenWebLayer::new().grace(config.patience.grace);
    if shared.temporary_chats {
        adapter = adapter.chat_mode("local");
    }
    // Who tries the emulator does not wait as long as for a real video.
    if matches!(config.upstream, Upstream::Emulator { .. }) {
        adapter = adapter.task_interval(Some(Duration::from_secs(1)));
    }
    // A chat that is busy is waited for by the session, or is none.
    let retry = config.patience.retry().map(|policy| RetryLayer::new(policy.busy(false)));
    // The credential is right over the adapter: ended tokens are reported inside a 200, and only it
    // reads that.
    let web = ServiceBuilder::new()
        .layer(config.patience.limits())
        // Once, whatever is sent again below.
        .layer(option_layer(fetching(config)))
        .layer(config.patience.resume())
        .layer(option_layer(retry))
        .layer(option_layer(auth.clone()))
        .layer(call_span(&desk.upstream))
        // The files belong to the account whose credential the request has by now.
        .layer(UploadLayer::new(upstream.clone(), store.clone()))
        .layer(place("adapter"))
        .layer(adapter)
        .service(upstream.clone());
    let catalogue = Catalogue::web(signed(upstream.clone(), auth.as_ref()), anonymous);
    let variants = shared.names.variants(&catalogue, &Suffix::WEB);
    let sessions = ServiceBuilder::new()
        .layer(shared.aliases())
        .layer(VariantLayer::new(variants.clone()))
        .layer(shared.sessions(config));
    let calls = sessions.clone().layer(DedupLayer::new()).layer(FormatLayer::new());
    let calls = match config.tools {
        Tools::Off => chat(calls.service(web.clone())),
        _ => chat(calls.layer(ToolCallLayer::prompted()).service(web.clone())),
    };
    // Outside of dedup: the names of the client's tools stand in its system prompt, which dedup
    // leaves out of later turns.
    let xml = sessions.layer(ToolWrapLayer::new()).layer(DedupLayer::new()).service(web.clone());
    let stacks = Stacks::new(calls, chat(xml));
    // A prompt is a chat of its own: nobody goes on with it, so nothing is remembered of it.
    let prompts = ServiceBuilder::new()
        .layer(shared.settle(config))
        .layer(shared.shutdown.layer())
        .layer(shared.aliases())
        .layer(VariantLayer::new(variants.clone()))
        .layer(FormatLayer::new())
        .service(web.clone());
    let media = ServiceBuilder::new()
        .layer(shared.settle(config))
        .layer(shared.shutdown.layer())
        .layer(shared.aliases())
        .layer(VariantLayer::new(variants.clone()))
        .service(web);
    let edges = move |stacks: Joined| {
        let edges = Edges {
            chat: chat_edge(config, &shared.bounds).offer(Offer::Web),
            messages: messages_edge(config, shared).offer(Offer::Web),
            responses: responses_edge(config, &shared.bounds).offer(Offer::Web).store(true),
            ollama: ollama_edge(config, &shared.bounds).offer(Offer::Web),
        };
        let Chats { calls, xml, messages, responses, ollama } = edges.over(stacks);
        let generate =
            generate_edge(config, &shared.bounds).offer(Offer::Web).layer(prompts.clone());
        let completions = completions_edge(config, &shared.bounds).offer(Offer::Web).layer(prompts);
        let no_embeddings = route(NoEmbeddings::new(WEB));
        let begin = VideosLayer::new(shared.jobs.clone())
            .offer(Offer::Web)
            .max_body(MAX_BODY)
            .body_pace(Some(config.body_pace))
            .tenant(Client::tenant_of);
        let jobs = VideoJobs::new(shared.jobs.clone()).fetch(store.clone());
        let jobs = jobs.tenant(Client::tenant_of);
        let images = |edge: MediaLayer| {
            let edge = edge
                .offer(Offer::Web)
                .max_body(MAX_BODY)
                .body_pace(Some(config.body_pace))
                .max_answer(shared.bounds.answer)
                .tenant(Client::tenant_of)
                .fetch(store.clone());
            route(edge.layer(media.clone()))
        };
        Lane {
            name: config.name.clone(),
            patterns: config.models.clone(),
            chat: if config.tools == Tools::Xml { xml.clone() } else { calls },
            xml,
            messages,
            responses,
            ollama: OllamaRoutes {
                chat: ollama,
                generate: route(generate),
                embed: no_embeddings.clone(),
                embeddings: no_embeddings.clone(),
            },
            completions: route(completions),
            infill: None,
            embeddings: no_embeddings,
            media: MediaRoutes {
                images: images(MediaLayer::image_generations()),
                edits: images(MediaLayer::image_edits()),
                videos: images(MediaLayer::video_generations()),
                begin: route(begin.layer(media)),
                jobs: Some(route(jobs)),
            },
            speech: Beside::Speech.none(WEB),
            transcriptions: Beside::Transcriptions.none(WEB),
            translations: Beside::Translations.none(WEB),
            rerank: Beside::Rerank.none(WEB),
            can: Can { tools: config.tools != Tools::Off, images: true },
            models: catalogue,
            variants,
            chats: Some(chats::kept(upstream, auth)),
            desk,
            reach,
        }
    };
    Draft { stacks, settle: shared.settle(config), edges: Box::new(edges) }
}

/// What fetches URLs in messages. What the upstream itself has given a URL of, it reads itself.
fn fetching(config: &UpstreamConfig) -> Option<FetchLayer> {
    let own = matches!(config.upstream, Upstream::Web { .. } | Upstream::Emulator { .. });
    let hosts: &[&str] = if own { &["qwenlm.ai", "aliyuncs.com"] } else { &[] };
    config.fetch.clone().map(|client| FetchLayer::new(client).leave(hosts.iter().copied()))
}

/// The same upstream with its chats over DashScope's Responses API, which keeps them. All other routes
/// are those of the API beside it, which keeps nothing.
fn kept<'a, U, B>(
    draft: Draft<'a>,
    upstream: U,
    auth: Option<AuthRefreshLayer>,
    variants: Variants,
    config: &'a UpstreamConfig,
    shared: &'a Shared,
) -> Draft<'a>
where
    U: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut adapter = QwenResponsesLayer::new().grace(config.patience.grace);
    if let Some(meant) = &config.high_effort {
        adapter = adapter.effort(ReasoningEffort::High, meant.clone());
    }
    // A chat that is busy is waited for by the session.
    let retry = config.patience.retry().map(|policy| RetryLayer::new(policy.busy(false)));
    let adapter = ServiceBuilder::new()
        .layer(config.patience.limits())
        .layer(option_layer(fetching(config)))
        .layer(option_layer(retry))
        .layer(option_layer(auth))
        .layer(call_span(&config.label()))
        .layer(place("adapter"))
        .layer(adapter)
        .service(upstream);
    let sessions = ServiceBuilder::new()
        .layer(shared.aliases())
        .layer(VariantLayer::new(variants))
        // It makes several answers in one chat at the same time.
        .layer(shared.sessions(config).contention(Contention::Share));
    let calls = sessions.clone().layer(DedupLayer::new()).layer(native(config.tools));
    let calls = calls.service(adapter.clone());
    let xml = sessions.layer(ToolWrapLayer::new()).layer(DedupLayer::new()).service(adapter);
    let stacks = Stacks::new(chat(calls), chat(xml));
    let edges = move |stacks: Joined| {
        let edges = Edges {
            chat: chat_edge(config, &shared.bounds).offer(Offer::Responses),
            messages: messages_edge(config, shared).offer(Offer::Responses),
            responses: responses_edge(config, &shared.bounds).offer(Offer::Responses).store(true),
            ollama: ollama_edge(config, &shared.bounds).offer(Offer::Responses),
        };
        let join = config.patience.join();
        let beside = draft.stacks.joined(&join, &draft.settle, &shared.shutdown.layer());
        let lane = (draft.edges)(beside);
        let Chats { calls, xml, messages, responses, ollama } = edges.over(stacks);
        Lane {
            chat: if config.tools == Tools::Xml { xml.clone() } else { calls },
            xml,
            messages,
            responses,
            ollama: OllamaRoutes { chat: ollama, ..lane.ollama },
            ..lane
        }
    };
    Draft { stacks, settle: shared.settle(config), edges: Box::new(edges) }
}

/// What has calls of tools reach the client where the upstream may have tools of its own.
const fn native(tools: Tools) -> ToolCallLayer {
    match tools {
        Tools::Prompt => ToolCallLayer::prompted(),
        Tools::Native | Tools::Off => ToolCallLayer::native(),
        Tools::Openai | Tools::Rescue | Tools::Xml => ToolCallLayer::native_with_rescue(),
    }
}

/// The layers over an OpenAI-compatible API, outermost first. Where it keeps no chats there are no
/// sessions. `own` is the same server where it has what stands beside the compatible API.
fn compatible<'a, U, B>(
    upstream: U,
    own: U,
    server: Server,
    config: &'a UpstreamConfig,
    desk: Desk,
    shared: &'a Shared,
) -> Draft<'a>
where
    U: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let reach = Reach::new();
    let context = TraceContextLayer::new(config.sends_trace);
    let [upstream, own] =
        [upstream, own].map(|it| place("upstream").layer(reach.over(context.layer(it))));
    let calls_of_bytes = http_span(&desk.upstream);
    let auth = desk.pool.clone().map(AuthRefreshLayer::from_pool);
    let mut adapter = CompatibleLayer::new(server).grace(config.patience.grace);
    if let Some(meant) = &config.high_effort {
        adapter = adapter.effort(ReasoningEffort::High, meant.clone());
    }
    let adapter = ServiceBuilder::new()
        .layer(config.patience.limits())
        .layer(option_layer(fetching(config)))
        .layer(config.patience.resume().replay(true))
        .layer(option_layer(config.patience.retry().map(RetryLayer::new)))
        .layer(option_layer(auth.clone()))
        .layer(call_span(&desk.upstream))
        .layer(place("adapter"))
        .layer(adapter)
        .service(upstream.clone());
    let catalogue = Catalogue::compatible(signed(upstream.clone(), auth.as_ref()), server);
    let variants = shared.names.variants(&catalogue, Suffix::of_server(server));
    let aliases =
        ServiceBuilder::new().layer(shared.aliases()).layer(VariantLayer::new(variants.clone()));
    let calls = aliases.clone().layer(native(config.tools)).service(adapter.clone());
    let xml = aliases.clone().layer(ToolWrapLayer::new()).service(adapter.clone());
    let stacks = Stacks::new(chat(calls), chat(xml));
    let prompts = shared.shutdown.layer().layer(aliases.service(adapter));
    let prompts = shared.settle(config).layer(prompts);
    let usage = shared.settle(config);
    let settle = shared.settle.clone();
    let kept_upstream =
        (config.api == Api::Responses).then(|| (upstream.clone(), auth.clone(), variants.clone()));
    let synthesis = (server == Server::DashScope)
        .then(|| synthesis(own.clone(), auth.as_ref(), &variants, config, &desk, shared));
    let edges = move |stacks: Joined| {
        // DashScope keeps a cache by the client's marks, and bills by it.
        let is_marked = matches!(server, Server::DashScope | Server::Portal);
        let edges = Edges {
            chat: chat_edge(config, &shared.bounds),
            messages: messages_edge(config, shared).cache_control(is_marked),
            responses: responses_edge(config, &shared.bounds),
            ollama: ollama_edge(config, &shared.bounds),
        };
        let Chats { calls, xml, messages, responses, ollama } = edges.over(stacks);
        let generate = generate_edge(config, &shared.bounds).layer(prompts.clone());
        let as_chats = route(completions_edge(config, &shared.bounds).layer(prompts));
        let passage = |path| {
            pass::Passage::to(path)
                .total(config.patience.total)
                .grace(config.patience.grace)
                .names(shared.names.clone())
                .shutdown(shared.shutdown.answers().clone())
                .body_pace(config.body_pace)
                .max_answer(shared.bounds.answer)
        };
        let own = calls_of_bytes.layer(signed(own, auth.as_ref()));
        // There one limit is for the first event as for those behind it.
        let silence = config.patience.first_event.max(config.patience.idle);
        let reframe = SseReframeLayer::new().idle_events(Some(silence));
        // By the head of a response: nobody has seen anything of it then.
        let again = option_layer(config.patience.retry().map(RetryLayer::<RetryPolicy>::new));
        let infill = (server == Server::LlamaCpp).then(|| {
            let own = reframe.layer(again.layer(own.clone()));
            passage("/infill").over(Metered::new(own, usage.clone(), settle.clone()))
        });
        let signed = signed(upstream, auth.as_ref());
        let bytes = reframe.layer(again.layer(calls_of_bytes.layer(signed.clone())));
        let bytes = Metered::new(bytes, usage.clone(), settle.clone());
        let passed = passage("/chat/completions").over(bytes.clone());
        // A prompt that is answered as a chat is no prompt any more, so the server's own route is
        // first.
        let completions = Prompts::new(server, config.completions)
            .names(shared.names.clone())
            .body_pace(config.body_pace)
            .over(as_chats, passage("/completions").over(bytes));
        let chat = match config.tools {
            // What a server can be asked for and the layers have not, it is asked for byte by byte.
            Tools::Openai | Tools::Rescue | Tools::Native | Tools::Prompt => {
                pass::or_bytes(calls, passed, config.body_pace)
            }
            // What answers in XML has one form of answer.
            Tools::Xml => xml.clone(),
            Tools::Off => passed,
        };
        let no_images = route(NoMedia::new(server.name(), AnswerKind::Image));
        let metered = Metered::new(signed.clone(), usage.clone(), settle.clone());
        let name = server.name();
        let beside = |what: Beside| match what.path(server) {
            Some(path) => what.over(passage(path).takes_forms().over(metered.clone()), name),
            None => what.none(name),
        };
        let rerank = match server {
            // It stands beside the compatible mode there.
            Server::DashScope => {
                let own = Metered::new(own.clone(), usage.clone(), settle.clone());
                Beside::Rerank.over(passage("/compatible-api/v1/reranks").over(own), name)
            }
            _ => beside(Beside::Rerank),
        };
        let no_videos = route(NoMedia::new(server.name(), AnswerKind::Video));
        let names = shared.names.clone();
        let renaming = calls_of_bytes.layer(signed.clone());
        let renaming = renaming.map_request(move |request| names.rename(request));
        let renaming = Metered::new(renaming, usage, settle);
        let embeddings = EmbeddingsLayer::new(server)
            .max_body(MAX_BODY)
            .body_pace(Some(config.body_pace))
            .layer(renaming.clone());
        let embed = ollama::EmbedLayer::new(server)
            .max_body(MAX_BODY)
            .body_pace(Some(config.body_pace))
            .layer(renaming.clone());
        let embed_one = ollama::EmbeddingsLayer::new(server)
            .max_body(MAX_BODY)
            .body_pace(Some(config.body_pace))
            .layer(renaming);
        Lane {
            name: config.name.clone(),
            patterns: config.models.clone(),
            chat,
            xml,
            messages,
            responses,
            ollama: OllamaRoutes {
                chat: ollama,
                generate: route(generate),
                embed: route(embed),
                embeddings: route(embed_one),
            },
            completions,
            infill,
            embeddings: route(embeddings),
            media: synthesis.unwrap_or_else(|| MediaRoutes {
                images: no_images.clone(),
                edits: no_images,
                videos: no_videos.clone(),
                begin: no_videos,
                jobs: None,
            }),
            speech: beside(Beside::Speech),
            transcriptions: beside(Beside::Transcriptions),
            translations: beside(Beside::Translations),
            rerank,
            can: Can { tools: true, images: true },
            models: catalogue,
            variants,
            chats: None,
            desk,
            reach,
        }
    };
    let draft = Draft { stacks, settle: shared.settle(config), edges: Box::new(edges) };
    match kept_upstream {
        None => draft,
        Some((upstream, auth, variants)) => kept(draft, upstream, auth, variants, config, shared),
    }
}

/// What fetches what was made, from whichever host.
type Fetch = BoxCloneSyncService<Request<FullBody>, Response<AxumBody>, BoxError>;

fn fetch<F, B>(service: F) -> Fetch
where
    F: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = service.map_response(|response: Response<B>| response.map(AxumBody::new));
    Fetch::new(service.map_err(Into::into))
}

/// The routes of images and videos over DashScope's own API, which is on the host `own`.
fn synthesis<U, B>(
    own: U,
    auth: Option<&AuthRefreshLayer>,
    variants: &Variants,
    config: &UpstreamConfig,
    desk: &Desk,
    shared: &Shared,
) -> MediaRoutes
where
    U: Service<Request<FullBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let is_emulated = matches!(config.upstream, Upstream::Emulator { .. });
    let fetch = match StoreClient::new() {
        _ if is_emulated => fetch(own.clone()),
        Ok(client) => fetch(client),
        Err(error) => {
            tracing::warn!(%error, "what is made cannot be fetched");
            fetch(NoFetch::default())
        }
    };
    let below = |mut request: Request<FullBody>| {
        let path = format!("/api/v1{}", request.uri().path());
        *request.uri_mut() = path.parse().expect("a path behind another is one");
        request
    };
    let retry = config.patience.retry().map(RetryLayer::<RetryPolicy>::new);
    // Who tries the emulator does not wait as long as for a real video.
    let interval = is_emulated.then_some(Duration::from_secs(1));
    let stack = ServiceBuilder::new()
        .layer(shared.settle(config))
        .layer(shared.shutdown.layer())
        .layer(shared.aliases())
        .layer(VariantLayer::new(variants.clone()))
        .layer(config.patience.limits())
        .layer(option_layer(retry))
        .layer(option_layer(auth.cloned()))
        .layer(call_span(&desk.upstream))
        .layer(place("adapter"))
        .layer(SynthesisLayer::new().task_interval(interval))
        .map_request(below)
        .service(own);
    let waited = |edge: MediaLayer| {
        let edge = edge
            .max_body(MAX_BODY)
            .body_pace(Some(config.body_pace))
            .max_answer(shared.bounds.answer)
            .tenant(Client::tenant_of)
            .fetch(fetch.clone());
        route(edge.layer(stack.clone()))
    };
    let begin = VideosLayer::new(shared.jobs.clone())
        .max_body(MAX_BODY)
        .body_pace(Some(config.body_pace))
        .tenant(Client::tenant_of);
    let jobs = VideoJobs::new(shared.jobs.clone()).fetch(fetch.clone());
    MediaRoutes {
        images: waited(MediaLayer::image_generations()),
        edits: waited(MediaLayer::image_edits()),
        videos: waited(MediaLayer::video_generations()),
        begin: route(begin.layer(stack.clone())),
        jobs: Some(route(jobs.tenant(Client::tenant_of))),
    }
}

/// The edges over chats.
struct Edges {
    chat: OpenAiLayer,
    messages: AnthropicLayer,
    responses: ResponsesLayer,
    ollama: OllamaLayer,
}

/// The routes of chats.
struct Chats {
    calls: Route,
    xml: Route,
    messages: Route,
    responses: Route,
    ollama: Route,
}

impl Edges {
    /// Their routes. The protocols beside that of the chat API have one form for calls, whatever
    /// those of the chat API want.
    fn over(self, stacks: Joined) -> Chats {
        Chats {
            calls: stacks.named(route(self.chat.layer(stacks.calls.clone()))),
            xml: stacks.named(route(self.chat.layer(stacks.xml.clone()))),
            messages: stacks.named(route(self.messages.layer(stacks.calls.clone()))),
            responses: stacks.named(route(self.responses.layer(stacks.calls.clone()))),
            ollama: stacks.named(route(self.ollama.layer(stacks.calls.clone()))),
        }
    }
}

/// An edge with the limits of the configuration, for the clients that are known here. Each is a type
/// of its own with the same options.
macro_rules! within {
    ($config:ident, $bounds:expr, $edge:expr) => {
        $edge
            .max_body(MAX_BODY)
            .body_pace(Some($config.body_pace))
            .limits($bounds.limits)
            .max_answer($bounds.answer)
            .tenant(Client::tenant_of)
    };
}

/// The edge of chats.
fn chat_edge(config: &UpstreamConfig, bounds: &Bounds) -> OpenAiLayer {
    within!(config, bounds, OpenAiLayer::new())
}

/// The edge of the Messages API.
fn messages_edge(config: &UpstreamConfig, shared: &Shared) -> AnthropicLayer {
    let edge = AnthropicLayer::new().estimator(Arc::clone(&shared.estimator));
    within!(config, shared.bounds, edge)
}

/// The edge of the Responses API.
fn responses_edge(config: &UpstreamConfig, bounds: &Bounds) -> ResponsesLayer {
    within!(config, bounds, ResponsesLayer::new())
}

/// The edge of Ollama's chats.
fn ollama_edge(config: &UpstreamConfig, bounds: &Bounds) -> OllamaLayer {
    within!(config, bounds, OllamaLayer::new())
}

/// The edge of Ollama's prompts.
fn generate_edge(config: &UpstreamConfig, bounds: &Bounds) -> GenerateLayer {
    within!(config, bounds, GenerateLayer::new())
}

/// The edge of legacy completions.
fn completions_edge(config: &UpstreamConfig, bounds: &Bounds) -> CompletionsLayer {
    within!(config, bounds, CompletionsLayer::new())
}

/// A stack as the dispatcher wants it, whatever its types.
fn route<S, B>(stack: S) -> Route
where
    S: Service<axum::extract::Request, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Route::new(stack.map_response(|response: Response<B>| response.map(AxumBody::new)))
}

fn emulator(emulated: Kind, recording: Option<&Bytes>) -> Result<Emulator, ReplayError> {
    let builder = Emulator::builder().kind(emulated);
    Ok(match recording {
        Some(recording) => builder.replay(recording.clone())?.build(),
        // Words come as from a model, so that a person sees them stream.
        None => builder.pace(Emulator::DEMO_PACE).build(),
    })
}

/// What the adapter calls an emulated server; `None` for the web API, which has an adapter of its
/// own.
fn server(emulated: Kind) -> Option<Server> {
    Some(match emulated {
        Kind::Web => return None,
        Kind::Vllm => Server::Vllm,
        Kind::SgLang => Server::SgLang,
        Kind::Ollama => Server::Ollama,
        Kind::LlamaCpp => Server::LlamaCpp,
        Kind::DashScope => Server::DashScope,
        Kind::Portal => Server::Portal,
        // Another one speaks the OpenAI API too.
        _ => Server::Generic,
    })
}

/// What identifies the account is put on by the accounts' layer, so the client has the rest.
fn web_client(
    base_url: &str,
    credentials: &WebCredentials,
    config: &UpstreamConfig,
) -> Result<QwenUpstream, Error> {
    let mut builder =
        QwenUpstream::web().base_url(base_url).first_byte_timeout(config.patience.first_event);
    if let Some(token) = &credentials.umid_token {
        builder = builder.header("bx-umidtoken", token.expose_secret());
    }
    if let (Some(cookies), true) = (&credentials.cookies, config.accounts.is_empty()) {
        builder = builder.cookies(cookies.expose_secret());
    }
    builder.build()
}

#[cfg(test)]
mod tests;
