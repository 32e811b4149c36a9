//! What leaves when, piece by piece; and that it leaves without a copy.

use tower_qwen::{
    Text,
    tool::scan::{Item, Scanner},
};

use crate::{declared, toolset};

fn scanner() -> Scanner {
    Scanner::new(toolset(&declared()))
}

/// Everything that a piece lets go, in a short notation: text as it is, calls as `@name`,
/// arguments as `=json`, ends as `.`.
fn push(scanner: &mut Scanner, piece: &str) -> String {
    scanner.push(Text::from(piece));
    drain(scanner)
}

fn finish(scanner: &mut Scanner) -> String {
    scanner.finish();
    drain(scanner)
}

fn drain(scanner: &mut Scanner) -> String {
    let mut out = String::new();
    while let Some(item) = scanner.pop() {
        match item {
            Item::Text(text) => out.push_str(&text),
            Item::Reasoning(text) => out.extend(["~", &text]),
            Item::Call { name, .. } => out.extend(["@", &name]),
            Item::Arguments(json) => out.extend(["=", &json]),
            Item::End { .. } => out.push('.'),
            other => panic!("{other:?}"),
        }
    }
    out
}

#[track_caller]
fn steps(steps: &[(&str, &str)]) {
    let mut scanner = scanner();
    for (at, (piece, expected)) in steps.iter().enumerate() {
        assert_eq!(push(&mut scanner, piece), *expected, "piece {at}: {piece:?}");
    }
}

#[test]
fn prose_leaves_at_once_but_for_what_may_open_a_call() {
    steps(&[
        ("Hello", "Hello"),
        (", wor", ", wor"),
        ("ld. ", "ld."),
        ("1 <", " 1"),
        (" 2", " < 2"),
        (" <d", " <d"),
        ("iv> <r", "iv>"),
        ("e", ""),
        ("x", " <rex"),
        ("\n\n", ""),
        ("<tool", ""),
        ("_call> is", "\n\n<tool_call> is"),
        (" <function=", ""),
        ("rea", ""),
        ("l", " <function=real"),
        ("<read>", ""),
        ("\n", ""),
        ("it", "<read>\nit"),
        (" `<tool_call>", " `<tool_call>"),
        ("\n```\n<tool_call>", "\n```\n<tool_call>"),
        ("{\n", "{\n"),
    ]);
}

#[test]
fn the_first_byte_of_a_string_argument_leaves_when_it_arrives() {
    steps(&[
        ("<tool_call>\n<function=write_file>\n", ""),
        ("<parameter=content>", "@write_file={\"content\":\""),
        ("\n", ""),
        ("f", "=f"),
        ("n main", "=n main"),
        ("() {\n", "=() {"),
        ("  x", "=\\n  x"),
        (" < y", "= < y"),
        ("\n}\n", "=\\n}"),
        ("<", ""),
        ("/p", ""),
        (">\n", "=\\n</p>"),
        ("</parameter>", ""),
        ("\n", ""),
        ("</fun", ""),
        ("ction>", "=\"}."),
        ("</tool", ""),
        ("_call>", ""),
        ("done", "done"),
    ]);
}

#[test]
fn plain_tags_and_json_stream_too() {
    steps(&[
        ("<write_file>\n<path>", "@write_file={\"path\":\""),
        ("a", "=a"),
        ("/b</path>\n", "=/b"),
        ("<content>", "=\",\"content\":\""),
        ("x", "=x"),
        ("</content></write_file>", "=\"}."),
    ]);
    steps(&[
        ("<tool_call>\n{\"name\": \"write_file\", \"arguments\"", ""),
        (": {", "@write_file={"),
        ("\"content\": \"", "=\"content\":\""),
        ("a", "=a"),
        ("b\\", "=b"),
        ("n\"", "=\\n"),
        ("}", "=\"}."),
        ("}\n</tool_call>", ""),
    ]);
}

