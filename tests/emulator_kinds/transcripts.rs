//! Every byte of each server and year.

use super::*;

#[tokio::test]
async fn every_server_writes_as_it_did_that_year() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulator_kinds/transcripts");
    let update = std::env::var_os("UPDATE_TRANSCRIPTS").is_some();
    let mut changed = Vec::new();
    for kind in kinds() {
        for (style, year) in STYLES {
            let whole = json!({"stream": false});
            let called = chat(kind, "get_time {\"zone\": \"CET\"} then get_date {}");
            let called = with(called, json!({"tools": tools(), "parallel_tool_calls": true}));
            let thinks = with(chat(kind, "emulate:think"), json!({"max_tokens": 2}));
            let sections = [
                ("a stream", chat(kind, "emulate:say=Hi you")),
                ("thinking, to the limit", thinks.clone()),
                ("calls", called.clone()),
                ("a failure in the stream", chat(kind, "emulate:error_event=1 emulate:say=Hi you")),
                ("a refusal", with(chat(kind, ""), json!({"messages": []}))),
                ("a whole answer", with(chat(kind, "emulate:say=Hi you"), whole.clone())),
                ("thinking in a whole answer", with(thinks, whole.clone())),
                ("calls in a whole answer", with(called, whole)),
            ];
            let mut transcript = String::new();
            for (title, body) in sections {
                let answer = ask(kind, style, &body).await;
                let mime = answer.headers["content-type"].to_str().expect("text");
                let _ = writeln!(transcript, "# {title}: {}, {mime}", answer.status.as_u16());
                let _ = writeln!(transcript, "{}\n", timeless(answer.text()).trim_end());
            }
            let file = folder.join(format!("{kind}-{year}.txt"));
            if fs::read_to_string(&file).unwrap_or_default() != transcript {
                changed.push(format!("{kind}-{year}:\n{transcript}"));
                if update {
                    fs::write(&file, transcript).expect("writable");
                }
            }
        }
    }
    assert!(changed.is_empty(), "these differ from what is written down:\n{}", changed.join("\n"));
}

#[tokio::test]
async fn the_same_request_gives_the_same_bytes_and_the_next_another_id() {
    for kind in kinds() {
        let body = chat(kind, "emulate:say=Hi");
        let (one, other) = (builder(kind).build(), builder(kind).build());
        let first = post(&one, "/v1/chat/completions", &body).await;
        let again = post(&other, "/v1/chat/completions", &body).await;
        assert_eq!(timeless(first.text()), timeless(again.text()));
        let next = post(&one, "/v1/chat/completions", &body).await;
        assert_ne!(next.chunks()[0]["id"], first.chunks()[0]["id"], "{kind}");
    }
}
