//! Reading the configuration again while requests are served.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::watch, time::sleep};
use tower_qwen::session::SessionStore;

use super::{
    config::{Config, Options, Upstream},
    files,
    gate::Gate,
    keys::Keys,
    routes::App,
    service,
    shutdown::Shutdown,
    stack,
    tokens::Tokens,
};

/// What is replaced when the configuration is read again.
pub(crate) struct Reload {
    options: Options,
    config: Config,
    store: Arc<dyn SessionStore>,
    shutdown: Shutdown,
    gate: Gate,
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
        shutdown: Shutdown,
        gate: Gate,
        app: watch::Sender<App>,
        tokens: Tokens,
    ) -> Self {
        Self { options, config, store, shutdown, gate, app, tokens, retired: Vec::new() }
    }

    /// Where the proxy is on its way to its end.
    pub(crate) const fn shutdown(&self) -> &Shutdown {
        &self.shutdown
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

    /// The accounts of clients.
    pub(crate) const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What is in use.
    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Reads the configuration anew each time that `asked` comes.
    pub(crate) async fn run(&mut self, mut asked: impl AsyncFnMut()) -> Infallible {
        loop {
            asked().await;
            service::tell(service::State::Reloading);
            match self.again().await {
                Ok(()) => {
                    let upstreams = self.config.upstreams.len();
                    tracing::info!(upstreams, "the configuration was read again");
                }
                Err(error) => {
                    tracing::error!(%error, "the new configuration is not used; the old one stays");
                }
            }
            service::tell(service::State::Ready);
        }
    }

    /// Serves new requests with the configuration as it is now.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one line; nothing has changed then.
    async fn again(&mut self) -> Result<(), String> {
        let keys = self.config.api_keys.filed().map(Keys::file);
        let files = self.options.file().into_iter().chain(keys);
        for path in files {
            let text = settled(|| files::read(path)).await;
            let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
            if text.trim_ascii().is_empty() {
                return Err(format!("{}: it is empty", path.display()));
            }
        }
        let mut config = self.options.clone().resolve().map_err(|error| error.to_string())?;
        check_change(&self.config, &config)?;
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
        let (app, tokens) = stack::app(&config, &store, &self.shutdown, &self.gate)?;
        for (changed, what) in [
            (config.log != self.config.log, "log"),
            (config.log_format != self.config.log_format, "log-format"),
            (config.metrics != self.config.metrics, "metrics"),
            (config.write_timeout != self.config.write_timeout, "write-timeout"),
            (config.keep != self.config.keep, "usage-db"),
            (config.shutdown != self.config.shutdown, "shutdown-delay or shutdown-timeout"),
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

/// How long a file must stay as it is to be taken for whole.
const SETTLING: Duration = Duration::from_millis(100);
/// How often it is looked at for that.
const LOOKS: usize = 20;

/// What `read` gives when it gives the same twice: a file may be read while it is written.
///
/// # Errors
///
/// Those of `read`, and where it gives something else each time.
async fn settled(mut read: impl FnMut() -> io::Result<Vec<u8>>) -> Result<Vec<u8>, String> {
    let mut before = read().map_err(|error| error.to_string())?;
    for _ in 0..LOOKS {
        sleep(SETTLING).await;
        let now = read().map_err(|error| error.to_string())?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
    Err("it changes all the time".to_owned())
}

/// What a file that was cut or emptied by mistake would do, and nobody asks for while users are
/// served: answer them with invented text, or let anybody in.
///
/// # Errors
///
/// What needs a restart.
fn check_change(old: &Config, new: &Config) -> Result<(), String> {
    let emulators = |config: &Config| {
        let is_one = |upstream: &Upstream| matches!(upstream, Upstream::Emulator { .. });
        config.upstreams.iter().filter(|config| is_one(&config.upstream)).count()
    };
    let has_real = |config: &Config| emulators(config) < config.upstreams.len();
    if has_real(old) && (emulators(old) == 0 && emulators(new) > 0 || !has_real(new)) {
        return Err("it would have the emulator answer in place of a real upstream; restart the \
                    proxy if that is meant"
            .to_owned());
    }
    if !old.api_keys.is_empty() && new.api_keys.is_empty() {
        return Err("it has no API key any more, and would let anybody in; restart the proxy if \
                    that is meant"
            .to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_when_it_stays_as_it_is() {
        let mut written = ["a", "ab", "abc", "abc", "abcd"].into_iter();
        let text = settled(|| Ok(written.next().expect("asked no more").into())).await;
        assert_eq!((text, written.next()), (Ok(b"abc".to_vec()), Some("abcd")));
        let mut len = 0;
        let grown = settled(|| {
            len += 1;
            Ok(vec![0; len])
        });
        grown.await.expect_err("it grows and grows");
        assert_eq!(len, 1 + LOOKS);
        settled(|| Err(io::ErrorKind::NotFound.into())).await.expect_err("it is gone");
    }

    #[test]
    fn some_changes_need_a_restart() {
        let config = |args: &[&str]| Options::of(args).resolve().expect("valid");
        let real = ["--upstream", "web", "--base-url", "http://127.0.0.1:9"];
        let keyed = [&real[..], &["--api-key", "sk-one"]].concat();
        let other = ["--base-url", "http://127.0.0.1:9/v1", "--api-key", "sk-two,sk-three"];
        let emulator = ["--upstream", "emulator"];
        for (old, new, is_fine) in [
            (&real[..], &emulator[..], false),
            (&real, &[], false),
            (&keyed, &real, false),
            (&emulator, &real, true),
            (&emulator, &["--emulate", "vllm"], true),
            (&real, &keyed, true),
            (&keyed, &other, true),
        ] {
            let change = check_change(&config(old), &config(new));
            assert_eq!(change.is_ok(), is_fine, "{old:?} to {new:?}: {change:?}");
        }
    }
}
