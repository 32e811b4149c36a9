//! Which URLs a history holds, and what stands in their places (sans-I/O).

use crate::{
    Text,
    chat::{ChatRequest, Content, FileKind, History, PartKind},
    media,
};

/// The longest name that is taken out of a URL, in bytes.
const NAME_LEN: usize = 120;

/// A URL to fetch.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    message: usize,
    part: usize,
    /// What the part is for.
    kind: FileKind,
    pub(super) url: Text,
}

impl Wanted {
    /// The place of the part.
    pub(super) fn param(&self) -> String {
        format!("messages[{}].content[{}]", self.message, self.part)
    }

    /// The URL in an error: without its query, which may be what opens it, and not at any length.
    pub(super) fn named(&self) -> String {
        let bare = self.url.split(['?', '#']).next().unwrap_or_default();
        // A password may stand before the host.
        let bare = match bare.split_once("//").and_then(|(_, rest)| rest.split('/').next()) {
            Some(authority) if authority.contains('@') => "the URL",
            _ => bare,
        };
        let mut cut = bare.len().min(100);
        while !bare.is_char_boundary(cut) {
            cut -= 1;
        }
        bare[..cut].to_owned()
    }

    /// The media type of what was fetched; or, where the part is not for such a thing, what it is.
    pub(super) fn media_type(&self, bytes: &[u8], said: Option<&str>) -> Result<String, String> {
        if bytes.is_empty() {
            return Err("empty".to_owned());
        }
        let is_text = str::from_utf8(bytes).is_ok();
        let said = said.filter(|said| *said != "application/octet-stream");
        let seen = media::of_bytes(bytes);
        let is_container = matches!(seen, Some("application/zip" | "application/msword"));
        let media_type = match (seen, said) {
            // Text may begin with any letters, and so with those of a mark.
            (_, Some(said)) if is_text && FileKind::of(said) == FileKind::Document => said,
            (Some(_), Some(said)) if is_container => said,
            (Some(seen), _) => seen,
            // What no first bytes tell of is text, or nothing that is known.
            (None, Some(said)) if is_text => said,
            (None, _) if is_text => "text/plain",
            (None, _) => return Err("of no kind that is known".to_owned()),
        };
        let kind = FileKind::of(media_type);
        let fits = match self.kind {
            FileKind::Image => kind == FileKind::Image && seen.is_some(),
            FileKind::Audio | FileKind::Video => {
                matches!(kind, FileKind::Audio | FileKind::Video) && seen.is_some()
            }
            FileKind::Document => true,
        };
        match fits {
            true => Ok(media_type.to_owned()),
            false => Err(format!("{media_type} and not the {} that is wanted", self.kind.as_str())),
        }
    }

    /// What the file at the URL is called there.
    fn name(&self) -> Option<Text> {
        let path = self.url.split(['?', '#']).next()?;
        let name = path.splitn(4, '/').nth(3)?.rsplit('/').next()?;
        let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let is_name = !name.is_empty() && name.len() <= NAME_LEN && name.chars().all(plain);
        is_name.then(|| name.into())
    }
}

/// The URLs of `history` that name something elsewhere, but for those of `left_alone`.
pub(super) fn wanted(history: &History, left_alone: &[String]) -> Vec<Wanted> {
    let mut all = Vec::new();
    for (message, of_message) in history.iter().enumerate() {
        let Some(Content::Parts(parts)) = &of_message.content else { continue };
        for (part, of_part) in parts.iter().enumerate() {
            let (kind, url) = match &of_part.kind {
                PartKind::Image { url, .. } => (FileKind::Image, url),
                PartKind::Audio { data, .. } => (FileKind::Audio, data),
                PartKind::Video { url } => (FileKind::Video, url),
                PartKind::File { data: Some(data), .. } => (FileKind::Document, data),
                _ => continue,
            };
            if media::is_web_url(url) && !(kind == FileKind::Image && is_below(url, left_alone)) {
                all.push(Wanted { message, part, kind, url: url.clone() });
            }
        }
    }
    all
}

/// Whether the host of `url` is one of `hosts` or below one. Whatever is not plain is not.
fn is_below(url: &str, hosts: &[String]) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default();
    url.scheme() == "https"
        && url.port().is_none()
        && hosts.iter().any(|known| {
            host == known || host.strip_suffix(known.as_str()).is_some_and(|up| up.ends_with('.'))
        })
}

