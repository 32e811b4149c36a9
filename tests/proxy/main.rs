//! The proxy of examples/proxy: the unit tests of its modules, and the program from outside.

#[cfg(unix)]
mod access;
mod binary;
mod browser;
mod command;
mod commands;
mod credentials;
mod dashboard;
#[cfg(unix)]
mod debug_stream;
mod floods;
mod limits;
#[cfg(unix)]
mod logs;
mod memory;
mod metrics;
mod orphans;
#[cfg(all(unix, feature = "otlp"))]
mod otlp;
mod pages;
#[path = "../served/proxied.rs"]
mod proxied;
#[expect(dead_code, reason = "the program's start is not called here")]
#[path = "../../examples/proxy/main.rs"]
mod proxy;
#[cfg(feature = "redis")]
#[path = "../served/redis.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod redis;
#[cfg(unix)]
mod reload;
#[cfg(unix)]
mod repeats;
mod resumes;
mod sessions;
#[cfg(all(unix, feature = "redis"))]
mod several;
#[cfg(unix)]
mod shutdown;
#[cfg(unix)]
mod sign_in;
mod slow_clients;
#[path = "../served/stand_in.rs"]
mod stand_in;
mod stand_ins;
#[cfg(unix)]
#[path = "../token_endpoint/mod.rs"]
mod token_endpoint;
#[path = "../traced/mod.rs"]
mod traced;
mod unread_bodies;
