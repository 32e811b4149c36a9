//! The calls of an answer that come as such, put right.

use std::collections::VecDeque;

use uuid::Uuid;

use super::{
    arguments::{Arguments, End},
    places::Places,
    repair::{Repair, Repairs},
};
use crate::{Error, ErrorKind, Text, chat::ChatEvent, json::lenient::Half};

/// How much of the arguments of an answer's calls may wait for names, in bytes, and how much of one
/// for an id. Servers send the name first, and the id with it; those that do not send it with the
/// next delta.
const NAMELESS_LEN: usize = 64 * 1024;

/// How many calls an answer may have, and as many pieces of calls an event.
pub(crate) const CALLS: usize = 1024;

/// What an event says of a call.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The upstream's number for it.
    pub(crate) index: Option<u64>,
    pub(crate) id: Option<Text>,
    pub(crate) name: Option<Text>,
    pub(crate) arguments: Given,
}

/// The arguments in a [`Piece`], as they stand.
#[derive(Debug)]
pub(crate) enum Given {
    Nothing,
    /// The text of the string that they should be.
    Text(Text),
    /// Not a string, but what the string would have held, to the last digit.
    Bare(Text),
    Null,
}

/// The calls that have begun.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    calls: Vec<Call>,
    places: Places,
    /// How many calls were announced.
    announced: u32,
    /// How much of their arguments waits for a name.
    waiting: usize,
    /// The place of the call that has a name and waits for its id. It is the one that the last piece
    /// belongs to.
    held: Option<usize>,
    /// They ended with the answer.
    closed: bool,
}

/// A call as the upstream counts it.
#[derive(Debug)]
struct Call {
    upstream_index: u64,
    id: Option<Text>,
    name: Option<Text>,
    /// Our index, once it was announced; until then the arguments wait. A call that is never
    /// named leaves no gap.
    announced: Option<u32>,
    /// The arguments as they came, while the name is missing; once it is known, what passed of them.
    waiting: String,
    arguments: Arguments,
    half: Half,
}

impl Calls {
    /// Whether the client was told of a call, or will be.
    pub(crate) const fn is_any_named(&self) -> bool {
        self.announced > 0 || self.held.is_some()
    }

    /// Whether there is a call that was never named.
    pub(crate) fn is_any_nameless(&self) -> bool {
        self.calls.iter().any(|call| call.name.is_none())
    }

    /// Something else follows: the call that waits for its id is told without one.
    #[inline]
    pub(crate) fn settle(&mut self, repairs: &mut Repairs, out: &mut VecDeque<ChatEvent>) {
        if let Some(held) = self.held {
            self.announce(held, repairs, out);
        }
    }

    /// Tells the client of the call at `place`, if it has a name.
    fn announce(&mut self, place: usize, repairs: &mut Repairs, out: &mut VecDeque<ChatEvent>) {
        self.held = None;
        let call = &mut self.calls[place];
        let Some(name) = call.name.clone() else { return };
        let index = self.announced;
        self.announced += 1;
        call.announced = Some(index);
        // Some servers give every call the same id.
        let id = call.id.clone().filter(|id| self.places.announce(id)).unwrap_or_else(|| {
            repairs.note(Repair::CallId);
            format!("call_{}", Uuid::new_v4().simple()).into()
        });
        out.push_back(ChatEvent::ToolCall { index, id, name });
        let json = std::mem::take(&mut call.waiting);
        if !json.is_empty() {
            out.push_back(ChatEvent::ToolArguments { index, json: json.into() });
        }
    }

    /// Takes what an event says of a call.
    ///
    /// # Errors
    ///
    /// Where there are too many calls, or too much of them waits for a name.
    pub(crate) fn push(
        &mut self,
        piece: Piece,
        repairs: &mut Repairs,
        out: &mut VecDeque<ChatEvent>,
    ) -> Result<(), Error> {
        let Piece { index, id, name, arguments } = piece;
        let named = name.filter(|name| !name.is_empty());
        let place = self.place(
            index,
            id.as_ref().filter(|id| !id.is_empty()),
            named.as_ref(),
            &arguments,
            repairs,
        )?;
        if let Some(held) = self.held.filter(|held| *held != place) {
            self.announce(held, repairs, out);
        }
        let call = &mut self.calls[place];
        let is_empty = |word: Option<&Text>| word.is_some_and(|word| word.is_empty());
        // A name that is empty was left out above, and costs nothing.
        if is_empty(id.as_ref())
            || id.is_some() && call.announced.is_some()
            || named.is_some() && call.name.is_some()
        {
            repairs.note(Repair::CallRepeated);
        }
        if call.id.is_none()
            && let Some(id) = id.filter(|id| !id.is_empty())
        {
            // A slice would keep its event as long as the answer lasts.
            let id = call.id.insert(id.as_str().into());
            self.places.name(place, call.upstream_index, id);
            if call.announced.is_some() {
                self.places.announce(id);
            }
        }
        // After the first piece names are empty, null, or repeated.
        let is_first = call.name.is_none();
        if let Some(name) = named.filter(|_| is_first) {
            call.name = Some(name.as_str().into());
            if !call.waiting.is_empty() {
                repairs.note(Repair::LateName);
                self.waiting -= call.waiting.len();
                let passed = call.arguments.push(std::mem::take(&mut call.waiting).into());
                call.waiting = passed.map_or_else(String::new, |json| json.as_str().to_owned());
            }
        }
        let json = match arguments {
            Given::Nothing => Text::default(),
            Given::Text(json) => json,
            Given::Bare(json) => {
                repairs.note(Repair::Arguments);
                json
            }
            Given::Null => {
                repairs.note(Repair::Arguments);
                Text::default()
            }
        };
        let json = call.half.join(json);
        if call.name.is_none() {
            self.waiting += json.len();
            if self.waiting > NAMELESS_LEN {
                return Err(Error::new(
                    ErrorKind::Upstream,
                    format!(
                        "the upstream sent more than {NAMELESS_LEN} bytes of arguments for calls \
                         that it did not name"
                    ),
                ));
            }
            call.waiting.push_str(&json);
            return Ok(());
        }
        if call.announced.is_none() {
            // The id may come one piece behind the name. Arguments of a second piece that still
            // has none say that none will come.
            let is_due = call.id.is_some()
                || !is_first && !json.is_empty()
                || call.waiting.len() + json.len() > NAMELESS_LEN;
            if is_due {
                self.announce(place, repairs, out);
            } else {
                self.held = Some(place);
            }
        }
        let call = &mut self.calls[place];
        if let Some(json) = call.arguments.push(json) {
            match call.announced {
                Some(index) => out.push_back(ChatEvent::ToolArguments { index, json }),
                None => call.waiting.push_str(&json),
            }
        }
        Ok(())
    }

