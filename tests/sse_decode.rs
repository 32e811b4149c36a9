//! What the WHATWG standard says about event streams, clause by clause, and that no chunking
//! changes it.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tower_qwen::sse::{DecodeError, Decoder, Encoder, Event, Unfinished};

#[path = "twins/sse.rs"]
mod twin;
use twin::naive;

/// What a whole input gives: its events, then how it ended.
type Decoded = (Vec<Event>, Result<Option<Unfinished>, DecodeError>);

fn decode<'a>(mut decoder: Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Err(error)),
            }
        }
    }
    (events, decoder.finish())
}

/// The events as `name|data|id`, since that reads well in a table.
fn lines(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| {
            format!("{}|{}|{}", event.name(), event.data, event.id.as_deref().unwrap_or("-"))
        })
        .collect()
}

struct Case {
    clause: &'static str,
    input: &'static [u8],
    events: &'static [&'static str],
}

const fn case(clause: &'static str, input: &'static [u8], events: &'static [&'static str]) -> Case {
    Case { clause, input, events }
}

/// Section 9.2.6, "Interpreting an event stream", with its own examples first.
const CASES: &[Case] = &[
    case(
        "example: one event of three lines",
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        &["message|YHOO\n+2\n10|-"],
    ),
    case(
        "example: comment, id, empty id, leading space kept",
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
        &["message|first event|1", "message|second event|"],
    ),
    case(
        "example: empty data, two empty lines of data, an unfinished one",
        b"data\n\ndata\ndata\n\ndata:",
        &["message||-", "message|\n|-"],
    ),
    case("example: one space is optional", b"data:test\n\ndata: test\n\n", &["message|test|-"; 2]),
    case("a byte order mark is skipped", b"\xef\xbb\xbfdata: a\n\n", &["message|a|-"]),
    case("only one of them", b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", &["message|b|-"]),
    case("and only at the beginning", b"\n\xef\xbb\xbfdata: a\n\n", &[]),
    case("half a mark belongs to the line", b"\xef\xbbdata: a\n\ndata: b\n\n", &["message|b|-"]),
    case("line ends: LF", b"data: a\n\ndata: b\n\n", &["message|a|-", "message|b|-"]),
    case("line ends: CR", b"data: a\r\rdata: b\r\r", &["message|a|-", "message|b|-"]),
    case("line ends: CRLF", b"data: a\r\n\r\ndata: b\r\n\r\n", &["message|a|-", "message|b|-"]),
    case(
        "line ends: mixed",
        b"data: a\r\ndata: b\rdata: c\n\rdata: d\r\r\ndata: e\n\r\n",
        &["message|a\nb\nc|-", "message|d|-", "message|e|-"],
    ),
    case("line ends: CR within, LF behind", b"data: a\rdata: b\n\n", &["message|a\nb|-"]),
    case("CRLF is one line end, not two", b"data: a\r\ndata: b\r\n\n", &["message|a\nb|-"]),
    case("LF CR is two", b"data: a\n\rdata: b\n\r", &["message|a|-", "message|b|-"]),
    case("a blank line without data dispatches nothing", b"\n\n\r\r\n\n", &[]),
    case("and forgets the type", b"event: x\n\ndata: a\n\n", &["message|a|-"]),
    case("but not the id", b"id: 7\n\ndata: a\n\n", &["message|a|7"]),
    case("comments are skipped", b":\n: a\n:data: no\ndata: a\n:x\n\n", &["message|a|-"]),
    case("unknown fields are skipped", b"foo: a\nfoo\ndata: a\nDATA: b\n\n", &["message|a|-"]),
    case("so are names that only begin alike", b"datum: a\ndata : b\n data: c\ndataa\n\n", &[]),
    case("a colon in the value stays", b"data: a:b\n\ndata::\n\n", &["message|a:b|-", "message|:|-"]),
    case("only one space goes", b"data:  a \n\n", &["message| a |-"]),
    case("a tab is no space", b"data:\ta\n\n", &["message|\ta|-"]),
    case("the last type counts", b"event: a\nevent: b\ndata: x\n\n", &["b|x|-"]),
    case("an empty type is message", b"event: a\nevent\ndata: x\n\n", &["message|x|-"]),
    case("a type is for one event", b"event: a\ndata: x\n\ndata: y\n\n", &["a|x|-", "message|y|-"]),
    case("fields in any order", b"data: x\nid: 1\nevent: a\n\n", &["a|x|1"]),
    case("an id stays", b"id: 1\ndata: x\n\ndata: y\n\n", &["message|x|1", "message|y|1"]),
    case("an id with NUL is ignored", b"id: 1\nid: 2\0\ndata: x\n\n", &["message|x|1"]),
    case("NUL elsewhere is data", b"data: \0\n\n", &["message|\0|-"]),
    case("an incomplete block is not dispatched", b"data: a\n\ndata: b\n", &["message|a|-"]),
    case("UTF-8", "data: ä漢🌌\nid: ß\n\n".as_bytes(), &["message|ä漢🌌|ß"]),
    case("malformed UTF-8 is replaced", b"data: a\xffb\n\n", &["message|a\u{fffd}b|-"]),
    case(
        "a character cut by a line end is replaced",
        b"data: \xf0\x9f\x8c\ndata: \xe6\xbc\n\n",
        &["message|\u{fffd}\n\u{fffd}|-"],
    ),
    case(
        "surrogates and overlong forms are, byte by byte",
        b"data: \xed\xa0\x80\xc0\xaf\n\n",
        &["message|\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}|-"],
    ),
    case("malformed names are replaced too", b"event: \xff\ndata: x\n\n", &["\u{fffd}|x|-"]),
];

#[test]
fn the_standard_clause_by_clause() {
    for case in CASES {
        let (events, end) = decode(Decoder::new(), [case.input]);
        assert!(end.is_ok(), "{}", case.clause);
        assert_eq!(lines(&events), case.events, "{}", case.clause);
    }
}

#[test]
fn the_standard_byte_by_byte() {
    for case in CASES {
        let (events, end) = decode(Decoder::new(), case.input.chunks(1));
        assert!(end.is_ok(), "{}", case.clause);
        assert_eq!(lines(&events), case.events, "{}", case.clause);
    }
}

#[test]
fn the_standard_cut_once_anywhere() {
    for case in CASES {
        for at in 0..=case.input.len() {
            let (head, tail) = case.input.split_at(at);
            let (events, end) = decode(Decoder::new(), [head, tail]);
            assert!(end.is_ok(), "{}", case.clause);
            assert_eq!(lines(&events), case.events, "{} at {at}", case.clause);
        }
    }
}

#[test]
fn retry_takes_digits_only() {
    for (value, expected) in [
        ("3000", Some(3000)),
        ("0", Some(0)),
        ("007", Some(7)),
        ("99999999999999999999999", Some(u64::MAX)),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        (" 1", None),
        ("1 ", None),
        ("१", None),
    ] {
        let mut decoder = Decoder::new();
        decoder.push(format!("retry: {value}\ndata: x\n\n").into());
        let event = decoder.next_event().expect("short").expect("complete");
        let expected = expected.map(Duration::from_millis);
        assert_eq!(event.retry, expected, "{value:?}");
        assert_eq!(decoder.reconnection_time(), expected, "{value:?}");
    }
}

#[test]
fn retry_counts_without_an_event_but_is_not_of_the_next() {
    let mut decoder = Decoder::new();
    decoder.push("retry: 5\n\ndata: x\n\n".into());
    assert_eq!(decoder.next_event().expect("short").expect("complete").retry, None);
    assert_eq!(decoder.reconnection_time(), Some(Duration::from_millis(5)));
}

#[test]
fn an_end_within_a_block_is_told() {
    let end = |input: &'static str| {
        decode(Decoder::new(), [input.as_bytes()])
            .1
            .expect("short")
            .map(|left| (left.event.map(|event| event.data.to_string()), left.mid_line))
    };
    assert_eq!(end(""), None);
    assert_eq!(end("data: a\n\n"), None);
    assert_eq!(end("data: a\r\r"), None);
    assert_eq!(end(": comment\n"), None);
    assert_eq!(end(": comm"), None);
    assert_eq!(end("data: a\n"), Some((Some("a".into()), false)));
    assert_eq!(end("data: a"), Some((Some("a".into()), true)));
    assert_eq!(end("data: a\ndata: b"), Some((Some("a\nb".into()), true)));
    assert_eq!(end("event: a\n"), Some((None, false)));
    assert_eq!(end("da"), Some((None, true)));
    assert_eq!(end("\u{feff}"), None);
}

