use tower_layer::Layer;

use super::{handle::ShutdownHandle, service::Shutdown};

/// Puts [`Shutdown`] in front of a service: its answers end with an error when a [`ShutdownHandle`] is
/// used.
///
/// See the [module](super) for how a server stops with it, and where it stands.
#[derive(Clone, Debug)]
pub struct ShutdownLayer {
    handle: ShutdownHandle,
}

impl ShutdownLayer {
    /// A layer whose services end what they do when `handle` is used.
    #[must_use]
    pub const fn new(handle: ShutdownHandle) -> Self {
        Self { handle }
    }
}

impl<S> Layer<S> for ShutdownLayer {
    type Service = Shutdown<S>;

    fn layer(&self, inner: S) -> Shutdown<S> {
        Shutdown::over(inner, self.handle.clone())
    }
}

impl<S> Shutdown<S> {
    service!(made by ShutdownLayer::new(handle: ShutdownHandle));
}
