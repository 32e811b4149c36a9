//! What the model says, and what the server makes of it: reasoning, text and calls.

use std::sync::Arc;

use super::{
    Dialect, Seed,
    error::Fault,
    parser,
    request::{self, Ask, Form},
};
use crate::{
    answer::Question,
    completion::compose,
    directive::Directives,
    kind::Kind,
    prompt::Turn,
    script::Answer,
    state::Shared,
    tools::{Call, Format, Offer},
};

/// What a thinking model thinks.
const THOUGHT: &str = "The user wrote something. I will say what it was.";

/// An answer, read delta by delta.
#[derive(Debug)]
pub(super) struct Said {
    reasoning: Answer,
    text: Answer,
    calls: Vec<NativeCall>,
    /// The call that is read, and the rest of its arguments once it was begun.
    call: usize,
    arguments: Option<Answer>,
    /// Whether the name of a call comes behind its arguments.
    pub(super) late_names: bool,
    /// The stop string that the answer met.
    pub(super) stopped: Option<String>,
}

/// A call as the server's parser found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NativeCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// A piece of an answer.
#[derive(Debug)]
pub(super) enum Delta<'a> {
    /// A piece of the thinking, and the thinking up to and with it.
    Reasoning(&'a str, &'a str),
    /// A piece of the text, and the text up to and with it.
    Text(&'a str, &'a str),
    /// A call begins.
    Call(usize, &'a NativeCall),
    /// A piece of its arguments, and whether it is the last.
    Arguments { at: usize, call: &'a NativeCall, piece: &'a str, last: bool },
}

impl Said {
    pub(super) fn nothing() -> Self {
        Self {
            reasoning: Answer::text(String::new()),
            text: Answer::text(String::new()),
            calls: Vec::new(),
            call: 0,
            arguments: None,
            late_names: false,
            stopped: None,
        }
    }

    /// The answer to `ask`.
    ///
    /// The model always writes text. Where the request declares tools the server's parser takes
    /// the calls out of it, unless a directive says that it does not see them.
    pub(super) fn make(
        shared: &Arc<Shared>,
        dialect: Dialect,
        ask: &Ask,
        directives: &Directives,
        thinking: bool,
        seed: &mut Seed,
    ) -> Result<Self, Fault> {
        let path: Vec<&str> = ask.path.iter().map(String::as_str).collect();
        let question = Question {
            model: &ask.model,
            server: dialect.kind.title(),
            instructions: &ask.instructions,
            content: &ask.content,
            turn: ask.turn(),
            path: &path,
            files: ask.files,
            shown: "",
        };
        let mut said = Self::nothing();
        if thinking {
            said.reasoning = Answer::text(THOUGHT.to_owned());
        }
        let choice = ask.choice(dialect);
        let format = request::format(&ask.model);
        let offer = if choice.forbidden { None } else { Offer::declared(ask.tools(), format) };
        let told = || {
            let answers = shared.config.answers.as_ref()?;
            answers(question.content, question.path)
        };
        let written = match directives.argument("say") {
            Some(text) => Some(text.to_owned()),
            // As it came: what was trimmed or wrapped on the way is to be seen.
            None if directives.has("echo") => Some(ask.content.clone()),
            None => told(),
        };
        let unseen = directives.argument("unparsed");
        match (written, &offer) {
            (Some(text), Some(offer)) if unseen.is_none() => {
                let (text, calls) = parser::split(&text, offer, dialect);
                said.text = Answer::text(text);
                said.calls = calls.into_iter().map(|call| native(dialect, seed, call)).collect();
            }
            (Some(text), _) => said.text = Answer::text(text),
            (None, offer) => {
                let calls = match (offer, &question.turn) {
                    (Some(offer), Turn::User(words)) if !says_else(directives) => {
                        offer.calls(words, &choice)
                    }
                    _ => Vec::new(),
                };
                if calls.is_empty() {
                    said.text = compose(directives, &question);
                } else {
                    said.call_all(dialect, &calls, format, directives, seed);
                }
            }
        }
        if ask.stream && ask.has_empty_tools() && dialect.is(Kind::Portal) {
            // An empty list of tools made the model call what nobody offered.
            let arguments = "{\"query\": \"qwen\"}".to_owned();
            said.calls.push(native(dialect, seed, ("web_search".to_owned(), arguments)));
        }
        if choice.single {
            said.calls.truncate(1);
        }
        if directives.has("broken_call") {
            said.break_calls(dialect)?;
        }
        said.stop_at(&ask.stops());
        said.place_reasoning(dialect, directives, ask.form);
        Ok(said)
    }