#[test]
fn after_the_end_a_new_stream_begins() {
    let mut decoder = Decoder::new();
    decoder.push("id: 9\nretry: 1\ndata: a\n\nevent: x\ndata: cut".into());
    assert!(decoder.next_event().expect("short").is_some());
    assert_eq!(decoder.next_event(), Ok(None));
    assert!(decoder.finish().expect("short").is_some());
    decoder.push("\u{feff}data: b\n\n".into());
    let event = decoder.next_event().expect("short").expect("complete");
    assert_eq!(lines(&[event]), ["message|b|9"]);
    assert_eq!(decoder.last_event_id(), Some("9"));
}

#[test]
fn lenient_takes_each_data_line() {
    let input = "data: {\"a\"} \ndata: b\r\n\r\n: c\ndata: d\nevent: x\ndata: e\n\n\n\ndata: f";
    for size in 1..=input.len() {
        let (events, left) = decode(Decoder::lenient(), input.as_bytes().chunks(size));
        assert_eq!(
            lines(&events),
            ["message|{\"a\"} |-", "message|b|-", "message|d|-", "x|e|-"],
            "{size}"
        );
        let left = left.expect("short").expect("cut");
        assert!(left.mid_line);
        assert_eq!(left.event.expect("data").data, "f");
    }
}

