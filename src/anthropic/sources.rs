//! The sources of an answer, in the forms that the Messages API has for them.
//!
//! A client that offered the vendor's own search reads what it brought in blocks of their own. For
//! all others there is text, since the citations of this API point into documents that the client
//! has sent: a block of its own behind what the model wrote, which is known by its form when it
//! comes back.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use crate::{chat::Citation, json::string_into};

/// What the list of links begins with.
const HEAD: &str = "\n\nSources:\n";

/// `sources` as a list of links.
pub(super) fn links(sources: &[Citation]) -> String {
    let mut text = String::from(HEAD);
    for (at, source) in sources.iter().enumerate() {
        let title = source.title.as_deref().unwrap_or(&source.url);
        // A bracket would end the title, and a line the list.
        let title = title.replace(['[', ']'], "").replace(|c: char| c.is_control(), " ");
        let _ = write!(text, "{}. [{}](", at + 1, title.trim());
        for character in source.url.chars() {
            match character {
                '(' => text.push_str("%28"),
                ')' => text.push_str("%29"),
                c if c.is_whitespace() || c.is_control() => text.push_str("%20"),
                c => text.push(c),
            }
        }
        text.push_str(")\n");
    }
    text.truncate(text.trim_end().len());
    text
}

/// Whether a block of text is such a list: nobody has said it, so it is no part of the history.
pub(super) fn are_links(text: &str) -> bool {
    let Some(lines) = text.strip_prefix(HEAD) else { return false };
    let is_link = |(at, line): (usize, &str)| {
        let number = format!("{}. [", at + 1);
        let rest = line.strip_prefix(&*number).and_then(|rest| rest.strip_suffix(')'));
        rest.and_then(|rest| rest.split_once("](")).is_some_and(|(title, url)| {
            !title.contains(['[', ']']) && !url.is_empty() && !url.contains(['(', ')', ' '])
        })
    };
    !lines.is_empty() && lines.lines().enumerate().all(is_link)
}

/// The call of the vendor's own search, whose words nobody tells.
pub(super) fn search_into(out: &mut BytesMut, id: &str) {
    out.put_slice(b"{\"type\":\"server_tool_use\",\"id\":");
    string_into(out, id);
    out.put_slice(b",\"name\":\"web_search\",\"input\":{}}");
}

/// What that search found.
pub(super) fn found_into(out: &mut BytesMut, id: &str, sources: &[Citation]) {
    out.put_slice(b"{\"type\":\"web_search_tool_result\",\"tool_use_id\":");
    string_into(out, id);
    out.put_slice(b",\"content\":[");
    for (at, source) in sources.iter().enumerate() {
        out.put_slice(if at > 0 { b"," } else { b"" });
        out.put_slice(b"{\"type\":\"web_search_result\",\"title\":");
        string_into(out, source.title.as_deref().unwrap_or(&source.url));
        out.put_slice(b",\"url\":");
        string_into(out, &source.url);
        out.put_slice(b",\"encrypted_content\":\"\",\"page_age\":null}");
    }
    out.put_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(url: &str, title: Option<&str>) -> Citation {
        let mut source = Citation::new(url.to_owned());
        source.title = title.map(Into::into);
        source
    }

    #[test]
    fn links_are_known_again() {
        let text = links(&[
            source("https://example.org/a", Some("An [odd]\n title")),
            source("https://example.org/b_(c) d", None),
        ]);
        assert_eq!(
            text,
            "\n\nSources:\n1. [An odd  title](https://example.org/a)\n\
             2. [https://example.org/b_(c) d](https://example.org/b_%28c%29%20d)"
        );
        assert!(are_links(&text));
    }

    #[test]
    fn what_somebody_wrote_is_none() {
        for text in [
            "",
            "\n\nSources:\n",
            "Sources:\n1. [a](https://example.org)",
            "\n\nSources:\n1. [a](https://example.org)\nand more",
            "\n\nSources:\n2. [a](https://example.org)",
            "\n\nSources:\n1. [a] (https://example.org)",
            "\n\nSources:\n1. [a](https://example.org) is good",
            "So.\n\nSources:\n1. [a](https://example.org)",
        ] {
            assert!(!are_links(text), "{text:?}");
        }
    }
}
