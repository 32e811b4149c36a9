use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::{Either, Empty, Full};

use super::AccountName;

/// What the layer must know and say about a request's body: which account it belongs to.
///
/// A chat belongs to the account that opened it (A2.7), so its later turns must go there.
/// [`ChatRequest`](crate::chat::ChatRequest) says so and is told who was chosen; bodies of bytes
/// know nothing of accounts, and the two default methods are all they need:
///
/// ```
/// use tower_qwen::auth::Affinity;
///
/// #[derive(Clone)]
/// struct MyBody(Vec<u8>);
///
/// impl Affinity for MyBody {}
/// ```
pub trait Affinity {
    /// The account that must be used, if only one can be.
    fn account(&self) -> Option<&str> {
        None
    }

    /// The account that is used.
    fn set_account(&mut self, account: &AccountName) {
        let _ = account;
    }
}

#[cfg(feature = "chat")]
impl Affinity for crate::chat::ChatRequest {
    fn account(&self) -> Option<&str> {
        self.conversation.as_ref()?.account.as_deref()
    }

    fn set_account(&mut self, account: &AccountName) {
        // Looked at first: a write copies what the clone that the layer keeps shares.
        if let Some(conversation) = &self.conversation
            && conversation.account.as_deref() != Some(account.as_str())
            && let Some(conversation) = &mut self.conversation
        {
            conversation.account = Some(account.as_str().into());
        }
        self.account = Some(account.to_shared());
    }
}

impl Affinity for () {}
impl Affinity for Bytes {}
impl Affinity for String {}
impl Affinity for Vec<u8> {}
impl Affinity for &'static str {}
impl Affinity for Cow<'static, str> {}
impl<D> Affinity for Full<D> {}
impl<D> Affinity for Empty<D> {}

impl<A: Affinity, B: Affinity> Affinity for Either<A, B> {
    fn account(&self) -> Option<&str> {
        match self {
            Self::Left(body) => body.account(),
            Self::Right(body) => body.account(),
        }
    }

    fn set_account(&mut self, account: &AccountName) {
        match self {
            Self::Left(body) => body.set_account(account),
            Self::Right(body) => body.set_account(account),
        }
    }
}