    fn call_all(
        &mut self,
        dialect: Dialect,
        calls: &[Call<'_>],
        format: Format,
        directives: &Directives,
        seed: &mut Seed,
    ) {
        let lead = directives.argument("lead").map(|lead| format!("{lead}\n\n"));
        let mut text = lead.unwrap_or_default();
        let Some(form) = directives.argument("unparsed") else {
            let calls = calls.iter().map(|call| (call.name.to_owned(), call.arguments()));
            self.calls = calls.map(|call| native(dialect, seed, call)).collect();
            self.text = Answer::text(parser::before_call(&text, dialect).to_owned());
            return;
        };
        let written = |format| {
            let calls: Vec<String> = calls.iter().map(|call| call.render(format)).collect();
            calls.join("\n")
        };
        match form {
            // The opening tag is missing, the most usual reason.
            "bare" => {
                text.push_str(&written(Format::Coder).replace("<tool_call>\n", ""));
            }
            "coder" => text.push_str(&written(Format::Coder)),
            "hermes" => text.push_str(&written(Format::Hermes)),
            "tags" => text.push_str(&written(Format::Tags)),
            // The model never closed its thoughts.
            "reasoning" => {
                self.reasoning = Answer::text(format!("{THOUGHT}\n{}", written(format)));
            }
            _ => text.push_str(&written(format)),
        }
        self.text = Answer::text(text);
    }

    /// What each server's parser has made of a call.
    fn break_calls(&mut self, dialect: Dialect) -> Result<(), Fault> {
        if self.calls.is_empty() {
            return Ok(());
        }
        match dialect.kind {
            // The brace that opens the object is lost with batched tokens.
            Kind::Vllm => {
                for call in &mut self.calls {
                    call.arguments = call.arguments.trim_start_matches('{').to_owned();
                }
            }
            // The object is never closed.
            Kind::SgLang => {
                for call in &mut self.calls {
                    call.arguments.pop();
                }
            }
            // The call is dropped, and nothing is said of it.
            Kind::Ollama => self.calls.clear(),
            // A parse error fails the whole request.
            Kind::LlamaCpp => {
                return Err(Fault::failed("Failed to parse input at pos 42"));
            }
            // The id, the name: none.
            Kind::DashScope => {
                for call in &mut self.calls {
                    call.id.clear();
                }
                self.late_names = true;
            }
            Kind::Portal | Kind::Web => self.late_names = true,
        }
        Ok(())
    }

    /// Cuts the text where it meets a stop string.
    fn stop_at(&mut self, stops: &[&str]) {
        let Answer::Text { text, .. } = &mut self.text else { return };
        let met = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| text.find(stop).map(|at| (at, *stop)))
            .min();
        if let Some((at, stop)) = met {
            text.truncate(at);
            self.calls.clear();
            self.stopped = Some(stop.to_owned());
        }
    }

    /// Puts the thoughts into the content where no parser takes them out.
    fn place_reasoning(&mut self, dialect: Dialect, directives: &Directives, form: Form) {
        let place = match directives.argument("reasoning") {
            Some(place) => place,
            None if form != Form::Chat || (dialect.is(Kind::Portal) && dialect.old) => "tags",
            None => return,
        };
        let Answer::Text { text: thought, .. } = &mut self.reasoning else { return };
        if thought.is_empty() {
            return;
        }
        let open = match place {
            "tags" => "<think>\n",
            // The chat template has put the opening tag into the prompt.
            "opened" => "",
            _ => return,
        };
        let thought = std::mem::take(thought);
        let text = std::mem::replace(&mut self.text, Answer::text(String::new())).into_text();
        self.text = Answer::text(format!("{open}{thought}\n</think>\n\n{text}"));
    }

    /// Whether the answer calls tools.
    pub(super) fn calls_any(&self) -> bool {
        !self.calls.is_empty()
    }

    /// The next piece. Where `whole_calls`, a call and its arguments are one.
    pub(super) fn advance(&mut self, whole_calls: bool) -> Option<Delta<'_>> {
        if !self.reasoning.is_over() {
            return self.reasoning.advance().map(|(piece, so_far)| Delta::Reasoning(piece, so_far));
        }
        if !self.text.is_over() {
            return self.text.advance().map(|(piece, so_far)| Delta::Text(piece, so_far));
        }
        let at = self.call;
        let length = self.calls.get(at)?.arguments.len();
        if whole_calls {
            self.call += 1;
        } else if let Some(arguments) = &self.arguments {
            if arguments.is_over() {
                self.call += 1;
                self.arguments = None;
                return self.advance(whole_calls);
            }
            let (piece, so_far) = self.arguments.as_mut()?.advance()?;
            let last = so_far.len() == length;
            return Some(Delta::Arguments { at, call: &self.calls[at], piece, last });
        } else {
            self.arguments = Some(Answer::text(self.calls[at].arguments.clone()));
        }
        Some(Delta::Call(at, &self.calls[at]))
    }
}

/// Whether a directive asks for something that is no call.
fn says_else(directives: &Directives) -> bool {
    ["tokens", "unicode", "path"].into_iter().any(|name| directives.has(name))
}

/// A call as the server names it.
fn native(dialect: Dialect, seed: &mut Seed, (name, arguments): (String, String)) -> NativeCall {
    let id = match dialect.kind {
        Kind::Vllm => format!("chatcmpl-tool-{}", seed.hex(32)),
        Kind::Ollama => format!("call_{}", seed.hex(8)),
        Kind::LlamaCpp => seed.hex(32),
        _ => format!("call_{}", seed.hex(24)),
    };
    NativeCall { id, name, arguments }
}