#[test]
fn an_undecided_type_waits_and_a_string_that_cannot_be_null_does_not() {
    steps(&[
        ("<function=search><parameter=limit>", "@search"),
        ("12", ""),
        ("</parameter><parameter=filter>", "={\"limit\":12"),
        ("nu", ""),
        ("m", "=,\"filter\":\"num"),
        ("b", "=b"),
        ("</parameter></function>", "=\"}."),
    ]);
}

#[test]
fn reasoning_flows() {
    steps(&[(" <thi", ""), ("nk>a", "~a"), ("b <", "~b "), ("/think>", ""), ("\nc", "c")]);
}

#[test]
fn the_end_lets_everything_go() {
    let mut open = scanner();
    assert_eq!(push(&mut open, "a \n<tool_call>\n<fun"), "a");
    assert_eq!(finish(&mut open), " \n<tool_call>\n<fun");
    assert_eq!(push(&mut open, "b"), "b");
    assert_eq!(push(&mut open, "<read><path>x</pa"), "@read={\"path\":\"x");
    assert_eq!(finish(&mut open), "=</pa\"}.");
}

#[test]
fn nothing_is_copied_that_leaves_as_it_came() {
    let mut scanner = scanner();
    let mut take = |piece: &Text| {
        scanner.push(piece.clone());
        scanner.pop()
    };
    let within = |part: &Text, whole: &Text| {
        whole.as_bytes().as_ptr_range().contains(&part.as_bytes().as_ptr())
    };
    let prose = Text::from("Some prose");
    let Some(Item::Text(out)) = take(&prose) else { panic!("text") };
    assert_eq!(out.as_ptr(), prose.as_ptr());
    let held = Text::from(" and <to");
    let Some(Item::Text(out)) = take(&held) else { panic!("text") };
    assert!(out == " and" && within(&out, &held));
    let more = Text::from("day>");
    let Some(Item::Text(out)) = take(&more) else { panic!("text") };
    assert!(out == " <to" && within(&out, &held));

    let mut scanner = self::scanner();
    scanner.push("<function=read><parameter=path>".into());
    let _ = drain(&mut scanner);
    let value = Text::from("src/main.rs");
    scanner.push(value.clone());
    let Some(Item::Arguments(out)) = scanner.pop() else { panic!("arguments") };
    assert_eq!(out.as_ptr(), value.as_ptr());
}

#[test]
fn what_is_undecided_has_a_limit() {
    let (blanks, long) = (" ".repeat(256), "n".repeat(263));
    let wrappers = format!("<tool_call>{blanks}").repeat(4);
    let header = format!(
        "{blanks}<function_calls>{blanks}{wrappers}<function={long}>{blanks}<parameter={long}"
    );
    for text in [format!("x{header}"), format!("x{header}n"), format!("x {header}")] {
        for size in [1, 64, text.len()] {
            let mut scanner = scanner();
            let mut sent = String::new();
            for piece in text.as_bytes().chunks(size) {
                sent += &push(&mut scanner, std::str::from_utf8(piece).expect("ASCII"));
                assert!(scanner.held() <= 2401, "{} bytes were held", scanner.held());
            }
            assert_eq!(sent + &finish(&mut scanner), text);
        }
    }
}

#[test]
fn a_megabyte_in_small_pieces_holds_next_to_nothing() {
    let mut scanner = scanner();
    scanner.push("<function=write_file><parameter=content>".into());
    let _ = drain(&mut scanner);
    let line = "<li class=\"x\">a &amp; b</li>\n</ul> }] \"\\\" </para\n";
    let (mut sent, mut most) = (0, 0);
    while sent < 1 << 20 {
        for piece in line.as_bytes().chunks(4) {
            scanner.push(std::str::from_utf8(piece).expect("ASCII").into());
            let _ = drain(&mut scanner);
            most = most.max(scanner.held());
        }
        sent += line.len();
    }
    assert!(most <= 16, "{most} bytes were held");
}
