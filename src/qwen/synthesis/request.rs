//! What DashScope is asked for.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::{
    Error, Text,
    chat::{AnswerKind, ChatRequest, Content, MediaSize, PartKind, Role},
};

/// The parameters that the API knows beside those that are made of a request's own fields.
const KNOWN: [&str; 12] = [
    "seed",
    "prompt_extend",
    "watermark",
    "resolution",
    "ratio",
    "audio",
    "audio_url",
    "shot_type",
    "prompt_extend_mode",
    "enable_interleave",
    "function",
    "strength",
];

/// A request as the API has it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: &'static str,
    /// Whether it is a task, which is asked about.
    pub(super) is_task: bool,
    pub(super) body: Bytes,
    /// Fields that the API does not know.
    pub(super) left_out: Vec<String>,
}

/// Whether a Wan model is of this version or a later one.
fn is_wan_from(model: &str, major: u32, minor: u32) -> bool {
    let Some(rest) = model.strip_prefix("wan") else { return false };
    let version = rest.split('-').next().unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(own)), Some(Ok(minor_own))) => (own, minor_own) >= (major, minor),
        (Some(Ok(own)), None) => own > major || own == major && minor == 0,
        _ => false,
    }
}

/// Whether a model makes images by a task of the older form.
fn is_older_image(model: &str) -> bool {
    let is_wan = model.starts_with("wan") && !is_wan_from(model, 2, 6);
    is_wan || model.starts_with("flux") || model.starts_with("stable-diffusion")
}

impl Asked {
    /// What `request` asks for.
    ///
    /// # Errors
    ///
    /// Names the part of it that the API cannot be given.
    pub(super) fn new(request: &ChatRequest) -> Result<Self, Error> {
        let (prompt, images) = prompt(request)?;
        let model = request.model.to_ascii_lowercase();
        let is_video = request.kind == AnswerKind::Video;
        let mut parameters = Map::new();
        let mut left_out = Vec::new();
        let mut negative = None;
        for (name, value) in request.extra.iter() {
            let value = value.to_value().unwrap_or_default();
            match &*name {
                _ if value.is_null() => {}
                "negative_prompt" => negative = Some(value),
                // What asks for nothing, in OpenAI's words.
                "quality" | "background" | "moderation" if value == "auto" => {}
                "partial_images" if value == 0 => {}
                name if KNOWN.contains(&name) => {
                    parameters.insert(name.to_owned(), value);
                }
                name => left_out.push(name.to_owned()),
            }
        }
        if let Some(seed) = request.sampling.seed {
            parameters.insert("seed".to_owned(), json!(i64::try_from(seed).unwrap_or(i64::MAX)));
        }
        if request.user.as_ref().is_some_and(|user| !user.is_empty()) {
            left_out.push("user".to_owned());
        }
        if is_video {
            sized_video(&mut parameters, request.media.size, &model, !images.is_empty());
            if let Some(seconds) = request.media.seconds {
                parameters.insert("duration".to_owned(), json!(seconds));
            }
        } else if let Some(size) = request.media.size {
            let (width, height) = pixels(size, 1 << 20);
            parameters.insert("size".to_owned(), json!(format!("{width}*{height}")));
        }
        let is_older = is_older_image(&model);
        let (path, is_task, input) = match (is_video, is_older, images.as_slice()) {
            (true, _, images) => {
                let mut input = json!({"prompt": prompt.as_str()});
                if let Some(first) = images.first() {
                    if images.len() > 1 {
                        let message = "a video begins with one image; send one, or none";
                        return Err(Error::invalid("messages", message));
                    }
                    match is_wan_from(&model, 2, 7) {
                        true => input["media"] = json!([{"type": "first_frame", "url": &**first}]),
                        false => input["img_url"] = json!(&**first),
                    }
                }
                if let Some(negative) = negative {
                    input["negative_prompt"] = negative;
                }
                ("/services/aigc/video-generation/video-synthesis", true, input)
            }
            (false, true, images) => {
                // One at a time: who wants several asks for each.
                parameters.insert("n".to_owned(), json!(1));
                let mut input = json!({"prompt": prompt.as_str()});
                if let Some(negative) = negative {
                    input["negative_prompt"] = negative;
                }
                if images.is_empty() {
                    ("/services/aigc/text2image/image-synthesis", true, input)
                } else {
                    let images: Vec<&str> = images.iter().map(|url| &**url).collect();
                    input["images"] = json!(images);
                    ("/services/aigc/image2image/image-synthesis", true, input)
                }
            }
            (false, false, images) => {
                if let Some(negative) = negative {
                    parameters.insert("negative_prompt".to_owned(), negative);
                }
                let mut content: Vec<Value> =
                    images.iter().map(|url| json!({"image": &**url})).collect();
                content.push(json!({"text": prompt.as_str()}));
                let input = json!({"messages": [{"role": "user", "content": content}]});
                ("/services/aigc/multimodal-generation/generation", false, input)
            }
        };
        let body =
            json!({"model": request.model.as_str(), "input": input, "parameters": parameters});
        Ok(Self { path, is_task, body: body.to_string().into(), left_out })
    }
}

