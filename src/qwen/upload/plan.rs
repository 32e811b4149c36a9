//! Which files a history holds, checked before any is sent (sans-I/O).

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::config::Config;
use crate::{
    Error, ErrorKind, Text,
    chat::{Content, FileKind, History, Part, PartKind, Role},
    media::{self, Data, Unreadable},
};

/// The longest name of a file, in bytes.
const NAME_LEN: usize = 200;

/// A file to upload.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The places of the message and of the part in it.
    pub(super) place: Place,
    pub(super) kind: FileKind,
    pub(super) name: String,
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
    /// Of all that.
    pub(super) digest: [u8; 32],
}

/// Where a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) message: usize,
    pub(super) part: usize,
}

impl Place {
    pub(super) fn param(self) -> String {
        format!("messages[{}].content[{}]", self.message, self.part)
    }

    fn refuse(self, message: impl Into<String>) -> Error {
        Error::invalid(self.param(), message.into())
    }
}

/// Whether there is anything to look at in `history`: a part that is neither text nor known upstream.
pub(super) fn has_files(history: &History) -> bool {
    history.iter().filter_map(|message| message.content.as_ref()).any(|content| {
        content.media().any(|part| match &part.kind {
            PartKind::Image { url, .. } => !media::is_web_url(url),
            PartKind::Audio { .. } | PartKind::File { .. } | PartKind::Video { .. } => true,
            _ => false,
        })
    })
}

/// What is done with the files of a history.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The files that are to be uploaded, in their order.
    pub(super) items: Vec<Item>,
    /// The places of earlier files that there is no room for.
    pub(super) omitted: Vec<(Place, FileKind)>,
}

/// A part that is a file, uploaded or not.
struct Entry {
    place: Place,
    kind: FileKind,
    /// `None` for what is upstream already.
    item: Option<Item>,
}

/// What is done with the files of `history`.
///
/// Those of the last turn, which are what the client asks about, are all uploaded or an error. Of the
/// earlier ones, which come again where a history is replayed into a new chat, the newest are shown as
/// far as there is room: a conversation with many pictures would otherwise be refused from then on.
///
/// # Errors
///
/// Names the part that cannot be uploaded, or of which there are too many or too much.
pub(super) fn plan(history: &History, config: &Config) -> Result<Plan, Error> {
    let fresh = history.iter().rev().take_while(|message| message.role != Role::Assistant).count();
    // The first message of the turn.
    let turn = history.len() - fresh;
    let mut entries: Vec<Entry> = Vec::new();
    for (part, place) in parts(history) {
        let (kind, item) = match &part.kind {
            PartKind::Uploaded(file) => (file.kind, None),
            PartKind::Image { url, .. } if media::is_web_url(url) => (FileKind::Image, None),
            kind => match source(kind, place)? {
                None => continue,
                Some(source) => {
                    let item = item(source, place, config, entries.len())?;
                    (item.kind, Some(item))
                }
            },
        };
        entries.push(Entry { place, kind, item });
    }
    let is_earlier = |entry: &Entry| entry.place.message < turn;
    let mut counts = Counts::default();
    for entry in entries.iter().filter(|entry| !is_earlier(entry)) {
        counts.add(entry.kind, config).map_err(|no_room| no_room.refusal(entry, config))?;
    }
    let mut plan = Plan::default();
    for entry in entries.into_iter().rev() {
        if is_earlier(&entry) && counts.add(entry.kind, config).is_err() {
            plan.omitted.push((entry.place, entry.kind));
        } else {
            plan.items.extend(entry.item);
        }
    }
    plan.items.reverse();
    Ok(plan)
}

fn parts(history: &History) -> impl Iterator<Item = (&Part, Place)> {
    history.iter().enumerate().flat_map(|(message, of_message)| {
        let parts = match &of_message.content {
            Some(Content::Parts(parts)) => parts.as_slice(),
            _ => &[],
        };
        parts.iter().enumerate().map(move |(part, of_part)| (of_part, Place { message, part }))
    })
}

/// How many files of each kind a turn has.
#[derive(Default)]
struct Counts(Vec<(FileKind, usize)>);