/// Puts `data` in the place of the URL.
pub(super) fn put(request: &mut ChatRequest, wanted: &Wanted, data: Text) {
    let name = wanted.name();
    let message = request.history.get_mut(wanted.message);
    let Some(Content::Parts(parts)) = message.and_then(|message| message.content.as_mut()) else {
        return;
    };
    match parts.get_mut(wanted.part).map(|part| &mut part.kind) {
        Some(PartKind::Image { url, .. } | PartKind::Video { url }) => *url = data,
        Some(PartKind::Audio { data: own, .. }) => *own = data,
        Some(PartKind::File { data: own, name: own_name, .. }) => {
            *own = Some(data);
            if own_name.is_none() {
                *own_name = name;
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Part, Role};

    fn history(parts: Vec<PartKind>) -> History {
        let mut message = Message::empty(Role::User);
        message.content = Some(Content::Parts(parts.into_iter().map(Part::new).collect()));
        History::new(vec![message])
    }

    fn image(url: &str) -> PartKind {
        PartKind::Image { url: url.into(), detail: None }
    }

    fn of(kind: FileKind, url: &str) -> Wanted {
        Wanted { message: 0, part: 0, kind, url: url.into() }
    }

    #[test]
    fn what_names_something_elsewhere_is_wanted() {
        let history = history(vec![
            PartKind::Text("https://a.example".into()),
            image("data:image/png;base64,AAAA"),
            image("https://a.example/a.png"),
            image("https://cdn.qwenlm.ai/x.png"),
            image("https://evilqwenlm.ai/x.png"),
            image("https://cdn.qwenlm.ai:8080/x.png"),
            PartKind::Audio { data: "HTTP://a.example/a.wav".into(), format: None },
            PartKind::Audio { data: "AAAA".into(), format: None },
            PartKind::Video { url: "https://cdn.qwenlm.ai/a.mp4".into() },
            PartKind::File { id: None, data: Some("https://a.example/a".into()), name: None },
            PartKind::File { id: Some("f".into()), data: None, name: None },
        ]);
        let wanted = wanted(&history, &["qwenlm.ai".to_owned()]);
        let places: Vec<_> = wanted.iter().map(|wanted| wanted.part).collect();
        assert_eq!(places, [2, 4, 5, 6, 8, 9]);
        assert_eq!(wanted[0].param(), "messages[0].content[2]");
    }

    #[test]
    fn what_comes_has_to_be_what_is_wanted() {
        use FileKind::*;

        const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
        let taken =
            |kind, bytes: &[u8], said| of(kind, "https://a.example").media_type(bytes, said);
        for (kind, bytes, said, media_type) in [
            (Image, PNG, Some("text/html"), "image/png"),
            (Image, PNG, None, "image/png"),
            (Document, PNG, None, "image/png"),
            (Document, b"%PDF-1.7 \xff", None, "application/pdf"),
            (Document, b"<p>hello", Some("text/html"), "text/html"),
            (Document, b"hello", None, "text/plain"),
            (Document, b"BMW", Some("text/plain"), "text/plain"),
            (Document, b"PK\x03\x04\xff", Some("application/epub+zip"), "application/epub+zip"),
            (Audio, b"OggS\0\xff", Some("video/ogg"), "audio/ogg"),
            (Video, b"\0\0\0\x20ftypisom\xff", None, "video/mp4"),
        ] {
            assert_eq!(taken(kind, bytes, said), Ok(media_type.to_owned()), "{bytes:?}");
        }
        for (kind, bytes, said, what) in [
            (Image, &b"root:x:0:0:"[..], Some("image/png"), "image/png"),
            (Image, b"<html>", None, "text/plain"),
            (Image, b"%PDF-1.7 \xff", Some("image/png"), "application/pdf"),
            (Audio, PNG, None, "image/png"),
            (Video, b"\xfe\xfe", Some("video/mp4"), "no kind"),
            (Document, b"\xfe\xfe", None, "no kind"),
            (Document, b"", Some("text/plain"), "empty"),
        ] {
            let refused = taken(kind, bytes, said).expect_err("refused");
            assert!(refused.contains(what), "{refused}");
        }
    }

    #[test]
    fn a_url_in_an_error_holds_nothing_that_opens_it() {
        let named = |url: &str| of(FileKind::Image, url).named();
        assert_eq!(named("https://a.example/x.png?token=secret#y"), "https://a.example/x.png");
        assert_eq!(named("https://ann:secret@a.example/x.png"), "the URL");
        assert_eq!(named(&format!("https://a.example/{}", "ü".repeat(100))).len(), 100);
    }

    #[test]
    fn a_document_has_the_name_that_it_has_there() {
        let name = |url: &str| of(FileKind::Document, url).name();
        assert_eq!(name("https://a.example/b/r.pdf?x#y").as_deref(), Some("r.pdf"));
        for url in ["https://a.example", "https://a.example/", "https://a.example/a%2Fb"] {
            assert_eq!(name(url), None, "{url}");
        }
    }
}
