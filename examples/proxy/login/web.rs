//! `proxy login web`: a page on this machine that takes a session of chat.qwen.ai from the browser in which
//! its owner is signed in, and keeps it in a file.
//!
//! chat.qwen.ai gives sessions to browsers alone, so a person has to carry one over. What must not happen
//! is that somebody else does so: a page in the browser, or another user of the machine, who would have
//! this proxy answer as an account of theirs and read what it is asked. So the page listens on loopback, has a
//! secret in its address, takes its form once and from itself alone ([`guard`]), and nothing is kept
//! until somebody has said yes in the terminal where the program was started. That question comes after
//! the form, and is not a code that the page asks for: it says which session it is, until when it is good and
//! what it replaces, and there is nothing to be guessed or to be watched over somebody's shoulder.

mod guard;

use std::{
    future::Future,
    io::{self, BufRead, IsTerminal, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, Uri, header},
    middleware,
    response::Response,
    routing::get,
};
use clap::Args;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tower_qwen::{
    ErrorKind,
    auth::{CredentialKind, OAuthFile, StoredCredential},
    edge::{BodyPace, read_body},
};

use self::guard::{Guard, Once};
use super::{
    super::{files, server, sign_in},
    Failure, INTERRUPTED, USAGE, chain, check_writable, fail, page,
    pasted::Session,
    span,
};

/// How long all of it may take.
const WAIT: Duration = Duration::from_secs(600);
/// How long the head of a request may take, the first included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the browser has to take the last words.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The longest form: cookies have some 8 KiB, and a local storage may have hundreds.
const LONGEST_FORM: usize = 512 << 10;

/// What `proxy login web` is asked for.
#[derive(Debug, Args)]
pub(crate) struct WebLogin {
    /// The file to write, readable by you alone; a session that it holds is replaced, and what else
    /// stands in it is kept [default: ~/.qwen/web/session.json]
    #[arg(long, value_name = "FILE", value_parser = files::named())]
    file: Option<PathBuf>,

    /// The port of the page, on 127.0.0.1; give one to reach it through `ssh -L` [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,

    /// Keep the session without a question in the terminal, such as where there is none; then the
    /// address of the page is all that is needed to have one kept
    #[arg(long)]
    yes: bool,
}

/// How it came out, for the page and the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Kept,
    Declined,
    Failed,
}

/// A session that was pasted, for whoever decides.
struct Offer {
    session: Session,
    outcome: oneshot::Sender<Outcome>,
}

impl WebLogin {
    /// Serves the page, asks in the terminal, and writes the file.
    ///
    /// # Errors
    ///
    /// A [`Failure`]; then the file is as it was.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let path = match self.file {
            Some(path) => path,
            None => default_path()?,
        };
        if !self.yes && !io::stdin().is_terminal() {
            return fail(
                USAGE,
                "the session is to be confirmed in the terminal, and standard input is none; give \
                 --yes where there is nobody to ask",
            );
        }
        let stop = server::stop_signal();
        let interrupt = async {
            match stop {
                Ok(stop) => stop.await,
                Err(_) => std::future::pending().await,
            }
        };
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.or_else(|error| {
                fail(1, format!("--port: cannot listen on 127.0.0.1:{}: {error}", self.port))
            })?;
        let yes = self.yes;
        let confirm = async move || yes || said_yes().await;
        serve(io::stderr(), &path, listener, confirm, interrupt).await
    }
}

fn default_path() -> Result<PathBuf, Failure> {
    let login = OAuthFile::default_path()
        .or_else(|error| fail(USAGE, format!("--file: it must be given, since {error}")))?;
    // Beside the logins of qwen-code, and not among them: those are for another upstream.
    Ok(login.with_file_name("web").join("session.json"))
}

/// Reads the answer to a question. The thread that waits for it ends with the process.
async fn said_yes() -> bool {
    let (told, answer) = oneshot::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        let word = line.trim().to_ascii_lowercase();
        // Nobody waits any more where time is over.
        let _ = told.send(read.is_ok() && ["y", "yes"].contains(&&*word));
    });
    answer.await.unwrap_or(false)
}

