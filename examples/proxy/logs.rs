//! The log, written beside the requests.
//!
//! Standard error may be a pipe that nobody reads, or a file on a full disk. Whoever writes to it
//! then waits or fails, so requests do not: what they log is put into a queue of bounded size, and
//! a thread of its own writes it. What does not fit, or cannot be written, is dropped and counted.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread,
    time::Duration,
};

use serde_json::json;

use super::config::LogFormat;

/// How many bytes may wait to be written; a line that does not fit is dropped.
const WAITING: usize = 1024 * 1024;

/// For how long the end of the program waits for what is still to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where lines of the log go; a clone leads to the same place.
#[derive(Clone)]
pub(crate) struct Logs {
    format: LogFormat,
    sender: Sender<Message>,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it was written.
    Flush(SyncSender<()>),
}

impl Logs {
    /// Logs that a thread writes to `out`.
    ///
    /// # Errors
    ///
    /// If there can be no such thread.
    pub(crate) fn to(out: impl Write + Send + 'static, format: LogFormat) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let logs = Self { format, sender, waiting: Arc::default(), dropped: Arc::default() };
        let (waiting, dropped) = (Arc::clone(&logs.waiting), Arc::clone(&logs.dropped));
        let writing = move || write_all(out, format, &receiver, &waiting, &dropped);
        thread::Builder::new().name("logs".to_owned()).spawn(writing)?;
        Ok(logs)
    }

    /// Puts words that come from no logger into the queue, as the format has them.
    pub(crate) fn say(&self, words: Vec<u8>) {
        self.put(match self.format {
            LogFormat::Text | LogFormat::Pretty => words,
            LogFormat::Json => as_json("INFO", String::from_utf8_lossy(&words).trim_end()),
        });
    }

    /// Puts a line, or several, into the queue.
    pub(crate) fn put(&self, line: Vec<u8>) {
        let len = line.len();
        let before = self.waiting.fetch_add(len, Ordering::Relaxed);
        // One line alone is taken whatever its length.
        let fits = before == 0 || before.saturating_add(len) <= WAITING;
        if !fits || self.sender.send(Message::Line(line)).is_err() {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
            count(&self.dropped, "full");
        }
    }

    /// Waits until what was put before is written, but not for long.
    pub(crate) fn flush(&self) {
        let (done, written) = mpsc::sync_channel(1);
        if self.sender.send(Message::Flush(done)).is_ok() {
            // Too slow, or gone: nobody reads it.
            let _ = written.recv_timeout(LAST_WORDS);
        }
    }
}

/// A line comes by one call; none ever fails or waits.
impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn count(dropped: &AtomicU64, reason: &'static str) {
    dropped.fetch_add(1, Ordering::Relaxed);
    metrics::counter!("tower_qwen_proxy_log_lines_dropped_total", "reason" => reason).increment(1);
}

/// A line as those of the logger are in JSON, but for the time.
fn as_json(level: &str, message: &str) -> Vec<u8> {
    let line = json!({"level": level, "fields": {"message": message}, "target": "proxy"});
    let mut line = line.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Writes what comes, until nobody is left to send anything.
fn write_all(
    mut out: impl Write,
    format: LogFormat,
    lines: &Receiver<Message>,
    waiting: &AtomicUsize,
    dropped: &AtomicU64,
) {
    for message in lines {
        let line = match message {
            Message::Line(line) => line,
            Message::Flush(done) => {
                // Nobody waits any more where it took long.
                let _ = done.send(());
                continue;
            }
        };
        // So that a gap can be told from a quiet time.
        let lost = dropped.load(Ordering::Relaxed);
        let told = if lost == 0 {
            Ok(())
        } else {
            let told = format!("{lost} lines of the log were dropped before this one");
            let told = match format {
                LogFormat::Text | LogFormat::Pretty => writeln!(out, "{told}"),
                LogFormat::Json => out.write_all(&as_json("WARN", &told)),
            };
            if told.is_ok() {
                dropped.fetch_sub(lost, Ordering::Relaxed);
            }
            told
        };
        if told.and_then(|()| out.write_all(&line)).is_err() {
            count(dropped, "failed");
        }
        waiting.fetch_sub(line.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Condvar, Mutex};

    use super::*;

    /// A place that takes what is written when it is told to, and fails when it is told to.
    #[derive(Clone, Default)]
    struct Place(Arc<(Mutex<State>, Condvar)>);

    #[derive(Default)]
    struct State {
        written: Vec<u8>,
        is_full: bool,
        fails: bool,
        is_waited_for: bool,
    }

    impl Place {
        fn set(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.0.0.lock().expect("no panic"));
            self.0.1.notify_all();
        }

        fn wait_for(&self, test: impl Fn(&State) -> bool) {
            let state = self.0.0.lock().expect("no panic");
            drop(self.0.1.wait_while(state, |state| !test(state)).expect("no panic"));
        }

        fn written(&self) -> String {
            String::from_utf8(self.0.0.lock().expect("no panic").written.clone()).expect("UTF-8")
        }
    }

    impl Write for Place {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.0.lock().expect("no panic");
            state.is_waited_for = state.is_full;
            self.0.1.notify_all();
            let mut state = self.0.1.wait_while(state, |state| state.is_full).expect("no panic");
            if state.fails {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_place_that_is_full_holds_nobody_up_and_the_gap_is_told() {
        let place = Place::default();
        place.set(|state| state.is_full = true);
        let mut logs = Logs::to(place.clone(), LogFormat::Text).expect("a thread");
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        logs.write_all(&line).expect("never fails");
        place.wait_for(|state| state.is_waited_for);
        // What was taken out counts until it is written.
        let room = WAITING / line.len();
        for _ in 1..room + 7 {
            logs.write_all(&line).expect("never fails");
        }
        assert_eq!(logs.dropped.load(Ordering::Relaxed), 7);
        assert!(logs.waiting.load(Ordering::Relaxed) <= WAITING);
        place.set(|state| state.is_full = false);
        logs.flush();
        assert_eq!(logs.waiting.load(Ordering::Relaxed), 0);
        let written = place.written();
        assert_eq!(written.lines().filter(|line| line.starts_with('x')).count(), room);
        let told = written.lines().filter(|line| line.starts_with("7 lines of the log"));
        assert_eq!(told.count(), 1);
    }

    #[test]
    fn a_place_that_fails_is_written_to_again_later() {
        let place = Place::default();
        place.set(|state| state.fails = true);
        let logs = Logs::to(place.clone(), LogFormat::Text).expect("a thread");
        for _ in 0..3 {
            logs.put(b"lost\n".to_vec());
        }
        logs.flush();
        assert_eq!(place.written(), "");
        place.set(|state| state.fails = false);
        logs.put(b"kept\n".to_vec());
        logs.put(b"and this\n".to_vec());
        logs.flush();
        assert_eq!(
            place.written(),
            "3 lines of the log were dropped before this one\nkept\nand this\n"
        );
    }

    #[test]
    fn in_json_every_line_is_an_object() {
        let place = Place::default();
        place.set(|state| state.fails = true);
        let logs = Logs::to(place.clone(), LogFormat::Json).expect("a thread");
        logs.put(b"{}\n".to_vec());
        logs.flush();
        place.set(|state| state.fails = false);
        logs.say(b"it listens\n  here\n".to_vec());
        logs.flush();
        let written = place.written();
        let messages: Vec<_> = written
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|line| line["fields"]["message"].clone())
            .collect();
        assert_eq!(
            messages,
            ["1 lines of the log were dropped before this one", "it listens\n  here"]
        );
    }
}
