use bytes::Bytes;

/// In the place of the debug view where there is no `tracing`: there is never one.
pub(super) enum DebugView {}

impl DebugView {
    pub(super) const fn if_enabled(_content: bool) -> Option<Box<Self>> {
        None
    }

    pub(super) const fn piece_in(&mut self, _piece: &Bytes, _held: usize) {
        match *self {}
    }

    pub(super) const fn frame_out(&mut self, _frame: &Bytes) {
        match *self {}
    }

    pub(super) const fn keep_alive(&mut self) {
        match *self {}
    }
}
