//! A headless Chromium, driven by its [DevTools protocol] over two pipes.
//!
//! [DevTools protocol]: https://chromedevtools.github.io/devtools-protocol/

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The browser on this machine; where there is none that is said, and with `CI` it is a failure.
#[expect(clippy::print_stderr, reason = "whoever runs the tests shall know")]
pub(crate) fn installed() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = names.into_iter().find(|name| {
        let mut version = Command::new(name);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    });
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci.is_empty()),
            "chromium must be installed where CI is set"
        );
        eprintln!("skipped: there is no Chromium on the path");
    }
    found
}

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: Option<Value>,
    last: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one; `None` where none is installed.
    pub(crate) fn start() -> Option<Self> {
        let program = installed()?;
        let profile = tempfile::tempdir().expect("a folder");
        // It reads what it is told from 3 and answers on 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", program]);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
        command.args(["--no-first-run", "--window-size=1200,1400", "--remote-debugging-pipe"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it can be started");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (told, messages) = mpsc::channel();
        thread::spawn(move || {
            for message in output.split(0) {
                let Ok(message) = message else { break };
                let message = serde_json::from_slice(&message).expect("JSON");
                if told.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser =
            Self { child, input, messages, session: None, last: 0, _profile: profile };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.ask("Target.attachToTarget", attach);
        browser.session = Some(session["sessionId"].clone());
        browser.ask("Page.enable", json!({}));
        Some(browser)
    }

    fn send(&mut self, method: &str, parameters: &Value) -> u64 {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone();
        }
        write!(self.input, "{message}\0").and_then(|()| self.input.flush()).expect("it reads");
        self.last
    }

    /// Sends a command and gives its result, or its error as a value of that name.
    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        let id = self.send(method, &parameters);
        loop {
            let message = self.messages.recv_timeout(PATIENCE);
            let mut message = message.unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == id {
                return match message.get_mut("result") {
                    Some(result) => result.take(),
                    None => message,
                };
            }
        }
    }

    /// Goes to `url`, and gives the text of the error where that was not possible.
    pub(crate) fn open(&mut self, url: &str) -> Option<String> {
        let gone = self.ask("Page.navigate", json!({"url": url}));
        gone["errorText"].as_str().map(str::to_owned)
    }

    /// The value of an expression, or of what it promises.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.ask("Runtime.evaluate", parameters);
        result["result"]["value"].clone()
    }

    /// Waits until the page has this text.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.text();
            if shown.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{text:?} is not in {shown}");
            thread::yield_now();
        }
    }

    /// The text that the page shows.
    pub(crate) fn text(&mut self) -> String {
        let text = self.evaluate("document.body ? document.body.innerText : ''");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Gives the element that `selector` finds the focus, and types `text` into it.
    pub(crate) fn fill(&mut self, selector: &str, text: &str) {
        let selector = Value::from(selector);
        self.evaluate(&format!("document.querySelector({selector}).focus()"));
        self.ask("Input.insertText", json!({"text": text}));
    }

    /// Clicks on the element that `selector` finds.
    pub(crate) fn click(&mut self, selector: &str) {
        let selector = Value::from(selector);
        self.evaluate(&format!("document.querySelector({selector}).click()"));
    }

    /// The addresses of the frames of the page, without its own.
    pub(crate) fn frames(&mut self) -> Vec<String> {
        let tree = self.ask("Page.getFrameTree", json!({}));
        let children = tree["frameTree"]["childFrames"].as_array().cloned().unwrap_or_default();
        let url = |child: &Value| child["frame"]["url"].as_str().unwrap_or_default().to_owned();
        children.iter().map(url).collect()
    }

    /// Looks at the page in both themes, which must differ. With `TOWER_QWEN_PICTURES` the pictures are
    /// kept in that folder under `name`, for whoever wants to look too.
    pub(crate) fn pictures(&mut self, name: &str) {
        let kept = std::env::var_os("TOWER_QWEN_PICTURES").filter(|folder| !folder.is_empty());
        let pictures = ["light", "dark"].map(|theme| {
            let feature = json!({"name": "prefers-color-scheme", "value": theme});
            self.ask("Emulation.setEmulatedMedia", json!({"features": [feature]}));
            let taken = json!({"format": "png", "captureBeyondViewport": true});
            let picture = self.ask("Page.captureScreenshot", taken);
            let picture = BASE64_STANDARD.decode(picture["data"].as_str().expect("a picture"));
            let picture = picture.expect("base64");
            if let Some(folder) = &kept {
                let file = Path::new(folder).join(format!("{name}-{theme}.png"));
                fs::create_dir_all(folder).expect("a folder");
                fs::write(file, &picture).expect("a file takes it");
            }
            picture
        });
        assert_ne!(pictures[0], pictures[1], "one is dark and the other is not");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It removes its own files then, before the folder goes.
        self.session = None;
        self.last += 1;
        let close = json!({"id": self.last, "method": "Browser.close"});
        let closed = write!(self.input, "{close}\0").and_then(|()| self.input.flush());
        if closed.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