/// Says how large a video is, in the words of its model.
fn sized_video(
    parameters: &mut Map<String, Value>,
    size: Option<MediaSize>,
    model: &str,
    has_image: bool,
) {
    let Some(size) = size else { return };
    let is_newer = is_wan_from(model, 2, 7);
    if !(is_newer || has_image) {
        let (width, height) = pixels(size, 1280 * 720);
        parameters.insert("size".to_owned(), json!(format!("{width}*{height}")));
        return;
    }
    if let MediaSize::Pixels(width, height) = size {
        let resolution = match width.min(height) {
            ..=600 => "480P",
            601..=900 => "720P",
            _ => "1080P",
        };
        parameters.entry("resolution").or_insert(json!(resolution));
    }
    // With an image the shape is that of the image.
    if is_newer && !has_image {
        let shapes = [(16, 9), (9, 16), (1, 1), (4, 3), (3, 4)];
        if let Some((width, height)) = size.nearest(shapes) {
            parameters.entry("ratio").or_insert(json!(format!("{width}:{height}")));
        }
    }
}

/// The size in pixels; a ratio becomes one of about `area`, with sides that 16 divides.
fn pixels(size: MediaSize, area: u32) -> (u32, u32) {
    let MediaSize::Ratio(width, height) = size else { return size.sides() };
    let ratio = f64::from(width) / f64::from(height);
    let side = |length: f64| ((length / 16.0).round().max(1.0) as u32) * 16;
    let height = (f64::from(area) / ratio).sqrt();
    (side(height * ratio), side(height))
}