/// Self-hosted servers: `error: {…}` in the place of `data: {"error":…}`; by the standard it is
/// ignored.
#[test]
fn an_error_field_is_data_where_that_is_wanted() {
    let input = b"data: a\n\nerror: {\"code\":500}\r\n\r\nerror\n\nerrors: no\n\ndata: b\nerror:c\n\ndata: d\n\n";
    let wanted =
        ["message|a|-", "error|{\"code\":500}|-", "error||-", "error|b\nc|-", "message|d|-"];
    for size in 1..=input.len() {
        let (events, end) = decode(Decoder::new().error_field(), input.chunks(size));
        assert_eq!((lines(&events), end), (wanted.map(str::to_owned).to_vec(), Ok(None)), "{size}");
        let (events, _) = decode(Decoder::new(), input.chunks(size));
        assert_eq!(lines(&events), ["message|a|-", "message|b|-", "message|d|-"], "{size}");
    }
    let (events, _) = decode(Decoder::lenient().error_field(), [&b"error: x\ndata: y\n"[..]]);
    assert_eq!(lines(&events), ["error|x|-", "message|y|-"]);
    let (_, end) = decode(Decoder::new().error_field(), [&b"error: x"[..]]);
    let left = end.expect("below the limits").expect("a block without its end");
    assert_eq!(left.event.expect("it has data").name(), "error");
}

#[test]
fn a_plain_event_is_a_slice_of_the_input() {
    let input = Bytes::from_static(b"data: one\n\nevent: x\nid: y\ndata: two\r\n\r\n");
    let range = input.as_ptr_range();
    let mut decoder = Decoder::new();
    decoder.push(input);
    while let Some(event) = decoder.next_event().expect("short") {
        for text in [Some(event.data), event.event, event.id].into_iter().flatten() {
            assert!(range.contains(&text.as_ptr()), "{text} was copied");
        }
    }
}

/// The check for UTF-8 takes in some of what is around an event, up to a whole block, and that a
/// piece is one plain event is seen in blocks; whatever the length, that must not be seen.
#[test]
fn text_of_any_length_is_checked_where_it_stands() {
    for head in ["x", "ä", "漢"].map(str::as_bytes).into_iter().chain([&b"\xff"[..], b"\xbc", b""])
    {
        for tail in ["x", "🌌"].map(str::as_bytes).into_iter().chain([&b"\xf0\x9f\x8c"[..]]) {
            for length in (0..100).chain(120..135).chain(250..260) {
                let filler = "y".repeat(length);
                let event = [b"data: ", head, filler.as_bytes(), tail, b"\n\n"].concat();
                let input = [&event[..], b"data: ", &event, b"data: z\n\n", &event].concat();
                let expected = naive(&input);
                for size in [1, 40, 64, event.len(), input.len()] {
                    let (events, end) = decode(Decoder::new(), input.chunks(size));
                    assert_eq!(events, expected, "{head:?} {length} {tail:?} in {size}");
                    assert_eq!(end, Ok(None));
                }
            }
        }
    }
}

