//! Asks a rival, and reads what it answers.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use memchr::memmem::Finder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{
    rival::Process,
    wire::{self, CLOCK, Order, WORD},
};

/// So many streams at a time.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) streams: usize,
    pub(crate) order: Order,
}

/// What a load has come to.
pub(crate) struct Cost {
    /// Nanoseconds of CPU that the rival took an event.
    pub(crate) cpu: f64,
    /// How many microseconds each event was on its way, where the time stands in it.
    pub(crate) late: Vec<f64>,
}

impl Load {
    /// Loads `rival`.
    ///
    /// # Panics
    ///
    /// If an event is lost.
    pub(crate) async fn run(self, rival: &Process) -> Cost {
        let before = rival.cpu();
        let mut tasks = JoinSet::new();
        for _ in 0..self.streams {
            let port = rival.port();
            tasks.spawn(async move {
                let mut reading = Reading::default();
                let mut stream = Connection::open(port).await;
                stream.ask(self.order, true).await;
                stream.read(&mut reading).await;
                reading
            });
        }
        let all = tasks.join_all().await;
        let events: u32 = all.iter().map(|reading| reading.events).sum();
        let asked = self.streams as u32 * self.order.events;
        assert_eq!(events, asked, "events were lost");
        let cpu = (rival.cpu() - before) as f64 / f64::from(events);
        Cost { cpu, late: all.into_iter().flat_map(|reading| reading.late).collect() }
    }
}

/// Nanoseconds of CPU that `rival` takes for a small request that is answered in one piece:
/// `connections` of them ask `each` times one after the other.
pub(crate) async fn unary(rival: &Process, connections: usize, each: usize) -> f64 {
    let before = rival.cpu();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        let port = rival.port();
        tasks.spawn(async move {
            let mut stream = Connection::open(port).await;
            for _ in 0..each {
                let mut reading = Reading::default();
                stream.ask(Order { events: 1, gap: 0, together: 1 }, false).await;
                stream.read(&mut reading).await;
                assert_eq!(reading.events, 1, "an answer without its word");
            }
        });
    }
    tasks.join_all().await;
    (rival.cpu() - before) as f64 / (connections * each) as f64
}

/// Microseconds from a request to the first event of its answer.
pub(crate) async fn first_event(rival: &Process) -> f64 {
    let begun = Instant::now();
    let mut stream = Connection::open(rival.port()).await;
    stream.ask(Order { events: 1, gap: 0, together: 1 }, true).await;
    stream.read_until(&mut Reading::default(), |reading| reading.events > 0).await;
    begun.elapsed().as_secs_f64() * 1e6
}

/// Resident bytes that each of `streams` takes which have said a word and say no more.
pub(crate) async fn idle(rival: &Process, streams: usize) -> f64 {
    // What the first answer brings that is kept.
    for _ in 0..8 {
        first_event(rival).await;
    }
    let before = rival.memory();
    let mut open = Vec::new();
    for _ in 0..streams {
        let mut stream = Connection::open(rival.port()).await;
        stream.ask(Order { events: 2, gap: 3_600_000_000, together: 1 }, true).await;
        stream.read_until(&mut Reading::default(), |reading| reading.events > 0).await;
        open.push(stream);
    }
    tokio::time::sleep(SETTLE).await;
    rival.memory().saturating_sub(before) as f64 / streams as f64
}

/// For how long streams are silent before the memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// A connection with a rival.
struct Connection {
    stream: TcpStream,
    port: u16,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("TCP");
        Self { stream, port, buffer: vec![0; 64 * 1024] }
    }

    async fn ask(&mut self, order: Order, streams: bool) {
        let body = order.body(streams);
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nuser-agent: rig\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.expect("it reads");
    }

    /// Reads an answer to its end.
    async fn read(&mut self, reading: &mut Reading) {
        self.read_until(reading, Reading::is_whole).await;
    }

    /// Reads an answer until `is_enough`.
    async fn read_until(&mut self, reading: &mut Reading, is_enough: impl Fn(&Reading) -> bool) {
        while !is_enough(reading) {
            let len = self.stream.read(&mut self.buffer).await.expect("an answer");
            assert!(len > 0, "an answer was cut: {:?}", String::from_utf8_lossy(&reading.body));
            reading.take(&self.buffer[..len], wire::now());
        }
    }
}