/// The whole conversation, with a terminal at `out`.
async fn serve(
    mut out: impl Write,
    path: &Path,
    listener: TcpListener,
    confirm: impl AsyncFnOnce() -> bool,
    interrupt: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let old = check_place(path)?;
    let port = listener
        .local_addr()
        .or_else(|error| fail(1, format!("cannot tell where it listens: {error}")))?
        .port();
    let (offers, mut offered) = mpsc::channel(1);
    let desk = Desk::new(port, path, offers)?;
    said(invite(&mut out, &desk.url()))?;

    let connections = GracefulShutdown::new();
    let router = desk.router();
    let decided = async {
        let Some(Offer { session, outcome }) = offered.recv().await else {
            return fail(1, "the page ended");
        };
        let result = decide(&mut out, path, old.as_ref(), session, confirm).await;
        let word = match &result {
            Ok(true) => Outcome::Kept,
            Ok(false) => Outcome::Declined,
            Err(_) => Outcome::Failed,
        };
        // The page may be closed.
        let _ = outcome.send(word);
        match result? {
            true => said(conclude(&mut out, path)),
            false => fail(1, "not confirmed; nothing was written"),
        }
    };
    let result = tokio::select! {
        result = decided => result,
        () = interrupt => fail(INTERRUPTED, "interrupted; nothing was written"),
        () = sleep(WAIT) => {
            fail(1, format!("no session came within {}; nothing was written", span(WAIT)))
        }
        error = listen(&listener, router, &connections) => {
            fail(1, format!("the page could not be served: {error}"))
        }
    };
    drop(listener);
    // The browser reads the last words; one that does not is not waited for.
    let _ = timeout(LAST_WORDS, connections.shutdown()).await;
    result
}

/// Serves everyone who connects, until that is not possible any more. Browsers speak HTTP/1 without
/// TLS, so nothing else is spoken.
async fn listen(
    listener: &TcpListener,
    router: Router,
    connections: &GracefulShutdown,
) -> io::Error {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => TokioIo::new(stream),
            Err(error) if server::is_of_the_connection(&error) => continue,
            Err(error) => return error,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = connections.watch(http.serve_connection(stream, service));
        tokio::spawn(async {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection of the page ended");
            }
        });
    }
}

fn said(result: io::Result<()>) -> Result<(), Failure> {
    result.or_else(|error| fail(1, format!("cannot write to standard error: {error}")))
}

/// Makes sure that the file can be written and holds no login of another kind; gives what it holds.
fn check_place(path: &Path) -> Result<Option<StoredCredential>, Failure> {
    check_writable(path)?;
    let old = files::read(path).ok().and_then(|text| StoredCredential::from_bytes(&text).ok());
    match old.as_ref().map(|old| old.credential().kind()) {
        Some(kind) if kind != CredentialKind::Web => fail(
            USAGE,
            format!(
                "--file: {} holds a credential of another kind ({kind}); name another file",
                path.display()
            ),
        ),
        _ => Ok(old),
    }
}

fn invite(out: &mut impl Write, url: &str) -> io::Result<()> {
    writeln!(
        out,
        "To keep a session of chat.qwen.ai, open this page in the browser that has it:\n"
    )?;
    writeln!(out, "  {url}\n")?;
    writeln!(
        out,
        "It is on this machine alone, takes one session, and is there for {}. Ctrl-C stops.",
        span(WAIT)
    )?;
    out.flush()
}

/// Asks whether the session is to be kept, and keeps it; gives whether it is kept.
async fn decide(
    out: &mut impl Write,
    path: &Path,
    old: Option<&StoredCredential>,
    session: Session,
    confirm: impl AsyncFnOnce() -> bool,
) -> Result<bool, Failure> {
    let session = match old {
        Some(old) => session.or_cookies_of(old.credential()),
        None => session,
    };
    let told = session.told(SystemTime::now());
    let shown = path.display();
    let replaces = match old.map(|old| session.is_of(old.credential())) {
        None => String::new(),
        Some(Some(true)) => " It replaces an older one of the same account.".to_owned(),
        Some(Some(false)) => " It replaces one of ANOTHER account.".to_owned(),
        Some(None) => " It replaces the one that is there.".to_owned(),
    };
    said(write!(out, "\nThe page was given {told}.{replaces}\nKeep it in {shown}? [y/N] "))?;
    said(out.flush())?;
    if !confirm().await {
        said(writeln!(out))?;
        return Ok(false);
    }
    let client = sign_in::client(&Uri::from_static("https://chat.qwen.ai"), None)
        .or_else(|message| fail(1, message))?;
    match OAuthFile::new(path, client).merge(session.credential).await {
        Ok(()) => Ok(true),
        Err(error) => fail(1, format!("{shown}: {}", chain(&error))),
    }
}

fn conclude(out: &mut impl Write, path: &Path) -> io::Result<()> {
    let path = path.display();
    writeln!(out, "\nIt is in {path}, which only you can read.")?;
    writeln!(out, "A proxy that runs with that file takes it within seconds. Else start one:\n")?;
    writeln!(out, "  proxy --credentials {path}\n\nand see whether chat.qwen.ai lets it in:\n")?;
    writeln!(out, "  proxy accounts --credentials {path} --check")?;
    out.flush()
}

/// What the page's requests share.
#[derive(Clone)]
struct Desk {
    guard: Guard,
    file: Arc<Path>,
    stage: Arc<Mutex<Stage>>,
    offers: mpsc::Sender<Offer>,
}

