//! Reading the configuration again while requests are served.

use std::{convert::Infallible, sync::Arc};

use futures_util::FutureExt;
use tokio::sync::watch;
use tower_qwen::session::SessionStore;

use super::{
    config::{Config, Options},
    routes::App,
    stack,
    tokens::Tokens,
};

/// What is replaced when the configuration is read again.
pub(crate) struct Reload {
    options: Options,
    config: Config,
    store: Arc<dyn SessionStore>,
    app: watch::Sender<App>,
    tokens: Tokens,
    /// Those that were in use before and may have a refresh in flight.
    retired: Vec<Tokens>,
}

impl Reload {
    pub(crate) fn new(
        options: Options,
        config: Config,
        store: Arc<dyn SessionStore>,
        app: watch::Sender<App>,
        tokens: Tokens,
    ) -> Self {
        Self { options, config, store, app, tokens, retired: Vec::new() }
    }

    /// The accounts that are in use.
    pub(crate) const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Waits until no refresh is in flight, of accounts in use now or before: its answer may hold
    /// the only valid refresh token, and would be lost with the process.
    pub(crate) async fn settled(&self) {
        for tokens in self.retired.iter().chain([&self.tokens]) {
            tokens.settled().await;
        }
    }

    /// What is in use.
    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Reads the configuration anew each time that `asked` comes.
    pub(crate) async fn run(&mut self, mut asked: impl AsyncFnMut()) -> Infallible {
        loop {
            asked().await;
            match self.again() {
                Ok(()) => {
                    let upstreams = self.config.upstreams.len();
                    tracing::info!(upstreams, "the configuration was read again");
                }
                Err(error) => {
                    tracing::error!(%error, "the new configuration is not used; the old one stays");
                }
            }
        }
    }

    /// Serves new requests with the configuration as it is now.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one line; nothing has changed then.
    fn again(&mut self) -> Result<(), String> {
        let mut config = self.options.clone().resolve().map_err(|error| error.to_string())?;
        if config.listen != self.config.listen {
            tracing::warn!(option = "listen", "a new value needs a restart");
            // Who can connect is decided by where it listens, not by where it shall.
            config.listen.clone_from(&self.config.listen);
        }
        let store = if config.sessions == self.config.sessions {
            Arc::clone(&self.store)
        } else {
            stack::store(&config.sessions)?
        };
        let (app, tokens) = stack::app(&config, &store)?;
        for (changed, what) in [
            (config.log != self.config.log, "log"),
            (config.metrics != self.config.metrics, "metrics"),
            (config.write_timeout != self.config.write_timeout, "write-timeout"),
        ] {
            if changed {
                tracing::warn!(option = what, "a new value needs a restart");
            }
        }
        // What is under way holds the old app, and ends with it.
        drop(self.app.send_replace(app));
        (self.config, self.store) = (config, store);
        self.retired.retain(|tokens| tokens.settled().now_or_never().is_none());
        self.retired.push(std::mem::replace(&mut self.tokens, tokens));
        self.tokens.load_in_background();
        Ok(())
    }
}