    /// The call that a piece belongs to.
    ///
    /// A piece without a name goes on with the call that is open under its number, whatever its id:
    /// some servers make a new id for every piece. So does one that repeats the name of a call whose
    /// arguments are half there.
    fn place(
        &mut self,
        index: Option<u64>,
        id: Option<&Text>,
        name: Option<&Text>,
        arguments: &Given,
        repairs: &mut Repairs,
    ) -> Result<usize, Error> {
        let known = match (index, id) {
            (None, None) => self.calls.len().checked_sub(1),
            (index, id) => self.places.find(index, id),
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let open = match index {
            // A number that is new, under an id that is known, is no call of its own without a name.
            Some(index) => self.places.find(Some(index), None).or_else(|| {
                id.filter(|_| name.is_none()).and_then(|id| self.places.find(None, Some(id)))
            }),
            None => self.calls.len().checked_sub(1),
        };
        if let Some(open) = open {
            let call = &self.calls[open];
            let goes_on = match name {
                None => !matches!(arguments, Given::Nothing) || call.name.is_some(),
                Some(name) => call.name.as_ref() == Some(name) && call.arguments.is_half(),
            };
            if goes_on {
                repairs.note(Repair::CallRepeated);
                return Ok(open);
            }
        }
        if self.calls.len() == CALLS {
            return Err(too_many());
        }
        if open.is_some() && index.is_some() {
            repairs.note(Repair::CallIndex);
        }
        let place = self.calls.len();
        let upstream_index = index.unwrap_or(place as u64);
        self.places.enter(place, upstream_index, id.is_some());
        self.calls.push(Call {
            upstream_index,
            id: None,
            name: None,
            announced: None,
            waiting: String::new(),
            arguments: Arguments::default(),
            half: Half::new(),
        });
        Ok(place)
    }

    /// The calls end with the answer, of which they need to be told once.
    ///
    /// Only the last may stay as it is then, and only where the answer is cut, too: the others are
    /// closed, so that whoever reads them finds JSON.
    pub(crate) fn close(
        &mut self,
        is_cut: bool,
        repairs: &mut Repairs,
        out: &mut VecDeque<ChatEvent>,
    ) -> Closed {
        let mut closed = Closed::Whole;
        if std::mem::replace(&mut self.closed, true) {
            return closed;
        }
        self.settle(repairs, out);
        for call in &mut self.calls {
            let Some(index) = call.announced else { continue };
            let is_last = index + 1 == self.announced;
            if let Some(json) = call.half.settle().and_then(|end| call.arguments.push(end)) {
                out.push_back(ChatEvent::ToolArguments { index, json });
            }
            let json = match call.arguments.finish() {
                End::Whole(rest) => rest,
                End::Empty if is_last && is_cut => String::new(),
                End::Empty => "{}".to_owned(),
                End::Cut(_) if is_last => {
                    closed.cut(None);
                    String::new()
                }
                End::Cut(closing) => {
                    closed.cut(call.name.clone());
                    closing
                }
            };
            if call.arguments.is_mended() {
                repairs.note(Repair::Arguments);
            }
            if !json.is_empty() {
                let json = json.into();
                out.push_back(ChatEvent::ToolArguments { index, json });
            }
        }
        closed
    }
}

/// Whether the arguments of the calls came whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Whole,
    /// Those of the last call did not.
    LastCut,
    /// Those of this function's call did not, and another call followed it.
    Cut(Text),
}

impl Closed {
    fn cut(&mut self, name: Option<Text>) {
        match (name, &self) {
            (Some(name), Self::Whole) => *self = Self::Cut(name),
            (None, Self::Whole) => *self = Self::LastCut,
            _ => {}
        }
    }
}

pub(crate) fn too_many() -> Error {
    Error::new(ErrorKind::Upstream, format!("the upstream sent more than {CALLS} tool calls"))
}
