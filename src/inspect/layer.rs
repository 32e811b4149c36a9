use http::Extensions;

use super::view::{Choice, Place, View};

/// Puts [`Inspect`](super::Inspect) in front of a service: the log tells what streams through there.
///
/// See the [module](super) for what is told, and when.
#[derive(Clone, Copy, Debug)]
pub struct InspectLayer {
    pub(super) place: Place,
}

impl InspectLayer {
    /// A layer at a place that the log calls `place`; it tells [`View::Events`] of every request.
    #[must_use]
    pub const fn new(place: &'static str) -> Self {
        Self { place: Place { name: place, choice: Choice::All(View::Events) } }
    }

    /// How much is told of every request.
    #[must_use]
    pub const fn view(mut self, view: View) -> Self {
        self.place.choice = Choice::All(view);
        self
    }

    /// How much is told of a request, by its extensions, which go along from the edge to the client of the
    /// upstream.
    ///
    /// It is not asked where nobody listens.
    ///
    /// ```
    /// use tower_qwen::inspect::{InspectLayer, View};
    ///
    /// /// Put among a request's extensions by whoever may ask for it.
    /// #[derive(Clone)]
    /// struct Wanted;
    ///
    /// let layer = InspectLayer::new("stack").view_by(|request| match request.get::<Wanted>() {
    ///     Some(Wanted) => View::Events,
    ///     None => View::None,
    /// });
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub const fn view_by(mut self, view: fn(&Extensions) -> View) -> Self {
        self.place.choice = Choice::Each(view);
        self
    }
}
