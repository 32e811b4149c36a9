//! An answer that breaks off anywhere, and another in any pieces: for the property test and the fuzzer.

use futures_util::{StreamExt, stream};
use http::{Request, Response};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_qwen::{
    Error, ErrorKind,
    chat::{ChatEvent, ChatRequest, ChatStreamExt, Conversation, FinishReason, Message, Role},
    resume::ResumeLayer,
};

type Item = Result<ChatEvent, Error>;

/// The words that a request to go on wants to be repeated.
pub(crate) fn words(request: &ChatRequest) -> String {
    let last = request.history.iter().last().expect("a question").text().to_string();
    let (_, rest) = last.split_once("what comes next:\n\n").expect("the words follow");
    rest.rsplit_once("\n\nWrite only").expect("the words end").0.to_owned()
}

/// The nearest place before `at` where `text` may be cut.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

fn in_pieces(text: &str, size: usize) -> impl Iterator<Item = Item> {
    let all: Vec<char> = text.chars().collect();
    let pieces: Vec<Item> = all
        .chunks(size.max(1))
        .map(|piece| Ok(ChatEvent::Text(String::from_iter(piece).into())))
        .collect();
    pieces.into_iter()
}

/// What the client of an answer that breaks off behind `said` is given where the upstream answers what
/// `other` makes of the words that it is to begin with; and whether that is whole.
fn stitched(
    said: &str,
    size: usize,
    other: impl Fn(&str) -> String + Clone + Send + 'static,
) -> impl Future<Output = (String, bool)> {
    let said = said.to_owned();
    let service = ResumeLayer::new().layer(service_fn(move |request: Request<ChatRequest>| {
        let chat = request.into_body();
        let started = || Ok(ChatEvent::Started(Conversation::new("c").with_parent("a").into()));
        let events: Vec<Item> = match chat.conversation() {
            None => {
                let broke = Err(Error::new(ErrorKind::Truncated, "it broke off"));
                [started()].into_iter().chain(in_pieces(&said, size)).chain([broke]).collect()
            }
            Some(_) => {
                let end = Ok(ChatEvent::Finished(FinishReason::Stop));
                let other = other(&words(&chat));
                [started()].into_iter().chain(in_pieces(&other, size)).chain([end]).collect()
            }
        };
        async { Ok::<_, Error>(Response::new(stream::iter(events))) }
    }));
    async move {
        let question = ChatRequest::new("m", [Message::new(Role::User, "Does it rain?")]);
        let response = service.oneshot(Request::new(question)).await;
        let events: Vec<Item> = response.expect("begun").into_body().checked().collect().await;
        let is_whole = events.last().is_some_and(Result::is_ok);
        let text = |item: Item| match item {
            Ok(ChatEvent::Text(text)) => Some(text),
            _ => None,
        };
        let texts: Vec<_> = events.into_iter().filter_map(text).collect();
        (texts.iter().map(|text| text.as_str()).collect(), is_whole)
    }
}

/// An upstream that goes on as it is asked to, or begins further to the front, makes the whole.
pub(crate) async fn check_whole(whole: &str, cut: usize, back: usize, size: usize) {
    let cut = boundary(whole, cut);
    let said = whole[..cut].to_owned();
    let all = whole.to_owned();
    let (text, is_whole) = stitched(&said, size, move |words| {
        let begins = all[..cut].rfind(words).expect("its own words");
        // Of a few words nothing but the beginning is known.
        let is_short = all[..cut].trim().len() < 32;
        let from = if is_short { 0 } else { boundary(&all, begins.saturating_sub(back)) };
        all[from..].to_owned()
    })
    .await;
    if is_whole {
        assert_eq!(text, whole);
    } else {
        // Nothing was there to go on from, or no end of it stands in it once.
        assert_eq!(text, said);
        assert!(said.trim().is_empty() || cut > 1_024);
    }
}

/// Whatever an upstream says instead, the client has what was said, and more of it only behind the
/// last words of that.
pub(crate) async fn check_any(said: &str, other: &str, size: usize) {
    let answer = other.to_owned();
    let (text, is_whole) = stitched(said, size, move |_| answer.clone()).await;
    let rest = text.strip_prefix(said).expect("what was said stays");
    assert!(other.ends_with(rest));
    assert!(is_whole || rest.is_empty());
    if is_whole {
        let known = other[..other.len() - rest.len()].trim_end();
        let least = said.trim().len().min(32);
        let shared = said.trim_end().bytes().rev().zip(known.bytes().rev());
        assert!(shared.take_while(|(a, b)| a == b).count() >= least);
    }
}
