//! The layers, and every stack of two of them.

use std::cell::RefCell;

use tower::{Layer, limit::ConcurrencyLimitLayer, retry::RetryLayer};
use tower_qwen::{
    auth::{AuthRefreshLayer, Credential, StaticCredential},
    chat::{ChatRequest, FunctionTool, ResponseFormat, Tool},
    dedup::DedupLayer,
    fallback::FallbackLayer,
    format::FormatLayer,
    join::JoinLayer,
    resume::ResumeLayer,
    retry::RetryPolicy,
    session::{MemoryStore, SessionLayer},
    timeout::TimeoutLayer,
    tool::{call::ToolCallLayer, wrap::ToolWrapLayer},
    usage::{Settlement, UsageLayer},
};

use crate::{
    chat::{Chat, chat},
    upstream::Faulty,
    wire::Wire,
};

/// A layer of chats, in the documented order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Join,
    Usage,
    Fallback,
    Session,
    ToolWrap,
    Dedup,
    Format,
    ToolCall,
    Timeout,
    Resume,
    Retry,
    Auth,
}

use Part::*;

pub(crate) const PARTS: [Part; 12] = [
    Join, Usage, Fallback, Session, ToolWrap, Dedup, Format, ToolCall, Timeout, Resume, Retry, Auth,
];

thread_local! {
    /// What was settled; a test has one thread.
    static SETTLED: RefCell<Vec<Settlement>> = const { RefCell::new(Vec::new()) };
}

fn settle(settlement: Settlement) {
    SETTLED.with_borrow_mut(|all| all.push(settlement));
}

/// What was settled since the last look.
pub(crate) fn settled() -> Vec<Settlement> {
    SETTLED.take()
}

/// Layers over an adapter, the outermost first.
#[derive(Clone, Debug)]
pub(crate) struct Stack(pub(crate) Vec<Part>);

impl Stack {
    /// All layers that stand together.
    pub(crate) fn full() -> Self {
        Self(vec![Join, Usage, Fallback, Session, Dedup, Format, ToolCall, Timeout, Retry, Auth])
    }

    /// The same for clients of the XML protocol.
    pub(crate) fn full_of_xml() -> Self {
        Self(vec![Join, Usage, Fallback, Session, ToolWrap, Dedup, Format, Timeout, Retry, Auth])
    }

    /// The full stack that has nobody to fall back on.
    pub(crate) fn alone() -> Self {
        Self(vec![Join, Usage, Session, Dedup, Format, ToolCall, Timeout, Retry, Auth])
    }

    /// The same with all that may be done for an answer in words.
    pub(crate) fn resuming() -> Self {
        Self(vec![Join, Usage, Session, Dedup, ToolCall, Timeout, Resume, Retry, Auth])
    }

    /// No layer, each, each pair in its order, and the full ones.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self(Vec::new())];
        all.extend(PARTS.map(|part| Self(vec![part])));
        for (at, outer) in PARTS.iter().enumerate() {
            all.extend(PARTS[at + 1..].iter().map(|inner| Self(vec![*outer, *inner])));
        }
        all.extend([Self::full(), Self::full_of_xml(), Self::alone(), Self::resuming()]);
        all
    }

    /// The layers that do something about a question that asks for no JSON.
    pub(crate) fn as_asked_in_words(&self) -> Self {
        Self(self.0.iter().copied().filter(|part| *part != Format).collect())
    }

    pub(crate) fn has(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    /// The stack over an upstream. Who stands in for it has the same layers below the fallback.
    pub(crate) fn over(&self, wire: Wire, upstream: &Faulty, stand_in: &Faulty) -> Chat {
        // One answer may begin at a time, so a permit that is kept shows in the next turn.
        let limited = ConcurrencyLimitLayer::new(1).layer(wire.adapter(upstream));
        let mut stack = chat(limited);
        for (at, part) in self.0.iter().enumerate().rev() {
            let other = || Self(self.0[at + 1..].to_vec()).over(wire, stand_in, stand_in);
            stack = part.over(stack, other);
        }
        stack
    }

    /// Asks for what the layers do something about.
    pub(crate) fn prepare(&self, request: &mut ChatRequest) {
        if self.has(ToolCall) {
            let tool = FunctionTool::without_parameters("look_out");
            request.tools = vec![Tool::Function(tool)].into();
        }
        if self.has(Format) {
            request.response_format = Some(ResponseFormat::JsonObject);
        }
    }
}

impl Part {
    fn over(self, inner: Chat, other: impl FnOnce() -> Chat) -> Chat {
        match self {
            Join => chat(JoinLayer::new().layer(inner)),
            Usage => chat(UsageLayer::new(settle).layer(inner)),
            Fallback => chat(FallbackLayer::new("first").to("other", other()).layer(inner)),
            Session => chat(SessionLayer::new(MemoryStore::default()).layer(inner)),
            ToolWrap => chat(ToolWrapLayer::new().layer(inner)),
            Dedup => chat(DedupLayer::new().layer(inner)),
            Format => chat(FormatLayer::new().layer(inner)),
            ToolCall => chat(ToolCallLayer::prompted().layer(inner)),
            Timeout => chat(TimeoutLayer::hosted().layer(inner)),
            Resume => chat(ResumeLayer::new().layer(inner)),
            Retry => {
                let policy = RetryPolicy::new().busy(false);
                chat(RetryLayer::<RetryPolicy>::new(policy).layer(inner))
            }
            Auth => {
                let key = Credential::api_key("sk-demo-upstream").expect("a key");
                chat(AuthRefreshLayer::new(StaticCredential::new(key)).layer(inner))
            }
        }
    }
}
