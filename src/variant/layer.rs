use tower_layer::Layer;

use super::{VariantService, Variants};

/// Has requests for virtual models go to the models that are there; see the [module](super).
#[derive(Clone, Debug)]
pub struct VariantLayer {
    variants: Variants,
}

impl VariantLayer {
    /// A layer for these. With no suffix among them requests pass as they are.
    #[must_use]
    pub const fn new(variants: Variants) -> Self {
        Self { variants }
    }
}

impl<S> Layer<S> for VariantLayer {
    type Service = VariantService<S>;

    fn layer(&self, inner: S) -> VariantService<S> {
        VariantService::over(inner, self.variants.clone())
    }
}

impl<S> VariantService<S> {
    service!(made by VariantLayer::new(variants: Variants));
}
