//! `AuthRefreshLayer` in the world of `tests/auth_state`: any script of requests, failures, time
//! and other processes keeps its promises.
#![no_main]

#[path = "../../tests/auth_state/machine.rs"]
mod machine;

use libfuzzer_sys::fuzz_target;
use machine::{Op, Store, run};

fuzz_target!(|data: &[u8]| {
    let script: Vec<Op> =
        data.chunks_exact(2).take(128).map(|pair| Op::from_bytes([pair[0], pair[1]])).collect();
    run(&script, Store::Memory);
});
