//! Floods: what one client sends without end is bounded, and others are served meanwhile.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    binary::{Running, command},
    command::exchange,
};

/// What a connection of HTTP/2 may have under way, as docs/operating.md says.
const STREAMS: u32 = 200;
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much memory a flood may take: what a connection may hold back is far less.
const MEMORY: usize = 64 << 20;

// RFC 9113, section 6.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// An acknowledgement of settings or of a ping.
const ACK: u8 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field by its name, without the table of those that went before (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = Vec::new();
        match text.len() {
            length @ 0..127 => bytes.push(length as u8),
            length => {
                bytes.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    bytes.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                bytes.push(rest as u8);
            }
        }
        bytes.extend(text.as_bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}

/// The fields of a request of a chat.
fn post() -> Vec<u8> {
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", "/v1/chat/completions"),
        field(":authority", "localhost"),
        field("content-type", "application/json"),
    ]
    .concat()
}

/// A frame that has come.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The error that it tells of: a stream's, or the connection's.
    fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        let code = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(code.try_into().expect("four bytes")))
    }
}

/// A connection of HTTP/2 that does as it is told.
struct Client {
    stream: TcpStream,
}

impl Client {
    fn connect(proxy: &Running) -> Self {
        let address = proxy.origin.strip_prefix("http://").expect("an origin");
        let stream = TcpStream::connect(address).expect("the proxy listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket's setting");
        let mut client = Self { stream };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let hello = [preface, frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat();
        assert!(client.send(&hello), "it is open");
        client
    }

    /// Whether it is still taken.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame but settings and what flows; `None` at the end of the connection.
    fn next(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            match self.stream.read_exact(&mut head) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nothing comes"),
                // It may be cut off where it was still sent something.
                Err(_) => return None,
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            if [HEADERS, RST_STREAM, GOAWAY, PING].contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// Reads to the end of the connection, and gives the error that it ended with.
    fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                code = frame.code();
            }
        }
        code
    }

    /// Waits until all that was sent was seen.
    fn settle(&mut self) -> Vec<Frame> {
        assert!(self.send(&frame(PING, 0, 0, b"all seen")), "it is open");
        let mut frames = Vec::new();
        loop {
            let frame = self.next().expect("it is open");
            if frame.kind == PING && frame.flags == ACK {
                return frames;
            }
            frames.push(frame);
        }
    }
}

/// How many requests are under way.
fn under_way(proxy: &Running) -> u64 {
    let answer = exchange(&proxy.origin, "GET /dashboard/status HTTP/1.1", "");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let told: Value = serde_json::from_str(body).expect("JSON");
    told["under_way"]["count"].as_u64().expect("a number")
}

/// Others are answered, and no more is under way than this.
fn assert_served(proxy: &Running, at_most: u64) {
    let body = r#"{"model":"qwen3-max","messages":[{"role":"user","content":"emulate:say=Hi"}]}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json";
    let answer = exchange(&proxy.origin, head, body);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Hi"), "{answer}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        // That of whoever asks is not one of them.
        let count = under_way(proxy);
        if count <= at_most {
            return;
        }
        assert!(Instant::now() < deadline, "{count} are under way");
    }
}

fn resident(proxy: &Running) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.id()));
    let Ok(status) = status else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// The proxy while it is flooded, with what it had at first.
fn flooded(flood: impl FnOnce(&Running)) {
    let proxy = Running::start(command());
    assert_served(&proxy, 1);
    let before = resident(&proxy);
    flood(&proxy);
    assert_served(&proxy, 1);
    let after = resident(&proxy);
    assert!(after < before + MEMORY, "{before} bytes became {after}");
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    flooded(|proxy| {
        let mut client = Client::connect(proxy);
        // Of each the body is still to come.
        let flood = |streams: std::ops::Range<u32>| -> Vec<u8> {
            streams.flat_map(|at| frame(HEADERS, END_HEADERS, 2 * at + 1, &post())).collect()
        };
        let beyond = 100;
        assert!(client.send(&flood(0..STREAMS + beyond)), "it is open");
        let frames = client.settle();
        let refused: Vec<_> =
            frames.iter().filter(|frame| frame.code() == Some(REFUSED_STREAM)).collect();
        assert_eq!(refused.len(), beyond as usize);
        assert!(refused.iter().all(|frame| frame.stream > 2 * STREAMS), "the first are taken");
        assert_served(proxy, u64::from(STREAMS) + 1);
        assert!(under_way(proxy) >= u64::from(STREAMS), "they go on");
        // Who does not stop at that is not listened to any more. The system may throw the last word away
        // where more was sent behind it.
        client.send(&flood(STREAMS + beyond..10_000));
        let code = client.end();
        assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    });
}