/// A line that an earlier piece began ends the same way wherever it is cut, and what follows it
/// in the piece is read on from there.
#[test]
fn a_cut_line_goes_on_in_any_piece() {
    for end in ["\n\n", "\r\n\r\n", "\r\r", "\n\r\n", "\n: c\n\n", "\ndata: more\n\n"] {
        let input = format!("data: one{end}event: e\ndata: two{end}data: three{end}");
        let expected = naive(input.as_bytes());
        for one in 1..input.len() {
            for two in one..input.len() {
                let pieces = [&input[..one], &input[one..two], &input[two..]].map(str::as_bytes);
                let (events, _) = decode(Decoder::new(), pieces);
                assert_eq!(events, expected, "{input:?} at {one} and {two}");
            }
        }
    }
}

/// Large pieces are kept until their line is whole, small ones are copied between them.
#[test]
fn a_line_goes_on_in_large_pieces() {
    let input =
        format!("data: {}\n\ndata: {}\n\ndata: z\n\n", "x".repeat(30_000), "漢".repeat(5_000));
    let expected = naive(input.as_bytes());
    let around = [4095, 4096, 4097];
    for first in [1, 5, 6, 7, 100, 4096, 5000, 30_006, 30_007, 30_008] {
        for (large, small) in
            around.into_iter().flat_map(|size| [(size, 1), (size, 4095), (size, size)])
        {
            let (events, end) =
                decode(Decoder::new(), cut(input.as_bytes(), &[first, large, small]));
            assert_eq!(events, expected, "{first}, {large}, {small}");
            assert_eq!(end, Ok(None));
        }
    }
    let (events, end) = decode(Decoder::new(), cut(&input.as_bytes()[..12_000], &[4096]));
    let left = end.expect("short").expect("cut").event.expect("data");
    assert_eq!((events, left.data.len()), (vec![], 12_000 - "data: ".len()));
}

#[test]
fn pieces_may_wait() {
    let mut decoder = Decoder::new();
    for piece in ["da", "ta: a\n", "\ndata: b\n\n", "", "data: c\n\n"] {
        decoder.push(piece.into());
    }
    let mut events = Vec::new();
    while let Some(event) = decoder.next_event().expect("short") {
        events.push(event);
    }
    assert_eq!(lines(&events), ["message|a|-", "message|b|-", "message|c|-"]);
}

#[test]
fn limits_are_exact_however_the_input_is_cut() {
    let limited = || Decoder::new().max_line(9).max_event(5);
    for (input, events, error) in [
        ("data: abc\n\n", 1, None),
        ("data: abcd\n\n", 0, Some(DecodeError::LineTooLong { limit: 9 })),
        ("data: a\n\ndata: abcd", 1, Some(DecodeError::LineTooLong { limit: 9 })),
        (": 3456789\n\ndata:a\n\n", 1, None),
        (": 34567890\n\ndata:a\n\n", 0, Some(DecodeError::LineTooLong { limit: 9 })),
        ("data:ab\ndata:cd\n\n", 1, None),
        ("data:ab\ndata:cde\n\n", 0, Some(DecodeError::EventTooLong { limit: 5 })),
        ("data:ab\ndata:cd\ndata\n\n", 0, Some(DecodeError::EventTooLong { limit: 5 })),
    ] {
        for size in 1..=input.len() {
            let (got, end) = decode(limited(), input.as_bytes().chunks(size));
            assert_eq!((got.len(), end.err()), (events, error), "{input:?} {size}");
        }
    }
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::new().max_line(3);
    decoder.push("data: a\n\n".into());
    let error = decoder.next_event().expect_err("too long");
    decoder.push("a\n".into());
    assert_eq!(decoder.next_event(), Err(error));
    assert_eq!(decoder.finish(), Err(error));
    assert_eq!(error.to_string(), "a line of the event stream is longer than 3 bytes");
}

#[test]
fn the_naive_twin_knows_the_standard() {
    for case in CASES {
        assert_eq!(lines(&naive(case.input)), case.events, "{}", case.clause);
    }
}

