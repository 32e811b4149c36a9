//! What the program does beside serving: its health, its manual, its completions.

use std::{
    io::Read,
    net::TcpListener,
    process::{Output, Stdio},
};

use crate::binary::{Running, command};

fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = command();
    command.args(args).envs(env.iter().copied()).stdout(Stdio::piped()).output().expect("it runs")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn a_health_check_needs_no_other_program() {
    let proxy = Running::start(command());
    let address = proxy.origin.strip_prefix("http://").expect("an origin").to_owned();
    assert_eq!(said(&run(&["health", "--proxy", &proxy.origin], &[])), "healthy\n");
    // In a container the environment says where it listens.
    assert_eq!(said(&run(&["health"], &[("QWEN_PROXY_LISTEN", &address)])), "healthy\n");
    let (_, port) = address.rsplit_once(':').expect("a port");
    assert_eq!(
        said(&run(&["health", "--ready"], &[("HOST", "0.0.0.0"), ("PORT", port)])),
        "ready\n"
    );
    drop(proxy);
    let output = run(&["health"], &[("QWEN_PROXY_LISTEN", &address)]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains(&format!("no proxy answers at http://{address}")), "{error}");
    let output = run(&["health"], &[("PORT", "http")]);
    assert_eq!(output.status.code(), Some(2));
}

/// Somebody else, who answers nothing of a proxy.
#[test]
fn another_server_is_not_healthy() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", other.local_addr().expect("bound"));
    let answers = std::thread::spawn(move || {
        let (mut client, _) = other.accept().expect("a client");
        let _ = client.read(&mut [0; 1024]).expect("a request");
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
        std::io::Write::write_all(&mut client, answer.as_bytes()).expect("it reads");
    });
    let output = run(&["health", "--proxy", &url], &[("NO_PROXY", "127.0.0.1")]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("no word of a proxy"), "{error}");
    answers.join().expect("no panic");
}

#[test]
fn the_manual_has_every_option_and_command() {
    let page = said(&run(&["man"], &[]));
    assert!(page.contains(".TH proxy 1"), "{page}");
    for word in ["\\-\\-shutdown\\-timeout", "QWEN_SHUTDOWN_TIMEOUT", "proxy\\-check(1)"] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let page = said(&run(&["man", "health"], &[]));
    assert!(page.contains("\\-\\-ready") && page.contains(".TH proxy-health 1"), "{page}");
    let output = run(&["man", "heal"], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no command \"heal\""), "{output:?}");
}

#[test]
fn each_shell_has_completions() {
    for (shell, word) in
        [("bash", "complete -F _proxy"), ("zsh", "#compdef proxy"), ("fish", "complete -c proxy")]
    {
        let script = said(&run(&["completions", shell], &[]));
        assert!(script.contains(word) && script.contains("shutdown-timeout"), "{shell}: {script}");
    }
}

/// Nothing that is set in the environment is in what packages ship.
#[test]
fn no_value_of_the_environment_is_written_out() {
    for args in [&["man"][..], &["completions", "bash"], &["completions", "fish"]] {
        let text = said(&run(args, &[("QWEN_PROXY_API_KEY", "sk-ann"), ("QWEN_TOKEN", "t-ann")]));
        assert!(!text.contains("sk-ann") && !text.contains("t-ann"), "{args:?}");
    }
}

/// As systemd passes a socket, and hears of the service's state.
#[cfg(target_os = "linux")]
#[test]
fn a_service_manager_gives_the_socket_and_is_told() {
    use std::{os::unix::net::UnixDatagram, process::Command};

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let told = UnixDatagram::bind(&path).expect("a socket");
    told.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a socket");
    let next = || {
        let mut message = [0; 256];
        let len = told.recv(&mut message).expect("it tells");
        String::from_utf8_lossy(&message[..len]).into_owned()
    };
    // A program that opens a socket and starts another one with it as descriptor 3.
    let python = Command::new("python3").arg("-c").arg("").status();
    if !python.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci.is_empty()), "python3 must be installed");
        eprintln!("skipped: there is no python3 to pass a socket");
        return;
    }
    const PASS: &str = "import os, socket, sys\n\
        s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); s.set_inheritable(True)\n\
        os.dup2(s.fileno(), 3)\n\
        os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
        os.execv(sys.argv[1], sys.argv[1:])";
    let mut manager = Command::new("python3");
    manager.arg("-c").arg(PASS).arg(crate::binary::path()).env("NOTIFY_SOCKET", &path);
    manager.env("HOME", "/nonexistent").stdin(Stdio::null()).stderr(Stdio::piped());
    // It takes no address: the socket has one.
    let proxy = Running::start(manager);
    assert_eq!(next(), "READY=1\n");
    assert!(!proxy.origin.ends_with(":0"), "{}", proxy.origin);
    assert_eq!(said(&run(&["health", "--proxy", &proxy.origin], &[])), "healthy\n");
    proxy.signal("-HUP");
    assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(next(), "READY=1\n");
    let (code, log) = proxy.stop("-TERM");
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(next(), "STOPPING=1\n");
}