/// The words and the images of the user's last message.
fn prompt(request: &ChatRequest) -> Result<(Text, Vec<Cow<'_, str>>), Error> {
    let message = request.history.iter().rfind(|message| message.role == Role::User);
    let message = message.ok_or_else(|| {
        Error::invalid("messages", "there is no message of a user's to make it from")
    })?;
    let mut images = Vec::new();
    if let Some(Content::Parts(parts)) = &message.content {
        for part in parts {
            match &part.kind {
                PartKind::Image { url, .. } => images.push(Cow::Borrowed(url.as_str())),
                _ if part.as_text().is_some() => {}
                _ => {
                    let message = "of what is no text, images alone can be sent with a prompt";
                    return Err(Error::invalid("messages", message));
                }
            }
        }
    }
    let text = message.text();
    if text.trim_ascii().is_empty() {
        return Err(Error::invalid("messages", "there is no prompt in the last message"));
    }
    Ok((text, images))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Part};

    fn asked(kind: AnswerKind, model: &str, size: &str, images: usize) -> (Asked, Value) {
        let mut message = Message::new(Role::User, "A fox");
        if images > 0 {
            let parts = (0..images).map(|_| Part::image("https://x.example/a.png"));
            message.content =
                Some(Content::Parts([Part::text("A fox")].into_iter().chain(parts).collect()));
        }
        let mut request = ChatRequest::new(model, [message]);
        request.kind = kind;
        request.media.size = MediaSize::parse(size);
        request.media.seconds = (kind == AnswerKind::Video).then_some(5);
        request.extra.insert("negative_prompt", json!("snow"));
        request.extra.insert("seed", json!(7));
        request.extra.insert("quality", json!("hd"));
        request.extra.insert("background", json!("auto"));
        let asked = Asked::new(&request).expect("valid");
        let body = serde_json::from_slice(&asked.body).expect("JSON");
        (asked, body)
    }

    /// What is asked for → where, and how it is said.
    #[test]
    fn each_model_is_asked_in_its_own_words() {
        use AnswerKind::{Image, Video};
        let url = "https://x.example/a.png";
        for (kind, model, size, images, path, input, parameters) in [
            (
                Image,
                "qwen-image-plus",
                "1328x1328",
                0,
                "multimodal-generation/generation",
                json!({"messages": [{"role": "user", "content": [{"text": "A fox"}]}]}),
                json!({"size": "1328*1328", "seed": 7, "negative_prompt": "snow"}),
            ),
            (
                Image,
                "qwen-image-edit",
                "",
                2,
                "multimodal-generation/generation",
                json!({"messages": [{"role": "user",
                    "content": [{"image": url}, {"image": url}, {"text": "A fox"}]}]}),
                json!({"seed": 7, "negative_prompt": "snow"}),
            ),
            (
                Image,
                "wan2.6-t2i",
                "16:9",
                0,
                "multimodal-generation/generation",
                json!({"messages": [{"role": "user", "content": [{"text": "A fox"}]}]}),
                json!({"size": "1360*768", "seed": 7, "negative_prompt": "snow"}),
            ),
            (
                Image,
                "wan2.2-t2i-flash",
                "1024x1024",
                0,
                "text2image/image-synthesis",
                json!({"prompt": "A fox", "negative_prompt": "snow"}),
                json!({"size": "1024*1024", "seed": 7, "n": 1}),
            ),
            (
                Image,
                "wan2.5-i2i-preview",
                "",
                1,
                "image2image/image-synthesis",
                json!({"prompt": "A fox", "negative_prompt": "snow", "images": [url]}),
                json!({"seed": 7, "n": 1}),
            ),
            (
                Video,
                "wan2.5-t2v-preview",
                "832x480",
                0,
                "video-generation/video-synthesis",
                json!({"prompt": "A fox", "negative_prompt": "snow"}),
                json!({"size": "832*480", "duration": 5, "seed": 7}),
            ),
            (
                Video,
                "wan2.6-i2v",
                "1280x720",
                1,
                "video-generation/video-synthesis",
                json!({"prompt": "A fox", "negative_prompt": "snow", "img_url": url}),
                json!({"resolution": "720P", "duration": 5, "seed": 7}),
            ),
            (
                Video,
                "wan2.7-t2v",
                "1920x1080",
                0,
                "video-generation/video-synthesis",
                json!({"prompt": "A fox", "negative_prompt": "snow"}),
                json!({"resolution": "1080P", "ratio": "16:9", "duration": 5, "seed": 7}),
            ),
            (
                Video,
                "wan2.7-i2v",
                "854x480",
                1,
                "video-generation/video-synthesis",
                json!({"prompt": "A fox", "negative_prompt": "snow",
                    "media": [{"type": "first_frame", "url": url}]}),
                json!({"resolution": "480P", "duration": 5, "seed": 7}),
            ),
        ] {
            let (asked, body) = asked(kind, model, size, images);
            assert!(asked.path.ends_with(path), "{model}: {}", asked.path);
            assert_eq!(asked.is_task, !path.starts_with("multimodal"), "{model}");
            assert_eq!((&body["model"], &body["input"]), (&json!(model), &input), "{model}");
            assert_eq!(body["parameters"], parameters, "{model}");
            assert_eq!(asked.left_out, ["quality"], "{model}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let refused = |request: &ChatRequest| {
            let error = Asked::new(request).expect_err("refused");
            assert_eq!((error.status().as_u16(), error.param()), (400, Some("messages")));
        };
        let mut request = ChatRequest::new("wan2.7-i2v", [Message::new(Role::User, " ")]);
        request.kind = AnswerKind::Video;
        refused(&request);
        let picture = Part::image("https://x.example/a.png");
        let parts = vec![Part::text("A fox"), picture.clone(), picture];
        request.history.get_mut(0).expect("one").content = Some(Content::Parts(parts));
        refused(&request);
        request.history = ChatRequest::new("m", [Message::new(Role::System, "A fox")]).history;
        refused(&request);
    }

    #[test]
    fn versions_are_told_apart() {
        for (model, from, is_from) in [
            ("wan2.7-t2v", (2, 7), true),
            ("wan2.10-t2v", (2, 7), true),
            ("wan3-t2v", (2, 7), true),
            ("wan2.6-t2v", (2, 7), false),
            ("wanx2.1-t2v", (2, 1), false),
            ("qwen-image", (2, 1), false),
        ] {
            assert_eq!(is_wan_from(model, from.0, from.1), is_from, "{model}");
        }
    }
}
