//! The calls of an answer that come as such, put right.

use std::collections::{BTreeSet, VecDeque};

use uuid::Uuid;

use super::{
    arguments::{Arguments, End},
    names::{Known, Names},
    places::Places,
    repair::{Repair, Repairs},
};
use crate::{Error, ErrorKind, Text, chat::ChatEvent, json::lenient::Half};

/// How much of the arguments of an answer's calls may wait for names, in bytes, and how much for what
/// is missing of names and ids that have begun. Servers send the name first, and the id with it; those
/// that do not send it with the next delta.
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
    /// The places of calls that have a name and wait: for their id, for more of the name, or for one
    /// before them that does. Whoever waits is told in the order of the places.
    held: BTreeSet<usize>,
    /// How much of their arguments waits with them.
    held_len: usize,
    /// They ended with the answer.
    closed: bool,
    /// Of the functions on offer.
    names: Names,
}

/// A call as the upstream counts it.
#[derive(Debug)]
struct Call {
    upstream_index: u64,
    id: Option<Text>,
    name: Option<Text>,
    /// How the name stands to those of the functions on offer.
    known: Known,
    /// Our index, once it was announced; until then the arguments wait. A call that is never
    /// named leaves no gap.
    announced: Option<u32>,
    /// The arguments as they came, while the name is missing; once it is known, what passed of them.
    waiting: String,
    arguments: Arguments,
    /// A digest of the arguments so far.
    digest: u64,
    half: Half,
}

impl Call {
    /// Whether a piece brings the whole call once more, as some servers do at the end.
    fn repeats(&self, id: Option<&Text>, name: Option<&Text>, arguments: &Given) -> bool {
        let Some(json) = arguments.text() else { return false };
        id.is_some()
            && self.id.as_ref() == id
            && name.is_some()
            && self.name.as_ref() == name
            && self.arguments.is_whole()
            && self.digest == digest(NO_DIGEST, json)
    }

    /// The id of the call with what a piece says of it, where that says something new. Some servers
    /// send the beginning that all ids have in a piece of its own.
    fn id_with(&self, said: &Text) -> Option<Text> {
        // A slice would keep its event as long as the answer lasts.
        match &self.id {
            None => Some(said.as_str().into()),
            Some(id) if self.announced.is_some() || !is_begun(id) || id == said => None,
            Some(id) if said.starts_with(id.as_str()) => Some(said.as_str().into()),
            Some(id) => Some(format!("{id}{said}").into()),
        }
    }
}

/// The digest of no text.
const NO_DIGEST: u64 = 0xcbf2_9ce4_8422_2325;

/// The digest of a text of which `so_far` is that of its beginning, wherever it is cut (FNV-1a). Who
/// makes two texts of one digest has a call taken for a repetition.
fn digest(so_far: u64, text: &str) -> u64 {
    let step = |digest: u64, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(so_far, step)
}

/// Whether an id is but the beginning of one: `call_`, `chatcmpl-tool-`.
fn is_begun(id: &str) -> bool {
    id.ends_with(['_', '-', ':'])
}

impl Given {
    /// Whether an object begins here.
    fn begin_an_object(&self) -> bool {
        self.text().is_some_and(|json| json.trim_ascii_start().starts_with('{'))
    }

    /// What the string holds, or would have held.
    fn text(&self) -> Option<&Text> {
        match self {
            Self::Text(json) | Self::Bare(json) => Some(json),
            Self::Nothing | Self::Null => None,
        }
    }
}

impl Calls {
    /// Whether the client was told of a call, or will be.
    pub(crate) fn is_any_named(&self) -> bool {
        self.announced > 0 || !self.held.is_empty()
    }

    /// Takes the names of the functions on offer.
    pub(crate) fn offer(&mut self, names: Names) {
        self.names = names;
    }

    /// The number of the first call, from 1, that has arguments and was never named.
    pub(crate) fn lost(&self) -> Option<usize> {
        let is_lost = |call: &Call| call.name.is_none() && !call.waiting.trim_ascii().is_empty();
        self.calls.iter().position(is_lost).map(|place| place + 1)
    }

    /// Whether there is a call that was never named.
    pub(crate) fn is_any_nameless(&self) -> bool {
        self.calls.iter().any(|call| call.name.is_none())
    }

