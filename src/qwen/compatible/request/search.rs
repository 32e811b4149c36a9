//! A search of the web, in the words of a server that has one.

use super::super::{
    server::Server,
    write::{Object, Sink},
};
use crate::chat::{AnswerKind, ChatRequest, Extra, Tool};

/// What asks for a search of the web in OpenAI's words.
pub(super) const WEB_SEARCH: &str = "web_search_options";

/// A search of the web as it is asked for, where the server has its own words for that.
#[derive(Clone, Copy)]
pub(super) struct Search {
    /// Whether this server's words are known.
    is_ours: bool,
    /// Whether it is asked for, other than in the server's own words.
    is_wanted: bool,
    /// Whether the model may not do without.
    is_forced: bool,
}

impl Search {
    pub(super) fn of(request: &ChatRequest, server: Server) -> Self {
        let is_asked = || {
            request.extra.get(WEB_SEARCH).is_some_and(|value| !value.is_null())
                || request.tools.iter().any(is_search)
        };
        let is_ours = server == Server::DashScope;
        let is_forced = request.kind == AnswerKind::Search;
        Self { is_ours, is_wanted: is_ours && (is_forced || is_asked()), is_forced }
    }

    /// Whether the server is told in its own words, and in no others.
    pub(super) const fn is_ours(self) -> bool {
        self.is_ours
    }

    /// Whoever says it in the server's words has his way.
    pub(super) fn into_object<W: Sink>(self, object: &mut Object<'_, W>, extra: &Extra) {
        if !self.is_wanted {
            return;
        }
        if !extra.contains("enable_search") {
            object.value("enable_search", &true);
        }
        if !extra.contains("search_options") {
            object.with("search_options", |out| {
                let mut options = Object::open(out);
                options.value("enable_source", &true);
                options.some("forced_search", self.is_forced.then_some(&true));
                options.close();
            });
        }
    }
}

/// Whether a tool is the upstream's own search.
pub(super) fn is_search(tool: &Tool) -> bool {
    let Tool::Other(whole) = tool else { return false };
    let kind = whole.get("type");
    kind.is_some_and(|kind| kind.as_string().is_some_and(|kind| kind.starts_with("web_search")))
}
