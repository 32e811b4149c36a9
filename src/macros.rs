//! What all services of the crate have alike.

/// In an `impl<S> Service<S>` block: `new` and `layer`, as the service's layer is made, and the
/// accessors of the service inside.
///
/// `service!(DedupLayer::new())` where the layer needs nothing, `service!(SessionLayer::new(store:
/// impl SessionStore))` where it does, `service!(ToolCallLayer)` where it is made in several ways.
/// A service with more parameters than `S` has `service!(made by …)` in a block for those that its
/// layer begins with, and `service!()` in one for all.
#[allow(unused_macros, reason = "features without a service are used alone too")]
macro_rules! service {
    ($layer:ident :: new $arguments:tt) => {
        service!(made by $layer :: new $arguments);
        service!();
    };
    (made by $layer:ident :: new ($($argument:ident : $type:ty),* $(,)?)) => {
        #[doc = concat!("The service over `inner`, with what [`", stringify!($layer), "::new`] sets.")]
        pub fn new(inner: S, $($argument: $type),*) -> Self {
            ::tower_layer::Layer::layer(&$layer::new($($argument),*), inner)
        }

        #[doc = concat!("The layer that makes this service: [`", stringify!($layer), "::new`].")]
        pub fn layer($($argument: $type),*) -> $layer {
            $layer::new($($argument),*)
        }
    };
    ($layer:ident) => {
        /// The service over `inner`, with what `layer` says.
        pub fn new(inner: S, layer: &$layer) -> Self {
            ::tower_layer::Layer::layer(layer, inner)
        }

        service!();
    };
    () => {
        /// The service inside.
        pub fn get_ref(&self) -> &S {
            &self.inner
        }

        /// The service inside, to change it.
        pub fn get_mut(&mut self) -> &mut S {
            &mut self.inner
        }

        /// Takes the service inside out.
        pub fn into_inner(self) -> S {
            self.inner
        }
    };
}