    /// Something else follows: calls that wait are told as they are.
    #[inline]
    pub(crate) fn settle(&mut self, repairs: &mut Repairs, out: &mut VecDeque<ChatEvent>) {
        if let Some(last) = self.calls.len().checked_sub(1) {
            self.settle_arguments(last, out);
        }
        while let Some(held) = self.held.first().copied() {
            self.announce(held, repairs, out);
        }
    }

    /// Tells the client of the calls that wait, up to the first that has to wait on. `place` is the one
    /// that a piece has come for, and `is_due` whether it waits for nothing more. Arguments say that
    /// the server is through with the names and ids of the calls that it has begun, but for a name that
    /// is none.
    fn release(
        &mut self,
        place: usize,
        is_due: bool,
        has_arguments: bool,
        repairs: &mut Repairs,
        out: &mut VecDeque<ChatEvent>,
    ) {
        while let Some(held) = self.held.first().copied() {
            let goes = match held == place {
                true => is_due,
                false => has_arguments && self.calls[held].known != Known::Begun,
            };
            if !goes {
                break;
            }
            self.announce(held, repairs, out);
        }
    }

    /// Tells the client of the call at `place`, if it has a name.
    fn announce(&mut self, place: usize, repairs: &mut Repairs, out: &mut VecDeque<ChatEvent>) {
        self.held.remove(&place);
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
        self.held_len -= json.len();
        if !json.is_empty() {
            out.push_back(ChatEvent::ToolArguments { index, json: json.into() });
        }
    }

