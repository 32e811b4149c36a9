use std::sync::Arc;

use tower_layer::Layer;

use super::{Fetch, FetchClient};

/// Makes [`Fetch`]: what URLs in parts of a message name is fetched, and stands there in `data:` URLs.
///
/// See the [module](super) for where it stands.
#[derive(Clone, Debug)]
pub struct FetchLayer {
    client: FetchClient,
    left_alone: Arc<Vec<String>>,
}

impl FetchLayer {
    /// A layer that fetches with `client`.
    #[must_use]
    pub fn new(client: FetchClient) -> Self {
        Self { client, left_alone: Arc::default() }
    }

    /// Leaves URLs of these hosts, and of those below them, as they are: the upstream's own, which it
    /// reads itself. Default: none.
    #[must_use]
    pub fn leave<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.left_alone = Arc::new(hosts.into_iter().map(Into::into).collect());
        self
    }
}

impl<S> Layer<S> for FetchLayer {
    type Service = Fetch<S>;

    fn layer(&self, inner: S) -> Fetch<S> {
        Fetch::over(inner, self.client.clone(), Arc::clone(&self.left_alone))
    }
}

impl<S> Fetch<S> {
    service!(made by FetchLayer::new(client: FetchClient));
}
