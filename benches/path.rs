//! The whole path of an answer: upstream's bytes, decoded, past the session and the tools, and
//! encoded for the client, beside a typed parse and serialisation of the same chunks by
//! `serde_json` in the same run.
//!
//! The budget: at most a quarter of the twin, and 0.6 of it for events whose keys stand in another
//! order than upstream writes today. What it allocates is counted by tests/path_allocations.rs.

#![allow(clippy::print_stdout, reason = "a bench reports")]

use std::{
    hint::black_box,
    pin::pin,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};

mod stack;
#[allow(dead_code, reason = "other benches use more of it")]
mod streams;
use stack::{Text, answer, events, pieces, read};

const EVENTS: usize = 8192;

/// The chunk as a program that types it reads it.
#[derive(Deserialize)]
struct Chunk {
    choices: Vec<Choice>,
    usage: Usage,
}

#[derive(Deserialize)]
struct Choice {
    delta: Delta,
}

#[derive(Deserialize)]
struct Delta {
    role: String,
    content: String,
    phase: String,
    status: String,
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: u64,
    output_tokens: u64,
    total_tokens: u64,
    input_tokens_details: Details,
    output_tokens_details: Details,
    cached_tokens: u64,
}

#[derive(Deserialize)]
struct Details {
    text_tokens: u64,
}

/// And as it writes it, with the same fields as we do.
#[derive(Serialize)]
struct OutChunk<'a> {
    id: &'a str,
    object: &'a str,
    created: u64,
    model: &'a str,
    choices: [OutChoice<'a>; 1],
}

#[derive(Serialize)]
struct OutChoice<'a> {
    index: u32,
    delta: OutDelta<'a>,
    finish_reason: Option<&'a str>,
}

#[derive(Serialize)]
struct OutDelta<'a> {
    content: &'a str,
}

/// Reads and writes every chunk, and no more: no framing, no sessions, no tools.
fn twin(data: &[&[u8]]) -> usize {
    let mut bytes = 0;
    for data in data {
        let chunk: Chunk = serde_json::from_slice(data).expect("JSON");
        let Usage { input_tokens, output_tokens, total_tokens, cached_tokens, .. } = chunk.usage;
        black_box((input_tokens, output_tokens, total_tokens, cached_tokens));
        black_box(chunk.usage.input_tokens_details.text_tokens);
        black_box(chunk.usage.output_tokens_details.text_tokens);
        let delta = &chunk.choices[0].delta;
        black_box((&delta.role, &delta.phase, &delta.status));
        let out = OutChunk {
            id: "chatcmpl-0123456789abcdef0123456789abcdef",
            object: "chat.completion.chunk",
            created: 1_700_000_000,
            model: "qwen3-max",
            choices: [OutChoice {
                index: 0,
                delta: OutDelta { content: &delta.content },
                finish_reason: None,
            }],
        };
        bytes += black_box(serde_json::to_vec(&out).expect("JSON")).len();
    }
    bytes
}

/// Reads an answer to its end; how many bytes it was.
fn drain<B>(body: B) -> usize
where
    B: http_body::Body<Data = bytes::Bytes, Error = std::convert::Infallible>,
{
    let mut bytes = 0;
    read(pin!(body), usize::MAX, |frame| bytes += black_box(frame).len());
    bytes
}

fn path(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _guard = runtime.enter();

    let shapes = [
        ("prose, an event a piece and a wait", Text::Prose, None, true, 0.25),
        ("prose, an event a piece", Text::Prose, None, false, 0.25),
        ("prose, 1,460 bytes a piece", Text::Prose, Some(1460), false, 0.25),
        ("markup, an event a piece and a wait", Text::Markup, None, true, 0.25),
        ("another order of keys", Text::OtherKeys, None, true, 0.6),
    ];
    for (name, text, size, waits, budget) in shapes {
        let events = events(text, EVENTS);
        let data: Vec<&[u8]> = events
            .iter()
            .map(|event| event.strip_prefix("data: ").expect("an event").trim_end().as_bytes())
            .collect();
        let pieces = pieces(&events, size);

        // The best of many turns that both take by turns: what else the machine does only adds.
        let mut best = [Duration::MAX; 2];
        for _ in 0..100 {
            let begun = Instant::now();
            black_box(twin(&data));
            best[0] = best[0].min(begun.elapsed());
            let body = answer(pieces.clone(), waits);
            let begun = Instant::now();
            black_box(drain(body));
            best[1] = best[1].min(begun.elapsed());
        }
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let [twin_time, ours] = best.map(|best| best.as_secs_f64() * 1e9 / EVENTS as f64);
        let ratio = ours / twin_time;
        let verdict = if ratio <= budget { "within" } else { "beyond" };
        println!(
            "{name:<38} {ours:6.0} ns an event beside {twin_time:6.0} ns of the twin: {ratio:.2} ×, \
             {verdict} {budget} ×"
        );

        let mut group = criterion.benchmark_group(format!("path/{name}"));
        group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
        group.bench_function("twin: serde_json typed parse and serialise", |bencher| {
            bencher.iter(|| twin(&data));
        });
        group.bench_function("the stack", |bencher| {
            let body = || answer(pieces.clone(), waits);
            bencher.iter_batched(body, drain, BatchSize::LargeInput);
        });
        group.finish();
    }
}

criterion_group!(benches, path);
criterion_main!(benches);
