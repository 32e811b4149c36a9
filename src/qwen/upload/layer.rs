use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    Upload,
    cache::Cache,
    config::{Config, Limit},
};
use crate::chat::FileKind;

/// Makes [`Upload`]: what parts of a message hold is uploaded, and the parts name it.
///
/// `upstream` is what reaches chat.qwen.ai, such as a clone of the client under the adapter. `store`
/// reaches the object store: it gets requests with whole URLs, and no credential of the account.
///
/// See the [module](super) for where the layer stands.
#[derive(Clone, Debug)]
pub struct UploadLayer<U, O> {
    pub(super) upstream: U,
    pub(super) store: O,
    config: Arc<Config>,
    cache: Cache,
}

impl<U, O> UploadLayer<U, O> {
    /// A layer with the limits of upstream's own page.
    pub fn new(upstream: U, store: O) -> Self {
        Self { upstream, store, config: Arc::default(), cache: Cache::default() }
    }

    fn with(mut self, set: impl FnOnce(&mut Config)) -> Self {
        set(Arc::make_mut(&mut self.config));
        self
    }

    /// How many files of `kind` a turn may have, and how many bytes each. Default: 7 images and 5
    /// documents of 20 MiB, one sound file of 100 MiB, one video of 500 MiB. A message is held in
    /// memory as a whole, so an edge's own limit of a body is the first that is met.
    #[must_use]
    pub fn limit(self, kind: FileKind, count: usize, bytes: usize) -> Self {
        self.with(|config| config.set_limit(kind, Limit { count, bytes }))
    }

    /// Whether files of several kinds may stand in one turn. Upstream's page takes one kind at a time,
    /// and what upstream does with more is not known. Default: no.
    #[must_use]
    pub fn mixed(self, allowed: bool) -> Self {
        self.with(|config| config.mixed = allowed)
    }

    /// The hosts that a file may be put to, and with each those below it. Where upstream names
    /// another one, nothing is sent there, and it is an error. Default: `aliyuncs.com`.
    #[must_use]
    pub fn hosts<H: Into<String>>(self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.with(|config| config.hosts = hosts.into_iter().map(Into::into).collect())
    }

    /// How many files of one request are uploaded at a time. Default: 4.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn parallel(self, files: usize) -> Self {
        assert!(files > 0, "at least one file is uploaded at a time");
        self.with(|config| config.parallel = files)
    }

    /// How long uploading one file may take, with the reading of a document. Default: 120 s.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|config| config.deadline = deadline)
    }

    /// How long to wait between two questions whether a document has been read. Default: 2 s, as the
    /// page does.
    #[must_use]
    pub fn poll_interval(self, interval: Duration) -> Self {
        self.with(|config| config.poll = interval)
    }

    /// For how long an upload is used again where the same tenant sends the same file, for the same
    /// account; `capacity` uploads are remembered at most. [`Duration::ZERO`] for never. Default: 120 s
    /// and 1,024.
    ///
    /// Upstream signs the URL of a file for 300 s, and nobody knows of a way to have it signed anew.
    /// What is older than that is of no use, and what is nearly as old may be by the time that the
    /// model looks at it. So the longest time that is taken is 240 s.
    #[must_use]
    pub fn reuse(self, time: Duration, capacity: usize) -> Self {
        self.with(|config| {
            config.reuse = time.min(Duration::from_secs(240));
            config.capacity = capacity;
        })
    }
}

impl<S, U: Clone, O: Clone> Layer<S> for UploadLayer<U, O> {
    type Service = Upload<S, U, O>;

    fn layer(&self, inner: S) -> Self::Service {
        Upload {
            inner,
            upstream: self.upstream.clone(),
            store: self.store.clone(),
            config: Arc::clone(&self.config),
            cache: self.cache.clone(),
        }
    }
}

impl<S, U: Clone, O: Clone> Upload<S, U, O> {
    /// The service over `inner`, with what `layer` says.
    pub fn new(inner: S, layer: &UploadLayer<U, O>) -> Self {
        layer.layer(inner)
    }
}
