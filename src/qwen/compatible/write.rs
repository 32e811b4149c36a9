//! JSON as it is written, and measured before.

use std::io;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use crate::{
    chat::{Extra, Json},
    json::{escaped_len, string_into},
};

/// Where JSON is written, or only measured.
pub(in crate::qwen) trait Sink {
    /// Takes JSON as it is.
    fn json(&mut self, json: &[u8]);

    /// Takes a text, to stand as a JSON string.
    fn string(&mut self, text: &str);

    /// Takes a value, to stand as JSON.
    fn value(&mut self, value: &impl Serialize);
}

impl Sink for BytesMut {
    fn json(&mut self, json: &[u8]) {
        self.put_slice(json);
    }

    fn string(&mut self, text: &str) {
        string_into(self, text);
    }

    fn value(&mut self, value: &impl Serialize) {
        serde_json::to_writer(self.writer(), value)
            .expect("a buffer takes everything, keys are strings");
    }
}

/// How many bytes would be written.
pub(in crate::qwen) struct Size(pub(in crate::qwen) usize);

impl Sink for Size {
    fn json(&mut self, json: &[u8]) {
        self.0 += json.len();
    }

    fn string(&mut self, text: &str) {
        self.0 += "\"\"".len() + escaped_len(text);
    }

    fn value(&mut self, value: &impl Serialize) {
        serde_json::to_writer(self, value).expect("counting takes everything, keys are strings");
    }
}

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A JSON object as it is written.
pub(in crate::qwen) struct Object<'a, W> {
    out: &'a mut W,
    empty: bool,
}

impl<'a, W: Sink> Object<'a, W> {
    pub(in crate::qwen) fn open(out: &'a mut W) -> Self {
        out.json(b"{");
        Self { out, empty: true }
    }

    pub(in crate::qwen) fn with(&mut self, key: &str, write: impl FnOnce(&mut W)) {
        if !std::mem::take(&mut self.empty) {
            self.out.json(b",");
        }
        self.out.string(key);
        self.out.json(b":");
        write(self.out);
    }

    pub(in crate::qwen) fn text(&mut self, key: &str, text: &str) {
        self.with(key, |out| out.string(text));
    }

    pub(in crate::qwen) fn value(&mut self, key: &str, value: &impl Serialize) {
        self.with(key, |out| out.value(value));
    }

    pub(in crate::qwen) fn some(&mut self, key: &str, value: Option<&impl Serialize>) {
        if let Some(value) = value {
            self.value(key, value);
        }
    }

    pub(in crate::qwen) fn json(&mut self, key: &str, json: Option<&Json>) {
        if let Some(json) = json {
            self.with(key, |out| out.json(json.as_str().as_bytes()));
        }
    }

    pub(in crate::qwen) fn extra(&mut self, extra: &Extra, except: &[&str]) {
        if extra.is_empty() {
            return;
        }
        if except.iter().any(|name| extra.contains(name)) {
            let fields = extra.raw_fields().filter(|(name, _)| !except.contains(&&**name));
            for (name, value) in fields {
                self.with(&name, |out| out.json(value.as_bytes()));
            }
            return;
        }
        if !std::mem::take(&mut self.empty) {
            self.out.json(b",");
        }
        self.out.json(extra.inside().as_bytes());
    }

    pub(in crate::qwen) fn close(self) {
        self.out.json(b"}");
    }
}

pub(in crate::qwen) fn list_into<W: Sink, T>(
    out: &mut W,
    items: impl Iterator<Item = T>,
    write: impl Fn(&mut W, T),
) {
    out.json(b"[");
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.json(b",");
        }
        write(out, item);
    }
    out.json(b"]");
}
