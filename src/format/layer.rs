use tower_layer::Layer;

use super::Format;

/// Puts [`Format`] in front of a service: `response_format` for an upstream that has no such thing.
///
/// See the [module](super) for what it does and where it stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct FormatLayer(());

impl FormatLayer {
    /// A layer that asks a second time where the first answer is not what was asked for.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for FormatLayer {
    type Service = Format<S>;

    fn layer(&self, inner: S) -> Format<S> {
        Format::over(inner)
    }
}

impl<S> Format<S> {
    service!(made by FormatLayer::new());
}
