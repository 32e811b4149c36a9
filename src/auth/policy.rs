use std::fmt;

use http::Request;
use http_body::Body;

#[cfg(feature = "chat")]
use crate::chat::{ChatRequest, Destination};
use crate::{AccountName, CredentialHeaders};

/// Says which account a request wants, and puts account and credential on it.
///
/// A chat belongs to the account that opened it, so its later turns must go there. What a
/// request is to say so depends on its body, which is why the layer takes a policy for it:
/// [`DefaultPolicy`] unless set with
/// [`AuthRefreshLayer::policy`](super::AuthRefreshLayer::policy). [`policy_fn`] makes one of a
/// function.
///
/// ```
/// use http::Request;
/// use tower_qwen::{
///     AccountName, CredentialHeaders,
///     auth::{AccountPolicy, AuthRefreshLayer, Credential, StaticCredential},
/// };
///
/// /// A body of one's own, which is no `http_body::Body`.
/// #[derive(Clone)]
/// struct Job {
///     owner: Option<AccountName>,
///     credential: Option<CredentialHeaders>,
/// }
///
/// #[derive(Clone)]
/// struct ByOwner;
///
/// impl AccountPolicy<Job> for ByOwner {
///     fn account<'a>(&self, request: &'a Request<Job>) -> Option<&'a AccountName> {
///         request.body().owner.as_ref()
///     }
///
///     fn authorize(
///         &self,
///         request: &mut Request<Job>,
///         account: &AccountName,
///         credential: CredentialHeaders,
///     ) {
///         let job = request.body_mut();
///         job.owner = Some(account.clone());
///         job.credential = Some(credential);
///     }
/// }
///
/// let key = StaticCredential::new(Credential::api_key("sk-not-a-real-key")?);
/// let layer = AuthRefreshLayer::new(key).policy(ByOwner);
/// # let _ = layer;
/// # Ok::<_, tower_qwen::auth::InvalidToken>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which account an `http::Request<{B}>` wants",
    label = "no `AccountPolicy<{B}>`",
    note = "the default policy knows bodies that are `http_body::Body`, and `ChatRequest`",
    note = "for a body of your own give the layer a policy: \
            `.policy(policy_fn(|request: &http::Request<{B}>| None))`, or one that names an account"
)]
pub trait AccountPolicy<B> {
    /// The account that must be used, if only one can be.
    fn account<'a>(&self, request: &'a Request<B>) -> Option<&'a AccountName>;

    /// The account that the request would best be sent with, where any will do. Another is taken
    /// where this one cannot be used, or is not there. None unless implemented.
    fn wish<'a>(&self, request: &'a Request<B>) -> Option<&'a AccountName> {
        let _ = request;
        None
    }

    /// Puts `credential`, which is that of `account`, on the request, in place of any that is
    /// there.
    ///
    /// It is called for each sending, and always with a request as it came: where a request is
    /// sent once more, nothing of the first credential is left on it.
    fn authorize(
        &self,
        request: &mut Request<B>,
        account: &AccountName,
        credential: CredentialHeaders,
    );
}

/// The policy of [`AuthRefreshLayer`](super::AuthRefreshLayer) unless another is set.
///
/// - A [`ChatRequest`](crate::chat::ChatRequest) wants the account of the chat that it goes to;
///   one for a new chat wishes for the account that its destination names, if any. Its
///   `account` and `credential` are set, and no header is written: the adapter puts the credential
///   on the HTTP requests that it makes.
/// - Any request with an [`http_body::Body`] goes with every account, and the headers of the
///   credential are put among its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "it is a value to hand over, and what it decides has no settings"
)]
pub struct DefaultPolicy;

// What is wanted of a body of one's own is a policy, not that it becomes an HTTP body.
#[diagnostic::do_not_recommend]
impl<B: Body> AccountPolicy<B> for DefaultPolicy {
    #[inline]
    fn account<'a>(&self, _: &'a Request<B>) -> Option<&'a AccountName> {
        None
    }

    #[inline]
    fn authorize(&self, request: &mut Request<B>, _: &AccountName, credential: CredentialHeaders) {
        credential.apply(request.headers_mut());
    }
}

#[cfg(feature = "chat")]
impl AccountPolicy<ChatRequest> for DefaultPolicy {
    #[inline]
    fn account<'a>(&self, request: &'a Request<ChatRequest>) -> Option<&'a AccountName> {
        request.body().conversation()?.account.as_ref()
    }

    #[inline]
    fn wish<'a>(&self, request: &'a Request<ChatRequest>) -> Option<&'a AccountName> {
        request.body().destination.account()
    }

    #[inline]
    fn authorize(
        &self,
        request: &mut Request<ChatRequest>,
        account: &AccountName,
        credential: CredentialHeaders,
    ) {
        let chat = request.body_mut();
        if let Destination::Chat(conversation) = &mut chat.destination {
            conversation.account = Some(account.clone());
        }
        chat.account = Some(account.clone());
        chat.credential = Some(credential);
    }
}

/// A policy made of the function that says which account a request wants. The headers of the
/// credential are put among those of the request.
///
/// ```
/// use http::Request;
/// use tower_qwen::{
///     AccountName,
///     auth::{AuthRefreshLayer, Credential, StaticCredential, policy_fn},
/// };
///
/// struct Job {
///     owner: Option<AccountName>,
/// }
///
/// let key = StaticCredential::new(Credential::api_key("sk-not-a-real-key")?);
/// let layer = AuthRefreshLayer::new(key)
///     .policy(policy_fn(|request: &Request<Job>| request.body().owner.as_ref()));
/// # let _ = layer;
/// # Ok::<_, tower_qwen::auth::InvalidToken>(())
/// ```
pub fn policy_fn<B, F>(account: F) -> PolicyFn<F>
where
    F: Fn(&Request<B>) -> Option<&AccountName>,
{
    PolicyFn { account }
}

/// A policy made of a function; see [`policy_fn`].
#[derive(Clone, Copy)]
pub struct PolicyFn<F> {
    account: F,
}

impl<B, F> AccountPolicy<B> for PolicyFn<F>
where
    F: Fn(&Request<B>) -> Option<&AccountName>,
{
    fn account<'a>(&self, request: &'a Request<B>) -> Option<&'a AccountName> {
        (self.account)(request)
    }

    fn authorize(&self, request: &mut Request<B>, _: &AccountName, credential: CredentialHeaders) {
        credential.apply(request.headers_mut());
    }
}

impl<F> fmt::Debug for PolicyFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyFn").finish_non_exhaustive()
    }
}