/// An answer that is being read: of HTTP/1.1, chunked or of a known length (RFC 9112, 6 and 7.1).
#[derive(Default)]
struct Reading {
    /// A line of the head, or the size of a chunk.
    line: Vec<u8>,
    place: Place,
    /// What is left of the body, or of a chunk.
    left: usize,
    is_chunked: bool,
    /// That of a body which is not.
    length: usize,
    /// What was not looked at yet.
    body: Vec<u8>,
    events: u32,
    late: Vec<f64>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// In the first line.
    #[default]
    Status,
    Head,
    Body,
    /// Behind the last chunk.
    Last,
    End,
}

impl Reading {
    fn is_whole(&self) -> bool {
        self.place == Place::End
    }

    fn take(&mut self, mut piece: &[u8], now: u64) {
        while !piece.is_empty() {
            if self.left > 0 {
                let (data, rest) = piece.split_at(self.left.min(piece.len()));
                self.body.extend_from_slice(data);
                self.left -= data.len();
                piece = rest;
                if self.left == 0 && !self.is_chunked {
                    self.place = Place::End;
                }
                continue;
            }
            let end = memchr::memchr(b'\n', piece).map_or(piece.len(), |at| at + 1);
            let (part, rest) = piece.split_at(end);
            self.line.extend_from_slice(part);
            piece = rest;
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.line(std::str::from_utf8(&line).expect("text").trim());
            }
        }
        self.count(now);
    }

    fn line(&mut self, line: &str) {
        match self.place {
            Place::Status => {
                assert!(line.starts_with("HTTP/1.1 200"), "it answered {line}");
                self.place = Place::Head;
            }
            Place::Head if line.is_empty() => {
                self.left = self.length;
                self.place =
                    if self.is_chunked || self.left > 0 { Place::Body } else { Place::End };
            }
            Place::Head => {
                let (name, value) = line.split_once(':').expect("a header");
                if name.eq_ignore_ascii_case("content-length") {
                    self.length = value.trim().parse().expect("a length");
                } else if name.eq_ignore_ascii_case("transfer-encoding") {
                    self.is_chunked = true;
                }
            }
            // The end of a chunk's data.
            Place::Body if line.is_empty() => {}
            Place::Body => {
                self.left = usize::from_str_radix(line, 16).expect("a chunk's size");
                if self.left == 0 {
                    self.place = Place::Last;
                }
            }
            Place::Last => self.place = Place::End,
            Place::End => panic!("behind its end it says {line}"),
        }
    }

    /// Looks for words in the body.
    fn count(&mut self, now: u64) {
        let finder = Finder::new(WORD);
        let mut behind = 0;
        for at in finder.find_iter(&self.body) {
            self.events += 1;
            let before = &self.body[behind..at];
            if let Some(clock) = memchr::memrchr(CLOCK, before) {
                let made = std::str::from_utf8(&before[clock + 1..]).expect("digits");
                let made: u64 = made.trim().parse().expect("a time");
                self.late.push(now.saturating_sub(made) as f64 / 1e3);
            }
            behind = at + WORD.len();
        }
        // What is cut here is found with the next piece: a word with the time before it.
        self.body.drain(..behind.max(self.body.len().saturating_sub(64)));
    }
}

#[cfg(test)]
mod tests {
    use super::Reading;

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
        c\r\n@1000 word @\r\n5\r\n2000 \r\n7\r\nword !!\r\n0\r\n\r\n";
    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n.word ";

    #[test]
    fn an_answer_is_read_however_it_is_cut() {
        for size in 1..CHUNKED.len() {
            let mut reading = Reading::default();
            CHUNKED.chunks(size).for_each(|piece| reading.take(piece, 5000));
            assert!(reading.is_whole());
            assert_eq!((reading.events, &reading.late[..]), (2, &[4.0, 3.0][..]));
        }
        for size in 1..WHOLE.len() {
            let mut reading = Reading::default();
            WHOLE.chunks(size).for_each(|piece| reading.take(piece, 5000));
            assert!(reading.is_whole());
            assert_eq!((reading.events, reading.late.len()), (1, 0));
        }
    }
}
