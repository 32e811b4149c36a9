//! Requests as forms (`multipart/form-data`, RFC 7578), which is how OpenAI's clients send files.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyDataStream;
use multer::{Constraints, Multipart, SizeLimit};

use crate::{
    Error, ErrorKind, FullBody, Text,
    edge::parse::{invalid_value, too_many},
};

/// How many fields a form may have.
const MOST: usize = 64;

/// How long the name of a field may be, in bytes.
const NAME_LEN: usize = 128;

/// What a field of a form holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Field {
    Text(Text),
    /// An image, as a `data:` URL.
    Image(Text),
}

/// The boundary of the form that a body is said to be, if it is said to be one.
///
/// # Errors
///
/// Where there is no boundary.
pub(super) fn boundary(headers: &HeaderMap) -> Option<Result<String, Error>> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let kind = value.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    Some(multer::parse_boundary(value).map_err(|_| {
        let message = "the content type multipart/form-data needs a `boundary`; let the client \
                       library set the header";
        Error::new(ErrorKind::InvalidRequest, message).with_code("invalid_form")
    }))
}

/// The fields of `body`, in their order. A name's `[]` is left out: a list is a name that is there
/// several times.
///
/// # Errors
///
/// What is wrong with the form.
pub(super) async fn read(body: Bytes, boundary: String) -> Result<Vec<(String, Field)>, Error> {
    // All of it is in memory by now, and bounded.
    let limit = SizeLimit::new().whole_stream(u64::MAX);
    let stream = BodyDataStream::<FullBody>::new(FullBody::new(body));
    let constraints = Constraints::new().size_limit(limit);
    let mut form = Multipart::with_constraints(stream, boundary, constraints);
    let mut fields = Vec::new();
    while let Some(field) = form.next_field().await.map_err(malformed)? {
        if fields.len() == MOST {
            return Err(too_many("form", MOST, "fields", "send fewer"));
        }
        let name = field.name().unwrap_or_default().trim();
        let name = name.strip_suffix("[]").unwrap_or(name).to_owned();
        if name.is_empty() || name.len() > NAME_LEN {
            let message = format!("a field of the form has no name of 1 to {NAME_LEN} bytes");
            return Err(Error::new(ErrorKind::InvalidRequest, message).with_code("invalid_form"));
        }
        let is_file = field.file_name().is_some();
        let said = field.content_type().map(|kind| kind.essence_str().to_owned());
        let bytes = field.bytes().await.map_err(malformed)?;
        let value = match is_file || said.as_deref().is_some_and(|kind| kind.starts_with("image/"))
        {
            true => Field::Image(image(&name, said.as_deref(), &bytes)?),
            false => Field::Text(
                Text::from_utf8(bytes)
                    .map_err(|_| invalid_value(name.clone(), "it is not UTF-8"))?,
            ),
        };
        fields.push((name, value));
    }
    Ok(fields)
}

/// An image as a `data:` URL; what it is, its first bytes say, and else its sender.
fn image(name: &str, said: Option<&str>, bytes: &[u8]) -> Result<Text, Error> {
    if bytes.is_empty() {
        return Err(invalid_value(name.to_owned(), "the file is empty"));
    }
    let kind = media_type(bytes).or(said.filter(|kind| kind.starts_with("image/")));
    let Some(kind) = kind else {
        let message = "the file is none of PNG, JPEG, WebP, GIF and BMP";
        return Err(invalid_value(name.to_owned(), message));
    };
    let mut url = format!("data:{kind};base64,");
    STANDARD.encode_string(bytes, &mut url);
    Ok(url.into())
}

/// What an image is by its first bytes.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    Some(match bytes {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'B', b'M', ..] => "image/bmp",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "image/webp",
        _ => return None,
    })
}

fn malformed(error: multer::Error) -> Error {
    // Its words name positions and fields, and nothing that was sent.
    let message = "the form cannot be read: it is cut, or its boundary is another";
    Error::new(ErrorKind::InvalidRequest, message).with_code("invalid_form").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(parts: &[(&str, &[u8])]) -> Bytes {
        let mut body = Vec::new();
        for (head, content) in parts {
            body.extend_from_slice(b"--X\r\nContent-Disposition: form-data; ");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(b"\r\n\r\n");
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--X--\r\n");
        body.into()
    }

    fn fields(body: Bytes) -> Result<Vec<(String, Field)>, Error> {
        tokio_test::block_on(read(body, "X".to_owned()))
    }

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n--X-";

    #[test]
    fn texts_and_files_are_told_apart() {
        let body = form(&[
            ("name=\"prompt\"", "Ein Füchs\r\n--".as_bytes()),
            ("name=\"image[]\"; filename=\"a.png\"", PNG),
            ("name=\"image[]\"; filename=\"b\"\r\nContent-Type: image/heic", b"heic"),
            ("name=\"image\"\r\nContent-Type: image/png", b"\xff\xd8\xff"),
            ("name=\"n\"", b""),
        ]);
        let text = |text: &str| Field::Text(text.into());
        let image = |url: &str| Field::Image(url.into());
        let png = format!("data:image/png;base64,{}", STANDARD.encode(PNG));
        let wanted = [
            ("prompt", text("Ein Füchs\r\n--")),
            ("image", image(&png)),
            ("image", image("data:image/heic;base64,aGVpYw==")),
            ("image", image("data:image/jpeg;base64,/9j/")),
            ("n", text("")),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(fields(body).expect("a form"), wanted);
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let whole = form(&[("name=\"prompt\"", b"A fox")]);
        for (what, body, param) in [
            ("nothing", Bytes::new(), None),
            ("cut", whole.slice(..whole.len() - 8), None),
            ("another boundary", "--Y\r\n\r\n--Y--\r\n".into(), None),
            ("no name", form(&[("name=\"\"", b"x")]), None),
            ("a long name", form(&[(&format!("name=\"{}\"", "n".repeat(129)), b"x")]), None),
            ("not UTF-8", form(&[("name=\"prompt\"", b"\xff")]), Some("prompt")),
            ("no image", form(&[("name=\"image\"; filename=\"a.txt\"", b"text")]), Some("image")),
            ("an empty file", form(&[("name=\"image\"; filename=\"a.png\"", b"")]), Some("image")),
            ("many fields", form(&[("name=\"n\"", b"1".as_slice()); 65]), Some("form")),
        ] {
            let error = fields(body).expect_err(what);
            assert_eq!((error.status().as_u16(), error.param()), (400, param), "{what}: {error}");
        }
    }

    #[test]
    fn the_boundary_is_found() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().expect("a header"));
            boundary(&headers).map(|found| found.map_err(|error| error.status().as_u16()))
        };
        assert_eq!(of("multipart/form-data; boundary=X"), Some(Ok("X".to_owned())));
        assert_eq!(
            of("Multipart/Form-Data; charset=utf-8; boundary=\"a b\""),
            Some(Ok("a b".to_owned()))
        );
        assert_eq!(of("multipart/form-data"), Some(Err(400)));
        assert_eq!(of("application/json"), None);
        assert_eq!(boundary(&HeaderMap::new()).map(|_| ()), None);
    }
}