/// Why a turn has no room for a file.
enum NoRoom {
    /// There is one of this kind.
    Mixed(FileKind),
    TooMany,
}

impl Counts {
    fn add(&mut self, kind: FileKind, config: &Config) -> Result<(), NoRoom> {
        if let Some((other, _)) = self.0.iter().find(|(known, _)| *known != kind)
            && !config.mixed
        {
            return Err(NoRoom::Mixed(*other));
        }
        let limit = config.limit(kind).count;
        match self.0.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) if *count >= limit => return Err(NoRoom::TooMany),
            Some((_, count)) => *count += 1,
            None if limit == 0 => return Err(NoRoom::TooMany),
            None => self.0.push((kind, 1)),
        }
        Ok(())
    }
}

impl NoRoom {
    fn refusal(self, entry: &Entry, config: &Config) -> Error {
        let limit = config.limit(entry.kind).count;
        entry.place.refuse(match self {
            Self::Mixed(other) => format!(
                "chat.qwen.ai takes files of one kind in a message, and there is {} beside {}; send \
                 them in separate turns",
                named(entry.kind),
                named(other),
            ),
            Self::TooMany => format!(
                "chat.qwen.ai takes at most {limit} {}{} in a message; send fewer, or in several \
                 turns",
                match entry.kind {
                    FileKind::Audio => "sound file",
                    kind => kind.as_str(),
                },
                if limit == 1 { "" } else { "s" },
            ),
        })
    }
}

/// What stands in the place of an earlier file that there is no room for.
pub(super) fn omission(kind: FileKind) -> Text {
    format!("[{} of an earlier turn, which is not shown again]", named(kind)).into()
}

fn named(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Image => "an image",
        FileKind::Audio => "sound",
        FileKind::Video => "a video",
        FileKind::Document => "a document",
    }
}

/// What a part says of the file that it holds.
struct Source<'a> {
    data: &'a Text,
    /// What the part says that it is.
    kind: FileKind,
    name: Option<&'a Text>,
    /// As `wav`.
    format: Option<&'a Text>,
}

/// `None` for a part that is no file.
fn source(part: &PartKind, place: Place) -> Result<Option<Source<'_>>, Error> {
    let of = |data, kind| Source { data, kind, name: None, format: None };
    let source = match part {
        PartKind::Image { url, .. } => of(url, FileKind::Image),
        PartKind::Audio { data, format } => {
            Source { format: format.as_ref(), ..of(data, FileKind::Audio) }
        }
        PartKind::Video { url } => of(url, FileKind::Video),
        PartKind::File { data: Some(data), name, .. } => {
            Source { name: name.as_ref(), ..of(data, FileKind::Document) }
        }
        PartKind::File { id, data: None, .. } => {
            let id = id.as_deref().unwrap_or_default();
            return Err(place.refuse(format!(
                "no file {id:?} is known here; send what it holds, as `file_data` with a data: URL"
            )));
        }
        _ => return Ok(None),
    };
    if media::is_web_url(source.data) {
        let what = named(source.kind);
        return Err(place.refuse(format!(
            "chat.qwen.ai does not fetch {what} from a URL; send it as a data: URL, or let this \
             server fetch it: the proxy does with --fetch-urls, a stack of your own with a FetchLayer"
        )));
    }
    Ok(Some(source))
}