#[test]
fn streams_that_are_reset_again_and_again_end_the_connection() {
    flooded(|proxy| {
        let mut client = Client::connect(proxy);
        let flood: Vec<u8> = (0..10_000)
            .flat_map(|at| {
                let request = frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &post());
                [request, frame(RST_STREAM, 0, 2 * at + 1, &8_u32.to_be_bytes())].concat()
            })
            .collect();
        // The connection ends in the middle of it.
        client.send(&flood);
        assert_eq!(client.end(), Some(ENHANCE_YOUR_CALM));
    });
}

#[test]
fn headers_that_are_too_long_are_refused_and_the_connection_goes_on() {
    flooded(|proxy| {
        let mut client = Client::connect(proxy);
        // A table of the connection would make them short.
        let long =
            [post(), field("x-long", &"x".repeat(15 << 10)), field("x-more", &"x".repeat(2 << 10))];
        let long = long.concat();
        let (first, rest) = long.split_at(16_000);
        let request = [
            frame(HEADERS, END_STREAM, 1, first),
            frame(CONTINUATION, END_HEADERS, 1, rest),
            frame(HEADERS, END_HEADERS | END_STREAM, 3, &post()),
        ];
        assert!(client.send(&request.concat()), "it is open");
        let mut answered = Vec::new();
        while answered.len() < 2 {
            let frame = client.next().expect("it goes on");
            if frame.kind == HEADERS {
                answered.push((frame.stream, frame.payload));
            }
        }
        answered.sort();
        // `:status` has no entry of its own for 431 and for 400 (RFC 7541, appendix A).
        let status = |payload: &[u8]| match payload {
            [0x8c, ..] => "400".to_owned(),
            [0x08 | 0x48, 0x03, digits @ ..] => String::from_utf8_lossy(&digits[..3]).into_owned(),
            // The digits are in Huffman's code.
            [0x08 | 0x48, 0x83, 0x69, 0x90, 0xff, ..] => "431".to_owned(),
            other => format!("{other:02x?}"),
        };
        assert_eq!(answered[0].0, 1);
        assert_eq!(status(&answered[0].1), "431");
        assert_eq!(status(&answered[1].1), "400", "without a body it is no request of a chat");
    });
}

#[test]
fn headers_without_an_end_end_the_connection() {
    for piece in [Vec::new(), field("x", &"y".repeat(1_000))] {
        flooded(|proxy| {
            let mut client = Client::connect(proxy);
            client.send(&frame(HEADERS, END_STREAM, 1, &post()));
            let more = frame(CONTINUATION, 0, 1, &piece).repeat(100);
            let deadline = Instant::now() + PATIENCE;
            while client.send(&more) {
                assert!(Instant::now() < deadline, "it takes all of them");
            }
            let code = client.end();
            // Where it was still sent to, the system may have thrown the last word away.
            assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
        });
    }
}

/// Who sends its head a byte at a time has a place that costs others nothing.
#[test]
fn heads_that_do_not_end_keep_nobody_waiting() {
    flooded(|proxy| {
        let address = proxy.origin.strip_prefix("http://").expect("an origin");
        let slow: Vec<_> = (0..500)
            .map(|_| {
                let mut stream = TcpStream::connect(address).expect("the proxy listens");
                stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nho").expect("it reads");
                stream
            })
            .collect();
        assert_served(proxy, 1);
        drop(slow);
    });
}
