//! `proxy login web`: the program, its terminal and its page in a browser.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use serde_json::Value;

use crate::{
    binary::{self, command},
    browser::Browser,
};

/// Invented: the vector of docs/reference/qwen-wire.md.
const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpZCI6IjAwMDAwMDAwLTAwMDAtNDAwMC04MDAwLTAwMDAwMDAwYWJjZCIsImxhc3RfcGFzc3dvcmRfY2hhbmdlIjoxNzAwMDAwMDAwLCJleHAiOjE4OTM0NTYwMDB9.bm90LWEtcmVhbC1zaWduYXR1cmU";

/// Reads until the line with the page's address, and gives that.
fn address(output: &mut impl BufRead) -> String {
    let mut line = String::new();
    while !line.contains("  http://127.0.0.1:") {
        line.clear();
        assert_ne!(output.read_line(&mut line).expect("UTF-8"), 0, "it ended");
    }
    line.trim().to_owned()
}

/// The program without a terminal, and the address of its page.
fn without_a_terminal(file: &Path) -> (Child, BufReader<impl Read>, String) {
    let mut login = command();
    login.args(["login", "web", "--yes", "--file"]).arg(file);
    let mut child = login.spawn().expect("it runs");
    let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
    let url = address(&mut said);
    (child, said, url)
}

/// A server of another port of this machine, with one page for everybody.
fn other_page(html: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut line = String::new();
            let mut request = BufReader::new(stream.try_clone().expect("a second handle"));
            while request.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let length = html.len();
            // A browser may open connections that it does not use.
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\
                 content-length: {length}\r\n\r\n{html}"
            );
        }
    });
    url
}

#[test]
fn a_browser_gives_its_session_and_no_other_page_does() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("session.json");
    let (mut child, mut said, url) = without_a_terminal(&file);

    // A page that knows the address, on another port of the same machine: the worst that there can be.
    let evil = other_page(format!(
        r#"<iframe src="{url}"></iframe>
        <form method="post" action="{url}"><input name="token" value="{JWT}"><button>Win</button></form>"#
    ));
    assert_eq!(browser.open(&evil), None);
    browser.wait_for("Win");
    let read = browser.evaluate(&format!("fetch('{url}').then(() => 'read', () => 'not read')"));
    assert_eq!(read, "not read");
    let sent = format!(
        "fetch('{url}', {{method: 'POST', mode: 'no-cors', credentials: 'include',
           body: new URLSearchParams({{token: '{JWT}'}})}}).then(() => 'sent', () => 'not sent')"
    );
    // That it was refused shows in the end: nothing was taken.
    browser.evaluate(&sent);
    let frames = browser.frames();
    assert!(frames.iter().all(|frame| frame.starts_with("chrome-error:")), "{frames:?}");
    browser.click("button");
    browser.wait_for("Another page has sent that.");
    assert!(!file.exists() && child.try_wait().expect("it was started").is_none());

    assert_eq!(browser.open(&url), None);
    browser.wait_for("Keep a session of chat.qwen.ai");
    browser.pictures("sign-in-form");
    // Nothing of the page runs, and nothing is loaded from elsewhere.
    let ran = "const made = document.createElement('script'); made.textContent = 'window.ran = 1';
               document.body.append(made); window.ran === 1";
    assert_ne!(browser.evaluate(ran), true);
    browser.fill("#token", &JWT[..60]);
    browser.click("button");
    browser.wait_for("was it copied whole?");
    browser.pictures("sign-in-complaint");
    assert!(!browser.text().contains("eyJhb"), "{}", browser.text());
    browser.fill("#token", &format!("token\t{JWT}"));
    browser.fill("#cookies", "cna=of-a-browser; isg=2");
    browser.click("button");
    browser.wait_for("It is kept. You may close this page.");
    browser.pictures("sign-in-kept");

    assert_eq!(child.wait().expect("it was started").code(), Some(0));
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("UTF-8");
    assert!(rest.contains("good until 2030-01-01 00:00 UTC"), "{rest}");
    assert!(!rest.contains("eyJhb") && !rest.contains("of-a-browser"), "{rest}");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("JSON");
    assert_eq!((&kept["jwt"], &kept["cookies"]["cna"]), (&JWT.into(), &"of-a-browser".into()));

    // What it says next works.
    let mut list = command();
    list.args(["accounts", "--credentials"]).arg(&file).stdout(Stdio::piped());
    let output = list.output().expect("it runs");
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(table.contains("session") && table.contains("web"), "{table}");
}

#[test]
fn where_nobody_can_be_asked_that_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut login = command();
    login.args(["login", "web", "--file"]).arg(folder.path().join("session.json"));
    let output = login.output().expect("it runs");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("standard input is none") && said.contains("--yes"), "{said}");
}

/// With a terminal, which `script` makes: the answer there decides.
#[test]
fn the_terminal_has_the_last_word() {
    for (answer, code) in [("y\n", 0), ("\n", 1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("session.json");
        let program = binary::path().display();
        let line = format!("exec '{program}' login web --file '{}'", file.display());
        let mut terminal = Command::new("script");
        terminal.args(["-q", "-e", "-f", "-c", &line, "/dev/null"]);
        terminal.env("HOME", "/nonexistent").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = terminal.stderr(Stdio::null()).spawn().expect("util-linux is there");
        let mut said = BufReader::new(child.stdout.take().expect("it is piped"));
        let url = address(&mut said);
        let posted = thread::spawn(move || post(&url));
        let mut line = String::new();
        while !line.contains("The page was given") {
            line.clear();
            assert_ne!(said.read_line(&mut line).expect("UTF-8"), 0, "it ended");
        }
        assert!(!file.exists(), "nobody has said yes yet");
        let mut keyboard = child.stdin.take().expect("it is piped");
        keyboard.write_all(answer.as_bytes()).expect("it reads");
        let mut rest = String::new();
        said.read_to_string(&mut rest).expect("UTF-8");
        let page = posted.join().expect("no panic");
        assert_eq!(child.wait().expect("it was started").code(), Some(code), "{rest}");
        assert_eq!(file.exists(), code == 0, "{rest}");
        assert_eq!(page.contains("It is kept."), code == 0, "{page}");
    }
}

/// Sends a session as the page's own form does.
fn post(url: &str) -> String {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let page = client.get(url).send().await.expect("a page");
        let cookie = page.headers()["set-cookie"].to_str().expect("ASCII").to_owned();
        let page = page.text().await.expect("a page");
        let (_, form) = page.split_once("name=\"form\" value=\"").expect("a form");
        let form = form.split('"').next().expect("its end");
        let (origin, _) = url.rsplit_once('/').expect("a path");
        let request = client.post(url).header("origin", origin);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = request.header("cookie", cookie.split(';').next().expect("a pair"));
        let answer = request.body(format!("form={form}&token={JWT}")).send().await;
        answer.expect("an answer").text().await.expect("a page")
    })
}
