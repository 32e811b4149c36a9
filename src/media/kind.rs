//! Media types, by the first bytes of a file and by its name.

/// The type that a file of these first bytes is of, where they are a mark of one. Text has none.
pub(crate) fn of_bytes(head: &[u8]) -> Option<&'static str> {
    Some(match head {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [b'R', b'I', b'F', b'F', _, _, _, _, form @ ..] => match form.get(..4)? {
            b"WEBP" => "image/webp",
            b"WAVE" => "audio/wav",
            b"AVI " => "video/x-msvideo",
            _ => return None,
        },
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => "image/tiff",
        [b'B', b'M', ..] => "image/bmp",
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand.get(..4)? {
            b"avif" | b"avis" => "image/avif",
            b"heic" | b"heix" | b"mif1" | b"msf1" => "image/heic",
            b"M4A " | b"M4B " => "audio/mp4",
            b"qt  " => "video/quicktime",
            _ => "video/mp4",
        },
        [b'%', b'P', b'D', b'F', b'-', ..] => "application/pdf",
        [b'I', b'D', b'3', ..] => "audio/mpeg",
        [b'O', b'g', b'g', b'S', ..] => "audio/ogg",
        [b'f', b'L', b'a', b'C', ..] => "audio/flac",
        [b'#', b'!', b'A', b'M', b'R', ..] => "audio/amr",
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "video/webm",
        // Twelve bits that are on, and a layer: ADTS has the layer 0.
        [0xff, 0xf1 | 0xf9, ..] => "audio/aac",
        [0xff, second, ..] if second & 0xe0 == 0xe0 && second & 0x06 != 0 => "audio/mpeg",
        // A container: of documents as of others. Its name tells which.
        [b'P', b'K', 3, 4, ..] => "application/zip",
        [0xd0, 0xcf, 0x11, 0xe0, ..] => "application/msword",
        _ => return None,
    })
}

/// What the names of files end in, and their types; of several names for a type the first is given.
#[cfg(feature = "upload")]
const EXTENSIONS: [(&str, &str); 41] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("bmp", "image/bmp"),
    ("tiff", "image/tiff"),
    ("tif", "image/tiff"),
    ("avif", "image/avif"),
    ("heic", "image/heic"),
    ("svg", "image/svg+xml"),
    ("wav", "audio/wav"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("aac", "audio/aac"),
    ("ogg", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("flac", "audio/flac"),
    ("amr", "audio/amr"),
    ("mp4", "video/mp4"),
    ("mov", "video/quicktime"),
    ("webm", "video/webm"),
    ("mkv", "video/x-matroska"),
    ("avi", "video/x-msvideo"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("htm", "text/html"),
    ("xml", "application/xml"),
    ("json", "application/json"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("zip", "application/zip"),
];

/// The type that a file of this name, or of these letters behind the dot, is of.
#[cfg(feature = "upload")]
pub(crate) fn of_name(name: &str) -> Option<&'static str> {
    let end = name.rsplit('.').next().unwrap_or(name);
    let known = EXTENSIONS.iter().find(|(extension, _)| extension.eq_ignore_ascii_case(end));
    known.map(|(_, media_type)| *media_type)
}

/// What the name of a file of this type ends in.
#[cfg(feature = "upload")]
pub(crate) fn extension(media_type: &str) -> &'static str {
    let known = EXTENSIONS.iter().find(|(_, known)| known.eq_ignore_ascii_case(media_type));
    match known {
        Some((extension, _)) => extension,
        None if media_type.starts_with("text/") => "txt",
        None => "bin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_it_is() {
        for (head, kind) in [
            (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01", "image/jpeg"),
            (b"GIF89a\x01\0\x01\0\0\0\0", "image/gif"),
            (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
            (b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
            (b"RIFF\x24\0\0\0AVI LIST", "video/x-msvideo"),
            (b"II*\0\x08\0\0\0", "image/tiff"),
            (b"MM\0*\0\0\0\x08", "image/tiff"),
            (b"BM\x3a\0\0\0\0\0\0\0", "image/bmp"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "image/avif"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "image/heic"),
            (b"\0\0\0\x20ftypisom\0\0\x02\0", "video/mp4"),
            (b"\0\0\0\x20ftypM4A \0\0\x02\0", "audio/mp4"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"ID3\x04\0\0", "audio/mpeg"),
            (b"\xff\xfb\x90\x64", "audio/mpeg"),
            (b"\xff\xf1\x50\x80", "audio/aac"),
            (b"OggS\0\x02", "audio/ogg"),
            (b"fLaC\0\0\0\x22", "audio/flac"),
            (b"\x1a\x45\xdf\xa3\x01", "video/webm"),
            (b"PK\x03\x04\x14\0", "application/zip"),
        ] {
            assert_eq!(of_bytes(head), Some(kind), "{head:?}");
        }
        for head in
            [&b""[..], b"RIFF\0\0\0\0", b"RIFFxxxxABCD", b"\0\0\0\0ftyp", b"\xff\xff", b"hi"]
        {
            // The last but one is of a layer that there is.
            let is_sound = head == b"\xff\xff";
            assert_eq!(of_bytes(head), is_sound.then_some("audio/mpeg"), "{head:?}");
        }
    }

    #[cfg(feature = "upload")]
    #[test]
    fn names_and_types_go_there_and_back() {
        for (name, media_type) in [
            ("a.PNG", "image/png"),
            ("report.v2.pdf", "application/pdf"),
            ("wav", "audio/wav"),
            (".md", "text/markdown"),
        ] {
            assert_eq!(of_name(name), Some(media_type));
        }
        assert_eq!(of_name("Makefile"), None);
        assert_eq!(of_name(""), None);
        assert_eq!(extension("IMAGE/JPEG"), "jpg");
        assert_eq!(extension("text/x-rust"), "txt");
        assert_eq!(extension("application/x-nothing"), "bin");
    }
}
