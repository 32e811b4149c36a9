//! Credentials that are given once and never change.

use std::{collections::HashMap, future::ready};

use super::{
    BoxFuture, Credential, CredentialProvider, InvalidToken, RefreshError, Renewal,
    error::not_refreshable, token::split_cookies,
};

/// A credential that is given once and never changes.
///
/// For API keys, and for web sessions that are pasted in. When it is refused there is nothing
/// to refresh: the request is passed on to another account, or its failure to the client.
///
/// ```
/// use tower_qwen::auth::{AuthRefreshLayer, Credential, StaticCredential};
///
/// let key = Credential::api_key("sk-not-a-real-key")?;
/// let layer = AuthRefreshLayer::new(StaticCredential::new(key));
/// # Ok::<_, tower_qwen::auth::InvalidToken>(())
/// ```
#[derive(Clone, Debug)]
pub struct StaticCredential(Credential);

impl StaticCredential {
    /// Gives out `credential`.
    #[must_use]
    pub const fn new(credential: Credential) -> Self {
        Self(credential)
    }
}

/// A credential out of environment variables.
///
/// | variable | what it is |
/// | --- | --- |
/// | `QWEN_TOKEN` | a JWT (`eyJ…`) or compressed token (`H4sI…`) of a web session; anything else is the `bx-umidtoken`, the older meaning of the name |
/// | `QWEN_COOKIES` | the web session's `cookie` header; its `token` cookie stands in for a missing JWT |
/// | `QWEN_USER_AGENT`, `QWEN_BX_UA`, `QWEN_BX_V`, `QWEN_BX_UMIDTOKEN` | headers that belong to the web session, forwarded as given |
/// | `QWEN_API_KEY`, else `DASHSCOPE_API_KEY` | an API key; used where there is no web session |
///
/// They are read once. Nothing is refreshed.
///
/// ```
/// use tower_qwen::auth::EnvironmentCredential;
///
/// let provider = EnvironmentCredential::from_vars([("QWEN_API_KEY", "sk-not-a-real-key")])?;
/// assert!(provider.is_some());
/// assert!(EnvironmentCredential::from_vars([("HOME", "/")])?.is_none());
/// # Ok::<_, tower_qwen::auth::InvalidToken>(())
/// ```
#[derive(Debug)]
pub struct EnvironmentCredential(Credential);

impl EnvironmentCredential {
    /// Reads this process's variables; `None` where none of them is set.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] where one is set and cannot be what it should be.
    pub fn from_env() -> Result<Option<Self>, InvalidToken> {
        // `vars` would panic at a variable that is not UTF-8, whoever it belongs to.
        Self::from_vars(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// The same from any list of names and values.
    ///
    /// # Errors
    ///
    /// As [`from_env`](EnvironmentCredential::from_env).
    pub fn from_vars<N: Into<String>, V: Into<String>>(
        vars: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Option<Self>, InvalidToken> {
        let vars: HashMap<String, String> =
            vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let var =
            |name: &str| vars.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        let mut device = var("QWEN_BX_UMIDTOKEN");
        let session = match (var("QWEN_TOKEN"), var("QWEN_COOKIES")) {
            (Some(token), cookies) if token.starts_with("eyJ") || token.starts_with("H4sI") => {
                Some((Credential::parse(token)?, cookies))
            }
            (token, Some(cookies)) => {
                device = device.or(token);
                let jwt = split_cookies(cookies)
                    .into_iter()
                    .find_map(|(name, value)| (name == "token").then_some(value))
                    .ok_or(InvalidToken(()))?;
                Some((Credential::web(&jwt)?, Some(cookies)))
            }
            // A device token alone lets nobody in.
            (_, None) => None,
        };
        let Some((mut credential, cookies)) = session else {
            let key = var("QWEN_API_KEY").or_else(|| var("DASHSCOPE_API_KEY"));
            return Ok(key.map(Credential::api_key).transpose()?.map(Self));
        };
        if let Some(cookies) = cookies {
            credential = credential.with_cookies(cookies)?;
        }
        for (name, value) in [
            ("bx-umidtoken", device),
            ("bx-ua", var("QWEN_BX_UA")),
            ("bx-v", var("QWEN_BX_V")),
            ("user-agent", var("QWEN_USER_AGENT")),
        ] {
            if let Some(value) = value {
                credential = credential.with_header(name, value)?;
            }
        }
        Ok(Some(Self(credential)))
    }

    /// What the variables gave.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        &self.0
    }
}

/// What both do as providers.
macro_rules! provide {
    ($($provider:ident),*) => {$(
        impl CredentialProvider for $provider {
            fn load(&self) -> BoxFuture<'_, Result<Credential, RefreshError>> {
                Box::pin(ready(Ok(self.0.clone())))
            }

            fn refresh(&self, _: Credential) -> BoxFuture<'_, Result<Renewal, RefreshError>> {
                Box::pin(ready(Err(not_refreshable())))
            }

            fn is_refreshable(&self) -> bool {
                false
            }
        }
    )*};
}

provide!(StaticCredential, EnvironmentCredential);

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::super::CredentialKind;
    use super::*;

    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE4OTM0NTYwMDB9.c2ln";

    fn read(vars: &[(&str, &str)]) -> Result<Option<HeaderMap>, InvalidToken> {
        Ok(EnvironmentCredential::from_vars(vars.iter().copied())?.map(|provider| {
            let mut headers = HeaderMap::new();
            provider.credential().headers().apply(&mut headers);
            headers
        }))
    }

    #[test]
    fn a_jwt_is_a_session() {
        let headers = read(&[
            ("QWEN_TOKEN", JWT),
            ("QWEN_COOKIES", "cna=1"),
            ("QWEN_BX_UMIDTOKEN", "device"),
            ("QWEN_USER_AGENT", "Browser/1"),
            ("QWEN_API_KEY", "sk-unused"),
        ])
        .expect("valid")
        .expect("set");
        assert_eq!(headers["authorization"], format!("Bearer {JWT}"));
        assert_eq!(headers["cookie"], format!("token={JWT}; cna=1"));
        assert_eq!(headers["bx-umidtoken"], "device");
        assert_eq!(headers["user-agent"], "Browser/1");
    }

    #[test]
    fn an_older_token_is_the_device_and_the_jwt_is_in_the_cookies() {
        let cookies = format!("cna=1; token={JWT}");
        let headers = read(&[("QWEN_TOKEN", "T2gAdevice"), ("QWEN_COOKIES", &cookies)])
            .expect("valid")
            .expect("set");
        assert_eq!(headers["authorization"], format!("Bearer {JWT}"));
        assert_eq!(headers["bx-umidtoken"], "T2gAdevice");
    }

    #[test]
    fn keys_stand_in_and_nothing_is_nothing() {
        let provider =
            EnvironmentCredential::from_vars([("DASHSCOPE_API_KEY", "sk-2"), ("QWEN_API_KEY", "")])
                .expect("valid")
                .expect("set");
        assert_eq!(provider.credential().kind(), CredentialKind::ApiKey);
        assert!(read(&[]).expect("valid").is_none());
        assert!(read(&[("QWEN_TOKEN", "device-alone")]).expect("valid").is_none());
    }

    #[test]
    fn what_cannot_be_a_token_is_an_error() {
        assert!(read(&[("QWEN_TOKEN", "eyJ.broken")]).is_err());
        assert!(read(&[("QWEN_TOKEN", "H4sIbroken")]).is_err());
        assert!(read(&[("QWEN_COOKIES", "cna=1")]).is_err());
        assert!(read(&[("QWEN_API_KEY", "a\nb")]).is_err());
    }
}
