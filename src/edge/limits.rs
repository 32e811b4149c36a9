/// How many things one request may hold.
///
/// A message, a part or a call may be a few bytes of a body, and takes some hundred in memory.
/// These counts keep a request to about its size. They are checked while the body is read, before
/// anything large is built. A request that exceeds one is answered with 400, with the code
/// `too_many` or `too_deep`, the field, and the limit.
///
/// Beside its body and four times the size of that, a request with every count at its limit takes
/// less than 32 MiB under the default numbers; the counts of a body of 4 MiB cannot all be reached
/// at once.
///
/// ```
/// use tower_qwen::{edge::Limits, openai::OpenAiLayer};
///
/// let mut limits = Limits::new();
/// limits.messages = 1_000;
/// let edge = OpenAiLayer::new().limits(limits);
/// # let _ = edge;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Messages: 16,384.
    pub messages: usize,
    /// Parts of content, of all messages together: 32,768.
    pub parts: usize,
    /// Calls of tools, of all messages together: 32,768.
    pub calls: usize,
    /// Tools on offer: 4,096.
    pub tools: usize,
    /// Sequences that end the answer (`stop`): 256.
    pub stops: usize,
    /// How deep lists and objects nest, the body's own included: 512.
    pub nesting: usize,
}

impl Limits {
    /// The numbers above.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            messages: 16_384,
            parts: 32_768,
            calls: 32_768,
            tools: 4_096,
            stops: 256,
            nesting: 512,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
