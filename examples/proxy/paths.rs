//! The paths of the API, as clients spell them.
//!
//! A client's base URL is typed by hand: with a slash too many, with `/v1` that its SDK adds once
//! more, or without it. What can only mean one thing is served; for the rest [`unknown`] says which
//! URL is right.

use axum::{extract::Request, http::uri::PathAndQuery};
use tower_qwen::{Error, ErrorKind};

/// What stands behind `/v1` of the APIs that clients speak.
const ENDPOINTS: [&str; 15] = [
    "chat/completions",
    "messages",
    "messages/count_tokens",
    "responses",
    "completions",
    "embeddings",
    "images/generations",
    "images/edits",
    "videos/generations",
    "videos",
    "models",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "rerank",
];

/// What stands behind `/api` of Ollama's API.
const OLLAMA_ENDPOINTS: [&str; 9] =
    ["chat", "generate", "embed", "embeddings", "tags", "show", "ps", "version", "pull"];

/// What stands before the paths of the XML protocol.
const XML: &str = "xml";
const V1: &str = "v1";
const OLLAMA: &str = "api";

/// The request with the path that its own means.
pub(crate) fn mend(mut request: Request) -> Request {
    if let Some(meant) = meant(request.uri().path()) {
        let query = request.uri().query();
        let text = query.map_or_else(|| meant.clone(), |query| format!("{meant}?{query}"));
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = text.parse::<PathAndQuery>().ok();
        if let Ok(uri) = parts.try_into() {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// What `path` means, where that is another path: without empty segments, and with one `v1`.
fn meant(path: &str) -> Option<String> {
    let mut segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let at = usize::from(segments.first() == Some(&XML));
    let repeated = segments[at..].iter().take_while(|segment| **segment == V1).count();
    let rest = &segments[at + repeated..];
    // Ollama's API has no version, and its clients are given a base URL that has one.
    let is_ollama = |endpoint: &&str| OLLAMA_ENDPOINTS.contains(endpoint);
    if let [OLLAMA, endpoint] = rest
        && is_ollama(endpoint)
    {
        segments.drain(..at + repeated);
    } else if repeated > 1 {
        segments.drain(at..at + repeated - 1);
    } else if repeated == 0 && ENDPOINTS.iter().any(|endpoint| leads_to(rest, endpoint)) {
        segments.insert(at, V1);
    }
    let meant = format!("/{}", segments.join("/"));
    (meant != path).then_some(meant)
}

/// Whether these segments are `endpoint`, or something of it, such as one of the models.
fn leads_to(segments: &[&str], endpoint: &str) -> bool {
    let own: Vec<_> = endpoint.split('/').collect();
    segments.starts_with(&own) && (endpoint == "models" || segments.len() == own.len())
}

/// The error for a path that leads nowhere, with the one that was meant where it can be told.
pub(crate) fn unknown(request: &Request) -> Error {
    let (method, path) = (request.method(), request.uri().path());
    let lower = path.to_ascii_lowercase();
    let ends_in = |endpoint: &&&str| {
        lower.strip_suffix(**endpoint).is_some_and(|before| before.ends_with('/'))
    };
    let right = match ENDPOINTS.iter().find(ends_in) {
        Some(endpoint) => format!("use /v1/{endpoint}; the base URL of a client ends in /v1"),
        None if lower.starts_with("/api/") => {
            let served: Vec<_> =
                OLLAMA_ENDPOINTS.iter().map(|endpoint| format!("/api/{endpoint}")).collect();
            format!("of Ollama's API there are {}", served.join(", "))
        }
        None => "the base URL of a client ends in /v1, where chat/completions, completions, \
                 embeddings, messages, responses and models are served"
            .to_owned(),
    };
    let message = format!("there is no {method} {path} here: {right}");
    Error::new(ErrorKind::NotFound, message).with_code("unknown_url")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked(uri: &str) -> Request {
        Request::get(uri).body(Body::empty()).expect("a request")
    }

    /// Requests: what can only mean one path is that path.
    #[test]
    fn a_path_is_what_it_can_only_mean() {
        let chat = "/v1/chat/completions";
        for (kind, path, means) in [
            ("as it is", chat, chat),
            ("a trailing slash", "/v1/chat/completions/", chat),
            ("several of them", "/v1/chat/completions///", chat),
            ("a doubled slash", "//v1/chat/completions", chat),
            ("a doubled slash", "/v1//chat/completions", chat),
            ("a doubled slash", "/v1/chat//completions", chat),
            ("a doubled version", "/v1/v1/chat/completions", chat),
            ("a doubled version", "/v1/v1/v1/chat/completions", chat),
            ("both doubled", "/v1//v1/chat/completions/", chat),
            ("no version", "/chat/completions", chat),
            ("no version", "//chat/completions/", chat),
            ("no version", "/models", "/v1/models"),
            ("no version", "/models/org/echo", "/v1/models/org/echo"),
            ("no version", "/embeddings", "/v1/embeddings"),
            ("no version", "/completions", "/v1/completions"),
            ("no version", "/responses", "/v1/responses"),
            ("a trailing slash", "/v1/models/", "/v1/models"),
            ("a trailing slash", "/health/", "/health"),
            ("of XML", "/xml/chat/completions", "/xml/v1/chat/completions"),
            ("of XML", "/xml/v1/v1/chat/completions/", "/xml/v1/chat/completions"),
            ("of XML", "/xml//models/org/echo", "/xml/v1/models/org/echo"),
            ("an escape stays", "/v1//models/org%2Fecho", "/v1/models/org%2Fecho"),
            ("a query stays", "/v1//models?limit=1&a=/b//", "/v1/models?limit=1&a=/b//"),
            ("a host stays", "http://localhost//models?x", "http://localhost/v1/models?x"),
            ("no version before", "/v1/api/chat", "/api/chat"),
            ("no version before", "/v1//v1/api/tags/", "/api/tags"),
            ("Ollama's", "/api/chat/", "/api/chat"),
            ("Ollama's", "//api/embeddings", "/api/embeddings"),
            ("unknown", "/v1/api/none", "/v1/api/none"),
            ("unknown", "/v1/api/chat/more", "/v1/api/chat/more"),
            ("unknown", "/", "/"),
            ("unknown", "/v1", "/v1"),
            ("unknown", "/v1/v1", "/v1"),
            ("unknown", "/v2/chat/completions", "/v2/chat/completions"),
            ("unknown", "/completions/more", "/completions/more"),
            ("unknown", "/xml", "/xml"),
        ] {
            assert_eq!(mend(asked(path)).uri().to_string(), means, "{kind}: {path}");
        }
    }

    /// Requests: what is not served is told where to go.
    #[test]
    fn an_unknown_path_is_told_the_right_one() {
        for (path, right) in [
            ("/api/v1/chat/completions", "use /v1/chat/completions;"),
            ("/openai/deployments/m/chat/completions", "use /v1/chat/completions;"),
            ("/v1/chat/completions/chat/completions", "use /v1/chat/completions;"),
            ("/V1/Chat/Completions", "use /v1/chat/completions;"),
            ("/v1/engines/m/completions", "use /v1/completions;"),
            ("/v1/engines/m/embeddings", "use /v1/embeddings;"),
            ("/api/models", "use /v1/models;"),
            ("/api/none", "there are /api/chat, /api/generate,"),
            ("/", "ends in /v1, where"),
            ("/v1", "ends in /v1, where"),
            ("/v1/chat", "ends in /v1, where"),
            ("/v1/mycompletions", "ends in /v1, where"),
        ] {
            let error = unknown(&asked(path));
            assert!(error.message().contains(right), "{path}: {error}");
            assert_eq!(error.status(), 404);
        }
    }
}
