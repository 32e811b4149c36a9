use tower_layer::Layer;

use super::{Alias, Aliases};

/// Has requests for other names go to the models that they stand for; see the [module](super).
#[derive(Clone, Debug)]
pub struct AliasLayer {
    aliases: Aliases,
}

impl AliasLayer {
    /// A layer for these names. With none of them requests pass as they are.
    #[must_use]
    pub const fn new(aliases: Aliases) -> Self {
        Self { aliases }
    }
}

impl<S> Layer<S> for AliasLayer {
    type Service = Alias<S>;

    fn layer(&self, inner: S) -> Alias<S> {
        Alias::over(inner, self.aliases.clone())
    }
}

impl<S> Alias<S> {
    service!(made by AliasLayer::new(aliases: Aliases));
}