    /// Takes what an event says of a call; whether that is anything new.
    ///
    /// # Errors
    ///
    /// Where there are too many calls, or too much of them waits for a name.
    pub(crate) fn push(
        &mut self,
        piece: Piece,
        repairs: &mut Repairs,
        out: &mut VecDeque<ChatEvent>,
    ) -> Result<bool, Error> {
        let Piece { index, id, name, arguments } = piece;
        let named = name.filter(|name| !name.is_empty());
        let known = self.calls.len();
        let place = self.place(
            index,
            id.as_ref().filter(|id| !id.is_empty()),
            named.as_ref(),
            &arguments,
            repairs,
        )?;
        if place == known
            && let Some(before) = known.checked_sub(1)
        {
            self.settle_arguments(before, out);
        }
        let call = &mut self.calls[place];
        if call.repeats(id.as_ref(), named.as_ref(), &arguments) {
            repairs.note(Repair::CallRepeated);
            return Ok(false);
        }
        let is_empty = |word: Option<&Text>| word.is_some_and(|word| word.is_empty());
        // A name that is empty was left out above, and costs nothing.
        if is_empty(id.as_ref())
            || id.is_some() && call.announced.is_some()
            || named.is_some() && call.name.is_some()
        {
            repairs.note(Repair::CallRepeated);
        }
        if let Some(id) = id.filter(|id| !id.is_empty()).and_then(|id| call.id_with(&id)) {
            let id = call.id.insert(id);
            self.places.name(place, call.upstream_index, id);
            if call.announced.is_some() {
                self.places.announce(id);
            }
        }
        // After the first piece names are empty, null, repeated, or what is missing of the first.
        let is_first = call.name.is_none();
        if let Some(begun) = call.name.as_mut().filter(|_| call.announced.is_none())
            && let Some(name) = &named
            && let Some(whole) = self.names.joined(begun, name)
        {
            call.known = self.names.known(&whole);
            *begun = whole;
        }
        if let Some(name) = named.filter(|_| is_first) {
            call.name = Some(name.as_str().into());
            call.known = self.names.known(&name);
            if !call.waiting.is_empty() {
                repairs.note(Repair::LateName);
                self.waiting -= call.waiting.len();
                let passed = call.arguments.push(std::mem::take(&mut call.waiting).into());
                call.waiting = passed.map_or_else(String::new, |json| json.as_str().to_owned());
                self.held_len += call.waiting.len();
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
        if call.arguments.is_repeating() {
            // The piece has the whole of what was cut.
            call.half.forget();
        }
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
            return Ok(true);
        }
        let is_new = is_first || !json.is_empty();
        if call.announced.is_none() {
            // The id may come one piece behind the name. Arguments of a second piece that still
            // has none say that none will come.
            let is_whole =
                call.id.as_ref().is_some_and(|id| !is_begun(id)) && call.known == Known::Whole;
            let is_due = call.id.is_some() && (is_whole || !json.is_empty())
                || !is_first && !json.is_empty();
            self.held.insert(place);
            self.release(place, is_due, !json.is_empty(), repairs, out);
        } else if !json.is_empty() {
            self.release(place, true, true, repairs, out);
        }
        let waits = self.calls[place].announced.is_none();
        if waits && self.held_len + json.len() > NAMELESS_LEN {
            self.settle(repairs, out);
        }
        let call = &mut self.calls[place];
        let before = call.digest;
        call.digest = digest(before, &json);
        let passed = call.arguments.push(json);
        if let Some(all) = call.arguments.all().filter(|_| before != NO_DIGEST) {
            call.digest = digest(NO_DIGEST, all);
        }
        if call.arguments.is_repeating() {
            repairs.note(Repair::Cumulative);
        }
        if let Some(json) = passed {
            match call.announced {
                Some(index) => out.push_back(ChatEvent::ToolArguments { index, json }),
                None => {
                    self.held_len += json.len();
                    call.waiting.push_str(&json);
                }
            }
        }
        Ok(is_new)
    }

    /// Gives what is kept of the arguments of the call at `place`.
    fn settle_arguments(&mut self, place: usize, out: &mut VecDeque<ChatEvent>) {
        let call = &mut self.calls[place];
        let Some(json) = call.arguments.settle() else { return };
        match call.announced {
            Some(index) => out.push_back(ChatEvent::ToolArguments { index, json }),
            None => {
                self.held_len += json.len();
                call.waiting.push_str(&json);
            }
        }
    }

    /// The call that a piece belongs to.
    ///
    /// One that has a name and arguments of its own is another call where the one that it would belong
    /// to is whole: some servers give all calls one id, or one number.
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
        let is_another = |call: &Call| {
            let is_in_its_place = index.is_some() && id.is_some() && call.name.as_ref() == name;
            let goes_on = call.arguments.is_placeholder()
                || call.id.as_ref() == id
                    && arguments.text().is_some_and(|json| call.arguments.grow_into(json));
            name.is_some()
                && call.name.is_some()
                && arguments.begin_an_object()
                && call.arguments.is_whole()
                && !(is_in_its_place && goes_on)
                && !call.repeats(id, name, arguments)
        };
        let repeated = known.filter(|known| is_another(&self.calls[*known]));
        if let Some(known) = known.filter(|_| repeated.is_none()) {
            return Ok(known);
        }
        let open = match index {
            _ if repeated.is_some() => repeated,
            // A number that is new, under an id that is known, is no call of its own without a name.
            Some(index) => self.places.find(Some(index), None).or_else(|| {
                match id {
                    Some(id) if name.is_none() => self.places.find(None, Some(id)),
                    // A new number for the rest of the call that was named last.
                    None if name.is_none() => {
                        let last = self.calls.len().checked_sub(1);
                        last.filter(|&last| {
                            let call = &self.calls[last];
                            call.name.is_some() && !call.arguments.is_whole()
                        })
                    }
                    _ => None,
                }
            }),
            None => self.calls.len().checked_sub(1),
        };
        if let Some(open) = open {
            let call = &self.calls[open];
            let goes_on = match name {
                _ if repeated.is_some() => false,
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
            known: Known::Whole,
            announced: None,
            waiting: String::new(),
            arguments: Arguments::default(),
            digest: NO_DIGEST,
            half: Half::new(),
        });
        Ok(place)
    }

    /// The calls end with the answer, of which they need to be told once.
    ///
    /// Only the last may stay as it is then, and only where the answer is cut, too: the others are
    /// closed, so that whoever reads them finds JSON. Where nobody `is_told` why the answer ended, a
    /// last call without any arguments may be one that was cut.
    pub(crate) fn close(
        &mut self,
        is_cut: bool,
        is_told: bool,
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
            if let Some(json) = call.arguments.decide() {
                out.push_back(ChatEvent::ToolArguments { index, json });
            }
            if call.arguments.is_repeating() {
                repairs.note(Repair::Cumulative);
            }
            let json = match call.arguments.finish() {
                End::Whole(rest) => rest,
                End::Empty if is_last && is_cut => String::new(),
                End::Empty if is_last && !is_told => {
                    closed.cut(None);
                    String::new()
                }
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