fn item(source: Source<'_>, place: Place, config: &Config, number: usize) -> Result<Item, Error> {
    let what = named(source.kind);
    // The largest that any kind may be: which it is, is seen in what is decoded.
    let most = [FileKind::Image, FileKind::Audio, FileKind::Video, FileKind::Document]
        .into_iter()
        .filter(|kind| *kind == source.kind || source.kind == FileKind::Document)
        .map(|kind| config.limit(kind).bytes)
        .fold(config.limit(FileKind::Document).bytes, usize::max);
    let data = media::decode(source.data, most).map_err(|why| match why {
        Unreadable::TooLarge(limit) => too_large(what, limit, place),
        Unreadable::NoComma => {
            place.refuse("the data: URL has no comma: data:image/png;base64,… is the form of one")
        }
        Unreadable::NotBase64(at) => place.refuse(format!(
            "the data of {what} is no base64, from byte {at} on; send a data: URL with base64 in it"
        )),
        Unreadable::Cut => {
            place.refuse(format!("the base64 of {what} ends too soon: a part of it is missing"))
        }
    })?;
    if data.bytes.is_empty() {
        return Err(place.refuse(format!("the data of {what} is empty")));
    }
    let media_type = media_type(&source, &data);
    let kind = FileKind::of(&media_type);
    let fits = match source.kind {
        // Sound and films are in the same containers, and clients send documents as images.
        FileKind::Document => true,
        FileKind::Image => {
            kind == FileKind::Image || kind == FileKind::Document && !is_unknown(&media_type)
        }
        FileKind::Audio | FileKind::Video => matches!(kind, FileKind::Audio | FileKind::Video),
    };
    if !fits {
        return Err(place.refuse(format!(
            "the data of {what} is not of a type that is known as such; it looks like {media_type}"
        )));
    }
    let limit = config.limit(kind).bytes;
    if data.bytes.len() > limit {
        return Err(too_large(named(kind), limit, place));
    }
    let name = name(source.name, kind, &media_type, number);
    let mut digest = Sha256::new();
    for field in [name.as_bytes(), media_type.as_bytes()] {
        digest.update((field.len() as u64).to_le_bytes());
        digest.update(field);
    }
    digest.update(&data.bytes);
    let digest = digest.finalize().into();
    Ok(Item { place, kind, name, media_type, bytes: data.bytes.into(), digest })
}

fn too_large(what: &str, limit: usize, place: Place) -> Error {
    let message = if limit.is_multiple_of(1024 * 1024) {
        format!("{what} may have at most {} MiB here; send a smaller one", limit / (1024 * 1024))
    } else {
        format!("{what} may have at most {limit} bytes here; send a smaller one")
    };
    Error::new(ErrorKind::TooLarge, message).with_param(place.param())
}

const TEXT: &str = "text/plain";
const BYTES: &str = "application/octet-stream";

fn is_unknown(media_type: &str) -> bool {
    matches!(media_type, TEXT | BYTES)
}

/// What the file is: what its first bytes say where they say it, else what the client says.
fn media_type(source: &Source<'_>, data: &Data) -> String {
    let declared = data.media_type.as_deref().filter(|declared| *declared != BYTES);
    let named = source.name.or(source.format).and_then(|name| media::of_name(name));
    let said = declared.or(named);
    let is_text = str::from_utf8(&data.bytes).is_ok();
    // Text may begin with any letters, and so with those of a mark.
    if let Some(said) = said
        && is_text
        && FileKind::of(said) == FileKind::Document
    {
        return said.to_owned();
    }
    let seen = media::of_bytes(&data.bytes);
    let is_container = matches!(seen, Some("application/zip" | "application/msword"));
    let known = if is_container {
        // A name tells what is in it, if the client does not.
        declared.filter(|declared| Some(*declared) != seen).or(named).or(seen)
    } else {
        seen.or(said)
    };
    known.unwrap_or(if is_text { TEXT } else { BYTES }).to_owned()
}

/// A name that stands for itself wherever a name can stand.
fn name(given: Option<&Text>, kind: FileKind, media_type: &str, number: usize) -> String {
    let given = given.map_or("", |name| name.rsplit(['/', '\\']).next().unwrap_or_default());
    let mut name: String =
        given.chars().filter(|c| !c.is_control() && !"<>\"|?*".contains(*c)).collect();
    name = name.trim().trim_start_matches('.').to_owned();
    let extension = media::extension(media_type);
    let room = NAME_LEN - extension.len() - 1;
    if name.len() > room {
        let own = name.rsplit_once('.').map(|(_, own)| own.to_owned()).filter(|own| own.len() < 10);
        let cut = (0..=room).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
        name.truncate(cut);
        if let Some(own) = own {
            name = format!("{}.{own}", name.trim_end_matches('.'));
        }
    }
    if name.is_empty() {
        name = match number {
            0 => kind.as_str().to_owned(),
            n => format!("{}-{}", kind.as_str(), n + 1),
        };
    }
    // By the name upstream sees how a document is to be read.
    match name.contains('.') {
        true => name,
        false => format!("{name}.{extension}"),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
