//! What the data of a part is: how clients write it, and what its first bytes say (sans-I/O).

#[cfg(feature = "upload")]
mod data;
mod kind;

#[cfg(all(test, feature = "upload"))]
pub(crate) use self::data::encode;
pub(crate) use self::kind::of_bytes;
#[cfg(feature = "upload")]
pub(crate) use self::{
    data::{Data, Unreadable, decode, is_web_url},
    kind::{extension, of_name},
};
