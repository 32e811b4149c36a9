use http::{Extensions, HeaderMap};

use crate::CredentialHeaders;

/// What every call has of the request of the middle.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) credential: Option<CredentialHeaders>,
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
}
