//! `SessionLayer` and `DedupLayer` in the model of `tests/session_model`: whatever clients, store
//! and upstream do, every answer is given in the context that was meant.
#![no_main]

#[path = "../../tests/session_model/model.rs"]
mod model;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let ops: Vec<model::Op> = data.as_chunks().0.iter().take(160).copied().collect();
    model::run(&ops);
});