/// How far it has come.
enum Stage {
    /// A form may be sent: the last that was shown, once.
    Open(Option<Once>),
    /// A session was taken, and no other is.
    Taken,
}

impl Desk {
    fn new(port: u16, file: &Path, offers: mpsc::Sender<Offer>) -> Result<Self, Failure> {
        let random = |error| Failure { message: format!("no random numbers: {error}"), code: 1 };
        Ok(Self {
            guard: Guard::new(port).map_err(random)?,
            file: file.into(),
            stage: Arc::new(Mutex::new(Stage::Open(None))),
            offers,
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}{}", self.guard.port(), self.guard.path())
    }

    fn router(self) -> Router {
        let path = self.guard.path().to_owned();
        Router::new()
            .route(&path, get(show).post(take))
            .fallback(async || page::refusal(StatusCode::NOT_FOUND, "There is nothing here."))
            .method_not_allowed_fallback(async || {
                page::refusal(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "The page is opened, or its form sent.",
                )
            })
            .layer(middleware::from_fn_with_state(self.guard.clone(), guard::own_page_only))
            .with_state(self)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        // Every change of it is one assignment.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page with a form of its own; that of any page before is void.
    fn form(&self, status: StatusCode, complaint: Option<&str>) -> Response {
        let mut stage = self.stage();
        let Stage::Open(once) = &mut *stage else { return taken() };
        let Ok(new) = Once::new() else {
            return page::refusal(
                StatusCode::INTERNAL_SERVER_ERROR,
                "There are no random numbers.",
            );
        };
        let new = once.insert(new);
        let action = self.guard.path();
        let mut response = page::form(status, action, new.form(), &self.file, complaint);
        response.headers_mut().insert(header::SET_COOKIE, new.set_cookie(action));
        response
    }

    /// What became of a form: the session, or the page to show.
    async fn read(&self, request: Request) -> Result<Session, Response> {
        let cookie = guard::cookie(request.headers());
        let body = read_body(request.into_body(), LONGEST_FORM, Some(BodyPace::new())).await;
        let body = body.map_err(|error| match error.kind() {
            ErrorKind::TooLarge => page::refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "That is longer than any token and all cookies of a page.",
            ),
            _ => page::refusal(StatusCode::BAD_REQUEST, "The form did not arrive whole."),
        })?;
        let field = |wanted: &str| {
            let pairs = form_urlencoded::parse(&body);
            let value = pairs.filter(|(name, _)| name == wanted).map(|(_, value)| value).next();
            SecretString::from(value.unwrap_or_default().into_owned())
        };
        {
            let mut stage = self.stage();
            let Stage::Open(once) = &mut *stage else { return Err(taken()) };
            let is_good = once.take().is_some_and(|once| {
                once.is(field("form").expose_secret(), cookie.as_deref().unwrap_or_default())
            });
            if !is_good {
                drop(stage);
                let why = "This page was not the last that was opened, or its cookie was not sent: \
                           paste it once more.";
                return Err(self.form(StatusCode::FORBIDDEN, Some(why)));
            }
        }
        let (token, cookies) = (field("token"), field("cookies"));
        Session::read(token.expose_secret(), cookies.expose_secret(), SystemTime::now())
            .map_err(|why| self.form(StatusCode::UNPROCESSABLE_ENTITY, Some(&why)))
    }
}

fn taken() -> Response {
    page::refusal(
        StatusCode::CONFLICT,
        "A session was sent already. Where that was not you, answer no in the terminal.",
    )
}

async fn show(State(desk): State<Desk>) -> Response {
    desk.form(StatusCode::OK, None)
}

async fn take(State(desk): State<Desk>, request: Request) -> Response {
    let session = match desk.read(request).await {
        Ok(session) => session,
        Err(page) => return page,
    };
    let (told, outcome) = oneshot::channel();
    let begin = format!(
        "This was {}. Whether it is kept is said in the terminal.",
        session.told(SystemTime::now())
    );
    {
        let mut stage = desk.stage();
        // Two forms may have been read at once.
        if matches!(*stage, Stage::Taken)
            || desk.offers.try_send(Offer { session, outcome: told }).is_err()
        {
            return taken();
        }
        *stage = Stage::Taken;
    }
    page::streamed(&begin, async {
        match outcome.await {
            Ok(Outcome::Kept) => page::ending("good", "It is kept. You may close this page."),
            Ok(Outcome::Declined) => {
                page::ending("bad", "It was not confirmed in the terminal, and is not kept.")
            }
            Ok(Outcome::Failed) => {
                page::ending("bad", "It could not be kept: the terminal says why.")
            }
            Err(_) => page::ending("bad", "The program has ended, and nothing was kept."),
        }
    })
}

#[cfg(test)]
mod tests;
