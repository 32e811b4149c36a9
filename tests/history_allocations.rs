//! What is done to a long history copies no message.

use std::hint::black_box;

use allocation_counter::{AllocationInfo, measure};
use tower_qwen::chat::{ChatRequest, Message, Role};

const LONG: usize = 10_000;

/// What each message holds, in bytes; a copy of one would be seen.
const TEXT: usize = 1_000;

fn request() -> ChatRequest {
    let role = |index: usize| if index.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let message = |index| Message::new(role(index), "x".repeat(TEXT));
    ChatRequest::new("m", (0..LONG).map(message).collect::<Vec<_>>())
}

/// The list's own pointers, of which some room may be kept, are what may be copied.
fn assert_no_message_is_copied(what: &str, info: &AllocationInfo) {
    let pointers = (2 * LONG * size_of::<usize>()) as u64;
    assert!(info.count_total <= 6, "{what}: {info:?}");
    assert!(info.bytes_total <= pointers + 1_000, "{what}: {info:?}");
}

#[test]
fn one_message_appended_to_a_long_history_copies_none() {
    let mut request = request();
    let message = || Message::new(Role::User, "one more");
    let alone = measure(|| request.history.push(black_box(message())));
    assert_no_message_is_copied("alone", &alone);

    // Layers that retry keep a clone.
    let kept = request.clone();
    let shared = measure(|| request.history.push(black_box(message())));
    assert_no_message_is_copied("shared", &shared);
    assert_eq!((request.history.len(), kept.history.len()), (LONG + 2, LONG + 1));

    let kept = request.clone();
    let front = measure(|| request.history.insert_first(black_box(message())));
    assert_no_message_is_copied("in front", &front);
    drop(kept);
}

#[test]
fn a_clone_of_a_request_allocates_nothing() {
    let request = request();
    // The first clone of a text that nobody shared allocates what counts them.
    let _kept = request.clone();
    let info = measure(|| {
        black_box(request.clone());
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn what_sessions_and_dedup_do_copies_no_message() {
    let mut request = request();
    let kept = request.clone();
    let marked = measure(|| request.history.mark_seen(LONG - 1));
    assert_no_message_is_copied("marked", &marked);
    let whole = request.clone();
    let forgotten = measure(|| request.history.forget_seen());
    assert_no_message_is_copied("forgotten", &forgotten);
    drop((kept, whole));
}

#[test]
fn one_message_that_is_rewritten_is_the_only_copy() {
    let mut request = request();
    let kept = request.clone();
    let info = measure(|| {
        request.history.get_mut(7).expect("there are more").name = Some("ann".into());
    });
    // The list, and the message without its text.
    assert_no_message_is_copied("rewritten", &info);
    assert_eq!(kept.history[7].name, None);
}
