//! What an endpoint of signing in answers, and the credential in it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;

use super::{Credential, JwtClaims, RefreshError, RefreshErrorKind};
use crate::{head::effective_status, retry_after::retry_after};

/// How long an access token is taken to live where nothing says so.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(3600);
/// The shortest and the longest lifetime that are believed.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);
const LONGEST_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What an endpoint answered. Holds secrets, so it has no `Debug`.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The body, where it is a JSON object.
    pub(super) json: Option<Value>,
    pub(super) retry_after: Option<Duration>,
}

impl Answer {
    pub(super) fn read(response: &Response<Bytes>, now: SystemTime) -> Self {
        let status = effective_status(response.headers(), response.status());
        let retry_after = retry_after(response.headers(), now);
        let json = serde_json::from_slice(response.body()).ok().filter(Value::is_object);
        Self { status, json, retry_after }
    }

    /// The text at `pointer`, where one stands there that is not empty.
    pub(super) fn text(&self, pointer: &str) -> Option<&str> {
        self.json.as_ref()?.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
    }

    /// The seconds at `pointer`, as a number or a text, where that is a span.
    pub(super) fn span(&self, pointer: &str) -> Option<Duration> {
        let seconds = match self.json.as_ref()?.pointer(pointer)? {
            Value::String(text) => text.parse().ok()?,
            value => value.as_f64()?,
        };
        Duration::try_from_secs_f64(seconds).ok().filter(|span| !span.is_zero())
    }

    /// The error code of the answer, whatever its status: failures come with 200 too.
    pub(super) fn code(&self) -> Option<&str> {
        ["/error", "/error/code", "/data/code", "/code"].iter().find_map(|at| self.text(at))
    }

    /// Whether status and envelope say that it is what was asked for.
    pub(super) fn is_good(&self) -> bool {
        self.status.is_success()
            && self.json.as_ref().is_some_and(|json| json["success"] != Value::Bool(false))
    }

    /// The credential that the answer grants, with what it leaves out taken from `old`.
    pub(super) fn grant(
        &self,
        old: Option<&Credential>,
        now: SystemTime,
    ) -> Result<Credential, RefreshError> {
        let access = self.text("/access_token").filter(|_| self.status.is_success());
        let access = access.ok_or_else(|| self.failure())?;
        let expires_at = self
            .expires_at("/expires_in", access, now)
            .or_else(|| now.checked_add(ASSUMED_LIFETIME));
        let credential = match old {
            Some(old) => old.clone().with_access_token(access, expires_at, false),
            None => Credential::oauth(access, None, expires_at),
        };
        let mut credential = credential.map_err(|_| unusable_answer())?;
        if let Some(token) = self.text("/refresh_token") {
            credential = credential.with_refresh_token(token);
        }
        if let Some(url) = self.text("/resource_url") {
            credential = credential.with_resource_url(url);
        }
        Ok(credential)
    }

    /// The web session that the answer makes of `old`: with a short-lived access token, or as a
    /// whole new session, as an older endpoint has it.
    pub(super) fn session(
        &self,
        old: &Credential,
        now: SystemTime,
    ) -> Result<Credential, RefreshError> {
        let access = self.text("/data/access_token").map(|token| (token, false));
        let session = || self.text("/token").map(|token| (token, true));
        let token = access.or_else(session).filter(|_| self.is_good());
        let (token, is_session) = token.ok_or_else(|| self.failure())?;
        let expires_at = self
            .expires_at("/data/expires_in", token, now)
            .or_else(|| self.expires_at("/expires_in", token, now));
        let renew = || {
            let renewed = old.clone().with_access_token(token, expires_at, is_session)?;
            match self.text("/data/refresh_token") {
                Some(refresh) => renewed
                    .with_refresh_token(refresh)
                    .with_cookies(&format!("refresh_token={refresh}")),
                None => Ok(renewed),
            }
        };
        renew().map_err(|_| unusable_answer())
    }

    /// When `token` ends, by the span at `pointer` or by its own word.
    fn expires_at(&self, pointer: &str, token: &str, now: SystemTime) -> Option<SystemTime> {
        let lifetime = self.span(pointer).filter(|span| *span >= SHORTEST_LIFETIME);
        match lifetime {
            Some(lifetime) => now.checked_add(lifetime.min(LONGEST_LIFETIME)),
            None => JwtClaims::read(token).ok()?.expires_at,
        }
    }

    /// Why there is no grant in the answer: the login is dead, which 400, 401 and `invalid_grant`
    /// say, or it passes.
    pub(super) fn failure(&self) -> RefreshError {
        let passing = ["temporarily_unavailable", "server_error", "slow_down", "rate_limited"];
        let code = self.code();
        let rejected = match self.status {
            // A body that is not JSON is some intermediary's.
            _ if self.json.is_none() => false,
            _ if code.is_some_and(|code| passing.contains(&code)) => false,
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED => true,
            status if status.is_success() || status == StatusCode::FORBIDDEN => {
                matches!(code, Some("invalid_grant" | "Unauthorized" | "expired_token"))
            }
            _ => false,
        };
        let (kind, what) = if rejected {
            (RefreshErrorKind::Rejected, "the sign-in endpoint refused the login")
        } else {
            (RefreshErrorKind::Endpoint, "the sign-in endpoint did not grant a token")
        };
        // Only words from a list: an answer may hold anything, its own tokens included.
        let known = ["invalid_grant", "invalid_client", "invalid_request", "Unauthorized"];
        let code = code.filter(|code| known.contains(code) || passing.contains(code));
        let code = code.map(|code| format!(", `{code}`")).unwrap_or_default();
        let message = format!("{what} (status {}{code})", self.status.as_u16());
        RefreshError::new(kind, message).with_retry_after(self.retry_after)
    }
}

pub(super) fn unusable_answer() -> RefreshError {
    RefreshError::new(RefreshErrorKind::Endpoint, "the sign-in endpoint's answer is not usable")
}
