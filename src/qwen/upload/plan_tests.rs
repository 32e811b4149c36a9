use super::*;
use crate::{
    chat::{Content, Message, Role, UploadedFile},
    media::encode,
};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
const PDF: &[u8] = b"%PDF-1.7\n\xff";
const ZIP: &[u8] = b"PK\x03\x04\x14\0\xff";

fn history(parts: impl IntoIterator<Item = PartKind>) -> History {
    let mut message = Message::empty(Role::User);
    message.content = Some(Content::Parts(parts.into_iter().map(Part::new).collect()));
    History::new(vec![Message::new(Role::System, "s"), message])
}

fn image(url: impl Into<Text>) -> PartKind {
    PartKind::Image { url: url.into(), detail: None }
}

fn file(data: &str, name: Option<&str>) -> PartKind {
    PartKind::File { id: None, data: Some(data.into()), name: name.map(Into::into) }
}

fn sound(data: &str, format: Option<&str>) -> PartKind {
    PartKind::Audio { data: data.into(), format: format.map(Into::into) }
}

fn png() -> String {
    encode("image/png", PNG)
}

fn planned(part: PartKind) -> Result<(&'static str, String, String), Error> {
    let items = plan(&history([part]), &Config::default())?.items;
    let [item] = &items[..] else { panic!("{} items", items.len()) };
    Ok((item.kind.as_str(), item.media_type.clone(), item.name.clone()))
}

#[test]
fn what_a_file_is_and_how_it_is_named() {
    let plain = encode("application/octet-stream", b"hello");
    let base64 = |bytes: &[u8]| encode("", bytes).split_once(',').expect("a comma").1.to_owned();
    let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    for (part, kind, media_type, name) in [
        (image(png()), "image", "image/png", "image.png"),
        // The bytes are right where the client is not.
        (image(encode("image/jpeg", PNG)), "image", "image/png", "image.png"),
        (image(base64(PNG)), "image", "image/png", "image.png"),
        (image(encode("image/svg+xml", b"\xff<svg")), "image", "image/svg+xml", "image.svg"),
        // As some clients send documents.
        (image(encode("application/pdf", PDF)), "document", "application/pdf", "document.pdf"),
        (
            file(&encode("application/pdf", PDF), Some("r.pdf")),
            "document",
            "application/pdf",
            "r.pdf",
        ),
        (file(&base64(PDF), None), "document", "application/pdf", "document.pdf"),
        (file(&png(), Some("shot.png")), "image", "image/png", "shot.png"),
        (file(&plain, None), "document", "text/plain", "document.txt"),
        (file(&plain, Some("notes")), "document", "text/plain", "notes.txt"),
        (file(&plain, Some("a/b\\n.md")), "document", "text/markdown", "n.md"),
        (file(&plain, Some("../../.env")), "document", "text/plain", "env.txt"),
        (file("data:text/csv,a%2Cb", None), "document", "text/csv", "document.csv"),
        // Text that begins as a picture does.
        (
            file(&encode("text/plain", b"BMW is a car"), None),
            "document",
            "text/plain",
            "document.txt",
        ),
        (file(&encode("application/zip", ZIP), Some("l.docx")), "document", docx, "l.docx"),
        (file(&encode(docx, ZIP), None), "document", docx, "document.docx"),
        (file(&base64(ZIP), None), "document", "application/zip", "document.zip"),
        (
            file(&encode("", b"\xfe\xff\xfe"), None),
            "document",
            "application/octet-stream",
            "document.bin",
        ),
        (sound(&base64(b"RIFF\0\0\0\0WAVEfmt "), Some("mp3")), "audio", "audio/wav", "audio.wav"),
        (sound(&base64(b"\x01\x02\xff"), Some("mp3")), "audio", "audio/mpeg", "audio.mp3"),
        (
            PartKind::Video { url: encode("video/mp4", b"\0\0\0\x20ftypisom").into() },
            "video",
            "video/mp4",
            "video.mp4",
        ),
    ] {
        let wanted = (kind, media_type.to_owned(), name.to_owned());
        assert_eq!(planned(part.clone()).expect(media_type), wanted, "{part:?}");
    }
}

#[test]
fn what_cannot_be_uploaded_is_named_with_what_to_do() {
    let refused = |part: PartKind| planned(part).expect_err("refused");
    for (part, word) in [
        (image("data:image/png;base64"), "comma"),
        (image("data:image/png;base64,aa*a"), "from byte 2 on"),
        (image("data:image/png;base64,aaaaa"), "ends too soon"),
        (image("data:image/png;base64,"), "is empty"),
        (image(encode("image/png", b"hello").replace("image/png", "text/plain")), "text/plain"),
        (image("ftp://a.example/b.png"), "from byte 3 on"),
        (file("https://a.example/r.pdf", None), "--fetch-urls"),
        (sound("http://a.example/a.wav", None), "FetchLayer"),
        (PartKind::Video { url: "https://a.example/a.mp4".into() }, "a video"),
        (PartKind::File { id: Some("f-1".into()), data: None, name: None }, "\"f-1\""),
        (sound("AAAA", Some("pcm16")), "text/plain"),
        (sound(&png(), None), "image/png"),
        (PartKind::Video { url: png().into() }, "image/png"),
    ] {
        let error = refused(part);
        assert_eq!(error.param(), Some("messages[1].content[0]"), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
        assert!(error.message().contains(word), "{word}: {error}");
    }
}

#[test]
fn sizes_and_numbers_are_limited() {
    use super::super::config::Limit;

    let mut config = Config::default();
    config.set_limit(FileKind::Image, Limit { count: 2, bytes: PNG.len() });
    config.set_limit(FileKind::Document, Limit { count: 1, bytes: 4 });
    let plan = |parts: Vec<PartKind>| plan(&history(parts), &config);
    assert_eq!(plan(vec![image(png()), image(png())]).expect("two").items.len(), 2);

    let large = [PNG, b"!"].concat();
    let error = plan(vec![image(encode("image/png", &large))]).expect_err("large");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains("16 bytes"), "{error}");
    // Not by the limit of a picture, which is larger: what it is is seen when it is decoded.
    let error = plan(vec![file("data:text/plain,hello", None)]).expect_err("large");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.message().contains("a document may have at most 4 bytes"), "{error}");

    // Those by their URLs count as well.
    let by_url = || image("https://a.example/a.png");
    let error = plan(vec![by_url(), image(png()), by_url()]).expect_err("three");
    assert_eq!(error.param(), Some("messages[1].content[2]"));
    assert!(error.message().contains("at most 2 images"), "{error}");
}