/// Streams with a good share of what matters: fields, line ends, odd bytes.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        4 => Just(b"data: ".to_vec()),
        4 => Just(b"\n\n".to_vec()),
        4 => prop_oneof![Just("\n"), Just("\r"), Just("\r\n")].prop_map(|end| end.into()),
        1 => prop_oneof![Just("data"), Just("event:"), Just("id: "), Just("retry:"), Just(":")]
            .prop_map(|name| name.into()),
        1 => Just(b"\xef\xbb\xbf".to_vec()),
        3 => "[ -~]{0,24}".prop_map(String::into_bytes),
        2 => "[0-9é漢🌌\0: ]{0,6}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

/// Streams with lines so long that several pieces are kept for one, among the others.
fn long_streams() -> impl Strategy<Value = Vec<u8>> {
    let text =
        prop_oneof![Just("x"), Just("é"), Just("漢"), Just("🌌"), Just("x\nid: "), Just("\r")];
    let long = (text, 1_usize..20_000).prop_map(|(text, size)| text.repeat(size / text.len()));
    let part = prop_oneof![2 => streams(), 3 => long.prop_map(String::into_bytes)];
    prop::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
}

/// Sizes of pieces about that from which they are kept.
fn large_sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![1_usize..40, 4000_usize..4200, 8192_usize..10_000];
    prop::collection::vec(size, 1..6)
}

fn cut<'a>(input: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().copied().cycle();
    let mut rest = input;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, tail) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
        rest = tail;
        Some(piece)
    })
}

proptest! {
    #[test]
    fn agrees_with_the_naive_twin_in_any_chunking(
        input in streams(),
        sizes in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let (events, _) = decode(Decoder::new(), cut(&input, &sizes));
        prop_assert_eq!(events, naive(&input));
    }

    #[test]
    fn agrees_with_the_naive_twin_in_large_pieces(
        head in streams(),
        input in long_streams(),
        sizes in large_sizes(),
    ) {
        let input = [head, b"\n\ndata: ".to_vec(), input].concat();
        let (events, _) = decode(Decoder::new(), cut(&input, &sizes));
        prop_assert_eq!(events, naive(&input));
    }

    #[test]
    fn what_is_left_of_large_pieces_does_not_depend_on_them(
        input in long_streams(),
        sizes in large_sizes(),
        lenient: bool,
        limits in prop_oneof![Just((usize::MAX, usize::MAX)), (4000_usize..20_000, 4000_usize..20_000)],
    ) {
        let decoder = || {
            let decoder = if lenient { Decoder::lenient() } else { Decoder::new() };
            decoder.max_line(limits.0).max_event(limits.1)
        };
        prop_assert_eq!(
            decode(decoder(), cut(&input, &sizes)),
            decode(decoder(), [input.as_slice()])
        );
    }

    #[test]
    fn what_is_left_does_not_depend_on_the_chunking(
        input in streams(),
        sizes in prop::collection::vec(1_usize..40, 1..8),
        lenient: bool,
        max_line in 4_usize..40,
    ) {
        let decoder = || {
            let decoder = if lenient { Decoder::lenient() } else { Decoder::new() };
            decoder.max_line(max_line).max_event(30)
        };
        prop_assert_eq!(
            decode(decoder(), cut(&input, &sizes)),
            decode(decoder(), [input.as_slice()])
        );
    }

    #[test]
    fn what_was_encoded_comes_back(
        events in prop::collection::vec(
            (
                "[ -~é漢\n]{0,30}",
                proptest::option::of("[ -~é]{1,10}"),
                proptest::option::of("[ -~é]{0,10}"),
                proptest::option::of(any::<u32>()),
            ),
            0..8,
        ),
    ) {
        let mut encoder = Encoder::new();
        let mut expected = Vec::new();
        let mut last_id = None;
        for (data, name, id, retry) in events {
            let mut event = Event::new(data);
            event.event = name.map(Into::into);
            event.id = id.map(Into::into);
            event.retry = retry.map(|ms| Duration::from_millis(ms.into()));
            encoder.comment("in between");
            encoder.event(&event);
            last_id = event.id.clone().or(last_id);
            event.id = last_id.clone();
            expected.push(event);
        }
        let (decoded, left) = decode(Decoder::new(), [&*encoder.take()]);
        prop_assert_eq!(decoded, expected);
        prop_assert_eq!(left, Ok(None));
    }
}
