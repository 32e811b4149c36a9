//! What the data of a part is: how clients write it, and what its first bytes say (sans-I/O).

#[cfg(any(feature = "fetch", feature = "upload"))]
mod data;
mod kind;

#[cfg(any(feature = "fetch", all(test, feature = "upload")))]
pub(crate) use self::data::encode;
#[cfg(any(feature = "fetch", feature = "upload"))]
pub(crate) use self::data::is_web_url;
pub(crate) use self::kind::of_bytes;
#[cfg(feature = "upload")]
pub(crate) use self::{
    data::{Data, Unreadable, decode},
    kind::{extension, of_name},
};
