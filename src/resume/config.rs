/// What [`ResumeLayer`](super::ResumeLayer) sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) tries: u32,
    pub(super) max_kept: usize,
    pub(super) replay: bool,
}
