//! The event stream codec and layer alone, beside a bare newline scan. The peers' turn is in
//! `benches/peers`, where they are dependencies.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tower_qwen::sse::{Decoder, Encoder};

mod streams;
use streams::{Shape, event, shapes};

fn decode(mut decoder: Decoder, shape: &Shape) -> usize {
    let mut events = 0;
    for piece in &shape.pieces {
        decoder.push(piece.clone());
        while let Some(event) = decoder.next_event().expect("well formed") {
            black_box(&event);
            events += 1;
        }
    }
    assert_eq!(events, shape.events);
    events
}

fn codec(criterion: &mut Criterion) {
    for shape in shapes() {
        let mut group = criterion.benchmark_group(format!("sse/{}", shape.name));
        group.throughput(Throughput::Bytes(shape.bytes() as u64));
        group.bench_function("decode", |b| b.iter(|| decode(Decoder::new(), &shape)));
        group.bench_function("decode lenient", |b| b.iter(|| decode(Decoder::lenient(), &shape)));
        group.bench_function("memchr2 alone", |b| {
            b.iter(|| {
                shape
                    .pieces
                    .iter()
                    .map(|piece| memchr::memchr2_iter(b'\n', b'\r', piece).count())
                    .sum::<usize>()
            });
        });
        group.finish();
    }
    let event = event(0);
    let data = event.trim_start_matches("data: ").trim_end();
    let mut encoder = Encoder::new();
    criterion.bench_function("sse/encode", |b| {
        b.iter(|| {
            encoder.data(black_box(data));
            black_box(encoder.take())
        });
    });
}

criterion_group!(benches, codec);
criterion_main!(benches);
