//! The proxy of examples/proxy: the unit tests of its modules, and the program from outside.
#![cfg(all(
    feature = "auth",
    feature = "client",
    feature = "compatible",
    feature = "dedup",
    feature = "openai",
    feature = "session",
    feature = "tool-call",
    feature = "tool-wrap",
    feature = "web"
))]

mod binary;
mod command;
mod credentials;
#[cfg(unix)]
mod logs;
mod orphans;
#[path = "../served/proxied.rs"]
mod proxied;
#[expect(dead_code, reason = "the program's start is not called here")]
#[path = "../../examples/proxy/main.rs"]
mod proxy;
mod readme;
#[cfg(feature = "redis")]
#[path = "../served/redis.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod redis;
#[cfg(unix)]
mod reload;
mod sessions;
mod slow_clients;
#[cfg(unix)]
#[path = "../token_endpoint/mod.rs"]
mod token_endpoint;
#[path = "../traced/mod.rs"]
mod traced;
mod unread_bodies;
