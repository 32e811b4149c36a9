//! A login in a file that other programs read and refresh too.

mod disk;
mod file;
mod lock;
mod stored;

pub use self::{file::OAuthFile, stored::StoredCredential};
