//! The fields of one event, as its lines come.

use std::{mem, ops::Range, time::Duration};

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::{
    DecodeError, Event,
    buffer::{append, take},
    utf8::text,
};
use crate::Text;

/// The fields of the block being read, and those that outlive it.
#[derive(Default)]
pub(super) struct Block {
    pub(super) max_event: usize,
    pub(super) lines_are_events: bool,
    pub(super) error_is_data: bool,
    pub(super) data: Data,
    /// How many bytes of the input are in `data`, and the line feeds between its lines.
    data_len: usize,
    event: Option<Text>,
    retry: Option<Duration>,
    pub(super) last_id: Option<Text>,
    pub(super) reconnection_time: Option<Duration>,
    /// Where the lines of events that have several are joined.
    pub(super) joined: BytesMut,
}

/// The data so far.
#[derive(Default)]
pub(super) enum Data {
    #[default]
    None,
    /// The first line, a slice of the input.
    One(Text),
    /// Several, in [`Block::joined`].
    Joined,
}

impl Block {
    pub(super) fn new(max_event: usize) -> Self {
        Self { max_event, ..Self::default() }
    }

    /// Interprets the line `owner[start..end]`; an event is complete where its data comes back.
    #[inline]
    pub(super) fn line(
        &mut self,
        owner: &Bytes,
        start: usize,
        end: usize,
    ) -> Result<Option<Text>, DecodeError> {
        let line = &owner[start..end];
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        // No field that has a meaning has a longer name than `event` and `retry`.
        let (name, value) = match line.iter().take("event:".len()).position(|&b| b == b':') {
            Some(colon) => {
                let space = usize::from(line.get(colon + 1) == Some(&b' '));
                (&line[..colon], start + colon + 1 + space)
            }
            None => (line, end),
        };
        // A name that ends the line has the empty value.
        let value = value.min(end)..end;
        match name {
            b"data" => {
                self.append_data(owner, value)?;
                if self.lines_are_events {
                    return Ok(self.dispatch());
                }
            }
            b"error" if self.error_is_data => {
                self.append_data(owner, value)?;
                self.event = Some(Text::from_static("error"));
                if self.lines_are_events {
                    return Ok(self.dispatch());
                }
            }
            b"event" => self.event = Some(text(owner, value)).filter(|name| !name.is_empty()),
            b"id" if memchr(0, &owner[value.clone()]).is_none() => {
                self.last_id = Some(text(owner, value));
            }
            b"retry" => {
                if let Some(time) = milliseconds(&owner[value]) {
                    self.retry = Some(time);
                    self.reconnection_time = Some(time);
                }
            }
            // A comment, whose name is empty, or a field that is to be ignored.
            _ => {}
        }
        Ok(None)
    }

    fn append_data(&mut self, owner: &Bytes, value: Range<usize>) -> Result<(), DecodeError> {
        let line_feed = usize::from(!matches!(self.data, Data::None));
        self.data_len += line_feed + value.len();
        if self.data_len > self.max_event {
            return Err(DecodeError::EventTooLong { limit: self.max_event });
        }
        match mem::replace(&mut self.data, Data::Joined) {
            Data::None => {
                self.data = Data::One(text(owner, value));
                return Ok(());
            }
            Data::One(first) => append(&mut self.joined, first.as_bytes()),
            Data::Joined => {}
        }
        append(&mut self.joined, b"\n");
        append(&mut self.joined, &owner[value]);
        Ok(())
    }

    /// The end of a block: the data if there was any, for [`event`](Self::event); if not, every
    /// field is forgotten.
    pub(super) fn dispatch(&mut self) -> Option<Text> {
        self.data_len = 0;
        let data = match mem::take(&mut self.data) {
            Data::None => {
                self.event = None;
                self.retry = None;
                return None;
            }
            Data::One(data) => data,
            Data::Joined => {
                let lines = take(&mut self.joined);
                text(&lines, 0..lines.len())
            }
        };
        Some(data)
    }

    /// The event, with the fields of its block, which are forgotten.
    #[inline]
    pub(super) fn event(&mut self, data: Text) -> Event {
        if self.event.is_none() && self.retry.is_none() && self.last_id.is_none() {
            // To move what is not there takes longer than to ask.
            return Event { event: None, data, id: None, retry: None };
        }
        Event { event: self.event.take(), data, id: self.last_id.clone(), retry: self.retry.take() }
    }

    /// Whether the next event has just what its block has.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        !self.is_open() && self.last_id.is_none()
    }

    /// Whether a field was set since the last blank line.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.data, Data::None) || self.event.is_some() || self.retry.is_some()
    }
}

/// A `retry` value: ASCII digits and nothing else.
fn milliseconds(value: &[u8]) -> Option<Duration> {
    if value.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    for digit in value {
        if !digit.is_ascii_digit() {
            return None;
        }
        total = total.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    }
    Some(Duration::from_millis(total))
}
