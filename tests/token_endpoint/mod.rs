//! A token endpoint on a socket, for processes that share a login: strict about refresh tokens, and
//! able to tell which process asks.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::SystemTime,
};

/// Shorter than the margin: every refresh is a real one.
const LIFETIME: u64 = 20;

/// The token endpoint.
pub(crate) struct Server {
    /// Whether the previous token is taken until the newest has been used.
    grace: bool,
    pub(crate) serial: u64,
    /// The token that bought the newest.
    used: Option<u64>,
    pub(crate) grants: u64,
    pub(crate) replays: u64,
    /// Processes that were killed: what they had sent never arrives.
    pub(crate) dead: Vec<String>,
    pub(crate) wrongs: Vec<String>,
}

impl Server {
    /// Starts one that has granted `rt-0` so far; gives its address too.
    pub(crate) fn start(grace: bool) -> (Shared, SocketAddr) {
        let server = Arc::new(Mutex::new(Self {
            grace,
            serial: 0,
            used: None,
            grants: 0,
            replays: 0,
            dead: Vec::new(),
            wrongs: Vec::new(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        thread::spawn({
            let server = Arc::clone(&server);
            move || serve(listener, server)
        });
        (server, address)
    }

    /// Whether the file at `path` holds the newest login.
    pub(crate) fn is_on_disk(&self, path: &Path) -> bool {
        refresh_token_on_disk(path) == format!("rt-{}", self.serial)
    }

    fn redeem(&mut self, token: &str) -> Option<String> {
        let number: u64 = token.strip_prefix("rt-").and_then(|n| n.parse().ok())?;
        if self.grace && Some(number) == self.used {
            // The newest was never used: its owner died with it. It is void from now on.
            self.replays += 1;
        } else if number != self.serial {
            self.wrongs.push(format!("{token} came, and the newest is rt-{}", self.serial));
            return None;
        }
        self.used = Some(number);
        self.serial += 1;
        self.grants += 1;
        Some(grant(self.serial))
    }
}

fn grant(serial: u64) -> String {
    format!(
        r#"{{"access_token":"at-{serial}","refresh_token":"rt-{serial}","expires_in":{LIFETIME}}}"#
    )
}

pub(crate) type Shared = Arc<Mutex<Server>>;

pub(crate) fn lock(server: &Shared) -> MutexGuard<'_, Server> {
    server.lock().expect("no one panics with it")
}

fn serve(listener: TcpListener, server: Shared) {
    for stream in listener.incoming() {
        let server = Arc::clone(&server);
        // A client that was killed breaks its connection, which is not the endpoint's problem.
        thread::spawn(move || stream.and_then(|stream| answer(stream, &server)));
    }
}

fn answer(mut stream: TcpStream, server: &Shared) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let (head, form) = loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        }
    };
    let field = |name: &str| {
        form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or("")
    };
    let (status, body) = {
        let mut server = lock(server);
        // A process is known by the path that it was told of, which comes after the host where
        // the client writes the whole URL.
        let target = head.split(' ').nth(1).unwrap_or_default();
        if server.dead.iter().any(|dead| target.ends_with(&format!("/{dead}/token"))) {
            return Ok(());
        }
        match server.redeem(field("refresh_token")) {
            Some(body) => ("200 OK", body),
            None => ("400 Bad Request", r#"{"error":"invalid_grant"}"#.to_owned()),
        }
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn refresh_token_on_disk(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a rename leaves no moment without the file");
    let value: serde_json::Value = serde_json::from_str(&text).expect("never half a file");
    value["refresh_token"].as_str().expect("a token").to_owned()
}

/// Writes the first login into the file at `path`; its access token has ended.
pub(crate) fn write_first(path: &Path) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.expect("after 1970").as_millis();
    let first = serde_json::json!({"access_token": "at-0", "refresh_token": "rt-0",
        "token_type": "Bearer", "resource_url": "portal.qwen.ai", "expiry_date": now as u64});
    fs::write(path, first.to_string()).expect("written");
}
