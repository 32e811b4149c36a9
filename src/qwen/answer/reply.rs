//! What an upstream answers to a request for a stream, up to the commit point.
//!
//! Most answer with a stream. Some answer whole, some call a stream JSON or nothing, and what is no
//! answer is an error, whatever its status.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response, header, response::Parts};
use http_body::Body;

use super::{
    reader::{Reader, Wire, begins_as_events},
    repair::Repair,
    state::Answer,
};
use crate::{
    BoxError, Error, ErrorKind, Text,
    qwen::transport::{self, Cut, Read},
    sse::{Decoder, progress::Limits},
};

/// How much of an error body is read.
const ERROR_LEN: usize = 64 * 1024;

/// How much of an answer is read that came whole although a stream was asked for.
const WHOLE_LEN: usize = 16 * 1024 * 1024;

/// How long the end of such an answer may take: servers write it when it is complete, and those
/// that cut it do so at 300 s. A little more, so that what they then send still counts.
const WHOLE_DEADLINE: Duration = Duration::from_secs(310);

/// How long the end of an error body may take.
const ERROR_DEADLINE: Duration = Duration::from_secs(10);

/// What is known of a wire besides its events.
pub(crate) trait Reply: Wire {
    /// Whether a body holds an answer; `None` where it is no object at all.
    fn holds_answer(json: &Text) -> Option<bool>;

    /// Takes such an answer.
    ///
    /// # Errors
    ///
    /// Where it says that it failed, or cannot be read.
    fn whole(&mut self, json: &Text, answer: &mut Answer) -> Result<(), Error>;

    /// What a response means that holds no answer.
    fn refusal(&self, head: &Parts, read: &Read) -> Error;
}

/// Reads a response up to the commit point. When the model has finished, the rest of a stream is awaited for
/// `grace`.
///
/// # Errors
///
/// What the response says in place of an answer, or what ended the answer before that point.
pub(crate) async fn open<B, W>(
    response: Response<B>,
    mut wire: W,
    mut answer: Answer,
    limits: Limits,
    grace: Duration,
) -> Result<Reader<B, W>, Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    W: Reply,
{
    let (head, body) = response.into_parts();
    let mut body = Box::pin(body);
    let media_type = media_type(&head.headers);
    if head.status.is_success() && media_type == "text/event-stream" {
        return stream(Bytes::new(), body, answer, wire, limits, grace).await;
    }
    // A page holds no answer, and may not end.
    let (limit, deadline) = if head.status.is_success() && media_type != "text/html" {
        (WHOLE_LEN, WHOLE_DEADLINE)
    } else {
        (ERROR_LEN, ERROR_DEADLINE)
    };
    // Some gateways call every body JSON or plain text, or nothing.
    let is_stream = |bytes: &[u8]| head.status.is_success() && begins_as_events(bytes);
    let (bytes, cut) = transport::read_until(body.as_mut(), limit, deadline, is_stream).await;
    if let Some(Cut::Enough) = cut {
        answer.repaired(Repair::MediaType);
        return stream(bytes, body, answer, wire, limits, grace).await;
    }
    let read = Read { bytes, complete: cut.is_none() };
    if head.status.is_success() {
        match Text::from_utf8(read.bytes.clone()).map(|text| (W::holds_answer(&text), text)) {
            Ok((Some(true), text)) => {
                wire.whole(&text, &mut answer)?;
                return Ok(Reader::whole(answer, wire));
            }
            Err(error) if cut.is_none() && media_type != "text/html" => {
                return Err(not_a_chat(error));
            }
            Ok((Some(false), _)) => {}
            _ => {
                if let Some(cut) = cut {
                    return Err(cut.into_error());
                }
            }
        }
    }
    Err(wire.refusal(&head, &read))
}

async fn stream<B, W>(
    start: Bytes,
    body: Pin<Box<B>>,
    answer: Answer,
    wire: W,
    limits: Limits,
    grace: Duration,
) -> Result<Reader<B, W>, Error>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    W: Wire,
{
    let mut decoder = Decoder::new().error_field();
    decoder.push(start);
    let mut reader = Reader::new(decoder, body, answer, wire, limits, grace);
    reader.commit().await?;
    Ok(reader)
}

fn not_a_chat(error: std::str::Utf8Error) -> Error {
    Error::new(ErrorKind::Upstream, "the upstream's answer is not UTF-8").with_source(error)
}

fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default()
}
