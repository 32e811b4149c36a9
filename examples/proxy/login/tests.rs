use std::{
    future::{pending, ready},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;
use tower_qwen_emulator::Emulator;

use super::*;

fn client(emulator: &Emulator) -> TokenClient {
    TokenClient::new(emulator.clone())
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new").join("oauth_creds.json");
    (folder, path)
}

async fn attempt(emulator: &Emulator, path: &Path, draw: bool) -> (Result<(), Failure>, String) {
    let mut out = Vec::new();
    let result = sign_in(&mut out, draw, path, &client(emulator), pending()).await;
    (result, String::from_utf8(out).expect("UTF-8"))
}

#[tokio::test(start_paused = true)]
async fn a_login_is_shown_approved_and_kept() {
    let emulator = Emulator::builder().device_polls(3).device_slow_downs(2).build();
    let (_folder, path) = place();
    let (result, said) = attempt(&emulator, &path, false).await;
    assert_eq!(result, Ok(()));
    assert!(said.contains("https://chat.qwen.ai/authorize?user_code="), "{said}");
    assert!(said.contains("for 15 minutes. Ctrl-C stops."), "{said}");
    assert!(said.contains("ended the free use of these logins"), "{said}");
    assert!(said.contains(&format!("proxy --credentials {}", path.display())), "{said}");
    assert!(!said.contains('█') && !said.contains('\x1b'), "no drawing was asked for: {said}");

    let text = fs::read_to_string(&path).expect("written");
    let stored = StoredCredential::parse(&text).expect("a login");
    for secret in [
        stored.credential().access_token().expose(),
        stored.credential().refresh_token().expect("given").expose(),
    ] {
        assert!(!said.contains(secret), "{said}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    }
    let left: Vec<_> = fs::read_dir(path.parent().expect("a folder")).expect("read").collect();
    assert_eq!(left.len(), 1, "nothing but the file is left: {left:?}");

    // Signing in anew replaces it.
    let (result, _) = attempt(&emulator, &path, false).await;
    assert_eq!(result, Ok(()));
    assert_ne!(fs::read_to_string(&path).expect("written"), text);
}

#[tokio::test(start_paused = true)]
async fn every_other_end_is_told_and_leaves_the_file_alone() {
    let denied = Emulator::builder().device_denied(true).build();
    let expired = Emulator::builder().device_polls(u32::MAX).build();
    for (emulator, says) in [
        (&denied, "the sign-in was denied; nothing was written"),
        (&expired, "the code was not approved in time; start again with `proxy login`"),
    ] {
        let (_folder, path) = place();
        let (result, _) = attempt(emulator, &path, false).await;
        assert_eq!(result, Err(Failure { message: says.to_owned(), code: 1 }));
        assert!(!path.exists());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_cannot_be_reached_is_told() {
    let gone = TokenClient::new(tower::service_fn(
        async |_: axum::http::Request<tower_qwen::FullBody>| {
            Err::<axum::http::Response<tower_qwen::FullBody>, _>(io::Error::other(
                "connection refused",
            ))
        },
    ));
    let (_folder, path) = place();
    let failure = sign_in(io::sink(), false, &path, &gone, pending()).await.expect_err("gone");
    assert_eq!(failure.code, 1);
    assert!(failure.message.contains("connection refused"), "{}", failure.message);
    assert!(!failure.message.contains('\n'));
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_writes_nothing() {
    let emulator = Emulator::builder().device_polls(u32::MAX).build();
    let (_folder, path) = place();
    let later = tokio::time::sleep(Duration::from_secs(30));
    let result = sign_in(io::sink(), false, &path, &client(&emulator), later).await;
    assert_eq!(result.expect_err("interrupted").code, INTERRUPTED);
    let result = sign_in(io::sink(), false, &path, &client(&emulator), ready(())).await;
    assert!(result.is_err() && !path.exists());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_login_is_not_replaced() {
    let emulator = Emulator::new();
    let (folder, _) = place();
    let path = folder.path().join("notes.json");
    fs::write(&path, "{\"shopping\": \"milk\"}").expect("written");
    let (result, said) = attempt(&emulator, &path, false).await;
    assert_eq!(result.expect_err("notes").code, USAGE);
    assert_eq!(said, "", "nobody is asked to sign in for nothing");
    let below = path.join("oauth_creds.json");
    let (result, said) = attempt(&emulator, &below, false).await;
    let failure = result.expect_err("a file is no folder");
    assert!(failure.code == USAGE && said.is_empty(), "{}", failure.message);
}

/// The modules of a drawing, by what a camera sees: what is printed is light.
fn modules(drawing: &str) -> Vec<Vec<bool>> {
    let mut rows = Vec::new();
    for line in drawing.lines() {
        let line = line.strip_prefix("\x1b[40;97m").and_then(|line| line.strip_suffix("\x1b[0m"));
        let (mut upper, mut lower) = (Vec::new(), Vec::new());
        for c in line.expect("coloured").chars() {
            let (up, down) = match c {
                '█' => (false, false),
                '▀' => (false, true),
                '▄' => (true, false),
                ' ' => (true, true),
                c => panic!("{c:?} is no module"),
            };
            upper.push(up);
            lower.push(down);
        }
        rows.extend([upper, lower]);
    }
    rows
}

#[tokio::test(start_paused = true)]
async fn the_drawing_is_the_page_with_its_quiet_zone() {
    let url = "https://chat.qwen.ai/authorize?user_code=DEMO-CODE&client=qwen-code";
    let drawing = drawing(url).expect("short enough");
    assert!(drawing.lines().count() <= 24, "it fits a small terminal");
    let drawn = modules(&drawing);
    let code = QrCode::with_error_correction_level(url, EcLevel::L).expect("short enough");
    let width = code.width();
    for (y, row) in drawn.iter().enumerate() {
        assert_eq!(row.len(), width + 8);
        for (x, dark) in row.iter().enumerate() {
            let inside = (4..width + 4).contains(&x) && (4..width + 4).contains(&y);
            let expected = inside && code[(x - 4, y - 4)] == qrcode::Color::Dark;
            // The last half line of an odd height is the ground of the terminal.
            assert!(*dark == expected || y >= width + 8, "{x} {y}");
        }
    }
    let emulator = Emulator::new();
    let (_folder, path) = place();
    let (_, said) = attempt(&emulator, &path, true).await;
    assert!(said.contains("\x1b[40;97m█"), "{said}");
    assert!(super::drawing(&"x".repeat(4000)).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_closed_standard_error_is_a_failure() {
    #[derive(Clone)]
    struct Closed(Arc<Mutex<u32>>);
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            *self.0.lock().expect("not poisoned") += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let closed = Closed(Arc::default());
    let (_folder, path) = place();
    let emulator = Emulator::new();
    let result = sign_in(closed, false, &path, &client(&emulator), pending()).await;
    assert!(result.expect_err("nobody reads").message.contains("standard error"));
}

#[test]
fn spans_are_said_as_people_do() {
    for (seconds, said) in [
        (1, "1 second"),
        (90, "90 seconds"),
        (900, "15 minutes"),
        (3600, "60 minutes"),
        (21_600, "6 hours"),
        (2_592_000, "30 days"),
    ] {
        assert_eq!(span(Duration::from_secs(seconds)), said);
    }
    assert_eq!(span(Duration::from_millis(899_990)), "15 minutes");
}