#[test]
fn files_of_one_kind_alone_stand_in_a_turn_unless_mixed_ones_may() {
    let mixed = || history([image(png()), file("data:text/plain,hi", None)]);
    let mut config = Config::default();
    let error = plan(&mixed(), &config).expect_err("mixed");
    assert_eq!(error.param(), Some("messages[1].content[1]"));
    assert!(error.message().contains("a document beside an image"), "{error}");
    config.mixed = true;
    assert_eq!(plan(&mixed(), &config).expect("mixed").items.len(), 2);
}

/// A replayed conversation goes on, whatever it has shown.
#[test]
fn of_earlier_files_the_newest_are_shown_as_far_as_there_is_room() {
    use super::super::config::Limit;

    let said = |role, parts: Vec<PartKind>| {
        let mut message = Message::empty(role);
        message.content = Some(Content::Parts(parts.into_iter().map(Part::new).collect()));
        message
    };
    let user = |parts| said(Role::User, parts);
    let answer = || Message::new(Role::Assistant, "I see.");
    let note = || file("data:text/plain,hi", None);
    let mut config = Config::default();
    config.set_limit(FileKind::Image, Limit { count: 2, bytes: 1024 });
    let places = |history: Vec<Message>| {
        let plan = plan(&History::new(history), &config).expect("planned");
        let shown: Vec<_> = plan.items.iter().map(|item| item.place.message).collect();
        let omitted: Vec<_> = plan.omitted.iter().map(|(place, _)| place.message).collect();
        (shown, omitted)
    };
    let three = || vec![user(vec![image(png())]), answer(), user(vec![image(png())]), answer()];
    let with = |parts| three().into_iter().chain([user(parts)]).collect::<Vec<_>>();
    assert_eq!(places(with(vec![image(png())])), (vec![2, 4], vec![0]));
    assert_eq!(places(with(vec![])), (vec![0, 2], vec![]));
    // The kind is that of what is asked about, else of the newest.
    assert_eq!(places(with(vec![note()])), (vec![4], vec![2, 0]));
    let older_note =
        vec![user(vec![note()]), answer(), user(vec![image(png())]), answer(), user(vec![])];
    assert_eq!(places(older_note), (vec![2], vec![0]));
    // What a tool shows behind the last answer is of the turn.
    let shots = said(Role::Tool, vec![image(png()), image(png()), image(png())]);
    let error = plan(&History::new(vec![answer(), shots]), &config).expect_err("three");
    assert_eq!(error.param(), Some("messages[1].content[2]"));
    assert!(omission(FileKind::Image).contains("an image of an earlier turn"));
}

#[test]
fn only_what_holds_data_is_uploaded() {
    let uploaded =
        UploadedFile::new(FileKind::Image, "f-1", "https://b.example/a", "a", "image/png");
    let none = history([
        PartKind::Text("hi".into()),
        image("https://a.example/a.png"),
        PartKind::Uploaded(uploaded),
    ]);
    assert!(!has_files(&none));
    assert!(plan(&none, &Config::default()).expect("nothing").items.is_empty());
    assert!(has_files(&history([image(png())])));
    assert!(has_files(&history([file("x", None)])));
}

#[test]
fn a_digest_is_of_the_content_the_name_and_the_type() {
    let digest = |part| plan(&history([part]), &Config::default()).expect("one").items[0].digest;
    let text = "data:text/plain,hi";
    assert_eq!(digest(file(text, Some("a.txt"))), digest(file(text, Some("a.txt"))));
    assert_ne!(digest(file(text, Some("a.txt"))), digest(file(text, Some("b.txt"))));
    assert_ne!(digest(file(text, Some("a"))), digest(file("data:text/plain,ho", Some("a"))));
    assert_ne!(digest(file(text, Some("a"))), digest(file("data:text/csv,hi", Some("a"))));
}

#[test]
fn a_long_name_is_cut_between_characters_and_keeps_its_end() {
    let long = format!("{}.pdf", "ü".repeat(500));
    let (_, _, name) = planned(file(&encode("application/pdf", PDF), Some(&long))).expect("one");
    assert!(name.len() <= NAME_LEN + 5 && name.ends_with("ü.pdf"), "{name}");
    let (_, _, name) =
        planned(file(&encode("application/pdf", PDF), Some("\n \u{0}"))).expect("one");
    assert_eq!(name, "document.pdf");
}
