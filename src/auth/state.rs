use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

use super::CredentialKind;
use crate::AccountName;

/// How an account does: for a health page, and for people.
///
/// Holds no secret, and nothing from which one could be had. Serialises with spans in seconds:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_qwen::auth::{AccountStatus, Credential, CredentialPool, StaticCredential};
///
/// let key = Credential::api_key("sk-not-a-real-key")?;
/// let pool = CredentialPool::new("main", StaticCredential::new(key));
/// assert_eq!(pool.accounts()[0].status, AccountStatus::NotLoaded);
/// pool.load().await;
/// assert_eq!(
///     serde_json::to_value(pool.accounts())?[0],
///     serde_json::json!({"name": "main", "kind": "apikey", "status": "ready",
///         "requests": 0, "failures": 0, "refreshes": 0})
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AccountState {
    /// Who.
    pub name: AccountName,
    /// What its credential is; `None` before it was first loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<CredentialKind>,
    /// How it does.
    pub status: AccountStatus,
    /// How long its access token lives still, in whole seconds; `None` where that is not known.
    #[serde(
        rename = "expires_in_s",
        skip_serializing_if = "Option::is_none",
        serialize_with = "seconds"
    )]
    pub expires_in: Option<Duration>,
    /// How long it cools down still.
    #[serde(
        rename = "available_in_s",
        skip_serializing_if = "Option::is_none",
        serialize_with = "seconds"
    )]
    pub available_in: Option<Duration>,
    /// The base URL of the API that its login is for; see
    /// [`Credential::base_url`](super::Credential::base_url).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// How many requests it was chosen for.
    pub requests: u64,
    /// How often it was refused, limited or out of quota.
    pub failures: u64,
    /// How often its credential was refreshed.
    pub refreshes: u64,
}

fn seconds<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(span.unwrap_or_default().as_secs())
}

/// How an account does, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AccountStatus {
    /// No request has needed it yet.
    NotLoaded,
    /// It can be used.
    Ready,
    /// Its token has ended; the next request refreshes it.
    Expired,
    /// The last refresh failed, in a way that passes.
    RefreshFailing,
    /// The upstream refuses even fresh tokens; tried again later.
    Refused,
    /// The upstream asked it to slow down.
    RateLimited,
    /// Its quota is used up.
    QuotaUsedUp,
    /// The login is dead until somebody signs in again.
    SignInAgain,
}

impl AccountStatus {
    pub(super) const ALL: [Self; 8] = [
        Self::NotLoaded,
        Self::Ready,
        Self::Expired,
        Self::RefreshFailing,
        Self::Refused,
        Self::RateLimited,
        Self::QuotaUsedUp,
        Self::SignInAgain,
    ];

    /// The word, as metrics and JSON have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotLoaded => "not_loaded",
            Self::Ready => "ready",
            Self::Expired => "expired",
            Self::RefreshFailing => "refresh_failing",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::QuotaUsedUp => "quota_used_up",
            Self::SignInAgain => "sign_in_again",
        }
    }
}

impl fmt::Display for AccountStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
