use super::Completions;
use crate::openai::layer::{Api, Config, edge};

/// The edge for legacy clients: an OpenAI `POST /v1/completions` over a chat service.
///
/// Put it outermost, on the route. See the [module](super) for an example.
#[derive(Clone, Debug)]
pub struct CompletionsLayer {
    config: Config,
}

edge!("openai::completions", CompletionsLayer, Completions, Api::Completions);
